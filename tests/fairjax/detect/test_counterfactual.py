"""Effects of perturbations: a linear network by hand, SciPy's paired tests, and messages."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from holm_of_statsmodels import holm_of_statsmodels
from scipy import stats
from scipy.special import expit, softmax

from fairjax.detect import (
    Effects,
    counterfactual,
    effects_by_group,
    effects_in_strata,
    flip,
    group_effects,
    permute_within,
    replace,
    shift_to_group,
    similar_instances,
    swap_tokens,
)
from fairjax.detect.counterfactual.effects_in_strata import _sets
from fairjax.detect.counterfactual.paired_tests import paired_t_test, wilcoxon_test
from fairjax.detect.holm import holm

N = 90
KEY = jax.random.key(5)
W = np.array([1.5, -1.0, 0.5])


def linear(variables, x, *, shifts=None, key=None):
    """Apply a linear network; with a matrix of weights, one of several classes."""
    return x @ variables["params"], variables


def embedding(variables, x, *, shifts=None, key=None):
    """Apply a network of tokens: the sum of their weights."""
    return jnp.sum(variables["params"][x], axis=1), variables


run = jax.jit(counterfactual, static_argnames=("apply", "target", "chunk"))
average = jax.jit(group_effects, static_argnames=("num_groups", "minimum"))


def rows():
    """Return features, of which the first is the group, standardised."""
    rng = np.random.default_rng(0)
    a = rng.random(N) < 0.6
    x = np.stack([(a - 0.6) / 0.5, rng.normal(size=N), rng.normal(size=N) + a], axis=1)
    return x.astype(np.float32), a


@pytest.fixture(scope="module")
def linear_effects():
    """Return the effects of three perturbations of a linear network."""
    x, a = rows()
    perturbations = {"flip": flip(0), "replace": replace(1, 0.0), "shift": shift_to_group(2, x, a)}
    return run(linear, {"params": jnp.asarray(W, jnp.float32)}, x, perturbations, threshold=0.6, chunk=32)


def test_effects_of_a_linear_network_are_those_by_hand(linear_effects):
    x, a = rows()
    x = x.astype(np.float64)
    shift = x[a, 2].mean() - x[~a, 2].mean()
    shifts = {"flip": W[0] * np.where(a, -2, 2), "replace": -W[1] * x[:, 1], "shift": W[2] * np.where(a, -shift, shift)}
    for name, logit_effect in shifts.items():
        found, logit = linear_effects[name], x @ W
        np.testing.assert_allclose(found.logit_effect, logit_effect, atol=2e-6)
        np.testing.assert_allclose(found.effect, expit(logit + logit_effect) - expit(logit), atol=1e-6)
        np.testing.assert_allclose(found.scores, expit(logit), atol=1e-6)
        np.testing.assert_array_equal(found.before, expit(logit) > 0.6)
        np.testing.assert_array_equal(found.after, expit(logit + logit_effect) > 0.6)
        assert np.all(found.changed)


def test_one_perturbation_a_function_eager_and_any_chunk_give_the_same(linear_effects):
    x, _ = rows()
    variables = {"params": jnp.asarray(W, jnp.float32)}
    by_hand = jax.jit(
        lambda variables: counterfactual(
            linear, variables, x, lambda x: x.at[:, 0].set(-0.4 - x[:, 0]), threshold=0.6, chunk=7
        )
    )
    for found in (
        counterfactual(linear, variables, x, flip(0, values=(-1.2, 0.8)), threshold=0.6),
        by_hand(variables),
        jax.jit(lambda variables: counterfactual(linear, variables, x, {"a": flip(0)}, threshold=0.6))(variables)["a"],
    ):
        jax.tree.map(lambda *pair: np.testing.assert_allclose(*pair, atol=1e-6), found, linear_effects["flip"])


def test_effects_map_over_networks():
    x, a = rows()
    weights = np.random.default_rng(2).normal(size=(2, 3)).astype(np.float32)

    def averages(weights, x):
        effects = counterfactual(linear, {"params": weights}, x, flip(0), chunk=64)
        return effects, group_effects(effects, a)

    effects, groups = jax.jit(jax.vmap(averages, in_axes=(0, None)))(weights, x)
    for w, effect, means in zip(weights, np.asarray(effects.effect), np.asarray(groups.effect), strict=True):
        expected = expit(x @ w + w[0] * np.where(a, -2, 2)) - expit(x @ w)
        np.testing.assert_allclose(effect, expected, atol=1e-6)
        np.testing.assert_allclose(means, [expected[~a].mean(), expected[a].mean()], atol=1e-6)


def test_several_classes_have_the_probability_of_the_target():
    x, _ = rows()
    weights = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    found = run(linear, {"params": weights}, x, replace(0, 0.0), target=2)
    changed = x * [0, 1, 1]
    before, after = softmax(x @ weights, axis=1), softmax(changed @ weights, axis=1)
    np.testing.assert_allclose(found.effect, (after - before)[:, 2], atol=1e-5)
    np.testing.assert_array_equal(found.after, after.argmax(axis=1) == 2)
    with pytest.raises(ValueError, match="target must name one of the 4 classes"):
        counterfactual(linear, {"params": jnp.asarray(weights)}, x, replace(0, 0.0))


def test_the_effect_on_class_0_is_the_negative(linear_effects):
    x, _ = rows()
    zero = run(linear, {"params": jnp.asarray(W, jnp.float32)}, x, flip(0), target=0, threshold=0.6)
    np.testing.assert_allclose(zero.effect, -linear_effects["flip"].effect, atol=1e-6)
    np.testing.assert_array_equal(zero.before, ~linear_effects["flip"].before)


def test_only_rows_with_the_tokens_count():
    x = np.array([[1, 2], [3, 3], [2, 1], [4, 4]], np.int32)
    found = run(embedding, {"params": np.array([0.0, 0.5, 2.0, 1.0, -1.0], np.float32)}, x, swap_tokens([(1, 3)]))
    assert found.changed.tolist() == [True, True, True, False]
    np.testing.assert_allclose(found.logit_effect, [0.5, -1.0, 0.5, 0.0], atol=1e-6)
    groups = average(found, np.array([0, 0, 0, 1]), minimum=1)
    assert groups.rows.tolist() == [3, 1] and groups.changed.tolist() == [3, 0]
    np.testing.assert_allclose(groups.logit_effect, [0, np.nan], atol=1e-6)
    assert np.isnan(groups.to_positive[1])


def test_groups_are_averaged_as_pandas_does(linear_effects):
    codes = np.arange(N) % 4
    codes[codes == 3] = 2
    codes[0] = 3  # a group of one row
    effects = linear_effects["replace"]
    found = average(effects, codes, num_groups=4)
    frame = pd.DataFrame({name: np.asarray(column) for name, column in effects._asdict().items()})
    frame["up"], frame["down"] = frame.after & ~frame.before, frame.before & ~frame.after
    expected = frame.groupby(codes).mean()
    assert found.rows.tolist() == np.bincount(codes).tolist()
    for name, column in {"effect": "effect", "logit_effect": "logit_effect", "to_positive": "up"}.items():
        np.testing.assert_allclose(getattr(found, name)[:3], expected[column][:3], atol=1e-6)
        assert np.isnan(getattr(found, name)[3])
    np.testing.assert_allclose(found.to_negative[:3], expected["down"][:3], atol=1e-6)
    wrong = average(effects, codes + 1, num_groups=4)
    assert np.isnan(np.asarray(wrong.effect)).all()


@pytest.fixture(scope="module")
def by_group(linear_effects):
    """Return the table of effects by group."""
    _, a = rows()
    return effects_by_group(linear_effects, a, key=KEY, group_names=("women", "men"), minimum=10)


def test_the_table_holds_scipy_s_paired_tests_with_holm_over_perturbations(linear_effects, by_group):
    _, a = rows()
    assert len(by_group) == 9 and by_group["group"].tolist()[:3] == ["all", "women", "men"]
    for row in by_group.itertuples():
        effects, mask = linear_effects[row.perturbation], {"all": a | ~a, "women": ~a, "men": a}[row.group]
        scores, effect = np.asarray(effects.scores, np.float64)[mask], np.asarray(effects.effect, np.float64)[mask]
        assert row.rows == row.changed == mask.sum()
        assert row.mean_effect == pytest.approx(effect.mean(), abs=1e-6)
        assert row.t_p == pytest.approx(stats.ttest_rel(scores + effect, scores).pvalue, rel=1e-4)
        assert row.wilcoxon_p == pytest.approx(stats.wilcoxon(effect, zero_method="pratt").pvalue)
        assert 1 / 1001 <= np.float32(row.sign_flip_p) <= 1
    for _, part in by_group.groupby("group"):
        for test in ("t", "wilcoxon", "sign_flip"):
            expected = holm_of_statsmodels(part[f"{test}_p"])
            np.testing.assert_allclose(part[f"{test}_holm"], expected, rtol=1e-6)


def test_groups_under_the_minimum_are_not_estimable(linear_effects):
    _, a = rows()
    table = effects_by_group(linear_effects["flip"], np.arange(N) < 5, key=KEY)
    small = table[table["group"] == "a=1"].iloc[0]
    assert small["rows"] == 5 and table["perturbation"].unique().tolist() == ["perturbation"]
    assert small.drop(["perturbation", "group", "rows", "changed"]).isna().all()
    assert not table[table["group"] == "a=0"].isna().any(axis=None)


def test_strata_are_tested_as_if_they_were_alone(linear_effects):
    effects = linear_effects["replace"]
    codes = np.arange(N) % 3 + 5
    codes[:1] = 99
    table = effects_in_strata(effects, codes, key=KEY)
    assert table["stratum"].tolist() == [5, 6, 7, 99] and table["rows"].tolist() == [29, 30, 30, 1]
    assert table.iloc[3][["mean_effect", "t_p", "sign_flip_p", "wilcoxon_holm"]].isna().all()
    effect = np.asarray(effects.effect, np.float64)
    for row in table.iloc[:3].itertuples():
        assert row.mean_effect == pytest.approx(effect[codes == row.stratum].mean(), abs=1e-6)
        assert row.t_p == pytest.approx(stats.ttest_1samp(effect[codes == row.stratum], 0).pvalue, rel=1e-4)
    np.testing.assert_allclose(table["t_holm"][:3], holm_of_statsmodels(table["t_p"][:3]), rtol=1e-6)
    x, _ = rows()
    neighbours = similar_instances(x[:, 1:], x[:2, 1:], 8).indices
    near = effects_in_strata(effects, neighbours, key=KEY, minimum=8)
    for query in range(2):
        those = effect[np.asarray(neighbours[query])]
        assert near["mean_effect"][query] == pytest.approx(those.mean(), abs=1e-6)
        exact = stats.permutation_test((those,), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert near["sign_flip_p"][query] == pytest.approx(exact.pvalue, abs=1e-6)


def test_a_mask_is_one_stratum():
    mask = np.arange(N) % 3 == 1
    names, indices, members = _sets(mask, N)
    assert names.tolist() == [1] and members.all()
    np.testing.assert_array_equal(indices[0], np.flatnonzero(mask))


def test_paired_tests_of_differences_without_spread():
    zeros, equal = np.zeros(30), np.full(30, 0.25)
    assert paired_t_test(zeros) == wilcoxon_test(zeros) == 1
    assert np.isnan(paired_t_test(equal)) and wilcoxon_test(equal) < 1e-6
    assert np.isnan(paired_t_test(np.ones(1))) and np.isnan(wilcoxon_test(np.ones(0)))
    for test in (paired_t_test, wilcoxon_test):
        assert np.isnan(test(np.array([1.0, np.nan, 2.0])))
    d = np.random.default_rng(0).normal(0.1, 1, 40)
    assert paired_t_test(d) == pytest.approx(stats.ttest_1samp(d, 0).pvalue)


def test_holm_is_that_of_statsmodels_and_ignores_tests_that_were_not_made():
    p = np.random.default_rng(0).random(8) ** 3
    np.testing.assert_allclose(holm(p), holm_of_statsmodels(p))
    np.testing.assert_allclose(holm([np.nan, *p])[1:], holm(p))
    assert np.isnan(holm([np.nan, 0.5])[0]) and holm([]).shape == (0,)


def test_traced_rows_that_cannot_be_flipped_have_no_effect_and_are_not_left_out():
    variables = {"params": np.asarray(W, np.float32)}
    x = np.array([[0, 1, 0], [1, 1, 0], [0.5, 1, 0], [1, 1, 0]], np.float32)
    found = run(linear, variables, x, flip(0))
    assert np.isnan(np.asarray(found.effect)).tolist() == [False, False, True, False] and found.changed[2]
    groups = average(found, np.array([1, 1, 0, 0]), minimum=1)
    assert np.isnan(np.asarray(groups.effect)).tolist() == [True, False] and np.isnan(groups.to_positive[0])
    unknown = run(linear, variables, np.where([0, 1, 0], np.nan, x).astype(np.float32), flip(0))
    assert np.isnan(np.asarray(unknown.effect)).all()
    tokens = np.array([[1, 2], [1, 2], [1, 4], [1, 4]], np.int32)  # integers cannot be NaN, and their effects can
    weights = {"params": np.array([0.0, 0.5, 2.0, 1.0, -1.0], np.float32)}
    several = run(embedding, weights, tokens, {"constant": flip(0), "varies": flip(1)})
    assert np.isnan(np.asarray(several["constant"].effect)).all() and np.all(several["constant"].changed)
    np.testing.assert_allclose(several["varies"].logit_effect, [-3, -3, 3, 3], atol=1e-6)


def centred(variables, x, *, shifts=None, key=None):
    return x[:, 0] - jnp.mean(x), variables


@pytest.mark.parametrize(
    ("perturb", "apply", "message"),
    [
        (replace(0, 9.0), linear, None),
        (lambda x: x, linear, "the perturbation changes none of the 90 rows, so it has no effect to measure"),
        ({"none": lambda x: x}, linear, "the perturbation 'none' changes none of the 90 rows"),
        ({}, linear, "at least one perturbation, got an empty mapping"),
        (lambda x: x[:, :2], linear, r"must return x with the shape and dtype.*\(90, 3\) of float32, found \(90, 2\)"),
        (lambda x: x.astype(jnp.int32), linear, "of float32, found .* of int32"),
        (lambda x: {"x": x}, linear, "must return inputs of the structure of x"),
        (flip(1), linear, "column 1 has 90 different values"),
        (permute_within(0, np.zeros(3), KEY), linear, "one number per row of x, 90"),
        (flip(0), centred, "depends on the other rows"),
    ],
)
def test_perturbations_that_measure_nothing_are_refused(perturb, apply, message):
    x, _ = rows()
    variables = {"params": jnp.asarray(W, jnp.float32)}
    if message is None:
        assert np.isfinite(np.asarray(counterfactual(apply, variables, x, perturb).effect)).all()
        return
    with pytest.raises(ValueError, match=message) as error:
        counterfactual(apply, variables, x, perturb)
    assert "\n" not in str(error.value)


def test_other_invalid_arguments_are_refused(linear_effects):
    x, a = rows()
    variables, one = {"params": jnp.asarray(W, jnp.float32)}, linear_effects["flip"]
    with pytest.raises(TypeError, match="must be a function of x such as flip.*got str"):
        counterfactual(linear, variables, x, "sex")
    with pytest.raises(ValueError, match=r"threshold must be a score in \[0, 1\], got 2"):
        counterfactual(linear, variables, x, flip(0), threshold=2.0)
    with pytest.raises(ValueError, match="x has missing or infinite values"):
        counterfactual(linear, variables, np.where(x > 2, np.nan, x), flip(0))
    with pytest.raises(ValueError, match="a must have one group per row, 90, found shape"):
        group_effects(one, a[:5])
    with pytest.raises(ValueError, match="a must hold 0 and 1 only"):
        effects_by_group(one, a + 1, key=KEY)
    with pytest.raises(ValueError, match="group_names must be 2, one per group, got 1: women"):
        effects_by_group(one, a, key=KEY, group_names=["women"])
    with pytest.raises(TypeError, match="effects must be what counterfactual returns, got dict"):
        effects_by_group({}, a, key=KEY)
    many = Effects(*(jnp.stack([part, part]) for part in one))
    with pytest.raises(ValueError, match=r"of one network, shape \(n,\), found shape \(2, 90\).*jax.vmap"):
        effects_in_strata(many, a, key=KEY)
    for strata, message in (
        (a[:5], "strata must have one number per row, 90, or neighbours"),
        (x[:, 1], "strata must be whole numbers.*numpy.digitize"),
        (a & ~a, "a mask without any row"),
        (np.array([[0, 90]]), "neighbours must be row numbers from 0 to 89, found 90"),
        (np.zeros((0, 3), np.int32), r"found shape \(0, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            effects_in_strata(one, strata, key=KEY)
    with pytest.raises(ValueError, match="minimum must be at least 1"):
        effects_in_strata(one, a, key=KEY, minimum=0)
    with pytest.raises(TypeError, match="found a traced array"):
        jax.jit(lambda a: effects_in_strata(one, a, key=KEY))(a)
