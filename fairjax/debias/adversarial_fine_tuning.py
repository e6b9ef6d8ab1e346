"""Adversarial fine-tuning: a critic learns the bias of mini-batches from the last hidden layer, and is heeded."""

import dataclasses
import functools
from typing import Any, Literal, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from fairjax.debias.descent import fold
from fairjax.hyperparameters import check_at_least, check_choice, check_positive, static
from fairjax.loop import Method, Parts, Task, evaluation_mode
from fairjax.nn.flat import Flat
from fairjax.nn.layers import Linear
from fairjax.nn.network import FeaturesFn
from fairjax.objective import Evaluation
from fairjax.parity import of_mini_batches
from fairjax.training import cross_entropy, shuffled
from fairjax.types import KeyArray, Number, Variables, columns, take


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class AdversarialFineTuning:
    """Alternate between a critic, which regresses the bias of a mini-batch, and the network, which lowers it.

    The critic sees the last hidden layer of all rows of a mini-batch. The network descends
    max(1, weight (|critic| - epsilon + margin) + 1) * cross-entropy, as the method's authors have it.

    References:
        Savani, White, Govindarajulu (2020), Intra-processing methods for debiasing neural networks, NeurIPS,
        https://arxiv.org/abs/2006.08564
    """

    weight: Number = 0.75
    """How much predicted bias beyond the bound raises the loss (lambda)."""
    epsilon: Number = 0.05
    """Bound on predicted bias."""
    margin: Number = 0.02
    """How far inside the bound the network is pushed (delta)."""
    learning_rate: Number = 1e-3
    """Adam's step size, the network's and the critic's."""
    batch_size: int = static(64)
    """Rows of a mini-batch."""
    epochs: int = static(16)
    """Rounds of the critic's and the network's steps; each gives a candidate."""
    critic_steps: int = static(201)
    """Mini-batches of the critic a round."""
    network_steps: int = static(101)
    """Mini-batches of the network a round."""
    critic_layers: int = static(3)
    """Hidden layers of the critic after its first."""
    critic_width: int = static(32)
    """Units of a hidden layer of the critic."""
    part: Literal["train", "valid"] = static("train")
    """The part that mini-batches are drawn from."""

    def __post_init__(self):
        """Refuse values that mean nothing."""
        check_choice("part", self.part, ("train", "valid"))
        for name in ("weight", "epsilon", "learning_rate"):
            check_positive(name, getattr(self, name))
        check_at_least("batch_size", self.batch_size, 2)
        for name in ("epochs", "critic_steps", "network_steps", "critic_width"):
            check_at_least(name, getattr(self, name), 1)
        check_at_least("critic_layers", self.critic_layers, 0)


class Critic(nn.Module):
    """A mini-batch's bias, guessed from the last hidden layer of all its rows in their order."""

    layers: int
    width: int

    @nn.compact
    def __call__(self, h: Float[Array, "m k"]) -> Float[Array, ""]:
        """The guess."""
        guess = h.reshape(1, -1)
        for _ in range(self.layers + 1):
            guess = nn.relu(Linear(self.width)(guess))
        return Linear(1)(guess)[0, 0]


class State(NamedTuple):
    """Network and critic between rounds."""

    variables: Flat
    optimiser: optax.OptState
    critic: Any
    critic_optimiser: optax.OptState
    threshold: Float[Array, ""]
    """Of the network as it came: the critic's target is the bias of decisions at this threshold."""
    key: KeyArray
    epoch: Int[Array, ""]


def init(
    task: Task, config: AdversarialFineTuning, key: KeyArray, variables: Variables, parts: Parts, evaluation: Evaluation
) -> State:
    """The network as it came, and a fresh critic."""
    of_critic, of_rounds = jax.random.split(key)
    flat, batch = Flat.of(variables), getattr(parts, config.part)
    rows = jnp.arange(min(config.batch_size, batch.y.shape[0]))
    h = jax.eval_shape(lambda: _features(task)(variables, batch.x[rows])[0])
    critic = _critic(config).init(of_critic, jnp.zeros(h.shape, h.dtype))
    adam = optax.adam(config.learning_rate)
    zero = jnp.zeros((), jnp.int32)
    return State(flat, adam.init(flat.params), critic, adam.init(critic), evaluation.threshold, of_rounds, zero)


