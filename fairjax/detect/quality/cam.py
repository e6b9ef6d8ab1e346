"""Class activation maps of convolutional networks: where in an image the evidence for a class lies."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from fairjax.checks import floating, nan_unless
from fairjax.detect.concepts.sites import layer_names
from fairjax.detect.concepts.unit_gradients import gradients_of_rows
from fairjax.detect.rows import check_row_wise, logits_of, map_chunks, num_rows
from fairjax.nn.network import Network
from fairjax.types import AnyArray, Inputs, Variables

CHUNK = 256
"""Default number of images that are computed at a time."""

_TOLERANCE = 1e-3
"""Relative tolerance within which the logits must be linear in the mean activations, for `cam`."""


class _Evidence(NamedTuple):
    """The activations of a layer and the derivatives of the logits, of some rows."""

    activations: Float[Array, "n *positions k"]
    """Activations, 0 for channels that are cut."""
    slopes: Float[Array, "n k"]
    """Derivative of the logit with respect to a shift of each channel at all positions."""


def grad_cam(
    network: Network,
    variables: Variables,
    x: Inputs,
    layer: str,
    target: int | None = None,
    *,
    relu: bool = True,
    chunk: int | None = CHUNK,
) -> Float[Array, "n *positions"]:
    """Compute Grad-CAM: the channels of a layer, weighted by the mean over positions of the logit's derivatives.

    Map_p = sum_k w_k A_k(p), with w_k the mean over positions p of d logit / d A_k(p). The derivative with respect to a
    shift that all positions of a channel share is the sum of the derivatives over positions, so one backward pass
    through the unit shifts gives the weights, of any network with activations.

    A_k are the activations at the site of the units: for `fairjax.nn.Cnn`, before batch normalisation and ReLU if
    `site="preactivation"` (default), and after the ReLU if `site="activation"`, as Grad-CAM is usually computed; for
    networks brought by `fairjax.adapters`, the output of the layer, so name the activation function's module in `units`
    to see what comes after it. The two give different maps.

    The function is pure: use `jax.jit`, with the network, layer and target static, and `jax.vmap` over variables.

    Args:
        network: the network, with `activations`; used in evaluation mode.
        variables: the network's variables.
        x: inputs of n rows, such as images.
        layer: name of a layer whose activations have positions, such as "block_02"; usually the last convolution.
        target: the class whose logit it is; needed for more than two classes.
        relu: whether to set negative values to 0, as they speak against the class.
        chunk: number of rows that are computed at a time; all if None.

    Returns:
        One map per row, with the positions of the layer's activations, in units of the logit. See `resized_maps`.

    Raises:
        ValueError: if the network has no activations, the layer is not there or has no positions, or a row's logit
            depends on other rows.

    Example:
        >>> from fairjax.nn import Cnn, from_linen
        >>> network, x = from_linen(Cnn(channels=(4,))), jnp.ones((2, 4, 4, 1))
        >>> variables = network.init(jax.random.key(0), x)
        >>> grad_cam(network, variables, x, "block_00").shape
        (2, 2, 2)

    References:
        Selvaraju et al. (2017), Grad-CAM: visual explanations from deep networks via gradient-based localization, ICCV,
        https://arxiv.org/abs/1610.02391
    """
    _check_layer(network, variables, x, layer)
    check_row_wise(network.apply, variables, x)
    return _grad_cam(network, layer, target, relu, chunk, variables, x)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _grad_cam(
    network: Network, layer: str, target: int | None, relu: bool, chunk: int | None, variables: Variables, x: Inputs
) -> Float[Array, "n *positions"]:
    def maps(rows: Any) -> Array:
        found = _evidence(network, variables, rows, layer, target)
        weighted = _weighted(found) / math.prod(found.activations.shape[1:-1])
        return jnp.maximum(weighted, 0.0) if relu else weighted

    return map_chunks(maps, x, chunk=chunk)


def cam(
    network: Network,
    variables: Variables,
    x: Inputs,
    layer: str,
    target: int | None = None,
    *,
    chunk: int | None = CHUNK,
) -> Float[Array, "n *positions"]:
    """Compute class activation maps of a network that ends in global average pooling and a linear layer.

    Map_p = sum_k w_k A_k(p), with w_k the weight by which the class's logit depends on the mean of channel k. The mean
    of a map over positions plus the output layer's bias is the logit, so maps add up to what the network decides on.
    `grad_cam` without ReLU is this map divided by the number of positions.

    No layer but pooling and the linear one may come after `layer`. Of fairjax's networks, these are `Cnn` with
    `site="activation"` and its last block as the layer; of a brought network, the activation function before pooling,
    named in `units`. This is checked on all rows and on a row of zeros.

    Args:
        network: the network, with `activations`; used in evaluation mode.
        variables: the network's variables.
        x: inputs of n rows, such as images.
        layer: name of the layer before pooling.
        target: the class whose logit it is; needed for more than two classes.
        chunk: number of rows that are computed at a time; all if None.

    Returns:
        One map per row, with the positions of the layer's activations, in units of the logit; NaN under a trace if the
        logit is not linear in the channels' means.

    Raises:
        ValueError: if the network has no activations, the layer is not there or has no positions, or the logit is not
            linear in the means of its channels.

    Example:
        >>> from fairjax.nn import Cnn, from_linen
        >>> network, x = from_linen(Cnn(channels=(4,), site="activation")), jnp.ones((2, 4, 4, 1))
        >>> variables = network.init(jax.random.key(0), x)
        >>> evidence = jnp.mean(cam(network, variables, x, "block_00"), axis=(1, 2))
        >>> logits = evidence + variables["params"]["output"]["bias"]
        >>> jnp.allclose(logits, network.apply(variables, x)[0]).item()
        True

    References:
        Zhou, Khosla, Lapedriza, Oliva, Torralba (2016), Learning deep features for discriminative localization, CVPR,
        https://arxiv.org/abs/1512.04150
    """
    _check_layer(network, variables, x, layer)
    result, linear = _cam(network, layer, target, chunk, variables, x)
    valid = jnp.all(linear)
    if isinstance(valid, Tracer):
        return nan_unless(valid, result)
    if not valid:
        raise ValueError(
            f"the logit is not linear in the means of the channels of {layer!r} over positions, as class activation "
            "maps need: name the layer before global average pooling, after its activation function, or use grad_cam"
        )
    return result


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _cam(
    network: Network, layer: str, target: int | None, chunk: int | None, variables: Variables, x: Inputs
) -> tuple[Float[Array, "n *positions"], Bool[Array, " n"]]:
    """Compute class activation maps, and whether each row's logit is that of a linear layer like that of zeros."""

    def parts(rows: Any) -> tuple[_Evidence, Array, Array]:
        found = _evidence(network, variables, rows, layer, target)
        return found, logits_of(network.apply, variables, rows, target), _of_means(found)

    zero = jax.tree.map(lambda leaf: jnp.zeros_like(jnp.asarray(leaf)[:1]), x)
    reference, logit_of_zero, linear_of_zero = parts(zero)
    intercept = logit_of_zero - linear_of_zero

    def maps(rows: Any) -> tuple[Array, Array]:
        found, logits, linear = parts(rows)
        scale = jnp.max(jnp.abs(reference.slopes)) + jnp.max(jnp.abs(found.slopes), axis=1)
        same_weights = jnp.max(jnp.abs(found.slopes - reference.slopes), axis=1) <= _TOLERANCE * scale
        rest = jnp.abs(logits - linear - intercept)
        same_intercept = rest <= _TOLERANCE * (jnp.abs(logits) + jnp.abs(linear) + jnp.abs(intercept))
        return _weighted(found), same_weights & same_intercept

    return map_chunks(maps, x, chunk=chunk)


