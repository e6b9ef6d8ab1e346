"""Registries of the methods, measures, rules and data sets that a user can choose by name."""

import dataclasses
import difflib
import inspect
import keyword
from collections.abc import Callable, Container
from typing import Any, TypeVar

T = TypeVar("T")

Check = Callable[[str, Any], None]
"""A function `check(name, entry)` that raises an error of one line if a registry cannot hold the entry."""


def brief(entry: object) -> str:
    """Format an entry for a message in one short line.

    Example:
        >>> brief("spd")
        "'spd'"
    """
    text = " ".join(repr(entry).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


class Registry(dict[str, T]):
    """A dictionary of entries that can be chosen by name, in the order in which they are shown.

    Everything that lists methods (the command line, tables, colours, tests, documentation) reads the registry, so a
    method is added by one call of `register`.

    Example:
        >>> methods = Registry("method", {"pruning": 1})
        >>> methods.register("shrink", 2)
        >>> list(methods)
        ['pruning', 'shrink']
    """

    def __init__(
        self, kind: str, entries: dict[str, T], labels: dict[str, str] | None = None, check: Check | None = None
    ):
        """Make a registry.

        Args:
            kind: what the entries are; messages name it.
            entries: the first entries.
            labels: names in tables and figures, of entries that have no `label`.
            check: checks an entry before it is registered.
        """
        super().__init__(entries)
        self.kind = kind
        self._labels = dict(labels or {})
        self._check = check
        self._reserved: list[tuple[Container[str], str]] = []

    def reserve(self, names: Container[str], what: str) -> None:
        """Refuse names that have another meaning where the entries are chosen.

        Args:
            names: the names; if it is another registry, its later entries are reserved too.
            what: what the names mean, for the message.

        Example:
            >>> methods = Registry("method", {"pruning": 1})
            >>> methods.reserve(("seeds",), "a setting")
            >>> methods.register("seeds", 2)
            Traceback (most recent call last):
            ValueError: a method cannot be named 'seeds', which is a setting: choose another name
        """
        self._reserved.append((names, what))

    def label(self, name: str) -> str:
        """Return the name of an entry in tables and figures: its label, or else its name.

        Example:
            >>> Registry("measure", {"spd": 1, "eod": 2}, labels={"spd": "SPD"}).label("spd")
            'SPD'
        """
        return self._labels.get(name) or getattr(self.get(name), "label", "") or name

    def summary(self, name: str) -> str:
        """Return the first paragraph of the docstring of an entry that is a class or a function, or else its label.

        Example:
            >>> Registry("measure", {"total": sum, "answer": 42}, labels={"answer": "The answer"}).summary("answer")
            'The answer'
        """
        entry = self[name]
        documented = isinstance(entry, type) or inspect.isroutine(entry)
        first = (inspect.getdoc(entry) or "").split("\n\n")[0] if documented else ""
        return " ".join(first.split()) or self.label(name)

    def register(self, name: str, entry: T, label: str = "") -> None:
        """Add an entry at the end.

        Args:
            name: name of the entry, a Python identifier, since it becomes the name of a setting.
            entry: the entry.
            label: name in tables and figures; if omitted, the entry's own `label` or its name.

        Raises:
            ValueError: if the name is already used, is reserved, or is not an identifier.
            TypeError: if the entry is not of the kind of the registry.
        """
        if not (isinstance(name, str) and name.isidentifier()) or keyword.iskeyword(name):
            raise ValueError(f"the name of a {self.kind} must be an identifier such as my_{self.kind}, got {name!r}")
        if name in self:
            raise ValueError(f"there is a {self.kind} named {name!r} already, {brief(self[name])}: choose another name")
        for names, what in self._reserved:
            if name in names:
                raise ValueError(f"a {self.kind} cannot be named {name!r}, which is {what}: choose another name")
        if self._check is not None:
            self._check(name, entry)
        self[name] = entry
        if label:
            self._labels[name] = label

    def check(self, what: str, *names: object) -> None:
        """Check that names are registered.

        Args:
            what: the argument that has the names, such as `measure`; the message begins with it.
            names: the names to check.

        Raises:
            ValueError: naming the first unknown name, similar names, and all registered names.

        Example:
            >>> Registry("method", {"pruning": 1}).check("methods", "pruning")
        """
        for name in names:
            if name not in self:
                raise ValueError(f"{what}: {self.unknown(name)}")

    def __missing__(self, name: object) -> T:
        """Raise an error that suggests similar names.

        Raises:
            KeyError: always.
        """
        raise KeyError(self.unknown(name))

    def unknown(self, name: object) -> str:
        """Return the message for an unknown name, with the most similar registered names.

        Example:
            >>> Registry("method", {"pruning": 1, "bias_gda": 2}).unknown("prunning")
            "there is no method named 'prunning': did you mean pruning? The methods are pruning, bias_gda"
        """
        near = difflib.get_close_matches(str(name), self, 3, 0.6)
        meant = f"did you mean {' or '.join(near)}? The" if near else "the"
        return f"there is no {self.kind} named {name!r}: {meant} {self.kind}s are {', '.join(self)}"


def check_defaults(kind: Any) -> None:
    """Check that every setting of a dataclass has a default, so that an entry can be made from its name alone.

    Raises:
        TypeError: naming the class and the first setting without a default.

    Example:
        >>> from fairjax.methods import Pruning
        >>> check_defaults(Pruning)
    """
    missing = dataclasses.MISSING
    for field in dataclasses.fields(kind):
        if field.init and field.default is missing and field.default_factory is missing:
            raise TypeError(f"{kind.__name__} must have a default for each setting, and lacks one for {field.name}")
