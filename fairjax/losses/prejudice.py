"""The prejudice index: the mutual information of prediction and group."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.checks import all_valid, floating, nan_unless, numeric, predictions
from fairjax.hyperparameters import static
from fairjax.losses.base import Outputs, Term, term
from fairjax.losses.grouping import grouped, positive
from fairjax.metrics.proxies import probabilities
from fairjax.types import Rows, weights_of

LEAST = 1e-6
"""Probabilities are not taken as smaller than this in logarithms."""


def prejudice(values: Any, a: Any, weights: Any = None, *, num_groups: int | None = None) -> Float[Array, ""]:
    """Compute the mutual information of prediction and group, in nats (Kamishima et al. 2012).

    It is the mean over the rows of sum over y of p(y | x) log(p(y | group) / p(y)), where p(y | group) is the mean
    probability in the group of the row and p(y) that of all rows. Kamishima et al. sum over the rows: their
    eta is the weight of this mean if the loss is a mean too.

    Args:
        values: scores of shape (n,), or probabilities of shape (n, classes).
        a: groups: booleans, codes, or memberships of shape (n, groups).
        weights: non-negative weights of the rows; 1 if omitted.
        num_groups: number of groups; counted if omitted.

    Returns:
        A scalar; 0, with a gradient of 0, if fewer than two groups are present.

    Raises:
        ValueError: if shapes differ, or an argument is invalid.

    Example:
        >>> round(prejudice(jnp.array([1.0, 0.0]), jnp.array([True, False])).item(), 4)
        0.6931

    References:
        Kamishima, Akaho, Asoh, Sakuma: Fairness-aware classifier with prejudice remover regularizer, ECML PKDD 2012.
    """
    values = numeric("values", values)
    if values.ndim not in (1, 2):
        raise ValueError(f"values must have shape (n,) or (n, classes), found shape {values.shape}")
    p, valid = predictions(values, 2 if values.ndim == 1 else values.shape[1])
    p = jnp.stack([1.0 - p, p], axis=1) if p.ndim == 1 else p
    rows = grouped(a, weights, like=p, num_groups=num_groups, num_classes=2)
    members = rows.weights[:, 0, :]
    total = positive(jnp.sum(members))
    joint = jnp.matmul(members.T, p, precision="highest") / total
    given_group = joint / positive(rows.totals[0] / total)[:, None]
    ratios = jnp.log(_clipped(given_group)) - jnp.log(_clipped(jnp.sum(joint, axis=0)))[None, :]
    value = jnp.where(jnp.any(rows.present), jnp.sum(joint * ratios), 0.0)
    return nan_unless(all_valid(valid, rows.valid), value)


def _clipped(p: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.clip(p, LEAST, 1.0 - LEAST)


@term
class Prejudice(Term):
    """The mutual information of prediction and group, in nats: the prejudice remover's regulariser.

    Example:
        >>> from fairjax.types import Batch
        >>> batch = Batch(jnp.ones((2, 1)), jnp.array([True, False]), jnp.array([True, False]))
        >>> Prejudice().value((), Outputs(jnp.array([2.0, 2.0]), {}), batch).item()
        0.0
    """

    label: ClassVar[str] = "Prejudice remover"
    reference: ClassVar[str] = "Kamishima et al. 2012"
    equation: ClassVar[str] = "mean of sum over y of p(y | x) log(p(y | group) / p(y))"
    zero_at_parity: ClassVar[bool] = True

    num_groups: int | None = static(None)
    """Number of groups; that of the data if omitted."""

    def value(self, params: Any, outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the mutual information of a mini-batch; 0 if fewer than two groups are present."""
        del params
        scores = probabilities(floating(outputs.logits))
        return prejudice(scores, batch.a, weights_of(batch), num_groups=self.num_groups)
