"""Confusion tables from the counts of results, and what follows from them."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from fairjax import metrics
from fairjax.runs.structure import BINARY, Structure

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
        accuracy, bias = accuracy_and_bias(tables_of(rows, structure), measure, structure)
        for found, column in ((bias, "bias"), (accuracy, "balanced_accuracy")):
            found, told = np.asarray(found, np.float64), rows[column].to_numpy(np.float64)
            same = (found == told) | (np.isnan(found) & np.isnan(told))  # also equal if infinite or missing
            off = np.where(same, 0.0, np.abs(np.where(same, 0.0, found) - told))
            worst = max(worst, float(np.where(np.isnan(off), np.inf, off).max()))
    return worst


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
            rates = ratio_of(accepted, n), ratio_of(truly, positives), ratio_of(accepted - truly, n - positives)
            rows.append((*keys, a, k, n.mean(), positives.mean(), *map(mean_over_splits, rates)))
    rates = ["acceptance_rate", "true_positive_rate", "false_positive_rate"]
    found = pd.DataFrame(rows, columns=[*KEYS, "part", "a", "class", "rows", "positives", *rates])
    return found if len(classes) > 1 else found.drop(columns="class")


def accuracy_and_bias(tables: np.ndarray, name: str, structure: Structure) -> tuple[np.ndarray, np.ndarray]:
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


def test_rows(results: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of test parts."""
    return results.loc[results["part"] == "test"]


def ratio_of(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Compute a rate per split; NaN where no rows contribute."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def mean_over_splits(values: np.ndarray) -> float:
    """Compute the mean of the values that are not NaN; NaN if there are none."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
