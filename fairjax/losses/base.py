"""Base class of loss terms: frozen dataclasses of hyperparameters with pure functions of a network's outputs."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from fairjax.metrics import Measure
from fairjax.types import Inputs, KeyArray, Number, Rows

C = TypeVar("C", bound=type)

LAST, OUTPUT = "last", "output"
"""Names of layers that every network has: the input of the last layer, and the logits."""


@dataclass_transform(kw_only_default=True, frozen_default=True)
def term(cls: C) -> C:
    """Class decorator that makes a loss term a frozen dataclass and a pytree.

    Hyperparameters that are numbers, such as the weight, are leaves, so they can be traced and mapped over. Fields made
    with `static` are part of the pytree's structure, as is the class itself.

    Example:
        >>> import jax.numpy as jnp
        >>> from fairjax.losses import Term
        >>> @term
        ... class LogitNorm(Term):
        ...     label: ClassVar[str] = "Square of the logits"
        ...
        ...     def value(self, params, outputs, batch):
        ...         return jnp.mean(jnp.square(outputs.logits))
        >>> jax.tree.leaves(LogitNorm(weight=0.5))
        [0.5]
    """
    return jax.tree_util.register_dataclass(dataclass(frozen=True, kw_only=True)(cls))


class Outputs(NamedTuple):
    """What a network computes for a mini-batch, as far as the terms of a loss ask for it."""

    logits: Float[Array, " m"] | Float[Array, "m c"]
    """Logits, one per row for two classes, one per row and class for more."""
    layers: dict[str, Float[Array, "m _"]]
    """Activations (m, units) of the layers that the terms name, by the name of the layer."""
    observed: PyTree[Array] = ()
    """What the term's own `observe` returned. For a loss of several terms, a tuple with one entry per term."""
    params: PyTree[Array] = ()
    """The network's parameters, if a term has `needs_params`."""

    def seen_by(self, index: int) -> "Outputs":
        """Return the outputs as one term of several sees them."""
        return self._replace(observed=self.observed[index])


