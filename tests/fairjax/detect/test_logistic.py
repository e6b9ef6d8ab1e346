"""Logistic regression, compared with scikit-learn."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from fairjax.detect.concepts import logistic_regression

N, U = 60, 4
RNG = np.random.default_rng(0)
H = RNG.normal(size=(N, U)).astype(np.float32) * np.array([1.0, 3.0, 0.2, 1.0], np.float32) + np.float32(2.0)
Y = H @ np.array([1.0, -0.5, 2.0, 0.0]) + RNG.normal(size=N) > 1.0

fit = jax.jit(lambda h, y, weights, penalty: logistic_regression(h, y, weights=weights, penalty=penalty))


def scikit(h, y, weights=None, penalty=1.0, class_weight=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=20_000, class_weight=class_weight)
        model.fit(np.asarray(h, np.float64), y, sample_weight=weights)
    return model.coef_[0], model.intercept_[0]


def check_same(fitted, expected, tolerance=2e-4):
    coef, intercept = expected
    assert bool(fitted.converged)
    np.testing.assert_allclose(fitted.coef, coef, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(fitted.intercept, intercept, rtol=tolerance, atol=tolerance * 5)


@pytest.mark.parametrize("penalty", [0.1, 1.0, 30.0])
def test_coefficients_are_those_of_scikit_learn(penalty):
    check_same(fit(H, Y, jnp.ones(N), penalty), scikit(H, Y, penalty=penalty))


def test_weights_are_those_of_scikit_learn():
    weights = RNG.integers(0, 4, N).astype(np.float32)
    check_same(fit(H, Y, weights, 1.0), scikit(H, Y, weights))
    rare = Y & (np.arange(N) % 3 == 0)
    check_same(logistic_regression(H, rare, weights="balanced"), scikit(H, rare, class_weight="balanced"))


def test_separable_classes_converge():
    for scale in (1.0, 1000.0):
        h = np.stack([np.arange(N) - N / 2 + 0.5, np.ones(N), np.zeros(N), np.arange(N) % 2], axis=1) * scale
        y = np.arange(N) >= N / 2
        fitted = fit(h.astype(np.float32), y, jnp.ones(N), 1.0)
        assert bool(fitted.converged) and int(fitted.steps) < 40
        if scale == 1.0:
            check_same(fitted, scikit(h, y), 2e-3)
        assert bool(jnp.all((fitted.decision_function(h) > 0) == y))


def test_more_inputs_than_rows_give_what_scikit_learn_gives():
    h, y = RNG.normal(size=(12, 40)).astype(np.float32), np.arange(12) % 2 == 0
    check_same(fit(h, y, jnp.ones(12), 1.0), scikit(h, y), 1e-3)


def test_collinear_and_constant_inputs_are_harmless():
    h = np.concatenate([H, H[:, :1], np.ones((N, 1), np.float32)], axis=1)
    check_same(fit(h, Y, jnp.ones(N), 1.0), scikit(h, Y), 1e-3)


@settings(max_examples=10)
@given(st.integers(0, 2**31 - 1), st.floats(0.01, 100.0), st.floats(0.01, 100.0))
def test_the_gradient_is_zero_at_the_minimum_on_any_scale(seed, scale, penalty):
    rng = np.random.default_rng(seed)
    h = (rng.normal(size=(N, U)) * rng.uniform(0.1, 10, U) * scale).astype(np.float32)
    y = rng.random(N) < expit(h[:, 0] / scale)
    fitted = fit(h, y, jnp.ones(N), penalty)
    assert bool(fitted.converged)
    h, coef = np.asarray(h, np.float64), np.asarray(fitted.coef, np.float64)
    residual = expit(h @ coef + float(fitted.intercept)) - y
    gradient = h.T @ residual + penalty * coef
    size = np.abs(h).T @ np.abs(residual) + penalty * np.abs(coef)
    assert np.max(np.abs(gradient) / size) < 2e-3 and abs(residual.sum()) < 2e-3 * np.abs(residual).sum()


def test_many_regressions_are_one_program():
    y = jnp.stack([jnp.asarray(Y), ~jnp.asarray(Y), jnp.arange(N) % 2 == 0])
    weights = jnp.ones((3, N)).at[2, ::5].set(0.0)
    together = jax.jit(jax.vmap(fit, in_axes=(None, 0, 0, None)))(H, y, weights, 1.0)
    for i in range(3):
        check_same(
            jax.tree.map(lambda leaf, i=i: leaf[i], together), scikit(H, np.asarray(y[i]), np.asarray(weights[i]))
        )
    alone = logistic_regression(H, y[2], weights=weights[2])  # not jitted by the caller
    np.testing.assert_allclose(alone.coef, together.coef[2], rtol=1e-4, atol=1e-5)


def test_what_cannot_be_fitted_is_refused_or_nan():
    cases = {
        "both classes, found 0": (H, np.zeros(N, bool), {}),
        "both classes, found 60": (H, np.ones(N, bool), {}),
        "penalty must be positive, found 0": (H, Y, {"penalty": 0.0}),
        "finite, found NaN or infinity in row 3": (np.where(np.arange(N)[:, None] == 3, np.nan, H), Y, {}),
        r"found h \(60, 4\) and y \(59,\)": (H, Y[1:], {}),
        "'balanced' or one number per row, found 'even'": (H, Y, {"weights": "even"}),
        "both classes, found 0 of class 1 among 31": (H, Y, {"weights": (~Y).astype(np.float32)}),
        "y must hold 0 and 1 only": (H, np.arange(N), {}),
    }
    for message, (h, y, options) in cases.items():
        if "among 31" in message:
            message = message.replace("31", str((~Y).sum()))
        with pytest.raises(ValueError, match=message), jax.numpy_dtype_promotion("standard"):
            logistic_regression(np.asarray(h, np.float32), y, **options)
    traced = [
        fit(H, np.zeros(N, bool), jnp.ones(N), 1.0),
        fit(H, Y, jnp.ones(N), -1.0),
        fit(np.where(np.arange(N)[:, None] == 3, np.float32(np.nan), H), Y, jnp.ones(N), 1.0),
        fit(H, Y, -jnp.ones(N), 1.0),
    ]
    for fitted in traced:
        assert not bool(fitted.converged) and bool(jnp.all(jnp.isnan(fitted.coef))) and np.isnan(fitted.intercept)


def test_a_regression_that_ends_early_says_so(monkeypatch):
    monkeypatch.setattr("fairjax.detect.concepts.logistic.MAX_STEPS", 2)
    fitted = logistic_regression(H[: N - 1], Y[: N - 1])
    assert not bool(fitted.converged) and int(fitted.steps) == 2
