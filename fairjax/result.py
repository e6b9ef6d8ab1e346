"""The result of debiasing: the selected network, how it was selected, and the evaluations of all candidates."""

import dataclasses
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from fairjax import checks
from fairjax.methods.base import Method, name_of
from fairjax.metrics import MEASURES, Measure, num_classes, probabilities
from fairjax.nn.network import Network
from fairjax.selection import Evaluation, PooledObjective, Rule
from fairjax.types import Number, Variables


class Trace(NamedTuple):
    """Evaluations of all candidates, with a leading axis of candidates, candidate 0 first."""

    valid: Evaluation
    """Evaluations on validation data, on which threshold and candidate are chosen."""
    test: Evaluation
    """Evaluations on test data at the same thresholds; used for curves only, no choice depends on them."""
    train: Evaluation | None = None
    """Evaluations on train data at the same thresholds, if the rule needs them."""

    def for_rule(self, rule: Rule) -> Evaluation:
        """Return the evaluation that a rule uses.

        Raises:
            ValueError: if the trace does not have it.
        """
        if rule.data == "valid":
            return self.valid
        if self.train is None:
            raise ValueError(
                f"{type(rule).__name__} looks at train data too, on which these candidates were not evaluated: choose "
                "them by this rule when they are made, as fairjax.debias does"
            )
        return cast(PooledObjective, rule).pool(self.valid, self.train)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Debiased:
    """A debiased network. Its arrays have a leading axis of seeds if many seeds were debiased."""

    variables: Variables
    """The selected network: parameters, statistics and masks."""
    threshold: Float[Array, "*seeds"]
    """Threshold of the selected network, chosen on validation data."""
    trace: Trace
    """Evaluations of all candidates."""
    selected: Int[Array, "*seeds"]
    """Number of the selected candidate; 0 is the original network."""
    satisfied: Bool[Array, "*seeds"]
    """Whether the selected candidate meets the rule's bound on validation data."""
    diverged: Bool[Array, "*seeds"]
    """Whether a candidate's output was not finite; the run stopped there, and earlier candidates remain valid."""
    undefined: Bool[Array, "*seeds"]
    """Whether the selected candidate's bias cannot be computed, because a group that the measure compares has no rows
    in the validation data. `satisfied` is then false, whatever the network does."""
    method: Method
    """The method."""
    bound: Number
    """The rule's bound on |bias|."""
    mean: Float[Array, "*seeds d"] | None = None
    """Mean of each feature over the train part; None if features are not standardised."""
    scale: Float[Array, "*seeds d"] | None = None
    """Standard deviation of each feature over the train part; None if features are not standardised."""
    network: Network = dataclasses.field(metadata={"static": True})
    """The network's functions."""
    measure: Measure = dataclasses.field(metadata={"static": True})
    """The measure of bias."""
    inputs: checks.InputLayout | None = dataclasses.field(default=None, metadata={"static": True})
    """The structure, shape and dtype of one row of the features, which new rows are checked against; None if it is not
    known."""

    def scores(self, x: Any) -> Float[Array, "..."]:
        """Compute the selected network's scores of new rows.

        Args:
            x: features as in the split's table, not standardised: (n, features), or an array or tree like the split's
                with n rows on axis 0.

        Returns:
            The probability of class 1 for each row, or of each class if there are more than two; for many seeds, with a
            leading axis of seeds.

        Raises:
            ValueError: if x is not like the split's table, such as one with a different number of features.
        """
        if self.mean is None:
            return self._unscaled_scores(x)
        x = checks.numeric("x", x)
        if x.ndim < 2 or x.shape[1] != self.mean.shape[-1]:
            raise ValueError(
                f"x must have rows of {self.mean.shape[-1]} features, shape (n, {self.mean.shape[-1]}), found shape "
                f"{x.shape}: pass the same features as in the split's table, in the same order"
            )
        x = jnp.asarray(x)

        def seed_scores(variables, mean, scale):
            rows = (x.astype(mean.dtype) - mean[None]) / scale[None]
            return probabilities(self.network.apply(variables, rows)[0])

        return (jax.vmap(seed_scores) if self.threshold.ndim else seed_scores)(self.variables, self.mean, self.scale)

    def _unscaled_scores(self, x: Any) -> Float[Array, "..."]:
        """Compute the scores of rows that are not standardised."""
        x, valid = checks.checked_inputs("x", x)
        if self.inputs is not None:
            checks.check_layout("x", x, self.inputs)
        x = jax.tree.map(jnp.asarray, x)

        def seed_scores(variables):
            return probabilities(self.network.apply(variables, x)[0])

        return checks.nan_unless(valid, (jax.vmap(seed_scores) if self.threshold.ndim else seed_scores)(self.variables))

    def decide(self, x: Any) -> Bool[Array, "*seeds n"] | Int[Array, "*seeds n"]:
        """Make decisions for new rows with the selected network.

        Args:
            x: features as in the split's table, not standardised, as for `scores`.

        Returns:
            Whether each row is accepted, that is, its score exceeds the threshold; for more than two classes, the most
            probable class. For many seeds, one row of decisions per seed.

        Raises:
            ValueError: if x is not like the split's table, such as one with a different number of features.
        """
        scores = self.scores(x)
        if num_classes(self.measure) > 2:
            return jnp.argmax(scores, axis=-1).astype(jnp.int32)
        return scores > self.threshold[..., None]

    def __repr__(self) -> str:
        """Summarise what was selected, bias and accuracy before and after, and whether and why the bound is not met."""
        if isinstance(self.selected, Tracer):
            return f"Debiased({name_of(type(self.method))}, traced)"
        if jnp.ndim(self.selected) > 1:
            return f"Debiased({name_of(type(self.method))}, seeds of shape {np.shape(self.selected)})"
        return "\n".join(_described(self))


