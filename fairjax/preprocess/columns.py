"""Columns of a table by number, by name, or by an annotation."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from fairjax.column_names import variables_of
from fairjax.data.dataset import Dataset
from fairjax.hyperparameters import static
from fairjax.preprocess.base import Preprocessor, preprocessor

Column = int | str
"""A column: its number, its name, or the name of a variable, which stands for all of its one-hot columns."""


def column_indices(dataset: Dataset, names: str | Sequence[str] | Bool[np.ndarray, " d"]) -> tuple[int, ...]:
    """Return the numbers of the columns of variables.

    Args:
        dataset: a data set whose features are a table.
        names: names of columns, or of variables, which are replaced by all their columns: "relationship" stands for
            "relationship=Husband", "relationship=Wife", and so on; or booleans, one per column, true for the chosen
            ones. Of a table of `fairjax.detect.annotate`, pass `list(table["variable"][table["fairness_sensitive"]])`.

    Returns:
        Numbers of columns, in increasing order.

    Raises:
        ValueError: naming an unknown name, with the names of all variables, or if there is not one boolean per column.

    Example:
        >>> from fairjax.data import from_arrays
        >>> names = ("age", "job=cook", "job=clerk")
        >>> dataset = from_arrays([[30.0, 1.0, 0.0], [40.0, 0.0, 1.0]], y=[0, 1], a=[1, 0], features=names)
        >>> column_indices(dataset, ["job"]), column_indices(dataset, np.array([True, False, True]))
        ((1, 2), (0, 2))
    """
    if isinstance(names, np.ndarray) and names.dtype == bool:
        if names.shape != (len(dataset.features),):
            raise ValueError(f"there must be one boolean per column, {len(dataset.features)}, found {names.shape}")
        return tuple(np.flatnonzero(names).tolist())
    return indices_of((names,) if isinstance(names, str) else tuple(names), dataset.features)


def indices_of(columns: Sequence[Column], features: Sequence[str]) -> tuple[int, ...]:
    """Return the numbers of columns that are given by number or by name, in increasing order.

    Raises:
        ValueError: naming an unknown name, with the names of all variables.

    Example:
        >>> indices_of((0, "job"), ("age", "job=cook", "job=clerk"))
        (0, 1, 2)
    """
    variables = variables_of(tuple(features))
    chosen: set[int] = set()
    for column in columns:
        if not isinstance(column, str):
            chosen.add(int(column))
        elif column in features:
            chosen.add(list(features).index(column))
        elif column in variables:
            chosen |= {number for number, variable in enumerate(variables) if variable == column}
        else:
            listed = ", ".join(dict.fromkeys(variables))
            raise ValueError(f"there is no column or variable {column!r}: the variables are {listed}")
    return tuple(sorted(chosen))


def check_columns(columns: Sequence[Column]) -> None:
    """Check that columns are numbers or names, and that none occurs twice.

    Raises:
        ValueError: naming the column.

    Example:
        >>> check_columns((0, "age"))
    """
    for column in columns:
        if isinstance(column, bool) or not isinstance(column, int | str):
            raise ValueError(f"columns must be numbers or names of columns, found {column!r}")
        if list(columns).count(column) > 1:
            raise ValueError(f"columns must be different ones, found {column!r} more than once")


def numbers(columns: Sequence[Column], d: int) -> np.ndarray:
    """Return the numbers of columns of a matrix with d columns.

    Raises:
        ValueError: if a column is given by a name, or there is no column of a number.

    Example:
        >>> numbers((0, -1), 3).tolist()
        [0, 2]
    """
    for column in columns:
        if isinstance(column, str):
            raise ValueError(
                f"column {column!r} is a name, and a matrix has none: pass dataset=... to prepare, or its number, as "
                "fairjax.preprocess.column_indices finds it"
            )
        if not -d <= column < d:
            raise ValueError(f"x has no column {column}: its {d} columns have the numbers 0 to {d - 1}")
    return np.array([column % d for column in columns if not isinstance(column, str)], np.int32)


@preprocessor
class ColumnPreprocessor(Preprocessor):
    """Base class of preprocessors of chosen columns, by default those of the protected attribute."""

    columns: tuple[Column, ...] = static(())
    """Numbers or names of columns. The name of a variable stands for all its one-hot columns. By default the column
    that has the name of the protected attribute."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_columns(self.columns)

    def named(self, dataset: Dataset) -> "ColumnPreprocessor":
        """Return the preprocessor with the numbers of the named columns.

        Raises:
            ValueError: if there is no such column.
        """
        try:
            return dataclasses.replace(
                self, columns=indices_of(self.columns or dataset.protected.split(" and "), dataset.features)
            )
        except ValueError as error:
            if self.columns:
                raise
            raise ValueError(
                f"the protected attribute {dataset.protected!r} is not among the features: give columns ({error})"
            ) from None

    def chosen(self, d: int) -> np.ndarray:
        """Return the numbers of the columns of a matrix with d columns.

        Raises:
            ValueError: if there are none.
        """
        if not self.columns:
            raise ValueError(
                f"{type(self).__name__} has no columns: give columns=(...), or pass dataset=... to prepare, so that "
                "they are those of the protected attribute"
            )
        return numbers(self.columns, d)
