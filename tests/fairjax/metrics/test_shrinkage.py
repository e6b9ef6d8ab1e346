"""Shrunk rates and ranges of normal numbers, compared with SciPy's integration, simulation and closed forms."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm, studentized_range

from fairjax.metrics import shrinkage
from fairjax.metrics.intervals import empirical_bayes as on_the_host
from fairjax.metrics.shrinkage import empirical_bayes, expected_range_within, range_within
from fairjax.selection import Evaluation, ExpectedObjective

within = jax.jit(range_within)
expected = jax.jit(expected_range_within)
by_rate = jax.jit(jax.grad(expected_range_within))
by_size = jax.jit(jax.grad(expected_range_within, argnums=1))


def integrated(means, variances, epsilon):
    """Compute the integral with SciPy's adaptive rule, piecewise."""
    means, scales = np.asarray(means, float), np.sqrt(variances)

    def density(x):
        inside = norm.cdf((x + epsilon - means) / scales) - norm.cdf((x - means) / scales)
        return sum(norm.pdf(x, means[g], scales[g]) * np.prod(np.delete(inside, g)) for g in range(len(means)))

    ends = [mean + k * scale for mean, scale in zip(means, scales, strict=True) for k in (-8, -3, -1, 0, 1, 3, 8)]
    ends = sorted({*ends, *(end - epsilon for end in ends)})
    return sum(quad(density, low, high, epsabs=1e-10)[0] for low, high in itertools.pairwise(ends))


def some_groups(seed, count, equal=False):
    rng = np.random.default_rng(seed)
    sizes = np.full(count, 300.0) if equal else np.exp(rng.uniform(np.log(25), np.log(5000), count))
    means = 0.3 + (0.0 if equal else 0.04) * rng.normal(size=count)
    return means, 0.2 / sizes


def float32(*arrays):
    return [jnp.asarray(np.asarray(array, np.float32)) for array in arrays]


@pytest.mark.parametrize("epsilon", [0.02, 0.1, 0.3])
@pytest.mark.parametrize(("count", "equal"), [(3, False), (3, True), (8, False), (8, True), (12, False)])
def test_the_range_is_integrated_as_scipy_does(count, equal, epsilon):
    means, variances = some_groups(count, count, equal)
    found = within(*float32(means, variances), jnp.full(count, True), epsilon)
    assert found == pytest.approx(integrated(means, variances, epsilon), abs=2e-5)


@pytest.mark.parametrize("count", [3, 7, 20])
def test_the_range_of_equal_groups_is_tukey_s(count):
    found = within(*float32(np.full(count, 0.3), np.full(count, 0.01)), jnp.full(count, True), 0.3)
    assert found == pytest.approx(studentized_range.cdf(3.0, count, np.inf), abs=3e-5)


@pytest.mark.parametrize("epsilon", [0.1, 0.2])
def test_the_range_is_what_chance_gives(epsilon):
    means, variances = some_groups(1, 8)
    draws = np.random.default_rng(0).normal(means, np.sqrt(variances), (400_000, 8))
    expectation = np.mean(np.ptp(draws, axis=1) < epsilon)
    assert within(*float32(means, variances), jnp.full(8, True), epsilon) == pytest.approx(expectation, abs=3e-3)


@pytest.mark.parametrize("distance", [0.0, 0.03, -0.2])
@pytest.mark.parametrize("ratio", [1.0, 30.0])
def test_two_groups_have_a_closed_form(distance, ratio):
    means, variances, both = np.array([0.4 + distance, 0.4]), np.array([1e-3, 1e-3 / ratio]), np.array([True, True])
    scale = np.sqrt(variances.sum())
    closed = norm.cdf((0.05 - distance) / scale) - norm.cdf((-0.05 - distance) / scale)
    assert within(*float32(means, variances), both, 0.05) == pytest.approx(closed, abs=1e-5)
    # the integral gives the same number, and so do two groups out of four
    integral = shrinkage._many_within(*float32(means, variances), both, jnp.float32(0.05))
    assert integral == pytest.approx(closed, abs=1e-5)
    more, wide = np.array([np.nan, *means, 7.0]), np.array([np.nan, *variances, 0.0])
    found = within(*float32(more, wide), np.array([False, True, True, False]), 0.05)
    assert found == pytest.approx(closed, abs=1e-5)


def test_groups_that_are_not_there_have_no_say():
    means, variances = some_groups(4, 5)
    expectation = within(*float32(means, variances), jnp.full(5, True), 0.1)
    more = np.insert(means, [0, 3], np.nan), np.insert(variances, [0, 3], [0.0, np.nan])
    there = np.insert(np.full(5, True), [0, 3], False)
    assert within(*float32(*more), there, 0.1) == pytest.approx(float(expectation), abs=1e-6)


