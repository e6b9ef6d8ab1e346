"""Corpus-level constraints on binary decisions: the share of each group among the accepted rows."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from fairjax import checks
from fairjax.postprocess.corpus_shares import check_margin, check_shares, group_codes
from fairjax.types import Number

_SLACK = 1e-6
"""Shares that exceed a bound by less satisfy it, since products of shares and counts are rounded."""


class CorpusLevel(NamedTuple):
    """Decisions on a set of rows that satisfy constraints on the set as a whole."""

    decisions: Bool[Array, " n"]
    """Whether each row is accepted; all false if traced values are invalid."""
    thresholds: Float[Array, " g"]
    """Highest rejected potential of each group: rows above it are accepted, and of the rows that equal it the first
    ones may be. -inf for a group without rejected rows, NaN for one without rows."""
    shares: Float[Array, " g"]
    """Share of each group among the accepted rows; NaN if no row is accepted."""
    valid: Bool[Array, ""]
    """Whether the arguments are valid, which can be false only of traced ones."""


def corpus_level(potentials: Any, a: Any, target: Any, *, margin: Number = 0.0) -> CorpusLevel:
    """Accept the rows of largest total potential such that the groups' shares of the accepted rows meet a target.

    Maximises sum_i f_i d_i over decisions d_i in {0, 1}, subject to |share_g - target_g| <= margin for every group g,
    where share_g is the share of group g among the rows with d_i = 1. Without constraints, rows with f_i > 0 are
    accepted. With them, the threshold of each group is shifted. Zhao et al. find the shifts by Lagrangian relaxation;
    for binary decisions the constrained problem itself is solved here, by sorting: for every number of accepted rows,
    the bounds on the shares are bounds on the number of rows of each group, and the best rows within them are accepted.

    This decides a set of rows as a whole, so it needs all test rows at once, and their groups: a row's decision depends
    on the other rows. With targets from training labels, `corpus_shares(y, a).shares`, decisions do not amplify the
    bias of the labels; with the shares of groups among all rows, they have statistical parity. Several yes-or-no
    outputs have separate constraints: map over them with `jax.vmap`. For one of several classes, see
    `corpus_level_classes`.

    Shares of K rows are multiples of 1/K, so each bound is rounded to the next whole row beyond the target if the
    margin is narrower than that. Time grows with n log(n) and memory with n times the number of groups.

    Args:
        potentials: f, how much is gained by accepting a row, one finite number per row: a logit, as in the paper, or a
            score minus a threshold. The latter maximises the expected accuracy if scores are calibrated and the
            threshold is 0.5.
        a: groups of the rows: booleans for two groups, codes for any number of them.
        target: target share of each group among accepted rows.
        margin: greatest difference of a share from its target.

    Returns:
        Decisions, thresholds and shares. Thresholds and shares are NaN if traced values are invalid.

    Raises:
        ValueError: if shapes or pandas indices differ, if a concrete value is invalid, or if a group without rows has a
            target that requires some.
        TypeError: if an argument is sparse, masked, or holds anything but numbers and booleans.

    Example:
        >>> logits, a = jnp.array([3.0, 2.0, 1.0, -0.5, -2.0]), jnp.array([True, True, True, False, False])
        >>> corpus_level(logits, a, jnp.array([0.5, 0.5])).decisions.tolist()  # half of three rows, within a row
        [True, True, False, True, False]

    References:
        Zhao, Wang, Yatskar, Ordonez, Chang (2017), Men also like shopping: reducing gender bias amplification using
        corpus-level constraints, EMNLP, https://arxiv.org/abs/1707.09457
    """
    checks.check_index(potentials=potentials, a=a)
    values = checks.floating(checks.vector("potentials", potentials))
    if not values.size:
        raise ValueError("potentials must have one row at least, found none")
    shares = check_shares("target", target, None).astype(values.dtype)
    margin = check_margin(margin).astype(values.dtype)
    codes, valid, groups = group_codes(a, shares.shape[0], values.shape[0])
    _check_values(values, codes, shares, margin)
    valid = checks.all_valid(valid, *_traced_conditions(values, codes, shares, margin))
    found = _solve(values, codes, shares, margin)
    if valid is None:
        return found
    thresholds, shares = (checks.nan_unless(valid, part) for part in (found.thresholds, found.shares))
    return CorpusLevel(found.decisions & valid, thresholds, shares, valid)


def _check_values(values: Any, codes: Any, target: Any, margin: Any) -> None:
    """Check that concrete potentials are finite, and that groups whose shares are bounded from below have rows."""
    if isinstance(values, Tracer):
        return
    if not np.isfinite(np.asarray(values)).all():
        row = int(np.argmin(np.isfinite(np.asarray(values))))
        raise ValueError(
            f"potentials must be finite, found {values[row]} in row {row}: a score of exactly 0 or 1 has no finite "
            "logit; pass the score minus a threshold"
        )
    if any(isinstance(part, Tracer) for part in (codes, target, margin)):
        return
    counts = np.bincount(np.asarray(codes), minlength=target.shape[0])
    missing = np.flatnonzero((counts == 0) & (np.asarray(target) > np.asarray(margin)))
    if missing.size:
        raise ValueError(
            f"group {missing[0]} has no rows, and its target share is {float(target[missing[0]]):g}: decide more rows "
            "at once, or give it the target 0"
        )


def _traced_conditions(values: Any, codes: Any, target: Any, margin: Any) -> list[Bool[Array, ""]]:
    """Return whether the traced arguments are valid, those that `_check_values` and its callers cannot look at."""
    conditions = []
    if isinstance(values, Tracer):
        conditions.append(jnp.all(jnp.isfinite(values)))
    if isinstance(target, Tracer):
        conditions.append(jnp.all(target >= 0) & (jnp.abs(jnp.sum(target) - 1) < 1e-3))
    if isinstance(margin, Tracer):
        conditions.append((margin >= 0) & (margin <= 1))
    if any(isinstance(part, Tracer) for part in (values, codes, target, margin)):
        present = jnp.zeros(target.shape, bool).at[codes].set(True)
        conditions.append(jnp.all(present | (target <= margin)))
    return conditions


@jax.jit
def _solve(
    values: Float[Array, " n"], codes: Int[Array, " n"], target: Float[Array, " g"], margin: Float[Array, ""]
) -> CorpusLevel:
    n, groups = values.shape[0], target.shape[0]
    order = jnp.argsort(-values, stable=True)
    ranked, ranked_codes = values[order], codes[order]
    # Number of rows of each group among the first r rows, for r = 0, ..., n.
    members = (ranked_codes[:, None] == jnp.arange(groups, dtype=jnp.int32)[None]).astype(jnp.int32)
    firsts = jnp.concatenate([jnp.zeros((1, groups), jnp.int32), jnp.cumsum(members, axis=0, dtype=jnp.int32)])
    place = jnp.take_along_axis(firsts[:-1], ranked_codes[:, None], axis=1)[:, 0]  # of each row within its group
    by_group = jnp.zeros((groups, n), values.dtype).at[ranked_codes, place].set(ranked)
    gains = jnp.concatenate([jnp.zeros((groups, 1), values.dtype), jnp.cumsum(by_group, axis=1)], axis=1)
    sizes = firsts[-1]

    accepted = jnp.arange(n + 1, dtype=jnp.int32)
    low, high = _bounds(accepted, target, margin, sizes)
    feasible = jnp.all(low <= high, axis=1)
    feasible &= (_sum(low) <= accepted) & (_sum(high) >= accepted)

    def rows_of_groups(first: Int[Array, " k"]) -> Int[Array, "k g"]:
        return jnp.clip(firsts[first], low, jnp.maximum(low, high))

    def halve(_, ends):
        """Search for the smallest number of first rows that, within the bounds, are as many as are accepted."""
        left, right = ends
        middle = (left + right) // 2
        enough = _sum(rows_of_groups(middle)) >= accepted
        return jnp.where(enough, left, middle + 1), jnp.where(enough, middle, right)

    ends = jnp.zeros(n + 1, jnp.int32), jnp.full(n + 1, n, jnp.int32)
    counts = rows_of_groups(jax.lax.fori_loop(0, math.ceil(math.log2(n + 1)) + 1, halve, ends)[1])
    totals = jnp.sum(gains[jnp.arange(groups)[None], jnp.minimum(counts, n)], axis=1)
    best = counts[jnp.argmax(jnp.where(feasible, totals, -jnp.inf))]

    decisions = jnp.zeros(n, bool).at[order].set(place < best[ranked_codes])
    rejected = by_group[jnp.arange(groups), jnp.minimum(best, n - 1)]
    thresholds = jnp.where(best < sizes, rejected, jnp.where(sizes > 0, -jnp.inf, jnp.nan))
    total = jnp.sum(best).astype(values.dtype)
    shares = best.astype(values.dtype) / jnp.where(total > 0, total, jnp.nan)
    return CorpusLevel(decisions, thresholds, shares, jnp.ones((), bool))


def _sum(counts: Int[Array, "k g"]) -> Int[Array, " k"]:
    return jnp.sum(counts, axis=1, dtype=jnp.int32)


def _bounds(
    accepted: Int[Array, " k"], target: Float[Array, " g"], margin: Float[Array, ""], sizes: Int[Array, " g"]
) -> tuple[Int[Array, "k g"], Int[Array, "k g"]]:
    """Return the least and greatest number of rows of each group among every number of accepted rows."""
    rows = accepted[:, None].astype(target.dtype)
    slack = _SLACK * (1.0 + rows)
    low = jnp.ceil((target - margin)[None] * rows - slack)
    high = jnp.floor((target + margin)[None] * rows + slack)
    low = jnp.minimum(low, jnp.floor(target[None] * rows + slack))
    high = jnp.maximum(high, jnp.ceil(target[None] * rows - slack))
    return jnp.maximum(low, 0).astype(jnp.int32), jnp.minimum(high, sizes[None].astype(high.dtype)).astype(jnp.int32)
