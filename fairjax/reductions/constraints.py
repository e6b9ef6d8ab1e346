"""Parity constraints of the reductions: the mean utility of each group equals that of all rows, up to a bound."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from fairjax.registry import Registry, brief

Utility = tuple[tuple[float, float], tuple[float, float]]

SELECTION: Utility = ((0.0, 0.0), (1.0, 1.0))
"""The utility of a decision is the decision."""
ERROR: Utility = ((0.0, 1.0), (1.0, 0.0))
"""The utility of a decision is whether it is wrong."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constraint:
    """The mean utility of each group, among the rows of an event, is that of all rows of the event up to a bound.

    With the mean utility m(g) of group g and m of all rows, the constraints are ratio * m(g) - m <= bound and
    ratio * m - m(g) <= bound. A constraint has one Lagrange multiplier for each sign, event and group. To make another
    constraint, subclass the class and set `events` and `utility`.

    Example:
        >>> DemographicParity(bound=0.05).shape(num_groups=3)
        (2, 1, 3)
        >>> DemographicParity(bound=-0.1)
        Traceback (most recent call last):
        ...
        ValueError: bound must be a finite number, at least 0, got -0.1

    References:
        Agarwal, Beygelzimer, Dudik, Langford and Wallach (2018), A Reductions Approach to Fair Classification, ICML.
    """

    label: ClassVar[str] = ""
    """Name in tables and figures."""
    events: ClassVar[tuple[tuple[int, ...], ...]] = ((0, 1),)
    """For each event, the labels of its rows. No label is in two events."""
    utility: ClassVar[Utility] = SELECTION
    """Utility of a row by decision and label."""

    bound: float = 0.01
    """The greatest difference that is allowed."""
    ratio: float = 1.0
    """With less than 1, the ratio of mean utilities may lie between `ratio` and its inverse, and `bound` is added."""

    def __post_init__(self):
        """Validate bound and ratio."""
        if not 0 <= self.bound < np.inf:
            raise ValueError(f"bound must be a finite number, at least 0, got {self.bound}")
        if not 0 < self.ratio <= 1:
            raise ValueError(f"ratio must be above 0 and at most 1, got {self.ratio}")

    def shape(self, num_groups: int) -> tuple[int, int, int]:
        """Return the shape of the multipliers: signs, events, groups."""
        return (2, len(self.events), num_groups)

    def check_counts(self, counts: Any, names: Any = None) -> None:
        """Check that every group has rows in every event.

        Args:
            counts: weight of the rows by label and group, with or without leading axes.
            names: names of the groups; their codes if omitted.

        Raises:
            ValueError: naming the first group without rows.

        Example:
            >>> DemographicParity().check_counts([[4.0, 0.0], [2.0, 0.0]])
            Traceback (most recent call last):
            ...
            ValueError: group 1 has no train rows, so its rates are undefined: pool it with another group, ...
        """
        counts = np.asarray(counts)
        for event in self.events:
            absent = ~(counts[..., list(event), :].sum(axis=-2) > 0)
            if absent.any():
                group = int(np.argwhere(absent)[0][-1])
                of_labels = "" if len(event) == 2 else f" with label {event[0]}"
                raise ValueError(
                    f"group {group if names is None else names[group]} has no train rows{of_labels}, so its rates are "
                    "undefined: pool it with another group, or use more rows"
                )


class DemographicParity(Constraint):
    """Groups have equal selection rates."""

    label = "Demographic parity"


class TruePositiveRateParity(Constraint):
    """Groups have equal true positive rates (equal opportunity)."""

    label = "Equal opportunity"
    events = ((1,),)


class FalsePositiveRateParity(Constraint):
    """Groups have equal false positive rates."""

    label = "Predictive equality"
    events = ((0,),)


class EqualizedOdds(Constraint):
    """Groups have equal false positive rates and equal true positive rates."""

    label = "Equalized odds"
    events = ((0,), (1,))


class ErrorRateParity(Constraint):
    """Groups have equal error rates."""

    label = "Error rate parity"
    utility = ERROR


def _check_entry(name: str, kind: Any) -> None:
    if not (isinstance(kind, type) and issubclass(kind, Constraint)):
        raise TypeError(f"the constraint {name!r} must be a subclass of Constraint, got {brief(kind)}")


CONSTRAINTS: Registry[type[Constraint]] = Registry(
    "constraint",
    {
        "demographic_parity": DemographicParity,
        "true_positive_rate_parity": TruePositiveRateParity,
        "false_positive_rate_parity": FalsePositiveRateParity,
        "equalized_odds": EqualizedOdds,
        "error_rate_parity": ErrorRateParity,
    },
    check=_check_entry,
)
"""The constraints by name."""
