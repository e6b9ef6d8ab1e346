"""Thresholds by group against a plain search over all pairs, and against Fairlearn."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fairlearn.postprocessing import ThresholdOptimizer
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import balanced_accuracy_score

from fairjax import performance
from fairjax.objective import ConstrainedObjective, ExpectedObjective, best_threshold
from fairjax.parity import MEASURES
from fairjax.postprocessing import group_thresholds

search = jax.jit(group_thresholds, static_argnames=("measure", "count"))
RULE = ConstrainedObjective(epsilon=0.05, margin=0.01)


def rows(seed, n=600):
    """Scores that know the label, and a group whose scores are higher."""
    rng = np.random.default_rng(seed)
    a = rng.random(n) < 0.6
    y = rng.random(n) < np.where(a, 0.55, 0.35)
    scores = 1 / (1 + np.exp(-(1.5 * y + 0.8 * a - 1 + rng.normal(size=n))))
    return scores.astype(np.float32), y, a


def biased_by(measure, decisions, y, a):
    among = np.ones_like(y) if measure == "spd" else y
    return decisions[among & ~a].mean() - decisions[among & a].mean()


@pytest.mark.parametrize("measure", ["spd", "eod"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_pair_is_the_best_of_all_pairs(measure, seed):
    scores, y, a = rows(seed)
    cuts = np.asarray(performance.thresholds(15))
    best = 0.0
    for first, second in itertools.product(cuts, cuts):
        decisions = scores > np.where(a, second, first)
        if abs(biased_by(measure, decisions, y, a)) < 0.04:
            best = max(best, balanced_accuracy_score(y, decisions))
    found = search(MEASURES[measure], scores, y, a, rule=RULE, count=15)
    decisions = np.asarray(found.decide(scores, a))
    assert balanced_accuracy_score(y, decisions) == pytest.approx(best, abs=1e-5)
    assert found.evaluation.balanced_accuracy == pytest.approx(best, abs=1e-5)
    assert found.evaluation.bias == pytest.approx(biased_by(measure, decisions, y, a), abs=1e-5)
    assert found.evaluation.threshold == found.thresholds[1]


class Scores(ClassifierMixin, BaseEstimator):
    """A classifier whose features are its scores."""

    def fit(self, x, y):
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, x):
        return np.column_stack([1 - x[:, 0], x[:, 0]])


@pytest.mark.parametrize(
    ("measure", "constraint"), [("spd", "demographic_parity"), ("eod", "true_positive_rate_parity")]
)
@pytest.mark.parametrize("seed", [2, 3])
def test_fairlearn_agrees(measure, constraint, seed):
    """Fairlearn's exact parity by chance decisions is what pairs of thresholds come to when the bound is tight."""
    scores, y, a = rows(seed, 6000)
    theirs = ThresholdOptimizer(
        estimator=Scores().fit(None, None), constraints=constraint, objective="balanced_accuracy_score", prefit=True,
        predict_method="predict_proba", grid_size=2000,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wide_scores = scores.astype(float)[:, None]  # Fairlearn writes float64 into them
        theirs.fit(wide_scores, y.astype(int), sensitive_features=a.astype(int))
        accepted = theirs._pmf_predict(wide_scores, sensitive_features=a.astype(int))[:, 1]
    expected = 0.5 * (accepted[y].mean() + 1 - accepted[~y].mean())
    tight = search(MEASURES[measure], scores, y, a, rule=ConstrainedObjective(epsilon=0.005, margin=0.0), count=301)
    assert abs(biased_by(measure, accepted, y, a)) < 2e-3
    assert tight.evaluation.balanced_accuracy == pytest.approx(expected, abs=5e-3)
    wide = search(MEASURES[measure], scores, y, a, rule=RULE, count=301)
    assert wide.evaluation.balanced_accuracy > expected - 1e-3


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_two_thresholds_are_never_worse_than_one(seed):
    scores, y, a = rows(seed, 200)
    one = best_threshold(MEASURES["spd"], scores, y, a, rule=RULE)
    assert RULE(search(MEASURES["spd"], scores, y, a, rule=RULE, count=101).evaluation) >= RULE(one) - 1e-6


def test_groups_that_change_places_change_thresholds():
    scores, y, a = rows(5)
    rule = ExpectedObjective()
    one, other = (search(MEASURES["spd"], scores, y, group, rule=rule, count=101) for group in (a, ~a))
    assert RULE(one.evaluation) == pytest.approx(float(RULE(other.evaluation)), abs=1e-6)
    assert one.evaluation.balanced_accuracy == pytest.approx(float(other.evaluation.balanced_accuracy), abs=5e-3)


def test_many_seeds_are_each_seed_alone():
    stacked = [np.stack(column) for column in zip(*(rows(seed) for seed in range(3)), strict=True)]
    one = jax.jit(jax.vmap(lambda scores, y, a: group_thresholds(MEASURES["eod"], scores, y, a, rule=RULE)))(*stacked)
    for seed in range(3):
        alone = search(MEASURES["eod"], *rows(seed), rule=RULE, count=101)
        np.testing.assert_array_equal(one.thresholds[seed], alone.thresholds)


def test_each_row_is_decided_by_its_group_s_threshold():
    found = search(MEASURES["spd"], *rows(0), rule=RULE, count=101)._replace(thresholds=jnp.array([0.2, 0.8]))
    decided = found.decide(jnp.array([0.2, 0.3, 0.8, 0.9]), jnp.array([False, False, True, True]))
    assert decided.tolist() == [False, True, False, True]
