"""Count the rows of a table by group, label and decision or score, in one pass that keeps only the counts."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fairjax.data.expressions import Attribute, Condition, check_columns, number_of
from fairjax.data.table_files import Relation, quoted

if TYPE_CHECKING:
    import duckdb

BINS = 1000
"""Number of bins of the histogram of scores."""
SLACK = 1e-6
"""Tolerance for scores that rounding in single precision has moved out of [0, 1]."""
MANY = 1_000_000
"""Number of different combinations of values above which a table is taken to hold a column of identifiers."""
_SAMPLE = 50_000
"""Number of rows that are looked at before all rows are read."""


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of an audit, as a user names them."""

    label: str
    """The column of labels, or a condition on a column that is true for positive labels."""
    groups: tuple[str, ...]
    """The protected attributes: columns, or columns of numbers with edges, as in `age:25,60`."""
    score: str | None = None
    """The column of scores: probabilities of the positive label."""
    decision: str | None = None
    """The column of decisions, or a condition on a column that is true for positive decisions."""
    weight: str | None = None
    """The column of weights of the rows."""
    count: str | None = None
    """For a table of counts, the column with the number of rows that each line stands for."""
    threshold: float = 0.5
    """Scores above it are positive decisions."""
    logits: bool = False
    """Whether the scores are logits."""

    def __post_init__(self) -> None:
        """Check that there are scores or decisions, and groups.

        Raises:
            ValueError: if there are none, or a column is named twice.
        """
        if (self.score is None) == (self.decision is None):
            both = "both" if self.score is not None else "neither"
            raise ValueError(f"an audit needs scores (--score, with --threshold) or decisions (--decision), got {both}")
        if not self.groups:
            raise ValueError("an audit needs one or more protected attributes: name their columns with --groups")
        if len(set(self.groups)) < len(self.groups):
            raise ValueError(f"groups must be different columns, got {', '.join(self.groups)}")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}: it is compared with probabilities")


@dataclasses.dataclass(frozen=True)
class Query:
    """A table with the SQL of each of its columns that an audit reads."""

    table: Relation
    columns: Columns
    attributes: tuple[Attribute, ...]
    fields: dict[str, str]
    """SQL by the name in the aggregated frame: g0, g1, ..., y, d, s, w, w2 and n."""

    @classmethod
    def of(cls, table: Relation, columns: Columns) -> "Query":
        """Find the columns of an audit in a table.

        Raises:
            ValueError: if a column does not exist, or one is both a label and an attribute.
        """
        attributes = tuple(Attribute.parse(group, table.columns, table.name) for group in columns.groups)
        fields = {f"g{i}": _attribute(table, attribute) for i, attribute in enumerate(attributes)}
        fields["y"] = _values(table, columns.label)
        twice = [attribute.column for attribute in attributes if attribute.column in (columns.label, columns.decision)]
        if twice:
            raise ValueError(f"{twice[0]!r} is named as an attribute and as the label or decision: name other columns")
        if columns.decision is not None:
            fields["d"] = _values(table, columns.decision)
        if columns.score is not None:
            number = f"TRY_CAST({table.column(columns.score)} AS DOUBLE)"
            fields["s"] = f"1 / (1 + exp(-{number}))" if columns.logits else number
        if columns.weight is not None:
            fields["w"] = f"TRY_CAST({table.column(columns.weight)} AS DOUBLE)"
            if columns.count is not None:
                squared = f"{columns.weight}_squared"
                check_columns(
                    [squared], table.columns, f"a table of counts with weights needs sums of squares, and {table.name}"
                )
                fields["w2"] = f"TRY_CAST({table.column(squared)} AS DOUBLE)"
        if columns.count is not None:
            fields["n"] = f"TRY_CAST({table.column(columns.count)} AS DOUBLE)"
        return cls(table, columns, attributes, fields)

    def rows(self, limit: int | None = None, also: str | None = None) -> str:
        """Return the SQL of one line per row, with the fields, and further columns, as columns."""
        chosen = ", ".join([f"{sql} AS {name}" for name, sql in self.fields.items()] + ([also] if also else []))
        source = self.table.sql if limit is None else f"(SELECT * FROM {self.table.sql} LIMIT {limit})"
        return f"SELECT {chosen} FROM {source}"

    def used(self) -> tuple[str, ...]:
        """Return the names of the columns that are read."""
        of = self.columns
        named = [
            condition.column if condition else text
            for text in (of.label, of.decision)
            if text is not None
            for condition in [Condition.parse(text, self.table.columns)]
        ]
        return (
            *(attribute.column for attribute in self.attributes),
            *named,
            *(each for each in (of.score, of.weight, of.count) if each is not None),
        )


