"""The data of `quality`: rows of an under-served group, more of its real rows that are held back, and a source."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from fairjax import data, datasets
from fairjax.data import Dataset
from fairjax.data.minority import minority
from fairjax.data.scaler import mean_and_scale
from fairjax.types import Batch, Split, concatenated

DATA_STREAM, HOLDING_STREAM, TRAINING_STREAM = 0x9A11, 0x9A12, 0x9A13
"""Numbers that are folded into a seed's key for simulated rows, for the choice of held-back rows, and for training."""

SOURCE_ANGLE = 20.0
"""Angle of the minority's rule in the simulated source, in degrees; it is 75 in the target."""

MADE_VALID, MADE_TEST = 0.25, 1.0
"""Numbers of valid and of test rows of the simulated data, as shares of the number of train rows."""


class Problem(NamedTuple):
    """One data set, ready for all rows of the table. All row numbers are those of one table, shared by all seeds."""

    name: str
    splits: Split
    """The splits, one per seed."""
    more: Int[Array, "seeds k"]
    """Real rows of the under-represented groups that are not in the train part."""
    source: Int[Array, "seeds s"]
    """Rows of a source with as many rows of under-represented groups as of others."""
    keys: Key[Array, " seeds"]
    """The keys for training."""
    groups: tuple[str, ...]
    """Names of the groups, in the order of their codes."""
    compared: tuple[int, ...]
    """Codes of the groups with enough test rows."""
    facts: dict[str, Any]
    """Numbers of rows of the parts, and numbers of test rows per group."""
    dataset: Dataset | None = None
    """The data set, with names of columns, if it was loaded."""


def problem(name: str, seeds: tuple[int, ...], *, rows: int, minimum: int) -> Problem:
    """Make or load a data set and split it.

    Args:
        name: "minority" or "adult".
        seeds: the seeds.
        rows: number of train rows of the simulated data.
        minimum: least number of test rows of a group that is compared.

    Raises:
        FileNotFoundError: if a file is not found.
        ValueError: if fewer than two groups have enough test rows.
    """
    return made_problem(seeds, rows, minimum) if name == "minority" else adult_problem(seeds, minimum)


def seed_keys(seeds: tuple[int, ...], stream: int) -> Key[Array, " seeds"]:
    """Return one key per seed for one use."""
    return jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), stream))(jnp.asarray(seeds, jnp.uint32))


def made_problem(seeds: tuple[int, ...], rows: int, minimum: int) -> Problem:
    """Draw the simulated data anew for each seed: 3 % of the train rows are of a minority with another rule.

    The valid part is drawn like the train part, the test part is balanced, `more` is half as many rows of the minority
    alone as there are train rows, and the source is balanced and has another angle between the rules.
    """
    sizes = _made_sizes(rows)
    tables = _made_tables(seed_keys(seeds, DATA_STREAM), rows)
    x, y, a = (column.reshape(-1, *column.shape[2:]) for column in tables)
    first = np.arange(len(seeds))[:, None] * sum(sizes.values())
    ends = np.cumsum([0, *sizes.values()])
    numbers = {
        name: jnp.asarray(first + np.arange(start, end), jnp.int32)
        for name, start, end in zip(sizes, ends, ends[1:], strict=False)
    }
    more, source = numbers.pop("more"), numbers.pop("source")
    splits = _scaled(Split(x, y, a, **numbers))
    return _finished("minority", splits, more, source, seeds, ("minority", "majority"), minimum)


