"""Losses of predicting the group, over cells of label and group: what adversaries and auxiliary heads descend."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from fairjax.checks import codes, indicator, nan_unless
from fairjax.hyperparameters import check_choice
from fairjax.losses.grouping import NOTIONS, Grouped, Notion, compared_rows, grouped, positive
from fairjax.types import Rows


def group_cross_entropy(
    logits: Float[Array, " m"] | Float[Array, "m g"],
    batch: Rows,
    *,
    notion: Notion = "parity",
    balanced: bool = True,
    num_groups: int | None = None,
    num_classes: int = 2,
) -> Float[Array, ""]:
    """Compute the cross-entropy, in nats, of predicting the group of each row.

    Args:
        logits: logits of the group, one per row for two groups, one per row and group for more.
        batch: the mini-batch, of which labels, groups and weights are used.
        notion: rows that count: all of them ("parity" and "odds"), or positives only ("opportunity").
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
        >>> round(group_cross_entropy(jnp.zeros(4), batch).item(), 3)
        0.693
    """
    rows = _compared(logits, batch, notion, num_groups, num_classes)
    if not balanced:
        return nan_unless(rows.valid, _mean_over_rows(logits, rows))
    losses = entropies(logits)
    means, present = _means(losses, rows), rows.present.astype(losses.dtype)
    by_stratum = jnp.sum(means * present, axis=1) / positive(jnp.sum(present, axis=1))
    count = jnp.sum(jnp.any(rows.present, axis=1).astype(losses.dtype))
    return nan_unless(rows.valid, jnp.sum(by_stratum) / positive(count))


def group_normalised_error(
    logits: Float[Array, " m"], batch: Rows, *, notion: Notion = "parity", num_groups: int | None = None
) -> Float[Array, ""]:
    """Compute the sum over the two groups of the mean of |prediction - group|, as by LAFTR.

    Args:
        logits: logits of the group, one per row.
        batch: the mini-batch, of which labels, groups and weights are used.
        notion: cells over which means are taken: the groups ("parity"), the groups of each of the two labels
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
    rows = _compared(logits, batch, notion, num_groups, 2)
    errors = jnp.stack([jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits)], axis=1)
    by_stratum = jnp.sum(_means(errors, rows), axis=1)
    return nan_unless(rows.valid, jnp.sum(jnp.where(jnp.all(rows.present, axis=1), by_stratum, 1.0)))


def _compared(logits: Any, batch: Rows, notion: Notion, num_groups: int | None, num_classes: int) -> Grouped:
    """Return the weights of rows by stratum and group, after checking that logits have one column per group."""
    check_choice("notion", notion, NOTIONS)
    weights, y = compared_rows(notion, batch, logits.dtype)
    rows = grouped(batch.a, weights, y, like=logits, num_groups=num_groups, num_classes=num_classes)
    n, _, groups = rows.weights.shape
    expected = (n,) if groups == 2 else (n, groups)
    if logits.shape != expected:
        raise ValueError(f"logits of {groups} groups must have shape {expected}, found shape {logits.shape}")
    return rows


def _means(losses: Float[Array, "n G"], rows: Grouped) -> Float[Array, "S G"]:
    """Return the mean loss of each group within each stratum; 0 without rows."""
    return jnp.einsum("nsg,ng->sg", rows.weights, losses) / positive(rows.totals)


def _mean_over_rows(logits: Float[Array, "n *G"], rows: Grouped) -> Float[Array, ""]:
    """Return the weighted mean of the cross-entropies; 0 if no row has weight."""
    members = jnp.sum(rows.weights, axis=1)
    if logits.ndim == 1:
        sizes = members[:, 0] + members[:, 1]
        losses = sizes * optax.sigmoid_binary_cross_entropy(logits, members[:, 1] / positive(sizes))
    else:
        sizes, losses = jnp.sum(members, axis=1), jnp.sum(members * entropies(logits), axis=1)
    return jnp.sum(losses) / positive(jnp.sum(sizes))


def label_indicators(batch: Rows, num_classes: int, dtype: Any) -> tuple[Float[Array, " m"], ...]:
    """Return one indicator per class, positives first if there are two."""
    if num_classes == 2:
        y = indicator("y", batch.y)[0].astype(dtype)
        return y, 1.0 - y
    return tuple(jax.nn.one_hot(codes("y", batch.y, num_classes)[0], num_classes, dtype=dtype).T)


def entropies(logits: Float[Array, " m"] | Float[Array, "m g"]) -> Float[Array, "m g"]:
    """Return the cross-entropy that each row would have in each group."""
    if logits.ndim == 1:
        return -jnp.stack([jax.nn.log_sigmoid(-logits), jax.nn.log_sigmoid(logits)], axis=1)
    return -jax.nn.log_softmax(logits, axis=1)
