"""Curves over bounds and parameters: accuracy against bias, and sensitivity to the simulated bias."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from fairjax import selection
from fairjax.selection import Evaluation, Rule


def pareto(
    trajectories: pd.DataFrame, rules: Mapping[str, Callable[[float], Rule]], epsilons: Sequence[float]
) -> pd.DataFrame:
    """Compute the test results of each method if its candidate is selected for each of many bounds.

    Args:
        trajectories: a table with the columns of `trajectories.csv`.
        rules: functions from a bound to a rule, by name. Pooled rules are not possible, since trajectories contain no
            train data.
        epsilons: the bounds.

    Returns:
        One row per data set, measure, method, rule and bound: mean balanced accuracy, bias and |bias| over splits,
        median and quartiles of the objective at that bound, and the share of splits that meet it.
    """
    rows = []
    for keys, group in trajectories.groupby(["dataset", "measure", "method"], sort=False):
        if group["step"].max() == 0:
            continue
        parts = {part: _wide(group[group["part"] == part]) for part in ("valid", "test")}
        for name, rule in rules.items():
            for epsilon in epsilons:
                chosen = np.asarray(_choose(rule(epsilon), parts["valid"]))
                index = np.arange(len(chosen)), chosen
                accuracy = np.asarray(parts["test"].balanced_accuracy)[index]
                bias = np.asarray(parts["test"].bias)[index]
                reached = np.where(np.abs(bias) < epsilon, accuracy, 0.0)
                low, median, high = np.quantile(reached, [0.25, 0.5, 0.75])
                met = (np.abs(bias) < epsilon).mean()
                spread = accuracy.mean(), bias.mean(), np.abs(bias).mean()
                rows.append((*keys, name, epsilon, *spread, median, low, high, met))
    means = ["balanced_accuracy", "bias", "absolute_bias"]
    return pd.DataFrame(
        rows, columns=["dataset", "measure", "method", "rule", "epsilon", *means, "objective", "low", "high", "share"]
    )


def sensitivity(trajectories: pd.DataFrame, rule: Callable[[float], Rule], epsilons: Sequence[float]) -> pd.DataFrame:
    """Summarise Figure 3: bias and accuracy of the original network and the debiased objective, by simulated parameter.

    Args:
        trajectories: a table with the columns of `trajectories.csv`, from runs with a sweep.
        rule: a function from a bound to the selection rule.
        epsilons: the bounds.

    Returns:
        One row per data set, measure, method, parameter and bound: mean and standard deviation over simulations of the
        original network's balanced accuracy and bias on test data, and median and quartiles of the debiased objective.
    """
    rows = []
    for keys, group in trajectories.groupby(["dataset", "measure", "method", "parameter"], sort=False):
        if group["step"].max() == 0:
            continue
        valid, test = (_wide(group[group["part"] == part]) for part in ("valid", "test"))
        original = [np.asarray(values)[:, 0] for values in (test.balanced_accuracy, test.bias)]
        begun = [number for values in original for number in (values.mean(), values.std(ddof=1))]
        for epsilon in epsilons:
            chosen = np.asarray(_choose(rule(epsilon), valid))
            index = np.arange(len(chosen)), chosen
            accuracy, bias = (np.asarray(values)[index] for values in (test.balanced_accuracy, test.bias))
            low, median, high = np.quantile(np.where(np.abs(bias) < epsilon, accuracy, 0.0), [0.25, 0.5, 0.75])
            rows.append((*keys, *begun, epsilon, median, low, high))
    names = ["balanced_accuracy", "balanced_accuracy_deviation", "bias", "bias_deviation", "epsilon"]
    return pd.DataFrame(rows, columns=["dataset", "measure", "method", "parameter", *names, "objective", "low", "high"])


def front(points: pd.DataFrame) -> pd.Series:
    """Mark the points that no other point of the same data set and measure beats in both accuracy and |bias|.

    Args:
        points: a table with columns dataset, measure, balanced_accuracy and absolute_bias, such as those from `pareto`.

    Returns:
        Booleans with the index of the points.
    """
    flags = pd.Series(False, index=points.index)
    for _, group in points.groupby(["dataset", "measure"], sort=False):
        accuracy, bias = (group[name].to_numpy()[:, None] for name in ("balanced_accuracy", "absolute_bias"))
        no_worse = (accuracy.T >= accuracy) & (bias.T <= bias)
        better = (accuracy.T > accuracy) | (bias.T < bias)
        flags.loc[group.index] = ~(no_worse & better).any(axis=1)
    return flags


@jax.jit
def _choose(rule: Rule, valid: Evaluation):
    """Return the candidate that a rule selects for each seed."""
    return jax.vmap(lambda evaluation: selection.first_max(rule(evaluation)))(valid)


def _wide(rows: pd.DataFrame) -> Evaluation:
    """Convert rows of trajectories to an evaluation (seeds, candidates)."""
    ordered = rows.sort_values(["seed", "step"], kind="stable")
    shape = (rows["seed"].nunique(), -1)
    columns = (ordered[name].to_numpy(np.float32).reshape(shape) for name in Evaluation._fields[:4])
    return Evaluation(*map(jnp.asarray, columns))
