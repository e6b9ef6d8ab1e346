"""A small table, its splits, and the options with which every registered preprocessor can be applied to it."""

import functools

import jax
import numpy as np

from fairjax.data import from_arrays, split_seeds
from fairjax.preprocess import PREPROCESSORS

NAMES = ("age", "hours", "sex", "job=cook", "job=clerk", "job=smith")
SEEDS = (1, 2, 3)

OPTIONS = {"optimized": {"epsilon": 0.2, "probabilities": (0.5, 0.3, 0.0)}}
"""Options of preprocessors whose defaults are infeasible for so few rows."""


def columns(n=300, seed=0):
    """Draw features in the order of NAMES, labels and groups; few values, so that all features are discrete."""
    rng = np.random.default_rng(seed)
    a = rng.random(n) < 0.7
    age = 10.0 * rng.integers(2, 5, n) + 10.0 * (a & (rng.random(n) < 0.3))
    hours = rng.integers(0, 2, n).astype(float)
    job = np.where(rng.random(n) < 0.3, 2 * a, rng.integers(0, 3, n))
    y = rng.random(n) < 0.2 + 0.3 * a + 0.2 * (age > 30)
    x = np.stack([age, hours, a.astype(float), job == 0, job == 1, job == 2], axis=1)
    return x.astype(np.float32), y, a


@functools.cache
def dataset():
    return from_arrays(*columns(), name="table", features=NAMES, protected="sex")


@functools.cache
def splits():
    return split_seeds(dataset(), SEEDS)


def one_split(seed=0):
    """The split of one seed."""
    table = splits()
    per_seed = ("train", "valid", "test", "mean", "scale")
    return table._replace(**{name: getattr(table, name)[seed] for name in per_seed})


def raw_part(split, name):
    """A part that is not standardised."""
    return split._replace(mean=None, scale=None).part(name)


def made(name, **options):
    """A registered preprocessor for the table."""
    return PREPROCESSORS[name](**{**OPTIONS.get(name, {}), **options}).named(dataset())


@jax.jit
def _applied(preprocessor, key, rows):
    return preprocessor.apply(key, rows)


def apply(preprocessor, key, rows):
    """Apply a preprocessor to concrete rows, in one compiled program."""
    return _applied(preprocessor.ready(rows), key, rows)


def keys(seed=7):
    return jax.random.split(jax.random.key(seed), len(SEEDS))


def of_seed(prepared, seed):
    """The split of one seed among preprocessed ones."""
    pairs = zip(prepared.splits, prepared.axes, strict=True)
    return type(prepared.splits)(*(leaf if axis is None or leaf is None else leaf[seed] for leaf, axis in pairs))
