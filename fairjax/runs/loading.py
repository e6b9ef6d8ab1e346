"""The data of a run: splits of a benchmark file or of simulated tables, and the keys of its seeds."""

import dataclasses
import math
import operator
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairjax import data, datasets
from fairjax.data.own_table import TableColumns, own_table
from fairjax.data.splits import STRATIFY, STREAM
from fairjax.datasets import Simulator
from fairjax.preprocess import prepare_many
from fairjax.runs.memory import check_images_fit
from fairjax.runs.settings import Settings
from fairjax.runs.specification import parse_preprocessor
from fairjax.runs.structure import Structure
from fairjax.types import SHARED, Split

SIMULATION, TRAINING_STREAM, PREPROCESSING_STREAM = 0, 1, 0x9E90
"""Numbers that are folded into a seed's key. The stream of splits and each method have numbers of their own."""


def load(settings: Settings) -> tuple[Split, Split, Structure, dict[str, Any]]:
    """Load the data of a run: the splits of all seeds, their vmap axes, groups and classes, and facts about the data.

    Raises:
        ValueError: if the data cannot be used; the message says why.
        FileNotFoundError: if there is no data file.
    """
    if settings.table:
        return _own(settings)
    if settings.images:
        return _own_images(settings)
    options: dict[str, Any] = {}
    benchmark = datasets.DATASETS[settings.dataset]
    if benchmark.simulator is not None:
        if settings.simulation.tables == "redrawn":
            return _redrawn(settings, benchmark.simulator)
        value = settings.simulation.value(settings.dataset)
        options = {name: getattr(settings.simulation, name) for name in ("rows", "key")}
        options[benchmark.simulator.parameter.name] = value
    elif settings.protected and not benchmark.intersections:
        options = {"protected": settings.protected[0]}
    elif settings.protected or benchmark.several_classes:
        options = {name: getattr(settings, name) for name in ("intersect", "minimum", "small")}
        options |= {"protected": settings.protected} if settings.protected else {}
    dataset = benchmark(settings.path, **options)
    structure = Structure.of(dataset, settings.across, settings.rate_minimum)
    splits, axes = _preprocessed(settings, _split(settings, dataset, structure), SHARED, dataset)
    return splits, axes, structure, _facts(dataset) | _columns(settings, dataset)


def _own(settings: Settings) -> tuple[Split, Split, Structure, dict[str, Any]]:
    """Load a user's own table."""
    chosen = {field.name: getattr(settings, field.name) for field in dataclasses.fields(TableColumns)}
    options = {name: getattr(settings, name) for name in ("missing", "intersect", "minimum", "small")}
    table = own_table(settings.table, TableColumns(**chosen), name=settings.dataset, **options)
    dataset = table.dataset
    structure = Structure.of(dataset, settings.across, settings.rate_minimum)
    facts = _facts(dataset) | {"warnings": list(table.warnings), "encoder": table.encoder.to_plain()}
    facts |= _columns(settings, dataset)
    splits = _split(settings, dataset, structure, table.identities)
    return *_preprocessed(settings, splits, SHARED, dataset), structure, facts


def _own_images(settings: Settings) -> tuple[Split, Split, Structure, dict[str, Any]]:
    """Load a user's own folder of images."""
    chosen = ("positive", "privileged", "split_by", "colours", "uncertain", "incomplete", "on_unreadable")
    options: dict[str, Any] = {name: getattr(settings, name) for name in (*chosen, "intersect", "minimum", "small")}
    sides = settings.image_size
    options["size"] = (sides[0], sides[-1]) if sides else None
    assert settings.images is not None and settings.label is not None
    with warnings.catch_warnings(action="ignore"):  # they are printed with the facts
        loaded = datasets.image_folder(
            settings.images, settings.layout, settings.label, settings.protected, name=settings.dataset, **options
        )
    check_images_fit(loaded.dataset.x, len(settings.runs), settings.group_size)
    structure = Structure.of(loaded.dataset, settings.across, settings.rate_minimum)
    facts = _facts(loaded.dataset) | {"warnings": list(loaded.warnings)}
    splits = _split(settings, loaded.dataset, structure, loaded.identities)
    return *_preprocessed(settings, splits, SHARED, loaded.dataset), structure, facts