@pytest.mark.parametrize("count", [2, 3, 6])
def test_without_noise_it_is_known_whether_the_range_is_within(count):
    means = np.linspace(0.2, 0.3, count)
    for variance, (bound, inside) in itertools.product((0.0, 1e-14), ((0.09, 0.0), (0.11, 1.0))):
        found = within(*float32(means, np.full(count, variance)), jnp.full(count, True), bound)
        assert found == pytest.approx(inside, abs=2e-5)
    one_noisy = within(*float32(means, [1e-3] + [0.0] * (count - 1)), jnp.full(count, True), 0.11)
    # the first must be in (0.3 - 0.11, 0.2 + 0.11), or with two groups in (0.19, 0.41)
    least_other = means[1]
    chance = norm.cdf((least_other + 0.11 - 0.2) / np.sqrt(1e-3)) - norm.cdf((0.19 - 0.2) / np.sqrt(1e-3))
    assert one_noisy == pytest.approx(chance, abs=2e-4)


@pytest.mark.parametrize("there", [[False, False, False], [False, True, False]])
def test_one_group_has_no_range(there):
    arguments = *float32([0.1, 0.2, 0.3], [10.0, 20.0, 30.0]), np.array(there)
    assert np.isnan(within(*arguments, 0.1))
    assert np.isnan(expected(*arguments, 0.1))


def shrunk_by_hand(rates, sizes, variance=None):
    """Apply DerSimonian and Laird's published formulas, with inverse variances as weights."""
    pooled = np.sum(rates * sizes) / np.sum(sizes)
    noise = (pooled * (1 - pooled) if variance is None else variance) / sizes
    weight = 1 / noise
    mean = np.sum(weight * rates) / np.sum(weight)
    q = np.sum(weight * (rates - mean) ** 2)
    between = max(0, (q - (len(rates) - 1)) / (weight.sum() - (weight**2).sum() / weight.sum()))
    kept = between / (noise + between)
    return mean + kept * (rates - mean), kept


