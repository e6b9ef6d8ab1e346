"""The levels of columns: codes, names and missing values."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jax.core import Tracer
from jaxtyping import Int32
from pandas.api.extensions import ExtensionArray

MISSING = "missing"
"""Name of the level for rows without a value."""


class Levels(NamedTuple):
    """The values of an attribute, in order."""

    name: str
    values: tuple[Any, ...]
    lacking: int | None
    """Code for rows without a value, if there are any."""
    missing: str
    codes: Int32[np.ndarray, " n"]
    empty: tuple[Any, ...]
    """Categories that do not occur in any row."""

    @classmethod
    def of(cls, name: str, column: Any, missing: str, reference: Any) -> "Levels":
        """Return the codes and names of a column's values."""
        codes, values, empty, words = _factorize(column)
        lacking, missing_code = codes < 0, None
        if lacking.any():
            if missing == "raise":
                about = ""
                if words:
                    listed, them = (
                        ", ".join(map(repr, words)),
                        "it is a value" if len(words) == 1 else "they are values",
                    )
                    about = f"; {listed} counts as missing, so write another word if {them}"
                raise ValueError(
                    f"missing value of {name!r} in row {int(np.argmax(lacking))} ({int(lacking.sum())} in all{about}): "
                    'drop these rows, fill them in, or, to fairjax.data.groups, pass missing="group" or "leave out"'
                )
            clash = any(isinstance(value, str) and value.casefold() == MISSING for value in values)
            word = f"{MISSING} value" if clash else MISSING
            codes, missing_code, values = np.where(lacking, len(values), codes), len(values), [*values, word]
        if reference is not None:
            reference = reference.strip() if isinstance(reference, str) else reference
            if reference not in values:
                raise ValueError(
                    f"the reference {reference!r} is not among the values of {name}: {', '.join(map(str, values))}"
                )
            reference_code = values.index(reference)
            order = [k for k in range(len(values)) if k != reference_code] + [reference_code]
            new_code = np.argsort(order)
            codes, values = new_code[codes], [values[k] for k in order]
            missing_code = None if missing_code is None else int(new_code[missing_code])
        return cls(name, tuple(values), missing_code, missing, codes.astype(np.int32), tuple(empty))

    def encode(self, column: Any) -> Int32[np.ndarray, " n"]:
        """Encode the values of other rows."""
        codes, values, _, _ = _factorize(column)
        code_of = {value: k for k, value in enumerate(self.values) if k != self.lacking}
        unseen = [value for value in values if value not in code_of]
        if unseen or ((codes < 0).any() and self.lacking is None):
            listed = ", ".join(map(repr, unseen[:5])) if unseen else "a missing value"
            raise ValueError(
                f"{self.name} has {listed}, which the groups were not made with (known: "
                f"{', '.join(map(str, self.values))}): make the groups from all rows, or map it to a known value"
            )
        new_code = np.array([*(code_of[value] for value in values), self.lacking or 0], np.int32)
        return new_code[codes]


def columns_of(columns: Any, kind: str) -> dict[str, Any]:
    """Return one or several columns by name."""
    columns = columns.to_frame(index=False) if isinstance(columns, pd.MultiIndex) else columns
    if isinstance(columns, pd.DataFrame):
        names = [str(name) for name in columns.columns]
        named_columns: dict[str, Any] = {name: columns.iloc[:, k] for k, name in enumerate(names)}
    elif isinstance(columns, Mapping):
        names = [str(name) for name in columns]
        named_columns = dict(zip(names, columns.values(), strict=True))
    elif isinstance(columns, pd.Series | ExtensionArray | pd.Index):
        name = getattr(columns, "name", None)
        names, named_columns = [kind], {kind if name is None else str(name): columns}
    else:
        array = array_of(columns)
        if array.ndim not in (1, 2):
            raise ValueError(f"expected one column or several, found shape {array.shape}")
        arrays = [array] if array.ndim == 1 else list(array.T)
        names = [kind] if array.ndim == 1 else [f"{kind} {k}" for k in range(len(arrays))]
        named_columns = dict(zip(names, arrays, strict=True))
    if not named_columns or len(named_columns) < len(names):
        raise ValueError(f"expected one or more columns of different names, found {', '.join(names) or 'none'}")
    for name, column in named_columns.items():
        column = column if isinstance(column, pd.Series | ExtensionArray | pd.Index) else array_of(column)
        named_columns[name] = column
        if column.ndim != 1:
            squeeze = ": squeeze columns of shape (n, 1)" if column.ndim == 2 else ""
            raise ValueError(f"the column {name!r} must have one value per row, found shape {column.shape}{squeeze}")
    return named_columns


def array_of(values: Any) -> np.ndarray:
    """Convert values to an array in which missing values are not words."""
    check_concrete("groups", values)
    if hasattr(values, "toarray") and hasattr(values, "nnz"):
        raise TypeError("groups are a sparse matrix, which fairjax does not take: pass .toarray()")
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        raise TypeError("groups are a masked array with masked entries: drop these rows or fill the values in")
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"groups are not a regular array ({error}): their rows must all have one length") from error
    if array.dtype.kind in "US" and not isinstance(values, np.ndarray):
        # NumPy converts lists of mixed types to strings, in which a missing value would become a word.
        array = np.asarray(values, dtype=object)
    return array


