"""Differential fairness: how many times as probable an outcome is in one group as in another."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.metrics.confusion import confusion
from fairjax.metrics.gaps import log_ratio


def differential_fairness(
    values: Any,
    y: Any,
    a: Any,
    weights: Any = None,
    *,
    num_groups: int = 2,
    num_classes: int = 2,
    concentration: float | int = 1.0,
) -> Float[Array, ""]:
    """Compute the smoothed empirical epsilon of differential fairness, usually of intersections of several attributes.

    Epsilon is the greatest |log ratio|, over all outcomes and pairs of groups, of the probability of the outcome: with
    epsilon = log 2, no outcome is more than twice as probable in one group as in another. The probabilities are
    smoothed, (rows with the outcome + concentration / classes) / (rows + concentration), so that a small group without
    an outcome does not make epsilon infinite.

    Args:
        values: decisions in {0, 1} or scores in [0, 1]; for more classes, codes or probabilities. Pass labels for the
            epsilon of the data; the difference between the two is the amplification of Foulds et al.
        y: labels, which are checked and not used.
        a: groups: booleans, codes, such as those of `fairjax.data.groups`, or memberships.
        weights: sample weights; 1 if omitted.
        num_groups: number of groups.
        num_classes: number of classes.
        concentration: strength of the smoothing, in rows; 0 for none.

    Returns:
        A scalar; 0 is parity. Groups without rows are left out; NaN if fewer than two have rows. Without smoothing, it
        is infinite if an outcome is absent from some groups.

    Raises:
        ValueError: if the concentration is negative, shapes differ, or a concrete value is invalid.

    Example:
        >>> decisions, a = jnp.array([1, 1, 0, 1, 0, 0]), jnp.array([0, 0, 0, 1, 1, 1])
        >>> round(differential_fairness(decisions, decisions, a, concentration=0).item(), 4)  # log of (2/3) / (1/3)
        0.6931

    References:
        Foulds, Islam, Keya, Pan (2020), An Intersectional Definition of Fairness, ICDE, arXiv:1807.08362.
    """
    if not 0 <= concentration < float("inf"):
        raise ValueError(f"concentration must be a finite number of rows, at least 0, got {concentration}")
    table = confusion(values, y, a, num_groups=num_groups, num_classes=num_classes, weights=weights)
    outcomes = jnp.sum(table, axis=1)
    size = jnp.sum(outcomes, axis=0)
    there = ~(size <= 0)  # NaN must not look like an empty group
    total = jnp.where(there, size + concentration, 1.0)
    rates = (outcomes + concentration / num_classes) / total[None]
    epsilon = jnp.stack([log_ratio(rate, size, there, jnp.zeros(())) for rate in rates])
    possible = jnp.any((rates > 0) & there[None], axis=1) | jnp.isnan(jnp.sum(outcomes))  # some group has the outcome
    greatest = jnp.max(epsilon, where=possible, initial=0.0)
    return jnp.where(jnp.sum(there) < 2, jnp.nan, greatest)
