"""Names relabelled at random: what differences between groups would be if the groups of the names did not matter."""

import jax
import numpy as np
from jaxtyping import Bool, Float

from fairjax.types import AnyArray, KeyArray


def relabelled(
    key: KeyArray, a: Bool[np.ndarray, " people"], strata: AnyArray | None, draws: int
) -> Bool[np.ndarray, "draws people"]:
    """Permute the groups of names at random within strata.

    Args:
        key: random key.
        a: the group of each name.
        strata: another attribute of each name, within which groups are permuted; None for none.
        draws: number of permutations.

    Returns:
        One row of groups per permutation.

    Raises:
        ValueError: if the strata have another shape, or leave nothing to permute.

    Example:
        >>> relabelled(jax.random.key(0), np.array([True, False, False]), None, 2).sum(axis=1).tolist()
        [1, 1]
    """
    strata = np.zeros(len(a), int) if strata is None else np.asarray(strata)
    if strata.shape != a.shape:
        raise ValueError(f"strata must have one entry per name, {len(a)}, got shape {strata.shape}")
    mixed = [level for level in np.unique(strata) if 0 < np.sum(a[strata == level]) < np.sum(strata == level)]
    if not mixed:
        raise ValueError("all names of a stratum have the same group, so that there is nothing to relabel: omit strata")
    random = np.asarray(jax.random.uniform(key, (draws, len(a))), np.float64)
    labels = np.empty((draws, len(a)), bool)
    for level in np.unique(strata):
        places = np.flatnonzero(strata == level)
        labels[:, places] = a[places][np.argsort(random[:, places], axis=1)]
    return labels


def group_differences(
    labels: Bool[np.ndarray, "draws people"], values: Float[np.ndarray, "people k"]
) -> Float[np.ndarray, "draws k"]:
    """Compute the differences of group means, a=0 minus a=1, for every labelling, as one matrix product.

    Example:
        >>> group_differences(np.array([[True, False]]), np.array([[1.0], [3.0]])).tolist()
        [[2.0]]
    """
    privileged = labels.astype(np.float64)
    others = 1.0 - privileged
    weights = others / others.sum(axis=1, keepdims=True) - privileged / privileged.sum(axis=1, keepdims=True)
    return weights @ values
