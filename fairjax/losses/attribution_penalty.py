"""Attribution as a term: features that the network should not use are to have no attribution."""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fairjax.hyperparameters import check_at_least, check_choice, static
from fairjax.losses.base import Data, Outputs, Term, term
from fairjax.losses.cross_entropy import weighted_mean
from fairjax.losses.features import float_array
from fairjax.types import Inputs, Rows, weights_of

ATTRIBUTIONS = ("gradient", "gradient_times_input", "integrated_gradients")
DISTANCES = ("squared", "absolute", "share")
TARGETS = ("logit", "log_probabilities")


def attribution_penalty(
    attributions: Float[Array, "m *d"],
    mask: Float[Array, "*d"] | None = None,
    weights: Any = None,
    *,
    distance: Literal["squared", "absolute", "share"] = "squared",
) -> Float[Array, ""]:
    """Compute the mean over rows of the distance of attributions from 0 at the marked features (Eq. 1).

    Args:
        attributions: one number per row and feature.
        mask: how much each feature counts, such as 1 for features that should not be used and 0 for others; all count
            if omitted.
        weights: non-negative weights of the rows; 1 if omitted.
        distance: sum over features of mask * square ("squared"), of mask * absolute value ("absolute"), or the share of
            the marked features in the sum of the absolute values ("share"), which is 1 minus the share of the others.

    Returns:
        A scalar. With "share", a row without attributions counts as 0.

    References:
        Ross, Hughes, Doshi-Velez (2017), Right for the right reasons, IJCAI, https://arxiv.org/abs/1703.03717
        Liu, Avci (2019), Incorporating priors with feature attribution on text classification, ACL,
        https://arxiv.org/abs/1906.08286
        Du, Liu, Yang, Ji, Hu (2019), Learning credible deep neural networks with rationale regularization, ICDM,
        https://arxiv.org/abs/1908.05601

    Example:
        >>> attributions = jnp.array([[3.0, 1.0], [-1.0, 0.0]])
        >>> [attribution_penalty(attributions, jnp.array([1.0, 0.0]), distance=d).item() for d in DISTANCES]
        [5.0, 2.0, 0.875]
    """
    check_choice("distance", distance, DISTANCES)
    if mask is not None and mask.shape != attributions.shape[1:]:
        raise ValueError(
            f"mask must have one number per feature, shape {attributions.shape[1:]}, found shape {mask.shape}"
        )
    sizes = jnp.square(attributions) if distance == "squared" else jnp.abs(attributions)
    marked = sizes if mask is None else sizes * mask[None].astype(sizes.dtype)
    axes = tuple(range(1, sizes.ndim))
    of_rows = jnp.sum(marked, axis=axes)
    if distance == "share":
        total = jnp.sum(sizes, axis=axes)
        of_rows = of_rows / jnp.where(total > 0, total, 1.0)
    return weighted_mean(of_rows, weights)


def marked_columns(annotation: Any, columns: Sequence[str], by: str = "fairness_sensitive") -> tuple[int, ...]:
    """Return the numbers of the columns whose variables are marked in an annotation.

    Args:
        annotation: the frame that `fairjax.detect.annotate` returns, or any with a column `variable`.
        columns: name of the variable of each column of the features, as given to `annotate`.
        by: name of the frame's column of booleans, such as fairness_sensitive, associated or task_relevant.

    Returns:
        Numbers for the field `features` of `AttributionPenalty`.

    Raises:
        ValueError: if the annotation has no such column, lacks a variable, or marks none.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"variable": ["pay", "sex"], "fairness_sensitive": [False, True]})
        >>> marked_columns(frame, ["sex", "sex", "pay"])
        (0, 1)
    """
    for name in ("variable", by):
        if name not in annotation:
            raise ValueError(f"annotation must have a column {name!r}, found {', '.join(map(str, annotation))}")
    marks = dict(zip(annotation["variable"], annotation[by], strict=True))
    for name in columns:
        if name not in marks:
            raise ValueError(f"annotation lacks the variable {name!r}: annotate it, or give the same columns")
    numbers = tuple(i for i, name in enumerate(columns) if marks[name])
    if not numbers:
        raise ValueError(f"no variable is {by} in the annotation, so there is nothing to penalise: leave the term out")
    return numbers


