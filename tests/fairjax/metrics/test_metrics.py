"""Rates and parity of many groups and classes, compared with Fairlearn, scikit-learn and NumPy."""

import functools

import fairlearn.metrics as fl
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from fairjax import metrics
from fairjax.metrics import gaps, rates

GAPS = [
    gaps.spread,
    gaps.ratio,
    gaps.log_ratio,
    gaps.to_overall,
    gaps.mean_absolute,
    gaps.pairwise,
    gaps.variance,
    gaps.deviation,
    gaps.kearns,
    gaps.worst,
    gaps.Smooth(20.0),
    gaps.Difference(0, 1),
]


def draw(n=3000, groups=5, classes=2, seed=0):
    r = np.random.default_rng(seed)
    a = r.integers(0, groups, n)
    y = r.integers(0, classes, n)
    p = np.where(r.random(n) < 0.5 + 0.05 * a, y, r.integers(0, classes, n))
    return p, y, a, r.uniform(0.1, 3, n)


def jitted(**static):
    return jax.jit(functools.partial(metrics.confusion, **static))


def plain(f, y, m, w, classes):
    one_hot = np.eye(classes)[y]
    return np.einsum("np,ny,ng,n->pyg", f, one_hot, m, w)


@pytest.mark.parametrize("groups", [2, 4, 10])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("jit", [False, True])
def test_confusion_is_scikit_learns(groups, classes, jit):
    p, y, a, w = draw(5000, groups, classes)
    static = {"num_groups": groups, "num_classes": classes}
    confusion = jitted(**static) if jit else functools.partial(metrics.confusion, **static)
    tensor = confusion(p, y, a, weights=w)
    assert tensor.dtype == jnp.float32
    for g in range(groups):
        rows = a == g
        oracle = sk.confusion_matrix(y[rows], p[rows], sample_weight=w[rows], labels=range(classes)).T
        np.testing.assert_allclose(tensor[..., g], oracle, rtol=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", ["codes", "members"])
def test_soft_confusion_is_numpys(classes, kind):
    r = np.random.default_rng(1)
    _, y, a, w = draw(9001, 6, classes)
    f = r.dirichlet(np.ones(classes), len(y))
    m = np.eye(6)[a] if kind == "codes" else r.random((len(y), 6))
    oracle = plain(f, y, m, w, classes)
    groups = a if kind == "codes" else m
    got = metrics.confusion(f, y, groups, num_groups=6, num_classes=classes, weights=w)
    np.testing.assert_allclose(got, oracle, rtol=1e-6)
    if classes == 2:
        np.testing.assert_allclose(metrics.confusion(f[:, 1], y, groups, num_groups=6, weights=w), oracle, rtol=1e-6)
    else:
        codes = metrics.confusion(y, y, groups, num_groups=6, num_classes=classes)
        np.testing.assert_allclose(codes, plain(np.eye(classes)[y], y, m, np.ones(len(y)), classes), rtol=1e-6)


@pytest.mark.parametrize("groups", [2, 7])
def test_many_equal_weights_lose_no_digits(groups):
    n = 2_000_003
    a = np.arange(n) % groups
    for f in (np.full(n, 0.1, np.float32), np.random.default_rng(0).random(n, dtype=np.float32)):
        got = metrics.confusion(f, np.ones(n, bool), a, num_groups=groups)
        oracle = np.bincount(a, f.astype(np.float64))
        np.testing.assert_allclose(got[1, 1], oracle, rtol=1e-6)


def test_double_precision():
    with jax.enable_x64(True):
        p, y, a, w = draw()
        tensor = metrics.confusion(p, y, a, num_groups=5, weights=w)
        assert tensor.dtype == jnp.float64
        np.testing.assert_allclose(tensor, plain(np.eye(2)[p], y, np.eye(5)[a], w, 2), rtol=1e-13)


def test_kinds_of_input_agree():
    p, y, a, w = draw()
    oracle = metrics.confusion(p, y, a, num_groups=5, weights=w)
    index = np.arange(len(p)) + 7
    series = [pd.Series(each, index) for each in (p, y, a)]
    np.testing.assert_array_equal(metrics.confusion(*series, num_groups=5, weights=w), oracle)
    lists = metrics.confusion(p.tolist(), y.tolist(), a.tolist(), num_groups=5, weights=w.tolist())
    np.testing.assert_array_equal(lists, oracle)
    floats = metrics.confusion(p.astype(float), y.astype(bool), a.astype(float), num_groups=5, weights=w)
    np.testing.assert_array_equal(floats, oracle)
    half = metrics.confusion(jnp.ones(5000, jnp.bfloat16), jnp.ones(5000, int), jnp.zeros(5000, int), num_groups=2)
    assert half.dtype == jnp.float32 and half[1, 1, 0] == 5000
    assert not metrics.confusion([], [], [], num_groups=2).any()


GOOD = {"values": [0.1, 0.9], "y": [0, 1], "groups": [0, 1], "weights": [1.0, 1.0]}
BAD = {
    "values": [[0.1, 1.5], [0.1, np.nan], [-1, 0.2]],
    "y": [[0, 2], [0, 0.5], [0, np.nan], [-1, 0]],
    "groups": [[0, 2], [0, 0.5], [0, np.nan], [0, -1], [[0.5, 0.5], [2.0, 0]]],
    "weights": [[1.0, -1.0], [1.0, np.nan], [np.inf, 1.0]],
}


@pytest.mark.parametrize("name, value", [(name, value) for name in BAD for value in BAD[name]])
def test_invalid_values(name, value):
    given_ = {**GOOD, name: value}
    with pytest.raises(ValueError, match="found"):
        metrics.confusion(**given_, num_groups=2)
    traced = jitted(num_groups=2)(**{key: jnp.asarray(each) for key, each in given_.items()})
    assert np.isnan(traced).all()
    measure = jax.jit(metrics.demographic_parity(num_groups=2, membership="weighted"))
    assert np.isnan(measure(**{key: jnp.asarray(each) for key, each in given_.items()}))


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("values", np.ones((2, 1)), r"\(2, 1\)"),
        ("y", np.ones((2, 1)), r"\(2, 1\)"),
        ("y", np.ones(3), r"\(3,\)"),
        ("weights", np.ones((2, 1)), r"\(2, 1\)"),
        ("groups", np.ones((2, 1)), r"\(2, 1\)"),
        ("groups", ["a", "b"], "factorize"),
    ],
)
def test_invalid_shapes_and_kinds(name, value, message):
    with pytest.raises((ValueError, TypeError), match=message):
        metrics.confusion(**{**GOOD, name: value}, num_groups=2)


