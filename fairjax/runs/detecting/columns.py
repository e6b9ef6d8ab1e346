"""The columns of a table of features: which variable each belongs to, and which hold the protected attribute."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from fairjax.data.encoder import TableEncoder


@dataclasses.dataclass(frozen=True)
class Columns:
    """Columns of features and the variables that they encode."""

    names: tuple[str, ...]
    """Name of each column."""
    variables: tuple[str, ...]
    """Name of the variable that each column encodes; the columns of a category have one variable."""
    attribute: tuple[str, ...] = ()
    """Names of the columns that hold the protected attribute itself."""

    @property
    def distinct(self) -> tuple[str, ...]:
        """Names of the variables, in the order of their first columns."""
        return tuple(dict.fromkeys(self.variables))

    @property
    def attribute_variables(self) -> tuple[str, ...]:
        """Names of the variables that hold the protected attribute."""
        return tuple(dict.fromkeys(self.variables[self.names.index(name)] for name in self.attribute))

    def numbers(self, variable: str) -> tuple[int, ...]:
        """Return the numbers of the columns of a variable."""
        return tuple(j for j, name in enumerate(self.variables) if name == variable)


def columns_of(facts: dict[str, Any], x: Any, a: Any, attributes: Sequence[str] = ()) -> Columns | None:
    """Return the columns of a table of features; None if the features are not a table.

    Args:
        facts: facts about the data, with the names of the columns, and the encoder if the table is a user's own.
        x: features (n, d).
        a: group column (n,).
        attributes: names of protected attributes.

    Example:
        >>> x = np.array([[1.0, 0.0, 1.0], [2.0, 0.0, 1.0], [1.0, 1.0, 0.0], [3.0, 1.0, 0.0]])
        >>> columns_of({"names": ("age", "job=cook", "sex")}, x, np.array([True, True, False, False]))
        Columns(names=('age', 'job=cook', 'sex'), variables=('age', 'job', 'sex'), attribute=('job=cook', 'sex'))
    """
    if np.ndim(x) != 2:
        return None
    names = tuple(facts["names"])
    variables = _variables(names, facts.get("encoder"))
    members = np.asarray(a)
    held = [name for name, variable in zip(names, variables, strict=True) if variable in attributes]
    if members.ndim == 1 and members.dtype == bool:
        table = np.asarray(x)
        held += [name for j, name in enumerate(names) if _is_group(table[:, j], members)]
    return Columns(names, variables, tuple(dict.fromkeys(held)))


def _variables(names: Sequence[str], encoder: Any) -> tuple[str, ...]:
    """Return the variable of each column: what the encoder says, or the name before the equals sign."""
    if encoder is None:
        return tuple(name.split("=", 1)[0] for name in names)
    known = {name: column.column for column in TableEncoder.from_plain(encoder).columns for name in column.features}
    return tuple(known[name] for name in names)


def _is_group(column: np.ndarray, members: np.ndarray) -> bool:
    """Return whether a column has one value in each group and differs between them."""
    inside, outside = column[members], column[~members]
    if not (len(inside) and len(outside)):
        return False
    return bool((inside == inside[0]).all() and (outside == outside[0]).all() and inside[0] != outside[0])
