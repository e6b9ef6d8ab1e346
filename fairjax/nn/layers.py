"""Layers with PyTorch's conventions, and handles on hidden units.

The networks of the papers were trained with PyTorch, so PyTorch's conventions are used where Linen's differ: the
initialisation of linear layers, the running variance of batch normalisation, and the meaning of its momentum.
"""

import functools
from collections.abc import Callable
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt8, UInt32

from fairjax.types import KeyArray

_BYTE = 256
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
"""Rotations of the rounds of Threefry-2x32, in alternating blocks of four."""


class Units(nn.Module):
    """Handles on a layer's units: a shift to differentiate with respect to, and a mask.

    Calling it returns `(shift, keep)`, one float and one boolean per unit. Add `shift` where influence should be
    measured, and set activations to 0 where `keep` is false, at the position where units should be cut. The shift is
    one number per unit, shared by all rows, so its gradient is the sum over rows and needs memory for the units only.

    Example:
        A hidden layer of a user's own network, measured and cut at the pre-activation::

            shift, keep = Units(32, name="units")()
            h = nn.relu(jnp.where(keep[None], nn.Dense(32)(h) + shift[None], 0.0))
    """

    width: int

    @nn.compact
    def __call__(self) -> tuple[Float[Array, " units"], Bool[Array, " units"]]:
        """Return the shifts (0 unless given) and the mask of the layer's units."""
        shift = self.perturb("keep", jnp.zeros(self.width))
        keep = self.variable("masks", "keep", jnp.ones, self.width, bool)
        return shift, keep.value