def _made_sizes(rows: int) -> dict[str, int]:
    """Return the numbers of rows of the simulated parts, in their order in the table."""
    sizes = {"train": rows, "valid": int(MADE_VALID * rows), "test": int(MADE_TEST * rows)}
    return sizes | {"more": rows // 2, "source": rows}


@functools.partial(jax.jit, static_argnums=1)
def _made_tables(keys: Key[Array, " seeds"], rows: int) -> Batch:
    sizes = _made_sizes(rows)

    def table(key: Key[Array, ""]) -> Batch:
        keys = dict(zip(sizes, jax.random.split(key, len(sizes)), strict=True))
        more = minority(keys["more"], 2 * sizes["more"], share=0.5)
        few = jnp.nonzero(~more.a, size=sizes["more"])[0]
        parts = [
            minority(keys["train"], sizes["train"]),
            minority(keys["valid"], sizes["valid"]),
            minority(keys["test"], sizes["test"], share=0.5),
            jax.tree.map(lambda column: column[few], more),
            minority(keys["source"], sizes["source"], SOURCE_ANGLE, share=0.5),
        ]
        return jax.tree.map(concatenated, *parts)

    return jax.vmap(table)(keys)


def adult_problem(seeds: tuple[int, ...], minimum: int) -> Problem:
    """Load Adult with the cells of race and sex as groups, and split it by group and label.

    The parts are 50 % train, 20 % valid and 30 % test rows. Half of the train rows of people who are not white are held
    back and are `more`. The source consists of these rows and of equally many rows of white people, which are held back
    as well, so that no row of the train part is in the source.
    """
    dataset = datasets.adult(protected=("race", "sex"), minimum=1)
    splits = data.split_seeds(dataset, seeds, train=0.5, valid=0.2, stratify="group and label")
    few = np.array([not name.startswith("White") for name in dataset.group_names])
    cells = np.asarray(dataset.y).astype(int) * dataset.num_groups + np.asarray(dataset.a)
    is_few = few[np.asarray(dataset.a)]
    parts = [
        held_back(np.asarray(train), cells, is_few, np.asarray(jax.random.uniform(key, train.shape)))
        for train, key in zip(splits.train, seed_keys(seeds, HOLDING_STREAM), strict=True)
    ]
    train, more, source = (_stacked([part[i] for part in parts]) for i in range(3))
    splits = _scaled(splits._replace(train=train))
    return _finished("adult", splits, more, source, seeds, dataset.group_names, minimum, dataset)


def held_back(
    train: Int[np.ndarray, " n"], cells: Int[np.ndarray, " rows"], few: Bool[np.ndarray, " rows"], order: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hold back every other row of each cell of under-represented groups, and as many other rows.

    Args:
        train: row numbers of the train part.
        cells: the cell of label and group of each row of the table.
        few: whether the group of each row of the table is under-represented.
        order: random numbers, one per train row, which decide what is held back.

    Returns:
        Row numbers: those left in the train part; those held back of the under-represented groups; and the source.
    """
    shuffled = train[np.argsort(order, kind="stable")]
    by_cell = shuffled[np.argsort(cells[shuffled], kind="stable")]
    first = np.searchsorted(cells[by_cell], cells[by_cell])
    more = by_cell[few[by_cell] & ((np.arange(len(by_cell)) - first) % 2 == 1)]
    others = shuffled[~few[shuffled]][: len(more)]
    source = np.concatenate([more, others])
    return np.setdiff1d(train, source), more, source


def _stacked(numbers: list[np.ndarray]) -> Int[Array, "seeds n"]:
    """Stack row numbers of all seeds; seeds with a few rows more than others lose these."""
    count = min(map(len, numbers))
    return jnp.asarray(np.stack([rows[:count] for rows in numbers]), jnp.int32)


def _scaled(splits: Split) -> Split:
    """Return the splits with mean and scale of their train parts."""
    mean, scale = jax.lax.map(lambda rows: mean_and_scale(jnp.asarray(splits.x)[rows]), splits.train)
    return splits._replace(mean=mean, scale=scale)


def with_train(splits: Split, train: Int[Array, "seeds n"]) -> Split:
    """Return splits with other train rows, whose mean and scale are computed anew."""
    return _scaled(splits._replace(train=train))


def _finished(
    name: str,
    splits: Split,
    more: Int[Array, "seeds k"],
    source: Int[Array, "seeds s"],
    seeds: tuple[int, ...],
    groups: tuple[str, ...],
    minimum: int,
    dataset: Dataset | None = None,
) -> Problem:
    """Count rows, and choose the groups that are compared."""
    counts = {
        part: np.stack([np.bincount(row, minlength=len(groups)) for row in np.asarray(splits.a).astype(int)[rows]])
        for part, rows in (("train", splits.train), ("test", splits.test), ("more", more), ("source", source))
    }
    least = counts["test"].min(axis=0)
    compared = tuple(int(group) for group in np.flatnonzero(least >= minimum))
    if len(compared) < 2:
        raise ValueError(
            f"fewer than two groups of {name} have {minimum} test rows, found {least.tolist()}: lower minimum"
        )
    facts: dict[str, Any] = {
        part: dict(zip(groups, np.round(count.mean(axis=0), 1).tolist(), strict=True)) for part, count in counts.items()
    }
    facts["compared"] = [groups[group] for group in compared]
    keys = seed_keys(seeds, TRAINING_STREAM)
    return Problem(name, splits, more, source, keys, groups, compared, facts, dataset)
