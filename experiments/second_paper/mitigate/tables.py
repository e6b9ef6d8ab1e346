"""Tables of the comparison: what is selected on valid rows, means over test parts, and paired tests."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import pandas as pd

from experiments.second_paper.mitigate.entries import ENTRIES, NOTHING
from experiments.second_paper.mitigate.evaluating import HALF, TUNED
from experiments.second_paper.mitigate.settings import STAGES, Mitigate
from fairjax.metrics import MEASURES
from fairjax.report import statistics
from fairjax.runs.structure import CELLS
from fairjax.selection import evaluate_tables

MEANS = (
    "accuracy", "balanced_accuracy", "parity", "opportunity", "odds", "probe", "accuracy_gap", "bias", "met",
    "objective", "seconds",
)  # fmt: skip
"""The columns of the summary that are means over test parts."""

KEYS = ["dataset", "measure", "row"]


def scores(lines: pd.DataFrame, measure: str, settings: Mitigate) -> np.ndarray:
    """Return the score of the rule of selection for every line of counts."""
    tables = jnp.asarray(lines[list(CELLS)].to_numpy(np.float32).reshape(-1, 2, 2, 2))
    evaluation = evaluate_tables(MEASURES[measure], jnp.full(len(lines), 0.5), tables)
    return np.nan_to_num(np.asarray(settings.rule()(evaluation)))


def selected(table: pd.DataFrame, settings: Mitigate, threshold: str = TUNED) -> pd.DataFrame:
    """Select one candidate of each row for each measure and seed, by its valid part, and return its test part.

    Args:
        table: the lines of `measuring.gathered`.
        settings: the settings, with the bound of the rule.
        threshold: name of the threshold of scores.

    Returns:
        One line per data set, measure, row and seed, with `bias` by the measure, whether it is in the bound (`met`),
        the constrained objective, and the score of the rule on the valid part (`score`).
    """
    mine = table[(table["threshold"] == threshold) & (table["bound"].isna() | (table["bound"] == settings.epsilon))]
    found = []
    for measure in settings.measures:
        here = mine[mine["measure"].isin(["", measure])]
        valid, test = (here[here["part"] == part].reset_index(drop=True) for part in ("valid", "test"))
        if valid.empty:
            continue
        valid = valid.assign(score=scores(valid, measure, settings))
        best = valid.loc[valid.groupby(["dataset", "row", "seed"], sort=False)["score"].idxmax()]
        where = ["dataset", "row", "seed", "candidate"]
        chosen = best[[*where, "score"]].merge(test, on=where, how="left", validate="one_to_one")
        bias = chosen[measure].to_numpy()
        met = bias < settings.epsilon
        objective = np.where(met, chosen["balanced_accuracy"], 0.0)
        found.append(chosen.assign(measure=measure, bias=bias, met=met.astype(float), objective=objective))
    if not found:
        return pd.DataFrame()
    names = list(dict.fromkeys(table["dataset"]))
    joined = pd.concat(found)  # all data sets by the first measure, then by the second
    return joined.sort_values("dataset", key=lambda column: column.map(names.index), kind="stable", ignore_index=True)


def summary(chosen: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of each quantity over the test parts, and standard deviations, one line per row and measure."""
    groups = chosen.assign(parity=chosen["parity"].where(np.isfinite(chosen["parity"]))).groupby(KEYS, sort=False)
    means, deviations = groups[list(MEANS)].mean(), groups[list(MEANS)].std(ddof=1).add_suffix("_sd")
    weights = groups["weight"].median().rename("median_weight")
    counts = groups["diverged"].first(), groups.size().rename("splits")
    return ordered(pd.concat([means, deviations, weights, *counts], axis=1).reset_index())


def fixed(table: pd.DataFrame, threshold: str = HALF) -> pd.DataFrame:
    """Return the means over test parts of every row and weight at one threshold, whatever the measure selects."""
    mine = table[(table["threshold"] == threshold) & (table["part"] == "test")]
    names = ["accuracy", "balanced_accuracy", "parity", "opportunity", "odds", "probe", "accuracy_gap", "spd", "eod"]
    keys = ["dataset", "measure", "row", "weight", "bound"]
    finite = mine.assign(parity=mine["parity"].where(np.isfinite(mine["parity"])))
    return ordered(finite.groupby(keys, sort=False, dropna=False)[names].mean().reset_index())


