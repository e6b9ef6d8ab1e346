"""Figure 1 of the first paper from `trajectories.csv`: bias and balanced accuracy while a method runs."""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from experiments.folder import atomic
from experiments.tables import LABELS

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  (after the choice of a back end without a screen)

BIAS, ACCURACY = "#c1440e", "#1f5f8b"
XLABELS = {"pruning": "pruning step", "bias_gda": "epoch"}


def trajectories_figure(trajectories: pd.DataFrame, selected: pd.DataFrame, epsilon: float, path: Path) -> list[Path]:
    """Draw the curves on test data, one panel a method: the median over seeds bold, the seeds thin.

    Args:
        trajectories: as in `trajectories.csv`.
        selected: as in `results.csv`; its selected steps are marked.
        epsilon: the band that is drawn around a bias of 0.
        path: where to write, without a suffix.

    Returns:
        The files written, PNG and SVG; none if no method has steps.
    """
    test = trajectories[trajectories["part"] == "test"]
    methods = [method for method, group in test.groupby("method", sort=False) if group["step"].max() > 0]
    if not methods:
        return []
    style = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "fairjax"}
    with plt.rc_context(style):
        figure, axes = plt.subplots(1, len(methods), figsize=(5.2 * len(methods), 3.9), squeeze=False, sharey=True)
        for axis, method in zip(axes[0], methods, strict=True):
            chosen = selected[(selected["method"] == method) & (selected["part"] == "test")]
            _panel(axis, test[test["method"] == method], chosen, epsilon)
            axis.set_title(LABELS.get(method, method))
            axis.set_xlabel(XLABELS.get(method, "step"))
        axes[0, 0].set_ylabel("on test data")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False)
        first = test.iloc[0]
        figure.suptitle(f"{first['dataset']}: {test['seed'].nunique()} splits; bold: median, thin: single splits")
        figure.tight_layout(rect=(0, 0.07, 1, 1))
        written = []
        for suffix in (".png", ".svg"):
            target = path.with_suffix(suffix)
            with atomic(target) as temporary:
                figure.savefig(temporary, dpi=150, metadata={"Date": None} if suffix == ".svg" else None)
            written.append(target)
        plt.close(figure)
    return written


def _panel(axis, curves: pd.DataFrame, chosen: pd.DataFrame, epsilon: float) -> None:
    measure = curves["measure"].iloc[0].upper()
    axis.axhspan(-epsilon, epsilon, color=BIAS, alpha=0.10, lw=0, label=f"|{measure}| < {epsilon:g}")
    axis.axhline(0, color="0.4", lw=0.6)
    for column, colour, name in (("balanced_accuracy", ACCURACY, "balanced accuracy"), ("bias", BIAS, measure)):
        table = curves.pivot(index="step", columns="seed", values=column)
        axis.plot(table.index, table.to_numpy(), color=colour, lw=0.5, alpha=0.3)
        axis.plot(table.index, table.median(axis=1), color=colour, lw=2.2, label=name)
    middle = float(np.median(chosen["selected"]))
    axis.axvline(middle, color="0.35", lw=0.9, ls=":", label="median selected step")
    axis.set_xlim(0, curves["step"].max())
