"""Summaries over seeds of the tables of detection."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

SUMMARY = ("mean", "low", "high", "seeds")
"""Columns of a summary: the mean over seeds, the ends of its 95% t interval, and the number of seeds that have it."""


def over_seeds(table: pd.DataFrame, by: str | Sequence[str], column: str) -> pd.DataFrame:
    """Average a column over seeds.

    Args:
        table: one row per seed and key.
        by: the columns that are the key.
        column: the column to average; rows without a value do not count.

    Returns:
        One row per key in the order of the table, indexed by the key, with the columns `SUMMARY`. The ends are NaN if
        fewer than two seeds have a value.

    Example:
        >>> table = pd.DataFrame({"seed": [1, 2], "layer": ["a", "a"], "auc": [0.5, 0.7]})
        >>> over_seeds(table, "layer", "auc").round(2).values.tolist()
        [[0.6, -0.67, 1.87, 2.0]]
    """
    grouped = table.groupby(by if isinstance(by, str) else list(by), sort=False)[column]
    mean, deviation, count = grouped.mean(), grouped.std(ddof=1), grouped.count()
    several = count > 1
    factor = stats.t.ppf(0.975, np.where(several, count - 1, 1)) / np.sqrt(np.maximum(count, 1))
    half = (deviation * factor).where(several)
    return pd.DataFrame(dict(zip(SUMMARY, (mean, mean - half, mean + half, count), strict=True)))


def share_of_seeds(table: pd.DataFrame, by: str | Sequence[str], met: pd.Series) -> pd.Series:
    """Count in how many seeds a condition is met, as text such as "18 of 20"; a dash if none has a value.

    Args:
        table: one row per seed and key.
        by: the columns that are the key.
        met: whether the condition is met; a missing value does not count.

    Example:
        >>> table = pd.DataFrame({"seed": [1, 2], "layer": ["a", "a"], "p": [0.01, 0.2]})
        >>> share_of_seeds(table, "layer", table["p"] < 0.05).tolist()
        ['1 of 2']
    """
    key = [by] if isinstance(by, str) else list(by)
    counted = table[key].assign(met=met.astype(float).to_numpy(), known=met.notna().to_numpy())
    grouped = counted.groupby(by if isinstance(by, str) else key, sort=False)
    known = grouped["known"].sum()
    texts = grouped["met"].sum().astype(int).astype(str) + " of " + known.astype(str)
    return texts.where(known > 0, "–")


def interval(low: float, high: float, form: str) -> str:
    """Format an interval; nothing if it is not known.

    Example:
        >>> interval(0.1, 0.25, ".2f"), interval(float("nan"), float("nan"), ".2f")
        ('[0.10, 0.25]', '')
    """
    return "" if np.isnan(low) else f"[{low:{form}}, {high:{form}}]"


def p_text(p: float) -> str:
    """Format a p-value.

    Example:
        >>> p_text(0.0312), p_text(1e-9), p_text(float("nan"))
        ('0.031', '< 0.0001', '–')
    """
    return "–" if np.isnan(p) else "< 0.0001" if p < 1e-4 else f"{p:.2g}"
