"""A composed loss: a loss of the labels plus weighted terms."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from fairjax.hyperparameters import static
from fairjax.losses.base import Data, Outputs, Term, check_weight, name_of
from fairjax.losses.bases import Base, CrossEntropy
from fairjax.types import KeyArray, Rows


class TermState(NamedTuple):
    """Parameters of the terms of a loss, and the states of their optimisers, one entry per term."""

    params: tuple[PyTree[Array], ...] = ()
    optimisers: tuple[optax.OptState, ...] = ()

    @classmethod
    def empty(cls, loss: "Loss") -> "TermState":
        """Return the state for a loss whose terms have no parameters."""
        return cls(((),) * len(loss.terms), ((),) * len(loss.terms))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """The loss of the labels plus the sum of weight * value over the terms.

    A loss is a pytree, whose leaves are the weights and other numbers of its terms: a path of weights is one more axis
    to map over, beside the seeds. `fit`, `fit_many` and `fairjax.ComposedFineTuning` take it.

    Example:
        >>> from fairjax.losses import Loss, ParityPenalty
        >>> from fairjax.metrics import spd
        >>> jax.tree.leaves(Loss(terms=(ParityPenalty(measure=spd, weight=4.0),)))
        [4.0, 1.0]
    """

    base: Base = CrossEntropy()
    """The loss of the labels: `CrossEntropy` or `BalancedCrossEntropy`."""
    terms: tuple[Term, ...] = ()
    """The terms. Each has a weight of its own."""
    num_groups: int | None = static(None)
    """Number of groups, needed if groups are codes of more than two; `fit` and `fit_many` fill it in."""

    def __post_init__(self):
        """Validate base and terms."""
        if isinstance(self.base, type) or isinstance(self.base, str | Term):
            raise TypeError(f"base must be a loss of the labels, such as CrossEntropy(), got {self.base!r}")
        for entry in self.terms if isinstance(self.terms, tuple | list) else (self.terms,):
            if isinstance(entry, type | str | int | float) or callable(entry) or isinstance(self.terms, Term):
                raise TypeError(f"terms must be a tuple of terms, such as (Mmd(weight=5.0),), got {self.terms!r}")
            if isinstance(entry, Term):
                check_weight(name_of(type(entry)), entry.weight)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that any term uses, each once."""
        return tuple(dict.fromkeys(name for entry in self.terms for name in entry.layers))

    def bind(self, data: Data) -> "Loss":
        """Return the loss with what its terms need to know about the data.

        Raises:
            ValueError: if a term does not support the data; the message names it.
        """
        for entry in self.terms:
            counts = ((entry.groups, data.num_groups, "groups"), (entry.classes, data.num_classes, "classes"))
            for most, count, kind in counts:
                if count > most:
                    name = name_of(type(entry))
                    raise ValueError(f"the term {name} supports {most} {kind}, found {count}: leave it out")
        terms = tuple(entry.bind(data) for entry in self.terms)
        return dataclasses.replace(self, base=self.base.bind(data), terms=terms, num_groups=data.num_groups)

    def init(self, key: KeyArray, outputs: Outputs, batch: Rows) -> TermState:
        """Return the initial parameters of all terms.

        Args:
            key: random key.
            outputs: shapes and dtypes of the outputs for a mini-batch.
            batch: shapes and dtypes of a mini-batch.
        """
        params = tuple(
            entry.init(jax.random.fold_in(key, i), outputs.seen_by(i), batch) for i, entry in enumerate(self.terms)
        )
        optimisers = tuple(
            entry.own_optimiser().init(own) if jax.tree.leaves(own) else ()
            for entry, own in zip(self.terms, params, strict=True)
        )
        return TermState(params, optimisers)

    def update(self, state: TermState, outputs: Outputs, batch: Rows, *, before: bool) -> TermState:
        """Update the parameters of terms that learn before the step of the network, or of those that learn beside it.

        Args:
            state: the current parameters.
            outputs: outputs of the network.
            batch: the mini-batch.
            before: which of the two kinds of terms to update.
        """
        params, optimisers = list(state.params), list(state.optimisers)
        for i, entry in enumerate(self.terms):
            if jax.tree.leaves(params[i]) and (entry.own_steps > 0) == before:
                params[i], optimisers[i] = entry.update(params[i], optimisers[i], outputs.seen_by(i), batch)
        return TermState(tuple(params), tuple(optimisers))

    def value(self, state: TermState, outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the loss that the network descends, without terms that are combined by projection.

        Args:
            state: parameters of the terms.
            outputs: outputs of the network.
            batch: the mini-batch.
        """
        values = [
            (entry, entry.value(state.params[i], outputs.seen_by(i), batch))
            for i, entry in enumerate(self.terms)
            if not entry.projects
        ]
        # after the terms, since the order determines how the gradient of the logits is summed, to the last bit
        total = self.base.value(outputs, batch)
        for entry, value in values:
            total = total + weight_of(entry, value) * value
        return total

    @property
    def validated(self) -> tuple[int, ...]:
        """Numbers of the terms that count in the validation loss."""
        return tuple(i for i, entry in enumerate(self.terms) if entry.validated and not entry.projects)

    def validation_terms(self, state: TermState, outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the sum of weight * value over the terms that count in the validation loss.

        Args:
            state: parameters of the terms.
            outputs: outputs of the network in evaluation mode.
            batch: a mini-batch.
        """
        total = jnp.zeros((), outputs.logits.dtype)
        for i in self.validated:
            value = self.terms[i].value(state.params[i], outputs.seen_by(i), batch)
            total = total + weight_of(self.terms[i], value) * value
        return total


def weight_of(entry: Term, value: Float[Array, "..."]) -> Any:
    """Return the weight of a term, in the precision of its value or gradient."""
    return entry.weight if isinstance(entry.weight, int | float) else jnp.asarray(entry.weight, value.dtype)
