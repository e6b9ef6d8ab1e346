"""The layers of an NNX module, as they are called on an example, and how their outputs are replaced.

An NNX module keeps its class and attributes through `nnx.scan`, `nnx.remat`, `nnx.jit` and `nnx.vmap`, which split and
merge it. So a layer is given a subclass of its class, and attributes that say what to do with its output. The
attributes belong to one evaluation, so that nothing is taken from a cache of functions that were traced in another.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.core.tracers import current_trace

from fairjax.adapters._bringing import shifted_and_masked
from fairjax.adapters._sites import Call, Counter, Path, Site, merged
from fairjax.adapters._slots import tap

DEFAULT_LAYERS = (nnx.Linear, nnx.LinearGeneral, nnx.Conv, nnx.ConvTranspose)
"""Layers whose outputs are units unless others are chosen."""

NORMALISATIONS = (nnx.BatchNorm, nnx.LayerNorm, nnx.RMSNorm, nnx.GroupNorm, nnx.InstanceNorm)


class Handle(nnx.Param):
    """A mask, shift or slot of a layer; a parameter, so that loops slice it like the layer's parameters."""


class Captured(nnx.Intermediate):
    """The input of the last layer."""


@dataclasses.dataclass(eq=False)
class Recording:
    """Calls of layers while a module is traced."""

    layers: dict[Path, Any]
    """The layers outside of all loops."""
    calls: list[Call] = dataclasses.field(default_factory=list)
    active: list[tuple[Path, Any]] = dataclasses.field(default_factory=list)
    """The layers that are being called, outermost first, as they are inside loops."""

    def note(self, path: Path, argument: Any, output: Any) -> None:
        """Note the output of the layer that is being called."""
        if not hasattr(output, "shape") or not output.ndim or not jnp.issubdtype(output.dtype, jnp.floating):
            return
        layer = self.layers[path]
        features = tuple(layer.out_features) if isinstance(layer, nnx.LinearGeneral) else (output.shape[-1],)
        is_default = isinstance(layer, DEFAULT_LAYERS)
        shapes = (output.shape, output.dtype, getattr(argument, "shape", ()))
        obstacle = _obstacle(layer, self.active[-1][1], features)
        self.calls.append(Call(path, layer, is_default, features, *shapes, current_trace(), *self._loop(), obstacle))

    def _loop(self) -> tuple[tuple[int, ...], Path | None]:
        """Return the leading axes that parameters have outside and not inside, and the outermost layer with such."""
        stacked, loop = (), None
        for path, layer in self.active:
            outside, inside = _shapes(self.layers[path]), _shapes(layer)
            if outside:
                stacked = outside[0][: len(outside[0]) - len(inside[0])]
                loop = path if stacked and loop is None else loop
        return stacked, loop


@dataclasses.dataclass(frozen=True, eq=False)
class Watch:
    """A layer whose calls are recorded."""

    path: Path
    recording: Recording


@dataclasses.dataclass(frozen=True, eq=False)
class Placement:
    """A layer whose outputs are shifted and masked, or whose input is captured, in one evaluation."""

    site: Site | None
    counter: Counter
    captures: bool


@functools.cache
def handled(kind: type[Any]) -> type[Any]:
    """Make a subclass of a layer's class whose outputs can be recorded and replaced."""

    def call(self, *args, **kwargs):
        watch: Watch | None = vars(self).get("fairjax_watch")
        placement: Placement | None = vars(self).get("fairjax_placement")
        if watch is not None:
            watch.recording.active.append((watch.path, self))
        try:
            output = kind.__call__(self, *args, **kwargs)
            if watch is not None:
                watch.recording.note(watch.path, next(iter((*args, *kwargs.values())), None), output)
        finally:
            if watch is not None:
                watch.recording.active.pop()
        if placement is not None and placement.captures:
            self.fairjax_input = Captured(next(iter((*args, *kwargs.values()))))
        return output if placement is None or placement.site is None else _replaced(self, placement, output)

    return type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__, "__doc__": kind.__doc__})


def _replaced(layer: Any, placement: Placement, output: Any) -> Any:
    """Shift and mask a layer's output."""
    site: Any = placement.site
    keep, shift = layer.fairjax_keep.get_value(), vars(layer).get("fairjax_shift")
    if keep.shape != (site.width,):
        raise ValueError(
            f"a loop slices the parameters of {'.'.join(map(str, site.path))} but not its mask of shape {keep.shape}: "
            "leave this layer out with units=, or let the loop slice all nnx.Param"
        )
    shift = None if shift is None else shift.get_value()
    h = shifted_and_masked(output.reshape(merged(output.shape, site)), shift, keep)
    if "fairjax_slots" in vars(layer):
        h = tap(h, layer.fairjax_slots[placement.counter.number(site, current_trace())].get_value())
    return h.reshape(output.shape)


def _shapes(layer: Any) -> list[tuple[int, ...]]:
    return [leaf.shape for leaf in jax.tree.leaves(nnx.state(layer, nnx.Param))]


def at(model: Any, path: Path) -> Any:
    """Return the part of a module at a path of attributes and positions."""
    for name in path:
        model = model[name] if isinstance(name, int) else getattr(model, name)
    return model


def callable_layers(model: Any) -> dict[Path, Any]:
    """Return all modules in a module that can be called, by path; a shared one once."""
    parts: Any = nnx.iter_graph(model)
    return {tuple(path): part for path, part in parts if isinstance(part, nnx.Module) and callable(part)}


def record(layers: dict[Path, Any], evaluate: Callable[[Any], Any], graphdef: Any, state: Any) -> list[Call]:
    """Trace a module and record the calls of its layers in order; nothing is computed.

    Args:
        layers: the module's layers, from `callable_layers`.
        evaluate: function of the module.
        graphdef: structure of the module.
        state: its state.

    Returns:
        The calls of layers whose output is a floating-point array.
    """
    recording = Recording(layers)

    def traced(state):
        model = nnx.merge(graphdef, state)
        for path in layers:
            layer = at(model, path)
            layer.__class__ = handled(type(layer))
            layer.fairjax_watch = nnx.static(Watch(path, recording))
        return evaluate(model)

    jax.eval_shape(traced, state)
    return recording.calls


def _obstacle(layer: Any, inner: Any, features: tuple[int, ...]) -> str | None:
    """Say why zeros in a layer's parameters do not make it return 0; None if they do."""
    name = type(layer).__name__
    known = (*DEFAULT_LAYERS, nnx.Embed, *NORMALISATIONS)
    if not any(type(layer).__call__ is kind.__call__ for kind in known):
        return f"{name} is no layer that returns 0 for a unit where its own weights are 0"
    if isinstance(layer, nnx.ConvTranspose) and layer.transpose_kernel:
        return "the kernel of a ConvTranspose with transpose_kernel has its units on another axis"
    if isinstance(layer, NORMALISATIONS) and getattr(layer, "scale", None) is None:
        return f"{name} has no scale"
    if any(shape[len(shape) - len(features) :] != features for shape in _shapes(inner)):
        return f"{name} has its units on another axis than the last"
    return None
