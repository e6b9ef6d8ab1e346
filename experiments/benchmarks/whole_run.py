"""The whole COMPAS run from the command line, without and with JAX's persistent compilation cache."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from experiments.benchmarks import tables
from experiments.benchmarks.settings import Bench

RUN_METHODS = ("standard", "random_perturbation", "pruning", "bias_gda")


def measure(settings: Bench, real: bool) -> dict[str, Any]:
    """Run `python -m experiments debias` twice in new processes: first with an empty cache, then with the filled cache.

    Args:
        settings: the seeds and limits.
        real: whether to use COMPAS itself; otherwise a simulated table is used.

    Returns:
        The measures whole and whole_cached (seconds of a process from start to end, all seeds), compilation and
        compilation_cached (seconds that stages waited for compilation), compilation_ahead and compilation_ahead_cached
        (seconds of the thread that compiles while networks train), and as facts the contents of both files `run.json`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(Path(scratch) / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        cold, cached = (
            _run(settings, real and settings.rows is None, Path(scratch) / name, environment)
            for name in ("cold", "cached")
        )
    return {
        "measures": {
            "whole": [cold["wall"]],
            "whole_cached": [cached["wall"]],
            "compilation": [cold["compilation_seconds"]["whole"]],
            "compilation_cached": [cached["compilation_seconds"]["whole"]],
            "compilation_ahead": [cold["compilation_ahead_seconds"]],
            "compilation_ahead_cached": [cached["compilation_ahead_seconds"]],
        },
        "peak_memory_gib": cold["peak_memory_gib"],
        "facts": {"cold": cold, "cached": cached, "device": cold["device"]},
    }


def words(settings: Bench, out: Path) -> list[str]:
    """Return the arguments of the command."""
    return [
        *("debias", "--dataset", "compas", "--out", str(out), "--save_every", "1000000000"),
        *("--methods", *RUN_METHODS),
        *("--seeds", *map(str, tables.seeds_of(settings))),
        *("--network.widths", *map(str, settings.widths)),
        *("--training.epochs", str(settings.whole_epochs)),
        *("--bias_gda.epochs", str(settings.whole_bias_gda_epochs)),
        *("--random_perturbation.draws", str(settings.whole_draws)),
    ]


def _run(settings: Bench, real: bool, out: Path, environment: dict[str, str]) -> dict[str, Any]:
    start = ["experiments"] if real else ["experiments.benchmarks.whole_run", str(tables.path(settings, "compas"))]
    start_time = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-m", *start, *words(settings, out)], env=environment, capture_output=True, text=True
    )
    wall = time.perf_counter() - start_time
    if process.returncode:
        output = (process.stderr or process.stdout)[-1500:]
        raise RuntimeError(f"the run ended with status {process.returncode}: {output}")
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    names = ("seconds", "compilation_seconds", "compilation_ahead_seconds", "epochs", "peak_memory_gib", "device")
    return {"wall": wall, **{name: record[name] for name in names}}


def main(arguments: list[str]) -> int:
    """Run the command line with the table in a file instead of COMPAS."""
    import numpy as np

    from fairjax import data, datasets
    from fairjax.cli.commands import PROGRAM

    with np.load(arguments[0]) as file:
        dataset = data.from_arrays(file["x"], file["y"], file["a"], name="compas")
    datasets.DATASETS["compas"] = datasets.Benchmark(lambda path=None: dataset, "COMPAS")
    return PROGRAM.main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
