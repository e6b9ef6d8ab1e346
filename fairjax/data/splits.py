"""Random train, valid and test parts of a data set, one split a seed."""

import functools
import operator
import warnings
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from fairjax.checks import both, indicator, numeric, vector
from fairjax.data.dataset import Dataset
from fairjax.types import KeyArray, Split

SEEDS = (
    42, 73, 666, 777, 1009, 1279, 1597, 1811, 1949, 2053, 2129, 2287, 2617, 2741, 2903, 3079, 3257, 3413, 3571, 3727,
)  # fmt: skip
"""The seeds of the published experiments."""

STREAM = 0x73706C69
"""Folded into a seed's key for the split, so that training and debiasing may fold other numbers into the same key."""


def split(
    key: KeyArray,
    x: Float[Array, "n d"],
    y: Bool[Array, " n"],
    a: Bool[Array, " n"],
    *,
    train: float = 0.6,
    valid: float = 0.2,
) -> Split:
    """Divide the rows at random, and fit a scaler on the train part.

    Of n rows the train part gets int(train * n), the train and valid parts together int((train + valid) * n), and the
    test part the rest. The scaler is the mean and the standard deviation (that of the population, not the unbiased one)
    of each feature over the train part; a feature that is constant there has scale 1.

    Pure: can be jitted with the shares static, and mapped over `key` with `out_axes=SHARED`.

    Args:
        key: Random key.
        x: Features.
        y: Labels.
        a: Protected attribute.
        train: Share of the train part.
        valid: Share of the valid part.

    Returns:
        The split; `check_split` says whether its parts hold all groups.

    Raises:
        ValueError: If the shares leave a part without rows.

    Example:
        >>> x = jnp.arange(20.0).reshape(10, 2)
        >>> parts = split(jax.random.key(0), x, y=x[:, 0] > 9, a=x[:, 0] < 5)
        >>> len(parts.train), len(parts.valid), len(parts.test)
        (6, 2, 2)
    """
    x = jnp.asarray(numeric("x", x))
    if x.ndim < 2:
        raise ValueError(f"x must have rows and features, found shape {x.shape}")
    y, a = vector("y", y), vector("a", a)
    if not x.shape[0] == y.shape[0] == a.shape[0]:
        raise ValueError(f"x, y and a must have as many rows, found {x.shape[0]}, {y.shape[0]} and {a.shape[0]}")
    (y, valid_y), (a, valid_a) = indicator("y", y), indicator("a", a)
    *rows, mean, scale = _parts(key, x, train, valid)
    known = both(valid_y, valid_a)
    # a traced label that is neither 0 nor 1 makes every standardised feature NaN, and so every result
    return Split(x, y, a, *rows, mean if known is None else jnp.where(known, mean, jnp.nan), scale)


def split_seeds(dataset: Dataset, seeds: Sequence[int], *, train: float = 0.6, valid: float = 0.2) -> Split:
    """Split a data set once a seed, and check every part of every split.

    A seed's split depends on nothing but the seed and the data.

    Args:
        dataset: The data.
        seeds: One seed a split, all different.
        train: Share of the train part.
        valid: Share of the valid part.

    Returns:
        The splits: one table, and a leading axis of seeds on everything else. Map over them with `in_axes=SHARED`.

    Raises:
        ValueError: If there are no seeds, a seed occurs twice or is not in [0, 2**32), a part has no rows, or a part of
            some seed lacks a group (see `check_split`).

    Example:
        >>> from fairjax.data import from_arrays, loh
        >>> from fairjax.types import SHARED
        >>> x, y, a = loh(jax.random.key(0), 500)
        >>> splits = split_seeds(from_arrays(x, y, a), seeds=(42, 73))
        >>> splits.x.shape, splits.train.shape, splits.mean.shape
        ((500, 10), (2, 300), (2, 10))
        >>> jax.vmap(lambda split: split.part("train").x.mean(), in_axes=(SHARED,))(splits).shape
        (2,)
    """
    _check_seeds(seeds)
    if dataset.weights is not None:
        warnings.warn(
            "the data set has sample weights, which splits do not carry yet: training, thresholds and debiasing count "
            "every row once; pass dataset.weights to the measures yourself",
            stacklevel=2,
        )
    x, y, a = jnp.asarray(dataset.x), jnp.asarray(dataset.y), jnp.asarray(dataset.a)
    splits = Split(x, y, a, *_parts_by_seed(jnp.asarray(seeds, jnp.uint32), x, train=train, valid=valid))
    check_split(splits, seeds)
    return splits


