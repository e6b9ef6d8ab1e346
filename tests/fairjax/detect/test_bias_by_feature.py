"""The decomposition of the gap between groups by feature, compared with loops over rows and with linear networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fairjax.detect import bias_by_feature, integrated_gradients
from fairjax.detect.attribution.bootstrap import poisson_weights
from fairjax.types import Batch, WeightedBatch

N, D = 60, 4


def network(variables, x, *, shifts=None, key=None):
    return jnp.tanh(x @ variables["w1"]) @ variables["w2"], variables


def linear(variables, x, *, shifts=None, key=None):
    return x @ variables["w"], variables


compiled = functools.partial(
    jax.jit, static_argnames=("nodes", "num_groups", "pair", "minimum", "chunk", "draws", "columns")
)


@compiled()
def decomposed(variables, batch, baseline=None, **options):
    """Decompose the gap of the network, compiled once per set of options."""
    return bias_by_feature(network, variables, batch, baseline, **{"nodes": 8, **options})


@pytest.fixture(scope="module")
def data():
    """Return weights of a network, rows, two groups, three groups, and sample weights of which some are 0."""
    random = np.random.default_rng(0)
    w1, w2 = 0.5 * random.normal(size=(D, 5)), random.normal(size=5)
    variables = {"w1": jnp.asarray(w1, jnp.float32), "w2": jnp.asarray(w2, jnp.float32)}
    a = random.random(N) < 0.6
    x = random.normal(size=(N, D)) + 0.7 * a[:, None] * np.array([1.0, 0.0, -1.0, 0.0])
    weights = random.integers(0, 4, N).astype(np.float32)
    return (
        variables,
        jnp.asarray(x, jnp.float32),
        jnp.asarray(a),
        jnp.asarray(random.choice(3, N)),
        jnp.asarray(weights),
    )


def by_loops(variables, x, members, weights, baseline=None):
    """Return mean attributions and logits by group, and the importance, by loops over groups."""
    each = np.asarray(integrated_gradients(network, variables, x, baseline, nodes=8), np.float64)
    logits, weights = np.asarray(network(variables, x)[0], np.float64), np.asarray(weights, np.float64)
    means = [np.average(each, axis=0, weights=weights * member) for member in np.asarray(members, np.float64).T]
    mean_logits = [np.average(logits, weights=weights * member) for member in np.asarray(members, np.float64).T]
    return np.array(means), np.array(mean_logits), np.average(np.abs(each), axis=0, weights=weights), each


@pytest.mark.parametrize("chunk", [None, 17])
@pytest.mark.parametrize("kind", ["two groups", "weights and three groups", "memberships and baselines"])
def test_means_and_differences_are_those_of_loops(kind, chunk, data):
    variables, x, a, codes, weights = data
    close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5)
    baseline, row_weights = None, np.ones(N)
    if kind == "two groups":
        members = np.stack([~a, a], axis=1)
        found = decomposed(variables, Batch(x, a, a), chunk=chunk)
    elif kind == "weights and three groups":
        members, row_weights = np.asarray(codes)[:, None] == np.arange(3), weights
        found = decomposed(variables, WeightedBatch(x, a, codes, weights), num_groups=3, chunk=chunk)
    else:
        members = np.asarray(jax.nn.softmax(x[:, :2]))
        baseline = x[::-1] * 0.5
        found = decomposed(variables, (x, jnp.asarray(members)), baseline, chunk=chunk)
    means, logits, importance, _ = by_loops(variables, x, members, row_weights, baseline)
    close(found.means, means)
    close(found.logits, logits)
    close(found.importance, importance)
    first, second = (np.argmin(logits), np.argmax(logits)) if members.shape[1] == 3 else (0, 1)
    assert found.pair.tolist() == [first, second]
    close(found.differences, means[first] - means[second])
    close(found.gap, logits[first] - logits[second])
    of_baselines = found.baseline_logits[first] - found.baseline_logits[second]
    close(found.differences.sum(), found.gap - of_baselines + found.completeness_gap)
    assert abs(found.completeness_gap) < 3e-3 and abs(found.completeness_gap) <= 2 * found.largest_delta < 0.02
    counted = (members > 0) & (np.asarray(row_weights) > 0)[:, None]
    assert found.counts.tolist() == counted.sum(axis=0).tolist()


def test_a_linear_network_is_decomposed_as_by_hand(data):
    _, x, a, _, _ = data
    w = jnp.array([1.0, -2.0, 0.0, 0.5])
    found = bias_by_feature(linear, {"w": w}, (x, a), nodes=1)
    expected = np.asarray(w) * (np.asarray(x)[~a].mean(axis=0) - np.asarray(x)[a].mean(axis=0))
    np.testing.assert_allclose(found.differences, expected, rtol=1e-4, atol=1e-5)
    assert found.differences[2] == 0
    np.testing.assert_allclose(found.gap, expected.sum(), rtol=1e-4)
    other = bias_by_feature(linear, {"w": w}, (x, a), nodes=1, pair=(1, 0))
    np.testing.assert_allclose(other.differences, -found.differences, rtol=1e-5)
    negative = bias_by_feature(linear, {"w": w}, (x, a), nodes=1, target=0)
    np.testing.assert_allclose(negative.differences, -found.differences, rtol=1e-5)


def test_bootstrap_draws_spread_like_means_of_rows(data):
    variables, x, a, _, _ = data
    each = by_loops(variables, x, np.stack([~a, a], axis=1), np.ones(N))[3]
    expected = np.sqrt(sum(each[group].var(axis=0) / group.sum() for group in (np.asarray(~a), np.asarray(a))))
    for chunk in (None, 17):
        found = decomposed(variables, (x, a), key=jax.random.key(1), draws=2000, chunk=chunk)
        assert found.draws.shape == (2000, D) and found.gap_draws.shape == (2000,)
        np.testing.assert_allclose(found.draws.std(axis=0), expected, rtol=0.1)
        assert (
            np.abs(found.draws.mean(axis=0) - found.differences) < 5 * expected / np.sqrt(2000) + 0.1 * expected
        ).all()
        np.testing.assert_allclose(found.draws.sum(axis=1), found.gap_draws, atol=1e-3)  # complete in every draw
        low, high = found.gap_interval(0.9)
        assert low < found.gap < high
        np.testing.assert_allclose([low, high], np.quantile(found.gap_draws, [0.05, 0.95]), rtol=1e-5)
        table = found.table(confidence=0.9).set_index("feature").loc[["x1", "x2", "x3", "x4"]]
        np.testing.assert_allclose(table[["low", "high"]].T, np.quantile(found.draws, [0.05, 0.95], axis=0), rtol=1e-5)


def test_bootstrap_weights_are_poisson_numbers():
    found = np.asarray(poisson_weights(jax.random.key(0), 300, 400)).ravel()
    share = np.bincount(found.astype(int), minlength=9) / found.size
    expected = stats.poisson.pmf(np.arange(9), 1)
    assert (np.abs(share - expected) < 5 * np.sqrt(expected / found.size) + 1e-5).all()


def test_columns_of_a_variable_are_summed(data):
    variables, x, a, _, _ = data
    columns = ("job", "age", "job", "job")
    found = decomposed(variables, (x, a), columns=columns, key=jax.random.key(0), draws=50, chunk=17)
    each = by_loops(variables, x, np.stack([~a, a], axis=1), np.ones(N))[3]
    job = each[:, [0, 2, 3]].sum(axis=1)
    expected = [np.abs(job).mean(), np.abs(each[:, 1]).mean()]
    np.testing.assert_allclose(found.importance_of_variables, expected, rtol=1e-4)
    names = ("job=a", "age", "job=b", "job=c")
    table = found.table(names, columns).set_index("feature")
    assert sorted(table.index) == ["age", "job"]
    np.testing.assert_allclose(table.loc["job", "difference"], job[~a].mean() - job[a].mean(), rtol=1e-3)
    np.testing.assert_allclose(table.loc["job", "importance"], expected[0], rtol=1e-4)
    np.testing.assert_allclose(table["difference"].sum(), found.gap, rtol=1e-3)
    draws = np.asarray(found.draws)[:, [0, 2, 3]].sum(axis=1)
    np.testing.assert_allclose(
        table.loc["job", ["low", "high"]].tolist(), np.quantile(draws, [0.025, 0.975]), rtol=1e-4
    )
    assert list(found.table(names, groups=("women", "men")))[-2:] == ["mean, women", "mean, men"]
    by_size = found.table(names)["difference"].abs()
    assert by_size.is_monotonic_decreasing and len(by_size) == D


def test_trees_have_one_line_per_array(data):
    _, x, a, _, _ = data

    def apply(variables, x, *, shifts=None, key=None):
        return 2.0 * x["age"] + x["image"].sum((1, 2)), variables

    tree = {"age": x[:, 0], "image": x.reshape(N, 2, 2)}
    found = bias_by_feature(apply, {}, (tree, a), key=jax.random.key(0), draws=20, nodes=1, chunk=50)
    shapes = jax.tree.map(jnp.shape, (found.differences, found.means, found.draws))
    assert shapes == tuple({"age": lead, "image": (*lead, 2, 2)} for lead in ((), (2,), (20,)))
    table = found.table().set_index("feature")
    gap = np.asarray(x)[~a].mean(axis=0) - np.asarray(x)[a].mean(axis=0)
    np.testing.assert_allclose(table.loc[["age", "image"], "difference"], [2 * gap[0], gap.sum()], rtol=1e-3)
    whole = np.abs(np.asarray(x).sum(axis=1)).mean()
    np.testing.assert_allclose(table.loc["image", "importance"], whole, rtol=1e-4)
    with pytest.raises(ValueError, match="a tree of arrays has one variable per leaf"):
        bias_by_feature(apply, {}, (tree, a), columns=("age", "image"))
    with pytest.raises(ValueError, match="the leaves of a tree have names"):
        found.table(("age", "image"))


def test_seeds_are_mapped_over_and_their_table_pools_them(data):
    variables, x, a, _, _ = data
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, 1.5 * leaf]), variables)
    options = {"key": jax.random.key(0), "draws": 20}
    mapped = jax.vmap(lambda variables: decomposed(variables, (x, a), **options))(many)
    single = [decomposed(jax.tree.map(lambda leaf, i=i: leaf[i], many), (x, a), **options) for i in range(2)]
    for stacked, *parts in zip(jax.tree.leaves(mapped), *map(jax.tree.leaves, single), strict=True):
        np.testing.assert_allclose(stacked, jnp.stack(parts), rtol=2e-4, atol=1e-5)
    names = ("x1", "x2", "x3", "x4")
    table = mapped.table(names).set_index("feature").loc[list(names)]
    np.testing.assert_allclose(table["difference"], mapped.differences.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(table["seeds_sd"], mapped.differences.std(axis=0, ddof=1), rtol=1e-4)
    pooled = np.quantile(mapped.draws.reshape(40, D), [0.025, 0.975], axis=0)
    np.testing.assert_allclose(table[["low", "high"]].T, pooled, rtol=1e-4)


def test_small_groups_are_not_estimated(data):
    variables, x, a, codes, weights = data
    few = jnp.where(jnp.arange(N) < 4, 2, (codes == 1).astype(jnp.int32))
    found = decomposed(variables, (x, few), num_groups=3, key=jax.random.key(0), draws=20)
    assert np.isnan(found.means[2]).all() and np.isnan(found.logits[2]) and found.counts[2] == 4
    assert sorted(found.pair.tolist()) == [0, 1] and np.isfinite(found.differences).all()
    assert np.isfinite(found.draws).all()
    found = decomposed(variables, (x, few), num_groups=3, pair=(0, 2), key=jax.random.key(0), draws=20)
    for part in (found.differences, found.gap, found.completeness_gap, found.draws, found.gap_draws):
        assert np.isnan(part).all()
    assert np.isnan(found.gap_interval()).all() and np.isnan(found.table()["difference"]).all()
    few = bias_by_feature(linear, {"w": jnp.ones(D)}, (x, jnp.arange(N) < 4), nodes=1, minimum=4)
    assert np.isfinite(few.differences).all()
    alone = decomposed(variables, (x, jnp.zeros(N, bool)))  # nobody is privileged
    assert np.isnan(alone.differences).all() and np.isfinite(alone.means[0]).all()


def test_rows_of_weight_zero_are_not_seen_and_others_with_nan_are(data):
    variables, x, a, _, weights = data
    ignored = x.at[0].set(jnp.nan)
    light = weights.at[0].set(0.0)
    found = decomposed(variables, WeightedBatch(ignored, a, a, light))
    np.testing.assert_allclose(found.differences, decomposed(variables, WeightedBatch(x, a, a, light)).differences)
    assert np.isnan(decomposed(variables, (ignored, a)).differences).all()


def test_invalid_groups_and_weights_under_a_trace_give_nan(data):
    variables, x, a, _, weights = data
    for batch in (Batch(x, a, a.astype(jnp.int32) * 2), WeightedBatch(x, a, a, -weights)):
        found = decomposed(variables, batch, key=jax.random.key(0), draws=20)
        for field in ("differences", "means", "importance", "logits", "gap", "largest_delta", "draws", "gap_draws"):
            assert np.isnan(getattr(found, field)).all(), field


def test_what_cannot_be_decomposed_is_refused(data):
    variables, x, a, codes, weights = data
    compute = functools.partial(bias_by_feature, network, variables)
    with pytest.raises(TypeError, match=r"tuple \(x, a\) of inputs and groups, found ArrayImpl"):
        compute(x)
    with pytest.raises(ValueError, match=r"one group per row of x, shape \(60,\).*found shape \(59,\)"):
        compute((x, a[1:]))
    with pytest.raises(ValueError, match="a must hold 0 and 1 only.*num_groups"):
        compute((x, codes))
    with pytest.raises(ValueError, match="memberships of shape.*state num_groups"):
        compute((x, jnp.ones((N, 3)) / 3))
    with pytest.raises(ValueError, match="weights must be finite and not negative"):
        compute(WeightedBatch(x, a, a, -weights))
    for pair in ((0, 0), (0, 2), (-1, 1)):
        with pytest.raises(ValueError, match="pair must be two different groups from 0 to 1"):
            compute((x, a), pair=pair)
    with pytest.raises(ValueError, match="minimum positive, got draws 1000 and minimum 0"):
        compute((x, a), minimum=0)
    with pytest.raises(ValueError, match="variable of each of the 4 columns of x, found 2 names"):
        compute((x, a), columns=("age", "job"))
    with pytest.raises(ValueError, match="nodes must be a positive"):
        compute((x, a), nodes=0)
    with pytest.raises(ValueError, match="chunk must be a positive"):
        compute((x, a), chunk=0)
    found = decomposed(variables, (x, a))
    with pytest.raises(ValueError, match="pass columns= to bias_by_feature too"):
        found.table(columns=("age", "job", "job", "job"))
    with pytest.raises(ValueError, match="names must name each of the 4 columns of x, found 3"):
        found.table(("a", "b", "c"))
    with pytest.raises(ValueError, match="confidence must be between 0 and 1, got 95"):
        found.table(confidence=95.0)
    with pytest.raises(ValueError, match="groups must name 2 groups, found 1 names"):
        found.table(groups=("women",))
    with pytest.raises(ValueError, match="one leading axis of seeds, found 2"):
        jax.tree.map(lambda leaf: leaf[None, None], found).table()


def test_seeds_that_compare_different_pairs_of_groups_are_not_averaged():
    a = np.arange(60) % 3
    x = jnp.asarray(np.eye(3, dtype=np.float32)[a])
    weights = {"w": jnp.array([[-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]])}

    def explained(**options):
        return jax.vmap(lambda one: bias_by_feature(linear, one, (x, a), nodes=1, num_groups=3, **options))(weights)

    found = explained()
    assert found.pair.tolist() == [[0, 2], [1, 0]]
    for result in (found.table, found.gap_interval):
        with pytest.raises(ValueError, match=r"found \(0, 2\) and \(1, 0\): pass pair= to bias_by_feature"):
            result()
    table = explained(pair=(0, 1)).table().set_index("feature")["difference"]
    np.testing.assert_allclose(table[["x1", "x2", "x3"]], [0.0, 0.5, 0.0], atol=1e-6)  # means of (-1, 0) and (1, 1)
    one = jax.tree.map(lambda leaf: leaf[1], found)
    assert len(one.table()) == 3
