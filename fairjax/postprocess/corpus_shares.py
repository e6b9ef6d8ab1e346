"""Shares of the groups among the rows of each class, the targets of corpus-level constraints."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from fairjax import checks
from fairjax.metrics.parity import count_groups


class CorpusShares(NamedTuple):
    """Composition of the rows of each class; without the axis of classes, of the rows of class 1."""

    shares: Float[Array, "*k g"]
    """Share of each group, summing to 1 over groups; NaN for a class without rows."""
    counts: Float[Array, "*k"]
    """Number of rows, or sum of their weights."""


def corpus_shares(
    y: Any, a: Any, *, num_groups: int | None = None, num_classes: int | None = None, weights: Any = None
) -> CorpusShares:
    """Compute the share of each group among the rows of a class, b(g, o) = P(a = g | y = o).

    With the shares of the training labels as targets of `corpus_level`, predictions do not amplify the association of
    outputs and groups. With the shares of all rows, P(a = g), computed by `corpus_shares(jnp.ones(n, bool), a)`,
    predictions have statistical parity.

    Args:
        y: labels in {0, 1}; codes if `num_classes` is given.
        a: groups: booleans, or codes 0, 1, ...
        num_groups: number of groups; two for booleans, and otherwise inferred from codes that are not traced.
        num_classes: number of classes. If omitted, labels are 0 and 1 and the result is that of class 1.
        weights: sample weights; 1 if omitted.

    Returns:
        Shares and counts, by class if `num_classes` is given; NaN if traced values are invalid.

    Raises:
        ValueError: if lengths or pandas indices differ, or a concrete value is invalid.
        TypeError: if an argument is sparse, masked, or holds anything but numbers and booleans.

    Example:
        >>> found = corpus_shares([1, 1, 1, 1, 0], [0, 1, 1, 1, 0])
        >>> found.shares.tolist(), found.counts.item()
        ([0.25, 0.75], 4.0)

    References:
        Zhao, Wang, Yatskar, Ordonez, Chang (2017), Men also like shopping: reducing gender bias amplification using
        corpus-level constraints, EMNLP, https://arxiv.org/abs/1707.09457
    """
    checks.check_index(y=y, a=a, weights=weights)
    y = checks.vector("y", y)
    codes, valid_groups, groups = group_codes(a, num_groups, y.shape[0])
    labels, valid_labels = checks.indicator("y", y) if num_classes is None else checks.codes("y", y, num_classes)
    row_weights, valid_weights = checks.sample_weights(weights, jnp.ones(y.shape))
    ones = jnp.ones(y.shape) if row_weights is None else row_weights
    members = jax.nn.one_hot(codes, groups, dtype=ones.dtype) * ones[:, None]
    classes = jax.nn.one_hot(labels.astype(jnp.int32), num_classes or 2, dtype=ones.dtype)
    with jax.default_matmul_precision("highest"):
        sums = classes.T @ members
    counts = jnp.sum(sums, axis=1)
    shares = sums / jnp.where(counts > 0, counts, jnp.nan)[:, None]
    if num_classes is None:
        shares, counts = shares[1], counts[1]
    valid = checks.all_valid(valid_groups, valid_labels, valid_weights)
    return CorpusShares(checks.nan_unless(valid, shares), checks.nan_unless(valid, counts))


def group_codes(a: Any, num_groups: int | None, n: int, name: str = "a") -> tuple[Int[Array, " n"], Any, int]:
    """Check the groups of n rows.

    Returns:
        Codes, whether they are valid if they are traced, else None, and the number of groups.

    Raises:
        ValueError: if the length differs, the groups are memberships, or their number is not known or less than 2.

    Example:
        >>> group_codes([True, False], None, 2)[0].tolist()
        [1, 0]
    """
    a = checks.numeric(name, a)
    if a.shape != (n,):
        raise ValueError(
            f"{name} must give each of {n} rows one group, found shape {a.shape}: pass codes of shape ({n},), of "
            f"memberships such as the most probable group, {name}.argmax(axis=1)"
        )
    groups = max(count_groups(a), 2) if num_groups is None else num_groups
    if groups < 2:
        raise ValueError(f"num_groups must be at least 2, found {groups}")
    return (*checks.codes(name, a, groups), groups)


def check_shares(name: str, shares: Any, classes: int | None) -> Float[Array, "*k g"]:
    """Check target shares of groups, one row per class if there are several.

    Raises:
        ValueError: if they have another shape, or if concrete ones are negative or do not sum to 1.

    Example:
        >>> check_shares("target", [0.25, 0.75], None).shape
        (2,)
    """
    shares = checks.floating(checks.numeric(name, shares))
    shape = "(groups,)" if classes is None else f"({classes}, groups), one row per class"
    leading = () if classes is None else (classes,)
    if not shares.ndim or shares.shape[:-1] != leading or shares.shape[-1] < 2:
        raise ValueError(f"{name} must be shares of shape {shape}, found shape {shares.shape}: see corpus_shares")
    if not isinstance(shares, Tracer):
        array = np.asarray(shares, np.float64)
        wrong = ~((np.abs(array.sum(axis=-1) - 1) < 1e-3) & (array >= 0).all(axis=-1))
        if wrong.any():
            found = array[tuple(np.argwhere(wrong)[0])] if classes is not None else array
            raise ValueError(
                f"{name} must be shares of the groups, which are not negative and sum to 1, found {found.tolist()}: "
                "pass corpus_shares(y, a).shares"
            )
    return shares


def check_margin(margin: Any) -> Float[Array, ""]:
    """Check the margin of shares.

    Raises:
        ValueError: if a concrete margin is not a number in [0, 1].

    Example:
        >>> check_margin(0.5).item()
        0.5
    """
    if not isinstance(margin, Tracer) and not (np.ndim(margin) == 0 and 0 <= float(margin) <= 1):
        raise ValueError(f"margin must be a difference of shares, in [0, 1], found {margin}")
    return jnp.asarray(margin)
