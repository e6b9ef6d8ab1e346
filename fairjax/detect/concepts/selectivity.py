"""Selectivity: which single units respond to a group."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fairjax import checks
from fairjax.detect.concepts.probe import two_groups
from fairjax.detect.concepts.sites import ByLayer, map_layers, unit_activations
from fairjax.detect.rows import CHUNK
from fairjax.metrics.ranking import area_under_curve
from fairjax.nn.network import Network
from fairjax.types import Rows, Variables


class Selectivity(NamedTuple):
    """How the activations of each unit of a layer differ between two groups; NaN for dead units."""

    d_prime: Float[Array, "... units"]
    """Mean of group 0 minus mean of group 1, in pooled standard deviations: positive where the unit responds more to
    group 0."""
    auc: Float[Array, "... units"]
    """Probability that a row of group 0 has a larger activation than one of group 1; 0.5 if the unit does not
    separate the groups."""


def selectivity(
    network: Network,
    variables: Variables,
    batch: Rows,
    *,
    layers: Sequence[str] | None = None,
    chunk: int | None = CHUNK,
) -> dict[str, Selectivity]:
    """Measure how well the activation of every single unit tells the groups apart.

    d' is the difference of the group means divided by sqrt((var_0 + var_1) / 2). A unit whose activation is the same
    for all rows is dead, and has neither d' nor AUC.

    Args:
        network: the network, with `activations`; used in evaluation mode.
        variables: the network's variables.
        batch: rows of two groups, `a`; activations at several positions are averaged. Weights are not used.
        layers: names of layers; all of them if omitted.
        chunk: number of rows that are computed at a time.

    Returns:
        d' and AUC of each unit, by layer.

    Raises:
        ValueError: if a layer does not exist, or there are not two groups with rows.

    Example:
        >>> from fairjax.nn import Mlp, from_linen
        >>> from fairjax.types import Batch
        >>> network, x = from_linen(Mlp(widths=(3,))), jax.random.normal(jax.random.key(0), (60, 2))
        >>> variables = network.init(jax.random.key(1), x)
        >>> selectivity(network, variables, Batch(x, x[:, 1] > 0, x[:, 0] > 0))["hidden_00"].d_prime.shape
        (3,)

    References:
        Green and Swets (1966), Signal detection theory and psychophysics, for d'.
    """
    groups, valid = two_groups("batch.a", batch)
    activations = unit_activations(network, variables, batch.x, layers=layers, chunk=chunk)
    results = _selectivity(activations, groups)
    if valid is None:
        return results
    return {name: Selectivity(*(checks.nan_unless(valid, part) for part in parts)) for name, parts in results.items()}


@jax.jit
def _selectivity(activations: ByLayer, a: Bool[Array, " n"]) -> dict[str, Selectivity]:
    def of_layer(h: Array) -> Selectivity:
        auc = jax.vmap(lambda unit: area_under_curve(unit, ~a), in_axes=1)(h)
        return Selectivity(d_prime(h, a), jnp.where(_lives(h), auc, jnp.nan))

    return map_layers(of_layer, activations)


def d_prime(h: Float[Array, "n units"], a: Bool[Array, " n"]) -> Float[Array, " units"]:
    """Compute d' of each unit of a layer from its activations; NaN for a unit that is constant in both groups.

    Example:
        >>> d_prime(jnp.array([[1.0], [3.0], [0.0], [2.0]]), jnp.array([False, False, True, True])).round(3).tolist()
        [0.7070000171661377]
    """

    def moments(rows: Array) -> tuple[Array, Array]:
        count = jnp.sum(rows, dtype=h.dtype)
        chosen, count = rows[:, None], jnp.where(count > 0, count, jnp.nan)
        mean = jnp.sum(jnp.where(chosen, h, 0.0), axis=0) / count
        squares = jnp.sum(jnp.where(chosen, (h - mean[None]) ** 2, 0.0), axis=0)
        return mean, squares / jnp.where(count > 1, count - 1, jnp.nan)

    (mean_0, variance_0), (mean_1, variance_1) = moments(~a), moments(a)
    pooled = jnp.sqrt((variance_0 + variance_1) / 2)
    return (mean_0 - mean_1) / jnp.where(_lives(h) & (pooled > 0), pooled, jnp.nan)


def _lives(h: Float[Array, "n units"]) -> Bool[Array, " units"]:
    return jnp.max(h, axis=0) > jnp.min(h, axis=0)
