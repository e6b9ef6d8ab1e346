"""SMOTE: new rows on the line from a row to one of its nearest neighbours in the same cell."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fairjax.hyperparameters import check_at_least, static
from fairjax.preprocess.base import preprocessor
from fairjax.preprocess.cells import Cells
from fairjax.preprocess.synthetic import RowGenerator, Template
from fairjax.types import KeyArray

BLOCK = 256
"""Number of generated rows whose distances to all train rows are computed at once."""

PRECISION = 1024.0
"""Distances are rounded to multiples of the inverse of this number, when features are standardised."""


@preprocessor
class Smote(RowGenerator):
    """Generate rows by SMOTE-NC, so that every group is as large as the largest one.

    A new row lies at a random place between a random row of its cell of label and group and one of the nearest
    neighbours of this row in the cell, drawn at random. Binary columns get the value that most of these neighbours
    have, and one-hot codes the most frequent category. Distances are Euclidean, with standardised features; different
    categories have the distance 1. A cell with a single row repeats it.

    The time grows with the number of generated rows times the number of train rows.

    Example:
        >>> from fairjax.types import Batch
        >>> x = jax.random.normal(jax.random.key(0), (12, 2))
        >>> y, a = jnp.arange(12) % 2 == 0, jnp.arange(12) < 8
        >>> rows = Smote(neighbours=2).apply(jax.random.key(1), Batch(x, y, a)).train
        >>> rows.x.shape, rows.a.sum().item()
        ((16, 2), 8)

    References:
        Chawla, Bowyer, Hall, Kegelmeyer (2002), SMOTE: synthetic minority over-sampling technique, Journal of
        Artificial Intelligence Research 16, https://doi.org/10.1613/jair.953
    """

    label: ClassVar[str] = "SMOTE"
    reference: ClassVar[str] = "Chawla et al. 2002"
    equation: ClassVar[str] = "x + u (x_neighbour - x), u ~ U(0, 1)"

    neighbours: int = static(5)
    """Number of nearest neighbours among which one is drawn."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        super().__post_init__()
        check_at_least("neighbours", self.neighbours, 1)

    def generated(
        self, key: KeyArray, template: Template, cells: Cells, codes: Int[Array, " m"]
    ) -> Float[Array, "m d"]:
        """Generate one row for each given cell."""
        base_key, neighbour_key, place_key = jax.random.split(key, 3)
        sizes = cells.sizes()
        base = _random_rows(base_key, cells, codes)
        distant = _distance_scale(template)
        table = template.x * distant[None]
        norms = jnp.sum(table**2, axis=1)
        count = min(self.neighbours, table.shape[0] - 1)

        def nearest(row):
            distance = norms - 2 * jnp.matmul(table, table[row], precision="highest")
            # Rows at one distance remain so, whatever the order of a sum; the first of them is then the nearest.
            distance = jnp.round(distance * PRECISION)
            same = (cells.codes == cells.codes[row]) & (jnp.arange(table.shape[0], dtype=row.dtype) != row)
            return jax.lax.top_k(jnp.where(same, -distance, -jnp.inf), max(count, 1))[1]

        neighbours = jax.lax.map(nearest, base, batch_size=BLOCK)
        available = jnp.minimum(sizes[codes] - 1, count)
        drawn = jnp.floor(jax.random.uniform(neighbour_key, base.shape) * available.astype(jnp.result_type(float)))
        drawn = jnp.clip(drawn.astype(jnp.int32), 0, jnp.maximum(available - 1, 0))
        other = jnp.take_along_axis(neighbours, drawn[:, None].astype(neighbours.dtype), axis=1)[:, 0]
        other = jnp.where(available > 0, other, base.astype(other.dtype))
        place = jax.random.uniform(place_key, (base.shape[0], 1), template.x.dtype)
        values = template.x[base] + place * (template.x[other] - template.x[base])
        return template.restored(values, _votes(template, base, neighbours, available))


def _random_rows(key: KeyArray, cells: Cells, codes: Int[Array, " m"]) -> Int[Array, " m"]:
    """Draw a random row of each given cell."""
    sizes = cells.sizes()
    n = cells.codes.shape[0]
    in_order = jnp.argsort(cells.codes, stable=True).astype(jnp.int32)
    first = jnp.cumsum(sizes) - sizes
    place = jnp.floor(jax.random.uniform(key, codes.shape) * sizes[codes].astype(jnp.result_type(float)))
    place = jnp.minimum(place.astype(jnp.int32), sizes[codes] - 1)
    return in_order[jnp.clip(first[codes].astype(jnp.int32) + place, 0, n - 1)]


def _distance_scale(template: Template) -> Float[Array, " d"]:
    """Return the factor of each column with which two categories, or two values of a binary column, differ by 1."""
    width = template.high - template.low
    of_code = jnp.where(template.in_code, 0.5**0.5, 1.0).astype(width.dtype)
    return jnp.where(template.is_binary, of_code / jnp.where(width > 0, width, 1.0), 1.0)


def _votes(
    template: Template, base: Int[Array, " m"], neighbours: Int[Array, "m k"], available: Int[Array, " m"]
) -> Float[Array, "m d"]:
    """Count the neighbours that have the greater value of each column, less those that have the smaller one.

    The row itself decides ties.
    """
    middle = 0.5 * (template.low + template.high)
    signs = jnp.where(template.x > middle[None], 1.0, -1.0).astype(template.x.dtype)
    votes = 0.5 * signs[base]
    for number in range(neighbours.shape[1]):
        counted = (number < available)[:, None].astype(votes.dtype)
        votes = votes + counted * signs[neighbours[:, number]]
    return votes
