"""Fine-tuning with a composed loss: class-balanced cross-entropy + a weight times the proxy.

Where bias gradient descent looks at the bias alone, here the labels hold accuracy up while the proxy pulls the bias
down. The weight decides between the two, and no weight is right for all data, so a path of weights is tuned side by
side and every weight's network of every epoch is a candidate. Or each weight is adapted, as the multiplier of a
constraint.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from fairjax.checks import nan_unless
from fairjax.debias.descent import descend, fold
from fairjax.hyperparameters import check_at_least, check_choice, check_positive, static
from fairjax.loop import Method, Parts, Task, sign_of_bias
from fairjax.nn.flat import Flat
from fairjax.objective import Evaluation
from fairjax.parity import num_classes, of_mini_batches, proxy
from fairjax.training import check_targets, cross_entropies, shuffled, weighted_mean
from fairjax.types import KeyArray, Number, Rows, Variables, weights_of


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTuning:
    """Descend class-balanced cross-entropy + weight * penalty(proxy), for a path of weights side by side.

    With the absolute penalty the loss is least where the proxy is 0. With the signed one it is the Lagrangian of
    cross-entropy under the constraint that the proxy is 0: each weight has its own compromise, on either side of 0, and
    the gradient has no bias from the noise of mini-batches, which |.| turns into a penalty of its own.
    """

    weights: tuple[Number, ...] = (1.0, 4.0)
    """Weights of the penalty, each a network of its own; with multipliers, where they start."""
    penalty: Literal["absolute", "signed"] = static("absolute")
    """|proxy|, or sgn(mu_0) * proxy with the bias mu_0 of the network as it came."""
    weighting: Literal["fixed", "multiplier"] = static("fixed")
    """Weights stay, or follow the constraint epoch by epoch (dual ascent)."""
    multiplier_rate: Number = 2.0
    """Step size of multipliers: change of the weight for an epoch and unit of penalty."""
    learning_rate: Number = 1e-4
    """Adam's step size."""
    batch_size: int = static(256)
    """Rows of a mini-batch, drawn without replacement; an epoch's last one is filled up with rows of its first."""
    epochs: int = static(20)
    """Passes over the part."""
    part: Literal["train", "valid"] = static("train")
    """The part that mini-batches are drawn from."""
    layers: tuple[str, ...] | None = static(None)
    """Tune only these layers, by their names in the network's parameters; all if omitted."""

    def __post_init__(self):
        """Refuse values that mean nothing."""
        if len(self.weights) == 0:
            raise ValueError("weights must hold at least one weight of |proxy|, got none")
        for weight in self.weights:
            if isinstance(weight, int | float) and not weight >= 0:
                raise ValueError(f"weights must not be negative, got {weight}")
        check_choice("weighting", self.weighting, ("fixed", "multiplier"))
        check_choice("part", self.part, ("train", "valid"))
        check_choice("penalty", self.penalty, ("absolute", "signed"))
        for name in ("multiplier_rate", "learning_rate"):
            check_positive(name, getattr(self, name))
        check_at_least("batch_size", self.batch_size, 2)
        check_at_least("epochs", self.epochs, 1)


class State(NamedTuple):
    """Fine-tuning between epochs; a leading axis of weights on the first three."""

    variables: Flat
    optimiser: optax.OptState
    weights: Float[Array, " members"]
    sign: Float[Array, ""]
    """Sign of the network's bias on validation data before fine-tuning."""
    key: KeyArray
    epoch: Int[Array, ""]
    """Epochs done."""


def init(
    task: Task, config: FineTuning, key: KeyArray, variables: Variables, parts: Parts, evaluation: Evaluation
) -> State:
    """The same network for every weight."""
    del task, parts
    flat = Flat.of(variables)
    weights = jnp.stack([jnp.asarray(weight, flat.params.dtype) for weight in config.weights])
    begun = flat, optax.adam(config.learning_rate).init(flat.params)
    flat, optimiser = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(weights), *leaf.shape)), begun)
    return State(flat, optimiser, weights, sign_of_bias(evaluation), key, jnp.zeros((), jnp.int32))


