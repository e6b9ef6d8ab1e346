"""Small predictors with parameters of their own: the heads and adversaries of terms."""

import functools
import operator
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from fairjax.types import KeyArray

Form = Literal["hidden", "logistic"]
"""One hidden layer of ReLU units, or a linear map."""


def init_predictor(
    key: KeyArray, form: Form, inputs: int, outputs: int, width: int, dtype: Any, *, labels: int = 0
) -> PyTree[Array]:
    """Return the initial parameters of a predictor: uniform as PyTorch's if it has a hidden layer, 0 if it is linear.

    Args:
        key: random key.
        form: whether there is a hidden layer.
        inputs: number of inputs without labels.
        outputs: number of outputs.
        width: number of hidden units.
        dtype: dtype of the parameters.
        labels: number of indicators of labels, as for `predict`.
    """
    if form == "logistic":
        width = inputs * (1 + labels)
        return {"output": {"kernel": jnp.zeros((width, outputs), dtype), "bias": jnp.zeros(outputs, dtype)}}
    hidden_key, output_key = jax.random.split(key)
    return {
        "hidden": _linear(hidden_key, inputs + labels, width, dtype),
        "output": _linear(output_key, width, outputs, dtype),
    }


def predict(
    params: PyTree[Array], h: Float[Array, "m u"], labels: Sequence[Float[Array, " m"]] = ()
) -> Float[Array, "m outputs"]:
    """Apply a predictor.

    Args:
        params: parameters from `init_predictor`.
        h: inputs.
        labels: indicators of labels: further inputs of the hidden layer; without one, a slope of its own per label.
    """
    if "hidden" not in params:
        return _affine(params["output"], jnp.concatenate([h, *(h * column[:, None] for column in labels)], axis=1))
    h = jnp.concatenate([h, *(column[:, None].astype(h.dtype) for column in labels)], axis=1)
    return _affine(params["output"], jax.nn.relu(_affine(params["hidden"], h)))


def init_score_predictor(channels: int, outputs: int, dtype: Any, *, labels: int = 0) -> PyTree[Array]:
    """Return the initial parameters, all 0, of a logistic regression on scaled scores; see `predict_from_scores`."""
    shape = () if channels == outputs == 1 else (channels, outputs)
    return {
        "scale": jnp.zeros((), dtype),
        "slope": jnp.zeros((1 + labels, *shape), dtype),
        "intercept": jnp.zeros(shape[1:], dtype),
    }


def predict_from_scores(
    params: PyTree[Array], logits: Float[Array, "m c"], labels: Sequence[Float[Array, " m"]] = ()
) -> Float[Array, " m"] | Float[Array, "m outputs"]:
    """Apply a logistic regression on the scores of scaled logits, and with labels on their products with each label.

    Args:
        params: parameters from `init_score_predictor`; logits are scaled by 1 + |scale|.
        logits: logits of the network, one column for two classes.
        labels: indicators of labels.

    Returns:
        One output per row if there is one column of logits and one output, else a matrix.
    """
    slope, intercept = params["slope"], params["intercept"]
    if slope.ndim == 1:
        s = jax.nn.sigmoid((1.0 + jnp.abs(params["scale"])) * logits[:, 0])
        prediction = s * slope[0] + intercept  # first, since the order determines how gradients are summed
        of_labels = [s * column * slope[k + 1] for k, column in enumerate(labels)]
        return prediction + functools.reduce(operator.add, of_labels) if of_labels else prediction
    scaled = (1.0 + jnp.abs(params["scale"])) * logits
    s = jax.nn.sigmoid(scaled) if logits.shape[1] == 1 else jax.nn.softmax(scaled, axis=1)
    prediction = s @ slope[0] + intercept[None]
    for k, column in enumerate(labels):
        prediction += (s * column[:, None]) @ slope[k + 1]
    return prediction


def _linear(key: KeyArray, inputs: int, outputs: int, dtype: Any) -> PyTree[Array]:
    kernel_key, bias_key = jax.random.split(key)
    bound = max(inputs, 1) ** -0.5

    def draw(key: KeyArray, shape: tuple[int, ...]) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return {"kernel": draw(kernel_key, (inputs, outputs)), "bias": draw(bias_key, (outputs,))}


def _affine(layer: PyTree[Array], h: Float[Array, "m u"]) -> Float[Array, "m outputs"]:
    return h.astype(layer["kernel"].dtype) @ layer["kernel"] + layer["bias"][None]
