"""Rates, gaps and measures for any number of groups and classes, as one differentiable number or a table for people.

`confusion` sums rows by predicted class, label and group; `rates` are ratios of two such sums; `gaps` compare a rate
across groups; `Parity` combines rates and a gap into a measure. `MEASURES` holds the measures of two groups by name,
such as `spd` and `eod`, and `make_measure` makes those of more groups and classes. `histogram` counts scores, from
which the confusion table at every threshold follows, and `group_sums` are what chunks of rows add up. `by_group` is a
table for people, with intervals.
"""

from typing import TYPE_CHECKING, Any

from fairjax.metrics import gaps, rates, shrinkage
from fairjax.metrics.accuracy import accuracy_from_table, balanced_accuracy
from fairjax.metrics.bias_amplification import bias_amplification
from fairjax.metrics.confusion import cell_sums, confusion, gram, solved
from fairjax.metrics.differential_fairness import differential_fairness
from fairjax.metrics.gaps import GAPS, Difference, Distance, Gap, Quotient, Smooth
from fairjax.metrics.group_sums import GroupSums, from_group_sums, group_sums
from fairjax.metrics.histograms import (
    INVALID_COUNT,
    Histogram,
    histogram,
    histogram_of_rows,
    tables_by_threshold,
    threshold_grid,
)
from fairjax.metrics.measures import (
    MEASURES,
    Measure,
    Weights,
    accuracy_difference,
    as_parity,
    average_odds_difference,
    checked,
    demographic_parity_ratio,
    demographic_parity_shortfall,
    eod,
    equalized_odds_difference,
    false_positive_rate_difference,
    gap,
    make_measure,
    num_classes,
    num_groups,
    predictive_parity_difference,
    rate,
    spd,
    taken,
)
from fairjax.metrics.parity import (
    Parity,
    accuracy_parity,
    count_groups,
    demographic_parity,
    equal_opportunity,
    equalized_odds,
    predictive_equality,
    predictive_parity,
)
from fairjax.metrics.proxies import of_mini_batches, probabilities, proxy
from fairjax.metrics.rates import Rate
from fairjax.metrics.tables import is_defined, measure_from_table, noise_from_table

if TYPE_CHECKING:
    from fairjax.metrics.group_report import GroupReport
    from fairjax.metrics.reporting import by_group

__all__ = [
    "GAPS",
    "INVALID_COUNT",
    "MEASURES",
    "Difference",
    "Distance",
    "Gap",
    "GroupReport",
    "GroupSums",
    "Histogram",
    "Measure",
    "Parity",
    "Quotient",
    "Rate",
    "Smooth",
    "Weights",
    "accuracy_difference",
    "accuracy_from_table",
    "accuracy_parity",
    "as_parity",
    "average_odds_difference",
    "balanced_accuracy",
    "bias_amplification",
    "by_group",
    "cell_sums",
    "checked",
    "confusion",
    "count_groups",
    "demographic_parity",
    "demographic_parity_ratio",
    "demographic_parity_shortfall",
    "differential_fairness",
    "eod",
    "equal_opportunity",
    "equalized_odds",
    "equalized_odds_difference",
    "false_positive_rate_difference",
    "from_group_sums",
    "gap",
    "gaps",
    "gram",
    "group_sums",
    "histogram",
    "histogram_of_rows",
    "is_defined",
    "make_measure",
    "measure_from_table",
    "noise_from_table",
    "num_classes",
    "num_groups",
    "of_mini_batches",
    "predictive_equality",
    "predictive_parity",
    "predictive_parity_difference",
    "probabilities",
    "proxy",
    "rate",
    "rates",
    "shrinkage",
    "solved",
    "spd",
    "tables_by_threshold",
    "taken",
    "threshold_grid",
]


def __getattr__(name: str) -> Any:
    """Load `by_group` and its result, which need pandas, on first use."""
    if name == "by_group":
        from fairjax.metrics.reporting import by_group

        return by_group
    if name == "GroupReport":
        from fairjax.metrics.group_report import GroupReport

        return GroupReport
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
