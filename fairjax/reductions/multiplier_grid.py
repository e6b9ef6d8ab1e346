"""A grid of Lagrange multipliers, as Fairlearn's `GridSearch` makes it."""

import itertools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from fairjax.hyperparameters import check_at_least, check_positive
from fairjax.reductions.constraints import Constraint


def multiplier_grid(
    constraint: Constraint, num_groups: int, *, size: int = 10, limit: float = 2.0
) -> Float[np.ndarray, "m 2 E G"]:
    """Make multipliers on the integer points of a ball in the L1 norm, scaled to a limit.

    There is one axis for each event and each group but the last, whose constraint follows from the others. A negative
    coordinate is the multiplier of the opposite sign. The ball is the smallest one that has at least `size` points, and
    the first `size` points are kept, as in Fairlearn: with two groups and an odd size, the grid is symmetric.

    Args:
        constraint: the constraint.
        num_groups: number of groups.
        size: number of points.
        limit: the largest L1 norm.

    Returns:
        The multipliers by point, sign, event and group.

    Raises:
        ValueError: if size or limit are not positive, or there are fewer than two groups.

    Example:
        >>> from fairjax.reductions.constraints import DemographicParity
        >>> grid = multiplier_grid(DemographicParity(), 2, size=5)
        >>> (grid[:, 0] - grid[:, 1])[:, 0, 0].tolist()
        [-2.0, -1.0, 0.0, 1.0, 2.0]
    """
    check_at_least("size", size, 1)
    check_positive("limit", limit)
    check_at_least("num_groups", num_groups, 2)
    shape = constraint.shape(num_groups)
    dimensions = shape[1] * (num_groups - 1)
    units = max(int(np.floor((size / 2.0**dimensions) ** (1.0 / dimensions) - 1.0)), 0)
    while True:
        points = list(itertools.islice(_points(dimensions, units), size))
        if len(points) == size:
            break
        units += 1
    signed = np.zeros((size, *shape[1:]))
    scale = limit / units if units else 0.0  # a single point is 0
    signed[..., :-1] = scale * np.reshape(points, (size, shape[1], num_groups - 1))
    return np.stack([np.maximum(signed, 0.0), np.maximum(-signed, 0.0)], axis=1)


def _points(dimensions: int, units: int) -> Iterator[tuple[int, ...]]:
    """Generate the integer points of an L1 norm of at most `units`, in order of their coordinates."""
    if dimensions == 0:
        yield ()
        return
    for first in range(-units, units + 1):
        for others in _points(dimensions - 1, units - abs(first)):
            yield (first, *others)
