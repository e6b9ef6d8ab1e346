"""Settings whose fields follow from registries, and the description of every field."""

import ast
import dataclasses
import functools
import inspect
import textwrap
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeVar, cast

from typing_extensions import Doc

T = TypeVar("T")


class Field(NamedTuple):
    """A field of a settings class."""

    name: str
    type: Any
    default: Any
    description: str


Fields = Callable[[], tuple[Field, ...]]
"""A function that returns the fields for the present content of a registry."""


def with_fields(fields: Fields) -> Callable[[type[T]], type[T]]:
    """Class decorator that adds fields to a settings class, a frozen dataclass.

    The class has the fields for the content of the registry at the time of the definition; `current` returns a class
    that has the fields of later entries too.

    Args:
        fields: returns the fields to add; those that the class has already are not changed.
    """

    def decorate(cls: type[T]) -> type[T]:
        made = cast(Any, _extended(cls, fields(), ()))
        made.registered_fields, made.added = staticmethod(fields), fields()
        return made

    return decorate


def current(cls: type[T]) -> type[T]:
    """Return a class decorated by `with_fields` with the fields of the present content of the registry."""
    known: Any = cls
    return _extended(cls, known.registered_fields(), known.added)


@functools.cache
def _extended(cls: type[T], fields: tuple[Field, ...], added: tuple[Field, ...]) -> type[T]:
    """Return a subclass with the fields that the class lacks or, if it was extended before, that have changed."""
    kept = {field.name for field in dataclasses.fields(cast(Any, cls))} - {field.name for field in added}
    new = [field for field in fields if field.name not in kept and field not in added]
    if not new:
        return cls
    made = [(field.name, Annotated[field.type, Doc(field.description)], field.default) for field in new]
    space = {"__doc__": cls.__doc__, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return dataclasses.make_dataclass(cls.__name__, made, bases=(cls,), namespace=space, frozen=True, kw_only=True)


@functools.cache
def field_docs(kind: type) -> dict[str, str]:
    """Return the description of each field of a dataclass: the string below it, or that of `with_fields`.

    Args:
        kind: a dataclass; fields of its base classes are included.

    Returns:
        One string per field, with its lines joined; fields without a description are missing.
    """
    found: dict[str, str] = {}
    for part in reversed(kind.__mro__):
        for name, annotation in vars(part).get("__annotations__", {}).items():
            for entry in getattr(annotation, "__metadata__", ()):
                if isinstance(entry, Doc):
                    found[name] = entry.documentation
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        except (OSError, TypeError, SyntaxError, ValueError):  # a class made at runtime, or a built-in one
            continue
        body = tree.body if isinstance(tree, ast.ClassDef) else []
        for field, below in zip(body, body[1:], strict=False):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if (
                isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                found[field.target.id] = " ".join(below.value.value.split())
    return found
