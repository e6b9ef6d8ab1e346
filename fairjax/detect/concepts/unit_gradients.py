"""Derivatives of the logit with respect to all units, for every row, from one backward pass."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.detect.concepts.sites import chosen_layers, layer_names
from fairjax.detect.rows import CHUNK, check_row_wise, logits_of, map_chunks
from fairjax.nn.network import ApplyFn, Network
from fairjax.types import Inputs, Variables


def unit_gradients(
    network: Network,
    variables: Variables,
    x: Inputs,
    *,
    target: int | None = None,
    layers: Sequence[str] | None = None,
    chunk: int | None = CHUNK,
) -> dict[str, Float[Array, "n _"]]:
    """Compute d logit / d h of every row and unit, for all layers at once.

    A shift is added to every unit, and the derivative with respect to it is that with respect to the activation. One
    backward pass per row computes those of all layers. Where a unit has activations at several positions, such as a
    channel of a convolution, its shift is the same at all of them: the derivative is the sum over positions, by which
    the logit changes if all of them rise by one.

    Args:
        network: the network; used in evaluation mode.
        variables: the network's variables.
        x: inputs of n rows; they may be integers, such as tokens.
        target: the class whose logit is differentiated, as for `fairjax.detect.rows.logits_of`.
        layers: names of layers; all of them if omitted.
        chunk: number of rows that are computed at a time.

    Returns:
        For each layer, an array of shape (n, units), in logits per unit of activation; 0 at units that are cut.

    Raises:
        ValueError: if a layer does not exist, `target` is not a class, or a row's logit depends on other rows.

    Example:
        >>> from fairjax.nn import Mlp, from_linen
        >>> network, x = from_linen(Mlp(widths=(4, 2))), jnp.ones((5, 3))
        >>> variables = network.init(jax.random.key(0), x)
        >>> {name: gradient.shape for name, gradient in unit_gradients(network, variables, x).items()}
        {'hidden_00': (5, 4), 'hidden_01': (5, 2)}

    References:
        Kim et al. (2018), Interpretability beyond feature attribution: quantitative testing with concept activation
        vectors, ICML, Eq. 1.
    """
    chosen = chosen_layers(network, variables, layers)
    check_row_wise(network.apply, variables, x)
    return _unit_gradients(network.apply, chosen, target, chunk, variables, x)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _unit_gradients(
    apply: ApplyFn, layers: tuple[str, ...], target: int | None, chunk: int | None, variables: Variables, x: Inputs
) -> dict[str, Float[Array, "n _"]]:
    return map_chunks(lambda rows: gradients_of_rows(apply, variables, rows, target, layers), x, chunk=chunk)


def gradients_of_rows(
    apply: ApplyFn, variables: Variables, rows: Inputs, target: int | None, layers: Sequence[str]
) -> dict[str, Float[Array, "n _"]]:
    """Compute `unit_gradients` of checked arguments, all rows at once."""
    masks = variables["masks"]
    zeros = jax.tree.map(lambda keep: jnp.zeros(keep.shape), masks)

    def logit(shifts: Any, row: Any) -> Float[Array, ""]:
        one = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], row)
        return logits_of(apply, variables, one, target, shifts=shifts)[0]

    with jax.default_matmul_precision("highest"):  # scores count the signs of products with these numbers
        gradients = jax.vmap(jax.grad(logit), in_axes=(None, 0))(zeros, rows)
    leaves = jax.tree.leaves(jax.tree.map(lambda keep, g: jnp.where(keep[None], g, 0.0), masks, gradients))
    return {name: leaf for name, leaf in zip(layer_names(variables), leaves, strict=True) if name in layers}
