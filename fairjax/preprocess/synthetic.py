"""Generators of rows for groups with few rows: how many rows each cell gets, and what all generators share."""

import dataclasses
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fairjax.checks import all_valid, nan_unless
from fairjax.column_names import variables_of
from fairjax.data.dataset import Dataset
from fairjax.data.scaler import mean_and_scale
from fairjax.hyperparameters import check_at_least, check_choice, static
from fairjax.preprocess.base import Prepared, matrix, preprocessor
from fairjax.preprocess.cells import CellPreprocessor, Cells
from fairjax.preprocess.drawing import quotas
from fairjax.types import KeyArray, Rows, WeightedBatch, concatenated, weights_of


class Template(NamedTuple):
    """A standardised table of train rows, with what is known about its columns."""

    x: Float[Array, "n d"]
    """Features with mean 0 and standard deviation 1; constant columns are 0."""
    mean: Float[Array, " d"]
    scale: Float[Array, " d"]
    low: Float[Array, " d"]
    """Least value of each column, standardised."""
    high: Float[Array, " d"]
    """Greatest value of each column, standardised."""
    is_binary: Bool[Array, " d"]
    """Whether a column has no more than two values, so that a generated value must be one of them."""
    is_exclusive: Bool[Array, " d"]
    """Whether at most one column of the variable has its greater value in each row."""
    is_complete: Bool[Array, " d"]
    """Whether at least one column of the variable has its greater value in each row."""
    variables: tuple[int, ...]
    """Number of the variable of each column."""

    @property
    def in_code(self) -> Bool[Array, " d"]:
        """Whether a column belongs to a variable of several exclusive columns with two values each: a one-hot code."""
        count = max(self.variables) + 1
        variables = jnp.array(self.variables, jnp.int32)
        columns = jax.ops.segment_sum(jnp.ones(len(self.variables), jnp.int32), variables, num_segments=count)
        binary = jax.ops.segment_sum(self.is_binary.astype(jnp.int32), variables, num_segments=count)
        return ((columns > 1) & (columns == binary))[variables] & self.is_exclusive

    def chosen(self, votes: Float[Array, "m d"]) -> Bool[Array, "m d"]:
        """Decide which binary columns get their greater value.

        In a one-hot code, it is the column with the most votes, which must be positive if there are rows of no
        category; every other binary column decides alone, by whether its votes are positive.
        """
        variables = jnp.array(self.variables, jnp.int32)
        count = max(self.variables) + 1
        best = jax.vmap(lambda row: jax.ops.segment_max(row, variables, num_segments=count))(votes)[:, variables]
        place = jnp.arange(votes.shape[1], dtype=jnp.int32)
        first = jnp.where(votes == best, place[None], votes.shape[1])
        first = jax.vmap(lambda row: jax.ops.segment_min(row, variables, num_segments=count))(first)[:, variables]
        is_first = (place[None] == first) & (self.is_complete[None] | (votes > 0))
        return jnp.where(self.in_code[None], is_first, votes > 0)

    def restored(self, values: Float[Array, "m d"], votes: Float[Array, "m d"]) -> Float[Array, "m d"]:
        """Return generated rows in the unit of the table; binary columns get one of their two values."""
        binary = jnp.where(self.chosen(votes), self.high[None], self.low[None])
        x = jnp.where(self.is_binary[None], binary, values)
        return x * self.scale[None] + self.mean[None]


