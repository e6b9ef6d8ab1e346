"""Train a classifier: steps, early stopping and hyperparameters."""

import dataclasses
import math
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, UInt32

from fairjax.checks import nan_unless
from fairjax.hyperparameters import check_at_least, check_positive, static
from fairjax.losses.cross_entropy import cross_entropy
from fairjax.nn.flat import FlatVariables
from fairjax.nn.network import ApplyFn, Network
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


class Trained(NamedTuple):
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


def init(network: Network, config: Training, key: KeyArray, split: Split) -> Trained:
    """Make the initial training state.

    Args:
        network: the classifier.
        config: hyperparameters.
        key: random key for initialisation, order of rows and dropout.
        split: the data.

    Returns:
        The state before the first epoch.
    """
    of_network, of_training = jax.random.split(key)
    flat = FlatVariables.ravel(network.init(of_network, split.batch(split.train[:2]).x))
    return Trained(
        variables=flat,
        best=flat,
        best_loss=jnp.array(jnp.inf),
        optimiser=optax.adam(config.learning_rate).init(flat.params),
        plateau=cast(optax.contrib.ReduceLROnPlateauState, _plateau(config).init(flat.params)),
        key=of_training,
        epoch=jnp.zeros((), jnp.int32),
        stale=jnp.zeros((), jnp.int32),
        done=jnp.array(False),
        diverged=jnp.array(False),
    )


def advance(network: Network, config: Training, split: Split, state: Trained, epochs: int) -> Trained:
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

    def one(state: Trained, _):
        new = _check(network, config, valid, _epoch(network, config, split, state))
        return tree_where(~state.done, new, state), None

    return jax.lax.scan(one, state, length=epochs)[0]


def run(network: Network, config: Training, key: KeyArray, split: Split) -> Trained:
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

    def more(state: Trained):
        return ~state.done

    return jax.lax.while_loop(more, lambda state: advance(network, config, split, state, config.check_every), state)


def loss(apply: ApplyFn, variables: Variables, batch: Rows) -> Float[Array, ""]:
    """Compute the (weighted) mean cross-entropy in evaluation mode, in nats; NaN if all weights are 0."""
    logits, _ = apply(variables, batch.x)
    weights = weights_of(batch)
    there = None if weights is None else jnp.any(jnp.asarray(weights) > 0)
    return nan_unless(there, cross_entropy(logits, batch))


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


def permutation(key: KeyArray, rows: Int[Array, " n"]) -> Int[Array, " n"]:
    """Shuffle rows: the result equals `jax.random.permutation(key, rows)` and takes less time.

    On CPU, sorting pairs is six times slower than sorting numbers, and shuffling by a sort of pairs takes a tenth of a
    small network's epoch. Here only the random numbers are sorted, and each row is moved to the position at which its
    number is found.

    Args:
        key: random key of the order.
        rows: the rows to shuffle.

    Returns:
        The same rows in random order.

    Example:
        >>> key, rows = jax.random.key(0), jnp.arange(1000)
        >>> (permutation(key, rows) == jax.random.permutation(jax.random.clone(key), rows)).all().item()
        True
    """
    n = rows.shape[0]
    # The number of rounds of jax.random.permutation, which makes ties among 32-bit numbers harmless.
    for _ in range(math.ceil(3 * math.log(max(1, n)) / math.log(2**32 - 1))):
        key, of_round = jax.random.split(key)
        rows = rows[_argsort(jax.random.bits(of_round, (n,), jnp.uint32))]
    return rows


def _argsort(numbers: UInt32[Array, " n"]) -> Int[Array, " n"]:
    """Compute a stable `jnp.argsort(numbers)` by sorting only the numbers, followed by a search."""
    n = numbers.shape[0]
    here = jnp.arange(n)

    def holders(place):
        """Return, for each place, the first position that claims it."""
        return jnp.full(n, n, here.dtype).at[place].min(here, mode="promise_in_bounds")

    def again(state):
        place, held = state
        place = place + (held[place] != here).astype(
            place.dtype
        )  # equal numbers claim one place: all but the first move to the next
        return place, holders(place)

    place = jnp.searchsorted(jnp.sort(numbers), numbers, method="scan_unrolled").astype(here.dtype)
    return jax.lax.while_loop(lambda state: (state[1] == n).any(), again, (place, holders(place)))[1]


def _epoch(network: Network, config: Training, split: Split, state: Trained) -> Trained:
    """Run one pass over the train part."""
    of_order, of_dropout = jax.random.split(jax.random.fold_in(state.key, state.epoch))
    batches = shuffled(of_order, split.train, config.batch_size)
    scale = state.plateau.scale

    def step(carry, item):
        flat, optimiser = carry
        i, rows = item
        batch = split.batch(rows)
        of_step = jax.random.fold_in(of_dropout, i)

        def objective(params):
            logits, updated = network.apply(dataclasses.replace(flat, params=params).variables(), batch.x, key=of_step)
            return cross_entropy(logits, batch), updated

        grads, updated = jax.grad(objective, has_aux=True)(flat.params)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            updates, optimiser = optax.adam(config.learning_rate).update(grads, optimiser)
        params = flat.params + scale * cast(Array, updates)
        return (dataclasses.replace(flat, params=params, rest=FlatVariables.ravel(updated).rest), optimiser), None

    carry = (state.variables, state.optimiser)
    (flat, optimiser), _ = jax.lax.scan(step, carry, (jnp.arange(batches.shape[0]), batches))
    return state._replace(variables=flat, optimiser=optimiser, epoch=state.epoch + 1)


def _check(network: Network, config: Training, valid: Rows, state: Trained) -> Trained:
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
