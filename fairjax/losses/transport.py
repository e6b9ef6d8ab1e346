"""Wasserstein distances between groups' distributions of numbers, by sorting."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fairjax.checks import nan_unless
from fairjax.hyperparameters import check_at_least, check_choice
from fairjax.losses.cumulated import cumulated_masses
from fairjax.losses.grouping import grouped, matrix, pairs, positive

COMPARED = 2048
"""Rows times comparisons of groups up to which all pairs of rows are compared instead of sorted; chosen on CPUs."""


def wasserstein(
    values: Any,
    a: Any,
    weights: Any = None,
    *,
    y: Any = None,
    against: str = "pairs",
    order: int = 1,
    levels: int | None = None,
    smoothing: float = 0.0,
    num_groups: int | None = None,
    num_classes: int = 2,
) -> Float[Array, ""]:
    """Compute Wasserstein distances between the groups' distributions of scores, or of any other numbers.

    The distance of order 1 is the integral over t of |F0^-1(t) - F1^-1(t)|, where F^-1 are the quantile functions. For
    order 2 the result is the integral of the squared difference, which is the square of the distance.

    Args:
        values: finite numbers of shape (n,), or several columns of shape (n, k), of whose distances the mean is taken.
        a: groups: booleans, codes, or memberships of shape (n, groups).
        weights: non-negative weights of the rows; 1 if omitted.
        y: labels; if given, groups are compared within each class, and the result is the mean over the classes.
        against: "pairs" sums over all pairs of groups; "all" sums the distances of each group from all rows.
        order: 1 or 2.
        levels: number of levels t, spread evenly; if omitted, the integral is exact.
        smoothing: for order 1, |d| is replaced by sqrt(d^2 + smoothing^2) - smoothing, a pseudo-Huber function.
        num_groups: number of groups; counted if omitted.
        num_classes: number of classes of `y`.

    Returns:
        A scalar; 0, with a gradient of 0, if fewer than two groups are present.

    Raises:
        ValueError: if shapes differ, or an argument is invalid.

    Example:
        >>> wasserstein(jnp.array([0.0, 1.0, 0.5, 1.0]), jnp.array([True, True, False, False])).item()
        0.25

    References:
        Jiang, Pacchiano, Stepleton, Jiang, Chiappa: Wasserstein fair classification, UAI 2019.
    """
    check_transport(against, order, levels, smoothing)
    values = matrix("values", values)
    rows = grouped(a, weights, y, like=values, num_groups=num_groups, num_classes=num_classes)
    first, second, present = pairs(rows, against)
    exact = order == 1 and levels is None and smoothing == 0
    if exact and 0 < values.shape[0] * first.shape[1] <= COMPARED:
        contrasts = jnp.where(present[None, :], first - second, 0.0)
        total = _between_compared(values, contrasts)
    else:
        rank = jnp.argsort(jax.lax.stop_gradient(values.T), axis=1)  # (k, n): rows of memory are sorted faster
        ordered = jnp.take_along_axis(values.T, rank, axis=1)
        if exact:
            distances = _between_sorted(ordered, rank, first - second)
        else:

            def distance(column: Array, rank: Array, p: Array, q: Array) -> Float[Array, ""]:
                return _between_quantiles(column, p[rank], q[rank], order, levels, smoothing)

            of_comparisons = jax.vmap(distance, (None, None, 1, 1))
            distances = jax.vmap(of_comparisons, (0, 0, None, None))(ordered, rank, first, second)
        total = jnp.sum(jnp.where(present[None, :], distances, 0.0))
    return nan_unless(rows.valid, total / (values.shape[1] * rows.weights.shape[1]))


def _between_compared(values: Float[Array, "n k"], contrasts: Float[Array, "n c"]) -> Float[Array, ""]:
    """Compute the sum of distances by comparing all pairs of rows; contrasts are the differences of masses, p - q.

    The distance is the sum of |F0 - F1| times the step to the next value. Summed by parts, it is the sum of each value
    times its derivative, |F0 - F1| before the value minus |F0 - F1| after it.
    """
    constant = jax.lax.stop_gradient(values)
    after = cumulated_masses(constant, contrasts)
    slopes = jnp.sum(jnp.abs(after - contrasts.T[:, :, None]) - jnp.abs(after), axis=0)
    return jnp.sum((values - jnp.mean(constant, axis=0)[None]) * slopes)  # centred values lose fewer digits


def _between_sorted(
    ordered: Float[Array, "k n"], rank: Int[Array, "k n"], contrasts: Float[Array, "n c"]
) -> Float[Array, "k c"]:
    """Compute the distances by sorting."""
    between = jnp.cumsum(contrasts.T[:, rank], axis=2)  # (comparisons, k, n): F0 - F1 from a value to the next
    return jnp.sum(jnp.abs(between[:, :, :-1]) * jnp.diff(ordered, axis=1)[None], axis=2).T


def _between_quantiles(
    ordered: Float[Array, " n"],
    p: Float[Array, " n"],
    q: Float[Array, " n"],
    order: int,
    levels: int | None,
    smoothing: float,
) -> Float[Array, ""]:
    """Compute the mean cost between the quantiles of two distributions with masses p and q on the ordered values."""
    below_p, below_q = _cumulative(p), _cumulative(q)
    if levels is None:
        ends = jnp.sort(jnp.concatenate([below_p, below_q]))  # between these, both quantile functions are constant
        widths = jnp.diff(ends, prepend=0.0)
        middles = ends - widths / 2
    else:
        middles = (jnp.arange(levels, dtype=p.dtype) + 0.5) / levels
        widths = jnp.full_like(middles, 1.0 / levels)
    last = p.shape[0] - 1
    of_p = ordered[jnp.minimum(jnp.searchsorted(below_p, middles), last)]
    of_q = ordered[jnp.minimum(jnp.searchsorted(below_q, middles), last)]
    squares = jnp.square(of_p - of_q)
    if order == 2:
        return jnp.sum(widths * squares)
    if smoothing == 0:
        return jnp.sum(widths * jnp.abs(of_p - of_q))
    return jnp.sum(widths * (jnp.sqrt(squares + smoothing**2) - smoothing))


def _cumulative(masses: Float[Array, " n"]) -> Float[Array, " n"]:
    """Return the cumulated masses, whose last is exactly 1 unless all masses are 0."""
    cumulated = jnp.cumsum(masses)
    return cumulated / positive(cumulated[-1])


def check_transport(against: str, order: int, levels: int | None, smoothing: float) -> None:
    """Check the options of Wasserstein distances.

    Raises:
        ValueError: naming the option and its value.

    Example:
        >>> check_transport("pairs", 1, None, 0.0)
    """
    check_choice("against", against, ("pairs", "all"))
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, got {order!r}")
    if levels is not None:
        check_at_least("levels", levels, 1)
    if not 0 <= smoothing < float("inf"):
        raise ValueError(f"smoothing must be a finite number, at least 0, got {smoothing}")
    if order == 2 and smoothing:
        raise ValueError(f"smoothing is for order 1, got {smoothing} with order 2: the square is smooth")
