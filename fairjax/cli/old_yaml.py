"""x"""

import dataclasses
import math
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from fairjax.runs.values import at_home, field_types, short_repr
from fairjax.types import Number


def updated(settings: Any, changes: dict[str, Any], where: str = "") -> Any:
    """Update a dataclass with the values of a mapping read from YAML, and check names and types.

    Raises:
        ValueError: for an unknown name (the message lists the known ones) and for a value of the wrong type.
    """
    names, hints = {field.name for field in dataclasses.fields(settings)}, field_types(type(settings))
    new = {}
    for name, value in changes.items():
        if name not in names:
            raise ValueError(f"unknown setting {where}{_name(name)}; settings here are {', '.join(sorted(names))}")
        old = getattr(settings, name)
        if dataclasses.is_dataclass(old):
            if not isinstance(value, dict):
                raise ValueError(f"{where}{name} must be a mapping of settings, got {short_repr(value)}")
            new[name] = updated(old, value, f"{where}{name}.")
        else:
            new[name] = _typed(f"{where}{name}", hints[name], value)
    return dataclasses.replace(settings, **new)


def _name(name: Any) -> str:
    """Convert a name in a YAML file, which need not be a string, to a string."""
    return name if isinstance(name, str) and len(name) < 80 and name.isprintable() else short_repr(name)


def _typed(name: str, kind: Any, value: Any) -> Any:
    """Convert a YAML value to the type of a field.

    Raises:
        ValueError: if the value has the wrong type; the message names the field, the expected type and the value.
    """
    text, origin = short_repr(value), get_origin(kind)
    if kind == Number:
        kind = float
    elif origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(kind):
            return None
        kind = next(one for one in get_args(kind) if one is not type(None))
        origin = get_origin(kind)
    if origin is Literal:
        allowed = ", ".join(map(str, get_args(kind)))
        if not isinstance(value, str):
            raise ValueError(f"{name} must be of type str, one of {allowed}, got {text}")
        if value not in get_args(kind):
            raise ValueError(f"{name} must be one of {allowed}, got {text}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{name} must be a list, got {text}")
        return tuple(_typed(f"{name}[{i}]", get_args(kind)[0], entry) for i, entry in enumerate(value))
    if kind is Path:
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError(f"{name} must be a path, got {text}")
        return at_home(name, Path(value))
    if kind is float:
        return _number(name, value)
    if type(value) is not kind:
        raise ValueError(f"{name} must be of type {kind.__name__}, got {text}")
    return value


def _number(name: str, value: Any) -> float:
    """Convert a YAML value to a finite number; YAML 1.1 reads 1e-5 as a string."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        number = None
    if number is None:
        raise ValueError(f"{name} must be a number, got {short_repr(value)}")
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {short_repr(value)}")
    return number
