"""Group distributionally robust optimisation: the loss of the worst group."""

from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from fairjax.checks import floating, nan_unless, vector
from fairjax.hyperparameters import check_choice, check_positive, static
from fairjax.losses.base import Outputs, Term, term
from fairjax.losses.cross_entropy import cross_entropies
from fairjax.losses.grouping import Grouped, grouped, positive
from fairjax.types import KeyArray, Number, Rows, weights_of


def group_robust(
    losses: Any,
    a: Any,
    weights: Any = None,
    *,
    y: Any = None,
    group_weights: Float[Array, " k"] | None = None,
    num_groups: int | None = None,
    num_classes: int = 2,
) -> Float[Array, ""]:
    """Compute the largest mean loss of a group, or the sum of weight * mean loss over the groups.

    Args:
        losses: losses of the rows, of shape (n,).
        a: groups: booleans, codes, or memberships of shape (n, groups).
        weights: non-negative weights of the rows; 1 if omitted.
        y: labels; if given, each class within a group is a group of its own.
        group_weights: weights of the groups, in the order (class 0, group 0), (class 0, group 1), ...; the worst group
            has weight 1 and the others 0 if omitted.
        num_groups: number of groups; counted if omitted.
        num_classes: number of classes of `y`.

    Returns:
        A scalar. A group that is absent contributes nothing; 0, with a gradient of 0, if all weights are 0.

    Raises:
        ValueError: if shapes differ, or an argument is invalid.

    Example:
        >>> losses = jnp.array([1.0, 3.0, 1.0])
        >>> group_robust(losses, jnp.array([True, True, False])).item()
        2.0

    References:
        Sagawa, Koh, Hashimoto, Liang: Distributionally robust neural networks for group shifts, ICLR 2020.
    """
    losses = jnp.asarray(vector("losses", losses))
    rows = grouped(a, weights, y, like=losses, num_groups=num_groups, num_classes=num_classes)
    means, present = group_means(losses, rows)
    if group_weights is None:
        worst = jnp.max(jnp.where(present, means, -jnp.inf))
        return nan_unless(rows.valid, jnp.where(jnp.any(present), worst, 0.0))
    if group_weights.shape != means.shape:
        raise ValueError(f"group_weights must have shape {means.shape}, one per group, found {group_weights.shape}")
    return nan_unless(rows.valid, jnp.sum(group_weights.astype(means.dtype) * means))


def group_means(losses: Float[Array, " n"], rows: Grouped) -> tuple[Float[Array, " k"], Array]:
    """Compute the mean loss of each group, 0 for one that is absent, and which are present."""
    sums = jnp.einsum("nsg,n->sg", rows.weights, losses, precision="highest")
    return (sums / positive(rows.totals)).reshape(-1), (rows.totals > 0).reshape(-1)


@term
class GroupRobust(Term):
    """The mean cross-entropy of the group with the greatest loss: group distributionally robust optimisation.

    By default, weights of the groups are learned: those of groups with a greater loss grow exponentially, which is
    smoother than the maximum over the groups of a mini-batch. The loss of all labels is still added; give the term a
    large weight to descend the worst group's loss almost alone.

    Example:
        >>> from fairjax.types import Batch
        >>> batch = Batch(jnp.ones((2, 1)), jnp.array([True, False]), jnp.array([True, False]))
        >>> GroupRobust(form="worst").value((), Outputs(jnp.array([-1.0, -1000.0]), {}), batch).item()
        1.3132617473602295
    """

    label: ClassVar[str] = "Group DRO"
    reference: ClassVar[str] = "Sagawa et al. 2020"
    equation: ClassVar[str] = "sum over groups of q * loss, q ~ q exp(rate * loss)"

    form: Literal["weighted", "worst"] = static("weighted")
    """Learned weights of the groups, or the worst group of each mini-batch."""
    by: Literal["group", "class_and_group"] = static("group")
    """The groups: those of the protected attribute, or each class within each of them."""
    own_rate: Number = 0.01
    """Rate at which the weights of groups grow with their losses."""
    num_groups: int | None = static(None)
    """Number of groups of the protected attribute; that of the data if omitted."""
    num_classes: int | None = static(None)
    """Number of classes; that of the data if omitted."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_choice("form", self.form, ("weighted", "worst"))
        check_choice("by", self.by, ("group", "class_and_group"))
        check_positive("own_rate", self.own_rate)

    @property
    def own_steps(self) -> int:
        """The weights of the groups are updated before the network."""
        return 1

    def init(self, key: KeyArray, outputs: Outputs, batch: Rows) -> PyTree[Array]:
        """Return the logarithms of equal weights."""
        del key, batch
        if self.form == "worst":
            return ()
        count = (self.num_groups or 2) * ((self.num_classes or 2) if self.by == "class_and_group" else 1)
        dtype = jnp.promote_types(outputs.logits.dtype, jnp.float32)
        return jnp.full((count,), -jnp.log(jnp.asarray(count, dtype)))

    def value(self, params: PyTree[Array], outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the loss of a mini-batch, to which groups that are absent contribute nothing."""
        losses, y, counts = self._rows(outputs, batch)
        group_weights = None if self.form == "worst" else jnp.exp(params)
        return group_robust(losses, batch.a, weights_of(batch), y=y, group_weights=group_weights, **counts)

    def own_optimiser(self) -> optax.GradientTransformation:
        """Return an optimiser without state, since the weights grow exponentially."""
        return optax.identity()

    def update(
        self, params: PyTree[Array], optimiser: optax.OptState, outputs: Outputs, batch: Rows
    ) -> tuple[PyTree[Array], optax.OptState]:
        """Multiply the weights by exp(rate * loss), and divide them by their sum."""
        losses, y, counts = self._rows(outputs, batch)
        means, _ = group_means(losses, grouped(batch.a, weights_of(batch), y, like=losses, **counts))
        grown = params + jnp.asarray(self.own_rate, params.dtype) * means.astype(params.dtype)
        return jax.nn.log_softmax(grown), optimiser

    def _rows(self, outputs: Outputs, batch: Rows) -> tuple[Float[Array, " m"], Any, dict[str, Any]]:
        """Return the losses of the rows, the labels if they make groups, and the numbers of groups and classes."""
        losses = cross_entropies(floating(outputs.logits), batch.y)
        counts = {"num_groups": self.num_groups, "num_classes": self.num_classes or 2}
        return losses, batch.y if self.by == "class_and_group" else None, counts
