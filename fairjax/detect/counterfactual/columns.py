"""Columns of inputs: reading and replacing one column of a matrix or of a dictionary of arrays."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from fairjax.types import AnyArray, Inputs

Column = int | str | tuple[str, int]
"""A column: its number in a matrix of features, the name of an array of a dictionary, or the name of a matrix of a
dictionary and the number of a column in it."""


def read_column(x: Inputs, column: Column) -> Array:
    """Return a column of inputs.

    Args:
        x: a matrix of features (n, d), or a dictionary of arrays with rows on axis 0.
        column: the column.

    Returns:
        The column, of shape (n,); for the name of an array of a dictionary, that array with all its axes.

    Raises:
        ValueError: if there is no such column.

    Example:
        >>> read_column(jnp.array([[1.0, 2.0], [3.0, 4.0]]), 1).tolist()
        [2.0, 4.0]
    """
    array, number = _located(x, column)
    return jnp.asarray(array) if number is None else jnp.asarray(array)[:, number]


def write_column(x: Inputs, column: Column, values: Array) -> Inputs:
    """Return inputs with other values in one column; the dtype of the column is kept.

    Args:
        x: as for `read_column`.
        column: the column.
        values: the new values, of the column's shape.

    Raises:
        ValueError: if there is no such column.

    Example:
        >>> write_column({"age": jnp.array([20, 30])}, "age", jnp.array([40, 50]))["age"].tolist()
        [40, 50]
    """
    array, number = _located(x, column)
    array = jnp.asarray(array)
    changed = values.astype(array.dtype)
    if number is not None:
        changed = array.at[:, number].set(changed)
    if not isinstance(x, dict):
        return changed
    return {**x, (column[0] if isinstance(column, tuple) else column): changed}


def matrix_columns(x: Inputs, columns: tuple[Column, ...]) -> np.ndarray | None:
    """Return the numbers of columns of a matrix, so that all can be changed by one operation; None for other inputs.

    Hundreds of one-hot columns that are changed one by one take minutes to compile.

    Raises:
        ValueError: if there is no such column.

    Example:
        >>> matrix_columns(jnp.ones((2, 3)), (0, -1)).tolist(), matrix_columns({"age": jnp.ones(2)}, ("age",))
        ([0, -1], None)
    """
    if isinstance(x, dict):
        return None
    for column in columns:
        _located(x, column)
    return np.array(columns, np.int32)


def take_rows(x: Inputs, columns: tuple[Column, ...], rows: Array) -> Inputs:
    """Return inputs whose columns have the values of other rows, given by their numbers.

    Example:
        >>> take_rows(jnp.array([[1.0, 2.0], [3.0, 4.0]]), (1,), jnp.array([1, 1])).tolist()
        [[1.0, 4.0], [3.0, 4.0]]
    """
    numbers = matrix_columns(x, columns)
    if numbers is not None:
        table = jnp.asarray(x)
        return table.at[:, numbers].set(table[:, numbers][rows])
    for column in columns:
        x = write_column(x, column, read_column(x, column)[rows])
    return x


def check_distinct(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """Check that there are columns, and that none is named twice.

    Raises:
        ValueError: naming the column.

    Example:
        >>> check_distinct((0, "age"))
        (0, 'age')
    """
    if not columns:
        raise ValueError("columns must name at least one column, got none")
    for column in columns:
        if columns.count(column) > 1:
            raise ValueError(f"columns must be different ones, found {column!r} more than once")
    return columns


def as_columns(columns: Any) -> tuple[Column, ...]:
    """Return one column, or a sequence of them, as a tuple.

    A tuple of a name and a number is one column, as in `Column`.

    Example:
        >>> as_columns(3), as_columns([0, 1]), as_columns(("table", 2))
        ((3,), (0, 1), (('table', 2),))
    """
    pair = isinstance(columns, tuple) and len(columns) == 2 and isinstance(columns[0], str)
    if isinstance(columns, int | str) or (pair and isinstance(columns[1], int)):
        return check_distinct((columns,))
    return check_distinct(tuple(columns))


def is_concrete(*values: Any) -> bool:
    """Return whether all values are known, as they are outside of `jax.jit`, `jax.vmap` and `jax.grad`.

    Example:
        >>> is_concrete(jnp.ones(2), {"age": 3.0})
        True
    """
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values))


def _located(x: Inputs, column: Column) -> tuple[AnyArray, int | None]:
    """Return the array that holds a column, and the column's number in it; None for the whole array."""
    array, number = x, column
    if isinstance(x, dict):
        name, number = column if isinstance(column, tuple) else (column, None)
        if name not in x:
            raise ValueError(f"x has no column {name!r}: name one of {', '.join(map(repr, x))}")
        array = x[name]
        if number is None:
            return array, None
    if not isinstance(number, int):
        raise ValueError(
            f"x is no dictionary, so its columns have no names, found {column!r}: give the number of the column, such "
            "as features.index(name)"
        )
    if getattr(array, "ndim", None) != 2:
        raise ValueError(
            f"column {column!r} needs a matrix (n, d) or a dictionary of arrays, found "
            f"{'shape ' + str(array.shape) if hasattr(array, 'shape') else type(array).__name__}: write the "
            "perturbation as a function of x"
        )
    d = array.shape[1]
    if not -d <= number < d:
        raise ValueError(f"x has no column {column!r}: its {d} columns have the numbers 0 to {d - 1}")
    return array, number
