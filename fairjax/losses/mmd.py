"""Maximum mean discrepancy: the distance between groups' distributions in a layer, in a space of kernels."""

from typing import Any, ClassVar, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.checks import nan_unless
from fairjax.hyperparameters import check_choice, static
from fairjax.losses.base import LAST, Outputs, Term, term
from fairjax.losses.grouping import NOTIONS, Grouped, Notion, compared_rows, grouped, matrix, pairs, positive
from fairjax.losses.kernels import WIDTHS, check_widths, kernel_form
from fairjax.types import Rows

Against = Literal["pairs", "all"]
"""With what a group is compared: each other group, or all rows."""


def mmd(
    h: Any,
    a: Any,
    weights: Any = None,
    *,
    y: Any = None,
    against: str = "pairs",
    widths: tuple[float, ...] = WIDTHS,
    num_groups: int | None = None,
    num_classes: int = 2,
) -> Float[Array, ""]:
    """Compute the squared maximum mean discrepancy between groups (Gretton et al. 2012), a V-statistic.

    For two groups it is mean k(h0, h0') + mean k(h1, h1') - 2 mean k(h0, h1), where k is the mean of Gaussian kernels
    whose widths are multiples of the mean squared distance, a constant for derivatives.

    Args:
        h: activations of shape (n, units), or numbers of shape (n,).
        a: groups: booleans, codes, or memberships of shape (n, groups).
        weights: non-negative weights of the rows; 1 if omitted.
        y: labels; if given, groups are compared within each class, and the result is the mean over the classes.
        against: "pairs" sums over all pairs of groups; "all" sums the distances of each group from all rows.
        widths: widths of the kernels, relative to the mean squared distance.
        num_groups: number of groups; counted if omitted.
        num_classes: number of classes of `y`.

    Returns:
        A scalar; 0, with a gradient of 0, if fewer than two groups are present.

    Raises:
        ValueError: if shapes differ, or an argument is invalid.

    Example:
        >>> h = jnp.array([[0.0], [1.0], [0.0], [1.0]])
        >>> mmd(h, jnp.array([True, True, False, False])).item()
        0.0

    References:
        Gretton, Borgwardt, Rasch, Schölkopf, Smola: A kernel two-sample test, JMLR 2012. Louizos, Swersky, Li, Welling,
        Zemel: The variational fair autoencoder, ICLR 2016.
    """
    check_choice("against", against, ("pairs", "all"))
    check_widths(widths)
    h = matrix("h", h)
    rows = grouped(a, weights, y, like=h, num_groups=num_groups, num_classes=num_classes)
    if against == "all":
        groups, everyone, present = pairs(rows, "all")
        contrasts = (groups - everyone) * present.astype(h.dtype)[None, :]
    else:
        contrasts = _of_pairs(rows)
    form = kernel_form(h, contrasts, jnp.sum(rows.weights, axis=(1, 2)), widths)
    value = jnp.where(jnp.any(rows.present), form, 0.0) / rows.weights.shape[1]
    return nan_unless(rows.valid, value)


def _of_pairs(rows: Grouped) -> Float[Array, "n k"]:
    """Return contrasts whose sum of forms is the sum over all pairs of groups: one per group, or one for two groups."""
    n, strata, groups = rows.weights.shape
    present = rows.present.astype(rows.weights.dtype)
    shares = rows.shares * present[None]
    if groups == 2:
        return (shares[:, :, 1] - shares[:, :, 0]).reshape(n, strata)
    count = jnp.sum(present, axis=1)[None, :, None]
    mean = jnp.sum(shares, axis=2, keepdims=True) / positive(count)
    return (jnp.sqrt(count) * (shares - mean * present[None])).reshape(n, strata * groups)


@term
class Mmd(Term):
    """The squared maximum mean discrepancy between the groups' activations of a layer.

    Example:
        >>> from fairjax.types import Batch
        >>> batch = Batch(jnp.ones((2, 1)), jnp.array([True, False]), jnp.array([True, False]))
        >>> outputs = Outputs(jnp.zeros(2), {"last": jnp.array([[1.0, 2.0], [1.0, 2.0]])})
        >>> Mmd().value((), outputs, batch).item()
        0.0
    """

    label: ClassVar[str] = "MMD"
    reference: ClassVar[str] = "Louizos et al. 2016"
    equation: ClassVar[str] = "mean k(h0, h0') + mean k(h1, h1') - 2 mean k(h0, h1)"
    zero_at_parity: ClassVar[bool] = True

    layer: str = static(LAST)
    """The layer: "last", the input of the last layer; "output", the logits; or a layer with units by its name."""
    notion: Notion = static("parity")
    """Compare all rows of the groups; "odds", rows of each class; "opportunity", rows of class 1."""
    against: Against = static("pairs")
    """Sum over all pairs of groups, or over the distances of each group from all rows."""
    widths: tuple[float, ...] = static(WIDTHS)
    """Widths of the Gaussian kernels, relative to the mean squared distance of a mini-batch's rows."""
    num_groups: int | None = static(None)
    """Number of groups; that of the data if omitted."""
    num_classes: int | None = static(None)
    """Number of classes; that of the data if omitted."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_choice("notion", self.notion, NOTIONS)
        check_choice("against", self.against, ("pairs", "all"))
        check_widths(self.widths)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layer."""
        return (self.layer,)

    def value(self, params: Any, outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the discrepancy of a mini-batch; 0 if fewer than two groups are present."""
        del params
        h = matrix(self.layer, outputs.layers[self.layer])
        weights, y = compared_rows(self.notion, batch, h.dtype)
        classes = self.num_classes or 2
        counts = {"num_groups": self.num_groups, "num_classes": classes}
        return mmd(h, batch.a, weights, y=y, against=self.against, widths=self.widths, **counts)
