"""A model card of the networks of a run, as Markdown: their training data, measures by group, limits and versions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fairjax.metrics import MEASURES
from fairjax.metrics.group_report import GroupReport, report_from_sums
from fairjax.runs.labels import label
from fairjax.runs.settings import Settings
from fairjax.runs.structure import Structure

CARD = "card.md"

_COLUMNS = ("selection_rate", "true_positive_rate", "false_positive_rate", "precision", "accuracy")


def card(settings: Settings, structure: Structure, results: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    """Return the card of a run on a user's own table.

    Args:
        settings: the settings of the run.
        structure: its groups and classes.
        results: a table with the columns of `results.csv`.
        facts: what `run.json` says about the run.
    """
    data, main = facts["data"], settings.selection.rule
    test = results[(results["part"] == "test") & results["rule"].isin(["none", main])]
    parts = [
        f"# Model card: classifiers of {settings.label}",
        _training(settings, structure, data),
        f"## {MEASURES.label(settings.measure)} and accuracy on test parts\n\n{_bias(test, settings)}",
        "## Rates by group on test parts\n\nMeans over the test parts of all seeds"
        + (
            ", weighted."
            if settings.weight
            else ". In brackets the 95 % Wilson interval of a single test part; the test parts of several seeds share "
            "rows, so they do not make it narrower."
        ),
    ]
    for method, rows in test.groupby("method", sort=False):
        parts.append(
            f"### {label(str(method))}\n\n{_by_group(_report(rows, structure), weighted=settings.weight is not None)}"
        )
    parts += [_LIMITS, _versions(facts)]
    return "\n\n".join(parts) + "\n"


def _training(settings: Settings, structure: Structure, data: Mapping[str, Any]) -> str:
    columns, files = [entry["column"] for entry in data["encoder"]], [Path(path).name for path in settings.table]
    lines = [
        f"* **Data**: {', '.join(files)}, {data['rows']:,} rows; {data['features']} features of the columns "
        f"{', '.join(columns)}.",
        f"* **Label**: {settings.label}" + (f", positive: {settings.positive}." if settings.positive else "."),
        f"* **Groups**: {data['protected']}"
        + (f", privileged: {settings.privileged}." if settings.privileged else f": {'; '.join(structure.groups)}."),
        f"* **Splits**: {len(settings.seeds)} random ones into train (60 %), validation (20 %) and test parts (20 %)"
        + (f", the rows of a {settings.split_by} in one part." if settings.split_by else "."),
        f"* **Networks**: one per split, a multilayer perceptron of {len(settings.network.widths)} hidden layers of "
        f"{', '.join(map(str, dict.fromkeys(settings.network.widths)))} units, dropout {settings.network.dropout:g}.",
        f"* **Selection**: the rule {settings.selection.rule} on validation parts, with the bound "
        f"|bias| < {settings.selection.epsilon:g}.",
    ]
    lines += [f"* **Warning**: {warning}." for warning in data["warnings"]]
    lines += [f"* **Not compared**: {name} ({reason})." for name, reason in structure.left_out]
    return "## What the networks were trained on\n\n" + "\n".join(lines)


def _bias(test: pd.DataFrame, settings: Settings) -> str:
    lines = ["| method | balanced accuracy | bias | within the bound |", "|---|---|---|---|"]
    for method, rows in test.groupby("method", sort=False):
        numbers = [f"{rows[name].mean():.3f} ± {rows[name].std(ddof=0):.3f}" for name in ("balanced_accuracy", "bias")]
        lines.append(
            f"| {label(str(method))} | {' | '.join(numbers)} | {int(rows['satisfied'].sum())} of {len(rows)} |"
        )
    return "\n".join(lines) + f"\n\nMean ± standard deviation over {len(settings.seeds)} test parts."


def _report(rows: pd.DataFrame, structure: Structure) -> GroupReport:
    """Return the rates of the mean counts of a method's test parts."""
    counts = rows[list(structure.cells)].mean().to_numpy().reshape(structure.shape)
    return report_from_sums(
        names=structure.groups,
        attributes=structure.attributes or ("group",),
        levels=tuple((name,) for name in structure.groups),
        rows=counts,
        cells=counts,
        squares=counts,
        blocks=structure.blocks,
        left_out=dict(structure.left_out),
    )


def _by_group(report: GroupReport, weighted: bool) -> str:
    names = [name.replace("_", " ") for name in _COLUMNS]
    lines = [f"| group | rows | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for g, name in enumerate(report.names):
        cells = []
        for rate in _COLUMNS:
            value, (low, high) = getattr(report, rate)[g], report.intervals[rate][g]
            ends = "" if weighted else f" [{low:.2f}, {high:.2f}]"
            cells.append("–" if np.isnan(value) else f"{value:.2f}{ends}")
        lines.append(f"| {name} | {report.counts[g]:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


_LIMITS = """## Limits

* The numbers are about rows of this table. On other people, or later, they may differ.
* Parity of one rate does not imply parity of another, and says nothing about groups that the table does not name.
* If the labels carry a bias, a network that agrees with them repeats it.
* A bound that is met on validation data is met elsewhere with some probability only; the table above says how often it
  was met on test parts.
* The networks were chosen by the stated rule alone. Whether a decision about people may be made with them is another
  question."""


def _versions(facts: Mapping[str, Any]) -> str:
    lines = [f"* {name} {version}" for name, version in facts["versions"].items()]
    lines += [f"* Python {facts['python']}, {facts['device']['count']} {facts['device']['kind']}"]
    return "## Versions\n\n" + "\n".join(lines) + f"\n\nCommand: `{' '.join(map(str, facts['command']))}`"
