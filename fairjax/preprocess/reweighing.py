"""Reweighing: sample weights with which the label does not depend on the group."""

from typing import ClassVar, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.checks import all_valid, nan_unless
from fairjax.hyperparameters import check_choice, static
from fairjax.preprocess.base import Prepared, preprocessor
from fairjax.preprocess.cells import CellPreprocessor
from fairjax.types import KeyArray, Rows, WeightedBatch

TARGETS = ("independence", "cells", "groups")


@preprocessor
class Reweighing(CellPreprocessor):
    """Weigh train rows so that label and group are independent, w(y, a) = P(y) P(a) / P(y, a).

    The weighted share of each label is then the same in all groups, exactly, while the shares of labels and of groups
    do not change. The sum of the weights is the number of rows, or the sum of the weights that the rows had before.
    Other targets make all cells of label and group equally heavy, or all groups.

    Example:
        >>> import jax
        >>> from fairjax.types import Batch
        >>> y, a = jnp.array([True, True, False, True, False]), jnp.array([False, True, False, True, True])
        >>> weights = Reweighing().apply(jax.random.key(0), Batch(jnp.zeros((5, 1)), y, a)).train.weights
        >>> [round(weight, 4) for weight in weights.tolist()]
        [1.2, 0.9, 0.8, 0.9, 1.2]

    References:
        Kamiran, Calders (2012), Data preprocessing techniques for classification without discrimination, Knowledge and
        Information Systems 33, https://doi.org/10.1007/s10115-011-0463-8
    """

    label: ClassVar[str] = "Reweighing"
    reference: ClassVar[str] = "Kamiran and Calders 2012"
    equation: ClassVar[str] = "w(y, a) = P(y) P(a) / P(y, a)"
    changes: ClassVar[Literal["weights"]] = "weights"

    target: str = static("independence")
    """Distribution of label and group after reweighing: "independence", P(y) P(a); "cells", equal shares of all cells
    of label and group; "groups", equal shares of all groups, with the shares of labels in each group unchanged."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        super().__post_init__()
        check_choice("target", self.target, TARGETS)

    def apply(self, key: KeyArray, train: Rows) -> Prepared:
        """Compute the weights, as described for `Preprocessor`; they are NaN if a cell of traced rows is empty."""
        del key
        cells = self.ready(train).cells(train)
        totals = cells.total_weights
        filled = totals > 0
        factor = target_totals(totals, self.target) / jnp.where(filled, totals, 1.0)
        weights = cells.weights * factor.reshape(-1)[cells.codes]
        weights = nan_unless(all_valid(cells.valid, jnp.all(filled)), weights)
        return Prepared(WeightedBatch(train.x, train.y, train.a, weights))


def target_totals(totals: Float[Array, "classes groups"], target: str) -> Float[Array, "classes groups"]:
    """Compute the weight that each cell should have; the sum over all cells does not change.

    Example:
        >>> target_totals(jnp.array([[1.0, 3.0], [2.0, 2.0]]), "independence").tolist()
        [[1.5, 2.5], [1.5, 2.5]]
    """
    total, of_groups = jnp.sum(totals), jnp.sum(totals, axis=0, keepdims=True)
    safe = jnp.where(total > 0, total, 1.0)
    if target == "independence":
        return jnp.sum(totals, axis=1, keepdims=True) * of_groups / safe
    if target == "cells":
        return jnp.broadcast_to(total / totals.size, totals.shape)
    return totals / jnp.where(of_groups > 0, of_groups, 1.0) * (total / totals.shape[1])
