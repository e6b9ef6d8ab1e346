"""Decompositions of matrices: values, and calls of LAPACK that never have a batch on CPUs."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax import linalg


def matrices(count: int = 3, size: int = 4) -> np.ndarray:
    """Return positive definite matrices."""
    roots = np.random.default_rng(0).normal(size=(count, size, size)).astype(np.float32)
    return roots @ np.swapaxes(roots, 1, 2) + np.eye(size, dtype=np.float32)


FUNCTIONS = {
    "solve_positive": (lambda a: linalg.solve_positive(a, a[0] + 1), lambda a: np.linalg.solve(a, a[0] + 1)),
    "inverse": (linalg.inverse, np.linalg.inv),
    "qr": (lambda a: linalg.qr(a)[0] @ linalg.qr(a)[1], lambda a: a),
    "eigh": (lambda a: linalg.eigh(a)[0], np.linalg.eigvalsh),
    "right_singular": (lambda a: linalg.right_singular(a)[0], lambda a: np.linalg.svd(a)[1]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_are_those_of_numpy_alone_and_mapped(name):
    ours, oracle = FUNCTIONS[name]
    expected = np.stack([oracle(matrix) for matrix in matrices().astype(np.float64)])
    mapped = jax.jit(jax.vmap(ours))(jnp.asarray(matrices()))
    np.testing.assert_allclose(mapped, expected, rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(ours(jnp.asarray(matrices()[0])), expected[0], rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_call_of_lapack_has_a_batch(name):
    """A batch of one matrix is not divided among threads, so nothing waits for a thread."""
    text = jax.jit(jax.vmap(FUNCTIONS[name][0])).lower(jnp.asarray(matrices(count=7))).as_text()
    calls = [line for line in text.splitlines() if "lapack" in line]
    assert calls and not [line for line in calls if re.search(r"tensor<7x", line)]
