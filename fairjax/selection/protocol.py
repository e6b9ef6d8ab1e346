"""The protocol of rules, which select one of many candidate networks.

A rule turns an `Evaluation` on validation data into a score; the candidate with the highest score is selected, the
first on ties. Rules are interchangeable: any object that follows the protocol `Rule` can be used.
"""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Float

from fairjax.selection.evaluation import Evaluation
from fairjax.types import Number


@runtime_checkable
class Rule(Protocol):
    """Rule that scores candidates by their evaluation on validation data."""

    @property
    def data(self) -> str:
        """The data from which the bias is estimated: "valid" or "pooled"; in the latter case, the rule has `pool`."""
        ...

    @property
    def bound(self) -> Number:
        """The bound of the constraint: a candidate satisfies it if its |bias| is below."""
        ...

    def __call__(self, evaluation: Evaluation) -> Float[Array, "*c"]:
        """Score a candidate; higher is better."""
        ...
