"""Adversarial debiasing: an adversary predicts the group from the output, and its gradient is projected out."""

from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from fairjax.hyperparameters import check_at_least, check_choice, check_positive, static
from fairjax.losses import Adversary, Data, Loss
from fairjax.methods.base import Method, Parts, Task, method
from fairjax.methods.composed_epochs import ComposedState, initial_state, run_epoch
from fairjax.metrics import Measure, num_classes, num_groups, of_mini_batches
from fairjax.selection import Evaluation
from fairjax.types import KeyArray, Number, Rows, Variables


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
    ) -> ComposedState:
        """Start from the original network and an untrained adversary."""
        del evaluation
        groups, classes = num_groups(task.measure, parts.train.a), num_classes(task.measure)
        if (groups, classes) != (2, 2):
            raise ValueError(
                "adversarial debiasing predicts one of two groups from the score of two classes, found "
                f"{groups} groups and {classes} classes: choose another method, such as fine_tuning"
            )
        batch = getattr(parts, self.part)
        return initial_state(
            task,
            self.loss(task, batch),
            variables,
            batch,
            terms_key=key,  # not used, since the adversary starts from 0
            epochs_key=key,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
        )

    def step(self, task: Task, parts: Parts, state: ComposedState) -> ComposedState:
        """Run one epoch, updating network and adversary at every mini-batch."""
        batch = getattr(parts, self.part)
        state, _ = run_epoch(
            task,
            self.loss(task, batch),
            state,
            batch,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
        )
        return state

    def total_steps(self, variables: Variables) -> int:
        """Return the number of steps, one per epoch."""
        del variables
        return self.epochs

    def loss(self, task: Task, batch: Rows) -> Loss:
        """Return the composed loss, whose only term is the adversary.

        Args:
            task: network and measure; the measure determines what the adversary sees, unless `adversary` does.
            batch: the rows from which mini-batches are drawn.
        """
        adversary = Adversary(
            weight=self.weight,
            layer="output",
            how="projected",
            form="logistic",
            own_rate=self.adversary_rate,
            notion=self.adversary or ("parity" if _depends_on_negatives(task.measure) else "opportunity"),
            balanced=False,
        )
        return Loss(terms=(adversary,)).bind(Data(batch, batch_size=self.batch_size, measure=task.measure))


def _depends_on_negatives(measure: Measure) -> bool:
    """Return whether the decisions on negatives change a measure."""
    measure = of_mini_batches(measure, 1, 2**30)  # for four rows, ignoring the minimal number of rows
    with jax.ensure_compile_time_eval():
        y, a = jnp.array([True, True, False, False]), jnp.array([True, False, True, False])
        return bool(jnp.any(jax.grad(measure)(jnp.full(4, 0.5), y, a)[2:] != 0))
