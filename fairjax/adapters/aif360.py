"""AIF360's `BinaryLabelDataset` in and out, for its data, its metrics and its post-processors."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import ArrayLike

from fairjax.data import Dataset, from_arrays

if TYPE_CHECKING:
    from aif360.datasets import BinaryLabelDataset

_LABEL = "label"


def from_aif360(dataset: "BinaryLabelDataset", *, protected: str | None = None) -> Dataset:
    """A data set of AIF360's as a checked `Dataset`.

    Labels coded 0 and 1 are kept as they are coded, whichever of them AIF360 calls favorable; of other codes, such as
    1 and 2, the favorable one becomes 1.

    Args:
        dataset: AIF360's.
        protected: name of the protected attribute; not needed if there is one.

    Returns:
        Features, labels, the protected attribute (true where AIF360 has a privileged value), and the instance weights
        unless all of them are 1.

    Raises:
        ValueError: if the attribute is not given or not there, or the data are refused by `fairjax.data.from_arrays`.
    """
    names = list(dataset.protected_attribute_names)
    if protected is None and len(names) != 1:
        raise ValueError(f"the data set has the protected attributes {', '.join(names)}; name one with protected=...")
    name = names[0] if protected is None else protected
    if name not in names:
        raise ValueError(f"protected must be one of {', '.join(names)}, got {name!r}")
    position = names.index(name)
    values = np.asarray(dataset.protected_attributes)[:, position]
    a = np.isin(values, np.asarray(dataset.privileged_protected_attributes[position]))
    labels = np.asarray(dataset.labels).reshape(-1)
    y = labels if set(np.unique(labels)) <= {0.0, 1.0} else (labels == dataset.favorable_label).astype(float)
    x = pd.DataFrame(np.asarray(dataset.features), columns=list(dataset.feature_names))
    weights = np.asarray(dataset.instance_weights, np.float64).reshape(-1)
    return from_arrays(
        x,
        y,
        a.astype(float),
        name=type(dataset).__name__,
        protected=name,
        weights=None if (weights == 1).all() else weights,
    )


def to_aif360(
    dataset: Dataset, *, labels: ArrayLike | None = None, scores: ArrayLike | None = None
) -> "BinaryLabelDataset":
    """A `Dataset` as AIF360's, with 1 as the favorable label and 1 as the privileged group.

    Args:
        dataset: the data.
        labels: decisions to put in the labels' place.
        scores: sigmoid outputs, for post-processors.

    Returns:
        AIF360's data set; its protected attribute has the name of `dataset.protected`.

    Raises:
        ValueError: if labels or scores are not one number per row, or there are more than two groups or classes.
    """
    if dataset.num_groups > 2 or dataset.num_classes > 2:
        raise ValueError(
            f"AIF360 knows two groups and two labels, and the data set has {dataset.num_groups} groups and "
            f"{dataset.num_classes} classes: replace `a` by a comparison, such as dataset._replace(a=dataset.a == 0, "
            "groups=None)"
        )
    from aif360.datasets import BinaryLabelDataset

    y = _rows("labels", dataset.y if labels is None else labels, len(dataset.y))
    name = f"{dataset.protected} (group)" if dataset.protected in dataset.features else dataset.protected
    frame = pd.DataFrame(np.asarray(dataset.x, np.float64), columns=list(dataset.features))
    frame[name], frame[_LABEL] = np.asarray(dataset.a, float), y
    made = BinaryLabelDataset(
        df=frame, label_names=[_LABEL], protected_attribute_names=[name], favorable_label=1.0, unfavorable_label=0.0
    )
    if dataset.weights is not None:
        made.instance_weights = np.asarray(dataset.weights, np.float64)
    made.privileged_protected_attributes = [np.array([1.0])]
    made.unprivileged_protected_attributes = [np.array([0.0])]
    if scores is not None:
        made.scores = _rows("scores", scores, len(y))[:, None]
    return made


def _rows(name: str, values: ArrayLike, n: int) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if array.shape != (n,):
        raise ValueError(f"{name} must be {n} numbers, one per row, got shape {array.shape}")
    return array
