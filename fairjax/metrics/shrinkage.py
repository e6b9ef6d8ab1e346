"""Rates of many groups, shrunk towards each other, and the probability that those of new data are close.

The greatest of many noisy rates less the least is too large, even where groups fare alike, and the noise of that
difference is not the noise of one pair. `empirical_bayes` removes from rates what is probably noise, and
`expected_range_within` says how probable it is that the rates of new data are within a bound of each other.

Groups that are not there are masked by `there`; what their rates and sizes hold does not matter. All functions take the
groups along the last axis, and any number of axes before it.

References:
    DerSimonian, Laird (1986), Meta-analysis in clinical trials.
    Herlihy, Truong, Chouldechova, Dudík (2024), A structured regression approach for evaluating model performance
    across intersectional subgroups, FAccT.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num

from fairjax import checks
from fairjax.types import AnyArray, Number

_EDGES = np.arange(-6.0, 6.5)
"""Where the panels of integration end: in standard deviations around the mean of each group."""
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(4)


def empirical_bayes(
    rates: Num[AnyArray, "*c g"],
    sizes: Num[AnyArray, "*c g"],
    there: Bool[AnyArray, "*c g"],
    variance: Number | None = None,
) -> tuple[Float[Array, "*c g"], Float[Array, "*c g"]]:
    """Rates shrunk towards their mean, the more the smaller the group, and how much of each distance is kept.

    The noise of a rate is p (1 - p) / n with the pooled rate p, and the variance of the true rates is DerSimonian and
    Laird's estimate, at least 0. The result is differentiable wherever that estimate is not exactly on its bound.

    Args:
        rates: of the groups.
        sizes: their denominators, in rows; of weighted rows, their effective number.
        there: whether a group has a rate. Another one has no say.
        variance: of one decision, instead of p (1 - p).

    Returns:
        The shrunk rates, and the share of its distance from the mean that each rate keeps, in [0, 1]; NaN, with a zero
        gradient, where there is no rate. A single rate stays as it is, as do rates that are all 0 or all 1.

    Example:
        >>> shrunk, kept = empirical_bayes(jnp.array([0.4, 0.6]), jnp.array([10.0, 10.0]), jnp.array([True, True]))
        >>> shrunk.tolist(), kept.tolist()
        ([0.5, 0.5], [0.0, 0.0])
    """
    rates, sizes, there = _arrays(rates, sizes, there)
    shrunk, kept = shrink(jnp, rates, sizes, there, variance)
    return jnp.where(there, shrunk, jnp.nan), jnp.where(there, kept, jnp.nan)


def shrink(xp: Any, rates: Any, sizes: Any, there: Any, variance: Any = None) -> tuple[Any, Any]:
    """The one definition of `empirical_bayes`, for arrays of NumPy and of JAX.

    Args:
        xp: `numpy` or `jax.numpy`.
        rates: as for `empirical_bayes`.
        sizes: as for `empirical_bayes`.
        there: as for `empirical_bayes`.
        variance: as for `empirical_bayes`.

    Returns:
        The shrunk rates and what is kept; 0 and 1 where there is no rate.

    Example:
        >>> [each.tolist() for each in shrink(np, np.array([0.4, 0.6]), np.array([10.0, 10.0]), np.array([True, True]))]
        [[0.5, 0.5], [0.0, 0.0]]
    """
    n, safe = xp.where(there, sizes, 0.0), xp.where(there, rates, 0.0)
    rows = n.sum(axis=-1, keepdims=True)
    rows = xp.where(rows > 0, rows, 1.0)
    pooled = (n * safe).sum(axis=-1, keepdims=True) / rows
    noise = pooled * (1.0 - pooled) if variance is None else xp.full_like(pooled, variance)  # over n
    distance = xp.where(there, safe - pooled, 0.0)
    excess = (n * distance**2).sum(axis=-1, keepdims=True)
    excess = excess - (there.sum(axis=-1, keepdims=True).astype(rates.dtype) - 1.0) * noise
    scale = (n * (1.0 - n / rows)).sum(axis=-1, keepdims=True)
    shrinks = (noise > 0) & (scale > 0)
    between = xp.maximum(excess, 0.0) / xp.where(scale > 0, scale, 1.0)  # tau^2
    # tau^2 / (s^2 + tau^2), with s^2 = noise / n
    kept = xp.where(there & shrinks, n * between / xp.where(shrinks, noise + n * between, 1.0), 1.0)
    return xp.where(there & shrinks, pooled + kept * distance, safe), kept


def range_within(
    rates: Num[AnyArray, "*c g"],
    variances: Num[AnyArray, "*c g"],
    there: Bool[AnyArray, "*c g"],
    epsilon: Number,
) -> Float[Array, "*c"]:
    """P(max - min < epsilon) of independent normal numbers, one per group.

    The least of them is group g's with density phi_g(x) prod_{h != g} [Phi_h(x + epsilon) - Phi_h(x)]; the sum over g
    is integrated by Gauss and Legendre's rule on panels that end at whole standard deviations around each mean, and
    around each mean less epsilon. So it is exact to about 1e-5 for groups of very different sizes too. For two groups
    it is the closed form Phi((epsilon - d) / s) - Phi((-epsilon - d) / s), s^2 the sum of the variances.

    Args:
        rates: the means.
        variances: of the groups. Variances of 0 give 1 where the range is below epsilon and 0 where it is above.
        there: whether a group counts.
        epsilon: the bound, positive.

    Returns:
        Probabilities; NaN, with a zero gradient, where fewer than two groups are there.

    Example:
        >>> same = jnp.full(3, 0.5), jnp.full(3, 0.01), jnp.full(3, True)
        >>> round(range_within(*same, 0.1).item(), 4), round(range_within(*same, 0.5).item(), 4)
        (0.2407, 0.9988)
    """
    rates, variances, there = _arrays(rates, variances, there)
    epsilon = jnp.asarray(epsilon, rates.dtype)
    if not isinstance(epsilon, jax.core.Tracer) and not jnp.all(epsilon > 0):
        raise ValueError(f"epsilon, the bound on the range, must be positive, got {epsilon}")
    count = jnp.sum(there, axis=-1)
    rates, variances = jnp.where(there, rates, 0.0), jnp.where(there, variances, 1.0)
    found = _pair_within(rates, variances, there, epsilon)
    if rates.shape[-1] > 2:
        found = jnp.where(count == 2, found, _many_within(rates, variances, there, epsilon))
    return jnp.where(count >= 2, found, jnp.nan)


def expected_range_within(
    rates: Num[AnyArray, "*c g"],
    sizes: Num[AnyArray, "*c g"],
    there: Bool[AnyArray, "*c g"],
    epsilon: Number,
    variance: Number | None = None,
) -> Float[Array, "*c"]:
    """The probability that the rates of groups on new data of the same sizes are within epsilon of each other.

    The true rates are known up to the noise of these data, and new data add theirs. For more than two groups the means
    are those of `empirical_bayes`, and the variances the posterior one, `kept * s^2`, and s^2 for the new data: the
    range of rates that are not shrunk counts the noise twice. Two rates are not shrunk, and their variances are s^2
    twice, which is what `fairjax.objective.ExpectedObjective` does with one difference.

    Args:
        rates: of the groups.
        sizes: their denominators, in rows; of weighted rows, their effective number.
        there: whether a group counts.
        epsilon: the bound, positive.
        variance: of one decision: s^2 is this over the size. If omitted, p (1 - p) with the pooled rate p.

    Returns:
        Probabilities; NaN, with a zero gradient, where fewer than two groups are there.

    Example:
        >>> sizes, there = jnp.array([100.0, 400.0, 50.0]), jnp.array([True, True, True])
        >>> round(expected_range_within(jnp.array([0.5, 0.52, 0.4]), sizes, there, 0.2).item(), 3)
        0.959
    """
    rates, sizes, there = _arrays(rates, sizes, there)
    shrunk, kept = shrink(jnp, rates, sizes, there, variance)
    safe, n = jnp.where(there, rates, 0.0), jnp.where(there, sizes, 0.0)
    if variance is None:
        rows = jnp.sum(n, axis=-1, keepdims=True)
        pooled = jnp.sum(n * safe, axis=-1, keepdims=True) / jnp.where(rows > 0, rows, 1.0)
        decision = jnp.maximum(pooled * (1.0 - pooled), 0.0)
    else:
        decision = jnp.full_like(rates[..., :1], variance)
    square = jnp.where(there, decision / jnp.where(there, n, 1.0), 0.0)
    pair = jnp.sum(there, axis=-1, keepdims=True) == 2
    means = jnp.where(pair, safe, shrunk)
    return range_within(means, square * jnp.where(pair, 2.0, 1.0 + kept), there, epsilon)


def _arrays(rates, others, there):
    rates = checks.floating(rates)
    return rates, jnp.asarray(others).astype(rates.dtype), jnp.asarray(there)


def _pair_within(rates, variances, there, epsilon):
    """The closed form for the two groups that are there."""
    if rates.shape[-1] == 2:
        distance = rates[..., 0] - rates[..., 1]
    else:
        top, bottom = (jnp.where(there, rates, fill) for fill in (-jnp.inf, jnp.inf))
        distance = jnp.max(top, axis=-1) - jnp.min(bottom, axis=-1)
        distance = jnp.where(jnp.any(there, axis=-1), distance, 0.0)
    total = jnp.sum(jnp.where(there, variances, 0.0), axis=-1)
    scale = jnp.sqrt(jnp.maximum(total, 1e-18))
    cdf = jax.scipy.stats.norm.cdf
    return cdf((epsilon - distance) / scale) - cdf((-epsilon - distance) / scale)


def _many_within(rates, variances, there, epsilon):
    """The integral."""
    smallest = 64 * float(jnp.finfo(rates.dtype).eps)  # below it, nodes around a mean round to the mean
    scales = jnp.sqrt(jnp.maximum(variances, smallest**2))
    top, bottom = (jnp.where(there, rates, fill) for fill in (-jnp.inf, jnp.inf))
    centre = 0.5 * (jnp.max(top, axis=-1, keepdims=True) + jnp.min(bottom, axis=-1, keepdims=True))
    centre = jax.lax.stop_gradient(jnp.where(jnp.any(there, axis=-1, keepdims=True), centre, 0.0))
    means = jnp.where(there, rates - centre, 0.0)
    x, weights = jax.lax.stop_gradient(_panels(means, scales, there, epsilon))
    nothing = 0.0 * x  # of x, so that inside shard_map both vary as x does
    by_group = [jnp.moveaxis(of, -1, 0)[..., None] for of in (means, scales, there)]
    (_, density), _ = jax.lax.scan(partial(_bracket, x, epsilon), (nothing + 1.0, nothing), by_group)
    return jnp.clip(jnp.sum(weights * density, axis=-1), 0.0, 1.0)


def _bracket(x, epsilon, carry, group):
    """One more group: the product of the brackets so far, and the same with one of them the group's density."""
    (product, density), (mean, scale, counts) = carry, group
    z = (x - mean) / scale
    inside = jax.scipy.stats.norm.cdf(z + epsilon / scale) - jax.scipy.stats.norm.cdf(z)
    here = jnp.exp(-0.5 * z**2) / (scale * np.sqrt(2 * np.pi).item())
    density = jnp.where(counts, density * inside + product * here, density)
    return (jnp.where(counts, product * inside, product), density), None


