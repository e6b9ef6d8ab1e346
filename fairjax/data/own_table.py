"""A user's own table: read it, choose labels, groups and features, and warn about columns that look wrong."""

# pandas annotates a column of a table as a union of all its classes
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool

from fairjax.data.connection import connected, quoted
from fairjax.data.dataset import Dataset, from_arrays
from fairjax.data.encoder import MissingFeatures, TableEncoder, fit_encoder, tidied
from fairjax.data.expressions import (
    CODE,
    Attribute,
    Condition,
    check_columns,
    check_spelling,
    is_equal,
    listed,
    number_of,
    positive_values,
    word,
)
from fairjax.data.relation import Relation, place_in_frame
from fairjax.data.table_files import table_of
from fairjax.data.unfit_columns import copies, unfit_columns
from fairjax.metrics.groups import groups as make_groups


@dataclasses.dataclass(frozen=True)
class TableColumns:
    """What the columns of a table are."""

    label: str
    """Column of labels, or a condition, as in `income>50000`."""
    protected: tuple[str, ...]
    """Columns of protected attributes; numbers with edges, as in `age:25,60`; or one condition, as in `age>=25`."""
    positive: str | None = None
    """The positive value of the label. Not needed for 0 and 1, or false and true."""
    privileged: str | None = None
    """The privileged value of the one protected attribute; all others are unprivileged. If omitted, all groups are
    distinguished."""
    weight: str | None = None
    """Column of weights of the rows."""
    split_by: str | None = None
    """Column that identifies persons, all of whose rows are in the same part."""
    drop: tuple[str, ...] = ()
    """Columns that are no features."""
    use_protected: bool = False
    """Whether the protected attributes are features too."""


class OwnTable(NamedTuple):
    """A user's table, ready to be split."""

    dataset: Dataset
    encoder: TableEncoder
    identities: np.ndarray | None
    """The code of the person of each row, if rows are split by persons."""
    warnings: tuple[str, ...]
    """What looks wrong, with the names of the columns."""


class Rows(NamedTuple):
    """The rows of a table, in memory."""

    frame: pd.DataFrame
    """One column per column of the table."""
    kept: pd.DataFrame
    """Some of the columns again, exactly as the files have them."""
    name: str
    """How messages call the table."""
    place: Callable[[int], str]
    """Says for messages where a row is, such as its file and line."""


def read_table(source: Any, keep: Sequence[str] = ()) -> Rows:
    """Read a table of csv or Parquet files.

    A column is one of numbers if all its values are finite numbers, none of them with a leading zero as codes have.

    Args:
        source: a path, a pattern, several paths, or a pandas frame.
        keep: columns that are also returned as text, so that identifiers of many digits or with leading zeros are not
            changed by a conversion to numbers; those of a frame stay as they are.

    Returns:
        The rows.

    Raises:
        FileNotFoundError, ValueError: if there is no such file or column, or a file is empty or damaged.
        ImportError: if DuckDB is not installed.
    """
    if isinstance(source, pd.DataFrame):
        frame = source.set_axis(list(map(str, source.columns)), axis=1).reset_index(drop=True)
        repeated = frame.columns[frame.columns.duplicated()]
        if len(repeated):
            raise ValueError(f"the frame has several columns named {repeated[0]}: rename them")
        check_columns(keep, list(frame.columns), "the frame")
        return Rows(frame, frame[list(keep)], "the frame", place_in_frame)
    with connected(memory="4GB") as connection:
        table = table_of(connection, source)
        if table.repeated:
            raise ValueError(f"{table.name} has several columns named {', '.join(table.repeated)}: rename them")
        kept = [f"CAST({table.column(name)} AS VARCHAR) AS k{i}" for i, name in enumerate(keep)]
        others = ", ".join(f"count_if({_is_no_number(table, name)})" for name in table.columns)
        counts = connection.execute(f"SELECT {others} FROM {table.sql}").fetchone() or ()
        chosen = [
            f"{table.column(name) if count else table.number(name)} AS c{i}"
            for i, (name, count) in enumerate(zip(table.columns, counts, strict=True))
        ]
        frame = connection.execute(f"SELECT {', '.join(chosen + kept)} FROM {table.sql}").df()
    if not len(frame):
        raise ValueError(f"{table.name} has no rows")
    first = len(table.columns)
    columns, texts = frame.iloc[:, :first], frame.iloc[:, first:]
    return Rows(columns.set_axis(list(table.columns), axis=1), texts.set_axis(keep, axis=1), table.name, table.place)


