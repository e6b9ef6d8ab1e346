"""The data of a run: splits of a benchmark file or of simulated tables, and the keys of its seeds."""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.settings import SIMULATED, Debias
from fairjax import data
from fairjax.data.splits import STREAM
from fairjax.types import SHARED, Split

SIMULATION, TRAINING = 0, 1
"""What a seed's key is folded with; its split has a number of its own, and so have methods."""


def load(settings: Debias) -> tuple[Split, Split, dict[str, Any]]:
    """The data of a run: the splits of all seeds, their vmap axes, and what the data are.

    Raises:
        ValueError: for data that cannot be used, naming what is wrong.
        FileNotFoundError: if there is no file.
    """
    if settings.dataset in SIMULATED:
        return _simulated(settings)
    options: dict[str, Any] = {"protected": settings.protected} if settings.dataset == "german" else {}
    dataset = data.DATASETS[settings.dataset](settings.path, **options)
    facts = {"rows": len(dataset.y), "features": dataset.x.shape[1], "protected": dataset.protected}
    return data.split_seeds(dataset, settings.seeds), SHARED, facts


def _simulated(settings: Debias) -> tuple[Split, Split, dict[str, Any]]:
    chosen = settings.simulation

    def draw(key, value):
        if settings.dataset == "zafar":
            return data.zafar(key, chosen.rows, value)
        # the features alone know nothing of the groups: a classifier is biased only if it sees the attribute
        return data.append_protected(data.loh(key, chosen.rows, value))

    if chosen.tables == "fixed":
        batch = jax.jit(draw)(jax.random.key(chosen.key), jnp.array(_parameter(settings, None)))
        dataset = data.from_arrays(*map(np.asarray, batch), name=settings.dataset)
        splits, axes = data.split_seeds(dataset, settings.seeds), SHARED
        features = batch.x.shape[1]
    else:
        keys, values = keys_of(settings), jnp.array([_parameter(settings, value) for _, value in settings.runs])
        batch = jax.jit(jax.vmap(draw))(fold(keys, SIMULATION), values)
        splits = jax.jit(jax.vmap(lambda key, batch: data.split(key, *batch)))(fold(keys, STREAM), batch)
        for i, (seed, _) in enumerate(settings.runs):
            one = jax.tree.map(operator.itemgetter(i), splits)
            data.check_split(one._replace(train=one.train[None], valid=one.valid[None], test=one.test[None]), [seed])
        axes = jax.tree.map(lambda _: 0, SHARED._replace(x=0, y=0, a=0))
        features = batch.x.shape[2]
    return splits, axes, {"rows": chosen.rows, "features": features, "protected": "a"}


def _parameter(settings: Debias, value: float | None) -> float:
    """The simulated parameter of a run."""
    chosen = settings.simulation
    return value if value is not None else chosen.theta if settings.dataset == "zafar" else chosen.alpha


def keys_of(settings: Debias) -> jax.Array:
    """A key for each run: that of its seed."""
    return jax.vmap(jax.random.key)(jnp.array([seed for seed, _ in settings.runs], jnp.uint32))


def fold(keys: jax.Array, number: int) -> jax.Array:
    """The keys, each folded with a number."""
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