def step(task: Task, config: AdversarialFineTuning, parts: Parts, state: State) -> State:
    """A round: so many mini-batches for the critic, then so many for the network."""
    batch, features, critic = getattr(parts, config.part), _features(task), _critic(config)
    measure = of_mini_batches(task.measure, config.batch_size, batch.y.shape[0])
    adam = optax.adam(config.learning_rate)
    of_critic, of_network, of_dropout = jax.random.split(jax.random.fold_in(state.key, state.epoch), 3)

    def learn(carry, rows):
        weights, optimiser = carry
        some = take(batch, rows)
        h, logits, _ = features(state.variables.variables(), some.x)
        if logits.ndim == 1:
            decisions = (jax.nn.sigmoid(logits) > state.threshold).astype(h.dtype)
        else:
            decisions = jax.nn.one_hot(jnp.argmax(logits, axis=1), logits.shape[1], dtype=h.dtype)
        bias = measure(decisions, *columns(some))
        bias = jnp.where(jnp.isnan(bias), 0.0, bias)  # of a mini-batch without the groups
        grads = jax.grad(lambda weights: jnp.square(_guess(critic, weights, h) - bias))(weights)
        with jax.numpy_dtype_promotion("standard"):  # within optax
            updates, optimiser = adam.update(grads, optimiser)
        return (optax.apply_updates(weights, updates), optimiser), None

    rows = _mini_batches(of_critic, batch.y.shape[0], config.batch_size, config.critic_steps)
    (weights, critic_optimiser), _ = jax.lax.scan(learn, (state.critic, state.critic_optimiser), rows)

    def heed(carry, item):
        (flat, optimiser), (rows, key) = carry, item
        some = take(batch, rows)

        def loss(params):
            h, logits, updated = features(dataclasses.replace(flat, params=params).variables(), some.x, key=key)
            excess = jnp.abs(_guess(critic, weights, h)) - config.epsilon + config.margin
            entropy = cross_entropy(logits, some)
            return jnp.maximum(1.0, config.weight * excess + 1.0) * entropy, Flat.of(updated).rest

        grads, rest = jax.grad(loss, has_aux=True)(flat.params)
        with jax.numpy_dtype_promotion("standard"):  # within optax
            updates, optimiser = adam.update(grads, optimiser)
        return (dataclasses.replace(flat, params=optax.apply_updates(flat.params, updates), rest=rest), optimiser), None

    rows = _mini_batches(of_network, batch.y.shape[0], config.batch_size, config.network_steps)
    keys = fold(of_dropout, config.network_steps)
    (flat, optimiser), _ = jax.lax.scan(heed, (state.variables, state.optimiser), (rows, keys))
    return State(flat, optimiser, weights, critic_optimiser, state.threshold, state.key, state.epoch + 1)


def steps(config: AdversarialFineTuning, variables: Variables) -> int:
    """One a round."""
    del variables
    return config.epochs


def _mini_batches(key: KeyArray, n: int, size: int, count: int) -> Int[Array, "count m"]:
    """So many mini-batches of shuffled rows, beginning again when all rows were seen."""
    order = shuffled(key, jnp.arange(n), size)
    return order[jnp.arange(count) % order.shape[0]]


def _critic(config: AdversarialFineTuning) -> Critic:
    return Critic(config.critic_layers, config.critic_width)


def _guess(critic: Critic, weights: Any, h: Float[Array, "m k"]) -> Float[Array, ""]:
    return cast(Array, critic.apply(weights, h))


def _features(task: Task) -> FeaturesFn:
    if task.network.features is None:
        raise ValueError(
            "adversarial fine-tuning looks at the last hidden layer, but the network has no `features`; "
            "give Network(init, apply, features)"
        )
    return task.network.features


def _candidate(state: State, member: Int[Array, ""]) -> Flat:
    del member
    return state.variables


METHOD = Method(init, step, _candidate, steps, functools.partial(evaluation_mode, candidate=_candidate))
"""Savani et al.'s adversarial fine-tuning as a method."""
