"""Random words and permutations equal those of `jax.random`."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax.random import _argsort, permutation, random_words


@pytest.mark.parametrize("count", [1, 2, 5, 1001])
@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
def test_random_words_are_jax_s(count, implementation):
    keys = jax.random.split(jax.random.key(3, impl=implementation), 2)
    draw = jax.jit(lambda key: random_words(key, count))
    for key in keys:
        expected = jax.random.bits(jax.random.clone(key), (count,), jnp.uint32)
        np.testing.assert_array_equal(draw(key), expected)


@pytest.mark.parametrize("n", [1, 2, 7, 1000, 1700, 70_000])
def test_a_permutation_is_jax_s(n):
    keys = jax.random.split(jax.random.key(n), 3)
    found = jax.jit(jax.vmap(lambda key: permutation(key, jnp.arange(n))))(jax.random.clone(keys))
    expected = jax.jit(jax.vmap(lambda key: jax.random.permutation(key, jnp.arange(n))))(keys)
    np.testing.assert_array_equal(found, expected)


argsort = jax.jit(_argsort)
argsorts = jax.jit(jax.vmap(_argsort))


@hypothesis.given(
    st.sampled_from((1, 2, 5, 16, 40)).flatmap(lambda n: st.lists(st.integers(0, 4), min_size=n, max_size=n))
)
def test_equal_numbers_keep_their_order(numbers):
    """Test repeated numbers on purpose, since 32-bit random numbers are rarely equal."""
    both = np.array([numbers, numbers[::-1]], np.uint32)
    expected = np.argsort(both, axis=1, stable=True)
    np.testing.assert_array_equal(argsort(both[0]), expected[0])
    np.testing.assert_array_equal(argsorts(both), expected)
