"""Quantile repair: every feature gets the same distribution in all groups."""

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from fairjax.checks import nan_unless
from fairjax.data.dataset import Dataset
from fairjax.hyperparameters import check_at_least, static
from fairjax.preprocess.base import Prepared, matrix, preprocessor
from fairjax.preprocess.cells import CellPreprocessor
from fairjax.preprocess.columns import Column, check_columns, indices_of, numbers
from fairjax.preprocess.correlation import check_share
from fairjax.types import Inputs, KeyArray, Number, Rows


class Quantiles(NamedTuple):
    """Quantiles of the repaired columns at equidistant levels."""

    of_groups: Float[Array, "groups levels k"]
    """In each group."""
    median: Float[Array, "levels k"]
    """The median of the groups' quantiles; their mean for two groups."""


@preprocessor
class QuantileRepair(CellPreprocessor):
    """Move the values of each feature to the median of the groups' distributions, and keep the order in each group.

    A value at the level u of its group's distribution becomes the median over the groups of the quantiles at level u,
    or moves a part of the way there. Each repaired feature then has the same distribution in all groups, so it alone
    says nothing about the group; combinations of features may. Features with few different values hardly change, since
    all equal values of a group remain equal: use removal or replacement for one-hot columns. The group of every row
    must be known, also at test time.

    Example:
        >>> from fairjax.types import Batch
        >>> y, a = jnp.array([True, False, True, False]), jnp.array([True, True, False, False])
        >>> rows = Batch(jnp.array([[1.0], [3.0], [5.0], [7.0]]), y, a)
        >>> QuantileRepair().apply(jax.random.key(0), rows).train.x.tolist()
        [[3.0], [5.0], [3.0], [5.0]]

    References:
        Feldman, Friedler, Moeller, Scheidegger, Venkatasubramanian (2015), Certifying and removing disparate impact,
        KDD, https://arxiv.org/abs/1412.3756
    """

    label: ClassVar[str] = "Quantile repair"
    reference: ClassVar[str] = "Feldman et al. 2015"
    equation: ClassVar[str] = "x' = (1 - level) x + level median_g F_g^-1(F_a(x))"
    changes: ClassVar[Literal["features"]] = "features"
    needs_group_at_test: ClassVar[bool] = True
    groups_only: ClassVar[bool] = True

    level: Number = 1.0
    """How far values move, from 0, not at all, to 1, all the way."""
    columns: tuple[Column, ...] = static(())
    """Numbers or names of the repaired columns; all columns by default."""
    resolution: int = static(1000)
    """Number of levels at which quantiles are computed."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        super().__post_init__()
        check_share("level", self.level)
        check_at_least("resolution", self.resolution, 2)
        check_columns(self.columns)

    def named(self, dataset: Dataset) -> "QuantileRepair":
        """Return the preprocessor with the numbers of the named columns, and of groups and classes."""
        known = super().named(dataset)
        return dataclasses.replace(known, columns=indices_of(known.columns, dataset.features))

    def apply(self, key: KeyArray, train: Rows) -> Prepared:
        """Repair the features, as described for `Preprocessor`; they are NaN if a group of traced rows is empty."""
        ready = self.ready(train)
        table = matrix(train.x, "QuantileRepair")
        cells = ready.cells(train)
        groups = cells.codes % cells.shape[1]
        members = jax.nn.one_hot(groups, cells.shape[1], dtype=table.dtype, axis=0) * cells.weights[None].astype(
            table.dtype
        )
        levels = ((np.arange(self.resolution) + 0.5) / self.resolution).astype(table.dtype)
        columns = ready._numbers(table.shape[1])
        of_groups = jax.lax.map(lambda column: _quantiles(column, members, levels), table[:, columns].T)
        of_groups = jnp.moveaxis(of_groups, 0, 2)
        filled = jnp.all(jnp.sum(members, axis=1) > 0)
        of_groups = nan_unless(filled if cells.valid is None else filled & cells.valid, of_groups)
        fitted = Quantiles(of_groups, jnp.median(of_groups, axis=0))
        return Prepared(train._replace(x=ready.transform(key, fitted, table, train.a)), fitted)

    def transform(self, key: KeyArray, fitted: PyTree[Any], x: Inputs, a: Any) -> Inputs:
        """Repair the features of any rows."""
        del key
        table = matrix(x, "QuantileRepair")
        columns = self._numbers(table.shape[1])

        def repaired(args):
            column, of_groups, median = args
            return own_group(jax.vmap(lambda quantiles: _moved(column, quantiles, median))(of_groups), a)

        moved = jax.lax.map(repaired, (table[:, columns].T, jnp.moveaxis(fitted.of_groups, 2, 0), fitted.median.T)).T
        level = jnp.asarray(self.level, table.dtype)
        return table.at[:, columns].set((1 - level) * table[:, columns] + level * moved)

    def _numbers(self, d: int) -> np.ndarray:
        return numbers(self.columns, d) if self.columns else np.arange(d)


def _quantiles(
    column: Float[Array, " n"], members: Float[Array, "groups n"], levels: Float[np.ndarray, " levels"]
) -> Float[Array, "groups levels"]:
    """Compute the least value of each group below or at which there is at least a share `level` of its weight."""
    order = jnp.argsort(column)
    ends = jnp.cumsum(members[:, order], axis=1)
    places = jax.vmap(lambda ends: jnp.searchsorted(ends, levels * ends[-1]))(ends)
    return column[order][jnp.minimum(places, column.shape[0] - 1)]


def _moved(
    column: Float[Array, " n"], quantiles: Float[Array, " levels"], median: Float[Array, " levels"]
) -> Float[Array, " n"]:
    """Return the value of the median distribution at the level of each value in its own distribution.

    The level of a value that occurs several times is the middle of the levels at which it is a quantile.
    """
    below = jnp.searchsorted(quantiles, column).astype(column.dtype)
    up_to = jnp.searchsorted(quantiles, column, side="right").astype(column.dtype)
    levels = quantiles.shape[0]
    return jnp.interp((below + up_to - 1) / 2, jnp.arange(levels, dtype=column.dtype), median)


def own_group(by_group: Float[Array, "groups n"], a: Any) -> Float[Array, " n"]:
    """Return the entry of each row's own group, and NaN for a group that has none.

    Example:
        >>> own_group(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([True, False])).tolist()
        [3.0, 2.0]
    """
    codes = jnp.asarray(a).astype(jnp.int32)
    rows = jnp.arange(codes.shape[0], dtype=jnp.int32)
    return by_group.at[codes, rows].get(mode="fill", fill_value=jnp.nan)
