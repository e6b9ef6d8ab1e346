"""Effects of a perturbation on a network's scores and decisions, per row and per group."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path
from jaxtyping import Array, Bool, Float, Int

from fairjax.checks import checked_inputs, codes, indicator, vector
from fairjax.detect.counterfactual.columns import is_concrete
from fairjax.detect.counterfactual.perturbation import Perturbation
from fairjax.detect.rows import CHUNK, check_row_wise, logits_of, map_chunks, num_rows
from fairjax.nn.network import ApplyFn
from fairjax.types import Inputs, Number, Variables

MINIMUM = 20
"""Default least number of changed rows of a group for its effects to be estimated."""


class Effects(NamedTuple):
    """What a perturbation does to each row, scores after it minus scores before it."""

    effect: Float[Array, " n"]
    """Change of the score, in [-1, 1]; NaN if a traced row could not be perturbed."""
    logit_effect: Float[Array, " n"]
    """Change of the logit."""
    scores: Float[Array, " n"]
    """The score before, the probability of the class that the target names."""
    before: Bool[Array, " n"]
    """The decision before."""
    after: Bool[Array, " n"]
    """The decision after."""
    changed: Bool[Array, " n"]
    """Whether the perturbation changed the inputs of the row. Only these rows count in means and tests."""


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


def counterfactual(
    apply: ApplyFn,
    variables: Variables,
    x: Inputs,
    perturb: Any,
    *,
    target: int | None = None,
    threshold: Number = 0.5,
    chunk: int | None = CHUNK,
) -> Any:
    """Compute how a perturbation of the inputs changes each row's score, logit and decision.

    The perturbed rows need not be possible in the world: the effect says what the network would answer, and nothing
    about what would happen. Small effects of the protected attribute alone do not show that a network is fair, since
    other features can carry the group.

    Args:
        apply: the network; used in evaluation mode.
        variables: the network's variables.
        x: inputs of n rows.
        perturb: a perturbation such as `flip(3)`, or any function that maps `x` to changed inputs of the same shapes;
            or a mapping from names to several of them, for which the rows before are evaluated once.
        target: the class whose score is looked at, needed for more than two classes.
        threshold: rows with a higher score of class 1 are accepted. With more than two classes, the decision is instead
            whether the target is the class of the greatest logit.
        chunk: number of rows that are evaluated at a time; all at once if None.

    Returns:
        `Effects`; for a mapping, a dictionary of them.

    Raises:
        ValueError: if a row cannot be perturbed, a perturbation changes no row or returns other shapes, a value of `x`
            is not finite, the network's rows depend on each other, or the target is not a class.
        TypeError: if `perturb` is no function, or `x` holds anything but numbers.

    Example:
        >>> from fairjax.detect.counterfactual import flip
        >>> def apply(variables, x, **_):
        ...     return x @ variables["params"], variables
        >>> x = jnp.array([[1.0, 0.2], [0.0, 0.3]])
        >>> effects = counterfactual(apply, {"params": jnp.array([2.0, 1.0])}, x, flip(0))
        >>> effects.logit_effect.tolist(), effects.before.tolist(), effects.after.tolist()
        ([-2.0, 2.0], [True, True], [True, True])

    References:
        Du, Yang, Zou, Hu (2020), Fairness in deep learning: a computational perspective, IEEE Intelligent Systems
        ("bottom-up" detection).
    """
    inputs, valid = checked_inputs("x", x)
    check_row_wise(apply, variables, inputs)
    inputs = jax.tree.map(jnp.asarray, inputs)
    several = isinstance(perturb, Mapping)
    if several and not perturb:
        raise ValueError("perturb must hold at least one perturbation, got an empty mapping")

    def outcome(rows: Inputs) -> _Outcome:
        return _outcome(apply, variables, rows, target, threshold)

    before = map_chunks(outcome, inputs, chunk=chunk)
    effects = {
        name: _effects(outcome, inputs, valid, before, each, name if several else None, chunk)
        for name, each in (perturb.items() if several else [(None, perturb)])
    }
    return effects if several else effects[None]


class _Outcome(NamedTuple):
    logit: Float[Array, " n"]
    score: Float[Array, " n"]
    decision: Bool[Array, " n"]


def _outcome(apply: ApplyFn, variables: Variables, x: Inputs, target: int | None, threshold: Number) -> _Outcome:
    """Compute the logit, score and decision of each row, of the class that the target names."""
    logits, _ = apply(variables, x)
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    logit = logits_of(lambda *_, **__: (logits, variables), variables, x, target)
    if logits.ndim > 1:
        return _Outcome(logit, jax.nn.softmax(logits, axis=1)[:, target], jnp.argmax(logits, axis=1) == target)
    accepted = jax.nn.sigmoid(logits) > jnp.asarray(threshold).astype(logits.dtype)
    return _Outcome(logit, jax.nn.sigmoid(logit), ~accepted if target == 0 else accepted)


def _effects(
    outcome: Callable[[Inputs], _Outcome],
    x: Inputs,
    valid_x: Bool[Array, ""] | None,
    before: _Outcome,
    perturb: Any,
    name: Any,
    chunk: int | None,
) -> Effects:
    """Compare the outcomes of rows with those of the perturbed rows."""
    called = "the perturbation" if name is None else f"the perturbation {name!r}"
    if not callable(perturb) or isinstance(perturb, type):
        raise TypeError(f"{called} must be a function of x such as flip('sex'), got {type(perturb).__name__}")
    perturbed, valid = perturb.changed(x) if isinstance(perturb, Perturbation) else (perturb(x), None)
    _check_shapes(called, x, perturbed)
    n = num_rows(x)
    perturbed = jax.tree.map(jnp.asarray, perturbed)
    differs = [jnp.any((old != new).reshape(n, -1), axis=1) for old, new in _leaves(x, perturbed)]
    changed = jnp.any(jnp.stack(differs), axis=0)
    if is_concrete(changed) and not np.any(changed):
        raise ValueError(
            f"{called} changes none of the {n:,} rows, so it has no effect to measure: check the columns, the "
            "values, and that the rows hold what it looks for"
        )
    after = map_chunks(outcome, perturbed, chunk=chunk)
    effect, logit_effect = after.score - before.score, after.logit - before.logit
    for condition in (valid, valid_x):
        if condition is not None:
            effect, logit_effect = (jnp.where(condition, each, jnp.nan) for each in (effect, logit_effect))
            changed = changed | ~condition  # so that NaN is not left out of means
    return Effects(effect, logit_effect, before.score, before.decision, after.decision, changed)


def _leaves(x: Inputs, perturbed: Inputs) -> list[tuple[Array, Array]]:
    return list(zip(jax.tree.leaves(x), jax.tree.leaves(perturbed), strict=True))


def _check_shapes(called: str, x: Inputs, perturbed: Inputs) -> None:
    if jax.tree.structure(x) != jax.tree.structure(perturbed):
        raise ValueError(
            f"{called} must return inputs of the structure of x, {jax.tree.structure(x)}, found "
            f"{jax.tree.structure(perturbed)}"
        )
    for (path, old), (_, new) in zip(*(tree_flatten_with_path(tree)[0] for tree in (x, perturbed)), strict=True):
        if np.shape(old) != np.shape(new) or old.dtype != new.dtype:
            raise ValueError(
                f"{called} must return x{keystr(path)} with the shape and dtype that it has, {np.shape(old)} of "
                f"{old.dtype}, found {np.shape(new)} of {new.dtype}"
            )


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
        ValueError: if groups are no codes, or their number differs from that of the rows.

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
        ValueError: if groups are no codes, or their number is not n.

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
    known = jnp.where(jnp.isnan(effects.effect), jnp.nan, 1.0).astype(effects.effect.dtype)
    shares = [mean(known * (new & ~old)) for old, new in _both_ways(effects.before, effects.after)]
    return GroupEffects(
        jnp.sum(rows, dtype=jnp.int32), count, mean(effects.effect), mean(effects.logit_effect), shares[0], shares[1]
    )


def _both_ways(before: Bool[Array, " n"], after: Bool[Array, " n"]) -> tuple[tuple[Array, Array], ...]:
    return (before, after), (after, before)
