"""A balanced part of a data set, such as a balanced benchmark made from a test part."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from fairjax.hyperparameters import check_at_least
from fairjax.preprocess.base import is_concrete
from fairjax.preprocess.cells import CellPreprocessor
from fairjax.preprocess.drawing import draw
from fairjax.types import Batch, KeyArray


def balanced_rows(
    key: KeyArray, y: Any, a: Any, rows: int | None = None, *, num_classes: int = 2, num_groups: int = 2
) -> Int[Array, " rows"]:
    """Choose rows with equally many of each label and group, at random and without repetition.

    On such rows a rate of a group does not depend on how frequent its labels are, and every group counts equally in
    the accuracy.

    Args:
        key: random key.
        y: labels, such as those of a test part.
        a: groups.
        rows: number of rows, a multiple of the number of cells of label and group; by default as many as the smallest
            cell allows, which needs concrete labels and groups.
        num_classes: number of classes.
        num_groups: number of groups.

    Returns:
        Row numbers, in increasing order. For the test part of a split, `split.test[balanced_rows(...)]`.

    Raises:
        ValueError: if `rows` is not such a multiple, or is too large. If the values are traced, rows of a cell that
            is too small are repeated, which cannot be detected.

    Example:
        >>> y, a = jnp.array([0, 0, 0, 1, 1, 0]), jnp.array([0, 1, 1, 0, 1, 0])
        >>> chosen = balanced_rows(jax.random.key(0), y, a)
        >>> y[chosen].sum().item(), a[chosen].sum().item(), len(chosen)
        (2, 2, 4)
    """
    cells = CellPreprocessor(num_classes=num_classes, num_groups=num_groups).cells(Batch(y, y, a))
    known = is_concrete(y, a)
    smallest = int(np.bincount(np.asarray(cells.codes), minlength=cells.count).min()) if known else None
    if rows is None:
        if smallest is None:
            raise ValueError("the size of the smallest cell is unknown, since y or a is traced: give rows")
        rows = smallest * cells.count
    check_at_least("rows", rows, cells.count)
    if rows % cells.count or (smallest is not None and rows > smallest * cells.count):
        most = "" if smallest is None else f" and at most {smallest * cells.count}, since the smallest has {smallest}"
        raise ValueError(f"rows must be a multiple of the {cells.count} cells of label and group{most}, found {rows}")
    quota = jnp.full(cells.count, rows // cells.count, jnp.int32)
    return draw(cells.codes, quota, jax.random.uniform(key, cells.codes.shape), rows)[0]
