"""Losses of predicting the group, over cells of label and group: what adversaries and auxiliary heads descend."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fairjax.checks import all_valid, codes, group_column, indicator, nan_unless, sample_weights
from fairjax.hyperparameters import check_choice
from fairjax.types import Rows, weights_of

Criterion = Literal["parity", "odds", "opportunity"]
"""Which rows are compared: all rows, rows of the same label, or positives only."""

CRITERIA = ("parity", "odds", "opportunity")
"""The values of `Criterion`."""


def group_cross_entropy(
    logits: Float[Array, " m"] | Float[Array, "m g"],
    batch: Rows,
    *,
    criterion: Criterion = "parity",
    balanced: bool = True,
    num_groups: int | None = None,
    num_classes: int = 2,
) -> Float[Array, ""]:
    """Compute the cross-entropy, in nats, of predicting the group of each row.

    Args:
        logits: logits of the group, one per row for two groups, one per row and group for more.
        batch: the mini-batch, of which labels, groups and weights are used.
        criterion: rows that count: all of them ("parity" and "odds"), or positives only ("opportunity").
        balanced: whether all groups have the same total weight, for "odds" all groups of each label, so that the
            prediction of the largest group for every row is as bad as a guess.
        num_groups: number of groups; if omitted, two, or the number of columns of memberships.
        num_classes: number of classes.

    Returns:
        A scalar. If balanced, it is 0 with a gradient of 0 if there are not two groups to tell apart; otherwise, it is
        0 if no row counts.

    Raises:
        ValueError: if shapes do not match, or concrete labels, groups or weights are invalid; the result is NaN if
            traced ones are.

    Example:
        >>> from fairjax.types import Batch
        >>> batch = Batch(jnp.ones((4, 1)), jnp.ones(4, bool), jnp.array([True, False, False, False]))
        >>> round(group_cross_entropy(jnp.full(4, -2.0), batch).item(), 3)  # the larger group, for all rows
        1.127
        >>> round(group_cross_entropy(jnp.zeros(4), batch).item(), 3)
        0.693
    """
    members, strata, weights, valid = cells(logits, batch, criterion, num_groups, num_classes)
    losses = entropies(logits)
    if not balanced:
        rows = jnp.sum(strata, axis=1)
        weights = rows if weights is None else rows * weights
        total = jnp.sum(weights)
        value = jnp.sum(weights * jnp.sum(members * losses, axis=1)) / jnp.where(total > 0, total, 1.0)
        return nan_unless(valid, value)
    means, there = cell_means(losses, members, strata, weights)
    told_apart = jnp.sum(there, axis=1) >= 2
    groups = jnp.where(told_apart, jnp.sum(there, axis=1), 1).astype(means.dtype)
    by_stratum = jnp.where(told_apart, jnp.sum(means, axis=1) / groups, 0.0)
    count = jnp.sum(told_apart).astype(means.dtype)
    return nan_unless(valid, jnp.sum(by_stratum) / jnp.maximum(count, 1.0))


def group_normalised_error(
    logits: Float[Array, " m"], batch: Rows, *, criterion: Criterion = "parity", num_groups: int | None = None
) -> Float[Array, ""]:
    """Compute the sum over the two groups of the mean of |prediction - group|, as by LAFTR.

    Args:
        logits: logits of the group, one per row.
        batch: the mini-batch, of which labels, groups and weights are used.
        criterion: cells over which means are taken: the groups ("parity"), the groups of each of the two labels
            ("odds"), or the groups of positives ("opportunity").
        num_groups: number of groups, which must be two.

    Returns:
        A scalar: 1 for guesses, and 0 for perfect predictions, or twice that for "odds". A label without rows of both
        groups counts as a guess, with a gradient of 0.

    Raises:
        ValueError: as for `group_cross_entropy`.

    References:
        Madras, Creager, Pitassi, Zemel (2018), Learning adversarially fair and transferable representations, ICML,
        https://arxiv.org/abs/1802.06309

    Example:
        >>> from fairjax.types import Batch
        >>> batch = Batch(jnp.ones((3, 1)), jnp.ones(3, bool), jnp.array([True, False, False]))
        >>> group_normalised_error(jnp.array([0.0, -50.0, 0.0]), batch).item()
        0.75
    """
    members, strata, weights, valid = cells(logits, batch, criterion, num_groups, 2)
    errors = jnp.stack([jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits)], axis=1)
    means, there = cell_means(errors, members, strata, weights)
    return nan_unless(valid, jnp.sum(jnp.where(jnp.all(there, axis=1), jnp.sum(means, axis=1), 1.0)))


def cells(
    logits: Float[Array, " m"] | Float[Array, "m g"],
    batch: Rows,
    criterion: Criterion,
    num_groups: int | None,
    num_classes: int,
) -> tuple[Float[Array, "m g"], Float[Array, "m k"], Float[Array, " m"] | None, Bool[Array, ""] | None]:
    """Return memberships in groups, memberships in the strata that are compared, weights, and whether all are valid.

    Raises:
        ValueError: if shapes do not match, or concrete labels, groups or weights are invalid.
    """
    check_choice("criterion", criterion, CRITERIA)
    members, valid_groups = group_members(batch, num_groups, logits.dtype)
    groups = members.shape[1]
    expected = (batch.y.shape[0],) if groups == 2 else (batch.y.shape[0], groups)
    if logits.shape != expected:
        raise ValueError(f"logits of {groups} groups must have shape {expected}, found shape {logits.shape}")
    weights, valid_weights = sample_weights(weights_of(batch), logits, weightless=True)
    strata, valid_labels = jnp.ones((members.shape[0], 1), logits.dtype), None
    if criterion != "parity":
        labels, valid_labels = label_columns(batch, num_classes, logits.dtype)
        strata = labels if criterion == "odds" else labels[:, :1]
    return members, strata, weights, all_valid(valid_groups, valid_weights, valid_labels)


def group_members(
    batch: Rows, num_groups: int | None, dtype: Any
) -> tuple[Float[Array, "m g"], Bool[Array, ""] | None]:
    """Return memberships in groups, one column per group, and whether the groups are valid if they are traced."""
    count = num_groups or (batch.a.shape[1] if batch.a.ndim == 2 else 2)
    groups, valid = group_column(batch.a, count)
    if groups.ndim == 2:
        if groups.shape[1] != count:
            raise ValueError(f"memberships must have one column per group, {count}, found {groups.shape[1]}")
        return groups.astype(dtype), valid
    if count == 2:
        return jnp.stack([~groups, groups], axis=1).astype(dtype), valid
    return jax.nn.one_hot(groups, count, dtype=dtype), valid


def label_columns(batch: Rows, num_classes: int, dtype: Any) -> tuple[Float[Array, "m c"], Bool[Array, ""] | None]:
    """Return one indicator per class, positives first if there are two, and whether labels are valid if traced."""
    if num_classes == 2:
        y, valid = indicator("y", batch.y)
        return jnp.stack([y, ~y], axis=1).astype(dtype), valid
    y, valid = codes("y", batch.y, num_classes)
    return jax.nn.one_hot(y, num_classes, dtype=dtype), valid


def entropies(logits: Float[Array, " m"] | Float[Array, "m g"]) -> Float[Array, "m g"]:
    """Return the cross-entropy that each row would have in each group."""
    if logits.ndim == 1:
        return -jnp.stack([jax.nn.log_sigmoid(-logits), jax.nn.log_sigmoid(logits)], axis=1)
    return -jax.nn.log_softmax(logits, axis=1)


def cell_means(
    losses: Float[Array, "m g"],
    members: Float[Array, "m g"],
    strata: Float[Array, "m k"],
    weights: Float[Array, " m"] | None,
) -> tuple[Float[Array, "k g"], Bool[Array, "k g"]]:
    """Return the mean loss of each cell of stratum and group, 0 for a cell without rows, and which cells have rows."""
    strata = strata if weights is None else strata * weights[:, None]
    sizes = jnp.einsum("mk,mg->kg", strata, members)
    sums = jnp.einsum("mk,mg->kg", strata, members * losses)
    there = sizes > 0
    return jnp.where(there, sums / jnp.where(there, sizes, 1.0), 0.0), there
