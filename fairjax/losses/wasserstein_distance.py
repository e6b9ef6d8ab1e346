"""Wasserstein distances between groups as a term: of the scores, or of projections of a layer."""

from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from fairjax.checks import floating
from fairjax.hyperparameters import check_at_least, check_choice, static
from fairjax.losses.base import Outputs, Term, term
from fairjax.losses.grouping import NOTIONS, Notion, compared_rows, matrix
from fairjax.losses.transport import check_transport, wasserstein
from fairjax.metrics.proxies import probabilities
from fairjax.types import KeyArray, Rows


@term
class Wasserstein(Term):
    """The Wasserstein distance between the groups' distributions of scores, or the sliced one of a layer.

    The sliced distance is the mean over random directions of the distance between the projections on a direction. The
    directions are drawn once, and are constant during training.

    Example:
        >>> from fairjax.types import Batch
        >>> batch = Batch(jnp.ones((2, 1)), jnp.array([True, False]), jnp.array([True, False]))
        >>> Wasserstein().value((), Outputs(jnp.array([-100.0, 100.0]), {}), batch).item()
        1.0
    """

    label: ClassVar[str] = "Wasserstein"
    reference: ClassVar[str] = "Jiang et al. 2019"
    equation: ClassVar[str] = "integral over t of |F0^-1(t) - F1^-1(t)|"
    zero_at_parity: ClassVar[bool] = True

    layer: str | None = static(None)
    """The layer of the sliced distance: "last", "output", or a layer with units by its name; the scores if omitted."""
    directions: int = static(64)
    """Number of directions of the sliced distance."""
    order: Literal[1, 2] = static(1)
    """Order of the distance; for 2, its square."""
    levels: int | None = static(None)
    """Number of levels of the quantile functions; exact if omitted."""
    smoothing: float = static(0.0)
    """For order 1, |d| is replaced by sqrt(d^2 + smoothing^2) - smoothing."""
    notion: Notion = static("parity")
    """Compare all rows of the groups; "odds", rows of each class; "opportunity", rows of class 1."""
    against: Literal["pairs", "all"] = static("pairs")
    """Sum over all pairs of groups, or over the distances of each group from all rows."""
    num_groups: int | None = static(None)
    """Number of groups; that of the data if omitted."""
    num_classes: int | None = static(None)
    """Number of classes; that of the data if omitted."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_choice("notion", self.notion, NOTIONS)
        check_transport(self.against, self.order, self.levels, self.smoothing)
        check_at_least("directions", self.directions, 1)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layer, unless the distance is that of the scores."""
        return () if self.layer is None else (self.layer,)

    def init(self, key: KeyArray, outputs: Outputs, batch: Rows) -> PyTree[Array]:
        """Draw the directions of the sliced distance, columns of length 1."""
        del batch
        if self.layer is None:
            return ()
        h = outputs.layers[self.layer]
        drawn = jax.random.normal(key, (h.shape[1], self.directions), jnp.promote_types(h.dtype, jnp.float32))
        return drawn / jnp.linalg.norm(drawn, axis=0, keepdims=True)

    def value(self, params: PyTree[Array], outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the distance of a mini-batch; 0 if fewer than two groups are present."""
        if self.layer is None:
            values = probabilities(floating(outputs.logits))
        else:
            h = matrix(self.layer, outputs.layers[self.layer])
            values = jnp.matmul(h, params, precision="highest")
        weights, y = compared_rows(self.notion, batch, values.dtype)
        options = {"against": self.against, "order": self.order, "levels": self.levels, "smoothing": self.smoothing}
        counts = {"num_groups": self.num_groups, "num_classes": self.num_classes or 2}
        return wasserstein(values, batch.a, weights, y=y, **options, **counts)

    def own_optimiser(self) -> optax.GradientTransformation:
        """Return an optimiser without state, since directions do not learn."""
        return optax.identity()

    def update(
        self, params: PyTree[Array], optimiser: optax.OptState, outputs: Outputs, batch: Rows
    ) -> tuple[PyTree[Array], optax.OptState]:
        """Keep the directions."""
        del outputs, batch
        return params, optimiser
