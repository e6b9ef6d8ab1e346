"""Layers of Keras models: their names, their units, and hooks on their outputs."""

import contextlib
import functools
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fairjax.adapters._bringing import extra

Hook = Callable[[Any, Any, Any], Any]
"""Function of a layer, its input and its output, before its own activation, that returns the output to go on with."""

_FAMILIES = (
    *("Dense", "EinsumDense", "DepthwiseConv", "SeparableConv", "ConvTranspose", "Conv"),
    *("BatchNormalization", "LayerNormalization", "Embedding"),
)
_CLASSES = {
    "DepthwiseConv": ("DepthwiseConv1D", "DepthwiseConv2D"),
    "SeparableConv": ("SeparableConv1D", "SeparableConv2D"),
    "ConvTranspose": ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
    "Conv": ("Conv1D", "Conv2D", "Conv3D"),
}


def family_of(layer: Any) -> str | None:
    """Return the family of layers that says where a layer's units are, or None."""
    layers = extra("keras").layers
    for family in _FAMILIES:
        for name in _CLASSES.get(family, (family,)):
            if hasattr(layers, name) and isinstance(layer, getattr(layers, name)):
                return family
    return None


def layers_of(model: Any) -> dict[str, Any]:
    """Return all layers inside a model by their paths, each once, in the order in which they were added."""
    found: dict[str, Any] = {}
    seen = {id(model)}

    def inside(parent: Any, path: tuple[str, ...]) -> None:
        counts: dict[str, int] = {}
        names = {layer.name for layer in parent._layers}
        for layer in parent._layers:
            name = _name(layer, counts, names)
            if id(layer) not in seen:
                seen.add(id(layer))
                found[".".join((*path, name))] = layer
                inside(layer, (*path, name))

    inside(model, ())
    return found


