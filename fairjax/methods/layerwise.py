"""Layerwise optimisation: black-box search over the parameters of each layer in turn, for the rule's score itself."""

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fairjax.hyperparameters import check_at_least, check_positive, static
from fairjax.methods.base import Method, Parts, Task, method
from fairjax.nn.flat import FlatVariables
from fairjax.selection import Evaluation
from fairjax.types import KeyArray, Number, Variables


class LayerwiseState(NamedTuple):
    """State of the search in a layer."""

    original: FlatVariables
    search: Any
    """State of evosax's strategy."""
    population: Float[Array, "members p"]
    """Changes of the parameters, in units of the layer's root mean square."""
    params: Float[Array, "members p"]
    """Parameters of the candidates."""
    key: KeyArray
    step: Int[Array, ""]


@method
class LayerwiseOptimisation(Method):
    """Zeroth-order search over each layer's parameters in turn, with the other layers as in the original network.

    The search is evosax's separable natural evolution strategy. The fitness of candidates within the bound is the
    selection rule's score; candidates beyond the bound rank after them, by |bias| (Deb's feasibility rules). The
    method's authors search with gradient-boosted trees, which cannot run in parallel for many seeds.

    References:
        Savani, White, Govindarajulu (2020), Intra-processing methods for debiasing neural networks, NeurIPS,
        https://arxiv.org/abs/2006.08564
        Deb (2000), An efficient constraint handling method for genetic algorithms,
        https://doi.org/10.1016/S0045-7825(99)00389-8
    """

    label: ClassVar[str] = "Layerwise search"
    reference: ClassVar[str] = "Savani et al. 2020"
    equation: ClassVar[str] = (
        "maximise the rule's score over one layer's parameters after another, by an evolution strategy"
    )
    threshold: ClassVar[Literal["accuracy", "rule"]] = "rule"
    stream: ClassVar[int | None] = 5

    generations: int = static(5)
    """Generations of the search in a layer."""
    population: int = static(10)
    """Candidates per generation."""
    deviation: Number = 0.3
    """Initial standard deviation of the search, relative to the root mean square of a layer's parameters."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_at_least("generations", self.generations, 1)
        check_at_least("population", self.population, 4)
        check_positive("deviation", self.deviation)

    def init(
        self, task: Task, key: KeyArray, variables: Variables, parts: Parts, evaluation: Evaluation
    ) -> LayerwiseState:
        """Start from the original network, before the first generation."""
        del task, parts, evaluation
        flat = FlatVariables.ravel(variables)
        params = jnp.tile(flat.params, (self.population, 1))
        search = self._begin(flat.params.shape[0])
        return LayerwiseState(flat, search, jnp.zeros_like(params), params, key, jnp.zeros((), jnp.int32))

    def step(self, task: Task, parts: Parts, state: LayerwiseState) -> LayerwiseState:
        """Draw the next generation; the search in each layer starts at the original network."""
        del task, parts
        original, layers = state.original.params, _layers(state.original)
        layer, generation = jnp.divmod(state.step, self.generations)
        strategy, constants = self._strategy(original.shape[0])
        initial = self._begin(original.shape[0])
        search = jax.tree.map(lambda new_leaf, leaf: jnp.where(generation == 0, new_leaf, leaf), initial, state.search)
        with jax.numpy_rank_promotion("allow"):  # evosax promotes ranks
            population, search = strategy.ask(jax.random.fold_in(state.key, 2 * state.step), search, constants)
        in_layer = jnp.asarray(layers, layer.dtype) == layer
        size = jnp.sqrt(jnp.mean(original**2, where=in_layer))
        params = original[None] + jnp.where(in_layer[None], size * population, 0.0)
        return state._replace(search=_strong(search), population=population, params=params, step=state.step + 1)

    def tell(
        self,
        state: LayerwiseState,
        evaluation: Evaluation,
        score: Float[Array, " members"],
        bound: Number,
    ) -> LayerwiseState:
        """Update the search with the fitness of the candidates."""
        inside = jnp.abs(evaluation.bias) < bound
        fitness = jnp.where(inside, -score, jnp.abs(evaluation.bias))  # lower is better
        strategy, constants = self._strategy(state.original.params.shape[0])
        key = jax.random.fold_in(state.key, 2 * state.step + 1)
        with jax.numpy_rank_promotion("allow"):  # evosax promotes ranks
            search, _ = strategy.tell(key, state.population, fitness, state.search, constants)
        return state._replace(search=_strong(search))

    @property
    def members(self) -> int:
        """Number of candidates per step, those of a generation."""
        return self.population

    def candidate(self, state: LayerwiseState, member: Int[Array, ""]) -> FlatVariables:
        """Return the network with a candidate's parameters."""
        return dataclasses.replace(state.original, params=state.params[member])

    def total_steps(self, variables: Variables) -> int:
        """Return the number of generations over all layers."""
        return self.generations * len(_names(variables["params"]))

    def _strategy(self, size: int):
        """Make evosax's strategy and its constants."""
        try:
            from evosax.algorithms import SNES
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                'layerwise optimisation searches with evosax: install it with `pip install "fairjax[search]"`'
            ) from error
        strategy = SNES(population_size=self.population, solution=jnp.zeros(size))
        return strategy, strategy.default_params.replace(std_init=jnp.asarray(self.deviation, jnp.result_type(float)))

    def _begin(self, size: int):
        """Make the state of a search that starts at the original network."""
        strategy, constants = self._strategy(size)
        return _strong(strategy.init(jax.random.key(0), jnp.zeros(size), constants))


def _names(params: Any) -> list[str]:
    """Return the names of the layers, which are the top-level entries of the parameters in their order."""
    return sorted(params) if isinstance(params, dict) else ["all"]


def _layers(flat: FlatVariables) -> np.ndarray:
    """Return the number of the layer that each parameter belongs to, known when tracing."""
    params = jax.eval_shape(flat.variables)["params"]
    if not isinstance(params, dict):
        return np.zeros(flat.params.shape[0], np.int32)
    sizes = [sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params[name])) for name in _names(params)]
    return np.repeat(np.arange(len(sizes)), sizes)


def _strong(tree: Any) -> Any:
    """Drop weak types, so that the types of the state do not change between steps."""
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, jnp.asarray(leaf).dtype), tree)
