"""Rows that are repeated and left out, until the cells of label and group have given sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB
from tables import apply, columns

from fairjax.preprocess import Balancing, Resampling, Reweighing, balanced_rows
from fairjax.preprocess.cells import CellPreprocessor
from fairjax.preprocess.naive_bayes import log_posterior
from fairjax.types import Batch, WeightedBatch


def new_key(seed=0):
    return jax.random.key(seed)


@pytest.fixture(scope="module")
def rows():
    x, y, a = columns()
    x = np.column_stack([np.arange(len(y)), x + 0.1 * np.random.default_rng(1).normal(size=x.shape)])
    return Batch(jnp.asarray(x, jnp.result_type(float)), jnp.asarray(y), jnp.asarray(a))


def sizes(rows):
    y, a = np.asarray(rows.y), np.asarray(rows.a)
    return np.array([[np.sum((y == label) & (a == group)) for group in (0, 1)] for label in (0, 1)])


def repetitions(before, after):
    """How often each row occurs; the first feature is the number of the row."""
    return np.bincount(np.asarray(after.x[:, 0]).astype(int), minlength=len(before.y))


def test_resampled_cells_have_the_sizes_of_reweighing(rows):
    weights = np.asarray(apply(Reweighing(), new_key(), rows).train.weights)
    new = apply(Resampling(), new_key(), rows).train
    times = repetitions(rows, new)
    assert len(new.y) == len(rows.y)
    for label in (False, True):
        for group in (False, True):
            cell = (np.asarray(rows.y) == label) & (np.asarray(rows.a) == group)
            assert abs(times[cell].sum() - weights[cell].sum()) <= 1
            assert times[cell].max() - times[cell].min() <= 1  # all rows are used equally often, up to one
    assert (rows.x[new.x[:, 0].astype(int)] == new.x).all()
    other = apply(Resampling(), new_key(1), rows).train
    assert (sizes(other) == sizes(new)).all() and not (repetitions(rows, other) == times).all()
    more = apply(Resampling(rows=1000), new_key(), rows).train
    np.testing.assert_allclose(sizes(more), 1000 / len(rows.y) * sizes(new), atol=3)


def test_the_ranker_is_naive_bayes(rows):
    x = np.asarray(rows.x, np.float64)
    cells = CellPreprocessor().cells(rows)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    expected = GaussianNB().fit(x, np.asarray(rows.y)).predict_log_proba(x)
    np.testing.assert_allclose(log_posterior(rows.x, cells), expected, atol=2e-4)


def test_preferential_sampling_prefers_rows_near_the_border(rows):
    x = np.asarray(rows.x, np.float64)
    y, a = np.asarray(rows.y), np.asarray(rows.a)
    p = GaussianNB().fit(x, y).predict_proba(x)[:, 1]
    own = np.where(y, p, 1 - p)
    times = repetitions(rows, apply(Resampling(how="preferential"), new_key(), rows).train)
    for label in (False, True):
        for group in (False, True):
            cell = np.flatnonzero((y == label) & (a == group))
            changed = times[cell] != 1
            nearest = cell[np.argsort(own[cell], kind="stable")][: changed.sum()]
            assert 0 < changed.sum() < len(cell)
            assert set(cell[changed]) == set(nearest)


def test_cells_become_equally_large(rows):
    before = sizes(rows)
    over = apply(Balancing(), new_key(), rows).train
    assert (sizes(over) == before.max()).all() and repetitions(rows, over).min() == 1
    under = apply(Balancing(to="smallest"), new_key(), rows).train
    assert (sizes(under) == before.min()).all() and repetitions(rows, under).max() == 1
    some = apply(Balancing(to=int(before.min()) + 5), new_key(), rows).train
    assert (sizes(some) == before.min() + 5).all()


def test_the_weights_of_a_cell_keep_their_proportions(rows):
    weights = np.random.default_rng(2).random(len(rows.y)) + 0.5
    weighted = WeightedBatch(*rows, jnp.asarray(weights, jnp.result_type(float)))
    new = apply(Balancing(), new_key(), weighted).train
    y, a, after = np.asarray(new.y), np.asarray(new.a), np.asarray(new.weights)
    sums = [after[(y == label) & (a == group)].sum() for label in (0, 1) for group in (0, 1)]
    np.testing.assert_allclose(sums, weights.mean() * len(y) / 4, rtol=1e-5)
    cell = y & a
    ratio = after[cell] / weights[np.asarray(new.x[cell, 0]).astype(int)]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)


def test_a_balanced_part_has_equal_cells_without_repetition(rows):
    chosen = np.asarray(balanced_rows(new_key(), rows.y, rows.a))
    assert len(set(chosen.tolist())) == len(chosen) == 4 * sizes(rows).min()
    assert (sizes(Batch(rows.x[chosen], rows.y[chosen], rows.a[chosen])) == sizes(rows).min()).all()
    few = jax.jit(lambda y, a: balanced_rows(new_key(), y, a, 40))(rows.y, rows.a)
    np.testing.assert_array_equal(few, balanced_rows(new_key(), rows.y, rows.a, 40))
    for number in (41, 4 * sizes(rows).min() + 4):
        with pytest.raises(ValueError, match="rows must be a multiple of the 4 cells of label and group and at most"):
            balanced_rows(new_key(), rows.y, rows.a, int(number))


def test_what_cannot_be_resampled_is_an_error_or_nan(rows):
    lacking = rows._replace(y=rows.y & rows.a)
    for preprocessor in (Resampling(), Balancing(to=10)):
        with pytest.raises(ValueError, match="no row with y=1 and a=0"):
            apply(preprocessor, new_key(), lacking)
        assert jnp.isnan(jax.jit(preprocessor.apply)(new_key(), lacking).train.x).all()
    with pytest.raises(ValueError, match="number of rows of the largest cell is unknown, since the rows are traced"):
        jax.jit(Balancing().apply)(new_key(), rows)
    with pytest.raises(ValueError, match="to must be one of largest, smallest, got 'equal'"):
        Balancing(to="equal")
    with pytest.raises(ValueError, match="to must be at least 1, got 0"):
        Balancing(to=0)
    with pytest.raises(ValueError, match="how must be one of uniform, preferential"):
        Resampling(how="best")
