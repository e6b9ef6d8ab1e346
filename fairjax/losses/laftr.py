"""LAFTR: adversarial training with the group-normalised L1 loss, which bounds the unfairness of later classifiers."""

from typing import Any, ClassVar, Literal

from jaxtyping import Array, Float

from fairjax.hyperparameters import static
from fairjax.losses.adversarial_term import AdversarialTerm
from fairjax.losses.base import term
from fairjax.losses.group_prediction import group_normalised_error
from fairjax.types import Rows


@term
class Laftr(AdversarialTerm):
    """An adversary with the group-normalised L1 loss: sum over the groups of the mean of |prediction - group|.

    The term is 1 minus that sum: 0 for guesses and 1 if the group is read from the layer without error. For the best
    adversary, it bounds the parity difference of any classifier of the layer; with "odds" (2 minus the sum over groups
    and labels) and "opportunity", the corresponding differences. L1 saturates where the adversary is certain, so large
    weights may diverge.

    References:
        Madras, Creager, Pitassi, Zemel (2018), Learning adversarially fair and transferable representations, ICML,
        https://arxiv.org/abs/1802.06309

    Example:
        >>> Laftr(notion="odds").own_steps
        0
    """

    label: ClassVar[str] = "LAFTR"
    reference: ClassVar[str] = "Madras et al. 2018"
    equation: ClassVar[str] = "1 - sum over groups of mean |adversary - group|"
    groups: ClassVar[float] = 2
    classes: ClassVar[float] = 2

    how: Literal["alternating", "reversal", "projected"] = static("reversal")
    """Way of training, as for `Adversary`."""

    def _loss(self, logits: Any, batch: Rows) -> Float[Array, ""]:
        return group_normalised_error(logits, batch, notion=self.notion, num_groups=self.num_groups)

    def _gain(self, loss: Float[Array, ""]) -> Float[Array, ""]:
        return (2.0 if self.notion == "odds" else 1.0) - loss
