import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from fairjax.losses import Outputs, Wasserstein, transport, wasserstein
from fairjax.types import Batch

N = 40
RNG = np.random.default_rng(0)
SCORES = RNG.random(N).astype(np.float32)
A, GROUPS, Y = np.arange(N) % 3 == 0, np.arange(N) % 3, RNG.random(N) < 0.5
WEIGHTS = RNG.integers(0, 4, N)
PAIRS = ((0, 1), (0, 2), (1, 2))


def compiled(groups, **options):
    """The distance of numbers with everything else constant, since single operations take longer to compile."""
    return jax.jit(lambda values: wasserstein(values, groups, **options))


def test_the_distance_is_scipy_s():
    np.testing.assert_allclose(compiled(A)(SCORES), wasserstein_distance(SCORES[A], SCORES[~A]), rtol=1e-5)
    of_pairs = [wasserstein_distance(SCORES[GROUPS == i], SCORES[GROUPS == j]) for i, j in PAIRS]
    np.testing.assert_allclose(compiled(GROUPS)(SCORES), sum(of_pairs), rtol=1e-5)
    to_all = [wasserstein_distance(SCORES[GROUPS == i], SCORES) for i in range(3)]
    np.testing.assert_allclose(compiled(GROUPS, against="all")(SCORES), sum(to_all), rtol=1e-5)
    w0, w1 = WEIGHTS[~A], WEIGHTS[A]
    weighted = wasserstein_distance(SCORES[~A], SCORES[A], w0, w1)
    np.testing.assert_allclose(compiled(A, weights=WEIGHTS)(SCORES), weighted, rtol=1e-5)
    within = [wasserstein_distance(SCORES[A & rows], SCORES[~A & rows]) for rows in (Y, ~Y)]
    np.testing.assert_allclose(compiled(A, y=Y)(SCORES), np.mean(within), rtol=1e-5)


@pytest.mark.parametrize("groups", [A, GROUPS], ids=["two groups", "three groups"])
def test_comparing_and_sorting_agree_with_ties_and_weights(groups, monkeypatch):
    values = np.round(4 * RNG.normal(size=(N, 3)).astype(np.float32)) / 4  # many ties, and 0.0 beside -0.0
    distance = {
        limit: jax.value_and_grad(lambda values: wasserstein(values, groups, 1.0 * WEIGHTS)) for limit in (0, 2048)
    }
    found = {}
    for limit, function in distance.items():
        monkeypatch.setattr(transport, "COMPARED", limit)
        found[limit] = jax.jit(jax.vmap(function))(jnp.stack([values, values + 100]))
    expected = [
        sum(
            wasserstein_distance(column[groups == i], column[groups == j], WEIGHTS[groups == i], WEIGHTS[groups == j])
            for i in np.unique(groups)
            for j in np.unique(groups)
            if i < j
        )
        for column in values.T
    ]
    np.testing.assert_allclose(found[2048][0], np.mean(expected), rtol=2e-5)
    np.testing.assert_allclose(found[0][0], found[2048][0], rtol=2e-5)
    np.testing.assert_allclose(found[0][1], found[2048][1], atol=1e-6)


def test_quantiles_give_the_distance_of_both_orders():
    first, second = SCORES[:12], SCORES[12:30]
    values, a = SCORES[:30], np.arange(30) < 12
    x, z = np.repeat(np.sort(first), 3), np.repeat(np.sort(second), 2)  # 36 common levels
    np.testing.assert_allclose(compiled(a)(values), np.mean(np.abs(x - z)), rtol=1e-5)
    np.testing.assert_allclose(compiled(a, order=2)(values), np.mean((x - z) ** 2), rtol=1e-5)
    np.testing.assert_allclose(compiled(a, levels=36)(values), np.mean(np.abs(x - z)), rtol=1e-5)
    np.testing.assert_allclose(compiled(a, order=2, levels=36)(values), np.mean((x - z) ** 2), rtol=1e-5)
    huber = np.mean(np.sqrt((x - z) ** 2 + 0.01) - 0.1)
    np.testing.assert_allclose(compiled(a, smoothing=0.1)(values), huber, rtol=1e-4)
    assert abs(compiled(a, levels=64)(values) - compiled(a)(values)) < 0.01
    np.testing.assert_allclose(compiled(a, smoothing=1e-4)(values), compiled(a)(values), atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"order": 2}, {"smoothing": 0.1}, {"levels": 16}, {"against": "all"}])
