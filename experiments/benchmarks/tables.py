"""Tables that all contenders share: written once, and read by processes with and without JAX."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.benchmarks.settings import SHAPES, Bench


class Arrays(NamedTuple):
    """An unweighted table and the splits of all seeds, with fields in the order of `fairjax.types.Split`."""

    x: np.ndarray
    y: np.ndarray
    a: np.ndarray
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    mean: np.ndarray
    scale: np.ndarray


def path(settings: Bench, shape: str) -> Path:
    """Return the path of a table."""
    return settings.out / "data" / f"{shape}.npz"


def read(settings: Bench, shape: str) -> Arrays:
    """Read a table that `make` wrote."""
    with np.load(path(settings, shape)) as file:
        return Arrays(**{name: file[name] for name in Arrays._fields})


def make(settings: Bench, shape: str) -> dict[str, Any]:
    """Write the table of a shape, real or simulated, and its splits.

    Args:
        settings: the source and size of the table.
        shape: the table, compas or adult.

    Returns:
        A contender's result without timings: a description of the table.
    """
    from fairjax import data, datasets
    from fairjax.runs.files import atomic

    reason = "asked for"
    dataset = None
    if settings.data == "found":
        try:
            dataset = datasets.DATASETS[shape]()
        except FileNotFoundError as error:
            reason = f"no file: {error}"
    real = dataset is not None
    if dataset is None:
        dataset = simulated(*SHAPES[shape], name=shape)
    kept_rows = slice(settings.rows)
    dataset = dataset._replace(x=dataset.x[kept_rows], y=dataset.y[kept_rows], a=dataset.a[kept_rows])
    splits = data.split_seeds(dataset, seeds_of(settings))
    with atomic(path(settings, shape)) as temporary, temporary.open("wb") as file:
        np.savez(file, **{name: np.asarray(getattr(splits, name)) for name in Arrays._fields})
    facts: dict[str, Any] = {"rows": len(dataset.y), "features": dataset.x.shape[1], "real": real}
    return {"measures": {}, "facts": facts if real else {**facts, "why": reason}}


def seeds_of(settings: Bench) -> list[int]:
    """Return the seeds: first those of the command line's runs, then further ones."""
    from fairjax.runs.settings import SEEDS

    further_seeds = (seed for seed in range(10**6, 10**6 + settings.seeds) if seed not in SEEDS)
    return [*SEEDS, *further_seeds][: settings.seeds]


def simulated(rows: int, features: int, name: str = "simulated"):
    """Simulate a biased table that can be learned: normal features, the last of which is the protected attribute.

    Args:
        rows: the number of rows.
        features: the number of features, including the protected attribute.
        name: the name of the data set.

    Returns:
        A `fairjax.data.Dataset`.
    """
    from fairjax import data

    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, features), np.float32)
    a = rng.random(rows) < 0.5
    x[:, -1] = a
    logits = x[:, :8].sum(axis=1) / 3 + a - 0.5
    return data.from_arrays(x, rng.random(rows) < 1 / (1 + np.exp(-logits)), a, name=name)
