"""Fine-tuning with a composed loss for a path of weights in parallel, fixed or adapted as multipliers."""

import dataclasses
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fairjax.hyperparameters import check_at_least, check_choice, check_positive, static
from fairjax.losses import Data, Loss, Outputs, TermState
from fairjax.losses.base import name_of
from fairjax.methods.base import Method, Parts, Task, method, sign_of_bias
from fairjax.methods.composed_epochs import ComposedState, initial_state, run_epoch
from fairjax.metrics import num_classes, num_groups
from fairjax.nn.flat import FlatVariables
from fairjax.selection import Evaluation
from fairjax.types import KeyArray, Number, Rows, Variables

AXES = ComposedState(variables=0, optimiser=0, terms=0, key=None, epoch=None)  # type: ignore[arg-type]
"""vmap axes of the networks of a path: all see the same mini-batches."""


class PathState(NamedTuple):
    """State of a path of weights between epochs."""

    tuned: ComposedState
    """The networks, with a leading axis of members on all but the key and the epoch."""
    weights: Float[Array, "members terms"]
    """Weights of the terms of each network."""
    sign: Float[Array, ""]
    """Sign of the network's bias on validation data before fine-tuning."""


@method
class WeightPath(Method):
    """Base class of fine-tuning with a composed loss for a path of weights. A subclass has a function `composed`.

    All networks see the same mini-batches and dropout. With multipliers, the weight of each term that is 0 at parity is
    updated after every epoch by dual ascent; the weights of other terms stay.
    """

    axis: ClassVar[str] = "epoch"

    weights: tuple[Number, ...] = (1.0,)
    """Factors of the weights of the terms, one network per factor; with multipliers, of their initial values."""
    weighting: Literal["fixed", "multiplier"] = static("fixed")
    """Whether weights are fixed or updated after every epoch by dual ascent."""
    multiplier_rate: Number = 2.0
    """Step size of multipliers: change of the weight per epoch and unit of the term."""
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
        if len(self.weights) == 0:
            raise ValueError("weights must hold at least one weight, got none")
        for weight in self.weights:
            if isinstance(weight, int | float) and not weight >= 0:
                raise ValueError(f"weights must not be negative, got {weight}")
        check_choice("weighting", self.weighting, ("fixed", "multiplier"))
        check_choice("part", self.part, ("train", "valid"))
        for name in ("multiplier_rate", "learning_rate"):
            check_positive(name, getattr(self, name))
        check_at_least("batch_size", self.batch_size, 2)
        check_at_least("epochs", self.epochs, 1)

    def composed(self, sign: Float[Array, ""]) -> Loss:
        """Return the loss, before it is bound to the data.

        Args:
            sign: sign of the network's bias on validation data before fine-tuning.
        """
        raise NotImplementedError(f"{type(self).__name__} must have a function composed")

    def keys(self, key: KeyArray) -> tuple[KeyArray, KeyArray]:
        """Return the keys of the terms' parameters and of the epochs."""
        terms_key, epochs_key = jax.random.split(key)
        return terms_key, epochs_key

    def tolerated(self) -> Number:
        """Return the violation at which a multiplier does not change. Default: 0."""
        return 0.0

    def init(self, task: Task, key: KeyArray, variables: Variables, parts: Parts, evaluation: Evaluation) -> PathState:
        """Start from the original network for every weight, and from new parameters of the terms.

        Raises:
            ValueError: if no term's weight can be a multiplier although `weighting` asks for it.
        """
        sign, batch = sign_of_bias(evaluation), getattr(parts, self.part)
        loss = self._bound(task, batch, sign)
        if self.weighting == "multiplier" and not any(term.zero_at_parity for term in loss.terms):
            names = ", ".join(name_of(type(term)) for term in loss.terms) or "none"
            raise ValueError(
                "weighting='multiplier' needs a term that is 0 at parity, such as ParityPenalty or Mmd, found "
                f"{names}: choose weighting='fixed'"
            )
        terms_key, epochs_key = self.keys(key)
        single = initial_state(
            task,
            loss,
            variables,
            batch,
            terms_key=terms_key,
            epochs_key=epochs_key,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
        )

        def repeated(leaf: Array) -> Array:
            return jnp.broadcast_to(leaf, (self.members, *leaf.shape))

        several = {name: jax.tree.map(repeated, getattr(single, name)) for name in ("variables", "optimiser", "terms")}
        dtype = single.variables.params.dtype
        factors = jnp.stack([jnp.asarray(weight, dtype) for weight in self.weights])
        initial = [jnp.asarray(term.weight, dtype) for term in loss.terms]
        weights = factors[:, None] * jnp.stack(initial)[None] if initial else jnp.zeros((self.members, 0), dtype)
        return PathState(single._replace(**several), weights, sign)

    def step(self, task: Task, parts: Parts, state: PathState) -> PathState:
        """Run one epoch for every weight."""
        batch = getattr(parts, self.part)
        bound = self._bound(task, batch, state.sign)

        def tune(tuned: ComposedState, weights: Float[Array, " terms"]) -> tuple[ComposedState, Array]:
            terms = tuple(
                dataclasses.replace(term, weight=weight) for term, weight in zip(bound.terms, weights, strict=True)
            )
            loss = dataclasses.replace(bound, terms=terms)

            def record(state: TermState, outputs: Outputs, mini_batch: Rows) -> dict[int, Array]:
                if self.weighting == "fixed":
                    return {}
                return {
                    i: term.record(state.params[i], outputs.seen_by(i), mini_batch)
                    for i, term in enumerate(loss.terms)
                    if term.zero_at_parity
                }

            tuned, records = run_epoch(
                task,
                loss,
                tuned,
                batch,
                learning_rate=self.learning_rate,
                batch_size=self.batch_size,
                layers=self.layers,
                record=record,
            )
            return tuned, self._adapted(loss, weights, records)

        tuned, weights = jax.vmap(tune, (AXES, 0), (AXES, 0))(state.tuned, state.weights)
        return PathState(tuned, weights, state.sign)

    @property
    def members(self) -> int:
        """Number of candidates per step, one per weight."""
        return len(self.weights)

    def candidate(self, state: PathState, member: Int[Array, ""]) -> FlatVariables:
        """Return the network of one weight."""
        return jax.tree.map(lambda leaf: leaf[member], state.tuned.variables)

    def total_steps(self, variables: Variables) -> int:
        """Return the number of steps, one per epoch."""
        del variables
        return self.epochs

    def _bound(self, task: Task, batch: Rows, sign: Float[Array, ""]) -> Loss:
        """Return the loss with the measure, groups and classes of the task."""
        groups, classes = num_groups(task.measure, batch.a), num_classes(task.measure)
        return self.composed(sign).bind(Data(batch, groups, classes, self.batch_size, task.measure))

    def _adapted(self, loss: Loss, weights: Float[Array, " terms"], records: dict[int, Array]) -> Array:
        """Raise or lower multipliers by the violations of an epoch; `records` has those terms, by their places."""
        for i, recorded in records.items():
            term = loss.terms[i]
            weight = weights[i] + self.multiplier_rate * (term.violation(recorded) - self.tolerated())
            weights = weights.at[i].set(weight if term.signed else jnp.maximum(weight, 0.0))
        return weights
