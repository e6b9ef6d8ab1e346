"""Fine-tuning with class-balanced cross-entropy plus a weighted penalty of the proxy.

Bias gradient descent optimises the bias alone; here the cross-entropy preserves accuracy while the penalty reduces the
bias. The weight determines the compromise. No weight is right for all data, so networks for a path of weights are tuned
in parallel, and each weight gives one candidate per epoch. Alternatively, each weight is adapted as the multiplier of a
constraint.
"""

from typing import ClassVar, Literal

from jaxtyping import Array, Float

from fairjax.hyperparameters import check_choice, static
from fairjax.losses import BalancedCrossEntropy, Loss, ParityPenalty
from fairjax.methods.base import method
from fairjax.methods.weight_path import WeightPath
from fairjax.types import KeyArray, Number


@method
class FineTuning(WeightPath):
    """Descend class-balanced cross-entropy + weight * penalty(proxy), for a path of weights in parallel.

    The absolute penalty is least where the proxy is 0. With the signed penalty, the loss is the Lagrangian of the
    cross-entropy under the constraint that the proxy is 0: each weight gives a different compromise, in which the proxy
    may have either sign, and the gradient is not biased by the noise of mini-batches, whereas the absolute value
    penalises this noise too. `ComposedFineTuning` does the same with any other terms.
    """

    label: ClassVar[str] = "Fine-tuning"
    reference: ClassVar[str] = "fairjax"
    equation: ClassVar[str] = "minimise class-balanced cross-entropy + weight * |proxy|, for a path of weights"
    stream: ClassVar[int | None] = 11

    weights: tuple[Number, ...] = (1.0, 4.0)
    """Weights of the penalty, one network per weight; with multipliers, their initial values."""
    penalty: Literal["absolute", "signed"] = static("absolute")
    """Form of the penalty: |proxy|, or sgn(mu_0) * proxy with the bias mu_0 of the original network."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        super().__post_init__()
        check_choice("penalty", self.penalty, ("absolute", "signed"))

    def composed(self, sign: Float[Array, ""]) -> Loss:
        """Return the loss, whose only term is the penalty."""
        return Loss(base=BalancedCrossEntropy(), terms=(ParityPenalty(penalty=self.penalty, sign=sign),))

    def keys(self, key: KeyArray) -> tuple[KeyArray, KeyArray]:
        """Return the key for both: the penalty has no parameters, so it draws nothing."""
        return key, key


@method
class LastLayer(FineTuning):
    """Fine-tuning of the last layer only, by default that of `Mlp`.

    References:
        Mao, Deng, Yao, Ye, Kawaguchi, Zou (2023), Last-layer fairness fine-tuning is simple and effective for neural
        networks, https://arxiv.org/abs/2304.03935
    """

    label: ClassVar[str] = "Last-layer fine-tuning"
    reference: ClassVar[str] = "Mao et al. 2023"
    stream: ClassVar[int | None] = 8

    learning_rate: Number = 1e-3
    """Adam's step size."""
    layers: tuple[str, ...] | None = static(("output",))
    """Layers to tune, by their names in the network's parameters, with dots between nested names."""


@method
class Lagrangian(FineTuning):
    """Fine-tuning on the Lagrangian of the constraint proxy = 0, for a path of multipliers."""

    label: ClassVar[str] = "Lagrangian fine-tuning"
    equation: ClassVar[str] = (
        "minimise class-balanced cross-entropy + weight * sgn(mu_0) * proxy, for a path of weights"
    )
    stream: ClassVar[int | None] = 12

    weights: tuple[Number, ...] = (0.25, 0.5, 1.0, 2.0)
    """Weights of the penalty, one network per weight; with multipliers, their initial values."""
    penalty: Literal["absolute", "signed"] = static("signed")
    """Form of the penalty: |proxy|, or sgn(mu_0) * proxy with the bias mu_0 of the original network."""
