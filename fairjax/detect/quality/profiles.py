"""Whether a network relies on the same features in every group: attribution profiles and their distance."""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

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
    pairs,
    permuted,
    rounded_difference,
)
from fairjax.types import AnyArray, KeyArray

if TYPE_CHECKING:
    import pandas as pd

MINIMUM = 10
"""Default least number of rows of a group that is compared."""


class ProfileComparison(NamedTuple):
    """Attribution profiles of groups, and how they differ; from `compare_profiles`.

    Results about pairs of groups are in the order of `pairs`: (0, 1), (0, 2), ..., (1, 2), ...; two groups are a single
    pair. NaN for groups under the minimum size, and for pairs with such a group.
    """

    counts: Int[Array, " groups"]
    """Number of rows of each group."""
    profiles: Float[Array, "groups d"]
    """Mean magnitude of the attributions of each feature, divided by the sum over features."""
    total_variation: Float[Array, " pairs"]
    """Half the sum of absolute differences between two profiles: 0 if they are equal, 1 if no feature is in both."""
    chance: Float[Array, " pairs"]
    """Mean of the total variation over permutations: what sampling noise alone gives."""
    p_value: Float[Array, " pairs"]
    """P-value of the total variation, by permutation of the group labels."""
    rank_correlation: Float[Array, " pairs"]
    """Spearman's correlation of the two profiles: 1 if the features are in the same order. NaN if one is constant."""
    difference: Float[Array, "pairs d"]
    """Profile of the first group minus that of the second."""
    feature_p_value: Float[Array, "pairs d"]
    """P-value of the difference in each feature, corrected for the number of features."""

    def table(self, names: Any = None) -> "pd.DataFrame":
        """Return a frame with one row per pair of groups.

        Args:
            names: names of the groups; their numbers if omitted.

        Returns:
            The frame, indexed by the names of the two groups.

        Raises:
            ValueError: if there is not one name per group, or the results are those of several seeds.

        Example:
            >>> a = np.arange(40) % 2 == 1
            >>> found = compare_profiles(np.ones((40, 3), np.float32), a, jax.random.key(0), draws=9)
            >>> found.table(["women", "men"])["total_variation"].tolist()
            [0.0]
        """
        import pandas as pd

        if np.ndim(self.counts) != 1:
            raise ValueError(f"a table holds one comparison, found {np.shape(self.counts)[0]}: make one per seed")
        groups = np.shape(self.counts)[0]
        names = [str(k) for k in range(groups)] if names is None else [str(name) for name in names]
        if len(names) != groups:
            raise ValueError(f"names must be one per group, {groups}, got {len(names)}")
        of_pairs = ("total_variation", "chance", "p_value", "rank_correlation")
        index = pd.MultiIndex.from_tuples(
            [(names[i], names[j]) for i, j in pairs(groups)], names=["group", "other group"]
        )
        return pd.DataFrame({name: np.asarray(getattr(self, name)) for name in of_pairs}, index=index)


