"""Random sets of rows: examples of concepts with others, random sets, and rows that are held out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fairjax.types import KeyArray

HELD_OUT = 3
"""One in this many examples of a concept, and of the other rows, is held out from all vectors."""


class ConceptSets(NamedTuple):
    """Random sets of rows of every concept."""

    held_out: Bool[Array, "k n"]
    """Rows on which the vectors of a concept are evaluated."""
    rows: Int[Array, "k draws size_2"]
    """Numbers of the rows of each set: first examples of the concept, then as many others."""


def is_example(size: int) -> Bool[Array, " size_2"]:
    """Return which rows of a set are examples of its concept: the first half.

    Example:
        >>> is_example(1).tolist()
        [True, False]
    """
    return jnp.arange(2 * size) < size


def concept_sets(key: KeyArray, concepts: Bool[Array, "k n"], draws: int, size: int) -> ConceptSets:
    """Hold out a third of the examples of every concept and of the other rows, and resample the rest.

    Sets are drawn with replacement, as a bootstrap, so that they also differ for a concept with few examples.

    Args:
        key: random key.
        concepts: which rows are examples of each concept.
        draws: number of sets per concept.
        size: number of examples in a set, and of other rows.
    """
    order_key, rows_key = jax.random.split(key)
    order = jnp.argsort(jax.random.uniform(order_key, concepts.shape[1:]))

    def of_concept(column: Array, key: KeyArray) -> ConceptSets:
        held_out = _first_third(column, order) | _first_third(~column, order)
        keys = jax.random.split(key)
        parts = (column & ~held_out, ~column & ~held_out)
        rows = [_draw(part_key, part, (draws, size)) for part_key, part in zip(keys, parts, strict=True)]
        return ConceptSets(held_out, jnp.concatenate(rows, axis=1))

    return jax.vmap(of_concept)(concepts, jax.random.split(rows_key, concepts.shape[0]))


def random_sets(key: KeyArray, n: int, draws: int, size: int) -> Int[Array, "draws size_2"]:
    """Draw two sets of rows at random, one in place of a concept's examples and one in place of the others.

    Example:
        >>> random_sets(jax.random.key(0), 9, draws=3, size=4).shape
        (3, 8)
    """
    return jax.random.randint(key, (draws, 2 * size), 0, n)


def _first_third(members: Bool[Array, " n"], order: Int[Array, " n"]) -> Bool[Array, " n"]:
    """Return the members that come first in an order: a third of them."""
    rank = jnp.cumsum(members[order].astype(jnp.int32))
    first = members[order] & (rank <= rank[-1] // HELD_OUT)
    return jnp.zeros(members.shape, bool).at[order].set(first)


def _draw(key: KeyArray, members: Bool[Array, " n"], shape: tuple[int, int]) -> Int[Array, "draws size"]:
    """Draw members at random, with replacement."""
    numbers = jnp.argsort(~members, stable=True)  # members first
    count = jnp.sum(members.astype(jnp.int32))
    return numbers[jax.random.randint(key, shape, 0, jnp.maximum(count, 1))]


def kept_rows(count: int) -> int:
    """Return how many of a concept's examples remain when a third of them is held out.

    Example:
        >>> kept_rows(10)
        7
    """
    return count - count // HELD_OUT


def mean_over(values: Float[Array, "... draws"]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return mean and standard deviation over draws."""
    return jnp.mean(values, axis=-1), jnp.std(values, axis=-1, ddof=1)
