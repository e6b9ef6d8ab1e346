"""Adversarial debiasing: an adversary predicts the group from the output, and gradients are projected away from it."""

import dataclasses
import functools
from typing import Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from fairjax.debias.descent import fold
from fairjax.hyperparameters import check_at_least, check_choice, check_positive, static
from fairjax.loop import Method, Parts, Task, evaluation_mode
from fairjax.nn.flat import Flat
from fairjax.objective import Evaluation
from fairjax.parity import num_classes, num_groups, of_mini_batches
from fairjax.training import shuffled
from fairjax.types import KeyArray, Number, Rows, Variables, take, weights_of


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class AdversarialDebiasing:
    """Fine-tune against an adversary that predicts the protected attribute, with projected gradients.

    With the gradients g of the network's loss and h of the adversary's, both by the network's parameters, the network
    moves along g - proj_h g - weight * h. The adversary is a logistic regression on the score, scaled as
    s = sigmoid((1 + |c|) logit), and, for equality of odds, on s y and s (1 - y) too.

    References:
        Zhang, Lemoine, Mitchell (2018), Mitigating unwanted biases with adversarial learning, AIES,
        https://arxiv.org/abs/1801.07593
    """

    weight: Number = 1.0
    """How strongly the network is pushed against the adversary (alpha)."""
    adversary: Literal["parity", "odds", "opportunity"] | None = static(None)
    """What the adversary sees: the score (parity), the score and the label (odds), the score of positives only
    (opportunity). By default opportunity if the measure does not change with the negatives' decisions, else parity."""
    learning_rate: Number = 1e-4
    """Adam's step size for the network."""
    adversary_rate: Number = 1e-2
    """Adam's step size for the adversary."""
    batch_size: int = static(256)
    """Rows of a mini-batch, drawn without replacement."""
    epochs: int = static(30)
    """Passes over the part."""
    part: Literal["train", "valid"] = static("train")
    """The part that mini-batches are drawn from."""

    def __post_init__(self):
        """Refuse values that mean nothing."""
        check_choice("part", self.part, ("train", "valid"))
        if self.adversary is not None:
            check_choice("adversary", self.adversary, ("parity", "odds", "opportunity"))
        for name in ("weight", "learning_rate", "adversary_rate"):
            check_positive(name, getattr(self, name))
        check_at_least("batch_size", self.batch_size, 2)
        check_at_least("epochs", self.epochs, 1)


class Adversary(NamedTuple):
    """A logistic regression on the network's output."""

    scale: Float[Array, ""]
    """c: the logit is scaled by 1 + |c|."""
    slope: Float[Array, "3"]
    """By s, s y and s (1 - y); the last two are only used for equality of odds."""
    intercept: Float[Array, ""]


class State(NamedTuple):
    """Network and adversary between epochs."""

    variables: Flat
    optimiser: optax.OptState
    adversary: Adversary
    adversary_optimiser: optax.OptState
    key: KeyArray
    epoch: Int[Array, ""]


def init(
    task: Task, config: AdversarialDebiasing, key: KeyArray, variables: Variables, parts: Parts, evaluation: Evaluation
) -> State:
    """The network as it came, and an adversary that knows nothing."""
    del evaluation
    groups, classes = num_groups(task.measure, parts.train.a), num_classes(task.measure)
    if (groups, classes) != (2, 2):
        raise ValueError(
            f"adversarial debiasing predicts one of two groups from the score of two classes, found {groups} groups "
            f"and {classes} classes: choose another method, such as fine_tuning"
        )
    flat = Flat.of(variables)
    zero = jnp.zeros((), flat.params.dtype)
    adversary = Adversary(zero, jnp.zeros(3, zero.dtype), zero)
    network, other = optax.adam(config.learning_rate), optax.adam(config.adversary_rate)
    return State(flat, network.init(flat.params), adversary, other.init(adversary), key, jnp.zeros((), jnp.int32))


