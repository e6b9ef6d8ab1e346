"""Thresholds by group, compared with a plain search over all pairs and with Fairlearn."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pandas as pd
import pytest
from fairlearn.postprocessing import ThresholdOptimizer
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import balanced_accuracy_score

from fairjax import metrics
from fairjax.data import groups
from fairjax.metrics import MEASURES
from fairjax.postprocess import group_thresholds
from fairjax.selection import AccuracyFloor, ConstrainedObjective, ExpectedObjective, best_threshold

search = jax.jit(group_thresholds, static_argnames=("measure", "count", "num_groups", "search", "sweeps"))
for_all = jax.jit(best_threshold, static_argnames=("measure", "count"))
RULE = ConstrainedObjective(epsilon=0.05, margin=0.01)


def rows(seed, n=600):
    """Return scores that are informative about the label and higher in one group."""
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
    cuts = np.asarray(metrics.threshold_grid(15))
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
    """With a tight bound, a pair of thresholds approximates Fairlearn's exact parity by randomised decisions."""
    scores, y, a = rows(seed, 6000)
    theirs = ThresholdOptimizer(
        estimator=Scores().fit(None, None), constraints=constraint, objective="balanced_accuracy_score", prefit=True,
        predict_method="predict_proba", grid_size=2000,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wide_scores = scores.astype(float)[:, None]  # Fairlearn writes float64 values into them
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
    one = for_all(MEASURES["spd"], scores, y, a, rule=RULE)
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


def rows_of_groups(seed, shares, n=1500):
    """Return scores that are informative about the label, for groups whose scores increase with their codes."""
    rng = np.random.default_rng(seed)
    a = rng.choice(len(shares), n, p=shares).astype(np.int32)
    y = rng.random(n) < 0.35 + 0.1 * a / len(shares)
    scores = 1 / (1 + np.exp(-(1.5 * y + 0.5 * a - 1 + rng.normal(size=n))))
    return scores.astype(np.float32), y, a


PARITIES = {
    "demographic": metrics.demographic_parity(num_groups=3),
    "opportunity": metrics.equal_opportunity(num_groups=3),
    "odds": metrics.equalized_odds(num_groups=3),
    "variance": metrics.demographic_parity(num_groups=3, across=metrics.gaps.variance),
}


def range_by_hand(name, decisions, y, a):
    """Compute the measure with a loop over groups."""
    among = {"demographic": [np.ones_like(y)], "opportunity": [y], "odds": [y, ~y], "variance": [np.ones_like(y)]}[name]
    rates = [[decisions[here & (a == g)].mean() for g in range(3)] for here in among]
    return np.var(rates[0]) if name == "variance" else max(max(of) - min(of) for of in rates)


def score_by_hand(name, rule, thresholds, scores, y, a):
    decisions = scores > np.asarray(thresholds)[a]
    accuracy, bias = balanced_accuracy_score(y, decisions), range_by_hand(name, decisions, y, a)
    if isinstance(rule, AccuracyFloor):
        return 1 - bias if accuracy >= rule.floor else 0.0
    return accuracy if bias < rule.bound else 0.0


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("demographic", ConstrainedObjective(epsilon=0.12)),
        ("opportunity", AccuracyFloor(floor=0.6)),
        ("odds", ConstrainedObjective(epsilon=0.12)),
        ("variance", ConstrainedObjective(epsilon=0.02)),
    ],
)
def test_searches_of_three_groups_are_bounded_by_all_triples(seed, name, rule):
    scores, y, a = rows_of_groups(seed, (0.5, 0.3, 0.2))
    cuts = np.asarray(metrics.threshold_grid(5))
    best = max(score_by_hand(name, rule, cut, scores, y, a) for cut in itertools.product(cuts, repeat=3))
    reached = {}
    for how in ("auto", "coordinate", "common rate"):
        found = search(PARITIES[name], scores, y, a, rule=rule, count=5, search=how)
        reached[how] = score_by_hand(name, rule, found.thresholds, scores, y, a)
        assert float(rule(found.evaluation)) == pytest.approx(reached[how], abs=1e-5)
        assert reached[how] <= best + 1e-6
        assert found.evaluation.threshold == found.thresholds[2]
        assert found.evaluation.table.shape == (2, 2, 3)
    one = max(score_by_hand(name, rule, [cut] * 3, scores, y, a) for cut in cuts)
    assert reached["coordinate"] >= one - 1e-6
    assert reached["auto"] >= max(reached["coordinate"], reached["common rate"]) - 2e-6


