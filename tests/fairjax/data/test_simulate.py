"""The synthetic data sets: `fairjax.data.simulate`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from fairjax.data import append_protected, loh, simulate, zafar, zafar_plane

N = 100_000
SIZES = {"features": 6, "hidden": 4}
PARAMETER = {"loh": "alpha", "zafar": "theta", "zafar_plane": "theta"}
DRAWS = {"loh": loh, "zafar": functools.partial(zafar, **SIZES), "zafar_plane": zafar_plane}
# compiled once for all tests, with a single size
LOH, ZAFAR, PLANE = (jax.jit(functools.partial(draw, n=N)) for draw in DRAWS.values())
COMPILED = dict(zip(DRAWS, (LOH, ZAFAR, PLANE), strict=True))
CLASSES = {
    # mean and covariance of Zafar et al. (2017), section 5.1
    1: stats.multivariate_normal([2, 2], [[5, 1], [1, 5]]),
    0: stats.multivariate_normal([-2, -2], [[10, 1], [1, 3]]),
}


@pytest.fixture(scope="module")
def loh_draw():
    return jax.tree.map(np.asarray, LOH(jax.random.key(1), alpha=1.5))


@pytest.fixture(scope="module")
def plane_draw():
    return jax.tree.map(np.asarray, PLANE(jax.random.key(2), theta=0.9))


def equal(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def rotate(x, theta):
    """Eq. 10."""
    return x @ np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]]).T


def privileged(x, theta):
    """Compute step 4 of the model of Zafar et al. with SciPy's densities."""
    densities = {label: law.pdf(rotate(x, theta)) for label, law in CLASSES.items()}
    return densities[1] / (densities[1] + densities[0])


def check_calibrated(outcome, probability, features):
    """Check that outcomes follow their probabilities within five deviations, by deciles of these and of features."""
    for values in (probability, *features.T):
        bins = np.digitize(values, np.unique(np.quantile(values, np.linspace(0, 1, 11)))[1:-1])
        excess = np.bincount(bins, outcome - probability)
        deviation = np.sqrt(np.bincount(bins, probability * (1 - probability)))
        assert np.all(np.abs(excess) < 5 * deviation + 1e-6)


# Loh et al.


@pytest.mark.parametrize("column", [0, 1, 2, 6, 7, 8, 9])
def test_loh_normal_features(loh_draw, column):
    assert stats.kstest(loh_draw.x[:, column], "norm").pvalue > 1e-3


def test_loh_other_features(loh_draw):
    assert stats.kstest(loh_draw.x[:, 3], "expon").pvalue > 1e-3
    values, counts = np.unique(loh_draw.x[:, 4], return_counts=True)
    assert values.tolist() == [0, 1] and stats.chisquare(counts).pvalue > 1e-3
    values, counts = np.unique(loh_draw.x[:, 5], return_counts=True)
    assert values.tolist() == list(range(1, 11)) and stats.chisquare(counts).pvalue > 1e-3


def test_loh_correlations(loh_draw):
    expected = np.eye(11)
    expected[1, 2] = expected[2, 1] = 0.5
    expected[6:10, 6:10] += 0.5 * (1 - np.eye(4))
    # the group is independent of all features
    found = np.corrcoef(np.column_stack([loh_draw.x, loh_draw.a]).T)
    np.testing.assert_allclose(found, expected, atol=5 / np.sqrt(N))


def test_loh_labels_follow_equation_9(loh_draw):
    x, y, a = loh_draw
    odd = x[:, 5] % 2 == 1
    probability = expit(0.5 * (x[:, 0] + x[:, 1] - x[:, 4]) + 2 * 1.5 * a * odd)
    for group in (a & odd, a & ~odd, ~a & odd, ~a & ~odd):
        check_calibrated(y[group], probability[group], x[group][:, [0, 1, 2, 3, 6]])
        assert abs(group.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / N)


