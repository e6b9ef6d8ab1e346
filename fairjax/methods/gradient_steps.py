"""Mini-batch gradient steps, shared by all methods that fine-tune."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from fairjax.checks import check_logits
from fairjax.losses import Loss, Outputs, TermState
from fairjax.nn.flat import FlatVariables
from fairjax.nn.network import ApplyFn, Network
from fairjax.training import composed_gradients
from fairjax.types import KeyArray, Rows, Variables, take

AuxiliaryLoss = Callable[[Float[Array, "m *c"], Rows], tuple[Float[Array, ""], PyTree[Array]]]
"""A function (logits, rows) -> (loss, auxiliary values to keep of the step)."""


def gradient_steps(
    apply: ApplyFn,
    loss: AuxiliaryLoss,
    optimiser: optax.GradientTransformation,
    flat: FlatVariables,
    state: optax.OptState,
    batch: Rows,
    batches: Int[Array, "k m"],
    keys: Key[Array, " k"],
    *,
    layers: tuple[str, ...] | None = None,
    num_classes: int = 2,
) -> tuple[FlatVariables, optax.OptState, PyTree[Array]]:
    """Take one gradient step per mini-batch.

    Args:
        apply: the network.
        loss: the loss of the logits of a mini-batch.
        optimiser: the optimiser that turns gradients into updates.
        flat: the network's variables.
        state: the optimiser's state.
        batch: the rows from which mini-batches are taken.
        batches: row numbers of each mini-batch.
        keys: dropout keys, one per mini-batch.
        layers: the entries of `params` to tune, with the other entries and the running statistics fixed (see `tuned`);
            if omitted, all parameters are tuned, in training mode.
        num_classes: number of classes.

    Returns:
        Variables and optimiser state after the last step, and the auxiliary values of `loss`, one entry per step.

    Raises:
        ValueError: if a layer does not exist.
    """

    def step(carry, item):
        (flat, state), (rows, key) = carry, item
        mini_batch = take(batch, rows)

        def objective(params):
            variables = tuned(dataclasses.replace(flat, params=params).variables(), layers)
            logits, updated = apply(variables, mini_batch.x, key=key if layers is None else None)
            check_logits(logits, mini_batch.x, num_classes)
            value, auxiliary = loss(logits, mini_batch)
            return value, (flat.rest_of(updated), auxiliary)

        grads, (statistics, auxiliary) = jax.grad(objective, has_aux=True)(flat.params)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            updates, state = optimiser.update(grads, state)
        return (
            dataclasses.replace(flat, params=optax.apply_updates(flat.params, updates), rest=statistics),
            state,
        ), auxiliary

    (flat, state), auxiliary = jax.lax.scan(step, (flat, state), (batches, keys))
    return flat, state, auxiliary


Record = Callable[[TermState, Outputs, Rows], PyTree[Array]]
"""A function (parameters of the terms, outputs, mini-batch) -> what to keep of the step."""


class Progress(NamedTuple):
    """What changes from step to step of fine-tuning with a composed loss."""

    variables: FlatVariables
    optimiser: optax.OptState
    terms: TermState
    """Parameters of the terms of the loss."""


def composed_steps(
    network: Network,
    loss: Loss,
    optimiser: optax.GradientTransformation,
    progress: Progress,
    batch: Rows,
    batches: Int[Array, "k m"],
    keys: Key[Array, " k"],
    *,
    layers: tuple[str, ...] | None = None,
    num_classes: int = 2,
    record: Record = lambda state, outputs, mini_batch: (),
) -> tuple[Progress, PyTree[Array]]:
    """Take one step of the network and of the loss's terms per mini-batch.

    Args:
        network: the network.
        loss: the loss, bound to the data.
        optimiser: the optimiser that turns the network's gradients into updates.
        progress: the network, the state of its optimiser, and the parameters of the terms.
        batch: the rows from which mini-batches are taken.
        batches: row numbers of each mini-batch.
        keys: dropout keys, one per mini-batch.
        layers: as for `gradient_steps`.
        num_classes: number of classes.
        record: computes what is kept of each step from the terms' parameters after the step, the outputs before it and
            the mini-batch; nothing by default.

    Returns:
        The progress after the last step, and what was kept, one entry per step.

    Raises:
        ValueError: if a layer does not exist.
    """

    def step(progress: Progress, item: Any) -> tuple[Progress, PyTree[Array]]:
        flat, state, terms = progress
        rows, key = item
        mini_batch = take(batch, rows)
        gradients, rest, terms, outputs = composed_gradients(
            network,
            loss,
            flat,
            terms,
            mini_batch,
            key if layers is None else None,
            freeze=None if layers is None else lambda variables: tuned(variables, layers),
            num_classes=num_classes,
        )
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            updates, state = optimiser.update(gradients, state)
        flat = dataclasses.replace(flat, params=optax.apply_updates(flat.params, updates), rest=rest)
        return Progress(flat, state, terms), record(terms, outputs, mini_batch)

    return jax.lax.scan(step, progress, (batches, keys))


def tuned(variables: Variables, layers: tuple[str, ...] | None) -> Variables:
    """Stop the gradients of all but the given layers, so that earlier layers need no backward pass.

    Args:
        variables: variables of a network.
        layers: names of entries of `params`; a dot leads to an entry of an entry, as in "encoder.layer.5". All
            parameters are tuned if omitted.

    Raises:
        ValueError: if a layer does not exist.
    """
    if layers is None:
        return variables
    leaves, structure = jax.tree_util.tree_flatten_with_path(variables["params"])
    paths = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    unknown = [name for name in layers if not any(_is_within(path, name) for path in paths)]
    if unknown or not layers:
        raise ValueError(
            f"layers must be some of {', '.join(variables['params'])}, got {', '.join(unknown) or 'none'}; "
            f"names within them have dots, as {paths[0]!r}"
        )
    partly_frozen = [
        leaf if any(_is_within(path, name) for name in layers) else jax.lax.stop_gradient(leaf)
        for path, (_, leaf) in zip(paths, leaves, strict=True)
    ]
    return {**variables, "params": jax.tree.unflatten(structure, partly_frozen)}


def _is_within(path: str, name: str) -> bool:
    """Return whether a parameter is the named entry, or within it."""
    return path == name or path.startswith(f"{name}.")


def batch_keys(key: KeyArray, count: int, first: Int[Array, ""] | int = 0) -> Key[Array, " k"]:
    """Derive one key for each of `count` mini-batches, which are numbered from `first`."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(count, dtype=jnp.int32))
