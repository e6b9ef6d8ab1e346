"""Random words and permutations equal those of `jax.random`."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax.random import _argsort, permutation, random_words, vectorised


@pytest.mark.parametrize("count", [1, 2, 5, 1001])
@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
def test_random_words_are_jax_s(count, implementation):
    keys = jax.random.split(jax.random.key(3, impl=implementation), 2)
    draw = jax.jit(lambda key: random_words(key, count))
    for key in keys:
        expected = jax.random.bits(jax.random.clone(key), (count,), jnp.uint32)
        np.testing.assert_array_equal(draw(key), expected)


DRAWS = {
    "bernoulli": lambda key: jax.random.bernoulli(key, 0.95, (7, 3)),
    "normal": lambda key: jax.random.normal(key, (5,)),
    "half": lambda key: jax.random.uniform(key, (3,), jnp.float16),
    "nothing": lambda key: jax.random.uniform(key, (0, 2)),
    "permutation": lambda key: jax.random.permutation(key, 9),
    "later": lambda key: jax.random.uniform(jax.random.split(jax.random.fold_in(key, 3), 2)[1]),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_vectorised_key_draws_the_same_numbers(name):
    draw, keys = DRAWS[name], jax.random.split(jax.random.key(4), 3)
    expected = jax.jit(jax.vmap(draw))(jax.random.clone(keys))
    found = jax.jit(jax.vmap(lambda key: draw(vectorised(key))))(jax.random.clone(keys))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(draw(vectorised(keys[0])), expected[0])


def test_keys_of_other_kinds_stay_as_they_are():
    key = jax.random.key(0, impl="rbg")
    assert vectorised(key) is key


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