class Data(NamedTuple):
    """Facts about the data that terms may need before the first step; see `Term.bind`."""

    rows: Rows
    """All rows from which mini-batches are drawn."""
    num_groups: int = 2
    """Number of groups."""
    num_classes: int = 2
    """Number of classes."""
    batch_size: int | None = None
    """Number of rows per mini-batch; all rows if omitted."""
    measure: Measure | None = None
    """The measure of bias, for terms that are not given one of their own."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """A term of a composed loss: subclass it, decorate the class with `term`, and write `value`.

    A term sees the outputs of the network for a mini-batch and returns a number, which the network descends times the
    weight. A term with parameters of its own, such as an adversary, also has `init` and `own_loss`: its parameters
    descend `own_loss`, with an optimiser of their own, `own_steps` times per step of the network.

    Whatever cannot be computed for a mini-batch, for instance because a group is absent, is 0 with a gradient of 0, so
    that the step depends on the other terms alone.
    """

    label: ClassVar[str] = ""
    """Name in tables and figures; if empty, the registered name."""
    reference: ClassVar[str] = ""
    """Short citation, as tables show it."""
    equation: ClassVar[str] = ""
    """The computation as a formula of one line."""
    needs_group: ClassVar[bool] = True
    """Whether the protected attribute of the train rows is needed."""
    needs_params: ClassVar[bool] = False
    """Whether the term looks at the network's parameters."""
    validated: ClassVar[bool] = True
    """Whether the term counts in the validation loss; the loss of an adversary that is still learning does not."""
    zero_at_parity: ClassVar[bool] = False
    """Whether the value is 0 without bias, and positive otherwise unless `signed`, so that the weight can be a
    constraint's multiplier."""
    combination: ClassVar[Literal["add", "project"]] = "add"
    """With "project", the part of the other terms' gradient that would lower the term's own loss is removed too, as by
    Zhang et al. (2018), and weight times the gradient of `own_loss` is subtracted."""
    groups: ClassVar[float] = math.inf
    """Maximal number of groups that the term supports."""
    classes: ClassVar[float] = math.inf
    """Maximal number of classes that the term supports."""

    weight: Number = 1.0
    """Weight of the term in the loss."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers whose activations the term uses: "last", "output", or names of layers with units."""
        return ()

    @property
    def own_steps(self) -> int:
        """Steps of the term's own parameters before each step of the network; 0: one step at the same time."""
        return 0

    @property
    def projects(self) -> bool:
        """Whether the gradient is combined by projection; see `combination`."""
        return self.combination == "project"

    def bind(self, data: Data) -> "Term":
        """Return the term with what it needs to know about the data.

        Default: fields `num_groups` and `num_classes`, if the term has them and they are None, are filled in.

        Args:
            data: facts about the data; arrays in it may be traced.

        Raises:
            ValueError: if the term does not support the data.
        """
        counts = {"num_groups": data.num_groups, "num_classes": data.num_classes}
        unknown = {name: count for name, count in counts.items() if getattr(self, name, count) is None}
        return replace(self, **unknown) if unknown else self

    def observe(self, logits_of: Callable[[Inputs], Float[Array, "n *c"]], batch: Rows) -> PyTree[Array]:
        """Return what the term needs beside logits and layers, such as input derivatives. Default: nothing.

        Args:
            logits_of: computes the logits of any inputs in evaluation mode, with the current parameters.
            batch: the mini-batch.
        """
        del logits_of, batch
        return ()

    def init(self, key: KeyArray, outputs: Outputs, batch: Rows) -> PyTree[Array]:
        """Return the initial parameters of the term. Default: none.

        Args:
            key: random key.
            outputs: shapes and dtypes of the outputs for a mini-batch.
            batch: shapes and dtypes of a mini-batch.
        """
        del key, outputs, batch
        return ()

    def value(self, params: PyTree[Array], outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the term for a mini-batch, without its weight.

        Args:
            params: parameters of the term.
            outputs: outputs of the network.
            batch: the mini-batch.
        """
        raise NotImplementedError(f"{type(self).__name__} must have a function value")

    def record(self, params: PyTree[Array], outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute what `violation` needs of a mini-batch. Default: the term's value.

        Args:
            params: parameters of the term.
            outputs: outputs of the network.
            batch: the mini-batch.
        """
        return self.value(params, outputs, batch)

    def violation(self, recorded: Float[Array, " k"]) -> Float[Array, ""]:
        """Compute by how much the term is above 0 in an epoch, which raises its multiplier. Default: the mean.

        Args:
            recorded: what `record` returned for the mini-batches of an epoch.
        """
        return jnp.mean(recorded)

    @property
    def signed(self) -> bool:
        """Whether the violation may be negative, so that a multiplier may be, too."""
        return False

    def own_loss(self, params: PyTree[Array], outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the loss that the parameters of the term descend. Default: the term's value.

        Args:
            params: parameters of the term.
            outputs: outputs of the network, as constants.
            batch: the mini-batch.
        """
        return self.value(params, outputs, batch)

    def own_optimiser(self) -> optax.GradientTransformation:
        """Return the optimiser of the term's parameters. Default: Adam with the field `own_rate`, or 1e-3."""
        return optax.adam(getattr(self, "own_rate", 1e-3))

    def update(
        self, params: PyTree[Array], optimiser: optax.OptState, outputs: Outputs, batch: Rows
    ) -> tuple[PyTree[Array], optax.OptState]:
        """Take the steps of the term's own parameters for one mini-batch. Default: steps of `own_optimiser`.

        Args:
            params: parameters of the term.
            optimiser: state of the optimiser.
            outputs: outputs of the network, as constants.
            batch: the mini-batch.
        """

        def step(carry: Any, _: Any) -> tuple[Any, None]:
            params, optimiser = carry
            gradients = jax.grad(self.own_loss)(params, outputs, batch)
            with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
                updates, optimiser = self.own_optimiser().update(gradients, optimiser)
            return (optax.apply_updates(params, updates), optimiser), None

        if self.own_steps <= 1:
            return step((params, optimiser), None)[0]
        return jax.lax.scan(step, (params, optimiser), length=self.own_steps)[0]


def name_of(kind: type[Term]) -> str:
    """Return the name of a term in messages, whether it is registered or not."""
    return kind.label or kind.__name__


def check_weight(name: str, weight: Any) -> None:
    """Check that a weight, or each of a path of weights, is not negative and finite; traced weights pass.

    Raises:
        TypeError: if the weight is a list or a tuple.
        ValueError: if it is negative or not finite. The message names the term and the weight.

    Example:
        >>> check_weight("mmd", 5.0)
    """
    if isinstance(weight, list | tuple):
        raise TypeError(f"the weight of {name} must be a number, or an array for a path of weights, got {weight!r}")
    if isinstance(weight, jax.core.Tracer) or not isinstance(weight, int | float | np.ndarray | np.generic | jax.Array):
        return
    values = np.asarray(weight)  # not JAX, which would choose its devices when a default loss is made at import
    if not bool(np.all((values >= 0) & (values < np.inf))):
        raise ValueError(f"the weight of {name} must be a finite number, at least 0, got {weight}")
