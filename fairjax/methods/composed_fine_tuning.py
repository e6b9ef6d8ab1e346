"""Fine-tuning of a trained network with any composed loss."""

from typing import ClassVar, Literal

import jax

from fairjax.hyperparameters import check_at_least, check_choice, check_positive, static
from fairjax.losses import BalancedCrossEntropy, Data, Loss, ParityPenalty
from fairjax.methods.base import Method, Parts, Task, method
from fairjax.methods.composed_epochs import ComposedState, initial_state, run_epoch
from fairjax.metrics import num_classes, num_groups
from fairjax.selection import Evaluation
from fairjax.types import KeyArray, Number, Rows, Variables


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
    ) -> ComposedState:
        """Start from the original network, and from new parameters of the terms."""
        del evaluation
        batch, (terms_key, epochs_key) = getattr(parts, self.part), jax.random.split(key)
        return initial_state(
            task,
            self._bound(task, batch),
            variables,
            batch,
            terms_key=terms_key,
            epochs_key=epochs_key,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
        )

    def step(self, task: Task, parts: Parts, state: ComposedState) -> ComposedState:
        """Run one epoch."""
        batch = getattr(parts, self.part)
        return run_epoch(
            task,
            self._bound(task, batch),
            state,
            batch,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            layers=self.layers,
        )

    def total_steps(self, variables: Variables) -> int:
        """Return the number of steps, one per epoch."""
        del variables
        return self.epochs

    def _bound(self, task: Task, batch: Rows) -> Loss:
        """Return the loss with the measure, groups and classes of the task."""
        groups, classes = num_groups(task.measure, batch.a), num_classes(task.measure)
        return self.loss.bind(Data(batch, groups, classes, self.batch_size, task.measure))
