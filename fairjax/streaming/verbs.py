"""What can be computed over chunks: evaluations, measures, influence, and values with gradients."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from fairjax import checks, metrics, selection
from fairjax.checks import check_logits
from fairjax.metrics import (
    GroupSums,
    Measure,
    from_group_sums,
    group_sums,
    probabilities,
)
from fairjax.nn.network import ApplyFn
from fairjax.selection import Evaluation, Rule
from fairjax.streaming.source import Source, float_dtype
from fairjax.streaming.sums import Kind, joined, running_sums, sum_with_kind
from fairjax.types import AnyArray, Batch, Variables

Loss = Callable[[Float[Array, " n"], Bool[Array, " n"]], Float[Array, " n"]]
"""A function `loss(logits, y)` that returns one number per row."""


def evaluate(
    measure: Measure,
    apply: ApplyFn,
    variables: Variables,
    source: Source,
    *,
    threshold: float | Float[AnyArray, ""] | None = None,
    rule: Rule | None = None,
    count: int = 101,
    mesh: jax.sharding.Mesh | None = None,
) -> Evaluation:
    """Evaluate a network on all rows, at a given threshold or at the best one, in one pass.

    The search is that of `selection.best_threshold`, in the sum of the chunks' histograms. Rows without weights, or
    with whole weights, are counted exactly, up to 2^31; the table of the result is in float32.

    Args:
        measure: the measure of bias.
        apply: the network; used in evaluation mode.
        variables: the network's variables.
        source: the rows.
        threshold: the threshold; if omitted, the best one is searched for.
        rule: search for the threshold that maximises this rule's score instead of balanced accuracy.
        count: number of equally spaced thresholds in [0, 1] for the search.
        mesh: devices over which each chunk's rows are distributed; one device if omitted.

    Returns:
        The evaluation, with its threshold.

    Raises:
        ValueError: if a group has no rows, an output is not finite, or both a threshold and a rule are given.

    Example:
        >>> from fairjax.streaming import chunks
        >>> from fairjax.nn import Mlp, from_linen
        >>> from fairjax.metrics import spd
        >>> network, x = from_linen(Mlp(widths=(4,))), np.eye(4, dtype=np.float32)
        >>> table = Batch(x, np.array([True, False, True, False]), np.array([True, True, False, False]))
        >>> variables = network.init(jax.random.key(0), x)
        >>> evaluate(spd, network.apply, variables, chunks(table, 2), threshold=0.0).table.sum().item()
        4.0
    """
    if threshold is not None and rule is not None:
        raise ValueError("give a threshold or a rule to search one by, not both")
    kind = Kind.of(measure)
    cuts = metrics.threshold_grid(count) if threshold is None else jnp.asarray(threshold, float_dtype())[None]
    sums = running_sums(_Counts(apply, kind), (variables, cuts), source, mesh, kind, measure)
    counts, squared, broken = jax.tree.map(joined, *sums)
    if broken:
        raise ValueError(f"the network's output is not finite for {int(broken)} rows; look for missing features")
    sizes = counts.sum(axis=tuple(range(counts.ndim - 1)))
    if kind.num_groups == 2:
        for size, name in zip(sizes, ("unprivileged group (a = 0)", "privileged group (a = 1)"), strict=True):
            if size == 0:
                raise ValueError(f"no row of the {name} among all chunks, so there is no bias to measure")
    elif (sizes > 0).sum() < 2:
        raise ValueError(
            f"{(sizes > 0).sum()} of {kind.num_groups} groups have rows among all chunks: no bias can be measured"
        )
    if kind.num_classes > 2:
        tables = jnp.asarray(counts, float_dtype())[None]
        squares = jnp.asarray(squared, float_dtype())[None]
        evaluations = selection.evaluate_tables(measure, jnp.full(1, jnp.nan, tables.dtype), tables, squares)
        return jax.tree.map(lambda entry: entry[0], evaluations)
    # float32 holds whole numbers up to 2^24 only, but the cumulative sum of tables is exact in int32.
    is_exact = np.array_equal(counts, np.rint(counts)) and counts.sum() < 2**31
    squared_counts = None if np.array_equal(counts, squared) else jnp.asarray(squared, float_dtype())
    counts = jnp.asarray(counts, jnp.int32 if is_exact else float_dtype())
    return selection.best_threshold_from_counts(measure, counts, cuts, rule, squared=squared_counts)


def measure(
    measure: Measure,
    apply: ApplyFn,
    variables: Variables,
    source: Source,
    *,
    mesh: jax.sharding.Mesh | None = None,
) -> Float[Array, ""]:
    """Compute a measure on the scores of all rows (Eq. 1 and 2), in one pass.

    Args:
        measure: the measure of bias; a function of the sums by label and group, see `metrics.from_group_sums`.
        apply: the network; used in evaluation mode.
        variables: the network's variables.
        source: the rows.
        mesh: devices over which each chunk's rows are distributed; one device if omitted.

    Returns:
        The proxy; like the measure, it is 0 where it is undefined because a group is empty.

    Example:
        >>> from fairjax.streaming import chunks
        >>> from fairjax.nn import Mlp, from_linen
        >>> from fairjax.metrics import spd
        >>> network, x = from_linen(Mlp(widths=(4,))), np.ones((4, 4), np.float32)
        >>> table = Batch(x, np.array([True, False, True, False]), np.array([True, True, True, False]))
        >>> measure(spd, network.apply, network.init(jax.random.key(0), x), chunks(table, 2)).item()
        0.0
    """
    kind = Kind.of(measure)
    sums = sum_with_kind(_Scores(apply, kind, _counts_rows(measure)), (None, variables), source, mesh, kind, measure)
    return from_group_sums(measure, sums)


def influence(
    measure: Measure,
    apply: ApplyFn,
    variables: Variables,
    source: Source,
    *,
    reduction: Literal["mean", "sum"] = "mean",
    mesh: jax.sharding.Mesh | None = None,
) -> PyTree[Float[Array, "_"]]:
    """Compute the influence of every unit (Eq. 4), as `fairjax.influence` does, in two passes over the rows.

    Args:
        measure: the measure of bias; a function of the sums by label and group, see `metrics.from_group_sums`.
        apply: the network; used in evaluation mode, in which a row's logit does not depend on other rows.
        variables: the network's variables; `masks` defines the units.
        source: the rows.
        reduction: the mean over rows, as in Eq. 4 (weighted if rows have weights), or the sum.
        mesh: devices over which each chunk's rows are distributed; one device if omitted.

    Returns:
        A tree like `variables["masks"]`, in units of the measure per unit of activation; 0 at units that are cut.

    Raises:
        ValueError: if `reduction` is unknown or the source can be iterated only once.

    Example:
        >>> from fairjax.streaming import chunks
        >>> from fairjax.nn import Mlp, from_linen
        >>> from fairjax.metrics import spd
        >>> network, x = from_linen(Mlp(widths=(4,))), np.eye(4, dtype=np.float32)
        >>> table = Batch(x, np.array([True, False, True, False]), np.array([True, True, False, False]))
        >>> variables = network.init(jax.random.key(0), x)
        >>> influence(spd, network.apply, variables, chunks(table, 2))["hidden_00"]["units"]["keep"].shape
        (4,)

    References:
        Marcinkevičs et al. (2022), Eq. 4.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be mean or sum, got {reduction!r}")
    shifts = jax.tree.map(lambda keep: jnp.zeros(keep.shape), variables["masks"])
    kind = Kind.of(measure)
    scores = _Scores(apply, kind, _counts_rows(measure))
    _, slopes, sums = _two_passes(
        scores, partial(from_group_sums, measure), shifts, variables, source, mesh, kind, measure
    )
    n = sums.weight.sum() if reduction == "mean" else 1.0
    return jax.tree.map(lambda keep, slope: jnp.where(keep, slope / n, 0.0), variables["masks"], slopes)


