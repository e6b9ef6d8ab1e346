"""Features whose distributions no longer differ between groups."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fairlearn.preprocessing import CorrelationRemover
from scipy.stats import ks_2samp
from tables import apply

from fairjax.preprocess import CorrelationRemoval, QuantileRepair
from fairjax.types import Batch, WeightedBatch


def new_key(seed=0):
    return jax.random.key(seed)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    a = rng.random(800) < 0.6
    x = np.stack([rng.normal(size=800) + a, rng.exponential(1 + a), a + 1.0, rng.integers(0, 9, 800) + 2.0 * a], axis=1)
    return Batch(jnp.asarray(x, jnp.float32), jnp.asarray(rng.random(800) < 0.5), jnp.asarray(a))


def repaired_by_loop(x, a, level, resolution):
    """The quantile repair of one column, by its definition."""
    levels = (np.arange(resolution) + 0.5) / resolution
    tables = [np.sort(x[a == g])[np.ceil(levels * np.sum(a == g)).astype(int) - 1] for g in (0, 1)]
    median = np.median(tables, axis=0)
    new = np.empty(len(x))
    for row, (value, group) in enumerate(zip(x, a, strict=True)):
        below, up_to = np.sum(tables[group] < value), np.sum(tables[group] <= value)
        target = np.interp((below + up_to - 1) / 2, np.arange(resolution), median)
        new[row] = (1 - level) * value + level * target
    return new


@pytest.mark.parametrize(("level", "resolution"), [(1.0, 1000), (0.5, 64)])
def test_quantile_repair_is_that_of_a_loop(rows, level, resolution):
    new = apply(QuantileRepair(level=level, resolution=resolution), new_key(), rows).train.x
    x, a = np.asarray(rows.x, np.float64), np.asarray(rows.a).astype(int)
    for column in range(4):
        expected = repaired_by_loop(x[:, column], a, level, resolution)
        np.testing.assert_allclose(new[:, column], expected, rtol=1e-5, atol=1e-5)


def test_repaired_features_have_one_distribution_and_keep_their_order(rows):
    prepared = apply(QuantileRepair(), new_key(), rows)
    a, x, new = np.asarray(rows.a), np.asarray(rows.x), np.asarray(prepared.train.x)
    for column in (0, 1):
        assert ks_2samp(x[a, column], x[~a, column]).statistic > 0.2
        assert ks_2samp(new[a, column], new[~a, column]).statistic < 0.01
        for group in (a, ~a):
            order = np.argsort(x[group, column], kind="stable")
            assert (np.diff(new[group, column][order]) >= -1e-6).all()
    assert (new[:, 2] == 1.5).all()  # the attribute itself has one value in each group
    rng = np.random.default_rng(1)
    other = rng.random(2000) < 0.5
    unseen = jnp.asarray(np.tile((rng.normal(size=2000) + other)[:, None], 4), jnp.float32)
    mapped = np.asarray(QuantileRepair().transform(new_key(), prepared.fitted, unseen, jnp.asarray(other)))
    assert ks_2samp(mapped[other, 0], mapped[~other, 0]).statistic < 0.08
    assert np.isnan(QuantileRepair().transform(new_key(), prepared.fitted, unseen[:2], jnp.array([0, 7]))[1]).all()


def test_chosen_columns_are_repaired(rows):
    new = apply(QuantileRepair(columns=(1,)), new_key(), rows).train.x
    np.testing.assert_array_equal(np.delete(new, 1, axis=1), np.delete(rows.x, 1, axis=1))
    assert not np.allclose(new[:, 1], rows.x[:, 1])


def test_weighted_quantiles_are_those_of_repeated_rows(rows):
    times = np.random.default_rng(3).integers(0, 3, 800)
    weighted = WeightedBatch(*rows, jnp.asarray(times, jnp.float32))
    repeated = jax.tree.map(lambda leaf: jnp.repeat(leaf, times, axis=0), rows)
    for kind in (QuantileRepair, CorrelationRemoval):
        first, second = (apply(kind(), new_key(), batch).fitted for batch in (weighted, repeated))
        np.testing.assert_allclose(first[0], second[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_correlation_removal_is_fairlearns(rows, alpha):
    x, a = np.asarray(rows.x, np.float64), np.asarray(rows.a, np.float64)
    table = np.column_stack([a, x])
    expected = CorrelationRemover(sensitive_feature_ids=[0], alpha=alpha).fit_transform(table)
    prepared = apply(CorrelationRemoval(alpha=alpha), new_key(), rows)
    np.testing.assert_allclose(prepared.train.x, expected, atol=2e-5)
    if alpha == 1:
        for column in (0, 1, 3):
            assert abs(np.corrcoef(np.asarray(prepared.train.x[:, column]), a)[0, 1]) < 1e-5
        assert len(np.unique(prepared.train.x[:, 2])) == 1  # no rounding errors that would show the group
    unseen = CorrelationRemoval(alpha=alpha).transform(new_key(), prepared.fitted, rows.x[:5], rows.a[:5])
    np.testing.assert_allclose(unseen, prepared.train.x[:5], rtol=1e-5, atol=1e-6)


def test_correlation_with_many_groups_is_removed(rows):
    groups = jnp.arange(800, dtype=jnp.int32) % 3
    shifted = rows._replace(a=groups, x=rows.x + groups.astype(jnp.float32)[:, None])
    new = np.asarray(apply(CorrelationRemoval(), new_key(), shifted).train.x)
    for group in range(3):
        np.testing.assert_allclose(new[groups == group].mean(axis=0), new.mean(axis=0), atol=1e-4)


def test_invalid_settings_and_empty_groups_are_refused(rows):
    for make in (lambda: QuantileRepair(level=1.5), lambda: CorrelationRemoval(alpha=-0.5)):
        with pytest.raises(ValueError, match="must be between 0 and 1"):
            make()
    lacking = rows._replace(a=rows.a | True)
    for kind in (QuantileRepair, CorrelationRemoval):
        with pytest.raises(ValueError, match="no row with a=0"):
            apply(kind(), new_key(), lacking)
        assert jnp.isnan(jax.jit(kind().apply)(new_key(), lacking).train.x).all()


@pytest.mark.parametrize("kind", [QuantileRepair, CorrelationRemoval])
def test_labels_do_not_matter(kind, rows):
    positive = rows._replace(y=rows.y | rows.a)  # no row of group 1 with label 0
    found = apply(kind(), new_key(), positive).train.x
    np.testing.assert_array_equal(found, apply(kind(), new_key(), rows).train.x)
    with pytest.raises(ValueError, match="no row with a=0, so nothing can be learned there"):
        apply(kind(num_groups=2), new_key(), rows._replace(a=jnp.ones_like(rows.a)))
