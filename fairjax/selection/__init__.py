"""Evaluation of candidates on validation data, the threshold search, and the rules that select."""

from fairjax.selection.comparison import TIE, first_max, improves
from fairjax.selection.evaluation import Evaluation, Rates, evaluate_at, evaluate_tables, evaluate_thresholds, has_range
from fairjax.selection.protocol import Rule
from fairjax.selection.rules import (
    RULES,
    AccuracyFloor,
    ConstrainedObjective,
    ExpectedObjective,
    PooledObjective,
    constrained,
)
from fairjax.selection.thresholds import best_threshold, best_threshold_from_counts

__all__ = [
    "AccuracyFloor",
    "ConstrainedObjective",
    "Evaluation",
    "ExpectedObjective",
    "PooledObjective",
    "RULES",
    "Rates",
    "Rule",
    "TIE",
    "best_threshold",
    "best_threshold_from_counts",
    "constrained",
    "evaluate_at",
    "evaluate_tables",
    "evaluate_thresholds",
    "first_max",
    "has_range",
    "improves",
]
