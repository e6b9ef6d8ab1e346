"""Sums by label and group, from which any measure follows: what chunks and hosts add up."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax import checks
from fairjax.metrics.confusion import confusion
from fairjax.metrics.measures import Measure
from fairjax.metrics.parity import Parity


class GroupSums(NamedTuple):
    """Sums of rows by label and group, from which a measure can be computed; they add up over disjoint rows."""

    total: Float[Array, "Y G"] | Float[Array, "P Y G"]
    """Weighted sum of the values by (label, group); for more than two classes, by (predicted class, label, group)."""
    weight: Float[Array, "Y G"]
    """Sum of the weights by (label, group)."""
    squares: Any = None
    """The cells of the squared weights, if a measure leaves out small groups and rows have weights."""


def group_sums(
    values: Any, y: Any, a: Any, weights: Any = None, *, num_groups: int = 2, num_classes: int = 2
) -> GroupSums:
    """Compute the weighted sums of values, and the sums of weights, by label and group.

    The cells of disjoint rows, added leaf by leaf (`jax.tree.map(jnp.add, one, other)`), are the cells of all rows.
    This is how a measure is computed over chunks, devices and hosts; averaging the measure itself would be wrong.

    Args:
        values: decisions in {0, 1} or scores in [0, 1], one per row; for more classes, codes or probabilities.
        y: labels in {0, 1}, or codes.
        a: protected attribute, 1 = privileged; or codes or memberships of `num_groups` groups.
        weights: sample weights; 1 if omitted.
        num_groups: number of groups.
        num_classes: number of classes.

    Returns:
        The sums, differentiable with respect to the values.

    Example:
        >>> group_sums(jnp.array([1, 1, 0, 1]), jnp.array([1, 1, 0, 1]), jnp.array([0, 0, 1, 1])).total.tolist()
        [[0.0, 0.0], [2.0, 1.0]]
    """
    rows = checks.rows(values, y, a, weights, weightless=True, num_groups=num_groups, num_classes=num_classes)
    values, y, a = rows.values, rows.y, rows.a
    if num_groups > 2 or num_classes > 2 or a.ndim == 2:
        options: dict[str, Any] = {"num_groups": num_groups, "num_classes": num_classes, "weights": rows.weights}
        tensor = rows.or_nan(confusion(values, y, a, **options))
        return GroupSums(tensor[1] if num_classes == 2 else tensor, jnp.sum(tensor, axis=0))
    weights = jnp.ones_like(values) if rows.weights is None else rows.weights
    cell = jnp.stack([~y & ~a, ~y & a, y & ~a, y & a])
    total, weight = (
        jnp.where(cell, column[None], 0.0).sum(axis=1).reshape(2, 2) for column in (values * weights, weights)
    )
    return GroupSums(rows.or_nan(total), rows.or_nan(weight))


def from_group_sums(measure: Measure, cells: GroupSums) -> Float[Array, ""]:
    """Compute a measure from sums by label and group instead of rows.

    Every measure of this module depends on the values only through these sums, so the result is the measure of all rows
    that were summed, and its derivative with respect to a row's value is the derivative with respect to `cells.total`
    times the row's weight. A user's own function is called on four rows, the means of the cells of two groups. It must
    also be a function of the sums; one that depends on individual values, such as a median or a squared score, gives a
    different result here.

    Args:
        measure: the measure of bias.
        cells: result of `group_sums`, or a sum of such results.

    Returns:
        The measure. If a cell is empty, neither the measure nor its derivatives are NaN.

    Example:
        >>> from fairjax import spd
        >>> f, y, a = jnp.array([0.9, 0.4, 0.2, 0.6]), jnp.array([1, 0, 0, 1]), jnp.array([0, 0, 1, 1])
        >>> round(from_group_sums(spd, group_sums(f, y, a)).item(), 6)
        0.25
    """
    if isinstance(measure, Parity):
        squared = None if cells.squares is None else _tensor(cells.squares)
        return measure.of_tensor(_tensor(cells), squared=squared)
    total, weight = cells.total.reshape(-1), cells.weight.reshape(-1)
    has_rows = ~(weight <= 0)
    mean = jnp.where(has_rows, total / jnp.where(has_rows, weight, 1.0), 0.0)
    cell = jnp.arange(4)
    weight = jnp.where(jnp.any(weight > 0) | jnp.any(jnp.isnan(weight)), weight, 1.0)  # measures reject weights of 0
    return measure(mean, cell // 2 == 1, cell % 2 == 1, weight)


def _tensor(cells: GroupSums) -> Float[Array, "P Y G"]:
    """Convert cells to a confusion tensor."""
    return cells.total if cells.total.ndim == 3 else jnp.stack([cells.weight - cells.total, cells.total])
