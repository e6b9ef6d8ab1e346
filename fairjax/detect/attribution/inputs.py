"""Checks of the arguments of attributions: inputs with a derivative, and baselines that fit them."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import keystr, tree_map_with_path
from jaxtyping import Array, Bool

from fairjax.detect.rows import num_rows
from fairjax.types import Inputs


def attributable(x: Inputs) -> Inputs:
    """Return inputs as JAX arrays, after checking that a logit has a derivative with respect to each of them.

    Args:
        x: an array, or a tree of arrays, with rows on axis 0.

    Returns:
        The same inputs as JAX arrays.

    Raises:
        TypeError: if an array holds integers or booleans.
        ValueError: if there are no rows, or numbers of rows differ.

    Example:
        >>> import numpy as np
        >>> attributable(np.ones((2, 3), np.float32)).shape
        (2, 3)
    """
    num_rows(x)

    def checked(path: Any, leaf: Any) -> Array:
        array = jnp.asarray(leaf)
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(
                f"x{keystr(path)} holds {array.dtype}, with respect to which a logit has no derivative: pass "
                "numbers as floats, pixels as the network scales them (0 to 1), masks as 0.0 and 1.0, and, to the part "
                "of the network that follows its embedding layer, embeddings in place of tokens"
            )
        return array

    return tree_map_with_path(checked, x)


def checked_baseline(x: Inputs, baseline: Any) -> Inputs:
    """Return a baseline as a tree like the inputs, with one row for all or one row per row.

    Args:
        x: inputs from `attributable`.
        baseline: None for zeros; or a tree like `x` whose arrays have the shape of one row, or one row per row of `x`.

    Returns:
        A tree like `x` with 1 row, if all rows share the baseline, or else as many rows as `x`.

    Raises:
        ValueError: if structure or shapes do not fit.

    Example:
        >>> checked_baseline(jnp.ones((4, 3)), jnp.zeros(3)).shape
        (1, 3)
    """
    if baseline is None:
        return jax.tree.map(lambda leaf: jnp.zeros_like(leaf[:1]), x)
    if jax.tree.structure(baseline) != jax.tree.structure(x):
        raise ValueError(
            f"baseline must have the structure of x, {jax.tree.structure(x)}, found {jax.tree.structure(baseline)}: "
            "pass one array for each array of x, or None for zeros"
        )

    def checked(path: Any, leaf: Array, base: Any) -> Array:
        array = jnp.asarray(base).astype(leaf.dtype)
        if array.shape == leaf.shape:
            return array
        if array.shape == leaf.shape[1:]:
            return array[None]
        raise ValueError(
            f"baseline{keystr(path)} must have the shape of one row, {leaf.shape[1:]}, or one row per row of x, "
            f"{leaf.shape}, found {array.shape}"
        )

    rows = tree_map_with_path(checked, x, baseline)
    if all(base.shape[0] == 1 for base in jax.tree.leaves(rows)):
        return rows
    return jax.tree.map(lambda leaf, base: jnp.broadcast_to(base, leaf.shape), x, rows)


def is_shared(x: Inputs, baseline: Inputs) -> bool:
    """Return whether one row of a baseline from `checked_baseline` is that of all rows."""
    return jax.tree.leaves(baseline)[0].shape[0] == 1 < num_rows(x)


def wide(leaf: Array) -> Any:
    """Return the dtype in which numbers of an array are summed: at least single precision."""
    return leaf.dtype if leaf.dtype in (jnp.float32, jnp.float64) else jnp.float32


def nan_rows(finite: Bool[Array, " n"], tree: Any) -> Any:
    """Return arrays with NaN in the rows that are not finite.

    Example:
        >>> nan_rows(jnp.array([True, False]), jnp.ones((2, 1))).tolist()
        [[1.0], [nan]]
    """

    def marked(leaf: Array) -> Array:
        known = jnp.expand_dims(finite, range(1, leaf.ndim))
        return jnp.where(known, leaf, jnp.full((), jnp.nan, leaf.dtype))

    return jax.tree.map(marked, tree)
