"""Reproduce all data sets, measures and methods of the first paper, and compare further methods.

    DIR/DATASET/                 trained networks, shared by the measures
    DIR/DATASET/MEASURE/         results.csv, trajectories.csv.gz, run.json, states
    DIR/simulations/DATASET/...  the same for Figure 3: simulations for all parameter values
    DIR/results.csv, tables.md, tables.csv, statistics/, figures/, report.html: the combined results

Finished runs are not repeated, so an interrupted reproduction can be resumed and data sets can be added later.
"""

import dataclasses
import time
from contextlib import ExitStack, closing
from pathlib import Path

import jax
import pandas as pd
from rich.console import Console

from experiments.first_paper.before_after import before_after_figure
from experiments.first_paper.settings import Reproduce
from fairjax.runs import hosts, results
from fairjax.runs.context import RunContext, fingerprint, open_run
from fairjax.runs.debiasing import debias_all
from fairjax.runs.files import atomic, write_json, write_text
from fairjax.runs.folder import RunFolder
from fairjax.runs.identity import identity, training_identity
from fairjax.runs.provenance import provenance
from fairjax.runs.settings import Settings
from fairjax.runs.training import prepare
from fairjax.runs.trials import Outcome

RESULTS, TRAJECTORIES, PROVENANCE = "results.csv", "trajectories.csv.gz", "run.json"


def run(settings: Reproduce, console: Console) -> list[str]:
    """Complete all runs that are not finished yet.

    Args:
        settings: the settings of the reproduction.
        console: the console that shows progress.

    Returns:
        The data sets that were left out because their files were not found.
    """
    missing = []
    for each in plan(settings):
        try:
            _dataset(each, settings, console)
        except FileNotFoundError as error:
            missing.append(each[0].dataset)
            console.print(f"{each[0].dataset} is left out: {error}", style="yellow", markup=False)
        jax.clear_caches()  # later runs have other shapes, so these programs are no longer needed
    if hosts.is_primary():
        _draw_before_after(settings)
    return missing


def _draw_before_after(settings: Reproduce) -> None:
    """Draw the networks before and after debiasing, selected by the last of the selection rules."""
    results, selection = gathered(settings, RESULTS, simulated=False), settings.each.selection
    if not results.empty:
        path = settings.out / "figures" / "before_after"
        before_after_figure(results, selection.epsilon, path, rule=(selection.rule, *selection.also)[-1])


def plan(settings: Reproduce) -> list[list[Settings]]:
    """Return all runs: one per measure for each data set and each sweep of simulations."""
    each, datasets = settings.each, []
    for name in settings.datasets:
        # only on COMPAS did the first paper confuse the polarity of scores
        methods = tuple(one for one in each.methods if one != "reject_option_paper" or name == "compas")
        base = dataclasses.replace(each, dataset=name, out=settings.out / name, methods=methods)
        datasets.append([dataclasses.replace(base, measure=measure) for measure in settings.measures])
    for name, values in (("loh", settings.alphas), ("zafar", settings.thetas)):
        if values:
            simulation = dataclasses.replace(each.simulation, sweep=values, tables="redrawn")
            base = dataclasses.replace(
                each,
                dataset=name,
                out=settings.out / "simulations" / name,
                simulation=simulation,
                seeds=settings.simulations,
                methods=("standard", "pruning", "bias_gda"),
            )
            datasets.append([dataclasses.replace(base, measure=measure) for measure in settings.measures])
    return datasets


def folder_of(settings: Settings) -> Path:
    """Return the folder of results of a planned run."""
    return settings.folder / settings.measure


def _dataset(runs: list[Settings], settings: Reproduce, console: Console) -> None:
    """Complete the runs of one data set, which share its trained networks."""
    hosts.check_same_on_all_processes("the configuration", "; ".join(map(fingerprint, runs)))
    with ExitStack() as stack:
        folders = [stack.enter_context(closing(RunFolder(folder_of(one), identity(one)))) for one in runs]
        left = [(one, folder) for one, folder in zip(runs, folders, strict=True) if not _finished(folder)]
        if not left:
            console.print(f"{runs[0].dataset}: finished before, in {runs[0].folder}", markup=False)
            return
        shared = stack.enter_context(closing(RunFolder(runs[0].folder / "training", training_identity(runs[0]))))
        context = stack.enter_context(open_run(left[0][0], shared, console))
        prepared = prepare(context)
        trained = context.timings.copy()
        for one, folder in left:
            start = time.perf_counter()
            console.print(f"{one.dataset}, {one.measure.upper()}")
            with trained.copy().listening() as timings:
                run = dataclasses.replace(context, settings=one, folder=folder, timings=timings)
                outcome = debias_all(run, prepared)
            if hosts.is_primary():
                _write(run, outcome, start)


def _write(run: RunContext, outcome: Outcome, start: float) -> None:
    """Write the files of a finished run."""
    folder = run.folder.path
    curves = results.trajectories(run.settings, outcome)
    with atomic(folder / TRAJECTORIES) as temporary:
        curves.to_csv(temporary, index=False, float_format="%.6g", compression={"method": "gzip", "mtime": 0})
    write_json(folder / PROVENANCE, provenance(run, outcome.prepared, time.perf_counter() - start))
    table = results.results(run.settings, outcome)
    write_text(folder / RESULTS, table.to_csv(index=False, float_format="%.7g"))  # last: marks the run as finished


def _finished(folder: RunFolder) -> bool:
    """Return whether all files of a run exist, as seen by the first process."""
    return hosts.broadcast_flag(all((folder.path / name).exists() for name in (RESULTS, TRAJECTORIES, PROVENANCE)))


def gathered(settings: Reproduce, name: str, *, simulated: bool) -> pd.DataFrame:
    """Concatenate the tables of all finished runs: of the data sets, or of the simulations for Figure 3."""
    found = [
        pd.read_csv(folder_of(one) / name, keep_default_na=False)
        for runs in plan(settings)
        for one in runs
        if bool(one.simulation.sweep) == simulated and (folder_of(one) / name).exists()
    ]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()
