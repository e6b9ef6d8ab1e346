"""Quality disparity: accuracy in groups with few rows, and what raises it.

Two kinds of data. Made data: 3 % of the train rows are of a group with another rule, and the test part is balanced.
Adult by race and sex: the groups are intersections, the smallest of which has a few hundred rows.
"""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.second_paper.mitigate.settings import EPOCHS, Mitigate
from experiments.second_paper.mitigate.subject import TRAIN, VALID, stream
from fairjax import Mlp, Training, data, datasets, fit_many, from_linen
from fairjax.data import Dataset
from fairjax.data.minority import minority
from fairjax.data.splits import STRATIFY
from fairjax.losses import Loss
from fairjax.nn import Network
from fairjax.preprocess import prepare_many
from fairjax.runs.composed_losses import made_loss
from fairjax.runs.loading import PREPROCESSING_STREAM
from fairjax.runs.specification import parse_preprocessor
from fairjax.types import SHARED, Batch, Split, Variables

ROWS, SHARE, ANGLE, SOURCE_ANGLE = 4000, 0.03, 75.0, 20.0
"""Train rows of the made data, the share of the minority, and the angles of its rule there and in a source."""

EXTRA, TESTED = 2000, 8000
"""Further rows of the minority, and test rows."""

MADE, ADULT = "minority", "adult_race_sex"
"""The two kinds of data."""


class Way(NamedTuple):
    """A way to raise the accuracy of the smallest group: a row of the table."""

    label: str
    preprocess: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()
    extra: bool = False
    """Whether there are further rows of the minority in the train part."""
    source: bool = False
    """Whether networks start from those of a balanced source with another rule."""


WAYS: dict[str, Way] = {
    "nothing": Way("Nothing"),
    "group_weights": Way("Groups weighted equally", ("reweighing,target=groups",)),
    "oversampling": Way("Equal cells, oversampled", ("balancing",)),
    "undersampling": Way("Equal cells, undersampled", ("balancing,to=smallest",)),
    "smote": Way("SMOTE rows", ("smote",)),
    "gaussian_cells": Way("Gaussian rows", ("gaussian_cells",)),
    "group_robust": Way("Worst group's loss", terms=("group_robust:3",)),
    "extra_rows": Way("2,000 more rows of the group", extra=True),
    "transfer": Way("Transfer from a balanced source", source=True),
    "transfer_weights": Way("Transfer, groups weighted equally", ("reweighing,target=groups",), source=True),
}
"""The rows by name. Those with further rows or a source are for the made data only."""


class Data(NamedTuple):
    """Splits of one kind of data."""

    splits: Split
    axes: Split
    names: tuple[str, ...]
    """Names of the groups, in the order of their codes."""
    network: Network
    training: Training
    dataset: Dataset | None = None


def ways(kind: str) -> list[str]:
    """Return the names of the rows for a kind of data."""
    return [name for name, way in WAYS.items() if kind == MADE or not (way.extra or way.source)]


def load(kind: str, settings: Mitigate, extra: bool = False) -> Data:
    """Make or load the data.

    Args:
        kind: one of the two kinds.
        settings: the settings.
        extra: whether the train part of the made data has further rows of the minority.
    """
    if kind == MADE:
        training = Training(batch_size=64, epochs=settings.epochs or 30, check_every=1)
        names, network = ("minority", "majority"), from_linen(Mlp(widths=(32, 32), dropout=0.0))
        return Data(*made_splits(settings.seeds, extra=extra), names, network, training)
    dataset = datasets.adult(protected=("race", "sex"))
    splits = data.split_seeds(dataset, settings.seeds, train=TRAIN, valid=VALID, stratify=STRATIFY)
    training = settings.training("adult") if settings.epochs else Training(batch_size=256, epochs=EPOCHS["adult"])
    network = from_linen(Mlp(widths=settings.widths, dropout=0.0))
    return Data(splits, SHARED, dataset.group_names, network, training, dataset)


