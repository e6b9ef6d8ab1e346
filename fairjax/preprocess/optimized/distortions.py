"""Distortions: how much it matters that optimized pre-processing changes a row into another one.

A distortion is a function of two cells, dictionaries with the values of a row before and after; see
`fairjax.preprocess.optimized.discrete.Cell`. It is 0 if nothing changes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from fairjax.preprocess.optimized.discrete import Cell, DiscreteTable

Distortion = Callable[[Cell, Cell], float]
"""A distortion of the cell before and the cell after."""

FORBIDDEN = 3.0
"""A distortion above all default thresholds, whose default probability is 0."""

AGES = ("Less than 25", "25 - 45", "Greater than 45")
PRIORS = ("0", "1 to 3", "More than 3")


def distortion_adult(old: Cell, new: Cell) -> float:
    """Compute the distortion for Adult's decade of age, years of education, and income, y = 1 above 50K.

    The years of education may only grow, by one year at most, and the age may change by one decade, which costs 2. A
    lower income costs 1. The race may change at no cost.

    Example:
        >>> row = {"age": "30", "education": "9", "race": 1.0, "y": 1}
        >>> distortion_adult(row, {**row, "y": 0}), distortion_adult(row, {**row, "age": "40"})
        (1.0, 2.0)

    References:
        Calmon, Wei, Vinzamuri, Natesan Ramamurthy, Varshney (2017), Optimized pre-processing for discrimination
        prevention, NeurIPS, supplementary material 4.3
    """
    years = _years(new["education"]) - _years(old["education"])
    decades = abs(_number(new["age"]) - _number(old["age"])) / 10
    if years not in (0, 1) or decades > 1:
        return FORBIDDEN
    if decades:
        return 2.0
    return 1.0 if new["y"] < old["y"] else 0.0


def distortion_compas(old: Cell, new: Cell) -> float:
    """Compute the distortion for COMPAS's category of age, number of priors, degree of the charge, sex, and label.

    Each step of the age or of the priors costs 1, a felony that becomes a misdemeanour 1, and a misdemeanour that
    becomes a felony, another sex and another label 2.

    Example:
        >>> row = {"age_cat": "25 - 45", "priors_count": "0", "c_charge_degree": "F", "sex": 1.0, "y": 1}
        >>> distortion_compas(row, {**row, "priors_count": "More than 3", "c_charge_degree": "M"})
        3.0

    References:
        Calmon, Wei, Vinzamuri, Natesan Ramamurthy, Varshney (2017), Optimized pre-processing for discrimination
        prevention, NeurIPS, supplementary material 4.3
    """
    steps = abs(AGES.index(new["age_cat"]) - AGES.index(old["age_cat"]))
    steps += abs(PRIORS.index(new["priors_count"]) - PRIORS.index(old["priors_count"]))
    charge = {("F", "M"): 1, ("M", "F"): 2}.get((old["c_charge_degree"], new["c_charge_degree"]), 0)
    return float(steps + charge + 2 * (new["sex"] != old["sex"]) + 2 * (new["y"] != old["y"]))


def distortions(
    table: DiscreteTable, num_classes: int, distortion: Distortion | None
) -> Float[np.ndarray, "cells cells"]:
    """Compute the distortion of every cell (row) into every other (column); a cell is `x * num_classes + y`.

    Without a function, every step between neighbouring values of a number, every other category and every other label
    costs 1.

    Raises:
        ValueError: if the function is not 0 for a cell that does not change, or not a finite number that is not
            negative.
    """
    if distortion is None:
        return _steps(table, num_classes)
    cells = [{**table.cell(code), "y": y} for code in range(table.count) for y in range(num_classes)]
    values = np.array([[distortion(old, new) for new in cells] for old in cells], np.float64)
    wrong = ~((values >= 0) & (values < np.inf)) | ((values != 0) & np.eye(len(cells), dtype=bool))
    if wrong.any():
        old, new = np.argwhere(wrong)[0]
        expected = "0, since nothing changes" if old == new else "a finite number, not negative"
        raise ValueError(
            f"the distortion of {cells[old]} into {cells[new]} must be {expected}: found {values[old, new]}"
        )
    return values


def _steps(table: DiscreteTable, num_classes: int) -> Float[np.ndarray, "cells cells"]:
    parts = np.array(np.unravel_index(np.arange(table.count), table.shape))
    steps = np.zeros((table.count, table.count))
    for part, columns in zip(parts, table.columns, strict=True):
        apart = np.abs(part[:, None] - part[None])
        steps += apart if len(columns) == 1 else apart > 0
    labels = 1.0 - np.eye(num_classes)
    total = steps[:, None, :, None] + labels[None, :, None, :]
    return total.reshape(table.count * num_classes, -1)


def _years(years: Any) -> float:
    """Return the years of education, the categories below 6 and above 12 as 5 and 13."""
    return {"<6": 5.0, ">12": 13.0}.get(years) or _number(years)


def _number(value: Any) -> float:
    return float(str(value).removeprefix(">="))
