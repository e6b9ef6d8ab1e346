"""Swap augmentation: every train row is trained on twice, once with the other value of the protected attribute."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from fairjax import checks
from fairjax.data.dataset import Dataset
from fairjax.data.unscaled import nan_where_invalid
from fairjax.hyperparameters import static
from fairjax.preprocess.base import Prepared, is_concrete, matrix, preprocessor
from fairjax.preprocess.columns import Column, ColumnPreprocessor, check_columns, indices_of, numbers
from fairjax.types import KeyArray, Rows, concatenated


@preprocessor
class SwapAugmentation(ColumnPreprocessor):
    """Add a copy of every train row with the other value of the protected attribute and the same label.

    The columns of the attribute are flipped between their two values, and so is the group. Declared pairs of columns,
    such as the one-hot columns of "husband" and "wife", are exchanged. A network that is trained on both cannot tell
    the groups apart by these columns, but it can by others that are associated with the group.

    There must be two groups. The two values of a column are its smallest and its greatest in the train part.

    Example:
        >>> from fairjax.types import Batch
        >>> rows = Batch(jnp.array([[1.0, 5.0], [0.0, 6.0]]), jnp.array([True, False]), jnp.array([True, False]))
        >>> rows = SwapAugmentation(columns=(0,)).apply(jax.random.key(0), rows).train
        >>> rows.x.tolist(), rows.a.tolist()
        ([[1.0, 5.0], [0.0, 6.0], [0.0, 5.0], [1.0, 6.0]], [True, False, False, True])

    References:
        Zhao, Wang, Yatskar, Ordonez, Chang (2018), Gender bias in coreference resolution: evaluation and debiasing
        methods, NAACL, https://arxiv.org/abs/1804.06876
    """

    label: ClassVar[str] = "Swap augmentation"
    reference: ClassVar[str] = "Zhao et al. 2018"
    equation: ClassVar[str] = "rows (x, y, a) and (x with a swapped, y, 1 - a)"
    changes: ClassVar[Literal["rows"]] = "rows"

    pairs: tuple[tuple[Column, Column], ...] = static(())
    """Pairs of columns with two values each that are exchanged, by number or by name."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        super().__post_init__()
        for pair in self.pairs:
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise ValueError(f"pairs must hold pairs of columns, found {pair!r}")
        check_columns([*self.columns, *(column for pair in self.pairs for column in pair)])

    def named(self, dataset: Dataset) -> "SwapAugmentation":
        """Return the preprocessor with the numbers of the named columns."""
        pairs = []
        for pair in self.pairs:
            found = [indices_of((column,), dataset.features) for column in pair]
            for column, indices in zip(pair, found, strict=True):
                if len(indices) != 1:
                    raise ValueError(f"pairs must name single columns, and {column!r} has {len(indices)}")
            pairs.append((found[0][0], found[1][0]))
        return dataclasses.replace(super().named(dataset), pairs=tuple(pairs))

    def adapted(self, trains: Rows) -> "SwapAugmentation":
        """Check that there are two groups, and that the columns have two values.

        Raises:
            ValueError: naming the column and the number of its values.
        """
        for seed in range(np.shape(trains.a)[0]):
            checks.indicator("a", checks.vector("a", trains.a[seed]))
            for column in self._all(np.shape(trains.x)[-1]):
                values = np.unique(np.asarray(trains.x[seed])[:, column])
                if len(values) != 2:
                    raise ValueError(
                        f"column {column} has {len(values):,} different values in the train part and can be swapped "
                        "only between two: name one-hot columns as pairs, and leave out columns of numbers"
                    )
        return super().adapted(trains)

    def apply(self, key: KeyArray, train: Rows) -> Prepared:
        """Add the swapped rows, as described for `Preprocessor`; they are NaN if traced columns cannot be swapped."""
        del key
        self.ready(train)
        table = matrix(train.x, "SwapAugmentation")
        a, valid = checks.indicator("a", checks.vector("a", train.a))
        d = table.shape[1]
        columns = self._all(d)
        low, high = jnp.min(table, axis=0), jnp.max(table, axis=0)
        is_high = table > (0.5 * low + 0.5 * high)[None]
        source, flipped = np.arange(d), np.zeros(d, bool)
        flipped[self.chosen(d)] = True
        for pair in self.pairs:
            first, second = numbers(pair, d)
            source[first], source[second] = second, first
        new = jnp.where(is_high[:, source[columns]] ^ flipped[columns][None], high[columns][None], low[columns][None])
        swapped = table.at[:, columns].set(new)
        if not is_concrete(table):
            valid = checks.all_valid(valid, _two_values(table[:, columns], low[columns], high[columns]))
        swapped = swapped if valid is None else nan_where_invalid(swapped, valid)
        copies = train._replace(x=swapped, a=~a if train.a.dtype == bool else (1 - train.a))
        return Prepared(jax.tree.map(concatenated, train._replace(x=table), copies))

    def _all(self, d: int) -> np.ndarray:
        """Return the numbers of all columns that change."""
        return np.concatenate([self.chosen(d), *(numbers(pair, d) for pair in self.pairs)])


def _two_values(columns: Array, low: Array, high: Array) -> Bool[Array, ""]:
    return jnp.all((columns == low[None]) | (columns == high[None])) & jnp.all(low < high)
