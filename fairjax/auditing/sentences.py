"""What an audit found, in sentences."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fairjax.metrics import MEASURES
from fairjax.metrics.intervals import interval_text

if TYPE_CHECKING:
    from fairjax.auditing.audit import Audit


def findings(audit: "Audit") -> list[str]:
    """Return one paragraph per gap, the most certain and largest first."""
    known = audit.gaps[audit.gaps["gap"].notna()]
    order = known.assign(size=known["gap"].abs(), sure=known["p_value"] < 0.05)
    order = order.sort_values(["sure", "size"], ascending=False, kind="stable")
    return [finding(row, audit.draws) for _, row in order.iterrows()] + [
        f"{MEASURES.label(row['measure'])} by {row['groups']} could not be measured: {row['left_out']}."
        for _, row in audit.gaps[audit.gaps["gap"].isna()].iterrows()
    ]


def left_out(audit: "Audit") -> list[str]:
    """Return which groups are too small to be compared, one sentence per measure and attribute."""
    rows = audit.gaps[audit.gaps["gap"].notna() & (audit.gaps["left_out"] != "")]
    names = [
        f"{MEASURES.label(measure)} by {groups}"
        for measure, groups in zip(rows["measure"], rows["groups"], strict=True)
    ]
    return [f"{name} leaves out {text}." for name, text in zip(names, rows["left_out"], strict=True)]


def changes(audit: "Audit") -> list[str]:
    """Return how each gap differs from that of the other table, one sentence per measure and attribute."""
    if audit.differences is None:
        return []
    known = audit.differences.gaps
    return [change(row) for _, row in known[known["difference"].notna()].iterrows()]


def finding(row: pd.Series, draws: int) -> str:
    """Return what is known about one gap, and how surely.

    Args:
        row: a row of the table of gaps.
        draws: number of draws behind its p-value.
    """
    label, rate = MEASURES.label(row["measure"]), row["rate"].replace("_", " ") or "rate"
    interval = f" {interval_text(row['low'], row['high'], '.3f')}".rstrip()
    text = (
        f"{label} by {row['groups']}: {row['gap']:.3f}{interval}. The {rate} is lowest for {row['lowest']} "
        f"({row['lowest_rate']:.3f}) and highest for {row['highest']} ({row['highest_rate']:.3f})."
    )
    if row["lowest"] == row["highest"]:
        return f"{label} by {row['groups']}: 0. The {rate} is {row['lowest_rate']:.3f} in all groups that are compared."
    if np.isnan(row["p_value"]):
        return text
    p_value = p_value_text(row["p_value"], draws)
    p_value = f"p {p_value}" if p_value.startswith("<=") else f"p = {p_value}"
    if row["p_value"] < 0.05:
        return f"{text} Chance does not explain it ({p_value})."
    return (
        f"{text} This may be chance: groups with equal rates would show gaps up to {row['chance']:.3f} in 95% of "
        f"samples of this size ({p_value})."
    )


def p_value_text(p_value: float, draws: int) -> str:
    """Return a p-value as text; one at its least possible value, 1 / (1 + draws), is only known to be no greater.

    Example:
        >>> p_value_text(0.25, 99), p_value_text(0.01, 99)
        ('0.25', '<= 0.01')
    """
    return f"{'<= ' if p_value * (1 + draws) < 1.5 else ''}{p_value:.2g}"


def change(row: pd.Series) -> str:
    """Return how one gap differs between two tables, and how surely."""
    what = f"{MEASURES.label(row['measure'])} by {row['groups']}"
    size = f"by {abs(row['difference']):.3f}, from {abs(row['old']):.3f} to {abs(row['new']):.3f}"
    if row["low"] > 0 or row["high"] < 0:
        return f"{what} {'grew' if row['difference'] > 0 else 'fell'} {size}; chance does not explain it."
    return f"{what} changed {size}{'' if np.isnan(row['low']) else ', which may be chance'}."
