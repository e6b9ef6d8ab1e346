"""Training: early stopping and the plateau schedule, chunks, and seeds that go wrong."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax import data, training
from fairjax.nn import Mlp, from_linen
from fairjax.training import Training
from fairjax.types import SHARED

NETWORK = from_linen(Mlp(widths=(6,)))
advance = jax.jit(training.advance, static_argnums=(0, 4))
CONFIG = Training(epochs=40, batch_size=32, learning_rate=3e-3, check_every=2, stopping_patience=2, plateau_patience=1)


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)).astype(np.float32)
    y = x[:, 0] + rng.normal(size=200) > 0
    return data.split(jax.random.key(0), jnp.asarray(x), jnp.asarray(y), jnp.asarray(x[:, 1] > 0))


def equal(one, other):
    """Bitwise, keys included."""
    raw = [
        jax.tree.map(lambda v: jax.random.key_data(v) if jnp.issubdtype(v.dtype, jax.dtypes.prng_key) else v, tree)
        for tree in (one, other)
    ]
    chex.assert_trees_all_equal(*raw)


def test_stopping_is_that_of_a_plain_loop(split):
    """One epoch at a time, with the rules written out."""
    state = training.init(NETWORK, CONFIG, jax.random.key(1), split)
    valid = split.part("valid")
    best, best_at, stale, bad, lowest, rate = np.inf, 0, 0, 0, np.inf, 1.0
    for epoch in range(1, CONFIG.epochs + 1):
        assert not state.done
        assert state.plateau.scale == pytest.approx(rate, rel=1e-5)
        state = advance(NETWORK, CONFIG, split, state, 1)
        loss = float(training.loss(NETWORK.apply, state.variables.variables(), valid))
        bad, lowest = (0, loss) if loss < lowest * (1 - 1e-4) else (bad + 1, lowest)
        if bad > CONFIG.plateau_patience:
            rate, bad = rate * 0.1, 0
        if epoch % CONFIG.check_every == 0:
            best, best_at, stale = (loss, epoch, 0) if loss < best else (best, best_at, stale + 1)
            if epoch == best_at:
                parameters = state.variables.params
        assert bool(state.done) == (stale > CONFIG.stopping_patience or epoch == CONFIG.epochs)
        if state.done:
            break
    assert epoch < CONFIG.epochs, "the rules were not put to the test"
    assert rate < 1.0
    assert state.epoch == epoch and state.best_loss == pytest.approx(best, rel=1e-6)
    np.testing.assert_array_equal(state.best.params, parameters)
    run = jax.jit(training.run, static_argnums=0)(NETWORK, CONFIG, jax.random.key(1), split)
    assert run.epoch == epoch
    np.testing.assert_allclose(run.best.params, parameters, rtol=1e-4, atol=1e-5)


def test_chunks_of_any_size_end_bitwise_the_same(split):
    begun = training.init(NETWORK, CONFIG, jax.random.key(1), split)
    whole = advance(NETWORK, CONFIG, split, begun, 12)
    for chunk in (3, 4):
        state = begun
        for _ in range(12 // chunk):
            state = advance(NETWORK, CONFIG, split, state, chunk)
        equal(state, whole)


def test_a_state_that_is_done_changes_no_more(split):
    state = training.init(NETWORK, CONFIG, jax.random.key(1), split)
    state = advance(NETWORK, CONFIG, split, state._replace(done=jnp.array(True)), 3)
    equal(state, training.init(NETWORK, CONFIG, jax.random.key(1), split)._replace(done=jnp.array(True)))


def test_training_learns(split):
    config = dataclasses.replace(CONFIG, epochs=20)
    state = training.init(NETWORK, config, jax.random.key(1), split)
    valid = split.part("valid")
    before = training.loss(NETWORK.apply, state.variables.variables(), valid)
    state = advance(NETWORK, config, split, state, 20)
    assert state.best_loss < before - 0.02


@pytest.mark.parametrize("wrong", [0, 2])
def test_a_seed_whose_loss_is_not_finite_is_frozen_and_touches_nobody(split, wrong):
    """Three seeds side by side, of which one sees an infinite feature."""
    many = split._replace(
        **{name: jnp.stack([getattr(split, name)] * 3) for name in ("train", "valid", "test", "mean", "scale")}
    )
    spoiled = many._replace(scale=many.scale.at[wrong].set(0.0))
    config = dataclasses.replace(CONFIG, epochs=4)

    @jax.jit
    def train(splits):
        keys = jax.vmap(jax.random.key)(jnp.arange(3))
        return jax.vmap(lambda key, split: training.run(NETWORK, config, key, split), in_axes=(0, SHARED))(keys, splits)

    sound, mixed = train(many), train(spoiled)
    assert mixed.diverged.tolist() == [i == wrong for i in range(3)]
    assert mixed.epoch[wrong] == 1 and mixed.done.all() and not sound.diverged.any()
    for i in set(range(3)) - {wrong}:
        np.testing.assert_array_equal(mixed.best.params[i], sound.best.params[i])
    assert jnp.isfinite(mixed.best.params[wrong]).all()


def test_mini_batches_hold_every_row_none_twice_and_have_one_size():
    for n, size in ((10, 4), (12, 4), (5, 8)):
        batches = np.asarray(training.shuffled(jax.random.key(n), jnp.arange(n) + 100, size))
        assert batches.shape == (-(-n // min(size, n)), min(size, n))
        assert set(batches.reshape(-1)) == set(range(100, 100 + n))
        assert all(len(set(batch)) == len(batch) for batch in batches)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"batch_size": 1}, "batch_size must be at least 2, got 1"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"check_every": 0}, "check_every must be at least 1, got 0"),
        ({"stopping_patience": -1}, "stopping_patience must be at least 0, got -1"),
        ({"plateau_factor": 1.0}, "plateau_factor must be between 0 and 1, got 1.0"),
        ({"plateau_tolerance": -1.0}, r"plateau_tolerance must be in \[0, 1\), got -1.0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Training(**options)