def _values(table: Relation, given: str) -> str:
    """Return the SQL of labels or decisions: a column of values, or a condition as a boolean."""
    condition = Condition.parse(given, table.columns, table.name)
    if condition is None:
        return table.column(given)
    column = table.column(condition.column)
    if condition.sign in ("=", "!="):
        number = number_of(condition.value)
        same = f"trim(CAST({column} AS VARCHAR)) = {quoted(condition.value)}"
        if number is not None:
            same = f"coalesce(TRY_CAST({column} AS DOUBLE) = {number!r}, false) OR {same}"
        return f"CASE WHEN {column} IS NULL THEN NULL ELSE {'' if condition.sign == '=' else 'NOT '}({same}) END"
    number = f"TRY_CAST({column} AS DOUBLE)"
    compared = f"{number} {condition.sign} {float(condition.value)!r}"
    return f"CASE WHEN {number} IS NULL OR isnan({number}) THEN NULL ELSE {compared} END"


def _attribute(table: Relation, attribute: Attribute) -> str:
    """Return the SQL of an attribute: a column of values, or the number of the range, -1 for what is no number."""
    column = table.column(attribute.column)
    if not attribute.edges:
        return column
    number = f"TRY_CAST({column} AS DOUBLE)"
    cases = " ".join(f"WHEN {number} < {edge!r} THEN {i}" for i, edge in enumerate(attribute.edges))
    return (
        f"CASE WHEN {number} IS NULL OR isnan({number}) THEN "
        f"CASE WHEN {column} IS NULL OR trim(CAST({column} AS VARCHAR)) = '' THEN NULL ELSE -1 END "
        f"{cases} ELSE {len(attribute.edges)} END"
    )


def counted(
    connection: "duckdb.DuckDBPyConnection", query: Query, rows: str | None = None, extra: Sequence[str] = ()
) -> pd.DataFrame:
    """Count rows by group, label and decision or bin of scores.

    Args:
        connection: an open connection.
        query: the table and its columns.
        rows: SQL of one line per row, if it is not the table alone; the columns are those of `query` and `extra`.
        extra: further columns to count by.

    Returns:
        A frame with one line per combination of values: the attributes g0, g1, ..., the label y, the decision d, the
        bin b (-1 for scores that are no probabilities), `rows`, `weight` and `squares`, the sums of weights and of
        squared weights, `score`, `score2`, the sums of weighted scores and of their squares, and `least` and
        `greatest`, the extreme scores. Missing values are None.

    Raises:
        ValueError: if there are no rows, too many combinations, or numbers are missing or invalid.
    """
    if rows is None:
        _look(connection, query)
    sql = _aggregated(query, query.rows() if rows is None else rows, extra)
    frame = connection.execute(f"{sql} LIMIT {MANY + 1}").df()
    _check_numbers(connection, query, frame)
    return frame


def _look(connection: "duckdb.DuckDBPyConnection", query: Query) -> None:
    """Check some rows first, so that most errors are raised before all rows are read."""
    sample = connection.execute(_aggregated(query, query.rows(_SAMPLE), ())).df()
    if not len(sample):
        raise ValueError(f"{query.table.name} has no rows")
    _check_numbers(connection, query, sample)
    for name, column in {
        **{f"g{i}": each.column for i, each in enumerate(query.attributes)},
        "y": query.columns.label,
        "d": query.columns.decision,
    }.items():
        if name in sample and sample[name].nunique() > 1000:
            examples = ", ".join(map(repr, sample[name].dropna().unique()[:3]))
            raise ValueError(
                f"{column} has more than 1,000 different values, such as {examples}: it does not name groups or classes"
                + ("; scores are named by --score" if name == "d" else "")
                + (f"; give edges, as in {column}:25,60" if name[0] == "g" else "")
            )


