"""Find the layers of a Linen module that have units, as they are called on an example."""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import meta
from flax.core.tracers import current_trace

from fairjax.adapters._bringing import Layer, Selection, select

DEFAULT_LAYERS = (nn.Dense, nn.DenseGeneral, nn.Conv, nn.ConvTranspose, nn.ConvLocal)
"""Layers whose outputs are units unless others are chosen."""

NORMALISATIONS = (nn.BatchNorm, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.InstanceNorm)

Path = tuple[str, ...]


class Call(NamedTuple):
    """A call of a layer while the network is traced."""

    path: Path
    module: nn.Module
    features: tuple[int, ...]
    """Sizes of the output's last axes that number units: one, or several for a layer such as attention's."""
    shape: tuple[int, ...]
    """Shape of the output, as the layer sees it."""
    trace: Any
    """The trace in which the layer is called; loops and `nn.remat` trace what is inside once more."""
    stacked: tuple[int, ...]
    """Sizes of the leading axes of the layer's parameters that a loop over layers adds."""
    loop: Path | None
    """The outermost module inside such a loop, if there is any."""
    obstacle: str | None
    """Why zeros in parameters do not cut units of this layer, if they do not."""

    @property
    def name(self) -> str:
        """Name of the layer: its path, or its class if it is the whole network."""
        return ".".join(self.path) or type(self.module).__name__


@dataclasses.dataclass(frozen=True)
class Site:
    """A layer with units: where it is, and the names of its masks."""

    path: Path
    features: tuple[int, ...]
    stacked: tuple[int, ...]
    names: tuple[str | None, ...]
    """Name of the mask of every layer of a loop, in order; None for those without units. One name outside loops."""
    calls: int
    """Number of times that the layer is called with the same parameters."""

    @property
    def width(self) -> int:
        """Number of units of one layer."""
        return math.prod(self.features)


@contextlib.contextmanager
def outputs_replaced(replace: Callable[[nn.Module, Any, Any], Any]) -> Iterator[list[nn.Module]]:
    """Replace the outputs of all layers that are called.

    Args:
        replace: function of a layer, its first argument and its output, which returns the new output.

    Yields:
        The layers that are being called, outermost first.
    """
    active: list[nn.Module] = []
    inner_paths: list[set[Path]] = [set()]

    def interceptor(function, args, kwargs, context):
        if context.method_name != "__call__":
            return function(*args, **kwargs)
        path = context.module.path
        active.append(context.module)
        inner_paths.append(set())
        try:
            output = function(*args, **kwargs)
            if path in inner_paths[-1]:  # a lifted layer calls itself, and the inner call counts
                return output
            return replace(context.module, next(iter((*args, *kwargs.values())), None), output)
        finally:
            active.pop()
            inner_paths.pop()
            inner_paths[-1].add(path)

    with nn.intercept_methods(interceptor):
        yield active


def record(evaluate: Callable[[Any], Any], variables: Any) -> list[Call]:
    """Trace a network and record the calls of its layers in order; nothing is computed.

    Args:
        evaluate: function that applies the network to its variables.
        variables: the network's variables, as plain dictionaries without metadata.

    Returns:
        The calls of layers whose output is a floating-point array.
    """
    calls: list[Call] = []
    shared: set[Path] = set()

    def note(module, _, output):
        if hasattr(output, "shape") and output.ndim and jnp.issubdtype(output.dtype, jnp.floating):
            several = isinstance(module, nn.DenseGeneral) and not isinstance(module.features, int)
            features = tuple(module.features) if several else (output.shape[-1],)
            loop = _loop(active, variables["params"])
            calls.append(
                Call(module.path, module, features, output.shape, current_trace(), *loop, _obstacle(module, features))
            )
        return output

    def note_attend(function, args, kwargs, context):
        if context.method_name == "attend":
            shared.add(context.module.path)
        return function(*args, **kwargs)

    with outputs_replaced(note) as active, nn.intercept_methods(note_attend):
        jax.eval_shape(evaluate, variables)
    tied = "its embedding is also the weight of another layer (attend)"
    return [call._replace(obstacle=tied) if call.path in shared else call for call in calls]


