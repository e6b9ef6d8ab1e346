"""Display names and properties of all methods that a run may use."""

from math import inf
from typing import NamedTuple

from fairjax.methods import METHODS
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


def names() -> tuple[str, ...]:
    """Return all methods in the order of tables: methods with candidates, the portfolio, the postprocessors."""
    return (*METHODS, PORTFOLIO, *POSTPROCESSORS)


def about(name: str) -> About | None:
    """Return the display properties of a method; None if the name is unknown, as in results of another version."""
    if name == PORTFOLIO:
        return About("Portfolio", "fairjax")
    if name in METHODS:
        kind = METHODS[name]
        return About(METHODS.label(name), kind.reference, False, kind.groups, kind.classes)
    if name in POSTPROCESSORS:
        entry = POSTPROCESSORS[name]
        return About(POSTPROCESSORS.label(name), entry.reference, True, entry.groups, entry.classes)
    return None


def place(name: str) -> int:
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
