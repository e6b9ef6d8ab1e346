"""Paired comparisons of rows with a reference, on the same splits."""

import numpy as np
import pandas as pd

from fairjax.report import statistics


def against(named: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Compare all rows with a reference: mean of row - reference with its bootstrap interval, and p-values.

    Args:
        named: the numbers, with the columns that `fairjax.report.statistics.comparisons` needs; rows are its methods.
        reference: the row with which the others are compared.

    Returns:
        One line per data set, quantity and row.
    """
    found = statistics.comparisons(named, np.random.default_rng(0), reference=(reference, "none"))
    return pd.DataFrame(
        {
            "dataset": found["dataset"],
            "quantity": found["measure"],
            "row": found["other_method"],
            "reference": reference,
            "splits": found["splits"],
            "difference": -found["mean"],
            "low": -found["high"],
            "high": -found["low"],
            "wilcoxon_p": found["wilcoxon_p"],
            "holm_p": found["holm_p"],
        }
    )
