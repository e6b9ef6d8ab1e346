"""Similar instances by nearest neighbours."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fairjax.checks import floating, numeric
from fairjax.detect.counterfactual.columns import is_concrete
from fairjax.detect.rows import map_chunks
from fairjax.hyperparameters import check_at_least
from fairjax.types import AnyArray

QUERIES = 512
"""Default number of queries whose neighbours are searched at a time."""
ROWS = 8192
"""Number of rows that are compared with the queries at a time."""


class SimilarInstances(NamedTuple):
    """The nearest neighbours of each query, nearest first."""

    indices: Int[Array, "q k"]
    """Row numbers in `x`."""
    distances: Float[Array, "q k"]
    """Euclidean distances."""


def similar_instances(
    x: Any,
    query: Any,
    k: int,
    *,
    where: Bool[AnyArray, " n"] | None = None,
    own_rows: Int[AnyArray, " q"] | None = None,
    chunk: int | None = QUERIES,
) -> SimilarInstances:
    """Find the rows that are most similar to each query.

    The features define similarity: pass those that should matter, on a common scale, and leave out the protected
    attribute if rows of both groups should count as similar.

    Args:
        x: rows of features, (n, d), standardised.
        query: rows whose neighbours are wanted, (q, d).
        k: number of neighbours.
        where: which rows can be neighbours, such as those of one group; all if omitted.
        own_rows: for each query a row that is not its neighbour: the row number of the query itself.
        chunk: number of queries at a time, which bounds the memory; all at once if None.

    Returns:
        Row numbers and Euclidean distances. Among equal distances, the first row comes first, up to rounding. Under a
        trace, distances are NaN if there are fewer than k rows or a feature is NaN.

    Raises:
        ValueError: if shapes differ, a value is not finite, or there are fewer than k rows.
        TypeError: if features are anything but numbers.

    Example:
        >>> x = jnp.array([[0.0], [1.0], [5.0]])
        >>> similar_instances(x, jnp.array([[4.0]]), 2).indices.tolist()
        [[2, 1]]
    """
    check_at_least("k", k, 1)
    table, points = feature_matrix("x", x), feature_matrix("query", query)
    n, q = table.shape[0], points.shape[0]
    if table.shape[1] != points.shape[1]:
        raise ValueError(f"query must have the {table.shape[1]} columns of x, found shape {points.shape}")
    points = points.astype(table.dtype)
    allowed = jnp.ones(n, bool) if where is None else jnp.asarray(where)
    if allowed.shape != (n,) or allowed.dtype != bool:
        raise ValueError(f"where must be one boolean per row of x, {n}, found {allowed.dtype} of shape {allowed.shape}")
    own = jnp.full(q, -1, jnp.int32) if own_rows is None else jnp.asarray(own_rows).astype(jnp.int32)
    if own.shape != (q,):
        raise ValueError(f"own_rows must be one row number per query, {q}, found shape {own.shape}")
    fewer = 0 if own_rows is None else 1
    available = int(np.sum(np.asarray(allowed))) if is_concrete(allowed) else n
    if available - fewer < k:
        less = ", less the query itself" if fewer else ""
        raise ValueError(f"k must be at most the number of rows, {available}{less}, got {k}: take fewer neighbours")
    centre = jnp.mean(table, axis=0)
    table, points = table - centre[None], points - centre[None]  # so that products lose less to rounding
    count = min(2 * k + 8, n)

    def nearest(rows: tuple[Array, Array]) -> tuple[Array, Array]:
        candidates = _candidates(table, allowed, *rows, count)
        return _ordered(table, allowed, *rows, candidates, k)

    indices, distances = map_chunks(nearest, (points, own), chunk=chunk)
    return SimilarInstances(indices, distances)


def _candidates(table: Array, allowed: Array, points: Array, own: Array, count: int) -> Int[Array, "q c"]:
    """Return rows among which the nearest ones are: the nearest by distances from a matrix product."""
    n, step = table.shape[0], min(ROWS, table.shape[0])
    squares = jnp.sum(points**2, axis=1)

    def merge(best: tuple[Array, Array], start: Array) -> tuple[tuple[Array, Array], None]:
        numbers = start * step + jnp.arange(step, dtype=jnp.int32)
        rows = table[jnp.minimum(numbers, n - 1)]
        products = jnp.matmul(points, rows.T, precision="highest")
        distances = squares[:, None] + jnp.sum(rows**2, axis=1)[None] - 2 * products
        usable = (numbers < n) & allowed[jnp.minimum(numbers, n - 1)]
        distances = jnp.where(usable[None] & (numbers[None] != own[:, None]), distances, jnp.inf)
        all_distances = jnp.concatenate([best[0], distances], axis=1)
        all_numbers = jnp.concatenate([best[1], jnp.broadcast_to(numbers[None], distances.shape)], axis=1)
        least, places = jax.lax.top_k(-all_distances, count)
        return (-least, jnp.take_along_axis(all_numbers, places, axis=1)), None

    empty = jnp.full((len(points), count), jnp.inf, table.dtype), jnp.zeros((len(points), count), jnp.int32)
    starts = jnp.arange(-(-n // step), dtype=jnp.int32)
    return jax.lax.scan(merge, empty, starts)[0][1]


def _ordered(
    table: Array, allowed: Array, points: Array, own: Array, candidates: Int[Array, "q c"], k: int
) -> tuple[Int[Array, "q k"], Float[Array, "q k"]]:
    """Order candidates by their exact distances, and equal distances by row numbers; return the first k."""
    candidates = jnp.sort(candidates, axis=1)
    repeated = jnp.diff(candidates, axis=1, prepend=-1) == 0  # places that no row has filled
    distances = jnp.linalg.norm(table[candidates] - points[:, None], axis=2)
    usable = allowed[candidates] & (candidates != own[:, None]) & ~repeated
    least, places = jax.lax.top_k(-jnp.where(usable | jnp.isnan(distances), distances, jnp.inf), k)
    found = jnp.where(jnp.isfinite(least), -least, jnp.nan)  # fewer than k rows, under a trace
    return jnp.take_along_axis(candidates, places, axis=1), found


def feature_matrix(name: str, x: Any) -> Float[Array, "n d"]:
    """Check features whose distances are computed.

    Raises:
        ValueError: if they are not a matrix, or a concrete value is not finite.
        TypeError: if they are anything but numbers.

    Example:
        >>> feature_matrix("x", [[1, 2]]).dtype
        dtype('float32')
    """
    array = numeric(name, x)
    if array.ndim != 2 or not array.size:
        raise ValueError(
            f"{name} must be a matrix of features with at least one row, (n, d), found shape {array.shape}: reshape "
            "images to (n, -1)"
        )
    if is_concrete(array):
        wrong = ~np.isfinite(np.asarray(array).astype(np.float64))
        if wrong.any():
            raise ValueError(f"{name} has missing or infinite values, the first in row {np.argwhere(wrong)[0][0]}")
    return floating(array)
