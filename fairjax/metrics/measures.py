"""Differences between the groups of a protected attribute, each with one definition for decisions and for scores.

Every measure is a function `measure(values, y, a, weights=None)` of rows. On decisions (0 or 1) it is the metric; on
scores in (0, 1) it is the metric's differentiable proxy, which can be added to any loss. All measures but the
demographic-parity ratio are 0 at parity, and positive when the unprivileged group (`a` = 0) has the higher rate.

A difference that cannot be computed because a group is empty, as in small mini-batches, is exactly 0 with a zero
gradient (the ratio: exactly 1), never NaN.

References:
    Marcinkevičs, Ozkan, Vogt (2022), Debiasing Neural Networks using Differentiable Classification Parity Proxies,
    ICLR 2022 Workshop on Socially Responsible Machine Learning (Eq. 1 and 2).
    Du, Yang, Zou, Hu (2020), Fairness in Deep Learning: A Computational Perspective, arXiv:1908.08843 (section 2.2).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from fairjax import checks
from fairjax.metrics.gaps import GAPS, Difference, Distance, Gap, Quotient, ratio, shortfall, spread
from fairjax.metrics.parity import (
    Over,
    Parity,
    accuracy_parity,
    count_groups,
    demographic_parity,
    equal_opportunity,
    equalized_odds,
    predictive_equality,
    predictive_parity,
)
from fairjax.registry import Registry, brief
from fairjax.types import AnyArray

Rows = Bool[AnyArray, " n"] | Num[AnyArray, " n"]
Weights = Float[AnyArray, " n"]
Measure = Callable[..., Float[Array, ""]]
"""A function `measure(values, y, a, weights=None)` that returns a scalar."""

F = TypeVar("F", bound=Measure)


def rate(
    values: Rows, rows: Bool[AnyArray, " n"], weights: Weights | None = None
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """Compute the weighted mean of `values` over `rows`, and whether it exists: 0 and false if all weights are 0.

    Raises:
        ValueError: if `values`, `rows` and `weights` are not vectors of the same length.
    """
    values = checks.floating(values)
    weights = jnp.ones_like(values) if weights is None else jnp.asarray(weights).astype(values.dtype)
    if values.ndim != 1 or not values.shape == rows.shape == weights.shape:
        raise ValueError(
            f"values, rows and weights must be vectors of one length, found shapes {values.shape}, {rows.shape} and "
            f"{weights.shape}: squeeze columns of shape (n, 1), values[:, 0]"
        )
    total = jnp.sum(weights, where=rows)
    some = ~(total <= 0)  # a NaN weight must not look like an empty group
    return jnp.sum(values * weights, where=rows) / jnp.where(some, total, 1.0), some


def gap(
    values: Rows, first: Bool[AnyArray, " n"], second: Bool[AnyArray, " n"], weights: Weights | None = None
) -> Float[Array, ""]:
    """Compute the mean of `values` over `first` minus that over `second`; 0, with a zero gradient, if one is empty.

    Args:
        values: decisions, scores, or any other number per row.
        first: the rows of the first group.
        second: the rows of the second group.
        weights: non-negative weights, one per row; 1 if omitted. Rows with weight 0 are ignored.

    Returns:
        A scalar in the unit of the values.

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
    return checks.nan_unless(checks.all_valid(of_one, of_other, of_weights), found)


def _gap(
    values: Rows, first: Bool[AnyArray, " n"], second: Bool[AnyArray, " n"], weights: Weights | None
) -> Float[Array, ""]:
    """Compute `gap` for checked rows."""
    of_first, any_first = rate(values, first, weights)
    of_second, any_second = rate(values, second, weights)
    return jnp.where(any_first & any_second, of_first - of_second, 0.0)


