"""Quadratic forms of a mixture of Gaussian kernels, from which distances between groups are computed."""

from functools import partial
from typing import Any

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
    mean_distance = jax.lax.stop_gradient(2.0 * jnp.sum(shares * jnp.sum(h * h, axis=1)))
    h = h / jnp.sqrt(positive(mean_distance))
    projections = _product(contrasts.T, h)
    gaussian = gaussian_form(tuple(float(width) for width in widths), h, contrasts)
    return gaussian + jnp.asarray(linear, h.dtype) * jnp.sum(projections * projections)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def gaussian_form(
    widths: tuple[float, ...], h: Float[Array, "n u"], contrasts: Float[Array, "n k"]
) -> Float[Array, ""]:
    """Compute the sum over the contrasts c of c'Kc, with the mean of the kernels exp(-|h_i - h_j|^2 / width) as K."""
    kernel, _ = _kernels(widths, h)
    return jnp.sum(contrasts * _product(kernel, contrasts))


@gaussian_form.defjvp
def _gaussian_form_jvp(widths: tuple[float, ...], primals: Any, tangents: Any) -> tuple[Array, Array]:
    """Differentiate the form. The gradient by h needs one more matrix product, fewer than automatic differentiation."""
    (h, contrasts), (h_dot, contrasts_dot) = primals, tangents
    kernel, slope = _kernels(widths, h)
    of_contrasts = _product(kernel, contrasts)
    outer = contrasts * contrasts.T if contrasts.shape[1] == 1 else _product(contrasts, contrasts.T)
    extended = jnp.concatenate([h, jnp.ones_like(h[:, :1])], axis=1)
    by_distance = jnp.where(jnp.eye(h.shape[0], dtype=bool), 0.0, outer * slope)  # no rounding error of i with itself
    moved = _product(by_distance, extended)  # its last column is the sum of each row
    of_h = 4.0 * (moved[:, -1:] * h - moved[:, :-1])
    return jnp.sum(contrasts * of_contrasts), jnp.sum(of_h * h_dot) + 2.0 * jnp.sum(of_contrasts * contrasts_dot)


def _kernels(widths: tuple[float, ...], h: Float[Array, "n u"]) -> tuple[Float[Array, "n n"], Float[Array, "n n"]]:
    """Return the mean of the kernels, and its derivative by the squared distance."""
    squares, ones = jnp.sum(h * h, axis=1, keepdims=True), jnp.ones_like(h[:, :1])
    left, right = jnp.concatenate([-2.0 * h, squares, ones], axis=1), jnp.concatenate([h, ones, squares], axis=1)
    distances = jnp.maximum(_product(left, right.T), 0.0)  # |a|^2 + |b|^2 - 2 ab as one product
    kernel, slope, previous, value = jnp.zeros_like(distances), jnp.zeros_like(distances), 0.0, distances
    for width in sorted(widths, reverse=True):
        # the square of a kernel is that of half the width, and cheaper than another exponential
        value = value * value if width == previous / 2 else _computed_once(jnp.exp(-distances / width))
        kernel, slope, previous = kernel + value, slope - value / width, width
    return kernel / len(widths), slope / len(widths)


def _product(a: Float[Array, "n k"], b: Float[Array, "k m"]) -> Float[Array, "n m"]:
    return jnp.matmul(a, b, precision="highest")


def _computed_once(array: Array) -> Array:
    """Return the array, which the compiler would else compute again for each of its uses."""
    return jax.lax.optimization_barrier(array)


def check_widths(widths: tuple[float, ...]) -> None:
    """Check the widths of kernels.

    Raises:
        ValueError: if there is none, or one is not positive.

    Example:
        >>> check_widths((0.5, 1.0))
    """
    if not isinstance(widths, tuple) or not widths or not all(0 < width < float("inf") for width in widths):
        raise ValueError(f"widths must be a tuple of positive numbers, such as {WIDTHS}, got {widths!r}")
