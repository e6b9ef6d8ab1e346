"""Compare the decisions of two tables about the same rows, such as those of a model before and after a change."""

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from fairjax.auditing.counts import Counts
from fairjax.auditing.group_gaps import Estimate, gap_from_weights, interval, parity_for
from fairjax.auditing.group_rates import ORDER
from fairjax.auditing.query import Query
from fairjax.metrics.group_report import RATES, rate_from_table

if TYPE_CHECKING:
    import duckdb


_OF_DECISIONS = tuple(name for name in ORDER if name != "base_rate")
"""The rates that depend on decisions."""


class Differences(NamedTuple):
    """How rates and gaps differ between two tables, the new one minus the old one."""

    by_group: pd.DataFrame
    """One row per group and rate, with the rate in both tables, the difference, and its 95% interval."""
    gaps: pd.DataFrame
    """One row per measure and attribute, with the gap in both tables and the difference of magnitudes."""


def paired_rows(connection: "duckdb.DuckDBPyConnection", new: Query, old: Query, by: str | None) -> str:
    """Return the SQL of one line per row of both tables, after checking that they are about the same rows.

    Args:
        connection: an open connection.
        new: the table that is audited.
        old: the table that it is compared with.
        by: the column that identifies the rows of both; if omitted, they are paired in their order.

    Returns:
        SQL with the fields of `new`, and the decision of `old` as `e`.

    Raises:
        ValueError: if rows of one table are not in the other, or groups or labels of a pair differ.
    """
    fields = list(new.fields)
    same = [name for name in fields if name[0] == "g" or name == "y"]
    decision = f"o.s > {old.columns.threshold!r}" if "s" in old.fields else "o.d"
    if by is None:
        sizes = [_number(connection, f"SELECT count(*) FROM {query.table.sql}") for query in (new, old)]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"{new.table.name} has {sizes[0]:,} rows and {old.table.name} {sizes[1]:,}: name the column that "
                "identifies the rows of both with --pair-by"
            )
        joined = f"({new.rows()}) n POSITIONAL JOIN ({old.rows()}) o"
    else:
        _check_keys(connection, new, old, by)
        keyed = [query.rows(also=f"{_key(query, by)} AS k") for query in (new, old)]
        joined = f"({keyed[0]}) n JOIN ({keyed[1]}) o ON n.k = o.k"
    differ = " OR ".join(f"CAST(n.{name} AS VARCHAR) IS DISTINCT FROM CAST(o.{name} AS VARCHAR)" for name in same)
    count = _number(connection, f"SELECT count_if({differ}) FROM {joined}")
    if count:
        way = (
            "the rows are in another order: name the column that identifies them with --pair-by"
            if by is None
            else "a comparison needs the same groups and labels in both"
        )
        raise ValueError(
            f"{count:,} rows of {new.table.name} and {old.table.name} differ in their groups or labels; {way}"
        )
    chosen = ", ".join(f"n.{name} AS {name}" for name in fields)
    return f"SELECT {chosen}, {decision} AS e FROM {joined}"


def _key(query: Query, by: str) -> str:
    return f"CAST({query.table.column(by)} AS VARCHAR)"


def _check_keys(connection: "duckdb.DuckDBPyConnection", new: Query, old: Query, by: str) -> None:
    """Check that a column identifies the rows of both tables, and that both have the same rows."""
    for query in (new, old):
        table = query.table
        count = _number(connection, f"SELECT count_if({table.lacks(by)}) FROM {table.sql}")
        if count:
            raise ValueError(
                f"{by} must identify the rows, and has no value in {count:,} rows of {table.name}: leave these rows out"
            )
        twice = connection.execute(
            f"SELECT {_key(query, by)} FROM {table.sql} GROUP BY ALL HAVING count(*) > 1 LIMIT 1"
        ).fetchone()
        if twice is not None:
            raise ValueError(f"{by} must identify the rows, and {table.name} has {twice[0]!r} several times")
    for first, second in ((new, old), (old, new)):
        keys = [f"SELECT {_key(query, by)} AS k FROM {query.table.sql}" for query in (first, second)]
        alone = connection.execute(f"{keys[0]} EXCEPT {keys[1]} LIMIT 1").fetchone()
        if alone is not None:
            raise ValueError(
                f"{second.table.name} has no row with {by} {alone[0]!r}, which {first.table.name} has: compare tables "
                "of the same rows"
            )


def _number(connection: "duckdb.DuckDBPyConnection", sql: str) -> int:
    row = connection.execute(sql).fetchone()
    assert row is not None
    return row[0]


def differences(counts: Counts, draws: np.ndarray, measures: tuple[str, ...], minimum: int) -> Differences:
    """Compare two decisions about the same rows.

    Args:
        counts: counts by (new decision, old decision, label, group).
        draws: bootstrap draws of their weights, along the first axis.
        measures: names of measures.
        minimum: least denominator of a rate, in rows, for its group to be compared.

    Returns:
        Differences of rates and gaps, with percentile intervals of the paired differences.
    """
    rows, gaps = [], []
    for attribute in (*counts.attributes, None) if len(counts.attributes) > 1 else counts.attributes:
        view, drawn = (counts, draws) if attribute is None else (counts.by(attribute), draws @ counts.join(attribute))
        both = [marginal(view, old) for old in (False, True)]
        pair = [drawn.sum(axis=1 if old else 2) for old in (False, True)]
        title = both[0].title
        for rate_name in _OF_DECISIONS if len(counts.classes) == 2 else ():
            rate = RATES[rate_name]
            new, old = (rate_from_table(rate, each.weights) for each in both)
            with np.errstate(invalid="ignore"):
                spread = np.subtract(*(rate_from_table(rate, np.moveaxis(each, 0, -1)) for each in pair))
            for g, name in enumerate(view.names):
                low, high = interval(spread[:, g])
                rows.append(
                    {
                        "groups": title, "group": name, "rate": rate_name, "new": new[g], "old": old[g],
                        "difference": new[g] - old[g], "low": low, "high": high,
                    }
                )  # fmt: skip
        for name in measures:
            parity = parity_for(name, len(view.names), len(counts.classes))
            masks = [np.stack([Estimate.of(rate, each, minimum).compared for rate in parity.rates]) for each in both]
            compared = masks[0] & masks[1]
            new, old = (gap_from_weights(parity, each.weights[None], compared)[0] for each in both)
            drawn_gaps = [gap_from_weights(parity, each, compared) for each in pair]
            low, high = interval(np.abs(drawn_gaps[0]) - np.abs(drawn_gaps[1]))
            gaps.append(
                {
                    "measure": name, "groups": title, "new": new, "old": old, "difference": abs(new) - abs(old),
                    "low": low, "high": high,
                }
            )  # fmt: skip
    return Differences(pd.DataFrame(rows), pd.DataFrame(gaps))


def marginal(counts: Counts, old: bool) -> Counts:
    """Return the counts of one of two decisions."""
    axis = 0 if old else 1
    return dataclasses.replace(
        counts, rows=counts.rows.sum(axis), weights=counts.weights.sum(axis), squares=counts.squares.sum(axis)
    )
