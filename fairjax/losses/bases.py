"""The losses of labels that a composed loss starts from."""

from typing import ClassVar

from jaxtyping import Array, Float

from fairjax.losses.balanced_cross_entropy import balanced_cross_entropy, class_shares
from fairjax.losses.base import Data, Outputs, term
from fairjax.losses.cross_entropy import cross_entropy
from fairjax.types import Rows


class Base:
    """A loss of the labels: subclass it, decorate the class with `term`, and write `value`."""

    label: ClassVar[str] = ""
    """Name in tables and figures."""

    def bind(self, data: Data) -> "Base":
        """Return the loss with what it needs to know about the data. Default: the loss itself."""
        del data
        return self

    def value(self, outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the loss of a mini-batch."""
        raise NotImplementedError(f"{type(self).__name__} must have a function value")


@term
class CrossEntropy(Base):
    """Mean cross-entropy of the labels, in nats, weighted if the rows have weights."""

    label: ClassVar[str] = "Cross-entropy"

    def value(self, outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the mean of a mini-batch."""
        return cross_entropy(outputs.logits, batch)


@term
class BalancedCrossEntropy(Base):
    """Cross-entropy of the labels, in nats, in which all classes have the same total weight."""

    label: ClassVar[str] = "Class-balanced cross-entropy"

    shares: Float[Array, " c"] | None = None
    """Share of each class in the data from which mini-batches are drawn; those of the train rows if omitted."""

    def bind(self, data: Data) -> "BalancedCrossEntropy":
        """Compute the shares of the classes, unless they are given."""
        if self.shares is not None:
            return self
        return BalancedCrossEntropy(shares=class_shares(data.rows, data.num_classes))

    def value(self, outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the loss of a mini-batch.

        Raises:
            ValueError: if the shares of the classes are neither given nor bound.
        """
        if self.shares is None:
            raise ValueError("the shares of the classes are not known: give shares=, or call bind with the data first")
        return balanced_cross_entropy(outputs.logits, batch, self.shares)
