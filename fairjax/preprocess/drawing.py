"""Draw given numbers of rows from cells: every row of a cell occurs equally often, up to one."""

import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from fairjax.checks import all_valid
from fairjax.data.unscaled import nan_where_invalid
from fairjax.preprocess.cells import Cells
from fairjax.types import Rows, WeightedBatch, take, weights_of


def quotas(shares: Float[Array, " cells"], rows: int) -> Int[Array, " cells"]:
    """Divide a number of rows among cells by their shares, up to one row; the sum is exact.

    Example:
        >>> quotas(jnp.array([1.0, 1.0, 2.0]), 10).tolist()
        [2, 3, 5]
    """
    ends = jnp.cumsum(shares)
    total = jnp.where(ends[-1] > 0, ends[-1], 1.0)
    # The last end is 1 exactly, whatever the rounding of the sum.
    rounded = jnp.round(ends / total * rows).at[-1].set(rows).astype(jnp.int32)
    return jnp.diff(rounded, prepend=jnp.zeros(1, jnp.int32))


def rank_in_cell(codes: Int[Array, " n"], order: Float[Array, " n"], count: int) -> Int[Array, " n"]:
    """Return the place of each row in its cell when the rows of a cell are sorted by `order`.

    Example:
        >>> rank_in_cell(jnp.array([0, 1, 0]), jnp.array([0.5, 0.1, 0.2]), 2).tolist()
        [1, 0, 0]
    """
    n = codes.shape[0]
    in_order = jnp.lexsort((order, codes)).astype(jnp.int32)
    sizes = jnp.bincount(codes, length=count).astype(jnp.int32)
    first = jnp.cumsum(sizes) - sizes
    place = jnp.arange(n, dtype=jnp.int32) - first[codes[in_order]].astype(jnp.int32)
    return jnp.zeros(n, jnp.int32).at[in_order].set(place)


def draw(
    codes: Int[Array, " n"], quota: Int[Array, " cells"], order: Float[Array, " n"], rows: int
) -> tuple[Int[Array, " rows"], Bool[Array, ""]]:
    """Draw `quota[c]` rows from each cell c; rows that come first in `order` are drawn once more often than the others.

    Args:
        codes: cell of each row.
        quota: number of rows to draw from each cell, with the sum `rows`.
        order: numbers by which the rows of a cell are sorted; random numbers for a random draw.
        rows: number of rows.

    Returns:
        Row numbers, in increasing order, and whether no cell with a quota is empty.

    Example:
        >>> codes, order = jnp.array([0, 0, 0, 1, 1]), jnp.array([0.3, 0.1, 0.2, 0.9, 0.8])
        >>> draw(codes, jnp.array([2, 3]), order, 5)[0].tolist()
        [1, 2, 3, 4, 4]
    """
    sizes = jnp.bincount(codes, length=quota.shape[0]).astype(jnp.int32)
    full, rest = jnp.divmod(quota, jnp.maximum(sizes, 1))
    times = full[codes] + (rank_in_cell(codes, order, quota.shape[0]) < rest[codes]).astype(full.dtype)
    n = codes.shape[0]
    drawn = jnp.repeat(jnp.arange(n, dtype=jnp.int32), times, total_repeat_length=rows)
    return drawn, jnp.all((quota == 0) | (sizes > 0))


def drawn_rows(
    train: Rows,
    cells: Cells,
    drawn: Int[Array, " rows"],
    wanted: Float[Array, "classes groups"],
    filled: Bool[Array, ""],
) -> Rows:
    """Return the drawn rows.

    If rows have weights, those of a cell are multiplied by one number, so that the cells have the shares `wanted` by
    weight, and the total weight per row does not change.

    Args:
        train: the train rows.
        cells: their cells.
        drawn: numbers of the drawn rows.
        wanted: shares of the cells, up to a factor.
        filled: whether all cells have rows.
    """
    rows = take(train, drawn)
    valid = all_valid(cells.valid, filled)
    if isinstance(valid, Tracer):  # concrete rows have been checked
        rows = rows._replace(x=nan_where_invalid(rows.x, valid))
    if weights_of(train) is None:
        return rows
    after = Cells(cells.codes[drawn], cells.weights[drawn], cells.shape, None)
    total = jnp.mean(cells.weights) * drawn.shape[0]
    wanted = wanted / jnp.sum(wanted) * total
    factor = wanted / jnp.where(after.total_weights > 0, after.total_weights, 1.0)
    return WeightedBatch(rows.x, rows.y, rows.a, after.weights * factor.reshape(-1)[after.codes])
