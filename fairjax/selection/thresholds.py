"""Search for the best threshold of scores."""

from typing import Any

import jax
from jaxtyping import Float

from fairjax import metrics
from fairjax.metrics import Measure, checked, num_classes
from fairjax.selection.comparison import first_max
from fairjax.selection.evaluation import (
    Evaluation,
    ThresholdTables,
    evaluate_decisions,
    evaluate_tables,
    nan_if_invalid,
    threshold_tables,
)
from fairjax.selection.protocol import Rule
from fairjax.types import AnyArray


def best_threshold(
    measure: Measure,
    scores: Any,
    y: Any,
    a: Any,
    *,
    rule: Rule | None = None,
    count: int = 101,
    weights: Any = None,
) -> Evaluation:
    """Evaluate scores at the first of `count` equally spaced thresholds that maximises balanced accuracy.

    Args:
        measure: the measure of bias.
        scores: sigmoid outputs in (0, 1); for more than two classes, probabilities (n, classes), of which the largest
            decides, so that there is no threshold to search for.
        y: labels.
        a: protected attribute: booleans, or codes or memberships of as many groups as the measure has.
        rule: maximise this rule's score instead of balanced accuracy.
        count: number of thresholds in [0, 1].
        weights: sample weights; 1 if omitted.

    Returns:
        The evaluation at that threshold, which it contains.

    Example:
        >>> import jax.numpy as jnp
        >>> from fairjax.metrics import spd
        >>> y, a = jnp.array([True, False, True, False]), jnp.array([True, True, False, False])
        >>> round(best_threshold(spd, jnp.array([0.9, 0.105, 0.8, 0.705]), y, a).threshold.item(), 2)
        0.71
    """
    cuts, rows = metrics.threshold_grid(count), checked(measure, scores, y, a, weights)
    if num_classes(measure) > 2:
        return evaluate_decisions(measure, rows)
    return nan_if_invalid(rows, _best(measure, threshold_tables(measure, rows, cuts), cuts, rule))


def best_threshold_from_counts(
    measure: Measure,
    counts: metrics.Histogram,
    cuts: Float[AnyArray, " t"],
    rule: Rule | None = None,
    *,
    squared: metrics.Histogram | None = None,
) -> Evaluation:
    """Search for the best threshold, as `best_threshold` does, in a histogram of scores.

    Args:
        measure: the measure of bias.
        counts: result of `metrics.histogram` for these cuts, or a sum of such results.
        cuts: the thresholds in increasing order.
        rule: maximise this rule's score instead of balanced accuracy.
        squared: the histogram of squared weights, if rows have weights; see `evaluate_tables`.

    Returns:
        The evaluation at the first threshold with the maximum, which it contains.

    Example:
        >>> import jax.numpy as jnp
        >>> from fairjax.metrics import spd
        >>> y, a, cuts = jnp.array([True, False]), jnp.array([True, False]), metrics.threshold_grid(11)
        >>> counts = metrics.histogram(jnp.array([0.95, 0.15]), y, a, cuts)
        >>> round(best_threshold_from_counts(spd, counts, cuts).threshold.item(), 2)
        0.2
    """
    tables = ThresholdTables(
        metrics.tables_by_threshold(counts), None if squared is None else metrics.tables_by_threshold(squared)
    )
    return _best(measure, tables, cuts, rule)


def _best(measure: Measure, tables: ThresholdTables, cuts: Float[AnyArray, " t"], rule: Rule | None) -> Evaluation:
    evaluations = evaluate_tables(measure, cuts, *tables)
    best = first_max(evaluations.balanced_accuracy if rule is None else rule(evaluations))
    return jax.tree.map(lambda entry: entry[best], evaluations)
