"""Normalisation layers. Batch normalisation in training mode is fairjax's own, whose derivative takes few passes."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fairjax.nn.layers import normalise


def _of_channels(vector: Any, x: Any) -> Any:
    """Add axes to one number per channel, so that it broadcasts along axis 1 of `x`."""
    return vector.reshape((1, -1) + (1,) * (x.ndim - 2))


def _evaluated(x: Any, weight: Any, bias: Any, mean: Any, variance: Any, momentum: Any, epsilon: float) -> Any:
    del momentum
    factor = jax.lax.rsqrt(variance + epsilon)
    factor = factor if weight is None else factor * weight
    h = (x - _of_channels(mean, x)) * _of_channels(factor, x)
    return h if bias is None else h + _of_channels(bias, x)


def _no_training(*args: Any) -> tuple[Any, None, None]:
    return _evaluated(*args), None, None


def _of_batch(x: Any, weight: Any, bias: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Normalise by the statistics of a batch; return them, too."""
    weight = jnp.ones(x.shape[1], x.dtype) if weight is None else weight
    bias = jnp.zeros(x.shape[1], x.dtype) if bias is None else bias
    return normalise(x, weight, bias, epsilon, 1)


def _no_statistics(
    x: Any, weight: Any, bias: Any, training: bool, momentum: Any, epsilon: float
) -> tuple[Any, None, None]:
    del training, momentum
    return _of_batch(x, weight, bias, epsilon)[0], None, None


def _functional(
    x: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: Any,
    epsilon: float,
) -> tuple[Any, None, None, Any, Any]:
    """Normalise in training mode; return running statistics as well, whose variance is unbiased."""
    if not training:
        h = _evaluated(x, weight, bias, running_mean, running_var, momentum, epsilon)
        return h, None, None, running_mean, running_var
    h, mean, variance = _of_batch(x, weight, bias, epsilon)
    count = x.size // x.shape[1]
    unbiased = variance * (count / max(count - 1, 1))
    running_mean = running_mean + momentum * (mean - running_mean)
    return h, None, None, running_mean, running_var + momentum * (unbiased - running_var)


def _layer_norm(
    x: Any, normalized_shape: Sequence[int], weight: Any, bias: Any, epsilon: float
) -> tuple[Any, None, None]:
    axes = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    centred = x - jnp.mean(x, axis=axes, keepdims=True)
    h = centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=axes, keepdims=True) + epsilon)
    h = h if weight is None else h * weight
    return (h if bias is None else h + bias), None, None


def _group_norm(
    x: Any, weight: Any, bias: Any, rows: int, channels: int, positions: int, groups: int, epsilon: float
) -> tuple[Any, None, None]:
    del channels, positions
    grouped = x.reshape(rows, groups, math.prod(x.shape[1:]) // groups)
    centred = grouped - jnp.mean(grouped, axis=2, keepdims=True)
    h = centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=2, keepdims=True) + epsilon)
    h = h.reshape(x.shape)
    h = h if weight is None else h * _of_channels(weight, x)
    return (h if bias is None else h + _of_channels(bias, x)), None, None


def _rms_norm(x: Any, normalized_shape: Sequence[int], weight: Any, epsilon: float | None) -> tuple[Any, None]:
    axes = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    epsilon = float(jnp.finfo(x.dtype).eps) if epsilon is None else epsilon
    h = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=axes, keepdims=True) + epsilon)
    return (h if weight is None else h * weight), None


OPERATIONS: dict[str, Callable[..., Any]] = {
    "_native_batch_norm_legit_no_training": _no_training,
    "_native_batch_norm_legit.no_stats": _no_statistics,
    "_native_batch_norm_legit_functional": _functional,
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    "_fused_rms_norm": _rms_norm,
}
"""Operations by name; a name with a dot is one overload."""

LACKING_RESULTS = {
    "_native_batch_norm_legit_no_training": (1, 2),
    "_native_batch_norm_legit.no_stats": (1, 2),
    "_native_batch_norm_legit_functional": (1, 2),
    "native_layer_norm": (1, 2),
    "native_group_norm": (1, 2),
    "_fused_rms_norm": (1,),
}
"""Results that are not computed, by number; a program that uses them is refused."""
