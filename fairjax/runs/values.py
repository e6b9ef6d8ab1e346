"""Checks of settings' values. This module does not import JAX, since the benchmark's settings use it too."""

import dataclasses
import functools
import math
import numbers
import reprlib
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints


def short_repr(value: Any) -> str:
    """Format a value for a message in one short line, whatever the value."""
    try:
        return _SHORT.repr(value)
    except (ValueError, RecursionError):  # numbers with thousands of digits, or deep nesting
        return f"a {type(value).__name__} too long to print"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80

MOST = 2**32 - 1
"""Maximum of integers; settings with a smaller maximum check it themselves."""
LARGEST = 1e30
"""Maximum of all other numbers; single precision represents numbers up to 3.4e38."""


@functools.cache
def field_types(kind: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields."""
    return get_type_hints(kind)


def check_values(settings: Any, where: str = "") -> None:
    """Check that names are valid choices, numbers are finite and integers are within their bounds.

    Args:
        settings: a dataclass; nested dataclasses are checked as well.
        where: a prefix of the field names in messages.

    Raises:
        ValueError: if a value is invalid; the message names the field, the expected values and the value.
    """
    for field in dataclasses.fields(settings):
        name, value = f"{where}{field.name}", getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            check_values(value, f"{name}.")
            continue
        kind = field_types(type(settings))[field.name]
        kind = get_args(kind)[0] if get_origin(kind) is tuple else kind
        choices = get_args(kind) if get_origin(kind) is Literal else None
        for entry in value if isinstance(value, tuple | list) else (value,):
            _check_value(name, entry, choices)


def _check_value(name: str, value: Any, choices: tuple[str, ...] | None) -> None:
    """Check one value of a setting."""
    if choices is not None and value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {short_repr(value)}")
    if isinstance(value, float):
        most: Any = LARGEST
        if not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value}")
    elif isinstance(value, numbers.Integral):
        value, most = int(value), MOST
    else:
        return
    if value > most:
        raise ValueError(f"{name} must be at most {most}, got {short_repr(value)}")
    if value < -most:
        raise ValueError(f"{name} must be at least {-most}, got {short_repr(value)}")


def at_home(name: str, path: Path) -> Path:
    """Expand a leading `~` or `~user` in a path to that user's home folder, as a shell does.

    Args:
        name: the name of the setting, for the message.
        path: the path.

    Raises:
        ValueError: if the home folder is unknown.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{name} begins with {path.parts[0]}, a home folder that is not known: write the whole path"
        ) from error


def expand_paths(settings: Any) -> None:
    """Expand home folders in all paths of a dataclass.

    Raises:
        ValueError: if a home folder is unknown.
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, Path):
            object.__setattr__(settings, field.name, at_home(field.name, value))
