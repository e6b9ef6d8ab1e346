"""Swap two categories of a variable that is encoded by one-hot columns."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from fairjax.detect.counterfactual.columns import Column, check_distinct, is_concrete, read_column, write_column
from fairjax.detect.counterfactual.perturbation import Perturbation, first_rows, perturbation
from fairjax.hyperparameters import static
from fairjax.types import Inputs


@perturbation
class SwapCategories(Perturbation):
    """Swaps two categories of a one-hot variable. Made by `swap_categories`."""

    columns: tuple[Column, ...] = static(())
    swapped: tuple[int, int] = static((0, 1))
    """The positions of the two categories among the columns."""
    categories: tuple[Any, ...] = static(())
    """The names of all categories, for messages."""
    levels: Any = None
    """The numbers that mean "no" and "yes", (2, columns); None for the smallest and greatest value of each column."""

    def perturbed(self, x: Inputs) -> tuple[Inputs, Bool[Array, " n"] | None]:
        """Change the inputs, as described for `Perturbation`."""
        values = jnp.stack([read_column(x, column).astype(jnp.result_type(float)) for column in self.columns], axis=1)
        if self.levels is None:
            no, yes = jnp.min(values, axis=0), jnp.max(values, axis=0)
        else:
            no, yes = (jnp.asarray(level).astype(values.dtype) for level in self.levels)
        is_yes = (values > (0.5 * (no + yes))[None]) & (no < yes)[None]
        ways = list(self.swapped)
        valid = (jnp.sum(is_yes, axis=1) == 1) & jnp.all(no[jnp.array(ways)] < yes[jnp.array(ways)])
        concrete = is_concrete(valid)  # even constants are traced inside of jit
        if concrete:
            self._check(np.asarray(is_yes), np.asarray(no < yes))
        for position, other in (ways, ways[::-1]):
            column = jnp.where(is_yes[:, other], yes[position], no[position])
            x = write_column(x, self.columns[position], column)
        return x, None if concrete else valid

    def _check(self, is_yes: np.ndarray, varies: np.ndarray) -> None:
        for position in self.swapped:
            if not varies[position]:
                raise ValueError(
                    f"column {self.columns[position]!r} of the category {self.categories[position]!r} is constant, so "
                    "its numbers for yes and no are not known: give them as levels, or pass rows of both kinds"
                )
        wrong = is_yes.sum(axis=1) != 1
        if wrong.any():
            count = is_yes[np.argmax(wrong)].sum()
            raise ValueError(
                f"the columns of one variable must be one-hot, found {count} categories in {first_rows(wrong)}: name "
                "the columns of all its categories and of no other variable"
            )


def swap_categories(
    columns: Mapping[Any, Column] | Sequence[Column], first: Any, second: Any, *, levels: Any = None
) -> SwapCategories:
    """Make a perturbation that swaps two categories of a variable, such as "husband" and "wife".

    Rows of the first category get the second and the other way round; rows of other categories are not changed. The
    columns may be standardised: each column keeps its own numbers for yes and no.

    Args:
        columns: the one-hot columns of all categories of the variable: a mapping from the category to its column, or
            a sequence of columns, whose categories are then 0, 1, ...
        first: a category.
        second: another category.
        levels: the numbers that mean no and yes in each column, of shape (2, columns); if omitted, the smallest and the
            greatest number of each column.

    Returns:
        The perturbation, a function of `x`. It raises an error if a row does not have exactly one category.

    Raises:
        ValueError: if a category does not exist, both are the same, or `levels` have another shape.

    Example:
        >>> perturb = swap_categories({"husband": 0, "wife": 1, "child": 2}, "husband", "wife")
        >>> perturb(jnp.eye(3)).tolist()
        [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    named = dict(columns) if isinstance(columns, Mapping) else dict(enumerate(columns))
    categories = tuple(named)
    for category in (first, second):
        if category not in named:
            raise ValueError(
                f"there is no category {category!r}: the categories are {', '.join(map(repr, categories))}"
            )
    if first == second:
        raise ValueError(f"the categories to swap must be two different ones, got {first!r} twice")
    if levels is not None and np.shape(levels) != (2, len(named)):
        raise ValueError(
            f"levels must be the numbers for no and yes of each column, shape (2, {len(named)}), found shape "
            f"{np.shape(levels)}"
        )
    swapped = categories.index(first), categories.index(second)
    return SwapCategories(check_distinct(tuple(named.values())), swapped, categories, levels)
