import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fairjax
from fairjax.losses import Data, Outputs, ParityPenalty, WeightDecay, reconstruction_error, weight_decay
from fairjax.metrics import MEASURES, make_measure
from fairjax.types import Batch

N = 40
RNG = np.random.default_rng(0)
LOGITS = jnp.asarray(RNG.normal(size=N), jnp.float32)
Y, A = jnp.asarray(RNG.random(N) < 0.5), jnp.asarray(RNG.random(N) < 0.7)
BATCH = Batch(jnp.ones((N, 1)), Y, A)


@pytest.mark.parametrize("name", MEASURES)
def test_the_parity_of_every_measure_is_its_value_on_scores_and_zero_without_a_group(name):
    term = ParityPenalty(measure=MEASURES[name])

    @jax.jit
    def value_and_gradient(logits, a):
        return jax.value_and_grad(lambda logits: term.value((), Outputs(logits, {}), BATCH._replace(a=a)))(logits)

    value, gradient = value_and_gradient(LOGITS, A)
    np.testing.assert_allclose(value, abs(MEASURES[name](jax.nn.sigmoid(LOGITS), Y, A)), rtol=1e-5)
    assert jnp.all(jnp.isfinite(gradient)) and jnp.any(gradient != 0)
    for present in (False, True):
        value, gradient = value_and_gradient(LOGITS, jnp.full(N, present))
        assert value == 0 and jnp.all(gradient == 0)


@pytest.mark.parametrize("name", ["spd", "eod"])
def test_parity_of_many_groups_and_classes(name):
    logits, groups = jnp.asarray(RNG.normal(size=(N, 3)), jnp.float32), jnp.asarray(np.arange(N) % 4)
    measure = make_measure(name, 4, 3)
    batch = Batch(BATCH.x, jnp.asarray(np.arange(N) // 4 % 3), groups)
    term = ParityPenalty(measure=measure).bind(Data(batch, 4, 3, N))
    value, gradient = jax.value_and_grad(lambda logits: term.value((), Outputs(logits, {}), batch))(logits)
    np.testing.assert_allclose(value, abs(measure(jax.nn.softmax(logits), batch.y, groups)), rtol=1e-5)
    assert value > 0 and jnp.all(jnp.isfinite(gradient)) and jnp.any(gradient != 0)
    alone = batch._replace(a=jnp.zeros(N, int))
    value, gradient = jax.value_and_grad(lambda logits: term.value((), Outputs(logits, {}), alone))(logits)
    assert value == 0 and jnp.all(gradient == 0)


def test_signed_parity_has_the_sign():
    outputs = Outputs(LOGITS, {})
    bias = fairjax.spd(jax.nn.sigmoid(LOGITS), Y, A)
    for sign in (1.0, -1.0):
        found = ParityPenalty(measure=fairjax.spd, penalty="signed", sign=sign).value((), outputs, BATCH)
        np.testing.assert_allclose(found, sign * bias, rtol=1e-6)


def test_parity_needs_a_measure():
    with pytest.raises(ValueError, match="the term parity needs a measure: give ParityPenalty"):
        ParityPenalty().bind(Data(BATCH))
    with pytest.raises(ValueError, match="the term parity needs a measure"):
        ParityPenalty().value((), Outputs(LOGITS, {}), BATCH)


def test_weight_decay_is_the_sum_of_squares():
    params = {"one": {"kernel": RNG.normal(size=(3, 2)), "bias": RNG.normal(size=2)}, "two": RNG.normal(size=(2, 2, 2))}
    params = jax.tree.map(lambda leaf: leaf.astype(np.float32), params)
    kernels = np.sum(params["one"]["kernel"] ** 2) + np.sum(params["two"] ** 2)
    np.testing.assert_allclose(weight_decay(params), kernels, rtol=1e-6)
    outputs = Outputs(LOGITS, {}, params=jax.tree.map(jnp.asarray, params))
    found = WeightDecay(of="all").value((), outputs, BATCH)
    np.testing.assert_allclose(found, kernels + np.sum(params["one"]["bias"] ** 2), rtol=1e-6)
    with pytest.raises(ValueError, match="of must be one of kernels, all, got 'biases'"):
        weight_decay(params, of="biases")


def test_reconstruction_is_a_weighted_mean_of_squares():
    rng = np.random.default_rng(4)
    decoded, x, weights = rng.normal(size=(6, 3)), rng.normal(size=(6, 3)), rng.random(6)
    found = reconstruction_error(jnp.asarray(decoded, jnp.float32), x, weights)
    assert found.item() == pytest.approx(np.average(((decoded - x) ** 2).mean(axis=1), weights=weights), rel=1e-5)
    with pytest.raises(ValueError, match=r"decoded and x must have one shape, found \(6, 3\) and \(6, 2\)"):
        reconstruction_error(jnp.asarray(decoded), x[:, :2])
    with pytest.raises(ValueError, match="weights"):
        reconstruction_error(jnp.asarray(decoded), x, -weights)
