"""Fine-tuning of a trained network with any composed loss."""

from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Int

from fairjax.hyperparameters import check_at_least, check_choice, check_positive, static
from fairjax.losses import BalancedCrossEntropy, Data, Loss, ParityPenalty, TermState
from fairjax.methods.base import Method, Parts, Task, method
from fairjax.methods.gradient_steps import Progress, batch_keys, composed_steps
from fairjax.metrics import num_classes, num_groups
from fairjax.nn.flat import FlatVariables
from fairjax.selection import Evaluation
from fairjax.training import init_terms, shuffled
from fairjax.types import KeyArray, Number, Variables, take


class ComposedFineTuningState(NamedTuple):
    """State of network and terms between epochs."""

    variables: FlatVariables
    optimiser: optax.OptState
    terms: TermState
    """Parameters of the terms of the loss, such as adversaries."""
    key: KeyArray
    epoch: Int[jax.Array, ""]
    """Number of epochs done."""


@method
class ComposedFineTuning(Method):
    """Descend a composed loss from the trained network; each epoch gives one candidate.

    Example:
        >>> from fairjax.losses import CrossEntropy
        >>> method = ComposedFineTuning(loss=Loss(base=CrossEntropy(), terms=(ParityPenalty(weight=4.0),)))
        >>> method.total_steps({})
        20
    """

    label: ClassVar[str] = "Composed fine-tuning"
    reference: ClassVar[str] = "fairjax"
    equation: ClassVar[str] = "minimise the loss of the labels + sum of weight * term"
    axis: ClassVar[str] = "epoch"
    stream: ClassVar[int | None] = 13

    loss: Loss = Loss(base=BalancedCrossEntropy(), terms=(ParityPenalty(),))
    """The loss. Terms without a measure of their own take that of the task."""
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
        check_choice("part", self.part, ("train", "valid"))
        check_positive("learning_rate", self.learning_rate)
        check_at_least("batch_size", self.batch_size, 2)
        check_at_least("epochs", self.epochs, 1)

    def init(
        self, task: Task, key: KeyArray, variables: Variables, parts: Parts, evaluation: Evaluation
    ) -> ComposedFineTuningState:
        """Start from the original network, and from new parameters of the terms."""
        del evaluation
        flat, batch = FlatVariables.ravel(variables), getattr(parts, self.part)
        terms_key, epochs_key = jax.random.split(key)
        mini_batch = take(batch, jnp.arange(min(self.batch_size, batch.y.shape[0])))
        terms = init_terms(task.network, self._bound(task, batch), terms_key, flat.variables(), mini_batch)
        optimiser = optax.adam(self.learning_rate).init(flat.params)
        return ComposedFineTuningState(flat, optimiser, terms, epochs_key, jnp.zeros((), jnp.int32))

    def step(self, task: Task, parts: Parts, state: ComposedFineTuningState) -> ComposedFineTuningState:
        """Run one epoch."""
        batch = getattr(parts, self.part)
        order_key, dropout_key = jax.random.split(jax.random.fold_in(state.key, state.epoch))
        batches = shuffled(order_key, jnp.arange(batch.y.shape[0]), self.batch_size)
        (flat, optimiser, terms), _ = composed_steps(
            task.network,
            self._bound(task, batch),
            optax.adam(self.learning_rate),
            Progress(state.variables, state.optimiser, state.terms),
            batch,
            batches,
            batch_keys(dropout_key, batches.shape[0]),
            layers=self.layers,
            num_classes=num_classes(task.measure),
        )
        return ComposedFineTuningState(flat, optimiser, terms, state.key, state.epoch + 1)

    def total_steps(self, variables: Variables) -> int:
        """Return the number of steps, one per epoch."""
        del variables
        return self.epochs

    def _bound(self, task: Task, batch) -> Loss:
        """Return the loss with the measure, groups and classes of the task."""
        groups, classes = num_groups(task.measure, batch.a), num_classes(task.measure)
        return self.loss.bind(Data(batch, groups, classes, self.batch_size, task.measure))
