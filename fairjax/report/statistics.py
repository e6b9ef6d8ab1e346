"""Statistics of results: uncertainty, comparisons between methods, and the share that is noise.

All functions are pure and map tidy tables to tidy tables. `results` has the columns of `results.csv`, `trajectories`
those of `trajectories.csv`. A method means a method with its selection rule.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from fairjax.detect import holm
from fairjax.report.counts import KEYS, group_rates, test_rows
from fairjax.report.noise import row_bootstrap, shares
from fairjax.runs.structure import BINARY, Structure


def comparisons(
    results: pd.DataFrame, generator: np.random.Generator, *, reference: tuple[str, str] | None = None
) -> pd.DataFrame:
    """Compare methods by paired differences of the objective on the same test splits, in each column of the tables.

    Args:
        results: a table with the columns of `results.csv`.
        generator: generates the bootstrap samples.
        reference: the method and rule that all others are compared with; by default all pairs are compared.

    Returns:
        One row per pair: splits, mean and median of first - second, a percentile bootstrap interval of the mean (low,
        high), the p-value of Wilcoxon's signed-rank test (two-sided, zero differences by Pratt's method), and the same
        after Holm's correction for all pairs of the column.

    Raises:
        ValueError: if two methods were run on different splits, or a method has several results on one split.
    """
    rows = []
    for column, group in test_rows(results).groupby(["dataset", "measure"], sort=False):
        doubled = group[group.duplicated(["method", "rule", "seed"])]
        if len(doubled):
            first = doubled.iloc[0]
            raise ValueError(
                f"{' '.join(column)}: {first['method']}/{first['rule']} has more than one result for the seed "
                f"{first['seed']}; paired comparisons need one"
            )
        wide = group.pivot_table(index="seed", columns=["method", "rule"], values="objective", sort=False)
        holes = wide.columns[wide.isna().any()]
        if len(holes):
            seeds = wide.index[wide[holes[0]].isna()].tolist()
            raise ValueError(
                f"{' '.join(column)}: {'/'.join(holes[0])} has no result for the seeds {seeds}, which other methods "
                "have; paired comparisons need the same splits"
            )
        names = list(wide.columns)
        pairs = [(one, two) for i, one in enumerate(names) for two in names[i + 1 :]]
        if reference is not None:
            pairs = [(reference, name) for name in names if name != reference] if reference in names else []
        found = [_paired(wide[one].to_numpy() - wide[two].to_numpy(), generator) for one, two in pairs]
        if found:
            corrected = holm([entry[-1] for entry in found])
            rows += [
                (*column, *one, *two, *entry, p_value)
                for (one, two), entry, p_value in zip(pairs, found, corrected, strict=True)
            ]
    sides = ["method", "rule", "other_method", "other_rule"]
    return pd.DataFrame(
        rows, columns=["dataset", "measure", *sides, "splits", "mean", "median", "low", "high", "wilcoxon_p", "holm_p"]
    )


def against(comparisons: pd.DataFrame, column: tuple[str, str], entry: tuple[str, str]) -> pd.DataFrame:
    """Return one method's comparisons with all others in a column, with this method first and Holm's correction.

    Args:
        comparisons: the comparisons of all pairs, from `comparisons`.
        column: the data set and measure.
        entry: the method and rule.

    Returns:
        Columns other_method, other_rule, mean, low, high, wilcoxon_p, holm_p; the mean is that of method - other.
    """
    here = comparisons[(comparisons["dataset"] == column[0]) & (comparisons["measure"] == column[1])]
    rows = []
    for row in here.itertuples():
        first, second = (row.method, row.rule), (row.other_method, row.other_rule)
        if first == entry:
            rows.append((*second, row.mean, row.low, row.high, row.wilcoxon_p))
        elif second == entry:
            rows.append((*first, -row.mean, -row.high, -row.low, row.wilcoxon_p))
    found = pd.DataFrame(rows, columns=["other_method", "other_rule", "mean", "low", "high", "wilcoxon_p"])
    found["holm_p"] = holm(found["wilcoxon_p"]) if rows else []
    return found


def _paired(differences: np.ndarray, generator: np.random.Generator) -> tuple[Any, ...]:
    n, mean = len(differences), float(differences.mean())
    low = high = mean
    if np.ptp(differences) > 0:
        interval = stats.bootstrap(
            (differences,), np.mean, method="percentile", n_resamples=4999, rng=generator
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)
    nonzero = np.any(differences != 0)
    p = float(stats.wilcoxon(differences, zero_method="pratt", method="approx").pvalue) if nonzero else 1.0
    return n, mean, float(np.median(differences)), low, high, p


def ranks(results: pd.DataFrame, needs_a: Callable[[str], bool]) -> pd.DataFrame:
    """Rank the median objectives in each column, after rounding to the two digits that are printed.

    Args:
        results: a table with the columns of `results.csv`.
        needs_a: returns whether a method needs the protected attribute at test time.

    Returns:
        One row per method: median, low, high, rank among all methods and rank among methods that do not need the
        attribute (1 is the best, tied methods share a rank; missing for methods that need the attribute).
    """
    groups = test_rows(results).groupby(KEYS, sort=False)["objective"]
    found = pd.DataFrame({"median": groups.median(), "low": groups.quantile(0.25), "high": groups.quantile(0.75)})
    found = found.reset_index()
    found["needs_a"] = found["method"].map(needs_a)
    printed, column = found["median"].round(2), [found["dataset"], found["measure"]]
    found["rank"] = printed.groupby(column).rank(method="dense", ascending=False)
    blind = printed.where(~found["needs_a"])
    found["blind_rank"] = blind.groupby(column).rank(method="dense", ascending=False)
    return found


def everything(
    results: pd.DataFrame, epsilon: float, needs_a: Callable[[str], bool], structure: Structure = BINARY
) -> dict[str, pd.DataFrame]:
    """Compute all statistics by name, with a fixed random generator: equal results give equal statistics.

    Args:
        results: a table with the columns of `results.csv`.
        epsilon: the bound.
        needs_a: returns whether a method needs the protected attribute at test time.
        structure: the groups and classes.

    Returns:
        The results of the functions, by their names.
    """
    generator = np.random.default_rng(0)
    return {
        "shares": shares(results, epsilon, structure),
        "comparisons": comparisons(results, generator),
        "row_bootstrap": row_bootstrap(results, epsilon, generator, structure=structure),
        "group_rates": group_rates(results, structure),
        "ranks": ranks(results, needs_a),
    }
