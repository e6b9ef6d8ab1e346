"""Count the rows of a table by group, label and decision or score, in one pass that keeps only the counts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fairjax.auditing.query import Query

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


def counted(connection: "duckdb.DuckDBPyConnection", query: Query) -> pd.DataFrame:
    """Count the rows of a table by group, label and decision or bin of scores, and check the numbers in it.

    Args:
        connection: an open connection.
        query: the table and its columns.

    Returns:
        A frame with one line per combination of values: the attributes g0, g1, ..., the label y, the decision d, the
        bin b (-1 for scores that are no probabilities), `rows`, `weight` and `squares`, the sums of weights and of
        squared weights, `score`, `score2`, the sums of weighted scores and of their squares, and `least` and
        `greatest`, the extreme scores. Missing values are None.

    Raises:
        ValueError: if there are no rows, too many combinations, or numbers are missing or invalid.
    """
    frame = connection.execute(f"{_aggregated(query, query.rows(), _checks(query))} LIMIT {MANY + 1}").df()
    _check_size(query, frame)
    _check_numbers(connection, query, frame)
    return frame


def counted_pairs(connection: "duckdb.DuckDBPyConnection", query: Query, rows: str) -> pd.DataFrame:
    """Count the pairs of rows of two tables, whose numbers have been checked already.

    Args:
        connection: an open connection.
        query: the first table and its columns.
        rows: SQL of one line per pair, with the fields of the query and the other decision as `e`.

    Returns:
        A frame like that of `counted`, by `e` too.

    Raises:
        ValueError: if there are too many combinations.
    """
    frame = connection.execute(f"{_aggregated(query, rows, by=('e',))} LIMIT {MANY + 1}").df()
    _check_size(query, frame)
    return frame


def check_sample(connection: "duckdb.DuckDBPyConnection", query: Query) -> None:
    """Check the first rows, so that most errors are raised before all rows are read.

    Raises:
        ValueError: if there are no rows, or a column does not hold what it should.
    """
    sample = connection.execute(_aggregated(query, query.rows(_SAMPLE), _checks(query))).df()
    _check_size(query, sample)
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


def _aggregated(query: Query, rows: str, checks: Sequence[str] = (), by: Sequence[str] = ()) -> str:
    """Return the SQL of the sums over rows of equal values."""
    fields = query.fields
    chosen = [name for name in fields if name[0] == "g" or name in ("y", "d")] + list(by)
    count = "n" if "n" in fields else "1"
    weight = "w" if "w" in fields else count
    square = "w2" if "w2" in fields else "w * w" if "w" in fields else count
    sums = [f"CAST(sum({each}) AS DOUBLE)" for each in (count, weight, square)]
    sums = [f"{each} AS {name}" for each, name in zip(sums, ("rows", "weight", "squares"), strict=True)]
    if "s" in fields:
        number = f"CAST(least(greatest(floor(s * {BINS}), 0), {BINS - 1}) AS INTEGER)"
        chosen += [
            f"s > {query.columns.threshold!r} AS d",
            f"CASE WHEN s IS NULL THEN NULL WHEN s >= {-SLACK} AND s <= {1 + SLACK} THEN {number} ELSE -1 END AS b",
        ]
        kept = "least(greatest(s, 0), 1)"
        sums += [
            f"sum({weight} * {kept}) AS score",
            f"sum({weight} * {kept} * {kept}) AS score2",
            "min(s) AS least",
            "max(s) AS greatest",
        ]
    return f"SELECT {', '.join((*chosen, *sums, *checks))} FROM ({rows}) GROUP BY ALL"


def _checks(query: Query) -> list[str]:
    """Return the SQL of the numbers of rows with invalid numbers."""
    checks = [f"count_if({_invalid(name)}) AS {name}_wrong" for name in ("w", "w2", "n") if name in query.fields]
    if "n" in query.fields:
        checks.append("count_if(n <> floor(n)) AS n_broken")
    return checks + [f"count_if({name}_text) AS {name}_texts" for name in query.texts]


def _invalid(name: str) -> str:
    return f"{name} IS NULL OR NOT isfinite({name}) OR {name} < 0"


def _check_size(query: Query, frame: pd.DataFrame) -> None:
    if not len(frame):
        raise ValueError(f"{query.table.name} has no rows")
    if len(frame) > MANY:
        raise ValueError(
            f"{query.table.name} has more than {MANY:,} different combinations of groups, labels and decisions: name "
            "columns with fewer values"
        )


def _check_numbers(connection: "duckdb.DuckDBPyConnection", query: Query, frame: pd.DataFrame) -> None:
    """Check scores, weights and counts, and the columns that edges and conditions compare with numbers."""
    columns = query.columns
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
    for name, column in query.numeric.items():
        if name in query.texts and frame[f"{name}_texts"].sum():
            rule = "must hold numbers, since it has edges" if name[0] == "g" else "must be a number in every row"
            raise ValueError(f"{column} {rule}, found {describe_first(connection, query, column, f'{name}_text')}")
    if "s" in query.fields and (frame["b"] < 0).any():
        score, low, high = columns.score, frame["least"].min(), frame["greatest"].max()
        way = f'a score on another scale becomes a decision by a condition, as in --decision "{score}>{high / 2:g}"'
        if low < 0:
            way = "turn logits into probabilities with --logits"
        raise ValueError(f"{score} must be probabilities in [0, 1], found numbers from {low:g} to {high:g}: {way}")


def describe_first(connection: "duckdb.DuckDBPyConnection", query: Query, column: str, where: str) -> str:
    """Describe the first value of a column for which a condition on the fields holds, and its place."""
    raw = f"row_number() OVER () AS row, CAST({query.table.column(column)} AS VARCHAR) AS raw"
    sql = f"SELECT row, raw FROM ({query.rows(also=raw)}) WHERE {where} ORDER BY row LIMIT 1"
    first = connection.execute(sql).fetchone()
    assert first is not None
    row, raw = first
    return f"{'none' if raw is None else repr(raw)} in {query.table.place(row - 1)}"
