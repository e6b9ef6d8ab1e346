"""The numbers that the paper prints in its Table 3."""

from pathlib import Path

import pandas as pd

PRINTED = Path(__file__).with_name("printed.csv")
"""One line per data set and printed row: Du, Yang, Zou, Hu (2020), arXiv:1908.08843, Table 3.

Of the data, the paper prints the parity of the labels alone.
"""


def printed() -> pd.DataFrame:
    """Read the printed numbers: dataset, row, label, accuracy, parity, opportunity, odds."""
    return pd.read_csv(PRINTED)
