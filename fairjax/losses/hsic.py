"""Hilbert-Schmidt independence criterion: the dependence of a layer and the group, in a space of kernels."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.checks import nan_unless
from fairjax.hyperparameters import check_choice, static
from fairjax.losses.base import LAST, Outputs, Term, term
from fairjax.losses.grouping import NOTIONS, Grouped, Notion, compared_rows, grouped, matrix, positive
from fairjax.losses.kernels import WIDTHS, check_widths, kernel_form
from fairjax.types import Number, Rows


def hsic(
    h: Any,
    a: Any,
    weights: Any = None,
    *,
    y: Any = None,
    widths: tuple[float, ...] = WIDTHS,
    linear: Number = 0.0,
    num_groups: int | None = None,
    num_classes: int = 2,
) -> Float[Array, ""]:
    """Compute the Hilbert-Schmidt independence criterion of activations and groups (Gretton et al. 2005).

    The estimate is tr(K H L H) / (n - 1)^2, which is biased. L is 1 for two rows of one group and 0 otherwise, so the
    trace is a sum of u'Ku over the groups, where u is the centred indicator of a group; for two groups it is 2 u'Ku.
    K is the mean of Gaussian kernels, as for `mmd`, plus `linear` times the linear kernel divided by the mean squared
    distance. A Gaussian kernel of many units hardly changes with a small shift in one direction; the linear one does.

    Args:
        h: activations of shape (n, units), or numbers of shape (n,).
        a: groups: booleans, codes, or memberships of shape (n, groups).
        weights: non-negative weights of the rows; 1 if omitted. Only their ratios matter, and n is the number of rows
            whose weight is positive.
        y: labels; if given, the criterion is computed within each class, and the result is the mean over the classes.
        widths: widths of the Gaussian kernels, relative to the mean squared distance.
        linear: weight of the linear kernel.
        num_groups: number of groups; counted if omitted.
        num_classes: number of classes of `y`.

    Returns:
        A scalar; 0, with a gradient of 0, if fewer than two groups are present.

    Raises:
        ValueError: if shapes differ, or an argument is invalid.

    Example:
        >>> h = jnp.array([[0.0], [1.0], [0.0], [1.0]])
        >>> hsic(h, jnp.array([True, True, False, False])).item()
        0.0

    References:
        Gretton, Bousquet, Smola, Schölkopf: Measuring statistical dependence with Hilbert-Schmidt norms, ALT 2005.
    """
    check_widths(widths)
    h = matrix("h", h)
    rows = grouped(a, weights, y, like=h, num_groups=num_groups, num_classes=num_classes)
    form = kernel_form(h, _centred(rows), jnp.sum(rows.weights, axis=(1, 2)), widths, linear)
    value = jnp.where(jnp.any(rows.present), form, 0.0) / rows.weights.shape[1]
    return nan_unless(rows.valid, value)


def _centred(rows: Grouped) -> Float[Array, "n k"]:
    """Return the centred indicators of the groups in each stratum, scaled so that their forms sum to the criterion."""
    n, strata, groups = rows.weights.shape
    of_rows = jnp.sum(rows.weights, axis=2)
    total = positive(jnp.sum(of_rows, axis=0))
    centred = rows.weights - of_rows[:, :, None] * (rows.totals / total[:, None])[None]
    count = jnp.sum((of_rows > 0).astype(of_rows.dtype), axis=0)
    scale = count / positive(count - 1.0) / total
    compared = jnp.any(rows.present, axis=1).astype(of_rows.dtype)
    centred = centred * (scale * compared)[None, :, None]
    if groups == 2:
        return jnp.sqrt(jnp.asarray(2.0, centred.dtype)) * centred[:, :, 1]
    return centred.reshape(n, strata * groups)


@term
class Hsic(Term):
    """The Hilbert-Schmidt independence criterion of a layer's activations and the group.

    Example:
        >>> from fairjax.types import Batch
        >>> batch = Batch(jnp.ones((2, 1)), jnp.array([True, False]), jnp.array([True, False]))
        >>> outputs = Outputs(jnp.zeros(2), {"last": jnp.array([[1.0, 2.0], [1.0, 2.0]])})
        >>> Hsic().value((), outputs, batch).item()
        0.0
    """

    label: ClassVar[str] = "HSIC"
    reference: ClassVar[str] = "Gretton et al. 2005"
    equation: ClassVar[str] = "tr(K H L H) / (n - 1)^2"
    zero_at_parity: ClassVar[bool] = True

    layer: str = static(LAST)
    """The layer: "last", the input of the last layer; "output", the logits; or a layer with units by its name."""
    notion: Notion = static("parity")
    """Compare all rows of the groups; "odds", rows of each class; "opportunity", rows of class 1."""
    widths: tuple[float, ...] = static(WIDTHS)
    """Widths of the Gaussian kernels, relative to the mean squared distance of a mini-batch's rows."""
    linear: Number = 0.0
    """Weight of the linear kernel beside the mean of the Gaussian ones."""
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
        """The layer."""
        return (self.layer,)

    def value(self, params: Any, outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the criterion of a mini-batch; 0 if fewer than two groups are present."""
        del params
        h = matrix(self.layer, outputs.layers[self.layer])
        weights, y = compared_rows(self.notion, batch, h.dtype)
        classes = self.num_classes or 2
        counts = {"num_groups": self.num_groups, "num_classes": classes}
        return hsic(h, batch.a, weights, y=y, widths=self.widths, linear=self.linear, **counts)
