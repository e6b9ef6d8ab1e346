"""Epochs of a composed loss, shared by the methods whose loss has terms with parameters of their own."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from fairjax.losses import Loss, TermState
from fairjax.methods.base import Task
from fairjax.methods.gradient_steps import Progress, Record, batch_keys, composed_steps
from fairjax.metrics import num_classes
from fairjax.nn.flat import FlatVariables
from fairjax.training import init_terms, shuffled
from fairjax.types import KeyArray, Number, Rows, Variables, take


class ComposedState(NamedTuple):
    """State of network and terms between epochs."""

    variables: FlatVariables
    optimiser: optax.OptState
    terms: TermState
    """Parameters of the terms of the loss, such as adversaries."""
    key: KeyArray
    """Key of the order of rows and of dropout."""
    epoch: Int[Array, ""]
    """Number of epochs done."""


def initial_state(
    task: Task,
    loss: Loss,
    variables: Variables,
    batch: Rows,
    *,
    terms_key: KeyArray,
    epochs_key: KeyArray,
    learning_rate: Number,
    batch_size: int,
) -> ComposedState:
    """Return the state before the first epoch: the original network, and new parameters of the terms.

    Args:
        task: network and measure.
        loss: the loss, bound to the data.
        variables: variables of the original network.
        batch: the rows from which mini-batches are drawn.
        terms_key: random key of the terms' parameters.
        epochs_key: random key of the epochs.
        learning_rate: Adam's step size for the network.
        batch_size: rows per mini-batch.
    """
    flat = FlatVariables.ravel(variables)
    mini_batch = take(batch, jnp.arange(min(batch_size, batch.y.shape[0])))
    terms = init_terms(task.network, loss, terms_key, flat.variables(), mini_batch)
    optimiser = optax.adam(learning_rate).init(flat.params)
    return ComposedState(flat, optimiser, terms, epochs_key, jnp.zeros((), jnp.int32))


def run_epoch(
    task: Task,
    loss: Loss,
    state: ComposedState,
    batch: Rows,
    *,
    learning_rate: Number,
    batch_size: int,
    layers: tuple[str, ...] | None = None,
    record: Record = lambda state, outputs, mini_batch: (),
) -> tuple[ComposedState, PyTree[Array]]:
    """Run one epoch, updating the network and the terms at every mini-batch.

    Args:
        task: network and measure.
        loss: the loss, bound to the data.
        state: the state before the epoch.
        batch: the rows from which mini-batches are drawn.
        learning_rate: Adam's step size for the network.
        batch_size: rows per mini-batch.
        layers: layers to tune, as for `fairjax.methods.gradient_steps.tuned`; all if omitted.
        record: computes what is kept of each step, as for `fairjax.methods.gradient_steps.composed_steps`.

    Returns:
        The state after the epoch, and what was kept, one entry per step.
    """
    order_key, dropout_key = jax.random.split(jax.random.fold_in(state.key, state.epoch))
    batches = shuffled(order_key, jnp.arange(batch.y.shape[0]), batch_size)
    (flat, optimiser, terms), records = composed_steps(
        task.network,
        loss,
        optax.adam(learning_rate),
        Progress(state.variables, state.optimiser, state.terms),
        batch,
        batches,
        batch_keys(dropout_key, batches.shape[0]),
        layers=layers,
        num_classes=num_classes(task.measure),
        record=record,
    )
    return ComposedState(flat, optimiser, terms, state.key, state.epoch + 1), records
