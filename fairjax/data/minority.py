"""Synthetic data with a small group whose labels follow another rule, so that a classifier serves it badly."""

import jax
import jax.numpy as jnp

from fairjax.data.simulate import HIGHEST
from fairjax.types import Batch, KeyArray, Number

SHIFT = 2.0
"""Distance between the groups' means of the first feature."""

STEEPNESS = 4.0
"""Slope of the logit along the direction of the rule."""


def minority(key: KeyArray, n: int, angle: Number = 75.0, *, share: float = 0.03, features: int = 10) -> Batch:
    """Draw rows of two groups, where the rule of the minority is that of the majority, turned by an angle.

    1. Group: exactly round(share * n) rows are of the minority, A = 0.
    2. Features: X ~ N(0, I), except that X1 has the mean 2 in the minority. Nothing else shows the group.
    3. Label: Y ~ Bernoulli(sigmoid(4 (cos(t) X2 + sin(t) X3))), where t is 0 in the majority and `angle` in the
       minority.

    A classifier that is trained on such rows has a lower accuracy in the minority, although both groups are equally
    predictable. Measure it on balanced rows, which are drawn with `share=0.5`. A source for transfer learning is drawn
    with a share of 0.5 and another angle, such as 20 degrees.

    Args:
        key: Random key.
        n: Number of rows.
        angle: Angle between the rules of both groups, in degrees.
        share: Share of the minority.
        features: Number of features, at least 3.

    Returns:
        The rows in random order, with features that are not standardised; `a` is true in the majority.

    Raises:
        ValueError: If there are fewer than 3 features, or if a group would have no row.

    Example:
        >>> rows = minority(jax.random.key(0), 1000)
        >>> rows.x.shape, (~rows.a).sum().item()
        ((1000, 10), 30)

    References:
        Du, Yang, Zou, Hu (2020), Fairness in deep learning: a computational perspective, IEEE Intelligent Systems,
        https://arxiv.org/abs/1908.08843 (prediction quality disparity)
    """
    if features < 3:
        raise ValueError(f"features must be at least 3, found {features}: the label depends on three of them")
    few = round(share * n)
    if not 0 < few < n:
        raise ValueError(f"each group must have a row, found {few} of {n} rows in the minority: change share or n")
    group_key, x_key, y_key = jax.random.split(key, 3)
    a = jax.random.permutation(group_key, jnp.arange(n) >= few)
    x = jax.random.normal(x_key, (n, features))
    turn = jnp.deg2rad(jnp.asarray(angle, x.dtype))
    rules = jnp.stack([jnp.stack([jnp.cos(turn), jnp.sin(turn)]), jnp.array([1.0, 0.0], x.dtype)])
    along = jnp.take_along_axis(jnp.matmul(x[:, 1:3], rules.T, precision=HIGHEST), a.astype(jnp.int32)[:, None], axis=1)
    y = jax.random.bernoulli(y_key, jax.nn.sigmoid(STEEPNESS * along[:, 0]))
    return Batch(x.at[:, 0].add(jnp.where(a, 0.0, SHIFT).astype(x.dtype)), y, a)
