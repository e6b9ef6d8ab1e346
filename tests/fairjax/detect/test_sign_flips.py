"""The sign-flip test, compared with SciPy's permutation test and a plain loop over the same signs."""

import itertools

import jax
import numpy as np
import pytest
from scipy import stats

from fairjax.detect import sign_flip_test

KEY = jax.random.key(2)
run = jax.jit(sign_flip_test, static_argnames=("draws", "chunk"))
LARGE = np.random.default_rng(0).normal(0.12, 1, size=(200, 3)).astype(np.float32)


@pytest.mark.parametrize("n", [1, 2, 8])
def test_all_signs_of_few_differences_are_enumerated(n):
    d = np.round(np.random.default_rng(n).normal(0.5, 1, size=n), 1).astype(np.float32)
    sums = [abs(np.dot(signs, d.astype(np.float64))) for signs in itertools.product((1, -1), repeat=n)]
    expected = np.mean(np.array(sums) >= abs(d.astype(np.float64).sum()) - 1e-6)
    assert run(d, KEY, 1000).item() == pytest.approx(expected, abs=1e-6)
    if n > 1:
        scipy = stats.permutation_test((d,), np.sum, permutation_type="samples", n_resamples=np.inf)
        assert run(d, KEY, 1000).item() == pytest.approx(scipy.pvalue, abs=1e-6)


def test_many_differences_agree_with_scipy_s_random_signs():
    for column in LARGE.T:
        theirs = stats.permutation_test((column,), np.mean, permutation_type="samples", n_resamples=20_000, rng=0)
        ours = run(column, KEY, 20_000).item()
        assert ours == pytest.approx(theirs.pvalue, abs=4 * float(theirs.pvalue / 20_000) ** 0.5 + 1e-3)
    strong = run(LARGE[:, 0] + 1, KEY, 20_000).item()
    assert strong == pytest.approx(1 / 20_001)  # never 0


def test_the_result_does_not_depend_on_chunks_and_maps_over_columns():
    expected = [run(column, KEY, 500).item() for column in LARGE.T]
    for chunk in (7, 10_000):
        assert run(LARGE[:, 1], KEY, 500, chunk=chunk).item() == expected[1]
    together = jax.jit(jax.vmap(lambda d: sign_flip_test(d, KEY, 500), in_axes=1))(LARGE)
    np.testing.assert_allclose(together, expected, atol=1e-6)


def test_p_values_are_uniform_where_nothing_differs():
    d = jax.random.normal(jax.random.key(9), (400, 30))
    p = np.asarray(jax.jit(jax.vmap(lambda d: sign_flip_test(d, KEY, 199)))(d))
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_differences_that_do_not_count_are_as_if_left_out():
    where = np.arange(200) < 6
    d = np.where(where, LARGE[:, 0], np.nan)
    exact = stats.permutation_test((LARGE[:6, 0],), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    assert run(d, KEY, 20_000, where=where).item() == pytest.approx(exact, abs=0.02)


def test_differences_that_are_all_zero_show_nothing_and_unknown_ones_have_no_p_value():
    assert run(np.zeros(200, np.float32), KEY, 500).item() == 1
    assert sign_flip_test([0.3, 0.3, 0.3], KEY, 100).item() == pytest.approx(2 / 8)
    for unknown in (np.nan, np.inf):
        assert np.isnan(run(np.array([1.0, unknown, 2.0], np.float32), KEY, 100).item())
    assert np.isnan(run(np.ones(3, np.float32), KEY, 100, where=np.zeros(3, bool)).item())
    assert np.isnan(sign_flip_test(np.zeros(0), KEY).item())


def test_invalid_arguments_are_refused():
    with pytest.raises(ValueError, match="draws must be at least 1"):
        sign_flip_test(np.ones(3), KEY, 0)
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        sign_flip_test(np.ones(3), KEY, chunk=0)
    with pytest.raises(ValueError, match="differences must have one number per row"):
        sign_flip_test(np.ones((3, 1)), KEY)
    with pytest.raises(
        ValueError, match=r"where must be one boolean per difference, shape \(3,\), found bool of shape"
    ):
        sign_flip_test(np.ones(3), KEY, where=np.ones(2, bool))
