import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax.losses.cumulated import cumulated_masses


def by_loop(values, masses):
    """Sum the masses of the rows up to each row, one row after the other in a stable order."""
    sums = np.zeros((masses.shape[1], *values.shape))
    for k in range(values.shape[1]):
        for c in range(masses.shape[1]):
            total = 0.0
            for i in np.argsort(values[:, k], kind="stable"):
                total += masses[i, c]
                sums[c, i, k] = total
    return sums


@pytest.mark.parametrize("n", [1, 5, 16, 17, 49])
def test_sums_are_those_of_a_loop_over_the_sorted_rows(n):
    rng = np.random.default_rng(n)
    values = np.round(2 * rng.normal(size=(n, 3))).astype(np.float32)  # with ties, and 0.0 beside -0.0
    values[:, 2] = np.where(rng.random(n) < 0.3, rng.choice([-np.inf, np.inf, 1e30, -1e30], n), values[:, 2])
    masses = rng.normal(size=(n, 2)).astype(np.float32)
    found = jax.jit(cumulated_masses)(values, masses)
    np.testing.assert_allclose(found, by_loop(values, masses), atol=1e-5)
    moved = jax.jit(jax.vmap(cumulated_masses))(jnp.stack([values, -values]), jnp.stack([masses, masses]))
    np.testing.assert_allclose(moved[1], by_loop(-values, masses), atol=1e-5)


def test_double_precision_tells_values_apart_that_single_precision_does_not():
    with jax.enable_x64(True):
        values = np.array([[1.0 + 1e-12], [1.0], [-1.0 + 1e-12], [-1.0]])
        masses = np.array([[0.1], [0.2], [0.3], [0.4]])
        found = cumulated_masses(jnp.asarray(values), jnp.asarray(masses))
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, by_loop(values, masses), rtol=1e-12)
