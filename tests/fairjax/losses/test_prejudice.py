import jax
import jax.numpy as jnp
import numpy as np
import pytest
from aif360_prejudice import regression_of_aif360
from scipy.optimize import minimize

from fairjax.losses import Outputs, Prejudice, cross_entropies, prejudice
from fairjax.types import Batch

N = 60
RNG = np.random.default_rng(0)
SCORES = RNG.uniform(0.05, 0.95, N)
A, GROUPS = np.arange(N) % 3 == 0, np.arange(N) % 3
PROBABILITIES = RNG.dirichlet(np.ones(4), N)


def by_rows(p, groups):
    """The mean over the rows, as the paper writes the sum."""
    total = 0.0
    for i in range(len(p)):
        for k in range(p.shape[1]):
            total += p[i, k] * np.log(p[groups == groups[i], k].mean() / p[:, k].mean())
    return total / len(p)


@pytest.mark.parametrize("groups", [A, GROUPS], ids=["two groups", "three groups"])
def test_the_index_is_the_papers_sum_over_rows(groups):
    two, weights = np.stack([1 - SCORES, SCORES], axis=1), np.arange(N) % 4
    rows = np.repeat(np.arange(N), weights)
    with jax.enable_x64(True):
        index = jax.jit(lambda p, w: prejudice(p, groups, w))
        for p, given in ((two, SCORES), (PROBABILITIES, PROBABILITIES)):
            np.testing.assert_allclose(index(given, np.ones(N)), by_rows(p, groups), rtol=1e-6)
            np.testing.assert_allclose(index(given, weights), by_rows(p[rows], groups[rows]), rtol=1e-6)
    np.testing.assert_allclose(prejudice(SCORES, groups), by_rows(two, groups), rtol=1e-3, atol=1e-6)


def test_the_index_is_the_mutual_information_of_drawn_predictions():
    joint = np.array([[0.3, 0.1], [0.2, 0.4]])  # group, class
    p = np.repeat(joint / joint.sum(axis=1, keepdims=True), [40, 60], axis=0)
    expected = np.sum(joint * np.log(joint / joint.sum(axis=1, keepdims=True) / joint.sum(axis=0, keepdims=True)))
    np.testing.assert_allclose(prejudice(p, np.repeat([0, 1], [40, 60])), expected, rtol=1e-5)


def test_the_gradient_is_the_difference_of_log_odds_and_that_of_finite_differences():
    with jax.enable_x64(True):
        scores, index = jnp.asarray(SCORES), jax.jit(lambda scores: prejudice(scores, A))
        gradient = jax.jit(jax.grad(index))(scores)
        of_group = np.where(A, SCORES[A].mean(), SCORES[~A].mean())
        log_odds = np.log(of_group / (1 - of_group)) - np.log(SCORES.mean() / (1 - SCORES.mean()))
        np.testing.assert_allclose(N * gradient, log_odds, rtol=1e-10)
        for i in range(0, N, 7):
            ends = [index(scores.at[i].add(sign * 1e-6)) for sign in (1, -1)]
            np.testing.assert_allclose(gradient[i], (ends[0] - ends[1]) / 2e-6, rtol=1e-5)


def test_certain_predictions_have_a_finite_value_and_gradient():
    for scores in (A.astype(float), np.ones(N), np.zeros(N)):
        value, gradient = jax.value_and_grad(prejudice)(jnp.asarray(scores, jnp.float32), A)
        assert jnp.isfinite(value) and jnp.all(jnp.isfinite(gradient))
    share = A.mean()
    entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
    np.testing.assert_allclose(prejudice(A.astype(float), A), entropy, rtol=1e-4)


def test_the_term_is_the_index_of_the_scores():
    logits = jnp.asarray(np.log(SCORES / (1 - SCORES)), jnp.float32)
    batch = Batch(jnp.ones((N, 1)), jnp.asarray(A), jnp.asarray(A))
    np.testing.assert_allclose(Prejudice().value((), Outputs(logits, {}), batch), prejudice(SCORES, A), rtol=1e-4)
    logits = jnp.asarray(np.log(PROBABILITIES), jnp.float32)
    found = Prejudice(num_groups=3).value((), Outputs(logits, {}), batch._replace(a=jnp.asarray(GROUPS)))
    np.testing.assert_allclose(found, prejudice(PROBABILITIES, GROUPS), rtol=1e-4)


def test_values_that_are_no_probabilities_are_refused():
    with pytest.raises(ValueError, match="scores in \\[0, 1\\], found 2 in row 0"):
        prejudice(np.full(N, 2.0), A)
    with pytest.raises(ValueError, match="values must have shape"):
        prejudice(np.ones((N, 2, 2)), A)


@pytest.fixture(scope="module")
def aif360_s():
    """AIF360's class of the prejudice remover."""
    return regression_of_aif360()


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(1)
    a = rng.random(150) < 0.5
    x = rng.normal(size=(150, 3)) + 0.8 * a[:, None]
    y = x[:, 0] + 0.5 * a + rng.normal(size=150) > 0.6
    return x, y.astype(int), a.astype(int)


@pytest.mark.parametrize("eta", [0.0, 1.0, 5.0, 25.0])
def test_the_minimum_is_not_above_aif360_s(eta, aif360_s, table):
    x, y, a = table
    theirs = aif360_s(eta=eta, C=1.0)
    with np.errstate(all="ignore"):
        theirs.fit(np.column_stack([x, a]), y, itype=0)
    with jax.enable_x64(True):
        rows = jnp.asarray(np.column_stack([x, np.ones(len(x))]))

        @jax.jit
        def objective(coefficients):  # a regression for each group, and sums instead of means
            logits = jnp.sum(rows * coefficients.reshape(2, -1)[a], axis=1)
            fit = jnp.sum(cross_entropies(logits, jnp.asarray(y)))
            penalty = len(x) * prejudice(jax.nn.sigmoid(logits), jnp.asarray(a), num_groups=2)
            return fit + eta * penalty + 0.5 * jnp.sum(coefficients**2)

        ours = minimize(jax.jit(jax.value_and_grad(objective)), np.zeros(8), jac=True, method="BFGS")
        at_theirs = float(objective(jnp.asarray(theirs.coef_)))
    data = np.column_stack([x, np.ones(len(x))]), y, a
    np.testing.assert_allclose(ours.fun, theirs.loss(ours.x, *data), rtol=1e-8)  # the same objective
    np.testing.assert_allclose(at_theirs, theirs.f_loss_, rtol=1e-8)
    assert ours.fun <= theirs.f_loss_ + 1e-6
    if eta == 0:
        np.testing.assert_allclose(ours.x, theirs.coef_, atol=1e-3)
