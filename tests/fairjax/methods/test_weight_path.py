"""Paths of weights and multipliers of composed losses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from biased import TASK

from fairjax.losses import BalancedCrossEntropy, Loss, Mmd, ParityPenalty, Wasserstein, WeightDecay
from fairjax.methods import ComposedFineTuning, FineTuning

SETTINGS = {"learning_rate": 1e-3, "epochs": 2, "batch_size": 64}


@functools.partial(jax.jit, static_argnames="steps")
def tuned(method, key, variables, parts, evaluation, steps=1):
    """Return the states after each epoch, the initial one first."""
    states = [method.init(TASK, key, variables, parts, evaluation)]
    for _ in range(steps):
        states.append(method.step(TASK, parts, states[-1]))
    return states


def run(biased, method, key=None, **options):
    """Return the states after each epoch."""
    key = jax.random.key(3) if key is None else key
    return tuned(method, key, biased.variables, biased.parts, biased.evaluation, **options)


@pytest.mark.parametrize("weighting", ["fixed", "multiplier"])
def test_fine_tuning_is_a_composed_loss_with_the_penalty(biased, weighting):
    shared = {"weights": (0.5, 4.0), "weighting": weighting, **SETTINGS}
    loss = Loss(base=BalancedCrossEntropy(), terms=(ParityPenalty(),))
    composed = run(biased, ComposedFineTuning(loss=loss, **shared), steps=2)[-1]
    epochs_key = jax.random.split(jax.random.key(3))[1]
    preset = run(biased, FineTuning(**shared), key=epochs_key, steps=2)[-1]
    np.testing.assert_allclose(composed.tuned.variables.params, preset.tuned.variables.params, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(composed.weights, preset.weights, rtol=1e-5)


def test_weights_are_factors_of_those_of_the_terms(biased):
    loss = Loss(terms=(Mmd(weight=2.0), WeightDecay(weight=0.1)))
    states = run(biased, ComposedFineTuning(loss=loss, weights=(1.0, 3.0), **SETTINGS))
    np.testing.assert_allclose(states[0].weights, [[2.0, 0.1], [6.0, 0.3]], rtol=1e-6)
    np.testing.assert_array_equal(states[1].weights, states[0].weights)
    alone = Loss(terms=(Mmd(weight=6.0), WeightDecay(weight=0.3)))
    expected = run(biased, ComposedFineTuning(loss=alone, **SETTINGS))[1].tuned.variables.params[0]
    np.testing.assert_allclose(states[1].tuned.variables.params[1], expected, rtol=1e-5, atol=1e-6)
    assert (np.abs(states[1].tuned.variables.params[0] - expected) > 1e-5).any()


def test_a_multiplier_changes_by_what_the_term_is_above_the_tolerance(biased):
    """A rate of 1 from 0 shows the mean of the epoch; terms that are not 0 at parity keep their weights."""
    loss = Loss(terms=(Mmd(weight=0.0), WeightDecay(weight=0.1), Wasserstein(weight=0.0, layer="last", directions=3)))
    shared = {"weighting": "multiplier", "multiplier_rate": 1.0, **SETTINGS}
    means = run(biased, ComposedFineTuning(loss=loss, **shared))[1].weights[0]
    assert means[0] > 0 and means[2] > 0 and means[1] == np.float32(0.1)
    strict = run(biased, ComposedFineTuning(loss=loss, **shared, tolerance=float(means[0]) / 2))[1].weights[0]
    np.testing.assert_allclose(strict[0], means[0] / 2, rtol=1e-4)
    lenient = run(biased, ComposedFineTuning(loss=loss, **shared, tolerance=100.0))[1].weights[0]
    np.testing.assert_array_equal(lenient, np.float32([0.0, 0.1, 0.0]))


def test_the_multiplier_of_a_signed_penalty_may_be_negative(biased):
    loss = Loss(terms=(ParityPenalty(weight=0.0, penalty="signed", sign=-float(np.sign(biased.evaluation.bias))),))
    method = ComposedFineTuning(loss=loss, weighting="multiplier", **SETTINGS)
    assert run(biased, method)[1].weights[0, 0] < 0


def test_dual_ascent_needs_a_term_that_is_0_at_parity(biased):
    method = ComposedFineTuning(loss=Loss(terms=(WeightDecay(),)), weighting="multiplier")
    with pytest.raises(ValueError, match=r"needs a term that is 0 at parity.*found Weight decay.*weighting='fixed'"):
        run(biased, method)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": ()}, "weights must hold at least one"),
        ({"weights": (-1.0,)}, "weights must not be negative"),
        ({"tolerance": -0.1}, "tolerance must be a finite number"),
        ({"multiplier_rate": 0.0}, "multiplier_rate"),
    ],
)
def test_invalid_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        ComposedFineTuning(**settings)


def test_mini_batches_without_a_group_do_not_count_for_the_multiplier():
    recorded = jnp.array([0.2, jnp.nan, -0.4])
    assert ParityPenalty().violation(recorded).item() == pytest.approx(0.1)
    assert ParityPenalty(penalty="signed", sign=-1.0).violation(recorded).item() == pytest.approx(0.1)
    assert ParityPenalty(penalty="signed").signed and not ParityPenalty().signed