class Definition(NamedTuple):
    """What a measure of two groups compares, and what becomes of it for more groups and classes."""

    make: Callable[..., Parity]
    """Function that makes the `Parity` for a number of classes and a gap."""
    two: Gap = Difference(0, 1)
    """Gap of two groups. Default: the rate of the unprivileged group minus that of the privileged group."""
    several: Gap = spread
    """Gap of more than two groups."""
    over: Over = "max"
    """How the gaps of several rates are combined."""
    absent: float = 0.0
    """Gap of a rate that cannot be compared because a group is missing."""

    def for_two(self) -> Parity:
        """Make the measure for two groups and classes."""
        return self.make(across=self.two, over=self.over, absent=self.absent, num_groups=2)

    def for_several(self, num_classes: int, gap: Gap | None = None, **options: Any) -> Parity:
        """Make the measure for a number of classes, with further fields of `Parity`."""
        return self.make(num_classes, gap or self.several, over=self.over, **options)


_DEFINED: dict[Measure, tuple[Definition, Parity]] = {}
"""The definition of each function decorated by `_defined`, and its `Parity` of two groups."""


def _defined(label: str, make: Callable[..., Parity], **choices: Any) -> Callable[[F], F]:
    """Decorator of a measure of two groups: gives the function its definition, and a label for tables and figures.

    A function that a user wraps around a decorated one does not have the definition, since it may compute something
    else.

    Args:
        label: the name in tables and figures.
        make: see `Definition`.
        **choices: further fields of `Definition`.
    """
    definition = Definition(make, **choices)

    def decorate(function: F) -> F:
        _DEFINED[function] = definition, definition.for_two()
        function.label = label  # type: ignore[attr-defined]
        return function

    return decorate


def _of_two(measure: Measure, values: Rows, y: Rows, a: Rows, weights: Weights | None) -> Float[Array, ""]:
    """Compute a decorated measure on rows."""
    rows = checks.rows(values, y, a, weights)
    _refuse_memberships(rows.a)
    parity = _DEFINED[measure][1]
    return rows.or_nan(parity.of_rows(rows.values, rows.y, rows.a, rows.weights, 2))


@_defined("SPD", demographic_parity)
def spd(values: Rows, y: Rows, a: Rows, weights: Weights | None = None) -> Float[Array, ""]:
    """Statistical parity difference, P(f | a=0) - P(f | a=1): Eq. 1 on scores, the metric on decisions.

    Args:
        values: decisions in {0, 1} or scores in (0, 1), one per row.
        y: labels in {0, 1}; not used, but all measures have the same signature.
        a: protected attribute, 1 = privileged.
        weights: sample weights; 1 if omitted.

    Returns:
        A scalar in [-1, 1]; 0 if a group is empty.

    Example:
        >>> spd(jnp.array([1, 1, 0, 1]), jnp.array([1, 0, 0, 1]), jnp.array([0, 0, 1, 1])).item()
        0.5

    References:
        Dwork, Hardt, Pitassi, Reingold, Zemel (2012), Fairness through awareness, ITCS.
    """
    return _of_two(spd, values, y, a, weights)


@_defined("EOD", equal_opportunity)
def eod(values: Rows, y: Rows, a: Rows, weights: Weights | None = None) -> Float[Array, ""]:
    """Equal opportunity difference, P(f | y=1, a=0) - P(f | y=1, a=1): Eq. 2 on scores, the metric on decisions.

    The arguments are those of `spd`. The result is in [-1, 1], and 0 if a group has no positive.

    Example:
        >>> eod(jnp.array([1, 1, 0, 1]), jnp.array([1, 0, 1, 1]), jnp.array([0, 0, 1, 1])).item()
        0.5

    References:
        Hardt, Price, Srebro (2016), Equality of opportunity in supervised learning, NeurIPS.
    """
    return _of_two(eod, values, y, a, weights)


@_defined("FPRD", predictive_equality)
def false_positive_rate_difference(values: Rows, y: Rows, a: Rows, weights: Weights | None = None) -> Float[Array, ""]:
    """False positive rate difference, P(f | y=0, a=0) - P(f | y=0, a=1), also called predictive equality.

    The arguments are those of `spd`. The result is in [-1, 1], and 0 if a group has no negative.

    Example:
        >>> false_positive_rate_difference(jnp.array([1, 0, 1]), jnp.array([0, 0, 0]), jnp.array([0, 1, 1])).item()
        0.5

    References:
        Corbett-Davies, Pierson, Feller, Goel, Huq (2017), Algorithmic decision making and the cost of fairness, KDD.
    """
    return _of_two(false_positive_rate_difference, values, y, a, weights)