def _aggregated(query: Query, rows: str, extra: Sequence[str]) -> str:
    fields, cut = query.fields, float(query.columns.threshold)
    chosen = [name for name in fields if name[0] == "g" or name in ("y", "d")] + list(extra)
    count = "n" if "n" in fields else "1"
    weight = "w" if "w" in fields else count
    square = "w2" if "w2" in fields else "w * w" if "w" in fields else count
    sums = [f"CAST(sum({each}) AS DOUBLE)" for each in (count, weight, square)]
    sums = [f"{each} AS {name}" for each, name in zip(sums, ("rows", "weight", "squares"), strict=True)]
    for name in ("w", "w2", "n"):
        if name in fields:
            sums += [f"count_if({_invalid(name)}) AS {name}_wrong"]
    if "n" in fields:
        sums += ["count_if(n <> floor(n)) AS n_broken"]
    if "s" in fields:
        number = f"CAST(least(greatest(floor(s * {BINS}), 0), {BINS - 1}) AS INTEGER)"
        chosen += [
            f"s > {cut!r} AS d",
            f"CASE WHEN s >= {-SLACK} AND s <= {1 + SLACK} THEN {number} ELSE -1 END AS b",
        ]
        kept = "least(greatest(s, 0), 1)"
        sums += [
            f"sum({weight} * {kept}) AS score",
            f"sum({weight} * {kept} * {kept}) AS score2",
            "min(s) AS least",
            "max(s) AS greatest",
            "count_if(s IS NULL OR isnan(s)) AS s_wrong",
        ]
    return f"SELECT {', '.join((*chosen, *sums))} FROM ({rows}) GROUP BY ALL"


def _invalid(name: str) -> str:
    return f"{name} IS NULL OR NOT isfinite({name}) OR {name} < 0"


def _check_numbers(connection: "duckdb.DuckDBPyConnection", query: Query, frame: pd.DataFrame) -> None:
    """Check scores, weights and counts of an aggregated frame."""
    columns, table = query.columns, query.table
    if not len(frame):
        raise ValueError(f"{table.name} has no rows")
    if len(frame) > MANY:
        raise ValueError(
            f"{table.name} has more than {MANY:,} different combinations of groups, labels and decisions: name columns "
            "with fewer values"
        )
    number = "finite and not negative"
    for name, what, rule in (
        ("w", columns.weight, number),
        ("w2", f"{columns.weight}_squared", number),
        ("n", columns.count, "whole numbers of rows"),
    ):
        if name in query.fields and frame[f"{name}_wrong"].sum():
            raise ValueError(
                f"{what} must be {rule}, found {describe_first(connection, query, str(what), _invalid(name))}"
            )
    if "n" in query.fields and frame["n_broken"].sum():
        first = describe_first(connection, query, str(columns.count), "n <> floor(n)")
        raise ValueError(
            f"{columns.count} must be whole numbers of rows, found {first}: name sums of weights with --weight"
        )
    if not frame["weight"].sum() > 0:
        raise ValueError("the weights or counts are all 0, so there is nothing to measure")
    if not np.isfinite(frame[["weight", "squares"]].sum()).all():
        raise ValueError(
            "the sum of the weights, or of their squares, is not finite: divide the weights by the largest of them"
        )
    if "s" in query.fields:
        _check_scores(connection, query, frame)


def _check_scores(connection: "duckdb.DuckDBPyConnection", query: Query, frame: pd.DataFrame) -> None:
    score = str(query.columns.score)
    if frame["s_wrong"].sum():
        first = describe_first(connection, query, score, "s IS NULL OR isnan(s)")
        raise ValueError(f"{score} must be a number in every row, found {first}")
    if (frame["b"] < 0).any():
        low, high = frame["least"].min(), frame["greatest"].max()
        way = f'a score on another scale becomes a decision by a condition, as in --decision "{score}>{high / 2:g}"'
        if low < 0:
            way = "turn logits into probabilities with --logits"
        raise ValueError(f"{score} must be probabilities in [0, 1], found numbers from {low:g} to {high:g}: {way}")


def describe_first(connection: "duckdb.DuckDBPyConnection", query: Query, column: str, where: str) -> str:
    """Describe the first value of a column for which a condition on the fields holds, and its place."""
    numbered = query.rows(also=f"row_number() OVER () AS row, CAST({query.table.column(column)} AS VARCHAR) AS raw")
    found = connection.execute(f"SELECT row, raw FROM ({numbered}) WHERE {where} ORDER BY row LIMIT 1").fetchone()
    if found is None:
        return "some"
    row, raw = found
    return f"{'none' if raw is None else repr(str(raw))} in {query.table.place(row - 1)}"
