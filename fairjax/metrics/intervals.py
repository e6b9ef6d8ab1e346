"""Uncertainty of the rates of groups: Wilson intervals, effective sizes, and rates shrunk towards each other."""

from statistics import NormalDist
from typing import Any

import numpy as np

from fairjax.metrics.shrinkage import shrink

Numbers = Any
"""An array or list of numbers, or a single number."""


def interval_text(low: float, high: float, form: str) -> str:
    """Format an interval; nothing if it is not known.

    Args:
        low: the lower end.
        high: the upper end.
        form: format of a number, such as ".2f".

    Returns:
        The text.

    Example:
        >>> interval_text(0.1, 0.25, ".2f"), interval_text(float("nan"), float("nan"), ".2f")
        ('[0.10, 0.25]', '')
    """
    return "" if np.isnan(low) else f"[{low:{form}}, {high:{form}}]"


_NUMBERS_PER_CHUNK = 2**22
"""Largest number of random numbers that are drawn at once."""


def wilson(rates: Numbers, sizes: Numbers, confidence: float = 0.95) -> tuple[Numbers, Numbers]:
    """Compute Wilson's interval of a proportion, which lies in [0, 1] and is reliable for small groups.

    Args:
        rates: proportions in [0, 1].
        sizes: number of rows, or effective number of rows, of each proportion.
        confidence: confidence level of the interval.

    Returns:
        The lower and the upper ends; NaN if there are no rows.

    Raises:
        ValueError: if a rate is not in [0, 1], a size is negative, or the confidence is not between 0 and 1.

    Example:
        >>> low, high = wilson(np.array([0.5]), np.array([10.0]))
        >>> round(low.item(), 4), round(high.item(), 4)
        (0.2366, 0.7634)

    References:
        Wilson (1927), Probable Inference, the Law of Succession, and Statistical Inference.
    """
    rates, sizes = np.asarray(rates, float), np.asarray(sizes, float)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    with np.errstate(invalid="ignore"):
        wrong = (rates < -1e-9) | (rates > 1 + 1e-9)
    if wrong.any():
        raise ValueError(
            f"rates must be shares in [0, 1], found {rates[wrong].flat[0]:g}: divide counts by their sizes"
        )
    if (sizes < 0).any():
        raise ValueError(f"sizes must be numbers of rows, found {sizes[sizes < 0].flat[0]:g}")
    square = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2
    n = np.where(sizes > 0, sizes, np.nan)
    centre = (rates + square / (2 * n)) / (1 + square / n)
    half = np.sqrt(square * np.maximum(rates * (1 - rates) / n + square / (4 * n**2), 0)) / (1 + square / n)
    return np.maximum(centre - half, 0), np.minimum(centre + half, 1)


def effective_size(total: Numbers, squared: Numbers) -> Numbers:
    """Compute Kish's effective number of rows, (sum w)^2 / sum w^2, which is the number of rows for equal weights.

    Args:
        total: sums of weights.
        squared: sums of squared weights.

    Returns:
        The effective numbers; 0 if the weights are 0.
    """
    total, squared = np.asarray(total, float), np.asarray(squared, float)
    return np.where(squared > 0, total**2 / np.where(squared > 0, squared, 1), 0.0)


def empirical_bayes(rates: Numbers, sizes: Numbers) -> Numbers:
    """Shrink rates towards their mean, more strongly for smaller groups, to remove noise.

    The difference between the greatest and the least of many noisy rates is too large, even if the true rates are
    equal; that of shrunk rates is nearly unbiased. The function is `fairjax.metrics.shrinkage.empirical_bayes` in
    double precision, on the host.

    Args:
        rates: rates of the groups, along the last axis; NaN for a group without a rate.
        sizes: denominators of the rates, in rows.

    Returns:
        The shrunk rates. NaN stays NaN, and a single rate is unchanged.

    Example:
        >>> empirical_bayes(np.array([0.4, 0.6]), np.array([10.0, 10.0])).tolist()
        [0.5, 0.5]

    References:
        DerSimonian, Laird (1986), Meta-analysis in clinical trials.
    """
    rates, sizes = np.asarray(rates, float), np.asarray(sizes, float)
    has_rate = ~np.isnan(rates) & (sizes > 0)
    return np.where(has_rate, shrink(np, rates, sizes, has_rate)[0], np.nan)


def resampled(
    cells: np.ndarray, count: int, random: np.random.Generator, sizes: np.ndarray | None = None
) -> np.ndarray:
    """Draw tables of counts, as they would be of rows drawn with replacement.

    The draws are multinomial, so their cost does not depend on the number of rows. The counts must be whole numbers:
    for weighted rows, each cell is a scaled Poisson draw of its effective number of rows, which has the mean and the
    variance of the sum of the weights of resampled rows.

    Args:
        cells: number of rows, or sum of weights, of each cell, of any shape.
        count: number of draws.
        random: the generator of random numbers.
        sizes: effective number of rows of each cell, for weighted rows; omitted for counts.

    Returns:
        The draws, an axis in front of those of `cells`.

    Example:
        >>> resampled(np.array([3.0, 1.0]), 5, np.random.default_rng(0)).sum(axis=1).tolist()
        [4.0, 4.0, 4.0, 4.0, 4.0]
    """
    flat = cells.ravel()
    if not flat.any():
        return np.zeros((count, *cells.shape))
    draws, draws_per_chunk = [np.zeros((0, flat.size))], max(1, _NUMBERS_PER_CHUNK // flat.size)
    for start in range(0, count, draws_per_chunk):
        size = min(draws_per_chunk, count - start)
        if sizes is None:
            draws.append(random.multinomial(round(flat.sum()), flat / flat.sum(), size=size).astype(float))
        else:
            rows = sizes.ravel()
            draws.append(random.poisson(rows, (size, flat.size)) * (flat / np.where(rows > 0, rows, 1.0)))
    return np.concatenate(draws).reshape(count, *cells.shape)
