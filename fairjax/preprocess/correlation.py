"""Removal of the linear dependence of all features on the group."""

from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from fairjax.checks import nan_unless
from fairjax.preprocess.base import Prepared, matrix, preprocessor
from fairjax.preprocess.cells import CellPreprocessor
from fairjax.types import Inputs, KeyArray, Number, Rows


class Shifts(NamedTuple):
    """The differences between the groups' means and the mean of all rows."""

    shifts: Float[Array, "groups d"]
    center: Float[Array, " d"]
    """The mean of all rows."""
    is_explained: Bool[Array, " d"]
    """Whether nothing but rounding errors remains of a column, so that it becomes constant."""


@preprocessor
class CorrelationRemoval(CellPreprocessor):
    """Shift the features of each group so that no feature is correlated with the group.

    Each feature loses its projection on the indicators of the groups, that is, the difference between the group's mean
    and the mean of all rows. What a network can read from differences of variances or from products of features
    remains. The group of every row must be known, also at test time.

    Example:
        >>> from fairjax.types import Batch
        >>> y, a = jnp.array([True, False, True, False]), jnp.array([True, True, False, False])
        >>> rows = Batch(jnp.array([[1.0], [3.0], [5.0], [7.0]]), y, a)
        >>> CorrelationRemoval().apply(jax.random.key(0), rows).train.x.tolist()
        [[3.0], [5.0], [3.0], [5.0]]

    References:
        Bird et al. (2020), Fairlearn: a toolkit for assessing and improving fairness in AI, `CorrelationRemover`
    """

    label: ClassVar[str] = "Correlation removal"
    reference: ClassVar[str] = "Bird et al. 2020"
    equation: ClassVar[str] = "x' = x - alpha (E[x | a] - E[x])"
    changes: ClassVar[Literal["features"]] = "features"
    needs_group_at_test: ClassVar[bool] = True
    groups_only: ClassVar[bool] = True

    alpha: Number = 1.0
    """Share of the dependence that is removed, from 0, none, to 1, all of it."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        super().__post_init__()
        check_share("alpha", self.alpha)

    def apply(self, key: KeyArray, train: Rows) -> Prepared:
        """Shift the features, as described for `Preprocessor`; they are NaN if a group of traced rows is empty."""
        ready = self.ready(train)
        table = matrix(train.x, "CorrelationRemoval")
        cells = ready.cells(train)
        groups = cells.codes % cells.shape[1]
        weights = cells.weights.astype(table.dtype)

        def weighted_sum(values):
            return jax.ops.segment_sum(values, groups, num_segments=cells.shape[1])

        center = jnp.mean(table, axis=0)  # sums of deviations keep more digits than sums of numbers far from 0
        sums, totals = weighted_sum((table - center[None]) * weights[:, None]), weighted_sum(weights)
        means = sums / jnp.where(totals > 0, totals, 1.0)[:, None]
        overall = jnp.sum(sums, axis=0) / jnp.sum(totals)
        shifts = means - overall[None]
        valid = jnp.all(totals > 0) if cells.valid is None else jnp.all(totals > 0) & cells.valid
        shifts = nan_unless(valid, shifts)
        fitted = Shifts(shifts, center + overall, jnp.zeros(table.shape[1], bool))
        deviation = jnp.max(jnp.abs(ready.transform(key, fitted, table, train.a) - fitted.center[None]), axis=0)
        # What the groups explain entirely, such as the attribute itself, must not be left as a rounding error, which
        # would show the group again after standardisation.
        rounding = 100 * jnp.finfo(table.dtype).eps * jnp.max(jnp.abs(table), axis=0)
        fitted = fitted._replace(is_explained=(deviation <= rounding) & valid)
        return Prepared(train._replace(x=ready.transform(key, fitted, table, train.a)), fitted)

    def transform(self, key: KeyArray, fitted: PyTree[Any], x: Inputs, a: Any) -> Inputs:
        """Shift the features of any rows."""
        del key
        table = matrix(x, "CorrelationRemoval")
        shifted = table - jnp.asarray(self.alpha, table.dtype) * group_rows(fitted.shifts, a)
        return jnp.where(fitted.is_explained[None], fitted.center[None], shifted)


def group_rows(values: Float[Array, "groups ..."], a: Any) -> Float[Array, "n ..."]:
    """Return the entry of each row's group, and NaN for a group that has none.

    Example:
        >>> group_rows(jnp.array([1.0, 2.0]), jnp.array([1, 0, 2])).tolist()
        [2.0, 1.0, nan]
    """
    codes = jnp.asarray(a).astype(jnp.int32)
    return values.at[codes].get(mode="fill", fill_value=jnp.nan)


def check_share(name: str, value: Any) -> None:
    """Check that a number is in [0, 1]; traced numbers cannot be inspected and pass.

    Raises:
        ValueError: naming the field and the value.

    Example:
        >>> check_share("alpha", 0.5)
    """
    if isinstance(value, int | float) and not 0 <= value <= 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value}")
