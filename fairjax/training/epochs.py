"""Training of a classifier: epochs, early stopping, and the plateau schedule."""

import dataclasses
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from fairjax.checks import nan_unless
from fairjax.losses import CrossEntropy, Data, Loss, TermState, cross_entropy
from fairjax.nn.flat import FlatVariables
from fairjax.nn.network import ApplyFn, Network
from fairjax.random import permutation
from fairjax.training.composed import composed_gradients, init_terms, validation_loss
from fairjax.training.hyperparameters import Training
from fairjax.types import KeyArray, Rows, Split, Variables, tree_where, weights_of

CROSS_ENTROPY = Loss()
"""The loss without terms."""

TERMS_STREAM = 0x7E535
"""Number that is folded into a seed's key for the initial parameters of the terms of a loss."""


class TrainingState(NamedTuple):
    """State of training between epochs; its `best` is the result."""

    variables: FlatVariables
    """Current variables."""
    best: FlatVariables
    """Variables at the best check so far; the initial ones before the first check."""
    best_loss: Float[Array, ""]
    """Validation loss of `best`; infinite before the first check."""
    optimiser: optax.OptState
    plateau: optax.contrib.ReduceLROnPlateauState
    key: KeyArray
    epoch: Int[Array, ""]
    """Number of epochs done."""
    stale: Int[Array, ""]
    """Number of checks since the last improvement."""
    done: Bool[Array, ""]
    """Whether training has stopped; the state then no longer changes."""
    diverged: Bool[Array, ""]
    """Whether training stopped because the validation loss or a term's own parameters were not finite."""
    terms: TermState = TermState()
    """Parameters of the terms of the loss, such as adversaries."""


def init(
    network: Network,
    config: Training,
    key: KeyArray,
    split: Split,
    loss: Loss = CROSS_ENTROPY,
    start: Variables | FlatVariables | None = None,
) -> TrainingState:
    """Make the initial training state.

    Args:
        network: the classifier.
        config: hyperparameters.
        key: random key for initialisation, order of rows and dropout.
        split: the data.
        loss: the loss; the cross-entropy by default.
        start: variables to start from, such as those of a network that was trained on other data; those that
            `network.init` makes if omitted.

    Returns:
        The state before the first epoch.
    """
    network_key, training_key = jax.random.split(key)
    if start is None:
        start = network.init(network_key, split.batch(split.train[:2]).x)
    flat = FlatVariables.ravel(start)
    terms = TermState()
    if loss.terms:
        rows = split.train[: min(config.batch_size, split.train.shape[0])]
        args = jax.random.fold_in(key, TERMS_STREAM), flat.variables(), split.batch(rows)
        terms = init_terms(network, _bound(network, config, split, loss, flat), *args)
    return TrainingState(
        variables=flat,
        best=flat,
        best_loss=jnp.array(jnp.inf),
        optimiser=optax.adam(config.learning_rate).init(flat.params),
        plateau=cast(optax.contrib.ReduceLROnPlateauState, _plateau(config).init(flat.params)),
        key=training_key,
        epoch=jnp.zeros((), jnp.int32),
        stale=jnp.zeros((), jnp.int32),
        done=jnp.array(False),
        diverged=jnp.array(False),
        terms=terms,
    )


def advance(
    network: Network, config: Training, split: Split, state: TrainingState, epochs: int, loss: Loss = CROSS_ENTROPY
) -> TrainingState:
    """Train for up to `epochs` further epochs, in one scan; a state that is done does not change.

    Args:
        network: the classifier.
        config: hyperparameters.
        split: the data.
        state: the current state.
        epochs: number of epochs; a Python number.
        loss: the loss, as for `init`.

    Returns:
        The new state.
    """
    valid = split.part("valid")
    loss = _bound(network, config, split, loss, state.variables)

    def train_epoch(state: TrainingState, _):
        next_state = _check(network, config, loss, valid, _epoch(network, config, loss, split, state))
        return tree_where(~state.done, next_state, state), None

    return jax.lax.scan(train_epoch, state, length=epochs)[0]


def run(
    network: Network,
    config: Training,
    key: KeyArray,
    split: Split,
    loss: Loss = CROSS_ENTROPY,
    start: Variables | None = None,
) -> TrainingState:
    """Train one network on one split. The function can be jitted, and mapped over seeds with vmap.

    Args:
        network: the classifier.
        config: hyperparameters.
        key: random key for initialisation, order of rows and dropout.
        split: the data.
        loss: the loss, as for `init`.
        start: variables to start from, as for `init`.

    Returns:
        The final state; `best.variables()` is the network.
    """
    state = init(network, config, key, split, loss, start)

    def is_running(state: TrainingState):
        return ~state.done

    return jax.lax.while_loop(
        is_running, lambda state: advance(network, config, split, state, config.check_every, loss), state
    )


