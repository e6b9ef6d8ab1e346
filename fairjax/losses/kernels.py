"""Quadratic forms of a mixture of Gaussian kernels, from which distances between groups are computed."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.losses.grouping import positive
from fairjax.types import Number

WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Default widths of the kernels, relative to the mean squared distance of the rows."""


def kernel_form(
    h: Float[Array, "n u"],
    contrasts: Float[Array, "n k"],
    row_weights: Float[Array, " n"],
    widths: tuple[float, ...] = WIDTHS,
    linear: Number = 0.0,
) -> Float[Array, ""]:
    """Compute the sum over the contrasts c of c'Kc, with the mean of Gaussian kernels as K.

    The kernels are exp(-|h_i - h_j|^2 / (width * d)), where d is the mean squared distance over all pairs of rows, a
    constant for derivatives. There is one Gram matrix, and no array of all differences.

    Args:
        h: activations.
        contrasts: signed weights of the rows, one column per contrast; each should sum to 0.
        row_weights: weights of the rows, of which the mean squared distance is computed.
        widths: widths of the kernels.
        linear: weight of the linear kernel h_i'h_j / d, which is added to the Gaussian ones.

    Returns:
        A scalar.
    """
    shares = row_weights / positive(jnp.sum(row_weights))
    constant = jax.lax.stop_gradient(h)
    h = h - jnp.sum(shares[:, None] * constant, axis=0)[None, :]  # distances of centred rows lose fewer digits
    squares = jnp.sum(h * h, axis=1)
    mean_distance = positive(jax.lax.stop_gradient(2.0 * jnp.sum(shares * squares)))
    products = jnp.matmul(h, h.T, precision="highest")
    distances = jnp.maximum(squares[:, None] + squares[None, :] - 2.0 * products, 0.0) / mean_distance
    kernel, previous, value = jnp.zeros_like(distances), 0.0, distances
    for width in sorted(widths, reverse=True):
        # the square of a kernel is that of half the width, and cheaper than another exponential
        value = value * value if width == previous / 2 else jnp.exp(-distances / width)
        kernel, previous = kernel + value, width
    form = jnp.sum(contrasts * jnp.matmul(kernel, contrasts, precision="highest")) / len(widths)
    projections = jnp.matmul(contrasts.T, h, precision="highest")
    return form + jnp.asarray(linear, h.dtype) * jnp.sum(projections * projections) / mean_distance


def check_widths(widths: tuple[float, ...]) -> None:
    """Check the widths of kernels.

    Raises:
        ValueError: if there is none, or one is not positive.

    Example:
        >>> check_widths((0.5, 1.0))
    """
    if not isinstance(widths, tuple) or not widths or not all(0 < width < float("inf") for width in widths):
        raise ValueError(f"widths must be a tuple of positive numbers, such as {WIDTHS}, got {widths!r}")
