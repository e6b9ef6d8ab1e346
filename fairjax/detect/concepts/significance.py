"""Welch's t-test of two sets of numbers, as an array operation."""

import jax
import jax.numpy as jnp
from jax.scipy.special import betainc
from jaxtyping import Array, Float

from fairjax.types import AnyArray


@jax.jit
def welch_test(
    first: Float[AnyArray, "... m"], second: Float[AnyArray, "... k"]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Test whether two sets of numbers have the same mean, without assuming equal variances; two-sided.

    Args:
        first: numbers on the last axis, two at least.
        second: numbers on the last axis, two at least; the other axes are those of `first`.

    Returns:
        Statistic t and p-value. NaN if a set has fewer than two numbers or holds NaN, or if both are constant.

    Example:
        >>> t, p = welch_test(jnp.array([1.0, 2.0, 3.0]), jnp.array([1.0, 2.0, 3.0]))
        >>> round(abs(t.item()), 3), round(p.item(), 3)
        (0.0, 1.0)

    References:
        Welch (1947), The generalization of 'Student's' problem when several different population variances are
        involved, Biometrika 34.
    """
    first, second = jnp.asarray(first), jnp.asarray(second)
    m, k = first.shape[-1], second.shape[-1]
    if min(m, k) < 2:
        nothing = jnp.full(first.shape[:-1], jnp.nan, first.dtype)
        return nothing, nothing
    a, b = jnp.var(first, axis=-1, ddof=1) / m, jnp.var(second, axis=-1, ddof=1) / k
    error = a + b
    difference = jnp.mean(first, axis=-1) - jnp.mean(second, axis=-1)
    # Constant sets have a variance of 0 or, where their mean is rounded, of almost 0.
    size = jnp.maximum(jnp.max(jnp.abs(first), axis=-1), jnp.max(jnp.abs(second), axis=-1))
    varies = error > (8 * jnp.finfo(error.dtype).eps * size) ** 2
    safe = jnp.where(varies, error, 1.0)
    t = difference / jnp.sqrt(safe)
    part = a / safe  # squares of small variances would be 0 in float32
    degrees = 1.0 / (part**2 / (m - 1) + (1.0 - part) ** 2 / (k - 1))
    p = betainc(degrees / 2, jnp.full_like(degrees, 0.5), degrees / (degrees + t**2))
    return jnp.where(varies, t, jnp.nan), jnp.where(varies, p, jnp.nan)
