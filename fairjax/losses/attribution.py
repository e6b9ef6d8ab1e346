"""Attribution regularisation: the logit should not depend on marked features."""

from collections.abc import Callable, Sequence
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
    on_path = jax.vmap(lambda point: gradient(point * x))(jnp.asarray((points + 1) / 2, x.dtype))
    return x * jnp.tensordot(jnp.asarray(shares / 2, x.dtype), on_path, axes=1)


def attribution_penalty(
    attributed: Float[Array, "n d"],
    columns: tuple[int, ...] | None = None,
    norm: Norm = "squared",
    weights: Any = None,
    *,
    mask: Float[Array, "_"] | None = None,
) -> Float[Array, ""]:
    """Compute the mean over rows of a penalty of the attributions of some features.

    Args:
        attributed: attributions, from `attributions`.
        columns: numbers of the penalised features; all if omitted.
        norm: "squared", the sum of squares; "absolute", the sum of absolute values; "share", the sum of absolute
            values divided by that of all features, 0 for a row without any.
        weights: non-negative weights of the rows; 1 if omitted.
        mask: how much each feature counts (r), instead of `columns`: a number per feature, which may be traced.

    Returns:
        A scalar; 0 if all weights are 0.

    Raises:
        ValueError: if a column does not exist, or the mask has another length.

    Example:
        >>> attribution_penalty(jnp.array([[3.0, 1.0]]), (0,), "share").item()
        0.75
    """
    check_choice("norm", norm, NORMS)
    count = attributed.shape[1]
    wrong = [column for column in columns or () if not 0 <= column < count]
    if wrong:
        raise ValueError(f"columns must be numbers from 0 to {count - 1}, found {wrong[0]}")
    if mask is not None and (columns is not None or mask.shape != (count,)):
        raise ValueError(
            f"mask must have one number per feature, shape ({count},), without columns beside it, found {mask.shape}"
        )
    sizes = jnp.square(attributed) if norm == "squared" else jnp.abs(attributed)
    marked = sizes if columns is None else sizes[:, np.array(columns, int)]
    penalties = jnp.sum(marked if mask is None else marked * mask[None].astype(sizes.dtype), axis=1)
    if norm == "share":
        whole = jnp.sum(sizes, axis=1)
        penalties = penalties / jnp.where(whole > 0, whole, jnp.ones_like(whole))
    return weighted_mean(penalties, weights)


def marked_columns(annotation: Any, columns: Sequence[str], by: str = "fairness_sensitive") -> tuple[int, ...]:
    """Return the numbers of the columns whose variables are marked in an annotation, for `Attribution`.

    Args:
        annotation: the frame that `fairjax.detect.annotate` returns, or any with a column `variable`.
        columns: name of the variable of each column of the features, as given to `annotate`.
        by: name of the frame's column of booleans: fairness_sensitive, or associated, or another one.

    Returns:
        Column numbers.

    Raises:
        ValueError: if the annotation has no such column, lacks a variable, or marks none.

    Example:
        >>> import pandas as pd
        >>> annotation = pd.DataFrame({"variable": ["pay", "sex"], "fairness_sensitive": [False, True]})
        >>> marked_columns(annotation, ["sex", "sex", "pay"])
        (0, 1)
    """
    for name in ("variable", by):
        if name not in annotation:
            raise ValueError(f"annotation must have a column {name!r}, found {', '.join(map(str, annotation))}")
    marks = dict(zip(annotation["variable"], annotation[by], strict=True))
    for name in columns:
        if name not in marks:
            raise ValueError(f"annotation lacks the variable {name!r}: annotate the variables of these columns")
    numbers = tuple(number for number, name in enumerate(columns) if marks[name])
    if not numbers:
        raise ValueError(f"no variable is {by} in the annotation, so there is nothing to penalise: leave the term out")
    return numbers


@term
class Attribution(Term):
    """Penalty on the attributions of the logit to some features (Eq. 1 of the survey of Du et al. 2020).

    The features are those that carry the protected attribute, for instance the columns of variables that
    `fairjax.detect.annotate` calls sensitive; see `marked_columns`. A large weight has the effect of
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

    columns: tuple[int, ...] | None = static(None)
    """Numbers of the penalised features; if omitted, those of `mask`, or else all."""
    mask: Float[Array, "*paths d"] | None = None
    """How much each feature counts (r), instead of `columns`."""
    kind: Kind = static("gradient")
    """What is attributed to a feature: the derivative, times the feature, or its integral from the mean row."""
    norm: Norm = static("squared")
    """Squares, absolute values, or the share of the features in all absolute attributions."""
    of: Literal["logit", "log_probabilities"] = static("logit")
    """The attributed function: the logit, which for more than two classes is that of the row's label minus the mean of
    all; or the sum of the log-probabilities of all classes (Ross et al.), whose derivative is 0 for a uniform score."""
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
        if self.columns is not None and self.mask is not None:
            raise ValueError("columns and mask both say which features are penalised: give one of them")

    def observe(self, logits_of: Callable[[Inputs], Float[Array, "n *c"]], batch: Rows) -> Float[Array, "n d"]:
        """Compute the attributions of the mini-batch.

        Raises:
            ValueError: if the inputs are not a matrix of floating-point features.
        """
        x = batch.x
        if not hasattr(x, "ndim") or x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(
                "the term attribution needs a matrix of floating-point features, one row per example, found "
                f"{getattr(x, 'shape', type(x).__name__)}: leave it out"
            )

        def function(x: Inputs) -> Float[Array, " n"]:
            return self._attributed(logits_of(x), batch)

        return attributions(function, jnp.asarray(x), self.kind, self.nodes)

    def value(self, params: Any, outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the penalty of a mini-batch."""
        del params
        observed = floating(outputs.observed)
        return attribution_penalty(observed, self.columns, self.norm, weights_of(batch), mask=self.mask)

    def _attributed(self, logits: Float[Array, "n *c"], batch: Rows) -> Float[Array, " n"]:
        """Return the number of each row that is attributed to its features."""
        if self.of == "log_probabilities":
            if logits.ndim == 1:
                return jax.nn.log_sigmoid(logits) + jax.nn.log_sigmoid(-logits)
            return jnp.sum(jax.nn.log_softmax(logits, axis=1), axis=1)
        if logits.ndim == 1:
            return logits
        own = jnp.take_along_axis(logits, batch.y.astype(jnp.int32)[:, None], axis=1)[:, 0]
        return own - jnp.mean(logits, axis=1)