@preprocessor
class RowGenerator(CellPreprocessor):
    """Base class of generators of rows: subclass it and write `generated`.

    Every group gets as many rows as the largest one has, or every cell of label and group as many as the largest cell.
    """

    changes: ClassVar[Literal["rows"]] = "rows"

    fill: str = static("groups")
    """What gets new rows: "groups" with fewer rows than the largest group, with their own shares of labels; or "cells"
    of label and group with fewer rows than the largest cell."""
    rows: int | None = static(None)
    """Number of generated rows. By default, as many as are missing; for `prepare_many`, as many as are missing in the
    seed that needs the most. They are divided in proportion to the number of rows that each cell lacks."""
    variables: tuple[str, ...] | None = static(None)
    """Name of the variable of each column, so that one-hot codes remain valid; by default from the columns' names if
    they are known, and otherwise every column is a variable."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        super().__post_init__()
        check_choice("fill", self.fill, ("groups", "cells"))
        if self.rows is not None:
            check_at_least("rows", self.rows, 0)
        if self.variables is not None:
            if isinstance(self.variables, str):
                raise ValueError(f"variables must be one name per column, found the string {self.variables!r}")
            object.__setattr__(self, "variables", tuple(map(str, self.variables)))

    def named(self, dataset: Dataset) -> "RowGenerator":
        """Return the generator with the variables of the columns, and the numbers of groups and classes."""
        return dataclasses.replace(
            super().named(dataset), variables=self.variables or variables_of(tuple(dataset.features))
        )

    def adapted(self, trains: Rows) -> "RowGenerator":
        """Return the generator with the number of rows that it generates."""
        checked = super().adapted(trains)
        if self.rows is not None:
            return checked
        missing = [int(np.round(self._missing(sizes, np).sum())) for sizes in checked.sizes_by_seed(trains)]
        return dataclasses.replace(checked, rows=max(missing))

    def _missing(self, sizes, numpy):
        """Return how many rows each cell lacks, from its number of rows."""
        if self.fill == "cells":
            return sizes.max() - sizes
        of_groups = sizes.sum(axis=0, keepdims=True)
        return sizes * (of_groups.max() / numpy.maximum(of_groups, 1) - 1)

    def apply(self, key: KeyArray, train: Rows) -> Prepared:
        """Add generated rows after the train rows, as described for `Preprocessor`.

        A generated row has the mean weight of its cell, if rows have weights. The rows are NaN if a cell of traced rows
        is empty.
        """
        ready = self.ready(train)
        if ready.rows is None:
            raise ValueError(
                "how many rows are missing is unknown, since the rows are traced: give rows=..., or call prepare "
                "outside of jit"
            )
        cells = ready.cells(train)
        table = matrix(train.x, type(self).__name__)
        sizes = cells.sizes().reshape(cells.shape)
        missing = self._missing(sizes.astype(table.dtype), jnp)
        shares = jnp.where(jnp.sum(missing) > 0, missing, sizes.astype(table.dtype))
        quota = quotas(shares.reshape(-1), ready.rows)
        codes = jnp.repeat(jnp.arange(cells.count, dtype=jnp.int32), quota, total_repeat_length=ready.rows)
        template = ready.template(table)
        x = ready.generated(key, template, cells, codes) if ready.rows else table[:0]
        valid = jnp.all(sizes > 0)
        x = nan_unless(valid if cells.valid is None else all_valid(valid, cells.valid), x)
        new = train._replace(
            x=x,
            y=(codes // cells.shape[1]).astype(train.y.dtype),
            a=(codes % cells.shape[1]).astype(train.a.dtype),
        )
        if weights_of(train) is not None:
            means = cells.total_weights.reshape(-1) / jnp.maximum(cells.sizes(), 1).astype(cells.weights.dtype)
            new = WeightedBatch(new.x, new.y, new.a, means[codes])
            train = train._replace(weights=cells.weights)
        return Prepared(jax.tree.map(concatenated, train._replace(x=table), new))

    def generated(
        self, key: KeyArray, template: Template, cells: Cells, codes: Int[Array, " m"]
    ) -> Float[Array, "m d"]:
        """Generate one row for each given cell.

        Args:
            key: random key.
            template: the train rows, standardised.
            cells: their cells.
            codes: the cell of each row to generate.

        Returns:
            The rows, in the unit of the train rows.
        """
        raise NotImplementedError(f"{type(self).__name__} must have a function generated")

    def template(self, table: Float[Array, "n d"]) -> Template:
        """Standardise train rows, and find out which columns are binary."""
        d = table.shape[1]
        names = self.variables if self.variables is not None else tuple(map(str, range(d)))
        if len(names) != d:
            raise ValueError(f"variables must name the variable of each of the {d} columns, found {len(names)} names")
        order = {name: number for number, name in enumerate(dict.fromkeys(names))}
        low, high = jnp.min(table, axis=0), jnp.max(table, axis=0)
        is_binary = jnp.all((table == low[None]) | (table == high[None]), axis=0)
        mean, scale = mean_and_scale(table)
        x = (table - mean[None]) / scale[None]
        variables = tuple(order[name] for name in names)
        is_high, places = ((table > low[None]) & is_binary[None]).astype(jnp.int32), jnp.array(variables, jnp.int32)
        highs = jax.ops.segment_sum(is_high.T, places, num_segments=len(order))[places]
        is_exclusive, is_complete = jnp.all(highs <= 1, axis=1), jnp.all(highs >= 1, axis=1)
        low, high = (low - mean) / scale, (high - mean) / scale
        return Template(x, mean, scale, low, high, is_binary, is_exclusive, is_complete, variables)
