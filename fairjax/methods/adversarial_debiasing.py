"""Adversarial debiasing: an adversary predicts the group from the output, and its gradient is projected out."""

import dataclasses
from typing import ClassVar, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from fairjax.hyperparameters import check_at_least, check_choice, check_positive, static
from fairjax.methods.base import Method, Parts, Task, method
from fairjax.methods.gradient_steps import batch_keys
from fairjax.metrics import num_classes, num_groups, of_mini_batches
from fairjax.nn.flat import FlatVariables
from fairjax.selection import Evaluation
from fairjax.training import shuffled
from fairjax.types import KeyArray, Number, Rows, Variables, take, weights_of


class Adversary(NamedTuple):
    """A logistic regression on the network's output."""

    scale: Float[Array, ""]
    """The constant c: the logit is scaled by 1 + |c|."""
    slope: Float[Array, "3"]
    """Slopes of s, s y and s (1 - y); the last two are only used for equality of odds."""
    intercept: Float[Array, ""]


class AdversarialDebiasingState(NamedTuple):
    """State of network and adversary between epochs."""

    variables: FlatVariables
    optimiser: optax.OptState
    adversary: Adversary
    adversary_optimiser: optax.OptState
    key: KeyArray
    epoch: Int[Array, ""]


@method
class AdversarialDebiasing(Method):
    """Fine-tune against an adversary that predicts the protected attribute, with projected gradients.

    Let g and h be the gradients of the network's and of the adversary's loss with respect to the network's parameters.
    The network descends along g - proj_h g - weight * h. The adversary is a logistic regression on the scaled score
    s = sigmoid((1 + |c|) logit) and, for equality of odds, also on s y and s (1 - y).

    References:
        Zhang, Lemoine, Mitchell (2018), Mitigating unwanted biases with adversarial learning, AIES,
        https://arxiv.org/abs/1801.07593
    """

    label: ClassVar[str] = "Adversarial debiasing"
    reference: ClassVar[str] = "Zhang et al. 2018"
    equation: ClassVar[str] = (
        "theta <- theta - eta (g - proj_h g - weight * h), h the gradient of an adversary that predicts the group"
    )
    groups: ClassVar[float] = 2
    classes: ClassVar[float] = 2
    stream: ClassVar[int | None] = 7

    weight: Number = 1.0
    """Weight of the adversary's gradient (alpha)."""
    adversary: Literal["parity", "odds", "opportunity"] | None = static(None)
    """Inputs of the adversary: the score (parity), the score and the label (odds), or the score of positives only
    (opportunity). By default opportunity if the measure does not depend on the decisions on negatives, else parity."""
    learning_rate: Number = 1e-4
    """Adam's step size for the network."""
    adversary_rate: Number = 1e-2
    """Adam's step size for the adversary."""
    batch_size: int = static(256)
    """Rows per mini-batch, drawn without replacement."""
    epochs: int = static(30)
    """Passes over the part."""
    part: Literal["train", "valid"] = static("train")
    """The part from which mini-batches are drawn."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_choice("part", self.part, ("train", "valid"))
        if self.adversary is not None:
            check_choice("adversary", self.adversary, ("parity", "odds", "opportunity"))
        for name in ("weight", "learning_rate", "adversary_rate"):
            check_positive(name, getattr(self, name))
        check_at_least("batch_size", self.batch_size, 2)
        check_at_least("epochs", self.epochs, 1)

    def init(
        self, task: Task, key: KeyArray, variables: Variables, parts: Parts, evaluation: Evaluation
    ) -> AdversarialDebiasingState:
        """Start from the original network and an untrained adversary."""
        del evaluation
        groups, classes = num_groups(task.measure, parts.train.a), num_classes(task.measure)
        if (groups, classes) != (2, 2):
            raise ValueError(
                "adversarial debiasing predicts one of two groups from the score of two classes, found "
                f"{groups} groups and {classes} classes: choose another method, such as fine_tuning"
            )
        flat = FlatVariables.ravel(variables)
        zero = jnp.zeros((), flat.params.dtype)
        adversary = Adversary(zero, jnp.zeros(3, zero.dtype), zero)
        network_adam, adversary_adam = optax.adam(self.learning_rate), optax.adam(self.adversary_rate)
        return AdversarialDebiasingState(
            flat,
            network_adam.init(flat.params),
            adversary,
            adversary_adam.init(adversary),
            key,
            jnp.zeros((), jnp.int32),
        )

    def step(self, task: Task, parts: Parts, state: AdversarialDebiasingState) -> AdversarialDebiasingState:
        """Run one epoch, updating network and adversary at every mini-batch."""
        batch = getattr(parts, self.part)
        order_key, dropout_key = jax.random.split(jax.random.fold_in(state.key, state.epoch))
        batches = shuffled(order_key, jnp.arange(batch.y.shape[0]), self.batch_size)
        network_adam, adversary_adam = optax.adam(self.learning_rate), optax.adam(self.adversary_rate)

        def update(carry, item):
            (flat, optimiser, adversary, adversary_optimiser), (rows, key) = carry, item
            mini_batch = take(batch, rows)

            def output(params):
                logits, updated = task.network.apply(
                    dataclasses.replace(flat, params=params).variables(), mini_batch.x, key=key
                )
                return logits, flat.rest_of(updated)

            logits, pullback, statistics = jax.vjp(output, flat.params, has_aux=True)
            weights = weights_of(mini_batch)
            weights = jnp.ones_like(logits) if weights is None else weights.astype(logits.dtype)
            slope = jax.grad(lambda logits: _entropy(logits, mini_batch.y, weights))(logits)
            rows = self._rows(task, mini_batch).astype(logits.dtype)
            odds = self.adversary == "odds"
            adversary_slope, adversary_grads = jax.grad(_adversary_loss, argnums=(0, 1))(
                logits, adversary, mini_batch, rows, odds
            )
            g, h = pullback(slope)[0], pullback(adversary_slope)[0]
            unit = h / jnp.maximum(jnp.linalg.norm(h), jnp.finfo(h.dtype).tiny)
            direction = g - jnp.dot(unit, g) * unit - self.weight * h
            with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
                updates, optimiser = network_adam.update(direction, optimiser)
                adversary_updates, adversary_optimiser = adversary_adam.update(adversary_grads, adversary_optimiser)
            flat = dataclasses.replace(flat, params=optax.apply_updates(flat.params, updates), rest=statistics)
            adversary = cast(Adversary, optax.apply_updates(cast(optax.Params, adversary), adversary_updates))
            return (flat, optimiser, adversary, adversary_optimiser), None

        carry = state.variables, state.optimiser, state.adversary, state.adversary_optimiser
        carry, _ = jax.lax.scan(update, carry, (batches, batch_keys(dropout_key, batches.shape[0])))
        return AdversarialDebiasingState(*carry, state.key, state.epoch + 1)

    def total_steps(self, variables: Variables) -> int:
        """Return the number of steps, one per epoch."""
        del variables
        return self.epochs

    def _rows(self, task: Task, mini_batch: Rows) -> Float[Array, " m"]:
        """Return indicators of the rows that the adversary uses: all rows, or positives only."""
        if self.adversary is None:  # test whether the measure depends on negatives
            y, a = jnp.array([True, True, False, False]), jnp.array([True, False, True, False])
            measure = of_mini_batches(task.measure, 1, 2**30)  # for four rows, ignoring the minimal number of rows
            all_rows = jnp.any(jax.grad(measure)(jnp.full(4, 0.5), y, a)[2:] != 0)
        else:
            all_rows = jnp.array(self.adversary != "opportunity")
        used, weights = mini_batch.y | all_rows, weights_of(mini_batch)
        return used.astype(jnp.result_type(float)) if weights is None else jnp.where(used, weights, 0.0)


def _adversary_loss(logits, adversary: Adversary, mini_batch: Rows, row_weights: Float[Array, " m"], odds: bool):
    """Compute the cross-entropy of the group, in nats per row."""
    s = jax.nn.sigmoid((1.0 + jnp.abs(adversary.scale)) * logits)
    y = mini_batch.y.astype(s.dtype)
    prediction = s * adversary.slope[0] + adversary.intercept
    if odds:
        prediction += s * y * adversary.slope[1] + s * (1.0 - y) * adversary.slope[2]
    return _entropy(prediction, mini_batch.a, row_weights)


def _entropy(logits, labels, weights):
    losses = optax.sigmoid_binary_cross_entropy(logits, labels.astype(logits.dtype))
    total = jnp.sum(weights)
    return jnp.sum(weights * losses) / jnp.where(total > 0, total, 1.0)