def _is_no_number(table: Relation, name: str) -> str:
    """Return the SQL of whether a value of a column is known and is no finite number, or is a code such as 05."""
    number = table.number(name)
    other = f"isinf({number})"
    if not table.is_numeric(name):
        spaced = CODE.replace("^", r"^\s*")  # faster than trimming every value
        other += f" OR regexp_matches(CAST({table.column(name)} AS VARCHAR), {quoted(spaced)})"
    return f"CASE WHEN {number} IS NULL THEN NOT {table.lacks(name)} ELSE {other} END"


def own_table(
    source: Any,
    columns: TableColumns,
    *,
    name: str = "table",
    missing: MissingFeatures = "raise",
    intersect: bool = True,
    minimum: int = 1,
    small: str = "leave out",
) -> OwnTable:
    """Read a table and make a data set of it.

    Args:
        source: a path, a pattern, several paths, or a pandas frame.
        columns: what the columns are.
        name: name of the data set.
        missing: what to do with missing values of features; see `fit_encoder`.
        intersect: whether the groups of several attributes are their intersections.
        minimum: least number of rows of a group that is compared.
        small: what to do with smaller groups; see `fairjax.data.groups`.

    Returns:
        The data set, how its features were made, and warnings.

    Raises:
        ValueError: if a column does not exist or holds what it should not; the message says what to do.

    Example:
        >>> frame = pd.DataFrame({"y": [0, 1, 1, 0], "sex": ["f", "f", "m", "m"], "pay": [1, 2, 4, 3]})
        >>> table = own_table(frame, TableColumns(label="y", protected=("sex",), privileged="m"))
        >>> table.dataset.features, table.dataset.a.tolist()
        (('pay',), [False, False, True, True])
    """
    rows = read_table(source, () if columns.split_by is None else (columns.split_by,))
    frame, names = rows.frame, list(rows.frame.columns)
    y, of_label = label_of_table(rows, columns.label, columns.positive)
    a, of_groups = groups_of_table(rows, columns, intersect, minimum, small)
    weights = None if columns.weight is None else _weights(rows, columns.weight)
    identities = None
    if columns.split_by is not None:
        persons = _known(rows.kept[columns.split_by], rows.place)
        identities = pd.factorize(persons)[0].astype(np.int32)
    check_columns(columns.drop, names, rows.name)
    never = {of_label, *columns.drop, columns.weight, columns.split_by}
    never |= set() if columns.use_protected else set(of_groups)
    left = [column for column in names if column not in never]
    useless, warnings = unfit_columns(frame[left])
    encoder = fit_encoder(frame, [column for column in left if column not in useless], missing, rows.place)
    groups = a if isinstance(a, np.ndarray) else a.a
    warnings += copies(frame[[column.column for column in encoder.columns]], y, groups, of_label, of_groups)
    dataset = from_arrays(
        encoder.encode(frame, place=rows.place),
        y,
        a,
        name=name,
        features=encoder.features,
        protected=" and ".join(of_groups),
        weights=weights,
    )
    return OwnTable(dataset, encoder, identities, tuple(warnings))


def label_of_table(rows: Rows, given: str, positive: str | None) -> tuple[np.ndarray, str]:
    """Return the labels and the name of their column."""
    condition = Condition.parse(given, list(rows.frame.columns), rows.name)
    if condition is not None:
        if positive is not None:
            raise ValueError(
                f"the label {given!r} is a condition, which is positive where it holds: leave --positive {positive} out"
            )
        return holds(condition, rows.frame, rows.place), condition.column
    check_columns([given], list(rows.frame.columns), rows.name)
    text = _known(rows.frame[given], rows.place)
    truth = positive_values(given, sorted(set(text)), positive)
    return np.array([truth[value] for value in text]), given


