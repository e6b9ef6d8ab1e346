"""Bias and balanced accuracy before and after debiasing, in one picture."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, MultipleLocator

from fairjax.datasets import DATASETS
from fairjax.methods import METHODS, Pruning, Standard
from fairjax.metrics import MEASURES
from fairjax.report.figures import BIAS, colour_of, figure_style, save_figure, subplots
from fairjax.runs.labels import PORTFOLIO, label

SIZE = (8.0, 3.7)
"""Width and height of the picture in inches."""

_SPACING = 0.155
"""Least distance between two labels, as a share of the height of a panel."""

_LABEL_WIDTH = 0.42
"""Width of a label, as a share of the width of a panel."""

_COLUMNS = {"bias": "bias", "balanced_accuracy": "accuracy"}


def compared_methods(results: pd.DataFrame) -> list[str]:
    """Return the methods to compare: those that the first paper proposed, and the portfolio.

    Args:
        results: a table with the columns of `results.csv`.

    Returns:
        Names of methods, in the order of `METHODS`, that have rows in the table.
    """
    papers = [name for name, kind in METHODS.items() if kind.reference == Pruning.reference]
    return [name for name in (*papers, PORTFOLIO) if name in set(results["method"])]


def before_after(results: pd.DataFrame, rule: str) -> pd.DataFrame:
    """Summarise the trained and the debiased networks on test data.

    Args:
        results: a table with the columns of `results.csv`.
        rule: the selection rule of the debiased networks.

    Returns:
        One row per data set and method, the trained networks first, with the columns dataset, method, splits, within
        (the number of splits within the bound), and the median and quartiles of bias and balanced accuracy: `bias`,
        `bias_low`, `bias_high`, `accuracy`, `accuracy_low`, `accuracy_high`.
    """
    trained = next(name for name, kind in METHODS.items() if kind is Standard)
    test = results[results["part"] == "test"]
    rows = []
    for dataset, of_dataset in test.groupby("dataset", sort=False):
        for method in (trained, *compared_methods(results)):
            wanted = "none" if method == trained else rule
            chosen = of_dataset[(of_dataset["method"] == method) & (of_dataset["rule"] == wanted)]
            if chosen.empty:
                continue
            row = {"dataset": dataset, "method": method, "splits": len(chosen), "within": chosen["satisfied"].sum()}
            for column, name in _COLUMNS.items():
                low, median, high = chosen[column].quantile([0.25, 0.5, 0.75])
                row |= {name: median, f"{name}_low": low, f"{name}_high": high}
            rows.append(row)
    return pd.DataFrame(rows)


def before_after_figure(
    results: pd.DataFrame, epsilon: float, path: Path, *, rule: str, suffixes: Sequence[str] = (".png", ".svg")
) -> list[Path]:
    """Draw balanced accuracy against bias on test data: the trained network, and an arrow to each debiased one.

    There is one panel per data set, for the first measure of the table. Lines are quartiles over splits.

    Args:
        results: a table with the columns of `results.csv`.
        epsilon: half the width of the band around a bias of 0.
        path: the path to write to, without a suffix.
        rule: the selection rule of the debiased networks.
        suffixes: the formats to write.

    Returns:
        The paths of the files written; empty if no data set has both a trained and a debiased network.
    """
    measure = results["measure"].iloc[0]
    table = before_after(results[results["measure"] == measure], rule)
    groups = [(name, rows) for name, rows in table.groupby("dataset", sort=False) if len(rows) > 1]
    panels = [(name, rows) for name, rows in groups if METHODS[rows["method"].iloc[0]] is Standard]
    if not panels:
        return []
    splits = table["splits"].max()
    note = (
        f"n of {splits}: splits on which |bias| < {epsilon:g} (shaded). Dots are medians over splits, lines quartiles."
    )
    with figure_style():
        figure, axes = subplots(1, len(panels), SIZE)
        for axis, (dataset, rows) in zip(axes[0], panels, strict=True):
            _panel(axis, rows, epsilon)
            axis.set_title(DATASETS.label(dataset))
            axis.set_xlabel(f"bias ({MEASURES.label(measure)}) on test data")
        axes[0, 0].set_ylabel("balanced accuracy")
        figure.text(0.5, 0.02, note, ha="center", va="bottom", fontsize=8.5, color="0.3")
        figure.tight_layout(w_pad=1.5, rect=(0, 0.06, 1, 1))
        return save_figure(figure, path, suffixes)


def _panel(axis, rows: pd.DataFrame, epsilon: float) -> None:
    """Draw one data set; labels of debiased networks are on the side of the band that no arrow crosses."""
    before, after = rows.iloc[0], rows.iloc[1:]
    side = 1.0 if before["bias"] > 0 else -1.0
    end = 1.1 * max(rows[["bias_low", "bias_high"]].abs().max().max(), 2 * epsilon)
    labels_end = (epsilon + _LABEL_WIDTH * end) / (1 - _LABEL_WIDTH)
    axis.set_xlim(*sorted((-side * labels_end, side * end)))
    low, high = rows["accuracy_low"].min(), rows["accuracy_high"].max()
    span = max(high - low, 0.01)
    axis.set_ylim(low - 0.12 * span, high + 0.25 * span)
    axis.axvspan(-epsilon, epsilon, color=BIAS, alpha=0.12, lw=0)
    axis.axvline(0, color="0.4", lw=0.6)
    axis.xaxis.set_major_locator(MultipleLocator(0.1 if end + labels_end < 0.4 else 0.2))
    axis.yaxis.set_major_locator(MaxNLocator(5))
    for row in after.itertuples():
        arrow = {"arrowstyle": "-|>", "color": colour_of(row.method), "lw": 1.3, "alpha": 0.75, "shrinkB": 4}
        axis.annotate("", (row.bias, row.accuracy), (before["bias"], before["accuracy"]), arrowprops=arrow)
    for row in rows.itertuples():
        _point(axis, row, colour_of(row.method))
    inwards = "right" if side > 0 else "left"
    text = f"trained network\n{before['within']} of {before['splits']}"
    x = before["bias_high" if side > 0 else "bias_low"]
    _text(axis, text, x, before["accuracy_high"], (0, 4), colour_of(before["method"]), ha=inwards, va="bottom")
    for row, height in zip(after.itertuples(), _spread(axis, after["accuracy"]), strict=True):
        text = f"{label(row.method)}\n{row.within} of {row.splits}"
        _text(axis, text, -side * epsilon, height, (-4 * side, 0), colour_of(row.method), ha=inwards, va="center")


def _point(axis, row, colour: str) -> None:
    """Draw a median with the quartiles of bias and accuracy."""
    axis.plot([row.bias_low, row.bias_high], [row.accuracy] * 2, color=colour, lw=1.6)
    axis.plot([row.bias] * 2, [row.accuracy_low, row.accuracy_high], color=colour, lw=1.6)
    axis.plot(row.bias, row.accuracy, "o", color=colour, ms=5.5)


def _text(axis, text: str, x: float, y: float, offset: tuple[float, float], colour: str, **alignment: str) -> None:
    """Write a label at a point, with a white outline so that lines do not cross it."""
    written = axis.annotate(
        text, (x, y), offset, textcoords="offset points", color=colour, fontsize=8.5, linespacing=1.05, **alignment
    )
    written.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _spread(axis, heights: pd.Series) -> list[float]:
    """Move labels apart vertically until they do not overlap, as little as possible, and keep them in the panel."""
    bottom, top = axis.get_ylim()
    least = _SPACING * (top - bottom)
    order = heights.argsort().tolist()
    placed = heights.to_numpy(dtype=float).copy()
    for _ in range(100):
        for below, above in zip(order, order[1:], strict=False):
            overlap = least - (placed[above] - placed[below])
            if overlap > 0:
                placed[above] += overlap / 2
                placed[below] -= overlap / 2
    return placed.clip(bottom + least / 2, top - least / 2).tolist()
