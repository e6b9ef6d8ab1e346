"""Gaussian naive Bayes: a fast classifier that ranks rows by how probable each label is."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.preprocess.cells import Cells

FLOOR = 1e-9
"""Least variance of a feature in a class, as a share of the largest variance of a feature; scikit-learn's default."""


def log_posterior(x: Float[Array, "n d"], cells: Cells) -> Float[Array, "n classes"]:
    """Compute log P(y | x), with features that are independent and Gaussian in each class.

    Features are standardised first, so that the unit of a feature does not matter.

    Args:
        x: features.
        cells: labels and weights of the rows.

    Returns:
        Log probabilities of all classes.

    References:
        Zhang (2004), The optimality of naive Bayes, FLAIRS
    """
    labels = cells.codes // cells.shape[1]
    members = jax.nn.one_hot(labels, cells.shape[0], dtype=x.dtype) * cells.weights[:, None].astype(x.dtype)
    totals = jnp.sum(members, axis=0)
    safe = jnp.where(totals > 0, totals, 1.0)[:, None]
    x = _standardised(x)
    mean = jnp.matmul(members.T, x, precision="highest") / safe
    variance = jnp.matmul(members.T, x**2, precision="highest") / safe - mean**2
    variance = jnp.maximum(variance, 0.0) + FLOOR
    log_prior = jnp.log(totals / jnp.sum(totals))
    distance = (
        jnp.matmul(x**2, (1 / variance).T, precision="highest")
        - 2 * jnp.matmul(x, (mean / variance).T, precision="highest")
        + jnp.sum(mean**2 / variance, axis=1)[None]
    )
    joint = (log_prior - 0.5 * jnp.sum(jnp.log(variance), axis=1))[None] - 0.5 * distance
    return jax.nn.log_softmax(joint, axis=1)


def _standardised(x: Float[Array, "n d"]) -> Float[Array, "n d"]:
    mean, deviation = jnp.mean(x, axis=0), jnp.std(x, axis=0)
    return (x - mean[None]) / jnp.where(deviation > 0, deviation, 1.0)[None]
