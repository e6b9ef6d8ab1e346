"""Corpus-level constraints on predicted classes, by the Lagrangian relaxation of Zhao et al."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from fairjax import checks
from fairjax.hyperparameters import check_at_least, check_positive
from fairjax.postprocess.corpus_shares import check_margin, check_shares, group_codes
from fairjax.types import Number


class CorpusLevelClasses(NamedTuple):
    """Predicted classes of a set of rows under constraints on the set as a whole."""

    predictions: Int[Array, " n"]
    """Class of each row; -1 if traced values are invalid."""
    shifts: Float[Array, "k g"]
    """Number that was subtracted from the potential of each class for the rows of each group."""
    shares: Float[Array, "k g"]
    """Share of each group among the rows of each class; NaN for a class that is not predicted."""
    excess: Float[Array, ""]
    """Greatest difference of a constrained share from its target beyond the margin; 0 if all constraints hold."""
    satisfied: Bool[Array, ""]
    """Whether all constraints hold. If not, the predictions are those of the pass with the smallest excess."""
    passes: Int[Array, ""]
    """Number of passes over the rows."""


def corpus_level_classes(
    potentials: Any,
    a: Any,
    target: Any,
    *,
    constrained: Any = None,
    margin: Number = 0.05,
    eta: Number = 0.1,
    passes: int = 100,
) -> CorpusLevelClasses:
    """Predict classes such that the groups' shares of the rows of each class meet a target.

    Maximises the sum of potentials of the predicted classes, subject to |share(g, o) - target(g, o)| <= margin for the
    group g and each constrained class o, where share(g, o) is the share of group g among the rows of class o. Each
    constraint is linear, sum_i A_j(d_i) <= 0, and has a multiplier lambda_j >= 0 that starts at 0. A pass predicts
    d_i = argmax_d f_i(d) - sum_j lambda_j A_j(d) and then sets lambda_j to max(0, lambda_j + eta sum_i A_j(d_i)). The
    first pass whose predictions satisfy all constraints is the last.

    Multipliers rise by eta for each row that violates a constraint, as in the paper, whose classes have some hundreds
    of rows: with thousands, choose a smaller eta, about 10 / n. The relaxation may not converge; see `satisfied`. Two
    classes are solved exactly by `corpus_level`. Like that function, this one needs all test rows at once and their
    groups.

    Args:
        potentials: f, one finite number per row and class: logits or log-probabilities.
        a: groups of the rows: booleans for two groups, codes for any number of them.
        target: target share of each group among the rows of each class, such as `corpus_shares(y, a, num_classes=k)`
            of training labels.
        constrained: which classes are constrained, for example those with more than 100 training rows,
            `corpus_shares(...).counts > 100`; all if omitted. Targets of other classes are not used.
        margin: greatest difference of a share from its target.
        eta: step of the multipliers per row.
        passes: maximum number of passes.

    Returns:
        Predictions, shares, and whether the constraints hold. Numbers are NaN if traced values are invalid.

    Raises:
        ValueError: if shapes or pandas indices differ, or a concrete value is invalid.
        TypeError: if an argument is sparse, masked, or holds anything but numbers and booleans.

    Example:
        >>> logits = jnp.array([[0.0, 3.0], [0.0, 2.0], [0.0, 1.0], [0.0, -0.5], [0.0, -2.0]])
        >>> a, target = jnp.array([True, True, True, False, False]), jnp.array([[0.5, 0.5], [0.5, 0.5]])
        >>> found = corpus_level_classes(logits, a, target, constrained=[False, True], margin=0.2)
        >>> found.satisfied.item(), [round(share, 2) for share in found.shares[1].tolist()]
        (True, [0.4, 0.6])

    References:
        Zhao, Wang, Yatskar, Ordonez, Chang (2017), Men also like shopping: reducing gender bias amplification using
        corpus-level constraints, EMNLP, https://arxiv.org/abs/1707.09457
    """
    check_at_least("passes", passes, 1)
    check_positive("eta", eta)
    checks.check_index(potentials=potentials, a=a)
    values = checks.floating(checks.numeric("potentials", potentials))
    if values.ndim != 2 or values.shape[1] < 2 or not values.shape[0]:
        raise ValueError(f"potentials must have shape (n, classes), found shape {values.shape}")
    if not isinstance(values, Tracer) and not np.isfinite(np.asarray(values)).all():
        row = int(np.argmin(np.isfinite(np.asarray(values)).all(axis=1)))
        raise ValueError(f"potentials must be finite, found NaN or infinity in row {row}: pass logits")
    classes = values.shape[1]
    flags, valid_flags = jnp.ones(classes, bool), None
    if constrained is not None:
        flags, valid_flags = checks.indicator("constrained", checks.vector("constrained", constrained))
        if flags.shape != (classes,):
            raise ValueError(f"constrained must have one entry per class, {classes}, found shape {flags.shape}")
    raw = checks.floating(checks.numeric("target", target))
    if raw.shape[:1] == (classes,) and raw.ndim == 2:  # targets of other classes may be NaN, and are not checked
        raw = jnp.where(flags[:, None], raw, 1.0 / raw.shape[1])
    shares = check_shares("target", raw, classes).astype(values.dtype)
    codes, valid_codes, _ = group_codes(a, shares.shape[1], values.shape[0])
    valid = checks.all_valid(valid_flags, valid_codes)
    if isinstance(values, Tracer):
        valid = checks.all_valid(valid, jnp.all(jnp.isfinite(values)))
    if isinstance(shares, Tracer):
        valid = checks.all_valid(valid, jnp.all(shares >= 0) & jnp.all(jnp.abs(jnp.sum(shares, axis=1) - 1) < 1e-3))
    margin, eta = (jnp.asarray(number, values.dtype) for number in (check_margin(margin), eta))
    found = _relax(values, codes, shares, flags, margin, eta, jnp.asarray(passes, jnp.int32))
    if valid is None:
        return found
    numbers = {name: checks.nan_unless(valid, getattr(found, name)) for name in ("shifts", "shares", "excess")}
    predictions = jnp.where(valid, found.predictions, -1)
    return found._replace(predictions=predictions, satisfied=found.satisfied & valid, **numbers)


class _State(NamedTuple):
    low: Float[Array, "k g"]
    """Multipliers of the lower bounds."""
    high: Float[Array, "k g"]
    """Multipliers of the upper bounds."""
    best: CorpusLevelClasses


@jax.jit
def _relax(
    values: Float[Array, "n k"],
    codes: Int[Array, " n"],
    target: Float[Array, "k g"],
    constrained: Bool[Array, " k"],
    margin: Float[Array, ""],
    eta: Float[Array, ""],
    most: Int[Array, ""],
) -> CorpusLevelClasses:
    classes, groups = target.shape
    least, greatest = target - margin, target + margin

    def one_pass(state: _State) -> _State:
        # sum_j lambda_j A_j(o) of a row of group g, where A_j(o) is 1[group] - greatest, or least - 1[group].
        common = jnp.sum(state.low * least - state.high * greatest, axis=1)
        shifts = common[:, None] + state.high - state.low
        predictions = jnp.argmax(values - shifts.T[codes], axis=1).astype(jnp.int32)
        counts = jnp.zeros((classes, groups), jnp.int32).at[predictions, codes].add(1).astype(values.dtype)
        totals = jnp.sum(counts, axis=1)
        shares = counts / jnp.where(totals > 0, totals, jnp.nan)[:, None]
        below, above = least * totals[:, None] - counts, counts - greatest * totals[:, None]
        beyond = jnp.where(constrained[:, None], jnp.maximum(below, above), 0.0)
        excess = jnp.max(jnp.maximum(beyond, 0.0) / jnp.maximum(totals, 1.0)[:, None])
        satisfied = excess <= 1e-6  # bounds are rounded
        excess = jnp.where(satisfied, 0.0, excess)
        done = state.best.passes + 1
        reached = CorpusLevelClasses(predictions, shifts, shares, excess, satisfied, done)
        better = excess < state.best.excess
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), reached, state.best)
        low, high = (
            jnp.where(constrained[:, None], jnp.maximum(0.0, multipliers + eta * violation), 0.0)
            for multipliers, violation in ((state.low, below), (state.high, above))
        )
        return _State(low, high, best._replace(passes=done))

    def unfinished(state: _State) -> Bool[Array, ""]:
        return ~state.best.satisfied & (state.best.passes < most)

    zeros = jnp.zeros((classes, groups), values.dtype)
    nothing = CorpusLevelClasses(
        jnp.full(values.shape[0], -1, jnp.int32),
        zeros,
        zeros,
        jnp.asarray(jnp.inf, values.dtype),
        jnp.zeros((), bool),
        jnp.zeros((), jnp.int32),
    )
    return jax.lax.while_loop(unfinished, one_pass, _State(zeros, zeros, nothing)).best
