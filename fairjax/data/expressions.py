"""Conditions on the columns of a table, such as `decile_score>4`, and numbers in ranges, such as `age:25,60`."""

import dataclasses
import difflib
import math
import re
from collections.abc import Iterable, Sequence

import numpy as np

_COMPARISON = re.compile(r"^(?P<column>.+?)\s*(?P<sign>>=|<=|!=|==|=|>|<)\s*(?P<value>.+)$")


@dataclasses.dataclass(frozen=True)
class Condition:
    """A comparison of a column with a value.

    Example:
        >>> Condition.parse("decile_score > 4", ["decile_score", "race"])
        Condition(column='decile_score', sign='>', value='4')
    """

    column: str
    """Name of the column."""
    sign: str
    """One of >=, <=, >, <, = and !=."""
    value: str
    """The value, a number for all signs but = and !=."""

    @classmethod
    def parse(cls, text: str, columns: Sequence[str], where: str = "the table") -> "Condition | None":
        """Read a condition.

        Args:
            text: the condition, or the name of a column.
            columns: the columns of the table.
            where: how messages call the table.

        Returns:
            The condition; None if the text is the name of a column or no comparison.

        Raises:
            ValueError: if the column does not exist, or is compared by size with what is not a number.
        """
        if text in columns:
            return None
        parts = _COMPARISON.match(text)
        if parts is None:
            return None
        column, sign, value = parts["column"].strip(), parts["sign"], parts["value"].strip()
        check_columns([column], columns, where)
        sign = "=" if sign == "==" else sign
        if sign not in ("=", "!=") and number_of(value) is None:
            raise ValueError(f"{text!r} compares {column} by size with {value!r}, which is not a number")
        return cls(column, sign, value.strip("'\""))

    def __str__(self) -> str:
        """Return the condition as a user writes it."""
        return f"{self.column}{self.sign}{self.value}"