def resized_maps(maps: Float[AnyArray, "n h w"], size: tuple[int, int]) -> Float[Array, "n height width"]:
    """Interpolate maps to the size of images, to be drawn on them.

    Args:
        maps: maps from `grad_cam` or `cam`.
        size: height and width of the images.

    Returns:
        Maps of that size, interpolated linearly.

    Example:
        >>> resized_maps(jnp.ones((1, 2, 2)), (4, 6)).shape
        (1, 4, 6)
    """
    if maps.ndim != 3 or len(size) != 2 or min(size) < 1:
        raise ValueError(f"expected maps (n, h, w) and a height and width, found shape {maps.shape} and {size}")
    return jax.image.resize(maps, (maps.shape[0], *size), method="linear")


def _check_layer(network: Network, variables: Variables, x: Inputs, layer: str) -> None:
    """Check that a layer is there and that its activations have positions."""
    if network.activations is None:
        raise ValueError(
            "the network shows no activations, which maps need: bring it in with fairjax.adapters, make it with "
            "fairjax.from_linen, or set Network.activations"
        )
    num_rows(x)
    names = layer_names(variables)
    one = jax.tree.map(lambda leaf: jnp.asarray(leaf)[:1], x)
    shapes = [leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(network.activations, variables, one))]
    with_positions = [name for name, shape in zip(names, shapes, strict=True) if len(shape) > 2]
    if layer not in with_positions:
        problem = "has no positions in its activations" if layer in names else "is not there"
        listed = ", ".join(with_positions) or "none"
        raise ValueError(f"layer {layer!r} {problem}, as maps need; layers with positions: {listed}")


def _evidence(network: Network, variables: Variables, rows: Any, layer: str, target: int | None) -> _Evidence:
    assert network.activations is not None
    slopes = gradients_of_rows(network.apply, variables, rows, target, (layer,))[layer]
    leaves = jax.tree.leaves(network.activations(variables, rows))
    activations = floating(leaves[layer_names(variables).index(layer)])
    return _Evidence(activations, slopes.astype(activations.dtype))


def _weighted(found: _Evidence) -> Float[Array, "n *positions"]:
    return jnp.einsum("n...k,nk->n...", found.activations, found.slopes, precision="highest")


def _of_means(found: _Evidence) -> Float[Array, " n"]:
    """Return the part of the logits that is linear in the means of the channels over positions."""
    means = jnp.mean(found.activations, axis=tuple(range(1, found.activations.ndim - 1)))
    return jnp.sum(means * found.slopes, axis=1)
