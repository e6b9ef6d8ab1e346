"""Gradients of the logit with respect to the inputs, and gradients times inputs."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from fairjax.detect.attribution.inputs import attributable, nan_rows
from fairjax.detect.rows import CHUNK, check_row_wise, logits_of, map_chunks
from fairjax.nn.network import ApplyFn
from fairjax.types import Inputs, Variables


def gradients(
    apply: ApplyFn, variables: Variables, x: Inputs, *, target: int | None = None, chunk: int | None = CHUNK
) -> PyTree[Float[Array, "n ..."]]:
    """Compute the gradient of each row's logit with respect to its inputs: the saliency, with its sign.

    The logit is differentiated rather than the score, since scores saturate.

    Args:
        apply: the network; used in evaluation mode, in which a row's logit does not depend on other rows.
        variables: the network's variables.
        x: inputs of n rows: a matrix of features, images, or a tree of arrays; floating-point.
        target: the class whose logit is explained; class 1 of two classes if omitted, and needed for more.
        chunk: number of rows that are computed at a time; all at once if None.

    Returns:
        A tree like `x`, in logits per unit of each input; NaN in rows whose logit is not finite.

    Raises:
        TypeError: if an array of `x` holds integers or booleans.
        ValueError: if there are no rows, the class does not exist, or logits of rows depend on other rows.

    Example:
        >>> linear = lambda variables, x, **_: (x @ variables["w"], variables)
        >>> gradients(linear, {"w": jnp.array([2.0, 3.0])}, jnp.ones((1, 2))).tolist()
        [[2.0, 3.0]]

    References:
        Simonyan, Vedaldi, Zisserman (2014), Deep inside convolutional networks.
    """
    x = attributable(x)
    check_row_wise(apply, variables, x)
    return _gradients(apply, variables, x, target, chunk)


def gradient_times_input(
    apply: ApplyFn, variables: Variables, x: Inputs, *, target: int | None = None, chunk: int | None = CHUNK
) -> PyTree[Float[Array, "n ..."]]:
    """Compute each input times the gradient of the row's logit with respect to it.

    If the inputs are standardised, this compares a row with the mean row. For networks of linear layers and ReLUs, it
    is also what layer-wise relevance propagation with a vanishing epsilon computes.

    Args:
        apply: as for `gradients`.
        variables: as for `gradients`.
        x: as for `gradients`.
        target: as for `gradients`.
        chunk: as for `gradients`.

    Returns:
        A tree like `x`, in logits; NaN in rows whose logit is not finite.

    Raises:
        TypeError: as for `gradients`.
        ValueError: as for `gradients`.

    Example:
        >>> linear = lambda variables, x, **_: (x @ variables["w"], variables)
        >>> gradient_times_input(linear, {"w": jnp.array([2.0, 3.0])}, jnp.array([[1.0, -1.0]])).tolist()
        [[2.0, -3.0]]

    References:
        Shrikumar, Greenside, Shcherbina, Kundaje (2016), Not just a black box.
    """
    slopes = gradients(apply, variables, x, target=target, chunk=chunk)
    return jax.tree.map(lambda slope, leaf: slope * jnp.asarray(leaf).astype(slope.dtype), slopes, x)


@partial(jax.jit, static_argnums=(0, 3, 4))
def _gradients(apply, variables, x, target, chunk):
    def of_rows(x):
        logits, slopes = logits_and_gradients(apply, variables, x, target)
        return nan_rows(jnp.isfinite(logits), slopes)

    return map_chunks(of_rows, x, chunk=chunk)


def logits_and_gradients(
    apply: ApplyFn, variables: Variables, x: Inputs, target: int | None
) -> tuple[Float[Array, " n"], PyTree[Float[Array, "n ..."]]]:
    """Compute the logits of rows and their gradients with respect to the inputs, in one pass.

    Rows do not depend on each other, so the gradient of the sum of all logits is that of each row.
    """

    def total(x):
        logits = logits_of(apply, variables, x, target)
        return jnp.sum(logits), logits

    with jax.default_matmul_precision("highest"):
        slopes, logits = jax.grad(total, has_aux=True)(x)
    return logits, slopes
