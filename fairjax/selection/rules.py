"""The selection rules: Eq. 3, its expectation on new data, the same with pooled data, and a floor on accuracy."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.metrics.shrinkage import expected_range_within
from fairjax.registry import Registry, brief
from fairjax.selection.evaluation import Evaluation, Rates
from fairjax.selection.protocol import Rule
from fairjax.types import AnyArray, Number


def _check_bounds(epsilon: Number, margin: Number) -> None:
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
        _check_bounds(self.epsilon, self.margin)

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
        _check_bounds(self.epsilon, 0.0)
        _check_variance(self.variance)

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
        _check_bounds(self.epsilon, 0.0)
        _check_variance(self.variance)
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
        valid_variance, train_variance = self.variance * valid.noise, self.variance * train.noise + self.shift**2
        weight = valid_variance / jnp.maximum(valid_variance + train_variance, 1e-12)
        noise = weight * train_variance / self.variance  # the inverse of the sum of inverses
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
        _check_bounds(self.epsilon, self.margin)
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


def _check_variance(variance: Number) -> None:
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
    valid_variance = variance / jnp.where(valid.there, valid.sizes, 1.0)
    train_variance = variance / jnp.where(train.there, train.sizes, 1.0) + 0.5 * shift**2
    weight = jnp.where(train.there, valid_variance / (valid_variance + train_variance), 0.0)
    values = jnp.where(train.there, train.values, 0.0)
    values = jnp.where(valid.there, (1.0 - weight) * jnp.where(valid.there, valid.values, 0.0) + weight * values, 0.0)
    noise = jnp.where(train.there, weight * train_variance, valid_variance)
    return Rates(values, 2.0 * variance / (noise + valid_variance), valid.there)


def _range(rates: Rates) -> Float[Array, "*c"]:
    """Return the greatest range of a rate; NaN if no rate has two groups."""
    top = jnp.max(jnp.where(rates.there, rates.values, -jnp.inf), axis=-1)
    bottom = jnp.min(jnp.where(rates.there, rates.values, jnp.inf), axis=-1)
    comparable = jnp.sum(rates.there, axis=-1) >= 2
    widest = jnp.max(jnp.where(comparable, top - bottom, -jnp.inf), axis=-1)
    return jnp.where(jnp.any(comparable, axis=-1), widest, jnp.nan)


def constrained(accuracy: Float[AnyArray, "*c"], bias: Float[AnyArray, "*c"], bound: Number) -> Float[Array, "*c"]:
    """Compute Eq. 3: `accuracy` where |bias| < bound, else 0.

    Example:
        >>> constrained(jnp.array([0.7, 0.8]), jnp.array([-0.01, 0.06]), 0.05).tolist()
        [0.699999988079071, 0.0]
    """
    return jnp.where(jnp.abs(bias) < bound, accuracy, 0.0)


def _check_entry(name: str, kind: Any) -> None:
    """Check an entry of `RULES`, whose fields become settings that rules share by name."""
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise TypeError(f"the rule {name!r} must be a class that is a dataclass, got {brief(kind)}")
    if name == "none":
        raise ValueError("a rule cannot be named 'none', which stands for no rule in results: choose another name")
    try:
        rule = kind()
    except TypeError as error:
        raise TypeError(f"{kind.__name__} must have a default for each number: {error}") from error
    if not isinstance(rule, Rule):
        raise TypeError(f"{kind.__name__} must follow the protocol Rule: data, bound and __call__(evaluation)")
    if rule.data not in ("valid", "pooled") or (rule.data == "pooled" and not hasattr(rule, "pool")):
        raise TypeError(f"{kind.__name__}.data must be valid, or pooled with a function pool, got {rule.data!r}")
    if jax.tree_util.all_leaves([rule]):
        raise TypeError(f"{kind.__name__} must be a pytree: register it by jax.tree_util.register_dataclass")
    for field in dataclasses.fields(kind):
        if field.name in ("rule", "also"):
            raise ValueError(f"{kind.__name__}.{field.name} has the name of a setting of selection: rename it")
        for other_name, other_kind in RULES.items():
            default = getattr(other_kind(), field.name, None)
            if isinstance(default, int | float) and default != getattr(rule, field.name):
                raise ValueError(
                    f"{kind.__name__}.{field.name} is {getattr(rule, field.name)} and that of the rule {other_name!r} "
                    f"is {default}, but rules share the setting selection.{field.name}: rename it or use the same "
                    "default"
                )


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
    check=_check_entry,
)
"""The selection rules by name. There is no other list of them."""
