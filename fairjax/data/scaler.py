"""The scaler of a table: mean and standard deviation of each feature."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def mean_and_scale(x: Float[Array, "n *d"]) -> tuple[Float[Array, " *d"], Float[Array, " *d"]]:
    """Compute mean and population standard deviation of each column; a constant column gets 1 for its deviation.

    Example:
        >>> mean, scale = mean_and_scale(jnp.array([[1.0, 5.0], [3.0, 5.0]]))
        >>> mean.tolist(), scale.tolist()
        ([2.0, 5.0], [1.0, 1.0])
    """
    low, high = jnp.min(x, axis=0), jnp.max(x, axis=0)
    # Sums of many float32 values lose digits, so the mean is corrected by the mean of the deviations, which are small.
    rough = jnp.mean(x, axis=0)
    mean = rough + jnp.mean(x - rough[None, :], axis=0)
    deviation = jnp.sqrt(jnp.mean((x - mean[None, :]) ** 2, axis=0))
    # Rounding may leave a constant column with a tiny deviation, so the range is tested instead.
    constant = low == high
    return jnp.where(constant, low, mean), jnp.where(constant, 1.0, deviation)