def test_loh_extremes_of_alpha():
    x, y, a = LOH(jax.random.key(3), alpha=50.0)
    assert y[a & (x[:, 5] % 2 == 1)].all()
    x, y, a = LOH(jax.random.key(3), alpha=0.0)
    assert abs(float(y[a].mean() - y[~a].mean())) < 5 * np.sqrt(1 / N)


@pytest.mark.parametrize("alpha", [-1.0, -0.1, float("nan")])
def test_loh_refuses_a_negative_effect(alpha):
    with pytest.raises(ValueError, match=f"alpha must be at least 0, found {alpha}"):
        loh(jax.random.key(0), 10, alpha)


# Zafar et al.


@pytest.mark.parametrize("label", [0, 1])
def test_zafar_classes(plane_draw, label):
    x = plane_draw.x[plane_draw.y == label]
    law = CLASSES[label]
    np.testing.assert_allclose(x.mean(axis=0), law.mean, atol=5 * np.sqrt(10 / len(x)))
    np.testing.assert_allclose(np.cov(x.T), law.cov, atol=5 * np.sqrt(2 * 10**2 / len(x)))
    # squared Mahalanobis distances of Gaussian points follow chi-squared
    whitened = np.linalg.solve(np.linalg.cholesky(law.cov), (x - law.mean).T)
    assert stats.kstest((whitened**2).sum(axis=0), "chi2", args=(2,)).pvalue > 1e-3
    assert abs(len(x) / N - 0.5) < 5 * np.sqrt(0.25 / N)


group_logit = jax.jit(simulate._group_logit)
random_map = jax.jit(simulate._random_map, static_argnums=2)


@pytest.mark.parametrize("theta", [-0.9, 0.0, 0.7, 1.2])
def test_zafar_group_probability_is_that_of_the_densities(plane_draw, theta):
    found = jax.nn.sigmoid(group_logit(plane_draw.x[:2000], theta))
    np.testing.assert_allclose(found, privileged(plane_draw.x[:2000], theta), atol=1e-5)


def test_zafar_groups_follow_their_probability(plane_draw):
    check_calibrated(plane_draw.a, privileged(plane_draw.x, 0.9), plane_draw.x)


def test_zafar_group_probability_is_stable_far_out():
    far = jnp.array([[1e4, 1e4], [-1e4, -1e4], [1e4, -1e4], [0.0, 1e4]])
    assert jnp.isfinite(group_logit(far, 0.8)).all()


def test_zafar_bias_falls_with_the_angle():
    def gap(theta):
        _, y, a = PLANE(jax.random.key(4), theta=theta)
        return float(y[~a].mean() - y[a].mean())

    gaps = [gap(theta) for theta in (0.7, 0.8, 1.0, 1.2)]
    assert gaps == sorted(gaps) and gaps[-1] < 0


def test_zafar_maps_the_points_before_rotation():
    """The features are a function of the position alone, the same for every angle."""
    draws = [ZAFAR(jax.random.key(5), theta=theta) for theta in (0.7, 1.2)]
    equal(draws[0].x, draws[1].x)
    equal(draws[0].y, draws[1].y)
    assert (draws[0].a != draws[1].a).any()


def test_zafar_map_is_the_networks_of_step_6():
    points = jnp.asarray(np.random.default_rng(0).normal(size=(50, 2)), jnp.float32)
    found = random_map(jax.random.key(6), points, (2, 4, 4, 6))
    h, shapes = np.asarray(points), [(2, 4), (4, 4), (4, 6)]
    for layer, (layer_key, shape) in enumerate(zip(jax.random.split(jax.random.key(6), 3), shapes, strict=True)):
        matrix_key, vector_key = jax.random.split(layer_key)
        matrix = np.sqrt(2 / shape[0]) * np.asarray(jax.random.normal(matrix_key, shape))
        h = (np.maximum(h, 0) if layer else h) @ matrix + np.asarray(jax.random.normal(vector_key, (1, shape[1])))
    np.testing.assert_allclose(found, h, rtol=1e-4, atol=1e-5)


