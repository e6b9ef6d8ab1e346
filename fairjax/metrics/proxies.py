"""Measures of logits, and of mini-batches."""

import dataclasses

import jax
from jaxtyping import Array, Float

from fairjax import types
from fairjax.metrics.measures import Measure
from fairjax.metrics.parity import Parity
from fairjax.types import AnyArray, columns


def probabilities(logits: Float[AnyArray, " n"] | Float[AnyArray, "n c"]) -> Float[Array, "..."]:
    """Convert logits to scores: the sigmoid for two classes, the softmax for more.

    Example:
        >>> import jax.numpy as jnp
        >>> probabilities(jnp.zeros(2)).tolist(), probabilities(jnp.zeros((1, 4))).tolist()
        ([0.5, 0.5], [[0.25, 0.25, 0.25, 0.25]])
    """
    return jax.nn.sigmoid(logits) if logits.ndim == 1 else jax.nn.softmax(logits, axis=-1)


def of_mini_batches(measure: Measure, size: int, rows: int) -> Measure:
    """Adapt a measure to mini-batches by scaling its `minimum` with their share of all rows.

    A group with enough rows in the data then has enough rows in mini-batches too, on average, and is compared there;
    with the unscaled `minimum`, no group of a small mini-batch would be.

    Args:
        measure: the measure of bias.
        size: number of rows per mini-batch.
        rows: number of rows of the part from which mini-batches are drawn.

    Returns:
        The measure.

    Example:
        >>> from fairjax.metrics import make_measure
        >>> of_mini_batches(make_measure("spd", 3, minimum=50), 64, 640).minimum
        5.0
    """
    if not isinstance(measure, Parity) or measure.minimum <= 1 or size >= rows:
        return measure
    return dataclasses.replace(measure, minimum=measure.minimum * size / rows)


def proxy(
    measure: Measure, logits: Float[AnyArray, " n"] | Float[AnyArray, "n c"], batch: types.Rows
) -> Float[Array, ""]:
    """Compute a measure on the scores of a batch: its differentiable proxy (Eq. 1 and 2).

    Args:
        measure: the measure of bias.
        logits: a network's output for the rows of the batch.
        batch: labels, groups and weights.

    Returns:
        A scalar.

    Example:
        >>> import jax.numpy as jnp
        >>> from fairjax import spd
        >>> batch = types.Batch(jnp.ones((2, 1)), jnp.array([True, False]), jnp.array([True, False]))
        >>> proxy(spd, jnp.array([0.0, 0.0]), batch).item()
        0.0
    """
    return measure(probabilities(logits), *columns(batch))
