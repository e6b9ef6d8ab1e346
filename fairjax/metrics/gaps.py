"""Gaps: how much the rates of all groups differ, as one number.

Each gap is called as `gap(rates, sizes, there, overall)`: the rate of each group, its denominator, whether it can be
compared, and the rate of all rows. The rates of groups that cannot be compared are ignored.

If fewer than two groups can be compared, there is no gap: the result is NaN, with a zero gradient. It is not 0, since 0
means parity.

References:
    Kearns, Neel, Roth, Wu (2018), Preventing Fairness Gerrymandering, ICML.
    Foulds, Islam, Keya, Pan (2020), An Intersectional Definition of Fairness, ICDE.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fairjax.registry import Registry, brief

Gap = Callable[..., Float[Array, ""]]
"""A function `gap(rates, sizes, there, overall)` that returns a scalar."""


@dataclass(frozen=True)
class Difference:
    """The signed difference: the rate of group `i` minus that of group `j`; NaN if either cannot be compared.

    Example:
        >>> rates = jnp.array([0.5, 0.25])
        >>> Difference(0, 1)(rates, jnp.ones(2), jnp.array([True, True]), 0.4).item()
        0.25
    """

    i: int = 0
    """The first group."""
    j: int = 1
    """The group whose rate is subtracted."""

    def __call__(self, rates, sizes, there, overall):
        """Compute the difference."""
        count = rates.shape[0]
        if not (0 <= self.i < count and 0 <= self.j < count):
            raise ValueError(f"expected groups from 0 to {count - 1}, got Difference({self.i}, {self.j})")
        rates = jnp.where(there, rates, 0.0)
        return jnp.where(self.comparable(there), rates[self.i] - rates[self.j], jnp.nan)

    def comparable(self, there: Bool[Array, " G"]) -> Bool[Array, ""]:
        """Return whether both groups can be compared."""
        return there[self.i] & there[self.j]


@dataclass(frozen=True)
class Distance(Difference):
    """The absolute difference between the rates of groups `i` and `j`; NaN if either cannot be compared.

    Example:
        >>> rates = jnp.array([0.25, 0.5])
        >>> Distance(0, 1)(rates, jnp.ones(2), jnp.array([True, True]), 0.4).item()
        0.25
    """

    def __call__(self, rates, sizes, there, overall):
        """Compute the distance."""
        return jnp.abs(super().__call__(rates, sizes, there, overall))


@dataclass(frozen=True)
class Quotient:
    """The rate of group `i` divided by that of group `j`, minus a constant; NaN if either cannot be compared.

    If both rates are 0, the quotient is 1 (parity); if only the second is 0, it is infinite, with a zero gradient.

    Example:
        >>> rates = jnp.array([0.25, 0.5])
        >>> Quotient(0, 1)(rates, jnp.ones(2), jnp.array([True, True]), 0.4).item()
        0.5
    """

    i: int = 0
    """The group whose rate is the numerator."""
    j: int = 1
    """The group whose rate is the denominator."""
    less: float | int = 0.0
    """Constant that is subtracted; with 1, parity is 0."""

    def __call__(self, rates, sizes, there, overall):
        """Compute the quotient."""
        count = rates.shape[0]
        if not (0 <= self.i < count and 0 <= self.j < count):
            raise ValueError(f"expected groups from 0 to {count - 1}, got Quotient({self.i}, {self.j})")
        rates = jnp.where(there, rates, 0.0)
        top, bottom = rates[self.i], rates[self.j]
        quotient = top / jnp.where(bottom > 0, bottom, 1.0)
        quotient = jnp.where(bottom > 0, quotient, jnp.where(top > 0, jnp.inf, 1.0))
        return jnp.where(self.comparable(there), quotient - self.less, jnp.nan)

    def comparable(self, there: Bool[Array, " G"]) -> Bool[Array, ""]:
        """Return whether both groups can be compared."""
        return there[self.i] & there[self.j]


@dataclass(frozen=True)
class Smooth:
    """A smooth `spread` to which every group contributes: the extremes are replaced by log-mean-exp of the rates.

    It is exactly 0 where the rates are equal, and below the spread by at most 2 log(groups) / t.
    """

    t: float | int = 20.0
    """Sharpness; the larger, the closer to the spread."""

    def __post_init__(self) -> None:
        """Validate the sharpness."""
        if not self.t > 0:
            raise ValueError(f"t must be positive, got {self.t}")

    def __call__(self, rates, sizes, there, overall):
        """Compute the smoothed spread."""
        rates = _filled(rates, there)
        count = jnp.maximum(jnp.sum(there, dtype=rates.dtype), 1.0)

        def soft_maximum(sign):
            limit = jax.lax.stop_gradient(jnp.max(sign * rates))
            mean = jnp.sum(jnp.exp(self.t * (sign * rates - limit)), where=there) / count
            return limit, jnp.log(jnp.where(jnp.any(there), mean, 1.0)) / self.t

        (top, top_excess), (bottom, bottom_excess) = soft_maximum(1.0), soft_maximum(-1.0)
        return _compared((top + bottom) + (top_excess + bottom_excess), there)


def spread(rates, sizes, there, overall):
    """Compute the difference between the greatest and the least rate.

    Args:
        rates: the rate of each group.
        sizes: the denominator of each rate.
        there: whether each group can be compared.
        overall: the rate of all rows.

    Returns:
        A scalar, not negative; NaN if fewer than two groups can be compared.

    Example:
        >>> spread(jnp.array([0.5, 0.25, jnp.nan]), jnp.ones(3), jnp.array([True, True, False]), 0.4).item()
        0.25
    """
    rates = _filled(rates, there)
    return _compared(jnp.max(rates) - jnp.min(rates), there)


def comparable(gap: Gap, there: Bool[Array, " G"]) -> Bool[Array, ""]:
    """Return whether the groups that a gap needs can be compared: those that it names, or any two.

    Example:
        >>> comparable(spread, jnp.array([True, False, True])).item()
        True
    """
    condition = getattr(gap, "comparable", None)
    return jnp.sum(there) >= 2 if condition is None else condition(there)


def ratio(rates, sizes, there, overall):
    """Compute the ratio of the least to the greatest rate: 1 is parity; NaN, as in Fairlearn, if all rates are 0."""
    rates = _filled(rates, there)
    least, greatest = jnp.min(rates), jnp.max(rates)
    zero = greatest == 0
    return _compared(jnp.where(zero, jnp.nan, least / jnp.where(zero, 1.0, greatest)), there)


def log_ratio(rates, sizes, there, overall):
    """Compute the log ratio of the greatest to the least rate: differential fairness of one outcome (Foulds et al.).

    It is infinite, with a zero gradient, if only some rates are 0, and NaN if all are.
    """
    rates = _filled(rates, there)
    least, greatest = jnp.min(rates), jnp.max(rates)
    zero = least == 0
    value = jnp.log(jnp.where(zero, 1.0, greatest)) - jnp.log(jnp.where(zero, 1.0, least))
    return _compared(jnp.where(zero, jnp.where(greatest == 0, jnp.nan, jnp.inf), value), there)


def to_overall(rates, sizes, there, overall):
    """Compute the greatest distance of a group's rate from the rate of all rows."""
    return _compared(jnp.max(_distance(rates, there, overall)), there)