def test_indices_must_agree():
    with pytest.raises(ValueError, match="index of y differs from that of values"):
        metrics.confusion(pd.Series([0, 1]), pd.Series([0, 1], index=[1, 0]), [0, 1], num_groups=2)


RATES = {
    "selection": (rates.selection(), fl.selection_rate),
    "recall": (rates.recall(), fl.true_positive_rate),
    "fpr": (rates.false_positive_rate(), fl.false_positive_rate),
    "precision": (rates.precision(), sk.precision_score),
    "accuracy": (rates.accuracy(), sk.accuracy_score),
    "f2": (rates.f_beta(2.0), lambda y, p, sample_weight: sk.fbeta_score(y, p, beta=2.0, sample_weight=sample_weight)),
    "tnr": (rates.confusion_rate(0, 0), fl.true_negative_rate),
    "base": (rates.base_rate(), lambda y, p, sample_weight: np.average(y, weights=sample_weight)),
    "omission": (
        rates.false_omission_rate(),
        lambda y, p, sample_weight: np.average(y[p == 0], weights=sample_weight[p == 0]),
    ),
}


@pytest.mark.parametrize("name", RATES)
def test_rates_and_gaps_are_fairlearns(name):
    rate, oracle = RATES[name]
    p, y, a, w = draw()
    frame = fl.MetricFrame(metrics=oracle, y_true=y, y_pred=p, sensitive_features=a, sample_params={"sample_weight": w})
    of, there = rate.of(metrics.confusion(p, y, a, num_groups=5, weights=w))
    assert there.all()
    np.testing.assert_allclose(of, frame.by_group.to_numpy(float), rtol=1e-5)
    for gap, expected in {
        gaps.spread: frame.difference("between_groups"),
        gaps.to_overall: frame.difference("to_overall"),
        gaps.ratio: frame.ratio("between_groups"),
        gaps.worst: frame.group_min(),
    }.items():
        for call in (metrics.Parity((rate,), gap), jax.jit(metrics.Parity((rate,), gap), static_argnames="num_groups")):
            np.testing.assert_allclose(call(p, y, a, weights=w, num_groups=5), expected, atol=2e-6)


