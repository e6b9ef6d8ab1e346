"""The tables of the page."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments.second_paper.mitigate.entries import ENTRIES
from experiments.second_paper.mitigate.figures import CHANGED, TITLES
from experiments.second_paper.mitigate.tables import DISTANCES, undominated
from fairjax.datasets import DATASETS
from fairjax.metrics import MEASURES
from fairjax.report.layout import Cell, Row, Table, shown

COLUMNS = {
    "accuracy": "Acc.",
    "balanced_accuracy": "Bal. acc.",
    "bias": "|bias|",
    "met": "Met",
    "parity": "Parity r",
    "opportunity": "TPR diff.",
    "odds": "Odds",
    "accuracy_gap": "Acc. gap",
    "probe": "Probe",
    "seconds": "s",
}
"""Columns of the main tables, with their headings."""

FIXED = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced acc.",
    "parity": "Parity r",
    "opportunity": "TPR diff.",
    "odds": "Odds",
    "accuracy_gap": "Acc. gap",
    "probe": "Probe",
}
"""Columns of the tables at the threshold 0.5."""


def heading(dataset: str, measure: str) -> str:
    """Return the heading of a data set and measure."""
    return f"{DATASETS.label(dataset)}, {MEASURES.label(measure)}"


def main_table(summary: pd.DataFrame, dataset: str, measure: str) -> Table:
    """Return the table of one data set and measure: selected weights, tuned thresholds."""
    here = summary[(summary["dataset"] == dataset) & (summary["measure"] == measure)]
    blind = here[~here["row"].map(lambda name: ENTRIES[name].at_test)]
    best = blind.loc[blind["objective"].idxmax(), "row"] if len(blind) else None
    rows = []
    for _, line in here.iterrows():
        entry = ENTRIES[line["row"]]
        small = [f"weight {line['median_weight']:g}"] if len(entry.path) > 1 else []
        small += [f"multiplier {line['median_weight']:g}"] if line["row"] == "grid_search" else []
        small += ["own thresholds"] if entry.own_threshold else []
        small += [f"{line['diverged']} diverged"] if line["diverged"] else []
        objective = Cell(
            shown(line["objective"], ".3f"),
            f"± {shown(line['objective_sd'], '.2f')}",
            "best" if line["row"] == best else "",
        )
        cells = [Cell(entry.label, ", ".join(small)), Cell(CHANGED[entry.stage]), objective]
        cells += [_cell(name, line[name]) for name in COLUMNS]
        cells += [Cell("yes" if entry.at_training else "no"), Cell(at_test(line["row"]))]
        rows.append(Row(cells, entry.at_test))
    columns = ["Method", "changes", "Objective", *COLUMNS.values(), "a: train", "a: new"]
    return Table(columns, rows, heading(dataset, measure))


def _cell(name: str, value: float) -> Cell:
    """Format a mean."""
    if name == "probe" and np.isnan(value):
        return Cell("")
    if name == "met":
        return Cell(shown(value, ".0%"))
    if name == "seconds":
        return Cell(f"{value:.1f}" if value >= 0.1 else "< 0.1")
    signed = name in ("opportunity", "odds", "accuracy_gap")
    return Cell(shown(value, "+.3f" if signed else ".2f" if name == "parity" else ".3f"))


def at_test(row: str) -> str:
    """Return whether a method needs the attribute of new rows, by itself or as a feature."""
    entry = ENTRIES[row]
    return (
        "yes"
        if entry.at_test
        else "no"
        if any(text.startswith(("removal", "replacement")) for text in entry.preprocess)
        else "feature"
    )


def _names(line: pd.Series) -> list[Cell]:
    """Return the cells that name a line of `tables.fixed`: the method, with its measure, and the weight."""
    of_measure = f" ({MEASURES.label(line['measure'])})" if line["measure"] else ""
    weight = "" if np.isnan(line["weight"]) else f"{line['weight']:g}"
    return [Cell(ENTRIES[line["row"]].label + of_measure), Cell(weight)]


def fixed_table(fixed: pd.DataFrame, dataset: str) -> Table:
    """Return all weights at the threshold 0.5."""
    rows = []
    for _, line in fixed[fixed["dataset"] == dataset].iterrows():
        cells = [*_names(line), *(_cell(name, line[name]) for name in FIXED)]
        rows.append(Row(cells, ENTRIES[line["row"]].at_test))
    note = "Means over test parts. Nothing is selected here, except the networks of methods on a trained network."
    return Table(["Method", "weight", *FIXED.values()], rows, f"{DATASETS.label(dataset)}, threshold 0.5", note)


def frontier_table(fixed: pd.DataFrame, dataset: str, quantity: str) -> Table:
    """Return the frontier of accuracy and a quantity at the threshold 0.5, without the attribute of new rows."""
    blind, shown_here = ~fixed["row"].map(lambda name: ENTRIES[name].at_test), ("accuracy", *DISTANCES)
    rows = []
    for _, line in undominated(fixed[blind & (fixed["dataset"] == dataset)], quantity).iterrows():
        rows.append(Row([*_names(line), *(_cell(name, line[name]) for name in shown_here), Cell(at_test(line["row"]))]))
    headings = [FIXED[name] for name in shown_here]
    caption = f"{DATASETS.label(dataset)}, threshold 0.5: accuracy and {FIXED[quantity]}"
    return Table(["Method", "weight", *headings, "a: new"], rows, caption)


def against_table(compared: pd.DataFrame, dataset: str) -> Table:
    """Return the comparisons with nothing."""
    rows = []
    for line in compared[compared["dataset"] == dataset].itertuples():
        entry = ENTRIES[str(line.row)]
        cells = [Cell(entry.label), Cell(MEASURES.label(str(line.measure))), *_compared(line)]
        rows.append(Row(cells, entry.at_test))
    columns = ["Method", "measure", "mean difference", "95 % bootstrap", "Wilcoxon p", "Holm p"]
    return Table(columns, rows, f"{DATASETS.label(dataset)}, compared with nothing")


def frontier_tables(fixed: pd.DataFrame, dataset: str) -> list[Table]:
    """Return the frontiers of a data set."""
    return [frontier_table(fixed, dataset, quantity) for quantity in DISTANCES]


def _compared(line: Any) -> list[Cell]:
    """Return the cells of a comparison."""
    mark = "" if line.holm_p < 0.05 else "uncertain"
    interval = f"[{line.low:+.3f}, {line.high:+.3f}]"
    texts = f"{line.mean:+.3f}", interval, f"{line.wilcoxon_p:.2g}", f"{line.holm_p:.2g}"
    return [Cell(text, "", mark) for text in texts]


def stage_table(compared: pd.DataFrame) -> Table:
    """Return the comparisons of stages."""
    rows = []
    for line in compared.itertuples():
        first, second = TITLES[str(line.method)], TITLES[str(line.other_method)]
        if line.mean < 0:  # the better stage first
            first, second = second, first
            line = line._replace(mean=-line.mean, low=-line.high, high=-line.low)
        names = [Cell(heading(str(line.dataset), str(line.measure))), Cell(first), Cell(second)]
        rows.append(Row([*names, *_compared(line)]))
    columns = ["", "better on average", "other", "mean difference", "95 % bootstrap", "Wilcoxon p", "Holm p"]
    return Table(columns, rows)


def needs_table(rows: Sequence[str]) -> Table:
    """Return where the methods need the protected attribute."""
    made = []
    for stage in TITLES:
        for need in ("no", "yes"):
            names = [
                name
                for name in rows
                if ENTRIES[name].stage == stage and ("yes" if ENTRIES[name].at_training else "no") == need
            ]
            for test in ("no", "feature", "yes"):
                mine = [ENTRIES[name].label for name in names if at_test(name) == test]
                if mine:
                    words = ", ".join(mine)
                    made.append(
                        Row([Cell(CHANGED[stage] or "nothing"), Cell(need), Cell(test), Cell(words)], test == "yes")
                    )
    return Table(["changes", "a to train", "a of new rows", "methods"], made)