def _weights(rows: Rows, name: str) -> np.ndarray:
    check_columns([name], list(rows.frame.columns), rows.name)
    numbers = pd.to_numeric(rows.frame[name], errors="coerce")
    if numbers.isna().any():
        row = int(np.argmax(numbers.isna()))
        raise ValueError(f"{name} must be a number in every row, found {rows.frame[name][row]!r} in {rows.place(row)}")
    return numbers.to_numpy(float)


def groups_of_table(
    rows: Rows, columns: TableColumns, intersect: bool, minimum: int, small: str
) -> tuple[Any, list[str]]:
    """Return the groups and the names of their columns."""
    names = list(rows.frame.columns)
    if not columns.protected:
        raise ValueError("name the protected attribute with --protected")
    conditions = [Condition.parse(each, names, rows.name) for each in columns.protected]
    if any(conditions):
        if len(conditions) > 1 or conditions[0] is None or columns.privileged is not None:
            raise ValueError(
                "a condition such as age>=25 is the one protected attribute: it is true for the privileged"
            )
        return holds(conditions[0], rows.frame, rows.place), [conditions[0].column]
    attributes = [Attribute.parse(each, names, rows.name) for each in columns.protected]
    values = {attribute.column: _values(rows, attribute) for attribute in attributes}
    if columns.privileged is None:
        return make_groups(values, intersect=intersect, minimum=minimum, small=small), list(values)
    if len(values) > 1:
        raise ValueError("--privileged is for one protected attribute: leave it out to compare all groups")
    (name, column), privileged = next(iter(values.items())), word(columns.privileged)
    present = sorted(set(map(str, column)))
    check_spelling(name, present)
    if privileged not in present:
        raise ValueError(
            f"the privileged value {columns.privileged!r} does not occur in {name}: found {listed(present)}"
        )
    return np.asarray(column.astype(str) == privileged), [name]


def _values(rows: Rows, attribute: Attribute) -> pd.Series:
    text = _known(rows.frame[attribute.column], rows.place)
    if not attribute.edges:
        return pd.Series(text)
    numbers = _numbers(attribute.column, text, "must hold numbers, since it has edges", rows.place)
    codes = np.searchsorted(attribute.edges, numbers, side="right")
    return pd.Series(pd.Categorical.from_codes(codes, list(attribute.names)))


def holds(
    condition: Condition, frame: pd.DataFrame, place: Callable[[int], str] = place_in_frame
) -> Bool[np.ndarray, " n"]:
    """Return in which rows a condition holds.

    Args:
        condition: the condition.
        frame: the rows.
        place: says for messages where a row is.

    Raises:
        ValueError: if a value is missing, is no number where numbers are compared by size, or differs only in capitals
            from another where they are compared for equality.
    """
    text = _known(frame[condition.column], place)
    if condition.sign in ("=", "!="):
        codes, values = pd.factorize(text)
        check_spelling(condition.column, sorted(values))
        same = np.array([is_equal(value, condition.value) for value in values], bool)[codes]
        return same if condition.sign == "=" else ~same
    numbers = _numbers(condition.column, text, "must be a number in every row", place)
    compare = {">": np.greater, ">=": np.greater_equal, "<": np.less, "<=": np.less_equal}[condition.sign]
    return compare(numbers, float(condition.value))


def _numbers(name: str, text: np.ndarray, expected: str, place: Callable[[int], str]) -> np.ndarray:
    """Return a column of text as numbers; the message for the first that is none begins with what was expected."""
    numbers = [number_of(value) for value in text]
    if None in numbers:
        row = numbers.index(None)
        raise ValueError(f"{name} {expected}, found {text[row]!r} in {place(row)}")
    return np.array(numbers, float)


def _known(column: pd.Series, place: Callable[[int], str]) -> np.ndarray:
    """Return a column as text.

    Raises:
        ValueError: if a row lacks a value.
    """
    text, absent = tidied(column)
    if absent.any():
        raise ValueError(
            f"{column.name} has no value in {int(absent.sum()):,} of {len(absent):,} rows, the first of them "
            f"{place(int(np.argmax(absent)))}: leave these rows out of the table"
        )
    return text