def test_gradients_are_finite_differences(options):
    with jax.enable_x64(True):
        scores, step = jnp.asarray(SCORES, jnp.float64), 1e-7
        direction = jnp.asarray(RNG.normal(size=N))
        slope = jnp.sum(jax.jit(jax.grad(compiled(GROUPS, **options)))(scores) * direction)
        ends = [compiled(GROUPS, **options)(scores + sign * step * direction) for sign in (1, -1)]
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"order": 2}, {"smoothing": 0.1}, {"levels": 16}])
def test_gradients_are_finite_with_ties_and_equal_groups_have_no_distance(options):
    values = jnp.repeat(jnp.array([0.0, 0.5, 1.0]), 4)
    value, gradient = jax.jit(jax.value_and_grad(compiled(np.arange(12) % 2 == 0, **options)))(values)
    assert abs(value) < 1e-6 and jnp.all(jnp.isfinite(gradient))
    _, gradient = jax.jit(jax.value_and_grad(compiled(np.arange(12) % 3 == 0, **options)))(values)
    assert jnp.all(jnp.isfinite(gradient))


def test_the_sliced_distance_is_the_mean_over_its_directions():
    h = RNG.normal(size=(N, 3)).astype(np.float32)
    batch = Batch(jnp.asarray(h), jnp.asarray(Y), jnp.asarray(A))
    outputs = Outputs(jnp.zeros(N), {"last": jnp.asarray(h)})
    term = Wasserstein(layer="last", directions=5)
    directions = term.init(jax.random.key(0), outputs, batch)
    assert directions.shape == (3, 5)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=0), 1, rtol=1e-6)
    projections = h @ np.asarray(directions)
    expected = [wasserstein_distance(column[A], column[~A]) for column in projections.T]
    np.testing.assert_allclose(term.value(directions, outputs, batch), np.mean(expected), rtol=1e-5)
    kept, _ = term.update(directions, (), outputs, batch)
    assert kept is directions and term.init(jax.random.key(1), outputs, batch)[0, 0] != directions[0, 0]


def test_the_term_is_the_distance_of_the_scores():
    logits, batch = jnp.asarray(4 * SCORES - 2), Batch(jnp.ones((N, 1)), jnp.asarray(Y), jnp.asarray(A))
    scores = 1 / (1 + np.exp(-np.asarray(logits)))
    of = {
        notion: Wasserstein(notion=notion).value((), Outputs(logits, {}), batch) for notion in ("parity", "opportunity")
    }
    np.testing.assert_allclose(of["parity"], wasserstein_distance(scores[A], scores[~A]), rtol=1e-5)
    np.testing.assert_allclose(of["opportunity"], wasserstein_distance(scores[A & Y], scores[~A & Y]), rtol=1e-5)
    classes = RNG.normal(size=(N, 3)).astype(np.float32)
    p = np.exp(classes) / np.exp(classes).sum(axis=1, keepdims=True)
    expected = np.mean([wasserstein_distance(column[A], column[~A]) for column in p.T])
    codes = batch._replace(y=jnp.asarray(np.arange(N) % 3))
    found = Wasserstein(num_classes=3).value((), Outputs(jnp.asarray(classes), {}), codes)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_options_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="order must be 1 or 2, got 3"):
        wasserstein(SCORES, A, order=3)
    with pytest.raises(ValueError, match="levels must be at least 1"):
        Wasserstein(levels=0)
    with pytest.raises(ValueError, match="smoothing must be a finite number"):
        Wasserstein(smoothing=-0.1)
    with pytest.raises(ValueError, match="smoothing is for order 1"):
        wasserstein(SCORES, A, order=2, smoothing=0.1)
    with pytest.raises(ValueError, match="directions must be at least 1"):
        Wasserstein(layer="last", directions=0)
