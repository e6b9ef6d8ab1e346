"""Bias amplification: how much more strongly predictions associate outputs with groups than labels do."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from fairjax.metrics.confusion import confusion


def bias_amplification(
    values: Any,
    y: Any,
    a: Any,
    weights: Any = None,
    *,
    num_groups: int = 2,
    num_classes: int = 2,
    reference: tuple[Any, Any] | None = None,
) -> Float[Array, ""]:
    """Compute the mean bias amplification of predictions.

    The bias of an output o towards a group g is b(o, g), the share of the rows with output o that belong to g. An
    output is biased towards the groups whose share among the labels exceeds 1 / groups. The amplification is the
    increase of b(o, g) from labels to predictions, summed over these groups, and averaged over outputs. It is positive
    if the predictions exaggerate the association in the labels.

    Args:
        values: decisions in {0, 1} or scores in [0, 1]; for more classes, codes or probabilities.
        y: labels of the same rows.
        a: groups: booleans, codes or memberships.
        weights: sample weights; 1 if omitted.
        num_groups: number of groups.
        num_classes: number of classes. For two, the only output is class 1; for more, each class is an output.
        reference: labels and groups of other rows whose bias is the reference, such as those that the network was
            trained on; the labels `y` if omitted.

    Returns:
        A scalar between -1 and 1; 0 if the predictions are as biased as the labels. Outputs that are never predicted,
        or that no reference row has, are left out; NaN if all are.

    Raises:
        ValueError: if shapes differ or a concrete value is invalid.

    Example:
        >>> y, a = jnp.array([1, 1, 1, 0, 0]), jnp.array([0, 0, 1, 1, 1])
        >>> round(bias_amplification(jnp.array([1, 1, 0, 0, 0]), y, a).item(), 4)  # the share of group 0: from 2/3 to 1
        0.3333

    References:
        Zhao, Wang, Yatskar, Ordonez, Chang (2017), Men also like shopping: reducing gender bias amplification using
        corpus-level constraints, EMNLP, https://arxiv.org/abs/1707.09457
    """
    counts: Any = {"num_groups": num_groups, "num_classes": num_classes}
    table = confusion(values, y, a, weights=weights, **counts)
    predicted, labels = jnp.sum(table, axis=1), jnp.sum(table, axis=0)
    if reference is not None:
        reference_y, reference_a = reference
        labels = jnp.sum(confusion(reference_y, reference_y, reference_a, **counts), axis=1)
    outputs = np.arange(1 if num_classes == 2 else 0, num_classes)
    (model, predicted_at_all), (data, labelled_at_all) = (_shares(sums[outputs]) for sums in (predicted, labels))
    increase = jnp.sum(model - data, axis=1, where=data > 1.0 / num_groups)
    defined = predicted_at_all & labelled_at_all
    count = jnp.sum(defined, dtype=increase.dtype)
    mean = jnp.sum(increase, where=defined) / jnp.maximum(count, 1.0)
    invalid = jnp.isnan(jnp.sum(predicted)) | jnp.isnan(jnp.sum(labels))
    return jnp.where((count > 0) & ~invalid, mean, jnp.nan)


def _shares(sums: Float[Array, "k G"]) -> tuple[Float[Array, "k G"], Bool[Array, " k"]]:
    """Return the shares of the groups in each row, and whether the row has a positive sum."""
    total = jnp.sum(sums, axis=1)
    positive = total > 0
    return sums / jnp.where(positive, total, 1.0)[:, None], positive
