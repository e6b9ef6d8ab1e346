"""Random perturbation: multiply every parameter by random noise, many times, and keep the best draw."""

import dataclasses
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fairjax.hyperparameters import check_at_least, check_positive, static
from fairjax.methods.base import Method, Parts, Task, method
from fairjax.nn.flat import FlatVariables
from fairjax.selection import Evaluation
from fairjax.types import KeyArray, Number, Variables


class RandomPerturbationState(NamedTuple):
    """State with the draws of a step."""

    original: FlatVariables
    params: Float[Array, "batch p"]
    """Parameters of the draws that are evaluated."""
    key: KeyArray
    step: Int[Array, ""]


@method
class RandomPerturbation(Method):
    """Multiply every parameter by noise N(1, deviation^2), many times.

    As in the code of the baseline's authors, the threshold of a draw maximises the selection rule's score instead of
    balanced accuracy.

    References:
        Savani, White, Govindarajulu (2020), Intra-processing methods for debiasing neural networks, NeurIPS,
        https://arxiv.org/abs/2006.08564
    """

    label: ClassVar[str] = "Random"
    reference: ClassVar[str] = "Savani et al. 2020"
    equation: ClassVar[str] = "theta * N(1, deviation^2), a new draw for every candidate"
    threshold: ClassVar[Literal["accuracy", "rule"]] = "rule"
    stream: ClassVar[int | None] = 4

    draws: int = static(500)
    """Number of networks drawn."""
    deviation: Number = 0.1
    """Standard deviation of the factors: 0.1 for the N(1, 0.01) of the paper, which names the variance."""
    batch: int = static(1)
    """Draws evaluated in parallel: many make use of an accelerator, one fits into a CPU's caches. The results are the
    same. If `draws` is not a multiple of it, the last step is filled up with the original network."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_at_least("draws", self.draws, 1)
        check_at_least("batch", self.batch, 1)
        check_positive("deviation", self.deviation)

    def init(
        self, task: Task, key: KeyArray, variables: Variables, parts: Parts, evaluation: Evaluation
    ) -> RandomPerturbationState:
        """Start from the original network, before the first draw."""
        del task, parts, evaluation
        flat = FlatVariables.ravel(variables)
        return RandomPerturbationState(flat, jnp.tile(flat.params, (self.batch, 1)), key, jnp.zeros((), jnp.int32))

    def step(self, task: Task, parts: Parts, state: RandomPerturbationState) -> RandomPerturbationState:
        """Make the next draws, each with a key derived from the number of the draw."""
        del task, parts
        original = state.original.params

        def draw(number):
            noise = jax.random.normal(jax.random.fold_in(state.key, number), original.shape, original.dtype)
            return jnp.where(number < self.draws, original * (1.0 + self.deviation * noise), original)

        numbers = state.step * self.batch + jnp.arange(self.batch, dtype=state.step.dtype)
        return state._replace(params=jax.vmap(draw)(numbers), step=state.step + 1)

    @property
    def members(self) -> int:
        """Number of draws evaluated in parallel."""
        return self.batch

    def candidate(self, state: RandomPerturbationState, member: Int[Array, ""]) -> FlatVariables:
        """Return the network with a candidate's parameters."""
        return dataclasses.replace(state.original, params=state.params[member])

    def total_steps(self, variables: Variables) -> int:
        """Return the number of batches of draws."""
        del variables
        return -(-self.draws // self.batch)
