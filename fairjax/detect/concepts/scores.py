"""TCAV scores: how many rows' logits rise along a concept, and by how much."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from fairjax import checks
from fairjax.types import AnyArray

EQUAL = 1e-5
"""Gradients that differ by less than this part of the largest one count as equal."""


class TcavScores(NamedTuple):
    """Scores of directions in one layer, over the rows that count; NaN if there are none."""

    score: Float[Array, "..."]
    """Share of rows with df/dh . v > 0."""
    sensitivity: Float[Array, "..."]
    """Mean of df/dh . v, in logits per unit of activation along v."""
    magnitude: Float[Array, "..."]
    """Sum of the positive df/dh . v as a share of the sum of all absolute values; NaN if all are 0."""


class ScoreSums(NamedTuple):
    """Sums over rows from which the scores of one layer follow; sums of disjoint rows add up, extremes combine."""

    rows: Float[Array, ""]
    rising: Float[Array, " v"]
    change: Float[Array, " v"]
    positive: Float[Array, " v"]
    absolute: Float[Array, " v"]
    low: Float[Array, " u"]
    high: Float[Array, " u"]


def tcav_scores(gradients: Float[AnyArray, "n u"], vectors: Float[AnyArray, "v u"], counted: Any = None) -> TcavScores:
    """Compute the TCAV score, mean sensitivity and relative magnitude of every vector by one matrix product.

    Args:
        gradients: d logit / d h of n rows in one layer, from `unit_gradients`.
        vectors: one direction per row, such as concept activation vectors.
        counted: rows that count, such as those of the target class; all if omitted.

    Returns:
        The scores of each vector. The score is that of Kim et al. for gradients of a logit; where the gradient of the
        loss is used instead, the sign is the opposite.

    Raises:
        ValueError: if shapes do not agree, or no row counts.

    Example:
        >>> gradients = jnp.array([[1.0, 0.0], [-3.0, 0.0]])
        >>> scores = tcav_scores(gradients, jnp.array([[1.0, 0.0]]))
        >>> scores.score.item(), scores.sensitivity.item(), scores.magnitude.item()
        (0.5, -1.0, 0.25)

    References:
        Kim et al. (2018), Interpretability beyond feature attribution: quantitative testing with concept activation
        vectors, ICML, Eq. 2.
    """
    gradients, vectors = jnp.asarray(gradients), jnp.asarray(vectors)
    if gradients.ndim != 2 or vectors.ndim != 2 or gradients.shape[1] != vectors.shape[1]:
        raise ValueError(
            "gradients must have shape (n, units) and vectors shape (vectors, units), found gradients "
            f"{gradients.shape} and vectors {vectors.shape}"
        )
    rows, valid = counted_rows(counted, gradients.shape[0])
    scores = _scores(gradients, vectors, rows)
    return scores if valid is None else TcavScores(*(checks.nan_unless(valid, part) for part in scores))


@jax.jit
def _scores(gradients: Float[Array, "n u"], vectors: Float[Array, "v u"], rows: Bool[Array, " n"]) -> TcavScores:
    return scores_of(score_sums(gradients, vectors.astype(gradients.dtype), rows.astype(gradients.dtype)))


def counted_rows(counted: Any, n: int) -> tuple[Bool[Array, " n"], Bool[Array, ""] | None]:
    """Check which rows count.

    Raises:
        ValueError: if the column has another length than there are rows, or no row counts.

    Example:
        >>> counted_rows([0, 1], 2)[0].tolist()
        [False, True]
    """
    if counted is None:
        return jnp.ones(n, bool), None
    rows, valid = checks.indicator("counted", checks.vector("counted", counted))
    if rows.shape != (n,):
        raise ValueError(f"counted must have {n} rows, as x has, found shape {rows.shape}")
    if not isinstance(rows, Tracer) and not np.asarray(rows).any():
        raise ValueError("counted names no rows: there must be one at least, such as those of the target class")
    return rows, valid


def score_sums(gradients: Float[Array, "n u"], vectors: Float[Array, "v u"], counted: Float[Array, " n"]) -> ScoreSums:
    """Compute the sums over rows from which scores follow; rows with `counted` 0 are left out."""
    with jax.default_matmul_precision("highest"):
        change = gradients @ vectors.T
    chosen = counted[:, None] > 0

    def total(values: Array) -> Array:
        return jnp.sum(jnp.where(chosen, values, 0.0), axis=0)

    rising = jnp.where(jnp.isnan(change), jnp.nan, (change > 0).astype(change.dtype))
    return ScoreSums(
        jnp.sum(counted),
        total(rising),
        total(change),
        total(jnp.maximum(change, 0.0)),
        total(jnp.abs(change)),
        jnp.min(jnp.where(chosen, gradients, jnp.inf), axis=0),
        jnp.max(jnp.where(chosen, gradients, -jnp.inf), axis=0),
    )


def combined(first: Mapping[str, ScoreSums], second: Mapping[str, ScoreSums]) -> dict[str, ScoreSums]:
    """Combine the sums of two sets of rows, layer by layer."""
    return {
        name: ScoreSums(
            *(left + right for left, right in zip(sums[:5], second[name][:5], strict=True)),
            jnp.minimum(sums.low, second[name].low),
            jnp.maximum(sums.high, second[name].high),
        )
        for name, sums in first.items()
    }


def scores_of(sums: ScoreSums) -> TcavScores:
    """Compute the scores from their sums."""
    rows = jnp.where(sums.rows > 0, sums.rows, jnp.nan)
    absolute = jnp.where(sums.absolute > 0, sums.absolute, jnp.nan)
    return TcavScores(sums.rising / rows, sums.change / rows, sums.positive / absolute)


def is_degenerate(sums: ScoreSums) -> Bool[Array, ""]:
    """Return whether the gradient is the same for all rows, so that every score is 0 or 1; False if no row counts."""
    largest = jnp.max(jnp.maximum(jnp.abs(sums.low), jnp.abs(sums.high)))
    return (sums.rows > 0) & jnp.all(sums.high - sums.low <= EQUAL * largest)
