"""Directions of a concept in representations, and representations without them."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fairjax import linalg
from fairjax.types import AnyArray


def group_direction(h: Float[AnyArray, "n k"], a: Bool[AnyArray, " n"]) -> Float[Array, "1 k"]:
    """Compute the unit vector from the mean representation of the rows with a=0 to that of the rows with a=1.

    Args:
        h: representations, one row per example, such as embeddings of names.
        a: the group of each row.

    Returns:
        The direction as a matrix of one row; NaN if a group has no rows.

    Example:
        >>> group_direction(jnp.array([[0.0, 1.0], [0.0, 5.0]]), jnp.array([False, True])).tolist()
        [[0.0, 1.0]]
    """
    h, ones = jnp.asarray(h), jnp.asarray(a)[:, None]
    if ones.shape[0] != h.shape[0]:
        raise ValueError(f"h and a must have the same number of rows, found {h.shape[0]} and {ones.shape[0]}")
    means = [jnp.mean(h, axis=0, where=chosen) for chosen in (~ones, ones)]
    difference = means[1] - means[0]
    return (difference / jnp.linalg.norm(difference))[None]


def principal_directions(h: Float[AnyArray, "n k"], count: int) -> Float[Array, "count k"]:
    """Compute the directions in which representations vary most, as orthonormal rows.

    Args:
        h: representations, one row per example, such as the mean embedding of each name.
        count: number of directions, at most the number of rows less one.

    Example:
        >>> principal_directions(jnp.array([[1.0, 0.0], [-1.0, 0.0], [3.0, 0.0]]), 1).round(4).tolist()
        [[1.0, 0.0]]
    """
    h = jnp.asarray(h)
    most = min(h.shape[0] - 1, h.shape[1])
    if not 1 <= count <= most:
        raise ValueError(f"count must be from 1 to {most} for representations of shape {h.shape}, got {count}")
    directions = linalg.right_singular(h - jnp.mean(h, axis=0, keepdims=True))[1][:count]
    largest = jnp.take_along_axis(directions, jnp.argmax(jnp.abs(directions), axis=1)[:, None], axis=1)
    return directions * jnp.sign(largest)  # a decomposition may return either sign


def project_out(x: Float[Any, "n k"], directions: Float[AnyArray, "m k"]) -> Float[Array, "n k"]:
    """Remove directions from representations: x minus its projection onto the space that they span.

    Args:
        x: representations, one row per example.
        directions: the directions, one per row; they need be neither orthogonal nor of unit length, nor independent.

    Returns:
        The representations, orthogonal to all directions. Derivatives are those by x: directions count as constants.

    Raises:
        ValueError: if the numbers of columns differ.

    Example:
        >>> project_out(jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 3.0]])).tolist()
        [[1.0, 0.0]]

    References:
        Bolukbasi, Chang, Zou, Saligrama, Kalai (2016), Man is to computer programmer as woman is to homemaker?
        Debiasing word embeddings, NeurIPS, https://arxiv.org/abs/1607.06520
    """
    x, directions = jnp.asarray(x), jnp.asarray(directions)
    if directions.ndim != 2 or directions.shape[1] != x.shape[-1]:
        raise ValueError(f"directions must be of shape (number, {x.shape[-1]}), found {directions.shape}")
    sizes, rows = linalg.right_singular(jax.lax.stop_gradient(directions))
    least = sizes[0] * max(directions.shape) * jnp.finfo(sizes.dtype).eps
    basis = jnp.where((sizes > least)[:, None], rows, 0.0)  # directions that follow from others span nothing new
    return x - (x @ basis.T) @ basis
