"""The frontiers of balanced accuracy and bias, with a colour per stage."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.second_paper.mitigate.entries import ENTRIES, NOTHING
from fairjax.metrics import MEASURES
from fairjax.report.figures import figure_style, save_figure, subplots

COLOURS = {"nothing": "#222222", "pre": "#2e7d32", "in": "#1f5f8b", "intra": "#c1440e", "post": "#8e44ad"}
"""Colours of the stages."""

CHANGED = {"nothing": "", "pre": "data", "in": "loss", "intra": "network", "post": "decisions"}
"""What the stages change, in tables."""

TITLES = {
    "nothing": "nothing",
    "pre": "before training",
    "in": "in training",
    "intra": "on the trained network",
    "post": "on its decisions",
}
"""When the stages act, in figures and sentences."""


def frontier_figure(points: pd.DataFrame, epsilon: float, title: str) -> Any:
    """Draw one data set: a panel per measure, a point per candidate, lines along weights and bounds.

    Args:
        points: the lines of `tables.frontier` of one data set.
        epsilon: the bound.
        title: the title.
    """
    measures = list(dict.fromkeys(points["measure"]))
    with figure_style():
        figure, axes = subplots(1, len(measures), (5.6 * len(measures), 5.0), sharey=True)
        for axis, measure in zip(axes[0], measures, strict=True):
            here = points[points["measure"] == measure]
            axis.axvspan(0, epsilon, color="0.93", lw=0, zorder=0)
            for row, of_row in here.groupby("row", sort=False):
                _path(axis, str(row), of_row)
            _best(axis, here)
            axis.set_xlabel(f"|{MEASURES.label(measure)}| on test rows")
            axis.grid(alpha=0.25)
        axes[0, 0].set_ylabel("balanced accuracy on test rows")
        _zoom(axes[0], points)
        handles = _legend(axes[0, 0], [stage for stage in COLOURS if stage in set(points["stage"])])
        figure.legend(handles=handles, loc="lower center", ncols=4, frameon=False)
        figure.suptitle(title)
        figure.tight_layout(rect=(0, 0.11, 1, 1))
        return figure


def _path(axis: Any, row: str, points: pd.DataFrame) -> None:
    """Draw the candidates of a row."""
    entry = ENTRIES[row]
    colour = COLOURS[entry.stage]
    order = points.sort_values(["weight", "bound"])
    axis.plot(order["bias"], order["balanced_accuracy"], color=colour, lw=0.8, alpha=0.45, zorder=2)
    style = {"marker": "*", "s": 150, "zorder": 5} if row == NOTHING else {"marker": "o", "s": 22, "zorder": 3}
    face = "white" if entry.at_test else colour
    axis.scatter(order["bias"], order["balanced_accuracy"], color=colour, facecolor=face, linewidth=1.0, **style)


def _best(axis: Any, points: pd.DataFrame) -> None:
    """Draw the upper left border of all candidates."""
    order = points.sort_values("bias")
    best = np.maximum.accumulate(order["balanced_accuracy"].to_numpy())
    axis.step(order["bias"], best, where="post", color="0.35", lw=0.8, ls=":", zorder=1)


def _zoom(axes: Any, points: pd.DataFrame) -> None:
    """Leave far outliers out of the picture, and say how many."""
    values = points["balanced_accuracy"].to_numpy()
    low = max(values.min(), np.quantile(values, 0.75) - 0.08) - 0.005
    axes[0].set_ylim(low, values.max() + 0.01)
    for axis, measure in zip(axes, dict.fromkeys(points["measure"]), strict=True):
        here = points[points["measure"] == measure]
        start = here.loc[here["row"] == NOTHING, "bias"].max()
        right = 1.05 * min(here["bias"].max(), 1.5 * start if start > 0 else np.inf)
        axis.set_xlim(0, right)
        outside = int(((here["balanced_accuracy"] < low) | (here["bias"] > right)).sum())
        if outside:
            words = f"{outside} point{'s' if outside > 1 else ''} outside of the picture"
            axis.text(0.98, 0.02, words, transform=axis.transAxes, ha="right", fontsize=8, color="0.4")


def _legend(axis: Any, stages: list[str]) -> list[Any]:
    """Return the entries of the legend."""
    made = [
        axis.scatter([], [], color=COLOURS[name], marker="*" if name == NOTHING else "o", label=TITLES[name])
        for name in stages
    ]
    made.append(axis.scatter([], [], color="0.4", facecolor="white", label="needs the attribute of new rows"))
    made += axis.plot([], [], color="0.4", lw=0.8, label="weights, or bounds")
    made += axis.plot([], [], color="0.35", lw=0.8, ls=":", label="best of all at most this biased")
    return made


def write_frontiers(points: pd.DataFrame, epsilon: float, titles: dict[str, str], folder: Path) -> dict[str, Any]:
    """Draw and save the frontier of each data set, and return the figures."""
    figures = {}
    for dataset, here in points.groupby("dataset", sort=False):
        figures[str(dataset)] = frontier_figure(here, epsilon, titles[str(dataset)])
        save_figure(figures[str(dataset)], folder / f"frontier-{dataset}")
    return figures
