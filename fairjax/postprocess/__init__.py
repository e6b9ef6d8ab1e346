"""Postprocessing: decisions from scores and the protected attribute."""

from fairjax.postprocess.group_thresholds import GroupThresholds, Search, group_thresholds

__all__ = [
    "GroupThresholds",
    "Search",
    "group_thresholds",
]
