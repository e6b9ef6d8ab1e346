"""Losses, to compose with measures.

A parity loss is any of them plus a weighted measure of the scores, such as
`cross_entropy(logits, batch) + 4.0 * abs(fairjax.spd(jax.nn.sigmoid(logits), batch.y, batch.a))`.
"""

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
