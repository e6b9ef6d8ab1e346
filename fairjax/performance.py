"""How well decisions agree with labels, and the table of counts from which every hard number is computed.

A threshold search needs the confusion table at each of 101 thresholds. Its counts come from one histogram of the
scores and one cumulative sum, and they add up exactly over chunks of rows, devices and hosts. A measure of parity
applied to a table is the same function as on rows: the table's eight cells are the rows and the counts are their
weights.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fairjax import checks
from fairjax.metrics import Parity, confusion
from fairjax.metrics.confusion import BLOCK
from fairjax.parity import Measure, as_parity, rate
from fairjax.types import AnyArray

Histogram = Int[Array, "bins Y G"] | Float[Array, "bins Y G"]
Table = Float[Array, "*t P Y G"]
"""Counts by decision, label and group."""


def balanced_accuracy(values: Any, y: Any, weights: Any = None, *, num_classes: int = 2) -> Float[Array, ""]:
    """Mean over the classes of the share of their rows that are recognised (Brodersen et al. 2010); soft on scores.

    Args:
        values: decisions in {0, 1} or scores in [0, 1], one per row; of more classes codes or probabilities.
        y: labels in {0, 1}, or codes.
        weights: sample weights; 1 if omitted.
        num_classes: number of classes.

    Returns:
        A scalar in [0, 1]; the mean over the classes that are there if some are not.

    Example:
        >>> round(balanced_accuracy(jnp.array([1, 1, 0, 0]), jnp.array([1, 0, 0, 0])).item(), 4)
        0.8333
        >>> round(balanced_accuracy(jnp.array([2, 1, 0, 0]), jnp.array([2, 1, 0, 1]), num_classes=3).item(), 4)
        0.8333
    """
    if num_classes > 2:
        everybody = np.zeros(np.shape(y)[:1], np.int32)
        table = confusion(values, y, everybody, num_groups=1, num_classes=num_classes, weights=weights)
        return accuracy_of_table(table)
    rows = checks.rows(values, y, np.zeros(np.shape(y)[:1], bool), weights)
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
    with jax.ensure_compile_time_eval():  # known when tracing, so that a search of them is quick
        return jnp.asarray(_grid(count))


def histogram(
    scores: Any, y: Any, a: Any, cuts: Float[AnyArray, " t"], weights: Any = None, *, num_groups: int = 2
) -> Histogram:
    """Number of rows of each label and group whose score exceeds exactly 0, 1, ..., t of the sorted `cuts`.

    Histograms of disjoint rows add up to the histogram of all of them. Without weights the counts are integers, exact
    up to 2^31 rows.

    Args:
        scores: sigmoid outputs.
        y: labels.
        a: protected attribute: booleans, codes or memberships.
        cuts: thresholds in increasing order.
        weights: sample weights; 1 if omitted.
        num_groups: number of groups.

    Returns:
        Counts (t + 1, label, group).

    Example:
        >>> yes, no = jnp.array([True, True]), jnp.array([False, False])
        >>> histogram(jnp.array([0.2, 0.9]), yes, no, jnp.array([0.5]))[:, 1, 0].tolist()
        [1, 1]
    """
    rows, cuts = checks.rows(scores, y, a, weights, weightless=True, num_groups=num_groups), jnp.asarray(cuts)
    cuts = cuts.astype(rows.values.dtype)
    exceeded = _below(cuts, rows.values)
    cell = exceeded * 2 + rows.y.astype(exceeded.dtype)
    bins = cuts.shape[0] + 1
    if rows.a.ndim == 2:
        members = rows.a if rows.weights is None else rows.a * rows.weights[:, None]
        return _sums(members, cell, bins * 2).reshape(bins, 2, num_groups)
    cell = cell * num_groups + rows.a.astype(exceeded.dtype)
    if rows.weights is not None:
        return _sums(rows.weights[:, None], cell, bins * 2 * num_groups).reshape(bins, 2, num_groups)
    counted = jnp.ones(rows.values.shape, jnp.int32)
    return jax.ops.segment_sum(counted, cell, num_segments=bins * 2 * num_groups).reshape(bins, 2, num_groups)


def _below(cuts: Float[Array, " t"], values: Float[Array, " n"]) -> Int[Array, " n"]:
    """How many of the sorted cuts are less than each value; all of them where it is NaN."""
    last = cuts.shape[0] - 1
    if last < 1 or isinstance(cuts, jax.core.Tracer) or not np.array_equal(cuts, _grid(last + 1)):
        return jnp.searchsorted(cuts, values, side="left", method="scan_unrolled")
    # on an even grid the nearest cut is known, and only that one has to be looked at
    known = jnp.where(jnp.isnan(values), 2.0, values)
    nearest = jnp.round(jnp.clip(known, 0.0, 1.0) * last).astype(jnp.int32)
    return nearest + (cuts[nearest] < known).astype(jnp.int32)


def _grid(count: int) -> np.ndarray:
    """Equally spaced numbers in [0, 1], each as near to c / (count - 1) as the type allows."""
    every = np.linspace(0.0, 1.0, count, dtype=np.float64)  # inside jit JAX would round
    return every.astype(jnp.result_type(float))


def _sums(payload: Float[Array, "n k"], cell: Int[Array, " n"], count: int) -> Float[Array, "count k"]:
    """Sums by cell of numbers that are no integers, in blocks, so that they keep their digits."""
    rows = payload.shape[0]
    size = max(BLOCK, -(-rows // 256))
    blocks = max(1, -(-rows // size))
    place = jnp.arange(rows, dtype=cell.dtype) // size * count + cell
    summed = jax.ops.segment_sum(payload, place, num_segments=blocks * count)
    return jnp.sum(summed.reshape(blocks, count, payload.shape[1]), axis=0)


def tables(counts: Histogram) -> Float[Array, "t 2 2 G"]:
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
    total = jnp.sum(counts, axis=0, dtype=counts.dtype)
    rejected = jnp.cumsum(counts, axis=0, dtype=counts.dtype)[:-1]
    return jnp.stack([rejected, total[None] - rejected], axis=1).astype(jnp.result_type(float))


def of_table(measure: Measure, table: Float[Array, "P Y G"]) -> Float[Array, ""]:
    """A measure of parity on a confusion table (decision, label, group) instead of rows.

    Args:
        measure: of bias; a function that is no `Parity` needs a table of two classes and two groups.
        table: counts by decision, label and group.

    Returns:
        The measure of the rows that were counted.

    Example:
        >>> from fairjax.parity import spd
        >>> of_table(spd, jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])).item()
        0.0
    """
    if isinstance(measure, Parity):
        return measure.of_tensor(table)
    decision, y, a = _cells(table)
    return measure(decision, y, a, table.reshape(-1))


def noise_of_table(measure: Measure, table: Float[Array, "P Y G"]) -> Float[Array, ""]:
    """Sum over rows of the squared derivative of a measure by the row's value.

    A measure of values that scatter independently with variance v has, to first order, the variance v times this
    number. For the statistical parity difference it is 1/n_0 + 1/n_1, for equal opportunity the same among the
    positives. Of more than two classes it is the squared difference between the greatest and the least derivative.

    Args:
        measure: of bias.
        table: counts by decision, label and group.

    Returns:
        A scalar, not negative.

    Example:
        >>> from fairjax.parity import spd
        >>> round(noise_of_table(spd, jnp.full((2, 2, 2), 5.0)).item(), 6)  # 20 rows per group
        0.1
    """
    if isinstance(measure, Parity):
        slopes = jax.grad(measure.of_tensor)(table)
        return jnp.sum(jnp.sum(table, axis=0) * (jnp.max(slopes, axis=0) - jnp.min(slopes, axis=0)) ** 2)
    decision, y, a = _cells(table)
    weights = table.reshape(-1)
    slope = jax.grad(measure)(decision, y, a, weights)  # of a cell, which is `weights` rows of one slope each
    return jnp.sum(slope**2 / jnp.where(weights > 0, weights, 1.0), where=weights > 0)


def is_defined(measure: Measure, table: Float[Array, "P Y G"]) -> Bool[Array, ""]:
    """Whether a table has the rows that a measure compares.

    The measures of `fairjax.parity.MEASURES`, and every `Parity`, say which rows they need. Any other measure is taken
    to be defined where it changes with the decisions of some row.

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
    parity = as_parity(measure)
    if parity is not None:
        return parity.is_defined(table)
    decision, y, a = _cells(table)
    # away from 0, 1 and equal rates, where a slope may vanish for other reasons
    slope = jax.grad(measure)(0.3 + 0.05 * jnp.arange(decision.shape[0], dtype=decision.dtype), y, a, table.reshape(-1))
    return jnp.any((slope != 0) & (table.reshape(-1) > 0))


