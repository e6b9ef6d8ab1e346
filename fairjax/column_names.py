"""Which columns of a matrix of features belong to one variable, such as the columns of a one-hot code."""

from collections.abc import Sequence

MISSING = " is missing"
"""Ending of the name of a column that indicates missing values of the column before."""


def variables_of(names: Sequence[str]) -> tuple[str, ...]:
    """Return the name of the variable of each column, from the columns' names.

    Columns named `variable=value` are one-hot codes of a variable, as fairjax's tables, `pandas.get_dummies` with
    `prefix_sep="="` and AIF360 name them, and `age is missing` belongs to `age`. Every other column is a variable.

    Args:
        names: names of the columns, such as `Dataset.features`.

    Returns:
        One name of a variable per column. For names with another rule, write this tuple yourself.

    Raises:
        TypeError: if `names` is a single string.

    Example:
        >>> variables_of(("age", "age is missing", "job=cook", "job=clerk"))
        ('age', 'age', 'job', 'job')
    """
    if isinstance(names, str):
        raise TypeError(f"names must be a sequence with one name per column, found the string {names!r}")
    whole = set(names)

    def variable(name: str) -> str:
        before = name.removesuffix(MISSING)
        if before != name and (before in whole or any(other.startswith(f"{before}=") for other in whole)):
            return before
        prefix, sign, _ = name.partition("=")
        return prefix if sign and prefix else name

    return tuple(map(variable, names))


def variable_codes(columns: Sequence[str], count: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the different names of variables, in order, and the number of the variable of each column.

    Raises:
        ValueError: if there is not one name per column.

    Example:
        >>> variable_codes(("age", "job", "job"), 3)
        (('age', 'job'), (0, 1, 1))
    """
    if isinstance(columns, str) or len(columns) != count:
        found = repr(columns) if isinstance(columns, str) else f"{len(columns)} names"
        raise ValueError(f"columns must name the variable of each of the {count} columns of x, found {found}")
    columns = tuple(map(str, columns))
    order = {name: code for code, name in enumerate(dict.fromkeys(columns))}
    return tuple(order), tuple(order[name] for name in columns)
