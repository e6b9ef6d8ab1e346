"""A user's own table: read it, choose labels, groups and features, and warn about columns that look wrong."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fairjax.data.dataset import Dataset, from_arrays
from fairjax.data.encoder import Missing, TableEncoder, fit_encoder, tidied
from fairjax.data.expressions import Attribute, Condition, check_columns, listed, number_of, positive_values, word
from fairjax.data.table_files import connected, table_of
from fairjax.data.table_files import text as quoted
from fairjax.metrics.groups import groups as make_groups
from fairjax.metrics.levels import NO_VALUE

_COPY = 0.98
"""Share of rows in which a column must determine the label or the group to be reported as a copy."""
_DATE = r"^\d{4}-\d{1,2}-\d{1,2}([ T].*)?$|^\d{1,2}[/.]\d{1,2}[/.]\d{2,4}$"


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


def read_table(source: Any) -> pd.DataFrame:
    """Read a table of csv or Parquet files.

    A column is one of numbers if all its values are finite numbers, none of them with a leading zero as codes have.

    Args:
        source: a path, a pattern, several paths, or a pandas frame.

    Returns:
        The rows.

    Raises:
        FileNotFoundError, ValueError: if there is no such file, or it is empty or damaged.
        ImportError: if DuckDB is not installed.
    """
    return read_rows(source)[0]


def read_rows(source: Any, keep: Sequence[str] = ()) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a table like `read_table`, and some of its columns a second time, exactly as the files have them.

    Args:
        source: a path, a pattern, several paths, or a pandas frame.
        keep: columns that are also returned as text, so that an identifier of many digits or with leading zeros is not
            changed by a conversion to numbers.

    Returns:
        The rows, and the kept columns of the same rows.

    Raises:
        FileNotFoundError, ValueError: if there is no such file or column, or the file is empty or damaged.
        ImportError: if DuckDB is not installed.
    """
    if isinstance(source, pd.DataFrame):
        frame = source.reset_index(drop=True)
        check_columns(keep, list(map(str, frame.columns)), "the frame")
        return frame, frame.set_axis(list(map(str, frame.columns)), axis=1)[list(keep)]
    with connected(memory="4GB") as connection:
        table = table_of(connection, source)
        if table.repeated:
            raise ValueError(f"{table.name} has several columns named {', '.join(table.repeated)}: rename them")
        kept = [f"CAST({table.column(name)} AS VARCHAR) AS k{i}" for i, name in enumerate(keep)]
        wrong = ", ".join(f"count_if({_is_text(name)})" for name in table.names)
        counts = connection.execute(f"SELECT {wrong} FROM {table.sql}").fetchone() or ()
        chosen = [
            f"{name if count else f'TRY_CAST({name} AS DOUBLE)'} AS c{i}"
            for i, (name, count) in enumerate(zip(table.names, counts, strict=True))
        ]
        frame = connection.execute(f"SELECT {', '.join(chosen + kept)} FROM {table.sql}").df()
    if not len(frame):
        raise ValueError(f"{table.name} has no rows")
    first = len(table.columns)
    return frame.iloc[:, :first].set_axis(list(table.columns), axis=1), frame.iloc[:, first:].set_axis(keep, axis=1)


def _is_text(column: str) -> str:
    """Return the SQL of whether a value of a column is there and is no finite number."""
    number, text = f"TRY_CAST({column} AS DOUBLE)", f"CAST({column} AS VARCHAR)"
    words = ", ".join(map(quoted, NO_VALUE))
    return (
        f"CASE WHEN {column} IS NULL THEN false WHEN {number} IS NULL THEN lower(trim({text})) NOT IN ({words}) "
        f"ELSE isinf({number}) OR ({text} LIKE '0_%' AND {text} NOT LIKE '0.%') END"
    )


