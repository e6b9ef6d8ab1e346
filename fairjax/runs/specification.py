"""Terms of a loss and preprocessors as text, for the command line, YAML files and the folder of a run.

A term is NAME[:WEIGHT][,SETTING=VALUE ...], such as `mmd:5` or `adversary:1,layer=last`; a preprocessor is the same
without a weight, such as `removal,columns=sex+race`. Several values of one setting are joined by `+`, and the two
values of a pair by `~`. This module alone converts between the text and the objects, in both directions.
"""

import dataclasses
import math
import types
from collections.abc import Callable
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

from fairjax.losses import BASES, TERMS, Base, Term
from fairjax.metrics import MEASURES, Measure
from fairjax.preprocess import PREPROCESSORS, Preprocessor
from fairjax.registry import Registry
from fairjax.runs.values import field_types
from fairjax.types import Number

T = TypeVar("T")

FILLED_IN = ("weight", "num_groups", "num_classes")
"""Fields that are no settings: the weight has a place of its own, and the numbers of groups and classes are known."""

_NONE = "none"
_BOOLEANS = {"yes": True, "no": False, "true": True, "false": False}


def parse_term(text: str) -> Term:
    """Return the term of a text.

    Raises:
        ValueError: if there is no such term or setting, or a value is invalid; the message names the term.

    Example:
        >>> parse_term("parity:4,penalty=signed")
        ParityPenalty(weight=4.0, measure=None, penalty='signed', sign=1.0)
    """
    head, _, rest = text.partition(",")
    name, colon, weight = head.partition(":")
    made = _parse(TERMS, name, rest)
    if not colon:
        return made
    try:
        number = float(weight)
    except ValueError as error:
        raise ValueError(f"the weight of the term {name} must be a number, as in {name}:5, got {weight!r}") from error
    if not 0 <= number < math.inf:
        raise ValueError(f"the weight of the term {name} must be a finite number, at least 0, got {weight}")
    return dataclasses.replace(made, weight=number)


def format_term(term: Term) -> str:
    """Return the text of a term: its name, its weight, and all settings that differ from their defaults.

    Raises:
        ValueError: if the term is not registered, or a value has no text, such as an array.

    Example:
        >>> format_term(parse_term("parity,sign=-1.0"))
        'parity:1,sign=-1'
    """
    return _format(TERMS, term, f":{_format_value(term.weight)}")


def parse_preprocessor(text: str) -> Preprocessor:
    """Return the preprocessor of a text.

    Raises:
        ValueError: if there is no such preprocessor or setting, or a value is invalid.

    Example:
        >>> parse_preprocessor("reweighing").label
        'Reweighing'
    """
    name, _, rest = text.partition(",")
    if ":" in name:
        raise ValueError(f"a preprocessor has no weight: write {name.partition(':')[0]}, got {name!r}")
    return _parse(PREPROCESSORS, name, rest)


def format_preprocessor(preprocessor: Preprocessor) -> str:
    """Return the text of a preprocessor: its name, and all settings that differ from their defaults.

    Example:
        >>> format_preprocessor(parse_preprocessor("smote,neighbours=5"))
        'smote'
    """
    return _format(PREPROCESSORS, preprocessor)


def base_name(base: Base) -> str:
    """Return the registered name of a loss of the labels.

    Example:
        >>> from fairjax.losses import CrossEntropy
        >>> base_name(CrossEntropy())
        'cross_entropy'
    """
    return registered_name(BASES, base)


def settings_of(kind: type) -> dict[str, Any]:
    """Return the types of the settings that a text can give, by name.

    Args:
        kind: a class of terms or of preprocessors.

    Example:
        >>> list(settings_of(TERMS["parity"]))
        ['measure', 'penalty', 'sign']
    """
    known = field_types(kind)
    fields = [field for field in dataclasses.fields(kind) if field.init and field.name not in FILLED_IN]
    return {field.name: known[field.name] for field in fields if _has_text(known[field.name])}


