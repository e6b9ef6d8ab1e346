"""Tables 1, 3 and 4 of the first paper: its published numbers beside ours."""

from pathlib import Path

import pandas as pd

from fairjax.datasets import DATASETS
from fairjax.report.extras import Extras
from fairjax.report.layout import Cell, Section, grid
from fairjax.report.results_table import main_rule
from fairjax.runs.labels import label

PUBLISHED = Path(__file__).with_name("published.csv")
"""Table, column and row, then median, 25 % and 75 % quantile (Table 1) or mean and standard deviation (Tables 3 and 4).

The paper's numbers for ROC on COMPAS are compared with `reject_option_paper`: the paper passed the scores of y = 1 as
those of the favourable label 0.
"""

TABLES = {1: "objective", 3: "balanced_accuracy", 4: "bias"}
"""The quantity in each table, a column of the results."""

_CAPTION = "in parentheses what the paper prints, * where that is inside our quartiles, and our difference from it"

TITLES = {
    1: "Bias-constrained objective, median [25 %, 75 %]",
    3: "Balanced accuracy, mean ± standard deviation",
    4: "Bias, mean ± standard deviation",
}


def published() -> pd.DataFrame:
    """Read the published numbers: one row per table, data set, measure and method."""
    return pd.read_csv(PUBLISHED)


def compared(results: pd.DataFrame) -> pd.DataFrame:
    """Compare our results with the published ones: one row per table, data set, measure, method and rule.

    `ours` is a median with its quartiles in Table 1 and a mean in Tables 3 and 4, for which the quartiles are given as
    well; `inside` says whether the published number lies between the quartiles.

    Args:
        results: a table with the columns of `results.csv`.

    Returns:
        Columns table, dataset, measure, method, rule, ours, low, high, deviation, printed, printed_low, printed_high,
        printed_deviation, difference, inside. Values are missing where the paper gives no number.
    """
    test = results[results["part"] == "test"]
    frames = []
    for table, quantity in TABLES.items():
        groups = test.groupby(["dataset", "measure", "method", "rule"], sort=False)[quantity]
        frame = pd.DataFrame(
            {
                "ours": groups.median() if table == 1 else groups.mean(),
                "low": groups.quantile(0.25),
                "high": groups.quantile(0.75),
                "deviation": groups.std(ddof=1),
            }
        ).reset_index()
        frame.insert(0, "table", table)
        frames.append(frame)
    names = {"center": "printed", "low": "printed_low", "high": "printed_high", "deviation": "printed_deviation"}
    keys = ["table", "dataset", "measure", "method"]
    both = pd.concat(frames, ignore_index=True).merge(published().rename(columns=names), how="left", on=keys)
    both["difference"] = both["ours"] - both["printed"]
    # published numbers have two digits, so a number at the edge of the quartiles counts as inside
    inside = (both["printed"] >= both["low"] - 0.005) & (both["printed"] <= both["high"] + 0.005)
    both["inside"] = inside.where(both["printed"].notna())
    return both


def markdown(comparison: pd.DataFrame, table: int, main: str) -> str:
    """Format one table as Markdown: methods in rows, data sets in columns, the paper's numbers in parentheses."""
    chosen = comparison[comparison["table"] == table]
    lines = [f"## Table {table}: {TITLES[table]}", ""]
    for measure, of_measure in chosen.groupby("measure", sort=False):
        datasets = list(dict.fromkeys(of_measure["dataset"]))
        names = [DATASETS.label(name) for name in datasets]
        lines += [f"{measure.upper()}; {_CAPTION}", ""]
        lines += ["| method | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        for (method, rule), rows in of_measure.groupby(["method", "rule"], sort=False):
            of_dataset = rows.set_index("dataset")
            cells = [_cell(of_dataset.loc[name], table) if name in of_dataset.index else "" for name in datasets]
            lines.append(f"| {label(method, rule, main)} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def write(results: pd.DataFrame) -> tuple[str, str]:
    """Format Tables 1, 3 and 4 as Markdown and as CSV.

    Args:
        results: a table with the columns of `results.csv`.

    Returns:
        The contents of the two files.
    """
    comparison, main = compared(results), main_rule(results)
    texts = [markdown(comparison, table, main) for table in TABLES]
    return "\n".join(texts), comparison.to_csv(index=False, float_format="%.6g")


def _cell(row: pd.Series, table: int) -> str:
    ours = f"{row['ours']:.2f}"
    ours += f" [{row['low']:.2f}, {row['high']:.2f}]" if table == 1 else f" ± {row['deviation']:.2f}"
    if pd.isna(row["printed"]):
        return ours
    return f"{ours} ({row['printed']:.2f}{'*' if row['inside'] else ''}, {row['difference']:+.2f})"


def section(results: pd.DataFrame, main: str) -> Section | None:
    """Return the section of the page that compares results with the published numbers; None without any."""
    comparison = compared(results)
    comparison = comparison[comparison["printed"].notna()]
    if comparison.empty:
        return None
    tables = []
    for table, title in TITLES.items():

        def cell(row, table=table) -> Cell:
            spread = f"[{row['low']:.2f}, {row['high']:.2f}]" if table == 1 else f"± {row['deviation']:.2f}"
            inside = "inside" if row["inside"] else "outside"
            small = f"{spread}; paper {row['printed']:.2f}, {row['difference']:+.2f}, {inside}"
            return Cell(f"{row['ours']:.2f}", small)

        here = comparison[comparison["table"] == table]
        tables.append(grid(here, main, cell, title=f"Table {table}: {title}"))
    text = (
        "Ours, then the number that Marcinkevičs, Ozkan and Vogt (2022) print, the difference, and whether their "
        "number lies inside our quartiles."
    )
    return Section("paper", "Beside the paper", text=text, tables=tables)


PICTURES = {
    "pareto": (
        "Accuracy against bias",
        "Mean balanced accuracy against mean |bias| on test data; a curve follows the bound from 0.01 to 0.30 with "
        "selection by Eq. 3, and methods without candidates are one point.",
    ),
    "figure1": ("Figure 1", "Bias and balanced accuracy on test data while a method runs, as in the paper's Figure 1."),
    "figure2": ("Figure 2", "The same for the other data sets, as in the paper's Figure 2."),
    "figure3": (
        "Figure 3",
        "Original and debiased networks on simulated data whose bias is set by one parameter, as in the paper's "
        "Figure 3.",
    ),
}
"""Pictures of a reproduction, with title and caption."""

EXTRAS = Extras((section,), PICTURES)
"""What a reproduction adds to the page of results."""
