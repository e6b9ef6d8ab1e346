"""Pruning (Algorithm 1): cut the hidden units with the largest influence on the bias, a few at a time."""

import dataclasses
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from fairjax.detect.concepts import unit_scores
from fairjax.detect.concepts.sites import chosen_layers
from fairjax.hyperparameters import check_at_least, check_choice, static
from fairjax.methods.base import Method, Parts, Task, method, sign_of_bias
from fairjax.metrics import num_classes, num_groups
from fairjax.nn import masks
from fairjax.nn.flat import FlatVariables
from fairjax.nn.influence import influence
from fairjax.selection import Evaluation
from fairjax.types import KeyArray, Variables


class PruningState(NamedTuple):
    """State of pruning between steps."""

    variables: FlatVariables
    """The network; only its masks change."""
    sign: Float[Array, ""]
    """Sign of the network's bias on validation data before pruning."""
    scores: PyTree[Float[Array, "_"]]
    """Scores in the original network, for static pruning."""


@method
class Pruning(Method):
    """Prune the hidden units of highest influence on the bias, step by step (Algorithm 1).

    The network determines where influence is measured and how a unit is cut; see `fairjax.nn.Mlp`. By default, a cut
    unit's activation after the ReLU is 0.

    With another `score`, the units that respond to the protected attribute are turned off first, whatever their effect
    on the bias: by their selectivity, by a linear probe, or by their contribution along the concept of the group. The
    network must show its activations, and groups must not overlap; see `fairjax.detect.concepts.unit_scores`.

    References:
        Du, Yang, Zou, Hu (2020), Fairness in deep learning: a computational perspective, IEEE Intelligent Systems, for
        turning off the units that respond to a group, https://arxiv.org/abs/1908.08843
    """

    label: ClassVar[str] = "Pruning"
    reference: ClassVar[str] = "Marcinkevičs et al. 2022"
    equation: ClassVar[str] = (
        "cut the units of largest sgn(mu_0) * S, where S_l = mean over rows of d proxy / d h_l (Eq. 4)"
    )
    axis: ClassVar[str] = "pruning step"
    stream: ClassVar[int | None] = 9

    score: Literal["influence", "selectivity", "probe", "concept"] = static("influence")
    """What units are ordered by: `influence` on the bias (Algorithm 1), or the association of their activations with
    the group: `selectivity` (d'), a linear `probe` of the layer, or `concept`, the contribution to the logit."""
    schedule: Literal["units", "quantile"] = static("units")
    """Units cut per step: `units` of them, or those above the (1 - 1/steps)-quantile of influence (Algorithm 1)."""
    units: int = static(1)
    """Number of units cut per step, for the schedule `units`."""
    steps: int | None = static(None)
    """Number of steps (B of Algorithm 1); if omitted, the number necessary to cut every unit."""
    part: Literal["train", "valid"] = static("train")
    """The part on which influence is measured: train (paper) or valid (authors' code)."""
    influence: Literal["dynamic", "static"] = static("dynamic")
    """Whether units are scored again after every step, or only once."""
    reduction: Literal["mean", "sum"] = static("mean")
    """Influence as a mean over rows (Eq. 4) or a sum (authors' code); the order of units is the same."""
    spared_layers: int = static(0)
    """Number of leading layers that are never cut: 0 (authors' code), or 1 (Algorithm 1 starts at the second layer)."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_choice("score", self.score, ("influence", "selectivity", "probe", "concept"))
        check_choice("schedule", self.schedule, ("units", "quantile"))
        check_choice("part", self.part, ("train", "valid"))
        check_choice("influence", self.influence, ("dynamic", "static"))
        check_choice("reduction", self.reduction, ("mean", "sum"))
        if self.score != "influence" and self.reduction != "mean":
            raise ValueError(
                f"reduction is for the score 'influence', and the score is {self.score!r}: leave reduction out"
            )
        check_at_least("units", self.units, 1)
        check_at_least("steps", 1 if self.steps is None else self.steps, 1)
        check_at_least("spared_layers", self.spared_layers, 0)

    def init(
        self, task: Task, key: KeyArray, variables: Variables, parts: Parts, evaluation: Evaluation
    ) -> PruningState:
        """Start from the original network; by the sign of its bias, units that increase |bias| are cut first.

        Raises:
            ValueError: if the network has no units, or the score needs activations and the network shows none.
        """
        del key
        if not masks.size(variables["masks"]):
            raise ValueError(
                "pruning cuts hidden units, and this network has none: choose layers with units= when it is brought, "
                "or use a method that tunes parameters, such as BiasGda"
            )
        if self.score != "influence":
            chosen_layers(task.network, variables, None)
        sign = sign_of_bias(evaluation)
        scores = jax.tree.map(lambda keep: jnp.zeros(keep.shape), variables["masks"])
        if self.influence == "static":
            scores = self._scores(task, parts, variables, sign)
        return PruningState(FlatVariables.ravel(variables), sign, scores)

    def step(self, task: Task, parts: Parts, state: PruningState) -> PruningState:
        """Cut the units of one step."""
        scores, variables = state.scores, state.variables.variables()
        if self.influence == "dynamic":
            scores = self._scores(task, parts, variables, state.sign)
        old_masks = variables["masks"]
        if self.schedule == "units":
            new_masks = masks.drop(old_masks, scores, min(self.units, masks.size(old_masks)))
        else:
            new_masks = masks.drop_above(old_masks, scores, 1.0 - 1.0 / self.total_steps(variables))
        return state._replace(variables=dataclasses.replace(state.variables, masks=ravel_pytree(new_masks)[0]))

    def total_steps(self, variables: Variables) -> int:
        """Return B as given, or the number of steps necessary to cut every unit that is not spared."""
        if self.steps is not None:
            return self.steps
        layers = jax.tree.leaves(variables["masks"])[self.spared_layers :]
        units_per_step = self.units if self.schedule == "units" else 1
        return max(1, -(-sum(keep.size for keep in layers) // units_per_step))

    def _scores(self, task: Task, parts: Parts, variables: Variables, sign):
        batch = getattr(parts, self.part)
        if self.score == "influence":
            scores = influence(task.measure, task.network.apply, variables, batch, reduction=self.reduction)
        else:
            scores = unit_scores(
                task.network,
                variables,
                batch,
                self.score,
                num_groups=num_groups(task.measure, batch.a),
                num_classes=num_classes(task.measure),
            )
            sign = jnp.ones_like(sign)  # association has no direction
        leaves, structure = jax.tree.flatten(scores)
        signed = [
            jnp.full_like(leaf, -jnp.inf) if layer < self.spared_layers else sign * leaf
            for layer, leaf in enumerate(leaves)
        ]
        return jax.tree.unflatten(structure, signed)