def value_and_grad(
    measure: Measure,
    apply: ApplyFn,
    variables: Variables,
    source: Source,
    *,
    loss: Loss,
    penalty: Callable[[Float[Array, ""]], Float[Array, ""]],
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[Float[Array, ""], PyTree[Array]]:
    """Compute value and gradient of mean loss + penalty(proxy) over all rows, in two passes (full-batch training).

    Args:
        measure: the measure of bias; a function of the sums by label and group, see `metrics.from_group_sums`.
        apply: the network; used in evaluation mode (no dropout, running statistics), in which a row's logit does not
            depend on other rows.
        variables: the network's variables; the gradient is with respect to `params`.
        source: the rows.
        loss: a function of (logits, y) that returns one number per row, such as `optax.sigmoid_binary_cross_entropy`.
            It is compiled: create it only once. The mean is weighted if rows have weights.
        penalty: a differentiable function of the proxy, such as `lambda bias: 2.0 * jnp.abs(bias)`; it need not be the
            same object in every call.
        mesh: devices over which each chunk's rows are distributed; one device if omitted.

    Returns:
        The objective, and its gradient as a tree like `variables["params"]`.

    Raises:
        ValueError: if the source can be iterated only once.

    Example:
        >>> from fairjax.streaming import chunks
        >>> import optax
        >>> from fairjax.nn import Mlp, from_linen
        >>> from fairjax.metrics import spd
        >>> network, x = from_linen(Mlp(widths=(4,))), np.eye(4, dtype=np.float32)
        >>> table = Batch(x, np.array([True, False, True, False]), np.array([True, True, False, False]))
        >>> variables, bce = network.init(jax.random.key(0), x), optax.sigmoid_binary_cross_entropy
        >>> value, slopes = value_and_grad(spd, network.apply, variables, chunks(table, 2), loss=bce, penalty=jnp.abs)
        >>> slopes["output"]["kernel"].shape
        (4, 1)
    """

    def objective_of(sums: _ObjectiveSums) -> Float[Array, ""]:
        return sums.loss / sums.cells.weight.sum() + penalty(from_group_sums(measure, sums.cells))

    kind = Kind.of(measure)
    fit = _Losses(_Scores(apply, kind, _counts_rows(measure)), loss)
    value, slopes, _ = _two_passes(fit, objective_of, variables["params"], variables, source, mesh, kind, measure)
    return value, slopes


def _counts_rows(measure: Measure) -> bool:
    """Return whether a measure leaves out small groups, so that it needs effective numbers of rows."""
    return getattr(measure, "minimum", 1) > 1


class _ObjectiveSums(NamedTuple):
    """Sums of rows from which an objective is computed."""

    cells: GroupSums
    loss: Float[Array, ""]


# Functions for `sum_over_chunks` are dataclasses, so that two made from one network are equal and compile once.


@dataclasses.dataclass(frozen=True)
class _Counts:
    """Histogram of the scores, or confusion tensor for more classes, for weights and squared weights.

    The last result is the number of broken rows, for which the network's output is not finite.
    """

    apply: ApplyFn
    kind: Kind

    def __call__(self, variables, cuts, batch: Batch, weights):
        logits, _ = self.apply(variables, batch.x)
        check_logits(logits, batch.x, self.kind.num_classes)
        finite = jnp.isfinite(logits) if logits.ndim == 1 else jnp.all(jnp.isfinite(logits), axis=1)
        broken = jnp.sum(~finite & (weights > 0), dtype=jnp.float32)
        if logits.ndim == 1:
            rows = checks.CheckedRows(probabilities(logits), batch.y, batch.a, weights, None)
            count = partial(metrics.histogram_of_rows, rows, cuts, self.kind.num_groups)
            return count(), count(squared=True), broken
        decisions = jax.nn.one_hot(jnp.argmax(logits, axis=1), logits.shape[1])
        count = partial(metrics.confusion, decisions, batch.y, batch.a, **self.kind._asdict())
        return count(weights=weights), count(weights=weights**2), broken


@dataclasses.dataclass(frozen=True)
class _Scores:
    """Sums of scores by cell, with a shift of every unit."""

    apply: ApplyFn
    kind: Kind
    squares: bool

    def __call__(self, shifts, variables, batch: Batch, weights) -> GroupSums:
        logits, _ = self.apply(variables, batch.x, shifts=shifts)
        return self.of_logits(logits, batch, weights)

    def of_logits(self, logits, batch: Batch, weights) -> GroupSums:
        check_logits(logits, batch.x, self.kind.num_classes)
        count = partial(group_sums, probabilities(logits), batch.y, batch.a, **self.kind._asdict())
        return count(weights)._replace(squares=count(weights**2) if self.squares else None)


@dataclasses.dataclass(frozen=True)
class _Losses:
    """Sums of scores by cell, and the sum of the losses."""

    scores: _Scores
    loss: Loss

    def __call__(self, params, variables, batch: Batch, weights) -> _ObjectiveSums:
        logits, _ = self.scores.apply({**variables, "params": params}, batch.x)
        score_sums = self.scores.of_logits(logits, batch, weights)
        return _ObjectiveSums(score_sums, jnp.sum(self.loss(logits, batch.y) * weights))


@dataclasses.dataclass(frozen=True)
class _PullBack:
    """Pulls derivatives with respect to the sums that a function returns back to its first argument."""

    function: Callable[..., PyTree[Array]]

    def __call__(self, slopes, varied, fixed, batch: Batch, weights):
        def directional(varied):
            sums = self.function(varied, fixed, batch, weights)
            return jax.tree.reduce(jnp.add, jax.tree.map(lambda slope, sum_: jnp.sum(slope * sum_), slopes, sums))

        return jax.grad(directional)(varied)


def _two_passes(function, objective, varied, fixed, source: Source, mesh, kind: Kind, measure: Measure):
    """Compute `objective` of the total of `function(varied, fixed, ...)`, its gradient by `varied`, and the total."""
    if isinstance(source, Iterator):
        raise ValueError(
            f"the source is iterated twice, but a {type(source).__name__} can be iterated only once; give a list, "
            "chunks(), or an object whose __iter__ starts over"
        )
    sums = sum_with_kind(function, (varied, fixed), source, mesh, kind, measure)
    value, slopes = jax.value_and_grad(objective)(sums)
    return value, sum_with_kind(_PullBack(function), (slopes, varied, fixed), source, mesh, kind), sums
