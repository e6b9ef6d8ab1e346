"""Layers with units in networks whose layers are objects: their calls while the network is traced, and their masks."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fairjax.adapters._bringing import Layer, Selection, positions_then_units, select
from fairjax.adapters._slots import slot

Path = tuple[str | int, ...]


class Call(NamedTuple):
    """A call of a layer while the network is traced."""

    path: Path
    module: Any
    is_default: bool
    """Whether the layer's outputs are units unless others are chosen."""
    features: tuple[int, ...]
    """Sizes of the output's last axes that number units: one, or several for a layer such as attention's."""
    shape: tuple[int, ...]
    """Shape of the output, as the layer sees it."""
    dtype: Any
    argument: tuple[int, ...]
    """Shape of the layer's first argument; empty if it is no array."""
    trace: Any
    """The trace in which the layer is called; loops and checkpoints trace what is inside once more."""
    stacked: tuple[int, ...]
    """Sizes of the leading axes of the layer's parameters that a loop over layers adds."""
    loop: Path | None
    """The outermost layer inside such a loop, if there is any."""
    obstacle: str | None
    """Why zeros in parameters do not cut units of this layer, if they do not."""

    @property
    def name(self) -> str:
        """Name of the layer: its path, or its class if it is the whole network."""
        return ".".join(map(str, self.path)) or type(self.module).__name__


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


def sites_of(calls: Sequence[Call], units: Selection) -> tuple[tuple[Site, ...], dict[str, Layer]]:
    """Choose the layers that have units.

    Args:
        calls: the calls in order.
        units: names, a predicate of name and layer, or None. Layers of a loop are named with their position in it,
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
    return Layer(call.name + index, call.module, math.prod(call.features), call.is_default, call.obstacle)


def _calls_per_trace(calls: Sequence[Call], path: Path) -> int:
    """Return how often a layer is called in one trace, since loops are traced more than once."""
    traces = [call.trace for call in calls if call.path == path]
    return max(sum(trace == other for other in traces) for trace in traces)


def stack(site: Site, tree: dict[str, Any], default: Any) -> Array:
    """Return a site's vectors as its parameters are stacked; those of layers without units are filled."""
    vectors = [jnp.full(site.width, default) if name is None else jnp.asarray(tree[name]) for name in site.names]
    return jnp.stack(vectors).reshape(*site.stacked, site.width)


def merged(shape: tuple[int, ...], site: Site) -> tuple[int, ...]:
    """Return the shape of a layer's output with all units on the last axis."""
    return (*shape[: len(shape) - len(site.features)], site.width)


def zeroed_features(leaf: Array, keep: Array, site: Site) -> Array:
    """Return a parameter whose last axes number the units, with zeros for those that are cut."""
    between = leaf.ndim - len(site.stacked) - len(site.features)
    return jnp.where(keep.reshape(*site.stacked, *[1] * between, *site.features), leaf, jnp.zeros((), leaf.dtype))


def slots_of(sites: Sequence[Site], outputs: Sequence[tuple[Path, Any, Any]]) -> dict[Path, list[Any]]:
    """Make the slots of all sites.

    Args:
        sites: the sites.
        outputs: path, trace and shape with type of the output of every call, in order.
    """
    slots = {}
    for site in sites:
        traces, shapes = zip(*[(trace, output) for path, trace, output in outputs if path == site.path], strict=True)
        first = [output for trace, output in zip(traces, shapes, strict=True) if trace == traces[0]][: site.calls]
        slots[site.path] = [slot(merged(output.shape, site), output.dtype, site.stacked) for output in first]
    return slots


def activations_of(sites: Sequence[Site], read: dict[Path, list[Any]]) -> dict[str, Float[Array, "n ... units"]]:
    """Return the values that were read by slots, by name."""
    activations: dict[str, Any] = {}
    for site in sites:
        values = [slots["value"] for slots in read[site.path]]
        values = [value.reshape(len(site.names), *value.shape[len(site.stacked) :]) for value in values]
        for position, name in enumerate(site.names):
            if name is not None:
                activations[name] = positions_then_units([value[position] for value in values])
    return dict(sorted(activations.items()))


def unreadable_sites(
    sites: Sequence[Site], n: int, calls: Sequence[Call], doubled: Sequence[Call], read: dict[Path, list[Any]]
) -> tuple[str, ...]:
    """Return the names of layers whose activations cannot be shown.

    Args:
        sites: the sites.
        n: number of rows of the example.
        calls: calls on the example.
        doubled: calls on twice the rows.
        read: slots of the example; a count other than 1 says that values were added, or that nothing depends on them.
    """
    pairs = zip(calls, doubled, strict=True)
    wrong = {call.path for call, other in pairs if (call.shape[0], other.shape[0]) != (n, 2 * n)}
    return tuple(
        ".".join(map(str, site.path))
        for site in sites
        if site.path in wrong or any((np.asarray(slots["count"]) != 1).any() for slots in read[site.path])
    )


def check_readable(unreadable: Sequence[str]) -> None:
    """Refuse to show activations of a network some of whose layers have none that can be shown.

    Raises:
        ValueError: naming the layers.
    """
    if unreadable:
        raise ValueError(
            f"the activations of {', '.join(unreadable)} cannot be shown, because rows are not on the first axis of "
            "their outputs, or because values of several calls would be added: bring the network with units= that "
            "leave these layers out"
        )


class Counter:
    """Numbers the calls of layers in each trace."""

    def __init__(self):
        """Start at 0 for every layer."""
        self.traces: dict[Path, list[Any]] = {}

    def number(self, site: Site, trace: Any) -> int:
        """Count a call, and return its number in the trace."""
        traces = self.traces.setdefault(site.path, [])
        traces.append(trace)
        return (sum(trace == other for other in traces) - 1) % site.calls
