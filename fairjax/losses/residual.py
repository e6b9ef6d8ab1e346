"""Residual decomposition: what depends on the group is to be in the residual, not in the transformed features."""

import dataclasses
from typing import Any, ClassVar

from jaxtyping import Array, Float

from fairjax.hyperparameters import check_choice, static
from fairjax.losses.base import LAST, Data, Outputs, Term, term
from fairjax.losses.features import feature_matrix
from fairjax.losses.grouping import NOTIONS, Notion, compared_rows
from fairjax.losses.hsic import hsic
from fairjax.losses.kernels import WIDTHS, check_widths
from fairjax.types import Number, Rows


@term
class Residual(Term):
    """HSIC of transformed features and group minus HSIC of the residual, x minus transformed features, and group.

    The network computes transformed features in the space of x, as `fairjax.nn.ResidualDecomposition` does, and
    predicts from them. With `Reconstruction(decoder="identity")`, the transformed features remain close to x: they are
    what a fair input would have been, and the residual shows what was removed. Kernels of many features hardly see a
    small shift along one direction, hence the linear kernel; whether another classifier of the transformed features
    is fair is still to be measured.

    References:
        Quadrianto, Sharmanska, Thomas (2019), Discovering fair representations in the data domain, CVPR,
        https://arxiv.org/abs/1810.06755

    Example:
        >>> from fairjax.losses import Loss, Reconstruction
        >>> Loss(terms=(Residual(weight=10.0), Reconstruction(weight=1e-4, decoder="identity"))).layers
        ('last',)
    """

    label: ClassVar[str] = "Residual decomposition"
    reference: ClassVar[str] = "Quadrianto et al. 2019"
    equation: ClassVar[str] = "HSIC(x~, a | y = 1) - HSIC(x - x~, a | y = 1)"

    layer: str = static(LAST)
    """The layer with the transformed features x~, as wide as x."""
    notion: Notion = static("opportunity")
    """Compare all rows of the groups ("parity"), rows of each class ("odds"), or rows of class 1 ("opportunity")."""
    widths: tuple[float, ...] = static(WIDTHS)
    """Widths of the Gaussian kernels, relative to the mean squared distance of a mini-batch's rows."""
    linear: Number = 1.0
    """Weight of the linear kernel beside the mean of the Gaussian ones; 0 for none."""
    num_groups: int | None = static(None)
    """Number of groups; that of the data if omitted."""
    num_classes: int | None = static(None)
    """Number of classes; that of the data if omitted."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_choice("notion", self.notion, NOTIONS)
        check_widths(self.widths)
        if isinstance(self.linear, int | float) and not 0 <= self.linear < float("inf"):
            raise ValueError(f"linear must be a finite number, at least 0, got {self.linear}")

    @property
    def layers(self) -> tuple[str, ...]:
        """The layer with the transformed features."""
        return (self.layer,)

    def bind(self, data: Data) -> "Residual":
        """Take the numbers of groups and classes of the data, unless they are given.

        Raises:
            ValueError: if the features are not one matrix of numbers.
        """
        feature_matrix("residual", data.rows.x)
        groups, classes = self.num_groups or data.num_groups, self.num_classes or data.num_classes
        return dataclasses.replace(self, num_groups=groups, num_classes=classes)

    def value(self, params: Any, outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the difference of a mini-batch; 0 if fewer than two groups are present.

        Raises:
            ValueError: if the layer is not as wide as x.
        """
        del params
        transformed = outputs.layers[self.layer]
        x = feature_matrix("residual", batch.x).astype(transformed.dtype)
        if transformed.shape != x.shape:
            raise ValueError(
                f"the term residual needs a layer as wide as x, {x.shape[1]} features, found {transformed.shape[1]} "
                f"units in {self.layer!r}: use fairjax.nn.ResidualDecomposition"
            )
        weights, y = compared_rows(self.notion, batch, transformed.dtype)
        counts = {"num_groups": self.num_groups, "num_classes": self.num_classes or 2}

        def dependence(h: Float[Array, "m d"]) -> Float[Array, ""]:
            return hsic(h, batch.a, weights, y=y, widths=self.widths, linear=self.linear, **counts)

        return dependence(transformed) - dependence(x - transformed)
