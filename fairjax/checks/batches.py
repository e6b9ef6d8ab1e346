"""Checks of the rows that measures take: predictions, labels, groups and weights together."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from fairjax.checks.columns import (
    SLACK,
    all_valid,
    codes,
    floating,
    indicator,
    nan_unless,
    numeric,
    sample_weights,
    scores,
)
from fairjax.checks.index import check_index


class CheckedRows(NamedTuple):
    """Checked rows: columns of one length."""

    values: Float[Array, " n"] | Float[Array, "n c"]
    """Decisions or scores of two classes, or probabilities of each class; float64 if given in float64, else float32."""
    y: Bool[Array, " n"] | Int[Array, " n"]
    """Labels: booleans for two classes, codes for more."""
    a: Bool[Array, " n"] | Int[Array, " n"] | Float[Array, "n g"]
    """Groups: booleans for two groups, codes for any number of them, or memberships."""
    weights: Float[Array, " n"] | None
    """Sample weights, of the same dtype as `values`."""
    valid: Bool[Array, ""] | None
    """Whether all traced values are valid; None if nothing had to be checked under a trace."""

    def or_nan(self, result: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the result, or NaN with a NaN gradient if a traced value is invalid."""
        return nan_unless(self.valid, result)


def rows(
    values: Any,
    y: Any,
    a: Any,
    weights: Any = None,
    *,
    num_groups: int = 2,
    num_classes: int = 2,
    weightless: bool = False,
    group_name: str = "a",
) -> CheckedRows:
    """Check decisions or scores with labels, groups and weights.

    Args:
        values: decisions in {0, 1} or scores in [0, 1], of shape (n,); for more than two classes codes, of shape (n,);
            or probabilities of each class, of shape (n, num_classes).
        y: labels in {0, 1}, or codes below `num_classes`, of shape (n,).
        a: groups: {0, 1}, or codes below `num_groups`, of shape (n,), or memberships of shape (n, num_groups).
        weights: finite non-negative weights of shape (n,), or None.
        num_groups: number of groups.
        num_classes: number of classes.
        weightless: whether all weights may be 0, as in a chunk of rows whose sums are added to others.
        group_name: name of the argument `a` in messages.

    Returns:
        The checked arguments as JAX arrays.

    Raises:
        ValueError: if shapes differ or are not as above, if a concrete value is invalid, or if pandas indices differ.
        TypeError: if an argument is sparse, masked, or holds anything but numbers and booleans.

    Example:
        >>> rows([0.2, 0.9], [0, 1], [1, 0]).y.tolist()
        [False, True]
        >>> rows([2, 0], [1, 0], [4, 3], num_groups=5, num_classes=3).values.tolist()
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    check_index(**{"values": values, "y": y, group_name: a, "weights": weights})
    values, y, a = numeric("values", values), numeric("y", y), numeric(group_name, a)
    _check_shapes(values, y, a, num_groups, num_classes, group_name)
    values, valid_values = predictions(values, num_classes)
    labels, valid_labels = indicator("y", y) if num_classes == 2 else codes("y", y, num_classes)
    groups, valid_groups = group_column(a, num_groups, group_name)
    checked_weights, valid_weights = sample_weights(weights, values, weightless=weightless)
    return CheckedRows(
        values, labels, groups, checked_weights, all_valid(valid_values, valid_labels, valid_groups, valid_weights)
    )


def _check_shapes(values: Any, y: Any, a: Any, num_groups: int, num_classes: int, name: str) -> None:
    """Check that rows are vectors of one length, or matrices with a column per class or group."""
    shapes = f"values {values.shape}, y {y.shape} and {name} {a.shape}"
    vectors = f"values, y and {name} must be vectors of one length, got shapes {shapes}"
    squeeze = "squeeze columns of shape (n, 1), values[:, 0]"
    if values.ndim != 1 and (values.ndim != 2 or values.shape[1] != num_classes):
        raise ValueError(
            f"{vectors}; {squeeze}, or pass probabilities of "
            f"shape (n, {num_classes}), one column per class, and state num_classes"
        )
    if y.ndim != 1:
        raise ValueError(f"{vectors}; {squeeze}")
    if a.ndim != 1 and (a.ndim != 2 or a.shape[1] != num_groups or num_groups < 2):
        raise ValueError(
            f"{vectors}; {squeeze}, or pass memberships of "
            f"shape (n, {num_groups}), one column per group, and state num_groups"
        )
    if not values.shape[0] == y.shape[0] == a.shape[0]:
        raise ValueError(f"{vectors}; {squeeze}")


def predictions(values: Any, num_classes: int = 2) -> tuple[Float[Array, "..."], Bool[Array, ""] | None]:
    """Check scores (n,) of two classes or probabilities (n, num_classes); codes of more classes become one-hot.

    Args:
        values: array from `numeric`, of one of the shapes listed in `rows`.
        num_classes: number of classes.

    Returns:
        The predictions, and whether they are valid if they are traced, else None.

    Raises:
        ValueError: if a concrete value is invalid.

    Example:
        >>> predictions(np.array([[0.25, 0.75]]))[0].tolist()
        [[0.25, 0.75]]
    """
    if values.ndim == 1 and num_classes == 2:
        return scores(values)
    if values.ndim == 1:
        class_codes, valid = codes("values", values, num_classes)
        return jax.nn.one_hot(class_codes, num_classes, dtype=jnp.result_type(float)), valid
    original, (values, valid) = values, scores(values)
    if isinstance(original, Tracer):
        return values, all_valid(valid, jnp.all(jnp.abs(jnp.sum(values, axis=1) - 1.0) < 0.02))
    total = np.asarray(original).astype(np.float64).sum(axis=1)
    wrong = ~(np.abs(total - 1) < 0.02)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"values must sum to 1 over the classes, found {total[row]:g} in row {row}: pass logits through "
            "jax.nn.softmax"
        )
    return values, valid


def group_column(
    a: Any, num_groups: int = 2, name: str = "a"
) -> tuple[Bool[Array, " n"] | Int[Array, " n"] | Float[Array, "n g"], Bool[Array, ""] | None]:
    """Check groups given as booleans, codes, or memberships in [0, 1].

    Args:
        a: array from `numeric`.
        num_groups: number of groups.
        name: name of the argument in messages.

    Returns:
        Booleans for two groups, codes for any other number of groups, or the memberships as given; and whether they
        are valid if they are traced, else None.

    Raises:
        ValueError: if a concrete value is invalid.

    Example:
        >>> group_column(np.array([2, 0]), 3)[0].tolist()
        [2, 0]
    """
    if a.ndim == 1:
        return indicator(name, a) if num_groups == 2 else codes(name, a, num_groups)
    if isinstance(a, Tracer):
        return floating(a), None if a.dtype == bool else jnp.all((a >= -SLACK) & (a <= 1 + SLACK))
    members = np.asarray(a).astype(np.float64)
    wrong = ~((members >= -SLACK) & (members <= 1 + SLACK))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"memberships must be in [0, 1], found {members[row, column]:g} in row {row}, column {column}: pass the "
            "probability of belonging to each group"
        )
    return floating(a), None


def check_logits(logits: Any, x: Any, num_classes: int = 2) -> None:
    """Check that a network returns one logit per row or, for more than two classes, one logit per row and class.

    Raises:
        ValueError: naming the shape found and how to correct it.

    Example:
        >>> check_logits(jnp.ones(3), jnp.ones((3, 2)))
    """
    n = jax.tree.leaves(x)[0].shape[0]
    if num_classes > 2:
        if logits.shape != (n, num_classes):
            raise ValueError(
                f"the network must return one logit per row and class, shape ({n}, {num_classes}), found shape "
                f"{logits.shape}: give its last layer {num_classes} outputs, or state another num_classes"
            )
    elif logits.shape != (n,):
        squeeze = "; squeeze its last layer, logits[:, 0]" if logits.shape == (n, 1) else ""
        raise ValueError(
            f"the network must return one logit per row, shape ({n},), found shape {logits.shape}{squeeze}"
        )
