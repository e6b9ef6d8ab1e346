"""The figure of `quality`: the gap in accuracy between groups against the accuracy of all rows."""

from pathlib import Path

import pandas as pd

from fairjax.report.figures import figure_style, save_figure, subplots

_COLOURS = (
    "0.15", "#1f5f8b", "#6aa2cc", "#7a9a01", "#2e7d32", "#d4a017", "#b5894b", "#c1440e", "#8e44ad", "#0b7a75",
    "#5fc0b8", "#d1477a",
)  # fmt: skip
_MARKERS = "osDv^P*X<>phd"


def gap_figure(found: pd.DataFrame, labels: dict[str, str], titles: dict[str, str], path: Path) -> list[Path]:
    """Draw the gap against accuracy, with 95 % intervals over seeds, one panel per data set.

    Args:
        found: the summary: accuracy and gap of each row with the ends of their intervals.
        labels: labels of the rows by name, all that any data set has.
        titles: titles of the data sets by name.
        path: path of the figure.

    Returns:
        The paths of the files written.
    """
    datasets = list(dict.fromkeys(found["dataset"]))
    with figure_style():
        figure, axes = subplots(1, len(datasets), (4.2 * len(datasets) + 2.4, 3.9))
        drawn = {}
        for axis, dataset in zip(axes[0], datasets, strict=True):
            for line in found[found["dataset"] == dataset].itertuples():
                place = list(labels).index(line.row)
                drawn[line.row] = axis.errorbar(
                    line.accuracy,
                    line.gap,
                    xerr=[[line.accuracy - line.accuracy_low], [line.accuracy_high - line.accuracy]],
                    yerr=[[line.gap - line.gap_low], [line.gap_high - line.gap]],
                    fmt=_MARKERS[place % len(_MARKERS)],
                    color=_COLOURS[place % len(_COLOURS)],
                    markersize=7,
                    linewidth=1,
                )
            axis.set_title(titles[dataset])
            axis.set_xlabel("accuracy of all test rows")
            axis.set_ylim(bottom=0)
        axes[0, 0].set_ylabel("gap in accuracy between groups")
        shown = [name for name in labels if name in drawn]
        figure.tight_layout(rect=(0, 0, 1 - 2.2 / figure.get_figwidth(), 1))
        figure.legend(
            [drawn[name] for name in shown],
            [labels[name] for name in shown],
            loc="center right",
            frameon=False,
            fontsize=9,
        )
        return save_figure(figure, path)