@pytest.mark.parametrize("name", ["demographic", "opportunity", "odds"])
def test_on_easy_rows_the_best_triple_is_found(name):
    """The scores of three groups differ only by a shift of whole grid steps, so the best is to undo it."""
    quantiles = np.linspace(0.01, 0.99, 50)
    scores = np.concatenate([shift + 0.5 * quantiles for shift in (0.0, 0.25, 0.5)]).astype(np.float32)
    y, a = np.tile(quantiles > 0.5, 3), np.repeat(np.arange(3, dtype=np.int32), 50)
    triples = itertools.product(np.asarray(metrics.threshold_grid(5)), repeat=3)
    best = max(score_by_hand(name, RULE, triple, scores, y, a) for triple in triples)
    found = search(PARITIES[name], scores, y, a, rule=RULE, count=5)
    assert best == 1.0
    assert score_by_hand(name, RULE, found.thresholds, scores, y, a) == best
    np.testing.assert_array_equal(found.thresholds, [0.25, 0.5, 0.75])


def test_the_common_rate_is_the_nearest_one_in_each_group():
    scores, y, a = rows_of_groups(3, (0.5, 0.3, 0.2))
    rule, cuts = ConstrainedObjective(epsilon=0.08), np.asarray(metrics.threshold_grid(21))
    best, triple = 0.0, None

    def chosen_for(target, g):
        """Return the nearest rate; of several, the one with the higher balanced accuracy."""
        accepted = [scores[a == g] > cut for cut in cuts]
        distances = np.array([abs(decisions.mean() - target) for decisions in accepted])
        gains = [(f[y[a == g]].sum() / y.sum() + (~f)[~y[a == g]].sum() / (~y).sum()).round(5) for f in accepted]
        return cuts[max(np.flatnonzero(distances < distances.min() + 1e-6), key=lambda cut: gains[cut])]

    for target in np.linspace(0, 1, 21):
        chosen = [chosen_for(target, g) for g in range(3)]
        score = score_by_hand("demographic", rule, chosen, scores, y, a)
        if score > best + 1e-6:
            best, triple = score, chosen
    found = search(PARITIES["demographic"], scores, y, a, rule=rule, count=21, search="common rate")
    np.testing.assert_array_equal(found.thresholds, triple)


def test_going_round_is_what_a_loop_does():
    scores, y, a = rows_of_groups(4, (0.5, 0.3, 0.2))
    rule, cuts = AccuracyFloor(floor=0.6), np.asarray(metrics.threshold_grid(11))
    chosen = [max(cuts, key=lambda cut: round(score_by_hand("odds", rule, [cut] * 3, scores, y, a), 5))] * 3
    for _, g in itertools.product(range(2), range(3)):
        trials = [[*chosen[:g], cut, *chosen[g + 1 :]] for cut in cuts]
        best = max(trials, key=lambda trial: score_by_hand("odds", rule, trial, scores, y, a))
        if score_by_hand("odds", rule, best, scores, y, a) > score_by_hand("odds", rule, chosen, scores, y, a) + 1e-6:
            chosen = best
    found = search(PARITIES["odds"], scores, y, a, rule=rule, count=11, search="coordinate", sweeps=2)
    np.testing.assert_array_equal(found.thresholds, chosen)


