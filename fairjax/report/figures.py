"""Figures of results: trajectories of methods, and the objective of each method."""

from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fairjax.datasets import DATASETS
from fairjax.methods import METHODS, Method, Standard
from fairjax.metrics import MEASURES
from fairjax.runs.files import atomic
from fairjax.runs.labels import PORTFOLIO, label, names, needs_group, position

BIAS, ACCURACY = "#c1440e", "#1f5f8b"
_PALETTE = (
    "#7f7f7f", "#b5894b", "#b08fc7", "#8e44ad", "#d4a017", "#1f5f8b", "#c1440e", "#7a9a01", "#2e7d32", "#d1477a",
    "#5d6d1e", "#4a4e9e", "#a0522d",
)  # fmt: skip
_PORTFOLIO_COLOUR = "#0b7a75"
_MARKERS = "sD^vP*X<>phdH8"


def colour_of(method: str) -> str:
    """Return the colour of a method, which is the same in all figures; methods without candidates are black."""
    if method == PORTFOLIO:
        return _PORTFOLIO_COLOUR
    moving = [name for name, kind in METHODS.items() if not issubclass(kind, Standard)]
    return _PALETTE[moving.index(method) % len(_PALETTE)] if method in moving else "0.15"


def marker_of(method: str) -> str:
    """Return the marker of a method that is drawn as a single point."""
    points = [name for name in names() if needs_group(name) or issubclass(METHODS.get(name, Method), Standard)]
    return _MARKERS[points.index(method) % len(_MARKERS)] if method in points else "o"


def trajectories_figure(trajectories: pd.DataFrame, selected: pd.DataFrame, epsilon: float, path: Path) -> list[Path]:
    """Draw Figures 1 and 2: bias and balanced accuracy on test data while a method runs, with one panel per method.

    Methods whose candidates have no order in time are left out. The median over seeds is bold, single seeds are thin.

    Args:
        trajectories: a table with the columns of `trajectories.csv`.
        selected: a table with the columns of `results.csv`; its selected steps are marked.
        epsilon: half the width of the band that is drawn around a bias of 0.
        path: the path to write to, without a suffix.

    Returns:
        The paths of the files written, PNG and SVG; empty if no method has steps.
    """
    ordered = [name for name, kind in METHODS.items() if kind.axis]
    test = trajectories[(trajectories["part"] == "test") & trajectories["method"].isin(ordered)]
    chosen = selected[selected["part"] == "test"]
    keys = ["dataset", "measure", "method"]
    panels = {name: group for name, group in test.groupby(keys, sort=False) if group["step"].max() > 0}
    if not panels:
        return []
    datasets = list(dict.fromkeys(test["dataset"]))
    names = sorted(panels, key=lambda name: (datasets.index(name[0]), position(name[2])))
    across = min(len(names), 4)
    down = -(-len(names) // across)
    with figure_style():
        size = (4.2 if across > 2 else 5.2) * across, 3.2 * down + 0.7
        figure, axes = subplots(down, across, size, sharey=True)
        for axis in axes.flat[len(names) :]:
            axis.axis("off")
        for axis, name in zip(axes.flat, names, strict=False):
            mine = chosen[(chosen[keys] == list(name)).all(axis=1)]
            trajectory_panel(axis, panels[name], mine, epsilon)
            axis.set_title(f"{DATASETS.label(name[0])}, {MEASURES.label(name[1])}: {label(name[2])}")
            axis.set_xlabel(METHODS[name[2]].axis)
        for axis in axes[:, 0]:
            axis.set_ylabel("on test data")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False)
        figure.suptitle(f"{test['seed'].nunique()} splits; bold: median, thin: single splits")
        figure.tight_layout(rect=(0, 0.25 / size[1] + 0.02, 1, 1))
        return save_figure(figure, path)


