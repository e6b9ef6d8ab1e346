"""The command `quality`: a group that is served worse, and what brings its accuracy nearer to that of the others.

DIR/DATASET/              one data set
    configuration.json, data.json    what the numbers depend on; numbers of rows
    ROW.json                         counts of a row of the table, written when it is complete
DIR/per_seed.csv, summary.csv, comparisons.csv, groups.csv, quality.md, quality.png, quality.svg
"""

import dataclasses
import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from rich.console import Console

from fairjax.nn import Mlp
from fairjax.runs.files import write_json
from fairjax.runs.folder import RunFolder
from fairjax.runs.settings import SEEDS
from fairjax.runs.signals import stop_if_asked
from fairjax.runs.values import check_values, expand_paths

DATASETS = ("minority", "adult")
"""The data sets of the table."""

FACTS = "data.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quality:
    """Compare ways to serve under-represented groups better, by the gap in accuracy between groups."""

    datasets: tuple[Literal["minority", "adult"], ...] = DATASETS
    """Simulated data with a minority of 3 %, and Adult with the cells of race and sex."""
    seeds: tuple[int, ...] = SEEDS
    """One split, or one draw of the simulated data, and one network per seed."""
    rows: int = 4000
    """Number of train rows of the simulated data."""
    minimum: int = 50
    """Least number of test rows of a group that is compared."""
    widths: tuple[int, ...] = (32, 32)
    """Numbers of units of the network's hidden layers."""
    steps: int = 800
    """Steps of training, about the same number in all rows of the table."""
    batch_size: int = 128
    """Rows per mini-batch."""
    tuning_steps: int = 160
    """Steps on the target of networks that were trained on a source; 5 epochs of the simulated data by default."""
    out: Path = Path("results/quality")
    """Folder of the results. An interrupted run continues from there."""

    def __post_init__(self):
        """Validate the settings."""
        expand_paths(self)
        check_values(self)
        if not self.datasets or len(set(self.datasets)) < len(self.datasets):
            raise ValueError(f"datasets must be different ones of {', '.join(DATASETS)}, got {self.datasets}")
        if len(self.seeds) < 2 or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be two or more different numbers, to compare over seeds, got {self.seeds}")
        if any(not 0 <= seed < 2**32 for seed in self.seeds):
            raise ValueError(f"seeds must be numbers from 0 to 2^32 - 1, got {self.seeds}")
        for name, least in (("rows", 400), ("minimum", 1), ("steps", 1), ("batch_size", 2), ("tuning_steps", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        Mlp(widths=self.widths)  # validates the widths

    def identity(self, dataset: str) -> dict[str, Any]:
        """Return everything that the numbers of one data set depend on."""
        names = ["seeds", "minimum", "widths", "steps", "batch_size", "tuning_steps"]
        names += ["rows"] if dataset == "minority" else []
        values = {name: getattr(self, name) for name in names}
        return {"dataset": dataset} | {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def run(settings: Quality, console: Console) -> pd.DataFrame:
    """Compute all rows that are not finished, and write tables and figure.

    Args:
        settings: the settings.
        console: the console that shows progress and the table.

    Returns:
        One line per data set, row of the table and seed.

    Raises:
        FileNotFoundError: if the file of a data set is not found.
        fairjax.runs.files.FolderError: if a folder holds results of other settings.
    """
    from experiments.second_paper.quality import tables as quality_tables

    measure(settings, console)
    text, written, per_seed = quality_tables.write(settings)
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print("results:", *map(str, written), sep="\n", soft_wrap=True, markup=False)
    return per_seed


def measure(settings: Quality, console: Console) -> None:
    """Compute the rows of the table that are not finished."""
    from experiments.second_paper.quality.data_sets import problem
    from experiments.second_paper.quality.rows import ROWS, Budget, network_of, right_by_group, rows_of

    budget = Budget(settings.widths, settings.steps, settings.tuning_steps, settings.batch_size)
    for dataset in settings.datasets:
        folder = settings.out / dataset
        with closing(RunFolder(folder, settings.identity(dataset))):
            left = [name for name in rows_of(dataset) if not (folder / f"{name}.json").exists()]
            if not left:
                console.print(f"{dataset}: finished before, in {folder}", soft_wrap=True)
                continue
            loaded = problem(dataset, settings.seeds, rows=settings.rows, minimum=settings.minimum)
            write_json(folder / FACTS, loaded.facts)
            for name in left:
                stop_if_asked()
                start = time.perf_counter()
                trained = ROWS[name].train(loaded, budget)
                right, rows = right_by_group(network_of(settings.widths), trained, len(loaded.groups))
                seconds = time.perf_counter() - start
                content = {"right": right.tolist(), "rows": rows.tolist(), "seconds": round(seconds, 1)}
                write_json(folder / f"{name}.json", content | trained.facts)  # marks the row as finished
                console.print(f"{dataset}, {name}: {seconds:.0f} s", soft_wrap=True, highlight=False)


def facts_of(settings: Quality, dataset: str) -> dict[str, Any]:
    """Return the facts about a data set."""
    return _read(settings.out / dataset / FACTS)


def gathered(settings: Quality) -> pd.DataFrame:
    """Return one line per data set, row of the table, seed and group: numbers of correct decisions and of rows."""
    from experiments.second_paper.quality.rows import rows_of

    lines = []
    for dataset in settings.datasets:
        groups = list(facts_of(settings, dataset)["test"])
        for name in rows_of(dataset):
            saved = _read(settings.out / dataset / f"{name}.json")
            for seed, right, rows in zip(settings.seeds, saved["right"], saved["rows"], strict=True):
                for group, right_here, rows_here in zip(groups, right, rows, strict=True):
                    lines.append((dataset, name, seed, group, right_here, rows_here, saved["seconds"]))
    table = pd.DataFrame(lines, columns=["dataset", "row", "seed", "group", "right", "rows", "seconds"])
    return table.assign(accuracy=table["right"] / table["rows"].where(table["rows"] > 0, np.nan))


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): remove it and run the same command again") from error
