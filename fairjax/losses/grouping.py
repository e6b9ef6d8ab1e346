"""Weights of rows by class and group, from which the terms that compare groups compute their sums."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fairjax.checks import all_valid, codes, floating, group_column, indicator, numeric, sample_weights, vector
from fairjax.metrics import count_groups
from fairjax.types import Rows, weights_of

Notion = Literal["parity", "odds", "opportunity"]
"""What is compared: groups of all rows, groups within each class of the labels, or groups among rows of class 1."""

NOTIONS = ("parity", "odds", "opportunity")


class Grouped(NamedTuple):
    """Weights of rows by class of the labels and group."""

    weights: Float[Array, "n S G"]
    """Weight of each row in each stratum (a class of the labels, or all rows) and group; 0 outside of them."""
    valid: Bool[Array, ""] | None
    """Whether all traced values are valid; None if nothing had to be checked under a trace."""

    @property
    def totals(self) -> Float[Array, "S G"]:
        """Total weight of each group within each stratum."""
        return jnp.sum(self.weights, axis=0)

    @property
    def present(self) -> Bool[Array, "S G"]:
        """Whether a group has weight in a stratum in which at least one other group has weight too."""
        present = self.totals > 0
        return present & (jnp.sum(present, axis=1, keepdims=True) > 1)

    @property
    def shares(self) -> Float[Array, "n S G"]:
        """Share of each row in the weight of its group; the shares of a group sum to 1, or to 0 if it is absent."""
        return self.weights / positive(self.totals)[None]


def grouped(
    a: Any, weights: Any = None, y: Any = None, *, like: Float[Array, "n ..."], num_groups: int | None, num_classes: int
) -> Grouped:
    """Compute the weight of each row in each class and group.

    Args:
        a: booleans, codes, or memberships of shape (n, groups).
        weights: non-negative weights of the rows; 1 if omitted.
        y: labels, if groups are compared within each class of them.
        like: array with one entry per row along its first axis, whose dtype the weights get.
        num_groups: number of groups; counted if omitted, for which codes must be concrete.
        num_classes: number of classes of the labels.

    Returns:
        The weights.

    Raises:
        ValueError: if shapes differ, or a concrete value is invalid.

    Example:
        >>> a = jnp.array([True, False, True])
        >>> grouped(a, like=jnp.ones(3), num_groups=2, num_classes=2).totals.tolist()
        [[1.0, 2.0]]
    """
    a, n, dtype = numeric("a", a), like.shape[0], like.dtype
    if a.ndim not in (1, 2) or a.shape[0] != n:
        raise ValueError(f"a must have one group per row, shape ({n},) or ({n}, groups), found shape {a.shape}")
    count = count_groups(a) if num_groups is None else num_groups
    column, valid_groups = group_column(a, max(count, 2))
    members = jax.nn.one_hot(column.astype(jnp.int32), max(count, 2), dtype=dtype) if column.ndim == 1 else column
    checked, valid_weights = sample_weights(weights, like, weightless=True)
    members = members.astype(dtype) if checked is None else members.astype(dtype) * checked[:, None]
    if y is None:
        return Grouped(members[:, None, :], all_valid(valid_groups, valid_weights))
    y = vector("y", y)
    if y.shape != (n,):
        raise ValueError(f"y must have one label per row, shape ({n},), found shape {y.shape}")
    labels, valid_labels = indicator("y", y) if num_classes == 2 else codes("y", y, num_classes)
    classes = jax.nn.one_hot(labels.astype(jnp.int32), num_classes, dtype=dtype)
    return Grouped(classes[:, :, None] * members[:, None, :], all_valid(valid_groups, valid_weights, valid_labels))


def compared_rows(notion: Notion, batch: Rows, dtype: Any) -> tuple[Any, Any]:
    """Return the weights, and the labels within whose classes groups are compared, for a notion of fairness.

    Args:
        notion: what is compared.
        batch: the rows.
        dtype: dtype of weights that are made.

    Example:
        >>> from fairjax.types import Batch
        >>> batch = Batch(jnp.ones((2, 1)), jnp.array([True, False]), jnp.array([True, False]))
        >>> compared_rows("opportunity", batch, jnp.float32)
        (Array([1., 0.], dtype=float32), None)
    """
    weights = weights_of(batch)
    if notion == "odds":
        return weights, batch.y
    if notion == "parity":
        return weights, None
    favourable = (batch.y if batch.y.dtype == bool else batch.y == 1).astype(dtype)
    return favourable if weights is None else favourable * jnp.asarray(weights).astype(dtype), None


def positive(totals: Float[Array, "..."]) -> Float[Array, "..."]:
    """Replace 0 by 1, so that one can divide by totals of groups that are absent."""
    return jnp.where(totals > 0, totals, jnp.ones_like(totals))


def matrix(name: str, h: Any) -> Float[Array, "n u"]:
    """Convert activations to a floating-point matrix with one row per row of the batch.

    Raises:
        ValueError: if the shape is not (n, units) or (n,).
    """
    h = floating(numeric(name, h))
    if h.ndim not in (1, 2):
        raise ValueError(
            f"{name} must have shape (n, units), found shape {h.shape}: average over positions, or reshape it"
        )
    return h[:, None] if h.ndim == 1 else h


def pairs(rows: Grouped, against: str) -> tuple[Float[Array, "n k"], Float[Array, "n k"], Bool[Array, " k"]]:
    """Return the shares of rows in the two sides of each comparison, and which comparisons can be made.

    Args:
        rows: weights of rows by stratum and group.
        against: "pairs" for all pairs of groups; "all" for each group and all rows of its stratum.

    Example:
        >>> rows = grouped(jnp.array([True, False]), like=jnp.ones(2), num_groups=2, num_classes=2)
        >>> pairs(rows, "pairs")[0].tolist()
        [[0.0], [1.0]]
    """
    n, strata, groups = rows.weights.shape
    shares, present = rows.shares, rows.present
    if against == "all":
        everyone = jnp.sum(rows.weights, axis=2) / positive(jnp.sum(rows.totals, axis=1))[None]
        others = jnp.broadcast_to(everyone[:, :, None], shares.shape)
        return shares.reshape(n, strata * groups), others.reshape(n, strata * groups), present.reshape(-1)
    first = jnp.array([i for i in range(groups) for _ in range(i + 1, groups)])
    second = jnp.array([j for i in range(groups) for j in range(i + 1, groups)])
    both = (present[:, first] & present[:, second]).reshape(-1)
    return shares[:, :, first].reshape(n, -1), shares[:, :, second].reshape(n, -1), both
