"""What of the results is noise: row bootstrap, and what an unbiased classifier would show."""

import functools
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from fairjax import metrics
from fairjax.metrics import MEASURES
from fairjax.report.counts import KEYS, accuracy_and_bias, tables_of, test_rows
from fairjax.runs.structure import BINARY, Structure


def shares(results: pd.DataFrame, epsilon: float, structure: Structure = BINARY) -> pd.DataFrame:
    """Compute the share of test splits on which |bias| < epsilon, and the share expected from noise alone.

    The latter is the probability that an unbiased classifier with the same acceptance rate meets the bound on a test
    part of this size: P(|N(0, SE^2)| < epsilon) with SE^2 = p (1 - p) (1/n_0 + 1/n_1), where groups are conditioned as
    the measure conditions them, averaged over splits. For measures that do not compare one such proportion, and for
    more than two groups or classes, it is the share of random draws that meet the bound when the same decisions and
    labels are assigned to the groups at random.

    Args:
        results: a table with the columns of `results.csv`.
        epsilon: the bound.
        structure: the groups and classes.

    Returns:
        One row per method: splits, share, its Wilson interval (low, high), noise_share, standard_error (mean over
            splits).
    """
    rows = []
    for keys, group in test_rows(results).groupby(KEYS, sort=False):
        errors, allowed = noise_shares(group, keys[1], structure, epsilon)
        met = int(group["satisfied"].sum())
        low, high = proportion_confint(met, len(group), method="wilson")
        rows.append((*keys, len(group), met / len(group), low, high, allowed.mean(), errors.mean()))
    return pd.DataFrame(rows, columns=[*KEYS, "splits", "share", "low", "high", "noise_share", "standard_error"])


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
    for keys, group in test_rows(results).groupby(KEYS, sort=False):
        tables = tables_of(group, structure).reshape(len(group), -1)
        counts = _row_counts(tables.sum(axis=1))
        drawn = generator.multinomial(counts, tables / counts[:, None], size=(draws, len(group)))
        drawn = drawn.reshape(draws, len(group), *structure.shape)
        accuracy, bias = accuracy_and_bias(drawn, keys[1], structure)
        entry = {}
        for name, values in (("balanced_accuracy", accuracy), ("bias", bias)):
            # draws without a finite bias do not contribute to its spread
            finite = finite_values(values)
            low, high = (finite.quantile(level) for level in (0.025, 0.975))
            entry[f"{name}_row_error"] = finite.std(ddof=1).mean()
            entry[f"{name}_row_half_interval"] = (0.5 * (high - low)).mean()
            entry[f"{name}_split_deviation"] = group[name].std(ddof=1)
        entry["met_over_rows"] = (np.abs(bias) < epsilon).mean()
        rows.append(dict(zip(KEYS, keys, strict=True)) | entry)
    return pd.DataFrame(rows)


PERMUTATIONS = 500
"""Number of times that decisions and labels are assigned to the groups at random."""


def is_permuted(name: str, structure: Structure) -> bool:
    """Return whether the noise of a measure is estimated by random assignment to groups instead of a formula.

    The formula is that of the difference between two proportions, so it is for measures of two groups that compare one
    rate by its difference, and the rate must be a share of rows that do not depend on the decisions.
    """
    measure = structure.measure(name)
    parity = metrics.as_parity(measure)
    if parity is None or measure is not MEASURES[name] or not structure.is_binary:
        return True
    return not (
        len(parity.rates) == 1
        and isinstance(parity.across, metrics.Difference)
        and not parity.rates[0].depends_on_predictions
    )


def noise_shares(rows: pd.DataFrame, name: str, structure: Structure, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute the standard error of the bias of fair decisions and their chance to meet the bound, for each split."""
    tables, measure = tables_of(rows, structure), structure.measure(name)
    if not is_permuted(name, structure):
        noise = jax.vmap(functools.partial(metrics.noise_from_table, measure))(jnp.asarray(tables, jnp.float32))
        rate = cast(metrics.Parity, metrics.as_parity(measure)).rates[0]
        top, bottom = (tables.sum(axis=3) * np.asarray(matrix) for matrix in (rate.num, rate.den))
        p = top.sum(axis=(1, 2)) / bottom.sum(axis=(1, 2))
        errors = np.sqrt(p * (1 - p) * np.asarray(noise, np.float64))
        return errors, np.where(errors > 0, 2 * stats.norm.cdf(epsilon / np.maximum(errors, 1e-12)) - 1, 1.0)
    generator, found = np.random.default_rng(0), []
    for table in tables:
        sizes = _row_counts(table.sum(axis=(0, 1)))
        drawn = generator.multinomial(sizes, table.sum(axis=2).ravel() / table.sum(), size=(PERMUTATIONS, len(sizes)))
        found.append(np.moveaxis(drawn, 1, 2).reshape(PERMUTATIONS, *structure.shape))
    _, bias = accuracy_and_bias(np.stack(found), name, structure)
    return finite_values(bias.T).std(ddof=1).to_numpy(), (np.abs(bias) < epsilon).mean(axis=1)


def _row_counts(totals: np.ndarray) -> np.ndarray:
    """Convert sums of counts to integers, the numbers of rows to resample.

    Raises:
        ValueError: if the sums are not integers, because rows have weights.
    """
    if not np.array_equal(totals, np.rint(totals)):
        wrong = totals[totals != np.rint(totals)][0]
        raise ValueError(
            f"rows cannot be resampled from sums of weights, found {wrong:g}: use results of a run without weights"
        )
    return totals.astype(int)


def finite_values(values: np.ndarray) -> pd.DataFrame:
    """Return draws by split with infinite values replaced by NaN, which pandas' statistics ignore."""
    return pd.DataFrame(np.where(np.isfinite(values), values, np.nan).astype(np.float64))