def test_eight_groups_fare_better_with_thresholds_of_their_own():
    measure, rule = metrics.demographic_parity(num_groups=8), ConstrainedObjective(epsilon=0.1)
    scores, y, a = rows_of_groups(5, np.full(8, 1 / 8), 6000)
    one = for_all(measure, scores, y, a, rule=rule)
    found = search(measure, scores, y, a, rule=rule)
    assert float(one.balanced_accuracy) < 0.55  # one threshold satisfies the bound only where it is uninformative
    assert found.evaluation.balanced_accuracy > 0.7
    accepted = np.asarray(found.decide(scores, a))
    rates = [accepted[a == g].mean() for g in range(8)]
    assert max(rates) - min(rates) == pytest.approx(float(found.evaluation.bias), abs=1e-6)
    assert found.evaluation.bias < 0.09


@pytest.mark.parametrize("measure", [MEASURES["spd"], metrics.demographic_parity(), metrics.equalized_odds()])
def test_two_groups_get_the_best_pair_whatever_codes_they_have(measure):
    scores, y, a = rows(6)
    every = [
        search(measure, scores, y, group, rule=RULE, count=21, search=how, num_groups=2)
        for group, how in itertools.product((a, a.astype(np.int32)), ("auto", "pairs"))
    ]
    for other in every[1:]:
        jax.tree.map(np.testing.assert_array_equal, every[0], other)
    for how in ("coordinate", "common rate"):
        found = search(measure, scores, y, a, rule=RULE, count=21, search=how, num_groups=2)
        assert float(RULE(found.evaluation)) <= float(RULE(every[0].evaluation)) + 1e-6


def test_weights_are_rows_repeated():
    scores, y, a = rows_of_groups(7, (0.5, 0.3, 0.2), 400)
    weights = np.random.default_rng(0).integers(0, 4, 400)
    measure, rule = PARITIES["demographic"], ConstrainedObjective(epsilon=0.1)
    weighed = search(measure, scores, y, a, rule=rule, count=21, weights=weights.astype(np.float32))
    repeated = search(measure, *(np.repeat(column, weights) for column in (scores, y, a)), rule=rule, count=21)
    np.testing.assert_array_equal(weighed.thresholds, repeated.thresholds)


def test_a_group_without_rows_keeps_the_threshold_for_all():
    scores, y, a = rows_of_groups(8, (0.6, 0.4))
    measure, rule = metrics.demographic_parity(num_groups=3), ConstrainedObjective(epsilon=0.1)
    for how in ("auto", "coordinate", "common rate"):
        found = search(measure, scores, y, a, rule=rule, count=21, search=how)
        assert found.thresholds[2] == for_all(measure, scores, y, a, rule=rule, count=21).threshold
        assert np.isfinite(found.evaluation.bias)


def test_many_seeds_of_many_groups_are_each_seed_alone():
    measure, rule = metrics.equal_opportunity(num_groups=4), ConstrainedObjective(epsilon=0.15)
    every = [rows_of_groups(seed, (0.4, 0.3, 0.2, 0.1)) for seed in range(3)]
    stacked = [np.stack(column) for column in zip(*every, strict=True)]
    alone = [search(measure, *one, rule=rule, count=31) for one in every]
    mapped = jax.jit(jax.vmap(lambda s, y, a: group_thresholds(measure, s, y, a, rule=rule, count=31)))(*stacked)
    for seed, one in enumerate(alone):
        np.testing.assert_array_equal(mapped.thresholds[seed], one.thresholds)


def test_the_number_of_groups_is_stated_or_read_off():
    scores, y, a = rows_of_groups(9, (0.5, 0.3, 0.2), 300)
    measure = metrics.demographic_parity()
    read = jax.jit(lambda: group_thresholds(measure, scores, y, a, rule=RULE, count=5, search="common rate"))()
    stated = search(measure, scores, y, a, rule=RULE, count=5, search="common rate", num_groups=3)
    np.testing.assert_array_equal(read.thresholds, stated.thresholds)
    with pytest.raises(ValueError, match="num_groups"):
        search(measure, scores, y, a, rule=RULE, count=5)