def _factorize(column: Any) -> tuple[np.ndarray, list[Any], list[Any], list[str]]:
    """Return codes (-1 for no value), sorted values, categories that do not occur, and words that count as missing."""
    column = column if isinstance(column, pd.Series | ExtensionArray | pd.Index) else array_of(column)
    if isinstance(column, ExtensionArray):
        column = pd.Series(column)
    kind = getattr(column.dtype, "kind", "O")
    if kind in "cmM":
        way = "pass its real part" if kind == "c" else "make ranges of times with pandas.cut"
        raise TypeError(f"groups must be strings, categories, booleans or numbers, found dtype {column.dtype}: {way}")
    if kind == "O":
        kinds = set(map(type, column))
        numbers = (int, float, np.integer, np.floating)
        if kinds & {bool, np.bool_} and any(
            isinstance(value, numbers) and not isinstance(value, bool) and value == value for value in column
        ):
            raise TypeError(
                f"groups must be values of one kind, found {', '.join(sorted(each.__name__ for each in kinds))}, of "
                "which True and 1 are the same: turn all of them into strings"
            )
    try:
        codes, unique = pd.factorize(column, sort=True)
    except TypeError as error:
        kinds = sorted({type(value).__name__ for value in column})
        raise TypeError(
            f"groups must be values of one kind, found {', '.join(kinds)}: turn all of them into strings"
        ) from error
    categories = column.dtype.categories if isinstance(column.dtype, pd.CategoricalDtype) else None
    codes, values, words = _tidied(codes, unique.tolist(), categories is not None)
    unused = [] if categories is None else [word_of(value) for value in categories.tolist()]
    empty = [value for value in dict.fromkeys(unused) if value not in values and not is_no_value(value)]
    return codes, values, empty, words


NO_VALUE = ("", "nan", "none", "na", "n/a", "<na>", "nat", "null")
"""Words, in lower case, that stand for a missing value."""


def word_of(value: Any) -> Any:
    """Convert bytes to strings and strip the spaces around strings; other values are returned unchanged."""
    value = value.decode(errors="replace") if isinstance(value, bytes) else value
    return value.strip() if isinstance(value, str) else value


def is_no_value(word: Any) -> bool:
    """Return whether a word stands for a missing value, such as "NA"."""
    return isinstance(word, str) and word.casefold() in NO_VALUE


def _tidied(codes: np.ndarray, values: list[Any], ordered: bool) -> tuple[np.ndarray, list[Any], list[str]]:
    """Strip spaces around words, and treat words for a missing value as missing.

    Args:
        codes: the code of each row; -1 for no value.
        values: the values, sorted or in the order of their categories.
        ordered: whether the values are categories, which keep their order.

    Returns:
        The new codes, the new values, and the words that count as missing.

    Raises:
        ValueError: if values differ only in case.
    """
    words = [word_of(value) for value in values]
    tidied = list(dict.fromkeys(word for word in words if not is_no_value(word)))
    if not ordered and all(isinstance(word, str) for word in tidied):
        tidied.sort()
    spellings: dict[str, str] = {}
    for word in tidied:
        if isinstance(word, str) and spellings.setdefault(word.casefold(), word) != word:
            raise ValueError(
                f"{spellings[word.casefold()]!r} and {word!r} differ in capitals only: write them alike, for example "
                "with column.str.lower()"
            )
    code_of = {value: k for k, value in enumerate(tidied)}
    new_code = np.array([*(-1 if is_no_value(word) else code_of[word] for word in words), -1], codes.dtype)
    return new_code[codes], tidied, [value for value in words if is_no_value(value)]


def check_word(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Check that a value is one of several words."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_concrete(name: str, values: Any) -> None:
    """Check that values are not traced."""
    if isinstance(values, Tracer):
        raise TypeError(f"groups are made on the host, and {name} are traced: make them outside of jax.jit")


def check_names(names: Sequence[str], way: str) -> None:
    """Check that no names of groups differ only in case."""
    twice = [name for name, count in Counter(name.casefold() for name in names).items() if count > 1]
    if twice:
        name = next(name for name in names if name.casefold() == twice[0])
        raise ValueError(f"several groups would be called {name!r}: {way}")


def read_names(names: Any) -> tuple[str, ...]:
    """Convert names of groups to strings without spaces around them.

    Args:
        names: one name per group; a single string is rejected, since it would be read letter by letter.

    Returns:
        The names.

    Raises:
        ValueError: if `names` is a single string, or a name is empty or a word for a missing value.

    Example:
        >>> read_names(["women ", 2])
        ('women', '2')
    """
    if isinstance(names, str | bytes):
        raise ValueError(f"names must be a sequence with one name per group, found the string {names!r}")
    tidied = tuple(str(word_of(name)) for name in names)
    if any(map(is_no_value, tidied)):
        raise ValueError(
            f"names must be words, found {next(filter(is_no_value, tidied))!r}, which stands for a missing value: "
            "choose another name"
        )
    return tidied


def check_minimum(minimum: Any) -> None:
    """Check a minimal number of rows.

    Raises:
        ValueError: if it is not a number, is negative, or is not finite.

    Example:
        >>> check_minimum(50)
    """
    number = isinstance(minimum, int | float | np.integer | np.floating) and not isinstance(minimum, bool)
    if not number or not 0 <= minimum < np.inf:
        raise ValueError(f"minimum must be a number of rows, at least 0 and finite, got {minimum!r}")
