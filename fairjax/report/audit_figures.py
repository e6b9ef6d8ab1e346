"""Figures of an audit: gaps, rates, calibration, and rates at all thresholds; and what each shows, in words."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fairjax.auditing.counts import Counts
from fairjax.auditing.group_rates import report
from fairjax.auditing.score_quality import OF_THRESHOLDS, calibration, thresholds
from fairjax.metrics import MEASURES
from fairjax.metrics.group_report import RATES, rate_from_table

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7a6a00", "#6a3d9a", "#8b3a3a", "#444444")
"""Colours that readers with colour blindness can tell apart (after Okabe and Ito), dark enough for lines on white."""
STYLES = ("-", "--", ":", "-.")
"""Styles of lines, for more groups than colours."""
MOST = 12
"""Maximum number of groups that are drawn as lines in one panel."""


def gaps_figure(gaps: pd.DataFrame) -> Figure:
    """Draw the magnitude of every gap with its interval, and what chance alone would show."""
    known = gaps[gaps["gap"].notna()].reset_index(drop=True)
    figure = _figure(7.2, 0.42 * len(known) + 1.2)
    axis = figure.subplots()
    place = np.arange(len(known))
    sign = np.sign(known["gap"]).replace(0, 1)
    ends = np.stack([known["low"] * sign, known["high"] * sign])
    axis.barh(place, known["chance"], height=0.62, color="0.88", edgecolor="0.5", lw=0.8, label="chance alone, 95%")
    axis.hlines(place, ends.min(axis=0), ends.max(axis=0), color="#1f5f8b", lw=2.2, alpha=0.65, label="95% interval")
    axis.plot(known["gap"].abs(), place, "o", color="#1f5f8b", label="gap")
    names = [f"{MEASURES.label(row.measure)} by {row.groups}" for row in known.itertuples()]
    axis.set_yticks(place, names)
    axis.invert_yaxis()
    axis.set_xlim(left=0)
    axis.set_xlabel("magnitude of the gap")
    axis.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def gaps_text(gaps: pd.DataFrame) -> str:
    """Say what the figure of the gaps shows."""
    known = gaps[gaps["gap"].notna()]
    largest = known.loc[known["gap"].abs().idxmax()]
    text = (
        f"Gaps with their intervals. The largest is {MEASURES.label(largest['measure'])} by {largest['groups']}, "
        f"{abs(largest['gap']):.3f}."
    )
    simulated = known[known["chance"].notna()]
    if simulated.empty:
        return text
    above = simulated[simulated["gap"].abs() > simulated["chance"]]
    names = [f"{MEASURES.label(row.measure)} by {row.groups}" for row in above.itertuples()]
    return f"{text} Above what chance alone would show: {', '.join(names) or 'none'}."


def rates_figure(counts: Counts, minimum: int) -> Figure:
    """Draw the rates of each group with their intervals."""
    return report(counts, minimum).plot()


def rates_text(counts: Counts, minimum: int) -> str:
    """Say what the figure of the rates shows."""
    rates = report(counts, minimum)
    extremes = [
        f"{name.replace('_', ' ')} {extent(rates.names, getattr(rates, name), rates.compared(name))}"
        for name in OF_THRESHOLDS
    ]
    return f"Rates by {counts.title} with intervals: {'; '.join(extremes)}."


def extent(names: Sequence[str], values: np.ndarray, compared: np.ndarray) -> str:
    """Say between which values a number is, and for which groups, of those that are compared.

    Example:
        >>> extent(["f", "m", "other"], np.array([0.4, 0.5, 0.9]), np.array([True, True, False]))
        'from 0.40 (f) to 0.50 (m)'
    """
    known = np.where(compared, values, np.nan)
    if np.isnan(known).all():
        return "in no group with enough rows"
    low, high = int(np.nanargmin(known)), int(np.nanargmax(known))
    if low == high:
        return f"{known[low]:.2f} ({names[low]})"
    return f"from {known[low]:.2f} ({names[low]}) to {known[high]:.2f} ({names[high]})"


def calibration_figure(counts: Counts) -> Figure:
    """Draw the share of positive labels in each tenth of the scores, one line per group."""
    figure = _figure(5.6, 4.4)
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="0.5", lw=1, label="calibrated")
    table = calibration(counts)
    for i, name in enumerate(_drawn(counts)):
        rows = table[(table["group"] == name) & table["positive_rate"].notna()]
        style = _line(i)
        axis.plot(rows["mean_score"], rows["positive_rate"], marker="o", ms=4, label=name, **style)
        axis.fill_between(rows["mean_score"], rows["low"], rows["high"], color=style["color"], alpha=0.10, lw=0)
    axis.set_xlabel("mean score")
    axis.set_ylabel("share of positive labels")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=8.5)
    return figure


def calibration_text(counts: Counts, minimum: int) -> str:
    """Say what the figure of the calibration shows."""
    rates = report(counts, minimum)
    assert rates.calibration_error is not None
    errors = extent(rates.names, rates.calibration_error, rates.compared("selection_rate"))
    return (
        f"Share of positive labels against the mean score, one line per group of {counts.title}. The mean distance "
        f"from calibrated scores is {errors}."
    )


def thresholds_figure(counts: Counts, threshold: float, minimum: int) -> Figure:
    """Draw the rates of the groups, and the differences between the greatest and the least, at all thresholds."""
    cuts, tables = thresholds(counts)
    compared = report(counts, minimum)
    figure = _figure(7.2, 6.0)
    axes = figure.subplots(2, 2, sharex=True)
    drawn = _drawn(counts)
    for axis, rate in zip(axes.flat, OF_THRESHOLDS, strict=False):
        values = rate_from_table(RATES[rate], tables).T  # groups, thresholds
        for i, name in enumerate(drawn):
            axis.plot(cuts, values[counts.names.index(name)], lw=1.6, label=name, **_line(i))
        axis.set_title(rate.replace("_", " "), fontsize=10)
        inside = values[compared.compared(rate)]
        if len(inside) > 1:
            axes[1, 1].plot(
                cuts, np.ptp(inside, axis=0), lw=1.6, label=rate.replace("_", " "), color=_GAP_COLOURS[rate]
            )
    axes[1, 1].set_title("difference of the greatest and least rate", fontsize=10)
    axes[1, 1].legend(frameon=False, fontsize=8)
    for axis in axes.flat:
        axis.axvline(threshold, color="0.4", lw=0.9, ls=":")
        axis.grid(alpha=0.3)
    for axis in axes.flat[:3]:
        axis.set_ylim(-0.02, 1.02)
    axes[1, 1].set_ylim(bottom=0)
    for axis in axes[1]:
        axis.set_xlabel("threshold")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)), frameon=False, fontsize=8.5)
    return figure


def thresholds_text(counts: Counts, threshold: float, minimum: int) -> str:
    """Say what the figure of the thresholds shows."""
    cuts, tables = thresholds(counts)
    text = f"Rates by {counts.title} at thresholds from 0 to 1; the one in use is {threshold:g}."
    compared = report(counts, minimum)
    for rate in OF_THRESHOLDS:
        inside = rate_from_table(RATES[rate], tables).T[compared.compared(rate)]
        if len(inside) > 1:
            spread = np.ptp(inside, axis=0)
            most, used = int(np.argmax(spread)), int(np.argmin(np.abs(cuts - threshold)))
            text += (
                f" The {rate.replace('_', ' ')} differs most, by {spread[most]:.2f}, at {cuts[most]:g}, and by "
                f"{spread[used]:.2f} at {cuts[used]:g}."
            )
    return text


_GAP_COLOURS = {"selection_rate": "#1f5f8b", "true_positive_rate": "#2e7d32", "false_positive_rate": "#c1440e"}


def _line(number: int) -> dict[str, Any]:
    """Return colour and style of the line of a group."""
    return {"color": COLOURS[number % len(COLOURS)], "ls": STYLES[number // len(COLOURS) % len(STYLES)]}


def _drawn(counts: Counts) -> list[str]:
    """Return the groups that are drawn: all, or the largest."""
    rows = counts.rows.sum(axis=(0, 1))
    largest = set(np.argsort(-rows, kind="stable")[:MOST].tolist())
    return [name for g, name in enumerate(counts.names) if g in largest and rows[g] > 0]


def _figure(width: float, height: float) -> Any:
    return Figure(figsize=(width, height), layout="constrained")
