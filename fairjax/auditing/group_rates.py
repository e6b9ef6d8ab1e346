"""The table of rates by group."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from fairjax.auditing.counts import Counts
from fairjax.auditing.score_quality import quality
from fairjax.metrics.group_report import GroupReport, report_from_sums

ORDER = ("base_rate", "selection_rate", "true_positive_rate", "false_positive_rate", "precision", "accuracy")
"""The rates in the order of the columns of the table."""


RESERVED = ("rows", "auc", "brier_score", "calibration_error", "not_compared")
"""Names of columns of the table beside those of rates; `weight` and `class` are, if there are weights or classes."""


def check_names(attributes: Sequence[str], *, is_weighted: bool, has_classes: bool) -> None:
    """Check that no attribute is called like a column of the table by group.

    Raises:
        ValueError: naming the attribute.

    Example:
        >>> check_names(["sex", "class"], is_weighted=True, has_classes=False)
    """
    reserved = {*RESERVED, *(f"{rate}{ending}" for rate in ORDER for ending in ("", "_low", "_high", "_shrunk"))}
    reserved |= {"weight"} if is_weighted else set()
    reserved |= {"class"} if has_classes else set()
    taken = next((name for name in attributes if name in reserved), None)
    if taken is not None:
        raise ValueError(f"by_group.csv has a column {taken} of its own: give the attribute {taken} another name")


def report(counts: Counts, minimum: int) -> GroupReport:
    """Return the rates of the groups of counts of two classes."""
    return report_from_sums(
        names=counts.names,
        attributes=counts.attributes,
        levels=counts.levels,
        rows=counts.rows,
        cells=counts.weights,
        squares=counts.squares,
        minimum=minimum,
        weighted=counts.weighted,
        quality=(None, None, None) if counts.scores is None else quality(counts.scores),
    )


def by_group(counts: Counts, minimum: int) -> pd.DataFrame:
    """Return one row per group of the intersections, and per group of each attribute.

    Args:
        counts: the counts by intersection.
        minimum: least denominator of a rate, in rows, for the group to be compared.

    Returns:
        The table. In rows of one attribute, the columns of the others are empty. With more than two classes there is
        one row per group and class, the class against all others, in the column `class`.
    """
    views = counts.views()
    classes = range(len(counts.classes)) if len(counts.classes) > 2 else [None]
    frames = [
        _rows(view if k is None else view.of_class(k), minimum, counts.attributes, k)
        for view in dict.fromkeys((views[-1], *views))
        for k in classes
    ]
    return pd.concat(frames, ignore_index=True)


def _rows(counts: Counts, minimum: int, attributes: Sequence[str], of_class: int | None) -> pd.DataFrame:
    rates = report(counts, minimum).to_frame().reset_index(drop=True)
    columns: dict[str, Any] = {name: [""] * len(rates) for name in attributes}
    columns |= dict(zip(counts.attributes, map(list, zip(*counts.levels, strict=True)), strict=True))
    if of_class is not None:
        columns["class"] = [counts.classes[1]] * len(rates)
    columns["rows"] = rates["count"]
    if counts.weighted:
        columns["weight"] = counts.weights.sum(axis=(0, 1))
    for rate in ORDER:
        for name in (rate, f"{rate}_low", f"{rate}_high", f"{rate}_shrunk"):
            columns[name] = rates[name]
    for name in ("auc", "brier_score", "calibration_error", "not_compared"):
        if name in rates:
            columns[name] = rates[name]
    return pd.DataFrame(columns)
