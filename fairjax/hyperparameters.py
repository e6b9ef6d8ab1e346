"""Helpers for dataclasses of hyperparameters.

The dataclasses are pytrees: numbers are leaves, which may be traced and mapped over; fields that shape the program are
static.
"""

import dataclasses
import math
import numbers
from typing import Any, TypeVar, cast

T = TypeVar("T")


def static(default: T) -> T:
    """Make a dataclass field that is static and not a leaf: changing it recompiles the program.

    Args:
        default: the default value of the field. Type checkers take it for the value of the field.

    Returns:
        A `dataclasses.field`.
    """
    return cast(T, dataclasses.field(default=default, metadata={"static": True}))


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Check that a value is one of the allowed ones.

    Raises:
        ValueError: naming the field, the value and the allowed values.

    Example:
        >>> check_choice("part", "train", ("train", "valid"))
    """
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def check_positive(name: str, value: Any) -> None:
    """Check that a number is positive and finite; traced numbers cannot be inspected and pass.

    Raises:
        ValueError: naming the field and the value.

    Example:
        >>> check_positive("learning_rate", 0.1)
    """
    if isinstance(value, int | float) and not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive{' and finite' if value == math.inf else ''}, got {value}")


LARGEST_INT32 = 2**31 - 1
"""The largest whole number that fits into a 32-bit counter."""


def check_at_least(name: str, value: Any, least: int, most: int = LARGEST_INT32) -> None:
    """Check that a value is a whole number within bounds.

    Raises:
        ValueError: naming the field, the bound and the value.

    Example:
        >>> check_at_least("epochs", 3, 1)
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    number = int(value)
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    if number > most:
        raise ValueError(f"{name} must be at most {most}, got {value}")
