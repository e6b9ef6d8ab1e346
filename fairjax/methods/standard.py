"""Baselines: the trained network, unchanged, with one of two kinds of threshold."""

from typing import ClassVar, Literal

from fairjax.methods.base import Method, Parts, Task, method
from fairjax.selection import Evaluation
from fairjax.types import KeyArray, Variables


@method
class Standard(Method):
    """The trained network, unchanged; its threshold maximises balanced accuracy on validation data."""

    label: ClassVar[str] = "Standard"
    reference: ClassVar[str] = "the trained network"
    equation: ClassVar[str] = "no change"

    def init(self, task: Task, key: KeyArray, variables: Variables, parts: Parts, evaluation: Evaluation) -> Variables:
        """Return the variables; no step changes them, so candidate 0 is the result."""
        del task, key, parts, evaluation
        return variables

    def step(self, task: Task, parts: Parts, state: Variables) -> Variables:
        """Return the variables unchanged; there are no steps."""
        del task, parts
        return state

    def total_steps(self, variables: Variables) -> int:
        """Return 0, since there are no steps."""
        del variables
        return 0


@method
class ConstrainedThreshold(Standard):
    """The trained network, unchanged; its threshold maximises the selection rule's score on validation data.

    Any debiasing method should do better than this baseline.
    """

    label: ClassVar[str] = "Constrained threshold"
    reference: ClassVar[str] = "fairjax"
    equation: ClassVar[str] = "the threshold of the best score by the rule"
    threshold: ClassVar[Literal["accuracy", "rule"]] = "rule"
    classes: ClassVar[float] = 2