def made_splits(seeds: tuple[int, ...], *, extra: bool = False, source: bool = False) -> tuple[Split, Split]:
    """Draw a table per seed: train and valid rows with a minority, and balanced test rows.

    Args:
        seeds: the seeds.
        extra: whether there are further rows of the minority in the train part.
        source: whether both groups are equally large, and the minority has the rule of the source.
    """
    share, angle = (0.5, SOURCE_ANGLE) if source else (SHARE, ANGLE)

    def draw(key: Any) -> Batch:
        keys = jax.random.split(key, 4)
        parts = [minority(part_key, ROWS, angle, share=share) for part_key in keys[:2]]
        more = minority(keys[2], 2 * EXTRA, angle, share=0.5)
        first = jnp.argsort(more.a, stable=True)[:EXTRA]
        parts += [Batch(more.x[first], more.y[first], more.a[first])] if extra else []
        parts += [minority(keys[3], TESTED, angle, share=0.5)]
        return Batch(*(jnp.concatenate([getattr(part, name) for part in parts]) for name in ("x", "y", "a")))

    tables = jax.jit(jax.vmap(draw))(stream(jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32)), 0xDA7A))
    count, numbers = len(seeds), np.arange(tables.y.shape[1], dtype=np.int32)
    middle = numbers[2 * ROWS : 2 * ROWS + (EXTRA if extra else 0)]
    rows = [np.concatenate([numbers[:ROWS], middle]), numbers[ROWS : 2 * ROWS], numbers[-TESTED:]]
    train, valid, test = (jnp.broadcast_to(jnp.asarray(part), (count, len(part))) for part in rows)
    x = tables.x[:, rows[0]]
    splits = Split(tables.x, tables.y, tables.a, train, valid, test, x.mean(axis=1), x.std(axis=1))
    return splits, Split(*(None if leaf is None else 0 for leaf in splits))


def compute(kind: str, name: str, settings: Mitigate) -> dict[str, Any]:
    """Train the networks of a row, and return the accuracy of each group on test rows, one entry per seed."""
    way, keys = WAYS[name], jax.vmap(jax.random.key)(jnp.asarray(settings.seeds, jnp.uint32))
    loaded = load(kind, settings, way.extra)
    splits, axes, beginning = loaded.splits, loaded.axes, time.perf_counter()
    if way.preprocess:
        chain = [parse_preprocessor(text) for text in way.preprocess]
        prepare_keys = stream(keys, PREPROCESSING_STREAM)
        splits, axes = prepare_many(chain, prepare_keys, splits, dataset=loaded.dataset, axes=axes)
    start, training = _source(keys, loaded, settings) if way.source else None, loaded.training
    if way.source:  # few epochs, from networks that know the source
        training = Training(batch_size=64, epochs=min(5, training.epochs), check_every=1)
    loss = made_loss("cross_entropy", way.terms)
    loss = Loss(terms=loss.terms, num_groups=len(loaded.names)) if loss.terms else loss
    fitted = fit_many(
        loaded.network, splits, keys=stream(keys), training=training, loss=loss, start=start, axes=axes
    )  # fmt: skip
    right = accuracies(loaded.network, fitted.variables, splits, axes, len(loaded.names))
    seconds = time.perf_counter() - beginning
    rows = np.bincount(np.asarray(_first(loaded.splits, loaded.axes).part("train").a).astype(int)).tolist()
    return {"groups": list(loaded.names), "train_rows": rows, "accuracy": right, "seconds": round(seconds, 3)}


def _source(keys: Any, loaded: Data, settings: Mitigate) -> Variables:
    """Train networks on the balanced source."""
    splits, axes = made_splits(settings.seeds, source=True)
    return fit_many(loaded.network, splits, keys=stream(keys, 0x50), training=loaded.training, axes=axes).variables


def accuracies(network: Network, variables: Variables, splits: Split, axes: Split, groups: int) -> list[list[float]]:
    """Return the accuracy at the threshold 0.5 on all test rows, and on those of each group, for every seed."""

    def one(item: Any) -> jax.Array:
        variables, mapped = item
        split = Split(*(shared if own is None else own for shared, own in zip(fixed, mapped, strict=True)))
        test = split.part("test")
        right = (network.apply(variables, test.x)[0] > 0) == test.y
        of_groups = [jnp.mean(right, where=test.a.astype(jnp.int32) == g) for g in range(groups)]
        return jnp.stack([jnp.mean(right), *of_groups])

    fixed = Split(*(leaf if axis is None else None for leaf, axis in zip(splits, axes, strict=True)))
    mapped = Split(*(None if axis is None else leaf for leaf, axis in zip(splits, axes, strict=True)))
    return np.asarray(jax.jit(lambda item: jax.lax.map(one, item))((variables, mapped))).astype(float).tolist()


def _first(splits: Split, axes: Split) -> Split:
    """Return the split of the first seed."""
    return Split(*(leaf if axis is None else leaf[0] for leaf, axis in zip(splits, axes, strict=True)))
