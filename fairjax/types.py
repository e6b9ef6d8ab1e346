"""The arrays that functions exchange, and the names of their parts."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

AnyArray = Array | np.ndarray
"""Array types that public functions take: JAX's arrays, NumPy's, and tracers."""

Number = float | Float[Array, "..."]
"""A hyperparameter that may be traced, and so mapped over: a Python float or an array."""

KeyArray = Key[Array, ""]
"""A typed key, `jax.random.key`."""

Variables = dict[str, PyTree[AnyArray]]
"""A network's collections: at least `params` and `masks`; `batch_stats` where there is batch normalisation."""

Part = Literal["train", "valid", "test"]


Labels = Bool[Array, " n"] | Int[Array, " n"]
"""Two classes as booleans, or any number of classes as codes 0, 1, ..."""

Groups = Bool[Array, " n"] | Int[Array, " n"] | Float[Array, "n g"] | Bool[Array, "n g"]
"""Two groups as booleans, true in the privileged one; any number of groups as codes 0, 1, ...; or memberships,
one column per group."""


class Batch(NamedTuple):
    """Rows of a data set: standardised features, labels, and the protected attribute."""

    x: Float[Array, "n d"]
    """Features."""
    y: Labels
    """Labels: the raw class, as the data codes it."""
    a: Groups
    """Protected attribute."""


class WeightedBatch(NamedTuple):
    """Rows with sample weights; a `Batch` is one whose rows all weigh 1."""

    x: Float[AnyArray, "n d"]
    """Features."""
    y: Any
    """Labels."""
    a: Any
    """Protected attribute."""
    weights: Float[AnyArray, " n"] | None = None
    """A non-negative weight for each row; 1 if omitted. A row of weight 0 is not there."""


Rows = Batch | WeightedBatch
"""Rows with or without weights."""


def weights_of(batch: Rows) -> Float[AnyArray, " n"] | None:
    """The weights of rows, or None if they all weigh 1."""
    return batch.weights if isinstance(batch, WeightedBatch) else None


def columns(batch: Rows) -> tuple[Any, ...]:
    """Labels, groups and, where there are any, weights: what a measure takes after the values."""
    weights = weights_of(batch)
    return (batch.y, batch.a) if weights is None else (batch.y, batch.a, weights)


def take(batch: Rows, rows: Int[Array, " m"]) -> Rows:
    """The given rows of a batch. They must be there: this is not checked."""
    return jax.tree.map(lambda column: column[rows], batch)


class Split(NamedTuple):
    """One train/valid/test split of a data set.

    The table (`x`, `y`, `a`, `weights`) is kept once; a split owns row numbers and a scaler. For several seeds the
    latter gain a leading axis, and `SHARED` are the `in_axes` that leave the table where it is.
    """

    x: Float[Array, "n d"]
    """Features, not standardised."""
    y: Labels
    """Labels."""
    a: Groups
    """Protected attribute."""
    train: Int[Array, " n_train"]
    """Row numbers of the train part."""
    valid: Int[Array, " n_valid"]
    """Row numbers of the valid part."""
    test: Int[Array, " n_test"]
    """Row numbers of the test part."""
    mean: Float[Array, " d"]
    """Mean of each feature over the train part."""
    scale: Float[Array, " d"]
    """Standard deviation of each feature over the train part; 1 where it is 0."""
    weights: Float[Array, " n"] | None = None
    """A non-negative weight for each row of the table; 1 if omitted."""

    def batch(self, rows: Int[Array, " m"]) -> Rows:
        """The given rows, standardised. They must be rows of the table: this is not checked."""
        table = Batch(self.x, self.y, self.a)
        if self.weights is not None:
            table = WeightedBatch(*table, self.weights)
        taken = jax.tree.map(lambda column: jnp.asarray(column).at[rows].get(mode="promise_in_bounds"), table)
        return taken._replace(x=(taken.x - self.mean[None, :]) / self.scale[None, :])

    def part(self, name: Part) -> Rows:
        """All rows of one part, standardised."""
        return self.batch(getattr(self, name))


def pick(condition: Bool[Array, ""], new: PyTree[Array], old: PyTree[Array]) -> PyTree[Array]:
    """`new` where the condition holds, else `old`, leaf by leaf.

    A leaf that is the same in both is passed on as it is: it stays visibly constant for the compiler, and keys can be
    among the leaves.

    Example:
        >>> pick(jnp.array(False), {"a": jnp.array(1)}, {"a": jnp.array(2)})["a"].item()
        2
    """
    return jax.tree.map(lambda new, old: old if new is old else jnp.where(condition, new, old), new, old)


SHARED = Split(x=None, y=None, a=None, train=0, valid=0, test=0, mean=0, scale=0)  # type: ignore[arg-type]
"""`in_axes` for splits of one shared table."""
