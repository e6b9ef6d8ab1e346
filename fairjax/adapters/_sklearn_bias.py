"""The bias of predicted labels, and a scorer for scikit-learn's model selection."""

from collections.abc import Callable
from typing import Any

import numpy as np
import sklearn
from sklearn.metrics import make_scorer
from sklearn.utils import check_consistent_length, column_or_1d

from fairjax import checks, data, selection
from fairjax.arguments import check_measure
from fairjax.metrics import Measure, make_measure
from fairjax.metrics.groups import Groups


def bias(
    y_true: Any,
    y_pred: Any,
    *,
    sensitive_features: Any,
    measure: str | Measure = "spd",
    privileged: Any = None,
    positive: Any = None,
    sample_weight: Any = None,
) -> float:
    """Compute the bias of predicted labels.

    Args:
        y_true: labels (n,).
        y_pred: predicted labels (n,).
        sensitive_features: one column of sensitive values, or several, whose intersections are the groups.
        measure: name of a measure in `fairjax.MEASURES`, or a measure.
        privileged: value of the privileged group, which determines the sign for two groups; a mapping from columns to
            values if there are several. By default, the greatest value.
        positive: the positive label of two; by default, the greater one.
        sample_weight: weights (n,); 1 if omitted.

    Returns:
        The measure; NaN if it is undefined, because a group has no rows that a rate depends on.

    Raises:
        ValueError: if lengths or pandas indices differ, there are fewer than two groups, a sensitive value is missing,
            or it is not known which label is positive.

    Example:
        >>> bias([0, 1, 1, 0], [0, 1, 1, 1], sensitive_features=["f", "f", "m", "m"])
        -0.5
    """
    checks.check_index(y_true=y_true, y_pred=y_pred, sensitive_features=sensitive_features, sample_weight=sample_weight)
    true, predicted = column_or_1d(y_true), column_or_1d(y_pred)
    groups = data.groups(sensitive_features, reference=privileged)
    check_consistent_length(true, predicted, groups.a, sample_weight)
    names, codes = np.unique(np.concatenate([true, predicted]), return_inverse=True)
    classes = max(len(names), 2)
    if classes == 2:
        is_positive = codes == _position_of_positive(names, positive)
        labels, values = np.split(is_positive, [len(true)])
    else:
        if positive is not None:
            raise ValueError(f"positive names one of two labels, found {classes} labels: omit it")
        labels, decisions = np.split(codes, [len(true)])
        values = np.eye(classes, dtype=np.float32)[decisions]
    evaluation = selection.evaluate_at(
        resolve_measure(measure, groups, classes),
        values.astype(np.float32),
        labels,
        groups.a,
        0.5,
        weights=sample_weight,
    )
    return float(evaluation.bias)


def bias_scorer(
    measure: str | Measure = "spd", *, privileged: Any = None, positive: Any = None
) -> Callable[..., float]:
    """Make a scorer of predictions that is higher the smaller their bias is, -|bias|, for model selection.

    Model selection passes sensitive features to scorers by metadata routing, which
    `sklearn.set_config(enable_metadata_routing=True)` enables. If it is enabled when the scorer is made, the scorer
    requests them.

    Args:
        measure: name of a measure in `fairjax.MEASURES`, or a measure.
        privileged: as for `bias`; it changes only the sign for two groups.
        positive: as for `bias`; needed where labels and predictions of a fold may all be the same.

    Returns:
        The scorer, a function of (estimator, X, y, sensitive_features=...).
    """
    options = {"measure": measure, "privileged": privileged, "positive": positive}
    scorer = make_scorer(_size_of_bias, greater_is_better=False, **options)
    if sklearn.get_config()["enable_metadata_routing"]:
        scorer = scorer.set_score_request(sensitive_features=True)
    return scorer


def resolve_measure(measure: Any, groups: Groups, num_classes: int) -> Measure:
    """Return a measure for these groups and classes, by its name or as it is given."""
    if isinstance(measure, str):
        return make_measure(measure, len(groups), num_classes, blocks=groups.blocks, membership=groups.membership)
    check_measure(measure)
    return measure


def _size_of_bias(y_true: Any, y_pred: Any, *, sensitive_features: Any, **options: Any) -> float:
    return abs(bias(y_true, y_pred, sensitive_features=sensitive_features, **options))


def _position_of_positive(names: np.ndarray, positive: Any) -> int:
    """Return the position of the positive label among one or two labels; -1 if no row has it."""
    labels = names.tolist()
    if positive is None:
        if len(labels) == 1:
            raise ValueError(f"all labels are {labels[0]!r}, which may be positive or not: pass positive=, that label")
        return 1
    if positive not in labels and len(labels) == 2:
        raise ValueError(f"positive must be one of the labels, {labels[0]!r} or {labels[1]!r}, got {positive!r}")
    return labels.index(positive) if positive in labels else -1
