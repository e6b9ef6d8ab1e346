"""Reductions of fair classification to trainings with other labels and weights (Agarwal et al. 2018).

`grid_search` trains a classifier for each Lagrange multiplier of a grid, for all seeds in one program;
`exponentiated_gradient` finds the randomised classifier of least error under a constraint. Groups are needed for
training only.
"""

from fairjax.reductions.constraints import (
    CONSTRAINTS,
    Constraint,
    DemographicParity,
    EqualizedOdds,
    ErrorRateParity,
    FalsePositiveRateParity,
    TruePositiveRateParity,
)
from fairjax.reductions.game import ExponentiatedGradientResult, exponentiated_gradient
from fairjax.reductions.grid import GridSearchResult, grid_search
from fairjax.reductions.moments import error, signed_costs, violations
from fairjax.reductions.multiplier_grid import multiplier_grid
from fairjax.reductions.randomised import Randomised
from fairjax.reductions.responses import Tables, relabelled

__all__ = [
    "CONSTRAINTS",
    "Constraint",
    "DemographicParity",
    "EqualizedOdds",
    "ErrorRateParity",
    "ExponentiatedGradientResult",
    "FalsePositiveRateParity",
    "GridSearchResult",
    "Randomised",
    "Tables",
    "TruePositiveRateParity",
    "error",
    "exponentiated_gradient",
    "grid_search",
    "multiplier_grid",
    "relabelled",
    "signed_costs",
    "violations",
]
