"""Figures of the benchmark: contenders side by side, and how costs grow."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from experiments.benchmarks import clock, fit, view
from experiments.benchmarks.view import OURS, Curve
from fairjax.report.figures import ACCURACY, BIAS, figure_style, save_figure, subplots

GREY = "0.55"
MARKERS = ("o", "s", "^")
ROWS = {
    "evaluation": "evaluate",
    "influence": "influence",
    "drawing rows": "drawing",
}


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Draw all figures for which there are numbers.

    Args:
        results: the content of `bench.json`.
        folder: the folder that the figures are written to.

    Returns:
        The paths of the files written, PNG and SVG.
    """
    written = []
    if any(view.value(results, f"steps/{shape}/{OURS}", "training") for shape in view.shapes(results)):
        written += steps_figure(results, folder / "steps")
    micro = "µs per seed and training step"
    seeds = view.curve(results, "seeds", "training")
    width, depth = (view.curve(results, name, "training") for name in ("width", "depth"))
    rows = {name: view.curve(results, "rows", measure) for name, measure in ROWS.items()}
    compiled = _compilation(results, depth.sizes)
    for name, xlabel, panels in (
        ("seeds", "networks trained at once", {micro: {"training": _scaled(seeds)}}),
        ("rows", "rows", {"seconds": rows}),
        ("width", "units per layer", {micro: {"training": _scaled(width)}}),
        ("depth", "hidden layers", {micro: {"training": _scaled(depth)}, "seconds": {"compilation": compiled}}),
        ("pruned", "units cut", {"µs per seed and pruning step": {"pruning": _scaled(view.pruned(results))}}),
    ):
        measured = {
            unit: {label: curve for label, curve in curves.items() if curve.sizes} for unit, curves in panels.items()
        }
        measured = {unit: curves for unit, curves in measured.items() if curves}
        if measured:
            written += curves_figure(measured, xlabel, folder / name)
    return written


def _scaled(curve: Curve) -> Curve:
    return curve.times([10**6] * len(curve.sizes))


def _compilation(results: dict[str, Any], sizes: list[int]) -> Curve:
    seconds_by_size = {size: view.compilation(results, f"depth/{size}") for size in sizes}
    measured = {size: seconds for size, seconds in seconds_by_size.items() if seconds}
    return Curve(list(measured), [[seconds] for seconds in measured.values()])


def curves_figure(panels: dict[str, dict[str, Curve]], xlabel: str, path: Path) -> list[Path]:
    """Draw costs by size on logarithmic axes, with fitted power laws.

    Args:
        panels: the curves of each panel by name; panels are named by their unit of cost.
        xlabel: the label of the horizontal axis.
        path: the path to write to, without a suffix.

    Returns:
        The files written.
    """
    with figure_style():
        figure, axes = subplots(1, len(panels), (6.0 * len(panels), 4.0))
        for axis, (unit, curves) in zip(axes[0], panels.items(), strict=True):
            for (name, curve), colour, marker in zip(curves.items(), (ACCURACY, BIAS, GREY), MARKERS, strict=False):
                _draw(axis, name, curve, colour, marker)
            axis.set_xscale("log")
            axis.set_yscale("log")
            sizes = sorted({size for curve in curves.values() for size in curve.sizes})
            _ticks(axis, sizes)
            _room(axis, [value for curve in curves.values() for value in curve.medians], len(curves))
            axis.set_xlabel(xlabel)
            axis.set_ylabel(unit)
            axis.grid(alpha=0.25, which="major")
            axis.legend(frameon=False, fontsize=8.5, loc="upper left")
        figure.tight_layout()
        return save_figure(figure, path)


