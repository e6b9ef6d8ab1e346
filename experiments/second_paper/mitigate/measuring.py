"""Compute all rows that are not finished, and read them.

DIR/DATASET/                        one data set
    configuration.json, data.json   what the numbers depend on; facts about the data
    base/                           the networks that methods share
    rows/ROW.json, rows/ROW-MEASURE.json   the counts of a row, written when it is complete
DIR/*.csv, frontier-*.png, mitigate.md, mitigate.html, run.json
"""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from rich.console import Console

from experiments.second_paper.mitigate.entries import NOTHING, REDUCTIONS, Entry, entries_for
from experiments.second_paper.mitigate.evaluating import Evaluated, evaluate_networks
from experiments.second_paper.mitigate.reducing import reduce_row
from experiments.second_paper.mitigate.settings import STAGES, Mitigate
from experiments.second_paper.mitigate.subject import Subject, subject
from experiments.second_paper.mitigate.units import (
    Candidate,
    Computed,
    debias_row,
    network_of,
    postprocess_row,
    train_row,
)
from experiments.second_paper.quantities import quantities
from fairjax import checkpoint
from fairjax.runs.files import write_json
from fairjax.runs.folder import RunFolder
from fairjax.runs.signals import stop_if_asked
from fairjax.runs.structure import CELLS

FACTS, ROWS, BASE = "data.json", "rows", "base"

KEPT_PROGRAMS = 8
"""Rows for which compiled programs are kept."""


class Unit(NamedTuple):
    """A row of a data set, for one measure if the method depends on it."""

    name: str
    entry: Entry
    measure: str | None

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.name}.json" if self.measure is None else f"{self.name}-{self.measure}.json"


def units(settings: Mitigate, stages: tuple[str, ...], dataset: str) -> Iterator[Unit]:
    """Return the units of some stages for a data set, and the networks that others start from first."""
    for name, entry in entries_for(dataset).items():
        if name == NOTHING or entry.stage in stages:
            for measure in settings.measures if entry.of_measure else (None,):
                yield Unit(name, entry, measure)


def measure(settings: Mitigate, console: Console) -> None:
    """Compute what is not finished.

    Args:
        settings: the settings.
        console: shows what was computed.

    Raises:
        FileNotFoundError: if the file of a data set is not found.
        fairjax.runs.files.FolderError: if a folder holds results of other settings.
    """
    for dataset in settings.datasets:
        folder = settings.out / dataset
        with closing(RunFolder(folder, settings.identity(dataset))):
            left = [
                unit for unit in units(settings, settings.stages, dataset) if not (folder / ROWS / unit.file).exists()
            ]
            if not left:
                console.print(f"{dataset}: finished before, in {folder}", soft_wrap=True)
                continue
            loaded = subject(dataset, settings.seeds)
            write_json(folder / FACTS, loaded.facts)
            console.print(f"{dataset}: {loaded.facts['rows']:,} rows, {len(settings.seeds)} splits", soft_wrap=True)
            _compute(left, loaded, settings, folder, console)


def _compute(left: list[Unit], loaded: Subject, settings: Mitigate, folder: Path, console: Console) -> None:
    """Compute units one after another."""
    shared = _Shared(loaded, settings, folder / BASE)
    for number, unit in enumerate(left):
        stop_if_asked()
        if number % KEPT_PROGRAMS == 0:
            jax.clear_caches()  # a process may have 65,530 pieces of memory on Linux, and compiled programs take them
        start = time.perf_counter()
        computed = _unit(unit, loaded, settings, shared)
        if computed.variables is not None:
            about = {"dataset": loaded.dataset.name}
            checkpoint.save(folder / BASE, network_of(settings), computed.variables, about=about, overwrite=True)
        (folder / ROWS).mkdir(exist_ok=True)
        write_json(folder / ROWS / unit.file, plain(computed))  # last: marks the unit as finished
        lost = f", {computed.diverged} networks diverged" if computed.diverged else ""
        console.print(f"  {unit.file.removesuffix('.json')}: {time.perf_counter() - start:.0f} s{lost}", soft_wrap=True)


class _Shared:
    """The networks that methods start from, read and evaluated when they are first needed."""

    def __init__(self, loaded: Subject, settings: Mitigate, folder: Path):
        self._loaded, self._settings, self._folder = loaded, settings, folder
        self._variables: Any = None
        self._evaluated: Evaluated | None = None

    @property
    def variables(self) -> Any:
        """Variables with a leading axis of seeds."""
        if self._variables is None:
            self._variables = checkpoint.load(self._folder).variables
        return self._variables

    @property
    def evaluated(self) -> Evaluated:
        """Their logits, scores and thresholds."""
        if self._evaluated is None:
            network = network_of(self._settings)
            self._evaluated = evaluate_networks(network, self.variables, self._loaded.splits, self._loaded.axes)
        return self._evaluated


