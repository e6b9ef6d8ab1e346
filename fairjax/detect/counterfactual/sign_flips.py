"""Sign-flip permutation test of paired differences."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt32

from fairjax.checks import floating, vector
from fairjax.hyperparameters import check_at_least
from fairjax.types import AnyArray, KeyArray

SIGNS = 2**24
"""Default number of signs that are in memory at a time."""


def sign_flip_test(
    differences: Any,
    key: KeyArray,
    draws: int = 1000,
    *,
    where: Bool[AnyArray, " n"] | None = None,
    chunk: int | None = None,
) -> Float[Array, ""]:
    """Test whether paired differences are symmetric about 0, by random signs.

    If a perturbation made no difference, each difference could as well have had the other sign. The statistic is the
    absolute value of the sum, so the test is two-sided, and all draws of signs are one matrix product. With at most
    log2(draws) differences, all signs are enumerated instead, and the p-value is exact.

    Args:
        differences: one difference per row, (n,).
        key: random key.
        draws: number of random draws of signs; static under `jax.jit`.
        where: which differences count; all if omitted. Others are as if they were left out.
        chunk: number of draws at a time, which bounds the memory to chunk x n numbers; if omitted, as many as 2^24
            numbers allow. The result does not depend on it.

    Returns:
        The p-value, (1 + number of draws whose statistic is at least the observed one) / (1 + draws), which is never 0;
        NaN if no difference counts, or one that counts is not finite. Map it with `jax.vmap` over columns of
        differences: they then share the signs.

    Raises:
        ValueError: if differences are not a vector, `where` has another shape, or `draws` or `chunk` is not positive.

    Example:
        >>> sign_flip_test(jnp.array([1.0, 2.0, 3.0]), jax.random.key(0)).item()
        0.25

    References:
        Phipson, Smyth (2010), Permutation p-values should never be zero, Statistical Applications in Genetics and
        Molecular Biology 9(1).
    """
    check_at_least("draws", draws, 1)
    if chunk is not None:
        check_at_least("chunk", chunk, 1)
    values = floating(vector("differences", differences))
    n = values.shape[0]
    counted = jnp.ones(n, bool) if where is None else jnp.asarray(where)
    if counted.shape != (n,) or counted.dtype != bool:
        raise ValueError(
            f"where must be one boolean per difference, shape ({n},), found {counted.dtype} of shape {counted.shape}"
        )
    known = jnp.all(jnp.isfinite(values) | ~counted) & jnp.any(counted)
    values = jnp.where(counted & jnp.isfinite(values), values, 0)
    exact = n < draws.bit_length()  # 2^n <= draws
    count = 2**n if exact else draws
    words = jax.vmap(lambda number: _words(None if exact else key, number, n))
    step = min(count, max(1, SIGNS // max(n, 1)) if chunk is None else chunk)
    observed = jnp.abs(jnp.sum(values))
    # equal sums differ by rounding, and must count as equal
    slack = 4 * jnp.finfo(values.dtype).eps * jnp.sum(jnp.abs(values))

    def reached(start: Array) -> Array:
        numbers = start * step + jnp.arange(step)
        signs = jax.vmap(lambda each: _signs(each, n, values.dtype))(words(numbers))
        sums = jnp.matmul(signs, values, precision="highest")
        return jnp.sum((jnp.abs(sums) >= observed - slack) & (numbers < count), dtype=jnp.int32)

    total = jnp.sum(jax.lax.map(reached, jnp.arange(-(-count // step))))
    spare = 0 if exact else 1  # the observed signs are among all signs, and not among random ones
    return jnp.where(known, (total + spare).astype(values.dtype) / (count + spare), jnp.nan)


def _words(key: KeyArray | None, number: Array, n: int) -> UInt32[Array, " words"]:
    """Return the words whose bits are the signs of a draw: random ones, or without a key the draw's own number."""
    if key is None:
        return number.astype(jnp.uint32)[None]
    return jax.random.bits(jax.random.fold_in(key, number), (-(-n // 32),), jnp.uint32)


def _signs(words: UInt32[Array, " words"], n: int, dtype: Any) -> Float[Array, " n"]:
    """Turn bits into signs, 1 and -1."""
    bits = (words[:, None] >> jnp.asarray(np.arange(32, dtype=np.uint32))[None]) & jnp.uint32(1)
    return 1 - 2 * bits.reshape(-1)[:n].astype(dtype)
