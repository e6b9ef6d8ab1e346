"""Evaluations: balanced accuracy, bias and noise of decisions at a threshold, or at many."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from fairjax import checks, metrics
from fairjax.metrics import Measure, Parity, Smooth, checked, num_classes, num_groups
from fairjax.metrics.gaps import spread
from fairjax.types import AnyArray


class Rates(NamedTuple):
    """The rates whose range a measure bounds: one row per rate, or per rate and block of groups if there are blocks."""

    values: Float[Array, "*c r g"]
    """The rate of each group."""
    sizes: Float[Array, "*c r g"]
    """The denominator of each rate, in rows."""
    there: Bool[Array, "*c r g"]
    """Whether each group is compared."""


class Evaluation(NamedTuple):
    """Evaluation of a network with a threshold on one part of the data."""

    threshold: Float[Array, "*c"]
    """A row is accepted if its score exceeds this; NaN for more than two classes, where the largest score decides."""
    balanced_accuracy: Float[Array, "*c"]
    """Mean of true positive and true negative rate."""
    bias: Float[Array, "*c"]
    """The parity measure on decisions; NaN if a group that it compares has no rows."""
    noise: Float[Array, "*c"]
    """Squared derivative of the measure summed over rows (`metrics.noise_from_table`): 1/n_0 + 1/n_1 for spd."""
    table: Float[Array, "*c P Y G"] | None = None
    """Counts by decision, label and group, from which all other measures can be computed."""
    rates: Rates | None = None
    """The rates of the groups, if the measure is the range of the rates of more than two groups."""


def evaluate_thresholds(measure: Measure, counts: metrics.Histogram, cuts: Float[AnyArray, " t"]) -> Evaluation:
    """Evaluate at every threshold, from a histogram of scores.

    Args:
        measure: the measure of bias.
        counts: result of `metrics.histogram` for these cuts.
        cuts: the thresholds.

    Returns:
        An evaluation with one entry per threshold.
    """
    return evaluate_tables(measure, cuts, metrics.tables_by_threshold(counts))


def evaluate_tables(
    measure: Measure,
    threshold: Float[AnyArray, " t"],
    table: Float[Array, "t P Y G"],
    squared: Float[Array, "t P Y G"] | None = None,
    whole: Float[Array, "t P Y"] | None = None,
) -> Evaluation:
    """Evaluate confusion tables.

    Args:
        measure: the measure of bias.
        threshold: the threshold of each table.
        table: counts by decision, label and group.
        squared: sums of squared weights by decision, label and group, if rows have weights: sizes and noise are then
            computed from effective numbers of rows. If omitted, the sums in the tables count as numbers of rows.
        whole: counts of all rows by decision and label, if groups overlap and a gap depends on the rate of all rows;
            the sum over groups if omitted.

    Returns:
        An evaluation with one entry per table.
    """
    # A user's own function may depend on more than its arguments, so only those of known measures are traced once.
    evaluate = _evaluate_tables if metrics.as_parity(measure) is None else _evaluate_tables_of_known
    return evaluate(measure, threshold, table, squared, whole)


def _evaluate_tables(
    measure: Measure,
    threshold: Float[AnyArray, " t"],
    table: Float[Array, "t P Y G"],
    squared: Float[Array, "t P Y G"] | None,
    whole: Float[Array, "t P Y"] | None,
) -> Evaluation:
    bias = jax.vmap(partial(metrics.measure_from_table, measure))(table, squared, whole)
    comparable = jax.vmap(partial(metrics.is_defined, measure))(table, squared)
    return Evaluation(
        threshold=jnp.asarray(threshold),
        balanced_accuracy=jax.vmap(metrics.accuracy_from_table)(table),
        bias=jnp.where(comparable, bias, jnp.nan),
        noise=jax.vmap(partial(metrics.noise_from_table, measure))(table, squared, whole),
        table=table,
        rates=_rates(measure, table, squared),
    )


_evaluate_tables_of_known = jax.jit(_evaluate_tables, static_argnums=0)
"""The same, traced once per measure and shape of the tables, which does not depend on the number of rows."""


def has_range(measure: Measure) -> bool:
    """Return whether a measure is the greatest range of rates, so that its bias is determined by the groups' rates."""
    if not isinstance(measure, Parity):
        return False
    ranged = measure.across is spread or isinstance(measure.across, Smooth)
    return ranged and (len(measure.rates) == 1 or measure.over == "max")


def _rates(measure: Measure, table: Float[Array, "t P Y G"], squared: Float[Array, "t P Y G"] | None) -> Rates | None:
    """Compute the rates of the groups, if more than two are compared."""
    if table.shape[-1] == 2 or not (isinstance(measure, Parity) and has_range(measure)):
        return None
    return Rates(*jax.vmap(measure.compared)(table, squared))


