"""Individual consistency: whether similar rows get similar decisions."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.checks import all_valid, nan_unless, scores, vector
from fairjax.detect.counterfactual.columns import is_concrete
from fairjax.detect.counterfactual.neighbours import QUERIES, feature_matrix, similar_instances


def consistency(
    decisions: Any, x: Any, k: int = 5, *, include_self: bool = True, chunk: int | None = QUERIES
) -> Float[Array, ""]:
    """Compute individual consistency: how close the decisions on similar rows are.

    It is 1 - mean_i |d_i - mean of d over the k nearest neighbours of x_i|. Consistency says nothing about groups: a
    constant decision has consistency 1, and a classifier that copies a feature which separates the groups may as well.

    Args:
        decisions: decisions in {0, 1} or scores in [0, 1], one per row.
        x: features, (n, d), standardised; see `similar_instances` for what they should be.
        k: number of neighbours.
        include_self: whether a row counts as its own first neighbour, as in AIF360's `consistency`, which looks up the
            neighbours of the rows among the same rows. Zemel et al. do not say; without it, consistency is lower.
        chunk: number of rows whose neighbours are searched at a time.

    Returns:
        The consistency, in [0, 1].

    Raises:
        ValueError: if numbers of rows differ, a decision is not in [0, 1], or there are too few rows.
        TypeError: if an argument holds anything but numbers and booleans.

    Example:
        >>> x = jnp.array([[0.0], [0.1], [5.0], [5.1]])
        >>> consistency([1, 1, 0, 0], x, k=2).item(), consistency([1, 0, 1, 0], x, k=2).item()
        (1.0, 0.5)

    References:
        Zemel, Wu, Swersky, Pitassi, Dwork (2013), Learning fair representations, ICML.
    """
    d, valid = scores(vector("decisions", decisions))
    table = feature_matrix("x", x)
    if d.shape[0] != table.shape[0]:
        raise ValueError(f"decisions must be one per row of x, {table.shape[0]}, found {d.shape[0]}")
    own = None if include_self else jnp.arange(d.shape[0], dtype=jnp.int32)
    neighbours = similar_instances(table, table, k, own_rows=own, chunk=chunk)
    known = None if is_concrete(neighbours.distances) else ~jnp.isnan(neighbours.distances).any()
    result = 1 - jnp.mean(jnp.abs(d - jnp.mean(d[neighbours.indices], axis=1)))
    return nan_unless(all_valid(valid, known), result)
