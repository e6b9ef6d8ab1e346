"""Shrinkage of the rates of many groups, and the probability that their rates on new data are close.

The difference between the greatest and the least of many noisy rates is too large, even if the true rates are equal,
and the noise of that difference differs from the noise of one pair. `empirical_bayes` removes probable noise from
rates, and `expected_range_within` computes the probability that the rates on new data lie within a bound of each other.

Groups without a rate are masked by `there`; their rates and sizes are ignored. All functions take the groups along the
last axis, after any number of leading axes.

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
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Num

from fairjax import checks
from fairjax.types import AnyArray, Number

_EDGES = np.arange(-6.0, 6.5)
"""Boundaries of the panels of integration, in standard deviations around the mean of each group."""
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(4)


def empirical_bayes(
    rates: Num[AnyArray, "*c g"],
    sizes: Num[AnyArray, "*c g"],
    there: Bool[AnyArray, "*c g"],
    variance: Number | None = None,
) -> tuple[Float[Array, "*c g"], Float[Array, "*c g"]]:
    """Shrink rates towards their mean, more strongly for smaller groups.

    The noise of a rate has variance p (1 - p) / n with the pooled rate p, and the variance of the true rates is
    estimated by DerSimonian and Laird's method, with a lower bound of 0. The result is differentiable wherever this
    estimate is not exactly on its bound.

    Args:
        rates: rates of the groups.
        sizes: denominators of the rates, in rows; the effective number for weighted rows.
        there: whether each group has a rate. Other groups are ignored.
        variance: variance of one decision, instead of p (1 - p).

    Returns:
        The shrunk rates, and the share of its distance from the mean that each rate keeps, in [0, 1]; both are NaN,
        with a zero gradient, for groups without a rate. A single rate is unchanged, as are rates that are all 0 or all
        1.

    Example:
        >>> shrunk, kept = empirical_bayes(jnp.array([0.4, 0.6]), jnp.array([10.0, 10.0]), jnp.array([True, True]))
        >>> shrunk.tolist(), kept.tolist()
        ([0.5, 0.5], [0.0, 0.0])
    """
    rates, sizes, there = _arrays(rates, sizes, there)
    shrunk, kept = shrink(jnp, rates, sizes, there, variance)
    return jnp.where(there, shrunk, jnp.nan), jnp.where(there, kept, jnp.nan)


def shrink(xp: Any, rates: Any, sizes: Any, there: Any, variance: Any = None) -> tuple[Any, Any]:
    """Implement `empirical_bayes` for both NumPy and JAX arrays.

    Args:
        xp: the module `numpy` or `jax.numpy`.
        rates: as for `empirical_bayes`.
        sizes: as for `empirical_bayes`.
        there: as for `empirical_bayes`.
        variance: as for `empirical_bayes`.

    Returns:
        The shrunk rates and the shares kept; 0 and 1 for groups without a rate.

    Example:
        >>> [each.tolist() for each in shrink(np, np.array([0.4, 0.6]), np.array([10.0, 10.0]), np.array([True, True]))]
        [[0.5, 0.5], [0.0, 0.0]]
    """
    n, safe = xp.where(there, sizes, 0.0), xp.where(there, rates, 0.0)
    rows = n.sum(axis=-1, keepdims=True)
    rows = xp.where(rows > 0, rows, 1.0)
    pooled = (n * safe).sum(axis=-1, keepdims=True) / rows
    noise = pooled * (1.0 - pooled) if variance is None else xp.full_like(pooled, variance)  # times n
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
    """Compute P(max - min < epsilon) for independent normal numbers, one per group.

    The density of the event that group g has the least number, x, and that all others are within epsilon of it is
    phi_g(x) prod_{h != g} [Phi_h(x + epsilon) - Phi_h(x)]. The sum over g is integrated by Gauss-Legendre quadrature on
    panels that end at whole standard deviations around each mean, and around each mean minus epsilon, which is accurate
    to about 1e-5 even for groups of very different sizes. For two groups there is the closed form
    Phi((epsilon - d) / s) - Phi((-epsilon - d) / s), where d is the difference of the means and s^2 the sum of the
    variances.

    Args:
        rates: the means.
        variances: variances of the groups. Variances of 0 give 1 if the range is below epsilon and 0 if it is above.
        there: whether each group counts.
        epsilon: the bound, positive.

    Returns:
        Probabilities; NaN, with a zero gradient, if fewer than two groups count.

    Example:
        >>> same = jnp.full(3, 0.5), jnp.full(3, 0.01), jnp.full(3, True)
        >>> round(range_within(*same, 0.1).item(), 4), round(range_within(*same, 0.5).item(), 4)
        (0.2407, 0.9988)
    """
    rates, variances, there = _arrays(rates, variances, there)
    epsilon = jnp.asarray(epsilon, rates.dtype)
    if not isinstance(epsilon, Tracer) and not jnp.all(epsilon > 0):
        raise ValueError(f"epsilon, the bound on the range, must be positive, got {epsilon}")
    count = jnp.sum(there, axis=-1)
    rates, variances = jnp.where(there, rates, 0.0), jnp.where(there, variances, 1.0)
    probability = _pair_within(rates, variances, there, epsilon)
    if rates.shape[-1] > 2:
        probability = jnp.where(count == 2, probability, _many_within(rates, variances, there, epsilon))
    return jnp.where(count >= 2, probability, jnp.nan)


def expected_range_within(
    rates: Num[AnyArray, "*c g"],
    sizes: Num[AnyArray, "*c g"],
    there: Bool[AnyArray, "*c g"],
    epsilon: Number,
    variance: Number | None = None,
) -> Float[Array, "*c"]:
    """Compute the probability that the rates of groups on new data of the same sizes are within epsilon of each other.

    The true rates are known up to the noise of the given data, and new data add their own noise. For more than two
    groups, the means are those of `empirical_bayes`, and the variances are the sum of the posterior variance,
    `kept * s^2`, and of s^2 for the new data, since the range of rates that are not shrunk would count the noise twice.
    Two rates are not shrunk and have variances 2 s^2, as in `fairjax.selection.ExpectedObjective` for one difference.

    Args:
        rates: rates of the groups.
        sizes: denominators of the rates, in rows; the effective number for weighted rows.
        there: whether each group counts.
        epsilon: the bound, positive.
        variance: variance of one decision; s^2 is the variance divided by the size. If omitted, p (1 - p) with the
            pooled rate p.

    Returns:
        Probabilities; NaN, with a zero gradient, if fewer than two groups count.

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


