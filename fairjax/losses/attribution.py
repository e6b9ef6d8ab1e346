"""Attribution regularisation: the logit should not depend on marked features."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fairjax.checks import floating
from fairjax.hyperparameters import check_at_least, check_choice, static
from fairjax.losses.base import Outputs, Term, term
from fairjax.losses.cross_entropy import weighted_mean
from fairjax.types import Inputs, Rows, weights_of

Kind = Literal["gradient", "gradient_times_input", "integrated_gradients"]
"""What is attributed to a feature: the derivative, times the feature, or its integral from the mean row."""
Norm = Literal["squared", "absolute", "share"]
"""How attributions are penalised: by squares, by absolute values, or by their share in all absolute attributions."""

KINDS, NORMS = ("gradient", "gradient_times_input", "integrated_gradients"), ("squared", "absolute", "share")


def attributions(
    logits_of: Callable[[Inputs], Float[Array, " n"]], x: Float[Array, "n d"], kind: Kind = "gradient", nodes: int = 8
) -> Float[Array, "n d"]:
    """Compute the attributions of the logit of every row, differentiable with respect to the network's parameters.

    Args:
        logits_of: computes one logit per row, which must not depend on other rows.
        x: standardised features. The baseline of integrated gradients is 0, the mean row.
        kind: what is attributed.
        nodes: number of points of integration for integrated gradients.

    Example:
        >>> slopes = jnp.array([2.0, -1.0])
        >>> attributions(lambda x: x @ slopes, jnp.ones((1, 2)), "integrated_gradients").round(4).tolist()
        [[2.0, -1.0]]
    """
    check_choice("kind", kind, KINDS)
    gradient = jax.grad(lambda x: jnp.sum(logits_of(x)))
    if kind == "gradient":
        return gradient(x)
    if kind == "gradient_times_input":
        return x * gradient(x)
    points, shares = np.polynomial.legendre.leggauss(nodes)

    def add(total: Array, item: Any) -> tuple[Array, None]:
        point, share = item
        return total + share * gradient(point * x), None

    at = jnp.asarray((points + 1) / 2, x.dtype), jnp.asarray(shares / 2, x.dtype)
    return x * jax.lax.scan(add, jnp.zeros_like(x), at)[0]


def attribution_penalty(
    attributed: Float[Array, "n d"], columns: tuple[int, ...] | None = None, norm: Norm = "squared", weights: Any = None
) -> Float[Array, ""]:
    """Compute the mean over rows of a penalty of the attributions of some features.

    Args:
        attributed: attributions, from `attributions`.
        columns: numbers of the penalised features; all if omitted.
        norm: "squared", the sum of squares; "absolute", the sum of absolute values; "share", the sum of absolute
            values divided by that of all features, 0 for a row without any.
        weights: non-negative weights of the rows; 1 if omitted.

    Returns:
        A scalar; 0 if all weights are 0.

    Raises:
        ValueError: if a column does not exist.

    Example:
        >>> attribution_penalty(jnp.array([[3.0, 1.0]]), (0,), "share").item()
        0.75
    """
    check_choice("norm", norm, NORMS)
    count = attributed.shape[1]
    wrong = [column for column in columns or () if not -count <= column < count]
    if wrong:
        raise ValueError(f"columns must be numbers from 0 to {count - 1}, found {wrong[0]}")
    marked = attributed if columns is None else attributed[:, np.array(columns, int)]
    if norm == "squared":
        penalties = jnp.sum(jnp.square(marked), axis=1)
    else:
        penalties = jnp.sum(jnp.abs(marked), axis=1)
        if norm == "share":
            whole = jnp.sum(jnp.abs(attributed), axis=1)
            penalties = penalties / jnp.where(whole > 0, whole, jnp.ones_like(whole))
    return weighted_mean(penalties, weights)


@term
class Attribution(Term):
    """Penalty of what the logit's attributions give to some features (Eq. 1 of the survey of Du et al. 2020).

    The features are those that carry the protected attribute, for instance the columns that
    `fairjax.detect.annotate` marks as sensitive: `tuple(np.flatnonzero(marks))`. A large weight has the effect of
    removing them, softly: it does not remove what other features say about the group.

    References:
        Ross, Hughes, Doshi-Velez (2017), Right for the right reasons: training differentiable models by constraining
        their explanations, IJCAI, https://arxiv.org/abs/1703.03717
        Liu, Avci (2019), Incorporating priors with feature attribution on text classification, ACL,
        https://arxiv.org/abs/1906.08286

    Example:
        >>> Attribution(weight=10.0, columns=(0, 3)).norm
        'squared'
    """

    label: ClassVar[str] = "Attribution"
    reference: ClassVar[str] = "Ross et al. 2017; Liu, Avci 2019"
    equation: ClassVar[str] = "mean over rows of sum over marked features of (d logit / d x_j)^2"
    needs_group: ClassVar[bool] = False
    classes: ClassVar[float] = 2

    columns: tuple[int, ...] | None = static(None)
    """Numbers of the penalised features; all if omitted."""
    kind: Kind = static("gradient")
    """What is attributed to a feature: the derivative, times the feature, or its integral from the mean row."""
    norm: Norm = static("squared")
    """Squares, absolute values, or the share of the features in all absolute attributions."""
    of: Literal["logit", "log_probabilities"] = static("logit")
    """The attributed function: the logit, or the sum of the log-probabilities of both classes (Ross et al.), whose
    derivative is 0 where the score is 0.5."""
    nodes: int = static(8)
    """Number of points of integration for integrated gradients."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_choice("kind", self.kind, KINDS)
        check_choice("norm", self.norm, NORMS)
        check_choice("of", self.of, ("logit", "log_probabilities"))
        check_at_least("nodes", self.nodes, 1)
        if self.columns is not None and not self.columns:
            raise ValueError("columns must hold the number of at least one feature, got none")

    def observe(self, logits_of: Callable[[Inputs], Float[Array, "n *c"]], batch: Rows) -> Float[Array, "n d"]:
        """Compute the attributions of the mini-batch.

        Raises:
            ValueError: if the inputs are no matrix of floating-point features.
        """
        x = batch.x
        if not hasattr(x, "ndim") or x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(
                "the term attribution needs a matrix of floating-point features, one row per example, found "
                f"{getattr(x, 'shape', type(x).__name__)}: leave it out"
            )

        def function(x: Inputs) -> Float[Array, " n"]:
            logits = logits_of(x)
            return logits if self.of == "logit" else jax.nn.log_sigmoid(logits) + jax.nn.log_sigmoid(-logits)

        return attributions(function, jnp.asarray(x), self.kind, self.nodes)

    def value(self, params: Any, outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the penalty of a mini-batch."""
        del params
        return attribution_penalty(floating(outputs.observed), self.columns, self.norm, weights_of(batch))
