"""Fit a classifier on one split, with early stopping and a plateau schedule of its own (Table 2 and appendix D.2)."""

import dataclasses
import math
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, UInt32

from fairjax.checks import both, check_logits, codes, indicator, nan_unless, sample_weights, vector
from fairjax.hyperparameters import check_at_least, check_positive, static
from fairjax.nn.flat import Flat
from fairjax.nn.network import ApplyFn, Network
from fairjax.types import KeyArray, Labels, Number, Rows, Split, Variables, pick, weights_of


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """Adam on binary cross-entropy, learning rate cut on a plateau, early stopping."""

    learning_rate: Number = 1e-3
    """Adam's first step size."""
    plateau_factor: float = static(0.1)
    """The learning rate is multiplied by this on a plateau."""
    plateau_tolerance: float = static(1e-4)
    """Least relative improvement of the validation loss that counts."""
    plateau_patience: int = static(10)
    """Epochs without improvement before the cut; the cut comes at the next, as in PyTorch's ReduceLROnPlateau."""
    batch_size: int = static(64)
    """Rows of a mini-batch; an epoch's last one is filled up with rows of its first."""
    epochs: int = static(1000)
    """Passes over the train part, at most."""
    check_every: int = static(10)
    """Epochs between checks of the validation loss for early stopping."""
    stopping_patience: int = static(10)
    """Training stops at one more than so many checks in a row without improvement."""

    def __post_init__(self):
        """Refuse values that mean nothing."""
        check_positive("learning_rate", self.learning_rate)
        if not 0 < self.plateau_factor < 1:
            raise ValueError(f"plateau_factor must be between 0 and 1, got {self.plateau_factor}")
        if not 0 <= self.plateau_tolerance < 1:
            raise ValueError(f"plateau_tolerance must be in [0, 1), got {self.plateau_tolerance}")
        check_at_least("batch_size", self.batch_size, 2)  # batch normalisation has no variance over one row
        for name in ("epochs", "check_every"):
            check_at_least(name, getattr(self, name), 1)
        for name in ("plateau_patience", "stopping_patience"):
            check_at_least(name, getattr(self, name), 0)


class Trained(NamedTuple):
    """Training's state between epochs; its `best` is the result."""

    variables: Flat
    """As they stand."""
    best: Flat
    """At the best check so far; as initialised before the first."""
    best_loss: Float[Array, ""]
    """Validation loss of `best`; infinite before the first check."""
    optimiser: optax.OptState
    plateau: optax.contrib.ReduceLROnPlateauState
    key: KeyArray
    epoch: Int[Array, ""]
    """Epochs done."""
    stale: Int[Array, ""]
    """Checks since the last improvement."""
    done: Bool[Array, ""]
    """Whether training has stopped; a stopped state changes no more."""
    diverged: Bool[Array, ""]
    """Whether it stopped because the validation loss was not finite."""


def init(network: Network, config: Training, key: KeyArray, split: Split) -> Trained:
    """A fresh network on its way.

    Args:
        network: the classifier.
        config: hyperparameters.
        key: the run's randomness: initialisation, order of rows, dropout.
        split: the data.

    Returns:
        The state before the first epoch.
    """
    of_network, of_training = jax.random.split(key)
    flat = Flat.of(network.init(of_network, split.batch(split.train[:2]).x))
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
    """Up to `epochs` further epochs, by one scan; a state that is done stays as it is.

    Args:
        network: the classifier.
        config: hyperparameters.
        split: the data.
        state: where training stands.
        epochs: a Python number.

    Returns:
        Where training stands then.
    """
    valid = split.part("valid")

    def one(state: Trained, _):
        new = _check(network, config, valid, _epoch(network, config, split, state))
        return pick(~state.done, new, state), None

    return jax.lax.scan(one, state, length=epochs)[0]


