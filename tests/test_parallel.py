"""The seeds axis: a seed's numbers depend on nothing but the seed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax import data, parallel, training
from fairjax.nn import Mlp, from_linen
from fairjax.types import SHARED

NETWORK, CONFIG = from_linen(Mlp(widths=(8, 8))), training.Training(epochs=6, batch_size=16, check_every=2)
SEEDS = tuple(range(10))


@pytest.fixture(scope="module")
def splits():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 5))
    return data.split_seeds(data.from_arrays(x, x[:, 0] > 0, x[:, 1] > 0), SEEDS)


def some(splits, count):
    own = ("train", "valid", "test", "mean", "scale")
    return splits._replace(**{name: getattr(splits, name)[:count] for name in own})


def keys(count):
    return jax.vmap(jax.random.key)(jnp.arange(count, dtype=jnp.uint32))


@functools.partial(jax.jit, static_argnames=("devices", "lanes"))
def train(keys, splits, *, devices, lanes):
    def one(key, split):
        return training.advance(NETWORK, CONFIG, split, training.init(NETWORK, CONFIG, key, split), 3)

    mesh = parallel.mesh(jax.devices()[:devices])
    return parallel.over_seeds(one, (keys, splits), (0, SHARED), mesh=mesh, lanes=lanes)


@pytest.fixture(scope="module")
def reference(splits):
    return train(keys(10), splits, devices=2, lanes=5).variables.params


@pytest.mark.parametrize(("count", "devices", "lanes"), [(10, 1, 5), (3, 2, 5), (10, 2, 2), (1, 1, 2), (7, 2, None)])
def test_a_seed_is_bitwise_the_same_whatever_runs_beside_it(splits, reference, count, devices, lanes):
    found = train(keys(count), some(splits, count), devices=devices, lanes=lanes).variables.params
    np.testing.assert_array_equal(found, reference[:count])


def test_seeds_differ(reference):
    assert len({row.tobytes() for row in np.asarray(reference)}) == 10


@pytest.mark.parametrize("finished", [[], [1, 4], [0, 1, 2, 3, 4, 5, 6], list(range(10))])
@pytest.mark.parametrize("lanes", [2, 5])
def test_finished_seeds_come_back_as_they_were_and_the_others_do_not_notice(finished, lanes):
    values = jnp.arange(20.0).reshape(10, 2)
    done = jnp.isin(jnp.arange(10), jnp.array(finished, int))

    @jax.jit
    def step(values, done):
        return parallel.over_seeds(
            lambda row: jnp.sin(row) + 1.0, (values,), (0,), mesh=parallel.mesh(), lanes=lanes, finished=done
        )

    expected = np.where(np.asarray(done)[:, None], values, np.sin(np.asarray(values)) + 1)
    np.testing.assert_allclose(step(values, done), expected, rtol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 7, 13])
def test_any_number_of_seeds_is_a_plain_loop(count):
    rows, shared = jnp.arange(count * 3.0).reshape(count, 3), jnp.array([1.0, 2.0, 3.0])

    @jax.jit
    def run(rows, shared):
        def one(tree, shared):
            return {"sum": tree["row"] @ shared, "key": jax.random.fold_in(tree["key"], 1)}

        args = ({"row": rows, "key": keys(count)}, shared)
        return parallel.over_seeds(one, args, (0, None), mesh=parallel.mesh(), lanes=2)

    found = run(rows, shared)
    np.testing.assert_allclose(found["sum"], [row @ shared for row in rows], rtol=1e-6)
    expected = [jax.random.key_data(jax.random.fold_in(jax.random.key(i), 1)) for i in range(count)]
    np.testing.assert_array_equal(jax.random.key_data(found["key"]), expected)


def test_results_can_be_fed_back_without_compiling_again(splits):
    traces = []

    @jax.jit
    def step(state):
        traces.append(1)
        return parallel.over_seeds(lambda state: state + 1, (state,), (0,), mesh=parallel.mesh(), lanes=2)

    state = step(step(step(jax.vmap(lambda i: i * 2)(jnp.arange(4)))))
    assert state.tolist() == [3, 5, 7, 9] and len(traces) <= 2


@pytest.mark.parametrize(
    ("axes", "lanes", "message"),
    [((None,), 2, "no argument has a seeds axis"), ((0,), 1, "lanes must be at least 2, got 1")],
)
def test_what_cannot_be_mapped_is_refused(axes, lanes, message):
    with pytest.raises(ValueError, match=message):
        parallel.over_seeds(lambda row: row, (jnp.ones((4, 2)),), axes, mesh=parallel.mesh(), lanes=lanes)
