"""Adversarial training: an adversary predicts the group from a layer, and the network makes the prediction worse."""

from typing import ClassVar

from jaxtyping import Array, Float

from fairjax.hyperparameters import static
from fairjax.losses.adversarial_term import AdversarialTerm
from fairjax.losses.base import term
from fairjax.losses.group_prediction import group_cross_entropy
from fairjax.types import Rows


@term
class Adversary(AdversarialTerm):
    """An adversary that predicts the group from the activations of a layer, against which the network learns.

    The adversary descends the cross-entropy of the group, and the network descends weight * -(that cross-entropy), so
    that its activations no longer tell the group. Measure whether they do by a new probe
    (`fairjax.detect.probe`), not by the loss of the adversary, against which the network was trained.

    References:
        Ganin et al. (2016), Domain-adversarial training of neural networks, JMLR, https://arxiv.org/abs/1505.07818
        Elazar, Goldberg (2018), Adversarial removal of demographic attributes from text data, EMNLP,
        https://arxiv.org/abs/1808.06640
        Zhang, Lemoine, Mitchell (2018), Mitigating unwanted biases with adversarial learning, AIES,
        https://arxiv.org/abs/1801.07593

    Example:
        >>> from fairjax.losses import Loss
        >>> loss = Loss(terms=(Adversary(weight=1.0, steps=5),))
        >>> loss.layers
        ('last',)
    """

    label: ClassVar[str] = "Adversary"
    reference: ClassVar[str] = "Ganin et al. 2016; Elazar, Goldberg 2018"
    equation: ClassVar[str] = "-(cross-entropy of an adversary that predicts the group from a layer)"

    balanced: bool = static(True)
    """Whether all groups have the same total weight in the adversary's loss; see `group_cross_entropy`."""

    def _loss(self, logits: Float[Array, " m"] | Float[Array, "m g"], batch: Rows) -> Float[Array, ""]:
        return group_cross_entropy(
            logits,
            batch,
            notion=self.notion,
            balanced=self.balanced,
            num_groups=self.num_groups,
            num_classes=self.num_classes or 2,
        )

    def _gain(self, loss: Float[Array, ""]) -> Float[Array, ""]:
        return -loss
