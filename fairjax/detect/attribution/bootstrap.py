"""Weights of bootstrap draws, chunk by chunk."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fairjax.types import KeyArray

_MOST = 8
"""Greatest number of times that a row is drawn; the probability of more is one in a million."""


def poisson_weights(key: KeyArray, draws: int, rows: int) -> Float[Array, "draws rows"]:
    """Draw how often each row is in each bootstrap sample: independent Poisson numbers with mean 1.

    They take the place of multinomial numbers, which would have to be drawn for all chunks together. Means of
    resampled rows are divided by the sum of these numbers.

    Args:
        key: random key.
        draws: number of bootstrap samples.
        rows: number of rows.

    Returns:
        Whole numbers from 0 to 8, whose mean and variance are 1 up to 1e-4.

    Example:
        >>> poisson_weights(jax.random.key(0), 2, 5).shape
        (2, 5)

    References:
        Chamandy, Muralidharan, Najmi, Naidu (2012), Estimating uncertainty for massive data streams.
    """
    terms = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(_MOST)])
    at_least = np.rint(2**16 * (1 - terms)).astype(np.uint16)  # P(at least 1), P(at least 2), ...
    bits = jax.random.bits(key, (draws, rows), jnp.uint16)
    counts = jnp.zeros((draws, rows), jnp.float32)
    for bound in at_least:
        counts += (bits < bound).astype(jnp.float32)
    return counts
