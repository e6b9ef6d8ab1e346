"""Make masks permanent: zero the weights of cut units, or build a network without them."""

import warnings
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.nn.unit_layers import HasUnitLayers, UnitLayer, at, replaced
from fairjax.types import AnyArray, Variables

Module = TypeVar("Module", bound=HasUnitLayers)


def materialize(module: HasUnitLayers, variables: Variables) -> Variables:
    """Make the masks permanent by zeroing the weights that they remove; all masks of the result are true.

    If incoming weights are cut, the unit's part of the kernel and its bias become 0, and the unit's output is the
    constant to which batch normalisation maps 0. If outgoing weights are cut, the unit's scale and bias of batch
    normalisation become 0. The function is pure, so it can be jitted and mapped over seeds. The outputs are the same in
    evaluation mode; gradients are not, since zeroed weights can be trained again and cut units cannot.

    Args:
        module: the network's module: `Mlp`, `Cnn`, `ResNet`, or another with `unit_layers`.
        variables: the network's variables.

    Returns:
        New variables; the given ones are unchanged.

    Raises:
        TypeError: if the module does not describe its units' layers.

    Example:
        >>> from fairjax.nn import Mlp
        >>> module = Mlp(widths=(4,))
        >>> variables = dict(module.init(jax.random.key(0), jnp.ones((2, 3))))
        >>> cut = {**variables, "masks": jax.tree.map(jnp.zeros_like, variables["masks"])}
        >>> materialize(module, cut)["params"]["hidden_00"]["linear"]["kernel"].any().item()
        False
    """
    params: Any = variables["params"]
    for layer in _unit_layers(module):
        keep = _keep(variables, layer)
        path = (*layer.module, layer.layer if module.cut == "incoming" else "norm")
        zeroed = jax.tree.map(
            lambda leaf, keep=keep: jnp.where(_as_last(keep, leaf), leaf, jnp.zeros((), leaf.dtype)), at(params, path)
        )
        params = replaced(params, path, zeroed)
    kept = jax.tree.map(jnp.ones_like, variables["masks"])
    return {**variables, "params": params, "masks": kept}


def shrink(module: Module, variables: Variables) -> tuple[Module, Variables]:
    """Build a smaller network without the cut units, with the same outputs in evaluation mode.

    A unit whose incoming weights are cut has a constant output in evaluation mode, which is added to the next layer's
    bias. In training mode, batch statistics would give a different constant, so fine-tune before shrinking or accept
    the change. A layer may lose all of its units. Units that are added to a residual stream, such as the channels of
    the second convolutions of `ResNet`, stay in the network, since the stream needs all of its channels; their weights
    become 0, as by `materialize`, and a warning says how many they are. The function runs on the host, for one network
    at a time, since the widths differ between seeds.

    Args:
        module: the network's module: `Mlp`, `Cnn`, `ResNet`, or another with `unit_layers`.
        variables: the network's variables, without a seeds axis.

    Returns:
        The smaller module and its variables, with all units kept.

    Raises:
        ValueError: if the variables have a seeds axis.
        TypeError: if the module does not describe its units' layers.

    Example:
        >>> from fairjax.nn import Mlp
        >>> module = Mlp(widths=(4,))
        >>> variables = dict(module.init(jax.random.key(0), jnp.ones((2, 3))))
        >>> masks = {"hidden_00": {"units": {"keep": jnp.array([True, False, True, True])}}}
        >>> shrink(module, {**variables, "masks": masks})[0].widths
        (3,)
    """
    tree: Any = jax.tree.map(np.asarray, dict(variables))
    layers = _unit_layers(module)
    if _keep(tree, layers[0]).ndim != 1:
        raise ValueError("variables have a seeds axis; shrink one network at a time: jax.tree.map(lambda v: v[i], ...)")
    _warn_of_residual_units(tree, layers)
    removable = [(layer, layer.reader) for layer in layers if layer.reader is not None]
    params, stats = jax.tree.map(np.asarray, materialize(module, tree)["params"]), tree["batch_stats"]
    masks = jax.tree.map(np.ones_like, tree["masks"])
    for layer, reader in removable:
        keep = _keep(tree, layer)
        constant = np.zeros(keep.shape, np.float32)
        if module.cut == "incoming":
            own = at(params, layer.module)["norm"], at(stats, layer.module)["norm"]
            constant = np.where(keep, constant, _output_at_zero(*own, norm_first=layer.norm_first))
        params = replaced(params, reader, _without_inputs(at(params, reader), keep, constant))
        for name in (layer.layer, "norm"):
            path = (*layer.module, name)
            params = replaced(params, path, _without_outputs(at(params, path), keep))
        path = (*layer.module, "norm")
        stats = replaced(stats, path, _without_outputs(at(stats, path), keep))
        masks = replaced(masks, (*layer.module, "units", "keep"), np.ones(int(keep.sum()), bool))
    smaller = module.with_units(tuple(int(_keep(tree, layer).sum()) for layer, _ in removable))
    return smaller, jax.tree.map(jnp.asarray, {**tree, "params": params, "batch_stats": stats, "masks": masks})


def _unit_layers(module: Any) -> tuple[UnitLayer, ...]:
    if not isinstance(module, HasUnitLayers):
        raise TypeError(
            f"{type(module).__name__} does not say which layers have its units: use Mlp, Cnn or ResNet, or give the "
            "module the functions of fairjax.nn.HasUnitLayers"
        )
    return module.unit_layers()


def _keep(variables: Mapping[str, Any], layer: UnitLayer) -> Any:
    return at(variables["masks"], (*layer.module, "units", "keep"))


def _warn_of_residual_units(variables: Mapping[str, Any], layers: tuple[UnitLayer, ...]) -> None:
    cut = sum(int((~_keep(variables, layer)).sum()) for layer in layers if layer.reader is None)
    if cut:
        warnings.warn(
            f"{cut} cut units add to a residual stream and stay in the network with weights of 0: only units inside "
            "blocks can be removed",
            stacklevel=3,
        )


def _without_outputs(tree: Any, keep: np.ndarray) -> Any:
    return jax.tree.map(lambda leaf: leaf[..., keep], tree)


def _without_inputs(layer: Mapping[str, np.ndarray], keep: np.ndarray, constant: np.ndarray) -> dict[str, np.ndarray]:
    """Remove inputs of a layer that are constant, at all positions of a convolution's kernel."""
    kernel = layer["kernel"]
    summed = kernel if kernel.ndim == 2 else kernel.sum(axis=tuple(range(kernel.ndim - 2)))
    return {**layer, "kernel": kernel[..., keep, :], "bias": layer["bias"] + constant @ summed}


def _output_at_zero(
    params: Mapping[str, np.ndarray], stats: Mapping[str, np.ndarray], *, norm_first: bool, epsilon: float = 1e-5
) -> np.ndarray:
    """Apply batch normalisation and ReLU, in their order, to 0 in evaluation mode."""
    normalised = params["bias"] - stats["mean"] * params["scale"] / np.sqrt(stats["var"] + np.float32(epsilon))
    return np.maximum(normalised, np.float32(0)) if norm_first else normalised


def _as_last(keep: AnyArray, leaf: AnyArray) -> AnyArray:
    """Add axes to a mask, so that it broadcasts along the last axis of a leaf."""
    return keep.reshape((1,) * (leaf.ndim - 1) + keep.shape)
