"""Postprocessing: decisions from scores and the protected attribute."""

from fairjax.postprocess.calibrated_equalized_odds import CalibratedEqualizedOdds, Cost, calibrated_equalized_odds
from fairjax.postprocess.corpus_level import CorpusLevel, corpus_level
from fairjax.postprocess.corpus_level_classes import CorpusLevelClasses, corpus_level_classes
from fairjax.postprocess.corpus_shares import CorpusShares, corpus_shares
from fairjax.postprocess.group_thresholds import GroupThresholds, Search, group_thresholds

__all__ = [
    "CalibratedEqualizedOdds",
    "CorpusLevel",
    "CorpusLevelClasses",
    "CorpusShares",
    "Cost",
    "GroupThresholds",
    "Search",
    "calibrated_equalized_odds",
    "corpus_level",
    "corpus_level_classes",
    "corpus_shares",
    "group_thresholds",
]
