"""Optimized pre-processing: a randomised map of features and labels that bounds the gap between groups."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PyTree

from fairjax.data.dataset import Dataset
from fairjax.hyperparameters import check_at_least, check_choice, static
from fairjax.preprocess.base import Prepared, is_concrete, matrix, preprocessor
from fairjax.preprocess.cells import CellPreprocessor
from fairjax.preprocess.correlation import check_share
from fairjax.preprocess.optimized.discrete import DiscreteTable, discrete_table
from fairjax.preprocess.optimized.distortions import distortions
from fairjax.preprocess.optimized.programme import Programme, Solution, solve
from fairjax.types import Inputs, KeyArray, Number, Rows


class OptimizedMap(NamedTuple):
    """The map learned from the train rows."""

    table: DiscreteTable
    """The combinations of features."""
    solution: Solution
    """The probabilities of new combinations of features and labels."""
    of_features: Float[np.ndarray, "groups old new"]
    """Probability of each new combination of features, given the group and the old one, for rows without labels."""


@preprocessor
class OptimizedPreprocessing(CellPreprocessor):
    """Change features and labels of train rows at random, as little as possible.

    A linear programme finds probabilities T(x', y' | a, x, y) with which the distribution of features and labels
    changes least, while the rates of each label differ by no more than `epsilon` between groups, and a row changes by
    more than a threshold of the distortion only with a small probability. Each train row is then drawn from T.

    All features must be discrete, with few combinations: the programme has a row for each. Columns named
    `variable=value` are one-hot codes. SciPy solves the programme on the host, for one seed after another.

    Example:
        >>> from fairjax.types import Batch
        >>> x, a = (jnp.arange(80) // 2 % 4).astype(jnp.float32)[:, None], jnp.arange(80) % 2 == 0
        >>> y = x[:, 0] + a.astype(jnp.float32) >= 2
        >>> bounds = {"thresholds": (1.5,), "probabilities": (0.0,)}
        >>> prepared = OptimizedPreprocessing(**bounds).apply(jax.random.key(0), Batch(x, y, a))
        >>> prepared.fitted.solution.rates[:, 1].round(3).tolist()
        [0.6, 0.65]

    References:
        Calmon, Wei, Vinzamuri, Natesan Ramamurthy, Varshney (2017), Optimized pre-processing for discrimination
        prevention, NeurIPS, https://arxiv.org/abs/1704.03354
    """

    label: ClassVar[str] = "Optimized pre-processing"
    reference: ClassVar[str] = "Calmon et al. 2017"
    equation: ClassVar[str] = "(x', y') ~ T(. | a, x, y), min 0.5 |p(x', y') - p(x, y)|_1"
    changes: ClassVar[Literal["rows"]] = "rows"
    traceable: ClassVar[bool] = False

    epsilon: Number = 0.05
    """Greatest difference between the rates of a label in two groups."""
    thresholds: tuple[float, ...] = static((0.99, 1.99, 2.99))
    """Thresholds of the distortion, in increasing order."""
    probabilities: tuple[float, ...] = static((0.1, 0.05, 0.0))
    """Greatest probability of a distortion of at least each threshold, for each combination of features and label."""
    distortion: Callable[..., float] | None = static(None)
    """Distortion of one cell into another, such as `distortion_adult`; by default every step between neighbouring
    values of a number, every other category and every other label costs 1."""
    test: str = static("unchanged")
    """Features of rows that are not trained on: "unchanged", or "mapped" by T, averaged over the label given group and
    features, so that the group must be known."""
    features: tuple[str, ...] | None = static(None)
    """Names of the columns; by default those of the data set, or every column is a number."""
    most_cells: int = static(1000)
    """Largest number of combinations of features."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        super().__post_init__()
        check_share("epsilon", self.epsilon)
        check_choice("test", self.test, ("unchanged", "mapped"))
        check_at_least("most_cells", self.most_cells, 1)
        for name in ("thresholds", "probabilities"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        if len(self.thresholds) != len(self.probabilities):
            raise ValueError(
                f"there must be one probability per threshold, got {len(self.probabilities)} and {len(self.thresholds)}"
            )
        if not all(threshold > 0 for threshold in self.thresholds):
            raise ValueError(f"thresholds must be positive, so that a row may stay as it is, got {self.thresholds}")
        if not all(0 <= probability <= 1 for probability in self.probabilities):
            raise ValueError(f"probabilities must be between 0 and 1, got {self.probabilities}")
        if self.features is not None:
            object.__setattr__(self, "features", tuple(map(str, self.features)))

    @property
    def needs_group_at_test(self) -> bool:  # type: ignore[override]
        """Whether the group of new rows is used."""
        return self.test == "mapped"

    def named(self, dataset: Dataset) -> "OptimizedPreprocessing":
        """Return the preprocessor with the names of the columns, and the numbers of groups and classes."""
        return dataclasses.replace(super().named(dataset), features=self.features or tuple(dataset.features))

    def apply(self, key: KeyArray, train: Rows) -> Prepared:
        """Solve the programme and draw the train rows, as described for `Preprocessor`.

        Raises:
            TypeError: if the rows are traced.
            ValueError: if the constraints are infeasible, or there are too many combinations of features.
        """
        if not is_concrete(key, train):
            raise TypeError(
                "optimized pre-processing solves a linear programme on the host and cannot be traced: call prepare or "
                "prepare_many outside of jit and vmap"
            )
        ready = self.ready(train)
        fitted = ready.fit(train)
        cells = ready.cells(train)
        (classes, groups), x = cells.shape, np.asarray(train.x)
        codes = np.asarray(cells.codes)
        old = fitted.table.codes(x) * classes + codes // groups
        new = _draw(key, fitted.solution.table[codes % groups, old])
        features = fitted.table.rows(new // classes, x.shape[1])
        y = jnp.asarray(new % classes).astype(train.y.dtype)
        return Prepared(train._replace(x=jnp.asarray(features), y=y), fitted)

    def fit(self, train: Rows) -> OptimizedMap:
        """Solve the linear programme of train rows.

        Raises:
            ValueError: if the constraints are infeasible, or there are too many combinations of features.
        """
        table, programme = self._table_and_programme(train)
        solution = solve(programme, float(self.epsilon))
        of_features = _without_label(solution.table, programme.joint, programme.num_classes)
        return OptimizedMap(table, solution, of_features)

    def programme(self, train: Rows) -> Programme:
        """Return the linear programme of train rows, for example for `smallest_epsilon`.

        Raises:
            ValueError: if there are too many combinations of features.
        """
        return self._table_and_programme(train)[1]

    def _table_and_programme(self, train: Rows) -> tuple[DiscreteTable, Programme]:
        ready = self.ready(train)
        x = np.asarray(matrix(train.x, "OptimizedPreprocessing"))
        if not np.isfinite(x).all():
            raise ValueError("x must be finite, found NaN or infinity: drop these rows or fill the values in")
        features = self.features or tuple(f"x{number}" for number in range(1, x.shape[1] + 1))
        if len(features) != x.shape[1]:
            raise ValueError(f"features must name the {x.shape[1]} columns, found {len(features)} names")
        table = discrete_table(x, features, self.most_cells)
        cells = ready.cells(train)
        classes, groups = cells.shape
        codes = np.asarray(cells.codes)
        joint = np.zeros((groups, table.count * classes))
        np.add.at(joint, (codes % groups, table.codes(x) * classes + codes // groups), np.asarray(cells.weights))
        joint /= joint.sum()
        distortion = distortions(table, classes, self.distortion)
        return table, Programme(joint, distortion, self.thresholds, self.probabilities, classes)

    def transform(self, key: KeyArray, fitted: PyTree[Any], x: Inputs, a: Any) -> Inputs:
        """Change the features of any rows at random, or leave them unchanged; see `test`.

        A row with a value that did not occur in the train part is left unchanged.
        """
        if self.test == "unchanged":
            return matrix(x, "OptimizedPreprocessing")
        table = np.asarray(matrix(x, "OptimizedPreprocessing"))
        old = fitted.table.codes(table)
        new = _draw(key, fitted.of_features[np.asarray(a).astype(int), np.maximum(old, 0)])
        mapped = fitted.table.rows(new, table.shape[1])
        return jnp.asarray(np.where((old >= 0)[:, None], mapped, table))


def _draw(key: KeyArray, probabilities: Float[np.ndarray, "n new"]) -> Int[np.ndarray, " n"]:
    """Draw a number from each row of probabilities, by inverting their cumulative sums."""
    ends = np.cumsum(probabilities, axis=1)
    place = np.asarray(jax.random.uniform(key, (len(ends), 1)), np.float64) * ends[:, -1:]
    # A place lies below the last end, also after rounding, so that a positive probability is chosen.
    return (ends <= np.minimum(place, np.nextafter(ends[:, -1:], 0))).sum(axis=1)


def _without_label(
    table: Float[np.ndarray, "groups cells cells"], joint: Float[np.ndarray, "groups cells"], classes: int
) -> Float[np.ndarray, "groups old new"]:
    """Average the map over the label given group and features, and add the probabilities of both new labels."""
    groups, cells = joint.shape
    weights = joint.reshape(groups, cells // classes, classes)
    total = weights.sum(axis=2, keepdims=True)
    shares = np.where(total > 0, weights / np.where(total > 0, total, 1), 1 / classes)
    by_label = table.reshape(groups, cells // classes, classes, cells // classes, classes).sum(axis=4)
    return np.einsum("gxy,gxyn->gxn", shares, by_label)
