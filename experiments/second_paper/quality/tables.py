"""Statistics over seeds, the table and the figure of `quality`."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from experiments.second_paper.comparing import against
from experiments.second_paper.quality.experiment import Quality, facts_of, gathered
from experiments.second_paper.quality.figure import gap_figure
from experiments.second_paper.quality.rows import ROWS
from fairjax.report.markdown_table import markdown_table
from fairjax.runs.files import write_text

LABELS = {"minority": "Simulated data, minority of 3 %", "adult": "Adult, cells of race and sex"}
"""Names of the data sets in tables and figures."""

QUANTITIES = ("accuracy", "gap", "worst")
"""The quantities that are compared: accuracy of all test rows, gap between groups, accuracy of the worst group."""

DRAWS = 2000
"""Number of draws for the gap that chance alone would make."""

NOTE = (
    "Means over seeds with 95 % bootstrap intervals in brackets. Gap: accuracy of the best minus that of the worst "
    "group with enough test rows; it is never negative, so noise makes it greater. By chance: the mean gap if all "
    "groups had the overall accuracy. Difference: gap minus that of the first row, over the same seeds, with the "
    "p-value of Wilcoxon's signed-rank test after Holm's correction. Group: where the method needs the group, at "
    "training / at test time; 'feature' means that it is among the inputs of the network. Seconds: for all seeds."
)

LIMITS = (
    "Seeds of the simulated data are new draws. Splits of Adult share rows, so intervals and p-values say how far "
    "numbers depend on the random split, not how they would vary among other people.",
    "All rows have the same number of steps, up to half an epoch, without early stopping; transfer has the steps on "
    "the source, and those of tuning on the target in addition.",
    "In the simulated data both groups can be predicted equally well, so the whole gap is due to few rows and one "
    "shared network. On Adult, the groups' incomes are not equally predictable: the larger the share of one label, the "
    "higher the accuracy. A gap there is therefore no sign of too few rows, and need not close with more of them.",
)


def write(settings: Quality) -> tuple[str, list[Path], pd.DataFrame]:
    """Write the tables and the figure.

    Args:
        settings: the settings, all of whose rows are finished.

    Returns:
        The Markdown text, the files written, and the quantities per seed.
    """
    by_group = gathered(settings)
    per_seed = quantities(by_group, {name: facts_of(settings, name)["compared"] for name in settings.datasets})
    compared = comparisons(per_seed)
    found = summary(per_seed)
    of_groups = by_group.groupby(["dataset", "row", "group"], sort=False)[["accuracy", "rows"]].mean().reset_index()
    frames = {"per_seed": per_seed, "summary": found, "comparisons": compared, "groups": of_groups}
    written = []
    for name, frame in frames.items():
        write_text(settings.out / f"{name}.csv", frame.to_csv(index=False, float_format="%.6g"))
        written.append(settings.out / f"{name}.csv")
    text = markdown(settings, found, compared, of_groups)
    write_text(settings.out / "quality.md", text)
    labels = {name: row.label for name, row in ROWS.items()}
    figures = gap_figure(found, labels, LABELS, settings.out / "quality.png")
    return text, [*written, settings.out / "quality.md", *figures], per_seed


def quantities(by_group: pd.DataFrame, compared: dict[str, list[str]]) -> pd.DataFrame:
    """Compute accuracy, gap and worst group for each data set, row of the table and seed.

    Args:
        by_group: numbers of correct decisions and of rows by group.
        compared: names of the groups that are compared, by data set.
    """
    generator = np.random.default_rng(0)
    lines = []
    for (dataset, row, seed), group in by_group.groupby(["dataset", "row", "seed"], sort=False):
        accuracy = group["right"].sum() / group["rows"].sum()
        some = group[group["group"].isin(compared[dataset])].set_index("group")
        sizes = some["rows"].to_numpy(np.int64)
        drawn = generator.binomial(sizes, accuracy, size=(DRAWS, len(sizes))) / sizes
        best, worst = some["accuracy"].max(), some["accuracy"].min()
        lines.append(
            {"dataset": dataset, "row": row, "seed": seed, "accuracy": accuracy, "gap": best - worst}
            | {"best": best, "worst": worst, "worst_group": some["accuracy"].idxmin()}
            | {"chance_gap": float(np.ptp(drawn, axis=1).mean()), "seconds": group["seconds"].iloc[0]}
        )
    return pd.DataFrame(lines)


def summary(per_seed: pd.DataFrame) -> pd.DataFrame:
    """Compute means over seeds with bootstrap intervals."""
    generator = np.random.default_rng(0)
    lines = []
    for (dataset, row), group in per_seed.groupby(["dataset", "row"], sort=False):
        line = {"dataset": dataset, "row": row, "seeds": len(group), "seconds": group["seconds"].iloc[0]}
        for name in QUANTITIES:
            values = group[name].to_numpy(np.float64)
            line |= dict(zip((name, f"{name}_low", f"{name}_high"), _interval(values, generator), strict=True))
        worst = group["worst_group"].value_counts()
        line |= {"chance_gap": group["chance_gap"].mean(), "worst_group": worst.index[0]}
        lines.append(line | {"worst_share": worst.iloc[0] / len(group)})
    return pd.DataFrame(lines)


def _interval(values: np.ndarray, generator: np.random.Generator) -> tuple[float, float, float]:
    """Return the mean and its percentile bootstrap interval."""
    mean = float(values.mean())
    if np.ptp(values) == 0:
        return mean, mean, mean
    found = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4999, rng=generator)
    return mean, float(found.confidence_interval.low), float(found.confidence_interval.high)


def comparisons(per_seed: pd.DataFrame) -> pd.DataFrame:
    """Compare every row with the first one on the same seeds: mean of row - first, interval and p-values."""
    first = next(iter(ROWS))
    named = pd.concat(
        pd.DataFrame(
            {"dataset": per_seed["dataset"], "measure": name, "method": per_seed["row"], "rule": "none"}
            | {"part": "test", "seed": per_seed["seed"], "objective": per_seed[name]}
        )
        for name in QUANTITIES
    )
    return against(named, first).rename(columns={"splits": "seeds"})


def markdown(settings: Quality, found: pd.DataFrame, compared: pd.DataFrame, of_groups: pd.DataFrame) -> str:
    """Return the Markdown file: a table per data set, accuracy per group, and how to read them."""
    blocks = ["# Quality disparity: accuracy of under-represented groups", NOTE]
    for dataset in settings.datasets:
        facts = facts_of(settings, dataset)
        here = found[found["dataset"] == dataset]
        differences = compared[(compared["dataset"] == dataset) & (compared["quantity"] == "gap")].set_index("row")
        rows = {name: round(sum(facts[name].values())) for name in ("train", "test", "more", "source")}
        blocks += [
            f"## {LABELS[dataset]}",
            f"{len(settings.seeds)} seeds; {rows['train']:,} train and {rows['test']:,} test rows; {rows['more']:,} "
            f"more rows of under-represented groups; {rows['source']:,} rows of the source.",
            markdown_table(pd.DataFrame([_line(line, dataset, differences) for line in here.to_dict("records")])),
        ]
        blocks += [f"Left out: {ROWS[name].label}, because {why}." for name, why in _skipped(dataset)]
        blocks += ["Accuracy by group, mean over seeds:", _groups_table(of_groups, dataset, facts)]
    blocks += ["## What the rows mean"]
    blocks += ["\n".join(f"* **{row.label}.** {row.means}" for row in ROWS.values())]
    blocks += ["## How to read it", "\n".join(f"* {point}" for point in LIMITS)]
    return "\n\n".join(blocks) + "\n"


def _skipped(dataset: str) -> list[tuple[str, str]]:
    return [(name, row.skipped[dataset]) for name, row in ROWS.items() if dataset in row.skipped]


def _line(line: dict, dataset: str, differences: pd.DataFrame) -> dict[str, str]:
    """Return a line of the table as text."""
    name = line["row"]
    cells = {
        "row": ROWS[name].label,
        "group": f"{ROWS[name].at_training} / {'feature' if dataset == 'adult' else 'no'}",
        "accuracy": _with_interval(line, "accuracy"),
        "worst group": f"{_with_interval(line, 'worst')} {line['worst_group']}",
        "gap": _with_interval(line, "gap"),
        "by chance": f"{line['chance_gap']:.3f}",
        "difference": "",
        "seconds": f"{line['seconds']:.0f}",
    }
    if name in differences.index:
        other = differences.loc[name]
        p = "< 0.001" if other["holm_p"] < 0.001 else f"{other['holm_p']:.3f}"
        cells["difference"] = f"{other['difference']:+.3f} [{other['low']:+.3f}, {other['high']:+.3f}], p {p}"
    return cells


def _with_interval(line: dict, name: str) -> str:
    return f"{line[name]:.3f} [{line[f'{name}_low']:.3f}, {line[f'{name}_high']:.3f}]"


def _groups_table(of_groups: pd.DataFrame, dataset: str, facts: dict) -> str:
    """Return accuracies with one line per group and one column per row of the table."""
    here = of_groups[of_groups["dataset"] == dataset]
    wide = here.pivot_table(index="group", columns="row", values="accuracy", sort=False)
    lines = []
    for group in facts["test"]:
        few = "" if group in facts["compared"] else ", not compared"
        line = {"group": group, "train rows": f"{facts['train'][group]:,.0f}"}
        line["test rows"] = f"{facts['test'][group]:,.0f}{few}"
        lines.append(line | {ROWS[name].label: f"{wide.loc[group, name]:.3f}" for name in wide.columns})
    return markdown_table(pd.DataFrame(lines))
