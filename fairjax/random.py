"""Random words and permutations: the numbers that `jax.random` draws, computed in less time."""

import math
from typing import Any

import jax
import jax.extend.random
import jax.numpy as jnp
from jaxtyping import Array, Int, UInt32

from fairjax.types import KeyArray

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
"""Rotations of the rounds of Threefry-2x32, in alternating blocks of four."""


def random_words(key: KeyArray, count: int) -> UInt32[Array, " count"]:
    """Compute the numbers of `jax.random.bits(key, (count,), uint32)` in one vectorised loop.

    On CPU, JAX compiles Threefry's rounds to a loop of small kernels, each of which reads and writes all words. With
    the rounds unrolled, there is a single kernel that keeps each word in a register, which saves a tenth of a small
    network's training step.

    Args:
        key: a key used only for this call.
        count: number of words, below 2^32.

    Returns:
        Random words.

    Example:
        >>> key = jax.random.key(0)
        >>> (random_words(key, 5) == jax.random.bits(jax.random.clone(key), (5,), jnp.uint32)).all().item()
        True

    References:
        Salmon, Moraes, Dror, Shaw (2011), Parallel random numbers: as easy as 1, 2, 3, SC11 (Threefry-2x32-20).
    """
    if not _is_threefry(key):
        return jax.random.bits(key, (count,), jnp.uint32)
    return _words(jax.random.key_data(key), count)


def _is_threefry(key: KeyArray) -> bool:
    """Return whether a key draws the numbers that are computed here, which do not depend on how they are split."""
    return str(jax.random.key_impl(key)) == "threefry2x32" and jax.config.jax_threefry_partitionable  # type: ignore[attr-defined]


def _words(key_data: UInt32[Array, "2"], count: int) -> UInt32[Array, " count"]:
    first, second = key_data
    keys = (first, second, first ^ second ^ jnp.uint32(0x1BD11BDA))

    def block(start):
        low = start + jax.lax.iota(jnp.uint32, size)
        x, y = jnp.full_like(low, keys[0]), low + keys[1]
        for injection in range(5):
            for distance in _ROTATIONS[injection % 2]:
                x = x + y
                y = x ^ ((y << distance) | (y >> (32 - distance)))
            x = x + keys[(injection + 1) % 3]
            y = y + keys[(injection + 2) % 3] + jnp.uint32(injection + 1)
        return x ^ y

    # A loop, even of only two iterations, prevents XLA from recomputing the words for every operation that uses them.
    size = -(-count // 2)
    return jax.lax.map(block, jnp.array([0, size], jnp.uint32)).reshape(-1)[:count]


def vectorised(key: KeyArray) -> KeyArray:
    """Return a key from which all functions of `jax.random` draw the same numbers, in less time.

    Code of other libraries, such as a layer with dropout, so draws its numbers by `random_words`.

    Args:
        key: a key.

    Returns:
        The key with another implementation of random bits, or the key itself if it is not of the kind threefry2x32.

    Example:
        >>> key = jax.random.key(0)
        >>> (jax.random.normal(vectorised(key), 3) == jax.random.normal(key, 3)).all().item()
        True
    """
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_VECTORISED) if _is_threefry(key) else key


def _bits(key_data: UInt32[Array, "2"], bit_width: int, shape: tuple[int, ...]) -> Any:
    count = math.prod(shape)
    if bit_width != 32 or not 0 < count < 2**32:
        return _THREEFRY.random_bits(key_data, bit_width, shape)
    return _words(key_data, count).reshape(shape)


_THREEFRY = jax.extend.random.threefry_prng_impl
_VECTORISED = jax.extend.random.define_prng_impl(
    key_shape=_THREEFRY.key_shape,
    seed=_THREEFRY.seed,
    split=_THREEFRY.split,
    fold_in=_THREEFRY.fold_in,
    random_bits=_bits,
    name="threefry2x32_vectorised",
    tag="vec",
)


def permutation(key: KeyArray, rows: Int[Array, " n"]) -> Int[Array, " n"]:
    """Shuffle rows: the result equals `jax.random.permutation(key, rows)` and takes less time.

    On CPU, sorting pairs is six times slower than sorting numbers, and shuffling by a sort of pairs takes a tenth of a
    small network's epoch. Here only the random numbers are sorted, and each row is moved to the position at which its
    number is found.

    Args:
        key: random key of the order.
        rows: the rows to shuffle.

    Returns:
        The same rows in random order.

    Example:
        >>> key, rows = jax.random.key(0), jnp.arange(1000)
        >>> (permutation(key, rows) == jax.random.permutation(jax.random.clone(key), rows)).all().item()
        True
    """
    n = rows.shape[0]
    # The number of rounds of jax.random.permutation, which makes ties among 32-bit numbers harmless.
    for _ in range(math.ceil(3 * math.log(max(1, n)) / math.log(2**32 - 1))):
        key, round_key = jax.random.split(key)
        rows = rows[_argsort(jax.random.bits(round_key, (n,), jnp.uint32))]
    return rows


def _argsort(numbers: UInt32[Array, " n"]) -> Int[Array, " n"]:
    """Compute a stable `jnp.argsort(numbers)` by sorting only the numbers, followed by a search."""
    n = numbers.shape[0]
    positions = jnp.arange(n)

    def first_claimants(claims):
        """Return, for each place in the sorted order, the first position that claims it."""
        return jnp.full(n, n, positions.dtype).at[claims].min(positions, mode="promise_in_bounds")

    def resolve_ties(state):
        claims, owners = state
        # Equal numbers claim the same place: all but the first of them move to the next place.
        claims = claims + (owners[claims] != positions).astype(claims.dtype)
        return claims, first_claimants(claims)

    claims = jnp.searchsorted(jnp.sort(numbers), numbers, method="scan_unrolled").astype(positions.dtype)
    return jax.lax.while_loop(lambda state: (state[1] == n).any(), resolve_ties, (claims, first_claimants(claims)))[1]
