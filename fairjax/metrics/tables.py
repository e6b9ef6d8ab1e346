"""Measures of confusion tables, and their standard errors."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fairjax.metrics.measures import Measure, as_parity
from fairjax.metrics.parity import Parity


def measure_from_table(
    measure: Measure,
    table: Float[Array, "P Y G"],
    squared: Float[Array, "P Y G"] | None = None,
    whole: Float[Array, "P Y"] | None = None,
) -> Float[Array, ""]:
    """Compute a measure of parity from a confusion table (decision, label, group) instead of rows.

    Args:
        measure: the measure of bias; a function that is not a `Parity` needs a table of two classes and two groups.
        table: counts by decision, label and group.
        squared: sums of squared weights, if rows have weights; a `Parity` computes effective sizes from them.
        whole: counts of all rows by decision and label, if groups overlap.

    Returns:
        The measure of the counted rows.

    Example:
        >>> from fairjax.metrics import spd
        >>> measure_from_table(spd, jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])).item()
        0.0
    """
    if isinstance(measure, Parity):
        return measure.of_tensor(table, whole, squared)
    decision, y, a = _cells(table)
    return measure(decision, y, a, table.reshape(-1))


def noise_from_table(
    measure: Measure,
    table: Float[Array, "P Y G"],
    squared: Float[Array, "P Y G"] | None = None,
    whole: Float[Array, "P Y"] | None = None,
) -> Float[Array, ""]:
    """Compute the sum over rows of the squared derivative of a measure with respect to the row's value.

    If the values of rows are independent with variance v, the variance of the measure is, to first order, v times this
    number. For the statistical parity difference it is 1/n_0 + 1/n_1, and for equal opportunity the same among the
    positives. For more than two classes, the squared difference between the greatest and the least derivative is used.

    Args:
        measure: the measure of bias.
        table: counts by decision, label and group.
        squared: sums of squared weights by decision, label and group, if rows have weights.
        whole: counts of all rows by decision and label, if groups overlap.

    Returns:
        A scalar, not negative. It does not change if all weights are multiplied by a constant.

    Example:
        >>> from fairjax.metrics import spd
        >>> round(noise_from_table(spd, jnp.full((2, 2, 2), 5.0)).item(), 6)  # 20 rows per group
        0.1
    """
    if isinstance(measure, Parity):
        slopes = jax.grad(lambda table: measure.of_tensor(table, whole, squared))(table)
        rows = jnp.sum(table if squared is None else squared, axis=0)
        return jnp.sum(rows * (jnp.max(slopes, axis=0) - jnp.min(slopes, axis=0)) ** 2)
    decision, y, a = _cells(table)
    weights = table.reshape(-1)
    slope = jax.grad(measure)(decision, y, a, weights)  # per cell of `weights` rows
    square = slope**2 / jnp.where(weights > 0, weights, 1.0)
    if squared is not None:
        square *= squared.reshape(-1) / jnp.where(weights > 0, weights, 1.0)
    return jnp.sum(square, where=weights > 0)


def is_defined(
    measure: Measure, table: Float[Array, "P Y G"], squared: Float[Array, "P Y G"] | None = None
) -> Bool[Array, ""]:
    """Return whether a table has the rows that a measure compares.

    The measures of `fairjax.metrics.MEASURES` and every `Parity` define which rows they need. Any other measure is
    considered to be defined if it depends on the decision for at least one row.

    Args:
        measure: the measure of bias.
        table: counts by decision, label and group.
        squared: sums of squared weights, if rows have weights.

    Returns:
        A boolean; if it is false, the value of the measure is meaningless.

    Example:
        >>> from fairjax.metrics import eod
        >>> is_defined(eod, jnp.array([[[5.0, 5.0], [5.0, 0.0]], [[5.0, 5.0], [5.0, 0.0]]])).item()
        False
    """
    parity = as_parity(measure)
    if parity is not None:
        return parity.is_defined(table, squared)
    decision, y, a = _cells(table)
    # Avoid 0, 1 and equal rates, at which a derivative may vanish for other reasons.
    slope = jax.grad(measure)(0.3 + 0.05 * jnp.arange(decision.shape[0], dtype=decision.dtype), y, a, table.reshape(-1))
    return jnp.any((slope != 0) & (table.reshape(-1) > 0))


def _cells(table: Float[Array, "2 2 2"]) -> tuple[Float[Array, "8"], Bool[Array, "8"], Bool[Array, "8"]]:
    """Return decision, label and group of the eight cells of a table."""
    if table.shape != (2, 2, 2):
        raise ValueError(
            f"a measure that is a plain function takes two classes and two groups, found a table of shape "
            f"{table.shape}: make a fairjax.Parity, for example by fairjax.metrics.make_measure"
        )
    cell = jnp.arange(8)
    return (cell // 4).astype(jnp.result_type(float)), (cell // 2) % 2 == 1, cell % 2 == 1
