"""Reject option classification: within a band of scores, the decision depends on the group alone."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Bool, Float

from fairjax import checks
from fairjax.adapters.aif360_postprocessing.library import (
    PRIVILEGED,
    UNPRIVILEGED,
    RejectOptionClassification,
    binary,
    check_cells,
    dataset,
    quiet,
)
from fairjax.hyperparameters import check_at_least, check_choice

POLARITIES = ("one", "zero", "either", "crossed")
"""Values of the argument `polarity` of `reject_option`: which decision is favourable."""

SEARCHES = ("counts", "aif360")
"""Values of the argument `search` of `reject_option`: how thresholds and margins are searched."""

_METRICS = {"spd": "Statistical parity difference", "eod": "Equal opportunity difference"}


class RejectOption(NamedTuple):
    """Fitted reject option classifier."""

    threshold: float
    """AIF360's `classification_threshold`."""
    margin: float
    """AIF360's `ROC_margin`: the band is (threshold - margin, threshold + margin]."""
    polarity: str
    """`one`, `zero` or `crossed`."""
    balanced_accuracy: float
    """Balanced accuracy of the decisions on the data used for fitting."""
    bias: float
    """The measure on these decisions."""
    satisfied: bool
    """Whether any threshold and margin met the bound. If none did, AIF360 takes the least (most negative) bias."""

    def decide(self, scores: ArrayLike, a: ArrayLike) -> Bool[np.ndarray, " n"]:
        """Decide by scores and groups; the decisions equal those of AIF360's `predict`.

        Inside the band the lifted group gets the favourable decision and the other group does not. This is the same
        as one threshold per group: threshold - margin for the lifted group, threshold + margin for the other.

        Args:
            scores: P(y = 1) of each row.
            a: protected attribute of each row, 1 = privileged.

        Returns:
            True where the decision is y = 1.

        Raises:
            ValueError: if scores are not numbers in [0, 1], or a is not of zeros and ones, one per row.

        Example:
            >>> fit = RejectOption(0.5, 0.2, "one", 0.7, 0.0, True)
            >>> fit.decide(np.array([0.4, 0.4, 0.6, 0.6]), np.array([0, 1, 0, 1]))
            array([ True, False,  True, False])
        """
        checks.check_index(scores=scores, a=a)
        scores = _scores(scores)
        lifted = _lifted(binary("a", a, len(scores)), self.polarity)
        favoured = _favoured(scores, lifted, self.threshold, self.margin)
        return ~favoured if self.polarity == "crossed" else favoured


class _Grid(NamedTuple):
    """Measure, bound, and the grid of thresholds and margins to search."""

    measure: str
    bound: float
    low: float
    high: float
    thresholds: int
    margins: int

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Return thresholds (t, 1) and margins (t, m), equal to those of AIF360's loops to the last bit."""
        thresholds = np.linspace(self.low, self.high, self.thresholds)
        margins = [np.linspace(0.0, t if t <= 0.5 else 1.0 - t, self.margins) for t in thresholds]
        return thresholds[:, None], np.stack(margins)


