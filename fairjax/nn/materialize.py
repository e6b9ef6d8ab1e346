"""Make masks permanent: zero the weights of cut units, or build a network without them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.nn.mlp import Mlp
from fairjax.types import Variables


def materialize(module: Mlp, variables: Variables) -> Variables:
    """Make the masks permanent by zeroing the weights that they remove; all masks of the result are true.

    If incoming weights are cut, the unit's column of the kernel and its bias become 0, and the unit's output is the
    constant to which batch normalisation maps 0. If outgoing weights are cut, the unit's scale and bias of batch
    normalisation become 0. The function is pure, so it can be jitted and mapped over seeds. The outputs are the same in
    evaluation mode; gradients are not, since zeroed weights can be trained again and cut units cannot.

    Args:
        module: the network's module.
        variables: the network's variables.

    Returns:
        New variables; the given ones are unchanged.

    Example:
        >>> module = Mlp(widths=(4,))
        >>> variables = dict(module.init(jax.random.key(0), jnp.ones((2, 3))))
        >>> cut = {**variables, "masks": jax.tree.map(jnp.zeros_like, variables["masks"])}
        >>> materialize(module, cut)["params"]["hidden_00"]["linear"]["kernel"].any().item()
        False
    """
    params = dict(variables["params"])
    for name, masks in variables["masks"].items():
        keep = masks["units"]["keep"]
        layer = "linear" if module.cut == "incoming" else "norm"
        zeroed = jax.tree.map(lambda leaf, keep=keep: jnp.where(_as_last(keep, leaf), leaf, 0.0), params[name][layer])
        params[name] = {**params[name], layer: zeroed}
    kept = jax.tree.map(jnp.ones_like, variables["masks"])
    return {**variables, "params": params, "masks": kept}


def shrink(module: Mlp, variables: Variables) -> tuple[Mlp, Variables]:
    """Build a smaller network without the cut units, with the same outputs in evaluation mode.

    A unit whose incoming weights are cut has a constant output in evaluation mode, which is added to the next layer's
    bias. In training mode, batch statistics would give a different constant, so fine-tune before shrinking or accept
    the change. A layer may lose all of its units. The function runs on the host, for one network at a time, since the
    widths differ between seeds.

    Args:
        module: the network's module.
        variables: the network's variables, without a seeds axis.

    Returns:
        The smaller module and its variables, with all units kept.

    Raises:
        ValueError: if the variables have a seeds axis.

    Example:
        >>> module = Mlp(widths=(4,))
        >>> variables = dict(module.init(jax.random.key(0), jnp.ones((2, 3))))
        >>> masks = {"hidden_00": {"units": {"keep": jnp.array([True, False, True, True])}}}
        >>> shrink(module, {**variables, "masks": masks})[0].widths
        (3,)
    """
    tree: Any = jax.tree.map(np.asarray, dict(variables))
    names = sorted(tree["masks"])
    if tree["masks"][names[0]]["units"]["keep"].ndim != 1:
        raise ValueError("variables have a seeds axis; shrink one network at a time: jax.tree.map(lambda v: v[i], ...)")
    params, stats, masks = dict(tree["params"]), dict(tree["batch_stats"]), {}
    for name, next_name in zip(names, [*names[1:], "output"], strict=True):
        keep = tree["masks"][name]["units"]["keep"]
        constant = np.zeros(keep.shape, np.float32)
        if module.cut == "incoming":
            constant = np.where(keep, constant, _normalised_zero(params[name]["norm"], stats[name]["norm"]))
        next_layer = params[next_name] if next_name == "output" else params[next_name]["linear"]
        next_layer = {
            "kernel": next_layer["kernel"][keep],
            "bias": next_layer["bias"] + constant @ next_layer["kernel"],
        }
        params[next_name] = next_layer if next_name == "output" else {**params[next_name], "linear": next_layer}
        params[name] = jax.tree.map(lambda leaf, keep=keep: leaf[..., keep], params[name])
        stats[name] = jax.tree.map(lambda leaf, keep=keep: leaf[..., keep], stats[name])
        masks[name] = {"units": {"keep": np.ones(int(keep.sum()), bool)}}
    widths = tuple(masks[name]["units"]["keep"].size for name in names)
    return module.clone(widths=widths), jax.tree.map(
        jnp.asarray, {**tree, "params": params, "batch_stats": stats, "masks": masks}
    )


def _normalised_zero(
    params: Mapping[str, np.ndarray], stats: Mapping[str, np.ndarray], epsilon: float = 1e-5
) -> np.ndarray:
    """Apply batch normalisation to 0 in evaluation mode."""
    return params["bias"] - stats["mean"] * params["scale"] / np.sqrt(stats["var"] + np.float32(epsilon))


def _as_last(keep: jax.Array, leaf: jax.Array) -> jax.Array:
    """Add axes to a mask, so that it broadcasts along the last axis of a leaf."""
    return keep.reshape((1,) * (leaf.ndim - 1) + keep.shape)
