"""Fine-tuning with a composed loss: class-balanced cross-entropy plus a weighted penalty of the proxy.

Bias gradient descent optimises the bias alone; here the cross-entropy preserves accuracy while the penalty reduces the
bias. The weight determines the compromise. No weight is right for all data, so networks for a path of weights are tuned
in parallel, and each weight gives one candidate per epoch. Alternatively, each weight is adapted as the multiplier of a
constraint.
"""

from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from fairjax.hyperparameters import check_at_least, check_choice, check_positive, static
from fairjax.losses import BalancedCrossEntropy, Data, Loss, ParityPenalty, TermState
from fairjax.methods.base import Method, Parts, Task, method, sign_of_bias
from fairjax.methods.gradient_steps import Progress, batch_keys, composed_steps
from fairjax.metrics import num_classes, num_groups
from fairjax.nn.flat import FlatVariables
from fairjax.selection import Evaluation
from fairjax.training import shuffled
from fairjax.types import KeyArray, Number, Variables


class FineTuningState(NamedTuple):
    """State of fine-tuning between epochs; the first three fields have a leading axis of weights."""

    variables: FlatVariables
    optimiser: optax.OptState
    weights: Float[Array, " members"]
    sign: Float[Array, ""]
    """Sign of the network's bias on validation data before fine-tuning."""
    key: KeyArray
    epoch: Int[Array, ""]
    """Number of epochs done."""


@method
class FineTuning(Method):
    """Descend class-balanced cross-entropy + weight * penalty(proxy), for a path of weights in parallel.

    The absolute penalty is least where the proxy is 0. With the signed penalty, the loss is the Lagrangian of the
    cross-entropy under the constraint that the proxy is 0: each weight gives a different compromise, in which the proxy
    may have either sign, and the gradient is not biased by the noise of mini-batches, whereas the absolute value
    penalises this noise too.
    """

    label: ClassVar[str] = "Fine-tuning"
    reference: ClassVar[str] = "fairjax"
    equation: ClassVar[str] = "minimise class-balanced cross-entropy + weight * |proxy|, for a path of weights"
    stream: ClassVar[int | None] = 11

    weights: tuple[Number, ...] = (1.0, 4.0)
    """Weights of the penalty, one network per weight; with multipliers, their initial values."""
    penalty: Literal["absolute", "signed"] = static("absolute")
    """Form of the penalty: |proxy|, or sgn(mu_0) * proxy with the bias mu_0 of the original network."""
    weighting: Literal["fixed", "multiplier"] = static("fixed")
    """Whether weights are fixed or updated after every epoch by dual ascent."""
    multiplier_rate: Number = 2.0
    """Step size of multipliers: change of the weight per epoch and unit of penalty."""
    learning_rate: Number = 1e-4
    """Adam's step size."""
    batch_size: int = static(256)
    """Rows per mini-batch, drawn without replacement; an epoch's last batch is filled up with rows of the first."""
    epochs: int = static(20)
    """Passes over the part."""
    part: Literal["train", "valid"] = static("train")
    """The part from which mini-batches are drawn."""
    layers: tuple[str, ...] | None = static(None)
    """Layers to tune, by their names in the network's parameters, with dots between nested names; all if omitted."""

    def __post_init__(self):
        """Validate the hyperparameters."""
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

    def init(
        self, task: Task, key: KeyArray, variables: Variables, parts: Parts, evaluation: Evaluation
    ) -> FineTuningState:
        """Start from the original network for every weight."""
        del task, parts
        flat = FlatVariables.ravel(variables)
        weights = jnp.stack([jnp.asarray(weight, flat.params.dtype) for weight in self.weights])
        initial = flat, optax.adam(self.learning_rate).init(flat.params)
        flat, optimiser = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(weights), *leaf.shape)), initial)
        return FineTuningState(flat, optimiser, weights, sign_of_bias(evaluation), key, jnp.zeros((), jnp.int32))

    def step(self, task: Task, parts: Parts, state: FineTuningState) -> FineTuningState:
        """Run one epoch for every weight, with the same mini-batches and dropout for all weights."""
        batch = getattr(parts, self.part)
        order_key, dropout_key = jax.random.split(jax.random.fold_in(state.key, state.epoch))
        batches = shuffled(order_key, jnp.arange(batch.y.shape[0]), self.batch_size)
        keys = batch_keys(dropout_key, batches.shape[0])
        facts = Data(batch, num_groups(task.measure, batch.a), num_classes(task.measure), self.batch_size, task.measure)

        def tune(flat: FlatVariables, optimiser, weight):
            penalty = ParityPenalty(weight=weight, penalty=self.penalty, sign=state.sign)
            loss = Loss(base=BalancedCrossEntropy(), terms=(penalty,)).bind(facts)
            (flat, optimiser, _), proxies = composed_steps(
                task.network,
                loss,
                optax.adam(self.learning_rate),
                Progress(flat, optimiser, TermState.empty(loss)),
                batch,
                batches,
                keys,
                layers=self.layers,
                num_classes=facts.num_classes,
                record=loss.terms[0].bias,
            )
            if self.weighting == "multiplier":
                defined = ~jnp.isnan(proxies)  # NaN for mini-batches that lack a group
                mean = jnp.sum(proxies, where=defined) / jnp.maximum(jnp.sum(defined, dtype=proxies.dtype), 1.0)
                violation = jnp.abs(mean) if self.penalty == "absolute" else state.sign * mean
                weight = weight + self.multiplier_rate * violation
            return flat, optimiser, weight

        flat, optimiser, weights = jax.vmap(tune)(state.variables, state.optimiser, state.weights)
        return FineTuningState(flat, optimiser, weights, state.sign, state.key, state.epoch + 1)

    @property
    def members(self) -> int:
        """Number of candidates per step, one per weight."""
        return len(self.weights)

    def candidate(self, state: FineTuningState, member: Int[Array, ""]) -> FlatVariables:
        """Return the network of one weight."""
        return jax.tree.map(lambda leaf: leaf[member], state.variables)

    def total_steps(self, variables: Variables) -> int:
        """Return the number of steps, one per epoch."""
        del variables
        return self.epochs


@method
class LastLayer(FineTuning):
    """Fine-tuning of the last layer only, by default that of `Mlp`.

    References:
        Mao, Deng, Yao, Ye, Kawaguchi, Zou (2023), Last-layer fairness fine-tuning is simple and effective for neural
        networks, https://arxiv.org/abs/2304.03935
    """

    label: ClassVar[str] = "Last-layer fine-tuning"
    reference: ClassVar[str] = "Mao et al. 2023"
    stream: ClassVar[int | None] = 8

    learning_rate: Number = 1e-3
    """Adam's step size."""
    layers: tuple[str, ...] | None = static(("output",))
    """Layers to tune, by their names in the network's parameters, with dots between nested names."""


@method
class Lagrangian(FineTuning):
    """Fine-tuning on the Lagrangian of the constraint proxy = 0, for a path of multipliers."""

    label: ClassVar[str] = "Lagrangian fine-tuning"
    equation: ClassVar[str] = (
        "minimise class-balanced cross-entropy + weight * sgn(mu_0) * proxy, for a path of weights"
    )
    stream: ClassVar[int | None] = 12

    weights: tuple[Number, ...] = (0.25, 0.5, 1.0, 2.0)
    """Weights of the penalty, one network per weight; with multipliers, their initial values."""
    penalty: Literal["absolute", "signed"] = static("signed")
    """Form of the penalty: |proxy|, or sgn(mu_0) * proxy with the bias mu_0 of the original network."""
