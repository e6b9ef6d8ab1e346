"""Counts of rows by group, label and decision: all that an audit is computed from."""

import dataclasses
from typing import Any

import numpy as np

from fairjax.metrics.intervals import effective_size


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Sums over the rows of each bin of scores, with the axes (bin, label, group); bins have equal widths."""

    weights: np.ndarray
    """Sum of weights."""
    squares: np.ndarray
    """Sum of squared weights."""
    sums: np.ndarray
    """Sum of weighted scores."""
    square_sums: np.ndarray
    """Sum of weighted squares of scores."""

    def merged(self, join: np.ndarray) -> "Scores":
        """Return the sums over groups; `join` has one row per old group and one column per new group."""
        return Scores(*(getattr(self, field.name) @ join for field in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True, eq=False)
class Counts:
    """Sums over the rows of each predicted class, label and group, arrays with these axes, in double precision.

    The predicted class has further axes in front of it if several decisions are compared.
    """

    attributes: tuple[str, ...]
    """Names of the attributes."""
    values: tuple[tuple[Any, ...], ...]
    """The values of each attribute, in order."""
    codes: np.ndarray
    """The value of each attribute (columns) in each group (rows), as its position in `values`."""
    classes: tuple[str, ...]
    """Names of the classes; of two, the second is the positive one."""
    rows: np.ndarray
    """Number of rows."""
    weights: np.ndarray
    """Sum of weights; the number of rows if rows have no weights."""
    squares: np.ndarray
    """Sum of squared weights."""
    weighted: bool = False
    """Whether rows have weights."""
    scores: Scores | None = None
    """The histogram of scores, if there are scores."""

    @property
    def levels(self) -> tuple[tuple[Any, ...], ...]:
        """The value of each attribute in each group."""
        return tuple(
            tuple(values[code] for values, code in zip(self.values, codes, strict=True)) for codes in self.codes
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the groups: their values, joined by commas."""
        return tuple(", ".join(map(str, level)) for level in self.levels)

    @property
    def title(self) -> str:
        """What the groups are: the attribute, or the intersections of several."""
        return " x ".join(self.attributes)

    @property
    def sizes(self) -> np.ndarray:
        """Number of rows of each cell; Kish's effective number if rows have weights."""
        return effective_size(self.weights, self.squares)

    def by(self, attribute: str) -> "Counts":
        """Return the counts by the groups of one attribute."""
        at = self.attributes.index(attribute)
        join = self.join(attribute)
        return dataclasses.replace(
            self,
            attributes=(attribute,),
            values=(self.values[at],),
            codes=np.arange(len(self.values[at]))[:, None],
            rows=self.rows @ join,
            weights=self.weights @ join,
            squares=self.squares @ join,
            scores=None if self.scores is None else self.scores.merged(join),
        )

    def join(self, attribute: str) -> np.ndarray:
        """Return which groups (rows) have which value of an attribute (columns)."""
        at = self.attributes.index(attribute)
        return np.eye(len(self.values[at]))[self.codes[:, at]]

    def views(self) -> "list[Counts]":
        """Return the counts by each attribute, and by the intersections if there are several attributes."""
        each = [self.by(attribute) for attribute in self.attributes]
        return each if len(each) == 1 else [*each, self]

    def of_class(self, positive: int) -> "Counts":
        """Return the counts of one class against the others.

        Args:
            positive: the class that becomes the positive one.
        """
        join = np.eye(2)[[int(k == positive) for k in range(len(self.classes))]]

        def against(cells: np.ndarray) -> np.ndarray:
            return np.einsum("pyg,pa,yb->abg", cells, join, join)

        return dataclasses.replace(
            self,
            classes=("other classes", self.classes[positive]),
            rows=against(self.rows),
            weights=against(self.weights),
            squares=against(self.squares),
        )
