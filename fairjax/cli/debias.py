"""One run of `debias`: train, debias, and write the folder of results."""

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from rich.console import Console

from fairjax import checkpoint
from fairjax.nn.flat import FlatVariables
from fairjax.report import card, figures, results_table
from fairjax.runs import hosts, results
from fairjax.runs.context import RunContext, open_folder, open_run
from fairjax.runs.debiasing import debias_all
from fairjax.runs.files import write_json, write_text
from fairjax.runs.given_back import FOLDER, give_back
from fairjax.runs.given_network import Given, given_network
from fairjax.runs.identity import plain
from fairjax.runs.provenance import provenance
from fairjax.runs.settings import Settings
from fairjax.runs.specification import parse_preprocessor
from fairjax.runs.structure import BINARY
from fairjax.runs.training import Data, example_of, load_data, prepare
from fairjax.runs.trials import Outcome, Trial


def run(settings: Settings, console: Console) -> None:
    """Train and debias, or resume an interrupted run; the first process writes the results.

    Args:
        settings: the settings of the run.
        console: the console that shows progress and the table of results.

    Raises:
        ValueError, OSError: if data, folders or disks cannot be used; the message says what to do.
    """
    start = time.perf_counter()
    data, given = _given(settings)
    loading = time.perf_counter() - start
    with closing(open_folder(settings, given and given.identity)) as folder:
        with open_run(settings, folder, console) as context:
            context.timings.add("loading", (loading, 0.0))
            outcome = debias_all(context, prepare(context, data, given))
            if not hosts.is_primary():
                return
            table, pictures = _write(context, outcome)
        seconds = time.perf_counter() - start
        facts = provenance(context, outcome.prepared, seconds)
        if settings.table or settings.images:
            summary = given.summary if given else None
            write_text(folder.path / card.CARD, card.card(settings, outcome.prepared.structure, table, facts, summary))
        write_json(folder.path / "run.json", facts)
        _print(context, outcome, table, pictures)  # last, so that the results are saved even if the output fails


def _given(settings: Settings) -> tuple[Data | None, Given | None]:
    """Load the data and the network that the user gives, on which the identity of the folder depends."""
    source = settings.network.source
    if source is None:
        return None, None
    data = load_data(settings)
    _, _, structure, facts = data
    options: Any = {"columns": facts.get("columns", ()), "output": settings.network.output}
    return data, given_network(source, example_of(data), structure.classes, **options)


def _write(run: RunContext, outcome: Outcome) -> tuple[pd.DataFrame, list[Path]]:
    """Write tables, figures and networks, and return the table of results and the paths of the figures."""
    settings, folder, epsilon = run.settings, run.folder.path, run.settings.selection.epsilon
    table, curves = results.results(settings, outcome), results.trajectories(settings, outcome)
    for name, frame in (("results.csv", table), ("trajectories.csv", curves)):
        write_text(folder / name, frame.to_csv(index=False, float_format="%.7g"))
    write_text(folder / "table.md", results_table.markdown(table, epsilon, outcome.prepared.structure))
    pictures = figures.trajectories_figure(curves, table, epsilon, folder / "trajectories")
    save_networks(settings, outcome, folder / "networks")
    if outcome.prepared.given:
        names = [f"{seed}" if value is None else f"{seed}-{value:g}" for seed, value in settings.runs]
        for line in give_back(outcome.prepared.given, _networks(outcome), names, folder):
            run.console.print(f"warning: {line}", soft_wrap=True, markup=False, highlight=False, style="yellow")
    return table, pictures


def _print(run: RunContext, outcome: Outcome, table: pd.DataFrame, pictures: list[Path]) -> None:
    """Print the table and the paths of all files."""
    console, structure = run.console, outcome.prepared.structure
    console.print(results_table.printed(table, run.settings.selection.epsilon, console.width, structure))
    lines = [f"results: {run.folder.path}"]
    if (run.folder.path / FOLDER).exists():
        lines.append(f"given back: {run.folder.path / FOLDER}")
    if pictures:
        lines.append(f"pictures: {', '.join(map(str, pictures))}")
    console.print(*lines, sep="\n", soft_wrap=True, markup=False)


def save_networks(settings: Settings, outcome: Outcome, folder: Path) -> None:
    """Save the trained networks and the networks that each method selected as orbax checkpoints."""
    structure, given = outcome.prepared.structure, outcome.prepared.given
    networks = {"trained": outcome.prepared.trained.best, **_networks(outcome)}
    rule_of = {name: rule for (name, rule), trial in outcome.trials.items() if trial.networks is not None}
    rule_of["trained"] = ""
    for name, flat in networks.items():
        variables = jax.tree.map(np.asarray, flat).variables()
        about = {"dataset": settings.dataset, "measure": settings.measure, "seeds": plain(settings.seeds)}
        about |= {} if structure == BINARY else {"structure": plain(structure)}
        if given:
            about["given"] = {
                "source": str(given.source),
                "columns": outcome.prepared.facts.get("columns"),
                "output": settings.network.output,
            }
        if settings.images:
            about["images"] = {name: plain(getattr(settings, name)) for name in ("layout", "image_size", "colours")}
        if settings.table:
            about["table"] = _preprocessing(settings, outcome, outcome.trials.get((name, rule_of[name])))
        checkpoint.save(folder / name, outcome.prepared.network, variables, about=about, overwrite=True)


def _networks(outcome: Outcome) -> dict[str, FlatVariables]:
    """Return the selected networks of the methods that have some."""
    return {name: trial.networks for (name, _), trial in outcome.trials.items() if trial.networks is not None}


def _preprocessing(settings: Settings, outcome: Outcome, trial: Trial | None) -> dict[str, Any]:
    """Return what is needed to score new rows: the encoding, the scaler and the threshold of each seed."""
    splits = outcome.prepared.splits
    about = {
        "encoder": outcome.prepared.facts["encoder"],
        "mean": None if splits.mean is None else np.asarray(splits.mean, float).tolist(),
        "scale": None if splits.scale is None else np.asarray(splits.scale, float).tolist(),
        "label": settings.label,
        "positive": settings.positive,
        "protected": plain(settings.protected),
    }
    mapped = [text for text in settings.preprocess if parse_preprocessor(text).changes == "features"]
    if mapped:
        about["mapped"] = mapped
    if trial is not None:
        about["threshold"] = np.asarray(results.chosen_of(trial, "valid").threshold, float).tolist()
    return about
