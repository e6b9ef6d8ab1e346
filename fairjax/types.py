"""Core data types: Batch, Split and array aliases."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

AnyArray = Array | np.ndarray
"""Array types accepted by public functions: JAX arrays, NumPy arrays and tracers."""

Number = float | Float[Array, "..."]
"""A hyperparameter that may be traced and mapped over: a Python float or an array."""

KeyArray = Key[Array, ""]
"""A typed key, from `jax.random.key`."""

Variables = dict[str, PyTree[AnyArray]]
"""A network's collections: at least `params` and `masks`, and `batch_stats` if there is batch normalisation."""

Inputs = PyTree[AnyArray]
"""What a network takes: an array with rows on axis 0, such as a matrix of features, images or integer tokens; or a tree
of such arrays with equal numbers of rows, such as a dictionary of columns."""

Part = Literal["train", "valid", "test"]
"""Name of a part of a split."""

Labels = Bool[Array, " n"] | Int[Array, " n"]
"""Booleans for two classes, or codes 0, 1, ... for any number of classes."""

GroupArray = Bool[Array, " n"] | Int[Array, " n"] | Float[Array, "n g"] | Bool[Array, "n g"]
"""Booleans for two groups, true in the privileged one; codes 0, 1, ... for any number of groups; or memberships, one
column per group."""


class Batch(NamedTuple):
    """Rows of a data set: inputs of the network, labels, and the protected attribute."""

    x: Inputs
    """Features, standardised if the split has a scaler."""
    y: Labels
    """Labels: the raw class, as coded in the data."""
    a: GroupArray
    """Protected attribute."""


class WeightedBatch(NamedTuple):
    """Rows with sample weights; in a `Batch`, all rows have weight 1."""

    x: Inputs
    """Features."""
    y: Any
    """Labels."""
    a: Any
    """Protected attribute."""
    weights: Float[AnyArray, " n"] | None = None
    """Non-negative weights, one per row; 1 if omitted. Rows with weight 0 are ignored."""


Rows = Batch | WeightedBatch
"""Rows with or without weights."""


def weights_of(batch: Rows) -> Float[AnyArray, " n"] | None:
    """Return the weights of rows, or None if all weights are 1."""
    return batch.weights if isinstance(batch, WeightedBatch) else None


def columns(batch: Rows) -> tuple[Any, ...]:
    """Return labels, groups and, if there are any, weights: the arguments of a measure after the values."""
    weights = weights_of(batch)
    return (batch.y, batch.a) if weights is None else (batch.y, batch.a, weights)


def take(batch: Rows, rows: Int[Array, " m"]) -> Rows:
    """Return the given rows of a batch. Row numbers must be valid, which is not checked."""
    return jax.tree.map(lambda column: column[rows], batch)


class Split(NamedTuple):
    """One train/valid/test split of a data set.

    The table (`x`, `y`, `a`, `weights`) is shared by all splits; each split has its own row numbers and scaler. For
    several seeds, the latter have a leading axis, and `SHARED` are the `in_axes` that do not map over the table.
    """

    x: Inputs
    """Features, not standardised."""
    y: Labels
    """Labels."""
    a: GroupArray
    """Protected attribute."""
    train: Int[Array, " n_train"]
    """Row numbers of the train part."""
    valid: Int[Array, " n_valid"]
    """Row numbers of the valid part."""
    test: Int[Array, " n_test"]
    """Row numbers of the test part."""
    mean: Float[Array, " *d"] | None = None
    """Mean of each feature over the train part; None if features are not standardised."""
    scale: Float[Array, " *d"] | None = None
    """Standard deviation of each feature over the train part, 1 if it would be 0; None if features are not
    standardised."""
    weights: Float[Array, " n"] | None = None
    """Non-negative weights, one per row of the table; 1 if omitted."""

    def batch(self, rows: Int[Array, " m"]) -> Rows:
        """Return the given rows, standardised if there is a scaler. Row numbers must be valid, which is not checked."""
        table = Batch(self.x, self.y, self.a)
        if self.weights is not None:
            table = WeightedBatch(*table, self.weights)
        batch = jax.tree.map(lambda column: jnp.asarray(column).at[rows].get(mode="promise_in_bounds"), table)
        if self.mean is None or self.scale is None:
            return batch
        return batch._replace(x=(batch.x - self.mean[None, :]) / self.scale[None, :])

    def part(self, name: Part) -> Rows:
        """Return all rows of one part, standardised if there is a scaler."""
        return self.batch(getattr(self, name))


def concatenated(*inputs: Inputs) -> Inputs:
    """Join the rows of inputs of one structure.

    Example:
        >>> concatenated({"a": jnp.ones((2, 3))}, {"a": jnp.ones((1, 3))})["a"].shape
        (3, 3)
    """
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *inputs)


def tree_where(condition: Bool[Array, ""], new: PyTree[Array], old: PyTree[Array]) -> PyTree[Array]:
    """Return `new` if the condition holds and `old` otherwise, leaf by leaf.

    A leaf that is the same object in both is returned unchanged, so that the compiler knows that it is constant, and
    leaves may be keys.

    Example:
        >>> tree_where(jnp.array(False), {"a": jnp.array(1)}, {"a": jnp.array(2)})["a"].item()
        2
    """
    return jax.tree.map(lambda new, old: old if new is old else jnp.where(condition, new, old), new, old)


SHARED = Split(x=None, y=None, a=None, train=0, valid=0, test=0, mean=0, scale=0)  # type: ignore[arg-type]
"""The `in_axes` for splits of one shared table, with or without a scaler."""
