"""Maps of images by group: means, differences, and where the differences exceed chance."""

import functools
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fairjax.checks import nan_unless
from fairjax.detect.quality.permutation import (
    check_draws,
    corrected_p_values,
    group_codes,
    label_product,
    numbered_pairs,
    p_values,
    permuted,
    rounded_difference,
)
from fairjax.types import AnyArray, KeyArray

MINIMUM = 10
"""Default least number of maps of a group that is compared."""


class MapsByGroup(NamedTuple):
    """Mean maps of groups, and how they differ; from `maps_by_group`.

    Results about pairs of groups are in the order (0, 1), (0, 2), ..., (1, 2), ...; two groups are a single pair. NaN
    for groups under the minimum size, and for pairs with such a group.
    """

    counts: Int[Array, " groups"]
    """Number of maps of each group that are not 0 everywhere; the others are left out."""
    empty: Int[Array, " groups"]
    """Number of maps of each group that are 0 everywhere, such as Grad-CAM without any evidence for the class."""
    means: Float[Array, "groups *positions"]
    """Mean of the normalised maps."""
    difference: Float[Array, "pairs *positions"]
    """Mean of the first group minus that of the second."""
    p_value: Float[Array, "pairs *positions"]
    """P-value of the difference at each position alone, by permutation of the group labels."""
    corrected_p_value: Float[Array, "pairs *positions"]
    """The same, corrected for the number of positions by the distribution of the greatest difference."""


def maps_by_group(
    maps: Float[AnyArray, "n *positions"],
    a: Any,
    key: KeyArray,
    draws: int = 1000,
    *,
    normalise: Literal["max", "sum"] = "max",
    num_groups: int = 2,
    minimum: int = MINIMUM,
    chunk: int | None = 100,
) -> MapsByGroup:
    """Compare where the evidence lies in the images of each group.

    Every map is normalised, so that images with large logits don't dominate, and averaged by group. For each pair of
    groups and each position, the difference of means is compared with those under permuted group labels; a position
    differs if its corrected p-value is small. All permutations of a chunk are one matrix product.

    A difference does not mean that the network uses the group: the images of the groups may show different things in
    different places.

    The function is pure: use `jax.jit` and `jax.vmap` over seeds.

    Args:
        maps: one map per row, such as those of `grad_cam`.
        a: groups: booleans, or codes below `num_groups`.
        key: random key.
        draws: number of permutations; static.
        normalise: divide each map by its greatest magnitude ("max"), or by the sum of its magnitudes ("sum"); static.
        num_groups: number of groups; static.
        minimum: least number of maps of a group that is compared; static.
        chunk: number of permutations that are computed at a time; all if None. Memory is chunk x n numbers.

    Returns:
        The mean maps and their differences.

    Raises:
        ValueError: if shapes are not as above, a setting is not valid, or a concrete group is not valid.

    Example:
        >>> a = np.arange(40) % 2 == 1
        >>> maps = np.where(a[:, None, None], [[1.0, 0.0]], [[0.0, 2.0]]).astype(np.float32)
        >>> found = maps_by_group(maps, a, jax.random.key(0), draws=99)
        >>> found.difference.tolist(), round(found.corrected_p_value.max().item(), 3)
        ([[[-1.0, 1.0]]], 0.01)
    """
    shape = np.shape(maps)
    if len(shape) < 2 or 0 in shape:
        raise ValueError(f"maps must have rows and positions, shape (n, height, width), found shape {shape}")
    if normalise not in ("max", "sum"):
        raise ValueError(f"normalise must be max or sum, got {normalise!r}")
    check_draws(draws, chunk, minimum)
    groups, valid = group_codes(a, shape[0], num_groups)
    counts, empty, results = _compared(draws, normalise, num_groups, minimum, chunk, jnp.asarray(maps), groups, key)
    return MapsByGroup(counts, empty, *(nan_unless(valid, value) for value in results))


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _compared(
    draws: int,
    normalise: str,
    num_groups: int,
    minimum: int,
    chunk: int | None,
    maps: Float[Array, "n *positions"],
    groups: Int[Array, " n"],
    key: KeyArray,
) -> tuple[Int[Array, " groups"], Int[Array, " groups"], tuple[Float[Array, "..."], ...]]:
    """Return the counts, the numbers of empty maps, and the other fields of `MapsByGroup`."""
    n, *positions = maps.shape
    values = maps.astype(jnp.float32).reshape(n, math.prod(positions))
    magnitudes = jnp.abs(values)
    scale = jnp.max(magnitudes, axis=1) if normalise == "max" else jnp.sum(magnitudes, axis=1)
    shown = ~(scale == 0)  # a map of NaN is shown, and makes its group's mean NaN
    values = values / jnp.where(shown, scale, 1.0)[:, None]
    of_group = groups[None] == jnp.arange(num_groups, dtype=jnp.int32)[:, None]
    used = of_group & shown[None]
    counts, totals = (jnp.sum(rows, axis=1, dtype=jnp.int32) for rows in (used, of_group))
    enough, sizes = counts >= minimum, jnp.maximum(counts, 1).astype(jnp.float32)
    sums = label_product(used.astype(jnp.float32), values)
    means = jnp.where(enough[:, None], sums / sizes[:, None], jnp.nan)

    def of_pair(pair: Int[Array, "3"]) -> Any:
        i, j, number = pair

        def difference(labels: Float[Array, "c n"]) -> Float[Array, "c p"]:
            first = label_product(labels, values)
            second = (sums[i] + sums[j])[None] - first
            return rounded_difference(first / sizes[i], second / sizes[j])

        of_pair_key = jax.random.fold_in(key, number)
        differences = permuted(difference, used[i] | used[j], used[i], of_pair_key, draws, chunk)
        result = differences[0], p_values(jnp.abs(differences)), corrected_p_values(differences)
        return jax.tree.map(lambda value: jnp.where(enough[i] & enough[j], value, jnp.nan), result)

    results = (means, *jax.lax.map(of_pair, jnp.asarray(numbered_pairs(num_groups))))
    return counts, totals - counts, tuple(value.reshape(-1, *positions) for value in results)
