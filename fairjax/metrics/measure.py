"""Measures of parity: which rates, how far apart across groups, and how the rates' gaps make one number."""

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from fairjax.metrics import rates as _rates
from fairjax.metrics.confusion import _array, confusion, known
from fairjax.metrics.gaps import Gap, spread
from fairjax.metrics.rates import Rate
from fairjax.types import AnyArray

Over = Literal["max", "mean", "sum", "min"]


@dataclass(frozen=True)
class Parity:
    """A measure of parity for any number of groups and classes, on decisions or, as a differentiable proxy, on scores.

    Two measures of equal parts are equal and hash alike, so a function that takes one as a static argument compiles
    once. For that `across` has to be a function of a module or a frozen dataclass, not a lambda.

    Where the gap of a rate cannot be computed, because fewer than two groups have a denominator of `minimum` rows, the
    measure is NaN, with a zero gradient; 0 would say that the groups fare alike.

    Example:
        >>> measure = demographic_parity()
        >>> measure([1, 1, 0, 1], [1, 0, 0, 1], [0, 0, 1, 2]).item()
        1.0
    """

    rates: tuple[Rate, ...]
    """The rates that are to be alike."""
    across: Gap = spread
    """How far a rate is apart across groups, from `fairjax.metrics.gaps`."""
    over: Over = "max"
    """How the gaps of several rates are combined; "min" is for ratios, of which the least is the worst."""
    minimum: float | int = 1
    """Rows that the denominator of a rate must have for its group to be compared. Weighted rows count with Kish's
    effective size, (sum w)^2 / sum w^2. Up to 1, any denominator above 0 will do."""

    def __post_init__(self) -> None:
        """Checks the parts."""
        object.__setattr__(self, "rates", tuple(self.rates))
        if not self.rates or len({rate.num_classes for rate in self.rates}) != 1:
            raise ValueError("rates must be one or more rates of one number of classes")
        if self.over not in ("max", "mean", "sum", "min"):
            raise ValueError(f'over must be "max", "mean", "sum" or "min", got {self.over!r}')

    @property
    def num_classes(self) -> int:
        """Number of classes that the measure is about."""
        return self.rates[0].num_classes

    def __call__(
        self, values: Any, y: Any, groups: Any, weights: Any = None, num_groups: int | None = None
    ) -> Float[Array, ""]:
        """The measure of rows.

        Args:
            values: decisions, scores, class codes or probabilities, as for `confusion`.
            y: labels.
            groups: booleans, codes or memberships, as for `confusion`.
            weights: a non-negative weight for each row; 1 if omitted.
            num_groups: number of groups. It can be left out for booleans, memberships, and codes that are not traced:
                then it is the greatest code and 1.

        Returns:
            A scalar; NaN if it cannot be computed.

        Raises:
            ValueError: for what `confusion` raises it, or if the number of groups is not known.
        """
        if num_groups is None:
            num_groups = _count(groups)
        arguments = {"num_groups": num_groups, "num_classes": self.num_classes}
        tensor = confusion(values, y, groups, weights=weights, **arguments)
        whole = squared = None
        if len(np.shape(groups)) == 2:
            everybody = jnp.zeros(np.shape(values)[0], jnp.int32)
            whole = confusion(values, y, everybody, weights=weights, num_groups=1, num_classes=self.num_classes)[..., 0]
        if weights is not None and self.minimum > 1:
            weights = jnp.asarray(_array(weights, "weights"))
            squared = confusion(values, y, groups, weights=weights.astype(jnp.result_type(float)) ** 2, **arguments)
        return self.of_confusion(tensor, whole=whole, squared=squared)

    def of_confusion(
        self,
        tensor: Num[AnyArray, "P Y G"],
        whole: Num[AnyArray, "P Y"] | None = None,
        squared: Num[AnyArray, "P Y G"] | None = None,
    ) -> Float[Array, ""]:
        """The measure from sums of rows.

        Args:
            tensor: what `confusion` returns, or a sum of such over disjoint rows.
            whole: the same of all rows, whatever their group; the sum over groups if omitted, which is not that for
                memberships that do not sum to 1.
            squared: the tensor with the weights squared, from which effective sizes are computed; if omitted, the
                tensor's own sums count as rows.

        Returns:
            A scalar; NaN if it cannot be computed.
        """
        tensor = jnp.asarray(tensor)
        whole = jnp.sum(tensor, axis=2) if whole is None else jnp.asarray(whole)
        found = jnp.stack([self._gap(rate, tensor, whole, squared) for rate in self.rates])
        missing = jnp.isnan(found)
        safe = jnp.where(missing, 0.0, found)
        combined = {"max": jnp.max, "mean": jnp.mean, "sum": jnp.sum, "min": jnp.min}[self.over](safe)
        return jnp.where(jnp.any(missing), jnp.nan, combined)

    def _gap(self, rate: Rate, tensor, whole, squared):
        values, there = rate.of(tensor)
        sizes = rate.size(tensor)
        if self.minimum > 1:
            effective = sizes
            if squared is not None:
                square = rate.size(jnp.asarray(squared))
                effective = sizes**2 / jnp.where(square > 0, square, 1.0)
            there &= ~(effective < self.minimum * (1 - 1e-6))
        overall, _ = rate.of(whole[..., None])
        return self.across(values, sizes, there, overall[0])


