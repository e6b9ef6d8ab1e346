"""Checks that pandas columns are of the same rows."""

from typing import Any

import numpy as np


def check_index(**columns: Any) -> None:
    """Check that pandas objects have equal indices, since otherwise rows at one position may not belong together.

    A dictionary counts as its columns, which messages call x['age'], for example.

    Raises:
        ValueError: naming the first row in which they differ.

    Example:
        >>> check_index(y=[0, 1], a=[1, 0])
    """
    columns = {name: part for given, column in columns.items() for name, part in _named(given, column)}
    indexed = {name: index for name, column in columns.items() if (index := index_of(column)) is not None}
    if len(indexed) < 2:
        return
    (first_name, first_index), *others = indexed.items()
    for name, other_index in others:
        if len(other_index) == len(first_index) and not first_index.equals(other_index):
            differ = np.flatnonzero(np.asarray(first_index != other_index))
            if not differ.size:  # equal labels of different types
                continue
            row = int(differ[0])
            groups = not _is_pandas(columns[name])
            way = f"make {name} from column.to_numpy()" if groups else f"pass {name}.to_numpy()"
            raise ValueError(
                f"the index of {name} differs from that of {first_name} (row {row}: {other_index[row]}, {first_name} "
                f"has {first_index[row]}): align them, or {way} if they belong together by position"
            )


def _named(name: str, column: Any) -> list[tuple[str, Any]]:
    """Return a column with its name; or the columns of a dictionary, each with a name of its own."""
    return (
        [(f"{name}[{key!r}]", part) for key, part in column.items()] if isinstance(column, dict) else [(name, column)]
    )


def index_of(column: Any) -> Any:
    """Return the index of a pandas object, or of groups made from one; None for anything else.

    Example:
        >>> index_of([0, 1]) is None
        True
    """
    if _is_pandas(column):
        return getattr(column, "index", None)
    return getattr(column, "pandas_index", None)


def _is_pandas(column: Any) -> bool:
    return type(column).__module__.partition(".")[0] == "pandas"