def test_what_cannot_be_searched_is_refused():
    scores, y, a = rows_of_groups(9, (0.5, 0.3, 0.2), 300)
    measure = PARITIES["demographic"]
    with pytest.raises(ValueError, match=r"found shape \(300, 3\)"):
        group_thresholds(measure, scores, y, np.eye(3, dtype=np.float32)[a], rule=RULE)
    with pytest.raises(ValueError, match="for two groups, found 3"):
        group_thresholds(measure, scores, y, a, rule=RULE, search="pairs")
    with pytest.raises((ValueError, TypeError), match="'greedy'"):
        group_thresholds(measure, scores, y, a, rule=RULE, search="greedy")
    with pytest.raises(ValueError, match="sweeps"):
        group_thresholds(measure, scores, y, a, rule=RULE, sweeps=0)
    with pytest.raises(ValueError, match="two classes"):
        group_thresholds(metrics.demographic_parity(3, num_groups=3), scores, y, a, rule=RULE)
    with pytest.raises(ValueError, match="found -1 in row 0"):
        group_thresholds(measure, scores, y, np.where(np.arange(300) == 0, -1, a), rule=RULE)


def test_rows_of_no_group_are_not_decided():
    found = search(PARITIES["demographic"], *rows_of_groups(9, (0.5, 0.3, 0.2)), rule=RULE, count=5)
    found = found._replace(thresholds=jnp.array([0.2, 0.5, 0.8]))
    scores = jnp.array([0.3, 0.3, 0.9])
    assert found.decide(scores, np.array([0, 1, 2])).tolist() == [True, False, True]
    for wrong in (-1, 3):
        with pytest.raises(ValueError, match=f"found {wrong} in row 1"):
            found.decide(scores, np.array([0, wrong, 2]))
        assert jax.jit(found.decide)(scores, jnp.array([0, wrong, 2])).tolist() == [True, False, True]
    with pytest.raises(ValueError, match=r"found shape \(3, 2\)"):
        found.decide(scores, np.eye(3, 2, dtype=np.float32))


DECIDED = np.array([0.2, 0.3, 0.8, 0.9], np.float32), np.array([False, False, True, True])


def of_two():
    """Return thresholds 0.25 for the first group and 0.85 for the second."""
    found = search(MEASURES["spd"], *rows(0), rule=RULE, count=101)
    return found._replace(thresholds=jnp.array([0.25, 0.85]))


@pytest.mark.parametrize(
    ("scores", "a", "message"),
    [
        (np.array([0.2, np.nan, 0.8, 0.9]), DECIDED[1], r"scores must be in \[0, 1\], found nan in row 1"),
        (np.array([0.2, 1.5, 0.8, 0.9]), DECIDED[1], "found 1.5 in row 1: pass logits through jax.nn.sigmoid"),
        (DECIDED[0][:, None], DECIDED[1], r"scores must have one number per row, .* \(4, 1\): pass scores\[:, 0\]"),
        (DECIDED[0][:1], DECIDED[1], r"vectors of one length, found shapes \(1,\) and \(4,\)"),
        (DECIDED[0], DECIDED[1][:1], r"vectors of one length, found shapes \(4,\) and \(1,\)"),
        (DECIDED[0], DECIDED[1][:, None], r"a must give each row one group, found shape \(4, 1\)"),
        (DECIDED[0], np.array([0, 0.5, 1, 1]), "found 0.5 in row 1"),
        (DECIDED[0], np.array([0, np.nan, 1, 1]), "found nan in row 1"),
        (
            pd.Series(DECIDED[0]),
            pd.Series(DECIDED[1], index=[3, 2, 1, 0]),
            "the index of a differs from that of scores",
        ),
    ],
)
def test_what_cannot_be_decided_is_refused(scores, a, message):
    jaxtyping.config.update("jaxtyping_disable", True)  # otherwise the tests' type checks would fail first
    try:
        with pytest.raises(ValueError, match=message):
            of_two().decide(scores, a)
        if np.ndim(scores) != 1 or np.shape(scores) != np.shape(a):  # shapes are known when tracing
            with pytest.raises(ValueError, match=message):
                jax.jit(of_two().decide)(scores, a)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_scores_and_groups_of_any_kind_of_array_are_decided():
    scores, a = DECIDED
    found = of_two()
    for one, other in ((scores, a), (scores, a.astype(float)), (pd.Series(scores), pd.Series(a)), (scores > 0.25, a)):
        assert found.decide(one, other).tolist() == [False, True, bool(one[2] > 0.85), True]
    assert found.decide(scores[:0], a[:0]).shape == (0,)
    with pytest.raises(TypeError, match="scores is a masked array"):
        found.decide(np.ma.masked_array(scores, a), a)
    with pytest.raises(TypeError, match="a must be an array, found Groups: pass their column, groups.a"):
        found.decide(scores, groups(a))