class Linear(nn.Module):
    """Affine map with PyTorch's initialisation: weights and bias are uniform in +-1/sqrt(fan_in)."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n features"]:
        """Compute `x @ kernel + bias`."""
        start = _uniform(max(x.shape[-1], 1) ** -0.5)
        kernel = self.param("kernel", start, (x.shape[-1], self.features))
        bias = self.param("bias", start, (self.features,))
        return x.astype(kernel.dtype) @ kernel + bias[None]


def _uniform(bound: float) -> Callable[[KeyArray, tuple[int, ...]], Float[Array, "..."]]:
    return lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)


class BatchNorm(nn.Module):
    """Batch normalisation over rows with PyTorch's conventions.

    `momentum` is the weight of the new batch in the running statistics, and the running variance is unbiased. Batches
    are normalised by the biased variance, computed in two passes.
    """

    momentum: float = 0.1
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, h: Float[Array, "n units"], *, train: bool) -> Float[Array, "n units"]:
        """Normalise by the batch statistics in training, and by the running statistics otherwise."""
        width = h.shape[-1]
        scale = self.param("scale", nn.initializers.ones_init(), (width,))
        bias = self.param("bias", nn.initializers.zeros_init(), (width,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, width)
        running_var = self.variable("batch_stats", "var", jnp.ones, width)
        if not train:
            factor = scale * jax.lax.rsqrt(running_var.value + self.epsilon)
            return (h - running_mean.value[None]) * factor[None] + bias[None]
        normalised, mean, var = cast(tuple[Array, Array, Array], _normalise(h, scale, bias, self.epsilon))
        if not self.is_initializing():
            unbiased = var * (h.shape[0] / max(h.shape[0] - 1, 1))
            running_mean.value += self.momentum * (mean - running_mean.value)
            running_var.value += self.momentum * (unbiased - running_var.value)
        return normalised


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalise(h, scale, bias, epsilon):
    """Return batch-normalised `h`, the batch mean and the biased variance, with no gradient through the last two.

    The derivative is defined by hand because automatic differentiation of the two-pass variance needs twice as many
    passes over the data, and these passes take the largest part of a small network's training step.
    """
    return _normalise_forward(h, scale, bias, epsilon)[0]


def _normalise_forward(h, scale, bias, epsilon):
    mean = jnp.mean(h, axis=0)
    centred = h - mean[None]
    var = jnp.mean(centred**2, axis=0)
    inverse = jax.lax.rsqrt(var + epsilon)
    unit = centred * inverse[None]
    return (unit * scale[None] + bias[None], mean, var), (unit, inverse, scale)


def _normalise_backward(epsilon, saved, slopes):
    unit, inverse, scale = saved
    slope = slopes[0]
    of_bias, of_scale = jnp.sum(slope, axis=0), jnp.sum(slope * unit, axis=0)
    n = slope.shape[0]
    of_h = (slope - of_bias[None] / n - unit * (of_scale[None] / n)) * (scale * inverse)[None]
    return of_h, of_scale, of_bias


_normalise.defvjp(_normalise_forward, _normalise_backward)


def dropout_masks(key: KeyArray, shapes: list[tuple[int, int]], rate: float) -> list[Bool[Array, "n units"]]:
    """Draw the dropout masks of several layers from one array of random bits.

    Each entry uses eight random bits, a quarter of the 32 bits of a uniform number, since drawing bits takes a large
    part of a small network's training step. The drop probability is therefore `rate` rounded to a multiple of 1/256,
    `dropped(rate)`; divide by `1 - dropped(rate)` to keep expectations exact.

    Args:
        key: a key used only for this call.
        shapes: shapes of the layers' activations.
        rate: probability of dropping an entry, in [0, 1).

    Returns:
        One boolean array per shape; true = kept.

    Example:
        >>> mask, = dropout_masks(jax.random.key(0), [(1000, 32)], 0.05)
        >>> round(1 - mask.mean().item(), 2)
        0.05
    """
    sizes = [n * units for n, units in shapes]
    words = random_words(key, -(-sum(sizes) // 4))
    octets: UInt8[Array, " m"] = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)
    masks, start = [], 0
    for size, shape in zip(sizes, shapes, strict=True):
        masks.append(octets[start : start + size].reshape(shape) >= round(rate * _BYTE))
        start += size
    return masks


def dropped(rate: float) -> float:
    """Return the drop probability of `dropout_masks`: `rate` rounded to a multiple of 1/256."""
    return round(rate * _BYTE) / _BYTE


def random_words(key: KeyArray, count: int) -> UInt32[Array, " count"]:
    """Compute the numbers of `jax.random.bits(key, (count,), uint32)` in one vectorised loop.

    On CPU, JAX compiles Threefry's rounds to a loop of small kernels, each of which reads and writes all words. With
    the rounds unrolled, there is a single kernel that keeps each word in a register, which saves a tenth of a small
    network's training step.

    Args:
        key: a key used only for this call.
        count: number of words, below 2^32.

    Returns:
        Random words.

    Example:
        >>> key = jax.random.key(0)
        >>> (random_words(key, 5) == jax.random.bits(jax.random.clone(key), (5,), jnp.uint32)).all().item()
        True

    References:
        Salmon, Moraes, Dror, Shaw (2011), Parallel random numbers: as easy as 1, 2, 3, SC11 (Threefry-2x32-20).
    """
    if str(jax.random.key_impl(key)) != "threefry2x32" or not jax.config.jax_threefry_partitionable:  # type: ignore[attr-defined]
        return jax.random.bits(key, (count,), jnp.uint32)
    first, second = jax.random.key_data(key)
    keys = (first, second, first ^ second ^ jnp.uint32(0x1BD11BDA))

    def block(start):
        low = start + jax.lax.iota(jnp.uint32, size)
        x, y = jnp.full_like(low, keys[0]), low + keys[1]
        for injection in range(5):
            for distance in _ROTATIONS[injection % 2]:
                x = x + y
                y = x ^ ((y << distance) | (y >> (32 - distance)))
            x = x + keys[(injection + 1) % 3]
            y = y + keys[(injection + 2) % 3] + jnp.uint32(injection + 1)
        return x ^ y

    # A loop, even of only two iterations, prevents XLA from recomputing the words for every operation that uses them.
    size = -(-count // 2)
    return jax.lax.map(block, jnp.array([0, size], jnp.uint32)).reshape(-1)[:count]
