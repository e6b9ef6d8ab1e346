"""Rows of reductions: a grid of multipliers, and the randomised classifiers of exponentiated gradient."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.second_paper.mitigate.entries import Entry
from experiments.second_paper.mitigate.evaluating import HALF, TUNED, Tables, evaluate_networks
from experiments.second_paper.mitigate.settings import Mitigate
from experiments.second_paper.mitigate.subject import Subject, repeated, stream
from experiments.second_paper.mitigate.units import Candidate, Computed, network_of
from fairjax.reductions import (
    DemographicParity,
    EqualizedOdds,
    TruePositiveRateParity,
    exponentiated_gradient,
    grid_search,
)
from fairjax.types import Split

CONSTRAINTS = {"spd": DemographicParity, "eod": TruePositiveRateParity, "equalized_odds": EqualizedOdds}
"""The constraint of each measure."""

LIMIT = 0.25
"""Greatest multiplier of the grid. With Fairlearn's default of 2, the networks next to multiplier 0 already accept most
of one group and few of the other."""

ROUNDS = 8
"""Greatest number of rounds of exponentiated gradient, each a training of all seeds."""


def reduce_row(entry: Entry, subject: Subject, settings: Mitigate, measure: str) -> Computed:
    """Train by a reduction, and evaluate what it returns."""
    of_method = {"grid_search": _grid, "exponentiated_gradient": _randomised}[entry.method]
    shared: dict[str, Any] = {
        "keys": stream(subject.keys),
        "constraint": CONSTRAINTS[dict(entry.options).get("measure", measure)](),
        "training": settings.training(subject.dataset.name),
    }
    return of_method(subject, settings, shared)


def _grid(subject: Subject, settings: Mitigate, shared: dict[str, Any]) -> Computed:
    """Train a network for every multiplier; the rule selects one for each split, as it selects weights of terms."""
    network, start = network_of(settings), time.perf_counter()
    result = jax.block_until_ready(grid_search(network, subject.splits, grid_limit=LIMIT, **shared))
    seconds = time.perf_counter() - start
    seeds, count = result.error.shape
    variables = jax.tree.map(lambda leaf: _multiplier_first(jnp.asarray(leaf)), result.variables)
    evaluated = evaluate_networks(network, variables, repeated(subject.splits, subject.axes, count), subject.axes)
    raised, lowered = np.asarray(result.multipliers)[:, :, 0, 0].T  # both constraints on group 0, one of them 0
    candidates = []
    for i in range(count):
        own = slice(i * seeds, (i + 1) * seeds)
        tables = {name: Tables(table.valid[own], table.test[own]) for name, table in evaluated.tables.items()}
        candidates.append(Candidate(round(float(raised[i] - lowered[i]), 6), None, tables, evaluated.probe[own]))
    return Computed(candidates, seconds, int(np.sum(np.asarray(result.diverged))))


def _multiplier_first(leaf: Any) -> Any:
    """Reorder (seeds, multipliers, ...) to one axis, all seeds of the first multiplier first."""
    turned = jnp.swapaxes(leaf, 0, 1)
    return turned.reshape(-1, *turned.shape[2:])


def _randomised(subject: Subject, settings: Mitigate, shared: dict[str, Any]) -> Computed:
    """Find the randomised classifiers, and count their decisions in expectation over the draws."""
    start = time.perf_counter()
    result = exponentiated_gradient(network_of(settings), subject.splits, max_iter=ROUNDS, **shared)
    probabilities = np.asarray(jax.block_until_ready(result.classifier.probabilities(subject.splits.x)))
    seconds = time.perf_counter() - start
    tables = Tables(*(expected_tables(probabilities, subject.splits, part) for part in ("valid", "test")))
    return Computed([Candidate(None, None, {HALF: tables, TUNED: tables})], seconds)


def expected_tables(probabilities: Any, splits: Split, part: str) -> Any:
    """Sum probabilities of acceptance by decision, label and group, one table per seed.

    Args:
        probabilities: one row per seed, for all rows of the table.
        splits: splits of one table.
        part: the part that is counted.
    """
    y, a = np.asarray(splits.y).astype(int), np.asarray(splits.a).astype(int)
    tables = np.zeros((len(probabilities), 2, 2, 2))
    for table, of_seed, rows in zip(tables, probabilities, np.asarray(getattr(splits, part)), strict=True):
        np.add.at(table[1], (y[rows], a[rows]), of_seed[rows])
        np.add.at(table[0], (y[rows], a[rows]), 1.0 - of_seed[rows])
    return tables
