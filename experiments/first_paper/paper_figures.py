"""The first paper's Figure 3, and accuracy against bias."""

from pathlib import Path

import pandas as pd

from fairjax.datasets import DATASETS
from fairjax.metrics import MEASURES
from fairjax.report.figures import ACCURACY, BIAS, colour_of, figure_style, marker_of, save_figure, subplots
from fairjax.runs.labels import label


def sensitivity_figure(points: pd.DataFrame, path: Path) -> list[Path]:
    """Draw Figure 3: accuracy and bias of the original network and the debiased objective, by simulated parameter.

    Args:
        points: the result of `curves.sensitivity`.
        path: the path to write to, without a suffix.

    Returns:
        The paths of the files written; empty if there are no points.
    """
    if points.empty:
        return []
    datasets, measures, methods = (list(dict.fromkeys(points[name])) for name in ("dataset", "measure", "method"))
    rows = [(measure, method) for measure in measures for method in methods]
    with figure_style():
        size = 5.2 * len(datasets), 2.9 * len(rows) + 0.7
        figure, axes = subplots(len(rows), len(datasets), size)
        for i, (measure, method) in enumerate(rows):
            for axis, dataset in zip(axes[i], datasets, strict=True):
                here = points[
                    (points["dataset"] == dataset) & (points["measure"] == measure) & (points["method"] == method)
                ]
                _sensitivity_panel(axis, here)
                axis.set_title(f"{DATASETS.label(dataset)}, {MEASURES.label(measure)}: {label(method)}")
                axis.set_xlabel({"loh": "α", "zafar": "ϑ"}.get(dataset, "parameter"))
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=2, frameon=False)
        figure.tight_layout(rect=(0, 0.45 / size[1], 1, 1))
        return save_figure(figure, path)


def _sensitivity_panel(axis, points: pd.DataFrame) -> None:
    original = points.drop_duplicates("parameter").sort_values("parameter")
    x = original["parameter"]
    for column, colour, name in (
        ("balanced_accuracy", ACCURACY, "balanced accuracy, original (mean ± sd)"),
        ("bias", BIAS, "bias, original (mean ± sd)"),
    ):
        middle, spread = original[column], original[f"{column}_deviation"]
        axis.fill_between(x, middle - spread, middle + spread, color=colour, alpha=0.15, lw=0)
        axis.plot(x, middle, color=colour, lw=1.8, ls="--", label=name)
    axis.axhline(0, color="0.4", lw=0.6)
    for (epsilon, mine), colour in zip(points.groupby("epsilon"), ("#2e7d32", "#8bc34a"), strict=False):
        mine = mine.sort_values("parameter")
        axis.fill_between(mine["parameter"], mine["low"], mine["high"], color=colour, alpha=0.18, lw=0)
        name = f"objective, debiased, ε = {epsilon:.2f} (median, quartiles)"
        axis.plot(mine["parameter"], mine["objective"], color=colour, marker="o", ms=3.5, lw=1.8, label=name)


def pareto_figure(points: pd.DataFrame, single: pd.DataFrame, path: Path) -> list[Path]:
    """Draw balanced accuracy against |bias| on test data over a range of bounds.

    There is one panel per column of the tables and one curve per method.

    Args:
        points: the result of `curves.pareto` for one rule.
        single: a table with the columns of `results.csv`; methods without candidates are drawn as one point each.
        path: the path to write to, without a suffix.

    Returns:
        The paths of the files written; empty if there are no points.
    """
    if points.empty:
        return []
    columns = list(dict.fromkeys(zip(points["dataset"], points["measure"], strict=True)))
    across = min(len(columns), 4)
    down = -(-len(columns) // across)
    with figure_style():
        height = 3.0 * down + 1.3
        figure, axes = subplots(down, across, (3.6 * across, height))
        for axis in axes.flat[len(columns) :]:
            axis.axis("off")
        for axis, column in zip(axes.flat, columns, strict=False):
            here = points[(points["dataset"] == column[0]) & (points["measure"] == column[1])]
            for method, curve in here.groupby("method", sort=False):
                curve = curve.sort_values("epsilon")
                style = {"color": colour_of(method), "lw": 1.5, "marker": "o", "ms": 2.5}
                axis.plot(curve["absolute_bias"], curve["balanced_accuracy"], label=label(method), **style)
            _single_points(axis, single, column, set(here["method"]))
            axis.set_title(f"{DATASETS.label(column[0])}, {MEASURES.label(column[1])}")
            axis.set_xlabel("mean |bias|")
        for axis in axes[:, 0]:
            axis.set_ylabel("mean balanced accuracy")
        entries = dict(
            pair for axis in axes.flat for pair in zip(*reversed(axis.get_legend_handles_labels()), strict=True)
        )
        beside = max(2, int(1.8 * across))  # legend entries that fit side by side
        figure.legend(entries.values(), entries.keys(), loc="lower center", ncols=beside, frameon=False, fontsize=8)
        figure.tight_layout(rect=(0, 0.19 * -(-len(entries) // beside) / height + 0.02, 1, 1))
        return save_figure(figure, path)


def _single_points(axis, results: pd.DataFrame, column: tuple[str, str], curves: set[str]) -> None:
    """Draw methods that are single points instead of curves."""
    test = results[(results["part"] == "test") & ~results["method"].isin(list(curves))]
    here = test[(test["dataset"] == column[0]) & (test["measure"] == column[1])]
    for (method, rule), group in here.groupby(["method", "rule"], sort=False):
        if rule in ("none", "objective"):
            x, y = group["bias"].abs().mean(), group["balanced_accuracy"].mean()
            axis.plot(x, y, marker_of(method), color="0.15", mfc="white", ms=6, label=label(method))
