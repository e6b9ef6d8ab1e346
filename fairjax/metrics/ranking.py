"""Area under the ROC curve, as an array operation."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fairjax import checks


def area_under_curve(values: Any, y: Any) -> Float[Array, ""]:
    """Compute the area under the ROC curve: how often a row of class 1 has a larger value than a row of class 0.

    Args:
        values: any numbers that order the rows, one per row, such as logits or activations; equal values count half.
        y: classes: booleans, or 0 and 1.

    Returns:
        A scalar in [0, 1]. NaN if a class has no rows, a value is NaN, or traced classes are invalid.

    Raises:
        ValueError: if numbers of rows differ or a concrete class is not 0 or 1.

    Example:
        >>> area_under_curve(jnp.array([0.1, 0.4, 0.4, 0.9]), jnp.array([0, 0, 1, 1])).item()
        0.875

    References:
        Fawcett (2006), An introduction to ROC analysis, Pattern Recognition Letters 27.
    """
    checks.check_index(values=values, y=y)
    values = checks.floating(checks.vector("values", values))
    labels, valid = checks.indicator("y", checks.vector("y", y))
    if values.shape != labels.shape:
        raise ValueError(f"values and y must be vectors of one length, found shapes {values.shape} and {labels.shape}")
    if values.shape[0] == 0:
        return jnp.full((), jnp.nan, values.dtype)
    return checks.nan_unless(valid, _area(values, labels))


@jax.jit
def _area(values: Float[Array, " n"], labels: Bool[Array, " n"]) -> Float[Array, ""]:
    n = values.shape[0]
    order = jnp.argsort(values)
    ordered, positive = values[order], labels[order]
    negatives = jnp.cumsum((~positive).astype(jnp.int32))
    differs = ordered[1:] != ordered[:-1]
    edge = jnp.ones(1, bool)
    # Rows of equal value form a run: negatives below its first row, and up to its last.
    start, end = jnp.concatenate([edge, differs]), jnp.concatenate([differs, edge])
    before = negatives - (~positive).astype(jnp.int32)
    below = jax.lax.cummax(jnp.where(start, before, 0))
    up_to = jax.lax.cummin(jnp.where(end, negatives, n), reverse=True)
    count = negatives[-1].astype(values.dtype)
    share = (below + up_to).astype(values.dtype) / (2.0 * jnp.where(count > 0, count, jnp.nan))
    positives = jnp.sum(positive, dtype=values.dtype)
    area = jnp.sum(jnp.where(positive, share, 0.0)) / jnp.where(positives > 0, positives, jnp.nan)
    return jnp.where(jnp.any(jnp.isnan(values)), jnp.nan, area)