def run(network: Network, config: Training, key: KeyArray, split: Split) -> Trained:
    """Train one network on one split. Jit it, vmap it over seeds.

    Args:
        network: the classifier.
        config: hyperparameters.
        key: the run's randomness.
        split: the data.

    Returns:
        The final state; `best.variables()` is the network.
    """
    state = init(network, config, key, split)

    def more(state: Trained):
        return ~state.done

    return jax.lax.while_loop(more, lambda state: advance(network, config, split, state, config.check_every), state)


def loss(apply: ApplyFn, variables: Variables, batch: Rows) -> Float[Array, ""]:
    """Mean cross-entropy in evaluation mode, in nats; weighted if the rows are, and NaN if all of them weigh 0."""
    logits, _ = apply(variables, batch.x)
    weights = weights_of(batch)
    there = None if weights is None else jnp.any(jnp.asarray(weights) > 0)
    return nan_unless(there, cross_entropy(logits, batch))


def cross_entropy(logits: Float[Array, "n *c"], batch: Rows) -> Float[Array, ""]:
    """Mean cross-entropy of the rows of a batch, in nats; weighted if they are.

    Args:
        logits: one per row for two classes, one per row and class for more.
        batch: labels and weights.

    Returns:
        A scalar.

    Raises:
        ValueError: if the logits do not fit the labels: booleans need shape (n,), codes (n, classes); or if labels or
            weights that are not traced are invalid. Where they are traced, the result is NaN.
    """
    check_logits(logits, batch.x, 2 if batch.y.dtype == bool or logits.ndim != 2 else logits.shape[1])
    valid = check_targets(logits, batch)
    return nan_unless(valid, weighted_mean(cross_entropies(logits, batch.y), weights_of(batch)))


def check_targets(logits: Float[Array, "n *c"], batch: Rows) -> Bool[Array, ""] | None:
    """Check labels and weights against the classes that logits tell apart.

    Args:
        logits: one per row for two classes, one per row and class for more.
        batch: labels and weights.

    Returns:
        Whether traced labels and weights are valid; None if that is known.

    Raises:
        ValueError: if a label or weight that is not traced is invalid.
    """
    y = vector("y", batch.y)
    _, of_labels = indicator("y", y) if logits.ndim == 1 else codes("y", y, logits.shape[1])
    _, of_weights = sample_weights(weights_of(batch), logits, weightless=True)
    return both(of_labels, of_weights)


def cross_entropies(logits: Float[Array, " n"] | Float[Array, "n c"], y: Labels) -> Float[Array, " n"]:
    """Cross-entropy of every row: of a sigmoid for logits (n,), of a softmax for logits (n, classes).

    Example:
        >>> cross_entropies(jnp.zeros((1, 4)), jnp.array([2])).tolist()
        [1.3862943649291992]
    """
    if logits.ndim == 1:
        return optax.sigmoid_binary_cross_entropy(logits, y.astype(logits.dtype))
    return optax.softmax_cross_entropy_with_integer_labels(logits, y.astype(jnp.int32))


def weighted_mean(values: Float[Array, " n"], weights: Float[Array, " n"] | None) -> Float[Array, ""]:
    """Mean of the values, weighted if there are weights; 0 of a mini-batch whose rows all weigh 0.

    Example:
        >>> weighted_mean(jnp.array([1.0, 4.0]), jnp.array([3.0, 0.0])).item()
        1.0
    """
    if weights is None:
        return jnp.mean(values)
    weights = weights.astype(values.dtype)
    total = jnp.sum(weights)
    return jnp.sum(values * weights) / jnp.where(total > 0, total, 1.0)