def reject_option(
    scores: ArrayLike,
    y: ArrayLike,
    a: ArrayLike,
    *,
    measure: str,
    bound: float = 0.05,
    low: float = 0.01,
    high: float = 0.99,
    thresholds: int = 100,
    margins: int = 50,
    polarity: str = "one",
    search: str = "counts",
) -> RejectOption:
    """Fit reject option classification: find the threshold and margin of highest balanced accuracy within the bound.

    The band around the threshold favours one group only: the group that AIF360 calls unprivileged gets the favourable
    decision there. This reduces a bias against that group and increases a bias for it, so the polarity matters:

    * `one`: the decision 1 is favourable. Inside the band a = 0 gets 1. Suitable where a = 0 gets 1 too rarely (Adult).
    * `zero`: the decision 0 is favourable. Inside the band a = 0 gets 0. Suitable where a = 0 gets 1 too often (COMPAS,
      Bank). AIF360 is given the groups swapped, so that the measure is still that of decisions of 1.
    * `either`: both are fitted, and the one of higher balanced accuracy within the bound is kept.
    * `crossed`: the first paper's runs on COMPAS. AIF360's COMPAS has `favorable_label = 0`, but was given the scores
      of y = 1, so that a high score meant a low risk. Every threshold is then worse than chance, unless it decides the
      same for nearly all rows, and the balanced accuracy is about 0.5. Here AIF360 measures equal opportunity among
      y = 0. On data sets whose favourable label is 1, the first paper's runs are those of `one`.

    The search `counts` sorts the scores of each class and group once and reads the counts of all decisions from their
    order; its threshold and margin equal AIF360's, which the tests check. The search `aif360` runs AIF360's own `fit`:
    it is a thousand times slower, and AIF360 keeps the decisions of every pair tried in memory until the process ends
    (250 MB per fit for 6,000 rows).

    Args:
        scores: P(y = 1) of each row of the validation data.
        y: class of each row.
        a: protected attribute of each row, 1 = privileged.
        measure: the measure that is bounded, `spd` or `eod`.
        bound: |measure| may be at most this.
        low: least threshold tried.
        high: greatest threshold tried.
        thresholds: number of thresholds tried.
        margins: number of margins tried for each threshold, from 0 to its distance from the nearer of 0 and 1.
        polarity: one of `POLARITIES`.
        search: one of `SEARCHES`.

    Returns:
        The fitted classifier.

    Raises:
        ValueError: if a name is unknown, a number is out of bounds, an array does not have one number per row, pandas
            indices differ, or a class or group is absent.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> a, y = rng.random(900) < 0.5, rng.random(900) < 0.5
        >>> scores = 1 / (1 + np.exp(-rng.normal(2.0 * y + 1.0 * a - 1.5)))
        >>> fit = reject_option(scores, y, a, measure="spd")
        >>> fit.satisfied, fit.margin > 0, abs(fit.bias) <= 0.05
        (True, True, True)

    References:
        Kamiran, Karim, Zhang (2012), Decision theory for discrimination-aware classification, ICDM,
        doi:10.1109/ICDM.2012.45.
    """
    check_choice("measure", measure, tuple(_METRICS))
    check_choice("polarity", polarity, POLARITIES)
    check_choice("search", search, SEARCHES)
    grid = _Grid(measure, float(bound), float(low), float(high), thresholds, margins)
    _check_grid(grid)
    checks.check_index(scores=scores, y=y, a=a)
    scores = _scores(scores)
    y, a = binary("y", y, len(scores)), binary("a", a, len(scores))
    check_cells(y, a, _needed(measure, polarity))
    fits = [_fit(scores, y, a, grid, p, search) for p in (("one", "zero") if polarity == "either" else (polarity,))]
    return max(fits, key=lambda fit: (fit.satisfied, fit.balanced_accuracy))


def _fit(scores: np.ndarray, y: np.ndarray, a: np.ndarray, grid: _Grid, polarity: str, search: str) -> RejectOption:
    run = _search_by_counts if search == "counts" else _search_by_aif360
    threshold, margin, satisfied = run(scores, y, _lifted(a, polarity), polarity != "crossed", grid)
    fit = RejectOption(threshold, margin, polarity, 0.0, 0.0, satisfied)
    decided = fit.decide(scores, a)
    accuracy = 0.5 * (decided[y].mean() + (~decided[~y]).mean())
    rows = y if grid.measure == "eod" else np.ones_like(y)
    return fit._replace(balanced_accuracy=float(accuracy), bias=_gap(decided, rows & ~a, rows & a))


def _lifted(a: np.ndarray, polarity: str) -> np.ndarray:
    """Return which rows belong to the group that gets AIF360's favourable label inside the band."""
    return a if polarity == "zero" else ~a


