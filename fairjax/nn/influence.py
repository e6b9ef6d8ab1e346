"""Influence of hidden units on a differentiable measure (Eq. 4)."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from fairjax.checks import check_logits, check_rows
from fairjax.metrics import Measure, num_classes, probabilities
from fairjax.nn.network import ApplyFn
from fairjax.types import Rows, Variables, columns


def influence(
    measure: Measure,
    apply: ApplyFn,
    variables: Variables,
    batch: Rows,
    *,
    reduction: Literal["mean", "sum"] = "mean",
) -> PyTree[Float[Array, "_"]]:
    """Compute S_lj = (1/N) sum_i d measure / d h_lj(x_i) for every unit at once (Eq. 4).

    The sum over rows is the derivative with respect to one shift of the unit that all rows share, so a single backward
    pass computes it exactly, with memory proportional to the number of units. For more rows than memory holds, see
    `fairjax.streaming.influence`.

    Args:
        measure: any differentiable function of (scores, y, a), and of weights if the rows have weights.
        apply: the network; used in evaluation mode, in which a row's logit does not depend on other rows.
        variables: the network's variables; `masks` defines the units.
        batch: the rows, as the network takes them; `x` is an array or a tree of arrays with rows on axis 0.
        reduction: the mean over rows, as in Eq. 4, or the sum.

    Returns:
        A tree like `variables["masks"]`, in units of the measure per unit of activation; 0 at units that are cut.

    Raises:
        ValueError: if `reduction` is unknown, or numbers of rows differ.

    Example:
        >>> from fairjax.nn import Mlp, from_linen
        >>> from fairjax.metrics import spd
        >>> from fairjax.types import Batch
        >>> network, x = from_linen(Mlp(widths=(4,))), jnp.eye(4)
        >>> batch = Batch(x, jnp.array([True, False, True, False]), jnp.array([True, True, False, False]))
        >>> variables = network.init(jax.random.key(0), x)
        >>> influence(spd, network.apply, variables, batch)["hidden_00"]["units"]["keep"].shape
        (4,)

    References:
        Marcinkevičs et al. (2022), Eq. 4; Leino et al. (2018) for influence by gradients.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be mean or sum, got {reduction!r}")
    n = np.shape(batch.y)[0]
    check_rows("batch.x", batch.x, n)
    arguments = columns(batch)
    shifts = jax.tree.map(lambda keep: jnp.zeros(keep.shape), variables["masks"])

    def shifted(shifts, x):
        logits, _ = apply(variables, x, shifts=shifts)
        check_logits(logits, x, num_classes(measure))
        return probabilities(logits)

    with jax.default_matmul_precision("highest"):  # units are ordered by these numbers
        sums = jax.grad(lambda shifts: measure(shifted(shifts, batch.x), *arguments))(shifts)
    influences = jax.tree.map(lambda keep, sum_: jnp.where(keep, sum_, 0.0), variables["masks"], sums)
    return influences if reduction == "sum" else jax.tree.map(lambda sum_: sum_ / n, influences)