def _parse(registry: Registry[type[T]], name: str, rest: str) -> T:
    """Make an object of a registered class from its name and its settings."""
    if name not in registry:
        raise ValueError(registry.unknown(name))
    kind, values = registry[name], {}
    known = settings_of(kind)
    what = f"the {registry.kind} {name}"
    for entry in rest.split(",") if rest else ():
        setting, equals, value = entry.partition("=")
        setting = setting.strip().replace("-", "_")
        if setting not in known:
            listed = f"its settings are {', '.join(known)}" if known else "it has no settings"
            raise ValueError(f"{what} has no setting {setting!r}: {listed}")
        if not equals or not value:
            raise ValueError(f"{what} needs a value for {setting}, as in {name},{setting}=VALUE")
        if setting in values:
            raise ValueError(f"{what} has two values for {setting}: leave one out")
        try:
            values[setting] = _value(value, known[setting])
        except ValueError as error:
            raise ValueError(f"{setting} of {what} must be {error}, got {value!r}") from error
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}: {error}") from error


def _format(registry: Registry[Any], entry: Any, head: str = "") -> str:
    """Return the text of an object of a registered class."""
    name, default = registered_name(registry, entry), type(entry)()
    parts = [f"{name}{head}"]
    settable = settings_of(type(entry))
    for field in dataclasses.fields(entry):
        value = getattr(entry, field.name)
        if field.name in FILLED_IN or value is getattr(default, field.name):
            continue
        if field.name not in settable:
            raise ValueError(f"{field.name} of the {registry.kind} {name} has no text: leave it out")
        if value != getattr(default, field.name):
            parts.append(f"{field.name}={_format_value(value)}")
    return ",".join(parts)


def registered_name(registry: Registry[Any], entry: Any) -> str:
    """Return the name under which the class of an object is registered.

    Raises:
        ValueError: if it is not registered.
    """
    for name, kind in registry.items():
        if type(entry) is kind:
            return name
    raise ValueError(f"{type(entry).__name__} is not registered: the {registry.kind}s are {', '.join(registry)}")


def _format_value(value: Any) -> str:
    """Return the text of a value."""
    if value is None:
        return _NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        nested = all(isinstance(entry, tuple) for entry in value)
        return "+".join("~".join(map(_format_value, entry)) if nested else _format_value(entry) for entry in value)
    if callable(value):
        return next(name for name, measure in MEASURES.items() if measure is value)
    if isinstance(value, int | float):
        return repr(value).removesuffix(".0")
    return str(value)


def _members(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union, a number as one of them, or the type itself."""
    if kind == Number:
        return (float,)
    if get_origin(kind) in (Union, types.UnionType):
        rest = set(get_args(kind))
        if set(get_args(Number)) <= rest:
            return (float, *(member for member in get_args(kind) if member not in get_args(Number)))
        return get_args(kind)
    return (kind,)


def _has_text(kind: Any) -> bool:
    """Return whether values of a type have a text."""
    return any(
        member in (bool, int, float, str) or member == Measure or get_origin(member) in (Literal, tuple)
        for member in _members(kind)
    )


def _value(text: str, kind: Any) -> Any:
    """Convert a text to a value of a type.

    Raises:
        ValueError: saying what is expected.
    """
    members = _members(kind)
    expected: list[str] = []
    for member in sorted(members, key=lambda member: member is str):
        if member is type(None):
            if text == _NONE:
                return None
            expected.append(_NONE)
            continue
        if get_origin(member) is Literal:
            for choice in get_args(member):
                if str(choice) == text:
                    return choice
            expected.append(f"one of {', '.join(map(str, get_args(member)))}")
        elif get_origin(member) is tuple:
            inner, pair = get_args(member)[0], get_args(member)[-1] is not ...
            return tuple(_value(entry, inner) for entry in text.split("~" if pair else "+"))
        elif member == Measure:
            if text in MEASURES:
                return MEASURES[text]
            expected.append(f"one of {', '.join(MEASURES)}")
        elif member in _READERS:
            read, what = _READERS[member]
            try:
                return read(text)
            except (KeyError, ValueError):
                expected.append(what)
    raise ValueError(" or ".join(expected))


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


_READERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    bool: (lambda text: cast(bool, _BOOLEANS[text.lower()]), "yes or no"),
    int: (int, "a whole number"),
    float: (_finite, "a finite number"),
    str: (str, "a text"),
}
