"""How the protected attribute is changed in the rows of a table, if that is possible."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fairjax.detect.counterfactual import compose, flip, swap_categories
from fairjax.runs.detecting.columns import Columns


class AttributeChange(NamedTuple):
    """A change of the protected attribute."""

    name: str
    """What tables call it."""
    perturb: Any
    """The perturbation; None if there is none."""
    reason: str = ""
    """Why there is none."""


def change_of_attribute(x: Any, a: Any, columns: Columns) -> AttributeChange | None:
    """Return the perturbation that changes the protected attribute; None if it is not among the features.

    Columns with two values are flipped. Of an attribute with more categories, the category that is a group is swapped
    with the most frequent other one. For an attribute such as an age in years, there is no change.

    Args:
        x: features (n, d).
        a: group column (n,), true in the privileged group.
        columns: names and variables of the features, and which ones are the attribute.

    Example:
        >>> x, a = np.array([[0.3, 0.0], [0.1, 1.0]]), np.array([False, True])
        >>> change_of_attribute(x, a, Columns(("income", "sex"), ("income", "sex"), ("sex",))).name
        'flip sex'
    """
    if not columns.attribute:
        return None
    table, members = np.asarray(x), np.asarray(a).astype(bool)
    first, *others = columns.attribute_variables
    name = f"flip {first}"
    varying = {
        variable: [j for j in _of_attribute(columns, variable) if np.ptp(table[:, j]) > 0]
        for variable in columns.attribute_variables
    }
    for variable, numbers in varying.items():
        found = [len(np.unique(table[:, j])) for j in numbers]
        if not found:
            return AttributeChange(name, None, f"{variable} is constant")
        if max(found) > 2:
            return AttributeChange(name, None, f"{variable} has more than two values, {max(found)}")
        if len(numbers) > 1 and not _is_one_hot(table[:, numbers]):
            return AttributeChange(name, None, f"the columns of {variable} are not those of categories")
    if max(map(len, varying.values())) < 3:
        return AttributeChange(name, compose_all([flip(j) for numbers in varying.values() for j in numbers]))
    count = len(varying[first])
    if others or count < 3:
        return AttributeChange(name, None, f"several variables are the attribute: {', '.join(varying)}")
    numbers = varying[first]
    is_yes = _is_yes(table[:, numbers])
    own = [k for k in range(count) if (is_yes[:, k] == members).all() or (is_yes[:, k] != members).all()]
    if not own:
        return AttributeChange(name, None, f"{first} has {count} categories, none of which is a group")
    rest = [k for k in range(count) if k != own[0]]
    second = max(rest, key=lambda k: int(is_yes[:, k].sum()))
    names = {columns.names[j]: j for j in numbers}
    chosen = [columns.names[numbers[k]] for k in (own[0], second)]
    return AttributeChange(f"swap {' and '.join(chosen)}", swap_categories(names, *chosen))


def compose_all(parts: Sequence[Any]) -> Any:
    """Return one perturbation that makes all changes."""
    return parts[0] if len(parts) == 1 else compose(*parts)


def _of_attribute(columns: Columns, variable: str) -> list[int]:
    return [j for j in columns.numbers(variable) if columns.names[j] in columns.attribute]


def _is_yes(table: np.ndarray) -> np.ndarray:
    return table == table.max(axis=0)


def _is_one_hot(table: np.ndarray) -> bool:
    return bool((_is_yes(table).sum(axis=1) == 1).all())
