"""Generated rows: how many, of which cells, and where they lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors
from tables import NAMES, apply

from fairjax.column_names import variables_of
from fairjax.preprocess import GaussianCells, Smote
from fairjax.types import Batch, WeightedBatch

VARIABLES = variables_of(NAMES)
SMOTE = Smote(neighbours=5, fill="cells", variables=VARIABLES)
GAUSS = GaussianCells(fill="cells", variables=VARIABLES)


def new_key(seed=0):
    return jax.random.key(seed)


@pytest.fixture(scope="module")
def rows():
    """Two correlated numbers, a binary column and a one-hot code, in cells of different sizes."""
    rng = np.random.default_rng(0)
    a, y = rng.random(400) < 0.75, rng.random(400) < 0.4
    first = rng.normal(size=400) + a
    second = 10 * (0.8 * first + 0.6 * rng.normal(size=400)) + 5 * y
    job = rng.integers(0, 3, 400)
    x = np.stack([first, second, rng.random(400) < 0.2 + 0.5 * a, job == 0, job == 1, job == 2], axis=1)
    return Batch(jnp.asarray(x, jnp.float32), jnp.asarray(y), jnp.asarray(a))


@pytest.fixture(scope="module")
def generated(rows):
    """The rows with those that each generator adds."""
    return {generator: apply(generator, new_key(), rows).train for generator in (SMOTE, GAUSS)}


def cells(rows):
    return 2 * np.asarray(rows.y).astype(int) + np.asarray(rows.a).astype(int)


@pytest.mark.parametrize("generator", [SMOTE, GAUSS])
def test_all_cells_are_filled_up_with_valid_rows(rows, generated, generator):
    new = generated[generator]
    n = len(rows.y)
    np.testing.assert_array_equal(new.x[:n], rows.x)
    before, after = np.bincount(cells(rows)), np.bincount(cells(new))
    np.testing.assert_allclose(after, before.max(), atol=1)
    x = np.asarray(new.x[n:])
    np.testing.assert_allclose(x[:, 3:].sum(axis=1), 1, atol=1e-5)
    assert all(np.isclose(x[:, 2:], value, atol=1e-5).any() for value in (0, 1))
    assert np.isclose(x[:, 2:] * (1 - x[:, 2:]), 0, atol=1e-5).all()


@pytest.mark.parametrize("generator", [SMOTE, GAUSS])
def test_codes_without_a_column_for_one_category_generate_that_category_too(rows, generator):
    """Most rows have the category that has no column, and flags that exclude nothing are no code."""
    n = len(rows.y)
    job = np.random.default_rng(1).choice(3, n, p=[0.8, 0.1, 0.1])
    both = np.random.default_rng(2).random((n, 2)) < 0.8
    x = np.column_stack([rows.x[:, 0], job == 1, job == 2, both]).astype(np.float32)
    with_base = generator.__class__(fill="cells", variables=("first", "job", "job", "flags", "flags"))
    new = np.asarray(apply(with_base, new_key(), rows._replace(x=jnp.asarray(x))).train.x[n:])
    assert new[:, 1:3].sum(axis=1).max() <= 1 + 1e-5
    assert (new[:, 1:3].sum(axis=1) < 0.5).mean() > 0.6
    assert (new[:, 3:].sum(axis=1) > 1.5).mean() > 0.5


def test_smote_rows_lie_between_neighbours(rows, generated):
    n = len(rows.y)
    new, code, new_code = np.asarray(generated[SMOTE].x[n:]), cells(rows), cells(generated[SMOTE])[n:]
    x = np.asarray(rows.x, np.float64)
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    width = (x.max(axis=0) - x.min(axis=0)) / x.std(axis=0)
    scaled[:, 2:] *= np.array([1, *[0.5**0.5] * 3]) / width[2:]
    for cell in np.unique(new_code):
        members = np.flatnonzero(code == cell)
        search = NearestNeighbors(n_neighbors=6).fit(scaled[members])
        near = members[search.kneighbors(return_distance=True)[1]]
        for row in new[new_code == cell]:
            found = False
            for base, others in zip(members, near, strict=True):
                others = [other for other in others if other != base][:5]
                for other in others:
                    step = x[other, :2] - x[base, :2]
                    place = np.dot(row[:2] - x[base, :2], step) / max(np.dot(step, step), 1e-12)
                    if -1e-4 <= place <= 1 + 1e-4 and np.allclose(x[base, :2] + place * step, row[:2], atol=2e-4):
                        votes = x[others][:, 3:].sum(axis=0)
                        binary = x[others][:, 2].sum() > len(others) / 2
                        found |= votes[row[3:].argmax()] == votes.max() and bool(row[2] > 0.5) == binary
            assert found


def test_gaussian_rows_have_the_moments_of_their_cell(rows):
    generator = GaussianCells(rows=8000, shrinkage=0.0, variables=VARIABLES, fill="cells")
    prepared = jax.jit(generator.apply)(new_key(), rows).train
    n = len(rows.y)
    code, new_code, x, new = cells(rows), cells(prepared)[n:], np.asarray(rows.x), np.asarray(prepared.x[n:])
    for cell in np.unique(new_code):
        old, drawn = x[code == cell], new[new_code == cell]
        np.testing.assert_allclose(drawn.mean(axis=0) - old.mean(axis=0), 0, atol=0.06 * x.std(axis=0).max())
        np.testing.assert_allclose(drawn[:, 2].mean(), old[:, 2].mean(), atol=0.05)
        np.testing.assert_allclose(np.cov(drawn[:, :2].T, ddof=0), np.cov(old[:, :2].T, ddof=0), rtol=0.15, atol=0.1)
    uncorrelated = apply(GaussianCells(rows=2000, shrinkage=1.0, fill="cells"), new_key(1), rows).train
    assert abs(np.corrcoef(np.asarray(uncorrelated.x[n:][cells(uncorrelated)[n:] == 0, :2]).T)[0, 1]) < 0.15


def test_groups_are_filled_up_with_their_own_shares_of_labels(rows):
    prepared = apply(Smote(), new_key(), rows).train
    counts, new = np.bincount(cells(rows)).reshape(2, 2), np.bincount(cells(prepared)).reshape(2, 2)
    assert (new[:, 1] == counts[:, 1]).all() and new[:, 0].sum() == counts[:, 1].sum()
    np.testing.assert_allclose(new[1, 0] / new[:, 0].sum(), counts[1, 0] / counts[:, 0].sum(), atol=0.01)


def test_few_rows_and_weights(rows):
    few = jax.tree.map(lambda leaf: leaf[:5], rows)._replace(
        y=jnp.array([True, True, False, False, False]), a=jnp.array([True, False, True, False, False])
    )
    weighted = WeightedBatch(*few, jnp.array([1.0, 2.0, 3.0, 4.0, 6.0]))
    new = apply(Smote(fill="cells", rows=6), new_key(), weighted).train
    means = {(True, True): 1.0, (True, False): 2.0, (False, True): 3.0, (False, False): 5.0}
    added = zip(new.y[5:].tolist(), new.a[5:].tolist(), new.weights[5:].tolist(), strict=True)
    assert all(weight == means[y, a] for y, a, weight in added)
    single = np.asarray(new.x[5:])[np.asarray(new.y[5:] & new.a[5:])]
    np.testing.assert_allclose(single, np.tile(few.x[0], (2, 1)), atol=1e-5)  # the only row of its cell
    assert len(apply(Smote(rows=0), new_key(1), rows).train.y) == len(rows.y)


def test_what_cannot_be_generated_is_an_error_or_nan(rows):
    lacking = rows._replace(y=rows.y & rows.a)
    for kind in (Smote, GaussianCells):
        with pytest.raises(ValueError, match="no row with y=1 and a=0"):
            apply(kind(), new_key(), lacking)
        new = jax.jit(kind(rows=7).apply)(new_key(), lacking).train.x
        assert jnp.isnan(new[len(rows.y) :]).all() and jnp.isfinite(new[: len(rows.y)]).all()
        with pytest.raises(ValueError, match="how many rows are missing is unknown, since the rows are traced"):
            jax.jit(kind().apply)(new_key(), rows)
    with pytest.raises(ValueError, match="variables must name the variable of each of the 6 columns, found 2 names"):
        apply(Smote(variables=("age", "sex")), new_key(), rows)
    with pytest.raises(ValueError, match="neighbours must be at least 1, got 0"):
        Smote(neighbours=0)
    with pytest.raises(ValueError, match="fill must be one of groups, cells"):
        Smote(fill="all")
    with pytest.raises(ValueError, match="shrinkage must be between 0 and 1, got 2"):
        GaussianCells(shrinkage=2.0)
