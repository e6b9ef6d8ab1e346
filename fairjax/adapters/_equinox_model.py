"""Equinox models and their states as collections of arrays by path, and back."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fairjax.adapters._bringing import extra
from fairjax.types import Variables

Path = tuple[str, ...]
"""Where an array or a module is in a model: names of attributes, numbers in lists, keys of dictionaries."""


@dataclasses.dataclass(frozen=True, eq=False)
class Structure:
    """A model and its state without arrays."""

    leaves: tuple[Any, ...]
    """The model's leaves that are not part of the variables, and None for the others."""
    treedef: Any
    paths: tuple[Path, ...]
    """Where leaves are in the model."""
    kinds: tuple[str | None, ...]
    """The collections of leaves."""
    state: Any
    """The structure of the state, or None."""
    state_names: tuple[str, ...]

    def read(self, model: Any, state: Any = None) -> Variables:
        """Return the collections of a model and its state, or of a pair of them, as `give_back` returns it."""
        if isinstance(model, tuple) and state is None:
            model, state = model
        if (state is None) != (self.state is None):
            raise ValueError("a model with state is read with it, variables_of(model, state), and one without alone")
        variables: Variables = {"params": {}}
        for path, leaf in zip(*_paths_and_leaves(model), strict=True):
            if kind := _kind(leaf):
                _put(variables.setdefault(kind, {}), path, _array(leaf))
            elif not callable(leaf) and path in self.paths and path[-1] != "inference":
                self._check_leaf(path, leaf)
        if state is not None:
            leaves = jax.tree.leaves(state)
            if len(leaves) != len(self.state_names):
                raise ValueError(f"the state must have {len(self.state_names)} arrays, found {len(leaves)}")
            variables["state"] = dict(zip(self.state_names, map(_array, leaves), strict=True))
        return variables

    def _check_leaf(self, path: Path, leaf: Any) -> None:
        expected = self.leaves[self.paths.index(path)]
        if isinstance(leaf, int | float | str) and expected != leaf:
            raise ValueError(f"the model brought has {'.'.join(path)} = {expected!r}, this one has {leaf!r}")

    def model(self, variables: Variables) -> Any:
        """Return the model with these variables."""
        leaves = [
            get(variables[kind], path) if kind else leaf
            for path, kind, leaf in zip(self.paths, self.kinds, self.leaves, strict=True)
        ]
        return jax.tree.unflatten(self.treedef, leaves)

    def state_of(self, variables: Variables) -> Any:
        """Return the state with these variables, or None."""
        if self.state is None:
            return None
        return jax.tree.unflatten(self.state, [variables["state"][name] for name in self.state_names])

    def with_state(self, variables: Variables, state: Any) -> Variables:
        """Return variables with a new state."""
        if self.state is None:
            return variables
        return {**variables, "state": dict(zip(self.state_names, map(_array, jax.tree.leaves(state)), strict=True))}


def structure_of(model: Any, state: Any) -> Structure:
    """Return the structure of a model and its state."""
    paths, leaves = _paths_and_leaves(model)
    kinds = tuple(map(_kind, leaves))
    if len(set(paths)) < len(paths):
        raise ValueError("two arrays of the model have the same path: its dictionaries must have string keys")
    names = []
    if state is not None:
        with_paths, _ = jax.tree_util.tree_flatten_with_path(getattr(state, "_state", state))
        described = [jax.tree_util.keystr(keys, simple=True, separator=".") for keys, _ in with_paths]
        count = len(jax.tree.leaves(state))
        names = [
            f"{number:03d} {described[number]}" if len(described) == count else f"{number:03d}"
            for number in range(count)
        ]
    return Structure(
        tuple(None if kind else leaf for kind, leaf in zip(kinds, leaves, strict=True)),
        jax.tree.structure(model, is_leaf=_is_index),
        paths,
        kinds,
        None if state is None else jax.tree.structure(state),
        tuple(names),
    )


def _kind(leaf: Any) -> str | None:
    """Return the collection of a leaf: None if it is no array, or is a random key, which is no variable."""
    if not is_array(leaf) or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return None
    return "params" if jnp.issubdtype(leaf.dtype, jnp.inexact) else "buffers"


def _array(leaf: Any) -> Array:
    """Return an array of JAX whose type is not weak, so that updated variables have the same types."""
    return jax.lax.convert_element_type(jnp.asarray(leaf), jnp.asarray(leaf).dtype)


def is_array(leaf: Any) -> bool:
    """Return whether a leaf is an array."""
    return isinstance(leaf, jax.Array | np.ndarray)


def _is_index(node: Any) -> bool:
    return isinstance(node, extra("equinox").nn.StateIndex)


def has_state(model: Any) -> bool:
    """Return whether a model reads values from an `equinox.nn.State`."""
    return any(map(_is_index, jax.tree.leaves(model, is_leaf=_is_index)))


def _paths_and_leaves(model: Any) -> tuple[tuple[Path, ...], tuple[Any, ...]]:
    found, _ = jax.tree_util.tree_flatten_with_path(model, is_leaf=_is_index)
    return tuple(names_of(keys) for keys, _ in found), tuple(leaf for _, leaf in found)


def names_of(keys: Sequence[Any]) -> Path:
    """Return the names of a path of JAX."""
    return tuple(jax.tree_util.keystr((key,), simple=True) for key in keys)


def _put(tree: dict[str, Any], path: Path, leaf: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = leaf


def get(tree: Any, path: Path) -> Any:
    """Return what is at a path of nested dictionaries."""
    return functools.reduce(lambda node, name: node[name], path, tree)
