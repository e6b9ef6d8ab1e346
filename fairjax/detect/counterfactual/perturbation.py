"""Perturbation: a function that changes the inputs of rows, for questions about a network of the form "what if?"."""

from dataclasses import dataclass
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from fairjax.types import Inputs

C = TypeVar("C", bound=type)


@dataclass_transform(frozen_default=True)
def perturbation(cls: C) -> C:
    """Class decorator that makes a perturbation a frozen dataclass and a pytree.

    Arrays are leaves; fields made with `fairjax.static`, such as the columns, are part of the pytree's structure. A
    perturbation can therefore be an argument of a function under `jax.jit`, without `static_argnames`.
    """
    return jax.tree_util.register_dataclass(dataclass(frozen=True, eq=False)(cls))


class Perturbation:
    """A function of the inputs of rows: calling it returns the changed inputs.

    Rows that it cannot change raise an error; under a trace, where values are not known, their floating-point inputs
    become NaN.
    """

    def perturbed(self, x: Inputs) -> tuple[Inputs, Bool[Array, " n"] | None]:
        """Change the inputs.

        Returns:
            The changed inputs; and under a trace which rows could be changed, or None if all could.

        Raises:
            ValueError: if a row cannot be changed.
        """
        raise NotImplementedError

    def __call__(self, x: Inputs) -> Inputs:
        """Return the changed inputs."""
        changed, valid = self.perturbed(x)
        return changed if valid is None else _nan_unless(valid, changed)


def _nan_unless(valid: Bool[Array, " n"], x: Inputs) -> Inputs:
    """Make the floating-point inputs of rows NaN unless the rows are valid."""
    if not any(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(x)):
        raise TypeError(
            "traced rows cannot be checked, and inputs that are all integers cannot be made NaN where they are "
            "invalid: call the perturbation outside of jit, or pass it to counterfactual"
        )

    def mark(leaf: Array) -> Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        rows = valid.reshape(-1, *[1] * (leaf.ndim - 1))
        return jnp.where(rows, leaf, jnp.full((), jnp.nan, leaf.dtype))

    return jax.tree.map(mark, x)


def first_rows(wrong: Any) -> str:
    """Describe the rows for which a condition is true, for messages.

    Example:
        >>> first_rows(np.array([False, True, True]))
        '2 rows, the first of them row 1'
    """
    rows = np.flatnonzero(np.asarray(wrong))
    return f"row {rows[0]}" if len(rows) == 1 else f"{len(rows):,} rows, the first of them row {rows[0]}"
