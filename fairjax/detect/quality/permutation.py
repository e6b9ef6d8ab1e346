"""Permutation tests over group labels, for many statistics at once: a draw of the labels is a row of a matrix."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, UInt32

from fairjax.checks import group_column, numeric
from fairjax.types import KeyArray

ROUNDING = 4e-6
"""Relative difference below which two means in single precision count as equal."""

TOLERANCE = 1e-5
"""Relative tolerance within which a permuted statistic counts as equal to the observed one, since both are rounded."""


def pairs(num_groups: int) -> Int[np.ndarray, "pairs 2"]:
    """Return all pairs of groups, in the order of the results of comparisons: (0, 1), (0, 2), ..., (1, 2), ...

    Example:
        >>> pairs(3).tolist()
        [[0, 1], [0, 2], [1, 2]]
    """
    return np.array(list(combinations(range(num_groups), 2)), np.int32).reshape(-1, 2)


def numbered_pairs(num_groups: int) -> Int[np.ndarray, "pairs 3"]:
    """Return all pairs of groups, each with its number."""
    both = pairs(num_groups)
    return np.concatenate([both, np.arange(len(both), dtype=np.int32)[:, None]], axis=1)


def group_codes(a: Any, n: int, num_groups: int) -> tuple[Int[Array, " n"], Bool[Array, ""] | None]:
    """Check a column of groups, and return it as codes, with whether it is valid if it is traced.

    Raises:
        ValueError: if there is not one group per row, there are fewer than two groups, or a concrete value is not a
            group.
    """
    if num_groups < 2:
        raise ValueError(f"num_groups must be at least 2, got {num_groups}")
    column = numeric("a", a)
    if column.shape != (n,):
        raise ValueError(f"a must hold one group per row, shape ({n},), found shape {column.shape}")
    codes, valid = group_column(column, num_groups)
    return codes.astype(jnp.int32), valid


def check_draws(draws: int, chunk: int | None, minimum: int) -> None:
    """Check the settings that permutation tests have in common.

    Raises:
        ValueError: naming the setting that is not a positive number.
    """
    for name, value in (("draws", draws), ("chunk", chunk), ("minimum", minimum)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def permuted(
    statistic: Callable[[Float[Array, "c n"]], PyTree[Float[Array, "c ..."]]],
    members: Bool[Array, " n"],
    first: Bool[Array, " n"],
    key: KeyArray,
    draws: int,
    chunk: int | None,
) -> PyTree[Float[Array, "draws ..."]]:
    """Compute statistics for the observed group labels and for permutations of them among the rows of two groups.

    Args:
        statistic: maps a matrix of group labels, 1 for the first group and 0 for others, one row per permutation, to
            one statistic per permutation; usually by a matrix product with values per row.
        members: rows that belong to either group.
        first: rows that belong to the first group.
        key: random key.
        draws: number of permutations.
        chunk: number of permutations that are computed at a time; all if None.

    Returns:
        The statistics of the observed labels, followed by those of the permutations.
    """
    size = draws if chunk is None else min(chunk, draws)
    count = jnp.sum(first)
    last = jnp.uint32(np.iinfo(np.uint32).max)

    def drawn(number: Int[Array, ""]) -> Any:
        bits = jnp.where(
            members[None], jax.random.bits(jax.random.fold_in(key, number), (size, members.shape[0]), jnp.uint32), last
        )
        cut = _smallest(bits, count)  # the rows with the `count` smallest numbers are the first group
        return statistic(((bits <= cut[:, None]) & members[None]).astype(jnp.float32))

    observed = statistic(first[None].astype(jnp.float32))
    chunks = jax.lax.map(drawn, jnp.arange(-(-draws // size)))
    return jax.tree.map(
        lambda one, many: jnp.concatenate([one, many.reshape(-1, *many.shape[2:])[:draws]]), observed, chunks
    )


def _smallest(bits: UInt32[Array, "c n"], count: Int[Array, ""]) -> UInt32[Array, " c"]:
    """Return the number of each row that `count` numbers do not exceed, bit by bit: 7 times as fast as sorting."""

    def next_bit(i: Array, cut: Array) -> Array:
        higher = cut | (jnp.uint32(1) << (31 - i).astype(jnp.uint32))
        return jnp.where(jnp.sum(bits < higher[:, None], axis=1) < count, higher, cut)

    return jax.lax.fori_loop(0, 32, next_bit, jnp.zeros(bits.shape[0], jnp.uint32))


def label_product(labels: Float[Array, "c n"], values: Float[Array, "n p"]) -> Float[Array, "c p"]:
    """Sum the values of the rows with label 1, for each row of labels."""
    return jnp.matmul(labels, values, precision="highest")


def rounded_difference(first: Float[Array, "c p"], second: Float[Array, "c p"]) -> Float[Array, "c p"]:
    """Subtract means; differences that rounding explains are 0, so that they are not taken for differences of groups.

    Example:
        >>> rounded_difference(jnp.array([[1.0, 1.0]]), jnp.array([[1.0 + 1e-6, 0.5]])).tolist()
        [[0.0, 0.5]]
    """
    difference = first - second
    return jnp.where(jnp.abs(difference) <= ROUNDING * (jnp.abs(first) + jnp.abs(second)), 0.0, difference)


def p_values(statistics: Float[Array, "draws ..."]) -> Float[Array, "..."]:
    """Compute the share of statistics, from `permuted`, that are at least as large as the observed one.

    The observed one is among them, so that the share is never 0. A statistic that is not defined counts as large.

    Example:
        >>> p_values(jnp.array([3.0, 1.0, 3.0, 2.0])).item()
        0.5
    """
    observed = statistics[0]
    large = ~(statistics < (observed - TOLERANCE * jnp.abs(observed))[None])
    return jnp.where(jnp.isnan(observed), jnp.nan, jnp.mean(large.astype(jnp.float32), axis=0))


def corrected_p_values(differences: Float[Array, "draws p"]) -> Float[Array, " p"]:
    """Compute p-values of many differences, corrected for their number by the distribution of the greatest of them.

    Each difference is divided by its standard deviation over the permutations, so that all have the same scale. The
    probability that any p-value is below 0.05 is at most 0.05 if the groups do not differ.

    Args:
        differences: signed differences from `permuted`, whose mean over permutations is 0.

    Returns:
        The corrected p-values.

    References:
        Westfall, Young (1993), Resampling-Based Multiple Testing, for the maximum over tests.
    """
    scale = jnp.sqrt(jnp.mean(differences**2, axis=0))
    sizes = jnp.abs(differences) / jnp.where(scale > 0, scale, 1.0)[None]
    observed, greatest = sizes[0], jnp.max(sizes, axis=1)
    large = ~(greatest[:, None] < (observed * (1 - TOLERANCE))[None])
    return jnp.where(jnp.isnan(observed), jnp.nan, jnp.mean(large.astype(jnp.float32), axis=0))
