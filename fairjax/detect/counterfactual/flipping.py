"""Flip a column between its two values."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from fairjax.detect.counterfactual.columns import Column, is_concrete, read_column, write_column
from fairjax.detect.counterfactual.perturbation import Perturbation, first_rows, perturbation
from fairjax.hyperparameters import static
from fairjax.types import Inputs

NEAR = 1e-4
"""How far from one of two given values a number may be, as a share of the distance between them."""


@perturbation
class Flip(Perturbation):
    """Flips a column between two values. Made by `flip`."""

    column: Column = static(0)
    values: Any = None
    """The two values; None for the smallest and the greatest value of the rows."""

    def perturbed(self, x: Inputs) -> tuple[Inputs, Bool[Array, " n"] | None]:
        """Change the inputs, as described for `Perturbation`."""
        column = read_column(x, self.column)
        wide = column.astype(jnp.int32) if column.dtype == bool else column
        if self.values is None:
            low, high, near = jnp.min(wide), jnp.max(wide), 0.0
        else:
            low, high = (jnp.asarray(value).astype(wide.dtype) for value in self.values)
            near = NEAR
        is_low, is_high = (_is_near(wide, value, high - low, near) for value in (low, high))
        flipped = jnp.where(is_low, high, jnp.where(is_high, low, wide))
        valid = jnp.reshape((is_low | is_high) & (low != high), (column.shape[0], -1)).all(axis=1)
        if not is_concrete(valid):  # even constants are traced inside of jit
            return write_column(x, self.column, flipped), valid
        self._check(np.asarray(column), np.asarray(valid))
        return write_column(x, self.column, flipped), None

    def _check(self, column: np.ndarray, valid: np.ndarray) -> None:
        if valid.all():
            return
        name = self.column
        if self.values is not None:
            low, high = (np.asarray(value) for value in self.values)
            found = column[~valid].ravel()[0]
            raise ValueError(
                f"column {name!r} must hold {low:g} or {high:g} to be flipped, found {found:g} in "
                f"{first_rows(~valid)}: give the two values as x holds them, standardised if x is, or leave values out"
            )
        count, value = len(np.unique(column)), column.ravel()[0]
        if count == 1:
            raise ValueError(
                f"column {name!r} is {value:g} in all rows, so its other value is not known: give both, "
                f"flip({name!r}, values=({value:g}, ...)), or pass rows of both groups"
            )
        raise ValueError(
            f"column {name!r} has {count:,} different values and can be flipped only between two: give them as values, "
            "or use replace, permute_within or, for one-hot columns, swap_categories"
        )


def _is_near(column: Array, value: Array, distance: Array, near: float) -> Bool[Array, "n ..."]:
    if not jnp.issubdtype(column.dtype, jnp.floating):
        return column == value
    return jnp.abs(column - value) <= near * jnp.abs(distance)


def flip(column: Column, values: tuple[Any, Any] | None = None) -> Flip:
    """Make a perturbation that flips a column between its two values, such as the protected attribute.

    Standardised values are flipped as they are: each row gets the other of the two values that occur. An attribute
    that is encoded by several one-hot columns is changed by `swap_categories`.

    Args:
        column: the column; see `Column`.
        values: the two values, as `x` holds them; if omitted, the two that occur in the rows.

    Returns:
        The perturbation, a function of `x`. It raises an error for rows with any other value, and for a constant column
        whose other value is not known.

    Raises:
        ValueError: if `values` are not two different finite numbers.

    Example:
        >>> flip(1)(jnp.array([[5.0, -0.5], [6.0, 1.5]])).tolist()
        [[5.0, 1.5], [6.0, -0.5]]
    """
    if values is not None:
        known = is_concrete(values)
        if len(values) != 2 or (known and not (np.all(np.isfinite(np.asarray(values))) and values[0] != values[1])):
            raise ValueError(f"values must be two different finite numbers, got {values}")
    return Flip(column, values)
