"""Replacement of columns by values that say nothing about the row."""

import math
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from fairjax.hyperparameters import check_choice, static
from fairjax.preprocess.base import Prepared, matrix, preprocessor
from fairjax.preprocess.columns import ColumnPreprocessor
from fairjax.types import Inputs, KeyArray, Rows, weights_of


@preprocessor
class Replacement(ColumnPreprocessor):
    """Replace columns by their mean, by a given number, or by the values of a random train row.

    With "mean", a column is constant, which is the same as its removal once features are standardised. With "marginal",
    the columns keep their distribution, and several columns of one row come from one train row, so that one-hot codes
    remain valid; but they no longer say anything about the row.

    Example:
        >>> from fairjax.types import Batch
        >>> rows = Batch(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.ones(2, bool), jnp.ones(2, bool))
        >>> Replacement(columns=(0,)).apply(jax.random.key(0), rows).train.x.tolist()
        [[2.0, 2.0], [2.0, 4.0]]
    """

    label: ClassVar[str] = "Replacement"
    reference: ClassVar[str] = "De-Arteaga et al. 2019"
    equation: ClassVar[str] = "x'_j = mean of x_j, or x_j of a random row"
    changes: ClassVar[Literal["features"]] = "features"
    needs_group: ClassVar[bool] = False

    how: str | float = static("mean")
    """The replacement: "mean", the mean of the column over the train rows; "marginal", the value of a random train row;
    or a number, in the unit of the column before standardisation."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        super().__post_init__()
        if isinstance(self.how, str):
            check_choice("how", self.how, ("mean", "marginal"))
        elif not math.isfinite(self.how):
            raise ValueError(f"how must be mean, marginal or a finite number, got {self.how}")

    def apply(self, key: KeyArray, train: Rows) -> Prepared:
        """Replace the columns, as described for `Preprocessor`."""
        self.ready(train)
        table = matrix(train.x, "Replacement")
        values = table[:, self.chosen(table.shape[1])]
        weights = _weights(train, values)
        if self.how == "mean":
            fitted = (jnp.sum(values * weights[:, None], axis=0) / jnp.sum(weights),)
        else:
            fitted = (values, weights) if self.how == "marginal" else ()
        return Prepared(train._replace(x=self.transform(key, fitted, table, None)), fitted)

    def transform(self, key: KeyArray, fitted: PyTree[Any], x: Inputs, a: Any) -> Inputs:
        """Replace the columns in features of any rows."""
        del a
        table = matrix(x, "Replacement")
        columns = self.chosen(table.shape[1])
        if self.how == "marginal":
            values, weights = fitted
            # not `categorical`, which draws a number for each pair of rows
            new = values[jax.random.choice(key, values.shape[0], (table.shape[0],), p=weights)]
        else:
            new = fitted[0][None] if self.how == "mean" else jnp.asarray(self.how, table.dtype)
        return table.at[:, columns].set(new)


@preprocessor
class CrossGroupReplacement(ColumnPreprocessor):
    """Replace columns by the values of a random train row of another group.

    The distribution of the columns in a group becomes that in the other groups. The group of every row must be known,
    also at test time.

    Example:
        >>> from fairjax.types import Batch
        >>> rows = Batch(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.ones(2, bool), jnp.array([True, False]))
        >>> CrossGroupReplacement(columns=(0,)).apply(jax.random.key(0), rows).train.x.tolist()
        [[3.0, 2.0], [1.0, 4.0]]
    """

    label: ClassVar[str] = "Cross-group replacement"
    reference: ClassVar[str] = "De-Arteaga et al. 2019"
    equation: ClassVar[str] = "x'_j = x_j of a random row of another group"
    changes: ClassVar[Literal["features"]] = "features"
    needs_group_at_test: ClassVar[bool] = True

    def apply(self, key: KeyArray, train: Rows) -> Prepared:
        """Replace the columns, as described for `Preprocessor`."""
        self.ready(train)
        table = matrix(train.x, "CrossGroupReplacement")
        values = table[:, self.chosen(table.shape[1])]
        fitted = (values, _weights(train, values), train.a)
        return Prepared(train._replace(x=self.transform(key, fitted, table, train.a)), fitted)

    def adapted(self, trains: Rows) -> "CrossGroupReplacement":
        """Check that there are several groups."""
        for seed, a in enumerate(np.asarray(trains.a)):
            if a.ndim != 1 or len(np.unique(a)) < 2:
                found = f"{len(np.unique(a))} in the train part of seed {seed}" if a.ndim == 1 else "memberships"
                raise ValueError(f"a must have the one group of each row, with at least two groups, found {found}")
        return super().adapted(trains)

    def transform(self, key: KeyArray, fitted: PyTree[Any], x: Inputs, a: Any) -> Inputs:
        """Replace the columns in features of any rows."""
        table = matrix(x, "CrossGroupReplacement")
        values, weights, groups = fitted
        donors = _donors(key, weights, groups, jnp.asarray(a))
        return table.at[:, self.chosen(table.shape[1])].set(values[donors])


def _weights(train: Rows, values: Float[Array, "n k"]) -> Float[Array, " n"]:
    weights = weights_of(train)
    return jnp.ones(values.shape[0], values.dtype) if weights is None else jnp.asarray(weights).astype(values.dtype)


def _donors(key: KeyArray, weights: Float[Array, " n"], groups: Array, a: Array) -> Array:
    """Draw for each row a train row of another group, with probabilities in proportion to the weights.

    The train rows are sorted by group; the rows of other groups are then two intervals of the cumulative weights.
    """
    order = jnp.argsort(groups, stable=True)
    ends = jnp.cumsum(weights[order])
    groups = groups[order]
    zero = jnp.zeros(1, ends.dtype)
    starts_of_rows = jnp.concatenate([zero, ends])
    low = starts_of_rows[_first(groups, a, "left")]
    high = starts_of_rows[_first(groups, a, "right")]
    place = jax.random.uniform(key, a.shape, ends.dtype) * (ends[-1] - (high - low))
    place = place + jnp.where(place >= low, high - low, jnp.zeros_like(low))
    return order[jnp.clip(jnp.searchsorted(ends, place, side="right"), 0, ends.shape[0] - 1)]


def _first(groups: Array, a: Array, side: str) -> Array:
    # by sorting: with the default method, loops side by side have rarely given wrong places on CPUs
    return jnp.searchsorted(groups.astype(jnp.int32), a.astype(jnp.int32), side=side, method="sort")