def test_named_measures_are_fairlearns():
    p, y, a, w = draw()
    for agg, over in (("worst_case", "max"), ("mean", "mean")):
        oracle = fl.equalized_odds_difference(y, p, sensitive_features=a, sample_weight=w, agg=agg)
        np.testing.assert_allclose(metrics.equalized_odds(over=over)(p, y, a, weights=w), oracle, atol=2e-6)
    oracle = fl.demographic_parity_difference(y, p, sensitive_features=a, sample_weight=w)
    np.testing.assert_allclose(metrics.demographic_parity()(p, y, a, weights=w), oracle, atol=2e-6)
    oracle = fl.equal_opportunity_difference(y, p, sensitive_features=a, sample_weight=w)
    np.testing.assert_allclose(metrics.equal_opportunity()(p, y, a, weights=w), oracle, atol=2e-6)


def test_several_classes():
    p, y, a, _ = draw(classes=3)
    shares = [max(x) - min(x) for x in ([np.mean(p[a == g] == k) for g in range(5)] for k in range(3))]
    np.testing.assert_allclose(metrics.demographic_parity(3)(p, y, a), max(shares), atol=1e-6)
    recalls = np.array([sk.recall_score(y[a == g], p[a == g], average=None) for g in range(5)])
    np.testing.assert_allclose(metrics.equal_opportunity(3)(p, y, a), np.ptp(recalls, axis=0).max(), atol=1e-6)
    precisions = np.array([sk.precision_score(y[a == g], p[a == g], average=None) for g in range(5)])
    np.testing.assert_allclose(metrics.predictive_parity(3)(p, y, a), np.ptp(precisions, axis=0).max(), atol=1e-6)
    cells = np.array([sk.confusion_matrix(y[a == g], p[a == g], normalize="true") for g in range(5)])
    np.testing.assert_allclose(metrics.equalized_odds(3)(p, y, a), np.ptp(cells, axis=0).max(), atol=1e-6)
    np.testing.assert_allclose(
        metrics.accuracy_parity(3)(p, y, a), np.ptp([np.mean(p[a == g] == y[a == g]) for g in range(5)]), atol=1e-6
    )


def test_gaps_are_numpys():
    r = np.random.default_rng(3).uniform(0.1, 0.9, 6)
    n = np.array([5.0, 9, 2, 7, 1, 3])
    there = np.array([True, True, False, True, True, True])
    x, m = r[there], n[there]
    whole = 0.4
    pairs = [abs(i - j) for k, i in enumerate(x) for j in x[:k]]
    expected = {
        gaps.log_ratio: np.log(x.max() / x.min()),
        gaps.mean_absolute: np.average(abs(x - whole), weights=m),
        gaps.pairwise: np.mean(pairs),
        gaps.variance: x.var(),
        gaps.deviation: x.std(),
        gaps.kearns: (m / n.sum() * abs(x - whole)).max(),
        gaps.Smooth(9.0): (np.log(np.mean(np.exp(9 * x))) + np.log(np.mean(np.exp(-9 * x)))) / 9,
        gaps.Difference(1, 3): r[1] - r[3],
    }
    for gap, value in expected.items():
        for rate in (r, np.where(there, r, np.nan)):
            got = gap(jnp.asarray(rate, jnp.float32), jnp.asarray(n, jnp.float32), jnp.asarray(there), whole)
            np.testing.assert_allclose(got, value, rtol=2e-5, err_msg=str(gap))


@pytest.mark.parametrize("gap", GAPS, ids=lambda gap: getattr(gap, "__name__", repr(gap)))
def test_fewer_than_two_groups_are_nan_not_0(gap):
    measure = metrics.Parity((rates.recall(),), gap)
    f = jnp.array([0.2, 0.7, 0.9])

    def call(f):
        return measure(f, [1, 1, 0], [0, 0, 1], num_groups=3)

    assert np.isnan(call(f))
    np.testing.assert_array_equal(jax.grad(call)(f), 0.0)
    assert np.isnan(metrics.equalized_odds(across=gap)(f, [1, 1, 0], [0, 0, 1], num_groups=3))


@pytest.mark.parametrize("gap", GAPS, ids=lambda gap: getattr(gap, "__name__", repr(gap)))
@pytest.mark.parametrize(
    "name, rate", [(name, RATES[name][0]) for name in ("recall", "precision", "f2")], ids=lambda x: str(x)[:9]
)
def test_gradients_are_finite(gap, name, rate):
    _, y, a, w = draw(60, 3)
    measure = metrics.Parity((rate,), gap)
    random = np.random.default_rng(0).random(60).astype(np.float32)
    for f in (random, np.full(60, 0.5, np.float32), np.zeros(60, np.float32), np.ones(60, np.float32)):
        for label in (y, np.zeros_like(y)):
            # group 3 is absent
            slope = jax.grad(lambda f, y=label: measure(f, y, a, weights=w, num_groups=4))(jnp.asarray(f))
            assert np.isfinite(slope).all()


