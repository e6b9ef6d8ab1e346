"""Decompositions of matrices: values, and calls of LAPACK that never have a batch on CPUs."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax import linalg
from fairjax.metrics.confusion import confusion, gram, solved


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


def test_the_inverse_is_differentiable_alone_and_mapped():
    def total(function):
        return jax.jit(jax.vmap(jax.grad(lambda matrix: jnp.sum(jnp.sin(function(matrix))))))

    expected = total(jnp.linalg.inv)(jnp.asarray(matrices()))
    np.testing.assert_allclose(total(linalg.inverse)(jnp.asarray(matrices())), expected, rtol=1e-4, atol=1e-5)


def test_solved_memberships_have_derivatives_by_scores_memberships_and_weights():
    rng = np.random.default_rng(1)
    scores, y = jnp.asarray(rng.random(30), jnp.float32), jnp.asarray(rng.random(30) > 0.5)
    a = jnp.asarray(rng.dirichlet(np.ones(2), 30), jnp.float32)
    weights = jnp.asarray(rng.random(30) + 0.5, jnp.float32)

    def first(scores, a, weights):
        return solved(confusion(scores, y, a, num_groups=2, weights=weights), gram(a, weights))[1, 1, 0]

    def with_library(scores, a, weights):
        tensor, square = confusion(scores, y, a, num_groups=2, weights=weights), gram(a, weights)
        shares = jnp.linalg.solve(square, tensor.reshape(-1, 2).T).T.reshape(tensor.shape)
        return (shares * jnp.sum(tensor, axis=(0, 1), keepdims=True))[1, 1, 0]

    ours, theirs = (jax.jit(jax.grad(f, (0, 1, 2)))(scores, a, weights) for f in (first, with_library))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
