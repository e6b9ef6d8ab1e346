"""Combine all runs of `reproduce` into tables, statistics, figures and the page."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.first_paper import curves, paper_figures, published, reproduce
from experiments.first_paper.settings import Reproduce
from fairjax.report import figures, html, statistics
from fairjax.report.results_table import main_rule
from fairjax.runs import labels
from fairjax.runs.files import write_json, write_text
from fairjax.runs.identity import plain
from fairjax.selection import ConstrainedObjective, ExpectedObjective

EPSILONS = tuple(np.round(np.linspace(0.01, 0.3, 30), 2).tolist())
"""Bounds of the curves of accuracy against bias."""

FRONTIER_RULES = {
    "objective": lambda epsilon: ConstrainedObjective(epsilon=epsilon, margin=0.2 * epsilon),
    "expected": lambda epsilon: ExpectedObjective(epsilon=epsilon),
}
"""Selection rules for a bound; the margin is proportional to the bound, 0.01 at 0.05."""


def write(settings: Reproduce, missing: list[str]) -> list[Path]:
    """Write everything that is computed from the finished runs.

    Args:
        settings: the settings of the reproduction.
        missing: the data sets that were left out.

    Returns:
        The paths of the files written.

    Raises:
        ValueError: if there is nothing to summarise.
    """
    out, epsilon = settings.out, settings.each.selection.epsilon
    gather = functools.partial(reproduce.gathered, settings)
    results, trajectories = (gather(name, simulated=False) for name in (reproduce.RESULTS, reproduce.TRAJECTORIES))
    written = []

    def text(name: str, content: str) -> None:
        write_text(out / name, content)
        written.append(out / name)

    def table(name: str, frame: pd.DataFrame) -> None:
        text(name, frame.to_csv(index=False, float_format="%.6g"))

    if not results.empty:
        main = main_rule(results)
        table("results.csv", results)
        tables_md, tables_csv = published.write(results)
        text("tables.md", tables_md)
        text("tables.csv", tables_csv)
        for name, frame in statistics.everything(results, epsilon, labels.needs_group).items():
            table(f"statistics/{name}.csv", frame)
        points = curves.pareto(trajectories, FRONTIER_RULES, EPSILONS)
        points["front"] = curves.front(points)
        table("statistics/pareto.csv", points)
        first = results["dataset"] == ("compas" if "compas" in set(results["dataset"]) else results["dataset"].iloc[0])
        for name, some in (("figure1", first), ("figure2", ~first)):
            lines = trajectories[trajectories["dataset"].isin(set(results.loc[some, "dataset"]))]
            written += figures.trajectories_figure(lines, results[some], epsilon, out / "figures" / name)
        written += figures.objectives_figure(results, out / "figures" / "objectives", main=main)
        mine = points[points["rule"] == "objective"]
        written += paper_figures.pareto_figure(mine, results, out / "figures" / "pareto")
    simulated = gather(reproduce.TRAJECTORIES, simulated=True)
    if not simulated.empty:
        margin = settings.each.selection.margin
        rule = functools.partial(ConstrainedObjective, margin=margin)
        points = curves.sensitivity(simulated, lambda bound: rule(epsilon=bound), (0.05, 0.10))
        table("statistics/sensitivity.csv", points)
        written += paper_figures.sensitivity_figure(points, out / "figures" / "figure3")
    if not written:
        raise ValueError(
            f"nothing to summarise: the files of {', '.join(missing) or 'no data set'} are not there and no "
            "simulation was asked for; set FAIRJAX_DATA to the folder of raw files"
        )
    write_json(out / "run.json", provenance(settings, missing))
    if not results.empty:
        written.append(html.write(out, published.EXTRAS))
    return written


def provenance(settings: Reproduce, missing: list[str]) -> dict[str, Any]:
    """Return settings, versions, devices and timings from the files of the runs."""
    runs = {}
    for one in (one for some in reproduce.plan(settings) for one in some):
        file = reproduce.folder_of(one) / reproduce.PROVENANCE
        if file.exists():
            runs[f"{one.folder.relative_to(settings.out)}/{one.measure}"] = json.loads(file.read_text(encoding="utf-8"))
    return {"settings": plain(settings), "left_out": missing, "runs": runs}
