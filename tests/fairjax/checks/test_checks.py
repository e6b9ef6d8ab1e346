"""Invalid inputs raise an error if they are concrete, and give NaN instead of parity if they are traced."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax import loop, metrics, nn, selection, training, types
from fairjax.methods import BiasGda, FineTuning
from fairjax.metrics import Quotient, gaps, spd
from fairjax.metrics.confusion import cell_sums, sums_by_group
from fairjax.postprocess import group_thresholds
from fairjax.selection import ConstrainedObjective

N = 120
RNG = np.random.default_rng(0)
SCORES = RNG.random(N).astype(np.float32)
Y, A = RNG.random(N) < 0.4, np.arange(N) % 2 == 0
X = RNG.normal(size=(N, 3)).astype(np.float32)
CODES_1_2 = Y + 1
CUTS = metrics.threshold_grid(11)


@pytest.mark.parametrize(
    "measure", [spd, metrics.make_measure("eod", 3), metrics.demographic_parity(across=gaps.kearns)]
)
def test_what_is_invalid_under_a_trace_has_no_gradient_either(measure):
    a = A.astype(np.int32)
    options = {} if measure is spd else {"num_groups": 3}
    value, slope = jax.jit(jax.value_and_grad(lambda f, y: measure(f, y, a, **options)))(SCORES, CODES_1_2)
    assert np.isnan(value)
    assert np.isnan(slope).any()
    value, slope = jax.jit(jax.value_and_grad(lambda f, y: measure(f, y, a, **options)))(SCORES, Y)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


def test_a_histogram_of_invalid_rows_is_nan_wherever_it_is_used():
    counts = jax.jit(metrics.histogram)(SCORES, CODES_1_2, A, CUTS)
    assert (counts == metrics.INVALID_COUNT).all()
    assert np.isnan(metrics.tables_by_threshold(counts)).all()
    found = selection.best_threshold_from_counts(spd, counts, CUTS)
    assert np.isnan(found.bias)
    assert np.isnan(found.balanced_accuracy)
    weighted = jax.jit(metrics.histogram)(SCORES, Y, A, CUTS, -np.ones(N, np.float32))
    assert np.isnan(weighted).all()


def test_group_thresholds_of_invalid_rows_are_nan():
    def search(scores, y):
        return group_thresholds(spd, scores, y, A, rule=ConstrainedObjective(), count=5)

    found = jax.jit(search)(SCORES, CODES_1_2)
    assert np.isnan(found.thresholds).all()
    assert np.isnan(found.evaluation.bias)
    assert np.isfinite(jax.jit(search)(SCORES, Y).thresholds).all()
    with pytest.raises(ValueError, match="y must hold 0 and 1 only"):
        search(SCORES, CODES_1_2)


def batch(y=Y, weights=None):
    return types.WeightedBatch(jnp.asarray(X), jnp.asarray(y), jnp.asarray(A), weights)


def test_a_loss_of_rows_that_all_weigh_nothing_is_nan():
    network = nn.from_linen(nn.Mlp(widths=(2,)))
    variables = network.init(jax.random.key(0), jnp.asarray(X))
    assert np.isnan(training.loss(network.apply, variables, batch(weights=jnp.zeros(N))))
    assert np.isfinite(training.loss(network.apply, variables, batch(weights=jnp.ones(N))))


def test_memberships_of_several_groups_need_a_choice():
    two_attributes = np.stack([A, np.arange(N) % 3 == 0], axis=1)
    with pytest.raises(ValueError, match="a must be one column of 0 and 1"):
        metrics.checked(spd, SCORES, Y, two_attributes)
    with pytest.raises(ValueError, match="a must be one column of 0 and 1"):
        selection.best_threshold(spd, SCORES, Y, two_attributes)
    measure = metrics.demographic_parity(num_groups=2)
    for memberships in (two_attributes, two_attributes.astype(np.float32), np.full((N, 2), 0.5, np.float32)):
        with pytest.raises(ValueError, match="can be counted in two ways"):
            measure(SCORES, Y, memberships)
        with pytest.raises(ValueError, match="can be counted in two ways"):
            selection.best_threshold(measure, SCORES, Y, memberships)
        assert np.isnan(jax.jit(measure)(SCORES, Y, memberships))
        assert np.isfinite(dataclasses.replace(measure, membership="weighted")(SCORES, Y, memberships))
    hard = np.stack([~A, A], axis=1)
    for memberships in (hard, hard.astype(np.float32)):
        assert measure(SCORES, Y, memberships) == pytest.approx(abs(float(spd(SCORES, Y, A))), abs=1e-6)


def test_a_group_that_is_given_no_positive_prediction_leaves_precision_undefined():
    measure = metrics.make_measure("ppd", 3)
    y, groups = np.array([1, 0, 1, 0, 1, 0]), np.array([0, 0, 1, 1, 2, 2])
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.2, 0.1], np.float32)
    assert np.isnan(selection.evaluate_at(measure, scores, y, groups, 0.5).bias)
    assert selection.evaluate_at(measure, scores, y, groups, 0.0).bias == 0.0
    absent = selection.evaluate_at(metrics.make_measure("ppd", 4), scores, y, groups, 0.0)
    assert absent.bias == 0.0  # the last group has no rows at any threshold


def test_nothing_that_cannot_be_computed_is_a_number():
    assert np.isnan(metrics.accuracy_from_table(jnp.zeros((2, 2, 2))))
    assert np.isnan(metrics.accuracy_from_table(jnp.zeros((3, 3, 2))))
    assert np.isnan(metrics.balanced_accuracy(np.zeros(0), np.zeros(0)))
    assert np.isnan(jax.jit(selection.evaluate_at, static_argnums=0)(spd, SCORES, Y, A, jnp.nan).bias)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: selection.evaluate_at(spd, SCORES, Y, A, float("nan")), "threshold must be one finite number"),
        (lambda: metrics.histogram(SCORES, Y, A, np.array([0.5, 0.2], np.float32)), "increasing order"),
        (lambda: metrics.histogram(SCORES, Y, A, np.array([0.5, np.nan], np.float32)), "without NaN"),
        (lambda: metrics.demographic_parity(minimum=float("nan")), "minimum must be a number of rows"),
        (lambda: metrics.rates.f_beta(float("nan")), "beta must be positive"),
        (lambda: metrics.Rate(((0, 0), (1, float("inf"))), ((1, 1), (1, 1))), "must be finite"),
        (lambda: metrics.shrinkage.range_within(*np.ones((2, 2)), np.ones(2, bool), -0.1), "must be positive"),
        (lambda: metrics.demographic_parity(blocks=((0, 5),), num_groups=None).compared(jnp.ones((2, 2, 2))), "blocks"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_number_of_groups_is_read_off_codes_that_are_known():
    codes = np.arange(N) % 3
    found = selection.best_threshold(metrics.demographic_parity(), SCORES, Y, codes)
    stated = selection.best_threshold(metrics.demographic_parity(num_groups=3), SCORES, Y, codes)
    assert found.table.shape == (2, 2, 3)
    assert found.bias == stated.bias


def test_several_quotients_count_by_the_one_that_is_furthest_from_parity():
    y, groups = np.array([1] * 4 + [0] * 4 + [1] * 4 + [0] * 4), np.array([0] * 8 + [1] * 8)
    decisions = np.array([1, 0, 0, 0] + [1, 1, 1, 0] + [1, 1, 1, 1] + [1, 1, 0, 0])
    # the ratio of true positive rates is 1/4 and that of false positive rates 3/2, so the first is further from 1
    measure = metrics.equalized_odds(across=Quotient(0, 1))
    assert measure(decisions, y, groups) == pytest.approx(0.25)


def test_a_least_number_of_rows_is_in_proportion_in_mini_batches():
    measure = metrics.make_measure("spd", 3, minimum=20)
    assert metrics.of_mini_batches(measure, 12, 120).minimum == 2.0
    assert metrics.of_mini_batches(measure, 500, 120) is measure
    assert metrics.of_mini_batches(spd, 12, 120) is spd


@pytest.mark.parametrize("config", [BiasGda(epochs=2, batch_size=12, learning_rate=1e-2)])
def test_a_method_moves_although_no_group_of_a_mini_batch_has_enough_rows(config):

    network = nn.from_linen(nn.Mlp(widths=(4,), dropout=0.0))
    variables = network.init(jax.random.key(0), jnp.asarray(X))
    rows = jnp.arange(N)
    split = types.Split(jnp.asarray(X), jnp.asarray(Y), jnp.arange(N) % 3, rows, rows, rows, jnp.zeros(3), jnp.ones(3))
    task = loop.Task(network, metrics.make_measure("spd", 3, minimum=20))
    parts = loop.Parts.of(split)
    evaluation = loop.evaluate(task, variables, parts)[0].valid
    state = config.init(task, jax.random.key(1), variables, parts, evaluation)
    moved = config.step(task, parts, state)
    assert np.abs(moved.variables.params - state.variables.params).max() > 1e-3


def test_multipliers_pass_over_mini_batches_without_the_groups():

    config = FineTuning(weights=(1.0,), weighting="multiplier", batch_size=2, epochs=1)
    network = nn.from_linen(nn.Mlp(widths=(4,), dropout=0.0))
    variables = network.init(jax.random.key(0), jnp.asarray(X))
    rows = jnp.arange(N)
    a = jnp.asarray(np.arange(N) < 3)  # most mini-batches lack a group
    split = types.Split(jnp.asarray(X), jnp.asarray(Y), a, rows, rows, rows, jnp.zeros(3), jnp.ones(3))
    task = loop.Task(network, metrics.demographic_parity(num_groups=2))
    parts = loop.Parts.of(split)
    evaluation = loop.evaluate(task, variables, parts)[0].valid
    state = config.init(task, jax.random.key(1), variables, parts, evaluation)
    assert np.isfinite(config.step(task, parts, state).weights).all()


def test_sums_keep_their_digits_where_one_group_has_almost_all_rows():
    n = 1_000_000
    groups = np.where(np.arange(n) % 100, 0, np.arange(n) // 100 % 50).astype(np.int32)
    values = np.full(n, 0.1, np.float32)
    exact = np.bincount(groups, values.astype(np.float64), 50)
    np.testing.assert_allclose(jax.jit(sums_by_group, static_argnums=2)(values, groups, 50), exact, rtol=2e-6)
    counts = metrics.histogram(np.full(n, 0.55, np.float32), groups < 25, groups % 2, CUTS, values)
    np.testing.assert_allclose(counts.sum(), exact.sum(), rtol=1e-6)


def test_sums_by_cell_keep_what_is_not_a_number_in_its_cell():
    payload = jnp.array([[0.5], [jnp.nan], [2.0], [jnp.inf]])
    found = cell_sums(payload, jnp.array([0, 1, 0, 2]), 4)
    np.testing.assert_array_equal(found[:, 0], [2.5, np.nan, np.inf, 0.0])