@term
class AttributionPenalty(Term):
    """Penalise the attribution of marked features, so that the network's output does not depend on them.

    The attributions are those of the network in evaluation mode, and are differentiated by its parameters.

    Example:
        >>> penalty = AttributionPenalty(weight=10.0, features=(0,))
        >>> w = jnp.array([2.0, 3.0])
        >>> from fairjax.types import Batch
        >>> batch = Batch(jnp.ones((4, 2)), jnp.ones(4, bool), jnp.ones(4, bool))
        >>> observed = penalty.observe(lambda x: x @ w, batch)
        >>> penalty.value((), Outputs(jnp.zeros(4), {}, observed), batch).item()
        4.0
    """

    label: ClassVar[str] = "Attribution"
    reference: ClassVar[str] = "Ross et al. 2017; Liu, Avci 2019"
    equation: ClassVar[str] = "mean over rows of sum_j r_j (d logit / d x_j)^2"
    needs_group: ClassVar[bool] = False

    features: tuple[int, ...] | None = static(None)
    """Numbers of the columns of x whose use is penalised, such as those from `marked_columns`; if omitted, those of
    `mask`, or else all."""
    mask: Float[Array, "*d"] | None = None
    """How much each feature counts (r), instead of `features`; of the shape of a row."""
    attribution: Literal["gradient", "gradient_times_input", "integrated_gradients"] = static("gradient")
    """The attribution: the derivative by each feature, its product with the feature, or integrated gradients from 0,
    the mean row of standardised features."""
    distance: Literal["squared", "absolute", "share"] = static("squared")
    """How attributions are penalised; see `attribution_penalty`."""
    target: Literal["logit", "log_probabilities"] = static("logit")
    """What is attributed: the logit (for more than two classes, that of the row's label minus the mean of all), or, as
    by Ross et al., the sum of the log-probabilities of all classes, whose derivative is 0 at a score of 0.5."""
    nodes: int = static(8)
    """Number of points on the path of integrated gradients, at each of which there is one more backward pass."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_choice("attribution", self.attribution, ATTRIBUTIONS)
        check_choice("distance", self.distance, DISTANCES)
        check_choice("target", self.target, TARGETS)
        check_at_least("nodes", self.nodes, 1)
        if self.features is not None:
            if self.mask is not None:
                raise ValueError("features and mask say the same thing: give one of them")
            if len(self.features) == 0:
                raise ValueError("features must hold at least one column number, got none: leave the term out")
            for number in self.features:
                check_at_least("features", number, 0)

    def bind(self, data: Data) -> "AttributionPenalty":
        """Check that the marked features exist.

        Raises:
            ValueError: if there is no such feature, or the inputs are not one array of numbers.
        """
        self._mask(float_array("attribution", data.rows.x))
        return self

    def observe(self, logits_of: Callable[[Inputs], Float[Array, "n *c"]], batch: Rows) -> Float[Array, "m *d"]:
        """Compute the attributions of a mini-batch.

        Args:
            logits_of: computes the logits of any inputs.
            batch: the mini-batch.
        """
        x = float_array("attribution", batch.x)

        def gradients(x: Float[Array, "m *d"]) -> Float[Array, "m *d"]:
            return jax.grad(lambda x: jnp.sum(self._attributed(logits_of(x), batch)))(x)

        if self.attribution == "integrated_gradients":
            places, shares = _path(self.nodes)

            def add(total: Array, node: Any) -> tuple[Array, None]:
                place, share = node
                return total + share * gradients(place * x), None

            nodes = jnp.asarray(places, x.dtype), jnp.asarray(shares, x.dtype)
            return x * jax.lax.scan(jax.checkpoint(add), jnp.zeros_like(x), nodes)[0]
        return gradients(x) if self.attribution == "gradient" else x * gradients(x)

    def value(self, params: Any, outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the penalty of a mini-batch."""
        del params
        mask = self._mask(outputs.observed)
        return attribution_penalty(outputs.observed, mask, weights_of(batch), distance=self.distance)

    def _attributed(self, logits: Float[Array, "m *c"], batch: Rows) -> Float[Array, " m"]:
        """Return the number of each row that is attributed."""
        if self.target == "log_probabilities":
            if logits.ndim == 1:
                return jax.nn.log_sigmoid(logits) + jax.nn.log_sigmoid(-logits)
            return jnp.sum(jax.nn.log_softmax(logits, axis=1), axis=1)
        if logits.ndim == 1:
            return logits
        own = jnp.take_along_axis(logits, batch.y.astype(jnp.int32)[:, None], axis=1)[:, 0]
        return own - jnp.mean(logits, axis=1)

    def _mask(self, x: Float[Array, "m *d"]) -> Float[Array, "*d"] | None:
        """Return how much each feature counts; None if all count equally."""
        if self.features is None:
            if self.mask is not None and self.mask.shape != x.shape[1:]:
                raise ValueError(
                    f"mask must have one number per feature, shape {x.shape[1:]}, found shape {self.mask.shape}"
                )
            return self.mask
        if x.ndim != 2 or max(self.features) >= x.shape[1]:
            raise ValueError(
                f"features must be numbers of columns of x, found {max(self.features)} for rows of shape "
                f"{x.shape[1:]}: give mask= of that shape for rows that are no vectors"
            )
        marked = np.zeros(math.prod(x.shape[1:]))
        marked[list(self.features)] = 1.0
        return jnp.asarray(marked, x.dtype)


def _path(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes of Gauss and Legendre on [0, 1], and their shares."""
    places, shares = np.polynomial.legendre.leggauss(nodes)
    return (places + 1.0) / 2.0, shares / 2.0
