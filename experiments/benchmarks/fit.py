"""Exponents of fitted power laws: how fast a cost grows."""

import math
from collections.abc import Sequence

import numpy as np


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Fit the exponent b of cost = c * size^b by least squares on logarithms; NaN for fewer than two sizes.

    Args:
        sizes: positive numbers.
        costs: positive numbers, one per size.

    Returns:
        The slope of log cost against log size.
    """
    if len(set(sizes)) < 2:
        return math.nan
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def upper(sizes: Sequence[float], costs: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the points in the upper half of the range of sizes on a log scale, where fixed costs matter less.

    Args:
        sizes: positive numbers.
        costs: one number per size.

    Returns:
        Sizes and costs of these points.
    """
    middle = math.sqrt(min(sizes) * max(sizes))
    points = [(size, cost) for size, cost in zip(sizes, costs, strict=True) if size >= middle * (1 - 1e-9)]
    return [size for size, _ in points], [cost for _, cost in points]


def exponents(sizes: Sequence[float], costs: Sequence[float]) -> tuple[float, float]:
    """Fit the exponent over all sizes, and over the upper half of their range."""
    if not sizes:
        return math.nan, math.nan
    return exponent(sizes, costs), exponent(*upper(sizes, costs))