def mean_absolute(rates, sizes, there, overall):
    """Compute the mean distance from the rate of all rows, weighted by the sizes of the groups that can be compared."""
    share = _shares(jnp.where(there, sizes, 0.0))
    return _compared(jnp.sum(share * _distance(rates, there, overall)), there)


def pairwise(rates, sizes, there, overall):
    """Compute the mean distance over pairs of groups."""
    rates = _filled(rates, there)
    pair = there[:, None] & there[None, :] & ~jnp.eye(rates.shape[0], dtype=bool)
    count = jnp.maximum(jnp.sum(pair, dtype=rates.dtype), 1.0)
    return _compared(jnp.sum(jnp.abs(rates[:, None] - rates[None, :]), where=pair) / count, there)


def variance(rates, sizes, there, overall):
    """Compute the variance of the rates across groups, with equal weight for each group."""
    return _compared(_variance(rates, there), there)


def deviation(rates, sizes, there, overall):
    """Compute the standard deviation of the rates across groups; its gradient at parity is 0."""
    square = _variance(rates, there)
    zero = square == 0
    return _compared(jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, square))), there)


def kearns(rates, sizes, there, overall):
    """Compute the violation of Kearns et al.: the greatest distance from the overall rate times the group's share.

    The shares are relative to the total size of all groups, including those that cannot be compared; in a `Parity`, to
    all rows.
    """
    return _compared(jnp.max(_shares(sizes) * _distance(rates, there, overall)), there)


