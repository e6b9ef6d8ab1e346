"""The groups and classes of a run, which determine its measures, the columns of counts and the contents of tables."""

import dataclasses
from typing import Any, cast

import numpy as np

from fairjax import data
from fairjax.metrics import GAPS, MEASURES, Measure, Parity, make_measure

CELLS = ("tn0", "tn1", "fn0", "fn1", "fp0", "fp1", "tp0", "tp1")
"""Columns of counts for two groups and classes, by decision, label and group; the digit is the group."""


@dataclasses.dataclass(frozen=True)
class Structure:
    """The groups and classes of a data set, and how measures compare them."""

    groups: tuple[str, ...] = ("unprivileged", "privileged")
    """Names of the groups, in the order of their codes."""
    classes: tuple[str, ...] = ("0", "1")
    """Names of the classes, in the order of their codes."""
    attributes: tuple[str, ...] = ()
    """Names of the attributes that define the groups; empty for groups without names."""
    blocks: tuple[tuple[int, ...], ...] | None = None
    """Blocks of groups that are compared with each other; None if all groups are compared."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Groups that are not compared, each with the reason."""
    across: str | None = None
    """Name of the gap that compares rates across groups; None for the default."""
    minimum: int = 1
    """Minimum number of rows in the denominator of a rate."""
    partition: int | None = None
    """Number of groups of the first attribute, which together contain every row once, if attributes are compared
    separately; None if all groups together contain every row once."""

    @classmethod
    def of(cls, dataset: data.Dataset, across: str | None, minimum: int) -> "Structure":
        """Return the structure of a data set."""
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
        """Restore a structure from the values that JSON contains.

        Raises:
            ValueError, TypeError: for invalid values.
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
        """Whether there are exactly two groups and two classes."""
        return len(self.groups) == 2 and len(self.classes) == 2

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of a confusion table: predicted class, label, group."""
        return len(self.classes), len(self.classes), len(self.groups)

    @property
    def cells(self) -> tuple[str, ...]:
        """Columns of counts in the order of a table's entries."""
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
        """Return a measure for these groups and classes.

        Raises:
            ValueError: if there is no measure of that name.
        """
        MEASURES.check("measure", name)
        return make_measure(
            name, len(self.groups), len(self.classes), across=self.across, minimum=self.minimum, blocks=self.blocks
        )

    def explain(self, name: str) -> list[str]:
        """Explain which groups and classes a measure compares, and how.

        Args:
            name: the name of the measure.

        Returns:
            A list of sentences; empty for two groups and classes without names.
        """
        lines = []
        if len(self.classes) > 2:
            lines.append(f"Classes: {', '.join(self.classes)}; the most probable one is predicted.")
        if self.attributes:
            lines.append(f"Groups by {' and '.join(self.attributes)}: {'; '.join(self.compared)}.")
        measure = self.measure(name)
        if measure is not MEASURES[name]:
            gap = cast(Parity, measure).across
            described = next((GAPS.label(each) for each in GAPS if GAPS[each] == gap), str(gap))
            furthest = ", of the class that is furthest from parity" if len(self.classes) > 2 else ""
            lines.append(f"Bias: {described}{furthest}.")
            if self.blocks is not None and len(self.blocks) > 1:
                lines.append("Each attribute is compared on its own, and the one furthest from parity counts.")
        if self.left_out:
            lines.append("Not compared: " + "; ".join(f"{name} ({why})" for name, why in self.left_out) + ".")
        if self.minimum > 1:
            lines.append(f"A group's rate is compared if it is computed from at least {self.minimum} rows.")
        return lines


BINARY = Structure()
"""Two groups and two classes without names."""