def _arrays(rates, sizes, there):
    rates = checks.floating(rates)
    return rates, jnp.asarray(sizes).astype(rates.dtype), jnp.asarray(there)


def _pair_within(rates, variances, there, epsilon):
    """Compute the closed form for two groups."""
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
    """Compute the integral for more than two groups."""
    smallest = 64 * float(jnp.finfo(rates.dtype).eps)  # for smaller scales, nodes around a mean round to the mean
    scales = jnp.sqrt(jnp.maximum(variances, smallest**2))
    top, bottom = (jnp.where(there, rates, fill) for fill in (-jnp.inf, jnp.inf))
    centre = 0.5 * (jnp.max(top, axis=-1, keepdims=True) + jnp.min(bottom, axis=-1, keepdims=True))
    centre = jax.lax.stop_gradient(jnp.where(jnp.any(there, axis=-1, keepdims=True), centre, 0.0))
    means = jnp.where(there, rates - centre, 0.0)
    x, weights = jax.lax.stop_gradient(_panels(means, scales, there, epsilon))
    nothing = 0.0 * x  # computed from x, so that the carry varies over the same mesh axes as x inside shard_map
    per_group = [jnp.moveaxis(values, -1, 0)[..., None] for values in (means, scales, there)]
    (_, density), _ = jax.lax.scan(partial(_bracket, x, epsilon), (nothing + 1.0, nothing), per_group)
    return jnp.clip(jnp.sum(weights * density, axis=-1), 0.0, 1.0)


def _bracket(x, epsilon, carry, group):
    """Add one group to the product of brackets, and to the sum of products in which one bracket is a density."""
    (product, density), (mean, scale, is_compared) = carry, group
    z = (x - mean) / scale
    inside = jax.scipy.stats.norm.cdf(z + epsilon / scale) - jax.scipy.stats.norm.cdf(z)
    group_density = jnp.exp(-0.5 * z**2) / (scale * np.sqrt(2 * np.pi).item())
    density = jnp.where(is_compared, density * inside + product * group_density, density)
    return (jnp.where(is_compared, product * inside, product), density), None


def _panels(means, scales, there, epsilon):
    """Return nodes and weights of integration over the possible values of the least number."""
    reach = float(_EDGES[-1])
    low = jnp.max(jnp.where(there, means - reach * scales, -jnp.inf), axis=-1, keepdims=True) - epsilon
    high = jnp.min(jnp.where(there, means + reach * scales, jnp.inf), axis=-1, keepdims=True)
    any_group = jnp.any(there, axis=-1, keepdims=True)
    low, high = jnp.where(any_group, low, 0.0), jnp.where(any_group, high, 0.0)
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
    """Convert NumPy numbers to the array's dtype, along a new last axis."""
    return jnp.asarray(numbers, array.dtype).reshape((1,) * array.ndim + (-1,))