def own_table(
    source: Any,
    columns: TableColumns,
    *,
    name: str = "table",
    missing: Missing = "raise",
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
    frame = read_table(source)
    names = list(map(str, frame.columns))
    frame.columns = names
    y, of_label = _label(frame, columns.label, columns.positive)
    a, of_groups = _groups(frame, columns, intersect, minimum, small)
    weights = identities = None
    if columns.weight is not None:
        check_columns([columns.weight], names)
        numbers = pd.to_numeric(frame[columns.weight], errors="coerce")
        if numbers.isna().any():
            row = int(np.argmax(numbers.isna()))
            raise ValueError(
                f"{columns.weight} must be a number in every row, found {frame[columns.weight][row]!r} in row {row}"
            )
        weights = numbers.to_numpy(float)
    if columns.split_by is not None:
        check_columns([columns.split_by], names)
        identities = pd.factorize(frame[columns.split_by], use_na_sentinel=False)[0].astype(np.int32)
    check_columns(columns.drop, names)
    never = {of_label, *columns.drop, columns.weight, columns.split_by}
    never |= set() if columns.use_protected else set(of_groups)
    left = [column for column in names if column not in never]
    lost, warnings = _useless(frame[left])
    encoder = fit_encoder(frame, [column for column in left if column not in lost], missing)
    groups = a if isinstance(a, np.ndarray) else a.a
    warnings += _copies(frame[[column.column for column in encoder.columns]], y, groups, of_label, of_groups)
    dataset = from_arrays(
        encoder.encode(frame),
        y,
        a,
        name=name,
        features=encoder.features,
        protected=" and ".join(of_groups),
        weights=weights,
    )
    return OwnTable(dataset, encoder, identities, tuple(warnings))


def _label(frame: pd.DataFrame, given: str, positive: str | None) -> tuple[np.ndarray, str]:
    """Return the labels and the name of their column."""
    condition = Condition.parse(given, list(frame.columns))
    if condition is not None:
        return holds(condition, frame), condition.column
    check_columns([given], list(frame.columns))
    text, absent = tidied(frame[given])
    _refuse_missing(given, absent)
    values = sorted(set(text))
    truth = positive_values(given, values, positive)
    return np.array([truth[value] for value in text]), given


def _groups(
    frame: pd.DataFrame, columns: TableColumns, intersect: bool, minimum: int, small: str
) -> tuple[Any, list[str]]:
    """Return the groups and the names of their columns."""
    names = list(frame.columns)
    if not columns.protected:
        raise ValueError("name the protected attribute with --protected")
    conditions = [Condition.parse(each, names) for each in columns.protected]
    if any(conditions):
        if len(conditions) > 1 or conditions[0] is None or columns.privileged is not None:
            raise ValueError(
                "a condition such as age>=25 is the one protected attribute: it is true for the privileged"
            )
        return holds(conditions[0], frame), [conditions[0].column]
    attributes = [Attribute.parse(each, names) for each in columns.protected]
    values = {attribute.column: _values(frame, attribute) for attribute in attributes}
    if columns.privileged is None:
        return make_groups(values, intersect=intersect, minimum=minimum, small=small), list(values)
    if len(values) > 1:
        raise ValueError("--privileged is for one protected attribute: leave it out to compare all groups")
    (name, column), privileged = next(iter(values.items())), word(columns.privileged)
    present = sorted(set(map(str, column)))
    if privileged not in present:
        raise ValueError(
            f"the privileged value {columns.privileged!r} does not occur in {name}: found {listed(present)}"
        )
    return np.asarray(column.astype(str) == privileged), [name]


def _values(frame: pd.DataFrame, attribute: Attribute) -> pd.Series:
    text, absent = tidied(frame[attribute.column])
    _refuse_missing(attribute.column, absent)
    if not attribute.edges:
        return pd.Series(text)
    numbers = _numbers(attribute.column, text, "must hold numbers, since it has edges")
    codes = np.searchsorted(attribute.edges, numbers, side="right")
    return pd.Series(pd.Categorical.from_codes(codes, list(attribute.names)))


def holds(condition: Condition, frame: pd.DataFrame) -> np.ndarray:
    """Return in which rows a condition holds.

    Raises:
        ValueError: if a value is missing, or is no number where numbers are compared by size.
    """
    text, absent = tidied(frame[condition.column])
    _refuse_missing(condition.column, absent)
    if condition.sign in ("=", "!="):
        same = text == word(condition.value)
        return same if condition.sign == "=" else ~same
    numbers = _numbers(condition.column, text, "must be a number in every row")
    compare = {">": np.greater, ">=": np.greater_equal, "<": np.less, "<=": np.less_equal}[condition.sign]
    return compare(numbers, float(condition.value))


def _numbers(name: str, text: np.ndarray, expected: str) -> np.ndarray:
    """Return a column of text as numbers; the message for the first that is none begins with what was expected."""
    numbers = [number_of(value) for value in text]
    if None in numbers:
        row = numbers.index(None)
        raise ValueError(f"{name} {expected}, found {text[row]!r} in row {row}")
    return np.array(numbers, float)


def _refuse_missing(name: str, absent: np.ndarray) -> None:
    if absent.any():
        raise ValueError(
            f"{name} has no value in {int(absent.sum()):,} of {len(absent):,} rows, the first of them row "
            f"{int(np.argmax(absent))}: leave these rows out"
        )


def _useless(frame: pd.DataFrame) -> tuple[set[str], list[str]]:
    """Return columns that are left out of the features, with the reasons."""
    lost, warnings = set(), []
    for name, column in frame.items():
        distinct, reason = column.nunique(dropna=False), ""
        if distinct <= 1:
            reason = "is the same in all rows"
        elif _holds_dates(column):
            reason = "holds dates"
        elif distinct == len(frame) and len(frame) >= 50 and not _is_measured(column):
            reason = "identifies the rows, since no value occurs twice"
        if reason:
            lost.add(str(name))
            warnings.append(f"{name} {reason}, so it is not used as a feature")
    return lost, warnings


def _holds_dates(column: pd.Series) -> bool:
    if pd.api.types.is_numeric_dtype(column):
        return False
    first = column.dropna().astype(str).head(1000)
    return pd.api.types.is_datetime64_any_dtype(column) or bool(len(first) and first.str.match(_DATE).mean() > 0.95)


def _is_measured(column: pd.Series) -> bool:
    """Return whether values look like measurements: numbers with decimals, or whole numbers with wide gaps."""
    if not pd.api.types.is_numeric_dtype(column):
        return False
    numbers = column.dropna().to_numpy(float)
    return bool((numbers != np.floor(numbers)).any() or np.ptp(numbers) > 10 * len(numbers))


def _copies(frame: pd.DataFrame, y: np.ndarray, a: np.ndarray, label: str, groups: Sequence[str]) -> list[str]:
    """Return warnings about features that determine the label or the group nearly always."""
    warnings = []
    group = a if a.ndim == 1 else a.argmax(axis=1)
    for name, column in frame.items():
        if column.nunique() > len(column) // 5:  # values of few rows each determine anything
            continue
        codes, values = pd.factorize(column, use_na_sentinel=False)
        for target, what in (
            (y.astype(int), f"the label {label}"),
            (group.astype(int), f"the protected {' and '.join(groups)}"),
        ):
            table = np.zeros((len(values), int(target.max()) + 1))
            np.add.at(table, (codes, target), 1)
            share, most = table.max(axis=1).sum() / len(codes), table.sum(axis=0).max() / len(codes)
            if share >= _COPY and share > most + 0.5 * (1 - most):
                warnings.append(
                    f"{name} tells {what} in {share:.1%} of the rows: leave a copy of it out with --drop {name}"
                )
    return warnings
