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
    kernel, _ = _sums_of_kernels(widths, h)
    return jnp.sum(contrasts * _product(kernel, contrasts)) / len(widths)


@gaussian_form.defjvp
def _gaussian_form_jvp(widths: tuple[float, ...], primals: Any, tangents: Any) -> tuple[Array, Array]:
    """Differentiate the form. The gradient by h needs one more matrix product, fewer than automatic differentiation."""
    (h, contrasts), (h_dot, contrasts_dot) = primals, tangents
    kernel, slope = _sums_of_kernels(widths, h)
    of_contrasts = _product(kernel, contrasts)
    extended = jnp.concatenate([h, jnp.ones_like(h[:, :1])], axis=1)
    if contrasts.shape[1] == 1:  # without another matrix (n, n)
        moved = contrasts * _product(slope, contrasts * extended)
    else:
        moved = _product(_product(contrasts, contrasts.T) * slope, extended)
    of_h = 4.0 * (moved[:, -1:] * h - moved[:, :-1])  # the last column is the sum of each row
    tangent = jnp.sum(of_h * h_dot) + 2.0 * jnp.sum(of_contrasts * contrasts_dot)
    return jnp.sum(contrasts * of_contrasts) / len(widths), tangent / len(widths)


def _sums_of_kernels(
    widths: tuple[float, ...], h: Float[Array, "n u"]
) -> tuple[Float[Array, "n n"], Float[Array, "n n"]]:
    """Return the sum of the kernels, and its derivative with respect to the squared distance."""
    squares, ones = jnp.sum(h * h, axis=1, keepdims=True), jnp.ones_like(h[:, :1])
    left, right = jnp.concatenate([-2.0 * h, squares, ones], axis=1), jnp.concatenate([h, ones, squares], axis=1)
    distances = jnp.maximum(_product(left, right.T), 0.0)  # |a|^2 + |b|^2 - 2 ab as one product
    kernels, ordered = [], sorted(widths, reverse=True)
    for previous, width in zip([0.0, *ordered], ordered, strict=False):
        # the square of a kernel is that of half the width, and cheaper than another exponential
        halved = width == previous / 2
        kernels.append(jnp.square(kernels[-1]) if halved else _computed_once(jnp.exp(distances * (-1.0 / width))))
    slopes = [kernel * (-1.0 / width) for kernel, width in zip(kernels, ordered, strict=True)]
    return sum(kernels[1:], start=kernels[0]), sum(slopes[1:], start=slopes[0])


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
