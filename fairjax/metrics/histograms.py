"""Histograms of scores, from which the confusion table at every threshold follows.

A threshold search needs the confusion table at each of 101 thresholds. The counts are computed by one histogram of the
scores and one cumulative sum, and they add up exactly over chunks of rows, devices and hosts. A measure of parity is
applied to a table by the same function as to rows: the table's eight cells are the rows, and the counts are their
weights.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from fairjax import checks
from fairjax.metrics.confusion import cell_sums
from fairjax.types import AnyArray

Histogram = Int[Array, "bins Y G"] | Float[Array, "bins Y G"]


def threshold_grid(count: int = 101) -> Float[Array, " t"]:
    """Return `count` equally spaced thresholds in [0, 1].

    Example:
        >>> threshold_grid(3).tolist()
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
        Counts (t + 1, label, group). If traced rows are invalid, all counts are NaN or, for integers, `INVALID_COUNT`.

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
    return jnp.where(rows.valid, counts, INVALID_COUNT)


def histogram_of_rows(
    rows: checks.CheckedRows, cuts: Float[AnyArray, " t"], num_groups: int = 2, *, squared: bool = False
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


INVALID_COUNT = np.int32(np.iinfo(np.int32).min)
"""Value of all integer counts if traced rows are invalid, since integers have no NaN; tables made from it are NaN."""


def _sorted(cuts: Any) -> Float[AnyArray, " t"]:
    """Check that thresholds are increasing, if they are concrete."""
    cuts = checks.floating(checks.vector("cuts", cuts))
    if isinstance(cuts, Tracer):
        return cuts
    steps = np.asarray(np.diff(np.asarray(cuts)), float)
    if not cuts.size or not np.all(steps >= 0):
        raise ValueError(f"cuts must be one or more thresholds in increasing order, without NaN, got {cuts}")
    return cuts


def _below(cuts: Float[Array, " t"], values: Float[Array, " n"]) -> Int[Array, " n"]:
    """Count the sorted cuts that are less than each value; all of them if the value is NaN."""
    intervals = cuts.shape[0] - 1
    if intervals < 1 or isinstance(cuts, Tracer) or not np.array_equal(cuts, _grid(intervals + 1)):
        return jnp.searchsorted(cuts, values, side="left", method="scan_unrolled")
    # On an even grid the nearest cut is known, and only that one has to be compared.
    finite = jnp.where(jnp.isnan(values), 2.0, values)
    nearest = jnp.round(jnp.clip(finite, 0.0, 1.0) * intervals).astype(jnp.int32)
    return nearest + (cuts[nearest] < finite).astype(jnp.int32)


def _grid(count: int) -> np.ndarray:
    """Make equally spaced numbers in [0, 1], each as close to c / (count - 1) as the dtype allows."""
    grid = np.linspace(0.0, 1.0, count, dtype=np.float64)  # jnp.linspace would round inside jit
    return grid.astype(jnp.result_type(float))


def tables_by_threshold(counts: Histogram) -> Float[Array, "t 2 2 G"]:
    """Compute the confusion table at every threshold, by one cumulative sum of a histogram.

    Args:
        counts: result of `histogram`, or a sum of such results.

    Returns:
        Counts (threshold, decision, label, group) for the decision `score > threshold`.

    Example:
        >>> yes, no = jnp.array([True, True]), jnp.array([False, False])
        >>> tables_by_threshold(histogram(jnp.array([0.2, 0.9]), yes, no, jnp.array([0.5])))[0, :, 1, 0].tolist()
        [1.0, 1.0]
    """
    total = jnp.sum(counts, axis=0, dtype=counts.dtype)
    rejected = jnp.cumsum(counts, axis=0, dtype=counts.dtype)[:-1]
    tables = jnp.stack([rejected, total[None] - rejected], axis=1).astype(jnp.result_type(float))
    return tables if jnp.issubdtype(counts.dtype, jnp.floating) else jnp.where(counts[0, 0, 0] < 0, jnp.nan, tables)