DISTANCES = {"parity": 1.0, "opportunity": 0.0, "odds": 0.0}
"""Columns with their values where there is no bias."""


def undominated(lines: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Return the lines of `fixed` than which no other is as accurate and less biased, or as fair and more accurate.

    Args:
        lines: lines of one data set.
        quantity: a column of `DISTANCES`, whose mean over the test parts is compared.

    Returns:
        The lines, the most accurate first. Lines whose quantity is unknown are left out.
    """
    distance = (lines[quantity] - DISTANCES[quantity]).abs()
    order = lines.assign(distance=distance).dropna(subset=["distance"])
    order = order.sort_values(["accuracy", "distance"], ascending=[False, True], kind="stable")
    nearest = order["distance"].cummin().shift(fill_value=np.inf)
    return order[order["distance"] < nearest].drop(columns="distance")


def ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Sort lines by data set and measure as they come, and rows as in `ENTRIES`."""
    names = list(ENTRIES)
    at = {
        name: number for number, name in enumerate(dict.fromkeys(zip(table["dataset"], table["measure"], strict=True)))
    }
    place = [at[pair] for pair in zip(table["dataset"], table["measure"], strict=True)]
    order = np.lexsort((table["row"].map(names.index), place))
    return table.iloc[order].reset_index(drop=True)


def with_results_columns(chosen: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the columns that `fairjax.report.statistics.comparisons` needs, with names in place of methods."""
    return chosen.assign(method=list(names), rule="none", part="test")


def against_nothing(chosen: pd.DataFrame) -> pd.DataFrame:
    """Compare the objective of each row with that of the row without mitigation, over the same splits."""
    results = with_results_columns(chosen, chosen["row"])
    found = statistics.comparisons(results, np.random.default_rng(0), reference=(NOTHING, "none"))
    turned = found.assign(mean=-found["mean"], median=-found["median"], low=-found["high"], high=-found["low"])
    return turned.rename(columns={"other_method": "row"}).drop(columns=["method", "rule", "other_rule"])


def best_of_stages(chosen: pd.DataFrame) -> pd.DataFrame:
    """Return, for each stage, measure and split, the test part of the row with the best score on the valid part.

    The row is chosen for each split on its valid rows, so the test parts are as new for a stage as for a single row.
    """
    stages = chosen["row"].map({name: entry.stage for name, entry in ENTRIES.items()})
    blind = chosen["row"].map({name: not entry.at_test for name, entry in ENTRIES.items()})
    known = chosen.assign(stage=stages)[blind | (stages == "post")]
    best = known.loc[known.groupby(["dataset", "measure", "stage", "seed"], sort=False)["score"].idxmax()]
    order = {name: number for number, name in enumerate((NOTHING, *STAGES, *dict.fromkeys(chosen["measure"])))}
    order |= {name: number for number, name in enumerate(dict.fromkeys(chosen["dataset"]))}
    keys = ["dataset", "measure", "stage", "seed"]
    return best.sort_values(keys, key=lambda column: column if column.name == "seed" else column.map(order))


def stage_comparisons(best: pd.DataFrame) -> pd.DataFrame:
    """Compare the stages with each other in pairs, over the same splits."""
    return statistics.comparisons(with_results_columns(best, best["stage"]), np.random.default_rng(0))


def frontier(table: pd.DataFrame, settings: Mitigate) -> pd.DataFrame:
    """Return the mean |bias| and balanced accuracy of every candidate on test parts, at tuned thresholds."""
    mine = table[(table["threshold"] == TUNED) & (table["part"] == "test")]
    keys = ["dataset", "measure", "row", "candidate", "weight", "bound"]
    found = mine.groupby(keys, sort=False, dropna=False)[["spd", "eod", "balanced_accuracy", "accuracy"]].mean()
    parts = []
    for measure in settings.measures:
        here = found.reset_index()
        here = here[here["measure"].isin(["", measure])]
        parts.append(here.assign(bias=here[measure], measure=measure).drop(columns=["spd", "eod"]))
    points = pd.concat(parts, ignore_index=True)
    return points.assign(stage=points["row"].map({name: entry.stage for name, entry in ENTRIES.items()}))
