"""The measures, compared with AIF360, Fairlearn, scikit-learn and NumPy, and tests of their properties."""

import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fairlearn import metrics as fairlearn
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads
from sklearn.metrics import precision_score

from fairjax import metrics
from fairjax.adapters.aif360 import to_aif360
from fairjax.data import from_arrays
from fairjax.metrics import MEASURES

ANTISYMMETRIC = [name for name in MEASURES if name not in ("equalized_odds", "parity_ratio")]


def rows(seed, n=200):
    """Return decisions, scores, labels, groups and weights with rows in every cell of decision, label and group."""
    rng = np.random.default_rng(seed)
    cells = np.tile(np.array([[d, y, a] for d in (0, 1) for y in (0, 1) for a in (0, 1)]), (2, 1))
    d, y, a = np.concatenate([cells, rng.integers(0, 2, (n - len(cells), 3))]).T
    f = np.clip(rng.random(n), 0.01, 0.99).astype(np.float32)
    return d, f, y, a, rng.integers(1, 5, n).astype(np.float32)


def aif360_says(d, y, a, w):
    with warnings.catch_warnings():  # raised by AIF360's source when it is compiled for the first time
        warnings.simplefilter("ignore")
        from aif360.metrics import ClassificationMetric

    table = from_arrays(np.arange(len(y), dtype=float)[:, None], y, a)
    truth, decided = to_aif360(table), to_aif360(table, labels=d)
    truth.instance_weights = decided.instance_weights = w
    metric = ClassificationMetric(truth, decided, unprivileged_groups=[{"a": 0.0}], privileged_groups=[{"a": 1.0}])
    return {
        "spd": metric.statistical_parity_difference(),
        "eod": metric.equal_opportunity_difference(),
        "fprd": metric.false_positive_rate_difference(),
        "ppd": metric.positive_predictive_value(False) - metric.positive_predictive_value(True),
        "accuracy": metric.accuracy(False) - metric.accuracy(True),
        "average_odds": metric.average_odds_difference(),
        "parity_ratio": metric.disparate_impact() - 1,
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weighted", [False, True])
def test_decisions_agree_with_aif360(seed, weighted):
    d, _, y, a, w = rows(seed)
    w = w if weighted else np.ones_like(w)
    theirs = aif360_says(d, y, a, w)
    for name, value in theirs.items():
        ours = MEASURES[name](jnp.asarray(d), jnp.asarray(y), jnp.asarray(a), jnp.asarray(w) if weighted else None)
        assert ours == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize("seed", range(3))
def test_decisions_agree_with_fairlearn_and_scikit_learn(seed):
    d, _, y, a, w = rows(seed)
    theirs = fairlearn.equalized_odds_difference(y, d, sensitive_features=a, sample_weight=w)
    assert metrics.equalized_odds_difference(d, y, a, jnp.asarray(w)) == pytest.approx(theirs, abs=1e-6)
    gap = fairlearn.demographic_parity_difference(y, d, sensitive_features=a)
    assert abs(metrics.spd(d, y, a)) == pytest.approx(gap, abs=1e-6)
    ratio = fairlearn.demographic_parity_ratio(y, d, sensitive_features=a)
    ours = float(metrics.demographic_parity_ratio(d, y, a))
    assert min(ours, 1 / ours) == pytest.approx(ratio, abs=1e-6)
    precision = [precision_score(y[a == g], d[a == g]) for g in (0, 1)]
    assert metrics.predictive_parity_difference(d, y, a) == pytest.approx(precision[0] - precision[1], abs=1e-6)


def test_the_case_that_libraries_agree_on():
    y, d, a = (jnp.array([int(c) for c in row]) for row in ("1100101001", "1100110111", "0000111111"))
    assert metrics.spd(d, y, a) == pytest.approx(-1 / 3, abs=1e-6)
    assert metrics.eod(d, y, a) == pytest.approx(1 / 3, abs=1e-6)
    assert metrics.average_odds_difference(d, y, a) == pytest.approx(-1 / 3, abs=1e-6)
    assert metrics.demographic_parity_ratio(d, y, a) == pytest.approx(0.6, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_proxies_are_covariances(seed):
    """Lemmas 1 and 2: -proxy = N^2 / (K (N - K)) Cov(A, f), among y = 1 for EOD."""
    _, f, y, a, _ = rows(seed)
    for name, chosen in (("spd", np.ones(len(y), bool)), ("eod", y == 1)):
        f64, a64 = f[chosen].astype(np.float64), a[chosen].astype(np.float64)
        n, k = len(a64), a64.sum()
        covariance = np.cov(a64, f64, bias=True)[0, 1]
        assert -MEASURES[name](f, y, a) == pytest.approx(n**2 / (k * (n - k)) * covariance, abs=1e-6)


@pytest.mark.parametrize("name", MEASURES)
def test_gradients_agree_with_finite_differences(name):
    _, f, y, a, w = rows(0, n=24)
    check_grads(lambda f: MEASURES[name](f, y, a, jnp.asarray(w)), (jnp.asarray(f),), order=1, modes=["rev"], atol=2e-2)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("group", [0, 1])
def test_an_empty_group_gives_parity_and_no_gradient(name, group):
    f, y = jnp.array([0.2, 0.9, 0.4]), jnp.array([1, 0, 1])
    value, slope = jax.jit(jax.value_and_grad(MEASURES[name]))(f, y, jnp.full(3, group))
    assert value == 0.0
    np.testing.assert_array_equal(slope, 0.0)
    a, weights = jnp.array([group, 1 - group, group]), jnp.array([1.0, 0.0, 1.0])  # empty by weight
    value, slope = jax.jit(jax.value_and_grad(MEASURES[name]))(f, y, a, weights)
    assert value == 0.0
    np.testing.assert_array_equal(slope, 0.0)


@pytest.mark.parametrize("name", ["eod", "average_odds", "equalized_odds"])
def test_a_group_without_positives_is_empty_for_equal_opportunity(name):
    f, y, a = jnp.array([0.2, 0.9, 0.4, 0.3]), jnp.array([0, 1, 1, 0]), jnp.array([0, 1, 1, 1])
    value, slope = jax.value_and_grad(MEASURES[name])(f, y, a)
    assert jnp.isfinite(value) and jnp.isfinite(slope).all()
    assert metrics.eod(f, y, a) == 0.0


def test_nobody_accepted_is_parity_not_nan():
    y, a = jnp.array([1, 0, 1]), jnp.array([0, 1, 1])
    for name, measure in MEASURES.items():
        assert jnp.isfinite(measure(jnp.zeros(3), y, a)), name
    assert metrics.demographic_parity_ratio(jnp.zeros(3), y, a) == 1.0
    assert metrics.predictive_parity_difference(jnp.zeros(3), y, a) == 0.0


def test_the_ratio_is_infinite_if_only_the_privileged_are_all_refused():
    value, slope = jax.value_and_grad(metrics.demographic_parity_ratio)(
        jnp.array([1.0, 0.0]), jnp.ones(2), jnp.array([0, 1])
    )
    assert jnp.isinf(value)
    np.testing.assert_array_equal(slope, 0.0)


@pytest.mark.parametrize("name", MEASURES)
def test_kinds_of_indicator_and_jit_and_vmap_do_not_matter(name):
    d, _, y, a, _ = rows(1)
    measure, kinds = MEASURES[name], (bool, np.int32, np.float32)
    values = [measure(d.astype(kind), y.astype(kind), a.astype(kind)) for kind in kinds]
    assert values[0] == values[1] == values[2]
    assert jax.jit(measure)(d, y, a) == pytest.approx(float(values[0]), abs=1e-6)
    stacked = [np.stack([array, np.roll(array, 3)]) for array in (d, y[::-1].copy(), a)]
    together = jax.vmap(measure)(*stacked)
    np.testing.assert_allclose(together, [measure(*(array[i] for array in stacked)) for i in range(2)], atol=1e-6)


@pytest.mark.parametrize("name", MEASURES)
@given(seed=st.integers(0, 10_000), data=st.data())
def test_measures_know_rows_only_by_what_they_are(name, seed, data):
    _, f, y, a, w = rows(seed, n=40)
    measure, base = MEASURES[name], None
    base = float(measure(f, y, a, jnp.asarray(w)))
    order = np.array(data.draw(st.permutations(range(40))))
    assert measure(f[order], y[order], a[order], jnp.asarray(w[order])) == pytest.approx(base, abs=2e-5)
    counts = w.astype(int)
    repeated = [np.repeat(array, counts) for array in (f, y, a)]
    assert measure(*repeated) == pytest.approx(base, abs=2e-5)
    more = [np.concatenate([array, array[:7]]) for array in (f, y, a, np.zeros(40, np.float32))]
    weights = np.concatenate([w, np.zeros(7, np.float32)])
    assert measure(*more[:3], jnp.asarray(weights)) == pytest.approx(base, abs=2e-5)
    if name in ANTISYMMETRIC:
        assert measure(f, y, 1 - a, jnp.asarray(w)) == pytest.approx(-base, abs=2e-5)
    if name == "parity_ratio":
        assert measure(f, y, 1 - a, jnp.asarray(w)) == pytest.approx(1 / (1 + base) - 1, rel=1e-3, abs=2e-5)


def test_linear_proxies_add_up_over_chunks():
    _, f, y, a, _ = rows(2)
    chunks = [slice(0, 20), slice(20, 90), slice(90, 200)]
    for group, sign in ((0, 1), (1, -1)):
        mine = np.where(a == group, f, 0)
        assert sum(mine[chunk].sum() for chunk in chunks) / (a == group).sum() * sign == pytest.approx(
            float(metrics.rate(f, jnp.asarray(a == group))[0]) * sign, abs=1e-6
        )


def test_wrong_shapes_are_refused():
    """Disable the tests' type checks, so that the errors are those that users see."""
    program = "import jax.numpy as j; from fairjax import spd; spd(j.ones((3, 1)), j.ones(3), j.ones(3))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (
        "ValueError: values, y and a must be vectors of one length, "
        "got shapes values (3, 1), y (3,) and a (3,); squeeze" in done.stderr
    )


@pytest.mark.parametrize("name", MEASURES)
def test_a_proxy_composes_with_a_loss(name):
    _, _, y, a, _ = rows(3)
    x = np.random.default_rng(3).normal(size=(200, 4)).astype(np.float32) + a[:, None].astype(np.float32)

    @jax.jit
    def step(weights):
        def objective(weights):
            logits = x @ weights
            bias = MEASURES[name](jax.nn.sigmoid(logits), y, a)
            return optax.sigmoid_binary_cross_entropy(logits, y.astype(np.float32)).mean() + 3.0 * bias**2, bias

        (value, bias), slope = jax.value_and_grad(objective, has_aux=True)(weights)
        return weights - 0.05 * slope, value

    weights, values = jnp.array([1.0, 0.5, 0.5, 0.5]), []
    for _ in range(20):
        weights, value = step(weights)
        values.append(float(value))
    assert np.isfinite(values).all() and values[-1] < values[0]