def shuffled(key: KeyArray, rows: Int[Array, " n"], batch_size: int) -> Int[Array, "batches m"]:
    """The rows in random order, cut into mini-batches of one size; the last is filled up from the front of the order.

    So every row is seen in an epoch, no mini-batch holds a row twice, and all have the size that was asked for.

    Args:
        key: the order.
        rows: row numbers.
        batch_size: of a mini-batch; all rows make one if they are fewer.

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
    """The rows in random order: the same numbers as `jax.random.permutation(key, rows)`, in less time.

    On CPU a sort of pairs is six times slower than a sort of numbers, and shuffling pairs is a tenth of a small
    network's epoch. Here the random numbers are sorted alone, and rows are put in the places where theirs are found.

    Args:
        key: the order.
        rows: what to put in order.

    Returns:
        The same rows in another order.

    Example:
        >>> key, rows = jax.random.key(0), jnp.arange(1000)
        >>> (permutation(key, rows) == jax.random.permutation(jax.random.clone(key), rows)).all().item()
        True
    """
    n = rows.shape[0]
    # so many rounds make ties among 32-bit numbers harmless: jax.random.permutation's count
    for _ in range(math.ceil(3 * math.log(max(1, n)) / math.log(2**32 - 1))):
        key, of_round = jax.random.split(key)
        rows = rows[_argsort(jax.random.bits(of_round, (n,), jnp.uint32))]
    return rows


def _argsort(numbers: UInt32[Array, " n"]) -> Int[Array, " n"]:
    """`jnp.argsort(numbers)`, stable, by a sort of the numbers alone and a search."""
    n = numbers.shape[0]
    here = jnp.arange(n)

    def holders(place):
        """Of each place, the earliest position that claims it."""
        return jnp.full(n, n, here.dtype).at[place].min(here, mode="promise_in_bounds")

    def again(state):
        place, held = state
        place = place + (held[place] != here).astype(
            place.dtype
        )  # equal numbers claim one place: all but the earliest move on
        return place, holders(place)

    place = jnp.searchsorted(jnp.sort(numbers), numbers, method="scan_unrolled").astype(here.dtype)
    return jax.lax.while_loop(lambda state: (state[1] == n).any(), again, (place, holders(place)))[1]


def _epoch(network: Network, config: Training, split: Split, state: Trained) -> Trained:
    """One pass over the train part."""
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
        with jax.numpy_dtype_promotion("standard"):  # within optax
            updates, optimiser = optax.adam(config.learning_rate).update(grads, optimiser)
        params = flat.params + scale * cast(Array, updates)
        return (dataclasses.replace(flat, params=params, rest=Flat.of(updated).rest), optimiser), None

    carry = (state.variables, state.optimiser)
    (flat, optimiser), _ = jax.lax.scan(step, carry, (jnp.arange(batches.shape[0]), batches))
    return state._replace(variables=flat, optimiser=optimiser, epoch=state.epoch + 1)


def _check(network: Network, config: Training, valid: Rows, state: Trained) -> Trained:
    """After an epoch: the plateau schedule, and at every `check_every`-th and the last one the early stopping."""
    value = loss(network.apply, state.variables.variables(), valid)
    diverged = ~jnp.isfinite(value)
    with jax.numpy_dtype_promotion("standard"):  # within optax
        _, plateau = _plateau(config).update(state.variables.params, state.plateau, value=value)
    due = (state.epoch % config.check_every == 0) | (state.epoch == config.epochs)
    checked = due & ~diverged
    better = checked & (value < state.best_loss)
    stale = jnp.where(better, 0, state.stale + checked.astype(state.stale.dtype))
    return state._replace(
        best=pick(better, state.variables, state.best),
        best_loss=jnp.where(better, value, state.best_loss),
        plateau=plateau,
        stale=stale,
        done=diverged | (stale > config.stopping_patience) | (state.epoch >= config.epochs),
        diverged=diverged,
    )


def _plateau(config: Training) -> optax.GradientTransformationExtraArgs:
    """PyTorch's schedule: optax cuts at the `patience`-th bad epoch, PyTorch at the next."""
    return optax.contrib.reduce_on_plateau(
        factor=config.plateau_factor,
        patience=config.plateau_patience + 1,
        rtol=config.plateau_tolerance,
        atol=0.0,
    )