def demographic_parity(
    num_classes: int = 2, across: Gap = spread, over: Over = "max", minimum: float | int = 1
) -> Parity:
    """Are classes predicted as often in each group; for several classes the greatest gap over classes.

    Args:
        num_classes: number of classes; of two, only class 1 is looked at.
        across: how far rates are apart across groups.
        over: how the gaps of several classes are combined.
        minimum: rows that a denominator must have.

    Returns:
        The measure.
    """
    return Parity(tuple(_rates.selection(k, num_classes) for k in _classes(num_classes)), across, over, minimum)


def equal_opportunity(
    num_classes: int = 2, across: Gap = spread, over: Over = "max", minimum: float | int = 1
) -> Parity:
    """Are the rows of a class recognised as often in each group; for several classes the greatest gap over classes."""
    return Parity(tuple(_rates.recall(k, num_classes) for k in _classes(num_classes)), across, over, minimum)


def equalized_odds(num_classes: int = 2, across: Gap = spread, over: Over = "max", minimum: float | int = 1) -> Parity:
    """Are true and false positive rates alike; for several classes each P(predicted p given label y)."""
    found = tuple(_rates.confusion_rate(p, y, num_classes) for p in _classes(num_classes) for y in range(num_classes))
    return Parity(found, across, over, minimum)


def predictive_parity(
    num_classes: int = 2, across: Gap = spread, over: Over = "max", minimum: float | int = 1
) -> Parity:
    """Are predictions of a class right as often in each group; for several classes the greatest gap over classes."""
    return Parity(tuple(_rates.precision(k, num_classes) for k in _classes(num_classes)), across, over, minimum)


def accuracy_parity(num_classes: int = 2, across: Gap = spread, minimum: float | int = 1) -> Parity:
    """Are predictions right as often in each group, whatever the class."""
    return Parity((_rates.accuracy(num_classes),), across, "max", minimum)


def _classes(num_classes: int) -> range:
    return range(1, 2) if num_classes == 2 else range(num_classes)


def _count(groups: Any) -> int:
    shape = np.shape(groups)
    if len(shape) == 2:
        return shape[1]
    if not known(groups):
        if groups.dtype == bool:
            return 2
        raise ValueError("the number of groups cannot be read off codes that are traced: pass num_groups")
    codes = np.asarray(_array(groups, "groups"))
    if codes.dtype == bool:
        return 2
    greatest = np.max(codes, initial=0)
    if not 0 <= greatest < 2**20:
        raise ValueError(
            f"groups must be codes 0, 1, ..., found {greatest}: recode them, for example with pandas.factorize"
        )
    return max(int(greatest) + 1, 2)
