"""Counts, the threshold search and the selection rules, compared with plain loops."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from fairjax import metrics, selection
from fairjax.metrics import MEASURES, eod, spd
from fairjax.selection import AccuracyFloor, ConstrainedObjective, Evaluation, ExpectedObjective

CUTS = np.asarray(metrics.threshold_grid())
search = jax.jit(selection.best_threshold, static_argnames=("measure", "count"))


def rows(seed, n=80, grid=False):
    rng = np.random.default_rng(seed)
    y, a = rng.random(n) < 0.4, rng.random(n) < 0.6
    y[:4], a[:4] = [True, True, False, False], [True, False, True, False]
    scores = rng.integers(0, 101, n) / np.float32(100) if grid else rng.random(n)
    return scores.astype(np.float32), y, a


def evaluation(accuracy, bias, noise=0.01):
    return Evaluation(*(jnp.asarray(value, jnp.float32) for value in (0.5, accuracy, bias, noise)))


@pytest.mark.parametrize("weighted", [False, True])
def test_balanced_accuracy_is_scikit_learn_s(weighted):
    scores, y, _ = rows(0)
    w = np.random.default_rng(1).random(80).astype(np.float32) if weighted else None
    theirs = balanced_accuracy_score(y, scores > 0.4, sample_weight=w)
    assert metrics.balanced_accuracy(scores > 0.4, y, w if w is None else jnp.asarray(w)) == pytest.approx(
        theirs, abs=1e-6
    )


def test_balanced_accuracy_of_one_class_is_its_rate():
    assert metrics.balanced_accuracy(jnp.array([1, 0, 1, 1]), jnp.ones(4)) == 0.75


@pytest.mark.parametrize("grid", [False, True])  # on the grid, scores lie exactly on thresholds, including 0 and 1
def test_tables_are_the_counts_of_a_plain_loop(grid):
    scores, y, a = rows(1, grid=grid)
    if grid:
        scores[:3] = [0.0, 1.0, 0.5]
    tables = metrics.tables_by_threshold(metrics.histogram(scores, y, a, CUTS))
    for t, cut in enumerate(CUTS):
        for d in (False, True):
            for label in (False, True):
                for group in (False, True):
                    expected = ((scores > cut) == d) & (y == label) & (a == group)
                    assert float(tables[t, int(d), int(label), int(group)]) == expected.sum()


def test_histograms_add_up_though_a_shard_lacks_a_group():
    scores, y, a = rows(2)
    order = np.argsort(a, kind="stable")  # the first shard has no privileged row
    shards = np.split(order, [20, 50])
    assert not a[shards[0]].any()
    parts = [metrics.histogram(scores[s], y[s], a[s], CUTS) for s in shards]
    np.testing.assert_array_equal(sum(parts), metrics.histogram(scores, y, a, CUTS))


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_of_a_table_is_the_measure_of_its_rows(name):
    scores, y, a = rows(3)
    tables = metrics.tables_by_threshold(metrics.histogram(scores, y, a, CUTS))
    every = jax.jit(jax.vmap(lambda table: metrics.measure_from_table(MEASURES[name], table)))(tables)
    for t in range(0, 101, 7):
        expected = MEASURES[name]((scores > CUTS[t]).astype(np.float32), y, a)
        assert every[t] == pytest.approx(float(expected), abs=1e-6) or (jnp.isinf(every[t]) and jnp.isinf(expected))


def test_noise_is_one_over_the_sizes_of_the_groups():
    scores, y, a = rows(4)
    table = metrics.tables_by_threshold(metrics.histogram(scores, y, a, CUTS))[40]
    for measure, among in ((spd, np.ones_like(y)), (eod, y)):
        sizes = [(among & (a == group)).sum() for group in (False, True)]
        assert metrics.noise_from_table(measure, table) == pytest.approx(sum(1 / size for size in sizes), rel=1e-5)


def exact_best(scores, y):
    """Return the first threshold of highest balanced accuracy, computed with rational numbers."""
    best, chosen = Fraction(-1), None
    for t, cut in enumerate(CUTS):
        accepted = scores > cut
        accuracy = Fraction(int((accepted & y).sum()), int(y.sum())) + Fraction(
            int((~accepted & ~y).sum()), int((~y).sum())
        )
        if accuracy > best:
            best, chosen = accuracy, t
    return chosen, best / 2


@given(seed=st.integers(0, 10_000), grid=st.booleans(), balanced=st.booleans())
def test_the_threshold_is_the_first_that_maximises_balanced_accuracy(seed, grid, balanced):
    scores, y, a = rows(seed, n=40, grid=grid)
    if balanced:  # with equal classes, a loss in one is a gain in the other, so ties are common
        y = np.arange(40) % 2 == 0
    found = search(spd, scores, y, a)
    chosen, accuracy = exact_best(scores, y)
    assert found.threshold == CUTS[chosen]
    assert found.balanced_accuracy == pytest.approx(float(accuracy), abs=1e-6)
    assert found.bias == pytest.approx(float(spd(scores > CUTS[chosen], y, a)), abs=1e-6)


def test_the_search_can_maximise_a_rule_and_use_other_grids():
    scores, y, a = rows(5)
    rule = ConstrainedObjective(epsilon=0.2, margin=0.0)
    found = selection.best_threshold(spd, scores, y, a, rule=rule)
    every = [selection.evaluate_at(spd, scores, y, a, jnp.asarray(cut)) for cut in CUTS]
    scored = [float(rule(one)) for one in every]
    assert rule(found) == pytest.approx(max(scored), abs=1e-6)
    assert selection.best_threshold(spd, scores, y, a, count=11).threshold in np.asarray(metrics.threshold_grid(11))


def test_a_users_function_is_called_again_with_what_it_depends_on():
    scores, y, a = rows(6)
    factor = [1.0]

    def scaled(values, y, a, weights=None):
        return factor[0] * spd(values, y, a, weights)

    plain = selection.evaluate_at(scaled, scores, y, a, 0.5).bias
    factor[0] = 2.0
    assert selection.evaluate_at(scaled, scores, y, a, 0.5).bias == pytest.approx(2 * plain.item()) != 0


def test_the_bound_of_equation_3_is_strict():
    rule = ConstrainedObjective(epsilon=0.05, margin=0.0)
    for bias, expected in ((0.0, 0.8), (0.0499, 0.8), (-0.0499, 0.8), (0.05, 0.0), (-0.05, 0.0), (0.3, 0.0)):
        assert rule(evaluation(0.8, bias)) == pytest.approx(expected)
    assert ConstrainedObjective()(evaluation(0.8, 0.045)) == 0.0  # inside epsilon, but outside epsilon - margin


@pytest.mark.parametrize("bias", [-0.08, -0.05, 0.0, 0.02, 0.049, 0.2])
def test_the_expected_objective_is_an_expectation(bias):
    sizes, variance = (300, 700), 0.2
    noise = sum(1 / n for n in sizes)
    spread = np.sqrt(2 * variance * noise)
    inside = stats.norm.cdf((0.05 - bias) / spread) - stats.norm.cdf((-0.05 - bias) / spread)
    found = ExpectedObjective(epsilon=0.05, variance=variance)(evaluation(0.8, bias, noise))
    assert found == pytest.approx(0.8 * inside, abs=1e-5)
    drawn = bias + spread * np.random.default_rng(0).normal(size=200_000)
    assert found == pytest.approx(0.8 * (np.abs(drawn) < 0.05).mean(), abs=0.005)


def test_the_floor_prefers_the_least_bias_above_it():
    rule = AccuracyFloor(floor=0.6)
    assert rule(evaluation(0.61, 0.01)) > rule(evaluation(0.9, 0.02)) > rule(evaluation(0.59, 0.0))


def test_ties_go_to_the_earliest_and_a_nan_is_never_best():
    assert selection.first_max(jnp.array([0.1, 0.7, 0.7 + 1e-8, 0.3])) == 1
    assert selection.first_max(jnp.array([jnp.nan, 0.2, 0.1])) == 1
    assert not selection.improves(jnp.float32(0.7), jnp.float32(0.7))
    assert not selection.improves(jnp.float32(jnp.nan), jnp.float32(0.1))
    assert selection.improves(jnp.float32(0.71), jnp.float32(0.7))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConstrainedObjective(epsilon=0.0), "epsilon, the bound on .bias., must be positive, got 0.0"),
        (lambda: ConstrainedObjective(margin=0.05), "margin must be at least 0 and less than epsilon = 0.05, got 0.05"),
        (lambda: ConstrainedObjective(margin=-0.1), "margin must be at least 0"),
        (lambda: ExpectedObjective(variance=0.3), r"in \(0, 0.25\], got 0.3"),
        (lambda: AccuracyFloor(floor=1.0), r"in \[0, 1\), got 1.0"),
    ],
)
def test_rules_that_mean_nothing_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("rule", [ConstrainedObjective(), ExpectedObjective(), AccuracyFloor()])
def test_rules_are_pytrees_whose_numbers_may_be_mapped(rule):
    leaves = jax.tree.leaves(rule)
    assert leaves and all(isinstance(leaf, float) for leaf in leaves)
    one = evaluation(0.8, 0.03)
    many = jax.tree.map(lambda leaf: jnp.array([leaf, leaf]), rule)
    np.testing.assert_allclose(jax.vmap(lambda rule: rule(one))(many), [rule(one)] * 2, rtol=1e-6)


@pytest.mark.parametrize("count", [2, 3, 11, 101, 1001])
def test_the_search_of_an_even_grid_is_that_of_any_grid(count):
    cuts = np.asarray(metrics.threshold_grid(count))
    beside = [np.nextafter(cuts, side, dtype=np.float32)[1:] for side in (np.float32(-2), np.float32(2))]
    values = np.concatenate(
        [np.random.default_rng(0).random(5000, np.float32), cuts, *beside, (cuts[1:] + cuts[:-1]) / 2]
    )
    values = values[(values >= 0) & (values <= 1)]
    y, a = np.arange(len(values)) % 2 == 0, np.arange(len(values)) % 3 == 0
    even = jax.jit(lambda values: metrics.histogram(values, y, a, metrics.threshold_grid(count)))(values)
    any_grid = jax.jit(metrics.histogram)(values, y, a, jnp.asarray(cuts))  # the cuts are traced
    np.testing.assert_array_equal(even, any_grid)
    below = np.searchsorted(cuts, values)
    for label in (0, 1):
        for group in (0, 1):
            rows = (y == label) & (a == group)
            np.testing.assert_array_equal(even[:, label, group], np.bincount(below[rows], minlength=count + 1))
