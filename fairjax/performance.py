"""How well decisions agree with labels, and the table of counts from which every hard number is computed.

A threshold search needs the confusion table at each of 101 thresholds. Its counts come from one histogram of the
scores and one cumulative sum, and they add up exactly over chunks of rows, devices and hosts. A measure of parity
applied to a table is the same function as on rows: the table's eight cells are the rows and the counts are their
weights.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fairjax import checks
from fairjax.parity import NEEDS, Measure, Rows, Weights, rate
from fairjax.types import AnyArray

Histogram = Int[Array, "bins 2 2"] | Float[Array, "bins 2 2"]
Table = Float[Array, "*t 2 2 2"]
"""Counts by decision, label and group."""


def balanced_accuracy(values: Rows, y: Rows, weights: Weights | None = None) -> Float[Array, ""]:
    """Mean of the true positive and the true negative rate (Brodersen et al. 2010); soft on scores.

    Args:
        values: decisions in {0, 1} or scores in (0, 1), one a row.
        y: labels in {0, 1}.
        weights: sample weights; 1 if omitted.

    Returns:
        A scalar in [0, 1]; the rate of the class that is there if only one is.

    Example:
        >>> round(balanced_accuracy(jnp.array([1, 1, 0, 0]), jnp.array([1, 0, 0, 0])).item(), 4)
        0.8333
    """
    rows = checks.rows(values, y, y, weights)
    accepted, positives = rate(rows.values, rows.y, rows.weights)
    falsely, negatives = rate(rows.values, ~rows.y, rows.weights)
    rates = jnp.stack([accepted, 1.0 - falsely])
    there = jnp.stack([positives, negatives])
    return rows.or_nan(jnp.sum(rates, where=there) / jnp.maximum(jnp.sum(there, dtype=rates.dtype), 1.0))


def thresholds(count: int = 101) -> Float[Array, " t"]:
    """`count` equally spaced thresholds in [0, 1].

    Example:
        >>> thresholds(3).tolist()
        [0.0, 0.5, 1.0]
    """
    if count < 2:
        raise ValueError(f"count must be at least 2 thresholds, got {count}")
    return jnp.asarray(np.linspace(0.0, 1.0, count, dtype=np.float64).astype(np.float32))  # inside jit JAX would round


def histogram(
    scores: Float[AnyArray, " n"],
    y: Bool[AnyArray, " n"],
    a: Bool[AnyArray, " n"],
    cuts: Float[AnyArray, " t"],
    weights: Weights | None = None,
) -> Histogram:
    """Number of rows of each label and group whose score exceeds exactly 0, 1, ..., t of the sorted `cuts`.

    Histograms of disjoint rows add up to the histogram of all of them. Without weights the counts are integers, exact
    up to 2^31 rows.

    Args:
        scores: sigmoid outputs.
        y: labels.
        a: protected attribute.
        cuts: thresholds in increasing order.
        weights: sample weights; 1 if omitted.

    Returns:
        Counts (t + 1, label, group).

    Example:
        >>> yes, no = jnp.array([True, True]), jnp.array([False, False])
        >>> histogram(jnp.array([0.2, 0.9]), yes, no, jnp.array([0.5]))[:, 1, 0].tolist()
        [1, 1]
    """
    rows, cuts = checks.rows(scores, y, a, weights, weightless=True), jnp.asarray(cuts)
    exceeded = jnp.searchsorted(cuts, rows.values.astype(cuts.dtype), side="left", method="scan_unrolled")
    cell = (exceeded * 2 + rows.y.astype(exceeded.dtype)) * 2 + rows.a.astype(exceeded.dtype)
    counted = jnp.ones(rows.values.shape, jnp.int32) if rows.weights is None else rows.weights
    bins = cuts.shape[0] + 1
    return jax.ops.segment_sum(counted, cell, num_segments=bins * 4).reshape(bins, 2, 2)


def tables(counts: Histogram) -> Float[Array, "t 2 2 2"]:
    """The confusion table at every threshold, from a histogram by one cumulative sum.

    Args:
        counts: what `histogram` returns, or a sum of such.

    Returns:
        Counts (threshold, decision, label, group) for the decision `score > threshold`.

    Example:
        >>> yes, no = jnp.array([True, True]), jnp.array([False, False])
        >>> tables(histogram(jnp.array([0.2, 0.9]), yes, no, jnp.array([0.5])))[0, :, 1, 0].tolist()
        [1.0, 1.0]
    """
    total = jnp.sum(counts, axis=0)
    rejected = jnp.cumsum(counts, axis=0)[:-1]
    return jnp.stack([rejected, total[None] - rejected], axis=1).astype(jnp.float32)


def of_table(measure: Measure, table: Float[Array, "2 2 2"]) -> Float[Array, ""]:
    """A measure of parity on a confusion table (decision, label, group) instead of rows.

    Example:
        >>> from fairjax.parity import spd
        >>> of_table(spd, jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])).item()
        0.0
    """
    decision, y, a = _cells()
    return measure(decision, y, a, table.reshape(-1))


def noise_of_table(measure: Measure, table: Float[Array, "2 2 2"]) -> Float[Array, ""]:
    """Sum over rows of the squared derivative of a measure by the row's value.

    A measure of values that scatter independently with variance v has, to first order, the variance v times this
    number. For the statistical parity difference it is 1/n_0 + 1/n_1, for equal opportunity the same among the
    positives.

    Example:
        >>> from fairjax.parity import spd
        >>> round(noise_of_table(spd, jnp.full((2, 2, 2), 5.0)).item(), 6)  # 20 rows a group
        0.1
    """
    decision, y, a = _cells()
    weights = table.reshape(-1)
    slope = jax.grad(measure)(decision, y, a, weights)  # of a cell, which is `weights` rows of one slope each
    return jnp.sum(slope**2 / jnp.where(weights > 0, weights, 1.0), where=weights > 0)


def is_defined(measure: Measure, table: Float[Array, "2 2 2"]) -> Bool[Array, ""]:
    """Whether a table has the rows that a measure compares.

    The measures of `fairjax.parity.MEASURES` say which rows they need. Any other measure is taken to be defined where
    it changes with the decisions of some row.

    Args:
        measure: bias by group.
        table: counts by decision, label and group.

    Returns:
        A boolean; where it is false, the value of the measure means nothing.

    Example:
        >>> from fairjax.parity import eod
        >>> is_defined(eod, jnp.array([[[5.0, 5.0], [5.0, 0.0]], [[5.0, 5.0], [5.0, 0.0]]])).item()
        False
    """
    needs = NEEDS.get(measure)
    if needs is not None:
        return jnp.all(jnp.stack([need(table) > 0 for need in needs]))
    decision, y, a = _cells()
    # away from 0, 1 and equal rates, where a slope may vanish for other reasons
    slope = jax.grad(measure)(0.3 + 0.05 * jnp.arange(decision.shape[0], dtype=decision.dtype), y, a, table.reshape(-1))
    return jnp.any((slope != 0) & (table.reshape(-1) > 0))


def accuracy_of_table(table: Float[Array, "2 2 2"]) -> Float[Array, ""]:
    """Balanced accuracy on a confusion table (decision, label, group) instead of rows.

    Example:
        >>> accuracy_of_table(jnp.array([[[3.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])).item()
        0.625
    """
    decision, y, _ = _cells()
    return balanced_accuracy(decision, y, table.reshape(-1))


def _cells() -> tuple[Float[Array, "8"], Bool[Array, "8"], Bool[Array, "8"]]:
    """Decision, label and group of the eight cells of a table."""
    cell = jnp.arange(8)
    return (cell // 4).astype(jnp.float32), (cell // 2) % 2 == 1, cell % 2 == 1
