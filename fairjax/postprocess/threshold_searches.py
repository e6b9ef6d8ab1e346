"""Searches for the thresholds of groups, over numbers of thresholds of a grid."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fairjax import metrics
from fairjax.metrics import Measure, Rate
from fairjax.metrics.rates import selection
from fairjax.selection import TIE, first_max, improves


def all_combinations(count: int, groups: int) -> Int[Array, "c g"]:
    """Return all combinations of a threshold for each group, the last group's changing first.

    Example:
        >>> all_combinations(2, 2).tolist()
        [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    numbers = jnp.arange(count**groups, dtype=jnp.int32)
    return jnp.stack([numbers // count**place % count for place in reversed(range(groups))], axis=1)


def coordinate_search(
    score: Callable[[Int[Array, "c g"]], Float[Array, " c"]],
    start: Int[Array, " g"],
    start_score: Float[Array, ""],
    count: int,
    sweeps: int,
) -> tuple[Int[Array, " g"], Float[Array, ""]]:
    """Improve the thresholds by coordinate search from `start`; returns the thresholds and their score."""
    groups = start.shape[0]
    candidates = jnp.arange(count, dtype=jnp.int32)[:, None]

    def step(carry, group):
        indices, reached_score = carry
        trials = jnp.where(jnp.arange(groups, dtype=jnp.int32)[None, :] == group, candidates, indices[None, :])
        scores = score(trials)
        best = first_max(scores)
        better = improves(scores[best], reached_score)
        return (jnp.where(better, trials[best], indices), jnp.where(better, scores[best], reached_score)), None

    order = jnp.tile(jnp.arange(groups, dtype=jnp.int32), sweeps)
    return jax.lax.scan(step, (start, start_score), order)[0]


def at_common_rates(rate: Rate, tables: Float[Array, "t 2 2 G"], fallback: Int[Array, " G"]) -> Int[Array, "t G"]:
    """Return, for each target, the index of each group's threshold whose rate is closest to it."""
    rates, defined = jax.vmap(rate.of)(tables)
    targets = metrics.threshold_grid(rates.shape[0])
    distances = jnp.where(defined[None], jnp.abs(rates[None] - targets[:, None, None]), jnp.inf)
    nearest = distances <= jnp.min(distances, axis=1, keepdims=True) + TIE
    # The contribution of each group's rows to the balanced accuracy of all rows.
    labels = jnp.maximum(jnp.sum(tables[0], axis=(0, 2)), 1e-12)
    gain = tables[:, 0, 0] / labels[0] + tables[:, 1, 1] / labels[1]
    nearest_indices = jnp.argmax(jnp.where(nearest, gain[None], -jnp.inf), axis=1).astype(jnp.int32)
    return jnp.where(jnp.any(defined, axis=0)[None], nearest_indices, fallback[None])


def first_rate(measure: Measure) -> Rate:
    """Return the first rate that a measure compares, or the share of accepted rows if it does not define rates."""
    parts = metrics.as_parity(measure)
    return selection() if parts is None else parts.rates[0]
