"""Differences between the groups of a protected attribute: one definition each, hard or soft by what is passed in.

Every measure is a function `measure(values, y, a, weights=None)` of rows. On decisions (0 or 1) it is the metric; on
scores in (0, 1) it is the metric's differentiable proxy, a term for any loss. All but the demographic-parity ratio
are 0 when the groups fare alike, and positive when the unprivileged group (`a` = 0) has the higher rate.

Whatever cannot be computed because a group is empty, as happens in small mini-batches, is exactly 0 with a zero
gradient (the ratio: exactly 1), never NaN.

References:
    Marcinkevičs, Ozkan, Vogt (2022), Debiasing Neural Networks using Differentiable Classification Parity Proxies,
    ICLR 2022 Workshop on Socially Responsible Machine Learning (Eq. 1 and 2).
    Du, Yang, Zou, Hu (2020), Fairness in Deep Learning: A Computational Perspective, arXiv:1908.08843 (section 2.2).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from fairjax import checks
from fairjax.types import AnyArray

Rows = Bool[AnyArray, " n"] | Num[AnyArray, " n"]
Weights = Float[AnyArray, " n"]
Measure = Callable[..., Float[Array, ""]]
"""`measure(values, y, a, weights=None)`, a scalar."""


def rate(
    values: Rows, rows: Bool[AnyArray, " n"], weights: Weights | None = None
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """Weighted mean of `values` over `rows`, and whether there is one: 0 and false where the rows weigh nothing."""
    values = checks.floating(values)
    weights = jnp.ones_like(values) if weights is None else jnp.asarray(weights).astype(values.dtype)
    total = jnp.sum(weights, where=rows)
    some = ~(total <= 0)  # a weight that is NaN must not look like an empty group
    return jnp.sum(values * weights, where=rows) / jnp.where(some, total, 1.0), some


def gap(
    values: Rows, first: Bool[AnyArray, " n"], second: Bool[AnyArray, " n"], weights: Weights | None = None
) -> Float[Array, ""]:
    """Mean of `values` over `first` less that over `second`; exactly 0, with a zero gradient, if either is empty.

    Args:
        values: decisions, scores, or any other number a row.
        first: the rows of the first group.
        second: the rows of the second group.
        weights: a non-negative weight for each row; 1 if omitted. A row of weight 0 is not there.

    Returns:
        A scalar of the values' unit.

    Example:
        >>> gap(jnp.array([1.0, 0.0, 1.0]), jnp.array([True, True, False]), jnp.array([False, False, True])).item()
        -0.5
    """
    checks.check_index(values=values, first=first, second=second, weights=weights)
    values, (first, of_one), (second, of_other) = (
        checks.vector("values", values),
        checks.indicator("first", checks.vector("first", first)),
        checks.indicator("second", checks.vector("second", second)),
    )
    if not values.shape == first.shape == second.shape:
        raise ValueError(
            f"values, first and second must be vectors of one length, found shapes {values.shape}, {first.shape} and "
            f"{second.shape}"
        )
    values = checks.floating(values)
    weights, of_weights = checks.sample_weights(weights, values)
    found = _gap(values, first, second, weights)
    valid = checks.both(of_one, of_other, of_weights)
    return found if valid is None else jnp.where(valid, found, jnp.nan)


def _gap(
    values: Rows, first: Bool[AnyArray, " n"], second: Bool[AnyArray, " n"], weights: Weights | None
) -> Float[Array, ""]:
    """`gap` of rows that are checked."""
    of_first, any_first = rate(values, first, weights)
    of_second, any_second = rate(values, second, weights)
    return jnp.where(any_first & any_second, of_first - of_second, 0.0)


def spd(values: Rows, y: Rows, a: Rows, weights: Weights | None = None) -> Float[Array, ""]:
    """Statistical parity difference, P(f | a=0) - P(f | a=1): Eq. 1 on scores, the metric on decisions.

    Args:
        values: decisions in {0, 1} or scores in (0, 1), one a row.
        y: labels in {0, 1}; not used, here so that every measure is called alike.
        a: protected attribute, 1 = privileged.
        weights: sample weights; 1 if omitted.

    Returns:
        A scalar in [-1, 1]; 0 if a group is empty.

    Example:
        >>> spd(jnp.array([1, 1, 0, 1]), jnp.array([1, 0, 0, 1]), jnp.array([0, 0, 1, 1])).item()
        0.5
    """
    rows = checks.rows(values, y, a, weights)
    return rows.or_nan(_gap(rows.values, ~rows.a, rows.a, rows.weights))


def eod(values: Rows, y: Rows, a: Rows, weights: Weights | None = None) -> Float[Array, ""]:
    """Equal opportunity difference, P(f | y=1, a=0) - P(f | y=1, a=1): Eq. 2 on scores, the metric on decisions.

    Args:
        values: decisions in {0, 1} or scores in (0, 1), one a row.
        y: labels in {0, 1}.
        a: protected attribute, 1 = privileged.
        weights: sample weights; 1 if omitted.

    Returns:
        A scalar in [-1, 1]; 0 if a group has no positive.

    Example:
        >>> eod(jnp.array([1, 1, 0, 1]), jnp.array([1, 0, 1, 1]), jnp.array([0, 0, 1, 1])).item()
        0.5
    """
    rows = checks.rows(values, y, a, weights)
    return rows.or_nan(_gap(rows.values, rows.y & ~rows.a, rows.y & rows.a, rows.weights))


def false_positive_rate_difference(values: Rows, y: Rows, a: Rows, weights: Weights | None = None) -> Float[Array, ""]:
    """P(f | y=0, a=0) - P(f | y=0, a=1), also called predictive equality.

    Args:
        values: decisions in {0, 1} or scores in (0, 1), one a row.
        y: labels in {0, 1}.
        a: protected attribute, 1 = privileged.
        weights: sample weights; 1 if omitted.

    Returns:
        A scalar in [-1, 1]; 0 if a group has no negative.

    Example:
        >>> false_positive_rate_difference(jnp.array([1, 0, 1]), jnp.array([0, 0, 0]), jnp.array([0, 1, 1])).item()
        0.5
    """
    rows = checks.rows(values, y, a, weights)
    return rows.or_nan(_gap(rows.values, ~rows.y & ~rows.a, ~rows.y & rows.a, rows.weights))


def predictive_parity_difference(values: Rows, y: Rows, a: Rows, weights: Weights | None = None) -> Float[Array, ""]:
    """Difference of the positive predictive values, P(y=1 | f, a=0) - P(y=1 | f, a=1).

    On scores each row counts in proportion to its score: the expectation of numerator and denominator when decisions
    are drawn with the scores as probabilities.

    Args:
        values: decisions in {0, 1} or scores in (0, 1), one a row.
        y: labels in {0, 1}.
        a: protected attribute, 1 = privileged.
        weights: sample weights; 1 if omitted.

    Returns:
        A scalar in [-1, 1]; 0 if nobody in a group is accepted.

    Example:
        >>> predictive_parity_difference(jnp.array([1, 1, 1]), jnp.array([1, 1, 0]), jnp.array([0, 1, 1])).item()
        0.5
    """
    rows = checks.rows(values, y, a, weights)
    accepted = rows.values if rows.weights is None else rows.values * rows.weights
    return rows.or_nan(_gap(rows.y.astype(accepted.dtype), ~rows.a, rows.a, accepted))


def accuracy_difference(values: Rows, y: Rows, a: Rows, weights: Weights | None = None) -> Float[Array, ""]:
    """P(f = y | a=0) - P(f = y | a=1): Du et al.'s predictive quality parity, with accuracy as the quality.

    Args:
        values: decisions in {0, 1} or scores in (0, 1), one a row.
        y: labels in {0, 1}.
        a: protected attribute, 1 = privileged.
        weights: sample weights; 1 if omitted.

    Returns:
        A scalar in [-1, 1]; 0 if a group is empty.

    Example:
        >>> accuracy_difference(jnp.array([1, 1, 0]), jnp.array([1, 1, 1]), jnp.array([0, 1, 1])).item()
        0.5
    """
    rows = checks.rows(values, y, a, weights)
    right = jnp.where(rows.y, rows.values, 1.0 - rows.values)
    return rows.or_nan(_gap(right, ~rows.a, rows.a, rows.weights))


def average_odds_difference(values: Rows, y: Rows, a: Rows, weights: Weights | None = None) -> Float[Array, ""]:
    """Signed mean of the true and the false positive rate differences: the equalised odds of AIF360 and Du et al.

    Args:
        values: decisions in {0, 1} or scores in (0, 1), one a row.
        y: labels in {0, 1}.
        a: protected attribute, 1 = privileged.
        weights: sample weights; 1 if omitted.

    Returns:
        A scalar in [-1, 1]; a difference that a missing group leaves undefined counts as 0.

    Example:
        >>> average_odds_difference(jnp.array([1, 0, 1, 1]), jnp.array([1, 1, 0, 0]), jnp.array([0, 1, 0, 1])).item()
        0.5
    """
    return 0.5 * (eod(values, y, a, weights) + false_positive_rate_difference(values, y, a, weights))


def equalized_odds_difference(values: Rows, y: Rows, a: Rows, weights: Weights | None = None) -> Float[Array, ""]:
    """The larger of |true positive rate difference| and |false positive rate difference|: Fairlearn's equalised odds.

    Args:
        values: decisions in {0, 1} or scores in (0, 1), one a row.
        y: labels in {0, 1}.
        a: protected attribute, 1 = privileged.
        weights: sample weights; 1 if omitted.

    Returns:
        A scalar in [0, 1], without a sign; a difference that a missing group leaves undefined counts as 0.

    Example:
        >>> equalized_odds_difference(jnp.array([1, 0, 1, 1]), jnp.array([1, 1, 0, 0]), jnp.array([0, 1, 0, 1])).item()
        1.0
    """
    return jnp.maximum(
        jnp.abs(eod(values, y, a, weights)), jnp.abs(false_positive_rate_difference(values, y, a, weights))
    )


def demographic_parity_ratio(values: Rows, y: Rows, a: Rows, weights: Weights | None = None) -> Float[Array, ""]:
    """P(f | a=0) / P(f | a=1): Du et al.'s demographic parity, AIF360's disparate impact.

    Args:
        values: decisions in {0, 1} or scores in (0, 1), one a row.
        y: labels in {0, 1}; not used.
        a: protected attribute, 1 = privileged.
        weights: sample weights; 1 if omitted.

    Returns:
        A non-negative scalar; 1 is parity, also returned if a group is empty or both rates are 0. Infinite, with a zero
        gradient, if only the privileged group's rate is 0.

    Example:
        >>> demographic_parity_ratio(jnp.array([1, 0, 1, 1]), jnp.array([1, 1, 0, 0]), jnp.array([0, 0, 1, 1])).item()
        0.5
    """
    rows = checks.rows(values, y, a, weights)
    unprivileged, any_unprivileged = rate(rows.values, ~rows.a, rows.weights)
    privileged, any_privileged = rate(rows.values, rows.a, rows.weights)
    ratio = unprivileged / jnp.where(privileged > 0, privileged, 1.0)
    ratio = jnp.where(privileged > 0, ratio, jnp.where(unprivileged > 0, jnp.inf, 1.0))
    return rows.or_nan(jnp.where(any_unprivileged & any_privileged, ratio, 1.0))


def demographic_parity_shortfall(values: Rows, y: Rows, a: Rows, weights: Weights | None = None) -> Float[Array, ""]:
    """The demographic-parity ratio less 1, so that 0 is parity and the debiasing methods can take it as a bias.

    Args:
        values: decisions in {0, 1} or scores in (0, 1), one a row.
        y: labels in {0, 1}; not used.
        a: protected attribute, 1 = privileged.
        weights: sample weights; 1 if omitted.

    Returns:
        A scalar, at least -1.

    Example:
        >>> demographic_parity_shortfall(jnp.array([1, 0, 1, 1]), jnp.ones(4), jnp.array([0, 0, 1, 1])).item()
        -0.5
    """
    return demographic_parity_ratio(values, y, a, weights) - 1.0


MEASURES: dict[str, Measure] = {
    "spd": spd,
    "eod": eod,
    "fprd": false_positive_rate_difference,
    "ppd": predictive_parity_difference,
    "accuracy": accuracy_difference,
    "average_odds": average_odds_difference,
    "equalized_odds": equalized_odds_difference,
    "parity_ratio": demographic_parity_shortfall,
}
"""The measures by their short names; each is 0 at parity."""


def _members(table: Float[Array, "2 2 2"]) -> Float[Array, "2"]:
    return jnp.sum(table, axis=(0, 1))


def _positives(table: Float[Array, "2 2 2"]) -> Float[Array, "2"]:
    return jnp.sum(table[:, 1], axis=0)


def _negatives(table: Float[Array, "2 2 2"]) -> Float[Array, "2"]:
    return jnp.sum(table[:, 0], axis=0)


def _accepted(table: Float[Array, "2 2 2"]) -> Float[Array, "2"]:
    return jnp.sum(table[1], axis=0)


NEEDS: dict[Measure, tuple[Callable[[Float[Array, "2 2 2"]], Float[Array, "2"]], ...]] = {
    spd: (_members,),
    eod: (_positives,),
    false_positive_rate_difference: (_negatives,),
    predictive_parity_difference: (_accepted,),
    accuracy_difference: (_members,),
    average_odds_difference: (_positives, _negatives),
    equalized_odds_difference: (_positives, _negatives),
    demographic_parity_shortfall: (_members,),
    demographic_parity_ratio: (_members,),
}
"""Which rows of a table of counts (decision, label, group) a measure needs in each group to be defined."""


class Cells(NamedTuple):
    """What a measure needs to know of rows: sums by label and group, which add up over disjoint rows."""

    total: Float[Array, "2 2"]
    """Weighted sum of the values by (label, group)."""
    weight: Float[Array, "2 2"]
    """Sum of the weights by (label, group)."""


def cells(values: Rows, y: Rows, a: Rows, weights: Weights | None = None) -> Cells:
    """The weighted sums of values, and of weights, by label and group.

    The cells of disjoint rows, added leaf by leaf (`jax.tree.map(jnp.add, one, other)`), are the cells of all rows:
    that is how a measure is computed over chunks, devices and hosts. Averages of a measure's own values are not it.

    Args:
        values: decisions in {0, 1} or scores in (0, 1), one a row.
        y: labels in {0, 1}.
        a: protected attribute, 1 = privileged.
        weights: sample weights; 1 if omitted.

    Returns:
        The sums, differentiable by the values.

    Example:
        >>> cells(jnp.array([1, 1, 0, 1]), jnp.array([1, 1, 0, 1]), jnp.array([0, 0, 1, 1])).total.tolist()
        [[0.0, 0.0], [2.0, 1.0]]
    """
    rows = checks.rows(values, y, a, weights, weightless=True)
    values, y, a = rows.values, rows.y, rows.a
    weights = jnp.ones_like(values) if rows.weights is None else rows.weights
    cell = jnp.stack([~y & ~a, ~y & a, y & ~a, y & a])
    total, weight = (jnp.where(cell, each[None], 0.0).sum(axis=1).reshape(2, 2) for each in (values * weights, weights))
    return Cells(rows.or_nan(total), rows.or_nan(weight))


def of_cells(measure: Measure, cells: Cells) -> Float[Array, ""]:
    """A measure from sums by label and group instead of rows: it is called on four rows, the cells' means.

    Every measure of this room depends on the values through these sums alone, so this is the measure of all rows that
    were summed, and its derivative by `cells.total` leads to the derivative by each row's value: times the row's
    weight. A measure of your own must be of the same kind, a function of the sums; one that looks at single values,
    such as a median or a squared score, gives something else here.

    Args:
        measure: of bias.
        cells: from `cells`, or a sum of such.

    Returns:
        The measure; where a cell is empty neither it nor its derivatives are NaN.

    Example:
        >>> f, y, a = jnp.array([0.9, 0.4, 0.2, 0.6]), jnp.array([1, 0, 0, 1]), jnp.array([0, 0, 1, 1])
        >>> round(of_cells(spd, cells(f, y, a)).item(), 6)
        0.25
    """
    total, weight = cells.total.reshape(-1), cells.weight.reshape(-1)
    there = ~(weight <= 0)
    mean = jnp.where(there, total / jnp.where(there, weight, 1.0), 0.0)
    cell = jnp.arange(4)
    weight = jnp.where(jnp.any(weight > 0) | jnp.any(jnp.isnan(weight)), weight, 1.0)  # of no rows, measures refuse
    return measure(mean, cell // 2 == 1, cell % 2 == 1, weight)
