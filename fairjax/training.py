"""Training of a classifier: hyperparameters, steps, and early stopping."""

import dataclasses
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from fairjax.checks import nan_unless
from fairjax.hyperparameters import check_at_least, check_positive, static
from fairjax.losses.cross_entropy import cross_entropy
from fairjax.nn.flat import FlatVariables
from fairjax.nn.network import ApplyFn, Network
from fairjax.random import permutation
from fairjax.types import KeyArray, Number, Rows, Split, Variables, tree_where, weights_of


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """Training with Adam on cross-entropy, a learning rate reduced on plateaus, and early stopping."""

    learning_rate: Number = 1e-3
    """Adam's initial step size."""
    plateau_factor: float = static(0.1)
    """Factor by which the learning rate is multiplied on a plateau."""
    plateau_tolerance: float = static(1e-4)
    """Least relative improvement of the validation loss that counts."""
    plateau_patience: int = static(10)
    """Epochs without improvement that are tolerated; the next reduces the rate, as in PyTorch's ReduceLROnPlateau."""
    batch_size: int = static(64)
    """Rows per mini-batch; an epoch's last batch is filled up with rows of the first."""
    epochs: int = static(1000)
    """Maximal number of passes over the train part."""
    check_every: int = static(10)
    """Epochs between checks of the validation loss for early stopping."""
    stopping_patience: int = static(10)
    """Consecutive checks without improvement that are tolerated; training stops at the next."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_positive("learning_rate", self.learning_rate)
        if not 0 < self.plateau_factor < 1:
            raise ValueError(f"plateau_factor must be between 0 and 1, got {self.plateau_factor}")
        if not 0 <= self.plateau_tolerance < 1:
            raise ValueError(f"plateau_tolerance must be in [0, 1), got {self.plateau_tolerance}")
        check_at_least("batch_size", self.batch_size, 2)  # batch normalisation needs a variance
        for name in ("epochs", "check_every"):
            check_at_least(name, getattr(self, name), 1)
        for name in ("plateau_patience", "stopping_patience"):
            check_at_least(name, getattr(self, name), 0)


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
    """Whether training stopped because the validation loss was not finite."""


def init(network: Network, config: Training, key: KeyArray, split: Split) -> TrainingState:
    """Make the initial training state.

    Args:
        network: the classifier.
        config: hyperparameters.
        key: random key for initialisation, order of rows and dropout.
        split: the data.

    Returns:
        The state before the first epoch.
    """
    network_key, training_key = jax.random.split(key)
    flat = FlatVariables.ravel(network.init(network_key, split.batch(split.train[:2]).x))
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
    )


def advance(network: Network, config: Training, split: Split, state: TrainingState, epochs: int) -> TrainingState:
    """Train for up to `epochs` further epochs, in one scan; a state that is done does not change.

    Args:
        network: the classifier.
        config: hyperparameters.
        split: the data.
        state: the current state.
        epochs: number of epochs; a Python number.

    Returns:
        The new state.
    """
    valid = split.part("valid")

    def train_epoch(state: TrainingState, _):
        next_state = _check(network, config, valid, _epoch(network, config, split, state))
        return tree_where(~state.done, next_state, state), None

    return jax.lax.scan(train_epoch, state, length=epochs)[0]


def run(network: Network, config: Training, key: KeyArray, split: Split) -> TrainingState:
    """Train one network on one split. The function can be jitted, and mapped over seeds with vmap.

    Args:
        network: the classifier.
        config: hyperparameters.
        key: random key for initialisation, order of rows and dropout.
        split: the data.

    Returns:
        The final state; `best.variables()` is the network.
    """
    state = init(network, config, key, split)

    def is_running(state: TrainingState):
        return ~state.done

    return jax.lax.while_loop(
        is_running, lambda state: advance(network, config, split, state, config.check_every), state
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


def _epoch(network: Network, config: Training, split: Split, state: TrainingState) -> TrainingState:
    """Run one pass over the train part."""
    order_key, dropout_key = jax.random.split(jax.random.fold_in(state.key, state.epoch))
    batches = shuffled(order_key, split.train, config.batch_size)
    scale = state.plateau.scale

    def step(carry, item):
        flat, optimiser = carry
        i, rows = item
        batch = split.batch(rows)
        step_key = jax.random.fold_in(dropout_key, i)

        def objective(params):
            logits, updated = network.apply(dataclasses.replace(flat, params=params).variables(), batch.x, key=step_key)
            return cross_entropy(logits, batch), updated

        grads, updated = jax.grad(objective, has_aux=True)(flat.params)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            updates, optimiser = optax.adam(config.learning_rate).update(grads, optimiser)
        params = flat.params + scale * cast(Array, updates)
        return (dataclasses.replace(flat, params=params, rest=flat.rest_of(updated)), optimiser), None

    carry = (state.variables, state.optimiser)
    (flat, optimiser), _ = jax.lax.scan(step, carry, (jnp.arange(batches.shape[0]), batches))
    return state._replace(variables=flat, optimiser=optimiser, epoch=state.epoch + 1)


def _check(network: Network, config: Training, valid: Rows, state: TrainingState) -> TrainingState:
    """Update the plateau schedule after an epoch and, every `check_every` epochs and at the last, early stopping."""
    value = loss(network.apply, state.variables.variables(), valid)
    diverged = ~jnp.isfinite(value)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        _, plateau = _plateau(config).update(state.variables.params, state.plateau, value=value)
    due = (state.epoch % config.check_every == 0) | (state.epoch == config.epochs)
    checked = due & ~diverged
    better = checked & (value < state.best_loss)
    stale = jnp.where(better, 0, state.stale + checked.astype(state.stale.dtype))
    return state._replace(
        best=tree_where(better, state.variables, state.best),
        best_loss=jnp.where(better, value, state.best_loss),
        plateau=plateau,
        stale=stale,
        done=diverged | (stale > config.stopping_patience) | (state.epoch >= config.epochs),
        diverged=diverged,
    )


def _plateau(config: Training) -> optax.GradientTransformationExtraArgs:
    """Make PyTorch's schedule: optax reduces the rate at the `patience`-th bad epoch, PyTorch at the next one."""
    return optax.contrib.reduce_on_plateau(
        factor=config.plateau_factor,
        patience=config.plateau_patience + 1,
        rtol=config.plateau_tolerance,
        atol=0.0,
    )
