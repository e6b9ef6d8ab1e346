"""Bias gradient descent/ascent (Algorithm 2): a few epochs down the proxy towards 0."""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from fairjax.debias.descent import descend, fold
from fairjax.hyperparameters import check_at_least, check_choice, check_positive, static
from fairjax.loop import Method, Parts, Task, sign_of_bias
from fairjax.nn.flat import Flat
from fairjax.objective import Evaluation
from fairjax.parity import num_classes, of_mini_batches, proxy
from fairjax.training import shuffled
from fairjax.types import KeyArray, Number, Rows, Variables


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class BiasGda:
    """Gradient descent on sgn(mu_0) * proxy, from the trained network (Algorithm 2)."""

    learning_rate: Number = 1e-5
    """Step size (eta)."""
    batch_size: int = static(256)
    """Rows of a mini-batch (M), drawn without replacement; an epoch's last one is filled up with rows of its first."""
    epochs: int = static(100)
    """Passes over the part: 100 over train (paper) or 200 over valid (authors' code)."""
    part: Literal["train", "valid"] = static("train")
    """The part that mini-batches are drawn from."""
    optimiser: Literal["adam", "sgd"] = static("adam")
    """Adam (authors' code) or plain gradient descent (Algorithm 2 as printed)."""
    evaluations: int = static(1)
    """Candidates an epoch, evenly spaced over its mini-batches."""
    candidates: Literal["evaluation", "training"] = static("evaluation")
    """Candidates are evaluated with dropout off and running statistics, or as they train (authors' code)."""

    def __post_init__(self):
        """Refuse values that mean nothing."""
        check_choice("part", self.part, ("train", "valid"))
        check_choice("optimiser", self.optimiser, ("adam", "sgd"))
        check_choice("candidates", self.candidates, ("evaluation", "training"))
        check_positive("learning_rate", self.learning_rate)
        check_at_least("batch_size", self.batch_size, 2)
        check_at_least("epochs", self.epochs, 1)
        check_at_least("evaluations", self.evaluations, 1)


class State(NamedTuple):
    """Fine-tuning between candidates."""

    variables: Flat
    optimiser: optax.OptState
    sign: Float[Array, ""]
    """Sign of the network's bias on validation data before fine-tuning."""
    key: KeyArray
    step: Int[Array, ""]
    """Candidates made."""


def init(
    task: Task, config: BiasGda, key: KeyArray, variables: Variables, parts: Parts, evaluation: Evaluation
) -> State:
    """The sign of the bias says whether to descend or to ascend."""
    del task, parts
    flat = Flat.of(variables)
    return State(flat, _optimiser(config).init(flat.params), sign_of_bias(evaluation), key, jnp.zeros((), jnp.int32))


def step(task: Task, config: BiasGda, parts: Parts, state: State) -> State:
    """One epoch, or its share if there are several candidates an epoch."""
    batch = getattr(parts, config.part)
    epoch, share = state.step // config.evaluations, state.step % config.evaluations
    of_order, of_dropout, _ = jax.random.split(jax.random.fold_in(state.key, epoch), 3)
    batches = shuffled(of_order, jnp.arange(batch.y.shape[0]), config.batch_size)
    each = batches.shape[0] // config.evaluations
    if each == 0:
        raise ValueError(
            f"evaluations = {config.evaluations} exceeds the {batches.shape[0]} mini-batches of an epoch over the "
            f"{config.part} part ({batch.y.shape[0]} rows); lower evaluations or batch_size"
        )
    rows = jax.lax.dynamic_slice_in_dim(batches, share * each, each)
    measure = of_mini_batches(task.measure, config.batch_size, batch.y.shape[0])

    def signed_proxy(logits, some: Rows):
        return state.sign * proxy(measure, logits, some), None

    flat, optimiser, _ = descend(
        task.network.apply,
        signed_proxy,
        _optimiser(config),
        state.variables,
        state.optimiser,
        batch,
        rows,
        fold(of_dropout, each, share * each),
        num_classes=num_classes(task.measure),
    )
    return state._replace(variables=flat, optimiser=optimiser, step=state.step + 1)


def steps(config: BiasGda, variables: Variables) -> int:
    """Candidates over all epochs."""
    del variables
    return config.epochs * config.evaluations


def logits(task: Task, config: BiasGda, state: State, x: Float[Array, "n d"]) -> Float[Array, "1 n *c"]:
    """Of the candidate, in the mode that the configuration asks for."""
    variables = state.variables.variables()
    if config.candidates == "evaluation":
        return task.network.apply(variables, x)[0][None]
    return task.network.apply(variables, x, key=jax.random.fold_in(state.key, -1 - state.step))[0][None]


def _candidate(state: State, member: Int[Array, ""]) -> Flat:
    del member
    return state.variables


def _optimiser(config: BiasGda) -> optax.GradientTransformation:
    return optax.adam(config.learning_rate) if config.optimiser == "adam" else optax.sgd(config.learning_rate)


METHOD = Method(init, step, _candidate, steps, logits, row_by_row=lambda config: config.candidates == "evaluation")
"""Algorithm 2 as a method."""
