"""Layerwise optimisation: a black-box search of one layer's weights after another, for the objective itself."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fairjax.hyperparameters import check_at_least, check_positive, static
from fairjax.loop import Method, Parts, Task
from fairjax.nn.flat import Flat
from fairjax.objective import Evaluation
from fairjax.types import KeyArray, Number, Variables


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerwiseOptimisation:
    """Zeroth-order search of each layer's parameters in turn, the other layers as they came.

    The search is a separable natural evolution strategy, evosax's. Its fitness is the selection rule's score of
    candidates within the bound; those beyond it come after them, by |bias| (Deb's rules of feasibility). The method's
    authors search with gradient-boosted trees, which cannot run beside other seeds.

    References:
        Savani, White, Govindarajulu (2020), Intra-processing methods for debiasing neural networks, NeurIPS,
        https://arxiv.org/abs/2006.08564
        Deb (2000), An efficient constraint handling method for genetic algorithms,
        https://doi.org/10.1016/S0045-7825(99)00389-8
    """

    generations: int = static(5)
    """Generations of the search in a layer."""
    population: int = static(10)
    """Candidates of a generation."""
    deviation: Number = 0.3
    """The search's first standard deviation, as a share of the root mean square of a layer's parameters."""

    def __post_init__(self):
        """Refuse values that mean nothing."""
        check_at_least("generations", self.generations, 1)
        check_at_least("population", self.population, 4)
        check_positive("deviation", self.deviation)


class State(NamedTuple):
    """The search in a layer."""

    original: Flat
    search: Any
    """evosax's state."""
    population: Float[Array, "members p"]
    """Changes of the parameters, in units of the layer's root mean square."""
    params: Float[Array, "members p"]
    """Parameters of the candidates."""
    key: KeyArray
    step: Int[Array, ""]


def init(
    task: Task, config: LayerwiseOptimisation, key: KeyArray, variables: Variables, parts: Parts, evaluation: Evaluation
) -> State:
    """No generation yet."""
    del task, parts, evaluation
    flat = Flat.of(variables)
    params = jnp.tile(flat.params, (config.population, 1))
    search = _begin(config, flat.params.shape[0])
    return State(flat, search, jnp.zeros_like(params), params, key, jnp.zeros((), jnp.int32))


def step(task: Task, config: LayerwiseOptimisation, parts: Parts, state: State) -> State:
    """The next generation; a layer's first one begins at the network as it came."""
    del task, parts
    original, layers = state.original.params, _layers(state.original)
    layer, generation = jnp.divmod(state.step, config.generations)
    strategy, constants = _strategy(config, original.shape[0])
    begun = _begin(config, original.shape[0])
    search = jax.tree.map(lambda first, now: jnp.where(generation == 0, first, now), begun, state.search)
    with jax.numpy_rank_promotion("allow"):  # within evosax
        population, search = strategy.ask(jax.random.fold_in(state.key, 2 * state.step), search, constants)
    here = jnp.asarray(layers, layer.dtype) == layer
    size = jnp.sqrt(jnp.mean(original**2, where=here))
    params = original[None] + jnp.where(here[None], size * population, 0.0)
    return state._replace(search=_strong(search), population=population, params=params, step=state.step + 1)


def tell(
    config: LayerwiseOptimisation,
    state: State,
    evaluation: Evaluation,
    score: Float[Array, " members"],
    bound: Number,
) -> State:
    """The search moves to what scored best."""
    inside = jnp.abs(evaluation.bias) < bound
    fitness = jnp.where(inside, -score, jnp.abs(evaluation.bias))  # the lower the better
    strategy, constants = _strategy(config, state.original.params.shape[0])
    key = jax.random.fold_in(state.key, 2 * state.step + 1)
    with jax.numpy_rank_promotion("allow"):  # within evosax
        search, _ = strategy.tell(key, state.population, fitness, state.search, constants)
    return state._replace(search=_strong(search))


def steps(config: LayerwiseOptimisation, variables: Variables) -> int:
    """Generations of all layers."""
    return config.generations * len(_names(variables["params"]))


def logits(
    task: Task, config: LayerwiseOptimisation, state: State, x: Float[Array, "n d"]
) -> Float[Array, "members n"]:
    """Of the generation, in evaluation mode."""
    del config

    def one(params):
        return task.network.apply(dataclasses.replace(state.original, params=params).variables(), x)[0]

    return jax.vmap(one)(state.params)


def _names(params: Any) -> list[str]:
    """The layers: the top-level entries of the parameters, in their order."""
    return sorted(params) if isinstance(params, dict) else ["all"]


def _layers(flat: Flat) -> np.ndarray:
    """The number of the layer that each parameter belongs to, known when tracing."""
    params = jax.eval_shape(flat.variables)["params"]
    if not isinstance(params, dict):
        return np.zeros(flat.params.shape[0], np.int32)
    sizes = [sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params[name])) for name in _names(params)]
    return np.repeat(np.arange(len(sizes)), sizes)


def _strategy(config: LayerwiseOptimisation, size: int):
    """Evosax's strategy and its constants."""
    try:
        from evosax.algorithms import SNES
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'layerwise optimisation searches with evosax: install it with `pip install "fairjax[search]"`'
        ) from error
    strategy = SNES(population_size=config.population, solution=jnp.zeros(size))
    return strategy, strategy.default_params.replace(std_init=jnp.asarray(config.deviation, jnp.result_type(float)))


def _begin(config: LayerwiseOptimisation, size: int):
    """The search's state at the network as it came."""
    strategy, constants = _strategy(config, size)
    return _strong(strategy.init(jax.random.key(0), jnp.zeros(size), constants))


def _strong(tree: Any) -> Any:
    """Arrays of full type, so that the state has one type at every step."""
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, jnp.asarray(leaf).dtype), tree)


def _candidate(state: State, member: Int[Array, ""]) -> Flat:
    return dataclasses.replace(state.original, params=state.params[member])


METHOD = Method(
    init,
    step,
    _candidate,
    steps,
    logits,
    members=lambda config: config.population,
    threshold="rule",
    tell=tell,
)
"""Layerwise zeroth-order optimisation as a method."""
