"""Tests of whether all groups have the same value of a measure of quality."""

import numpy as np
from jaxtyping import Float


def equality_of_rates(rates: Float[np.ndarray, " G"], sizes: Float[np.ndarray, " G"]) -> float:
    """Return the p-value of Pearson's chi-squared test that all groups have the same rate.

    Args:
        rates: rate of each group; NaN for groups that are not compared.
        sizes: number of rows, or effective number of rows, of each rate.

    Returns:
        The p-value; NaN if fewer than two groups are compared, and 1 if all rates are 0 or all are 1.

    Example:
        >>> round(equality_of_rates(np.array([0.4, 0.6]), np.array([50.0, 50.0])), 4)
        0.0455
    """
    known = ~np.isnan(rates)
    if known.sum() < 2:
        return np.nan
    rates, sizes = rates[known], sizes[known]
    pooled = np.sum(rates * sizes) / np.sum(sizes)
    variance = pooled * (1 - pooled)
    if variance <= 1e-12:
        return 1.0
    return _chi_squared(np.sum(sizes * (rates - pooled) ** 2) / variance, len(rates))


def equality_of_estimates(values: Float[np.ndarray, " G"], draws: Float[np.ndarray, "draws G"]) -> float:
    """Return the p-value of Cochran's test that all groups have the same value, with variances from a bootstrap.

    Args:
        values: value of each group; NaN for groups that are not compared.
        draws: bootstrap draws of the values.

    Returns:
        The p-value; NaN if fewer than two groups are compared, there are no draws, or a variance is 0.

    Example:
        >>> draws = np.random.default_rng(0).normal([0.0, 1.0], 0.5, (1000, 2))
        >>> 0.1 < equality_of_estimates(np.array([0.0, 1.0]), draws) < 0.2  # 1 is 1.4 standard errors
        True

    References:
        Cochran (1954), The combination of estimates from different experiments, Biometrics 10.
    """
    known = ~np.isnan(values)
    if known.sum() < 2 or len(draws) < 2:
        return np.nan
    values, draws = values[known], draws[:, known]
    complete = draws[~np.isnan(draws).any(axis=1)]
    variances = complete.var(axis=0, ddof=1) if len(complete) > 1 else np.zeros(len(values))
    if (variances <= 1e-15).any():
        return np.nan
    mean = np.sum(values / variances) / np.sum(1 / variances)
    return _chi_squared(np.sum((values - mean) ** 2 / variances), len(values))


def _chi_squared(statistic: float, groups: int) -> float:
    from scipy.stats import chi2  # not at the top, since it loads slowly

    return float(chi2.sf(statistic, groups - 1))
