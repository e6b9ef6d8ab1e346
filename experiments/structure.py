"""Which groups and classes a run is about: what a measure, the columns of counts and every table need to know."""

import dataclasses
from typing import Any

import numpy as np

from experiments.methods import ACROSS
from fairjax import data
from fairjax.parity import MEASURES, Measure, named

CELLS = ("tn0", "tn1", "fn0", "fn1", "fp0", "fp1", "tp0", "tp1")
"""Columns of counts of two groups and classes, by decision, label and group; the digit is the group."""


@dataclasses.dataclass(frozen=True)
class Structure:
    """The groups and classes of a data set, and how a measure compares them."""

    groups: tuple[str, ...] = ("unprivileged", "privileged")
    """Names of the groups, in the order of their codes."""
    classes: tuple[str, ...] = ("0", "1")
    """Names of the classes, in the order of their codes."""
    attributes: tuple[str, ...] = ()
    """Names of the attributes that the groups are made of; none of groups without names."""
    blocks: tuple[tuple[int, ...], ...] | None = None
    """Which groups are compared with each other; None if all are."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Groups that are not compared, and why."""
    across: str | None = None
    """How rates are apart across groups."""
    minimum: int = 1
    """Rows that the denominator of a rate must have."""
    partition: int | None = None
    """The number of groups of the first attribute, which hold every row once, where attributes are compared each on its
    own; None if all groups together hold every row once."""

    @classmethod
    def of(cls, dataset: data.Dataset, across: str | None, minimum: int) -> "Structure":
        """The structure of a data set."""
        groups = dataset.groups
        ends = np.cumsum(np.asarray(dataset.a).sum(axis=0)).tolist() if dataset.a.ndim == 2 else []
        return cls(
            groups=dataset.group_names,
            classes=dataset.class_names,
            attributes=() if groups is None else groups.attributes,
            blocks=None if groups is None else groups.blocks,
            left_out=() if groups is None else tuple(groups.left_out.items()),
            across=across,
            minimum=minimum,
            partition=ends.index(len(dataset.y)) + 1 if ends else None,
        )

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> "Structure":
        """From what JSON holds.

        Raises:
            ValueError, TypeError: for values of no sense.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if set(values) - names:
            raise ValueError(f"unknown facts {', '.join(sorted(set(values) - names))}")
        made = {**values}
        for name in ("groups", "classes", "attributes", "left_out", "blocks"):
            if isinstance(made.get(name), list):
                made[name] = tuple(tuple(entry) if isinstance(entry, list) else entry for entry in made[name])
        found = cls(**made)
        found.measure("spd")
        return found

    @property
    def is_binary(self) -> bool:
        """Whether there are two groups and two classes."""
        return len(self.groups) == 2 and len(self.classes) == 2

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of a confusion table: predicted class, label, group."""
        return len(self.classes), len(self.classes), len(self.groups)

    @property
    def cells(self) -> tuple[str, ...]:
        """Columns of counts, in the order of a table's entries."""
        if self.is_binary:
            return CELLS
        classes, groups = range(len(self.classes)), range(len(self.groups))
        return tuple(f"n_p{p}_y{y}_g{g}" for p in classes for y in classes for g in groups)

    @property
    def compared(self) -> tuple[str, ...]:
        """Names of the groups that are compared."""
        out = dict(self.left_out)
        return tuple(name for name in self.groups if name not in out)

    def measure(self, name: str) -> Measure:
        """A measure for these groups and classes.

        Raises:
            ValueError: if there is none of that name.
        """
        if name not in MEASURES:
            raise ValueError(f"a measure must be one of {', '.join(MEASURES)}, got {name!r}")
        return named(
            name, len(self.groups), len(self.classes), across=self.across, minimum=self.minimum, blocks=self.blocks
        )

    def told(self, name: str) -> list[str]:
        """Sentences for people: which groups and classes a measure compares, and how.

        Args:
            name: of the measure.

        Returns:
            None for two groups and classes without names.
        """
        lines = []
        if len(self.classes) > 2:
            lines.append(f"Classes: {', '.join(self.classes)}; the most probable one is predicted.")
        if self.attributes:
            lines.append(f"Groups by {' and '.join(self.attributes)}: {'; '.join(self.compared)}.")
        if self.measure(name) is not MEASURES[name]:
            across = self.across or ("shortfall" if name == "parity_ratio" else "spread")
            furthest = ", of the class that is furthest from parity" if len(self.classes) > 2 else ""
            lines.append(f"Bias: {ACROSS[across]}{furthest}.")
            if self.blocks is not None and len(self.blocks) > 1:
                lines.append("Each attribute is compared on its own, and the one furthest from parity counts.")
        if self.left_out:
            lines.append("Not compared: " + "; ".join(f"{name} ({why})" for name, why in self.left_out) + ".")
        if self.minimum > 1:
            lines.append(f"A rate of a group is compared where it is of at least {self.minimum} rows.")
        return lines


BINARY = Structure()
"""Two groups and two classes, without names."""
