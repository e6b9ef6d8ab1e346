"""Training: early stopping, the plateau schedule, chunks, and seeds that diverge."""

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
init = jax.jit(training.init, static_argnums=0)
advance = jax.jit(training.advance, static_argnums=(0, 4))
run = jax.jit(training.run, static_argnums=0)
CONFIG = Training(epochs=40, batch_size=32, learning_rate=3e-3, check_every=2, stopping_patience=2, plateau_patience=1)


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)).astype(np.float32)
    y = x[:, 0] + rng.normal(size=200) > 0
    return data.split(jax.random.key(0), jnp.asarray(x), jnp.asarray(y), jnp.asarray(x[:, 1] > 0))


@jax.jit
def loss_of(variables, batch):
    return training.loss(NETWORK.apply, variables, batch)


def equal(one, other):
    """Compare bitwise, including keys."""
    raw = [
        jax.tree.map(lambda v: jax.random.key_data(v) if jnp.issubdtype(v.dtype, jax.dtypes.prng_key) else v, tree)
        for tree in (one, other)
    ]
    chex.assert_trees_all_equal(*raw)


def test_stopping_is_that_of_a_plain_loop(split):
    """Train one epoch at a time, with the rules of stopping implemented as a loop."""
    state = init(NETWORK, CONFIG, jax.random.key(3), split)
    valid = split.part("valid")
    losses, best, best_at, stale, bad, lowest, rate = [], np.inf, 0, 0, 0, np.inf, 1.0
    for epoch in range(1, CONFIG.epochs + 1):
        assert not state.done
        assert state.plateau.scale == pytest.approx(rate, rel=1e-5)
        state = advance(NETWORK, CONFIG, split, state, 1)
        loss = float(loss_of(state.variables.variables(), valid))
        losses.append(loss)
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
    assert best > min(losses) + 1e-6, "the best epoch was checked: that only checked ones count was not put to the test"
    once = run(NETWORK, CONFIG, jax.random.key(3), split)
    assert once.epoch == epoch and not once.diverged
    np.testing.assert_array_equal(once.best.params, parameters)
    equal(advance(NETWORK, CONFIG, split, once, 1), once)


def test_the_last_epoch_is_checked_too(split):
    config = dataclasses.replace(CONFIG, epochs=3, check_every=10)
    state = run(NETWORK, config, jax.random.key(3), split)
    assert state.done and np.isfinite(state.best_loss)
    np.testing.assert_array_equal(state.best.params, state.variables.params)


def test_chunks_of_any_size_end_bitwise_the_same(split):
    """The exact bits are those of programs that are compiled as for users."""
    advance = jax.jit(training.advance, static_argnums=(0, 4))
    begun = init(NETWORK, CONFIG, jax.random.key(3), split)
    whole = advance(NETWORK, CONFIG, split, begun, 12)
    for chunks in ((1,) * 12, (5, 5, 1, 1)):
        state = begun
        for chunk in chunks:
            state = advance(NETWORK, CONFIG, split, state, chunk)
        equal(state, whole)


def test_a_state_that_is_done_changes_no_more(split):
    done = init(NETWORK, CONFIG, jax.random.key(3), split)._replace(done=jnp.array(True))
    equal(advance(NETWORK, CONFIG, split, done, 5), done)


def test_training_learns(split):
    state = init(NETWORK, CONFIG, jax.random.key(3), split)
    valid = split.part("valid")
    before = loss_of(state.variables.variables(), valid)
    state = advance(NETWORK, CONFIG, split, state, 12)
    assert state.best_loss < before - 0.02
    assert loss_of(state.best.variables(), valid) == pytest.approx(float(state.best_loss), rel=1e-6)


@jax.jit
def side_by_side(rates, splits):
    """Train three seeds to the end, each with its own learning rate."""

    def one(i, rate, split):
        config = dataclasses.replace(CONFIG, epochs=4, learning_rate=rate)
        return training.run(NETWORK, config, jax.random.key(i), split)

    return jax.vmap(one, in_axes=(0, 0, SHARED))(jnp.arange(3), rates, splits)