def _facts(dataset: data.Dataset) -> dict[str, Any]:
    """Return facts about a data set for the folder of the run."""
    features = sum(int(np.prod(leaf.shape[1:])) for leaf in jax.tree.leaves(dataset.x))
    facts: dict[str, Any] = {"rows": len(dataset.y), "features": features, "protected": dataset.protected}
    facts["names"] = dataset.features
    if dataset.groups is not None:
        facts["group_rows"] = dict(zip(dataset.group_names, map(int, dataset.groups.counts), strict=True))
    if dataset.weights is not None:
        facts["weights"] = _weights_of_groups(dataset)
    return facts


def _columns(settings: Settings, dataset: data.Dataset) -> dict[str, Any]:
    """Return the columns in the order in which a given network gets them, if there is one and the data are a table."""
    is_table = isinstance(dataset.x, np.ndarray) and dataset.x.ndim == 2
    return {"columns": list(dataset.features)} if is_table and settings.network.file is not None else {}


def _weights_of_groups(dataset: data.Dataset) -> dict[str, list[float]]:
    """Return sums of weights and of squared weights of each group, from which effective numbers of rows follow."""
    a, weights = np.asarray(dataset.a), np.asarray(dataset.weights, np.float64)
    members = a if a.ndim == 2 else a[:, None] == np.arange(len(dataset.group_names))
    return {"sums": (weights @ members).tolist(), "squares": (weights**2 @ members).tolist()}


def _split(settings: Settings, dataset: data.Dataset, structure: Structure, identities: Any = None) -> Split:
    """Split a data set for every seed."""
    options: dict[str, Any] = {"stratify": STRATIFY if settings.stratify else None, "standardise": _scaled(settings)}
    options |= {"measure": structure.measure(settings.measure), "identities": identities}
    try:
        return data.split_seeds(dataset, settings.seeds, **options)
    except ValueError as error:
        if not structure.attributes:
            raise
        stratify = "" if settings.stratify or not settings.intersect else ", --stratify"
        flags = f"a larger --minimum, --small pool{stratify}"
        raise ValueError(f"{error}; on the command line: {flags}, other --seeds") from error


def _scaled(settings: Settings) -> bool | None:
    """Return whether features are standardised; None for what is usual for them."""
    if settings.network.file is None or settings.benchmark.images:
        return None
    return settings.network.standardise


def _redrawn(settings: Settings, simulator: Simulator) -> tuple[Split, Split, Structure, dict[str, Any]]:
    """Draw a table for each run."""
    rows, default = settings.simulation.rows, settings.simulation.value(settings.dataset)
    keys = keys_of(settings)
    values = jnp.array([default if value is None else value for _, value in settings.runs])
    draw = jax.jit(jax.vmap(lambda key, value: simulator.draw(key, rows, value)))
    batch = draw(fold_in_all(keys, SIMULATION), values)
    divide = jax.jit(jax.vmap(lambda key, batch: data.split(key, *batch, standardise=_scaled(settings))))
    splits = divide(fold_in_all(keys, STREAM), batch)
    for i, (seed, _) in enumerate(settings.runs):
        one = jax.tree.map(operator.itemgetter(i), splits)
        data.check_split(one._replace(train=one.train[None], valid=one.valid[None], test=one.test[None]), [seed])
    axes = jax.tree.map(lambda _: 0, SHARED._replace(x=0, y=0, a=0))
    structure = Structure(across=settings.across, minimum=settings.rate_minimum)
    features = math.prod(batch.x.shape[2:])
    names = tuple(f"x{number}" for number in range(1, features + 1)) if batch.x.ndim == 3 else ("x",)
    facts = {"rows": rows, "features": features, "protected": "a", "names": names}
    return *_preprocessed(settings, splits, axes), structure, facts


def _preprocessed(
    settings: Settings, splits: Split, axes: Split, dataset: data.Dataset | None = None
) -> tuple[Split, Split]:
    """Preprocess the train parts, if the settings say so, and return the splits with their vmap axes."""
    if not settings.preprocess:
        return splits, axes
    keys, chain = fold_in_all(keys_of(settings), PREPROCESSING_STREAM), map(parse_preprocessor, settings.preprocess)
    try:
        return tuple(prepare_many(tuple(chain), keys, splits, dataset=dataset, axes=axes))
    except ValueError as error:
        raise ValueError(f"preprocess: {error}") from error


def keys_of(settings: Settings) -> jax.Array:
    """Return one key per run: the key of its seed."""
    return jax.vmap(jax.random.key)(jnp.array([seed for seed, _ in settings.runs], jnp.uint32))


def fold_in_all(keys: jax.Array, number: int) -> jax.Array:
    """Fold a number into each key."""
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
