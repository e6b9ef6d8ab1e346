"""The bias of predicted labels, and a scorer for scikit-learn's model selection."""

from collections.abc import Callable, Sequence
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
    classes: Sequence[Any] | None = None,
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
        classes: all labels in order, of which the second is positive if there are two; by default, the sorted labels
            of `y_true` and `y_pred`.
        sample_weight: weights (n,); 1 if omitted.

    Returns:
        The measure; NaN if it is undefined, because a group has no rows that a rate depends on.

    Raises:
        ValueError: if lengths or pandas indices differ, there are fewer than two groups, a sensitive value is missing,
            or the labels have one value and `classes` is not given.

    Example:
        >>> bias([0, 1, 1, 0], [0, 1, 1, 1], sensitive_features=["f", "f", "m", "m"])
        -0.5
    """
    checks.check_index(y_true=y_true, y_pred=y_pred, sensitive_features=sensitive_features, sample_weight=sample_weight)
    true, predicted = column_or_1d(y_true), column_or_1d(y_pred)
    names = np.unique(np.concatenate([true, predicted])) if classes is None else np.asarray(classes)
    if len(names) < 2:
        raise ValueError(
            f"all labels are {names[0]!r}, so it is not known which label is positive: pass classes=, all labels in order"
        )
    groups = data.groups(sensitive_features, reference=privileged)
    check_consistent_length(true, predicted, groups.a, sample_weight)
    true, predicted = _codes("y_true", true, names), _codes("y_pred", predicted, names)
    values = predicted.astype(np.float32) if len(names) == 2 else np.eye(len(names), dtype=np.float32)[predicted]
    labels = true == 1 if len(names) == 2 else true
    evaluation = selection.evaluate_at(
        resolve_measure(measure, groups, len(names)), values, labels, groups.a, 0.5, weights=sample_weight
    )
    return float(evaluation.bias)


def bias_scorer(
    measure: str | Measure = "spd", *, privileged: Any = None, classes: Sequence[Any] | None = None
) -> Callable[..., float]:
    """Make a scorer of predictions that is higher the smaller their bias is, -|bias|, for model selection.

    Model selection passes sensitive features to scorers by metadata routing, which
    `sklearn.set_config(enable_metadata_routing=True)` enables. If it is enabled when the scorer is made, the scorer
    requests them.

    Args:
        measure: name of a measure in `fairjax.MEASURES`, or a measure.
        privileged: as for `bias`; it changes only the sign for two groups.
        classes: all labels in order; needed where `y` or the predictions of a fold may have one value only.

    Returns:
        The scorer, a function of (estimator, X, y, sensitive_features=...).
    """
    scorer = make_scorer(
        _size_of_bias, greater_is_better=False, measure=measure, privileged=privileged, classes=classes
    )
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


def _codes(name: str, labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the positions of labels among the classes."""
    order = np.argsort(classes)
    codes = order[np.searchsorted(classes, labels, sorter=order).clip(max=len(classes) - 1)]
    wrong = classes[codes] != labels
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{name} must hold one of the classes {', '.join(map(str, classes))}, found {labels[row]!r} in row {row}"
        )
    return codes