def _panels(means, scales, there, epsilon):
    """Nodes and weights of integration, where the least number may be and all others within epsilon of it."""
    reach = float(_EDGES[-1])
    low = jnp.max(jnp.where(there, means - reach * scales, -jnp.inf), axis=-1, keepdims=True) - epsilon
    high = jnp.min(jnp.where(there, means + reach * scales, jnp.inf), axis=-1, keepdims=True)
    some = jnp.any(there, axis=-1, keepdims=True)
    low, high = jnp.where(some, low, 0.0), jnp.where(some, high, 0.0)
    edges = means[..., None] + scales[..., None] * _like(_EDGES, means)
    edges = jnp.where(there[..., None], edges, low[..., None])
    edges = edges.reshape(*means.shape[:-1], -1)
    edges = jnp.concatenate([edges, edges - epsilon, low, high], axis=-1)
    edges = jnp.sort(jnp.clip(edges, jnp.minimum(low, high), high), axis=-1)
    half = 0.5 * (edges[..., 1:] - edges[..., :-1])
    nodes = 0.5 * (edges[..., 1:] + edges[..., :-1])[..., None] + half[..., None] * _like(_NODES, means)
    weights = half[..., None] * _like(_NODE_WEIGHTS, means)
    return nodes.reshape(*means.shape[:-1], -1), weights.reshape(*means.shape[:-1], -1)


def _like(numbers, array):
    """NumPy's numbers in the array's type, along a new last axis."""
    return jnp.asarray(numbers, array.dtype).reshape((1,) * array.ndim + (-1,))
