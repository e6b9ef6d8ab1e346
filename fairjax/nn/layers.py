"""Layers with PyTorch's conventions, and handles on hidden units.

The networks of the papers were trained with PyTorch, so PyTorch's conventions are used where Linen's differ: the
initialisation of linear layers, the running variance of batch normalisation, and the meaning of its momentum.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, cast, overload

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fairjax.types import KeyArray

RECORDED = "activations"
"""Name under which units keep their activations in the collection `intermediates`."""


class Units(nn.Module):
    """Handles on a layer's units: a shift to differentiate with respect to, and a mask.

    Called with the layer's output `h`, whose last axis are the units, it returns `h` with the shift added and 0 at
    units that are cut, and records it for `Network.activations`. The axes between rows and units are positions, such
    as those of an image; all of them share the shift and the mask of their unit.

    Called without arguments, it returns `(shift, keep)`, one float and one boolean per unit: add `shift` where
    influence should be measured, set activations to 0 where `keep` is false, at the position where units should be
    cut, and pass the activations to `record` if they should be visible. The shift is one number per unit, shared by
    all rows, so its gradient is the sum over rows and needs memory for the units only.

    Example:
        A hidden layer of a user's own network, measured and cut at the pre-activation::

            h = nn.relu(Units(32, name="units")(nn.Dense(32)(h)))

        The same by hand, if shift and mask belong to different positions::

            units = Units(32, name="units")
            shift, keep = units()
            h = nn.Dense(32)(h) + shift[None]
            units.record(h)
            h = nn.relu(jnp.where(keep[None], h, 0.0))
    """

    width: int

    @overload
    def __call__(self) -> tuple[Float[Array, " units"], Bool[Array, " units"]]: ...

    @overload
    def __call__(self, h: Float[Array, "n *positions units"]) -> Float[Array, "n *positions units"]: ...

    @nn.compact
    def __call__(self, h: Any = None) -> Any:
        """Shift, cut and record activations; without them, return the shifts (0 unless given) and the mask.

        Args:
            h: activations of the layer's units, or None.

        Returns:
            The new activations, or the shifts and the mask.

        Raises:
            ValueError: if the last axis of `h` has another size than `width`.
        """
        shift = self.perturb("keep", jnp.zeros(self.width))
        keep = self.variable("masks", "keep", jnp.ones, self.width, bool)
        if h is None:
            return shift, keep.value
        if h.ndim < 2 or h.shape[-1] != self.width:
            raise ValueError(
                f"Units({self.width}) must be called with activations of shape (n, ..., {self.width}), found shape "
                f"{h.shape}: make it with the number of units on the last axis"
            )
        leading = range(h.ndim - 1)
        h = h + jnp.expand_dims(shift, leading).astype(h.dtype)
        h = jnp.where(jnp.expand_dims(keep.value, leading), h, jnp.zeros((), h.dtype))
        self.record(h)
        return h

    def record(self, h: Float[Array, "n *positions units"]) -> None:
        """Make activations visible to `Network.activations`, which shows 0 at units that are cut.

        Args:
            h: the activations at the position where the shift was added.
        """
        self.sow("intermediates", RECORDED, h)


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
    """Batch normalisation over rows, and over positions if there are any, with PyTorch's conventions.

    The last axis is that of the units; statistics are computed over all others. `momentum` is the weight of the new
    batch in the running statistics, and the running variance is unbiased. Batches are normalised by the biased
    variance, computed in two passes.
    """

    momentum: float = 0.1
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, h: Float[Array, "*n units"], *, train: bool) -> Float[Array, "*n units"]:
        """Normalise by the batch statistics in training, and by the running statistics otherwise."""
        width = h.shape[-1]
        scale = self.param("scale", nn.initializers.ones_init(), (width,))
        bias = self.param("bias", nn.initializers.zeros_init(), (width,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, width)
        running_var = self.variable("batch_stats", "var", jnp.ones, width)
        if not train:
            factor = scale * jax.lax.rsqrt(running_var.value + self.epsilon)
            mean, factor, bias = (vector[(None,) * (h.ndim - 1)] for vector in (running_mean.value, factor, bias))
            return (h - mean) * factor + bias
        rows = h.reshape(math.prod(h.shape[:-1]), width)  # no -1, since there may be no units
        normalised, mean, var = cast(tuple[Array, Array, Array], normalise(rows, scale, bias, self.epsilon))
        if not self.is_initializing():
            unbiased = var * (rows.shape[0] / max(rows.shape[0] - 1, 1))
            running_mean.value += self.momentum * (mean - running_mean.value)
            running_var.value += self.momentum * (unbiased - running_var.value)
        return normalised.reshape(h.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalise(h, scale, bias, epsilon, axis=-1):
    """Return batch-normalised `h`, the batch mean and the biased variance, with no gradient through the last two.

    The derivative is defined by hand because automatic differentiation of the two-pass variance needs twice as many
    passes over the data, and these passes take the largest part of a small network's training step.

    Args:
        h: activations, with units on one axis.
        scale: one factor per unit.
        bias: one number per unit.
        epsilon: added to the variance.
        axis: axis of the units; statistics are computed over all others.
    """
    return _normalise_forward(h, scale, bias, epsilon, axis)[0]


def _normalise_forward(h, scale, bias, epsilon, axis):
    others = _other_axes(h, axis)
    mean = jnp.mean(h, axis=others)
    centred = h - jnp.expand_dims(mean, others)
    var = jnp.mean(centred**2, axis=others)
    inverse = jax.lax.rsqrt(var + epsilon)
    unit = centred * jnp.expand_dims(inverse, others)
    normalised = unit * jnp.expand_dims(scale, others) + jnp.expand_dims(bias, others)
    return (normalised, mean, var), (unit, inverse, scale)


def _normalise_backward(epsilon, axis, residuals, output_grads):
    unit, inverse, scale = residuals
    output_grad = output_grads[0]
    others = _other_axes(unit, axis)
    bias_grad, scale_grad = jnp.sum(output_grad, axis=others), jnp.sum(output_grad * unit, axis=others)
    n = unit.size // max(unit.shape[axis], 1)
    bias_part, scale_part = (jnp.expand_dims(grad, others) / n for grad in (bias_grad, scale_grad))
    h_grad = (output_grad - bias_part - unit * scale_part) * jnp.expand_dims(scale * inverse, others)
    return h_grad, scale_grad, bias_grad


def _other_axes(h, axis):
    return tuple(i for i in range(h.ndim) if i != axis % h.ndim)


normalise.defvjp(_normalise_forward, _normalise_backward)
