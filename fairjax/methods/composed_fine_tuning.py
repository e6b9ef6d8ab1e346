"""Fine-tuning of a trained network with any composed loss."""

from typing import Any, ClassVar

from fairjax.losses import BalancedCrossEntropy, Loss, ParityPenalty
from fairjax.methods.base import method
from fairjax.methods.weight_path import WeightPath
from fairjax.types import Number


@method
class ComposedFineTuning(WeightPath):
    """Descend a composed loss from the trained network; each epoch gives one candidate per factor of the weights.

    With multipliers, the weight of each term that is 0 at parity changes after every epoch by
    `multiplier_rate * (violation - tolerance)`. The violation is the mean value of the epoch's mini-batches, and for
    `ParityPenalty` the penalty of their mean proxy. Weights do not fall below 0, except with a signed penalty. The term
    becomes the constraint that its value is at most the tolerance. Estimates of distances on mini-batches, such as
    those of MMD, are not 0 even if the groups do not differ, so they need a tolerance.

    Example:
        >>> from fairjax.losses import CrossEntropy
        >>> loss = Loss(base=CrossEntropy(), terms=(ParityPenalty(weight=4.0),))
        >>> method = ComposedFineTuning(loss=loss, weights=(0.5, 1.0, 2.0))
        >>> method.total_steps({}), method.members
        (20, 3)
    """

    label: ClassVar[str] = "Composed fine-tuning"
    reference: ClassVar[str] = "fairjax"
    equation: ClassVar[str] = "minimise the loss of the labels + sum of weight * term"
    stream: ClassVar[int | None] = 13

    loss: Loss = Loss(base=BalancedCrossEntropy(), terms=(ParityPenalty(),))
    """The loss. Terms without a measure of their own take that of the task."""
    tolerance: Number = 0.0
    """With multipliers, the value of a term at which its weight does not change."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        super().__post_init__()
        if isinstance(self.tolerance, int | float) and not 0 <= self.tolerance < float("inf"):
            raise ValueError(f"tolerance must be a finite number, at least 0, got {self.tolerance}")

    def composed(self, sign: Any) -> Loss:
        """Return the loss."""
        del sign
        return self.loss

    def tolerated(self) -> Number:
        """Return the tolerance."""
        return self.tolerance
