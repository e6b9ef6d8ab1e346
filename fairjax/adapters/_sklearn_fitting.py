"""Training and debiasing behind the classifiers: splits without a test part, and the best of several networks."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from fairjax.data import Dataset, split
from fairjax.data.scaler import mean_and_scale
from fairjax.data.splits import STRATIFY, required_rows
from fairjax.debiasing import debias
from fairjax.fitting import Fitted, fit
from fairjax.methods import Method
from fairjax.metrics import Measure
from fairjax.nn.network import Network
from fairjax.result import Debiased, Trace
from fairjax.seeds import debias_many, fit_many
from fairjax.selection import Rule
from fairjax.training import Training
from fairjax.types import SHARED, KeyArray, Split, Variables


class Problem(NamedTuple):
    """What is fitted to which data."""

    network: Network
    measure: Measure
    method: Method
    rule: Rule
    training: Training
    table: Dataset
    valid_size: float


class Best(NamedTuple):
    """The selected network."""

    result: Debiased
    """Its result."""
    bias: float
    """The bias that the rule bounds."""
    accuracy: float
    """Balanced accuracy on the validation part."""
    epochs: int
    seed: int


def fit_best(problem: Problem, key: KeyArray, n_seeds: int) -> Best:
    """Train and debias one network per seed, and return the best by the rule.

    Networks that meet the bound come before others; then the rule's score on validation data decides, then balanced
    accuracy, then the number of the seed.

    Args:
        problem: network, measure, method, rule, training and data.
        key: random key, from which the keys of all seeds follow.
        n_seeds: number of seeds.

    Returns:
        The best network.

    Raises:
        ValueError: if a part of a split lacks rows that the measure or balanced accuracy needs, or training diverged.
    """
    split_keys, fit_keys, debias_keys = keys_of_seeds(key, n_seeds)
    splits = splits_of(problem.table, problem.measure, split_keys, problem.valid_size)
    network, measure, training = problem.network, problem.measure, problem.training
    if n_seeds == 1:
        single = split_of_seed(splits, 0)
        fitted = fit(network, single, key=fit_keys[0], training=training)
        options = {"key": debias_keys[0], "rule": problem.rule}
        result = debias(problem.method, network, measure, fitted.variables, single, **options)
        fitted, result = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], (fitted, result))
    else:
        fitted = fit_many(network, splits, keys=fit_keys, training=training)
        options = {"keys": debias_keys, "rule": problem.rule}
        result = debias_many(problem.method, network, measure, fitted.variables, splits, **options)
    if not np.isfinite(fitted.loss).any():
        raise ValueError(
            "training diverged, since the validation loss was never finite: lower the learning rate, such as "
            f"training=Training(learning_rate={float(np.ravel(training.learning_rate)[0]) / 10:g})"
        )
    return _best(problem.rule, fitted, result)


def keys_of_seeds(key: KeyArray, n_seeds: int) -> tuple[Key[Array, " seeds"], ...]:
    """Return the keys of splits, training and debiasing. Those of a seed do not depend on the number of seeds."""
    seeds = jnp.arange(n_seeds, dtype=jnp.uint32)
    keys = jax.vmap(lambda seed: jax.random.split(jax.random.fold_in(key, seed), 3))(seeds)
    return keys[:, 0], keys[:, 1], keys[:, 2]


def splits_of(table: Dataset, measure: Measure, keys: Key[Array, " seeds"], valid_size: float) -> Split:
    """Split the rows into train and validation parts once per key, with an empty test part, and check the parts.

    Args:
        table: the data.
        measure: the measure, which must be defined on both parts.
        keys: one key per split.
        valid_size: share of the validation part.

    Returns:
        The splits, with a leading axis of seeds on everything but the table.

    Raises:
        ValueError: if a part would be empty, or lacks rows that the measure or balanced accuracy needs.
    """
    check_valid_size(len(table.y), valid_size)
    splits = _splits(
        keys,
        *(jnp.asarray(table.x), jnp.asarray(table.y), jnp.asarray(table.a)),
        None if table.weights is None else jnp.asarray(table.weights),
        valid_size=valid_size,
        num_groups=table.num_groups,
        num_classes=table.num_classes,
    )
    _check_parts(table, measure, splits, valid_size)
    return splits


@partial(jax.jit, static_argnames=("valid_size", "num_groups", "num_classes"))
def _splits(keys, x, y, a, weights, *, valid_size: float, num_groups: int, num_classes: int) -> Split:
    shares: dict[str, Any] = {"train": 1.0 - valid_size, "valid": 0.5 * valid_size, "stratify": STRATIFY}
    counts: dict[str, Any] = {"num_groups": num_groups, "num_classes": num_classes}

    def split_rows(key: KeyArray) -> Split:
        parts = split(key, x, y, a, weights=weights, **shares, **counts)
        # Test data are those that `fit` does not get, so all rows that are not in the train part are for validation.
        return parts._replace(valid=jnp.concatenate([parts.valid, parts.test]), test=parts.test[:0])

    axes = SHARED._replace(weights=None)
    return jax.vmap(split_rows, out_axes=axes)(keys)


def split_of_seed(splits: Split, seed: int) -> Split:
    """Return the split of one seed."""
    own = {name: getattr(splits, name)[seed] for name in ("train", "valid", "test", "mean", "scale")}
    return splits._replace(**own)


def check_valid_size(rows: int, valid_size: float) -> None:
    """Check that both parts have at least 2 rows."""
    held_out = rows - int((1.0 - valid_size) * rows)
    if not 2 <= held_out <= rows - 2:
        raise ValueError(
            f"train and validation parts must have at least 2 rows each, found {rows - held_out} and {held_out} of "
            f"{rows} samples for valid_size={valid_size}: pass more samples or another valid_size"
        )


def check_scale(splits: Split, features: Sequence[str]) -> None:
    """Check that all features have a finite mean and scale."""
    scale, mean = np.atleast_2d(np.asarray(splits.scale)), np.atleast_2d(np.asarray(splits.mean))
    wrong = ~(np.isfinite(scale) & np.isfinite(mean) & (scale > 0)).all(axis=0)
    if wrong.any():
        raise ValueError(
            f"column {features[int(np.argmax(wrong))]!r} of X cannot be standardised in single precision: choose "
            "another unit for it"
        )


def _check_parts(table: Dataset, measure: Measure, splits: Split, valid_size: float) -> None:
    """Check that no part lacks rows that the measure or balanced accuracy needs, and that features have a scale."""
    required = required_rows(measure, table.group_names, table.class_names, table.a)
    for part in ("train", "valid"):
        for rows in np.asarray(getattr(splits, part)):
            for description, quantity, select in required:
                if not select(table.y[rows], table.a[rows]).any():
                    count = int(select(table.y, table.a).sum())
                    raise ValueError(
                        f"the {part} part ({len(rows)} rows) has no row with {description}, of which there are {count} "
                        f"among {len(table.y)} samples, and {quantity} is undefined there: pass more samples, pool "
                        f"small groups, or choose another valid_size than {valid_size}"
                    )
    check_scale(splits, table.features)


def _best(rule: Rule, fitted: Fitted, result: Debiased) -> Best:
    """Return the network of the best seed."""

    def evaluate(trace: Trace, selected):
        evaluation = jax.tree.map(lambda entry: entry[selected], trace.for_rule(rule))
        return evaluation.bias, rule(evaluation), trace.valid.balanced_accuracy[selected]

    bias, *scores = (np.asarray(column) for column in jax.vmap(evaluate)(result.trace, result.selected))
    score, accuracy = (np.where(np.isnan(column), -np.inf, column) for column in scores)
    usable, satisfied = np.isfinite(fitted.loss), np.asarray(result.satisfied)
    seed = max(range(len(bias)), key=lambda k: (usable[k], satisfied[k], score[k], accuracy[k]))
    chosen = jax.tree.map(lambda leaf: jnp.asarray(leaf)[seed], result)
    return Best(chosen, float(bias[seed]), float(accuracy[seed]), int(fitted.epochs[seed]), seed)


def split_of_rows(
    table: tuple[Any, Any, Any, Any], key: KeyArray, valid_size: float, *, num_groups: int, num_classes: int
) -> Split:
    """Split the rows once into train and validation parts, with an empty test part, and check the features.

    Args:
        table: features, labels, groups, and weights or None.
        key: the random key.
        valid_size: share of the validation part; with 0, all rows are in both parts.
        num_groups: number of groups.
        num_classes: number of classes.

    Returns:
        The split.

    Raises:
        ValueError: if a part would have fewer than 2 rows, or features have no scale.
    """
    x, y, a, weights = (None if column is None else jnp.asarray(column) for column in table)
    count = y.shape[0]
    if valid_size == 0:
        rows = jnp.arange(count)
        split = Split(x, y, a, rows, rows, rows[:0], *jax.jit(mean_and_scale)(x), weights)
    else:
        check_valid_size(count, valid_size)
        options: dict[str, Any] = {"num_groups": num_groups, "num_classes": num_classes}
        split = split_of_seed(_splits(key[None], x, y, a, weights, valid_size=valid_size, **options), 0)
    check_scale(split, [f"x{column}" for column in range(1, x.shape[1] + 1)])
    return split


def logits_of(
    network: Network, variables: Variables, mean: Any, scale: Any, x: Float[np.ndarray, "n d"]
) -> Float[np.ndarray, "n *c"]:
    """Compute the logits of rows in evaluation mode.

    Rows are filled up to a power of two, so that few programs are compiled for calls with different numbers of rows.

    Args:
        network: the network.
        variables: its variables.
        mean: mean of each feature.
        scale: standard deviation of each feature.
        x: features, not standardised.

    Returns:
        The logits in double precision, (n,) for two classes.

    Raises:
        ValueError: if a value is beyond single precision.
    """
    rows = len(x)
    with np.errstate(over="ignore"):  # values beyond single precision become infinite and are refused below
        table = np.asarray(x, np.asarray(mean).dtype)
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise ValueError(f"X must be finite in single precision, found {x[row, column]} in row {row}, column {column}")
    filled = np.pad(table, ((0, max(8, 1 << (rows - 1).bit_length()) - rows), (0, 0)))
    return np.asarray(_logits(network, variables, mean, scale, filled), np.float64)[:rows]


@partial(jax.jit, static_argnames="network")
def _logits(network: Network, variables: Variables, mean, scale, x):
    return network.apply(variables, (x - mean[None]) / scale[None])[0]
