"""Reconstruction of the features: a decoder computes them from a layer, which therefore must keep their information."""

import dataclasses
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from fairjax.checks import nan_unless
from fairjax.hyperparameters import check_at_least, check_choice, check_positive, static
from fairjax.losses.base import Data, Outputs, Term, term
from fairjax.losses.cross_entropy import weighted_mean
from fairjax.losses.features import feature_matrix
from fairjax.losses.group_prediction import group_indicators, group_outputs
from fairjax.losses.predictor import init_predictor, predict
from fairjax.types import KeyArray, Number, Rows, weights_of

DECODERS = ("hidden", "logistic", "identity")


def reconstruction_error(
    reconstructed: Float[Array, "m d"], x: Float[Array, "m d"], weights: Any = None
) -> Float[Array, ""]:
    """Compute the mean over rows of the sum over features of the squared error.

    Args:
        reconstructed: reconstructions of the features.
        x: the features.
        weights: non-negative weights of the rows; 1 if omitted.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> reconstruction_error(jnp.zeros((2, 2)), jnp.array([[1.0, 2.0], [0.0, 1.0]])).item()
        3.0
    """
    if reconstructed.shape != x.shape:
        raise ValueError(f"reconstructions must have the shape of the features, {x.shape}, found {reconstructed.shape}")
    return weighted_mean(jnp.sum(jnp.square(reconstructed - x), axis=1), weights)


@term
class Reconstruction(Term):
    """The squared error of features that a decoder computes from a layer and the group.

    With an adversary or a distance on the same layer, the representation keeps what the features say beyond the group,
    so that it serves tasks other than the one it was trained for. With `decoder="identity"`, the layer itself is
    compared with the features, as for `fairjax.nn.ResidualDecomposition`.

    References:
        Madras, Creager, Pitassi, Zemel (2018), Learning adversarially fair and transferable representations, ICML,
        https://arxiv.org/abs/1802.06309

    Example:
        >>> Reconstruction(decoder="identity").layers
        ('last',)
    """

    label: ClassVar[str] = "Reconstruction"
    reference: ClassVar[str] = "Madras et al. 2018"
    equation: ClassVar[str] = "mean over rows of |x - decoder(h, a)|^2"

    layer: str = static("last")
    """The layer that is decoded: "last", "output", or the name of a layer with units."""
    decoder: Literal["hidden", "logistic", "identity"] = static("hidden")
    """The decoder: one hidden layer of ReLU units, a linear map, or none."""
    width: int = static(32)
    """Hidden units of the decoder, if it has a hidden layer."""
    own_rate: Number = 1e-3
    """Adam's step size for the decoder."""
    num_groups: int | None = static(None)
    """Number of groups; that of the data if omitted."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_choice("decoder", self.decoder, DECODERS)
        check_at_least("width", self.width, 1)
        check_positive("own_rate", self.own_rate)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layer that is decoded."""
        return (self.layer,)

    def bind(self, data: Data) -> "Reconstruction":
        """Take the number of groups of the data, unless it is given.

        Raises:
            ValueError: if the features are not one matrix of numbers.
        """
        feature_matrix("reconstruction", data.rows.x)
        return dataclasses.replace(self, num_groups=self.num_groups or data.num_groups)

    def init(self, key: KeyArray, outputs: Outputs, batch: Rows) -> PyTree[Array]:
        """Return the initial parameters of the decoder."""
        if self.decoder == "identity":
            return ()
        h, groups = outputs.layers[self.layer], max(group_outputs(batch, self.num_groups), 2)
        return init_predictor(key, self.decoder, h.shape[1] + groups, batch.x.shape[1], self.width, h.dtype)

    def value(self, params: PyTree[Array], outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the error of a mini-batch, which network and decoder descend."""
        h, x, valid = outputs.layers[self.layer], feature_matrix("reconstruction", batch.x), None
        if self.decoder != "identity":
            members, valid = group_indicators(batch, self.num_groups, h.dtype)
            h = predict(params, jnp.concatenate([h, members], axis=1))
        return nan_unless(valid, reconstruction_error(h, x.astype(h.dtype), weights_of(batch)))
