"""For whom a classifier works worse: its quality by group, usually by intersections of several attributes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jax.core import Tracer

from fairjax import checks
from fairjax.detect.quality.quality_report import QualityByGroup
from fairjax.detect.quality.resampling import Table, balanced_accuracies, calibrated_draws, drawn_quality, table_of
from fairjax.metrics import by_group
from fairjax.metrics.group_report import large_enough
from fairjax.metrics.groups import Groups, intersections
from fairjax.metrics.intervals import effective_size

if TYPE_CHECKING:
    from fairjax.metrics import GroupReport

MINIMUM = 10
"""Default least number of rows in the denominator of a measure."""

DECISIONS = ("accuracy", "error", "balanced_accuracy", "true_positive_rate", "false_positive_rate", "precision")
"""Measures of the decisions of two classes."""

SCORES = ("auc", "brier_score", "calibration_error")
"""Measures of the scores of two classes."""


def quality_by_group(
    predictions: Any,
    y: Any,
    groups: Any,
    scores: Any = None,
    weights: Any = None,
    names: Sequence[str] | None = None,
    *,
    num_classes: int = 2,
    minimum: int = MINIMUM,
    bootstrap: int = 1000,
    seed: int = 0,
) -> QualityByGroup:
    """Measure the quality of a classifier in each group, and find the group in which it is worst.

    The rates and their Wilson intervals are those of `fairjax.by_group`. Balanced accuracy, measures of scores and all
    gaps have percentile intervals of a bootstrap, which draws tables of counts, so that its cost does not depend on the
    number of rows. Noise adds to a calibration error: `calibration_error_chance` is what a calibrated classifier would
    have with so many rows, and the interval contains 0 unless the error exceeds it significantly.

    A measure without enough rows in its denominator is not estimable: it is NaN, and no gap is computed from it. The
    greatest gap among many groups is too large, as the extremes of noisy rates are; compare it with the shrunk gap.

    Args:
        predictions: decisions, 0 or 1; for more classes, the predicted codes, such as the argmax of the logits.
        y: labels, coded alike.
        groups: a column, or several columns whose intersections are the groups, as for `fairjax.by_group`; or the
            result of `fairjax.data.groups` without strata.
        scores: probabilities of label 1, of shape (n,); for more classes, probabilities (n, num_classes), of which the
            calibration error of the predicted class is computed.
        weights: non-negative weights of rows; 1 if omitted.
        names: names of the groups, if `groups` is one column of codes 0, 1, ... or booleans.
        num_classes: number of classes.
        minimum: least number of rows in the denominator of a measure; for balanced accuracy, of each class, and for the
            area under the curve, of both classes. Weighted rows count with Kish's effective size.
        bootstrap: number of draws; with 0, these intervals are NaN.
        seed: seed of the draws.

    Returns:
        The measures of each group: print them, or use `gaps()` and `to_frame()`.

    Raises:
        ValueError: if shapes differ, a value or setting is not valid, or rows belong to several groups.
        TypeError: if an argument is traced, or does not hold numbers where numbers are required.

    Example:
        >>> import pandas as pd
        >>> y = np.tile([0, 1], 40)
        >>> people = pd.DataFrame({"sex": np.repeat(["f", "m"], 40), "old": np.tile(np.repeat([True, False], 2), 20)})
        >>> wrong = (people["sex"] == "f") & people["old"] & (np.arange(80) % 8 == 0)
        >>> quality = quality_by_group(y ^ wrong, y, people)
        >>> quality.values["accuracy"].tolist(), quality.worst("accuracy")
        ([1.0, 0.75, 1.0, 1.0], 'f, True')

    References:
        Du, Yang, Zou, Hu (2020), Fairness in deep learning: a computational perspective, IEEE Intelligent Systems,
        https://arxiv.org/abs/1908.08843, for quality disparity.
        Guo, Pleiss, Sun, Weinberger (2017), On calibration of modern neural networks, ICML, for the calibration error.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}")
    for name, value, least in (("minimum", minimum, 1), ("bootstrap", bootstrap, 0), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} must be a whole number, at least {least}, got {value!r}")
    found = groups if isinstance(groups, Groups) else intersections(groups)
    if found.a.ndim != 1 or found.blocks is not None:
        raise ValueError(
            "quality by group needs each row in exactly one group, without strata: make the groups with "
            "fairjax.data.groups(columns), without intersect=False or strata"
        )
    predicted, label = (_codes(name, values, num_classes) for name, values in (("predictions", predictions), ("y", y)))
    score = None if scores is None else _scores(scores, predicted, num_classes)
    if num_classes == 2:
        report = by_group(predicted, label, groups, score, weights, names, minimum=minimum)
        outcome, measures = label, DECISIONS if score is None else DECISIONS + SCORES
        calibration = report.calibration_error
    else:  # of decisions whether a prediction is correct, only the accuracy has a meaning
        _check_lengths(predicted, label)
        outcome = (predicted == label).astype(np.int64)
        report = by_group(outcome, np.ones_like(outcome), groups, None, weights, names, minimum=minimum)
        measures = DECISIONS[:3] if score is None else (*DECISIONS[:3], "calibration_error")
        calibration = None
        if score is not None:
            calibration = by_group(outcome, outcome, groups, score, weights).calibration_error
    checks.check_index(predictions=predictions, y=y, scores=scores, weights=weights)
    w = None if weights is None else np.asarray(weights, float)
    w = w if w is None else w / (w.max() or 1.0)
    table = table_of(predicted, label, found.a.astype(np.int64), score, outcome, w, num_classes, len(found.names))
    draws = drawn_quality(table, int(bootstrap), int(seed), w is not None, measures)
    sizes = _sizes(table, report, measures)
    values = {
        "accuracy": report.accuracy,
        "error": 1 - report.accuracy,
        "balanced_accuracy": balanced_accuracies(table.weights.sum(axis=2)),
        "true_positive_rate": report.true_positive_rate,
        "false_positive_rate": report.false_positive_rate,
        "precision": report.precision,
        "auc": report.auc,
        "brier_score": report.brier_score,
        "calibration_error": calibration,
    }
    estimable = {name: large_enough(sizes[name], minimum) & report.included for name in measures}
    calibrated = None
    if score is not None:
        classes = np.arange(num_classes)
        predicts = np.tile(classes, (2, 1)) if num_classes == 2 else np.eye(num_classes, dtype=np.int64)
        calibrated = calibrated_draws(table, int(bootstrap), int(seed), predicts)
    return QualityByGroup.of(
        report=report,
        values={name: np.where(estimable[name], values[name], np.nan) for name in measures},
        sizes={name: np.where(estimable[name], sizes[name], 0.0) for name in measures},
        draws={name: np.where(estimable[name], draws[name], np.nan) for name in measures},
        calibrated=calibrated,
        minimum=minimum,
    )


