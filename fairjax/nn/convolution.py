"""Convolutions as matrix products, which stay fast when many networks are computed at once, and pooling."""

import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.nn.layers import uniform_within
from fairjax.types import AnyArray


class Convolution(nn.Module):
    """Convolution of images with PyTorch's initialisation: weights and bias are uniform in +-1/sqrt(fan_in).

    An image is padded by repeating its border, so that a stride of 1 keeps its size. Other than zeros, repeated borders
    leave a constant channel constant, so that a channel that was cut can be replaced by a bias of the next layer.

    The convolution is a matrix product of patches and weights. Under `jax.vmap` over networks with weights of their
    own, it remains a batch of matrix products, whereas XLA turns `jax.lax.conv` into a grouped convolution, whose
    gradient is slow on CPU.
    """

    features: int
    size: int = 3
    """Height and width of the kernel."""
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[AnyArray, "n h w c"]) -> Float[Array, "n h2 w2 features"]:
        """Compute the convolution of images, with bias."""
        channels = x.shape[-1]
        start = uniform_within(max(self.size**2 * channels, 1) ** -0.5)
        kernel = self.param("kernel", start, (self.size, self.size, channels, self.features))
        bias = self.param("bias", start, (self.features,))
        patches = _patches(jnp.asarray(x).astype(kernel.dtype), self.size, self.stride)
        positions, inputs = math.prod(patches.shape[:-1]), patches.shape[-1]  # no -1, since there may be no channels
        products = patches.reshape(positions, inputs) @ kernel.reshape(inputs, self.features) + bias[None]
        return products.reshape(*patches.shape[:-1], self.features)


def _patches(x: Float[Array, "n h w c"], size: int, stride: int) -> Float[Array, "n h2 w2 k"]:
    """Return the patch around every position, its rows, columns and channels flattened in this order."""
    before, after = (size - 1) // 2, size // 2
    padding = ((0, 0), (before, after), (before, after), (0, 0))
    padded = jnp.pad(x, padding, mode="edge") if size > 1 else x
    height, width = x.shape[1:3]
    columns = jnp.concatenate([padded[:, :, j : j + width : stride] for j in range(size)], axis=-1)
    return jnp.concatenate([columns[:, i : i + height : stride] for i in range(size)], axis=-1)


def pooled(h: Float[Array, "n h w c"], size: int) -> Float[Array, "n h2 w2 c"]:
    """Average squares of `size` by `size` positions; positions that fill no square are left out.

    Example:
        >>> pooled(jnp.arange(16.0).reshape(1, 4, 4, 1), 2)[0, :, :, 0].tolist()
        [[2.5, 4.5], [10.5, 12.5]]
    """
    if size == 1:
        return h
    n, height, width, channels = h.shape
    rows, columns = height // size, width // size
    squares = h[:, : rows * size, : columns * size].reshape(n, rows, size, columns, size, channels)
    return jnp.mean(squares, axis=(2, 4))
