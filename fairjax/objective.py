"""Threshold search, and the rules that select one of many candidate networks.

A rule turns an `Evaluation` on validation data into a score; the candidate with the highest score is selected, the
first on ties. Rules are interchangeable: any object that follows the protocol `Rule` can be used.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fairjax import checks, metrics, performance
from fairjax.metrics import Parity, Smooth
from fairjax.metrics.gaps import spread
from fairjax.metrics.shrinkage import expected_range_within
from fairjax.parity import Measure, checked, num_classes, num_groups
from fairjax.registry import Registry
from fairjax.types import AnyArray, Number

TIE = 1e-6
"""Scores in [0, 1] that differ by less are ties: a few float32 roundings, so that ties do not depend on the device."""


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
    """Squared derivative of the measure summed over rows (`performance.noise_of_table`): 1/n_0 + 1/n_1 for spd."""
    table: Float[Array, "*c P Y G"] | None = None
    """Counts by decision, label and group, from which all other measures can be computed."""
    rates: Rates | None = None
    """The rates of the groups, if the measure is the range of the rates of more than two groups."""


@runtime_checkable
class Rule(Protocol):
    """Rule that scores candidates by their evaluation on validation data."""

    @property
    def data(self) -> str:
        """The data from which the bias is estimated: "valid" or "pooled"; in the latter case, the rule has `pool`."""
        ...

    @property
    def bound(self) -> Number:
        """The bound of the constraint: a candidate satisfies it if its |bias| is below."""
        ...

    def __call__(self, evaluation: Evaluation) -> Float[Array, "*c"]:
        """Score a candidate; higher is better."""
        ...


def _bounds(epsilon: Number, margin: Number) -> None:
    if isinstance(epsilon, int | float) and not 0 < epsilon < float("inf"):
        raise ValueError(
            f"epsilon, the bound on |bias|, must be positive, got {epsilon}"
            + (": it has to be finite" if epsilon > 0 else "")
        )
    if isinstance(epsilon, int | float) and isinstance(margin, int | float) and not 0 <= margin < epsilon:
        raise ValueError(f"margin must be at least 0 and less than epsilon = {epsilon}, got {margin}")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class ConstrainedObjective:
    """Balanced accuracy if |bias| < epsilon - margin, else 0 (Eq. 3).

    Example:
        >>> evaluation = Evaluation(*map(jnp.array, (0.5, 0.8, -0.03, 0.01)))
        >>> ConstrainedObjective(epsilon=0.05, margin=0.01)(evaluation).item()
        0.800000011920929
    """

    epsilon: Number = 0.05
    """Bound on |bias| (Eq. 3)."""
    margin: Number = 0.01
    """Margin to the bound that a candidate must keep on validation data (gamma of Algorithms 1 and 2)."""

    def __post_init__(self):
        """Check that the bound can be met."""
        _bounds(self.epsilon, self.margin)

    @property
    def data(self) -> str:
        """The data from which the bias is estimated, validation data."""
        return "valid"

    @property
    def bound(self) -> Number:
        """The bound on validation data, epsilon minus the margin."""
        return self.epsilon - self.margin

    def __call__(self, evaluation: Evaluation) -> Float[Array, "*c"]:
        """Compute the constrained objective (Eq. 3)."""
        return constrained(evaluation.balanced_accuracy, evaluation.bias, self.bound)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class ExpectedObjective:
    """Expectation of Eq. 3 on new data of the same size: BA * P(|b + noise| < epsilon), noise ~ N(0, 2 SE^2).

    The bias of a candidate is known up to the standard error SE of the validation part, and new data add noise of the
    same size. SE^2 = variance * (1/n_0 + 1/n_1), where the groups are restricted to the rows on which the measure is
    conditioned.

    The range of the rates of more than two groups has a different distribution: then P is the probability that all
    rates on new data lie within epsilon of each other, with rates shrunk by empirical Bayes; see
    `fairjax.metrics.shrinkage.expected_range_within`. Several rates are treated as independent.

    Example:
        >>> evaluation = Evaluation(*map(jnp.array, (0.5, 0.8, 0.05, 0.001)))
        >>> round(ExpectedObjective()(evaluation).item(), 3)  # on the bound: right half the time
        0.4
    """

    epsilon: Number = 0.05
    """Bound on |bias| (Eq. 3)."""
    variance: Number = 0.2
    """Variance of a decision, p (1 - p)."""

    def __post_init__(self):
        """Validate bounds and variances."""
        _bounds(self.epsilon, 0.0)
        _variance(self.variance)

    @property
    def data(self) -> str:
        """The data from which the bias is estimated, validation data."""
        return "valid"

    @property
    def bound(self) -> Number:
        """The bound, epsilon; the noise takes the place of a margin."""
        return self.epsilon

    def __call__(self, evaluation: Evaluation) -> Float[Array, "*c"]:
        """Compute the expected objective."""
        return _expectation(evaluation, self.variance, self.epsilon)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class PooledObjective:
    """Expectation of Eq. 3 on new data, with the bias estimated from train and validation data together.

    The train part has three times as many rows as the validation part, so its bias is estimated more precisely; but the
    network was fitted to those rows, so its bias shifts on new data. With the standard error SE of a part and the
    standard deviation of the shift, the two estimates are weighted by the inverses of SE_valid^2 and of
    SE_train^2 + shift^2: on small data the training estimate dominates, on large data the validation estimate. For more
    than two groups, the rate of each group is pooled in this way, and the range is that of the pooled rates.

    Example:
        >>> valid, train = (Evaluation(*map(jnp.array, (0.5, 0.8, bias, 0.01))) for bias in (0.06, 0.02))
        >>> rule = PooledObjective(shift=0.0)
        >>> round(rule.pool(valid, train).bias.item(), 3)
        0.04
    """

    epsilon: Number = 0.05
    """Bound on |bias| (Eq. 3)."""
    variance: Number = 0.2
    """Variance of a decision, p (1 - p)."""
    shift: Number = 0.03
    """Standard deviation of the shift of the bias between the rows to which the network was fitted and new rows."""

    def __post_init__(self):
        """Validate bounds and variances."""
        _bounds(self.epsilon, 0.0)
        _variance(self.variance)
        if isinstance(self.shift, int | float) and not 0 <= self.shift < float("inf"):
            raise ValueError(f"shift is a standard deviation and must not be negative, got {self.shift}")

    @property
    def data(self) -> str:
        """The data from which the bias is estimated, train and validation data."""
        return "pooled"

    @property
    def bound(self) -> Number:
        """The bound, epsilon; the noise takes the place of a margin."""
        return self.epsilon

    def pool(self, valid: Evaluation, train: Evaluation) -> Evaluation:
        """Pool the bias of both parts into the evaluation on validation data, with the noise of the pooled estimate.

        Args:
            valid: evaluation on validation data.
            train: evaluation on train data, at the same threshold.

        Returns:
            The evaluation that `__call__` takes. Twice its noise is the total noise of the estimate and of new data of
            the size of the validation part.
        """
        ours, theirs = self.variance * valid.noise, self.variance * train.noise + self.shift**2
        weight = ours / jnp.maximum(ours + theirs, 1e-12)
        noise = weight * theirs / self.variance  # 1 / (1 / ours + 1 / theirs), in units of the variance
        bias = (1.0 - weight) * valid.bias + weight * train.bias
        rates = None
        if valid.rates is not None and train.rates is not None:  # the range of means is not the mean of ranges
            rates = _pooled_rates(valid.rates, train.rates, self.variance, self.shift)
            bias = jnp.where(jnp.isnan(valid.bias), jnp.nan, _range(rates))
        return valid._replace(bias=bias, noise=0.5 * (noise + valid.noise), rates=rates)

    def __call__(self, evaluation: Evaluation) -> Float[Array, "*c"]:
        """Compute the expected objective from the result of `pool`."""
        return _expectation(evaluation, self.variance, self.epsilon)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class AccuracyFloor:
    """Least |bias| among candidates whose balanced accuracy reaches a floor (the authors' later code).

    Example:
        >>> evaluation = Evaluation(*map(jnp.array, (0.5, 0.8, -0.25, 0.01)))
        >>> AccuracyFloor(floor=0.6)(evaluation).item(), AccuracyFloor(floor=0.9)(evaluation).item()
        (0.75, 0.0)
    """

    floor: Number = 0.55
    """Least balanced accuracy on validation data."""
    epsilon: Number = 0.05
    """Bound on |bias| below which the selected candidate counts as satisfying."""
    margin: Number = 0.01
    """Margin to the bound that the candidate must keep on validation data."""

    def __post_init__(self):
        """Validate floor and bounds."""
        _bounds(self.epsilon, self.margin)
        if isinstance(self.floor, int | float) and not 0 <= self.floor < 1:
            raise ValueError(f"floor is a balanced accuracy, in [0, 1), got {self.floor}")

    @property
    def data(self) -> str:
        """The data from which the bias is estimated, validation data."""
        return "valid"

    @property
    def bound(self) -> Number:
        """The bound on validation data, epsilon minus the margin."""
        return self.epsilon - self.margin

    def __call__(self, evaluation: Evaluation) -> Float[Array, "*c"]:
        """Return 1 - |bias| above the floor and 0 below it."""
        reached = evaluation.balanced_accuracy >= self.floor
        return jnp.where(reached, 1.0 - jnp.minimum(jnp.abs(evaluation.bias), 1.0), 0.0)


def _variance(variance: Number) -> None:
    if isinstance(variance, int | float) and not 0 < variance <= 0.25:
        raise ValueError(f"variance is p (1 - p) of a decision, in (0, 0.25], got {variance}")


def _expectation(evaluation: Evaluation, variance: Number, epsilon: Number) -> Float[Array, "*c"]:
    """Compute BA * P(|b + noise| < epsilon) for decisions with this variance."""
    if evaluation.rates is not None:
        within = expected_range_within(*evaluation.rates, epsilon, variance)
        inside = jnp.prod(jnp.where(jnp.isnan(within), 1.0, within), axis=-1)
        return evaluation.balanced_accuracy * jnp.where(jnp.isnan(evaluation.bias), jnp.nan, inside)
    spread = jnp.maximum(jnp.sqrt(2.0 * variance * evaluation.noise), 1e-9)
    inside = jax.scipy.stats.norm.cdf((epsilon - evaluation.bias) / spread)
    inside -= jax.scipy.stats.norm.cdf((-epsilon - evaluation.bias) / spread)
    return evaluation.balanced_accuracy * inside


def _pooled_rates(valid: Rates, train: Rates, variance: Number, shift: Number) -> Rates:
    """Pool the rates of two parts by inverse variance; each rate has half the shift variance of a difference.

    The sizes are such that twice the variance of a decision divided by them is the variance of the estimate and of new
    data.
    """
    ours = variance / jnp.where(valid.there, valid.sizes, 1.0)
    theirs = variance / jnp.where(train.there, train.sizes, 1.0) + 0.5 * shift**2
    weight = jnp.where(train.there, ours / (ours + theirs), 0.0)
    values = jnp.where(train.there, train.values, 0.0)
    values = jnp.where(valid.there, (1.0 - weight) * jnp.where(valid.there, valid.values, 0.0) + weight * values, 0.0)
    noise = jnp.where(train.there, weight * theirs, ours)
    return Rates(values, 2.0 * variance / (noise + ours), valid.there)


def _range(rates: Rates) -> Float[Array, "*c"]:
    """Return the greatest range of a rate; NaN if no rate has two groups."""
    top = jnp.max(jnp.where(rates.there, rates.values, -jnp.inf), axis=-1)
    bottom = jnp.min(jnp.where(rates.there, rates.values, jnp.inf), axis=-1)
    comparable = jnp.sum(rates.there, axis=-1) >= 2
    found = jnp.max(jnp.where(comparable, top - bottom, -jnp.inf), axis=-1)
    return jnp.where(jnp.any(comparable, axis=-1), found, jnp.nan)


def constrained(accuracy: Float[AnyArray, "*c"], bias: Float[AnyArray, "*c"], bound: Number) -> Float[Array, "*c"]:
    """Compute Eq. 3: `accuracy` where |bias| < bound, else 0.

    Example:
        >>> constrained(jnp.array([0.7, 0.8]), jnp.array([-0.01, 0.06]), 0.05).tolist()
        [0.699999988079071, 0.0]
    """
    return jnp.where(jnp.abs(bias) < bound, accuracy, 0.0)


def first_max(scores: Float[Array, " c"]) -> Int[Array, ""]:
    """Return the position of the highest score, the first on ties; NaN is never the highest.

    Example:
        >>> first_max(jnp.array([0.1, 0.7, 0.7])).item()
        1
    """
    scores = jnp.where(jnp.isnan(scores), -jnp.inf, scores)
    return jnp.argmax(scores >= jnp.max(scores) - TIE).astype(jnp.int32)


def improves(score: Float[Array, ""], best: Float[Array, ""]) -> Bool[Array, ""]:
    """Return whether a later candidate's score is better than the best so far; ties and NaN are no improvement.

    Example:
        >>> improves(jnp.array(0.7), jnp.array(0.7)).item()
        False
    """
    return score > best + TIE


def by_threshold(measure: Measure, counts: performance.Histogram, cuts: Float[AnyArray, " t"]) -> Evaluation:
    """Evaluate at every threshold, from a histogram of scores.

    Args:
        measure: the measure of bias.
        counts: result of `performance.histogram` for these cuts.
        cuts: the thresholds.

    Returns:
        An evaluation with one entry per threshold.
    """
    return of_tables(measure, cuts, performance.tables(counts))


def of_tables(
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
    bias = jax.vmap(partial(performance.of_table, measure))(table, squared, whole)
    comparable = jax.vmap(partial(performance.is_defined, measure))(table, squared)
    return Evaluation(
        threshold=jnp.asarray(threshold),
        balanced_accuracy=jax.vmap(performance.accuracy_of_table)(table),
        bias=jnp.where(comparable, bias, jnp.nan),
        noise=jax.vmap(partial(performance.noise_of_table, measure))(table, squared, whole),
        table=table,
        rates=_rates(measure, table, squared),
    )


def has_range(measure: Measure) -> bool:
    """Return whether a measure is the greatest range of rates, so that its bias is determined by the groups' rates."""
    if not isinstance(measure, Parity):
        return False
    ranged = measure.across is spread or isinstance(measure.across, Smooth)
    return ranged and (len(measure.rates) == 1 or measure.over == "max")


def _rates(measure: Measure, table: Float[Array, "t P Y G"], squared: Float[Array, "t P Y G"] | None) -> Rates | None:
    """Compute the rates of the groups, if more than two are compared."""
    if table.shape[-1] == 2 or not has_range(measure):
        return None
    return Rates(*jax.vmap(measure.compared)(table, squared))


def at_threshold(
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
        >>> from fairjax.parity import spd
        >>> y, a = jnp.array([True, False, True, False]), jnp.array([True, True, False, False])
        >>> at_threshold(spd, jnp.array([0.9, 0.1, 0.8, 0.7]), y, a, jnp.array(0.5)).bias.item()
        0.5
    """
    rows = checked(measure, scores, y, a, weights)
    if num_classes(measure) > 2:
        return _decided(measure, rows)
    threshold = checks.floating(threshold)
    if threshold.ndim or not (isinstance(threshold, jax.core.Tracer) or jnp.isfinite(threshold)):
        raise ValueError(f"threshold must be one finite number, got {threshold}")
    rows = rows._replace(valid=checks.both(rows.valid, jnp.isfinite(threshold)))
    cuts = threshold[None]
    every = of_tables(measure, cuts, *_tables(measure, rows, cuts))
    return _or_nan(rows, jax.tree.map(lambda entry: entry[0], every))


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
        >>> from fairjax.parity import spd
        >>> y, a = jnp.array([True, False, True, False]), jnp.array([True, True, False, False])
        >>> round(best_threshold(spd, jnp.array([0.9, 0.105, 0.8, 0.705]), y, a).threshold.item(), 2)
        0.71
    """
    cuts, rows = performance.thresholds(count), checked(measure, scores, y, a, weights)
    if num_classes(measure) > 2:
        return _decided(measure, rows)
    return _or_nan(rows, _best(measure, _tables(measure, rows, cuts), cuts, rule))


class Tables(NamedTuple):
    """Confusion tables at every threshold."""

    table: Float[Array, "t P Y G"]
    squared: Float[Array, "t P Y G"] | None = None
    """Sums of squared weights, if rows have weights."""
    whole: Float[Array, "t P Y"] | None = None
    """Counts of all rows, if groups overlap and the measure depends on the rate of all rows."""


def _tables(measure: Measure, rows: checks.Rows, cuts: Float[Array, " t"]) -> Tables:
    """Compute the confusion tables at every threshold."""

    def count(rows: checks.Rows, groups: int, **options: bool) -> Float[Array, "t 2 2 G"]:
        return performance.tables(performance.histogram_of_rows(rows, cuts, groups, **options))

    return _all_tables(measure, rows, count)


def _all_tables(measure: Measure, rows: checks.Rows, count: Callable[..., Float[Array, "t P Y G"]]) -> Tables:
    """Collect the results of `count(rows, groups, squared=...)` for groups, for squared weights and for all rows."""
    groups = num_groups(measure, rows.a)
    squared = None if rows.weights is None else count(rows, groups, squared=True)
    whole = None
    if rows.a.ndim == 2 and isinstance(measure, Parity) and not measure.is_local:
        whole = count(rows._replace(a=jnp.zeros(rows.y.shape, jnp.int32)), 1)[..., 0]
    return Tables(_solved(measure, rows, count(rows, groups)), squared, whole)


def _solved(measure: Measure, rows: checks.Rows, table: Float[Array, "t P Y G"]) -> Float[Array, "t P Y G"]:
    """Convert tables to the measure's way of counting memberships."""
    if not isinstance(measure, Parity) or rows.a.ndim != 2 or measure.membership != "solved":
        return table
    products = metrics.gram(rows.a, rows.weights)
    return jax.vmap(lambda cell: metrics.solved(cell, products, measure.blocks))(table)


def _decided(measure: Measure, rows: checks.Rows) -> Evaluation:
    """Evaluate the decisions for the most probable class."""
    classes = num_classes(measure)
    decisions = jax.nn.one_hot(jnp.argmax(rows.values, axis=1), classes, dtype=rows.values.dtype)

    def count(rows: checks.Rows, groups: int, *, squared: bool = False) -> Float[Array, "1 P Y G"]:
        weights = rows.weights**2 if squared and rows.weights is not None else rows.weights
        given: dict[str, Any] = {"num_groups": groups, "num_classes": classes, "weights": weights}
        return metrics.confusion(decisions, rows.y, rows.a, **given)[None]

    tables = _all_tables(measure, rows, count)
    every = of_tables(measure, jnp.full(1, jnp.nan, tables.table.dtype), *tables)
    finite = jnp.all(jnp.isfinite(rows.values))  # argmax of NaN would be a valid class
    every = every._replace(
        balanced_accuracy=jnp.where(finite, every.balanced_accuracy, jnp.nan),
        bias=jnp.where(finite, every.bias, jnp.nan),
    )
    return _or_nan(rows, jax.tree.map(lambda entry: entry[0], every))


def _or_nan(rows: checks.Rows, evaluation: Evaluation) -> Evaluation:
    """Return the evaluation, with accuracy and bias NaN if a traced row is invalid."""
    accuracy, bias = rows.or_nan(evaluation.balanced_accuracy), rows.or_nan(evaluation.bias)
    return evaluation._replace(balanced_accuracy=accuracy, bias=bias)


def best_of_counts(
    measure: Measure,
    counts: performance.Histogram,
    cuts: Float[AnyArray, " t"],
    rule: Rule | None = None,
    *,
    squared: performance.Histogram | None = None,
) -> Evaluation:
    """Search for the best threshold, as `best_threshold` does, in a histogram of scores.

    Args:
        measure: the measure of bias.
        counts: result of `performance.histogram` for these cuts, or a sum of such results.
        cuts: the thresholds in increasing order.
        rule: maximise this rule's score instead of balanced accuracy.
        squared: the histogram of squared weights, if rows have weights; see `of_tables`.

    Returns:
        The evaluation at the first threshold with the maximum, which it contains.

    Example:
        >>> from fairjax.parity import spd
        >>> y, a, cuts = jnp.array([True, False]), jnp.array([True, False]), performance.thresholds(11)
        >>> counts = performance.histogram(jnp.array([0.95, 0.15]), y, a, cuts)
        >>> round(best_of_counts(spd, counts, cuts).threshold.item(), 2)
        0.2
    """
    tables = Tables(performance.tables(counts), None if squared is None else performance.tables(squared))
    return _best(measure, tables, cuts, rule)


def _best(measure: Measure, tables: Tables, cuts: Float[AnyArray, " t"], rule: Rule | None) -> Evaluation:
    every = of_tables(measure, cuts, *tables)
    chosen = first_max(every.balanced_accuracy if rule is None else rule(every))
    return jax.tree.map(lambda entry: entry[chosen], every)


RULES: Registry[Callable[..., Rule]] = Registry(
    "rule",
    {
        "objective": ConstrainedObjective,
        "expected": ExpectedObjective,
        "pooled": PooledObjective,
        "accuracy_floor": AccuracyFloor,
    },
    labels={
        "objective": "Eq. 3",
        "expected": "expected",
        "pooled": "pooled",
        "accuracy_floor": "accuracy floor",
    },
)
"""The selection rules by name. There is no other list of them."""