def test_a_traced_row_without_a_score_or_group_is_rejected():
    decide = jax.jit(of_two().decide)
    assert decide(jnp.array([0.9, jnp.nan]), jnp.array([1, 1])).tolist() == [True, False]
    assert decide(jnp.array([0.9, 0.9]), jnp.array([1, 0.5])).tolist() == [True, False]


def test_thresholds_of_several_seeds_and_of_invalid_rows_do_not_decide():
    with pytest.raises(ValueError, match=r"one per group, found shape \(3, 2\): of several seeds, map over them"):
        of_two()._replace(thresholds=jnp.ones((3, 2))).decide(*DECIDED)
    with pytest.raises(ValueError, match="thresholds are NaN, since rows that they were chosen on"):
        of_two()._replace(thresholds=jnp.array([0.5, jnp.nan])).decide(*DECIDED)


INVALID = {
    "a score that is NaN": (0, lambda column: np.where(np.arange(column.size) == 3, np.nan, column)),
    "a logit": (0, lambda column: 10 * column),
    "labels 1 and 2": (1, lambda column: column + 1),
    "groups 1 and 2": (2, lambda column: column + 1),
    "a negative weight": (3, lambda column: np.where(np.arange(column.size) == 3, -1, column)),
    "no weight": (3, lambda column: 0 * column),
}


@pytest.mark.parametrize("case", INVALID)
@pytest.mark.parametrize("count", [2, 3])
def test_invalid_rows_are_refused_and_under_a_trace_give_nan(case, count):
    place, change = INVALID[case]
    scores, y, a = rows_of_groups(1, np.full(count, 1 / count), 200)
    columns = [scores, y, a, np.ones(200, np.float32)]

    def choose(scores, y, a, weights):
        measure = metrics.demographic_parity(num_groups=count)
        return group_thresholds(measure, scores, y, a, rule=RULE, count=5, weights=weights, search="auto")

    jitted = jax.jit(choose)
    assert np.isfinite(jitted(*columns).thresholds).all()
    columns[place] = change(columns[place])
    with pytest.raises(ValueError, match="must|are all 0"):
        choose(*columns)
    found = jitted(*columns)
    assert found.thresholds.shape == (count,) and np.isnan(found.thresholds).all()
    reported = found.evaluation
    assert np.isnan([reported.threshold, reported.balanced_accuracy, reported.bias]).all()


def test_numbers_of_groups_that_contradict_each_other_are_refused():
    scores, y, a = rows_of_groups(9, (0.5, 0.3, 0.2), 300)
    with pytest.raises(ValueError, match="found 2 for a measure of 3 groups"):
        group_thresholds(PARITIES["demographic"], scores, y, a, rule=RULE, num_groups=2)
    with pytest.raises(ValueError, match="at least 2, found 0"):
        group_thresholds(metrics.demographic_parity(), scores, y, a, rule=RULE, num_groups=0)
    with pytest.raises(ValueError, match="found nan"):
        group_thresholds(metrics.demographic_parity(), scores, y, np.where(a == 1, np.nan, a), rule=RULE)
