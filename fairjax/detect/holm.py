"""Holm's correction of p-values for several tests."""

from typing import Any

import numpy as np
from jaxtyping import Float64


def holm(p_values: Any) -> Float64[np.ndarray, " m"]:
    """Correct p-values for the number of tests by Holm's method; NaN, for tests that were not made, stays NaN.

    Args:
        p_values: p-values of m tests.

    Returns:
        Corrected p-values. Those below a level belong to hypotheses that are rejected with a family-wise error of at
        most this level.

    Example:
        >>> holm([0.01, 0.04, np.nan, 0.03]).tolist()
        [0.03, 0.06, nan, 0.06]

    References:
        Holm (1979), A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics.
    """
    values = np.asarray(p_values, np.float64)
    corrected = np.full(values.shape, np.nan)
    made = np.flatnonzero(~np.isnan(values))
    order = made[np.argsort(values[made], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(factors * values[order]), 1.0)
    return corrected
