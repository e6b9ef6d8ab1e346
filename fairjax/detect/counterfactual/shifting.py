"""Shift columns from the mean of one group to that of the other."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from fairjax.checks import check_rows, indicator, vector
from fairjax.detect.counterfactual.columns import (
    Column,
    as_columns,
    is_concrete,
    matrix_columns,
    read_column,
    write_column,
)
from fairjax.detect.counterfactual.perturbation import Perturbation, perturbation
from fairjax.detect.rows import num_rows
from fairjax.hyperparameters import static
from fairjax.types import Inputs


@perturbation
class ShiftToGroup(Perturbation):
    """Shifts rows to the mean of the other group. Made by `shift_to_group`."""

    columns: tuple[Column, ...] = static(())
    differences: Any = ()
    """The mean of the privileged group minus that of the other, for each column."""
    a: Any = None
    """The group of each row."""
    valid: Any = None
    """Which rows can be shifted, if the groups were traced."""

    def perturbed(self, x: Inputs) -> tuple[Inputs, Bool[Array, " n"] | None]:
        """Change the inputs, as described for `Perturbation`."""
        n = num_rows(x)
        if self.a.shape != (n,):
            raise ValueError(
                f"the groups given to shift_to_group are those of {self.a.shape[0]} rows, found {n} rows in x: give "
                "the groups of these rows as rows_a"
            )
        numbers = matrix_columns(x, self.columns)
        if numbers is not None:
            table = jnp.asarray(x)
            shift = jnp.asarray(self.differences)[None].astype(table.dtype)
            return table.at[:, numbers].add(jnp.where(self.a[:, None], -shift, shift)), self.valid
        for column, difference in zip(self.columns, self.differences, strict=True):
            before = read_column(x, column)
            a = self.a.reshape(-1, *[1] * (before.ndim - 1))
            shift = difference[None].astype(before.dtype)
            x = write_column(x, column, before + jnp.where(a, -shift, shift))
        return x, self.valid


def shift_to_group(columns: Column | Sequence[Column], x: Inputs, a: Any, *, rows_a: Any = None) -> ShiftToGroup:
    """Make a perturbation that moves each row by the difference of the group means towards the other group.

    Rows of the unprivileged group (a = 0) are moved by mean(a=1) - mean(a=0), and the others by the opposite. A
    group's mean becomes that of the other group, and differences within groups are preserved.

    Args:
        columns: one column of floats, or several; see `Column`.
        x: rows from which the means are computed, such as those of the train part.
        a: their groups, true or 1 in the privileged group.
        rows_a: groups of the rows that will be moved; `a` if omitted.

    Returns:
        The perturbation, a function of the rows whose groups are `rows_a`.

    Raises:
        ValueError: if a group has no rows, a column does not hold floats, or numbers of rows differ.
        TypeError: if groups are anything but numbers and booleans.

    Example:
        >>> perturb = shift_to_group(0, jnp.array([[1.0], [3.0], [10.0]]), jnp.array([True, True, False]))
        >>> perturb(jnp.array([[1.0], [3.0], [10.0]]))[:, 0].tolist()
        [9.0, 11.0, 2.0]
    """
    chosen, n = as_columns(columns), num_rows(x)
    check_rows("x", x, n)
    groups, valid = indicator("a", vector("a", a))
    moved, valid_moved = (groups, None) if rows_a is None else indicator("rows_a", vector("rows_a", rows_a))
    if groups.shape != (n,):
        raise ValueError(f"a must have one group per row of x, {n}, found shape {groups.shape}")
    if is_concrete(groups) and np.asarray(groups).all() | ~np.asarray(groups).any():
        raise ValueError(f"both groups must have rows, found only a = {int(groups[0])}: pass rows of both")
    numbers = matrix_columns(x, chosen)
    parts = [read_column(x, column) for column in chosen] if numbers is None else [jnp.asarray(x)[:, numbers]]
    for column, values in zip(chosen, parts, strict=False):
        if not jnp.issubdtype(values.dtype, jnp.floating):
            raise ValueError(f"column {column!r} holds {values.dtype} and cannot be shifted: use permute_within")
    differences = [_mean(values, groups) - _mean(values, ~groups) for values in parts]
    conditions = [jnp.broadcast_to(each, moved.shape) for each in (valid, valid_moved) if each is not None]
    all_valid = jnp.all(jnp.stack(conditions), axis=0) if conditions else None
    return ShiftToGroup(chosen, tuple(differences) if numbers is None else differences[0], moved, all_valid)


def _mean(values: Array, rows: Bool[Array, " n"]) -> Array:
    """Return the mean over the given rows; NaN if there are none."""
    members = rows.reshape(-1, *[1] * (values.ndim - 1))
    return jnp.sum(jnp.where(members, values, 0), axis=0) / jnp.sum(rows).astype(values.dtype)
