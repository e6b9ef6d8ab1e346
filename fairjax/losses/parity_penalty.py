"""Parity as a term: the differentiable proxy of a measure, as a penalty or as a signed constraint."""

import dataclasses
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.checks import group_column, nan_unless
from fairjax.hyperparameters import check_choice, static
from fairjax.losses.base import Data, Outputs, Term, term
from fairjax.metrics import Measure, num_groups, of_mini_batches, proxy
from fairjax.types import Number, Rows


@term
class ParityPenalty(Term):
    """The proxy of a measure: |proxy|, or sign * proxy.

    The absolute penalty is least where the proxy is 0. The signed one makes the loss the Lagrangian of the constraint
    that the proxy is 0.

    Example:
        >>> from fairjax.metrics import spd
        >>> from fairjax.types import Batch
        >>> batch = Batch(jnp.ones((2, 1)), jnp.array([True, False]), jnp.array([True, False]))
        >>> ParityPenalty(measure=spd).value((), Outputs(jnp.array([-100.0, 100.0]), {}), batch).item()
        1.0
    """

    label: ClassVar[str] = "Parity"
    reference: ClassVar[str] = "fairjax"
    equation: ClassVar[str] = "|proxy|, the measure on scores"
    zero_at_parity: ClassVar[bool] = True

    measure: Measure | None = static(None)
    """The measure; that of the task if omitted."""
    penalty: Literal["absolute", "signed"] = static("absolute")
    """Form of the penalty: |proxy|, or sign * proxy."""
    sign: Number = 1.0
    """Sign of the signed penalty: 1 to lower the proxy, -1 to raise it."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_choice("penalty", self.penalty, ("absolute", "signed"))

    def bind(self, data: Data) -> "ParityPenalty":
        """Take the measure of the task unless there is one, adapted to the size of mini-batches.

        Raises:
            ValueError: if there is no measure.
        """
        measure = data.measure if self.measure is None else self.measure
        if measure is None:
            raise ValueError("the term parity needs a measure: give ParityPenalty(measure=fairjax.spd) or another one")
        if data.batch_size is not None:
            measure = of_mini_batches(measure, data.batch_size, data.rows.y.shape[0])
        return dataclasses.replace(self, measure=measure)

    def bias(self, outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the proxy of a mini-batch; NaN, with a gradient of 0, if a group that it needs is absent.

        Raises:
            ValueError: if there is no measure.
        """
        if self.measure is None:
            raise ValueError("the term parity needs a measure: give measure=, or call bind with one first")
        return proxy(self.measure, outputs.logits, batch)

    def value(self, params: Any, outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the penalty of a mini-batch; 0 if a group that the measure needs is absent, NaN if one is invalid."""
        del params
        bias = self.bias(outputs, batch)
        penalty = self._penalty(bias)
        penalty = jnp.where(jnp.isnan(bias), jnp.zeros_like(penalty), penalty)
        _, valid = group_column(batch.a, num_groups(self.measure, batch.a))
        return nan_unless(valid, penalty)

    def record(self, params: Any, outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the proxy of a mini-batch, as `bias` does."""
        del params
        return self.bias(outputs, batch)

    def violation(self, recorded: Float[Array, " k"]) -> Float[Array, ""]:
        """Compute the penalty of the mean proxy, which has less of the mini-batches' noise than the mean penalty."""
        defined = ~jnp.isnan(recorded)  # NaN for mini-batches that lack a group
        mean = jnp.sum(recorded, where=defined) / jnp.maximum(jnp.sum(defined, dtype=recorded.dtype), 1.0)
        return self._penalty(mean)

    @property
    def signed(self) -> bool:
        """Whether the penalty is sign * proxy."""
        return self.penalty == "signed"

    def _penalty(self, bias: Float[Array, ""]) -> Float[Array, ""]:
        return self.sign * bias if self.signed else jnp.abs(bias)
