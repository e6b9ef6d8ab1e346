"""Group thresholds of every registered measure, compared with a plain search over all combinations."""

import itertools

import jax
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from fairjax import metrics
from fairjax.metrics import MEASURES
from fairjax.postprocess import group_thresholds
from fairjax.selection import ConstrainedObjective

search = jax.jit(group_thresholds, static_argnames=("measure", "count"))


def rows_of_groups(count, n=400):
    """Return scores that are informative about the label and increase with the group's code."""
    rng = np.random.default_rng(11)
    a = rng.integers(0, count, n).astype(np.int32)
    y = rng.random(n) < 0.35 + 0.1 * a / count
    scores = 1 / (1 + np.exp(-(1.5 * y + 0.5 * a - 1 + rng.normal(size=n))))
    return scores.astype(np.float32), y, a


def bias_by_hand(name, decisions, y, a, count):
    """Compute a measure of `MEASURES` with a loop over groups; NaN if a rate of a group is not defined."""

    def rates(values, among):
        chosen = [values[among & (a == g)] for g in range(count)]
        return np.array([part.mean() if part.size else np.nan for part in chosen])

    every = np.ones_like(y)
    selected, true, false = (rates(decisions, among) for among in (every, y, ~y))
    if name == "average_odds":
        return abs(np.diff(true) + np.diff(false))[0] / 2 if count == 2 else (np.ptp(true) + np.ptp(false)) / 2
    if name == "equalized_odds":
        return max(np.ptp(true), np.ptp(false))
    if name == "parity_ratio":
        return 1 - selected.min() / selected.max() if selected.max() > 0 else np.nan
    compared = {"spd": selected, "eod": true, "fprd": false, "ppd": rates(y, decisions), "accuracy": None}[name]
    return np.ptp(rates(decisions == y, every) if compared is None else compared)


@pytest.mark.parametrize("count", [pytest.param(2, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("name", MEASURES)
def test_thresholds_of_every_measure_are_the_best_of_all_combinations(name, count):
    scores, y, a = rows_of_groups(count)
    cuts, rule = np.asarray(metrics.threshold_grid(5)), ConstrainedObjective(epsilon=0.13)

    def score(thresholds):
        decisions = scores > np.asarray(thresholds)[a]
        within = bias_by_hand(name, decisions, y, a, count) < rule.bound
        return balanced_accuracy_score(y, decisions) if within else 0.0

    best = max(score(combination) for combination in itertools.product(cuts, repeat=count))
    groups = a if count > 2 else a.astype(bool)
    found = search(metrics.make_measure(name, count), scores, y, groups, rule=rule, count=5)
    reached = score(found.thresholds)
    assert float(rule(found.evaluation)) == pytest.approx(reached, abs=1e-5)
    assert reached == pytest.approx(best, abs=2e-6)
    assert abs(found.evaluation.bias) == pytest.approx(
        bias_by_hand(name, scores > np.asarray(found.thresholds)[a], y, a, count), abs=1e-5
    )
