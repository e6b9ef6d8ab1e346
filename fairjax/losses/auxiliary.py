"""Multi-task training: a head of its own predicts the group, or features, from a layer that both tasks share."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from fairjax.hyperparameters import check_at_least, check_choice, check_positive, static
from fairjax.losses.base import Data, Outputs, Term, term
from fairjax.losses.cross_entropy import weighted_mean
from fairjax.losses.features import feature_matrix
from fairjax.losses.group_prediction import group_cross_entropy, group_outputs
from fairjax.losses.predictor import Form, init_predictor, predict
from fairjax.types import KeyArray, Number, Rows, weights_of


@term
class Auxiliary(Term):
    """A second task on a shared layer: a head predicts the group, or some of the features, and network and head learn.

    The task makes the layer tell groups apart, the opposite of what an adversary does, which is meant to help where
    the group's members are judged badly because they are few.

    References:
        Das, Dantcheva, Bremond (2018), Mitigating bias in gender, age and ethnicity classification: a multi-task
        convolution neural network approach, ECCV workshops.

    Example:
        >>> Auxiliary(weight=0.5).layers
        ('last',)
    """

    label: ClassVar[str] = "Multi-task"
    reference: ClassVar[str] = "Das et al. 2018"
    equation: ClassVar[str] = "cross-entropy of a head that predicts the group from a layer"

    layer: str = static("last")
    """The layer that the head sees: "last", "output", or the name of a layer with units."""
    columns: tuple[int, ...] | None = static(None)
    """Numbers of the columns of x that the head predicts, by squared error; if omitted, it predicts the group."""
    form: Form = static("logistic")
    """The head: a linear map, or one hidden layer of ReLU units."""
    width: int = static(32)
    """Hidden units of the head, if it has a hidden layer."""
    balanced: bool = static(True)
    """Whether all groups have the same total weight; see `group_cross_entropy`."""
    own_rate: Number = 1e-3
    """Adam's step size for the head."""
    num_groups: int | None = static(None)
    """Number of groups; that of the data if omitted."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_choice("form", self.form, ("logistic", "hidden"))
        check_at_least("width", self.width, 1)
        check_positive("own_rate", self.own_rate)
        if self.columns is not None:
            if len(self.columns) == 0:
                raise ValueError("columns must hold at least one column number, got none: omit it for the group")
            for number in self.columns:
                check_at_least("columns", number, 0)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layer that the head sees."""
        return (self.layer,)

    def bind(self, data: Data) -> "Auxiliary":
        """Take the number of groups of the data, unless it is given, and check that the columns exist.

        Raises:
            ValueError: if there is no such column.
        """
        if self.columns is not None:
            x = feature_matrix("auxiliary", data.rows.x)
            if max(self.columns) >= x.shape[1]:
                raise ValueError(f"columns must be numbers below {x.shape[1]}, found {max(self.columns)}")
        return dataclasses.replace(self, num_groups=self.num_groups or data.num_groups)

    def init(self, key: KeyArray, outputs: Outputs, batch: Rows) -> PyTree[Array]:
        """Return the initial parameters of the head."""
        h = outputs.layers[self.layer]
        count = group_outputs(batch, self.num_groups) if self.columns is None else len(self.columns)
        return init_predictor(key, self.form, h.shape[1], count, self.width, h.dtype)

    def value(self, params: PyTree[Array], outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the loss of the head, which network and head descend; 0 if there are not two groups to tell apart."""
        prediction = predict(params, outputs.layers[self.layer])
        if self.columns is None:
            logits = prediction[:, 0] if prediction.shape[1] == 1 else prediction
            return group_cross_entropy(logits, batch, balanced=self.balanced, num_groups=self.num_groups)
        expected = feature_matrix("auxiliary", batch.x)[:, list(self.columns)].astype(prediction.dtype)
        errors = jnp.mean(jnp.square(prediction - expected), axis=1)
        return weighted_mean(errors, weights_of(batch))
