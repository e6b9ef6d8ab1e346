"""Flat representation of a network's variables, as three vectors."""

import dataclasses
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from fairjax.types import AnyArray, Variables


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FlatVariables:
    """Variables as three vectors, so that a training step is a few large operations instead of hundreds of small ones.

    `jax.vmap(FlatVariables.ravel)` converts many seeds at once; `variables` accepts leading axes, in JAX and in NumPy
    arrays.
    """

    params: Any
    """Learned parameters, float (p,). The type is `Any`, since JAX rebuilds trees with leaves of any kind."""
    rest: Any
    """The other floating-point collections, float (r,)."""
    masks: Any
    """Unit masks, bool (units,)."""
    layout: Any = dataclasses.field(metadata={"static": True})
    """Structure and shapes of the three collections."""

    @classmethod
    def ravel(cls, variables: "Variables | FlatVariables") -> "FlatVariables":
        """Flatten a tree of variables; variables that are already flat are returned unchanged."""
        if isinstance(variables, FlatVariables):
            return variables
        others = {name: tree for name, tree in variables.items() if name not in ("params", "masks")}
        trees = (variables["params"], others, variables["masks"])
        leaves, structures = zip(*map(jax.tree.flatten, trees), strict=True)
        layout = tuple(
            (structure, tuple(leaf.shape for leaf in part)) for structure, part in zip(structures, leaves, strict=True)
        )
        params, rest, masks = (ravel_pytree(tree)[0] for tree in trees)
        return cls(params, rest, masks, layout)

    def variables(self) -> Variables:
        """Restore the tree of variables."""
        params, others, masks = map(_unravel, (self.params, self.rest, self.masks), self.layout)
        return {**others, "masks": masks, "params": params}


def _unravel(vector: AnyArray, layout: tuple[Any, tuple[tuple[int, ...], ...]]) -> PyTree[AnyArray]:
    structure, shapes = layout
    ends = list(itertools.accumulate(math.prod(shape) for shape in shapes))
    split = np.split if isinstance(vector, np.ndarray) else jnp.split
    pieces = split(vector, ends[:-1], axis=-1) if shapes else []
    leaves = [piece.reshape(*vector.shape[:-1], *shape) for piece, shape in zip(pieces, shapes, strict=True)]
    return jax.tree.unflatten(structure, leaves)
