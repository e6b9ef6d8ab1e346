"""Pruning (Algorithm 1): cut the hidden units that push the bias most, a few at a time."""

import dataclasses
import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

from fairjax import masks
from fairjax.hyperparameters import check_at_least, check_choice, static
from fairjax.influence import influence
from fairjax.loop import Method, Parts, Task, evaluation_mode, sign_of_bias
from fairjax.nn.flat import Flat
from fairjax.objective import Evaluation
from fairjax.types import KeyArray, Variables


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Pruning:
    """Prune the hidden units of highest influence on the bias, step by step (Algorithm 1).

    Where influence is measured and how a unit is cut belongs to the network: see `fairjax.nn.Mlp`.
    """

    schedule: Literal["units", "quantile"] = static("units")
    """`units`: so many units a step. `quantile`: those above the (1 - 1/steps)-quantile of influence (Algorithm 1)."""
    units: int = static(1)
    """Units cut in a step, for the schedule `units`."""
    steps: int | None = static(None)
    """Number of steps (B of Algorithm 1); as many as it takes to cut every unit if omitted."""
    part: Literal["train", "valid"] = static("train")
    """The part on which influence is measured: train (paper) or valid (authors' code)."""
    influence: Literal["dynamic", "static"] = static("dynamic")
    """Measured anew after every step, or once."""
    reduction: Literal["mean", "sum"] = static("mean")
    """Influence as a mean over rows (Eq. 4) or a sum (authors' code); the order of units is the same."""
    spared_layers: int = static(0)
    """So many leading layers are never cut: 0 (authors' code) or 1 (Algorithm 1 counts layers from the second)."""

    def __post_init__(self):
        """Refuse values that mean nothing."""
        check_choice("schedule", self.schedule, ("units", "quantile"))
        check_choice("part", self.part, ("train", "valid"))
        check_choice("influence", self.influence, ("dynamic", "static"))
        check_choice("reduction", self.reduction, ("mean", "sum"))
        check_at_least("units", self.units, 1)
        check_at_least("steps", 1 if self.steps is None else self.steps, 1)
        check_at_least("spared_layers", self.spared_layers, 0)


class State(NamedTuple):
    """Pruning between steps."""

    variables: Flat
    """The network; only its masks change."""
    sign: Float[Array, ""]
    """Sign of the network's bias on validation data before pruning."""
    scores: PyTree[Float[Array, "_"]]
    """Signed influence of the network as it came, for static pruning."""


def init(
    task: Task, config: Pruning, key: KeyArray, variables: Variables, parts: Parts, evaluation: Evaluation
) -> State:
    """The sign of the bias fixes the order: units that push it further from 0 come first."""
    del key
    sign = sign_of_bias(evaluation)
    scores = jax.tree.map(lambda keep: jnp.zeros(keep.shape), variables["masks"])
    if config.influence == "static":
        scores = _signed_influence(task, config, parts, variables, sign)
    return State(Flat.of(variables), sign, scores)


def step(task: Task, config: Pruning, parts: Parts, state: State) -> State:
    """Cut one step's units."""
    scores, variables = state.scores, state.variables.variables()
    if config.influence == "dynamic":
        scores = _signed_influence(task, config, parts, variables, state.sign)
    old = variables["masks"]
    if config.schedule == "units":
        new = masks.drop(old, scores, min(config.units, masks.size(old)))
    else:
        new = masks.drop_above(old, scores, 1.0 - 1.0 / steps(config, variables))
    return state._replace(variables=dataclasses.replace(state.variables, masks=ravel_pytree(new)[0]))


def steps(config: Pruning, variables: Variables) -> int:
    """B: as given, or what it takes to cut every unit that is not spared."""
    if config.steps is not None:
        return config.steps
    layers = jax.tree.leaves(variables["masks"])[config.spared_layers :]
    each = config.units if config.schedule == "units" else 1
    return max(1, -(-sum(keep.size for keep in layers) // each))


def _signed_influence(task: Task, config: Pruning, parts: Parts, variables: Variables, sign):
    batch = getattr(parts, config.part)
    scores = influence(task.measure, task.network.apply, variables, batch, reduction=config.reduction)
    leaves, structure = jax.tree.flatten(scores)
    signed = [
        jnp.full_like(leaf, -jnp.inf) if layer < config.spared_layers else sign * leaf
        for layer, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, signed)


def _candidate(state: State, member: Int[Array, ""]) -> Flat:
    del member
    return state.variables


METHOD = Method(init, step, _candidate, steps, functools.partial(evaluation_mode, candidate=_candidate))
"""Algorithm 1 as a method."""
