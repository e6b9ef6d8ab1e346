"""Small predictors with parameters of their own: the heads and adversaries of terms."""

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
        labels: number of columns that indicate labels, as for `predict`.
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
    params: PyTree[Array], h: Float[Array, "m u"], labels: Float[Array, "m c"] | None = None
) -> Float[Array, "m outputs"]:
    """Apply a predictor.

    Args:
        params: parameters from `init_predictor`.
        h: inputs.
        labels: indicators of labels: further inputs of the hidden layer; without one, a slope of its own per label.
    """
    if "hidden" not in params:
        if labels is not None:
            h = jnp.concatenate([h, *(h * column[:, None] for column in labels.T)], axis=1)
        return _affine(params["output"], h)
    h = h if labels is None else jnp.concatenate([h, labels], axis=1)
    return _affine(params["output"], jax.nn.relu(_affine(params["hidden"], h)))


def init_score_predictor(channels: int, outputs: int, dtype: Any, *, labels: int = 0) -> PyTree[Array]:
    """Return the initial parameters, all 0, of a logistic regression on scaled scores; see `predict_from_scores`."""
    return {
        "scale": jnp.zeros((), dtype),
        "slope": jnp.zeros((1 + labels, channels, outputs), dtype),
        "intercept": jnp.zeros(outputs, dtype),
    }


def predict_from_scores(
    params: PyTree[Array], logits: Float[Array, "m c"], labels: Float[Array, "m k"] | None = None
) -> Float[Array, "m outputs"]:
    """Apply a logistic regression on the scores of scaled logits, and with labels on their products with each label.

    Args:
        params: parameters from `init_score_predictor`; logits are scaled by 1 + |scale|.
        logits: logits of the network, one column for two classes.
        labels: indicators of labels.
    """
    slope, intercept = params["slope"], params["intercept"]
    if slope.shape[1:] == (1, 1):  # as vectors, which is faster than products with matrices of one entry
        s = jax.nn.sigmoid((1.0 + jnp.abs(params["scale"])) * logits[:, 0])
        prediction = s * slope[0, 0, 0] + intercept[0]
        for k in range(slope.shape[0] - 1):
            prediction += s * labels[:, k] * slope[k + 1, 0, 0]
        return prediction[:, None]
    scaled = (1.0 + jnp.abs(params["scale"])) * logits
    s = jax.nn.sigmoid(scaled) if logits.shape[1] == 1 else jax.nn.softmax(scaled, axis=1)
    prediction = s @ slope[0] + intercept[None]
    for k in range(slope.shape[0] - 1):
        prediction += (s * labels[:, k, None]) @ slope[k + 1]
    return prediction


def _linear(key: KeyArray, inputs: int, outputs: int, dtype: Any) -> PyTree[Array]:
    kernel_key, bias_key = jax.random.split(key)
    bound = max(inputs, 1) ** -0.5

    def draw(key: KeyArray, shape: tuple[int, ...]) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return {"kernel": draw(kernel_key, (inputs, outputs)), "bias": draw(bias_key, (outputs,))}


def _affine(layer: PyTree[Array], h: Float[Array, "m u"]) -> Float[Array, "m outputs"]:
    return h.astype(layer["kernel"].dtype) @ layer["kernel"] + layer["bias"][None]