def compare_profiles(
    attributions: Float[AnyArray, "n d"],
    a: Any,
    key: KeyArray,
    draws: int = 1000,
    *,
    num_groups: int = 2,
    minimum: int = MINIMUM,
    chunk: int | None = 100,
) -> ProfileComparison:
    """Compare which features a network relies on in each group.

    The profile of a group is the mean magnitude of the attributions of each feature, divided by the sum over features.
    The distance between two profiles is positive even if the groups do not differ, because each is a mean over a
    sample; `chance` is the distance to be expected, and the permutation test compares with it. For each pair of groups,
    the labels of their rows are permuted, and all permutations of a chunk are one matrix product.

    A profile that differs does not mean that the network treats the groups differently: groups whose features are
    distributed differently have different attributions under a network that ignores the group.

    The function is pure: use `jax.jit` and `jax.vmap` over seeds.

    Args:
        attributions: attributions of n rows and d features, such as integrated gradients. Add the columns of a one-hot
            variable up before, or each is a feature of its own.
        a: groups: booleans, or codes below `num_groups`.
        key: random key.
        draws: number of permutations; static.
        num_groups: number of groups; static.
        minimum: least number of rows of a group that is compared; static.
        chunk: number of permutations that are computed at a time; all if None. Memory is chunk x n numbers.

    Returns:
        The profiles and their distances.

    Raises:
        ValueError: if shapes are not as above, a setting is not positive, or a concrete group is not valid.

    Example:
        >>> a = np.arange(40) % 2 == 1
        >>> attributions = np.where(a[:, None], [1.0, 3.0], [3.0, -1.0]).astype(np.float32)
        >>> found = compare_profiles(attributions, a, jax.random.key(0), draws=99)
        >>> found.profiles.tolist(), found.total_variation.item(), round(found.p_value.item(), 3)
        ([[0.75, 0.25], [0.25, 0.75]], 0.5, 0.01)
    """
    if np.ndim(attributions) != 2 or 0 in np.shape(attributions):
        raise ValueError(
            f"attributions must have rows and features, shape (n, d), found shape {np.shape(attributions)}: sum over "
            "other axes, such as those of an embedding"
        )
    check_draws(draws, chunk, minimum)
    n = np.shape(attributions)[0]
    groups, valid = group_codes(a, n, num_groups)
    counts, results = _compared(draws, num_groups, minimum, chunk, jnp.asarray(attributions), groups, key)
    return ProfileComparison(counts, *(nan_unless(valid, value) for value in results))


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _compared(
    draws: int,
    num_groups: int,
    minimum: int,
    chunk: int | None,
    attributions: Float[Array, "n d"],
    groups: Int[Array, " n"],
    key: KeyArray,
) -> tuple[Int[Array, " groups"], tuple[Float[Array, "..."], ...]]:
    """Return the counts and the other fields of `ProfileComparison`."""
    sizes = jnp.abs(attributions.astype(jnp.float32))
    of_group = groups[None] == jnp.arange(num_groups, dtype=jnp.int32)[:, None]
    counts = jnp.sum(of_group, axis=1, dtype=jnp.int32)
    enough = counts >= minimum
    profiles = _normalised(label_product(of_group.astype(jnp.float32), sizes))
    profiles = jnp.where(enough[:, None], profiles, jnp.nan)

    def of_pair(pair: Int[Array, "3"]) -> Any:
        i, j, number = pair
        members = of_group[i] | of_group[j]
        total = jnp.sum(sizes, axis=0, where=members[:, None])

        def difference(labels: Float[Array, "c n"]) -> Float[Array, "c d"]:
            sums = label_product(labels, sizes)
            return rounded_difference(_normalised(sums), _normalised(total[None] - sums))

        of_pair_key = jax.random.fold_in(key, number)
        differences = permuted(difference, members, of_group[i], of_pair_key, draws, chunk)
        distance = jnp.sum(jnp.abs(differences), axis=1) / 2
        result = (
            distance[0],
            jnp.mean(distance[1:]),
            p_values(distance),
            _rank_correlation(profiles[i], profiles[j]),
            differences[0],
            corrected_p_values(differences),
        )
        known = enough[i] & enough[j]
        return jax.tree.map(lambda value: jnp.where(known, value, jnp.nan), result)

    return counts, (profiles, *jax.lax.map(of_pair, jnp.asarray(numbered_pairs(num_groups))))


def _normalised(sums: Float[Array, "c d"]) -> Float[Array, "c d"]:
    """Divide by the sums over features; NaN if they are 0, as a network without any attribution has no profile."""
    total = jnp.sum(sums, axis=1, keepdims=True)
    positive = total > 0
    return jnp.where(positive, sums / jnp.where(positive, total, 1.0), jnp.nan)


def _rank_correlation(first: Float[Array, " d"], second: Float[Array, " d"]) -> Float[Array, ""]:
    """Compute Spearman's correlation, with the mean rank for ties."""
    x, y = (_ranks(values) - (values.shape[0] + 1) / 2 for values in (first, second))
    scale = jnp.sqrt(jnp.sum(x**2)) * jnp.sqrt(jnp.sum(y**2))
    unknown = jnp.isnan(jnp.sum(first) + jnp.sum(second)) | (scale == 0)
    return jnp.where(unknown, jnp.nan, jnp.sum(x * y) / jnp.where(scale == 0, 1.0, scale))


def _ranks(values: Float[Array, " d"]) -> Float[Array, " d"]:
    """Return ranks from 1, with the mean rank for ties."""
    ordered = jnp.sort(values)
    below, up_to = (jnp.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return (below + up_to + 1).astype(values.dtype) / 2
