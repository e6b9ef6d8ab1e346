"""The prejudice remover of Table 3: its exact minimum, and AIF360's fit, against AIF360, SciPy and scikit-learn."""

import os
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from aif360.algorithms.inprocessing import PrejudiceRemover
from aif360.datasets import BinaryLabelDataset
from aif360_prejudice import regression_of_aif360
from scipy.optimize import approx_fprime
from sklearn.preprocessing import StandardScaler

from experiments.second_paper.table3.prejudice import (
    GroupRows,
    aif360_fit,
    group_rows,
    hessian,
    minimum,
    separate_regressions,
    standardised,
    value_and_aif360_gradient,
    value_and_gradient,
)
from fairjax.types import Batch

N, D = 300, 4
ETAS = (1.0, 25.0)


@pytest.fixture(scope="module")
def theirs():
    """AIF360's regressions for the rows of these tests, by eta."""

    def made(eta):
        found = regression_of_aif360()(eta=eta)
        found.n_sfv_, found.n_features_, found.n_samples_ = 2, D, N
        found.c_s_ = np.array([np.sum(~ROWS.a), np.sum(ROWS.a)], float)
        return found

    return made


def drawn():
    rng = np.random.default_rng(1)
    a = rng.random(N) < 0.6
    x = rng.normal(size=(N, D - 1)) * [1.0, 3.0, 0.5] + 0.8 * a[:, None]
    y = x[:, 0] + 0.5 * a + rng.normal(size=N) > 0.6
    return Batch(np.insert(x, 1, a, axis=1), y, a)


BATCH = drawn()
ROWS = group_rows(BATCH, 1)
DATA = ROWS.features.T, ROWS.y.astype(int), ROWS.a.astype(int)
"""What AIF360's loss and gradient are called with."""
WEIGHTS = np.random.default_rng(2).normal(size=(2, D))


def of_ours(function, weights, eta):
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, function(jnp.asarray(weights), jax.tree.map(jnp.asarray, ROWS), eta))


@pytest.fixture(scope="module")
def minima():
    return {eta: minimum(ROWS, eta) for eta in (0.0, *ETAS)}


def test_rows_have_a_constant_in_place_of_the_group():
    np.testing.assert_array_equal(ROWS.features[-1], 1.0)
    np.testing.assert_array_equal(ROWS.features[:-1].T, np.asarray(BATCH.x)[:, [0, 2, 3]])


def test_standardised_rows_are_scikit_learns():
    test = ROWS._replace(features=ROWS.features * 1.5)
    constant = ROWS._replace(features=np.vstack([np.full(N, 2.0), ROWS.features]))
    scaler = StandardScaler().fit(ROWS.features[:-1].T)
    np.testing.assert_allclose(
        standardised(test, ROWS).features[:-1].T, scaler.transform(test.features[:-1].T), atol=1e-12
    )
    np.testing.assert_array_equal(standardised(test, ROWS).features[-1], 1.5)
    np.testing.assert_array_equal(standardised(constant, constant).features[0], 0.0)


@pytest.mark.parametrize("eta", [0.0, *ETAS])
def test_the_objective_is_aif360s_and_the_gradient_is_the_objectives(eta, theirs):
    oracle = theirs(eta)
    value, gradient = of_ours(value_and_gradient, WEIGHTS, eta)
    np.testing.assert_allclose(value, oracle.loss(WEIGHTS.ravel(), *DATA), rtol=1e-10)
    differences = approx_fprime(WEIGHTS.ravel(), oracle.loss, 1e-7, *DATA)
    np.testing.assert_allclose(gradient.ravel(), differences, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("eta", [0.0, *ETAS])
def test_the_imitated_gradient_is_aif360s(eta, theirs):
    _, gradient = of_ours(value_and_aif360_gradient, WEIGHTS, eta)
    np.testing.assert_allclose(gradient.ravel(), theirs(eta).grad_loss(WEIGHTS.ravel(), *DATA), rtol=1e-9)
    _, exact = of_ours(value_and_gradient, WEIGHTS, eta)
    assert (np.max(np.abs(gradient - exact)) > 1.0) == (eta > 0)


def test_second_derivatives_are_those_of_the_objective():
    slow = jax.hessian(lambda *args: value_and_gradient(*args)[0])
    for weights in (WEIGHTS, 0.1 * WEIGHTS):
        expected = of_ours(slow, weights, 25.0).reshape(2 * D, 2 * D)
        np.testing.assert_allclose(of_ours(hessian, weights, 25.0), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("eta", [0.0, *ETAS])
def test_the_gradient_is_zero_at_the_minimum_and_its_curvature_is_positive(eta, minima, theirs):
    found = minima[eta]
    assert found.converged and found.weights.dtype == np.float64
    loss, flat, step = theirs(eta).loss, found.weights.ravel(), 1e-4
    for direction in np.eye(2 * D):
        ends = [loss(flat + sign * step * direction, *DATA) for sign in (1, -1)]
        assert abs(ends[0] - ends[1]) / (2 * step) < 2e-3
    assert np.linalg.eigvalsh(of_ours(hessian, found.weights, eta))[0] > 0
    np.testing.assert_allclose(found.value, loss(flat, *DATA), rtol=1e-12)
    again = minimum(ROWS, eta, WEIGHTS)
    np.testing.assert_allclose(again.weights, found.weights, atol=1e-3)


@pytest.mark.parametrize("eta", [0.0, *ETAS])
def test_aif360s_fit_is_imitated_and_is_not_below_the_minimum(eta, minima, theirs):
    oracle = theirs(eta)
    with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
        oracle.fit(np.column_stack([ROWS.features[:-1].T, ROWS.a]), DATA[1], itype=3)
        start = separate_regressions(ROWS)
    found = aif360_fit(ROWS, eta, start)
    np.testing.assert_allclose(found.weights.ravel(), oracle.coef_, atol=1e-6)
    np.testing.assert_allclose(found.value, oracle.f_loss_, rtol=1e-8)
    if eta == 0:
        np.testing.assert_allclose(found.weights, minima[eta].weights, atol=1e-4)
        np.testing.assert_allclose(start, minima[eta].weights, atol=1e-2)
    else:
        assert minima[eta].value < found.value - 1.0 and not found.converged


@pytest.mark.slow
def test_decisions_are_those_of_aif360s_prejudice_remover(monkeypatch):
    """It starts programs named python, which must be this one."""
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    names = [f"feature {k}" for k in range(D - 1)]
    frame = pd.DataFrame(ROWS.features[:-1].T, columns=names).assign(group=ROWS.a.astype(float), y=ROWS.y.astype(float))
    table = BinaryLabelDataset(df=frame, label_names=["y"], protected_attribute_names=["group"])
    remover = PrejudiceRemover(eta=1.0, sensitive_attr="group", class_attr="y").fit(table)
    found = aif360_fit(ROWS, 1.0, separate_regressions(ROWS))
    np.testing.assert_array_equal(remover.predict(table).labels[:, 0] == 1, found.decide(ROWS))


def test_decisions_are_scores_above_one_half():
    rows = GroupRows(np.array([[1.0, -1.0, 1.0], [1.0, 1.0, 1.0]]), np.zeros(3, bool), np.array([False, False, True]))
    fitted = minimum(rows, 0.0)._replace(weights=np.array([[2.0, 1.0], [2.0, -3.0]]))
    assert fitted.decide(rows).tolist() == [True, False, False]