def _loop(active: Sequence[nn.Module], params: Any) -> tuple[tuple[int, ...], Path | None]:
    """Return the leading axes that parameters have outside and not inside, and the outermost layer with such."""
    stacked, loop = (), None
    for module in active:
        outside = jax.tree.leaves(at(params, module.path))
        inside = jax.tree.leaves(_own_params(module))
        if not outside or len(outside) != len(inside):
            continue
        stacked = outside[0].shape[: outside[0].ndim - inside[0].ndim]
        if stacked and loop is None:
            loop = module.path
    return stacked, loop


def _own_params(module: nn.Module) -> Any:
    return meta.unbox(dict(module.variables.get("params", {})))


def _obstacle(module: nn.Module, features: tuple[int, ...]) -> str | None:
    """Say why zeros in a layer's parameters do not make it return 0; None if they do."""
    name = type(module).__name__
    known = (*DEFAULT_LAYERS, nn.Embed, *NORMALISATIONS)
    if not any(type(module).__call__ is layer.__call__ for layer in known):
        return f"{name} is no layer that returns 0 for a unit where its own weights are 0"
    if isinstance(module, nn.ConvTranspose) and module.transpose_kernel:
        return "the kernel of a ConvTranspose with transpose_kernel has its units on another axis"
    if isinstance(module, NORMALISATIONS) and not module.use_scale:
        return f"{name} has no scale"
    if any(leaf.shape[leaf.ndim - len(features) :] != features for leaf in jax.tree.leaves(_own_params(module))):
        return f"{name} has its units on another axis than the last"
    return None


def at(tree: Any, path: Path) -> Any:
    """Return the part of a tree of dictionaries at a path, or an empty dictionary."""
    for name in path:
        tree = tree.get(name, {})
    return tree


def sites_of(calls: Sequence[Call], units: Selection) -> tuple[tuple[Site, ...], dict[str, Layer]]:
    """Choose the layers that have units.

    Args:
        calls: from `record`.
        units: names, a predicate of name and module, or None. Layers of a loop are named with their position in it,
            `blocks.Dense_0[2]`; a name without a position stands for all of them.

    Returns:
        The sites, and the layers by numbered name.
    """
    entries = _entries(calls)
    if units is not None and not callable(units) and not isinstance(units, str):
        whole: dict[str, list[str]] = {}
        for layer, call, _ in entries:
            whole.setdefault(call.name, []).append(layer.name)
        units = list(itertools.chain.from_iterable(whole.get(name, [name]) for name in units))
    chosen = select([layer for layer, _, _ in entries], units)
    numbered = {layer.name: name for name, layer in chosen.items()}
    names: dict[Path, list[str | None]] = {}
    first = {call.path: call for call in reversed(calls)}
    for layer, call, position in entries:
        names.setdefault(call.path, [None] * math.prod(call.stacked))[position] = numbered.get(layer.name)
    sites = tuple(
        Site(path, first[path].features, first[path].stacked, tuple(listed), _calls_per_trace(calls, path))
        for path, listed in names.items()
        if any(name is not None for name in listed)
    )
    return sites, chosen


def _entries(calls: Sequence[Call]) -> list[tuple[Layer, Call, int]]:
    """Return one entry per call and layer of a loop, with its position in the loop, in order of execution."""
    entries = []
    for loop, group in itertools.groupby(calls, key=lambda call: call.loop):
        called = list(group)
        steps = 1 if loop is None else max(call.stacked[0] if call.stacked else 1 for call in called)
        for step in range(steps):
            for call in called:
                inner = math.prod(call.stacked[1:])
                for position in range(step * inner, (step + 1) * inner) if call.stacked else [0]:
                    entries.append((_layer(call, position), call, position))
    return entries


def _layer(call: Call, position: int) -> Layer:
    index = ""
    for size in reversed(call.stacked):
        position, remainder = divmod(position, size)
        index = f"[{remainder}]{index}"
    width, is_default = math.prod(call.features), isinstance(call.module, DEFAULT_LAYERS)
    return Layer(call.name + index, call.module, width, is_default, call.obstacle)


def _calls_per_trace(calls: Sequence[Call], path: Path) -> int:
    """Return how often a layer is called in one trace, since loops are traced more than once."""
    traces = [call.trace for call in calls if call.path == path]
    return max(sum(trace == other for other in traces) for trace in traces)
