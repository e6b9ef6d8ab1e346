"""Unit masks: immutable trees of booleans beside the parameters, true = kept.

The units of a tree are numbered in its order: layer by layer, and within a layer by position.
"""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

Masks = PyTree[Bool[Array, "_"]]


def count(masks: Masks) -> Int[Array, ""]:
    """Count the units that are kept.

    Example:
        >>> count({"a": jnp.array([True, False]), "b": jnp.array([True])}).item()
        2
    """
    return sum((jnp.sum(keep) for keep in jax.tree.leaves(masks)), jnp.array(0))


def size(masks: Masks) -> int:
    """Return the number of units, kept or not, as a Python number that is known when tracing.

    Example:
        >>> size({"a": jnp.array([True, False]), "b": jnp.array([True])})
        3
    """
    return sum(keep.size for keep in jax.tree.leaves(masks))


def drop(masks: Masks, scores: PyTree[Float[Array, "_"]], k: int) -> Masks:
    """Cut the k units of highest score among those kept; all of them if fewer are left.

    Args:
        masks: which units are kept.
        scores: one number per unit, as a tree like `masks`; -inf spares a unit. Ties are broken by position.
        k: number of units to cut.

    Returns:
        New masks; the given ones are unchanged.

    Raises:
        ValueError: if `k` is negative or exceeds the number of units.

    Example:
        >>> drop({"a": jnp.array([True, True, True])}, {"a": jnp.array([0.1, 0.9, 0.5])}, 2)["a"].tolist()
        [True, False, False]
    """
    keep, unravel = ravel_pytree(masks)
    if not 0 <= k <= keep.size:
        raise ValueError(f"k must be between 0 and the number of units, {keep.size}, got {k}")
    flat = _eligible(keep, scores)
    top, units = jax.lax.top_k(flat, k)
    return unravel(keep.at[units].min(~(top > -jnp.inf)))


def drop_above(masks: Masks, scores: PyTree[Float[Array, "_"]], quantile: float | Float[Array, ""]) -> Masks:
    """Cut the units whose score lies above an empirical quantile of all units' scores (Algorithm 1, lines 5 and 6).

    A unit that is already cut counts with its influence, 0, and is not cut again.

    Args:
        masks: which units are kept.
        scores: one number per unit, as a tree like `masks`; -inf spares a unit and excludes it from the quantile.
        quantile: level of the quantile, in [0, 1]; order statistics are interpolated linearly.

    Returns:
        New masks.

    Example:
        >>> drop_above({"a": jnp.array([True, True, True])}, {"a": jnp.array([0.1, 0.9, 0.5])}, 0.5)["a"].tolist()
        [True, False, True]
    """
    keep, unravel = ravel_pytree(masks)
    flat, _ = ravel_pytree(scores)
    counted = flat > -jnp.inf
    cut = jnp.nanquantile(jnp.where(counted, jnp.where(keep, flat, 0.0), jnp.nan), quantile)
    return unravel(keep & ~(flat > cut))


def _eligible(keep: Bool[Array, " units"], scores: PyTree[Float[Array, "_"]]) -> Float[Array, " units"]:
    flat, _ = ravel_pytree(scores)
    return jnp.where(keep & ~jnp.isnan(flat), flat, -jnp.inf)
