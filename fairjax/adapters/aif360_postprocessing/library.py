"""AIF360's classes, imported without log messages, and the minimal data sets and checked arrays passed to them."""

import contextlib
import logging
import warnings
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from jaxtyping import ArrayLike, Bool

from fairjax import checks

_NOISE = ("No module named", "listed but not observed")  # optional packages; a part without one of the groups


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress AIF360's messages about missing packages, its warnings, and the handler it adds to the root logger."""
    root, handler = logging.getLogger(), logging.NullHandler()

    def is_news(record: logging.LogRecord) -> bool:
        return not any(text in record.getMessage() for text in _NOISE)

    root.addHandler(handler)
    root.addFilter(is_news)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*invalid escape sequence")  # raised when AIF360's files are compiled
            warnings.filterwarnings("ignore", "Unable to satisy fairness constraints")  # `satisfied` reports it
            yield
    finally:
        root.removeFilter(is_news)
        root.removeHandler(handler)


with quiet():
    from aif360.algorithms.postprocessing import EqOddsPostprocessing, RejectOptionClassification
    from aif360.datasets import BinaryLabelDataset

__all__ = [
    "PRIVILEGED",
    "UNPRIVILEGED",
    "EqOddsPostprocessing",
    "RejectOptionClassification",
    "binary",
    "check_cells",
    "dataset",
    "quiet",
]

PRIVILEGED, UNPRIVILEGED = [{"a": 1.0}], [{"a": 0.0}]
"""The privileged and the unprivileged group of a `dataset`, in AIF360's notation."""


def dataset(labels: np.ndarray, a: np.ndarray, *, favorable: bool = True) -> BinaryLabelDataset:
    """Make an AIF360 data set of labels and groups, without features and row names.

    AIF360 compares features and row names at every step of a search, which would take most of the time.

    Args:
        labels: y, or decisions.
        a: the group of each row.
        favorable: which label AIF360 calls favorable.

    Returns:
        The data set, whose protected attribute is `a`.

    Example:
        >>> dataset(np.array([True, False]), np.array([False, True])).labels.ravel()
        array([1., 0.])
    """
    with quiet():
        converted = BinaryLabelDataset(
            df=pd.DataFrame({"a": a.astype(np.float64), "label": labels.astype(np.float64)}),
            label_names=["label"],
            protected_attribute_names=["a"],
            privileged_protected_attributes=[np.array([1.0])],
            unprivileged_protected_attributes=[np.array([0.0])],
            favorable_label=float(favorable),
            unfavorable_label=float(not favorable),
        )
    converted.features, converted.feature_names, converted.instance_names = np.zeros((len(a), 0)), [], []
    return converted


def check_cells(y: np.ndarray, a: np.ndarray, cells: Iterable[tuple[int | None, int | None]]) -> None:
    """Check that there is a row for each pair of class and group; None stands for any.

    Raises:
        ValueError: naming the first pair that no row has.

    Example:
        >>> check_cells(np.array([True, False]), np.array([True, False]), [(1, None), (0, 0)])
    """
    for label, group in cells:
        rows = np.ones_like(y)
        rows = rows if label is None else rows & (y == label)
        rows = rows if group is None else rows & (a == group)
        if not rows.any():
            conditions = [f"{name} = {value}" for name, value in (("y", label), ("a", group)) if value is not None]
            raise ValueError(
                f"none of the {len(y)} rows has {' and '.join(conditions)}, but both classes and both groups are "
                "needed to fit; use more validation data"
            )


def binary(name: str, values: ArrayLike, n: int | None = None) -> Bool[np.ndarray, " n"]:
    """Convert zeros and ones, one per row, to booleans.

    Raises:
        ValueError: naming the argument and its shape or the first value that is neither 0 nor 1.
        TypeError: if the argument is sparse, masked, or holds anything but numbers and booleans.

    Example:
        >>> binary("y", np.array([0.0, 1.0]))
        array([False,  True])
    """
    array = np.asarray(checks.numeric(name, values))
    if array.ndim != 1 or (n is not None and len(array) != n):
        rows = "numbers" if n is None else f"{n} numbers"
        raise ValueError(f"{name} must be {rows}, one per row, got shape {array.shape}")
    strange = ~np.isin(array, (0, 1))
    if strange.any():
        raise ValueError(f"{name} must be of zeros and ones, got {array[strange][0]}")
    return array.astype(bool)
