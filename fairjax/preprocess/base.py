"""Base class of preprocessors: frozen dataclasses of hyperparameters with pure functions that change the train part."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, PyTree

from fairjax import checks
from fairjax.data.dataset import Dataset
from fairjax.types import Inputs, KeyArray, Rows, weights_of

C = TypeVar("C", bound=type)
P = TypeVar("P", bound="Preprocessor")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def preprocessor(cls: C) -> C:
    """Class decorator that makes a preprocessor a frozen dataclass and a pytree.

    Hyperparameters that are numbers are leaves, so they can be traced and mapped over. Fields made with `static` are
    part of the pytree's structure, as is the class itself, as for `fairjax.method`.

    Example:
        >>> from fairjax.types import WeightedBatch
        >>> @preprocessor
        ... class Tempering(Preprocessor):
        ...     label: ClassVar[str] = "Tempering"
        ...     power: float = 0.5
        ...
        ...     def apply(self, key, train):
        ...         weights = jnp.asarray(train.weights) ** self.power
        ...         return Prepared(WeightedBatch(train.x, train.y, train.a, weights))
        >>> jax.tree.leaves(Tempering(power=0.25))
        [0.25]
    """
    return jax.tree_util.register_dataclass(dataclass(frozen=True, kw_only=True)(cls))


class Prepared(NamedTuple):
    """The result of preprocessing one train part."""

    train: Rows
    """The new train rows."""
    fitted: PyTree[Any] = ()
    """What was learned from the train rows, the argument of `Preprocessor.transform`."""


class Preprocessor:
    """A preprocessor: subclass it, decorate the class with `preprocessor`, and write `apply`.

    `apply` is a pure function of a key and of the train rows, which may have any scale: the result does not depend on
    the unit of a feature. It returns as many rows for every train part of one size, so it can be mapped over seeds. A
    preprocessor that changes features learns a map from the train rows, which `transform` applies to rows of any part.
    `fairjax.preprocess.prepare` applies one or several preprocessors to a split.
    """

    label: ClassVar[str] = ""
    """Name in tables and figures."""
    reference: ClassVar[str] = ""
    """Short citation, as tables show it."""
    equation: ClassVar[str] = ""
    """The computation as a formula of one line."""
    changes: ClassVar[Literal["weights", "features", "rows"]] = "rows"
    """What is changed: sample weights of train rows; features of all rows, by a map; or which rows are trained on."""
    needs_group: ClassVar[bool] = True
    """Whether the protected attribute of train rows is used."""
    needs_group_at_test: ClassVar[bool] = False
    """Whether the protected attribute of new rows is used: the map can then be applied only where it is known."""
    traceable: ClassVar[bool] = True
    """Whether `apply` can be jitted and mapped over seeds; otherwise it needs concrete rows, one seed at a time."""

    def named(self: P, dataset: Dataset) -> P:
        """Return the preprocessor with names of columns and numbers of groups and classes taken from a data set."""
        del dataset
        return self

    def adapted(self: P, trains: Rows) -> P:
        """Check train rows, and return the preprocessor with all sizes that depend on them.

        Args:
            trains: concrete train rows of one or several seeds, with a leading axis of seeds on all arrays.

        Returns:
            The preprocessor; its sizes are large enough for every seed.

        Raises:
            ValueError: if the rows of a seed cannot be preprocessed.
        """
        weights = getattr(trains, "weights", None)
        for row_weights in () if weights is None else np.asarray(weights):
            checks.sample_weights(row_weights, np.ones(len(row_weights), np.float32))
        return self

    def ready(self: P, train: Rows) -> P:
        """Return the preprocessor adapted to train rows if they are concrete; traced rows cannot be inspected."""
        return self.adapted(jax.tree.map(lambda leaf: np.asarray(leaf)[None], train)) if is_concrete(train) else self

    def apply(self, key: KeyArray, train: Rows) -> Prepared:
        """Preprocess the train rows.

        Args:
            key: random key.
            train: rows, standardised or not.

        Returns:
            The new train rows, and what was learned.

        Raises:
            ValueError: if concrete rows cannot be preprocessed. If traced rows cannot be, the new weights or features
                are NaN.
        """
        raise NotImplementedError(f"{type(self).__name__} must have a function apply")

    def transform(self, key: KeyArray, fitted: PyTree[Any], x: Inputs, a: Any) -> Inputs:
        """Apply the learned map to features of any rows. Default: leave them unchanged.

        Args:
            key: random key, for maps that draw.
            fitted: what `apply` learned.
            x: features.
            a: protected attribute; not used unless `needs_group_at_test`.
        """
        del key, fitted, a
        return x


def is_concrete(*values: Any) -> bool:
    """Return whether all values are known, as they are outside of `jax.jit`, `jax.vmap` and `jax.grad`.

    Example:
        >>> is_concrete(jnp.ones(2), {"age": 3.0})
        True
    """
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values))


def matrix(x: Inputs, what: str) -> Array:
    """Return features that must be a matrix of floating-point numbers.

    Raises:
        ValueError: naming the preprocessor and the shape found.

    Example:
        >>> matrix(np.ones((2, 3)), "Removal").shape
        (2, 3)
    """
    if checks.is_tree(x) or np.ndim(x) != 2:
        found = f"a {type(x).__name__} of arrays" if checks.is_tree(x) else f"shape {np.shape(x)}"
        raise ValueError(f"{what} changes the columns of a table, so x must be a matrix (n, d), found {found}")
    return checks.floating(x)


def valid_weights(train: Rows) -> Bool[Array, ""] | None:
    """Return whether the weights of traced rows are finite and not negative; None if there is nothing to check.

    Example:
        >>> from fairjax.types import Batch
        >>> valid_weights(Batch(jnp.ones((2, 1)), jnp.ones(2, bool), jnp.ones(2, bool))) is None
        True
    """
    weights = weights_of(train)
    return None if weights is None else checks.sample_weights(weights, jnp.ones(weights.shape[0]))[1]
