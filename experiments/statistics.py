"""Statistics of results: uncertainty, comparisons between methods, and the share that is noise.

All functions are pure and map tidy tables to tidy tables. `results` has the columns of `results.csv`, `trajectories`
those of `trajectories.csv`. A method means a method with its selection rule.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from experiments.structure import BINARY, Structure
from fairjax import metrics, selection
from fairjax.metrics import MEASURES
from fairjax.selection import Evaluation, Rule

KEYS = ["dataset", "measure", "method", "rule"]
"""Columns that identify a method and a column of the paper's tables."""


def tables_of(results: pd.DataFrame, structure: Structure = BINARY) -> np.ndarray:
    """Return the confusion tables (rows, decision, label, group) of rows of results."""
    return results[list(structure.cells)].to_numpy(np.float64).reshape(-1, *structure.shape)


def inconsistency(results: pd.DataFrame, structure: Structure = BINARY) -> float:
    """Return the largest difference between a bias or balanced accuracy in the table and its value from the counts.

    Args:
        results: a table with the columns of `results.csv`.
        structure: the groups and classes.

    Returns:
        A number near 0, unless the table was edited.
    """
    worst = 0.0
    for measure, rows in results[~results["diverged"].astype(bool)].groupby("measure"):
        accuracy, bias = _accuracy_and_bias(tables_of(rows, structure), measure, structure)
        for found, column in ((bias, "bias"), (accuracy, "balanced_accuracy")):
            found, told = np.asarray(found, np.float64), rows[column].to_numpy(np.float64)
            same = (found == told) | (np.isnan(found) & np.isnan(told))  # also equal if infinite or missing
            off = np.where(same, 0.0, np.abs(np.where(same, 0.0, found) - told))
            worst = max(worst, float(np.where(np.isnan(off), np.inf, off).max()))
    return worst


