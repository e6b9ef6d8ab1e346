"""Confusion tables by threshold and cell of rows, where a measure compares other groups than have thresholds."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fairjax import checks
from fairjax.metrics import Measure, Parity
from fairjax.selection.evaluation import ThresholdTables, threshold_tables


def tables_of_cells(
    measure: Measure, rows: checks.CheckedRows, cells: Int[Array, " n"], count: int, cuts: Float[Array, " t"]
) -> ThresholdTables:
    """Compute the confusion tables of the measure's groups at every threshold, for the rows of each cell.

    Args:
        measure: the measure of bias.
        rows: checked rows, whose groups are those of the measure.
        cells: code of the cell of each row.
        count: number of cells.
        cuts: thresholds in increasing order.

    Returns:
        Tables with a leading axis of cells.

    Raises:
        ValueError: if the measure solves for memberships, which is not a sum over cells.

    Example:
        >>> from fairjax.metrics import spd
        >>> rows = checks.rows([0.2, 0.9], [0, 1], [1, 0])
        >>> tables_of_cells(spd, rows, jnp.array([0, 2]), 3, jnp.array([0.5])).table.shape
        (3, 1, 2, 2, 2)
    """
    if isinstance(measure, Parity) and measure.membership == "solved":
        raise ValueError(
            "thresholds by cell need counts that are sums over cells, which solved memberships are not: give a measure "
            'with membership="weighted"'
        )
    ones = jnp.ones_like(rows.values) if rows.weights is None else rows.weights

    def of_cell(cell: Int[Array, ""]) -> ThresholdTables:
        there = rows._replace(weights=jnp.where(cells == cell, ones, 0.0))
        tables = threshold_tables(measure, there, cuts)
        return tables if rows.weights is not None else tables._replace(squared=None)

    return jax.lax.map(of_cell, jnp.arange(count, dtype=cells.dtype))


def tables_at(tables: ThresholdTables, indices: Int[Array, "c cells"]) -> ThresholdTables:
    """Add the tables of all cells, each at the threshold of its cell.

    Args:
        tables: result of `tables_of_cells`.
        indices: number of each cell's threshold, one row per combination.

    Returns:
        Tables with a leading axis of combinations.

    Example:
        >>> tables = ThresholdTables(jnp.arange(4.0).reshape(2, 2, 1, 1, 1))
        >>> tables_at(tables, jnp.array([[0, 1], [1, 0]])).table.ravel().tolist()
        [3.0, 3.0]
    """

    def add(table: Any) -> Any:
        return jnp.sum(jax.vmap(lambda of_cell, index: of_cell[index], in_axes=(0, 1))(table, indices), axis=0)

    return jax.tree.map(add, tables)
