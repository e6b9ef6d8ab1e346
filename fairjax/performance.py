"""Balanced accuracy, and the confusion tables from which all metrics on decisions are computed.

A threshold search needs the confusion table at each of 101 thresholds. The counts are computed by one histogram of the
scores and one cumulative sum, and they add up exactly over chunks of rows, devices and hosts. A measure of parity is
applied to a table by the same function as to rows: the table's eight cells are the rows, and the counts are their
weights.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fairjax import checks
from fairjax.metrics import Parity, confusion
from fairjax.metrics.confusion import cell_sums
from fairjax.parity import Measure, as_parity, rate
from fairjax.types import AnyArray

Histogram = Int[Array, "bins Y G"] | Float[Array, "bins Y G"]
Table = Float[Array, "*t P Y G"]
"""Counts by decision, label and group."""


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
        everybody = np.zeros(np.shape(y)[:1], np.int32)
        table = confusion(values, y, everybody, num_groups=1, num_classes=num_classes, weights=weights)
        return accuracy_of_table(table)
    rows = checks.rows(values, y, np.zeros(np.shape(y)[:1], bool), weights)
    accepted, positives = rate(rows.values, rows.y, rows.weights)
    falsely, negatives = rate(rows.values, ~rows.y, rows.weights)
    rates = jnp.stack([accepted, 1.0 - falsely])
    there = jnp.stack([positives, negatives])
    return rows.or_nan(_mean(rates, there))


def _mean(rates: Float[Array, " c"], there: Bool[Array, " c"]) -> Float[Array, ""]:
    """Compute the mean of the rates that are defined; NaN if none is."""
    mean = jnp.sum(rates, where=there) / jnp.maximum(jnp.sum(there, dtype=rates.dtype), 1.0)
    return jnp.where(jnp.any(there), mean, jnp.nan)


def thresholds(count: int = 101) -> Float[Array, " t"]:
    """Return `count` equally spaced thresholds in [0, 1].

    Example:
        >>> thresholds(3).tolist()
        [0.0, 0.5, 1.0]
    """
    if count < 2:
        raise ValueError(f"count must be at least 2 thresholds, got {count}")
    with jax.ensure_compile_time_eval():  # concrete when tracing, so that searching them is fast
        return jnp.asarray(_grid(count))


def histogram(
    scores: Any, y: Any, a: Any, cuts: Float[AnyArray, " t"], weights: Any = None, *, num_groups: int = 2
) -> Histogram:
    """Count the rows of each label and group whose score exceeds exactly 0, 1, ..., t of the sorted `cuts`.

    Histograms of disjoint rows add up to the histogram of all rows. Without weights, the counts are integers and exact
    up to 2^31 rows.

    Args:
        scores: sigmoid outputs.
        y: labels.
        a: protected attribute: booleans, codes or memberships.
        cuts: thresholds in increasing order.
        weights: sample weights; 1 if omitted.
        num_groups: number of groups.

    Returns:
        Counts (t + 1, label, group). If traced rows are invalid, all counts are NaN or, for integers, `INVALID`.

    Raises:
        ValueError: if `fairjax.checks.rows` raises it, or if the cuts are not in increasing order.

    Example:
        >>> yes, no = jnp.array([True, True]), jnp.array([False, False])
        >>> histogram(jnp.array([0.2, 0.9]), yes, no, jnp.array([0.5]))[:, 1, 0].tolist()
        [1, 1]
    """
    rows = checks.rows(scores, y, a, weights, weightless=True, num_groups=num_groups)
    counts = histogram_of_rows(rows, _sorted(cuts), num_groups)
    if rows.valid is None:
        return counts
    if jnp.issubdtype(counts.dtype, jnp.floating):
        return rows.or_nan(counts)
    return jnp.where(rows.valid, counts, INVALID)


def histogram_of_rows(
    rows: checks.Rows, cuts: Float[AnyArray, " t"], num_groups: int = 2, *, squared: bool = False
) -> Histogram:
    """Compute `histogram` for checked rows.

    Args:
        rows: scores, labels, groups and weights, from `fairjax.checks.rows`.
        cuts: thresholds in increasing order.
        num_groups: number of groups.
        squared: whether to sum the squares of the weights, from which effective numbers of rows are computed.

    Returns:
        Counts (t + 1, label, group); integers if rows have neither weights nor memberships.
    """
    cuts = jnp.asarray(cuts).astype(rows.values.dtype)
    exceeded = _below(cuts, rows.values)
    cell = exceeded * 2 + rows.y.astype(exceeded.dtype)
    bins = cuts.shape[0] + 1
    weights = rows.weights**2 if squared and rows.weights is not None else rows.weights
    if rows.a.ndim == 2:
        members = rows.a if weights is None else rows.a * weights[:, None]
        return cell_sums(members, cell, bins * 2).reshape(bins, 2, num_groups)
    cell = cell * num_groups + rows.a.astype(exceeded.dtype)
    if weights is not None:
        return cell_sums(weights[:, None], cell, bins * 2 * num_groups).reshape(bins, 2, num_groups)
    counted = jnp.ones(rows.values.shape, jnp.int32)
    return jax.ops.segment_sum(counted, cell, num_segments=bins * 2 * num_groups).reshape(bins, 2, num_groups)


INVALID = np.int32(np.iinfo(np.int32).min)
"""Value of all integer counts if traced rows are invalid, since integers have no NaN; tables made from it are NaN."""


def _sorted(cuts: Any) -> Float[AnyArray, " t"]:
    """Check that thresholds are increasing, if they are concrete."""
    cuts = checks.floating(checks.vector("cuts", cuts))
    if not isinstance(cuts, jax.core.Tracer) and (not cuts.size or not np.all(np.diff(np.asarray(cuts)) >= 0)):
        raise ValueError(f"cuts must be one or more thresholds in increasing order, without NaN, got {cuts}")
    return cuts


def _below(cuts: Float[Array, " t"], values: Float[Array, " n"]) -> Int[Array, " n"]:
    """Count the sorted cuts that are less than each value; all of them if the value is NaN."""
    last = cuts.shape[0] - 1
    if last < 1 or isinstance(cuts, jax.core.Tracer) or not np.array_equal(cuts, _grid(last + 1)):
        return jnp.searchsorted(cuts, values, side="left", method="scan_unrolled")
    # On an even grid the nearest cut is known, and only that one has to be compared.
    known = jnp.where(jnp.isnan(values), 2.0, values)
    nearest = jnp.round(jnp.clip(known, 0.0, 1.0) * last).astype(jnp.int32)
    return nearest + (cuts[nearest] < known).astype(jnp.int32)


def _grid(count: int) -> np.ndarray:
    """Make equally spaced numbers in [0, 1], each as close to c / (count - 1) as the dtype allows."""
    every = np.linspace(0.0, 1.0, count, dtype=np.float64)  # jnp.linspace would round inside jit
    return every.astype(jnp.result_type(float))


def tables(counts: Histogram) -> Float[Array, "t 2 2 G"]:
    """Compute the confusion table at every threshold, by one cumulative sum of a histogram.

    Args:
        counts: result of `histogram`, or a sum of such results.

    Returns:
        Counts (threshold, decision, label, group) for the decision `score > threshold`.

    Example:
        >>> yes, no = jnp.array([True, True]), jnp.array([False, False])
        >>> tables(histogram(jnp.array([0.2, 0.9]), yes, no, jnp.array([0.5])))[0, :, 1, 0].tolist()
        [1.0, 1.0]
    """
    total = jnp.sum(counts, axis=0, dtype=counts.dtype)
    rejected = jnp.cumsum(counts, axis=0, dtype=counts.dtype)[:-1]
    found = jnp.stack([rejected, total[None] - rejected], axis=1).astype(jnp.result_type(float))
    return found if jnp.issubdtype(counts.dtype, jnp.floating) else jnp.where(counts[0, 0, 0] < 0, jnp.nan, found)


def of_table(
    measure: Measure,
    table: Float[Array, "P Y G"],
    squared: Float[Array, "P Y G"] | None = None,
    whole: Float[Array, "P Y"] | None = None,
) -> Float[Array, ""]:
    """Compute a measure of parity from a confusion table (decision, label, group) instead of rows.

    Args:
        measure: the measure of bias; a function that is not a `Parity` needs a table of two classes and two groups.
        table: counts by decision, label and group.
        squared: sums of squared weights, if rows have weights; a `Parity` computes effective sizes from them.
        whole: counts of all rows by decision and label, if groups overlap.

    Returns:
        The measure of the counted rows.

    Example:
        >>> from fairjax.parity import spd
        >>> of_table(spd, jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])).item()
        0.0
    """
    if isinstance(measure, Parity):
        return measure.of_tensor(table, whole, squared)
    decision, y, a = _cells(table)
    return measure(decision, y, a, table.reshape(-1))


def noise_of_table(
    measure: Measure,
    table: Float[Array, "P Y G"],
    squared: Float[Array, "P Y G"] | None = None,
    whole: Float[Array, "P Y"] | None = None,
) -> Float[Array, ""]:
    """Compute the sum over rows of the squared derivative of a measure with respect to the row's value.

    If the values of rows are independent with variance v, the variance of the measure is, to first order, v times this
    number. For the statistical parity difference it is 1/n_0 + 1/n_1, and for equal opportunity the same among the
    positives. For more than two classes, the squared difference between the greatest and the least derivative is used.

    Args:
        measure: the measure of bias.
        table: counts by decision, label and group.
        squared: sums of squared weights by decision, label and group, if rows have weights.
        whole: counts of all rows by decision and label, if groups overlap.

    Returns:
        A scalar, not negative. It does not change if all weights are multiplied by a constant.

    Example:
        >>> from fairjax.parity import spd
        >>> round(noise_of_table(spd, jnp.full((2, 2, 2), 5.0)).item(), 6)  # 20 rows per group
        0.1
    """
    if isinstance(measure, Parity):
        slopes = jax.grad(lambda table: measure.of_tensor(table, whole, squared))(table)
        rows = jnp.sum(table if squared is None else squared, axis=0)
        return jnp.sum(rows * (jnp.max(slopes, axis=0) - jnp.min(slopes, axis=0)) ** 2)
    decision, y, a = _cells(table)
    weights = table.reshape(-1)
    slope = jax.grad(measure)(decision, y, a, weights)  # per cell of `weights` rows
    square = slope**2 / jnp.where(weights > 0, weights, 1.0)
    if squared is not None:
        square *= squared.reshape(-1) / jnp.where(weights > 0, weights, 1.0)
    return jnp.sum(square, where=weights > 0)


def is_defined(
    measure: Measure, table: Float[Array, "P Y G"], squared: Float[Array, "P Y G"] | None = None
) -> Bool[Array, ""]:
    """Return whether a table has the rows that a measure compares.

    The measures of `fairjax.parity.MEASURES` and every `Parity` define which rows they need. Any other measure is
    considered to be defined if it depends on the decision for at least one row.

    Args:
        measure: the measure of bias.
        table: counts by decision, label and group.
        squared: sums of squared weights, if rows have weights.

    Returns:
        A boolean; if it is false, the value of the measure is meaningless.

    Example:
        >>> from fairjax.parity import eod
        >>> is_defined(eod, jnp.array([[[5.0, 5.0], [5.0, 0.0]], [[5.0, 5.0], [5.0, 0.0]]])).item()
        False
    """
    parity = as_parity(measure)
    if parity is not None:
        return parity.is_defined(table, squared)
    decision, y, a = _cells(table)
    # Avoid 0, 1 and equal rates, at which a derivative may vanish for other reasons.
    slope = jax.grad(measure)(0.3 + 0.05 * jnp.arange(decision.shape[0], dtype=decision.dtype), y, a, table.reshape(-1))
    return jnp.any((slope != 0) & (table.reshape(-1) > 0))


def accuracy_of_table(table: Float[Array, "P Y G"]) -> Float[Array, ""]:
    """Compute balanced accuracy from a confusion table (decision, label, group) instead of rows.

    Example:
        >>> accuracy_of_table(jnp.array([[[3.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])).item()
        0.625
    """
    if table.shape[:2] == (2, 2):
        cell, weights = jnp.arange(table.size) // table.shape[2], table.reshape(-1)
        decision, y = (cell // 2).astype(jnp.result_type(float)), cell % 2 == 1
        accepted, positives = rate(decision, y, weights)
        falsely, negatives = rate(decision, ~y, weights)
        return _mean(jnp.stack([accepted, 1.0 - falsely]), jnp.stack([positives, negatives]))
    whole = jnp.sum(table, axis=2)
    rows = jnp.sum(whole, axis=0)
    there = ~(rows <= 0)
    return _mean(jnp.diagonal(whole) / jnp.where(there, rows, 1.0), there)


def _cells(table: Float[Array, "2 2 2"]) -> tuple[Float[Array, "8"], Bool[Array, "8"], Bool[Array, "8"]]:
    """Return decision, label and group of the eight cells of a table."""
    if table.shape != (2, 2, 2):
        raise ValueError(
            f"a measure that is a plain function takes two classes and two groups, found a table of shape "
            f"{table.shape}: make a fairjax.Parity, for example by fairjax.parity.named"
        )
    cell = jnp.arange(8)
    return (cell // 4).astype(jnp.result_type(float)), (cell // 2) % 2 == 1, cell % 2 == 1
