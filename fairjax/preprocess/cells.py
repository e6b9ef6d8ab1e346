"""Cells of label and group: their codes, their numbers of rows, and the preprocessors that depend on them."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fairjax import checks
from fairjax.data.dataset import Dataset
from fairjax.hyperparameters import check_at_least, static
from fairjax.preprocess.base import Preprocessor, preprocessor, valid_weights
from fairjax.types import Rows, weights_of


class Cells(NamedTuple):
    """The cell of each row: `label * num_groups + group`."""

    codes: Int[Array, " n"]
    """Number of the cell of each row."""
    weights: Float[Array, " n"]
    """Weight of each row, 1 if the rows have none."""
    shape: tuple[int, int]
    """Numbers of classes and of groups."""
    valid: Bool[Array, ""] | None
    """Whether all traced values are valid; None if nothing had to be checked under a trace."""

    @property
    def count(self) -> int:
        """Number of cells."""
        return self.shape[0] * self.shape[1]

    def sums(self, values: Float[Array, " n"]) -> Float[Array, "classes groups"]:
        """Sum values over the rows of each cell."""
        return jax.ops.segment_sum(values, self.codes, num_segments=self.count).reshape(self.shape)

    def sizes(self) -> Int[Array, " cells"]:
        """Count the rows of each cell, whatever their weight."""
        return jnp.bincount(self.codes, length=self.count).astype(jnp.int32)

    @property
    def total_weights(self) -> Float[Array, "classes groups"]:
        """Sum of the weights of each cell."""
        return self.sums(self.weights)


@preprocessor
class CellPreprocessor(Preprocessor):
    """Base class of preprocessors that look at the cells of label and group; every cell must have a row."""

    num_classes: int | None = static(None)
    """Number of classes. By default two if labels are booleans, and otherwise one more than the largest code."""
    groups_only: ClassVar[bool] = False
    """Whether labels do not matter, so that a cell of label and group may be empty, but no group."""

    num_groups: int | None = static(None)
    """Number of groups. By default two if groups are booleans, and otherwise one more than the largest code."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        for name in ("num_classes", "num_groups"):
            if getattr(self, name) is not None:
                check_at_least(name, getattr(self, name), 2)

    def named(self, dataset: Dataset) -> "CellPreprocessor":
        """Return the preprocessor with the numbers of groups and classes of a data set."""
        return dataclasses.replace(
            self,
            num_classes=self.num_classes or dataset.num_classes,
            num_groups=self.num_groups or dataset.num_groups,
        )

    def adapted(self, trains: Rows) -> "CellPreprocessor":
        """Check the cells of all seeds, and return the preprocessor with the numbers of classes and groups.

        Raises:
            ValueError: naming a cell, or a group, that has no row, or none of positive weight.
        """
        checked = super().adapted(trains)
        counts = {name: _count(trains, name, getattr(self, name)) for name in ("num_classes", "num_groups")}
        known = dataclasses.replace(checked, **counts)
        totals = known.weights_by_seed(trains)
        if self.groups_only:
            _check_not_empty(np.sum(totals, axis=1), ("a",), "learned")
        else:
            _check_not_empty(totals, ("y", "a"), "reweighed, drawn or learned")
        return known

    def cells(self, train: Rows) -> Cells:
        """Return the cells of rows.

        Raises:
            ValueError: if concrete labels or groups are invalid, or traced ones are codes of an unknown number.
        """
        num_classes = _count(train, "num_classes", self.num_classes)
        num_groups = _count(train, "num_groups", self.num_groups)
        y, valid_y = checks.codes("y", checks.vector("y", train.y), num_classes)
        a, valid_a = checks.codes("a", _groups(train.a), num_groups)
        weights = weights_of(train)
        weights = jnp.ones(y.shape[0]) if weights is None else checks.floating(weights)
        valid = checks.all_valid(valid_y, valid_a, valid_weights(train))
        return Cells(y * num_groups + a, weights, (num_classes, num_groups), valid)

    def weights_by_seed(self, trains: Rows) -> Float[np.ndarray, "seeds classes groups"]:
        """Sum the weights of each cell, for concrete train rows with an axis of seeds."""
        return self._by_seed(trains, getattr(trains, "weights", None))

    def sizes_by_seed(self, trains: Rows) -> Float[np.ndarray, "seeds classes groups"]:
        """Count the rows of each cell, for concrete train rows with an axis of seeds."""
        return self._by_seed(trains, None)

    def _by_seed(self, trains: Rows, weights: Any) -> Float[np.ndarray, "seeds classes groups"]:
        sums = []
        for seed in range(np.shape(trains.y)[0]):
            cells = self.cells(jax.tree.map(lambda leaf: leaf[seed], trains))  # noqa: B023 (called at once)
            row_weights = None if weights is None else np.asarray(weights[seed], np.float64)
            sums.append(np.bincount(np.asarray(cells.codes), row_weights, cells.count).reshape(cells.shape))
        return np.stack(sums).astype(np.float64)


def _count(rows: Rows, field: str, known: int | None) -> int:
    """Return the number of classes or groups: the known one, or that of the rows."""
    if known is not None:
        return known
    name = "y" if field == "num_classes" else "a"
    column = getattr(rows, name)
    if column.dtype == bool:
        return 2
    if isinstance(column, jax.core.Tracer):
        raise ValueError(f"{name} holds traced codes, whose number is unknown: give {field} to the preprocessor")
    return max(2, int(np.max(column)) + 1)


def _groups(a: Any) -> Any:
    if np.ndim(a) != 1:
        raise ValueError(
            f"a must have the one group of each row, shape (n,), found shape {np.shape(a)}: cells of label and group "
            "are not defined for memberships or overlapping groups"
        )
    return checks.vector("a", a)


def _check_not_empty(totals: Float[np.ndarray, "seeds ..."], names: tuple[str, ...], what: str) -> None:
    """Check that every cell of every seed has a row of positive weight.

    Args:
        totals: sums of weights, with an axis of seeds and one for each name.
        names: what the cells are of, "y" and "a" or "a" alone.
        what: what cannot be done without rows.
    """
    empty = np.argwhere(~(totals > 0))
    if len(empty):
        seed, *cell = empty[0]
        where = f" of split {seed}" if len(totals) > 1 else ""
        of_cell = " and ".join(f"{name}={code}" for name, code in zip(names, cell, strict=True))
        raise ValueError(
            f"the train part{where} has no row with {of_cell}, so nothing can be {what} there: use more rows, a "
            "larger train part, or merge groups"
        )