def trajectory_panel(axis, curves: pd.DataFrame, chosen: pd.DataFrame, epsilon: float) -> None:
    """Draw the candidates of one method, and mark the selected ones."""
    axis.axhspan(-epsilon, epsilon, color=BIAS, alpha=0.10, lw=0, label=f"|bias| < {epsilon:g}")
    axis.axhline(0, color="0.4", lw=0.6)
    for column, colour, name in (("balanced_accuracy", ACCURACY, "balanced accuracy"), ("bias", BIAS, "bias")):
        runs = [name for name in ("seed", "parameter") if name in curves]  # a sweep has runs of one seed
        table = curves.pivot(index="step", columns=runs, values=column)
        axis.plot(table.index, table.to_numpy(), color=colour, lw=0.5, alpha=0.3)
        axis.plot(table.index, table.median(axis=1), color=colour, lw=2.2, label=name)
    if len(chosen):
        first = chosen[chosen["rule"] == chosen["rule"].iloc[0]]
        axis.axvline(float(np.median(first["selected"])), color="0.35", lw=0.9, ls=":", label="median selected step")
    axis.set_xlim(0, curves["step"].max())
    axis.xaxis.get_major_locator().set_params(integer=True)


def objectives_figure(results: pd.DataFrame, path: Path, *, main: str) -> list[Path]:
    """Draw the constrained objective of every method: median, quartiles and splits, with one panel per table column.

    Args:
        results: a table with the columns of `results.csv`.
        path: the path to write to, without a suffix.
        main: the main rule, which is not named in labels.

    Returns:
        The files written.
    """
    test = results[results["part"] == "test"]
    columns = list(dict.fromkeys(zip(test["dataset"], test["measure"], strict=True)))
    entries = list(dict.fromkeys(zip(test["method"], test["rule"], strict=True)))
    entries.sort(key=lambda entry: position(entry[0]))
    across = min(len(columns), 4)
    down = -(-len(columns) // across)
    with figure_style():
        size = 2.6 * across + 2.4, (0.2 * len(entries) + 0.9) * down
        figure, axes = subplots(down, across, size, sharey=True)
        for axis in axes.flat[len(columns) :]:
            axis.axis("off")
        for axis, column in zip(axes.flat, columns, strict=False):
            here = test[(test["dataset"] == column[0]) & (test["measure"] == column[1])]
            for i, (method, rule) in enumerate(entries):
                values = here.loc[(here["method"] == method) & (here["rule"] == rule), "objective"]
                if values.empty:
                    continue
                low, median, high = values.quantile([0.25, 0.5, 0.75])
                colour = colour_of(method)
                axis.plot(values, np.full(len(values), i), "|", color=colour, alpha=0.35, ms=6)
                axis.plot([low, high], [i, i], color=colour, lw=2.4, alpha=0.7, solid_capstyle="butt")
                hollow = needs_group(method)
                axis.plot(median, i, "o", color=colour, mfc="white" if hollow else colour, ms=5.5)
            axis.set_title(f"{DATASETS.label(column[0])}, {MEASURES.label(column[1])}")
            axis.set_xlim(-0.03, 0.95)
            axis.grid(axis="x", alpha=0.3)
        axes[0, 0].set_yticks(range(len(entries)), [label(*entry, main) for entry in entries])
        axes[0, 0].invert_yaxis()
        for axis in axes[-1]:
            axis.set_xlabel("objective on test data")
        figure.tight_layout()
        return save_figure(figure, path)


@contextmanager
def figure_style():
    """Use the style of all figures while the block runs."""
    style = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "fairjax"}
    with matplotlib.rc_context(style | {"axes.titlesize": 10.5}):
        yield


def subplots(rows: int, columns: int, size: tuple[float, float], *, sharey: bool = False) -> tuple[Figure, np.ndarray]:
    """Make a figure with a grid of axes that needs neither a display nor the global state of pyplot.

    Args:
        rows: number of rows of the grid.
        columns: number of columns of the grid.
        size: width and height in inches.
        sharey: whether all axes have the same vertical scale.

    Returns:
        The figure, and the axes as an array of shape (rows, columns).
    """
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=sharey)


def save_figure(figure, path: Path, suffixes: Iterable[str] = (".png", ".svg")) -> list[Path]:
    """Write a figure in several formats; each file is written completely or not at all."""
    written = []
    for suffix in suffixes:
        target = path.with_suffix(suffix)
        with atomic(target) as temporary:
            figure.savefig(temporary, dpi=150, metadata={"Date": None} if suffix == ".svg" else None)
        written.append(target)
    return written
