"""The layers of a network by name, and the activations of their units, one number per row and unit."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from fairjax.checks import floating
from fairjax.detect.rows import CHUNK, map_chunks
from fairjax.nn.layer_names import layer_names
from fairjax.nn.network import Network
from fairjax.types import Inputs, Variables

ByLayer = dict[str, Any]
"""One entry per layer, by name."""


def chosen_layers(network: Network, variables: Variables, layers: Sequence[str] | None) -> tuple[str, ...]:
    """Check that a network returns its activations and has the given layers.

    Args:
        network: the network.
        variables: its variables.
        layers: names of layers; all of them if None.

    Returns:
        The names of the layers, in the order of the network's.

    Raises:
        ValueError: if the network has no activations, or a layer does not exist; the message lists those that do.
    """
    if network.activations is None:
        raise ValueError(
            "the network shows no activations, which concepts need: bring it in with fairjax.adapters, make it with "
            "fairjax.from_linen, or set Network.activations"
        )
    names = layer_names(variables)
    if layers is None:
        return names
    if isinstance(layers, str):
        raise ValueError(f"layers must be a list of names, found the text {layers!r}: pass [{layers!r}]")
    unknown = [layer for layer in layers if layer not in names]
    if unknown or not layers:
        found = repr(unknown[0]) if unknown else "none"
        raise ValueError(f"layers must name layers of the network, found {found}: it has {', '.join(names)}")
    return tuple(name for name in names if name in layers)


def unit_activations(
    network: Network,
    variables: Variables,
    x: Inputs,
    *,
    layers: Sequence[str] | None = None,
    chunk: int | None = CHUNK,
) -> dict[str, Float[Array, "n _"]]:
    """Compute the activations of all units, one number per row and unit.

    A unit that has activations at several positions, such as a channel of a convolution or a unit that sees every token
    of a text, is represented by their mean. Positions that a network ignores, such as padding, are part of it.

    Args:
        network: the network, with `activations`; used in evaluation mode.
        variables: the network's variables.
        x: inputs of n rows.
        layers: names of layers, as in `layer_names`; all of them if omitted.
        chunk: number of rows that are computed at a time.

    Returns:
        For each layer, an array of shape (n, units), in the units of the activations; 0 at units that are cut.

    Raises:
        ValueError: if the network has no activations, or a layer does not exist.

    Example:
        >>> from fairjax.nn import Mlp, from_linen
        >>> network, x = from_linen(Mlp(widths=(4, 2))), jnp.ones((5, 3))
        >>> variables = network.init(jax.random.key(0), x)
        >>> {name: h.shape for name, h in unit_activations(network, variables, x).items()}
        {'hidden_00': (5, 4), 'hidden_01': (5, 2)}
    """
    return _unit_activations(network, chosen_layers(network, variables, layers), chunk, variables, x)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _unit_activations(
    network: Network, layers: tuple[str, ...], chunk: int | None, variables: Variables, x: Inputs
) -> dict[str, Float[Array, "n _"]]:
    assert network.activations is not None
    names, activations = layer_names(variables), network.activations

    def of_rows(rows: Any) -> ByLayer:
        leaves = jax.tree.leaves(activations(variables, rows))
        return {name: _pooled(h) for name, h in zip(names, leaves, strict=True) if name in layers}

    return map_chunks(of_rows, x, chunk=chunk)


def _pooled(h: Float[Array, "n ..."]) -> Float[Array, "n units"]:
    return jnp.mean(floating(h), axis=tuple(range(1, h.ndim - 1)))


def as_shifts(variables: Variables, by_layer: dict[str, Float[Array, "_"]]) -> PyTree[Float[Array, "_"]]:
    """Arrange one vector per layer as the shifts that `ApplyFn` takes; layers without a vector are not shifted.

    Args:
        variables: the network's variables.
        by_layer: vectors of one number per unit, by the layer's name.

    Raises:
        ValueError: if a layer does not exist, or a vector has another length than the layer has units.

    Example:
        >>> masks = {"a": jnp.ones(2, bool), "b": jnp.ones(1, bool)}
        >>> as_shifts({"masks": masks}, {"b": jnp.array([3.0])})["a"].tolist()
        [0.0, 0.0]
    """
    names, masks = layer_names(variables), jax.tree.leaves(variables["masks"])
    for name, vector in by_layer.items():
        if name not in names:
            raise ValueError(
                f"vectors must be given by layers of the network, found {name!r}: it has {', '.join(names)}"
            )
        units = masks[names.index(name)].shape
        if vector.shape != units:
            raise ValueError(
                f"the vector of layer {name!r} must have shape {units}, one number per unit, found {vector.shape}"
            )
    shifts = [by_layer.get(name, jnp.zeros(keep.shape)) for name, keep in zip(names, masks, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(variables["masks"]), shifts)


def map_layers(function: Callable[[Any], Any], by_layer: ByLayer) -> ByLayer:
    """Apply a function of arrays to every layer; it is compiled once for all layers of one shape.

    Example:
        >>> {name: x.tolist() for name, x in map_layers(jnp.sum, {"a": jnp.ones(2), "b": jnp.ones(3)}).items()}
        {'a': 2.0, 'b': 3.0}
    """
    by_shape: dict[Any, list[str]] = {}
    for name, arrays in by_layer.items():
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(arrays))
        by_shape.setdefault((jax.tree.structure(arrays), shapes), []).append(name)
    results = {}
    for names in by_shape.values():
        if len(names) == 1:
            results[names[0]] = function(by_layer[names[0]])
            continue
        stacked = jax.lax.map(
            function, jax.tree.map(lambda *leaves: jnp.stack(leaves), *(by_layer[name] for name in names))
        )
        for i, name in enumerate(names):
            results[name] = jax.tree.map(lambda leaf, i=i: leaf[i], stacked)
    return {name: results[name] for name in by_layer}
