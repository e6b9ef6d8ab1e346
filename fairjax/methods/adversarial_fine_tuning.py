"""Adversarial fine-tuning: a critic predicts the bias of mini-batches, and the network lowers the prediction."""

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from fairjax.hyperparameters import check_at_least, check_choice, check_positive, static
from fairjax.losses import cross_entropy
from fairjax.methods.base import Method, Parts, Task, method
from fairjax.methods.gradient_steps import batch_keys
from fairjax.metrics import of_mini_batches
from fairjax.nn.flat import FlatVariables
from fairjax.nn.layers import Linear
from fairjax.nn.network import FeaturesFn
from fairjax.selection import Evaluation
from fairjax.training import shuffled
from fairjax.types import KeyArray, Number, Variables, columns, take


class Critic(nn.Module):
    """Predicts the bias of a mini-batch from the last hidden layer of all its rows, in their order."""

    layers: int
    width: int

    @nn.compact
    def __call__(self, h: Float[Array, "m k"]) -> Float[Array, ""]:
        """Predict the bias."""
        prediction = h.reshape(1, -1)
        for _ in range(self.layers + 1):
            prediction = nn.relu(Linear(self.width)(prediction))
        return Linear(1)(prediction)[0, 0]


class AdversarialFineTuningState(NamedTuple):
    """State of network and critic between rounds."""

    variables: FlatVariables
    optimiser: optax.OptState
    critic: Any
    critic_optimiser: optax.OptState
    threshold: Float[Array, ""]
    """Threshold of the original network; the critic's target is the bias of decisions at this threshold."""
    key: KeyArray
    epoch: Int[Array, ""]


