"""Holm's correction by statsmodels, an oracle."""

from unittest import mock

import numpy as np
from statsmodels.stats.multitest import multipletests


def holm_of_statsmodels(p_values) -> np.ndarray:
    """Return corrected p-values, without the whole collection of garbage that statsmodels does in each call.

    It takes seconds in a session of tests, which keeps many traced programs.
    """
    with mock.patch("gc.collect"):
        return multipletests(p_values, method="holm")[1]