@_defined("PPD", predictive_parity)
def predictive_parity_difference(values: Rows, y: Rows, a: Rows, weights: Weights | None = None) -> Float[Array, ""]:
    """Difference of the positive predictive values, P(y=1 | f, a=0) - P(y=1 | f, a=1).

    On scores, each row counts in proportion to its score, which gives the expectations of numerator and denominator
    when decisions are drawn with the scores as probabilities. The arguments are those of `spd`. The result is in
    [-1, 1], and 0 if nobody in a group is accepted.

    Example:
        >>> predictive_parity_difference(jnp.array([1, 1, 1]), jnp.array([1, 1, 0]), jnp.array([0, 1, 1])).item()
        0.5

    References:
        Chouldechova (2017), Fair prediction with disparate impact, Big Data 5(2).
    """
    return _of_two(predictive_parity_difference, values, y, a, weights)


@_defined("accuracy difference", accuracy_parity)
def accuracy_difference(values: Rows, y: Rows, a: Rows, weights: Weights | None = None) -> Float[Array, ""]:
    """Accuracy difference, P(f = y | a=0) - P(f = y | a=1): predictive quality parity (Du et al.) for accuracy.

    The arguments are those of `spd`. The result is in [-1, 1], and 0 if a group is empty.

    Example:
        >>> accuracy_difference(jnp.array([1, 1, 0]), jnp.array([1, 1, 1]), jnp.array([0, 1, 1])).item()
        0.5

    References:
        Du, Yang, Zou, Hu (2020), Fairness in Deep Learning: A Computational Perspective, section 2.2.
    """
    return _of_two(accuracy_difference, values, y, a, weights)


@_defined("average odds", equalized_odds, over="mean")
def average_odds_difference(values: Rows, y: Rows, a: Rows, weights: Weights | None = None) -> Float[Array, ""]:
    """Signed mean of the true and the false positive rate differences: the equalised odds of AIF360 and Du et al.

    The arguments are those of `spd`. The result is in [-1, 1]; a difference that a missing group leaves undefined
    counts as 0.

    Example:
        >>> average_odds_difference(jnp.array([1, 0, 1, 1]), jnp.array([1, 1, 0, 0]), jnp.array([0, 1, 0, 1])).item()
        0.5

    References:
        Bellamy et al. (2019), AI Fairness 360: an extensible toolkit for detecting and mitigating algorithmic bias,
        IBM Journal of Research and Development 63(4/5).
    """
    return _of_two(average_odds_difference, values, y, a, weights)


@_defined("equalised odds", equalized_odds, two=Distance(0, 1))
def equalized_odds_difference(values: Rows, y: Rows, a: Rows, weights: Weights | None = None) -> Float[Array, ""]:
    """The larger of |true positive rate difference| and |false positive rate difference|: Fairlearn's equalised odds.

    The arguments are those of `spd`. The result is in [0, 1], without a sign; a difference that a missing group leaves
    undefined counts as 0.

    Example:
        >>> equalized_odds_difference(jnp.array([1, 0, 1, 1]), jnp.array([1, 1, 0, 0]), jnp.array([0, 1, 0, 1])).item()
        1.0

    References:
        Weerts, Dudik, Edgar, Jalali, Lutz, Madaio (2023), Fairlearn: assessing and improving fairness of AI systems,
        JMLR 24(257).
    """
    return _of_two(equalized_odds_difference, values, y, a, weights)


