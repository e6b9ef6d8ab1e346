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
    x, c = _halves(h), _halves(contrasts)
    within = _product(_kernels(widths, _distances(x, x)), c)
    across = _product(_kernels(widths, _distances(x[0], x[1])), c[1])
    return (jnp.sum(c * within) + 2.0 * jnp.sum(c[0] * across)) / len(widths)


@gaussian_form.defjvp
def _gaussian_form_jvp(widths: tuple[float, ...], primals: Any, tangents: Any) -> tuple[Array, Array]:
    """Differentiate the form. The gradient by h needs one more matrix product, fewer than automatic differentiation."""
    (h, contrasts), (h_dot, contrasts_dot) = primals, tangents
    x, c, n = _halves(h), _halves(contrasts), h.shape[0]
    within, across = _distances(x, x), _distances(x[0], x[1])
    slopes = _slopes(widths, within) * _outer(c, c)
    sums, moved = jnp.sum(slopes, axis=1), _product(slopes, x)
    slopes = _slopes(widths, across) * _outer(c[0], c[1])
    sums += jnp.stack([jnp.sum(slopes, axis=1), jnp.sum(slopes, axis=0)])
    moved += jnp.stack([_product(slopes, x[1]), _transposed_product(slopes, x[0])])
    of_h = 4.0 * (sums[:, :, None] * x - moved).reshape(-1, h.shape[1])[:n]
    across = _kernels(widths, across)
    of_contrasts = _product(_kernels(widths, within), c)
    of_contrasts += jnp.stack([_product(across, c[1]), _product(across.T, c[0])])
    of_contrasts = 2.0 * of_contrasts.reshape(-1, contrasts.shape[1])[:n]
    tangent = jnp.sum(of_h * h_dot) + jnp.sum(of_contrasts * contrasts_dot)
    return gaussian_form(widths, h, contrasts), tangent / len(widths)


def _halves(array: Float[Array, "n m"]) -> Float[Array, "2 half m"]:
    """Return the first and the second half of the rows, with a row of zeros more if their number is odd.

    The kernel of two halves is that of the same halves in the other order, so a quarter of all pairs need not be
    computed. An additional row has contrasts of 0.
    """
    n, m = array.shape
    return jnp.pad(array, ((0, n % 2), (0, 0))).reshape(2, -1, m)


def _distances(x: Float[Array, "*b n u"], y: Float[Array, "*b m u"]) -> Float[Array, "*b n m"]:
    """Return the squared distances, |a|^2 + |b|^2 - 2ab."""
    of_x, of_y = jnp.sum(x * x, axis=-1), jnp.sum(y * y, axis=-1)
    return jnp.maximum(of_x[..., :, None] + of_y[..., None, :] - 2.0 * _product(x, jnp.swapaxes(y, -1, -2)), 0.0)


def _kernels(widths: tuple[float, ...], distances: Float[Array, "*b n m"]) -> Float[Array, "*b n m"]:
    """Return the sum of the kernels."""
    kernels = [kernel for kernel, _ in _each_kernel(widths, distances)]
    return sum(kernels[1:], start=kernels[0])


def _slopes(widths: tuple[float, ...], distances: Float[Array, "*b n m"]) -> Float[Array, "*b n m"]:
    """Return the derivative of the sum of the kernels with respect to the squared distance."""
    slopes = [kernel * (-1.0 / width) for kernel, width in _each_kernel(widths, distances)]
    return sum(slopes[1:], start=slopes[0])


def _each_kernel(
    widths: tuple[float, ...], distances: Float[Array, "*b n m"]
) -> list[tuple[Float[Array, "*b n m"], float]]:
    """Return each kernel and its width."""
    kernels, ordered = [], sorted(widths, reverse=True)
    for previous, width in zip([0.0, *ordered], ordered, strict=False):
        # the square of a kernel is that of half the width, and cheaper than another exponential
        halved = width == previous / 2
        kernels.append(jnp.square(kernels[-1]) if halved else _computed_once(jnp.exp(distances * (-1.0 / width))))
    return list(zip(kernels, ordered, strict=True))


def _outer(c: Float[Array, "*b n k"], d: Float[Array, "*b m k"]) -> Float[Array, "*b n m"]:
    """Return the products of the contrasts of each two rows, summed over the contrasts."""
    d = jnp.swapaxes(d, -1, -2)
    return c * d if c.shape[-1] == 1 else _product(c, d)


def _transposed_product(a: Float[Array, "n m"], b: Float[Array, "n k"]) -> Float[Array, "m k"]:
    """Return a'b, by transposing b and the result, which are smaller than a."""
    return _computed_once(_product(_computed_once(b.T), a)).T


def _product(a: Float[Array, "*b n k"], b: Float[Array, "*b k m"]) -> Float[Array, "*b n m"]:
    return jnp.matmul(a, b, precision="highest")


def _computed_once(array: Array) -> Array:
    """Return the array; without this, the compiler would compute it again for each use, or in a slower way."""
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
