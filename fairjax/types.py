"""The arrays that travel through the house, and the names of their parts."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

AnyArray = Array | np.ndarray
"""What functions at the door take: JAX's arrays, NumPy's, and tracers."""

Number = float | Float[Array, "..."]
"""A hyperparameter that may be traced, and so mapped over: a Python float or an array."""

KeyArray = Key[Array, ""]
"""A typed key, `jax.random.key`."""

Variables = dict[str, PyTree[AnyArray]]
"""A network's collections: at least `params` and `masks`; `batch_stats` where there is batch normalisation."""

Part = Literal["train", "valid", "test"]


class Batch(NamedTuple):
    """Rows of a data set: standardised features, labels, and the protected attribute."""

    x: Float[Array, "n d"]
    """Features."""
    y: Bool[Array, " n"]
    """Labels: the raw class, as the data codes it."""
    a: Bool[Array, " n"]
    """Protected attribute: true in the privileged group."""


class Split(NamedTuple):
    """One train/valid/test split of a data set.

    The table (`x`, `y`, `a`) is kept once; a split owns row numbers and a scaler. For several seeds the fields from
    `train` on gain a leading axis, and `SHARED` are the `in_axes` that leave the table where it is.
    """

    x: Float[Array, "n d"]
    """Features, not standardised."""
    y: Bool[Array, " n"]
    """Labels."""
    a: Bool[Array, " n"]
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

    def batch(self, rows: Int[Array, " m"]) -> Batch:
        """The given rows, standardised. They must be rows of the table: this is not checked."""
        table = Batch(self.x, self.y, self.a)
        x, y, a = (jnp.asarray(part).at[rows].get(mode="promise_in_bounds") for part in table)
        return Batch((x - self.mean[None, :]) / self.scale[None, :], y, a)

    def part(self, name: Part) -> Batch:
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