@_defined("demographic-parity ratio", demographic_parity, two=Quotient(0, 1), several=ratio, absent=1.0)
def demographic_parity_ratio(values: Rows, y: Rows, a: Rows, weights: Weights | None = None) -> Float[Array, ""]:
    """Ratio P(f | a=0) / P(f | a=1): demographic parity of Du et al., disparate impact in AIF360.

    The arguments are those of `spd`. The result is not negative; 1 is parity, and is also returned if a group is empty
    or both rates are 0. It is infinite, with a zero gradient, if only the privileged group's rate is 0.

    Example:
        >>> demographic_parity_ratio(jnp.array([1, 0, 1, 1]), jnp.array([1, 1, 0, 0]), jnp.array([0, 0, 1, 1])).item()
        0.5

    References:
        Feldman, Friedler, Moeller, Scheidegger, Venkatasubramanian (2015), Certifying and removing disparate impact,
        KDD.
    """
    return _of_two(demographic_parity_ratio, values, y, a, weights)


@_defined("parity ratio", demographic_parity, two=Quotient(0, 1, less=1.0), several=shortfall)
def demographic_parity_shortfall(values: Rows, y: Rows, a: Rows, weights: Weights | None = None) -> Float[Array, ""]:
    """The demographic-parity ratio minus 1, so that 0 is parity and the debiasing methods can use it as a bias.

    The arguments are those of `spd`, and the reference is that of `demographic_parity_ratio`. The result is at least
    -1.

    Example:
        >>> demographic_parity_shortfall(jnp.array([1, 0, 1, 1]), jnp.ones(4), jnp.array([0, 0, 1, 1])).item()
        -0.5
    """
    return _of_two(demographic_parity_shortfall, values, y, a, weights)


def _check_entry(name: str, measure: Any) -> None:
    """Check an entry of `MEASURES`; what a function returns is checked when it is used."""
    if not callable(measure) or isinstance(measure, type):
        raise TypeError(
            f"the measure {name!r} must be a function (values, y, a, weights=None) or a fairjax.Parity, got "
            f"{brief(measure)}"
        )
    if getattr(measure, "__hash__", None) is None:
        what = f"the measure {name!r} must be hashable, since programs are compiled for it"
        raise TypeError(f"{what}, got {brief(measure)}")


MEASURES: Registry[Measure] = Registry(
    "measure",
    {
        "spd": spd,
        "eod": eod,
        "fprd": false_positive_rate_difference,
        "ppd": predictive_parity_difference,
        "accuracy": accuracy_difference,
        "average_odds": average_odds_difference,
        "equalized_odds": equalized_odds_difference,
        "parity_ratio": demographic_parity_shortfall,
    },
    check=_check_entry,
)
"""The measures by short names, each 0 at parity. There is no other list of them. Add a measure with
`MEASURES.register`: a function of (values, y, a, weights=None) for two groups, or a `fairjax.Parity` for any number of
groups."""


def _refuse_memberships(a: Any) -> None:
    if a.ndim == 2:
        raise ValueError(
            f"a must be one column of 0 and 1, shape ({a.shape[0]},), found shape {a.shape}: pass one attribute, make "
            "intersections of several with fairjax.data.groups, or choose how memberships are counted with "
            'fairjax.metrics.make_measure(..., membership="weighted")'
        )


def checked(measure: Measure, values: Any, y: Any, a: Any, weights: Any = None) -> checks.CheckedRows:
    """Check rows for a measure.

    Args:
        measure: the measure of bias.
        values: decisions, scores, class codes or probabilities.
        y: labels.
        a: groups, as many as the measure compares.
        weights: sample weights; 1 if omitted.

    Returns:
        The checked rows; see `fairjax.checks.rows`.

    Raises:
        ValueError: if `fairjax.checks.rows` raises it, or if the measure does not accept the memberships.

    Example:
        >>> checked(spd, [0.2, 0.9], [0, 1], [1, 0]).a.tolist()
        [True, False]
    """
    groups = num_groups(measure, checks.numeric("a", a))
    return taken(measure, checks.rows(values, y, a, weights, num_groups=groups, num_classes=num_classes(measure)))


