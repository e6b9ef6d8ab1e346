"""The data of the table: one coding, one split per seed, and the few features of optimized pre-processing.

In all rows, y = 1 is the favourable label: an income above 50K, and no recidivism; a = 1 is the privileged group: men,
and Caucasian defendants. This is the coding of AIF360.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt32

from fairjax import data, datasets
from fairjax.data import Dataset
from fairjax.data.dataset import from_arrays
from fairjax.runs.loading import TRAINING_STREAM
from fairjax.types import Rows, Split

TRAIN, VALID = 0.5, 0.2
"""Shares of the parts; the rest is the test part."""


class Subject(NamedTuple):
    """One data set, ready for all rows of the table."""

    dataset: Dataset
    """The data with all features."""
    few: Dataset
    """The same rows with few discrete features."""
    splits: Split
    """The splits of `dataset`, one per seed."""
    key_data: UInt32[Array, "seeds _"]
    """Data of the keys for training."""
    facts: dict[str, Any]
    """Numbers of rows, and ratios of favourable labels."""

    @property
    def keys(self) -> Key[Array, " seeds"]:
        """The keys for training; all rows of the table use the same ones, on purpose."""
        return jax.random.wrap_key_data(self.key_data)


def subject(name: str, duplicates: str, seeds: tuple[int, ...]) -> Subject:
    """Load a data set and split it.

    Args:
        name: "adult" or "compas".
        duplicates: "keep" or "drop".
        seeds: the seeds of the splits.

    Raises:
        FileNotFoundError: if its file is not found.
    """
    dataset = favourable(datasets.DATASETS[name].load(duplicates=duplicates))
    facts: dict[str, Any] = {"rows": len(dataset.y), "features": dataset.x.shape[1], "protected": dataset.protected}
    facts["parity"] = ratio(dataset.y, dataset.a)
    if name == "compas" and duplicates == "keep":
        facts["parity_recidivism"] = recidivism_ratio()
    return prepared(dataset, facts, seeds)


def prepared(dataset: Dataset, facts: dict[str, Any], seeds: tuple[int, ...]) -> Subject:
    """Split a data set of the stated coding."""
    splits = numbers_scaled(data.split_seeds(dataset, seeds, train=TRAIN, valid=VALID))
    keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), TRAINING_STREAM))(
        jnp.asarray(seeds, jnp.uint32)
    )
    return Subject(dataset, few_features(dataset), splits, jax.random.key_data(keys), facts)


def favourable(dataset: Dataset) -> Dataset:
    """Return the data with y = 1 for the favourable label; in the file of COMPAS, 1 is recidivism."""
    return dataset._replace(y=~dataset.y) if dataset.name == "compas" else dataset


def ratio(decisions: Any, a: Any) -> float:
    """Return P(d = 1 | a = 0) / P(d = 1 | a = 1)."""
    decisions, a = np.asarray(decisions, bool), np.asarray(a, bool)
    return float(decisions[~a].mean() / decisions[a].mean())


def recidivism_ratio() -> float:
    """Return P(recidivism | Caucasian) / P(recidivism | African-American) in all rows of COMPAS."""
    named = datasets.compas(protected="race")
    races = np.array(named.group_names)[named.a]
    two = np.isin(races, ("African-American", "Caucasian"))
    return ratio(named.y[two], races[two] == "African-American")


def few_features(dataset: Dataset) -> Dataset:
    """Return the same rows with the discrete features of optimized pre-processing (Calmon et al. 2017).

    They are those of `fairjax.datasets.coarse`, made from the columns of the prepared data: decade of age, years of
    education and race for Adult; category of age, number of priors, degree of the charge and sex for COMPAS.
    """
    column = dict(zip(dataset.features, np.asarray(dataset.x).T, strict=True))
    if dataset.name == "adult":
        decades = np.minimum(column["age"] // 10 * 10, 70).astype(int)
        years = np.clip(column["education-num"].astype(int), 5, 13)
        few = {f"age={'>=70' if value == 70 else value}": decades == value for value in range(10, 80, 10)}
        few |= {f"education={ {5: '<6', 13: '>12'}.get(value, value) }": years == value for value in range(5, 14)}
        few["race"] = column["race"]
    else:
        copied = [name for name in dataset.features if name.startswith(("age_cat=", "c_charge_degree="))]
        few = {name: column[name] for name in copied}
        priors = np.digitize(column["priors_count"], (1, 4))
        few |= {f"priors_count={name}": priors == i for i, name in enumerate(("0", "1 to 3", "More than 3"))}
        few["sex"] = column["sex"]
    x = np.stack([np.asarray(values, np.float32) for values in few.values()], axis=1)
    return from_arrays(
        x, dataset.y, dataset.a, name=f"{dataset.name}_few", features=tuple(few), protected=dataset.protected
    )


def numbers_scaled(splits: Split) -> Split:
    """Return splits that standardise numbers, and leave columns of 0 and 1 as they are.

    A rare category, such as the text of a charge that one person in thousands has, would otherwise be a number above
    50, by which networks memorise single rows.
    """
    flags = ((splits.x == 0) | (splits.x == 1)).all(axis=0)[None]
    return splits._replace(mean=jnp.where(flags, 0.0, splits.mean), scale=jnp.where(flags, 1.0, splits.scale))


def same_splits(few: Dataset, splits: Split) -> Split:
    """Return the splits of the table of few features, with the same row numbers; its columns are all 0 and 1."""
    return splits._replace(x=jnp.asarray(few.x), mean=None, scale=None)


def part_of(splits: Split, seed: int, part: str) -> Rows:
    """Return the rows of a part of one seed's split, standardised."""
    names = [name for name in ("train", "valid", "test", "mean", "scale") if getattr(splits, name) is not None]
    return splits._replace(**{name: getattr(splits, name)[seed] for name in names}).part(part)


def inputs_of(splits: Split, part: str) -> Float[Array, "seeds n d"]:
    """Return the standardised features of a part for all seeds."""
    return jnp.stack([part_of(splits, seed, part).x for seed in range(splits.train.shape[0])])
