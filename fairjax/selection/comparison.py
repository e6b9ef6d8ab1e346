"""Comparison of scores: which candidate is the best, and when scores are tied."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

TIE = 1e-6
"""Scores in [0, 1] that differ by less are ties: a few float32 roundings, so that ties do not depend on the device."""


def first_max(scores: Float[Array, " c"]) -> Int[Array, ""]:
    """Return the position of the highest score, the first on ties; NaN is never the highest.

    Example:
        >>> first_max(jnp.array([0.1, 0.7, 0.7])).item()
        1
    """
    scores = jnp.where(jnp.isnan(scores), -jnp.inf, scores)
    return jnp.argmax(scores >= jnp.max(scores) - TIE).astype(jnp.int32)


def improves(score: Float[Array, ""], best: Float[Array, ""]) -> Bool[Array, ""]:
    """Return whether a later candidate's score is better than the best so far; ties and NaN are no improvement.

    Example:
        >>> improves(jnp.array(0.7), jnp.array(0.7)).item()
        False
    """
    return score > best + TIE
