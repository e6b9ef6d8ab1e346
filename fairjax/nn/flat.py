"""Flat representation of a network's variables, as a few vectors."""

import dataclasses
import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.tree_util import keystr
from jaxtyping import PyTree

from fairjax.types import AnyArray, Variables


class Layout(NamedTuple):
    """Structure of a tree, and shape and dtype of each of its leaves, in JAX's order."""

    structure: Any
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[np.dtype, ...]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FlatVariables:
    """Variables as vectors, so that a training step is a few large operations instead of hundreds of small ones.

    `jax.vmap(FlatVariables.ravel)` converts many seeds at once; `variables` accepts leading axes, in JAX and in NumPy
    arrays. All leaves come back with their dtypes and values.
    """

    params: Any
    """Learned parameters, float (p,); those in half precision are held in float32, so that small steps are not rounded
    away. The type is `Any`, since JAX rebuilds trees with leaves of any kind."""
    rest: Any
    """The other collections: a vector (r,) if all of them are of one floating type, else one vector per dtype, in a
    dictionary with the names of the dtypes."""
    masks: Any
    """Unit masks, bool (units,)."""
    layout: Any = dataclasses.field(metadata={"static": True})
    """The `Layout` of the three: parameters, other collections and masks."""

    @classmethod
    def ravel(cls, variables: "Variables | FlatVariables") -> "FlatVariables":
        """Flatten a tree of variables; variables that are already flat are returned unchanged.

        Raises:
            TypeError: if a parameter is no float, a mask is no boolean, or a leaf is a key or no array of numbers.
            ValueError: if an integer needs more than JAX's 32 bits.
        """
        if isinstance(variables, FlatVariables):
            return variables
        params, masks = _leaves(variables, "params"), _leaves(variables, "masks")
        rest, rest_layout = _ravel_rest(variables)
        layout = (_layout(variables["params"], params), rest_layout, _layout(variables["masks"], masks))
        return cls(_joined(params, _master(params)), rest, ravel_pytree(masks)[0], layout)

    def variables(self) -> Variables:
        """Restore the tree of variables."""
        params_layout, rest_layout, masks_layout = self.layout
        return {
            **_unravel_rest(self.rest, rest_layout),
            "masks": _unravel(self.masks, masks_layout),
            "params": _unravel(self.params, params_layout),
        }

    def rest_of(self, variables: Variables) -> Any:
        """Flatten the other collections of updated variables, in place of `rest`.

        Raises:
            ValueError: if they differ from these in structure, shapes or dtypes.
        """
        rest, layout = _ravel_rest(variables)
        if layout != self.layout[1]:
            raise ValueError(_difference(self.layout[1], layout))
        return rest


def _leaves(variables: Variables, name: str) -> list[Any]:
    """Return the leaves of a collection as arrays of the dtypes that JAX gives them."""
    with_paths = jax.tree_util.tree_flatten_with_path(variables[name])[0]
    leaves = [kept_array(name + keystr(path), leaf) for path, leaf in with_paths]
    for (path, _), leaf in zip(with_paths, leaves, strict=True):
        if name == "params" and not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                f"{name}{keystr(path)} must be floating-point, since all parameters are trained, found dtype "
                f"{leaf.dtype}: keep it in another collection of the variables, such as 'buffers'"
            )
        if name == "masks" and leaf.dtype != bool:
            raise TypeError(f"{name}{keystr(path)} must be boolean, true = kept, found dtype {leaf.dtype}")
    return leaves


def kept_array(name: str, leaf: Any) -> Any:
    """Convert a leaf of variables to an array of the dtype that JAX gives it.

    Args:
        name: path of the leaf, for messages.
        leaf: an array or a number.

    Returns:
        A JAX or NumPy array.

    Raises:
        TypeError: if the leaf is a key or no array of numbers.
        ValueError: if an integer needs more than JAX's 32 bits.

    Example:
        >>> kept_array("count", np.array(3)).dtype
        dtype('int32')
    """
    if isinstance(leaf, jax.Array):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise TypeError(
                f"{name} is a random key, and variables must be numbers: derive keys from the key that apply is given"
            )
        return leaf
    array = np.asarray(leaf)
    if array.dtype.kind not in "biufc" and not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} must be an array of numbers, found {type(leaf).__name__} of dtype {array.dtype}")
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    if array.dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        low, high = int(array.min()), int(array.max())
        if low < limits.min or high > limits.max:
            raise ValueError(
                f"{name} holds {low if low < limits.min else high}, beyond {dtype}, to which JAX converts it: "
                "store a smaller number, or enable jax_enable_x64"
            )
    return array.astype(dtype, copy=False)