def shares(results: pd.DataFrame, epsilon: float, structure: Structure = BINARY) -> pd.DataFrame:
    """Compute the share of test splits on which |bias| < epsilon, and the share expected from noise alone.

    The latter is the probability that an unbiased classifier with the same acceptance rate meets the bound on a test
    part of this size: P(|N(0, SE^2)| < epsilon) with SE^2 = p (1 - p) (1/n_0 + 1/n_1), where groups are conditioned as
    the measure conditions them, averaged over splits. For other measures, and for more than two groups or classes, it
    is the share of random draws that meet the bound when the same decisions and labels are assigned to the groups at
    random.

    Args:
        results: a table with the columns of `results.csv`.
        epsilon: the bound.
        structure: the groups and classes.

    Returns:
        One row per method: splits, share, its Wilson interval (low, high), noise_share, standard_error (mean over
            splits).
    """
    rows = []
    for keys, group in _test(results).groupby(KEYS, sort=False):
        errors, allowed = _noise(group, keys[1], structure, epsilon)
        met = int(group["satisfied"].sum())
        low, high = proportion_confint(met, len(group), method="wilson")
        rows.append((*keys, len(group), met / len(group), low, high, allowed.mean(), errors.mean()))
    return pd.DataFrame(rows, columns=[*KEYS, "splits", "share", "low", "high", "noise_share", "standard_error"])


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
    for column, group in _test(results).groupby(["dataset", "measure"], sort=False):
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
                f"have; "
                "paired comparisons need the same splits"
            )
        names = list(wide.columns)
        pairs = [(one, two) for i, one in enumerate(names) for two in names[i + 1 :]]
        if reference is not None:
            pairs = [(reference, name) for name in names if name != reference] if reference in names else []
        found = [_paired(wide[one].to_numpy() - wide[two].to_numpy(), generator) for one, two in pairs]
        if found:
            corrected = multipletests([entry[-1] for entry in found], method="holm")[1]
            rows += [
                (*column, *one, *two, *entry, holm)
                for (one, two), entry, holm in zip(pairs, found, corrected, strict=True)
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
    found["holm_p"] = multipletests(found["wilcoxon_p"], method="holm")[1] if rows else []
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


def row_bootstrap(
    results: pd.DataFrame,
    epsilon: float,
    generator: np.random.Generator,
    *,
    draws: int = 2000,
    structure: Structure = BINARY,
) -> pd.DataFrame:
    """Estimate how much results vary if the rows of test parts are resampled, beside the spread over splits.

    Rows drawn with replacement are a multinomial draw of the counts, so the rows themselves are not needed.

    Args:
        results: a table with the columns of `results.csv`.
        epsilon: the bound.
        generator: generates the draws.
        draws: the number of bootstrap samples per test part.
        structure: the groups and classes.

    Returns:
        One row per method: the standard error and half the 95 % interval over rows (means over splits) of balanced
        accuracy and bias, the probability over rows that the bound is met, and the standard deviations over splits.
    """
    rows = []
    for keys, group in _test(results).groupby(KEYS, sort=False):
        tables = tables_of(group, structure).reshape(len(group), -1)
        counts = _row_counts(tables.sum(axis=1))
        drawn = generator.multinomial(counts, tables / counts[:, None], size=(draws, len(group)))
        drawn = drawn.reshape(draws, len(group), *structure.shape)
        accuracy, bias = _accuracy_and_bias(drawn, keys[1], structure)
        entry = {}
        for name, values in (("balanced_accuracy", accuracy), ("bias", bias)):
            # draws without a finite bias do not contribute to its spread
            finite = _finite(values)
            low, high = (finite.quantile(level) for level in (0.025, 0.975))
            entry[f"{name}_row_error"] = finite.std(ddof=1).mean()
            entry[f"{name}_row_half_interval"] = (0.5 * (high - low)).mean()
            entry[f"{name}_split_deviation"] = group[name].std(ddof=1)
        entry["met_over_rows"] = (np.abs(bias) < epsilon).mean()
        rows.append(dict(zip(KEYS, keys, strict=True)) | entry)
    return pd.DataFrame(rows)


def group_rates(results: pd.DataFrame, structure: Structure = BINARY) -> pd.DataFrame:
    """Compute rows, positives and rates of each group on valid and test parts, as means over splits.

    Args:
        results: a table with the columns of `results.csv`.
        structure: the groups and classes.

    Returns:
        One row per method, part, group (column `a` contains its code), and class if there are more than two: rows,
        positives, acceptance_rate, true_positive_rate, false_positive_rate. A rate is NaN if no split has rows for it.
    """
    rows = []
    classes = range(len(structure.classes)) if len(structure.classes) > 2 else (1,)
    for keys, group in results.groupby([*KEYS, "part"], sort=False):
        tables = tables_of(group, structure)
        for a, k in itertools.product(range(len(structure.groups)), classes):
            counts = tables[..., a]  # axes: split, decision, label
            n, positives = counts.sum(axis=(1, 2)), counts[:, :, k].sum(axis=1)
            accepted, truly = counts[:, k, :].sum(axis=1), counts[:, k, k]
            rates = _ratio(accepted, n), _ratio(truly, positives), _ratio(accepted - truly, n - positives)
            rows.append((*keys, a, k, n.mean(), positives.mean(), *map(_mean, rates)))
    rates = ["acceptance_rate", "true_positive_rate", "false_positive_rate"]
    found = pd.DataFrame(rows, columns=[*KEYS, "part", "a", "class", "rows", "positives", *rates])
    return found if len(classes) > 1 else found.drop(columns="class")


def pareto(
    trajectories: pd.DataFrame, rules: Mapping[str, Callable[[float], Rule]], epsilons: Sequence[float]
) -> pd.DataFrame:
    """Compute the test results of each method if its candidate is selected for each of many bounds.

    Args:
        trajectories: a table with the columns of `trajectories.csv`.
        rules: functions from a bound to a rule, by name. Pooled rules are not possible, since trajectories contain no
            train data.
        epsilons: the bounds.

    Returns:
        One row per data set, measure, method, rule and bound: mean balanced accuracy, bias and |bias| over splits,
        median and quartiles of the objective at that bound, and the share of splits that meet it.
    """
    rows = []
    for keys, group in trajectories.groupby(["dataset", "measure", "method"], sort=False):
        if group["step"].max() == 0:
            continue
        parts = {part: _wide(group[group["part"] == part]) for part in ("valid", "test")}
        for name, rule in rules.items():
            for epsilon in epsilons:
                chosen = np.asarray(_choose(rule(epsilon), parts["valid"]))
                index = np.arange(len(chosen)), chosen
                accuracy = np.asarray(parts["test"].balanced_accuracy)[index]
                bias = np.asarray(parts["test"].bias)[index]
                reached = np.where(np.abs(bias) < epsilon, accuracy, 0.0)
                low, median, high = np.quantile(reached, [0.25, 0.5, 0.75])
                met = (np.abs(bias) < epsilon).mean()
                spread = accuracy.mean(), bias.mean(), np.abs(bias).mean()
                rows.append((*keys, name, epsilon, *spread, median, low, high, met))
    means = ["balanced_accuracy", "bias", "absolute_bias"]
    return pd.DataFrame(
        rows, columns=["dataset", "measure", "method", "rule", "epsilon", *means, "objective", "low", "high", "share"]
    )


def sensitivity(trajectories: pd.DataFrame, rule: Callable[[float], Rule], epsilons: Sequence[float]) -> pd.DataFrame:
    """Summarise Figure 3: bias and accuracy of the original network and the debiased objective, by simulated parameter.

    Args:
        trajectories: a table with the columns of `trajectories.csv`, from runs with a sweep.
        rule: a function from a bound to the selection rule.
        epsilons: the bounds.

    Returns:
        One row per data set, measure, method, parameter and bound: mean and standard deviation over simulations of the
        original network's balanced accuracy and bias on test data, and median and quartiles of the debiased objective.
    """
    rows = []
    for keys, group in trajectories.groupby(["dataset", "measure", "method", "parameter"], sort=False):
        if group["step"].max() == 0:
            continue
        valid, test = (_wide(group[group["part"] == part]) for part in ("valid", "test"))
        original = [np.asarray(values)[:, 0] for values in (test.balanced_accuracy, test.bias)]
        begun = [number for values in original for number in (values.mean(), values.std(ddof=1))]
        for epsilon in epsilons:
            chosen = np.asarray(_choose(rule(epsilon), valid))
            index = np.arange(len(chosen)), chosen
            accuracy, bias = (np.asarray(values)[index] for values in (test.balanced_accuracy, test.bias))
            low, median, high = np.quantile(np.where(np.abs(bias) < epsilon, accuracy, 0.0), [0.25, 0.5, 0.75])
            rows.append((*keys, *begun, epsilon, median, low, high))
    names = ["balanced_accuracy", "balanced_accuracy_deviation", "bias", "bias_deviation", "epsilon"]
    return pd.DataFrame(rows, columns=["dataset", "measure", "method", "parameter", *names, "objective", "low", "high"])


def front(points: pd.DataFrame) -> pd.Series:
    """Mark the points that no other point of the same data set and measure beats in both accuracy and |bias|.

    Args:
        points: a table with columns dataset, measure, balanced_accuracy and absolute_bias, such as those from `pareto`.

    Returns:
        Booleans with the index of the points.
    """
    flags = pd.Series(False, index=points.index)
    for _, group in points.groupby(["dataset", "measure"], sort=False):
        accuracy, bias = (group[name].to_numpy()[:, None] for name in ("balanced_accuracy", "absolute_bias"))
        no_worse = (accuracy.T >= accuracy) & (bias.T <= bias)
        better = (accuracy.T > accuracy) | (bias.T < bias)
        flags.loc[group.index] = ~(no_worse & better).any(axis=1)
    return flags


def ranks(results: pd.DataFrame, needs_a: Callable[[str], bool]) -> pd.DataFrame:
    """Rank the median objectives in each column, after rounding to the two digits that are printed.

    Args:
        results: a table with the columns of `results.csv`.
        needs_a: returns whether a method needs the protected attribute at test time.

    Returns:
        One row per method: median, low, high, rank among all methods and rank among methods that do not need the
        attribute (1 is the best, tied methods share a rank; missing for methods that need the attribute).
    """
    groups = _test(results).groupby(KEYS, sort=False)["objective"]
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


@jax.jit
def _choose(rule: Rule, valid: Evaluation):
    """Return the candidate that a rule selects for each seed."""
    return jax.vmap(lambda evaluation: selection.first_max(rule(evaluation)))(valid)


def _wide(rows: pd.DataFrame) -> Evaluation:
    """Convert rows of trajectories to an evaluation (seeds, candidates)."""
    ordered = rows.sort_values(["seed", "step"], kind="stable")
    shape = (rows["seed"].nunique(), -1)
    columns = (ordered[name].to_numpy(np.float32).reshape(shape) for name in Evaluation._fields[:4])
    return Evaluation(*map(jnp.asarray, columns))


def _accuracy_and_bias(tables: np.ndarray, name: str, structure: Structure) -> tuple[np.ndarray, np.ndarray]:
    """Compute balanced accuracy and bias of tables with any leading axes; the bias is NaN where it is undefined."""
    flat = jnp.asarray(tables.reshape(-1, *tables.shape[-3:]), jnp.float32)
    accuracy, bias = _measured(flat, structure.measure(name), structure.partition)
    return np.asarray(accuracy).reshape(tables.shape[:-3]), np.asarray(bias).reshape(tables.shape[:-3])


@functools.partial(jax.jit, static_argnames=("measure", "partition"))
def _measured(tables, measure, partition):
    def one(table):
        bias = jnp.where(metrics.is_defined(measure, table), metrics.measure_from_table(measure, table), jnp.nan)
        return metrics.accuracy_from_table(table[..., :partition]), bias

    return jax.vmap(one)(tables)


DEALT = 500
"""Number of times that decisions and labels are assigned to the groups at random."""


def is_dealt(name: str, structure: Structure) -> bool:
    """Return whether the noise of a measure is estimated by random assignment to groups instead of a formula."""
    return name not in ("spd", "eod") or structure.measure(name) is not MEASURES[name]


def _noise(rows: pd.DataFrame, name: str, structure: Structure, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute the standard error of the bias of fair decisions and their chance to meet the bound, for each split."""
    tables, measure = tables_of(rows, structure), structure.measure(name)
    if not is_dealt(name, structure):
        noise = jax.vmap(functools.partial(metrics.noise_from_table, measure))(jnp.asarray(tables, jnp.float32))
        counted = tables[:, :, 1:, :] if name == "eod" else tables
        p = counted[:, 1].sum(axis=(1, 2)) / counted.sum(axis=(1, 2, 3))
        errors = np.sqrt(p * (1 - p) * np.asarray(noise, np.float64))
        return errors, np.where(errors > 0, 2 * stats.norm.cdf(epsilon / np.maximum(errors, 1e-12)) - 1, 1.0)
    generator, found = np.random.default_rng(0), []
    for table in tables:
        sizes = _row_counts(table.sum(axis=(0, 1)))
        drawn = generator.multinomial(sizes, table.sum(axis=2).ravel() / table.sum(), size=(DEALT, len(sizes)))
        found.append(np.moveaxis(drawn, 1, 2).reshape(DEALT, *structure.shape))
    _, bias = _accuracy_and_bias(np.stack(found), name, structure)
    return _finite(bias.T).std(ddof=1).to_numpy(), (np.abs(bias) < epsilon).mean(axis=1)


def _row_counts(totals: np.ndarray) -> np.ndarray:
    """Convert sums of counts to integers, the numbers of rows to resample.

    Raises:
        ValueError: if the sums are not integers, because rows have weights.
    """
    if not np.array_equal(totals, np.rint(totals)):
        wrong = totals[totals != np.rint(totals)][0]
        raise ValueError(
            f"rows cannot be drawn again from sums of weights, found {wrong:g}: give results of a run without weights"
        )
    return totals.astype(int)


def _finite(values: np.ndarray) -> pd.DataFrame:
    """Return draws by split with infinite values replaced by NaN, which pandas' statistics ignore."""
    return pd.DataFrame(np.where(np.isfinite(values), values, np.nan).astype(np.float64))


def _test(results: pd.DataFrame) -> pd.DataFrame:
    return results[results["part"] == "test"]


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Compute a rate per split; NaN where no rows contribute."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _mean(values: np.ndarray) -> float:
    """Compute the mean of the values that are not NaN; NaN if there are none."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
