"""Convert AIF360's `BinaryLabelDataset` from and to `Dataset`, for AIF360's data, metrics and postprocessors."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import ArrayLike, Float

from fairjax import checks
from fairjax.data import Dataset, from_arrays

if TYPE_CHECKING:
    from aif360.datasets import BinaryLabelDataset

_LABEL = "label"
_NEEDED = ("features", "labels", "protected_attribute_names", "privileged_protected_attributes", "instance_weights")


def from_aif360(dataset: "BinaryLabelDataset", *, protected: str | None = None) -> Dataset:
    """Convert an AIF360 data set to a checked `Dataset`.

    Labels coded 0 and 1 keep their codes, whichever of them AIF360 calls favorable. If labels have other codes, such
    as 1 and 2, the favorable one becomes 1.

    Args:
        dataset: AIF360's data set.
        protected: name of the protected attribute; not needed if there is only one.

    Returns:
        Features, labels, the protected attribute (true where AIF360 has a privileged value), and the instance weights
        unless all of them are 1.

    Raises:
        ValueError: if the attribute is not given or does not exist, if a label is neither favorable nor unfavorable,
            if a value of the attribute is neither privileged nor unprivileged, or if `fairjax.data.from_arrays`
            rejects the data.
        TypeError: if `dataset` is not an AIF360 data set.
    """
    if not all(hasattr(dataset, name) for name in _NEEDED):
        raise TypeError(
            f"dataset must be AIF360's BinaryLabelDataset, found {type(dataset).__name__}: tables and arrays go to "
            "fairjax.data.from_arrays"
        )
    names = list(dataset.protected_attribute_names)
    if not names:
        raise ValueError("the data set has no protected attribute: make it with protected_attribute_names")
    if protected is None and len(names) != 1:
        raise ValueError(f"the data set has the protected attributes {', '.join(names)}; name one with protected=...")
    name = names[0] if protected is None else protected
    if name not in names:
        raise ValueError(f"protected must be one of {', '.join(names)}, got {name!r}")
    features, columns = np.asarray(dataset.features), list(dataset.feature_names)
    if features.ndim != 2 or features.shape[1] != len(columns):
        raise ValueError(f"the data set names {len(columns)} features, found features of shape {features.shape}")
    a, y = _privileged(dataset, names, names.index(name)), _favorable(dataset)
    x = pd.DataFrame(features, columns=columns)
    weights = np.asarray(dataset.instance_weights, np.float64).reshape(-1)
    return from_arrays(
        x,
        y,
        a.astype(float),
        name=type(dataset).__name__,
        protected=name,
        weights=None if (weights == 1).all() else weights,
    )


def _privileged(dataset: Any, names: list[str], position: int) -> np.ndarray:
    """Return whether each row has a privileged value of an attribute."""
    name = names[position]
    value_lists = (dataset.privileged_protected_attributes, dataset.unprivileged_protected_attributes)
    if any(len(lists) != len(names) for lists in value_lists):
        raise ValueError(
            f"the data set has {len(names)} protected attributes, found lists of privileged and unprivileged values of "
            f"{len(value_lists[0])} and {len(value_lists[1])}: set privileged_protected_attributes and "
            "unprivileged_protected_attributes"
        )
    values = np.asarray(dataset.protected_attributes, np.float64)[:, position]
    privileged, unprivileged = (np.isin(values, np.asarray(lists[position], np.float64)) for lists in value_lists)
    wrong = privileged == unprivileged
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"values of {name!r} must be either privileged or unprivileged, found {values[row]:g} in row {row}: name "
            "it in one of privileged_protected_attributes and unprivileged_protected_attributes, or drop the rows"
        )
    return privileged


def _favorable(dataset: Any) -> np.ndarray:
    """Convert the labels to 0 and 1."""
    labels = np.asarray(dataset.labels, np.float64)
    if labels.ndim == 2 and labels.shape[1] != 1:
        raise ValueError(f"the data set must have one label per row, found labels of shape {labels.shape}")
    labels = labels.reshape(-1)
    codes = tuple(
        float(getattr(dataset, name, code)) for name, code in (("unfavorable_label", 0), ("favorable_label", 1))
    )
    wrong = ~np.isin(labels, codes)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"labels must be the unfavorable or the favorable one, {codes[0]:g} or {codes[1]:g}, found {labels[row]:g} "
            f"in row {row}: drop these rows or recode them"
        )
    return labels if set(codes) == {0.0, 1.0} else (labels == codes[1]).astype(float)


def to_aif360(
    dataset: Dataset, *, labels: ArrayLike | None = None, scores: ArrayLike | None = None
) -> "BinaryLabelDataset":
    """Convert a `Dataset` to AIF360's data set, with 1 as the favorable label and 1 as the privileged group.

    Args:
        dataset: the data.
        labels: decisions that replace the labels.
        scores: sigmoid outputs, for postprocessors.

    Returns:
        AIF360's data set; its protected attribute has the name of `dataset.protected`.

    Raises:
        ValueError: if labels are not 0 or 1 in every row, scores are not in [0, 1], or the pandas index of either is
            not 0, 1, ...; if there are more than two groups or classes; or if names and columns of the data set do not
            match.
        TypeError: if an argument is sparse, masked, or holds anything but numbers and booleans.
    """
    if not isinstance(dataset, Dataset):
        raise TypeError(
            f"dataset must be a fairjax.data.Dataset, found {type(dataset).__name__}: make it with "
            "fairjax.data.from_arrays"
        )
    if dataset.num_groups > 2 or dataset.num_classes > 2:
        raise ValueError(
            f"AIF360 knows two groups and two labels, and the data set has {dataset.num_groups} groups and "
            f"{dataset.num_classes} classes: replace `a` by a comparison, such as dataset._replace(a=dataset.a == 0, "
            "groups=None)"
        )
    from aif360.datasets import BinaryLabelDataset

    checks.check_index(labels=labels, scores=scores)
    if checks.is_tree(dataset.x):
        raise ValueError("AIF360 knows tables only, and the features of the data set are a tree of several arrays")
    x = np.asarray(checks.numeric("x", dataset.x), np.float64)
    features = tuple(map(str, dataset.features))
    if x.ndim != 2 or x.shape[1] != len(features) or len(set(features)) < len(features):
        raise ValueError(
            f"features must name the columns of x, each differently, found {len(features)} names, {len(set(features))} "
            f"of them different, for x of shape {x.shape}"
        )
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise ValueError(f"x must be finite, found {x[row, column]} in row {row} of {features[column]!r}: drop the row")
    y = _indicator("y", dataset.y, len(x)) if labels is None else _indicator("labels", labels, len(x))
    name = _unused(str(dataset.protected), f"{dataset.protected} (group)", features)
    label = _unused(_LABEL, f"{_LABEL} (y)", (*features, name))
    frame = pd.DataFrame(x, columns=list(features))
    frame[name], frame[label] = _indicator("a", dataset.a, len(x)), y
    converted = BinaryLabelDataset(
        df=frame, label_names=[label], protected_attribute_names=[name], favorable_label=1.0, unfavorable_label=0.0
    )
    if dataset.weights is not None:
        weights = checks.sample_weights(_rows("weights", dataset.weights, len(x)), np.ones(len(x)))[0]
        converted.instance_weights = np.asarray(weights, np.float64)
    converted.privileged_protected_attributes = [np.array([1.0])]
    converted.unprivileged_protected_attributes = [np.array([0.0])]
    if scores is not None:
        converted.scores = _scores(scores, len(x))[:, None]
    return converted


def _unused(name: str, fallback: str, used: tuple[str, ...]) -> str:
    """Return a name that no column has: `name`, or `fallback` with as many stars as necessary."""
    if name not in used:
        return name
    while fallback in used:
        fallback += "*"
    return fallback


def _rows(name: str, values: Any, n: int) -> Float[np.ndarray, " n"]:
    """Check that there is one number per row of the data set, in the order of its rows."""
    if isinstance(values, pd.Series | pd.DataFrame) and not values.index.equals(pd.RangeIndex(len(values))):
        raise ValueError(
            f"the index of {name} is not 0, 1, ..., as that of the data set's rows: align it, or pass "
            f"{name}.to_numpy() if it belongs to the rows by position"
        )
    column = np.asarray(checks.vector(name, values))
    if column.shape != (n,):
        raise ValueError(f"{name} must be {n} numbers, one per row, got shape {column.shape}")
    return column.astype(np.float64)


def _indicator(name: str, values: Any, n: int) -> Float[np.ndarray, " n"]:
    return np.asarray(checks.indicator(name, _rows(name, values, n))[0], np.float64)


def _scores(values: Any, n: int) -> Float[np.ndarray, " n"]:
    scores = _rows("scores", values, n)
    wrong = ~((scores >= 0) & (scores <= 1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"scores must be in [0, 1], found {scores[row]:g} in row {row}: pass logits through jax.nn.sigmoid, and "
            "drop rows that lack a value"
        )
    return scores
