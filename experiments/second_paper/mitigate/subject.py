"""The data of the comparison: one coding, one split per seed, and the variables that stand for the group.

In Adult, y = 1 is an income above 50K and a = 1 are men. In COMPAS, y = 1 is recidivism and a = 1 are defendants who
are not Caucasian. In Bank, y = 1 is a subscription and a = 1 are clients younger than 25. In German, y = 1 is a good
credit risk and a = 1 are men. So y = 1 is more frequent in the group a = 1 in all of them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from experiments.second_paper.mitigate.settings import STUDIED
from fairjax import data, datasets
from fairjax.data import Dataset
from fairjax.detect import variables_of
from fairjax.detect.association import association
from fairjax.runs.loading import TRAINING_STREAM
from fairjax.types import SHARED, Split

TRAIN, VALID = 0.5, 0.2
"""Shares of the parts; the rest is the test part."""

PROXY = 0.15
"""Least association with the group, as Cramér's V or a correlation, of the variables that are taken for proxies."""


class Subject(NamedTuple):
    """A data set, ready for all methods."""

    dataset: Dataset
    """All rows."""
    splits: Split
    """One split per seed."""
    keys: Key[Array, " seeds"]
    """One key per seed."""
    proxies: tuple[str, ...]
    """Variables that are associated with the group, without the protected attribute."""
    axes: Split = SHARED
    """vmap axes of the splits."""

    @property
    def facts(self) -> dict[str, Any]:
        """Numbers of rows and of features, and the proxies."""
        y, a = np.asarray(self.dataset.y), np.asarray(self.dataset.a)
        return {
            "rows": len(y),
            "features": self.dataset.x.shape[1],
            "protected": self.dataset.protected,
            "positive": [float(y[~a].mean()), float(y[a].mean())],
            "share": float(a.mean()),
            "proxies": list(self.proxies),
        }


def subject(name: str, seeds: tuple[int, ...]) -> Subject:
    """Load a data set and split it.

    Args:
        name: a data set of `STUDIED`.
        seeds: the seeds of the splits.

    Raises:
        FileNotFoundError: if its file is not found.
    """
    dataset = datasets.DATASETS[name].load()
    return prepared(dataset._replace(a=~dataset.a) if STUDIED[name].swapped else dataset, seeds)


def prepared(dataset: Dataset, seeds: tuple[int, ...]) -> Subject:
    """Split a data set of the stated coding."""
    splits = data.split_seeds(dataset, seeds, train=TRAIN, valid=VALID)
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))
    found = association(dataset.x, dataset.a, dataset.features, variables_of(dataset.features))
    strong = zip(found.variables, found.strength, strict=True)
    proxies = tuple(name for name, strength in strong if strength >= PROXY and name != dataset.protected)
    return Subject(dataset, splits, keys, proxies)


def stream(keys: Key[Array, " seeds"], number: int = TRAINING_STREAM) -> Key[Array, " seeds"]:
    """Fold a number into each seed's key."""
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def repeated(splits: Split, axes: Split, count: int) -> Split:
    """Repeat the splits of all seeds, so that every seed runs with each of several weights; shared arrays stay shared.

    Returns:
        Splits with the entry of weight w and seed s at w * seeds + s.
    """

    def repeat(leaf: Any, axis: Any) -> Any:
        return leaf if axis is None else jnp.concatenate([leaf] * count)

    leaves = (None if leaf is None else repeat(leaf, axis) for leaf, axis in zip(splits, axes, strict=True))
    return Split(*leaves)