def _layout(tree: PyTree[Any], leaves: list[Any]) -> Layout:
    shapes, dtypes = zip(*((leaf.shape, np.dtype(leaf.dtype)) for leaf in leaves), strict=True) if leaves else ((), ())
    return Layout(jax.tree.structure(tree), shapes, dtypes)


def _master(leaves: list[Any]) -> np.dtype:
    """Return the dtype of the vector of parameters: the widest of their dtypes, at least float32."""
    with jax.numpy_dtype_promotion("standard"):
        return np.dtype(jnp.result_type(jnp.float32, *(leaf.dtype for leaf in leaves)))


def _joined(leaves: list[Any], dtype: np.dtype) -> Any:
    return ravel_pytree([leaf if leaf.dtype == dtype else leaf.astype(dtype) for leaf in leaves])[0]


def _ravel_rest(variables: Variables) -> tuple[Any, Layout]:
    """Flatten all collections but parameters and masks: one vector, or a dictionary of one vector per dtype."""
    others = {name: tree for name, tree in variables.items() if name not in ("params", "masks")}
    leaves = [leaf for name in sorted(others) for leaf in _leaves(others, name)]
    layout = _layout(others, leaves)
    if _is_one_vector(layout):
        return ravel_pytree(leaves)[0], layout
    vectors = {name: ravel_pytree([leaf for leaf in leaves if leaf.dtype.name == name])[0] for name in _names(layout)}
    return vectors, layout


def _is_one_vector(layout: Layout) -> bool:
    return len(set(layout.dtypes)) < 2 and all(jnp.issubdtype(dtype, jnp.floating) for dtype in layout.dtypes)


def _names(layout: Layout) -> list[str]:
    return sorted({dtype.name for dtype in layout.dtypes})


def _unravel_rest(rest: Any, layout: Layout) -> PyTree[AnyArray]:
    if _is_one_vector(layout):
        return _unravel(rest, layout)
    pieces = {name: iter(_pieces(rest[name], layout, name)) for name in _names(layout)}
    return jax.tree.unflatten(layout.structure, [next(pieces[dtype.name]) for dtype in layout.dtypes])


def _unravel(vector: AnyArray, layout: Layout) -> PyTree[AnyArray]:
    return jax.tree.unflatten(layout.structure, _pieces(vector, layout))


def _pieces(vector: AnyArray, layout: Layout, name: str | None = None) -> list[AnyArray]:
    """Cut a vector into leaves: all leaves, or those of one dtype."""
    leaves = [pair for pair in zip(layout.shapes, layout.dtypes, strict=True) if name in (None, pair[1].name)]
    if not leaves:
        return []
    ends = list(itertools.accumulate(math.prod(shape) for shape, _ in leaves))
    split = np.split if isinstance(vector, np.ndarray) else jnp.split
    pieces = split(vector, ends[:-1], axis=-1)
    return [
        (piece if piece.dtype == dtype else piece.astype(dtype)).reshape((*vector.shape[:-1], *shape))
        for piece, (shape, dtype) in zip(pieces, leaves, strict=True)
    ]


def _difference(expected: Layout, found: Layout) -> str:
    """Say how updated collections differ from those given."""
    start = "the network must return the collections that it was given, updated"
    names, found_names = _leaf_names(expected), _leaf_names(found)
    if names != found_names:
        odd = sorted(set(names) ^ set(found_names))
        return f"{start}: {odd[0] if odd else 'their order'} is not in both"
    shapes, dtypes = zip(expected.shapes, found.shapes, strict=True), zip(expected.dtypes, found.dtypes, strict=True)
    for name, (shape, found_shape), (dtype, found_dtype) in zip(names, shapes, dtypes, strict=True):
        if (shape, dtype) != (found_shape, found_dtype):
            return f"{start}: {name} was {dtype} {list(shape)} and is now {found_dtype} {list(found_shape)}"
    return f"{start}: their containers differ"


def _leaf_names(layout: Layout) -> list[str]:
    numbered = jax.tree.unflatten(layout.structure, range(len(layout.shapes)))
    return [keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(numbered)[0]]
