"""The seeds axis: the numbers of a seed depend on nothing but the seed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import usual

from fairjax import data, seeds, training
from fairjax.nn import Mlp, from_linen
from fairjax.seeds import placement
from fairjax.types import SHARED

NETWORK = from_linen(Mlp(widths=(8, 8)))
CONFIG = training.Training(epochs=6, batch_size=16, check_every=2)
SEEDS = tuple(range(10))


@pytest.fixture(scope="module")
def splits():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 5))
    return data.split_seeds(data.from_arrays(x, x[:, 0] > 0, x[:, 1] > 0), SEEDS)


def some(splits, rows):
    own = ("train", "valid", "test", "mean", "scale")
    return splits._replace(**{name: getattr(splits, name)[rows] for name in own})


def keys(count):
    return jax.vmap(jax.random.key)(jnp.arange(count, dtype=jnp.uint32))


def take(states, rows):
    """Return the states of some seeds, with cloned keys, since every test trains the same seeds."""
    return jax.tree.map(
        lambda leaf: (jax.random.clone(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)[rows], states
    )


def three_epochs(state, split):
    return training.advance(NETWORK, CONFIG, split, state, 3)


@jax.jit
def begin(keys, splits):
    """Return untrained states, by a plain `vmap`, so that every test starts from the same numbers."""
    return jax.vmap(lambda key, split: training.init(NETWORK, CONFIG, key, split), in_axes=(0, SHARED))(keys, splits)


@functools.partial(jax.jit, static_argnames=("devices", "group_size"), compiler_options=usual.OPTIONS)
def train(states, splits, finished=None, *, devices, group_size):
    mesh = seeds.mesh(jax.devices()[:devices])
    args, axes = (states, splits), (0, SHARED)
    return seeds.over_seeds(three_epochs, args, axes, mesh=mesh, group_size=group_size, finished=finished)


def leaves(states):
    """Return all numbers of the states, with keys as integers."""
    return [
        np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)
        for leaf in jax.tree.leaves(states)
    ]


def assert_same(found, expected, rows):
    for one, other in zip(leaves(found), leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other[rows])


@pytest.fixture(scope="module")
def begun(splits):
    return begin(keys(10), splits)


@pytest.fixture(scope="module")
def reference(begun, splits):
    return train(take(begun, slice(None)), splits, devices=2, group_size=5)


def test_seeds_differ_and_learn(reference, begun):
    assert len({row.tobytes() for row in np.asarray(reference.variables.params)}) == 10
    assert reference.epoch.tolist() == [3] * 10 and jnp.isfinite(reference.best_loss).all()
    assert not (reference.variables.params == begun.variables.params).all()


def test_two_seeds_at_a_time_are_a_plain_loop(splits, begun, reference):
    """Train pairs of seeds, since a single seed compiles to other matrix products than a seed among others."""
    pair = jax.jit(jax.vmap(three_epochs, in_axes=(0, SHARED)), compiler_options=usual.OPTIONS)
    for i in range(0, 10, 2):
        rows = slice(i, i + 2)
        assert_same(pair(take(begun, rows), some(splits, rows)), reference, rows)


@pytest.mark.parametrize(("count", "devices", "group_size"), [(10, 1, 5), (10, 2, 2), (5, 1, 2), (3, 2, None)])
def test_a_seed_is_bitwise_the_same_whatever_runs_beside_it(splits, begun, reference, count, devices, group_size):
    rows = slice(0, count)
    assert_same(train(take(begun, rows), some(splits, rows), devices=devices, group_size=group_size), reference, rows)


def test_a_seed_is_bitwise_the_same_at_any_place(splits, begun, reference):
    order = np.random.default_rng(1).permutation(10)
    found = train(take(begun, order), some(splits, order), devices=2, group_size=5)
    assert_same(found, reference, order)


@pytest.mark.parametrize(("devices", "group_size"), [(1, 5), (2, 2)])
def test_finished_seeds_do_not_change_and_the_others_do_not_notice(splits, begun, reference, devices, group_size):
    for gone in ([], [1, 4], [0, 1, 2, 3, 4, 5, 6], list(range(1, 10)), list(range(10))):
        finished = np.isin(np.arange(10), gone)
        found = train(take(begun, slice(None)), splits, jnp.asarray(finished), devices=devices, group_size=group_size)
        for one, before, after in zip(leaves(found), leaves(begun), leaves(reference), strict=True):
            np.testing.assert_array_equal(one[finished], before[finished])
            np.testing.assert_array_equal(one[~finished], after[~finished])


@pytest.mark.parametrize("finished", [[], [1, 4], list(range(7)), list(range(10))])
@pytest.mark.parametrize("group_size", [2, 3, 5, 20])
def test_every_place_is_the_right_seed_s(finished, group_size):
    values, done = jnp.arange(20.0).reshape(10, 2), jnp.isin(jnp.arange(10), jnp.array(finished, int))

    @jax.jit
    def step(values, done):
        mesh = seeds.mesh()
        return seeds.over_seeds(
            lambda row: row + 100.0, (values,), (0,), mesh=mesh, group_size=group_size, finished=done
        )

    np.testing.assert_array_equal(step(values, done), np.where(np.asarray(done)[:, None], values, values + 100.0))


@pytest.mark.parametrize("count", [1, 2, 7, 13])
def test_any_number_of_seeds_is_a_plain_loop(count):
    rows, shared = jnp.arange(count * 3.0).reshape(count, 3), jnp.array([1.0, 2.0, 3.0])

    @jax.jit
    def run(rows, shared):
        def one(tree, shared):
            return {"sum": tree["row"] @ shared, "key": jax.random.fold_in(tree["key"], 1)}

        args = ({"row": rows, "key": keys(count)}, shared)
        return seeds.over_seeds(one, args, (0, None), mesh=seeds.mesh(), group_size=2)

    found = run(rows, shared)
    np.testing.assert_allclose(found["sum"], [row @ shared for row in rows], rtol=1e-6)
    expected = [jax.random.key_data(jax.random.fold_in(jax.random.key(i), 1)) for i in range(count)]
    np.testing.assert_array_equal(jax.random.key_data(found["key"]), expected)
    assert found["sum"].sharding.is_fully_replicated


def test_a_shared_table_is_what_a_table_for_each_seed_is(splits):
    """A shared table has the axis None; copies of its rows for every seed give the same batches."""
    copied = splits._replace(**{name: jnp.stack([getattr(splits, name)] * 10) for name in ("x", "y", "a")})

    @functools.partial(jax.jit, static_argnums=1)
    def sums(splits, shared):
        axes = (SHARED,) if shared else (0,)
        return seeds.over_seeds(lambda split: split.part("valid").x, (splits,), axes, mesh=seeds.mesh())

    found = sums(splits, True)
    np.testing.assert_array_equal(found, sums(copied, False))
    x, rows, mean, scale = map(np.asarray, (splits.x, splits.valid, splits.mean, splits.scale))
    for i in range(10):
        np.testing.assert_allclose(found[i], (x[rows[i]] - mean[i]) / scale[i], rtol=1e-5, atol=1e-6)


def test_results_can_be_fed_back_without_compiling_again():
    traces = []

    @jax.jit
    def step(state):
        traces.append(1)
        return seeds.over_seeds(lambda state: state + 1, (state,), (0,), mesh=seeds.mesh(), group_size=2)

    state = step(step(step(jax.vmap(lambda i: i * 2)(jnp.arange(4)))))
    assert state.tolist() == [3, 5, 7, 9] and len(traces) <= 2


@pytest.mark.parametrize("devices", [1, 2])
def test_a_mesh_is_over_the_devices_it_is_given(devices):
    mesh = seeds.mesh(jax.devices()[:devices])
    assert mesh.shape == {placement.SEEDS_AXIS: devices} and seeds.default_group_size(mesh, 20) == seeds.CPU_GROUP_SIZE


@pytest.mark.parametrize(
    ("axes", "group_size", "message"),
    [((None,), 2, "no argument has a seeds axis"), ((0,), 1, "group_size must be at least 2, got 1")],
)
def test_what_cannot_be_mapped_is_refused(axes, group_size, message):
    with pytest.raises(ValueError, match=message):
        seeds.over_seeds(lambda row: row, (jnp.ones((4, 2)),), axes, mesh=seeds.mesh(), group_size=group_size)
