"""What the dataclasses of hyperparameters share.

They are pytrees: numbers are leaves, which may be traced and mapped over; what shapes the program is static.
"""

import dataclasses
import math
import numbers
from typing import Any


def static(default: Any) -> Any:
    """A field that is part of the program and not a leaf: changing it compiles anew.

    Example:
        >>> static(3).metadata["static"]
        True
    """
    return dataclasses.field(default=default, metadata={"static": True})


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is not one of the allowed.

    Raises:
        ValueError: naming the field, the value and what is allowed.

    Example:
        >>> check_choice("part", "train", ("train", "valid"))
    """
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def check_positive(name: str, value: Any) -> None:
    """Refuse a number that is not positive and finite; what is traced cannot be looked at and passes.

    Raises:
        ValueError: naming the field and the value.

    Example:
        >>> check_positive("learning_rate", 0.1)
    """
    if isinstance(value, int | float) and not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive{' and finite' if value == math.inf else ''}, got {value}")


MOST = 2**31 - 1
"""The largest whole number that a 32-bit counter holds."""


def check_at_least(name: str, value: Any, least: int, most: int = MOST) -> None:
    """Refuse what is not a whole number, and a whole number that is too small or too large to make sense.

    Raises:
        ValueError: naming the field, the bound and the value.

    Example:
        >>> check_at_least("epochs", 3, 1)
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    if value > most:
        raise ValueError(f"{name} must be at most {most}, got {value}")
