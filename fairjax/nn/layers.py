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
from jaxtyping import Array, Bool, Float

from fairjax.types import KeyArray


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
        start = uniform_within(max(x.shape[-1], 1) ** -0.5)
        kernel = self.param("kernel", start, (x.shape[-1], self.features))
        bias = self.param("bias", start, (self.features,))
        return x.astype(kernel.dtype) @ kernel + bias[None]


def uniform_within(bound: float) -> Callable[[KeyArray, tuple[int, ...]], Float[Array, "..."]]:
    """Return an initialiser (key, shape) -> array, uniform between -bound and bound."""
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


def _normalise_backward(epsilon, residuals, output_grads):
    unit, inverse, scale = residuals
    output_grad = output_grads[0]
    bias_grad, scale_grad = jnp.sum(output_grad, axis=0), jnp.sum(output_grad * unit, axis=0)
    n = output_grad.shape[0]
    h_grad = (output_grad - bias_grad[None] / n - unit * (scale_grad[None] / n)) * (scale * inverse)[None]
    return h_grad, scale_grad, bias_grad


_normalise.defvjp(_normalise_forward, _normalise_backward)
