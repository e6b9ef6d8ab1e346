"""What is known of PyTorch's layers: where their units are, and how a cut is written into their weights."""

from typing import Any

from fairjax.adapters._bringing import extra

CHANNELS_FIRST = ("_ConvNd", "_BatchNorm", "_InstanceNorm", "GroupNorm")
"""Layers whose units are on axis 1; those of others are on the last axis."""
DEFAULT = ("Linear", "Bilinear", "_ConvNd")
"""Layers whose outputs are units unless others are chosen."""
ELEMENTWISE = ("torch.nn.modules.activation", "torch.nn.modules.dropout")
"""Modules of layers that keep the axis of their input's units."""


def classes(names: tuple[str, ...]) -> tuple[type, ...]:
    """Return PyTorch's classes of these names."""
    nn = extra("torch").nn
    modules = (nn, nn.modules.conv, nn.modules.batchnorm, nn.modules.instancenorm)
    return tuple(next(getattr(module, name) for module in modules if hasattr(module, name)) for name in names)


def is_default(layer: Any) -> bool:
    """Return whether a layer is linear or a convolution."""
    return isinstance(layer, classes(DEFAULT))


def units_axis(layer: Any, ndim: int) -> int | None:
    """Return the axis of a layer's units from the front, or None if only its input tells."""
    nn = extra("torch").nn
    if isinstance(layer, classes(CHANNELS_FIRST)):
        return 1
    known = isinstance(layer, (nn.Linear, nn.Bilinear, nn.LayerNorm, nn.Embedding))
    return ndim - 1 if known or ndim == 2 else None


def keeps_axis(layer: Any) -> bool:
    """Return whether a layer works entry by entry, so that its units are where its input's are."""
    return type(layer).__module__ in ELEMENTWISE and type(layer).__name__ != "MultiheadAttention"


def weights(layer: Any) -> dict[str, int]:
    """Return the parameters in which zeros cut a unit, with the axis of the units in each; none if it has none."""
    nn = extra("torch").nn
    axis = 0
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        axis = 1
    elif isinstance(layer, nn.Embedding):
        axis = 1
    elif not isinstance(layer, (*classes((*CHANNELS_FIRST, "Linear", "Bilinear")), nn.LayerNorm)):
        return {}
    found = {"weight": axis} if getattr(layer, "weight", None) is not None else {}
    return {**found, "bias": 0} if found and getattr(layer, "bias", None) is not None else found


def obstacle(layer: Any) -> str | None:
    """Return why a cut of a layer's units cannot be written as zeros into its weights, or None."""
    torch = extra("torch")
    if not weights(layer):
        return "it has no weight of its own for each unit"
    if torch.nn.utils.parametrize.is_parametrized(layer) or "weight" not in dict(layer.named_parameters(recurse=False)):
        return "its weight is computed from other parameters, as by weight_norm; remove the parametrization before"
    transposed = isinstance(layer, torch.nn.modules.conv._ConvTransposeNd)
    if transposed and layer.groups > 1:
        return "it is a transposed convolution with groups"
    if isinstance(layer, torch.nn.LayerNorm) and len(layer.normalized_shape) > 1:
        return "it normalises several axes"
    if layer._forward_hooks or layer._forward_pre_hooks:
        return "it has hooks that may change its output"
    base = next(base for base in type(layer).__mro__ if base.__module__.startswith("torch.nn."))
    return None if type(layer).forward is base.forward else "its class has a forward of its own"
