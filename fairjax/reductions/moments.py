"""Error, violations and costs from sums of rows by decision, label and group.

The functions compute with NumPy or JAX arrays, and accept leading axes, such as those of seeds and multipliers.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fairjax.reductions.constraints import Constraint
from fairjax.types import AnyArray


def error(table: Float[AnyArray, "*k 2 2 G"]) -> Float[AnyArray, "*k"]:
    """Compute the error rate from the sums of rows by decision, label and group.

    Example:
        >>> error(np.array([[[3.0], [1.0]], [[1.0], [5.0]]])).item()
        0.2
    """
    cells = table.sum(axis=-1)
    return _like((cells[..., 0, 1] + cells[..., 1, 0]) / cells.sum(axis=(-2, -1)), table)


def violations(constraint: Constraint, table: Float[AnyArray, "*k 2 2 G"]) -> Float[AnyArray, "*k 2 E G"]:
    """Compute the left-hand sides of the constraints, which the bound limits.

    They are linear in the decisions, so those of a randomised classifier follow from the mean of its tables.

    Args:
        constraint: the constraint.
        table: sums of rows by decision, label and group.

    Returns:
        ratio * m(g) - m and ratio * m - m(g) by sign, event and group, for the mean utilities m(g) of a group and m of
        all rows; NaN if a group has no rows.

    Example:
        >>> from fairjax.reductions.constraints import DemographicParity
        >>> table = np.array([[[2.0, 0.0], [0.0, 0.0]], [[2.0, 1.0], [0.0, 3.0]]])  # selection rates 1/2 and 1
        >>> violations(DemographicParity(), table)[:, 0].tolist()
        [[-0.25, 0.25], [0.25, -0.25]]
    """
    events = _events(constraint, table)
    utility = _like(constraint.utility, table)
    sums = events @ (utility[:, :, None] * table).sum(axis=-3)
    sizes = events @ table.sum(axis=-3)
    own, whole = _ratio(sums, sizes), _ratio(sums.sum(axis=-1), sizes.sum(axis=-1))[..., None]
    return _stack(constraint.ratio * own - whole, constraint.ratio * whole - own)


def signed_costs(
    constraint: Constraint, counts: Float[AnyArray, "*#k 2 G"], multipliers: Float[AnyArray, "*#k 2 E G"]
) -> Float[AnyArray, "*#k 2 G"]:
    """Compute the cost of rejecting a row less that of accepting it, by label and group.

    The best response to multipliers is the classifier of least weighted error for the label `signed > 0` and the
    weight |signed| of each row (Section 3.2 of the paper).

    Args:
        constraint: the constraint.
        counts: weight of the rows by label and group.
        multipliers: Lagrange multipliers by sign, event and group.

    Returns:
        The signed weights, 2 y - 1 plus what the multipliers add; NaN if a group has no rows.

    Example:
        >>> from fairjax.reductions.constraints import DemographicParity
        >>> counts, multipliers = np.array([[2.0, 2.0], [2.0, 2.0]]), np.array([[[0.0, 1.5]], [[0.0, 0.0]]])
        >>> signed_costs(DemographicParity(), counts, multipliers).tolist()  # reject more of group 1
        [[0.5, -2.5], [2.5, -0.5]]
    """
    events = _events(constraint, counts)
    positive, negative = multipliers[..., 0, :, :], multipliers[..., 1, :, :]
    total = counts.sum(axis=(-2, -1))[..., None, None]
    of_group = _ratio(events @ counts, total)
    of_event = of_group.sum(axis=-1, keepdims=True)
    shared = _ratio((positive - constraint.ratio * negative).sum(axis=-1, keepdims=True), of_event)
    added = shared + _ratio(negative - constraint.ratio * positive, of_group)
    utility, signs = _like(constraint.utility, counts), _like([[-1.0], [1.0]], counts)
    return signs + (utility[1] - utility[0])[:, None] * (events.T @ added)


def _events(constraint: Constraint, like: AnyArray) -> AnyArray:
    """Return whether each event has rows of each label, as numbers."""
    return _like([[float(label in event) for label in (0, 1)] for event in constraint.events], like)


def _like(values: Any, like: AnyArray) -> AnyArray:
    return jnp.asarray(values, like.dtype) if isinstance(like, jax.Array) else np.asarray(values, like.dtype)


def _ratio(numerator: AnyArray, denominator: AnyArray) -> AnyArray:
    """Divide; NaN where the denominator is 0."""
    numpy: Any = jnp if isinstance(denominator, jax.Array) else np
    safe = numpy.where(denominator > 0, denominator, numpy.ones_like(denominator))
    return numpy.where(denominator > 0, numerator / safe, numpy.full_like(safe, numpy.nan))


def _stack(positive: AnyArray, negative: AnyArray) -> AnyArray:
    numpy: Any = jnp if isinstance(positive, Array) else np
    return numpy.stack([positive, negative], axis=-3)
