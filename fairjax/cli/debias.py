"""One run of `debias`: train, debias, and write the folder of results."""

import time
from contextlib import closing
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from rich.console import Console

from fairjax import checkpoint, seeds
from fairjax.report import figures, tables
from fairjax.runs import driver, hosts, provenance, results
from fairjax.runs.compiler import BackgroundCompiler
from fairjax.runs.files import write_json, write_text
from fairjax.runs.folder import RunFolder
from fairjax.runs.identity import identity, plain
from fairjax.runs.settings import Debias
from fairjax.runs.structure import BINARY, Structure
from fairjax.runs.timings import Timings


def run(settings: Debias, console: Console) -> None:
    """Train and debias, or resume an interrupted run; the first process writes the results.

    Args:
        settings: the settings of the run.
        console: the console that shows progress and the table of results.

    Raises:
        ValueError, OSError: if data, folders or disks cannot be used; the message says what to do.
    """
    begun = time.perf_counter()
    hosts.check_same_everywhere("the configuration", driver.fingerprint(settings))
    folder = RunFolder(settings.folder, identity(settings))
    machine = driver.Machine(seeds.mesh(), settings.lanes)
    with Timings().listening() as timings, closing(BackgroundCompiler()) as ahead:
        prepared = driver.prepare(settings, folder, machine, console, timings, ahead)
        outcome = driver.run(settings, prepared, folder, machine, console, timings, ahead)
        if hosts.is_primary():
            table, pictures = _write(settings, outcome, folder)
    if hosts.is_primary():
        seconds = time.perf_counter() - begun
        write_json(folder.path / "run.json", provenance.provenance(settings, prepared, timings, seconds))
        # printed last, so that the results are saved even if the output fails
        _print(settings, prepared.structure, table, folder, pictures, console)


def _write(settings: Debias, outcome: driver.Outcome, folder: RunFolder) -> tuple[pd.DataFrame, list[Path]]:
    """Write tables, figures and networks, and return the table of results and the paths of the figures."""
    table = results.results(settings, outcome)
    curves = results.trajectories(settings, outcome)
    epsilon = settings.selection.epsilon
    for name, frame in (("results.csv", table), ("trajectories.csv", curves)):
        write_text(folder.path / name, frame.to_csv(index=False, float_format="%.7g"))
    write_text(folder.path / "table.md", tables.markdown(table, epsilon, outcome.prepared.structure))
    pictures = figures.trajectories_figure(curves, table, epsilon, folder.path / "trajectories")
    save_networks(settings, outcome, folder.path / "networks")
    return table, pictures


def _print(
    settings: Debias,
    structure: Structure,
    table: pd.DataFrame,
    folder: RunFolder,
    pictures: list[Path],
    console: Console,
) -> None:
    """Print the table and the paths of all files."""
    console.print(tables.printed(table, settings.selection.epsilon, console.width, structure))
    lines = [f"results: {folder.path}"]
    if pictures:
        lines.append(f"pictures: {', '.join(map(str, pictures))}")
    console.print(*lines, sep="\n", soft_wrap=True, markup=False)


def save_networks(settings: Debias, outcome: driver.Outcome, folder: Path) -> None:
    """Save the trained networks and the networks that each method selected as orbax checkpoints."""
    structure = outcome.prepared.structure
    module = settings.network.build(len(structure.classes))
    networks = {"trained": outcome.prepared.trained.best}
    networks |= {name: trial.networks for (name, _), trial in outcome.trials.items() if trial.networks is not None}
    for name, flat in networks.items():
        variables = jax.tree.map(np.asarray, flat).variables()
        about = {"dataset": settings.dataset, "measure": settings.measure, "seeds": plain(settings.seeds)}
        about |= {} if structure == BINARY else {"structure": plain(structure)}
        checkpoint.save(folder / name, module, variables, about=about, overwrite=True)