def check_split(splits: Split, seeds: Sequence[int]) -> None:
    """Refuse splits that a parity measure is undefined on.

    Every part must hold both labels, both groups, and both groups among the rows with y = 1. Reads the values, so it
    cannot be jitted.

    Args:
        splits: Splits with a leading axis of seeds.
        seeds: The seed of each, to be named in the message.

    Raises:
        ValueError: If the number of seeds is not that of the splits, or a part lacks a group.

    Example:
        >>> from fairjax.types import SHARED
        >>> x = jnp.arange(20.0).reshape(10, 2)
        >>> keys = jax.random.split(jax.random.key(0), 1)
        >>> halves = jax.vmap(lambda key: split(key, x, x[:, 0] > 9, x[:, 0] > 9), out_axes=SHARED)(keys)
        >>> check_split(halves, seeds=(42,))
        Traceback (most recent call last):
        ...
        ValueError: seed 42: ...
    """
    y, a = np.asarray(splits.y), np.asarray(splits.a)
    if splits.train.ndim != 2 or len(splits.train) != len(seeds):
        raise ValueError(
            f"splits must have one row of row numbers a seed, found train of shape {splits.train.shape} for "
            f"{len(seeds)} seeds: make them with split_seeds"
        )
    for part in ("train", "valid", "test"):
        for seed, rows in zip(seeds, np.asarray(getattr(splits, part)), strict=True):
            _check_part(seed, part, y[rows], a[rows])


Parts = tuple[Int[Array, "..."], Int[Array, "..."], Int[Array, "..."], Float[Array, "..."], Float[Array, "..."]]
"""What a split owns: the row numbers of train, valid and test, and the mean and scale of the train part."""


@functools.partial(jax.jit, static_argnames=("train", "valid"))
def _parts_by_seed(seeds: UInt32[Array, " seeds"], x: Float[Array, "n d"], *, train: float, valid: float) -> Parts:
    """The parts of every seed, one after another: at once, the train parts would be as many copies of the table."""

    def one(seed: UInt32[Array, ""]) -> Parts:
        return _parts(jax.random.fold_in(jax.random.key(seed), STREAM), x, train, valid)

    return jax.lax.map(one, seeds)


def _parts(key: KeyArray, x: Float[Array, "n d"], train: float, valid: float) -> Parts:
    """The parts of one key."""
    first, second = _ends(x.shape[0], train, valid)
    rows = jax.random.permutation(key, x.shape[0])
    return rows[:first], rows[first:second], rows[second:], *_scaler(jnp.take(x, rows[:first], axis=0))


def _ends(n: int, train: float, valid: float) -> tuple[int, int]:
    """Where the train and the valid part end."""
    first, second = int(train * n), int((train + valid) * n)
    if not 0 < first < second < n:
        raise ValueError(
            f"every part must have a row, found {first}, {second - first} and {n - second} rows in train, valid and "
            f"test for shares {train}, {valid} and the rest of {n} rows: use more rows or other shares"
        )
    return first, second


def _scaler(x: Float[Array, "n d"]) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    """Mean and standard deviation of each column; 1 in place of the deviation of a constant column."""
    low, high = jnp.min(x, axis=0), jnp.max(x, axis=0)
    # sums of many float32 values round, so the mean is corrected by that of the deviations, which are small
    rough = jnp.mean(x, axis=0)
    mean = rough + jnp.mean(x - rough[None, :], axis=0)
    deviation = jnp.sqrt(jnp.mean((x - mean[None, :]) ** 2, axis=0))
    # rounding may leave a constant column a tiny deviation, so that is not what to ask
    constant = low == high
    return jnp.where(constant, low, mean), jnp.where(constant, 1.0, deviation)


def _check_seeds(seeds: Sequence[int]) -> None:
    """Refuse no seeds, equal seeds, and what is no 32-bit seed."""
    if len(seeds) == 0:
        raise ValueError("seeds must hold at least one seed, found none: the published experiments use SEEDS")
    numbers = [operator.index(seed) for seed in seeds]
    wrong = [seed for seed in numbers if not 0 <= seed < 2**32]
    if wrong:
        raise ValueError(f"seeds must be at least 0 and less than 2**32, found {wrong[0]}")
    twice = sorted({seed for seed in numbers if numbers.count(seed) > 1})
    if twice:
        raise ValueError(f"seeds must be different, found {', '.join(map(str, twice))} more than once: drop the copies")


def _check_part(seed: int, part: str, y: Bool[np.ndarray, " m"], a: Bool[np.ndarray, " m"]) -> None:
    """Refuse a part that lacks a label, a group, or a group among the rows with y = 1."""
    groups = {
        "y=0": (~y, "balanced accuracy"),
        "y=1": (y, "balanced accuracy"),
        "a=0": (~a, "SPD"),
        "a=1": (a, "SPD"),
        "a=0 and y=1": (~a & y, "EOD"),
        "a=1 and y=1": (a & y, "EOD"),
    }
    for group, (rows, measure) in groups.items():
        if not rows.any():
            raise ValueError(
                f"seed {seed}: the {part} part ({len(y)} rows) has no row with {group}; {measure} is undefined there; "
                "use more rows, another seed, or larger parts"
            )
