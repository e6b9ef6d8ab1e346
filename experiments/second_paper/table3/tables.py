"""The table as rows of cells, shared by the Markdown file and the page."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from experiments.second_paper.quantities import PRINTED, QUANTITIES
from experiments.second_paper.table3.printed import printed
from experiments.second_paper.table3.rows import ROWS
from experiments.second_paper.table3.summary import TESTED
from fairjax.datasets import DATASETS
from fairjax.report.layout import Cell, Row, Table

CODING = {
    "adult": "favourable label: income above 50K; z = 1: men",
    "compas": "favourable label: no recidivism; z = 1: Caucasian",
}
"""The one coding of all rows."""

HEADINGS = {**QUANTITIES, "abs_opportunity": "|Opty|", "abs_odds": "|Odds|"}
"""Headings of quantities, including those that are tested."""

NOTE = (
    "Mean ± standard deviation over test parts. Differences are z = 0 minus z = 1, and r = P(d = 1 | z = 0) / "
    "P(d = 1 | z = 1): the paper prints r, or min(r, 1/r). Odds is the mean of Opty and FPRD, in which opposite signs "
    "cancel. Group: where the method needs z, at training / at test time; 'feature' means that z is among the inputs "
    "of the network. In italics, or after 'paper', the printed numbers, which need not have this coding or these rows."
)


class Printed(NamedTuple):
    """A printed row as a line of the table."""

    label: str
    numbers: dict[str, float]


def title(dataset: str, duplicates: str, rows: int) -> str:
    """Return the title of the table of one data set."""
    treated = "all rows" if duplicates == "keep" else "without duplicates"
    return f"{DATASETS.label(dataset)}, {treated} ({rows:,}); {CODING[dataset]}"


def lines(found: pd.DataFrame, dataset: str, duplicates: str) -> list[tuple[Printed | str, dict[str, Any]]]:
    """Return printed rows, each followed by our rows that it may be.

    Args:
        found: the summary.
        dataset: the data set.
        duplicates: the treatment of duplicates.
    """
    here = found[(found["dataset"] == dataset) & (found["duplicates"] == duplicates)]
    ours = {line["row"]: line for line in here.to_dict("records")}
    result: list[tuple[Printed | str, dict[str, Any]]] = []
    for line in printed().to_dict("records"):
        if line["dataset"] == dataset:
            result.append((Printed(line["label"], {name: line[name] for name in PRINTED}), {}))
            result += [(name, ours[name]) for name in ROWS if name in ours and ROWS[name].block == line["row"]]
    return result


def number(value: float, deviation: float, name: str, undefined: int) -> tuple[str, str]:
    """Return a number and its deviation as texts; signs are shown for differences."""
    if np.isnan(value):
        return ("undefined" if undefined else "–"), ""
    sign = "+" if name in ("opportunity", "odds", "false_positives", "accuracy_gap") else ""
    small = "" if np.isnan(deviation) else f"± {deviation:.3f}"
    return f"{value:{sign}.3f}", f"{small}, undefined in {undefined}" if undefined else small


def need(row: str) -> str:
    """Return where the group is needed, at training / at test time."""
    return "–" if row == "data" else f"{ROWS[row].at_training} / {ROWS[row].at_test}"


def of_page(found: pd.DataFrame, dataset: str, duplicates: str, rows: int) -> Table:
    """Return the table of one data set for the page."""
    shown = []
    for entry, own in lines(found, dataset, duplicates):
        if isinstance(entry, Printed):
            cells = [Cell(f"paper: {entry.label}", mark="second"), Cell("", mark="second")]
            numbers = ((name, entry.numbers.get(name, np.nan)) for name in QUANTITIES)
            shown.append(Row([*cells, *(Cell(_printed(name, value), mark="second") for name, value in numbers)]))
            continue
        cells = [Cell(ROWS[entry].label), Cell(need(entry))]
        for name in QUANTITIES:
            cells.append(Cell(*number(own[name], own[f"{name}_deviation"], name, own[f"{name}_undefined"])))
        shown.append(Row(cells))
    return Table(["row", "group", *QUANTITIES.values()], shown, title(dataset, duplicates, rows))


def _printed(name: str, value: float) -> str:
    return "" if np.isnan(value) else number(value, np.nan, name, 0)[0]


def of_markdown(table: Table) -> str:
    """Format a table of the page as Markdown."""
    rows = [table.columns, ["---"] * len(table.columns)]
    for row in table.rows:
        italic = "*" if row.cells[0].mark == "second" else ""
        texts = [" ".join(filter(None, (cell.text, cell.small))) for cell in row.cells]
        rows.append([f"{italic}{text}{italic}" if text else "" for text in texts])
    body = "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in rows)
    return f"### {table.title}\n\n{body}\n"


def of_comparisons(compared: pd.DataFrame, dataset: str, duplicates: str, rows: int) -> Table:
    """Return differences from the reference, with intervals and p-values after Holm's correction."""
    here = compared[(compared["dataset"] == dataset) & (compared["duplicates"] == duplicates)]
    shown = []
    for (row, reference), group in here.groupby(["row", "reference"], sort=False):
        of_quantity = group.set_index("quantity")
        cells = [Cell(ROWS[row].label), Cell(ROWS[reference].label)]
        for name in TESTED:
            if name not in of_quantity.index:
                cells.append(Cell("–"))
                continue
            line = of_quantity.loc[name]
            small = f"[{line['low']:+.3f}, {line['high']:+.3f}], p {_p(line['holm_p'])}"
            cells.append(Cell(f"{line['difference']:+.3f}", small, "" if line["holm_p"] < 0.05 else "uncertain"))
        shown.append(Row(cells))
    order = list(ROWS)
    shown.sort(key=lambda row: [order.index(name) for name in order if ROWS[name].label == row.cells[0].text])
    columns = ["row", "minus", *(HEADINGS[name] for name in TESTED)]
    return Table(columns, shown, title(dataset, duplicates, rows))


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