def accuracy_of_table(table: Float[Array, "P Y G"]) -> Float[Array, ""]:
    """Balanced accuracy on a confusion table (decision, label, group) instead of rows.

    Example:
        >>> accuracy_of_table(jnp.array([[[3.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])).item()
        0.625
    """
    if table.shape[:2] == (2, 2):
        cell = jnp.arange(table.size) // table.shape[2]
        return balanced_accuracy((cell // 2).astype(jnp.result_type(float)), cell % 2 == 1, table.reshape(-1))
    whole = jnp.sum(table, axis=2)
    rows = jnp.sum(whole, axis=0)
    there = rows > 0
    recognised = jnp.diagonal(whole) / jnp.where(there, rows, 1.0)
    return jnp.sum(recognised, where=there) / jnp.maximum(jnp.sum(there, dtype=rows.dtype), 1.0)


def _cells(table: Float[Array, "2 2 2"]) -> tuple[Float[Array, "8"], Bool[Array, "8"], Bool[Array, "8"]]:
    """Decision, label and group of the eight cells of a table."""
    if table.shape != (2, 2, 2):
        raise ValueError(
            f"a measure that is a plain function takes two classes and two groups, found a table of shape "
            f"{table.shape}: make a fairjax.Parity, for example by fairjax.parity.named"
        )
    cell = jnp.arange(8)
    return (cell // 4).astype(jnp.result_type(float)), (cell // 2) % 2 == 1, cell % 2 == 1