def _codes(name: str, values: Any, num_classes: int) -> np.ndarray:
    """Check predictions or labels, and return them as codes."""
    column = checks.vector(name, values)
    if isinstance(column, Tracer):
        raise TypeError(f"quality by group makes a table on the host, and {name} is traced: call it outside of jax.jit")
    column = np.asarray(column)
    if num_classes == 2 and column.dtype.kind == "f" and ((column > 0) & (column < 1)).any():
        raise ValueError(f"{name} must be 0 or 1, found scores: threshold them first, and pass them as scores")
    wrong = ~np.isin(column, np.arange(num_classes))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{name} must be codes from 0 to {num_classes - 1}, found {column[row]:g} in row {row}: encode the classes "
            "as 0, 1, ..., or state num_classes if there are more"
        )
    return column.astype(np.int64)


def _scores(scores: Any, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Check scores, and return the probability of label 1 or, for more than two classes, of the predicted class."""
    array = np.asarray(checks.numeric("scores", scores))
    expected = (len(predicted),) if num_classes == 2 else (len(predicted), num_classes)
    if array.shape != expected:
        raise ValueError(f"scores must be probabilities of shape {expected}, found shape {array.shape}")
    values, _ = checks.predictions(array, num_classes)
    checked = np.asarray(values, float)
    return checked if num_classes == 2 else checked[np.arange(len(predicted)), predicted]


def _check_lengths(predicted: np.ndarray, label: np.ndarray) -> None:
    if len(predicted) != len(label):
        raise ValueError(f"predictions and y must have one length, found {len(predicted)} and {len(label)}")


def _sizes(table: Table, report: "GroupReport", measures: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the denominator of each measure in each group; the least one, if there are several."""
    sums, squares = (array.sum(axis=(0, 2)) for array in (table.weights, table.squares))
    of_labels = effective_size(sums, squares)[sums.sum(axis=1) > 0]
    both = np.min(of_labels, axis=0)
    sizes = {"balanced_accuracy": both, "auc": both if len(of_labels) > 1 else np.zeros_like(both)}
    rates = ("true_positive_rate", "false_positive_rate", "precision")
    return {name: sizes.get(name, report.sizes[name if name in rates else "accuracy"]) for name in measures}
