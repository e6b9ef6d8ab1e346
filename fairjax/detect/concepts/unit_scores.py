"""Association of single units with a group, as a tree like the masks: which units to turn off first."""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, PyTree

from fairjax import checks
from fairjax.checks import check_logits
from fairjax.detect.concepts.logistic import logistic_regression
from fairjax.detect.concepts.selectivity import d_prime
from fairjax.detect.concepts.sites import chosen_layers, map_layers, unit_activations
from fairjax.detect.rows import CHUNK, num_rows
from fairjax.nn.network import Network
from fairjax.types import Inputs, Rows, Variables

UnitScore = Literal["selectivity", "probe", "concept"]
"""Ways to score the association of a unit with a group."""


def unit_scores(
    network: Network,
    variables: Variables,
    batch: Rows,
    score: UnitScore,
    *,
    num_groups: int = 2,
    num_classes: int = 2,
    chunk: int | None = CHUNK,
) -> PyTree[Float[Array, "_"]]:
    """Score how strongly each unit is associated with the groups; larger is stronger.

    * "selectivity" is |d'|, the difference of the group means in pooled standard deviations: see `selectivity`.
    * "probe" is |w_j| sd_j, for the coefficients w of a logistic regression that predicts the group from all units of
      the layer, and the unit's standard deviation: the change of the probe's logit per standard deviation of the unit.
    * "concept" is |g_j v_j|, where g_j is the mean derivative of the network's logit with respect to the unit and v the
      difference of the group means, the concept activation vector of the group: the unit's contribution to the
      difference of the groups' mean logits, to first order.

    With more than two groups, each is compared with all others, and the score is the largest; with more than two
    classes, "concept" is the largest over the logits. Activations at several positions are averaged.

    Args:
        network: the network, with `activations`; used in evaluation mode.
        variables: the network's variables.
        batch: rows with groups `a`, as booleans or codes. Weights are not used.
        score: one of the scores above.
        num_groups: number of groups.
        num_classes: number of classes.
        chunk: number of rows whose activations are computed at a time.

    Returns:
        A tree like `variables["masks"]`. A unit whose activation is the same for all rows, such as one that is cut, has
        the score 0; one that is constant in each group, but not the same in all, has the largest finite selectivity.
        NaN where a probe did not converge, a group has no rows, or traced values are invalid.

    Raises:
        ValueError: if the score is unknown, the network has no activations, the groups are memberships, or a concrete
            group has no rows.

    Example:
        >>> from fairjax.nn import Mlp, from_linen
        >>> from fairjax.types import Batch
        >>> network, x = from_linen(Mlp(widths=(3,))), jax.random.normal(jax.random.key(0), (60, 2))
        >>> variables = network.init(jax.random.key(1), x)
        >>> scores = unit_scores(network, variables, Batch(x, x[:, 1] > 0, x[:, 0] > 0), "selectivity")
        >>> jax.tree.map(jnp.shape, scores)
        {'hidden_00': {'units': {'keep': (3,)}}}

    References:
        Kim et al. (2018), Interpretability beyond feature attribution: quantitative testing with concept activation
        vectors, ICML.
    """
    if score not in get_args(UnitScore):
        raise ValueError(f"score must be one of {', '.join(get_args(UnitScore))}, got {score!r}")
    names = chosen_layers(network, variables, None)
    column = checks.numeric("batch.a", batch.a)
    if column.shape != (num_rows(batch.x),):
        raise ValueError(
            f"batch.a must hold one group per row of x, {num_rows(batch.x)}, found shape {column.shape}: groups that "
            "overlap have no rows of their own; score units for one of them, batch._replace(a=batch.a[:, 0] > 0.5)"
        )
    if num_groups == 2:
        codes, valid = checks.indicator("batch.a", column)
        members = [codes]
    else:
        codes, valid = checks.codes("batch.a", column, num_groups)
        members = [codes == group for group in range(num_groups)]
    for group in members:
        if not isinstance(group, Tracer) and int(np.asarray(group).sum()) in (0, group.size):
            raise ValueError("batch.a must have rows of every group: give more rows, or leave the group out")
    activations = unit_activations(network, variables, batch.x, chunk=chunk)
    if score == "selectivity":
        by_group = [map_layers(lambda h, group=group: _selectivity(h, group), activations) for group in members]
    elif score == "probe":
        by_group = [map_layers(lambda h, group=group: _coefficient(h, group), activations) for group in members]
    else:
        derivatives = dict(zip(names, _mean_derivatives(network, variables, batch.x, num_classes), strict=True))
        by_group = [
            {name: _contribution(derivatives[name], h, group) for name, h in activations.items()} for group in members
        ]
    scores = [checks.nan_unless(valid, jnp.max(jnp.stack([one[name] for one in by_group]), axis=0)) for name in names]
    return jax.tree.unflatten(jax.tree.structure(variables["masks"]), scores)


