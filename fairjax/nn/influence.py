"""Influence of hidden units on a differentiable measure (Eq. 4)."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from fairjax.checks import check_logits
from fairjax.metrics import Measure, num_classes, probabilities
from fairjax.nn.network import ApplyFn
from fairjax.types import AnyArray, Rows, Variables, columns


def influence(
    measure: Measure,
    apply: ApplyFn,
    variables: Variables,
    batch: Rows,
    *,
    reduction: Literal["mean", "sum"] = "mean",
    chunk: int | None = None,
) -> PyTree[Float[Array, "_"]]:
    """Compute S_lj = (1/N) sum_i d measure / d h_lj(x_i) for every unit at once (Eq. 4).

    The sum over rows is the derivative with respect to one shift of the unit that all rows share, so a single backward
    pass computes it exactly, with memory proportional to the number of units. Computing it by chunks is exact for every
    measure: the derivative with respect to the scores is taken over all rows first and then pulled back chunk by chunk,
    and the pullbacks add up.

    Args:
        measure: any differentiable function of (scores, y, a), and of weights if the rows have weights.
        apply: the network; used in evaluation mode, in which a row's logit does not depend on other rows.
        variables: the network's variables; `masks` defines the units.
        batch: the rows, standardised.
        reduction: the mean over rows, as in Eq. 4, or the sum.
        chunk: maximal number of rows processed at once; all rows if omitted. It limits memory and does not change the
            result.

    Returns:
        A tree like `variables["masks"]`, in units of the measure per unit of activation; 0 at units that are cut.

    Raises:
        ValueError: if `chunk` is not positive or `reduction` is unknown.

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
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be a positive number of rows, got {chunk}")
    n = batch.x.shape[0]
    others = columns(batch)
    shifts = jax.tree.map(lambda keep: jnp.zeros(keep.shape), variables["masks"])

    def shifted(shifts, x):
        logits, _ = apply(variables, x, shifts=shifts)
        check_logits(logits, x, num_classes(measure))
        return probabilities(logits)

    with jax.default_matmul_precision("highest"):  # units are ordered by these numbers
        if chunk is None or chunk >= n:
            total = jax.grad(lambda shifts: measure(shifted(shifts, batch.x), *others))(shifts)
        else:
            total = _by_chunks(measure, shifted, shifts, batch.x, others, chunk)
    kept = jax.tree.map(lambda keep, sum_: jnp.where(keep, sum_, 0.0), variables["masks"], total)
    return kept if reduction == "sum" else jax.tree.map(lambda sum_: sum_ / n, kept)


def _by_chunks(measure, shifted, shifts, x: Float[AnyArray, "n d"], others: tuple[Any, ...], chunk: int):
    """Compute scores by chunks, the gradient with respect to all scores, and then the sum of pullbacks by chunks."""
    n = x.shape[0]
    whole = n // chunk
    starts = jnp.arange(whole) * chunk
    rest = slice(whole * chunk, n)

    def rows(array, start):
        return jax.lax.dynamic_slice_in_dim(array, start, chunk)

    def pulled(x, slope):
        return jax.vjp(lambda shifts: shifted(shifts, x), shifts)[1](slope)[0]

    scores = jax.lax.map(lambda start: shifted(shifts, rows(x, start)), starts)
    scores = scores.reshape(-1, *scores.shape[2:])
    if whole * chunk < n:
        scores = jnp.concatenate([scores, shifted(shifts, x[rest])])
    slopes = jax.grad(measure)(scores, *others)

    def add(total, start):
        part = pulled(rows(x, start), rows(slopes, start))
        return jax.tree.map(jnp.add, total, part), None

    total, _ = jax.lax.scan(add, shifts, starts)
    return jax.tree.map(jnp.add, total, pulled(x[rest], slopes[rest])) if whole * chunk < n else total
