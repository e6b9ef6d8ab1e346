"""The page of the comparison: tables, frontiers, paired tests, costs, and what each method needs."""

from typing import Any

import pandas as pd

from experiments.second_paper.mitigate import page_tables
from experiments.second_paper.mitigate.entries import ENTRIES, NOTHING
from experiments.second_paper.mitigate.figures import TITLES
from experiments.second_paper.mitigate.page_tables import heading
from fairjax.report.layout import Fold, Picture, Section

READING = (
    "Parity r is the rate of acceptance of group 0 divided by that of group 1. TPR diff. and Acc. gap are group 0 "
    "minus group 1, and Odds is the mean of the differences of true and of false positive rates. Met is the share of "
    "splits with |bias| within the bound. Probe is the balanced accuracy with which a logistic regression tells the "
    "group from the last hidden layer (0.5: not at all); it is empty where the network is the shared one. s is seconds "
    "per network, with compilation. The last columns say whether the protected attribute a is needed to train, and of "
    'new rows; "feature" if only as one of the network\'s features. Best of the methods that do not need it otherwise: '
    "bold; grey: needs it. Networks that diverged, of all weights and splits, count with their last finite check."
)
"""How the main tables are read."""

MEANING = {
    "frontier": "A point above and to the left of another is more accurate and less biased on the same splits. It does "
    "not say that a decision maker can have any mixture of two points, or that the order would hold for another "
    "network or measure.",
    "stages": "The test says whether one stage is better on these splits than another if its method is chosen on valid "
    "rows. It says nothing about a single method, and splits share rows, so p-values are too small for other people.",
    "probe": "A probe near 0.5 means that a linear model does not find the group in the last layer. It does not mean "
    "that decisions have parity, since the label itself depends on the group.",
    "cost": "Seconds are those of one machine, with compilation, divided by the number of networks. They order methods "
    "that differ by a factor of ten, not those that differ by a third.",
}
"""What figures and tables mean, and what they do not mean."""


def findings(summary: pd.DataFrame, stages: pd.DataFrame, best: pd.DataFrame) -> list[str]:
    """Return the sentences that say what was found."""
    points = []
    for (dataset, measure), here in summary.groupby(["dataset", "measure"], sort=False):
        nothing = here[here["row"] == NOTHING].iloc[0]
        blind = here[~here["row"].map(lambda name: ENTRIES[name].at_test)]
        top = blind.loc[blind["objective"].idxmax()]
        text = (
            f"{heading(str(dataset), str(measure))}: without mitigation |bias| is {nothing['bias']:.3f} at a balanced "
            f"accuracy of {nothing['balanced_accuracy']:.3f}. Of the methods that do not need the attribute of new "
            f"rows, {ENTRIES[top['row']].label} has the highest mean objective: |bias| {top['bias']:.3f}, balanced "
            f"accuracy {top['balanced_accuracy']:.3f}, within the bound on {top['met']:.0%} of the splits."
        )
        points.append(f"{text} {_won(stages, str(dataset), str(measure), best)}".strip())
    return points


def _won(stages: pd.DataFrame, dataset: str, measure: str, best: pd.DataFrame) -> str:
    """Say which stage wins."""
    here = best[(best["dataset"] == dataset) & (best["measure"] == measure)]
    means = here.groupby("stage")["objective"].mean().sort_values(ascending=False)
    if len(means) < 2:
        return ""
    first = means.index[0]
    pairs = stages[(stages["dataset"] == dataset) & (stages["measure"] == measure)]
    beaten = []
    for line in pairs.itertuples():
        sign = 1 if line.method == first else -1 if line.other_method == first else 0
        if sign * line.mean > 0 and line.holm_p < 0.05:
            beaten.append(TITLES[str(line.other_method if sign > 0 else line.method)])
    mean = f"{means.iloc[0]:.3f}"
    start = f"Of the stages, mitigation {TITLES[first]} has the highest mean objective, {mean}: paired tests find it"
    start = (
        f"No stage is better than no mitigation on average, {mean}; paired tests find it" if first == NOTHING else start
    )
    return f"{start} better than {' and '.join(beaten)}." if beaten else f"{start} better than no other beyond chance."


def sections(found: dict[str, Any], pictures: dict[str, Picture]) -> list[Section | None]:
    """Return the sections of the page.

    Args:
        found: the tables by name, from `summary.tables`.
        pictures: frontiers by data set.
    """
    summary = found["summary"]
    columns = list(dict.fromkeys(zip(summary["dataset"], summary["measure"], strict=True)))
    data = list(dict.fromkeys(summary["dataset"]))
    of_weights = [page_tables.fixed_table(found["fixed"], name) for name in data]
    frontiers = [table for name in data for table in page_tables.frontier_tables(found["fixed"], name)]
    of_methods = [page_tables.against_table(found["against"], name) for name in data]
    rows = list(dict.fromkeys(summary["row"]))
    made: list[Section | None] = [
        Section("findings", "What was found", points=findings(summary, found["stages"], found["best"])),
        Section(
            "frontier",
            "Frontiers",
            MEANING["frontier"],
            pictures=[pictures[name] for name in data],
            folds=[Fold(FRONTIERS, tables=frontiers)],
        ),
        Section(
            "methods",
            "All methods",
            READING,
            tables=[page_tables.main_table(summary, *column) for column in columns],
            folds=[Fold("All weights at the threshold 0.5", tables=of_weights)],
        ),
        Section(
            "stages",
            "Which stage wins where",
            MEANING["stages"],
            tables=[page_tables.stage_table(found["stages"])],
            folds=[Fold("Every method compared with nothing", tables=of_methods)],
        ),
        Section("needs", "What needs the attribute", NEEDS, tables=[page_tables.needs_table(rows)]),
    ]
    made.append(Section("limits", "What the numbers do not say", points=[*LIMITS, MEANING["probe"], MEANING["cost"]]))
    return made


FRONTIERS = "Frontiers at the threshold 0.5 of the methods that do not need the attribute of new rows"
"""The title of the tables of frontiers."""

NEEDS = (
    "All methods but those that remove or replace the attribute see it as a feature here, as the second paper's do; a "
    "decision that must not depend on it can use none of those. Methods that themselves need the attribute of new "
    "rows apply different rules to two people who differ in the attribute alone."
)
"""The text above the table of needs."""

LIMITS = (
    "One network, one optimiser and one number of epochs for all rows, with two exceptions: residual decomposition has "
    "a network of its own, and the row with large batches has mini-batches of 1,024 rows, twice the epochs, and weight "
    "decay. Another network has another frontier.",
    "The weights of terms are two to five per method, from experience with these data. A finer path would raise the "
    "methods whose weights are far apart.",
    "Removal of proxies removes all variables that are associated with the group by at least 0.15. Another bound "
    "would remove other variables.",
    "Optimized pre-processing is left out, since it needs few discrete features; `table3` measures it. Groups with few "
    "rows, whose accuracy is lower, are another question; `quality` measures what raises it.",
)
"""What readers should know."""