def _search_by_counts(
    scores: np.ndarray, y: np.ndarray, lifted: np.ndarray, favorable: bool, grid: _Grid
) -> tuple[float, float, bool]:
    """Run AIF360's search over all pairs of threshold and margin at once."""
    thresholds, margins = grid.points()
    positive = y == favorable

    def count_above(rows: np.ndarray, cuts: np.ndarray) -> np.ndarray:
        sorted_scores = np.sort(scores[rows])
        return len(sorted_scores) - np.searchsorted(sorted_scores, cuts, side="right")

    low, high = thresholds - margins, thresholds + margins
    hits, hits_of_others = count_above(positive & lifted, low), count_above(positive & ~lifted, high)
    alarms, alarms_of_others = count_above(~positive & lifted, low), count_above(~positive & ~lifted, high)
    negatives = (~positive).sum()
    accuracy = 0.5 * ((hits + hits_of_others) / positive.sum() + (negatives - alarms - alarms_of_others) / negatives)
    if grid.measure == "spd":
        bias = (hits + alarms) / lifted.sum() - (hits_of_others + alarms_of_others) / (~lifted).sum()
    else:
        bias = hits / (positive & lifted).sum() - hits_of_others / (positive & ~lifted).sum()
    allowed = (bias >= -grid.bound) & (bias <= grid.bound)
    satisfied = bool(allowed.any())
    best = np.argmax(np.where(allowed, accuracy, -1.0)) if satisfied else np.argmin(bias)
    return float(thresholds[best // grid.margins, 0]), float(margins.flat[best]), satisfied


def _search_by_aif360(
    scores: np.ndarray, y: np.ndarray, lifted: np.ndarray, favorable: bool, grid: _Grid
) -> tuple[float, float, bool]:
    """Run AIF360's own search. If no pair meets the bound, AIF360 warns and its choice does not meet it either."""
    truth = dataset(y, ~lifted, favorable=favorable)
    predicted = truth.copy()
    predicted.scores = scores[:, None]
    method: Any = RejectOptionClassification(
        UNPRIVILEGED,
        PRIVILEGED,
        low_class_thresh=grid.low,
        high_class_thresh=grid.high,
        num_class_thresh=grid.thresholds,
        num_ROC_margin=grid.margins,
        metric_name=_METRICS[grid.measure],
        metric_ub=grid.bound,
        metric_lb=-grid.bound,
    )
    with quiet():
        method.fit(truth, predicted)
    threshold, margin = float(method.classification_threshold), float(method.ROC_margin)
    rows = np.ones_like(y) if grid.measure == "spd" else y == favorable
    gap = _gap(_favoured(scores, lifted, threshold, margin), rows & lifted, rows & ~lifted)
    return threshold, margin, bool(abs(gap) <= grid.bound)


def _favoured(scores: np.ndarray, lifted: np.ndarray, threshold: float, margin: float) -> np.ndarray:
    """Return which rows get AIF360's favourable label."""
    return scores > np.where(lifted, threshold - margin, threshold + margin)


def _gap(decisions: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    return float(decisions[first].mean() - decisions[second].mean())


def _needed(measure: str, polarity: str) -> list[tuple[int | None, int | None]]:
    """Return the pairs of class and group for which a measure needs rows."""
    cells: list[tuple[int | None, int | None]] = [(None, 0), (None, 1), (0, None), (1, None)]
    if measure == "eod":
        cells += [(label, group) for label in ((0, 1) if polarity == "crossed" else (1,)) for group in (0, 1)]
    return cells


def _check_grid(grid: _Grid) -> None:
    if not grid.bound >= 0:
        raise ValueError(f"bound must be at least 0, got {grid.bound}")
    if not 0 <= grid.low < grid.high <= 1:
        raise ValueError(f"thresholds must be from low to high, 0 <= low < high <= 1, got {grid.low} and {grid.high}")
    check_at_least("thresholds", grid.thresholds, 1)
    check_at_least("margins", grid.margins, 1)


def _scores(values: ArrayLike) -> Float[np.ndarray, " n"]:
    scores = np.asarray(checks.numeric("scores", values), np.float64)
    if scores.ndim != 1:
        raise ValueError(f"scores must be one number per row, got shape {scores.shape}")
    outside = ~((scores >= 0) & (scores <= 1))
    if outside.any():
        raise ValueError(
            f"scores must be in [0, 1], got {outside.sum()} others such as {scores[outside][0]}; apply the sigmoid to "
            "logits first"
        )
    return scores
