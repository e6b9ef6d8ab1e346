"""Bias gradient descent/ascent (Algorithm 2): a few epochs of gradient steps that move the proxy towards 0."""

from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from fairjax.hyperparameters import check_at_least, check_choice, check_positive, static
from fairjax.methods.base import Method, Parts, Task, method, sign_of_bias
from fairjax.methods.gradient_steps import batch_keys, gradient_steps
from fairjax.metrics import num_classes, of_mini_batches, proxy
from fairjax.nn.flat import FlatVariables
from fairjax.selection import Evaluation
from fairjax.training import shuffled
from fairjax.types import Inputs, KeyArray, Number, Rows, Variables


class BiasGdaState(NamedTuple):
    """State of fine-tuning between candidates."""

    variables: FlatVariables
    optimiser: optax.OptState
    sign: Float[Array, ""]
    """Sign of the network's bias on validation data before fine-tuning."""
    key: KeyArray
    step: Int[Array, ""]
    """Number of candidates that have been proposed."""


@method
class BiasGda(Method):
    """Gradient descent on sgn(mu_0) * proxy, from the trained network (Algorithm 2)."""

    label: ClassVar[str] = "Bias GD/A"
    reference: ClassVar[str] = "Marcinkevičs et al. 2022"
    equation: ClassVar[str] = "theta <- theta - eta * sgn(mu_0) * d proxy / d theta, by mini-batches (Algorithm 2)"
    axis: ClassVar[str] = "epoch"
    stream: ClassVar[int | None] = 10

    learning_rate: Number = 1e-5
    """Step size (eta)."""
    batch_size: int = static(256)
    """Rows per mini-batch (M), drawn without replacement; an epoch's last batch is filled up with rows of the first."""
    epochs: int = static(100)
    """Passes over the part: 100 over train (paper) or 200 over valid (authors' code)."""
    part: Literal["train", "valid"] = static("train")
    """The part from which mini-batches are drawn."""
    optimiser: Literal["adam", "sgd"] = static("adam")
    """Adam (authors' code) or plain gradient descent (Algorithm 2 as printed)."""
    evaluations: int = static(1)
    """Candidates per epoch, evenly spaced over its mini-batches."""
    candidates: Literal["evaluation", "training"] = static("evaluation")
    """Mode of evaluation: without dropout and with running statistics, or as in training (authors' code)."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_choice("part", self.part, ("train", "valid"))
        check_choice("optimiser", self.optimiser, ("adam", "sgd"))
        check_choice("candidates", self.candidates, ("evaluation", "training"))
        check_positive("learning_rate", self.learning_rate)
        check_at_least("batch_size", self.batch_size, 2)
        check_at_least("epochs", self.epochs, 1)
        check_at_least("evaluations", self.evaluations, 1)

    def init(
        self, task: Task, key: KeyArray, variables: Variables, parts: Parts, evaluation: Evaluation
    ) -> BiasGdaState:
        """Start from the original network; the sign of its bias determines whether to descend or to ascend."""
        del task, parts
        flat = FlatVariables.ravel(variables)
        return BiasGdaState(
            flat, self._optimiser().init(flat.params), sign_of_bias(evaluation), key, jnp.zeros((), jnp.int32)
        )

    def step(self, task: Task, parts: Parts, state: BiasGdaState) -> BiasGdaState:
        """Run one epoch, or a share of it if there are several candidates per epoch."""
        batch = getattr(parts, self.part)
        epoch, share = state.step // self.evaluations, state.step % self.evaluations
        order_key, dropout_key, _ = jax.random.split(jax.random.fold_in(state.key, epoch), 3)
        batches = shuffled(order_key, jnp.arange(batch.y.shape[0]), self.batch_size)
        steps = batches.shape[0] // self.evaluations
        if steps == 0:
            raise ValueError(
                f"evaluations = {self.evaluations} exceeds the {batches.shape[0]} mini-batches of an epoch over the "
                f"{self.part} part ({batch.y.shape[0]} rows); lower evaluations or batch_size"
            )
        rows = jax.lax.dynamic_slice_in_dim(batches, share * steps, steps)
        measure = of_mini_batches(task.measure, self.batch_size, batch.y.shape[0])

        def signed_proxy(logits, mini_batch: Rows):
            return state.sign * proxy(measure, logits, mini_batch), None

        flat, optimiser, _ = gradient_steps(
            task.network.apply,
            signed_proxy,
            self._optimiser(),
            state.variables,
            state.optimiser,
            batch,
            rows,
            batch_keys(dropout_key, steps, share * steps),
            num_classes=num_classes(task.measure),
        )
        return state._replace(variables=flat, optimiser=optimiser, step=state.step + 1)

    @property
    def rowwise(self) -> bool:
        """Whether a row's logit does not depend on other rows: false in training mode (batch normalisation)."""
        return self.candidates == "evaluation"

    def total_steps(self, variables: Variables) -> int:
        """Return the number of candidates over all epochs."""
        del variables
        return self.epochs * self.evaluations

    def logits(self, task: Task, state: BiasGdaState, x: Inputs) -> Float[Array, "1 n *c"]:
        """Compute the logits of the candidate, in the configured mode."""
        variables = state.variables.variables()
        if self.candidates == "evaluation":
            return task.network.apply(variables, x)[0][None]
        return task.network.apply(variables, x, key=jax.random.fold_in(state.key, -1 - state.step))[0][None]

    def _optimiser(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate) if self.optimiser == "adam" else optax.sgd(self.learning_rate)