def _selectivity(h: Float[Array, "n u"], group: Bool[Array, " n"]) -> Float[Array, " u"]:
    """Return |d'|: 0 for a dead unit, and the largest finite number for one that tells the groups apart exactly."""
    gap = class_gaps(h, group)
    exact = jnp.where(jnp.isnan(gap), jnp.nan, jnp.where(gap != 0, jnp.finfo(h.dtype).max, 0.0))
    found = d_prime(h, group)
    return jnp.where(jnp.isnan(found), exact, jnp.abs(found))


def class_gaps(h: Float[Array, "n u"], group: Bool[Array, " n"]) -> Float[Array, " u"]:
    """Compute the mean of each unit over the rows of a group minus that over the others; NaN if one has no rows.

    Example:
        >>> class_gaps(jnp.array([[1.0], [2.0], [4.0]]), jnp.array([False, False, True])).tolist()
        [2.5]
    """

    def mean(rows: Array) -> Array:
        count = jnp.sum(rows, dtype=h.dtype)
        return jnp.sum(jnp.where(rows[:, None], h, 0.0), axis=0) / jnp.where(count > 0, count, jnp.nan)

    gap = mean(group) - mean(~group)
    return jnp.where(jnp.max(h, axis=0) > jnp.min(h, axis=0), gap, 0.0 * gap)  # means of equal numbers are rounded


def _coefficient(h: Float[Array, "n u"], group: Bool[Array, " n"]) -> Float[Array, " u"]:
    """Return the absolute change of a probe's logit per standard deviation of each unit; NaN without convergence."""
    regression = logistic_regression(h, group, weights="balanced")
    spread = jnp.where(jnp.max(h, axis=0) > jnp.min(h, axis=0), jnp.std(h, axis=0), 0.0)
    return jnp.where(regression.converged, jnp.abs(regression.coef) * spread, jnp.nan)


def _mean_derivatives(network: Network, variables: Variables, x: Inputs, num_classes: int) -> list[Float[Array, "c _"]]:
    """Compute the mean over rows of d logit / d h for every unit, by layer, with one row per logit.

    The mean over rows is the derivative with respect to one shift of the unit that all rows share.
    """
    shifts = jax.tree.map(lambda keep: jnp.zeros(keep.shape), variables["masks"])

    def mean_logits(shifts: Any) -> Float[Array, " c"]:
        logits, _ = network.apply(variables, x, shifts=shifts)
        check_logits(logits, x, num_classes)
        return jnp.mean(logits.reshape(logits.shape[0], -1), axis=0)

    with jax.default_matmul_precision("highest"):  # units are ordered by these numbers
        derivatives = jax.jacrev(mean_logits)(shifts)
    kept = jax.tree.map(lambda keep, one: jnp.where(keep[None], one, 0.0), variables["masks"], derivatives)
    return jax.tree.leaves(kept)


def _contribution(
    derivatives: Float[Array, "c u"], h: Float[Array, "n u"], group: Bool[Array, " n"]
) -> Float[Array, " u"]:
    """Return the unit's largest contribution to a difference of mean logits, to first order."""
    return jnp.max(jnp.abs(derivatives * class_gaps(h, group)[None].astype(derivatives.dtype)), axis=0)