def step(task: Task, config: FineTuning, parts: Parts, state: State) -> State:
    """One epoch of every weight; all of them see the same mini-batches and dropout."""
    batch = getattr(parts, config.part)
    of_order, of_dropout = jax.random.split(jax.random.fold_in(state.key, state.epoch))
    batches = shuffled(of_order, jnp.arange(batch.y.shape[0]), config.batch_size)
    keys = fold(of_dropout, batches.shape[0])
    shares = class_shares(batch, num_classes(task.measure))
    measure = of_mini_batches(task.measure, config.batch_size, batch.y.shape[0])

    def one(flat: Flat, optimiser, weight):
        def loss(logits, some: Rows):
            bias = proxy(measure, logits, some)
            penalty = jnp.abs(bias) if config.penalty == "absolute" else state.sign * bias
            return balanced_cross_entropy(logits, some, shares) + weight * penalty, bias

        flat, optimiser, proxies = descend(
            task.network.apply,
            loss,
            optax.adam(config.learning_rate),
            flat,
            optimiser,
            batch,
            batches,
            keys,
            layers=config.layers,
            num_classes=num_classes(task.measure),
        )
        if config.weighting == "multiplier":
            known = ~jnp.isnan(proxies)  # of mini-batches that have the groups
            mean = jnp.sum(proxies, where=known) / jnp.maximum(jnp.sum(known, dtype=proxies.dtype), 1.0)
            violated = jnp.abs(mean) if config.penalty == "absolute" else state.sign * mean
            weight = weight + config.multiplier_rate * violated
        return flat, optimiser, weight

    flat, optimiser, weights = jax.vmap(one)(state.variables, state.optimiser, state.weights)
    return State(flat, optimiser, weights, state.sign, state.key, state.epoch + 1)


def class_shares(batch: Rows, num_classes: int = 2) -> Float[Array, " c"]:
    """The share of each class among the rows, weighted if they are.

    Example:
        >>> from fairjax.types import Batch
        >>> class_shares(Batch(jnp.ones((4, 1)), jnp.array([True, False, False, False]), jnp.ones(4, bool))).tolist()
        [0.75, 0.25]
    """
    kind = jnp.result_type(float)
    if num_classes == 2:
        positives = weighted_mean(batch.y.astype(kind), weights_of(batch))
        return jnp.stack([1.0 - positives, positives])
    return jnp.stack([weighted_mean((batch.y == k).astype(kind), weights_of(batch)) for k in range(num_classes)])


def balanced_cross_entropy(
    logits: Float[Array, " m"] | Float[Array, "m c"], batch: Rows, shares: Float[Array, " c"]
) -> Float[Array, ""]:
    """Cross-entropy in which all classes weigh the same, whatever their shares; in nats.

    Args:
        logits: of a mini-batch.
        batch: the mini-batch; its labels and weights are looked at.
        shares: the share of each class in the data that mini-batches are drawn from; see `class_shares`.

    Returns:
        A scalar whose expectation over mini-batches is the mean of the classes' mean cross-entropies.
    """
    count, shares = shares.shape[0], shares.astype(logits.dtype)
    of_class = jnp.where(batch.y, shares[1], shares[0]) if count == 2 else shares[batch.y]
    valid = check_targets(logits, batch)
    loss = weighted_mean(1.0 / count / of_class * cross_entropies(logits, batch.y), weights_of(batch))
    return nan_unless(valid, loss)


def steps(config: FineTuning, variables: Variables) -> int:
    """One an epoch."""
    del variables
    return config.epochs


def logits(task: Task, config: FineTuning, state: State, x: Float[Array, "n d"]) -> Float[Array, "members n *c"]:
    """Of every weight's network, in evaluation mode."""
    del config
    return jax.vmap(lambda flat: task.network.apply(flat.variables(), x)[0])(state.variables)


def _candidate(state: State, member: Int[Array, ""]) -> Flat:
    return jax.tree.map(lambda leaf: leaf[member], state.variables)


METHOD = Method(init, step, _candidate, steps, logits, members=lambda config: len(config.weights))
"""Fine-tuning as a method."""
