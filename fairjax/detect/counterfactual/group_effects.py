"""Effects of a perturbation, averaged over groups of rows."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fairjax.checks import codes, indicator, vector
from fairjax.detect.counterfactual.effects import Effects

MINIMUM = 20
"""Default least number of changed rows of a group for its effects to be estimated."""


class GroupEffects(NamedTuple):
    """Effects of a perturbation on each group; NaN where too few rows were changed."""

    rows: Int[Array, "*g"]
    """Number of rows."""
    changed: Int[Array, "*g"]
    """Number of rows whose inputs changed; means and shares are over these rows."""
    effect: Float[Array, "*g"]
    """Mean change of the score."""
    logit_effect: Float[Array, "*g"]
    """Mean change of the logit."""
    to_positive: Float[Array, "*g"]
    """Share of rows whose decision became positive."""
    to_negative: Float[Array, "*g"]
    """Share of rows whose decision became negative."""


def group_effects(effects: Effects, a: Any, *, num_groups: int = 2, minimum: int = MINIMUM) -> GroupEffects:
    """Average effects over the rows of each group.

    Args:
        effects: the effects of one perturbation.
        a: the group of each row: true or 1 in the privileged group, or codes below `num_groups`.
        num_groups: number of groups.
        minimum: least number of changed rows for a group's effects to be estimated.

    Returns:
        One entry per group code; the unprivileged group (a = 0) comes first. Map it with `jax.vmap` over networks.

    Raises:
        ValueError: if groups are not codes, or their number differs from that of the rows.

    Example:
        >>> yes, no = jnp.array([True, True]), jnp.array([False, False])
        >>> effects = Effects(jnp.array([0.5, -0.25]), jnp.ones(2), jnp.ones(2), no, yes, yes)
        >>> group_effects(effects, jnp.array([True, False]), minimum=1).effect.tolist()
        [-0.25, 0.5]
    """
    members, valid = group_masks(a, effects.effect.shape[0], num_groups)
    result = jax.vmap(lambda rows: summary(effects, rows, minimum))(members)
    if valid is None:
        return result
    return jax.tree.map(lambda each: each if each.dtype == jnp.int32 else jnp.where(valid, each, jnp.nan), result)


def group_masks(a: Any, n: int, num_groups: int) -> tuple[Bool[Array, "g n"], Bool[Array, ""] | None]:
    """Return which rows belong to each group, and whether the groups are valid if they are traced, else None.

    Raises:
        ValueError: if groups are not codes, or their number is not n.

    Example:
        >>> group_masks(jnp.array([True, False]), 2, 2)[0].tolist()
        [[False, True], [True, False]]
    """
    column = vector("a", a)
    if column.shape != (n,):
        raise ValueError(f"a must have one group per row, {n}, found shape {column.shape}")
    groups, valid = indicator("a", column) if num_groups == 2 else codes("a", column, num_groups)
    return groups.astype(jnp.int32)[None] == jnp.arange(num_groups, dtype=jnp.int32)[:, None], valid


def summary(effects: Effects, rows: Bool[Array, " n"], minimum: int) -> GroupEffects:
    """Average effects over the given rows that the perturbation changed; NaN if there are fewer than `minimum`."""
    counted = rows & effects.changed
    count = jnp.sum(counted, dtype=jnp.int32)
    enough = count >= max(minimum, 1)

    def mean(values: Float[Array, " n"] | Bool[Array, " n"]) -> Float[Array, ""]:
        values = values.astype(effects.effect.dtype)
        total = jnp.sum(jnp.where(counted, values, 0))
        return jnp.where(enough, total / jnp.where(enough, count, 1).astype(total.dtype), jnp.nan)

    # a row without an effect has no decision afterwards
    unknown = jnp.isnan(effects.effect)
    up, down = effects.after & ~effects.before, effects.before & ~effects.after
    to_positive, to_negative = (
        mean(jnp.where(unknown, jnp.nan, turned.astype(effects.effect.dtype))) for turned in (up, down)
    )
    averages = mean(effects.effect), mean(effects.logit_effect)
    return GroupEffects(jnp.sum(rows, dtype=jnp.int32), count, *averages, to_positive, to_negative)
