"""Figures of the page on text classifiers."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fairjax.report.detect_figures import GROUPS


def name_scores_figure(people: pd.DataFrame) -> Figure:
    """Draw the mean score of every name, by group.

    Args:
        people: one row per name with `people`, `person`, `white`, `male` and `score`.
    """
    groups = [(white, male) for white in (True, False) for male in (False, True)]
    figure = Figure(figsize=(7.6, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (name, title) in zip(axes, (("names", "names"), ("new names", "new names")), strict=True):
        rows = people[people["people"] == name]
        for place, (white, male) in enumerate(groups):
            scores = rows[(rows["white"] == white) & (rows["male"] == male)]["score"].to_numpy()
            spread = place + np.linspace(-0.22, 0.22, len(scores)) if len(scores) > 1 else np.array([place])
            axis.plot(spread, np.sort(scores), "o", ms=4.5, color=GROUPS[int(white)], alpha=0.8)
            axis.hlines(scores.mean(), place - 0.32, place + 0.32, color="black", lw=1.3)
        axis.set_xticks(range(4), [f"{'white' if w else 'Black'}\n{'men' if m else 'women'}" for w, m in groups])
        axis.set_title(title, fontsize=10)
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("mean score of template sentences")
    return figure


def tests_figure(tests: pd.DataFrame) -> Figure:
    """Draw the difference between groups of names with intervals over names, for all networks together and each.

    Args:
        tests: one row per seed (`all` for the mean score over networks), `people` and `attribute`.
    """
    labels = list(dict.fromkeys(zip(tests["attribute"], tests["people"], strict=True)))
    figure = Figure(figsize=(7.6, 0.42 * len(labels) + 1.1), layout="constrained")
    axis = figure.subplots()
    for place, (attribute, people) in enumerate(labels):
        rows = tests[(tests["attribute"] == attribute) & (tests["people"] == people)]
        whole = rows["seed"].astype(str) == "all"
        axis.plot(rows[~whole]["difference"], np.full((~whole).sum(), place + 0.2), "o", ms=3.2, color="0.6")
        row = rows[whole].iloc[0]
        axis.hlines(place, row["low"], row["high"], color=GROUPS[0], lw=2.2)
        axis.plot(row["difference"], place, "o", color=GROUPS[0], ms=6)
    axis.axvline(0, color="0.3", lw=0.8)
    axis.set_yticks(range(len(labels)), [f"{attribute}, {people}" for attribute, people in labels])
    axis.invert_yaxis()
    axis.set_xlabel("difference of mean scores: Black less white names, women less men")
    axis.grid(axis="x", alpha=0.3)
    return figure
