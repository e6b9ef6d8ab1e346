"""Matrix decompositions that may be mapped over seeds on several CPU devices.

On CPUs, jaxlib before 0.11.2 divides a batch of LAPACK calls among the threads of XLA's pool, and waits for them in a
thread of the same pool. If all threads wait, which happens with as many devices as cores, the program never ends. A
call for a single matrix does not wait for others, so a batch is computed one matrix after another.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.types import AnyArray


def one_at_a_time(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of arrays that `jax.vmap` maps sequentially on CPUs, and as usual elsewhere.

    Args:
        function: a function of arrays that calls LAPACK on CPUs. The result cannot be differentiated in reverse mode.

    Example:
        >>> inverse = one_at_a_time(jnp.linalg.inv)
        >>> jax.vmap(inverse)(2.0 * jnp.ones((3, 1, 1))).ravel().tolist()
        [0.5, 0.5, 0.5]
    """
    sequential = jax.custom_batching.sequential_vmap(function)

    def mapped(*arrays: AnyArray) -> Any:
        return jax.lax.platform_dependent(*map(jnp.asarray, arrays), cpu=sequential, default=function)

    return mapped


def _solved(matrix: jax.Array, values: jax.Array) -> jax.Array:
    return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(matrix, lower=True), values)


solve_positive = one_at_a_time(_solved)
"""Solve a system of equations (k, k), (k,) -> (k,) whose matrix is symmetric and positive definite."""

_inverse = one_at_a_time(jnp.linalg.inv)


@jax.custom_jvp
def inverse(matrix: Float[Array, "k k"]) -> Float[Array, "k k"]:
    """Invert a matrix; differentiable.

    Example:
        >>> inverse(jnp.array([[2.0]])).item(), jax.grad(lambda x: inverse(x)[0, 0])(jnp.array([[2.0]])).item()
        (0.5, -0.25)
    """
    return _inverse(matrix)


@inverse.defjvp
def _inverse_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    (matrix,), (change,) = primals, tangents
    found = inverse(matrix)
    return found, -found @ change @ found


qr = one_at_a_time(lambda matrix: tuple(jnp.linalg.qr(matrix)))
"""Decompose a matrix (n, k) into orthonormal columns and a triangle."""

eigh = one_at_a_time(lambda matrix: tuple(jnp.linalg.eigh(matrix)))
"""Compute the eigenvalues of a symmetric matrix (k, k), and its eigenvectors as columns."""

right_singular = one_at_a_time(lambda matrix: jnp.linalg.svd(matrix, full_matrices=False)[1:])
"""Compute the singular values of a matrix (n, k), and the rows of its right factor."""
