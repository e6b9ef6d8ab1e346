"""Balanced accuracy of decisions, scores and confusion tables."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from fairjax import checks
from fairjax.metrics.confusion import confusion
from fairjax.metrics.measures import rate


def balanced_accuracy(values: Any, y: Any, weights: Any = None, *, num_classes: int = 2) -> Float[Array, ""]:
    """Compute balanced accuracy, the mean recall over classes (Brodersen et al. 2010); on scores, it is soft.

    Args:
        values: decisions in {0, 1} or scores in [0, 1], one per row; for more classes, codes or probabilities.
        y: labels in {0, 1}, or codes.
        weights: sample weights; 1 if omitted.
        num_classes: number of classes.

    Returns:
        A scalar in [0, 1]. Classes without rows are left out of the mean; NaN if there are no rows.

    Example:
        >>> round(balanced_accuracy(jnp.array([1, 1, 0, 0]), jnp.array([1, 0, 0, 0])).item(), 4)
        0.8333
        >>> round(balanced_accuracy(jnp.array([2, 1, 0, 0]), jnp.array([2, 1, 0, 1]), num_classes=3).item(), 4)
        0.8333
    """
    if num_classes > 2:
        one_group = np.zeros(np.shape(y)[:1], np.int32)
        table = confusion(values, y, one_group, num_groups=1, num_classes=num_classes, weights=weights)
        return accuracy_from_table(table)
    rows = checks.rows(values, y, np.zeros(np.shape(y)[:1], bool), weights)
    accepted, positives = rate(rows.values, rows.y, rows.weights)
    falsely_accepted, negatives = rate(rows.values, ~rows.y, rows.weights)
    rates = jnp.stack([accepted, 1.0 - falsely_accepted])
    has_rows = jnp.stack([positives, negatives])
    return rows.or_nan(mean_of_rates(rates, has_rows))


def mean_of_rates(rates: Float[Array, " c"], defined: Bool[Array, " c"]) -> Float[Array, ""]:
    """Compute the mean of the rates that are defined; NaN if none is."""
    mean = jnp.sum(rates, where=defined) / jnp.maximum(jnp.sum(defined, dtype=rates.dtype), 1.0)
    return jnp.where(jnp.any(defined), mean, jnp.nan)


def accuracy_from_table(table: Float[Array, "P Y G"]) -> Float[Array, ""]:
    """Compute balanced accuracy from a confusion table (decision, label, group) instead of rows.

    Example:
        >>> accuracy_from_table(jnp.array([[[3.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])).item()
        0.625
    """
    if table.shape[:2] == (2, 2):
        cell, weights = jnp.arange(table.size) // table.shape[2], table.reshape(-1)
        decision, y = (cell // 2).astype(jnp.result_type(float)), cell % 2 == 1
        accepted, positives = rate(decision, y, weights)
        falsely_accepted, negatives = rate(decision, ~y, weights)
        return mean_of_rates(jnp.stack([accepted, 1.0 - falsely_accepted]), jnp.stack([positives, negatives]))
    by_label = jnp.sum(table, axis=2)
    label_sizes = jnp.sum(by_label, axis=0)
    has_rows = ~(label_sizes <= 0)
    return mean_of_rates(jnp.diagonal(by_label) / jnp.where(has_rows, label_sizes, 1.0), has_rows)
