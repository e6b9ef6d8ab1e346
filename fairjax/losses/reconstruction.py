"""Reconstruction: a decoder on a layer and the group, so that the layer keeps what the inputs say beyond the group."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from fairjax.checks import nan_unless, sample_weights
from fairjax.hyperparameters import check_at_least, check_positive, static
from fairjax.losses.base import LAST, Outputs, Term, term
from fairjax.losses.cross_entropy import weighted_mean
from fairjax.losses.grouping import grouped, matrix
from fairjax.losses.predictor import init_predictor, predict
from fairjax.types import KeyArray, Number, Rows, weights_of


def reconstruction_error(decoded: Any, x: Any, weights: Any = None) -> Float[Array, ""]:
    """Compute the mean squared error of reconstructed features, over rows and features.

    Args:
        decoded: output of a decoder, (n, d).
        x: the features, (n, d).
        weights: non-negative weights of the rows; 1 if omitted.

    Returns:
        A scalar; 0 if all weights are 0.

    Raises:
        ValueError: if shapes differ, or a weight is negative.

    Example:
        >>> reconstruction_error(jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 0.0]])).item()
        2.0
    """
    decoded = matrix("decoded", decoded)
    x = jnp.asarray(x).astype(decoded.dtype)
    if decoded.shape != x.shape:
        raise ValueError(f"decoded and x must have one shape, found {decoded.shape} and {x.shape}")
    row_weights, valid = sample_weights(weights, decoded, weightless=True)
    errors = jnp.mean(jnp.square(decoded - x), axis=1)  # x - decoded would give derivatives of either sign
    return nan_unless(valid, weighted_mean(errors, row_weights))


@term
class Reconstruction(Term):
    """Mean squared error of a decoder that reconstructs the features from a layer and the group.

    It is used beside a term that removes the group from the layer, so that the layer remains useful for other tasks.
    The group is an input of the decoder, so that the layer need not encode it.

    References:
        Madras, Creager, Pitassi, Zemel (2018), Learning adversarially fair and transferable representations, ICML,
        https://arxiv.org/abs/1802.06309

    Example:
        >>> Reconstruction().width
        32
    """

    label: ClassVar[str] = "Reconstruction"
    reference: ClassVar[str] = "Madras et al. 2018"
    equation: ClassVar[str] = "mean over rows and features of (x - decoder(layer, group))^2"

    layer: str = static(LAST)
    """The layer: "last", the input of the last layer; "output", the logits; or a layer with units by its name."""
    width: int = static(32)
    """Hidden units of the decoder."""
    own_rate: Number = 1e-3
    """Adam's step size for the decoder."""
    num_groups: int | None = static(None)
    """Number of groups; that of the data if omitted."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_at_least("width", self.width, 1)
        check_positive("own_rate", self.own_rate)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layer."""
        return (self.layer,)

    def init(self, key: KeyArray, outputs: Outputs, batch: Rows) -> PyTree[Array]:
        """Return the initial parameters of the decoder.

        Raises:
            ValueError: if the inputs are not a matrix of floating-point features.
        """
        x, h = batch.x, outputs.layers[self.layer]
        if not hasattr(x, "ndim") or len(x.shape) != 2 or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(
                "the term reconstruction needs a matrix of floating-point features, one row per example, found "
                f"{getattr(x, 'shape', type(x).__name__)}: leave it out"
            )
        groups = self.num_groups or (batch.a.shape[1] if batch.a.ndim == 2 else 2)
        return init_predictor(key, "hidden", h.shape[1] + groups, x.shape[1], self.width, h.dtype)

    def value(self, params: PyTree[Array], outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the error of a mini-batch."""
        h = matrix(self.layer, outputs.layers[self.layer])
        groups = grouped(batch.a, like=h[:, 0], num_groups=self.num_groups, num_classes=2)
        decoded = predict(params, jnp.concatenate([h, groups.weights[:, 0]], axis=1))
        return nan_unless(groups.valid, reconstruction_error(decoded, batch.x, weights_of(batch)))
