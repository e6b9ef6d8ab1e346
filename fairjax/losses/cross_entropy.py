"""Cross-entropies of logits, with sample weights."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from fairjax.checks import all_valid, check_logits, codes, floating, indicator, nan_unless, sample_weights, vector
from fairjax.types import AnyArray, Labels, Rows, weights_of


def cross_entropy(logits: Float[Array, "n *c"], batch: Rows) -> Float[Array, ""]:
    """Compute the mean cross-entropy of a batch, in nats; it is weighted if the rows have weights.

    Args:
        logits: one per row for two classes, one per row and class for more.
        batch: labels and weights.

    Returns:
        A scalar.

    Raises:
        ValueError: if the shape of the logits does not match the labels (booleans need shape (n,), codes need shape
            (n, classes)), or if concrete labels or weights are invalid. If traced ones are invalid, the result is NaN.
    """
    check_logits(logits, batch.x, 2 if batch.y.dtype == bool or logits.ndim != 2 else logits.shape[1])
    valid = check_targets(logits, batch)
    return nan_unless(valid, weighted_mean(cross_entropies(logits, batch.y), weights_of(batch)))


def check_targets(logits: Float[Array, "n *c"], batch: Rows) -> Bool[Array, ""] | None:
    """Check labels and weights against the number of classes of the logits.

    Args:
        logits: one per row for two classes, one per row and class for more.
        batch: labels and weights.

    Returns:
        Whether labels and weights are valid if they are traced, else None.

    Raises:
        ValueError: if there is not one label per row of the logits, or if a concrete label or weight is invalid.
    """
    y = vector("y", batch.y)
    if y.shape != logits.shape[:1]:
        raise ValueError(
            f"y must have one label per row of the logits, shape {logits.shape[:1]}, found shape {y.shape}"
        )
    _, valid_labels = indicator("y", y) if logits.ndim == 1 else codes("y", y, logits.shape[1])
    _, valid_weights = sample_weights(weights_of(batch), logits, weightless=True)
    return all_valid(valid_labels, valid_weights)


def cross_entropies(logits: Float[Array, " n"] | Float[Array, "n c"], y: Labels) -> Float[Array, " n"]:
    """Compute the cross-entropy of every row, with a sigmoid for logits (n,) and a softmax for logits (n, classes).

    Example:
        >>> cross_entropies(jnp.zeros((1, 4)), jnp.array([2])).tolist()
        [1.3862943649291992]
    """
    if logits.ndim == 1:
        return optax.sigmoid_binary_cross_entropy(logits, y.astype(logits.dtype))
    return optax.softmax_cross_entropy_with_integer_labels(logits, y.astype(jnp.int32))


def weighted_mean(values: Float[Array, " n"], weights: Float[AnyArray, " n"] | None) -> Float[Array, ""]:
    """Compute the mean of the values, weighted if there are weights; 0 if all weights are 0.

    Sums are in float32 at least, since those of half precision would overflow at 65,504 rows.

    Returns:
        A scalar of the values' dtype; NaN if the sum of the weights overflows.

    Example:
        >>> weighted_mean(jnp.array([1.0, 4.0]), jnp.array([3.0, 0.0])).item()
        1.0
    """
    if weights is None:
        return jnp.mean(values)
    wide = floating(values)
    weights = weights.astype(wide.dtype)
    total = jnp.sum(weights)
    mean = jnp.sum(wide * weights) / jnp.where(total > 0, total, jnp.ones_like(total))
    return nan_unless(total < jnp.inf, mean).astype(values.dtype)
