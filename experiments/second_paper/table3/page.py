"""Write the page and the Markdown file of the table."""

import json
from typing import Any

import pandas as pd

from experiments.second_paper.table3 import tables
from experiments.second_paper.table3.printed import printed
from experiments.second_paper.table3.settings import Table3
from fairjax.datasets import DATASETS
from fairjax.report.layout import Cell, Fold, Row, Section, Table
from fairjax.report.page import render

PAPER = "Du, Yang, Zou, Hu: Fairness in deep learning: a computational perspective, IEEE Intelligent Systems 2020"

LIMITS = (
    "The paper does not state its features, hidden sizes, epochs, hyperparameters, coding of groups and labels, or "
    "whether its three runs had different splits. Agreement with its numbers holds for our choice of these only.",
    "Several of our rows stand beside one printed row, with and without duplicates, and the one that agrees best is "
    "named: the more candidates, the easier it is to agree by chance. A number whose "
    "deviation is above 0.1 is never counted as agreeing.",
    "Splits share rows. Deviations and p-values say how far a number depends on the random split and initialisation, "
    "and not how it would vary among other people; p-values over splits are too small for that.",
    "Numbers are standardised, and columns of 0 and 1 are left as they are. Standardised too, the rare charge texts of "
    "COMPAS would be as large as 55, and validation loss was higher (0.65 instead of 0.60, scikit-learn's network on "
    "four other splits): this was chosen by validation loss, after accuracy was seen to be low, and not to match the "
    "paper.",
    "Optimized pre-processing sees few features, of the same rows and splits. It is compared with the network of those "
    "features. The group is not one of them here, as it is in AIF360's examples, so these rows do not have the printed "
    "setting. The bound on the groups' rates is 0.05, or the smallest feasible one where that is infeasible.",
    "The prejudice remover's term in the loss of the network is descended in mini-batches. Larger weights do not "
    "always give more parity there: training stops at the best loss on valid rows, in which the index counts too.",
)
"""What readers should know about the numbers, whatever was measured."""


def sections(
    settings: Table3,
    found: pd.DataFrame,
    compared: pd.DataFrame,
    explained: pd.DataFrame,
    facts: dict[tuple[str, str], dict[str, Any]],
    about: dict[str, Any],
) -> list[Section]:
    """Return the sections of the page."""
    rows = {variant: facts[variant]["rows"] for variant in settings.variants}
    return [
        Section(
            "table",
            "Table 3",
            text=tables.NOTE,
            tables=[tables.of_page(found, *variant, rows[variant]) for variant in settings.variants],
        ),
        Section(
            "printed",
            "What explains the printed numbers",
            text="Which of our rows have the printed numbers within 2 standard deviations over splits, as measured "
            "here; a printed row without such a row is not reproduced.",
            points=[f"{DATASETS.label(line.dataset)}, {line.label}: {line.words}" for line in explained.itertuples()],
        ),
        Section(
            "comparisons",
            "Compared with the network, and with the row without the method",
            text="Mean difference over the same splits, its 95 % bootstrap interval, and the p-value of Wilcoxon's "
            "signed-rank test after Holm's correction for all rows with one reference. |Opty| and |Odds| are distances "
            "from 0: a negative difference is fairer. Grey: p is at least 0.05. A row with an undefined value, as when "
            "nobody is selected, is not tested.",
            tables=[tables.of_comparisons(compared, *variant, rows[variant]) for variant in settings.variants],
        ),
        Section("limits", "How to read it", points=[*LIMITS, *of_prejudice(about)]),
        Section("settings", "Settings", folds=[Fold("All settings", json.dumps(about, indent=1))]),
    ]


def of_prejudice(about: dict[str, Any]) -> list[str]:
    """Say what the fits of the prejudice remover are, and whether they converged.

    Args:
        about: what is written to run.json.
    """
    units = [run["units"] for run in about["runs"].values()]
    exact = [unit["prejudice_minimum"] for unit in units]
    slope = max(max(unit["largest_slope"].values()) for unit in exact)
    failed = sum(sum(unit["not_converged"].values()) for unit in exact)
    imitated = [unit[name] for unit in units for name in ("prejudice_aif360", "prejudice_aif360_flags")]
    away = sum(sum(unit["not_converged"].values()) for unit in imitated)
    unmoved = sum(sum(unit["unmoved"].values()) for unit in imitated)
    fits = len(about["settings"]["seeds"]) * sum(len(unit["unmoved"]) for unit in imitated)
    converged = "all fits converged" if not failed else f"{failed} fits did not converge, and are no minima"
    return [
        "The prejudice remover is that of Kamishima et al.: a logistic regression per group, each with a constant, at "
        "the minimum of the sum of log losses, eta times the index as a sum over the rows, and half the squares of all "
        f"weights. It is deterministic, and {converged}: the largest derivative is {slope:.1g} at most.",
        "AIF360's prejudice remover has the same objective, but not its gradient: AIF360 multiplies a group's sum of "
        "(p - r) / (r (1 - r)), r being the mean score, by the derivative of r as if both groups had the same weights. "
        "Its conjugate gradients start from one logistic regression per group, and end when a line search fails: "
        f"{away} of {fits} fits are no minima, and {unmoved} never leave the start. Where they end depends on the "
        "scale of features: all are standardised for it, as in AIF360's example, but one row leaves 0 and 1 as they "
        "are. The imitation is tested to equal AIF360's own fits.",
    ]


def lead(settings: Table3) -> str:
    """Return the paragraph below the title."""
    names = " and ".join(DATASETS.label(name) for name in settings.datasets)
    return (
        f"{PAPER}, Table 3, measured on {names}: {len(settings.seeds)} splits into 50 % train, 20 % valid and 30 % "
        f"test rows. One network per split, {len(settings.widths)} hidden layer(s) of {settings.widths} units, is "
        "shared by all rows that do not train one of their own; the best epoch on valid rows is kept; decisions are "
        "scores above 0.5. All rows have one coding."
    ).replace("(100,)", "100")


def page(parts: list[Section], text: str) -> str:
    """Return the HTML of the page."""
    return render("Table 3: five ways to mitigate bias", text, parts)


def markdown(parts: list[Section], explained: pd.DataFrame, text: str) -> str:
    """Return the Markdown file: the lead, the tables with the column of words, and how to read them."""
    by_id = {part.id: part for part in parts}
    blocks = ["# Table 3: five ways to mitigate bias", text, by_id["table"].text]
    blocks += [tables.of_markdown(table) for table in by_id["table"].tables]
    words = [
        Row([Cell(DATASETS.label(line.dataset)), Cell(line.label), Cell(_numbers(line)), Cell(line.words)])
        for line in explained.itertuples()
    ]
    columns = ["data set", "printed row", "Acc, Parity, Opty, Odds", "what explains it, as measured here"]
    blocks.append(tables.of_markdown(Table(columns, words, "What explains the printed numbers")))
    blocks.append("### How to read it\n\n" + "\n".join(f"* {point}" for point in by_id["limits"].points))
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def _numbers(line: Any) -> str:
    """Return the printed numbers of a row."""
    own = printed().set_index(["dataset", "row"]).loc[(line.dataset, line.printed_row)]
    values = (own[name] for name in ("accuracy", "parity", "opportunity", "odds"))
    return ", ".join("n/a" if pd.isna(value) else f"{value:.3f}" for value in values)