def test_slope_is_that_of_numpy():
    _, y, a, w = draw(40, 5)
    f = np.random.default_rng(0).random(40)
    slope = jax.grad(lambda f: metrics.demographic_parity(across=gaps.Difference(2, 4))(f, y, a, weights=w))(
        jnp.asarray(f, jnp.float32)
    )
    expected = w * ((a == 2) / w[a == 2].sum() - (a == 4) / w[a == 4].sum())
    np.testing.assert_allclose(slope, expected, atol=1e-6)


def test_equal_rates_are_exactly_0():
    p, y, a = np.tile([1, 0, 0], 8), np.tile([1, 1, 0], 8), np.repeat(range(8), 3)
    for gap in (gaps.spread, gaps.Smooth(7.0), gaps.pairwise, gaps.Difference(1, 5)):
        assert metrics.demographic_parity(across=gap)(p, y, a) == 0.0


def test_minimum_leaves_small_denominators_out():
    y = [1] * 8 + [1, 0, 0, 0, 0]
    p = [1, 1, 1, 1, 1, 1, 0, 0] + [0] * 5
    a = [0] * 4 + [1] * 4 + [2] * 5
    assert metrics.equal_opportunity()(p, y, a) == 1.0
    assert metrics.equal_opportunity(minimum=2)(p, y, a) == 0.5
    uneven = np.ones(13)
    uneven[:3] = 1e-6  # group 0 has an effective size of one row
    assert np.isnan(metrics.equal_opportunity(minimum=2)(p, y, a, weights=uneven))
    np.testing.assert_allclose(metrics.equal_opportunity(minimum=2)(p, y, a, weights=np.full(13, 1e-3)), 0.5, 1e-6)


def test_memberships_compare_with_all_rows():
    f = np.array([0.1, 0.5, 0.9])
    m = np.array([[1.0, 1.0], [0.5, 0.0], [0.0, 0.0]])  # the last row is in no group
    got = metrics.demographic_parity(across=gaps.to_overall, membership="weighted")(f, [0, 1, 1], m)
    np.testing.assert_allclose(got, 0.5 - 0.1, atol=1e-6)


def test_measures_hash_by_value():
    assert metrics.equalized_odds() == metrics.equalized_odds()
    assert len({metrics.demographic_parity(across=gaps.Smooth(3.0)) for _ in range(3)}) == 1
    with pytest.raises(ValueError, match="num_groups"):
        jax.jit(metrics.demographic_parity())(jnp.ones(2), jnp.ones(2), jnp.zeros(2, int))
    with pytest.raises(ValueError, match="class"):
        rates.recall(2)
    with pytest.raises(Exception, match="over"):  # in tests, types are checked before values
        metrics.Parity((rates.recall(),), over="most")


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3, 6]))
def test_order_of_rows_does_not_matter(seed, groups):
    _, y, a, w = draw(50, groups, seed=seed)
    r = np.random.default_rng(seed)
    f, order = r.random(50), r.permutation(50)
    measure = metrics.equalized_odds()
    np.testing.assert_allclose(
        measure(f, y, a, weights=w, num_groups=groups),
        measure(f[order], y[order], a[order], weights=w[order], num_groups=groups),
        atol=1e-6,
    )


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_spread_of_two_groups_is_the_absolute_difference(seed):
    p, y, a, w = draw(50, 2, seed=seed)
    args = (p, y, a, w, 2)
    spread, signed = (
        metrics.demographic_parity()(*args),
        metrics.demographic_parity(across=gaps.Difference(0, 1))(*args),
    )
    assert spread == abs(signed)


def test_several_rates_count_by_the_one_that_is_furthest_from_parity():
    y, groups = np.array([1, 1, 0, 0, 1, 1, 0, 0]), np.array([0] * 4 + [1] * 4)
    decisions = np.array([0, 0, 1, 0, 1, 1, 1, 0])  # true positive rates 0 and 1, equal false positive rates
    assert metrics.equalized_odds(across=metrics.Difference(0, 1))(decisions, y, groups) == -1.0
    assert metrics.equalized_odds(across=metrics.GAPS["shortfall"])(decisions, y, groups) == -1.0
    with pytest.raises(ValueError, match="blocks must hold codes of groups below 2"):
        metrics.demographic_parity(blocks=((0, 2),))(decisions, y, groups)
