"""Rates and parity for any number of groups and classes: from rows to one differentiable number, or a table to read.

`confusion` sums rows by predicted class, label and group; `rates` are ratios of two such sums; `gaps` say how far a
rate is apart across groups; `Parity` composes rates and a gap into a measure; `by_group` is a table to read, with
intervals.
"""

from fairjax.metrics import gaps, rates, shrinkage
from fairjax.metrics.by_group import GroupReport, by_group
from fairjax.metrics.confusion import confusion, gram, solved
from fairjax.metrics.gaps import GAPS, Difference, Distance, Quotient, Smooth
from fairjax.metrics.measure import (
    Parity,
    accuracy_parity,
    demographic_parity,
    equal_opportunity,
    equalized_odds,
    predictive_equality,
    predictive_parity,
)
from fairjax.metrics.rates import Rate

__all__ = [
    "GAPS",
    "Difference",
    "Distance",
    "GroupReport",
    "Parity",
    "Quotient",
    "Rate",
    "Smooth",
    "accuracy_parity",
    "by_group",
    "confusion",
    "demographic_parity",
    "equal_opportunity",
    "equalized_odds",
    "gaps",
    "gram",
    "predictive_equality",
    "predictive_parity",
    "rates",
    "shrinkage",
    "solved",
]
