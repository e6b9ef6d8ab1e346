"""Effects of a perturbation on a network's scores and decisions, per row."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path
from jaxtyping import Array, Bool, Float

from fairjax.checks import checked_inputs
from fairjax.detect.counterfactual.columns import is_concrete
from fairjax.detect.counterfactual.perturbation import Perturbation
from fairjax.detect.rows import CHUNK, check_row_wise, logits_of, map_chunks, num_rows
from fairjax.nn.network import ApplyFn
from fairjax.types import Inputs, Number, Variables


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
        target: the class whose score is compared; needed for more than two classes.
        threshold: rows with a higher score of class 1 are accepted. With more than two classes, the decision is instead
            whether the target is the class of the greatest logit.
        chunk: number of rows that are evaluated at a time; all at once if None.

    Returns:
        `Effects`; for a mapping, a dictionary of them.

    Raises:
        ValueError: if a row cannot be perturbed, a perturbation changes no row or returns other shapes, a value of `x`
            is not finite, the network's rows depend on each other, the target is not a class, or the threshold is not
            in [0, 1].
        TypeError: if `perturb` is not a function, or `x` holds anything but numbers.

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
    if np.shape(threshold) or (is_concrete(threshold) and not 0 <= threshold <= 1):
        raise ValueError(f"threshold must be a score in [0, 1], got {threshold}: pass a logit through jax.nn.sigmoid")
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
    perturbed, valid = perturb.perturbed(x) if isinstance(perturb, Perturbation) else (perturb(x), None)
    _check_shapes(called, x, perturbed)
    n = num_rows(x)
    perturbed = jax.tree.map(jnp.asarray, perturbed)
    leaves = zip(jax.tree.leaves(x), jax.tree.leaves(perturbed), strict=True)
    differs = [jnp.any((old != new).reshape(n, -1), axis=1) for old, new in leaves]
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
