"""Calibrated equalized odds (Pleiss et al. 2017): equal costs of errors by withholding information at random."""

from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from fairjax import checks
from fairjax.postprocess.corpus_shares import group_codes
from fairjax.types import KeyArray, Number

Cost = Literal["weighted", "fnr", "fpr"]
"""Costs that can be equalised: generalised false negative rate, false positive rate, or both weighted by base rates."""


class CalibratedEqualizedOdds(NamedTuple):
    """Probabilities of replacing a row's score by the base rate of its group."""

    mix_rates: Float[Array, " g"]
    """Probability for each group, as computed. In a group for which it is not in [0, 1], no probability equalises the
    costs: below 0 or not finite, no score is replaced, and above 1, all scores are."""
    base_rates: Float[Array, " g"]
    """Share of label 1 in each group, the score that replaces others."""
    costs: Float[Array, " g"]
    """Cost of the original scores in each group."""
    trivial_costs: Float[Array, " g"]
    """Cost of the constant score, the base rate, in each group."""

    @property
    def equalises(self) -> Bool[Array, ""]:
        """Whether the expected costs of all groups become equal."""
        return jnp.all((self.mix_rates >= 0) & (self.mix_rates <= 1), axis=-1)

    def mix(self, scores: Any, a: Any, *, key: KeyArray) -> Float[Array, " n"]:
        """Replace scores at random by the base rate of the row's group.

        Args:
            scores: scores in [0, 1].
            a: groups of the rows.
            key: random key.

        Returns:
            The scores; NaN if traced values are invalid, or the rates are NaN.

        Raises:
            ValueError: if shapes or pandas indices differ, the rates are NaN or belong to several seeds, or a concrete
                value is invalid.
            TypeError: if an argument is sparse, masked, or holds anything but numbers and booleans.

        Example:
            >>> fitted = CalibratedEqualizedOdds(*map(jnp.array, ([1.0, 0.0], [0.25, 0.5], [0.1, 0.2], [0.3, 0.5])))
            >>> fitted.mix(jnp.array([0.9, 0.9]), jnp.array([False, True]), key=jax.random.key(0)).round(2).tolist()
            [0.25, 0.8999999761581421]
        """
        rates, base_rates = jnp.asarray(self.mix_rates), jnp.asarray(self.base_rates)
        if rates.ndim != 1:
            raise ValueError(
                f"mix_rates must be one per group, found shape {rates.shape}: of several seeds, map over them with "
                "jax.vmap"
            )
        if not isinstance(rates, Tracer) and np.isnan(rates).any():
            raise ValueError(
                "mix_rates are NaN, since rows that they were computed from under a trace were invalid or a group "
                "lacked a label: call calibrated_equalized_odds outside of jit to see which"
            )
        checks.check_index(scores=scores, a=a)
        values, valid_scores = checks.scores(checks.vector("scores", scores))
        codes, valid_codes, _ = group_codes(a, rates.shape[0], values.shape[0])
        valid = checks.all_valid(valid_scores, valid_codes)
        if isinstance(rates, Tracer):
            valid = checks.all_valid(valid, ~jnp.any(jnp.isnan(rates)))
        replaced = jax.random.uniform(key, values.shape) < _probabilities(rates)[codes]
        mixed = jnp.where(replaced, base_rates.astype(values.dtype)[codes], values)
        return checks.nan_unless(valid, mixed)

    def decide(self, scores: Any, a: Any, *, key: KeyArray, threshold: Number = 0.5) -> Bool[Array, " n"]:
        """Accept the rows whose score after `mix` exceeds a threshold.

        If the base rate of a group is not above the threshold, every row whose score it replaces is rejected: check
        `base_rates`.

        Args:
            scores: scores in [0, 1].
            a: groups of the rows.
            key: random key.
            threshold: threshold of all groups.

        Returns:
            Decisions; all false if traced values are invalid.

        Raises:
            ValueError: if `mix` raises it.
            TypeError: if `mix` raises it.

        Example:
            >>> fitted = CalibratedEqualizedOdds(*map(jnp.array, ([1.0, 0.0], [0.25, 0.5], [0.1, 0.2], [0.3, 0.5])))
            >>> fitted.decide(jnp.array([0.9, 0.9]), jnp.array([False, True]), key=jax.random.key(0)).tolist()
            [False, True]
        """
        mixed = self.mix(scores, a, key=key)
        return mixed > jnp.asarray(threshold, mixed.dtype)