def step(task: Task, config: AdversarialDebiasing, parts: Parts, state: State) -> State:
    """One epoch; network and adversary move at every mini-batch."""
    batch = getattr(parts, config.part)
    of_order, of_dropout = jax.random.split(jax.random.fold_in(state.key, state.epoch))
    batches = shuffled(of_order, jnp.arange(batch.y.shape[0]), config.batch_size)
    network, other = optax.adam(config.learning_rate), optax.adam(config.adversary_rate)

    def move(carry, item):
        (flat, optimiser, adversary, adversary_optimiser), (rows, key) = carry, item
        some = take(batch, rows)

        def output(params):
            logits, updated = task.network.apply(dataclasses.replace(flat, params=params).variables(), some.x, key=key)
            return logits, Flat.of(updated).rest

        logits, pullback, rest = jax.vjp(output, flat.params, has_aux=True)
        weights = weights_of(some)
        weights = jnp.ones_like(logits) if weights is None else weights.astype(logits.dtype)
        ours = jax.grad(lambda logits: _entropy(logits, some.y, weights))(logits)
        rows = _rows(task, config, some).astype(logits.dtype)
        odds = config.adversary == "odds"
        theirs, of_adversary = jax.grad(_adversary_loss, argnums=(0, 1))(logits, adversary, some, rows, odds)
        g, h = pullback(ours)[0], pullback(theirs)[0]
        unit = h / jnp.maximum(jnp.linalg.norm(h), jnp.finfo(h.dtype).tiny)
        direction = g - jnp.dot(unit, g) * unit - config.weight * h
        with jax.numpy_dtype_promotion("standard"):  # within optax
            updates, optimiser = network.update(direction, optimiser)
            moved, adversary_optimiser = other.update(of_adversary, adversary_optimiser)
        flat = dataclasses.replace(flat, params=optax.apply_updates(flat.params, updates), rest=rest)
        adversary = cast(Adversary, optax.apply_updates(cast(optax.Params, adversary), moved))
        return (flat, optimiser, adversary, adversary_optimiser), None

    carry = state.variables, state.optimiser, state.adversary, state.adversary_optimiser
    carry, _ = jax.lax.scan(move, carry, (batches, fold(of_dropout, batches.shape[0])))
    return State(*carry, state.key, state.epoch + 1)


def steps(config: AdversarialDebiasing, variables: Variables) -> int:
    """One an epoch."""
    del variables
    return config.epochs


def _rows(task: Task, config: AdversarialDebiasing, some: Rows) -> Float[Array, " m"]:
    """Which rows the adversary sees: 1 for all, or for positives alone."""
    if config.adversary is None:  # does the measure look at negatives?
        y, a = jnp.array([True, True, False, False]), jnp.array([True, False, True, False])
        measure = of_mini_batches(task.measure, 1, 2**30)  # of four rows, whatever the least number of them
        everybody = jnp.any(jax.grad(measure)(jnp.full(4, 0.5), y, a)[2:] != 0)
    else:
        everybody = jnp.array(config.adversary != "opportunity")
    seen, weights = some.y | everybody, weights_of(some)
    return seen.astype(jnp.result_type(float)) if weights is None else jnp.where(seen, weights, 0.0)


def _adversary_loss(logits, adversary: Adversary, some: Rows, rows: Float[Array, " m"], odds: bool):
    """Cross-entropy of the group, nats a row."""
    s = jax.nn.sigmoid((1.0 + jnp.abs(adversary.scale)) * logits)
    y = some.y.astype(s.dtype)
    guess = s * adversary.slope[0] + adversary.intercept
    if odds:
        guess += s * y * adversary.slope[1] + s * (1.0 - y) * adversary.slope[2]
    return _entropy(guess, some.a, rows)


def _entropy(logits, labels, weights):
    losses = optax.sigmoid_binary_cross_entropy(logits, labels.astype(logits.dtype))
    total = jnp.sum(weights)
    return jnp.sum(weights * losses) / jnp.where(total > 0, total, 1.0)


def _candidate(state: State, member: Int[Array, ""]) -> Flat:
    del member
    return state.variables


METHOD = Method(init, step, _candidate, steps, functools.partial(evaluation_mode, candidate=_candidate))
"""Zhang et al.'s adversarial debiasing as a method."""
