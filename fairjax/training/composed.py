"""Gradients of a composed loss: one forward pass, one backward pass, and the steps of the terms' own parameters."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.checks import check_logits
from fairjax.losses.base import LAST, OUTPUT, Outputs
from fairjax.losses.loss import Loss, TermState, weight_of
from fairjax.nn.flat import FlatVariables
from fairjax.nn.layer_names import layer_names
from fairjax.nn.network import Network
from fairjax.types import KeyArray, Rows, Variables, take


def outputs_of(
    network: Network, loss: Loss, variables: Variables, batch: Rows, key: KeyArray | None = None
) -> tuple[Outputs, Variables]:
    """Compute what the terms of a loss see of a mini-batch.

    Args:
        network: the classifier.
        loss: the loss, whose terms name layers and observe what they need.
        variables: the network's variables.
        batch: the mini-batch.
        key: random key for training mode; evaluation mode if omitted. The activations of layers other than "last" and
            "output" are always those of evaluation mode.

    Returns:
        The outputs, and updated variables.

    Raises:
        ValueError: if a term needs a layer that the network does not show.
    """
    wanted, layers = loss.layers, {}
    if LAST in wanted:
        if network.features is None:
            raise ValueError(
                f"a term of the loss looks at the layer {LAST!r}, the input of the last layer, and the network has no "
                "`features`: give Network(init, apply, features), or name a layer with units, or 'output'"
            )
        layers[LAST], logits, updated = network.features(variables, batch.x, key=key)
    else:
        logits, updated = network.apply(variables, batch.x, key=key)
    if OUTPUT in wanted:
        layers[OUTPUT] = logits[:, None] if logits.ndim == 1 else logits
    hidden = [name for name in wanted if name not in (LAST, OUTPUT)]
    if hidden:
        layers |= _hidden(network, variables, batch.x, hidden)

    def logits_of(x: Any) -> Float[Array, "n *c"]:
        return network.apply(variables, x)[0]

    observed = tuple(entry.observe(logits_of, batch) for entry in loss.terms)
    params = variables["params"] if any(entry.needs_params for entry in loss.terms) else ()
    return Outputs(logits, layers, observed, params), updated


def _hidden(network: Network, variables: Variables, x: Any, names: list[str]) -> dict[str, Float[Array, "m _"]]:
    """Compute the activations of layers with units, as means over positions."""
    if network.activations is None:
        raise ValueError(
            f"a term of the loss looks at the layer {names[0]!r}, and the network shows no activations: give "
            f"Network(init, apply, features, activations), or name {LAST!r} or {OUTPUT!r}"
        )
    leaves = jax.tree.leaves(network.activations(variables, x))
    known = dict(zip(layer_names(variables), leaves, strict=True))
    for name in names:
        if name not in known:
            raise ValueError(
                f"a term of the loss looks at the layer {name!r}, which the network does not have: choose "
                f"{LAST}, {OUTPUT}{''.join(f', {other}' for other in known)}"
            )
    return {name: jnp.mean(known[name], axis=tuple(range(1, known[name].ndim - 1))) for name in names}


def init_terms(network: Network, loss: Loss, key: KeyArray, variables: Variables, batch: Rows) -> TermState:
    """Return the initial parameters of the terms of a loss.

    Args:
        network: the classifier.
        loss: the loss.
        key: random key.
        variables: the network's variables, of which shapes are used.
        batch: a mini-batch, of which shapes are used.

    Returns:
        The state; without leaves if no term has parameters.
    """

    def shapes(variables: Variables, batch: Rows) -> tuple[Outputs, Rows]:
        return outputs_of(network, loss, variables, batch)[0], batch

    return loss.init(key, *jax.eval_shape(shapes, variables, batch))


def composed_gradients(
    network: Network,
    loss: Loss,
    flat: FlatVariables,
    terms: TermState,
    batch: Rows,
    key: KeyArray | None,
    *,
    freeze: Any = None,
    num_classes: int | None = None,
) -> tuple[Array, Any, TermState, Outputs]:
    """Compute the gradient of a composed loss for a mini-batch, and update the terms' own parameters.

    Args:
        network: the classifier.
        loss: the loss, bound to the data.
        flat: the network's variables.
        terms: parameters of the terms.
        batch: the mini-batch.
        key: random key for training mode; evaluation mode if omitted.
        freeze: function of the variables that stops the gradients of some of them; none if omitted.
        num_classes: number of classes; not checked if omitted.

    Returns:
        The gradient with respect to `flat.params`, the updated other collections, the updated parameters of the terms,
        and the outputs of the network.
    """

    def forward(params: Array) -> tuple[Outputs, Any]:
        variables = dataclasses.replace(flat, params=params).variables()
        variables = variables if freeze is None else freeze(variables)
        outputs, updated = outputs_of(network, loss, variables, batch, key)
        if num_classes is not None:
            check_logits(outputs.logits, batch.x, num_classes)
        return outputs, flat.rest_of(updated)

    outputs, pullback, rest = jax.vjp(forward, flat.params, has_aux=True)
    terms = loss.update(terms, outputs, batch, before=True)
    gradient = pullback(jax.grad(lambda outputs: loss.value(terms, outputs, batch))(outputs))[0]
    for i, entry in enumerate(loss.terms):
        if entry.projects:
            own_gradient = jax.grad(
                lambda outputs, i=i, entry=entry: entry.own_loss(terms.params[i], outputs.seen_by(i), batch)
            )
            h = pullback(own_gradient(outputs))[0]
            unit = h / jnp.maximum(jnp.linalg.norm(h), jnp.finfo(h.dtype).tiny)
            gradient = gradient - jnp.dot(unit, gradient) * unit - weight_of(entry, h) * h
    return gradient, rest, loss.update(terms, outputs, batch, before=False), outputs


def validation_loss(
    network: Network, loss: Loss, variables: Variables, terms: TermState, batch: Rows, batch_size: int
) -> Float[Array, ""]:
    """Compute the composed loss in evaluation mode: the base over all rows, and the terms as in training.

    The terms are means over mini-batches of the size used in training, since the value of most terms depends on it;
    terms with `validated = False` are left out.

    Args:
        network: the classifier.
        loss: the loss, bound to the data.
        variables: the network's variables.
        terms: parameters of the terms.
        batch: the rows, in any order.
        batch_size: number of rows per mini-batch.

    Returns:
        A scalar.
    """
    base = loss.base.value(Outputs(network.apply(variables, batch.x)[0], {}), batch)
    if not loss.validated:
        return base
    rows = batch.y.shape[0]
    size = min(batch_size, rows)
    batches = jnp.arange(-(-rows // size) * size) % rows

    def of_mini_batch(numbers: Array) -> Float[Array, ""]:
        mini_batch = take(batch, numbers)
        return loss.validation_terms(terms, outputs_of(network, loss, variables, mini_batch)[0], mini_batch)

    return base + jnp.mean(jax.lax.map(of_mini_batch, batches.reshape(-1, size)))
