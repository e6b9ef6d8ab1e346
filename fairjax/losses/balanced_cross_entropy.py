"""Cross-entropy in which all classes have the same total weight."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.checks import nan_unless
from fairjax.losses.cross_entropy import check_targets, cross_entropies, weighted_mean
from fairjax.types import Rows, weights_of


def class_shares(batch: Rows, num_classes: int = 2) -> Float[Array, " c"]:
    """Compute the share of each class among the rows, using sample weights if there are any.

    Example:
        >>> from fairjax.types import Batch
        >>> class_shares(Batch(jnp.ones((4, 1)), jnp.array([True, False, False, False]), jnp.ones(4, bool))).tolist()
        [0.75, 0.25]
    """
    dtype = jnp.result_type(float)
    if num_classes == 2:
        positives = weighted_mean(batch.y.astype(dtype), weights_of(batch))
        return jnp.stack([1.0 - positives, positives])
    return jnp.stack([weighted_mean((batch.y == k).astype(dtype), weights_of(batch)) for k in range(num_classes)])


def balanced_cross_entropy(
    logits: Float[Array, " m"] | Float[Array, "m c"], batch: Rows, shares: Float[Array, " c"]
) -> Float[Array, ""]:
    """Compute the cross-entropy, in nats, with equal total weight for each class, whatever the classes' shares.

    Args:
        logits: logits of a mini-batch.
        batch: the mini-batch, of which labels and weights are used.
        shares: share of each class in the data from which mini-batches are drawn; see `class_shares`. A class whose
            share is 0 has the weight that it would have with a share of 1.

    Returns:
        A scalar whose expectation over mini-batches is the mean of the classes' mean cross-entropies.
    """
    count, shares = shares.shape[0], shares.astype(logits.dtype)
    shares = jnp.where(shares > 0, shares, 1.0)
    class_share = jnp.where(batch.y, shares[1], shares[0]) if count == 2 else shares[batch.y]
    valid = check_targets(logits, batch)
    loss = weighted_mean(1.0 / count / class_share * cross_entropies(logits, batch.y), weights_of(batch))
    return nan_unless(valid, loss)