def calibrated_equalized_odds(
    scores: Any, y: Any, a: Any, *, cost: Cost = "weighted", weights: Any = None, num_groups: int | None = None
) -> CalibratedEqualizedOdds:
    """Equalise a cost of errors across groups while scores stay calibrated in each group.

    The cost of group g is its generalised false negative rate, the mean of 1 - s over its rows with y = 1 ("fnr"), its
    generalised false positive rate, the mean of s over its rows with y = 0 ("fpr"), or, with its base rate mu_g, half
    of mu_g fnr_g + (1 - mu_g) fpr_g ("weighted"). In each group whose cost is lower than the greatest one, scores are
    replaced at random by mu_g, with the probability that raises the expected cost to the greatest one:
    (greatest - cost_g) / (cost of the constant score mu_g - cost_g). For two groups this is the closed form of the
    paper and of AIF360's `CalibratedEqOddsPostprocessing`.

    Like AIF360, this returns the probability as computed, also if it is not in [0, 1]; see `mix_rates` and `equalises`.
    If the cost of a group equals that of the constant score and is not the greatest, no mixture can raise it, and the
    rate is infinite.

    Args:
        scores: scores in [0, 1], calibrated in each group.
        y: labels.
        a: groups: booleans for two groups, codes for any number of them.
        cost: the cost to equalise.
        weights: sample weights; 1 if omitted.
        num_groups: number of groups; two for booleans, and otherwise inferred from codes that are not traced.

    Returns:
        The rates; NaN if traced values are invalid or a group lacks a label that the cost needs.

    Raises:
        ValueError: if `fairjax.checks.rows` raises it, the groups are memberships, the cost is unknown, or a group has
            no rows with a label that the cost needs.
        TypeError: if an argument is sparse, masked, or holds anything but numbers and booleans.

    Example:
        >>> scores, y = jnp.array([0.75, 0.25, 0.5, 0.5]), jnp.array([True, False, True, False])
        >>> fitted = calibrated_equalized_odds(scores, y, jnp.array([True, True, False, False]), cost="fnr")
        >>> fitted.mix_rates.tolist()  # group 1 becomes as uninformative as group 0
        [0.0, 1.0]

    References:
        Pleiss, Raghavan, Wu, Kleinberg, Weinberger (2017), On fairness and calibration, NeurIPS,
        https://arxiv.org/abs/1709.02012
    """
    if cost not in get_args(Cost):
        raise ValueError(f"cost must be one of {', '.join(map(repr, get_args(Cost)))}, found {cost!r}")
    codes, _, groups = group_codes(a, num_groups, len(scores) if np.ndim(scores) else 0)
    rows = checks.rows(scores, y, a, weights, num_groups=groups)
    if rows.values.ndim != 1:
        raise ValueError(f"scores must be one number per row, shape (n,), found shape {rows.values.shape}")
    ones = jnp.ones_like(rows.values) if rows.weights is None else rows.weights
    labels = jnp.asarray(rows.y)
    counts = _by_label(ones, labels, codes, groups)
    _check_labels(counts, cost)
    return CalibratedEqualizedOdds(
        *(rows.or_nan(part) for part in _fit(rows.values, labels, codes, ones, groups, cost))
    )


def _check_labels(counts: Float[Array, "2 g"], cost: Cost) -> None:
    """Check that every group has rows with the labels that the cost is a mean over."""
    if isinstance(counts, Tracer):
        return
    for label in {"weighted": (0, 1), "fnr": (1,), "fpr": (0,)}[cost]:
        missing = np.flatnonzero(~(np.asarray(counts[label]) > 0))
        if missing.size:
            raise ValueError(
                f"group {missing[0]} has no rows with y = {label}, over which the cost {cost!r} is a mean: give "
                "rows of all groups with that label, or choose another cost"
            )


def _by_label(
    values: Float[Array, " n"], y: Bool[Array, " n"], codes: Int[Array, " n"], groups: int
) -> Float[Array, "2 g"]:
    """Sum values by label and group."""
    members = codes[None] == jnp.arange(groups, dtype=codes.dtype)[:, None]
    return jnp.stack([jnp.sum(jnp.where(members & rows[None], values[None], 0.0), axis=1) for rows in (~y, y)])


def _fit(
    scores: Float[Array, " n"],
    y: Bool[Array, " n"],
    codes: Int[Array, " n"],
    weights: Float[Array, " n"],
    groups: int,
    cost: Cost,
) -> tuple[Float[Array, " g"], Float[Array, " g"], Float[Array, " g"], Float[Array, " g"]]:
    """Return mixing rates, base rates, costs and costs of the constant scores."""
    counts = _by_label(weights, y, codes, groups)
    counts = jnp.where(counts > 0, counts, jnp.nan)
    false_positive = _by_label(weights * scores, y, codes, groups)[0] / counts[0]
    false_negative = _by_label(weights * (1.0 - scores), y, codes, groups)[1] / counts[1]
    there = jnp.nan_to_num(counts)
    total = there[0] + there[1]
    base = there[1] / jnp.where(total > 0, total, jnp.nan)

    def cost_of(false_positive: Array, false_negative: Array) -> Array:
        if cost == "fnr":
            return false_negative
        if cost == "fpr":
            return false_positive
        return ((1.0 - base) * false_positive + base * false_negative) / 2

    costs, trivial = cost_of(false_positive, false_negative), cost_of(base, 1.0 - base)
    missing, room = jnp.max(costs) - costs, trivial - costs
    rates = jnp.where(missing == 0, 0.0, missing / jnp.where(missing == 0, 1.0, room))
    return rates, base, costs, trivial


def _probabilities(rates: Float[Array, " g"]) -> Float[Array, " g"]:
    """Return the probabilities with which scores are replaced: rates cut to [0, 1], 0 where they are infinite."""
    return jnp.where(jnp.isfinite(rates), jnp.clip(rates, 0.0, 1.0), 0.0)
