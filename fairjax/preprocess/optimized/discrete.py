"""Cells of a table of discrete features: numbers for the combinations of the values of all variables."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from fairjax.column_names import variables_of

Cell = Mapping[str, Any]
"""A combination of values by the name of the variable. The value of a one-hot code is the name of the category; that of
a single column is a number. The label is the entry "y", a code."""


class DiscreteTable(NamedTuple):
    """The values of each variable, and the numbers of their combinations."""

    names: tuple[str, ...]
    """Name of each variable."""
    columns: tuple[Int[np.ndarray, " k"], ...]
    """Numbers of the columns of each variable."""
    levels: tuple[Float[np.ndarray, "values k"], ...]
    """The different values of each variable, one per row, in increasing order."""
    categories: tuple[tuple[Any, ...], ...]
    """What each value is called."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values of each variable."""
        return tuple(len(levels) for levels in self.levels)

    @property
    def count(self) -> int:
        """Number of combinations."""
        return int(np.prod(self.shape))

    def codes(self, x: Float[np.ndarray, "n d"]) -> Int[np.ndarray, " n"]:
        """Return the number of the combination of each row, and -1 for one with a value that is unknown."""
        parts, known = [], np.ones(len(x), bool)
        for columns, levels in zip(self.columns, self.levels, strict=True):
            equal = (x[:, columns][:, None] == levels[None]).all(axis=2)
            parts.append(equal.argmax(axis=1))
            known &= equal.any(axis=1)
        return np.where(known, np.ravel_multi_index(parts, self.shape), -1)

    def rows(self, codes: Int[np.ndarray, " n"], d: int) -> Float[np.ndarray, "n d"]:
        """Return the features of combinations."""
        x = np.zeros((len(codes), d), self.levels[0].dtype)
        parts = np.unravel_index(codes, self.shape)
        for part, columns, levels in zip(parts, self.columns, self.levels, strict=True):
            x[:, columns] = levels[part]
        return x

    def cell(self, code: int) -> dict[str, Any]:
        """Return the values of a combination by the names of the variables."""
        parts = np.unravel_index(code, self.shape)
        return {name: values[part] for name, values, part in zip(self.names, self.categories, parts, strict=True)}


def discrete_table(x: Float[np.ndarray, "n d"], features: Sequence[str], most: int) -> DiscreteTable:
    """Find the values of all variables of a table.

    Args:
        x: the rows.
        features: name of each column; columns named `variable=value` are a one-hot code.
        most: largest number of combinations.

    Raises:
        ValueError: if there are more combinations.

    Example:
        >>> table = discrete_table(np.array([[1.0, 0.0, 7.0], [0.0, 1.0, 7.0]]), ("job=cook", "job=clerk", "age"), 10)
        >>> table.count, table.cell(0), table.codes(np.array([[0.0, 1.0, 7.0]])).tolist()
        (2, {'job': 'clerk', 'age': 7.0}, [0])
    """
    variables = variables_of(tuple(features))
    names = tuple(dict.fromkeys(variables))
    columns = tuple(np.array([k for k, variable in enumerate(variables) if variable == name]) for name in names)
    levels, categories, count = [], [], 1
    for name, numbers in zip(names, columns, strict=True):
        values = np.unique(x[:, numbers], axis=0)
        count *= len(values)
        if count > most:
            raise ValueError(
                f"the features have more than {most:,} combinations of values after the variable {name!r}, which has "
                f"{len(values):,}, and every one of them is a row of a linear programme: choose a few variables and "
                "divide numbers into bins first, for example with pandas.cut"
            )
        levels.append(values)
        categories.append(tuple(_category(value, [features[k] for k in numbers], name) for value in values))
    return DiscreteTable(names, columns, tuple(levels), tuple(categories))


def _category(value: Float[np.ndarray, " k"], names: Sequence[str], variable: str) -> Any:
    """Return the category of a one-hot code, the number of a single column, or the tuple of other numbers."""
    if len(names) == 1 and not names[0].startswith(f"{variable}="):
        return float(value[0])
    chosen = np.flatnonzero(value == 1)
    if len(chosen) == 1 and (value[np.arange(len(value)) != chosen[0]] == 0).all():
        return names[chosen[0]].removeprefix(f"{variable}=")
    return tuple(value.tolist())