@method
class AdversarialFineTuning(Method):
    """Alternate between a critic, which regresses the bias of a mini-batch, and the network, which lowers it.

    The input of the critic is the last hidden layer of all rows of a mini-batch. The network descends
    max(1, weight (|critic| - epsilon + margin) + 1) * cross-entropy, as in the code of the method's authors.

    References:
        Savani, White, Govindarajulu (2020), Intra-processing methods for debiasing neural networks, NeurIPS,
        https://arxiv.org/abs/2006.08564
    """

    label: ClassVar[str] = "Adversarial fine-tuning"
    reference: ClassVar[str] = "Savani et al. 2020"
    equation: ClassVar[str] = "minimise max(1, weight (|critic| - epsilon + margin) + 1) * cross-entropy"
    stream: ClassVar[int | None] = 6

    weight: Number = 0.75
    """Weight of the predicted bias beyond the bound in the loss (lambda)."""
    epsilon: Number = 0.05
    """Bound on predicted bias."""
    margin: Number = 0.02
    """Distance inside the bound at which the penalty begins (delta)."""
    learning_rate: Number = 1e-3
    """Adam's step size for both network and critic."""
    batch_size: int = static(64)
    """Rows per mini-batch."""
    epochs: int = static(16)
    """Rounds of steps of the critic and of the network; each gives one candidate."""
    critic_steps: int = static(201)
    """Mini-batches of the critic per round."""
    network_steps: int = static(101)
    """Mini-batches of the network per round."""
    critic_layers: int = static(3)
    """Hidden layers of the critic after its first."""
    critic_width: int = static(32)
    """Units per hidden layer of the critic."""
    part: Literal["train", "valid"] = static("train")
    """The part from which mini-batches are drawn."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_choice("part", self.part, ("train", "valid"))
        for name in ("weight", "epsilon", "learning_rate"):
            check_positive(name, getattr(self, name))
        check_at_least("batch_size", self.batch_size, 2)
        for name in ("epochs", "critic_steps", "network_steps", "critic_width"):
            check_at_least(name, getattr(self, name), 1)
        check_at_least("critic_layers", self.critic_layers, 0)

    def init(
        self, task: Task, key: KeyArray, variables: Variables, parts: Parts, evaluation: Evaluation
    ) -> AdversarialFineTuningState:
        """Start from the original network and a newly initialised critic."""
        critic_key, rounds_key = jax.random.split(key)
        flat, batch = FlatVariables.ravel(variables), getattr(parts, self.part)
        rows = jnp.arange(min(self.batch_size, batch.y.shape[0]))
        h = jax.eval_shape(lambda: _features(task)(variables, take(batch, rows).x)[0])
        critic = self._critic().init(critic_key, jnp.zeros(h.shape, h.dtype))
        adam = optax.adam(self.learning_rate)
        zero = jnp.zeros((), jnp.int32)
        return AdversarialFineTuningState(
            flat, adam.init(flat.params), critic, adam.init(critic), evaluation.threshold, rounds_key, zero
        )

    def step(self, task: Task, parts: Parts, state: AdversarialFineTuningState) -> AdversarialFineTuningState:
        """Run one round: `critic_steps` mini-batches for the critic, then `network_steps` for the network."""
        batch, features, critic = getattr(parts, self.part), _features(task), self._critic()
        measure = of_mini_batches(task.measure, self.batch_size, batch.y.shape[0])
        adam = optax.adam(self.learning_rate)
        critic_key, network_key, dropout_key = jax.random.split(jax.random.fold_in(state.key, state.epoch), 3)

        def update_critic(carry, rows):
            weights, optimiser = carry
            mini_batch = take(batch, rows)
            h, logits, _ = features(state.variables.variables(), mini_batch.x)
            if logits.ndim == 1:
                decisions = (jax.nn.sigmoid(logits) > state.threshold).astype(h.dtype)
            else:
                decisions = jax.nn.one_hot(jnp.argmax(logits, axis=1), logits.shape[1], dtype=h.dtype)
            bias = measure(decisions, *columns(mini_batch))
            bias = jnp.where(jnp.isnan(bias), 0.0, bias)  # NaN if the mini-batch lacks a group
            grads = jax.grad(lambda weights: jnp.square(_guess(critic, weights, h) - bias))(weights)
            with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
                updates, optimiser = adam.update(grads, optimiser)
            return (optax.apply_updates(weights, updates), optimiser), None

        rows = _mini_batches(critic_key, batch.y.shape[0], self.batch_size, self.critic_steps)
        (weights, critic_optimiser), _ = jax.lax.scan(update_critic, (state.critic, state.critic_optimiser), rows)

        def update_network(carry, item):
            (flat, optimiser), (rows, key) = carry, item
            mini_batch = take(batch, rows)

            def loss(params):
                h, logits, updated = features(
                    dataclasses.replace(flat, params=params).variables(), mini_batch.x, key=key
                )
                excess = jnp.abs(_guess(critic, weights, h)) - self.epsilon + self.margin
                entropy = cross_entropy(logits, mini_batch)
                return jnp.maximum(1.0, self.weight * excess + 1.0) * entropy, flat.rest_of(updated)

            grads, statistics = jax.grad(loss, has_aux=True)(flat.params)
            with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
                updates, optimiser = adam.update(grads, optimiser)
            return (
                dataclasses.replace(flat, params=optax.apply_updates(flat.params, updates), rest=statistics),
                optimiser,
            ), None

        rows = _mini_batches(network_key, batch.y.shape[0], self.batch_size, self.network_steps)
        keys = batch_keys(dropout_key, self.network_steps)
        (flat, optimiser), _ = jax.lax.scan(update_network, (state.variables, state.optimiser), (rows, keys))
        return AdversarialFineTuningState(
            flat, optimiser, weights, critic_optimiser, state.threshold, state.key, state.epoch + 1
        )

    def total_steps(self, variables: Variables) -> int:
        """Return the number of steps, one per round."""
        del variables
        return self.epochs

    def _critic(self) -> Critic:
        return Critic(self.critic_layers, self.critic_width)


def _mini_batches(key: KeyArray, n: int, size: int, count: int) -> Int[Array, "count m"]:
    """Make `count` mini-batches of shuffled rows, starting again once all rows have been used."""
    order = shuffled(key, jnp.arange(n), size)
    return order[jnp.arange(count) % order.shape[0]]


def _guess(critic: Critic, weights: Any, h: Float[Array, "m k"]) -> Float[Array, ""]:
    return cast(Array, critic.apply(weights, h))


def _features(task: Task) -> FeaturesFn:
    if task.network.features is None:
        raise ValueError(
            "adversarial fine-tuning needs the last hidden layer, but the network has no `features`; "
            "give Network(init, apply, features)"
        )
    return task.network.features
