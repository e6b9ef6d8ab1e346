"""New rows from a Gaussian distribution of each cell of label and group."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jaxtyping import Array, Float, Int

from fairjax import linalg
from fairjax.preprocess.base import preprocessor
from fairjax.preprocess.cells import Cells
from fairjax.preprocess.correlation import check_share
from fairjax.preprocess.synthetic import RowGenerator, Template
from fairjax.types import KeyArray, Number


@preprocessor
class GaussianCells(RowGenerator):
    """Generate rows from the mean and the covariance of each cell, so that every group is as large as the largest one.

    Binary columns are drawn by a Gaussian copula: the greater value where the Gaussian number is above the quantile
    that keeps the share of this value in the cell. In a one-hot code, the column that is farthest above its quantile
    gets the greater value.

    Example:
        >>> from fairjax.types import Batch
        >>> x = jax.random.normal(jax.random.key(0), (12, 2))
        >>> y, a = jnp.arange(12) % 2 == 0, jnp.arange(12) < 8
        >>> rows = GaussianCells().apply(jax.random.key(1), Batch(x, y, a)).train
        >>> rows.x.shape, rows.a.sum().item()
        ((16, 2), 8)
    """

    label: ClassVar[str] = "Gaussian cells"
    reference: ClassVar[str] = "fairjax"
    equation: ClassVar[str] = "x ~ N(mean(y, a), covariance(y, a))"

    shrinkage: Number = 0.1
    """Share by which correlations are shrunk towards 0, from 0 to 1, since they are uncertain in a cell of few rows."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        super().__post_init__()
        check_share("shrinkage", self.shrinkage)

    def generated(
        self, key: KeyArray, template: Template, cells: Cells, codes: Int[Array, " m"]
    ) -> Float[Array, "m d"]:
        """Generate one row for each given cell."""
        x = template.x
        noise = jax.random.normal(key, (codes.shape[0], x.shape[1]), x.dtype)
        is_high = (x > (0.5 * (template.low + template.high))[None]).astype(x.dtype)

        def add_cell(carry, cell):
            values, votes = carry
            member = (cells.codes == cell).astype(x.dtype)[:, None]
            size = jnp.maximum(jnp.sum(member), 1)
            mean, share = jnp.sum(x * member, axis=0) / size, jnp.sum(is_high * member, axis=0) / size
            rows = (x - mean[None]) * member
            covariance = jnp.matmul(rows.T, rows, precision="highest") / size
            deviation = jnp.sqrt(jnp.diagonal(covariance))
            drawn = jnp.matmul(noise, self._factor(covariance).T, precision="highest")
            scores = drawn / jnp.where(deviation > 0, deviation, 1.0)[None] - ndtri(1 - share)[None]
            own = (codes == cell)[:, None]
            return (jnp.where(own, mean[None] + drawn, values), jnp.where(own, scores, votes)), None

        start = jnp.zeros_like(noise), jnp.zeros_like(noise)
        numbers = jnp.arange(cells.count, dtype=codes.dtype)
        (values, votes), _ = jax.lax.scan(add_cell, start, numbers)
        return template.restored(values, votes)

    def _factor(self, covariance: Float[Array, "d d"]) -> Float[Array, "d d"]:
        """Return a matrix whose product with its transpose is the covariance with shrunk correlations."""
        kept = 1 - jnp.asarray(self.shrinkage, covariance.dtype)
        diagonal = jnp.diagonal(covariance)
        shrunk = kept * covariance + jnp.diag((1 - kept) * diagonal)
        roots, vectors = linalg.eigh(shrunk)
        return vectors * jnp.sqrt(jnp.maximum(roots, 0.0))[None]