@dataclasses.dataclass(frozen=True)
class Attribute:
    """A protected attribute: a column of values, or a column of numbers that edges cut into ranges.

    Example:
        >>> Attribute.parse("age:25,60", ["age", "sex"]).names
        ('under 25', '25 to 60', '60 and over')
    """

    column: str
    """Name of the column."""
    edges: tuple[float, ...] = ()
    """Lower ends of all ranges but the first, in increasing order; empty for a column of values."""

    @classmethod
    def parse(cls, text: str, columns: Sequence[str], where: str = "the table") -> "Attribute":
        """Read an attribute.

        Args:
            text: the name of a column, or the name and edges as in `age:25,60`.
            columns: the columns of the table.
            where: how messages call the table.

        Raises:
            ValueError: if the column does not exist or the edges are not increasing numbers.
        """
        column, colon, given = text.rpartition(":")
        if text in columns or not colon:
            check_columns([text], columns, where)
            return cls(text)
        check_columns([column], columns, where)
        words = given.split(",")
        edges = tuple(edge for edge in map(number_of, words) if edge is not None)
        if len(edges) < len(words) or any(b <= a for a, b in zip(edges, edges[1:], strict=False)):
            raise ValueError(
                f"{text!r}: the edges after the colon must be increasing numbers, as in {column}:25,60, got {given!r}"
            )
        return cls(column, edges)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the ranges."""
        cut = [word(edge) for edge in self.edges]
        middle = (f"{low} to {high}" for low, high in zip(cut, cut[1:], strict=False))
        return (f"under {cut[0]}", *middle, f"{cut[-1]} and over") if cut else ()


def check_columns(names: Sequence[str], columns: Sequence[str], where: str = "the table", otherwise: str = "") -> None:
    """Check that columns exist.

    Args:
        names: names of columns.
        columns: the columns that exist.
        where: how messages call the table.
        otherwise: what else a user may do, for the message.

    Raises:
        ValueError: naming the first missing column, similar names, and the columns that exist.

    Example:
        >>> check_columns(["sex"], ["sex", "race"])
    """
    for name in names:
        if name not in columns:
            near = difflib.get_close_matches(name.lower(), [column.lower() for column in columns], 3, 0.6)
            near = [column for column in columns if column.lower() in near]
            meant = f"did you mean {' or '.join(near)}? " if near else ""
            listed = ", ".join(columns[:20]) + (f" and {len(columns) - 20} more" if len(columns) > 20 else "")
            raise ValueError(f"{where} has no column {name!r}: {meant}its columns are {listed}{otherwise}")


def number_of(text: object) -> float | None:
    """Return a finite number that a text stands for, or None.

    Example:
        >>> number_of(" 4.0 "), number_of("four")
        (4.0, None)
    """
    try:
        number = float(str(text))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def word(value: object) -> str:
    """Return a value as text, so that 1, 1.0 and "1" are the same, and True, "true" and "TRUE" are.

    Example:
        >>> word("1.0"), word(" yes "), word(True), word("TRUE")
        ('1', 'yes', 'true', 'true')
    """
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    text = str(value).strip()
    if text.casefold() in ("false", "true"):
        return text.casefold()
    number = number_of(text)
    if number is None or number != int(number) or abs(number) >= 2**53 or is_code(text):
        return text
    return str(int(number))


CODE = r"^[+-]?0[0-9]"
"""The regular expression of numbers with leading zeros, which are codes such as 05."""
NO_VALUE_NAME = "(missing)"
"""Name of the group or category of rows without a value."""


def is_code(text: str) -> bool:
    """Return whether a text is no number although it looks like one, since it has leading zeros.

    Example:
        >>> is_code("05"), is_code("0.5"), is_code("0")
        (True, False, False)
    """
    return re.match(CODE, text) is not None


def uncoded_number(text: str) -> float | None:
    """Return the finite number that a text is; None for other texts, and for codes such as 05.

    Example:
        >>> uncoded_number("5.0"), uncoded_number("05")
        (5.0, None)
    """
    return None if is_code(text) else number_of(text)


def is_equal(value: object, other: object) -> bool:
    """Return whether two values are the same, as the conditions = and != understand it.

    Numbers are compared as numbers, everything else as `word` writes it; codes with leading zeros are no numbers.

    Example:
        >>> is_equal("1.50", "1.5"), is_equal("05", "5"), is_equal("True", True)
        (True, False, True)
    """
    first, second = word(value), word(other)
    number = uncoded_number(first)
    return first == second or (number is not None and number == uncoded_number(second))


def check_spelling(title: str, values: Iterable[str]) -> None:
    """Check that no two values of a column differ only in capitals, since they would be taken for different values.

    Raises:
        ValueError: naming the column and two such values.

    Example:
        >>> check_spelling("sex", ["female", "male"])
    """
    spellings: dict[str, str] = {}
    for value in values:
        if spellings.setdefault(value.casefold(), value) != value:
            raise ValueError(
                f"{title} has the values {spellings[value.casefold()]!r} and {value!r}, which differ only in capitals: "
                "write them alike"
            )


def positive_values(title: str, values: Sequence[str], positive: object, otherwise: str = "") -> dict[str, bool]:
    """Return which values of a label are positive.

    Args:
        title: the name of the label, for messages.
        values: its values, as `word` writes them, in order.
        positive: the positive value; not needed for 0 and 1, or false and true.
        otherwise: what else a user may do, for the message.

    Raises:
        ValueError: if the positive value does not occur or must be named, or values differ only in capitals.

    Example:
        >>> positive_values("repaid", ["no", "yes"], "yes")
        {'no': False, 'yes': True}
    """
    check_spelling(title, values)
    if positive is not None:
        if word(positive) not in values:
            raise ValueError(f"the positive value {positive!r} does not occur in {title}: found {listed(values)}")
        return {value: value == word(positive) for value in values}
    if are_truth_values(values):
        return {value: value in TRUE for value in values}
    count = "the" if len(values) < 10 else f"{len(values):,}"
    raise ValueError(
        f"{title} has {count} values {listed(values)}: say which is positive with --positive {values[-1]}{otherwise}"
    )


TRUE = ("1", "true")
"""What stands for true, as `word` writes it."""


def are_truth_values(values: Sequence[str]) -> bool:
    """Return whether all values, as `word` writes them, are 0 and 1, or all are false and true.

    Example:
        >>> are_truth_values(["false", "true"]), are_truth_values(["no", "yes"])
        (True, False)
    """
    return set(values) <= {"0", "1"} or set(values) <= {"false", "true"}


def listed(values: Sequence[str]) -> str:
    """Return the first few values, quoted, for messages.

    Example:
        >>> listed(["a", "b"])
        "'a', 'b'"
    """
    return ", ".join(map(repr, values[:6])) + (", ..." if len(values) > 6 else "")
