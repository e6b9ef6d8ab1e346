"""Measures of parity: the rates to compare, their gap across groups, and the combination of several gaps."""

import functools
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Num

from fairjax import checks
from fairjax.metrics import gaps as _gaps
from fairjax.metrics import rates as _rates
from fairjax.metrics.confusion import check_counts, confusion, gram, solved
from fairjax.metrics.gaps import Difference, Gap, Quotient, Smooth, comparable, spread
from fairjax.metrics.rates import Rate
from fairjax.types import AnyArray

Over = Literal["max", "mean", "sum", "min"]
Membership = Literal["weighted", "solved"]


@dataclass(frozen=True)
class Parity:
    """A measure of parity for any number of groups and classes, on decisions or, as a differentiable proxy, on scores.

    Two measures with equal fields are equal and have the same hash, so a function that takes one as a static argument
    compiles only once. This requires `across` to be a module-level function or a frozen dataclass, not a lambda.

    If the gap of a rate cannot be computed, because fewer than two groups have a denominator of `minimum` rows, the
    measure is NaN, with a zero gradient; it is not 0, since 0 means parity.

    Example:
        >>> measure = demographic_parity()
        >>> measure([1, 1, 0, 1], [1, 0, 0, 1], [0, 0, 1, 2]).item()
        1.0
    """

    rates: tuple[Rate, ...]
    """The rates that are equal across groups at parity."""
    across: Gap = spread
    """The gap that compares a rate across groups, from `fairjax.metrics.gaps`."""
    over: Over = "max"
    """How the gaps of several rates are combined; "min" is for ratios, for which the least is the worst."""
    minimum: float | int = 1
    """Least denominator of a rate, in rows, for its group to be compared. Weighted rows count with Kish's effective
    size, (sum w)^2 / sum w^2. For a minimum of at most 1, any denominator above 0 suffices."""
    num_groups: int | None = None
    """Number of groups; if None, it is inferred from the groups, which is possible for all but traced codes."""
    blocks: tuple[tuple[int, ...], ...] | None = None
    """Sets of groups that are compared with each other: the groups of each of several attributes, those of each stratum
    of a control feature, or all groups but those that are left out. The measure is the greatest over the blocks in
    which two groups can be compared. None compares all groups."""
    membership: Membership | None = None
    """Estimator for soft memberships, and for rows that belong to several groups of one block. It must be chosen:
    "weighted" understates gaps if the outcome depends on the group itself, and "solved" overstates them if it depends
    on the probabilities alone; see `fairjax.metrics.solved`. With None, a row must belong to at most one group per
    block."""
    absent: float = float("nan")
    """The gap of a rate whose groups cannot be compared."""

    def __post_init__(self) -> None:
        """Validate the fields."""
        object.__setattr__(self, "rates", tuple(self.rates))
        if not self.rates or len({rate.num_classes for rate in self.rates}) != 1:
            raise ValueError("rates must be one or more rates of one number of classes")
        if not 0 <= self.minimum < float("inf"):
            raise ValueError(f"minimum must be a number of rows, at least 0 and finite, got {self.minimum}")
        if self.over not in ("max", "mean", "sum", "min"):
            raise ValueError(f'over must be "max", "mean", "sum" or "min", got {self.over!r}')
        if self.membership not in (None, "weighted", "solved"):
            raise ValueError(f'membership must be "weighted" or "solved", got {self.membership!r}')
        if self.num_groups is not None:
            check_counts(self.num_groups, 2)
        if self.blocks is not None:
            blocks = tuple(tuple(int(group) for group in block) for block in self.blocks)
            object.__setattr__(self, "blocks", blocks)
            if not blocks or min(map(len, blocks)) < 2 or any(len(set(block)) < len(block) for block in blocks):
                raise ValueError(f"blocks must be one or more, each of two or more different groups, got {blocks}")
            top = max(map(max, blocks))
            if min(map(min, blocks)) < 0 or (self.num_groups is not None and top >= self.num_groups):
                raise ValueError(f"blocks must hold codes of groups below {self.num_groups}, got {blocks}")

    @property
    def num_classes(self) -> int:
        """Number of classes of the measure."""
        return self.rates[0].num_classes

    def __call__(
        self, values: Any, y: Any, groups: Any, weights: Any = None, num_groups: int | None = None
    ) -> Float[Array, ""]:
        """Compute the measure on rows.

        Args:
            values: decisions, scores, class codes or probabilities, as for `fairjax.metrics.confusion`.
            y: labels.
            groups: booleans, codes or memberships, as for `fairjax.metrics.confusion`.
            weights: non-negative weights, one per row; 1 if omitted.
            num_groups: number of groups, unless the measure has it as a field. It may be omitted for booleans,
                memberships, and codes that are not traced, for which it is 1 more than the greatest code.

        Returns:
            A scalar; NaN if it cannot be computed.

        Raises:
            ValueError: if `fairjax.metrics.confusion` would raise it, if the number of groups is not known, or if
                memberships are soft and the measure does not define how to count them.
        """
        num_groups = num_groups or self.num_groups or count_groups(groups)
        rows = checks.rows(
            values,
            y,
            groups,
            weights,
            num_groups=num_groups,
            num_classes=self.num_classes,
            group_name="groups",
        )
        rows = self.checked(rows)
        return rows.or_nan(self.of_rows(rows.values, rows.y, rows.a, rows.weights, num_groups))

    def checked(self, rows: checks.CheckedRows) -> checks.CheckedRows:
        """Check the memberships of rows, since not every measure accepts soft or overlapping ones.

        Args:
            rows: rows from `fairjax.checks.rows`.

        Returns:
            The same rows; if memberships are traced, their validity is included in `valid`.

        Raises:
            ValueError: if memberships are soft or overlap and the measure does not define how to count them.
        """
        if rows.a.ndim != 2:
            return rows
        valid = rows.valid
        if self.membership is None:
            hard = jnp.all((rows.a == 0) | (rows.a == 1))
            for block in [range(rows.a.shape[1])] if self.blocks is None else self.blocks:
                hard &= jnp.all(jnp.sum(rows.a[:, np.asarray(block)], axis=1) <= 1)
            valid = _check(valid, hard)
        return rows._replace(valid=valid)

    def of_rows(
        self, values: Any, y: Any, groups: Any, weights: Float[Array, " n"] | None, num_groups: int
    ) -> Float[Array, ""]:
        """Compute the measure on checked rows, of the types that `fairjax.checks.rows` returns.

        Args:
            values: scores (n,) for two classes, or probabilities (n, classes).
            y: labels, booleans or codes.
            groups: booleans, codes or memberships.
            weights: sample weights; 1 if None.
            num_groups: number of groups.

        Returns:
            A scalar; NaN if it cannot be computed.
        """
        if groups.ndim == 2 and self.membership == "solved":
            tensor = confusion(values, y, groups, num_groups=num_groups, num_classes=self.num_classes, weights=weights)
            return self.of_tensor(solved(tensor, gram(groups, weights), self.blocks), jnp.sum(tensor, axis=2))
        found = []
        for rate in self.rates:
            values_, sizes, there = rate.of_rows(values, y, groups, weights, num_groups)
            effective = sizes
            if self.minimum > 1 and weights is not None:
                squared = rate.of_rows(values, y, groups, weights**2, num_groups)[1]
                effective = _kish(sizes, squared)
            everybody = jnp.zeros((), sizes.dtype), None
            if not self.is_local:
                all_rows = jnp.zeros(values.shape[:1], jnp.int32)
                everybody = tuple(each[0] for each in rate.of_rows(values, y, all_rows, weights, 1)[:2])
            found.append(self._gap(values_, sizes, self._large(there, effective), *everybody))
        return self._combined(found)

    def of_tensor(
        self,
        tensor: Num[AnyArray, "P Y G"],
        whole: Num[AnyArray, "P Y"] | None = None,
        squared: Num[AnyArray, "P Y G"] | None = None,
    ) -> Float[Array, ""]:
        """Compute the measure from sums of rows.

        Args:
            tensor: result of `fairjax.metrics.confusion`, or a sum of such results over disjoint rows.
            whole: the same sums over all rows, whatever their group; if omitted, the sum over groups, which differs if
                the memberships of rows do not have a constant sum.
            squared: the tensor with squared weights, from which effective sizes are computed; if omitted, the sums of
                `tensor` count as numbers of rows.

        Returns:
            A scalar; NaN if it cannot be computed.
        """
        tensor = checks.floating(tensor)
        whole = jnp.sum(tensor, axis=2) if whole is None else jnp.asarray(whole)
        found = []
        for rate in self.rates:
            values, there = rate.of(tensor)
            there = self._large(there, self._effective(rate, tensor, squared))
            overall = rate.of(whole[..., None])[0][0], None if self.is_local else rate.size(whole[..., None])[0]
            found.append(self._gap(values, rate.size(tensor), there, *overall))
        return self._combined(found)

    def of_rates(
        self,
        rates: Num[AnyArray, "R G"],
        sizes: Num[AnyArray, "R G"],
        there: Bool[AnyArray, "R G"],
        overall: Num[AnyArray, " R"],
    ) -> Float[Array, ""]:
        """Compute the measure from rates that were estimated elsewhere, such as those of a bootstrap draw.

        Args:
            rates: the rate of each group, one row per rate of the measure.
            sizes: denominators of the rates.
            there: whether each group is compared.
            overall: each rate of all rows.

        Returns:
            A scalar; NaN if it cannot be computed.

        Example:
            >>> measure = demographic_parity()
            >>> rates, sizes = jnp.array([[0.5, 0.25]]), jnp.array([[4.0, 4.0]])
            >>> measure.of_rates(rates, sizes, sizes > 0, jnp.array([0.375])).item()
            0.25
        """
        each = zip(checks.floating(rates), jnp.asarray(sizes), jnp.asarray(there), jnp.asarray(overall), strict=True)
        return self._combined([self._gap(*row[:3], row[3], None) for row in each])

    def compared(
        self, tensor: Num[AnyArray, "P Y G"], squared: Num[AnyArray, "P Y G"] | None = None
    ) -> tuple[Float[Array, "R G"], Float[Array, "R G"], Bool[Array, "R G"]]:
        """Compute the rates that the measure compares, one row per rate, or per rate and block if there are blocks.

        Args:
            tensor: sums of rows, as for `of_tensor`.
            squared: the same with squared weights.

        Returns:
            The rates, their denominators in (effective) rows, and whether each is compared.
        """
        rows = []
        for rate in self.rates:
            values, there = rate.of(tensor)
            sizes = self._effective(rate, tensor, squared)
            there = self._large(there, sizes)
            for inside in self._blocks(there.shape[0]):
                rows.append((values, sizes, there & inside))
        values, sizes, there = (jnp.stack(column) for column in zip(*rows, strict=True))
        return values, sizes, there

    def is_defined(
        self, tensor: Num[AnyArray, "P Y G"], squared: Num[AnyArray, "P Y G"] | None = None
    ) -> Bool[Array, ""]:
        """Return whether the groups that each rate compares can be compared.

        If a denominator depends on the predictions, as that of precision does, every group with enough rows must have
        one: otherwise a network could improve the measure by never predicting the class in a group.

        Args:
            tensor: sums of rows, as for `of_tensor`.
            squared: the same with squared weights.

        Returns:
            A boolean scalar.
        """
        tensor = checks.floating(tensor)
        _, _, there = self.compared(tensor, squared)
        blocks = self._blocks(tensor.shape[2])
        each = [comparable(self.across, row) for row in self._by_block(there)]
        defined = jnp.all(jnp.any(jnp.stack(each).reshape(len(self.rates), len(blocks)), axis=1))
        rows = self._effective(_rates.accuracy(self.num_classes), tensor, squared)  # the denominator is all rows
        present = self._large(rows > 0, rows)
        for number, row in enumerate(there):
            if self.rates[number // len(blocks)].depends_on_predictions:
                defined &= jnp.all(row | ~(present & blocks[number % len(blocks)]))
        return defined

    def _by_block(self, there):
        """Restrict each row of `compared` to its block."""
        if self.blocks is None:
            return list(there)
        blocks = self.blocks * len(self.rates)
        return [row[np.asarray(block)] for row, block in zip(there, blocks, strict=True)]

    def _blocks(self, num_groups: int):
        """Return the masks of the blocks."""
        if self.blocks is None:
            return [jnp.ones(num_groups, bool)]
        if max(map(max, self.blocks)) >= num_groups:
            raise ValueError(f"blocks must hold codes of groups below {num_groups}, got {self.blocks}")
        return [jnp.asarray(np.isin(np.arange(num_groups), block)) for block in self.blocks]

    @property
    def is_local(self) -> bool:
        """Whether the gap depends on the rates of groups only, not on the rate of all rows."""
        return isinstance(self.across, Difference | Quotient | Smooth) or self.across in _gaps.LOCAL

    def _effective(self, rate: Rate, tensor, squared):
        sizes = rate.size(tensor)
        if squared is None:
            return sizes
        return _kish(sizes, rate.size(jnp.asarray(squared)))

    def _large(self, there, sizes):
        """Return which groups have a large enough denominator."""
        return there & ~(sizes < self.minimum * (1 - 1e-6)) if self.minimum > 1 else there

    def _gap(self, values, sizes, there, overall, total):
        """Compute the gap of a rate, and whether it is defined; `total` is the denominator of the overall rate."""
        if self.blocks is None:
            return self._one_gap(values, sizes, there, overall, total)
        self._blocks(values.shape[0])
        found = []
        for block in self.blocks:
            index = np.asarray(block)
            found.append(self._one_gap(values[index], sizes[index], there[index], overall, total))
        each, known = (jnp.stack(column) for column in zip(*found, strict=True))
        # Take the gap furthest from parity: the greatest magnitude of signed gaps, the least of ratios.
        least = self.across in (_gaps.ratio, _gaps.worst)
        distance = jnp.where(known, -each if least else jnp.abs(each), -jnp.inf)
        return each[jnp.argmax(jax.lax.stop_gradient(distance))], jnp.any(known)

    def _one_gap(self, values, sizes, there, overall, total):
        known = comparable(self.across, there)
        if total is not None:
            # An additional group, which is not compared, makes the sizes sum to the number of rows even if groups
            # overlap or some rows belong to none of them.
            rest = total - jnp.sum(sizes)
            values, sizes = jnp.append(values, overall), jnp.append(sizes, rest)
            there = jnp.append(there, jnp.zeros((), bool))
        value = self.across(values, sizes, there, overall)
        return jnp.where(known, value, 0.0), known

    def _over(self, each):
        """Combine several gaps into one number; the greatest is the one furthest from parity."""
        if self.over == "max" and self.across in (_gaps.ratio, _gaps.worst, _gaps.shortfall):
            return jnp.min(each)
        if self.over == "max" and isinstance(self.across, Difference):
            return each[jnp.argmax(jax.lax.stop_gradient(jnp.abs(each)))]
        if self.over == "max" and isinstance(self.across, Quotient):
            quotient = jnp.maximum(jax.lax.stop_gradient(each) + self.across.less, jnp.finfo(each.dtype).tiny)
            return each[jnp.argmax(jnp.abs(jnp.log(quotient)))]
        return {"max": jnp.max, "mean": jnp.mean, "sum": jnp.sum, "min": jnp.min}[self.over](each)

    def _combined(self, found):
        """Combine the gaps of all rates into one number."""
        if np.isnan(self.absent):
            missing = ~functools.reduce(jnp.logical_and, [known for _, known in found])
            each = [value for value, _ in found]
        else:
            missing = None
            each = [jnp.where(known, value, self.absent) for value, known in found]
        value = each[0]
        if len(each) > 1:
            value = self._over(jnp.stack(each))
        return value if missing is None else jnp.where(missing, jnp.nan, value)


def demographic_parity(
    num_classes: int = 2, across: Gap = spread, over: Over = "max", minimum: float | int = 1, **options: Any
) -> Parity:
    """Make the measure that compares how often each class is predicted (P(predicted k)) across groups.

    Args:
        num_classes: number of classes; for two classes, only class 1 is compared.
        across: the gap that compares rates across groups.
        over: how the gaps of several classes are combined.
        minimum: least denominator of a rate, in rows.
        **options: further fields of `Parity`.

    Returns:
        The measure.
    """
    found = tuple(_rates.selection(k, num_classes) for k in _classes(num_classes))
    return Parity(found, across, over, minimum, **options)


def equal_opportunity(
    num_classes: int = 2, across: Gap = spread, over: Over = "max", minimum: float | int = 1, **options: Any
) -> Parity:
    """Make the measure that compares recall, P(predicted k given label k), across groups."""
    found = tuple(_rates.recall(k, num_classes) for k in _classes(num_classes))
    return Parity(found, across, over, minimum, **options)


def predictive_equality(
    num_classes: int = 2, across: Gap = spread, over: Over = "max", minimum: float | int = 1, **options: Any
) -> Parity:
    """Make the measure that compares false positive rates, P(predicted k given another label), across groups."""
    found = tuple(_rates.false_positive_rate(k, num_classes) for k in _classes(num_classes))
    return Parity(found, across, over, minimum, **options)


def equalized_odds(
    num_classes: int = 2, across: Gap = spread, over: Over = "max", minimum: float | int = 1, **options: Any
) -> Parity:
    """Make the measure that compares true and false positive rates; for more classes, each P(predicted p given y)."""
    found = tuple(
        _rates.confusion_rate(p, y, num_classes) for p in _classes(num_classes) for y in reversed(range(num_classes))
    )
    return Parity(found, across, over, minimum, **options)


def predictive_parity(
    num_classes: int = 2, across: Gap = spread, over: Over = "max", minimum: float | int = 1, **options: Any
) -> Parity:
    """Make the measure that compares precision, P(label k given predicted k), across groups."""
    found = tuple(_rates.precision(k, num_classes) for k in _classes(num_classes))
    return Parity(found, across, over, minimum, **options)


def accuracy_parity(
    num_classes: int = 2, across: Gap = spread, over: Over = "max", minimum: float | int = 1, **options: Any
) -> Parity:
    """Make the measure that compares accuracy across groups; there is only one rate, so `over` has no effect."""
    return Parity((_rates.accuracy(num_classes),), across, over, minimum, **options)


def _classes(num_classes: int) -> range:
    return range(1, 2) if num_classes == 2 else range(num_classes)


def _kish(sizes, squared):
    """Compute effective sizes from sums of weights and of squared weights."""
    return sizes**2 / jnp.where(squared > 0, squared, 1.0)


_UNDECIDED = (
    "rows that belong to several groups, or to one in part, can be counted in two ways: make the measure with "
    'membership="weighted" or "solved" (see fairjax.metrics.Parity), or, where the columns are attributes, make groups '
    "of them with fairjax.data.groups"
)


def _check(valid: Bool[Array, ""] | None, hard: Bool[Array, ""]) -> Bool[Array, ""] | None:
    """Raise an error if memberships are concrete and not hard; if they are traced, add the condition to `valid`."""
    if isinstance(hard, Tracer):
        return checks.all_valid(valid, hard)
    if not hard:
        raise ValueError(_UNDECIDED)
    return valid


def count_groups(groups: Any) -> int:
    """Count the groups: the columns of memberships, 2 for booleans, or 1 more than the greatest code.

    Raises:
        ValueError: if codes are traced or invalid.

    Example:
        >>> count_groups([0, 2, 1])
        3
    """
    shape = np.shape(groups)
    if len(shape) == 2:
        return shape[1]
    groups = checks.vector("groups", groups)
    if groups.dtype == bool:
        return 2
    if isinstance(groups, Tracer):
        raise ValueError("the number of groups cannot be read off codes that are traced: pass num_groups")
    greatest = np.max(np.asarray(groups), initial=0)
    if not 0 <= greatest < 2**20:
        raise ValueError(
            f"groups must be codes 0, 1, ..., found {greatest}: recode them, for example with pandas.factorize"
        )
    return max(int(greatest) + 1, 2)