def test_zafar_features_bend_the_plane_and_keep_to_the_last_layer():
    x = np.asarray(ZAFAR(jax.random.key(7), theta=0.8).x)
    assert x.shape == (N, 6) and np.isfinite(x).all() and 0.1 < x.std() < 100
    assert 2 < np.linalg.matrix_rank(x - x.mean(axis=0), rtol=1e-4) <= 4


def test_zafar_map_key_fixes_the_map():
    for seed in (0, 1):
        fixed = ZAFAR(jax.random.key(seed), theta=0.8, map_key=jax.random.key(9))
        free = ZAFAR(jax.random.key(seed), theta=0.8)
        # the map has a key of its own, so points, labels and groups do not change with it
        equal(fixed[1:], free[1:])
        assert (fixed.x != free.x).any()
        points = PLANE(jax.random.split(jax.random.key(seed))[0], theta=0.8).x
        mapped = random_map(jax.random.key(9), points, (2, 4, 4, 6))
        np.testing.assert_allclose(mapped, fixed.x, rtol=1e-4, atol=1e-4)


# all


def close(first, second):
    """Check equality up to rounding, which may flip the rare draw that is very close to its probability."""
    np.testing.assert_allclose(first[0], second[0], rtol=1e-4, atol=1e-4)
    for one, other in zip(first[1:], second[1:], strict=True):
        assert np.mean(np.asarray(one) != np.asarray(other)) < 1e-4


@pytest.mark.parametrize("name", DRAWS)
def test_a_draw_is_a_pure_function_of_its_key(name):
    first, again, other = (COMPILED[name](jax.random.key(seed), **{PARAMETER[name]: 1.0}) for seed in (0, 0, 1))
    assert first.x.dtype == jnp.float32 and first.y.dtype == bool and first.a.dtype == bool
    assert first.y.shape == first.a.shape == (N,)
    equal(first, again)
    for one, another in zip(first, other, strict=True):
        assert (one != another).any()


@pytest.mark.parametrize("name", DRAWS)
def test_mapping_over_keys_and_parameters_equals_a_loop(name):
    def draw(seed, value):
        return DRAWS[name](jax.random.key(seed), n=N, **{PARAMETER[name]: value})

    seeds, values = [0, 0, 1], [0.0, 1.5, 1.5]
    mapped = jax.jit(jax.vmap(draw))(jnp.array(seeds), jnp.array(values))
    for i, (seed, value) in enumerate(zip(seeds, values, strict=True)):
        one = COMPILED[name](jax.random.key(seed), **{PARAMETER[name]: value})
        close(one, [leaf[i] for leaf in mapped])


@pytest.mark.parametrize("value", [1.0, np.float64(1), jnp.float32(1)])
@pytest.mark.parametrize("name", DRAWS)
def test_parameters_of_any_type_without_jit(name, value):
    expected = COMPILED[name](jax.random.key(11), **{PARAMETER[name]: 1.0})
    close(DRAWS[name](jax.random.key(11), N, value), expected)


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("n", [0, -3])
def test_sizes_are_checked(name, n):
    with pytest.raises(ValueError, match=f"n must be at least 1, found {n}"):
        DRAWS[name](jax.random.key(0), n)


@pytest.mark.parametrize("size", ["features", "hidden"])
def test_zafar_sizes_are_checked(size):
    with pytest.raises(ValueError, match=f"{size} must be at least 1, found 0"):
        zafar(jax.random.key(0), 10, **{size: 0})


def test_append_protected():
    batch = LOH(jax.random.key(12), alpha=1.0)
    longer = append_protected(batch)
    equal(longer.x[:, :10], batch.x)
    equal(longer.x[:, 10] == 1, batch.a)
    assert longer.x.dtype == batch.x.dtype and longer.y is batch.y and longer.a is batch.a
