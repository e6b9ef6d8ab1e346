"""Removal of columns, such as the protected attribute and its proxies."""

from typing import Any, ClassVar, Literal

import jax.numpy as jnp
from jaxtyping import PyTree

from fairjax.preprocess.base import Prepared, matrix, preprocessor
from fairjax.preprocess.columns import ColumnPreprocessor
from fairjax.types import Inputs, KeyArray, Rows


@preprocessor
class Removal(ColumnPreprocessor):
    """Remove columns: they become constant 0, so that a network cannot use them.

    Pass new rows through `prepare_rows` too: training does not change the weights of a constant column, so they keep
    their random initial values. The shape of the table does not change, and the functions that a network can compute
    are the same as for a table without these columns. If only the attribute is removed, a network can still infer it
    from its proxies.

    Example:
        >>> import jax
        >>> from fairjax.types import Batch
        >>> rows = Batch(jnp.ones((2, 3)), jnp.ones(2, bool), jnp.ones(2, bool))
        >>> Removal(columns=(0, 2)).apply(jax.random.key(0), rows).train.x.tolist()
        [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]
    """

    label: ClassVar[str] = "Removal"
    reference: ClassVar[str] = "Fairness through unawareness"
    equation: ClassVar[str] = "x'_j = 0 for the chosen columns j"
    changes: ClassVar[Literal["features"]] = "features"
    needs_group: ClassVar[bool] = False

    def apply(self, key: KeyArray, train: Rows) -> Prepared:
        """Remove the columns, as described for `Preprocessor`."""
        ready = self.ready(train)
        return Prepared(train._replace(x=ready.transform(key, (), train.x, None)))

    def transform(self, key: KeyArray, fitted: PyTree[Any], x: Inputs, a: Any) -> Inputs:
        """Remove the columns from features of any rows."""
        del key, fitted, a
        table = matrix(x, "Removal")
        return table.at[:, self.chosen(table.shape[1])].set(jnp.zeros((), table.dtype))