def shortfall(rates, sizes, there, overall):
    """Compute the ratio of the least to the greatest rate minus 1: 0 is parity, so that it can serve as a bias."""
    return ratio(rates, sizes, there, overall) - 1.0


def worst(rates, sizes, there, overall):
    """Return the least rate: a level rather than a gap, for rates for which higher is better."""
    return _compared(jnp.min(_filled(rates, there)), there)


def _compared(value, there):
    """Return the value, or NaN with a zero gradient if fewer than two groups can be compared."""
    return jnp.where(jnp.sum(there) >= 2, value, jnp.nan)


def _filled(rates, there):
    """Replace the rates of groups that cannot be compared by the mean of the other rates."""
    rates = jnp.where(there, rates, 0.0)
    mean = jnp.sum(rates) / jnp.maximum(jnp.sum(there, dtype=rates.dtype), 1.0)
    # By rounding, the mean of equal numbers may lie outside of them, so it is clipped to their range.
    top = jnp.max(rates, initial=-jnp.inf, where=there)
    bottom = jnp.min(rates, initial=jnp.inf, where=there)
    mean = jnp.where(jnp.any(there), jnp.clip(mean, bottom, top), 0.0)
    return jnp.where(there, rates, jax.lax.stop_gradient(mean))


def _distance(rates, there, overall):
    rates = jnp.where(there, rates, 0.0)
    overall = jnp.where(jnp.any(there), overall, 0.0)
    return jnp.where(there, jnp.abs(rates - overall), 0.0)


def _shares(sizes):
    total = jnp.sum(sizes)
    return jnp.where(total > 0, sizes / jnp.where(total > 0, total, 1.0), 0.0)


def _variance(rates, there):
    rates = jnp.where(there, rates, 0.0)
    count = jnp.maximum(jnp.sum(there, dtype=rates.dtype), 1.0)
    mean = jnp.sum(rates) / count
    return jnp.sum(jnp.where(there, rates - mean, 0.0) ** 2) / count


def _check_entry(name: str, gap: Any) -> None:
    """Check an entry of `GAPS` by tracing it on the rates of three groups."""
    what = f"the gap {name!r} must be a function (rates, sizes, there, overall)"
    if not callable(gap) or isinstance(gap, type):
        raise TypeError(f"{what}, got {brief(gap)}")
    rates, there, overall = (
        jax.ShapeDtypeStruct(shape, kind) for shape, kind in (((3,), float), ((3,), bool), ((), float))
    )
    try:
        result = jax.eval_shape(gap, rates, rates, there, overall)
    except Exception as error:
        raise TypeError(f"{what}; on three groups it fails: {brief(error)}") from error
    shape = getattr(result, "shape", None)
    if shape != ():
        raise TypeError(f"{what} that returns a scalar; on three groups it returns {brief(result)}")


GAPS: Registry[Gap] = Registry(
    "gap",
    {
        "spread": spread,
        "smooth": Smooth(),
        "to_overall": to_overall,
        "mean_absolute": mean_absolute,
        "pairwise": pairwise,
        "variance": variance,
        "deviation": deviation,
        "log_ratio": log_ratio,
        "shortfall": shortfall,
        "kearns": kearns,
    },
    labels={
        "spread": "the greatest rate of a group less the least",
        "smooth": "a smooth form of the greatest rate of a group less the least",
        "to_overall": "the greatest distance of a group's rate from the rate of all rows",
        "mean_absolute": "the mean distance of the groups' rates from the rate of all rows, by their sizes",
        "pairwise": "the mean distance between the rates of two groups",
        "variance": "the variance of the groups' rates",
        "deviation": "the standard deviation of the groups' rates",
        "log_ratio": "the logarithm of the greatest rate of a group over the least",
        "shortfall": "the least rate of a group over the greatest, less 1",
        "kearns": "the greatest distance of a group's rate from the rate of all rows, times the group's share",
    },
    check=_check_entry,
)
"""The gaps that are 0 at parity, by name, with a description of each."""

LOCAL = (spread, ratio, log_ratio, pairwise, variance, deviation, shortfall, worst)
"""The gaps that do not depend on the rate of all rows."""