def _unit(unit: Unit, loaded: Subject, settings: Mitigate, shared: _Shared) -> Computed:
    """Compute a unit."""
    name = unit.measure or "spd"
    if unit.entry.stage == "intra":
        return debias_row(unit.entry, loaded, settings, name, shared.variables)
    if unit.entry.stage == "post":
        return postprocess_row(unit.entry, loaded, settings, name, shared.evaluated)
    if unit.entry.method in REDUCTIONS:
        return reduce_row(unit.entry, loaded, settings, name)
    return train_row(unit.entry, loaded, settings, name)


def plain(computed: Computed) -> dict[str, Any]:
    """Convert what a unit computed to plain values."""

    def of_candidate(candidate: Candidate) -> dict[str, Any]:
        tables = {
            threshold: {part: np.asarray(table).reshape(-1, 8).tolist() for part, table in found._asdict().items()}
            for threshold, found in candidate.tables.items()
        }
        probe = None if candidate.probe is None else np.round(candidate.probe.astype(float), 5).tolist()
        return {"weight": candidate.weight, "bound": candidate.bound, "tables": tables, "probe": probe}

    return {
        "seconds": round(computed.seconds, 3),
        "diverged": computed.diverged,
        "candidates": [of_candidate(candidate) for candidate in computed.candidates],
    }


def gathered(settings: Mitigate) -> pd.DataFrame:
    """Return one line per data set, row, measure (empty if the row has none), candidate, threshold, part and seed.

    All rows that were computed are read, whatever the stage of the settings. The lines have the counts, and the
    quantities that follow from them.
    """
    lines: list[pd.DataFrame] = []
    for dataset in settings.datasets:
        for unit in units(settings, STAGES, dataset):
            file = settings.out / dataset / ROWS / unit.file
            if file.exists():
                lines += _lines(dataset, unit, read(file), settings.seeds)
    if not lines:
        return pd.DataFrame()
    table = pd.concat(lines, ignore_index=True)
    return pd.concat([table, quantities(table), biases(table)], axis=1)


def _lines(dataset: str, unit: Unit, saved: dict[str, Any], seeds: tuple[int, ...]) -> list[pd.DataFrame]:
    """Return the lines of a unit."""
    lines, count = [], len([one for one in saved["candidates"] if one["bound"] is None or "half" in one["tables"]])
    for number, candidate in enumerate(saved["candidates"]):
        for threshold, parts in candidate["tables"].items():
            for part, cells in parts.items():
                frame = pd.DataFrame(cells, columns=list(CELLS))
                about = {"dataset": dataset, "row": unit.name, "measure": unit.measure or "", "candidate": number}
                about |= {"weight": candidate["weight"], "bound": candidate["bound"], "threshold": threshold}
                frame = frame.assign(**about, part=part, seed=list(seeds))
                frame["probe"] = np.nan if candidate["probe"] is None else candidate["probe"]
                frame["seconds"] = saved["seconds"] / count / len(seeds)
                frame["diverged"] = saved["diverged"]
                lines.append(frame)
    return lines


def biases(table: pd.DataFrame) -> pd.DataFrame:
    """Return the absolute bias by each measure."""
    cells = {name: table[name].to_numpy() for name in CELLS}

    def selected(g: str) -> Any:
        return (cells[f"tp{g}"] + cells[f"fp{g}"]) / sum(cells[f"{name}{g}"] for name in ("tp", "fp", "tn", "fn"))

    def accepted(g: str) -> Any:
        return cells[f"tp{g}"] / (cells[f"tp{g}"] + cells[f"fn{g}"])

    spd, eod = np.abs(selected("0") - selected("1")), np.abs(accepted("0") - accepted("1"))
    return pd.DataFrame({"spd": spd, "eod": eod}, index=table.index)


def facts(settings: Mitigate) -> dict[str, dict[str, Any]]:
    """Return the facts about the data sets that were loaded."""
    files = {name: settings.out / name / FACTS for name in settings.datasets}
    return {name: read(file) for name, file in files.items() if file.exists()}


def read(path: Path) -> dict[str, Any]:
    """Read a file that a unit wrote.

    Raises:
        ValueError: if it is damaged; the message names it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): remove it and run the same command again") from error
