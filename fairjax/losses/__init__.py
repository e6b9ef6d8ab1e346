"""Losses, to compose with measures."""

from fairjax.losses.balanced_cross_entropy import balanced_cross_entropy, class_shares
from fairjax.losses.cross_entropy import check_targets, cross_entropies, cross_entropy, weighted_mean

__all__ = [
    "balanced_cross_entropy",
    "check_targets",
    "class_shares",
    "cross_entropies",
    "cross_entropy",
    "weighted_mean",
]
