"""The columns of the table, computed from weighted counts by decision, label and group."""

from typing import Any

import numpy as np
import pandas as pd

from fairjax.runs.structure import CELLS

QUANTITIES = {
    "accuracy": "Acc",
    "balanced_accuracy": "Bal. acc",
    "parity": "Parity r",
    "min_parity": "min(r, 1/r)",
    "opportunity": "Opty",
    "odds": "Odds",
    "false_positives": "FPRD",
    "accuracy_gap": "Acc gap",
}
"""The columns by name, with their headings. Differences are those of group 0 minus group 1; r is group 0 by group 1."""

PRINTED = ("accuracy", "parity", "opportunity", "odds")
"""The columns that the paper prints."""


def counts(decisions: Any, y: Any, a: Any, weights: Any = None) -> dict[str, float]:
    """Sum the weights of rows by decision, label and group.

    Args:
        decisions: decisions, true where 1 is predicted.
        y: labels.
        a: groups, true in group 1.
        weights: weights of the rows; 1 if omitted.

    Returns:
        The sums by the names in `fairjax.runs.structure.CELLS`.
    """
    decisions, y, a = (np.asarray(column).astype(bool) for column in (decisions, y, a))
    weights = np.ones(len(y)) if weights is None else np.asarray(weights, np.float64)
    right = {"tn": (False, False), "fn": (False, True), "fp": (True, False), "tp": (True, True)}
    cells = {}
    for name in CELLS:
        decision, label = right[name[:2]]
        cells[name] = float(weights[(decisions == decision) & (y == label) & (a == (name[2] == "1"))].sum())
    return cells


def quantities(table: pd.DataFrame) -> pd.DataFrame:
    """Compute the columns of the table for every row of counts; NaN where a rate has no rows."""
    sums = {name: table[name].to_numpy(np.float64) for name in CELLS}

    def rate(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), np.nan)

    selected, true_positive, false_positive, accurate = [], [], [], []
    for g in "01":
        tn, fn, fp, tp = (sums[f"{name}{g}"] for name in ("tn", "fn", "fp", "tp"))
        selected.append(rate(tp + fp, tn + fn + fp + tp))
        true_positive.append(rate(tp, tp + fn))
        false_positive.append(rate(fp, fp + tn))
        accurate.append(rate(tp + tn, tn + fn + fp + tp))
    tn, fn, fp, tp = (sums[f"{name}0"] + sums[f"{name}1"] for name in ("tn", "fn", "fp", "tp"))
    opportunity, false_positives = true_positive[0] - true_positive[1], false_positive[0] - false_positive[1]
    low, high = np.minimum(*selected), np.maximum(*selected)
    with np.errstate(divide="ignore", invalid="ignore"):
        parity = selected[0] / selected[1]  # infinite if only group 0 is selected, NaN if nobody is
    return pd.DataFrame(
        {
            "accuracy": rate(tp + tn, tn + fn + fp + tp),
            "balanced_accuracy": 0.5 * (rate(tp, tp + fn) + rate(tn, tn + fp)),
            "parity": parity,
            "min_parity": rate(low, high),
            "opportunity": opportunity,
            "odds": 0.5 * (opportunity + false_positives),
            "false_positives": false_positives,
            "accuracy_gap": accurate[0] - accurate[1],
        },
        index=table.index,
    )
