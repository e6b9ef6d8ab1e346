"""Versions, device and timings of a run."""

import platform
import resource
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fairjax.runs.context import RunContext
from fairjax.runs.identity import plain
from fairjax.runs.structure import Structure
from fairjax.runs.trials import Prepared

PACKAGES = ("fairjax", "jax", "jaxlib", "flax", "optax", "numpy", "pandas", "aif360", "orbax-checkpoint")


_MEMORY_UNIT = 2**30 if platform.system() == "Darwin" else 2**20  # macOS reports bytes, Linux KiB


def provenance(run: RunContext, prepared: Prepared, seconds: float) -> dict[str, Any]:
    """Return versions, device and timings of a run that took a number of seconds."""
    about = environment(run, prepared.facts, prepared.structure, seconds)
    epochs = np.asarray(prepared.trained.epoch)
    speed = {} if prepared.given else {"training_ms_per_seed_and_step": _per_step(run, prepared)}
    return {**about, "epochs": epochs.tolist(), **speed}


def environment(run: RunContext, facts: dict[str, Any], structure: Structure, seconds: float) -> dict[str, Any]:
    """Return versions, device and timings of a run, without what concerns its training.

    Args:
        run: the run.
        facts: facts about its data; the names of the features are left out.
        structure: its groups and classes.
        seconds: how long it took.
    """
    timings, versions = run.timings, {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    device = jax.devices()[0]
    compilation = timings.compilation
    kept = {name: value for name, value in facts.items() if name != "names"}
    return {
        "python": platform.python_version(),
        "versions": versions,
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "machine": platform.platform(),
        "command": [*_program(), *sys.argv[1:]],
        "data": {**kept, "structure": plain(structure)},
        "seconds": {**_rounded(timings.seconds), "whole": round(seconds, 3)},
        "compilation_seconds": {**_rounded(compilation), "whole": round(sum(compilation.values()), 3)},
        "compilation_ahead_seconds": round(timings.ahead, 3),
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MEMORY_UNIT, 3),
    }


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in seconds.items()}


def _per_step(run: RunContext, prepared: Prepared) -> float:
    """Return wall-clock milliseconds per network and training step, with all devices in use."""
    rows = prepared.splits.train.shape[-1]
    steps = -(-rows // min(run.settings.training.batch_size, rows)) * int(np.sum(prepared.trained.epoch))
    return round(run.timings.seconds["training"] / steps * 1e3, 4)


def _program() -> list[str]:
    """Return how the program was called."""
    path = Path(sys.argv[0])
    return ["python", "-m", path.parent.name] if path.name == "__main__.py" else [path.name]
