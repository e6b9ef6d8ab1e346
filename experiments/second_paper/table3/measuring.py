"""Compute all units of the table that are not finished, and read them.

DIR/DATASET-DUPLICATES/             one data set
    configuration.json, data.json    what the numbers depend on; facts about the data
    scores.npz                       scores of the networks that the rows share
    UNIT.json                        counts of the rows of a unit, written when it is complete
DIR/per_split.csv, summary.csv, comparisons.csv, explanations.csv, table3.md, table3.html, run.json
"""

import json
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from experiments.second_paper.quantities import quantities
from experiments.second_paper.table3.rows import ROWS, UNITS
from experiments.second_paper.table3.settings import Table3
from experiments.second_paper.table3.subject import Subject, subject
from fairjax.runs.files import atomic, write_json
from fairjax.runs.folder import RunFolder
from fairjax.runs.signals import stop_if_asked

SCORES, FACTS = "scores.npz", "data.json"


def folder_of(settings: Table3, dataset: str, duplicates: str) -> Path:
    """Return the folder of a data set."""
    return settings.out / f"{dataset}-{duplicates}"


def measure(settings: Table3, console: Console) -> None:
    """Compute what is not finished.

    Args:
        settings: the settings.
        console: shows what was computed.

    Raises:
        FileNotFoundError: if the file of a data set is not found.
        fairjax.runs.files.FolderError: if a folder holds results of other settings.
    """
    for dataset, duplicates in settings.variants:
        folder = folder_of(settings, dataset, duplicates)
        with closing(RunFolder(folder, settings.identity(dataset, duplicates))):
            left = [unit for unit in UNITS if not (folder / f"{unit}.json").exists()]
            if not left:
                console.print(f"{dataset}, duplicates {duplicates}: finished before, in {folder}", soft_wrap=True)
                continue
            loaded = subject(dataset, duplicates, settings.seeds)
            write_json(folder / FACTS, loaded.facts)
            console.print(f"{dataset}, duplicates {duplicates}: {loaded.facts['rows']:,} rows", soft_wrap=True)
            for unit in left:
                stop_if_asked()
                start = time.perf_counter()
                _unit(unit, loaded, settings, folder)
                console.print(f"  {unit}: {time.perf_counter() - start:.0f} s", soft_wrap=True)


def _unit(unit: str, loaded: Subject, settings: Table3, folder: Path) -> None:
    """Compute a unit and save it."""
    from experiments.second_paper.table3.units import TRAINED, Scores, postprocess

    start = time.perf_counter()
    if unit in TRAINED:
        counted = TRAINED[unit](loaded, settings.widths, settings.training)
    else:
        with np.load(folder / SCORES, allow_pickle=False) as saved:
            scores = Scores(saved["valid"], saved["test"])
        counted = postprocess(loaded, scores)
    if counted.scores is not None:
        with atomic(folder / SCORES) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **counted.scores._asdict())
    content = {"seconds": round(time.perf_counter() - start, 3), "facts": counted.facts, "rows": counted.rows}
    write_json(folder / f"{unit}.json", content)  # last: marks the unit as finished


def gathered(settings: Table3) -> pd.DataFrame:
    """Return the counts and quantities of all rows, one line per data set, row of the table and seed."""
    lines: list[dict[str, Any]] = []
    for dataset, duplicates in settings.variants:
        for unit in UNITS:
            saved = read(folder_of(settings, dataset, duplicates) / f"{unit}.json")
            for row, of_seeds in saved["rows"].items():
                for seed, cells in zip(settings.seeds, of_seeds, strict=True):
                    lines.append({"dataset": dataset, "duplicates": duplicates, "row": row, "seed": seed, **cells})
    table = pd.DataFrame(lines)
    table = ordered(table, ["dataset", "duplicates", "row"], settings)
    return pd.concat([table, quantities(table)], axis=1)


def ordered(table: pd.DataFrame, keys: Iterable[str], settings: Table3) -> pd.DataFrame:
    """Sort lines in the order of the settings and of the rows of the table."""
    order = {"dataset": list(settings.datasets), "duplicates": ["keep", "drop"], "row": list(ROWS)}
    ranked = table.sort_values(list(keys), kind="stable", key=lambda column: column.map(order[str(column.name)].index))
    return ranked.reset_index(drop=True)


def facts(settings: Table3) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the facts about the data of all data sets."""
    return {variant: read(folder_of(settings, *variant) / FACTS) for variant in settings.variants}


def read(path: Path) -> dict[str, Any]:
    """Read a file that a unit wrote.

    Raises:
        ValueError: if it is damaged; the message names it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): remove it and run the same command again") from error