def loss(apply: ApplyFn, variables: Variables, batch: Rows) -> Float[Array, ""]:
    """Compute the (weighted) mean cross-entropy in evaluation mode, in nats; NaN if all weights are 0."""
    logits, _ = apply(variables, batch.x)
    weights = weights_of(batch)
    has_rows = None if weights is None else jnp.any(jnp.asarray(weights) > 0)
    return nan_unless(has_rows, cross_entropy(logits, batch))


def shuffled(key: KeyArray, rows: Int[Array, " n"], batch_size: int) -> Int[Array, "batches m"]:
    """Shuffle rows into mini-batches of one size; the last one is filled up from the beginning of the order.

    Every row is used in an epoch, no mini-batch contains a row twice, and all mini-batches have the requested size.

    Args:
        key: random key of the order.
        rows: row numbers.
        batch_size: number of rows per mini-batch; if there are fewer rows, they form one mini-batch.

    Returns:
        Row numbers (batches, batch size).

    Example:
        >>> shuffled(jax.random.key(0), jnp.arange(10), 4).shape
        (3, 4)
    """
    n = rows.shape[0]
    size = min(batch_size, n)
    batches = -(-n // size)
    order = permutation(key, rows)
    return order[jnp.arange(batches * size) % n].reshape(batches, size)


def _bound(network: Network, config: Training, split: Split, loss: Loss, flat: FlatVariables) -> Loss:
    """Return the loss with what its terms need to know about the data."""
    if not loss.terms and type(loss.base) is CrossEntropy:
        return loss
    train = split.part("train")
    logits = jax.eval_shape(lambda flat, x: network.apply(flat.variables(), x)[0], flat, train.x)
    num_groups = loss.num_groups or (train.a.shape[1] if train.a.ndim == 2 else 2)
    return loss.bind(Data(train, num_groups, 2 if logits.ndim == 1 else logits.shape[1], config.batch_size))


def _epoch(network: Network, config: Training, loss: Loss, split: Split, state: TrainingState) -> TrainingState:
    """Run one pass over the train part."""
    order_key, dropout_key = jax.random.split(jax.random.fold_in(state.key, state.epoch))
    batches = shuffled(order_key, split.train, config.batch_size)
    scale = state.plateau.scale

    def step(carry, item):
        flat, optimiser, terms = carry
        i, rows = item
        step_key = jax.random.fold_in(dropout_key, i)
        grads, rest, terms, _ = composed_gradients(network, loss, flat, terms, split.batch(rows), step_key)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            updates, optimiser = optax.adam(config.learning_rate).update(grads, optimiser)
        params = flat.params + scale * cast(Array, updates)
        return (dataclasses.replace(flat, params=params, rest=rest), optimiser, terms), None

    carry = (state.variables, state.optimiser, state.terms)
    (flat, optimiser, terms), _ = jax.lax.scan(step, carry, (jnp.arange(batches.shape[0]), batches))
    return state._replace(variables=flat, optimiser=optimiser, terms=terms, epoch=state.epoch + 1)


def _check(network: Network, config: Training, loss: Loss, valid: Rows, state: TrainingState) -> TrainingState:
    """Update the plateau schedule after an epoch and, every `check_every` epochs and at the last, early stopping."""
    value = _validation_loss(network, config, loss, valid, state)
    diverged = ~jnp.isfinite(value)
    for own in jax.tree.leaves(state.terms.params):
        diverged |= ~jnp.all(jnp.isfinite(own))
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        _, plateau = _plateau(config).update(state.variables.params, state.plateau, value=value)
    due = (state.epoch % config.check_every == 0) | (state.epoch == config.epochs)
    checked = due & ~diverged
    better = checked & (value < state.best_loss)
    stale = jnp.where(better, 0, state.stale + checked.astype(state.stale.dtype))
    return state._replace(
        best=tree_where(better if config.keep == "best" else checked, state.variables, state.best),
        best_loss=jnp.where(better if config.keep == "best" else checked, value, state.best_loss),
        plateau=plateau,
        stale=stale,
        done=diverged | (stale > config.stopping_patience) | (state.epoch >= config.epochs),
        diverged=diverged,
    )


def _validation_loss(
    network: Network, config: Training, loss: Loss, valid: Rows, state: TrainingState
) -> Float[Array, ""]:
    """Compute the loss on validation data; NaN if all weights are 0."""
    weights = weights_of(valid)
    has_rows = None if weights is None else jnp.any(jnp.asarray(weights) > 0)
    args = state.variables.variables(), state.terms, valid, config.batch_size
    return nan_unless(has_rows, validation_loss(network, loss, *args))


def _plateau(config: Training) -> optax.GradientTransformationExtraArgs:
    """Make PyTorch's schedule: optax reduces the rate at the `patience`-th bad epoch, PyTorch at the next one."""
    return optax.contrib.reduce_on_plateau(
        factor=config.plateau_factor,
        patience=config.plateau_patience + 1,
        rtol=config.plateau_tolerance,
        atol=0.0,
    )
