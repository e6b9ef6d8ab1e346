"""Display names and properties of all methods that a run may use."""

from math import inf
from typing import NamedTuple

from fairjax.methods import METHODS
from fairjax.registry import Registry
from fairjax.runs.postprocessors import POSTPROCESSORS
from fairjax.selection import RULES

PORTFOLIO = "portfolio"
"""Name of the method that selects among the candidates that other methods selected."""


class About(NamedTuple):
    """Display properties of a method."""

    label: str
    reference: str
    """The method's source."""
    needs_group: bool = False
    """Whether the method needs the protected attribute at test time."""
    groups: float = inf
    """The maximum number of groups that the method supports."""
    classes: float = inf
    """The maximum number of classes that the method supports."""
    overlapping: bool = True
    """Whether a row may belong to several groups."""


def methods() -> Registry[About]:
    """Return all methods in the order of tables: methods with candidates, the portfolio, the postprocessors."""
    entries = {
        name: About(METHODS.label(name), kind.reference, False, kind.groups, kind.classes)
        for name, kind in METHODS.items()
    }
    entries[PORTFOLIO] = About("Portfolio", "fairjax")
    for name, entry in POSTPROCESSORS.items():
        label = POSTPROCESSORS.label(name)
        entries[name] = About(label, entry.reference, True, entry.groups, entry.classes, entry.overlapping)
    return Registry("method", entries)


def names() -> tuple[str, ...]:
    """Return the names of all methods in the order of tables."""
    return tuple(methods())


def about(name: str) -> About | None:
    """Return the display properties of a method; None if the name is unknown, as in results of another version."""
    return methods().get(name)


def position(name: str) -> int:
    """Return the position of a method in tables; unknown methods come last."""
    known = names()
    return known.index(name) if name in known else len(known)


def needs_group(name: str) -> bool:
    """Return whether a method needs the protected attribute at test time."""
    found = about(name)
    return found is not None and found.needs_group


def label(method: str, rule: str = "none", main: str = "objective") -> str:
    """Return the display name of a method, with its selection rule unless that is the main one."""
    found = about(method)
    name = found.label if found else method
    return name if rule in ("none", main) else f"{name}, {RULES.label(rule)}"
