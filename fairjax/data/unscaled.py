"""Features that are not standardised: images, tokens, dictionaries of columns, and tables on request."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Bool

from fairjax import checks
from fairjax.types import Inputs


def is_standardised(x: Any, standardise: bool | None) -> bool:
    """Return whether features are to be standardised: by default, those of a table.

    Args:
        x: features, of any kind.
        standardise: what the user asked for; None if nothing.

    Raises:
        ValueError: if a tree is to be standardised.

    Example:
        >>> is_standardised(np.ones((4, 2)), None), is_standardised(np.ones((4, 8, 8, 3)), None)
        (True, False)
    """
    tree = checks.is_tree(x) and not isinstance(x, pd.DataFrame)
    if standardise and tree:
        raise ValueError(
            f"standardise=True is for one array or frame, found a {type(x).__name__} of several: standardise its "
            "columns before, and leave standardise out"
        )
    if standardise is not None:
        return standardise
    return not tree and getattr(x, "ndim", 0) <= 2  # lists of rows are tables


def unscaled(x: Any, names: tuple[str, ...] | None = None) -> tuple[Inputs, tuple[str, ...], Bool[Array, ""] | None]:
    """Check features that are not standardised.

    Integers and booleans are kept, since they may be tokens, pixels or masks; floats must be finite. A matrix of
    floats in double precision is also checked for values that would become equal in JAX's precision, as a table is.

    Args:
        x: an array, or a tree of arrays, with rows on axis 0.
        names: names of the columns, if x is a table.

    Returns:
        The features, their names (those of the leaves, or of the columns of a table), and whether they are valid if
        they are traced, else None.

    Raises:
        ValueError: if numbers of rows differ, or a value is not finite or does not fit.
        TypeError: if a leaf holds anything but numbers and booleans.

    Example:
        >>> unscaled({"pixels": np.zeros((2, 8, 8), np.uint8), "age": [0.5, 0.25]})[1]
        ('age', 'pixels')
    """
    if not checks.is_tree(x):
        x = checks.numeric("x", x)
    features, valid = checks.checked_inputs("x", x)
    if names is None:
        paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(features)[0]]
        names = tuple(jax.tree_util.keystr(path, simple=True, separator=".") or "x" for path in paths)
    if isinstance(x, np.ndarray) and x.ndim == 2 and x.dtype.kind == "f":
        columns = names if len(names) == x.shape[1] else tuple(f"x{k}" for k in range(1, x.shape[1] + 1))
        checks.check_merged(x, np.asarray(features), columns)
    return features, names, valid


def nan_where_invalid(x: Inputs, valid: Bool[Array, ""]) -> Inputs:
    """Make all floating-point features NaN if a traced value is invalid, so that every result is.

    Raises:
        TypeError: if no feature is floating-point.
    """
    if not any(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(x)):
        raise TypeError(
            "traced labels, groups and weights cannot be checked, and features that are all integers cannot be made "
            "NaN if they are invalid: call this function outside of jit, or pass booleans"
        )

    def mark(leaf: Array) -> Array:
        is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.where(valid, leaf, jnp.full((), jnp.nan, leaf.dtype)) if is_float else leaf

    return jax.tree.map(mark, x)