def evaluate_at(
    measure: Measure,
    scores: Any,
    y: Any,
    a: Any,
    threshold: float | Float[AnyArray, ""],
    *,
    weights: Any = None,
) -> Evaluation:
    """Evaluate scores at a given threshold.

    Args:
        measure: the measure of bias.
        scores: sigmoid outputs in (0, 1); for more than two classes, probabilities (n, classes), of which the largest
            decides whatever the threshold.
        y: labels.
        a: protected attribute: booleans, or codes or memberships of as many groups as the measure has.
        threshold: a row is accepted if its score exceeds this.
        weights: sample weights; 1 if omitted.

    Returns:
        The evaluation.

    Example:
        >>> from fairjax.metrics import spd
        >>> y, a = jnp.array([True, False, True, False]), jnp.array([True, True, False, False])
        >>> evaluate_at(spd, jnp.array([0.9, 0.1, 0.8, 0.7]), y, a, jnp.array(0.5)).bias.item()
        0.5
    """
    rows = checked(measure, scores, y, a, weights)
    if num_classes(measure) > 2:
        return evaluate_decisions(measure, rows)
    threshold = checks.floating(threshold)
    if threshold.ndim or not (isinstance(threshold, Tracer) or jnp.isfinite(threshold)):
        raise ValueError(f"threshold must be one finite number, got {threshold}")
    rows = rows._replace(valid=checks.all_valid(rows.valid, jnp.isfinite(threshold)))
    cuts = threshold[None]
    evaluations = evaluate_tables(measure, cuts, *threshold_tables(measure, rows, cuts))
    return nan_if_invalid(rows, jax.tree.map(lambda entry: entry[0], evaluations))


class ThresholdTables(NamedTuple):
    """Confusion tables at every threshold."""

    table: Float[Array, "t P Y G"]
    squared: Float[Array, "t P Y G"] | None = None
    """Sums of squared weights, if rows have weights."""
    whole: Float[Array, "t P Y"] | None = None
    """Counts of all rows, if groups overlap and the measure depends on the rate of all rows."""


def threshold_tables(measure: Measure, rows: checks.CheckedRows, cuts: Float[Array, " t"]) -> ThresholdTables:
    """Compute the confusion tables at every threshold."""

    def count(rows: checks.CheckedRows, groups: int, **options: bool) -> Float[Array, "t 2 2 G"]:
        return metrics.tables_by_threshold(metrics.histogram_of_rows(rows, cuts, groups, **options))

    return _all_tables(measure, rows, count)


def _all_tables(
    measure: Measure, rows: checks.CheckedRows, count: Callable[..., Float[Array, "t P Y G"]]
) -> ThresholdTables:
    """Collect the results of `count(rows, groups, squared=...)` for groups, for squared weights and for all rows."""
    groups = num_groups(measure, rows.a)
    squared = None if rows.weights is None else count(rows, groups, squared=True)
    whole = None
    if rows.a.ndim == 2 and isinstance(measure, Parity) and not measure.is_local:
        whole = count(rows._replace(a=jnp.zeros(rows.y.shape, jnp.int32)), 1)[..., 0]
    return ThresholdTables(_solved(measure, rows, count(rows, groups)), squared, whole)


def _solved(measure: Measure, rows: checks.CheckedRows, table: Float[Array, "t P Y G"]) -> Float[Array, "t P Y G"]:
    """Convert tables to the measure's way of counting memberships."""
    if not isinstance(measure, Parity) or rows.a.ndim != 2 or measure.membership != "solved":
        return table
    products = metrics.gram(rows.a, rows.weights)
    return jax.vmap(lambda cell: metrics.solved(cell, products, measure.blocks))(table)


def evaluate_decisions(measure: Measure, rows: checks.CheckedRows) -> Evaluation:
    """Evaluate the decisions for the most probable class."""
    classes = num_classes(measure)
    decisions = jax.nn.one_hot(jnp.argmax(rows.values, axis=1), classes, dtype=rows.values.dtype)

    def count(rows: checks.CheckedRows, groups: int, *, squared: bool = False) -> Float[Array, "1 P Y G"]:
        weights = rows.weights**2 if squared and rows.weights is not None else rows.weights
        options: dict[str, Any] = {"num_groups": groups, "num_classes": classes, "weights": weights}
        return metrics.confusion(decisions, rows.y, rows.a, **options)[None]

    tables = _all_tables(measure, rows, count)
    evaluations = evaluate_tables(measure, jnp.full(1, jnp.nan, tables.table.dtype), *tables)
    finite = jnp.all(jnp.isfinite(rows.values))  # argmax of NaN would be a valid class
    evaluations = evaluations._replace(
        balanced_accuracy=jnp.where(finite, evaluations.balanced_accuracy, jnp.nan),
        bias=jnp.where(finite, evaluations.bias, jnp.nan),
    )
    return nan_if_invalid(rows, jax.tree.map(lambda entry: entry[0], evaluations))


def nan_if_invalid(rows: checks.CheckedRows, evaluation: Evaluation) -> Evaluation:
    """Return the evaluation, with accuracy and bias NaN if a traced row is invalid."""
    accuracy, bias = rows.or_nan(evaluation.balanced_accuracy), rows.or_nan(evaluation.bias)
    return evaluation._replace(balanced_accuracy=accuracy, bias=bias)
