"""The functions of a network, made from what an adapter keeps of the user's model."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float, PyTree

from fairjax.adapters._bringing import positions_then_units
from fairjax.adapters._sites import check_readable
from fairjax.types import Inputs, KeyArray, Variables


@dataclasses.dataclass(frozen=True)
class Apply:
    """The function `apply` of a program whose `logits` returns logits and the collections that it updates."""

    program: Any

    def __call__(
        self,
        variables: Variables,
        x: Inputs,
        *,
        shifts: PyTree[Float[Array, "_"]] | None = None,
        key: KeyArray | None = None,
    ) -> tuple[Float[Array, "n *c"], Variables]:
        """Compute logits and updated variables."""
        logits, updated = self.program.logits(variables, x, shifts, key)
        return logits, {**variables, **updated}


@dataclasses.dataclass(frozen=True)
class Activations:
    """The function `activations` of a program, which refuses if those of some layers cannot be read."""

    program: Any
    unreadable: tuple[str, ...]
    """Names of the layers whose activations cannot be read."""

    def __call__(self, variables: Variables, x: Inputs) -> PyTree[Float[Array, "n ..."]]:
        """Compute the activations at every unit."""
        check_readable(self.unreadable)
        return self.program.activations(variables, x)


class TappedFunctions:
    """The functions of a program whose values are read by taps.

    A subclass has `run`, which returns outputs, what it updates, and the values of taps by name; `logits`, which
    returns logits, updated variables and these values; and `last`, the last linear layer or None.
    """

    run: Callable[..., tuple[Any, Any, dict[str, list[Array]]]]
    logits: Callable[..., tuple[Array, Variables, Any]]
    last: Any

    def apply(
        self,
        variables: Variables,
        x: Inputs,
        *,
        shifts: PyTree[Float[Array, "_"]] | None = None,
        key: KeyArray | None = None,
    ) -> tuple[Float[Array, "n *c"], Variables]:
        """Compute logits and updated variables."""
        logits, updated, _ = self.logits(variables, x, shifts, key)
        return logits, variables if key is None else updated

    def features(
        self,
        variables: Variables,
        x: Inputs,
        *,
        shifts: PyTree[Float[Array, "_"]] | None = None,
        key: KeyArray | None = None,
    ) -> tuple[Float[Array, "n k"], Float[Array, "n *c"], Variables]:
        """Compute the input of the last linear layer, logits, and updated variables."""
        logits, updated, found = self.logits(variables, x, shifts, key, features=True)
        return found["features"][0], logits, variables if key is None else updated

    def has_features(self, variables: Variables, x: Inputs) -> bool:
        """Return whether the last layer is linear and has one vector per row as its input."""
        if self.last is None:
            return False
        found = jax.eval_shape(lambda x: self.run(variables, x, features=True)[2], x)
        return [part.ndim for part in found["features"]] == [2]

    def activations(self, variables: Variables, x: Inputs) -> dict[str, Float[Array, "n ..."]]:
        """Compute the activations at every unit."""
        found = self.run(variables, x, tapped=True)[2]
        return {name: positions_then_units(calls) for name, calls in found.items()}