def _draw(axis, name: str, curve: Curve, colour: str, marker: str) -> None:
    medians = np.array(curve.medians)
    spread = np.array([[median - min(raw), max(raw) - median] for raw, median in zip(curve.raw, medians, strict=True)])
    exponent, upper_exponent = fit.exponents(curve.sizes, curve.medians)
    label = name if np.isnan(exponent) else f"{name}: exponent {exponent + 0:.2f} (dashed)"
    label += "" if np.isnan(upper_exponent) else f", upper half {upper_exponent + 0:.2f} (solid)"
    axis.errorbar(curve.sizes, medians, spread.T, color=colour, marker=marker, ms=5, lw=0, elinewidth=1, label=label)
    for sizes, costs, style in ((curve.sizes, medians, "--"), (*fit.upper(curve.sizes, curve.medians), "-")):
        if len(sizes) > 1:
            slope, offset = np.polyfit(np.log(sizes), np.log(costs), 1)
            ends = np.array([min(sizes), max(sizes)])
            axis.plot(ends, np.exp(offset) * ends**slope, style, color=colour, lw=1.1, alpha=0.8)


def _ticks(axis, sizes: list[int]) -> None:
    """Label every size, or some of them if there are many; from 10,000 on keep the default labels at powers of ten."""
    if max(sizes) >= 10_000:
        return
    labelled = sizes[:1]
    for size in sizes[1:]:
        if len(sizes) <= 10 or size >= 2 * labelled[-1]:
            labelled.append(size)
    axis.set_xticks(labelled, [f"{size}" for size in labelled])
    axis.set_xticks([], minor=True)


def _room(axis, values: list[float], curves: int) -> None:
    """Make the axis span most of a decade or more, so that noise does not look like growth, with space for a legend."""
    low, high = np.log10(min(values)), np.log10(max(values))
    extent = max(high - low, 0.8)
    bottom = (low + high - extent) / 2 - 0.08 * extent
    top = bottom + 1.16 * extent + (0.1 + 0.08 * curves) * extent
    axis.set_ylim(10**bottom, 10**top)
    if top - bottom < 2.5:
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_locator(NullLocator())


def steps_figure(results: dict[str, Any], path: Path) -> list[Path]:
    """Draw the training step of every contender and the matrix products, with one panel per table.

    Args:
        results: the content of `bench.json`.
        path: the path to write to, without a suffix.

    Returns:
        The files written.
    """
    shapes = view.shapes(results)
    with figure_style():
        entries = {shape: _entries(results, shape) for shape in shapes}
        height = 0.34 * max(map(len, entries.values())) + 1.2
        same_names = len({tuple(name for name, _ in bars) for bars in entries.values()}) == 1
        size = 3.6 * len(shapes) + 3.0 * (1 if same_names else len(shapes)), height
        figure, axes = subplots(1, len(shapes), size, sharey=same_names)
        for axis, (shape, bars) in zip(axes[0], entries.items(), strict=True):
            for i, (name, raw) in enumerate(bars):
                median = clock.median(raw) * 1e6
                colour = ACCURACY if name == OURS else GREY if name.startswith("the step's") else BIAS
                axis.plot([min(raw) * 1e6, max(raw) * 1e6], [i, i], color=colour, lw=2)
                axis.plot(median, i, "o", color=colour, ms=6)
                axis.annotate(
                    f"{median:,.0f}", (median, i), (0, 6), textcoords="offset points", ha="center", fontsize=8
                )
            axis.set_yticks(range(len(bars)), [name for name, _ in bars])
            axis.set_ylim(len(bars) - 0.5, -0.9)
            axis.set_xscale("log")
            axis.margins(x=0.12)
            axis.grid(axis="x", alpha=0.3)
            axis.set_xlabel("µs per seed and training step")
            axis.set_title(shape)
        figure.tight_layout()
        return save_figure(figure, path)


def _entries(results: dict[str, Any], shape: str) -> list[tuple[str, list[float]]]:
    prefix = f"steps/{shape}/"
    repetitions = [(name, view.raw(results, prefix + name, "training")) for name in view.names(results, prefix)]
    entries = [(name, raw) for name, raw in repetitions if raw]
    products = view.raw(results, f"{prefix}limit", "products")
    return entries + ([("the step's matrix products", products)] if products else [])
