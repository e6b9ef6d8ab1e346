"""Rates and parity for any number of groups and classes, as one differentiable number or as a table for people.

`confusion` sums rows by predicted class, label and group; `rates` are ratios of two such sums; `gaps` compare a rate
across groups; `Parity` combines rates and a gap into a measure; `by_group` is a table for people, with intervals.
"""

from typing import TYPE_CHECKING, Any

from fairjax.metrics import gaps, rates, shrinkage
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

if TYPE_CHECKING:
    from fairjax.metrics.report import GroupReport, by_group

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


def __getattr__(name: str) -> Any:
    """Load `by_group` and its result, which need pandas, on first use."""
    if name in ("GroupReport", "by_group"):
        from fairjax.metrics import report

        return getattr(report, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