@pytest.mark.parametrize("wrong", [0, 2])
@pytest.mark.parametrize("how", ["infinite features", "huge learning rate"])
def test_a_seed_whose_loss_is_not_finite_is_frozen_and_touches_nobody(split, how, wrong):
    own = ("train", "valid", "test", "mean", "scale")
    many, rates = split._replace(**{name: jnp.stack([getattr(split, name)] * 3) for name in own}), jnp.full(3, 3e-3)
    sound = side_by_side(rates, many)
    if how == "infinite features":
        mixed = side_by_side(rates, many._replace(scale=many.scale.at[wrong].set(0.0)))
    else:
        mixed = side_by_side(rates.at[wrong].set(1e38), many)
    assert not sound.diverged.any() and (sound.epoch == 4).all()
    assert mixed.diverged.tolist() == [i == wrong for i in range(3)]
    assert mixed.epoch[wrong] == 1 and mixed.done.all()
    of = {i: jax.tree.map(lambda leaf, i=i: leaf[i], (sound, mixed)) for i in range(3)}
    for i in set(range(3)) - {wrong}:
        equal(*of[i])
    assert np.isfinite(mixed.best.params[wrong]).all() and np.isinf(mixed.best_loss[wrong])


def torch_s_plateau(losses, *, patience=10, threshold=1e-4, factor=0.1):
    """Compute the learning rate's factor after each epoch: `ReduceLROnPlateau.step`, mode min, threshold_mode rel."""
    best, bad, rate, rates = np.inf, 0, 1.0, []
    for loss in losses:
        if loss < best * (1 - threshold):
            best, bad = loss, 0
        else:
            bad += 1
        if bad > patience:
            rate, bad = rate * factor, 0
        rates.append(rate)
    return rates


RNG = np.random.default_rng(0)
LOSSES = {
    "constant": ([0.7] * 40, 3),
    "falling by enough": (0.7 * (1 - 1.2e-4) ** np.arange(40), 0),
    "falling by too little": (0.7 * (1 - 5e-6) ** np.arange(34), 2),
    "noisy": (0.6 + 0.2 * 0.9 ** np.arange(60) + RNG.normal(0, 0.05, 60), 3),
    "better at the tenth bad epoch": ([0.7] * 11 + [0.6] * 11 + [0.5] * 3, 0),
    "better at the eleventh": ([0.7] * 12 + [0.6] * 12 + [0.5] * 3, 2),
    "not a number counts as bad": ([0.7, *[0.7, np.nan] * 6, 0.5, *[np.nan] * 12], 2),
    "infinite first": ([np.inf] * 5 + [0.7] * 13, 1),
}


@jax.jit
def scales(losses):
    schedule = training.epochs._plateau(Training())

    def epoch(state, loss):
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            state = schedule.update(jnp.ones(2), state, value=loss)[1]
        return state, state.scale

    return jax.lax.scan(epoch, schedule.init(jnp.ones(2)), losses)[1]


@pytest.mark.parametrize("name", LOSSES)
def test_the_plateau_schedule_is_pytorch_s(name):
    losses, cuts = LOSSES[name]
    expected = torch_s_plateau(losses)
    padded = np.pad(np.asarray(losses, np.float32), (0, 60 - len(losses)))  # to one length, for one program
    np.testing.assert_allclose(scales(padded)[: len(losses)], expected, rtol=1e-5)
    assert round(-np.log10(expected[-1])) == cuts


shuffled = jax.jit(training.shuffled, static_argnums=2)


def test_mini_batches_hold_every_row_none_twice_and_have_one_size():
    for n, size in ((10, 4), (12, 4), (5, 8)):
        batches = np.asarray(shuffled(jax.random.key(n), jnp.arange(n) + 100, size))
        assert batches.shape == (-(-n // min(size, n)), min(size, n))
        assert set(batches.reshape(-1)) == set(range(100, 100 + n))
        assert all(len(set(batch)) == len(batch) for batch in batches)
    one, same, other = (shuffled(jax.random.key(i), jnp.arange(50), 8) for i in (1, 1, 2))
    assert (one == same).all() and not (one == other).all() and not (one.reshape(-1)[:50] == jnp.arange(50)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"batch_size": 1}, "batch_size must be at least 2, got 1"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"check_every": 0}, "check_every must be at least 1, got 0"),
        ({"stopping_patience": -1}, "stopping_patience must be at least 0, got -1"),
        ({"plateau_patience": -1}, "plateau_patience must be at least 0, got -1"),
        ({"plateau_factor": 1.0}, "plateau_factor must be between 0 and 1, got 1.0"),
        ({"plateau_tolerance": -1.0}, r"plateau_tolerance must be in \[0, 1\), got -1.0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Training(**options)
