"""Integrated gradients: the logit's gradient along the line from a baseline to each row."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from fairjax.detect.attribution.gradients import logits_and_gradients
from fairjax.detect.attribution.inputs import attributable, checked_baseline, is_shared, nan_rows, wide
from fairjax.detect.rows import CHUNK, check_row_wise, logits_of, map_chunks
from fairjax.nn.network import ApplyFn
from fairjax.types import Inputs, Variables


def integrated_gradients(
    apply: ApplyFn,
    variables: Variables,
    x: Inputs,
    baseline: Any = None,
    nodes: int = 50,
    *,
    target: int | None = None,
    chunk: int | None = CHUNK,
) -> PyTree[Float[Array, "n ..."]]:
    """Compute integrated gradients: (x - b) times the mean gradient of the logit on the line from b to x.

    The attributions of a row sum to its logit less that of the baseline (completeness), up to the error of numerical
    integration by Gauss-Legendre nodes. For smooth networks 50 nodes suffice; a ReLU makes the gradient jump, so that
    the error falls only like one over the number of nodes. `convergence_delta` computes this error.

    Args:
        apply: the network; used in evaluation mode, in which a row's logit does not depend on other rows.
        variables: the network's variables.
        x: inputs of n rows: a matrix of features, images, or a tree of arrays; floating-point.
        baseline: the row b with which rows are compared, zeros if omitted, which is the mean row if `x` is
            standardised; a tree like `x` whose arrays have the shape of one row, or one row per row of `x`.
        nodes: number of nodes, one pass forward and backward each.
        target: the class whose logit is explained; class 1 of two classes if omitted, and needed for more.
        chunk: number of rows that are computed at a time; all at once if None. Memory does not depend on `nodes`.

    Returns:
        A tree like `x`, in logits; NaN in rows with a logit that is not finite.

    Raises:
        TypeError: if an array of `x` holds integers or booleans.
        ValueError: if the baseline does not fit, there is no node, there are no rows, the class does not exist, or
            logits of rows depend on other rows.

    Example:
        >>> product = lambda variables, x, **_: (x[:, 0] * x[:, 1], variables)
        >>> integrated_gradients(product, {}, jnp.array([[2.0, 3.0]]), nodes=2).round(4).tolist()
        [[3.0, 3.0]]

    References:
        Sundararajan, Taly, Yan (2017), Axiomatic attribution for deep networks.
    """
    x, baseline = checked_path(apply, variables, x, baseline, nodes)
    return _integrated(apply, variables, x, baseline, nodes, target, chunk)


def convergence_delta(
    apply: ApplyFn,
    variables: Variables,
    x: Inputs,
    attributions: PyTree[Float[Array, "n ..."]],
    baseline: Any = None,
    *,
    target: int | None = None,
    chunk: int | None = CHUNK,
) -> Float[Array, " n"]:
    """Compute how far attributions are from completeness, in logits: their sum less (f(x) - f(baseline)).

    Args:
        apply: as for `integrated_gradients`.
        variables: as for `integrated_gradients`.
        x: as for `integrated_gradients`.
        attributions: a tree like `x`.
        baseline: the baseline of the attributions.
        target: the class of the attributions.
        chunk: number of rows that are computed at a time.

    Returns:
        One difference per row; 0 for attributions that are complete.

    Raises:
        TypeError: as for `integrated_gradients`.
        ValueError: if attributions do not have the shapes of `x`, or as for `integrated_gradients`.

    Example:
        >>> linear = lambda variables, x, **_: (x @ variables["w"] + 1.0, variables)
        >>> variables, x = {"w": jnp.array([2.0, 3.0])}, jnp.ones((1, 2))
        >>> convergence_delta(linear, variables, x, jnp.array([[2.0, 2.5]])).tolist()
        [-0.5]
    """
    x, baseline = checked_path(apply, variables, x, baseline, 1)
    shapes, found = (jax.tree.map(np.shape, tree) for tree in (x, attributions))
    if jax.tree.structure(x) != jax.tree.structure(attributions) or shapes != found:
        raise ValueError(f"attributions must have the shapes of x, {shapes}, found {found}")
    return _delta(apply, variables, x, attributions, baseline, target, chunk)


def checked_path(apply: ApplyFn, variables: Variables, x: Inputs, baseline: Any, nodes: int) -> tuple[Inputs, Inputs]:
    """Check the arguments of integrated gradients; return the inputs and a baseline with 1 or n rows.

    Raises:
        TypeError, ValueError: as for `integrated_gradients`.
    """
    if nodes < 1:
        raise ValueError(f"nodes must be a positive number of points between baseline and row, got {nodes}")
    x = attributable(x)
    baseline = checked_baseline(x, baseline)
    check_row_wise(apply, variables, x)
    return x, baseline


def along_path(
    apply: ApplyFn, variables: Variables, x: Inputs, baseline: Inputs, nodes: int, target: int | None
) -> PyTree[Float[Array, "n ..."]]:
    """Compute integrated gradients of one chunk of rows, node by node.

    Args:
        apply: the network.
        variables: its variables.
        x: the rows.
        baseline: a tree like `x` with 1 row or as many rows as `x`.
        nodes: number of nodes.
        target: the class.
    """
    positions, weights = np.polynomial.legendre.leggauss(nodes)  # on [-1, 1]
    steps = jnp.asarray((positions + 1) / 2), jnp.asarray(weights / 2)
    distance = jax.tree.map(lambda leaf, base: leaf - base, x, baseline)

    def step(carry, node):
        (t, weight), (sums, finite) = node, carry
        point = jax.tree.map(lambda base, by: base + t.astype(by.dtype) * by, baseline, distance)
        logits, slopes = logits_and_gradients(apply, variables, point, target)
        sums = jax.tree.map(
            lambda total, slope: total + weight.astype(total.dtype) * slope.astype(total.dtype), sums, slopes
        )
        return (sums, finite & jnp.isfinite(logits)), None

    sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, wide(leaf)), x)
    start = sums, jnp.ones(jax.tree.leaves(x)[0].shape[:1], bool)
    (sums, finite), _ = jax.lax.scan(step, start, steps)
    return nan_rows(finite, jax.tree.map(lambda by, total: by.astype(total.dtype) * total, distance, sums))


def logits_of_baseline(
    apply: ApplyFn, variables: Variables, baseline: Inputs, rows: int, target: int | None
) -> Float[Array, " n"]:
    """Compute the logit of each row's baseline, only once if it is shared."""
    logits = logits_of(apply, variables, baseline, target)
    return jnp.broadcast_to(logits, (rows,))


@partial(jax.jit, static_argnums=(0, 4, 5, 6))
def _integrated(apply, variables, x, baseline, nodes, target, chunk):
    shared = is_shared(x, baseline)

    def of_rows(rows):
        row_baseline = baseline if shared else rows[1]
        return along_path(apply, variables, rows[0], row_baseline, nodes, target)

    return map_chunks(of_rows, (x, None if shared else baseline), chunk=chunk)


@partial(jax.jit, static_argnums=(0, 5, 6))
def _delta(apply, variables, x, attributions, baseline, target, chunk):
    shared = is_shared(x, baseline)

    def of_rows(rows):
        x, attributions, row_baseline = rows
        base = logits_of_baseline(
            apply, variables, baseline if shared else row_baseline, jax.tree.leaves(x)[0].shape[0], target
        )
        sums = [jnp.sum(leaf, axis=tuple(range(1, leaf.ndim))) for leaf in jax.tree.leaves(attributions)]
        return sum(sums[1:], sums[0]) - (logits_of(apply, variables, x, target) - base)

    with jax.default_matmul_precision("highest"):
        return map_chunks(of_rows, (x, attributions, None if shared else baseline), chunk=chunk)
