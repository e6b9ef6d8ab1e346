"""Random perturbation: draws of multiplicative noise on every parameter, the best of which is kept."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fairjax.hyperparameters import check_at_least, check_positive, static
from fairjax.loop import Method, Parts, Task
from fairjax.nn.flat import Flat
from fairjax.objective import Evaluation
from fairjax.types import KeyArray, Number, Variables


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomPerturbation:
    """Multiply every parameter by noise N(1, deviation^2), many times.

    The threshold of a draw maximises the selection rule's score, as the baseline's authors have it, and not balanced
    accuracy.

    References:
        Savani, White, Govindarajulu (2020), Intra-processing methods for debiasing neural networks, NeurIPS,
        https://arxiv.org/abs/2006.08564
    """

    draws: int = static(500)
    """Networks drawn."""
    deviation: Number = 0.1
    """Standard deviation of the factors: 0.1 for the N(1, 0.01) of the paper, which names the variance."""
    batch: int = static(1)
    """Draws evaluated side by side: more of them fill an accelerator, one fits into a CPU's caches. The numbers are the
    same. If the draws are no multiple of it, the last step is filled up with the network as it came."""

    def __post_init__(self):
        """Refuse values that mean nothing."""
        check_at_least("draws", self.draws, 1)
        check_at_least("batch", self.batch, 1)
        check_positive("deviation", self.deviation)


class State(NamedTuple):
    """The draws of a step."""

    original: Flat
    params: Float[Array, "batch p"]
    """Parameters of the draws that are evaluated."""
    key: KeyArray
    step: Int[Array, ""]


def init(
    task: Task, config: RandomPerturbation, key: KeyArray, variables: Variables, parts: Parts, evaluation: Evaluation
) -> State:
    """No draw yet."""
    del task, parts, evaluation
    flat = Flat.of(variables)
    return State(flat, jnp.tile(flat.params, (config.batch, 1)), key, jnp.zeros((), jnp.int32))


def step(task: Task, config: RandomPerturbation, parts: Parts, state: State) -> State:
    """The next draws, each with a key of its own number."""
    del task, parts
    original = state.original.params

    def draw(number):
        noise = jax.random.normal(jax.random.fold_in(state.key, number), original.shape, original.dtype)
        return jnp.where(number < config.draws, original * (1.0 + config.deviation * noise), original)

    numbers = state.step * config.batch + jnp.arange(config.batch, dtype=state.step.dtype)
    return state._replace(params=jax.vmap(draw)(numbers), step=state.step + 1)


def steps(config: RandomPerturbation, variables: Variables) -> int:
    """Draws by batches."""
    del variables
    return -(-config.draws // config.batch)


def logits(task: Task, config: RandomPerturbation, state: State, x: Float[Array, "n d"]) -> Float[Array, "batch n"]:
    """Of every draw, in evaluation mode."""
    del config

    def one(params):
        return task.network.apply(dataclasses.replace(state.original, params=params).variables(), x)[0]

    return jax.vmap(one)(state.params)


def _candidate(state: State, member: Int[Array, ""]) -> Flat:
    return dataclasses.replace(state.original, params=state.params[member])


METHOD = Method(init, step, _candidate, steps, logits, members=lambda config: config.batch, threshold="rule")
"""Random perturbation as a method."""
