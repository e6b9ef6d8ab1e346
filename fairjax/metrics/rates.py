"""Rates of groups: ratios of two sums of the cells of a confusion tensor."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num

from fairjax.metrics.confusion import MASKS, group_masks, sums_by_group
from fairjax.types import AnyArray

Matrix = tuple[tuple[float | int, ...], ...]
"""Coefficients by (predicted class, label)."""


@dataclass(frozen=True)
class Rate:
    """A rate `<num, C_g> / <den, C_g>` of each group g, given by two matrices over (predicted class, label).

    It is hashable and compares by value, so that it can be static under `jax.jit`. Construct one directly, or with one
    of the functions of this module.

    Example:
        >>> Rate(num=((0, 0), (0, 1)), den=((0, 1), (0, 1))) == recall()
        True
    """

    num: Matrix
    """Coefficients of the numerator."""
    den: Matrix
    """Coefficients of the denominator."""

    def __post_init__(self) -> None:
        """Convert lists and arrays to tuples, and check that the matrices are square and of the same size."""
        for name in ("num", "den"):
            object.__setattr__(self, name, tuple(tuple(float(each) for each in row) for row in getattr(self, name)))
        shape = len(self.num)
        if shape < 2 or any(len(m) != shape or any(len(row) != shape for row in m) for m in (self.num, self.den)):
            raise ValueError(
                "num and den must be square matrices over (predicted class, label) of one size, at least 2 by 2, got "
                f"{self.num} and {self.den}"
            )
        if not np.isfinite(np.asarray([self.num, self.den])).all():
            raise ValueError(f"num and den must be finite, got {self.num} and {self.den}")

    @property
    def num_classes(self) -> int:
        """Number of classes of the rate."""
        return len(self.num)

    @property
    def depends_on_predictions(self) -> bool:
        """Whether the denominator depends on the predictions, as that of precision does."""
        return len(set(self.den)) > 1

    def of(self, tensor: Num[AnyArray, "P Y G"]) -> tuple[Float[Array, " G"], Bool[Array, " G"]]:
        """Compute the rate in each group, and whether it is defined.

        Args:
            tensor: result of `confusion`, or a sum of such results.

        Returns:
            The rates, and whether their denominators are positive. A rate without a positive denominator is NaN, with
            a zero gradient. NaN in the tensor stays NaN and counts as defined.

        Raises:
            ValueError: if the tensor has a different number of classes.
        """
        if tensor.ndim < 2 or tensor.shape[:2] != (self.num_classes, self.num_classes):
            raise ValueError(
                f"expected a tensor of shape ({self.num_classes}, {self.num_classes}, groups), got {tensor.shape}; "
                "make the rate for as many classes as the tensor has"
            )
        top, size = _contract(self.num, tensor), self.size(tensor)
        defined = ~(size <= 0)
        return jnp.where(defined, top / jnp.where(defined, size, 1.0), jnp.nan), defined

    def size(self, tensor: Num[AnyArray, "P Y G"]) -> Float[Array, " G"]:
        """Compute the denominator in each group."""
        return _contract(self.den, tensor)

    def of_rows(
        self, values: Any, y: Any, groups: Any, weights: Float[Array, " n"] | None, num_groups: int
    ) -> tuple[Float[Array, " G"], Float[Array, " G"], Bool[Array, " G"]]:
        """Compute the rate on checked rows by two sums per group, without the tensor.

        Args:
            values: scores (n,) for two classes, or probabilities (n, classes).
            y: labels, booleans or codes.
            groups: booleans, codes or memberships.
            weights: sample weights; 1 if None.
            num_groups: number of groups.

        Returns:
            The rate in each group, its denominator, and whether the denominator is positive; see `of`.
        """
        weights = jnp.ones(values.shape[:1], values.dtype) if weights is None else weights

        def sums(matrix: Matrix):
            per_row, rows = _per_row(matrix, values, y)
            per_row = weights if per_row is None else per_row * weights
            if groups.ndim == 1 and num_groups <= MASKS:
                members = group_masks(groups, num_groups)
                members = members if rows is None else [rows & mask for mask in members]
                return jnp.stack([jnp.sum(per_row, where=mask) for mask in members])
            return sums_by_group(per_row if rows is None else jnp.where(rows, per_row, 0.0), groups, num_groups)

        top, size = sums(self.num), sums(self.den)
        defined = ~(size <= 0)  # a NaN weight must not look like an empty group
        return jnp.where(defined, top / jnp.where(defined, size, 1.0), jnp.nan), size, defined


def selection(k: int = 1, num_classes: int = 2) -> Rate:
    """Make the selection rate P(predicted k), the share of rows for which class k is predicted.

    Args:
        k: the class.
        num_classes: number of classes.

    Returns:
        The rate.
    """
    return _rate(num_classes, lambda p, y: p == k, lambda p, y: True, k)


def recall(k: int = 1, num_classes: int = 2) -> Rate:
    """Make the recall P(predicted k given label k), which is the true positive rate for k = 1."""
    return _rate(num_classes, lambda p, y: p == k and y == k, lambda p, y: y == k, k)


true_positive_rate = recall


def false_positive_rate(k: int = 1, num_classes: int = 2) -> Rate:
    """Make the false positive rate P(predicted k given another label)."""
    return _rate(num_classes, lambda p, y: p == k and y != k, lambda p, y: y != k, k)


def precision(k: int = 1, num_classes: int = 2) -> Rate:
    """Make the precision P(label k given predicted k)."""
    return _rate(num_classes, lambda p, y: p == k and y == k, lambda p, y: p == k, k)


def false_omission_rate(k: int = 1, num_classes: int = 2) -> Rate:
    """Make the false omission rate P(label k given that another class was predicted)."""
    return _rate(num_classes, lambda p, y: p != k and y == k, lambda p, y: p != k, k)


def accuracy(num_classes: int = 2) -> Rate:
    """Make the accuracy P(predicted class = label)."""
    return _rate(num_classes, lambda p, y: p == y, lambda p, y: True)


def base_rate(k: int = 1, num_classes: int = 2) -> Rate:
    """Make the base rate P(label k), which does not depend on the predictions."""
    return _rate(num_classes, lambda p, y: y == k, lambda p, y: True, k)


def f_beta(beta: float | int = 1.0, k: int = 1, num_classes: int = 2) -> Rate:
    """Make the F score of class k, (1 + b^2) TP / (b^2 (TP + FN) + TP + FP); its denominator is not a number of rows.

    Args:
        beta: the importance b of recall relative to precision.
        k: the class.
        num_classes: number of classes.

    Returns:
        The rate.
    """
    if not 0 < beta < float("inf"):
        raise ValueError(f"beta must be positive and finite, got {beta}")
    square = float(beta) ** 2
    return _rate(
        num_classes,
        lambda p, y: (1 + square) * (p == k and y == k),
        lambda p, y: square * (y == k) + (p == k),
        k,
    )


def confusion_rate(p: int, y: int, num_classes: int = 2) -> Rate:
    """Make the rate P(predicted p given label y)."""
    return _rate(num_classes, lambda i, j: i == p and j == y, lambda i, j: j == y, p, y)


def _rate(num_classes: int, num, den, *classes: int) -> Rate:
    for k in classes:
        if not 0 <= k < num_classes:
            raise ValueError(f"expected a class from 0 to {num_classes - 1}, got {k}; set num_classes if it is more")
    num, den = (
        tuple(tuple(float(coefficient(p, y)) for y in range(num_classes)) for p in range(num_classes))
        for coefficient in (num, den)
    )
    return Rate(num, den)


def _per_row(matrix: Matrix, values: Any, y: Any) -> tuple[Float[Array, " n"] | None, Bool[Array, " n"] | None]:
    """Compute sum_p matrix[p][y] * P(predicted p) for each row, and the rows for which it is not constantly 0.

    The first result is None if it is 1 for all rows, and the second is None if it contains all rows.
    """
    count = len(matrix)
    if values.ndim == 2:
        table = jnp.asarray(matrix, values.dtype)
        if count > 2 and bool(np.all(np.asarray(matrix) == 1)):
            return None, None
        return jnp.sum(values * jnp.take(table, y.astype(jnp.int32), axis=1).T, axis=1), None

    def row_value(label: int):
        rejected, accepted = matrix[0][label], matrix[1][label]
        if rejected == accepted:
            return rejected
        simple = values if (rejected, accepted) == (0, 1) else 1.0 - values if (rejected, accepted) == (1, 0) else None
        return rejected + (accepted - rejected) * values if simple is None else simple

    columns = tuple(zip(*matrix, strict=True))
    negative, positive = row_value(0), row_value(1)
    if columns[0] == columns[1]:
        return _constant(positive, values), None
    for column, row_values, rows in ((columns[0], positive, y), (columns[1], negative, ~y)):
        if not any(column):
            return _constant(row_values, values), rows
    return jnp.where(y, positive, negative), None


def _constant(per_row: Any, values: Any) -> Float[Array, " n"] | None:
    """Return None for the constant 1, and any other constant as an array."""
    if isinstance(per_row, float | int):
        return None if per_row == 1 else jnp.full_like(values, per_row)
    return per_row


def _contract(matrix: Matrix, tensor):
    """Sum the tensor's cells times the matrix, skipping cells with coefficient 0."""
    total = jnp.zeros(tensor.shape[2:], tensor.dtype)
    for p, row in enumerate(matrix):
        for y, coefficient in enumerate(row):
            if coefficient:
                total = total + (tensor[p, y] if coefficient == 1 else coefficient * tensor[p, y])
    return total