@pytest.mark.parametrize("variance", [None, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_rates_are_shrunk_by_the_printed_formulas(seed, variance):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(10, 1000, 7).astype(float)
    rates = np.clip(0.4 + rng.choice([0.01, 0.1]) * rng.normal(size=7), 0, 1)
    expectation, share = shrunk_by_hand(rates, sizes, variance)
    shrunk, kept = empirical_bayes(*float32(rates, sizes), np.full(7, True), variance)
    np.testing.assert_allclose(shrunk, expectation, atol=1e-6)
    np.testing.assert_allclose(kept, share, atol=1e-5)
    if variance is None:
        np.testing.assert_allclose(on_the_host(rates, sizes), expectation, rtol=1e-12)


def test_rates_that_cannot_be_shrunk_stay():
    there = np.array([True, True, False])
    for rate in (0.0, 1.0):
        shrunk, kept = empirical_bayes(*float32([rate, rate, np.nan], [3.0, 9.0, 0.0]), there)
        np.testing.assert_array_equal(shrunk, [rate, rate, np.nan])
        np.testing.assert_array_equal(kept, [1.0, 1.0, np.nan])
    shrunk, _ = empirical_bayes(*float32([0.3, 0.4, 0.5], [5.0, 5.0, 0.0]), np.array([True, False, False]))
    np.testing.assert_array_equal(shrunk, np.float32([0.3, np.nan, np.nan]))


def test_large_groups_in_single_precision():
    rates, sizes = np.array([0.5, 0.501, 0.4995, 0.52]), np.array([3e7, 2e7, 4e6, 100.0])
    np.testing.assert_allclose(
        empirical_bayes(*float32(rates, sizes), np.full(4, True))[0], shrunk_by_hand(rates, sizes)[0], atol=2e-6
    )


@pytest.mark.parametrize("extra", [0, 2])
@pytest.mark.parametrize("difference", [0.0, 0.04, -0.09])
def test_two_groups_are_the_rule_of_one_difference(difference, extra):
    rates, sizes = np.array([0.4 + difference, 0.4]), np.array([130.0, 700.0])
    rule = ExpectedObjective(epsilon=0.05, variance=0.2)
    evaluation = Evaluation(*float32(0.5, 1.0, difference, 1 / 130 + 1 / 700))
    more = np.append(rates, [np.nan] * extra), np.append(sizes, [0.0] * extra), [True, True] + [False] * extra
    found = expected(*float32(*more[:2]), np.array(more[2]), 0.05, 0.2)
    assert found == pytest.approx(float(rule(evaluation)), abs=1e-6)


@pytest.mark.parametrize("variance", [None, 0.15])
def test_more_groups_are_shrunk_and_get_the_noise_of_new_data(variance):
    rates, sizes = np.array([0.5, 0.42, 0.61, 0.47]), np.array([60.0, 900.0, 150.0, 3000.0])
    pooled = np.sum(rates * sizes) / np.sum(sizes)
    square = (pooled * (1 - pooled) if variance is None else variance) / sizes
    shrunk, kept = shrunk_by_hand(rates, sizes, variance)
    expectation = integrated(shrunk, kept * square + square, 0.15)
    found = expected(*float32(rates, sizes), jnp.full(4, True), 0.15, variance)
    assert found == pytest.approx(expectation, abs=5e-5)


def test_many_at_once_are_each_alone():
    rng = np.random.default_rng(0)
    rates, sizes = float32(rng.random((6, 4)), rng.integers(20, 500, (6, 4)))
    there = jnp.asarray(rng.random((6, 4)) < 0.8)
    mapped = jax.jit(jax.vmap(expected_range_within, in_axes=(0, 0, 0, None)))(rates, sizes, there, 0.3)
    alone = [float(expected(*row, 0.3)) for row in zip(rates, sizes, there, strict=True)]
    np.testing.assert_allclose(mapped, alone, atol=1e-6)
    np.testing.assert_allclose(expected_range_within(rates, sizes, there, 0.3), alone, atol=1e-6)
    bounds = jnp.array([0.1, 0.2, 0.3])
    over = jax.vmap(expected, in_axes=(None, None, None, 0))(rates[0], sizes[0], there[0], bounds)
    assert over[2] == pytest.approx(alone[0], abs=1e-6)


@pytest.mark.parametrize("there", [[True] * 4, [True, False, True, True], [True, False, True, False], [False] * 4])
def test_gradients_are_finite_and_those_of_finite_differences(there):
    there = np.array(there)
    rates, sizes = np.where(there, [0.3, 0.5, 0.55, 0.42], np.nan), np.where(there, [80.0, 50.0, 300.0, 120.0], 0.0)

    def probability(rates):
        return expected(rates, *float32(sizes), there, 0.3)

    gradient = np.asarray(by_rate(*float32(rates, sizes), there, 0.3))
    assert np.isfinite(gradient).all()
    assert (gradient[~there] == 0).all()
    for g in np.flatnonzero(there):
        up, down = (probability(*float32(np.where(np.arange(4) == g, rates + h, rates))) for h in (5e-3, -5e-3))
        assert gradient[g] == pytest.approx(float(up - down) / 1e-2, abs=0.02)
    assert np.isfinite(by_size(*float32(rates, sizes), there, 0.3)).all()


@pytest.mark.parametrize("rates", [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.5, 0.5, 0.5], [0.0, 1.0, 0.5]])
def test_gradients_are_finite_at_the_ends(rates):
    arguments = *float32(rates, [5.0, 50.0, 500.0]), np.full(3, True)
    assert np.isfinite(by_rate(*arguments, 0.1)).all()
    assert np.isfinite(by_size(*arguments, 0.1)).all()
    assert np.isfinite(jax.jit(jax.grad(range_within, argnums=1))(arguments[0], jnp.zeros(3), arguments[2], 0.1)).all()


SIZES = np.array([26, 37, 60, 110, 170, 240, 420, 800, 2700, 5463])
SHAPE = np.array([0.2, 0.7, 0.1, 0.5, 0.05, 0.6, 0.0, 0.9, 0.1, 1.0])  # as in Adult, large groups are at the ends


def estimates(spread, draws=800):
    """Return plain and shrunk rates of simulated groups, and their true range."""
    truth = 0.25 + spread * (SHAPE - 0.5)
    rates = np.random.default_rng(0).binomial(SIZES, truth, (draws, 10)) / SIZES
    sizes = np.broadcast_to(SIZES.astype(float), rates.shape)
    shrunk = empirical_bayes(*float32(rates, sizes), np.full(rates.shape, True))[0]
    return np.ptp(rates, axis=1), np.ptp(np.asarray(shrunk), axis=1)


def test_shrunk_ranges_are_nearly_unbiased_where_plain_ones_are_not():
    plain, shrunk = estimates(0.0)
    assert plain.mean() > 0.12
    assert shrunk.mean() < 0.02
    for spread in (0.1, 0.2, 0.4):
        plain, shrunk = estimates(spread)
        assert abs(shrunk.mean() - spread) < min(0.03, abs(plain.mean() - spread) + 0.01)
        assert np.sqrt(np.mean((shrunk - spread) ** 2)) < np.sqrt(np.mean((plain - spread) ** 2))


def test_the_range_of_new_data_is_forecast_better_by_shrunk_rates():
    rng = np.random.default_rng(1)
    truth = 0.3 + rng.uniform(0, 0.25, (500, 1)) * (rng.random((500, 10)) - 0.5)
    old, new = (rng.binomial(SIZES, truth) / SIZES for _ in range(2))
    outcome = np.ptp(new, axis=1) < 0.2
    sizes, there = np.broadcast_to(SIZES.astype(float), old.shape), np.full(old.shape, True)
    forecast = np.asarray(expected(*float32(old, sizes), there, 0.2))
    pooled = np.sum(old * SIZES, axis=1, keepdims=True) / SIZES.sum()
    plain = np.asarray(within(*float32(old, 2 * pooled * (1 - pooled) / sizes), there, 0.2))
    assert 0.1 < outcome.mean() < 0.9
    assert np.mean((forecast - outcome) ** 2) < np.mean((plain - outcome) ** 2)
    assert forecast.mean() == pytest.approx(outcome.mean(), abs=0.08)
    assert plain.mean() < outcome.mean()
