"""Residual decomposition: inputs without the group, and a residual that carries it."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.hyperparameters import check_choice, static
from fairjax.losses.base import LAST, Outputs, Term, term
from fairjax.losses.cross_entropy import weighted_mean
from fairjax.losses.grouping import NOTIONS, Notion, compared_rows, matrix
from fairjax.losses.hsic import hsic
from fairjax.types import Number, Rows, weights_of


@term
class Residual(Term):
    """Dependence of translated features on the group, minus that of the residual, plus a reconstruction error.

    For a network that translates its features x into features x~ of the same space and predicts from these, such as
    `fairjax.nn.ResidualDecomposition`: the residual x - x~ should encode the group, and x~ should not. Parity
    is reached for the predictions of this network only: another classifier of x~ may still find the group, since a
    Gaussian kernel of many features hardly changes with a small shift along one direction. `linear` adds a kernel that
    does. The term is not in `TERMS`, since it needs a network of this kind.

    References:
        Quadrianto, Sharmanska, Thomas (2019), Discovering fair representations in the data domain, CVPR,
        https://arxiv.org/abs/1810.06755

    Example:
        >>> Residual(weight=20.0).reconstruction
        0.0001
    """

    label: ClassVar[str] = "Residual"
    reference: ClassVar[str] = "Quadrianto et al. 2019"
    equation: ClassVar[str] = "HSIC(x~, a) - HSIC(x - x~, a) + reconstruction * mean of |x - x~|^2"

    reconstruction: Number = 1e-4
    """Weight of the mean squared residual, relative to the dependence."""
    notion: Notion = static("parity")
    """Compare all rows of the groups; "odds", rows of each class; "opportunity", rows of class 1, as in the paper."""
    linear: Number = 0.0
    """Weight of the linear kernel beside the mean of the Gaussian ones."""
    num_groups: int | None = static(None)
    """Number of groups; that of the data if omitted."""
    num_classes: int | None = static(None)
    """Number of classes; that of the data if omitted."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_choice("notion", self.notion, NOTIONS)
        for name in ("reconstruction", "linear"):
            number = getattr(self, name)
            if isinstance(number, int | float) and not 0 <= number < float("inf"):
                raise ValueError(f"{name} must be a finite number, at least 0, got {number}")

    @property
    def layers(self) -> tuple[str, ...]:
        """The translated features, which are the input of the network's last layer."""
        return (LAST,)

    def value(self, params: Any, outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the term for a mini-batch; the dependence is 0 if fewer than two groups are present.

        Raises:
            ValueError: if the input of the last layer does not have the shape of the features.
        """
        del params
        translated = matrix(LAST, outputs.layers[LAST])
        if getattr(batch.x, "shape", None) != translated.shape:
            raise ValueError(
                "the term residual needs a network whose last layer takes translated features of the shape of x, "
                f"{getattr(batch.x, 'shape', type(batch.x).__name__)}, found {translated.shape}: use "
                "fairjax.nn.ResidualDecomposition"
            )
        residual = jnp.asarray(batch.x).astype(translated.dtype) - translated
        weights, y = compared_rows(self.notion, batch, translated.dtype)
        options: dict[str, Any] = {"num_groups": self.num_groups, "num_classes": self.num_classes or 2}
        dependence, kept = (
            hsic(part, batch.a, weights, y=y, linear=self.linear, **options) for part in (translated, residual)
        )
        error = weighted_mean(jnp.sum(jnp.square(residual), axis=1), weights_of(batch))
        return dependence - kept + jnp.asarray(self.reconstruction, error.dtype) * error
