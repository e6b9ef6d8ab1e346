"""Descriptions of networks and of their variables that JSON can hold, and checks against them."""

import dataclasses
import importlib
import json
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path
from jaxtyping import PyTree

from fairjax.nn.flat import kept_array
from fairjax.types import AnyArray, Variables


def named_leaves(variables: Variables) -> dict[str, AnyArray]:
    """Return the leaves of variables by their paths, in JAX's order, with the dtypes that JAX gives them.

    Raises:
        TypeError: if a leaf is a key or no array of numbers.
        ValueError: if an integer needs more than JAX's 32 bits.

    Example:
        >>> list(named_leaves({"params": {"w": np.ones(2)}, "masks": {"u": np.ones(2, bool)}}))
        ["['masks']['u']", "['params']['w']"]
    """
    return {keystr(path): kept_array(keystr(path), leaf) for path, leaf in tree_flatten_with_path(variables)[0]}


def describe_variables(variables: Variables) -> dict[str, Any]:
    """Describe variables: shape and dtype of every leaf, the units, and the nesting if it is one of dictionaries.

    Args:
        variables: the variables, with or without a leading axis of seeds.

    Returns:
        A dictionary with `leaves` (path, shape and dtype of each), `units` (number of units of each mask) and
        `structure` (nested dictionaries with the number of each leaf, or None if there are other containers).

    Example:
        >>> describe_variables({"params": {"w": np.ones(2, np.float32)}, "masks": {"u": np.ones(2, bool)}})["units"]
        {'u': 2}
    """
    leaves = named_leaves(variables)
    masks = tree_flatten_with_path(variables["masks"])[0]
    structure = jax.tree.unflatten(jax.tree.structure(variables), range(len(leaves)))
    return {
        "leaves": [[name, list(leaf.shape), str(leaf.dtype)] for name, leaf in leaves.items()],
        "units": {keystr(path, simple=True, separator="."): keep.shape[-1] for path, keep in masks},
        "structure": structure if _is_nested(structure) else None,
    }


def _is_nested(structure: Any) -> bool:
    """Return whether a structure consists of dictionaries with texts as keys, so that JSON can hold it."""
    if type(structure) is dict:
        return all(isinstance(key, str) and _is_nested(branch) for key, branch in structure.items())
    return isinstance(structure, int)


def check_like(described: list[Any], like: PyTree[Any]) -> None:
    """Check that described leaves are those of other variables.

    Args:
        described: path, shape and dtype of each leaf, from `describe_variables`.
        like: arrays, or shapes and dtypes.

    Raises:
        ValueError: naming the first leaf that differs.

    Example:
        >>> check_like([["['w']", [2], "float32"]], {"w": np.ones(3, np.float32)})
        Traceback (most recent call last):
        ...
        ValueError: ['w'] is float32 [2] there, and float32 [3] in like
    """
    stored = {name: (list(shape), dtype) for name, shape, dtype in described}
    expected = {}
    for path, leaf in tree_flatten_with_path(like)[0]:
        dtype = jax.dtypes.canonicalize_dtype(leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype)
        expected[keystr(path)] = list(np.shape(leaf)), str(dtype)
    for name in [*stored, *(name for name in expected if name not in stored)]:
        if name not in expected or name not in stored:
            where = "there, and not in like" if name in stored else "in like, and not there"
            raise ValueError(f"{name} is {where}")
        if stored[name] != expected[name]:
            (shape, dtype), (other_shape, other_dtype) = stored[name], expected[name]
            raise ValueError(f"{name} is {dtype} {shape} there, and {other_dtype} {other_shape} in like")


def describe_module(module: nn.Module) -> dict[str, Any] | None:
    """Describe a module of `fairjax.nn` by its class and fields; None for any other, or if JSON cannot hold a field.

    Example:
        >>> from fairjax.nn import Mlp
        >>> describe_module(Mlp(widths=(4, 4)))["class"]
        'Mlp'
    """
    kind = type(module)
    fields = [field.name for field in dataclasses.fields(kind) if field.name not in ("parent", "name")]
    described = {"class": kind.__name__, "fields": {name: getattr(module, name) for name in fields}}
    try:
        return described if made_module(json.loads(json.dumps(described))) == module else None
    except (TypeError, ValueError):
        return None


def made_module(described: dict[str, Any]) -> nn.Module:
    """Make a module of `fairjax.nn` from its description.

    Raises:
        ValueError: if there is no such class.
        TypeError: if it has other fields.

    Example:
        >>> made_module({"class": "Mlp", "fields": {"widths": [4, 4]}}).widths
        (4, 4)
    """
    kind = getattr(importlib.import_module("fairjax.nn"), described["class"], None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ValueError(f"fairjax.nn has no module {described['class']}")
    return kind(**{name: _tuples(value) for name, value in described["fields"].items()})


def _tuples(value: Any) -> Any:
    """Convert the lists of JSON to tuples, as modules have them."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
