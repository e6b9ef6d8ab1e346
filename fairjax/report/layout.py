"""Building blocks of the page: sections, tables and pictures."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from fairjax.datasets import DATASETS
from fairjax.metrics import MEASURES
from fairjax.runs.labels import label, needs_group, position


class Cell(NamedTuple):
    """A cell of a table."""

    text: str
    small: str = ""
    """Secondary text, shown small after the main text."""
    mark: str = ""
    """The CSS class: best, second, uncertain or none."""


class Row(NamedTuple):
    """A row of a table."""

    cells: list[Cell]
    needs_a: bool = False


class Table(NamedTuple):
    """A table of the page."""

    columns: list[str]
    rows: list[Row]
    title: str = ""
    note: str = ""


class Picture(NamedTuple):
    """A picture that is embedded in the page."""

    data: str
    alt: str
    caption: str
    width: int = 0
    """Width in pixels, if it is not that of the file."""


class Fold(NamedTuple):
    """Text or tables that are shown on demand."""

    title: str
    text: str = ""
    tables: Sequence[Table] = ()


class Section(NamedTuple):
    """A section of the page."""

    id: str
    title: str
    text: str = ""
    points: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    folds: Sequence[Fold] = ()
    pictures_first: bool = False
    """Whether pictures are above the tables."""
    links: Sequence[tuple[str, str]] = ()
    """Links to other pages: address and text."""


def columns_of(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Return data sets with their measures."""
    return list(dict.fromkeys(zip(frame["dataset"], frame["measure"], strict=True)))


def heading_of(column: tuple[str, str]) -> str:
    """Return the heading of a data set and measure."""
    return f"{DATASETS.label(column[0])} {MEASURES.label(column[1])}"


def entries_of(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Return methods with their rules in the order of tables."""
    found = list(dict.fromkeys(zip(frame["method"], frame["rule"], strict=True)))
    return sorted(found, key=lambda entry: position(entry[0]))


def grid(frame: pd.DataFrame, main: str, cell, *, title: str = "", note: str = "") -> Table:
    """Build a table with methods in rows and with data sets and measures in columns."""
    columns = columns_of(frame)
    index = frame.set_index(["method", "rule", "dataset", "measure"])
    rows = []
    for method, rule in entries_of(frame):
        cells = [Cell(label(method, rule, main), "needs a" if needs_group(method) else "")]
        for column in columns:
            key = (method, rule, *column)
            cells.append(cell(index.loc[key]) if key in index.index else Cell(""))
        rows.append(Row(cells, needs_group(method)))
    return Table(["method", *map(heading_of, columns)], rows, title, note)


def shown(number: float, form: str) -> str:
    """Format a number of a cell; a dash if it is missing."""
    return "–" if np.isnan(number) else format(number, form)
