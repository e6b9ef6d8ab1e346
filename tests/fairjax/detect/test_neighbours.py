"""Nearest neighbours and consistency, compared with scikit-learn, a loop in NumPy, and AIF360."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from aif360.sklearn.metrics import consistency_score
from sklearn.neighbors import NearestNeighbors

from fairjax.detect import consistency, similar_instances
from fairjax.detect.counterfactual import neighbours

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(300, 4)) * [1, 5, 0.1, 1] + [0, 100, 0, 0]).astype(np.float32)
QUERY = (X[:40] + RNG.normal(size=(40, 4)) * 0.3).astype(np.float32)
search = jax.jit(similar_instances, static_argnames=("k", "chunk"))


@pytest.fixture(autouse=True)
def few_rows_at_a_time(monkeypatch):
    """Compare queries with few rows at a time, so that small tables have several blocks."""
    monkeypatch.setattr(neighbours, "ROWS", 128)


def test_neighbours_are_those_of_scikit_learn():
    distances, indices = NearestNeighbors(n_neighbors=7).fit(X).kneighbors(QUERY)
    for found in (search(X, QUERY, 7, chunk=16), similar_instances(X, QUERY, 7, chunk=None)):
        np.testing.assert_array_equal(found.indices, indices)
        np.testing.assert_allclose(found.distances, distances, rtol=1e-4)


def test_a_mask_and_the_query_s_own_row_leave_rows_out():
    where = X[:, 0] > 0
    rows = np.flatnonzero(where)
    _, indices = NearestNeighbors(n_neighbors=4).fit(X[rows]).kneighbors(X[rows])
    found = search(X, X[rows], 3, where=where, own_rows=rows)
    np.testing.assert_array_equal(found.indices, rows[indices[:, 1:]])
    with_self = search(X, X[rows], 3, where=where)
    np.testing.assert_array_equal(with_self.indices, rows[indices[:, :3]])
    np.testing.assert_array_equal(with_self.distances[:, 0], 0)


def test_all_rows_can_be_neighbours_and_equal_rows_come_in_order():
    x = np.repeat(np.array([[0.0], [1.0]], np.float32), 4, axis=0)
    found = search(x, x[:1], 8)
    assert found.indices.tolist() == [list(range(8))]
    assert found.distances.tolist() == [[0.0] * 4 + [1.0] * 4]
    assert search(x, x[:1], 7, own_rows=np.zeros(1, np.int32)).indices[0].tolist() == list(range(1, 8))


def test_neighbours_map_over_tables_and_unknown_ones_are_nan():
    tables = jnp.stack([jnp.asarray(X), jnp.asarray(X[::-1])])
    many = jax.vmap(lambda x: search(x, QUERY, 3))(tables)
    np.testing.assert_array_equal(many.indices[1], 299 - many.indices[0])
    few = search(X, QUERY, 3, where=jnp.asarray(np.arange(300) < 2))
    assert np.isnan(np.asarray(few.distances)).sum() == 40
    assert np.isnan(np.asarray(search(np.where(X > 100, np.nan, X), QUERY, 3).distances)).all()


measure = jax.jit(consistency, static_argnames=("k", "include_self"))


def test_consistency_with_the_row_itself_is_that_of_aif360():
    decisions = (X[:, 0] + X[:, 3] > 0).astype(np.float32)
    assert measure(decisions, X).item() == pytest.approx(consistency_score(X, decisions), abs=1e-6)
    assert consistency(decisions[:9] == 1, X[:9], 1).item() == 1  # each row's only neighbour is itself


def test_consistency_without_the_row_itself_is_that_of_a_loop():
    scores = RNG.random(300).astype(np.float32)
    distances = np.linalg.norm(X[:, None].astype(np.float64) - X[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1)[:, :5]
    expected = 1 - np.mean([abs(scores[i] - scores[nearest[i]].mean()) for i in range(300)])
    assert measure(scores, X, include_self=False).item() == pytest.approx(expected, abs=1e-6)


def test_consistency_of_invalid_traced_values_is_nan():
    assert np.isnan(measure(np.full(300, 2.0), X).item())
    assert np.isnan(measure(np.ones(300), np.where(X > 100, np.nan, X)).item())
    assert measure(np.ones(300), X).item() == 1


def test_invalid_arguments_are_refused():
    for arguments, message in (
        ((X, QUERY, 0), "k must be at least 1"),
        ((X, QUERY, 301), "k must be at most the number of rows, 300, got 301: take fewer neighbours"),
        ((X, QUERY[:, :2], 1), r"query must have the 4 columns of x, found shape \(40, 2\)"),
        ((X[:, 0], QUERY, 1), r"x must be a matrix of features.*found shape \(300,\)"),
        ((X[:0], QUERY, 1), "with at least one row"),
        ((np.where(X > 100, np.nan, X), QUERY, 1), "x has missing or infinite values, the first in row"),
    ):
        with pytest.raises(ValueError, match=message):
            similar_instances(*arguments)
    with pytest.raises(ValueError, match="at most the number of rows, 2, got 3"):
        similar_instances(X, QUERY, 3, where=np.arange(300) < 2)
    with pytest.raises(ValueError, match="300, less the query itself, got 300"):
        similar_instances(X, X, 300, own_rows=np.arange(300))
    with pytest.raises(ValueError, match="where must be one boolean per row of x, 300"):
        similar_instances(X, QUERY, 3, where=np.ones(2, bool))
    with pytest.raises(ValueError, match="own_rows must be one row number per query, 40"):
        similar_instances(X, QUERY, 3, own_rows=np.arange(3))
    with pytest.raises(ValueError, match="decisions must be one per row of x, 300, found 2"):
        consistency([0, 1], X)
    with pytest.raises(ValueError, match="found 2 in row 0"):
        consistency(np.full(300, 2.0), X)
