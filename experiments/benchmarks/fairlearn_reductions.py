"""The grid search of the reductions as Fairlearn does it, one training after another."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from fairlearn.reductions import DemographicParity, GridSearch
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from experiments.benchmarks import clock, tables
from experiments.benchmarks.settings import Bench

BATCH = 64
"""Rows per mini-batch, as in fairjax's training."""


def scikit_learn(settings: Bench, shape: str, threads: int) -> dict[str, Any]:
    """Time the grid search over scikit-learn's MLPClassifier of one seed, in seconds per trained network.

    Args:
        settings: the number of repetitions, multipliers and epochs.
        shape: the table, compas or adult.
        threads: the number of threads of the linear algebra.

    Returns:
        The measure grid_search, with the error and violation of the selected network as facts.
    """
    epochs = settings.reduction_epochs
    make = functools.partial(
        MLPClassifier,
        settings.reduction_widths,
        batch_size=BATCH,
        max_iter=epochs,
        n_iter_no_change=epochs + 1,  # no early stopping
        alpha=0.0,
        random_state=0,
    )
    return _timed(settings, shape, threads, make)


def torch(settings: Bench, shape: str, threads: int) -> dict[str, Any]:
    """Time the same over a classifier in PyTorch.

    Args:
        settings: the number of repetitions, multipliers and epochs.
        shape: the table, compas or adult.
        threads: the number of PyTorch's threads.
    """
    import torch as library

    from experiments.benchmarks.torch_classifier import TorchClassifier

    library.set_num_threads(threads)
    make = functools.partial(TorchClassifier, settings.reduction_widths, settings.reduction_epochs, BATCH)
    return _timed(settings, shape, threads, make)


def _timed(settings: Bench, shape: str, threads: int, make: Callable[[], Any]) -> dict[str, Any]:
    table = tables.read(settings, shape)
    rows = table.train[0]
    x = ((table.x[rows] - table.mean[0]) / table.scale[0]).astype(np.float32)
    y, a = table.y[rows].astype(int), table.a[rows].astype(int)
    results = []

    def search() -> None:
        found = GridSearch(make(), DemographicParity(), grid_size=settings.multipliers)
        results.append(found.fit(x, y, sensitive_features=a))

    with warnings.catch_warnings(), threadpool_limits(threads):
        warnings.simplefilter("ignore")  # that training has not converged, and what pandas will change
        measure = clock.repeated(search, settings.reduction_repetitions, settings.multipliers)
    found = results[-1]
    facts = {
        "device": "cpu",
        "threads": threads,
        "error": float(found.objectives_[found.best_idx_]),
        "violation": float(found.gammas_[found.best_idx_].max()),
    }
    return {"measures": {"grid_search": measure}, "facts": facts}
