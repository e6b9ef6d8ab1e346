"""Optimized pre-processing of all splits: each has its own linear programme and its own bound."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from experiments.second_paper.table3.subject import part_of
from fairjax.data import Dataset
from fairjax.preprocess import OptimizedPreprocessing, distortion_adult, distortion_compas
from fairjax.preprocess.optimized import smallest_epsilon
from fairjax.types import Split

EPSILON, STEP = 0.05, 0.001
"""Bound on the groups' rates, the default of AIF360's examples, and the steps in which it is raised if infeasible."""


class OptimizedSplits(NamedTuple):
    """Splits whose train rows are transformed; the valid rows stay as they are."""

    splits: Split
    """The splits, each with a table of its own."""
    axes: Split
    """The vmap axes of the splits."""
    test: Float[Array, "seeds n d"]
    """Features of test rows as they are."""
    mapped_test: Float[Array, "seeds n d"]
    """Features of test rows after the map."""
    epsilons: list[float]
    """The bound of each split."""


def optimized_splits(dataset: Dataset, splits: Split, keys: Key[Array, " seeds"]) -> OptimizedSplits:
    """Transform the train rows of every split, and the test rows beside it.

    Args:
        dataset: the data with few features.
        splits: its splits, one per seed, without a scaler.
        keys: one key per seed.
    """
    # columns of few features are named as in `fairjax.datasets.coarse`, for which these distortions are made
    distortion = distortion_adult if "education=<6" in dataset.features else distortion_compas
    tables, mapped, epsilons = [], [], []
    for seed in range(splits.train.shape[0]):
        train, valid, test = (part_of(splits, seed, part) for part in ("train", "valid", "test"))
        method = OptimizedPreprocessing(test="mapped", distortion=distortion).named(dataset)
        epsilons.append(feasible(smallest_epsilon(method.programme(train))))
        method = OptimizedPreprocessing(test="mapped", distortion=distortion, epsilon=epsilons[-1]).named(dataset)
        train_key, test_key = jax.random.split(keys[seed])
        prepared = method.apply(train_key, train)
        x = jnp.concatenate([prepared.train.x, valid.x, test.x])
        y, a = (jnp.concatenate([getattr(p, name) for p in (prepared.train, valid, test)]) for name in ("y", "a"))
        ends = np.cumsum([0, len(train.y), len(valid.y), len(test.y)])
        numbers = [jnp.arange(*pair, dtype=jnp.int32) for pair in zip(ends, ends[1:], strict=False)]
        tables.append(Split(x, y, a, *numbers))
        mapped.append(method.transform(test_key, prepared.fitted, test.x, test.a))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *tables)
    axes = Split(*(None if leaf is None else 0 for leaf in stacked))
    tests = jnp.stack([table.part("test").x for table in tables])
    return OptimizedSplits(stacked, axes, tests, jnp.stack(mapped), epsilons)


def feasible(smallest: float) -> float:
    """Return the bound, or the next feasible multiple of the step if the bound is too small.

    Example:
        >>> feasible(0.01), feasible(0.0612)
        (0.05, 0.062)
    """
    return EPSILON if smallest <= EPSILON else float(round(np.ceil(smallest / STEP) * STEP, 3))