def _described(result: Debiased) -> list[str]:
    selected, count = np.asarray(result.selected), np.shape(result.trace.valid.bias)[-1]
    has_seeds = selected.ndim == 1
    head = f"{name_of(type(result.method))} of {_name(result.measure)}"
    if has_seeds:
        lines = [f"{head}: {len(selected)} seeds, {count} candidates each; means over seeds"]
    else:
        selection = "the network as given" if selected == 0 else f"candidate {selected}"
        lines = [f"{head}: {selection} selected, of {count} candidates"]
    lines.append(f"{'':<20}{'validation':^20}{'test':^20}".rstrip())
    lines.append(f"{'':<20}" + f"{'before':>9}{'after':>9}  " * 2)
    for name, field in (("balanced accuracy", "balanced_accuracy"), ("|bias|" if has_seeds else "bias", "bias")):
        cells = ""
        for part in (result.trace.valid, result.trace.test):
            values = np.atleast_2d(np.asarray(getattr(part, field)))
            values = np.abs(values) if has_seeds else values  # signs of several seeds would cancel
            after = np.take_along_axis(values, np.atleast_1d(selected)[:, None], axis=1)[:, 0]
            cells += "".join(f"{_mean(entries):>9.3f}" for entries in (values[:, 0], after)) + "  "
        lines.append(f"{name:<20}{cells}".rstrip())
    bound = np.ravel(np.asarray(result.bound))[0]
    satisfied = np.asarray(result.satisfied)
    if has_seeds:
        lines.append(f"|bias| < {bound:.3g} on validation data: met by {satisfied.sum()} of {satisfied.size} seeds")
        reasons = {"undefined bias": result.undefined, "diverged": result.diverged}
        lines += [f"{name}: {np.sum(flags)} seeds" for name, flags in reasons.items() if np.any(flags)]
    else:
        lines.append(f"|bias| < {bound:.3g} on validation data: {'met' if satisfied else 'not met, ' + _why(result)}")
        if satisfied and result.diverged:
            lines.append("the outputs of later candidates were not finite")
    return [line.rstrip() for line in lines]


def _why(result: Debiased) -> str:
    """Explain why the bound is not met."""
    if result.undefined:
        return "since the bias cannot be computed: a group that the measure compares has no rows there"
    if result.diverged and result.selected == 0:
        return "since the outputs of candidates were not finite: a smaller step size may help"
    smallest = np.nanmin(np.abs(np.asarray(result.trace.valid.bias)))
    if smallest >= np.ravel(np.asarray(result.bound))[0]:
        return f"since the smallest |bias| of all candidates is {smallest:.3f}"
    return "since the rule prefers another candidate to those that meet it"


def _mean(values: np.ndarray) -> float:
    """Compute the mean of the values that are not NaN; NaN if all are."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def _name(measure: Measure) -> str:
    """Return the name of a measure."""
    for name, registered in MEASURES.items():
        if registered is measure:
            return name
    return getattr(measure, "__name__", type(measure).__name__)