def _name(layer: Any, counts: dict[str, int], names: set[str]) -> str:
    """Return a layer's name, in which a number that Keras gave counts within the model."""
    base = re.sub(r"(?<!^)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__).lower()
    if not re.fullmatch(rf"{re.escape(base)}(_\d+)?", layer.name):
        return layer.name
    number = counts.get(base, 0)
    counts[base] = number + 1
    return base if number == 0 else f"{base}_{number}"


class Found(NamedTuple):
    """Where the units are in a layer's output."""

    axis: int
    """Axis of the units, once those of several axes are joined."""
    joined: int
    """Number of last axes that number units, as heads and their entries."""

    @classmethod
    def of(cls, layer: Any, h: Any) -> "Found":
        """Return where the units of a layer are."""
        if family_of(layer) == "EinsumDense":
            return cls(-1, _einsum_axes(layer))
        is_first = getattr(layer, "data_format", None) == "channels_first"
        return cls(1 if is_first and h.ndim > 2 else -1, 1)

    def flat(self, h: Array) -> Array:
        """Return the output with one axis of units."""
        return h if self.joined == 1 else h.reshape(*h.shape[: -self.joined], -1)


def _einsum_axes(layer: Any) -> int:
    """Return how many of the output's last axes are axes of the kernel alone, at least one."""
    inputs, kernel, outputs = re.split(",|->", layer.equation.replace(" ", ""))
    axes = 0
    for letter in reversed(outputs):
        if letter not in kernel or letter in inputs:
            break
        axes += 1
    return max(1, axes)


def width_of(layer: Any, h: Any) -> int:
    """Return the number of a layer's units."""
    found = Found.of(layer, h)
    return math.prod(h.shape[-found.joined :]) if found.axis == -1 else h.shape[found.axis]


def obstacle_of(layer: Any, model: Any) -> str | None:
    """Return why zeros in a layer's weights cannot express a cut, or None."""
    family = family_of(layer)
    if family is None:
        return f"a {type(layer).__name__} has no weights for each unit, so that it does not become 0"
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        return "its kernel is computed from several weights (LoRA or quantisation)"
    if family == "BatchNormalization" and not (layer.scale and layer.center and layer.axis in (-1, 1)):
        return "it has no scale and offset for each unit"
    if family == "LayerNormalization" and (not (layer.scale and layer.center) or len(layer.gamma.shape) != 1):
        return "it has no scale and offset for each unit"
    owners = [other for other in layers_of(model).values() if other is not layer]
    shared = {
        id(weight) for other in owners for weight in [*other._trainable_variables, *other._non_trainable_variables]
    }
    if any(id(weight) in shared for weight in [*layer._trainable_variables, *layer._non_trainable_variables]):
        return "another layer uses the same weights"
    return None


def zeroed(layer: Any, weight: Any, value: Array, keep: np.ndarray) -> Array:
    """Return a value of one of a layer's weights with zeros for cut units."""
    family, name, zero = family_of(layer), weight.name, jnp.zeros((), value.dtype)
    if name in ("moving_mean", "moving_variance") or (family == "SeparableConv" and name == "depthwise_kernel"):
        return value
    if family == "ConvTranspose" and name == "kernel":
        return jnp.where(keep[:, None], value, zero)
    if family == "DepthwiseConv" and name == "kernel":
        return jnp.where(keep.reshape(value.shape[-2:]), value, zero)
    if family == "EinsumDense":
        return jnp.where(_einsum_mask(layer, value, keep, name), value, zero)
    return jnp.where(keep.reshape((1,) * (value.ndim - 1) + (-1,)), value, zero)


def _einsum_mask(layer: Any, value: Array, keep: np.ndarray, name: str) -> np.ndarray:
    """Return a mask that is aligned with the kernel or bias of an `EinsumDense`."""
    _, kernel, outputs = re.split(",|->", layer.equation.replace(" ", ""))
    letters = outputs[len(outputs) - _einsum_axes(layer) :]
    sizes = {letter: value.shape[kernel.index(letter)] for letter in letters} if name == "kernel" else None
    if sizes is None:
        return keep.reshape(value.shape)
    mask = keep.reshape([sizes[letter] for letter in letters])
    order = sorted(letters, key=kernel.index)
    mask = mask.transpose([letters.index(letter) for letter in order])
    return mask.reshape([sizes.get(letter, 1) for letter in kernel])


@contextlib.contextmanager
def changed_layers(hooks: dict[Any, Hook]) -> Iterator[None]:
    """Let layers call hooks with their inputs and outputs, before their own activations, until the context ends."""
    changed: list[tuple[Any, str, bool, Any]] = []
    try:
        for layer, hook in hooks.items():
            _change(layer, hook, changed)
        yield
    finally:
        for layer, name, is_own, value in reversed(changed):
            if is_own:
                object.__setattr__(layer, name, value)
            else:
                object.__delattr__(layer, name)


def _change(layer: Any, hook: Hook, changed: list[tuple[Any, str, bool, Any]]) -> None:
    call, inputs = layer.call, []
    has_activation = "activation" in layer.__dict__ and family_of(layer) is not None

    @functools.wraps(call)
    def called(*args: Any, **options: Any) -> Any:
        inputs.append(args[0] if args else next(iter(options.values()), None))
        try:
            result = call(*args, **options)
        finally:
            first = inputs.pop()
        return result if has_activation else _first_changed(result, lambda h: hook(layer, first, h))

    if has_activation:
        activation = layer.activation

        def activated(h: Any) -> Any:
            h = hook(layer, inputs[-1], h)
            return h if activation is None else activation(h)

        changed.append((layer, "activation", True, activation))
        object.__setattr__(layer, "activation", activated)
    changed.append((layer, "call", "call" in layer.__dict__, layer.__dict__.get("call")))
    object.__setattr__(layer, "call", called)


def _first_changed(result: Any, change: Callable[[Any], Any]) -> Any:
    """Change the first of several results."""
    if isinstance(result, tuple) and result:
        return (_first_changed(result[0], change), *result[1:])
    return change(result) if hasattr(result, "dtype") else result
