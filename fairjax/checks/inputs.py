"""Checks of the inputs of networks: arrays, or trees of arrays, with rows on axis 0."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.tree_util import keystr, tree_flatten_with_path
from jaxtyping import Array, Bool

from fairjax.checks.columns import all_valid, numeric
from fairjax.types import Inputs

_SIZE = 2**24
"""Number of values that are checked at a time, so that arrays larger than memory can be checked."""


class InputLayout(NamedTuple):
    """What all rows of inputs have in common; hashable, so that it can be static."""

    structure: Any
    """The structure of the tree."""
    names: tuple[str, ...]
    """The path of each leaf, such as `['age']`; empty for a single array."""
    shapes: tuple[tuple[int, ...], ...]
    """The shape of one row of each leaf."""
    dtypes: tuple[np.dtype, ...]
    """The dtype of each leaf."""


def is_tree(x: Any) -> bool:
    """Return whether inputs are a tree of arrays: a dictionary, a tuple of arrays, or another container of them.

    A list, or a tuple of numbers, is one array.

    Example:
        >>> is_tree({"age": np.ones(2)}), is_tree((np.ones(2), np.ones(2))), is_tree([[1, 2], [3, 4]])
        (True, True, False)
    """
    if isinstance(x, list) or jax.tree_util.all_leaves([x]) or x is None:
        return False
    return not isinstance(x, tuple) or hasattr(x, "_fields") or any(np.ndim(leaf) > 0 for leaf in jax.tree.leaves(x))


def checked_inputs(name: str, x: Any, *, first: int = 0) -> tuple[Inputs, Bool[Array, ""] | None]:
    """Check inputs, and convert them to dtypes that JAX keeps: 64-bit numbers become 32-bit ones.

    All other dtypes are kept, since integers may be tokens or pixels.

    Args:
        name: name of the argument in messages.
        x: an array-like, or a tree of them.
        first: number of the first row in messages.

    Returns:
        The inputs as NumPy and JAX arrays, and whether they are valid if they are traced, else None.

    Raises:
        ValueError: if numbers of rows differ, a leaf has no rows, a concrete float is not finite, or an integer is
            beyond 32 bits.
        TypeError: if a leaf is sparse, masked, or holds anything but numbers and booleans, or there is none.

    Example:
        >>> checked_inputs("x", {"age": [0.5, 1.5], "job": np.array([3, 4])})[0]["job"].dtype
        dtype('int32')
    """
    if not is_tree(x):
        array, valid = _leaf(name, x, first)
        return array, valid
    with_paths, structure = tree_flatten_with_path(x, is_leaf=lambda leaf: isinstance(leaf, list))
    if not with_paths:
        raise TypeError(f"{name} must hold arrays, found a {type(x).__name__} without any")
    leaves, valid = zip(*(_leaf(name + keystr(path), leaf, first) for path, leaf in with_paths), strict=True)
    tree = jax.tree.unflatten(structure, leaves)
    check_rows(name, tree, leaves[0].shape[0])
    return tree, all_valid(*valid)


def check_rows(name: str, x: Inputs, rows: int) -> None:
    """Check that all leaves have the given number of rows.

    Raises:
        ValueError: naming the first leaf that has another number.

    Example:
        >>> check_rows("x", {"age": np.ones((2, 1)), "job": np.ones(2)}, 2)
    """
    for path, leaf in tree_flatten_with_path(x)[0]:
        shape = np.shape(leaf)
        if not shape or shape[0] != rows:
            raise ValueError(
                f"{name}{keystr(path)} must have {rows:,} rows on axis 0, as many as the labels and all other inputs, "
                f"found shape {shape}"
            )


def input_layout(x: Inputs) -> InputLayout:
    """Describe the rows of inputs.

    Example:
        >>> input_layout({"age": np.ones((2, 1), np.float32)}).shapes
        ((1,),)
    """
    with_paths, structure = tree_flatten_with_path(x)
    return InputLayout(
        structure,
        tuple(keystr(path) for path, _ in with_paths),
        tuple(tuple(leaf.shape[1:]) for _, leaf in with_paths),
        tuple(np.dtype(leaf.dtype) for _, leaf in with_paths),
    )


def check_layout(name: str, x: Inputs, layout: InputLayout) -> None:
    """Check that inputs are like those that a network was used with.

    Raises:
        ValueError: naming the first leaf that differs.

    Example:
        >>> check_layout("x", np.ones((5, 3)), input_layout(np.ones((2, 3))))
    """
    found = input_layout(x)
    if found.structure != layout.structure:
        raise ValueError(
            f"{name} must have the structure of the split's table, arrays {_listed(layout)}, found {_listed(found)}"
        )
    shapes, dtypes = zip(layout.shapes, found.shapes, strict=True), zip(layout.dtypes, found.dtypes, strict=True)
    for path, (shape, found_shape), (dtype, found_dtype) in zip(layout.names, shapes, dtypes, strict=True):
        if shape != found_shape:
            raise ValueError(
                f"{name}{path} must have rows of shape {shape}, as in the split's table, found {found_shape}"
            )
        if _kind(dtype) != _kind(found_dtype):
            raise ValueError(
                f"{name}{path} must hold {_kind(dtype)}, as in the split's table ({dtype}), found {found_dtype}: "
                "preprocess new rows in the same way"
            )


def _kind(dtype: np.dtype) -> str:
    """Return the kind of numbers of a dtype."""
    if dtype.kind == "b":
        return "booleans"
    return "floats" if jnp.issubdtype(dtype, jnp.floating) else "integers"


def _listed(layout: InputLayout) -> str:
    return ", ".join(path or "x" for path in layout.names)


def _leaf(name: str, values: Any, first: int) -> tuple[Any, Bool[Array, ""] | None]:
    """Check one array, and convert it to a dtype that JAX keeps."""
    array = numeric(name, values)
    if not array.ndim or not array.shape[0]:
        raise ValueError(f"{name} must have rows on axis 0, at least one, found shape {array.shape}")
    is_float = jnp.issubdtype(array.dtype, jnp.floating)
    if isinstance(array, Tracer):
        return array, jnp.all(jnp.isfinite(array)) if is_float else None
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    step = max(1, _SIZE // max(1, array[0].size))
    for start in range(0, len(array), step) if is_float or dtype != array.dtype else ():
        _check_values(name, np.asarray(array[start : start + step]), dtype, first + start)
    return array if array.dtype == dtype else array.astype(dtype), None


def _check_values(name: str, values: np.ndarray, dtype: np.dtype, first: int) -> None:
    """Check that all values are finite, and that the dtype that JAX uses can hold them."""
    if jnp.issubdtype(dtype, jnp.floating):
        with np.errstate(over="ignore"):  # values beyond float32 become inf
            wrong = ~np.isfinite(values.astype(dtype))
        found, way = f"missing or infinite values in {dtype}", "drop these rows or fill the values in"
    else:
        limits = np.iinfo(dtype)
        wrong = (values < limits.min) | (values > limits.max)
        found, way = f"values beyond {dtype}", "subtract an offset, number the values anew, or pass floats"
    if wrong.any():
        place = np.argwhere(wrong)[0]
        raise ValueError(f"{name} has {found}, the first ({values[tuple(place)]}) in row {first + place[0]}: {way}")
