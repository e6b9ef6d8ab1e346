"""Figures of the page of `detect`, and what each shows, in words."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fairjax.report.detect_summary import over_seeds

GROUPS = ("#0072b2", "#d55e00")
"""Colours of the two groups, which readers with colour blindness can tell apart."""
LOWER, HIGHER, TOTAL, OTHER = "#0072b2", "#d55e00", "0.35", "0.7"
MOST = 12
"""Maximum number of variables of a figure; the others are summed."""


def waterfall(bias: pd.DataFrame, gap: float, low: float, high: float, groups: Sequence[str]) -> Figure:
    """Draw how the parts of the variables add up to the gap of mean logits.

    Args:
        bias: the table `bias_by_variable`, largest differences first.
        gap: the gap that the differences sum to.
        low: the lower end of its interval.
        high: the upper end.
        groups: names of the two groups.
    """
    steps = waterfall_steps(bias, gap)
    figure = _figure(7.6, 0.34 * len(steps) + 1.3)
    axis = figure.subplots()
    place = np.arange(len(steps))
    colours = np.where(steps["part"] < 0, LOWER, HIGHER).astype(object)
    colours[steps["kind"] == "rest"] = OTHER
    colours[steps["kind"] == "total"] = TOTAL
    axis.barh(place, steps["part"], left=steps["start"], color=list(colours), height=0.66)
    ends = (steps["start"] + steps["part"]).to_numpy()
    axis.vlines(ends[:-1], place[:-1] + 0.33, place[1:] + 0.33, color="0.5", lw=0.7)
    bounds = np.stack([steps["start"] + steps["low"], steps["start"] + steps["high"]])
    bounds[:, -1] = low, high
    axis.hlines(place, *bounds, color="black", lw=1.1)
    axis.axvline(0, color="0.3", lw=0.8)
    known = np.concatenate([ends, [0.0], bounds[~np.isnan(bounds)]])
    margin = 0.16 * (known.max() - known.min() or 1.0)
    axis.set_xlim(known.min() - margin, known.max() + margin)
    for y, row in enumerate(steps.itertuples()):
        right = max(row.start, row.start + row.part, *(edge for edge in bounds[:, y] if not np.isnan(edge)), -np.inf)
        axis.text(right + 0.02 * margin / 0.16, y, f"{row.part:+.2f}", va="center", fontsize=8.5)
    axis.set_yticks(place, [shortened(name) for name in steps["variable"]])
    axis.invert_yaxis()
    axis.set_xlabel(f"difference of mean logits, {groups[0]} less {groups[1]}")
    axis.grid(axis="x", alpha=0.3)
    return figure


def waterfall_steps(bias: pd.DataFrame, gap: float, most: int = MOST) -> pd.DataFrame:
    """Return the bars of the waterfall: the largest parts, the sum of the others, and the total.

    Args:
        bias: the table `bias_by_variable`, largest differences first.
        gap: the gap.
        most: maximum number of variables; a single further one is shown too.

    Returns:
        A table with `variable`, `kind` (part, rest or total), `part`, `start` (where the bar begins), `low`, `high`.

    Example:
        >>> bias = pd.DataFrame({"variable": ["a", "b"], "difference": [2.0, -0.5], "low": [1, -1], "high": [3, 0]})
        >>> waterfall_steps(bias, 1.5)[["variable", "part", "start"]].values.tolist()
        [['a', 2.0, 0.0], ['b', -0.5, 2.0], ['all variables', 1.5, 0.0]]
    """
    top = bias if len(bias) <= most + 1 else bias.head(most)
    steps = top[["variable", "difference", "low", "high"]].rename(columns={"difference": "part"}).assign(kind="part")
    rest = bias.iloc[len(top) :]
    rows = []
    if len(rest):
        part = rest["difference"].sum()
        rows.append({"variable": f"{len(rest)} others", "part": part, "low": np.nan, "high": np.nan, "kind": "rest"})
    rows.append({"variable": "all variables", "part": gap, "low": np.nan, "high": np.nan, "kind": "total"})
    steps = pd.concat([steps, pd.DataFrame(rows)], ignore_index=True)
    steps["start"] = np.append(0.0, steps["part"].cumsum().to_numpy()[:-1])
    steps.loc[steps.index[-1], "start"] = 0.0
    return steps


def shortened(name: str, most: int = 34) -> str:
    """Cut a long name of a variable for the axis of a figure.

    Example:
        >>> shortened("a" * 40)
        'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…'
    """
    return name if len(name) <= most else f"{name[: most - 1]}…"


def proxies_figure(proxies: pd.DataFrame, attribute: str) -> Figure:
    """Draw importance against association with the group, with the names of the variables that stand out.

    Args:
        proxies: one row per variable with `variable`, `strength`, `importance` and `sensitive`, means over seeds.
        attribute: name of the variable that is the protected attribute; empty if it is not a feature.
    """
    known = proxies[proxies["strength"].notna() & proxies["importance"].notna()]
    figure = _figure(6.6, 4.4)
    axis = figure.subplots()
    sensitive = known["sensitive"] >= 0.5
    for chosen, colour, name in ((sensitive, HIGHER, "sensitive"), (~sensitive, "0.55", "other")):
        axis.plot(known["strength"][chosen], known["importance"][chosen], "o", color=colour, ms=5, label=name)
    axis.axvline(0.1, color="0.4", lw=0.9, ls=":", label="association 0.1")
    named = known.assign(score=known["strength"].rank() + known["importance"].rank())
    named = named[sensitive | (named["importance"].rank(ascending=False) <= 3)].nlargest(12, "score")
    height = known["importance"].max()
    height = height if height > 0 else 1.0
    used: list[tuple[float, float]] = []
    for row in named.sort_values("importance", ascending=False).itertuples():
        y = row.importance
        while any(abs(x - row.strength) < 0.3 and abs(other - y) < 0.045 * height for x, other in used):
            y -= 0.01 * height
        used.append((row.strength, y))
        text = shortened(row.variable, 22) + (" (attribute)" if row.variable == attribute else "")
        right = row.strength > 0.6
        axis.annotate(
            text,
            (row.strength, y),
            xytext=(-7 if right else 7, 0),
            textcoords="offset points",
            ha="right" if right else "left",
            va="center",
            fontsize=8.5,
        )
    axis.set_xlabel("association with the group (0: none, 1: the group itself)")
    axis.set_ylabel("importance: mean |attribution|, in logits")
    axis.set_xlim(-0.02, 1.05)
    axis.set_ylim(bottom=min(0.0, *(y for _, y in used), 0.0) - 0.03 * height)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=8.5, loc="upper right", bbox_to_anchor=(1.0, 1.12), ncols=3)
    return figure


def effects_figure(effects: pd.DataFrame, groups: Sequence[str]) -> Figure:
    """Draw the mean change of the score by perturbation and group, with intervals over seeds."""
    means = over_seeds(effects, ["perturbation", "group"], "mean_effect")
    names = list(dict.fromkeys(effects["perturbation"]))
    figure = _figure(7.6, 0.45 * len(names) + 1.3)
    axis = figure.subplots()
    for g, (group, colour) in enumerate(zip(groups, GROUPS, strict=True)):
        place = np.arange(len(names)) + (g - 0.5) * 0.26
        rows = [means.loc[(name, group)] if (name, group) in means.index else None for name in names]
        values = np.array([np.nan if row is None else row["mean"] for row in rows])
        bounds = [(np.nan, np.nan) if row is None else (row["low"], row["high"]) for row in rows]
        axis.hlines(place, *np.array(bounds).T, color=colour, lw=2, alpha=0.55)
        axis.plot(values, place, "o", color=colour, ms=5, label=group)
    axis.axvline(0, color="0.3", lw=0.8)
    axis.set_yticks(np.arange(len(names)), [shortened(name, 44) for name in names])
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlabel("mean change of the score")
    axis.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def layers_figure(probes: pd.DataFrame, tcav: pd.DataFrame) -> Figure:
    """Draw probes, TCAV scores and sensitivities by layer, one dot per seed."""
    layers = [layer for layer in dict.fromkeys(probes["layer"]) if layer != "input"]
    figure = _figure(max(6.4, 0.62 * len(layers) + 2.4), 8.2)
    first, second, third = figure.subplots(3, 1, sharex=True)
    _strip(first, probes, layers, "untrained_balanced_accuracy", OTHER, "random weights", -0.17)
    _strip(first, probes, layers, "balanced_accuracy", GROUPS[0], "trained", 0.0)
    given = probes.loc[probes["layer"] == "input", "balanced_accuracy"]
    if given.notna().any():
        first.axhline(given.mean(), color="0.3", lw=1, ls="--", label="input")
    first.axhline(0.5, color="0.3", lw=0.9, ls=":", label="chance")
    first.set_ylabel("probe: balanced accuracy")
    first.set_ylim(0.45, 1.03)
    _strip(second, tcav, layers, "random_score", OTHER, "random directions", -0.17)
    _strip(second, tcav, layers, "score", GROUPS[0], "direction of the group", 0.0)
    second.axhline(0.5, color="0.3", lw=0.9, ls=":")
    second.set_ylabel("TCAV score")
    second.set_ylim(-0.04, 1.04)
    _strip(third, tcav, layers, "sensitivity", GROUPS[0], "direction of the group", 0.0)
    third.axhline(0, color="0.3", lw=0.9)
    third.set_ylabel("sensitivity, logits per unit")
    degenerate = degenerate_layers(tcav)
    for i, layer in enumerate(layers):
        if layer in degenerate:
            second.axvspan(i - 0.45, i + 0.45, color="#f0e2b6", lw=0, zorder=0)
            second.text(i, 0.5, "degenerate", rotation=90, ha="center", va="center", fontsize=8, color="0.35")
    third.set_xticks(
        range(len(layers)), layers, rotation=40 if len(layers) > 4 else 0, ha="right" if len(layers) > 4 else "center"
    )
    third.set_xlim(-0.6, len(layers) - 0.4)
    for axis in (first, second, third):
        axis.grid(axis="y", alpha=0.3)
    first.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False, fontsize=8.5)
    second.legend(loc="lower center", bbox_to_anchor=(0.5, 0.98), ncols=2, frameon=False, fontsize=8.5)
    return figure


def degenerate_layers(tcav: pd.DataFrame) -> set[str]:
    """Return the layers at which TCAV is degenerate for some network."""
    notes = tcav["note"].fillna("").astype(str)
    return set(tcav.loc[notes.str.startswith("degenerate"), "layer"])


def _strip(
    axis: Any, table: pd.DataFrame, layers: Sequence[str], column: str, colour: str, name: str, to: float
) -> None:
    """Draw one dot per seed and layer, and a line at the median."""
    if column not in table.columns or table[column].notna().sum() == 0:
        return
    for i, layer in enumerate(layers):
        values = table.loc[table["layer"] == layer, column].dropna().to_numpy(float)
        if not len(values):
            continue
        spread = np.linspace(-0.07, 0.07, len(values)) if len(values) > 1 else np.zeros(1)
        axis.plot(i + to + spread, values, "o", color=colour, ms=3.4, alpha=0.6, label=name if i == 0 else None)
        axis.hlines(np.median(values), i + to - 0.12, i + to + 0.12, color=colour, lw=2.2)


QUALITY = {
    "accuracy": "accuracy",
    "true_positive_rate": "TPR",
    "false_positive_rate": "FPR",
    "precision": "precision",
    "auc": "AUC",
    "calibration_error": "calibration error",
}
"""Measures that are drawn, and how they are called."""


def estimable(quality: pd.DataFrame) -> list[str]:
    """Return the measures that are known of some group."""
    return [name for name in QUALITY if name in quality.columns and quality[name].notna().any()]


def quality_figure(quality: pd.DataFrame) -> Figure:
    """Draw the quality of each group: dots are seeds, lines the mean of the intervals over rows."""
    groups = list(dict.fromkeys(quality["group"]))
    measures = estimable(quality)
    columns = min(3, len(measures))
    lines = -(-len(measures) // columns)
    figure = _figure(8.6, (0.34 * len(groups) + 1.0) * lines)
    axes = np.atleast_1d(figure.subplots(lines, columns, sharey=True, squeeze=False)).ravel()
    for axis in axes[len(measures) :]:
        axis.axis("off")
    for axis, name in zip(axes, measures, strict=False):
        for i, group in enumerate(groups):
            rows = quality[quality["group"] == group]
            values = rows[name].dropna().to_numpy(float)
            low, high = rows[f"{name}_low"].mean(), rows[f"{name}_high"].mean()
            if not len(values):
                continue
            if not np.isnan(low):
                axis.hlines(i, low, high, color="#1f5f8b", lw=3, alpha=0.35)
            axis.plot(values, i + np.linspace(-0.16, 0.16, len(values)), "o", color="#1f5f8b", ms=2.6, alpha=0.5)
            axis.plot(values.mean(), i, "o", color="#1f5f8b", ms=6)
        axis.set_title(QUALITY[name], fontsize=10)
        axis.set_ylim(len(groups) - 0.5, -0.5)
        axis.grid(axis="x", alpha=0.3)
    for axis in axes[::columns]:
        axis.set_yticks(range(len(groups)), [shortened(name, 30) for name in groups])
    return figure


def maps_figure(maps: pd.DataFrame, images: pd.DataFrame, groups: Sequence[str]) -> Figure:
    """Draw the mean image and the mean map of each group, and the difference of the maps."""
    size = int(images["row"].max()) + 1, int(images["column"].max()) + 1
    pictures = [grid_of(images[images["group"] == group], "brightness") for group in groups]
    means = [grid_of(maps, f"mean, {group}") for group in groups]
    difference = grid_of(maps, "difference")
    figure = _figure(9.0, 2.4)
    axes = figure.subplots(1, 5)
    for axis, picture, group in zip(axes, pictures, groups, strict=False):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=greatest(*pictures) or 1)
        axis.set_title(f"mean image\n{group}", fontsize=9)
    top = greatest(*means) or 1.0
    extent = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
    for axis, mean, group in zip(axes[2:], means, groups, strict=False):
        shown = axis.imshow(mean, cmap="viridis", vmin=0, vmax=top, extent=extent)
        axis.set_title(f"mean map\n{group}", fontsize=9)
    figure.colorbar(shown, ax=axes[3], shrink=0.6)
    edge = greatest(np.abs(difference)) or 1.0
    shown = axes[4].imshow(difference, cmap="RdBu_r", vmin=-edge, vmax=edge, extent=extent)
    axes[4].set_title("difference\nof the maps", fontsize=9)
    figure.colorbar(shown, ax=axes[4], shrink=0.6)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    return figure


def greatest(*grids: np.ndarray) -> float:
    """Return the greatest number of grids; 0 if all is missing.

    Example:
        >>> greatest(np.array([[0.5, np.nan]]), np.array([[np.nan]])), greatest(np.array([np.nan]))
        (0.5, 0.0)
    """
    known = np.concatenate([grid[~np.isnan(grid)] for grid in grids])
    return float(known.max()) if known.size else 0.0


def grid_of(table: pd.DataFrame, column: str) -> np.ndarray:
    """Arrange a column of a table with `row` and `column` as a grid, averaged over seeds.

    Example:
        >>> table = pd.DataFrame({"row": [0, 0, 0, 0], "column": [0, 1, 0, 1], "value": [1.0, 2.0, 3.0, 4.0]})
        >>> grid_of(table, "value").tolist()
        [[2.0, 3.0]]
    """
    return table.pivot_table(index="row", columns="column", values=column, aggfunc="mean", dropna=False).to_numpy()


def _figure(width: float, height: float) -> Any:
    return Figure(figsize=(width, height), layout="constrained")