def taken(measure: Measure, rows: checks.CheckedRows) -> checks.CheckedRows:
    """Check the memberships of checked rows for a measure.

    Args:
        measure: the measure of bias.
        rows: rows from `fairjax.checks.rows`.

    Returns:
        The rows; if memberships are traced, their validity is included in `valid`.

    Raises:
        ValueError: if the measure does not accept the memberships.

    Example:
        >>> taken(spd, checks.rows([0.2, 0.9], [0, 1], [1, 0])).a.tolist()
        [True, False]
    """
    if isinstance(measure, Parity):
        return measure.checked(rows)
    _refuse_memberships(rows.a)
    return rows


def as_parity(measure: Measure) -> Parity | None:
    """Return the `Parity` that defines a measure, or None for a user's own function.

    Example:
        >>> as_parity(spd).rates == demographic_parity().rates
        True
    """
    if isinstance(measure, Parity):
        return measure
    return _DEFINED[measure][1] if measure in _DEFINED else None


def num_groups(measure: Measure, a: Any = None) -> int:
    """Return the number of groups that a measure compares: two, unless it is a `Parity` with another number.

    Args:
        measure: the measure of bias.
        a: groups, from which the number is inferred if the measure does not define it: columns of memberships, or codes
            that are not traced.

    Raises:
        ValueError: if the measure does not define the number and it cannot be inferred from the groups.

    Example:
        >>> num_groups(spd)
        2
    """
    if not isinstance(measure, Parity):
        return 2
    if measure.num_groups is not None:
        return measure.num_groups
    return 2 if a is None else count_groups(a)


def num_classes(measure: Measure) -> int:
    """Return the number of classes of a measure: two, unless it is a `Parity` with another number.

    Example:
        >>> num_classes(demographic_parity(num_classes=3))
        3
    """
    return measure.num_classes if isinstance(measure, Parity) else 2


def make_measure(
    name: str,
    num_groups: int = 2,
    num_classes: int = 2,
    *,
    across: str | Gap | None = None,
    minimum: float | int = 1,
    blocks: tuple[tuple[int, ...], ...] | None = None,
    membership: Literal["weighted", "solved"] | None = None,
) -> Measure:
    """Make a measure of `MEASURES` for any number of groups and classes.

    For two groups and classes, it is the signed function of that name. For more groups, the signed difference becomes
    the difference between the greatest and the least rate; for more classes, the class with the largest gap counts.

    Args:
        name: name of a measure in `MEASURES`.
        num_groups: number of groups.
        num_classes: number of classes.
        across: the gap that compares rates across groups, as a name in `fairjax.metrics.GAPS` or as a function.
        minimum: least denominator of a rate, in rows, for its group to be compared.
        blocks: sets of groups that are compared with each other; see `fairjax.metrics.Parity`.
        membership: how soft memberships are counted; see `fairjax.metrics.Parity`.

    Returns:
        The measure.

    Raises:
        ValueError: if there is no such measure or gap.

    Example:
        >>> make_measure("spd") is spd
        True
        >>> make_measure("spd", num_groups=3)([1, 1, 0], [1, 0, 0], [0, 1, 2]).item()
        1.0
    """
    MEASURES.check("measure", name)
    if isinstance(across, str):
        GAPS.check("across", across)
    measure = MEASURES[name]
    plain = across is None and minimum <= 1 and blocks is None and membership is None
    if num_groups == 2 and num_classes == 2 and plain:
        return measure
    gap_ = GAPS[across] if isinstance(across, str) else across
    options: dict[str, Any] = {"num_groups": num_groups, "blocks": blocks, "membership": membership}
    if measure in _DEFINED:
        return _DEFINED[measure][0].for_several(num_classes, gap_, minimum=minimum, **options)
    if not isinstance(measure, Parity):
        raise ValueError(
            f"the measure {name!r} is a function of two groups and two classes: for {num_groups} groups and "
            f"{num_classes} classes, or another gap, register a fairjax.Parity"
        )
    if measure.num_classes != num_classes:
        raise ValueError(f"the measure {name!r} is about {measure.num_classes} classes, and there are {num_classes}")
    gap_ = gap_ or (spread if isinstance(measure.across, Difference) else measure.across)
    return dataclasses.replace(measure, across=gap_, minimum=minimum, **options)
