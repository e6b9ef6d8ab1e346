"""What the dataclasses of hyperparameters share.

They are pytrees: numbers are leaves, which may be traced and mapped over; what shapes the program is static.
"""

import dataclasses
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
    """Refuse a number that is not positive; what is traced cannot be looked at and passes.

    Raises:
        ValueError: naming the field and the value.

    Example:
        >>> check_positive("learning_rate", 0.1)
    """
    if isinstance(value, int | float) and not value > 0:
        raise ValueError(f"{name} must be positive, got {value}")


def check_at_least(name: str, value: int, least: int) -> None:
    """Refuse a whole number below the least that makes sense.

    Raises:
        ValueError: naming the field, the least and the value.

    Example:
        >>> check_at_least("epochs", 3, 1)
    """
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
