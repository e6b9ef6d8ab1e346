"""Profiles and maps by group, compared with NumPy loops and SciPy's permutation test."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from fairjax.detect.quality import compare_profiles, maps_by_group
from fairjax.detect.quality.permutation import corrected_p_values, p_values, pairs, permuted

KEY = 3


def draw(n=60, d=5, seed=0):
    r = np.random.default_rng(seed)
    a = r.random(n) < 0.4
    attributions = (r.normal(size=(n, d)) * np.where(a[:, None], [1, 2, 3, 1, 1], [3, 2, 1, 1, 1])).astype(np.float32)
    return attributions, a


def profile(attributions):
    magnitudes = np.abs(attributions).mean(axis=0)
    return magnitudes / magnitudes.sum()


@pytest.fixture(scope="module")
def compare():
    return jax.jit(functools.partial(compare_profiles, draws=400, chunk=150))


def test_profiles_distances_and_ranks_are_numpys_and_scipys(compare):
    attributions, a = draw()
    attributions[:, 4] = attributions[:, 3]  # equal features have equal ranks
    found = compare(attributions, a, jax.random.key(KEY))
    first, second = profile(attributions[~a]), profile(attributions[a])
    np.testing.assert_allclose(found.profiles, [first, second], rtol=1e-5)
    assert found.counts.tolist() == [(~a).sum(), a.sum()]
    assert found.total_variation[0] == pytest.approx(np.abs(first - second).sum() / 2, rel=1e-5)
    np.testing.assert_allclose(found.difference[0], first - second, atol=1e-6)
    assert found.rank_correlation[0] == pytest.approx(scipy.stats.spearmanr(first, second).statistic, abs=1e-6)


def test_p_values_are_those_of_scipys_permutation_test(compare):
    attributions, a = draw(seed=2)
    attributions[a] = 0.75 * attributions[a] + 0.25 * attributions[a][:, ::-1]
    found = compare(attributions, a, jax.random.key(KEY))

    def distance(rows, others):
        return np.abs(profile(attributions[rows.astype(int)]) - profile(attributions[others.astype(int)])).sum() / 2

    rows = np.arange(len(a))
    expected = scipy.stats.permutation_test(
        (rows[~a], rows[a]), distance, n_resamples=1000, alternative="greater", vectorized=False, rng=0
    )
    assert found.p_value[0] == pytest.approx(expected.pvalue, abs=0.05)
    assert found.chance[0] == pytest.approx(expected.null_distribution.mean(), rel=0.1)


def test_all_permutations_of_few_rows_give_the_exact_p_values():
    values = np.array([5.0, 1.0, 4.0, 2.0, 0.5, 3.0], np.float32)[:, None]
    first = jnp.array([True, False, True, False, False, False])

    def difference(labels):
        sums = labels @ values
        return sums / 2 - (values.sum() - sums) / 4

    drawn = permuted(difference, jnp.ones(6, bool), first, jax.random.key(0), 3000, 700)
    assert drawn.shape == (3001, 1)
    exact = [
        values[list(c), 0].sum() / 2 - (15.5 - values[list(c), 0].sum()) / 4
        for c in itertools.combinations(range(6), 2)
    ]
    expected = np.mean(np.abs(exact) >= abs(exact[1]) - 1e-6)  # the second combination is rows 0 and 2
    assert p_values(jnp.abs(drawn))[0] == pytest.approx(expected, abs=0.03)
    assert corrected_p_values(drawn)[0] == p_values(jnp.abs(drawn))[0]  # one difference needs no correction
    np.testing.assert_allclose(np.unique(np.round(drawn, 3)), np.unique(np.round(exact, 3)), atol=1e-3)


def test_labels_are_permuted_among_the_rows_of_both_groups_only():
    members = jnp.array([True, True, False, True, False, True])
    first = jnp.array([True, False, False, True, False, False])
    drawn = np.asarray(permuted(lambda labels: labels, members, first, jax.random.key(1), 50, None))
    members, first = np.asarray(members), np.asarray(first)
    assert (drawn[0] == first).all() and (drawn.sum(axis=1) == 2).all() and (drawn[:, ~members] == 0).all()
    assert len(np.unique(drawn, axis=0)) == 6  # all ways to choose 2 of 4


def test_several_groups_are_compared_in_pairs_as_two_groups_are():
    attributions, _ = draw(90)
    codes = np.repeat([0, 1, 2], 30)
    attributions[codes == 2] *= [4, 1, 1, 1, 1]
    found = compare_profiles(attributions, codes, jax.random.key(0), 99, num_groups=3)
    for k, (i, j) in enumerate(pairs(3)):
        rows = (codes == i) | (codes == j)
        alone = compare_profiles(attributions[rows], codes[rows] == j, jax.random.key(k), 99)
        for name in ("total_variation", "rank_correlation", "difference"):
            np.testing.assert_allclose(getattr(found, name)[k], getattr(alone, name)[0], rtol=1e-5, atol=1e-6)
    assert found.feature_p_value[1, 0] < 0.02 and found.p_value[0] > 0.05
    table = found.table(["x", "y", "z"])
    assert table.index.tolist() == [("x", "y"), ("x", "z"), ("y", "z")]
    assert table.loc[("x", "z"), "total_variation"] == pytest.approx(float(found.total_variation[1]))
    with pytest.raises(ValueError, match="names must be one per group, 3, got 2"):
        found.table(["x", "y"])


def test_small_groups_and_groups_without_attributions_are_not_compared(compare):
    attributions, a = draw()
    few = np.arange(len(a)) < 5
    found = compare(attributions, few, jax.random.key(0))
    assert np.isnan(found.profiles[1]).all() and not np.isnan(found.profiles[0]).any()
    assert all(np.isnan(value).all() for value in found[2:]) and found.counts.tolist() == [55, 5]
    found = compare(np.where(a[:, None], 0, attributions), a, jax.random.key(0))
    assert np.isnan(found.profiles[1]).all() and np.isnan(found.total_variation) and np.isnan(found.p_value)


def test_seeds_are_one_program_and_invalid_traced_groups_give_nan(compare):
    attributions, a = draw()
    keys = jax.random.split(jax.random.key(0), 2)
    both = jax.vmap(lambda attributions, key: compare(attributions, a, key))(
        np.stack([attributions, 2 * attributions]), keys
    )
    np.testing.assert_allclose(both.profiles[0], both.profiles[1], rtol=1e-5)
    alone = compare(attributions, a, jax.random.split(jax.random.key(0), 2)[0])
    np.testing.assert_allclose(both.p_value[0], alone.p_value, rtol=1e-5)
    with pytest.raises(ValueError, match="a table holds one comparison, found 2"):
        both.table()
    assert np.isnan(compare(attributions, np.full(len(a), 2), jax.random.key(0)).total_variation)


def test_tests_reject_equal_groups_no_more_often_than_stated():
    r = np.random.default_rng(0)
    keys = jax.random.split(jax.random.key(0), 100)
    values = r.normal(size=(100, 40, 6)).astype(np.float32) * [1, 1, 5, 1, 0.1, 1]
    a = np.arange(40) % 2 == 0
    found = jax.jit(jax.vmap(lambda values, key: compare_profiles(values, a, key, 99)))(values.astype(np.float32), keys)
    assert np.mean(found.p_value <= 0.05) <= 0.12  # 0.05 + 3 standard errors
    assert np.mean(np.min(found.feature_p_value, axis=(1, 2)) <= 0.05) <= 0.12


@pytest.mark.parametrize("normalise", ["max", "sum"])
def test_mean_maps_are_numpys(normalise):
    r = np.random.default_rng(0)
    maps, a = r.random((50, 3, 2)).astype(np.float32), r.random(50) < 0.5
    maps[a, 1, 0] += 1
    maps[:4] = 0
    found = maps_by_group(maps, a, jax.random.key(0), 99, normalise=normalise)
    kept = np.arange(50) >= 4
    scale = maps.max(axis=(1, 2)) if normalise == "max" else maps.sum(axis=(1, 2))
    scaled = maps / np.where(kept, scale, 1)[:, None, None]
    means = [scaled[kept & (a == g)].mean(axis=0) for g in (0, 1)]
    np.testing.assert_allclose(found.means, means, rtol=1e-5)
    np.testing.assert_allclose(found.difference[0], means[0] - means[1], atol=1e-6)
    assert found.counts.tolist() == [(kept & ~a).sum(), (kept & a).sum()]
    assert found.empty.tolist() == [(~a[:4]).sum(), a[:4].sum()]
    assert found.corrected_p_value[0, 1, 0] <= 0.02 and (found.corrected_p_value >= found.p_value - 0.05).all()


def test_positions_are_tested_as_scipy_does():
    r = np.random.default_rng(1)
    maps, a = r.random((40, 2, 2)).astype(np.float32), np.arange(40) % 2 == 0
    maps[a, 0, 0] += 0.15
    found = maps_by_group(maps, a, jax.random.key(0), 2000, chunk=None)
    scaled = maps / maps.max(axis=(1, 2), keepdims=True)
    expected = scipy.stats.permutation_test(
        (scaled[~a], scaled[a]), lambda x, y, axis: x.mean(axis) - y.mean(axis), n_resamples=2000, axis=0, rng=0
    )
    np.testing.assert_allclose(found.p_value[0], expected.pvalue, atol=0.05)


def test_maps_without_rows_enough_give_nan_and_never_0():
    maps = np.ones((30, 2, 2), np.float32)
    found = maps_by_group(maps, np.arange(30) < 3, jax.random.key(0), 9)
    assert np.isnan(found.means[1]).all() and np.isnan(found.difference).all() and np.isnan(found.p_value).all()
    found = maps_by_group(maps, np.arange(30) % 2, jax.random.key(0), 9)
    assert (found.difference == 0).all() and (found.p_value == 1).all() and (found.corrected_p_value == 1).all()
    maps[0] = np.nan
    found = maps_by_group(maps, np.arange(30) % 2, jax.random.key(0), 9)
    assert np.isnan(found.means[0]).all() and np.isnan(found.corrected_p_value).all()


def test_invalid_arguments_are_refused():
    key, values, a = jax.random.key(0), np.ones((20, 3), np.float32), np.arange(20) % 2

    def refused(message, function, *arguments, **settings):
        with pytest.raises(ValueError, match=message):
            function(*arguments, **settings)

    refused("draws must be at least 1, got 0", compare_profiles, values, a, key, 0)
    refused("chunk must be at least 1, got 0", maps_by_group, values, a, key, chunk=0)
    refused("minimum must be at least 1, got 0", compare_profiles, values, a, key, minimum=0)
    refused(r"a must hold one group per row, shape \(20,\), found shape \(3,\)", compare_profiles, values, a[:3], key)
    refused("a must hold", compare_profiles, values, a + 1, key)
    refused("num_groups must be at least 2, got 1", maps_by_group, values, a, key, num_groups=1)
    refused("normalise must be max or sum, got 'mean'", maps_by_group.__wrapped__, values, a, key, normalise="mean")
    refused("rows and positions", maps_by_group.__wrapped__, np.ones(3), a, key)
    refused("sum over other axes", compare_profiles.__wrapped__, np.ones((3, 2, 2)), a, key)
