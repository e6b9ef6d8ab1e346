"""Losses, to compose with measures."""

from fairjax.losses.cross_entropy import check_targets, cross_entropies, cross_entropy, weighted_mean

__all__ = [
    "check_targets",
    "cross_entropies",
    "cross_entropy",
    "weighted_mean",
]
