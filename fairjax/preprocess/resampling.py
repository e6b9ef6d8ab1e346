"""Resampling: train rows are repeated and left out, so that the label does not depend on the group."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.hyperparameters import check_at_least, check_choice, static
from fairjax.preprocess.base import Prepared, matrix, preprocessor
from fairjax.preprocess.cells import CellPreprocessor, Cells
from fairjax.preprocess.drawing import draw, drawn_rows, quotas
from fairjax.preprocess.naive_bayes import log_posterior
from fairjax.preprocess.reweighing import target_totals
from fairjax.types import KeyArray, Rows


@preprocessor
class Resampling(CellPreprocessor):
    """Resample train rows with the weights of reweighing, for training without sample weights.

    A cell of label y and group a gets n P(y) P(a) rows, up to one row. If it has fewer, all its rows are kept and some
    are repeated; if it has more, some are left out. Uniform sampling chooses these rows at random. Preferential
    sampling chooses the rows nearest to the border between the classes, that is, those whose own label is the least
    probable for a naive Bayes classifier of the train part.

    References:
        Kamiran, Calders (2012), Data preprocessing techniques for classification without discrimination, Knowledge and
        Information Systems 33, https://doi.org/10.1007/s10115-011-0463-8
    """

    label: ClassVar[str] = "Resampling"
    reference: ClassVar[str] = "Kamiran and Calders 2012"
    equation: ClassVar[str] = "n P(y) P(a) rows of each cell (y, a)"
    changes: ClassVar[Literal["rows"]] = "rows"

    how: str = static("uniform")
    """Which rows of a cell are repeated or left out: "uniform", rows chosen at random; "preferential", the rows nearest
    to the border between the classes."""
    rows: int | None = static(None)
    """Number of train rows; as many as before by default."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        super().__post_init__()
        check_choice("how", self.how, ("uniform", "preferential"))
        if self.rows is not None:
            check_at_least("rows", self.rows, 4)

    def apply(self, key: KeyArray, train: Rows) -> Prepared:
        """Resample the rows, as described for `Preprocessor`."""
        cells = self.ready(train).cells(train)
        rows = self.rows or cells.codes.shape[0]
        wanted = target_totals(cells.total_weights, "independence")
        quota = quotas(wanted.reshape(-1), rows)
        if self.how == "uniform":
            order = jax.random.uniform(key, cells.codes.shape)
        else:
            order = _distance_from_border(train, cells)
            repeated = quota >= cells.sizes()
            # The nearest rows are repeated, and the farthest are kept where rows are left out.
            order = jnp.where(repeated[cells.codes], order, -order)
        drawn, filled = draw(cells.codes, quota, order, rows)
        return Prepared(drawn_rows(train, cells, drawn, wanted, filled))


def _distance_from_border(train: Rows, cells: Cells) -> Float[Array, " n"]:
    """Return the log odds of each row's own label against the most probable other label."""
    log_p = log_posterior(matrix(train.x, "preferential sampling"), cells)
    own = cells.codes // cells.shape[1]
    is_own = jnp.arange(cells.shape[0], dtype=own.dtype)[None] == own[:, None]
    return jnp.sum(jnp.where(is_own, log_p, 0.0), axis=1) - jnp.max(jnp.where(is_own, -jnp.inf, log_p), axis=1)


@preprocessor
class Balancing(CellPreprocessor):
    """Resample train rows to equally many of each label and group, by oversampling or undersampling.

    The share of each label is then the same in all groups, and all labels and groups are equally frequent. Since this
    changes the base rate, compare results at equal selection rates or by balanced accuracy.

    Example:
        >>> from fairjax.types import Batch
        >>> y, a = jnp.arange(12) % 3 == 0, jnp.arange(12) % 2 == 0
        >>> rows = Balancing(to="smallest").apply(jax.random.key(0), Batch(jnp.zeros((12, 1)), y, a)).train
        >>> rows.y.sum().item(), rows.a.sum().item(), len(rows.y)
        (4, 4, 8)

    References:
        Zhao, Wang, Yatskar, Ordonez, Chang (2018), Gender bias in coreference resolution: evaluation and debiasing
        methods, NAACL, https://arxiv.org/abs/1804.06876
    """

    label: ClassVar[str] = "Balancing"
    reference: ClassVar[str] = "Zhao et al. 2018"
    equation: ClassVar[str] = "equally many rows of each cell (y, a)"
    changes: ClassVar[Literal["rows"]] = "rows"

    to: int | str = static("largest")
    """Number of rows of each cell of label and group: "largest", that of the largest cell, so that rows are repeated;
    "smallest", that of the smallest, so that rows are left out; or a number. All seeds of `prepare_many` get the same
    number: the largest or the smallest of all seeds."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        super().__post_init__()
        if isinstance(self.to, str):
            check_choice("to", self.to, ("largest", "smallest"))
        else:
            check_at_least("to", self.to, 1)

    def adapted(self, trains: Rows) -> "Balancing":
        """Return the preprocessor with the number of rows of each cell."""
        checked = super().adapted(trains)
        if not isinstance(self.to, str):
            return checked
        sizes = checked.sizes_by_seed(trains)
        return dataclasses.replace(checked, to=int(sizes.max() if self.to == "largest" else sizes.min()))

    def apply(self, key: KeyArray, train: Rows) -> Prepared:
        """Resample the rows, as described for `Preprocessor`."""
        ready = self.ready(train)
        if isinstance(ready.to, str):
            raise ValueError(
                f"the number of rows of the {ready.to} cell is unknown, since the rows are traced: give to=... as a "
                "number, or call prepare outside of jit"
            )
        cells = ready.cells(train)
        quota = jnp.full(cells.count, ready.to, jnp.int32)
        order = jax.random.uniform(key, cells.codes.shape)
        drawn, filled = draw(cells.codes, quota, order, ready.to * cells.count)
        return Prepared(drawn_rows(train, cells, drawn, jnp.ones(cells.shape), filled))
