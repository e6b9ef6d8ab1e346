"""From the outcome of a run to tidy tables: one row a seed, method and part; one row a seed, method, step and part."""

import platform
import resource
import sys
from importlib import metadata
from typing import Any

import jax
import numpy as np
import pandas as pd

from experiments.driver import Outcome
from experiments.settings import Debias
from fairjax import objective

PACKAGES = ("fairjax", "jax", "jaxlib", "flax", "optax", "numpy", "pandas", "aif360", "orbax-checkpoint")


def results(settings: Debias, outcome: Outcome) -> pd.DataFrame:
    """One row a seed, method and part (valid or test).

    On valid the constrained objective and `satisfied` are taken at epsilon - margin, as selection sees them; on test at
    epsilon.
    """
    frames, rule = [], settings.selection
    for method, debiased in outcome.debiased.items():
        selected = np.asarray(debiased.selected)
        seeds = np.arange(len(selected))
        for part, bound in (("valid", rule.epsilon - rule.margin), ("test", rule.epsilon)):
            trace = getattr(debiased.trace, part)
            accuracy = np.asarray(trace.balanced_accuracy)[seeds, selected]
            bias = np.asarray(trace.bias)[seeds, selected]
            reached = np.asarray(objective.constrained(accuracy, bias, bound))
            frames.append(
                pd.DataFrame(
                    {
                        "dataset": settings.dataset,
                        "measure": settings.measure,
                        "method": method,
                        "seed": settings.seeds,
                        "part": part,
                        "balanced_accuracy": accuracy,
                        "bias": bias,
                        "objective": reached,
                        "threshold": np.asarray(debiased.threshold),
                        "satisfied": np.abs(bias) < bound,
                        "selected": selected,
                        "diverged": np.asarray(debiased.diverged),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def trajectories(settings: Debias, outcome: Outcome) -> pd.DataFrame:
    """One row a seed, method, step and part: bias, balanced accuracy and threshold of every candidate."""
    frames = []
    for method, debiased in outcome.debiased.items():
        for part in ("valid", "test"):
            trace = getattr(debiased.trace, part)
            seeds, steps = trace.bias.shape
            frames.append(
                pd.DataFrame(
                    {
                        "dataset": settings.dataset,
                        "measure": settings.measure,
                        "method": method,
                        "seed": np.repeat(np.array(settings.seeds), steps),
                        "part": part,
                        "step": np.tile(np.arange(steps), seeds),
                        "balanced_accuracy": np.asarray(trace.balanced_accuracy).reshape(-1),
                        "bias": np.asarray(trace.bias).reshape(-1),
                        "threshold": np.asarray(trace.threshold).reshape(-1),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def circumstances(settings: Debias, outcome: Outcome, seconds: float) -> dict[str, Any]:
    """Versions, device and timings of the run."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    device = jax.devices()[0]
    epochs, compilation = np.asarray(outcome.trained.epoch), outcome.timings.compilation
    return {
        "python": platform.python_version(),
        "versions": versions,
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "machine": platform.platform(),
        "command": sys.argv,
        "data": outcome.counts,
        "epochs": epochs.tolist(),
        "seconds": {**_rounded(outcome.timings.seconds), "whole": round(seconds, 3)},
        "compilation_seconds": {**_rounded(compilation), "whole": round(sum(compilation.values()), 3)},
        "training_ms_per_seed_and_step": _per_step(settings, outcome),
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
    }


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in seconds.items()}


def _per_step(settings: Debias, outcome: Outcome) -> float | None:
    """Wall-clock milliseconds a seed and training step, all devices at work; None if this call trained only a part."""
    if not outcome.trained_here:
        return None
    rows = outcome.split.train.shape[-1]
    steps = -(-rows // min(settings.training.batch_size, rows)) * int(np.sum(outcome.trained.epoch))
    return round(outcome.timings.seconds["training"] / steps * 1e3, 4)
