"""Pruning of the units that respond to a group, compared with plain loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from biased import TASK, UNITS
from jax.flatten_util import ravel_pytree

from fairjax.detect.concepts import unit_scores
from fairjax.methods import Pruning, Task
from fairjax.nn import Mlp, materialize

SCORES = ["selectivity", "probe", "concept"]


@functools.partial(jax.jit, static_argnums=(0, 1))
def prune(config, task, variables, parts, evaluation):
    """Return the masks after each step."""
    state = config.init(task, jax.random.key(0), variables, parts, evaluation)

    def step(state, _):
        state = config.step(task, parts, state)
        return state, state.variables.masks

    return jax.lax.scan(step, state, length=config.total_steps(variables))[1]


@functools.partial(jax.jit, static_argnums=1)
def scored(variables, score, batch):
    return ravel_pytree(unit_scores(TASK.network, variables, batch, score))[0]


@pytest.mark.parametrize(("how", "part"), [("dynamic", "train"), ("static", "valid")])
@pytest.mark.parametrize("score", SCORES)
def test_the_most_associated_unit_is_cut_first(score, how, part, biased):
    config = Pruning(score=score, steps=6, influence=how, part=part)
    found = np.asarray(prune(config, TASK, biased.variables, biased.parts, biased.evaluation))
    unravel = ravel_pytree(biased.variables["masks"])[1]
    kept, batch = np.ones(UNITS, bool), getattr(biased.parts, part)
    scores = np.asarray(scored(biased.variables, score, batch))
    for step in range(6):
        if how == "dynamic":
            scores = np.asarray(scored({**biased.variables, "masks": unravel(jnp.array(kept))}, score, batch))
        kept[np.argmax(np.where(kept, scores, -np.inf))] = False
        assert found[step].tolist() == kept.tolist(), f"step {step}"


@pytest.mark.parametrize("schedule", ["units", "quantile"])
def test_every_unit_is_cut_in_the_end_whatever_the_schedule(schedule, biased):
    config = Pruning(score="selectivity", schedule=schedule, spared_layers=1)
    found = prune(config, TASK, biased.variables, biased.parts, biased.evaluation)
    assert found[-1, :6].all()  # the layer that is spared
    assert schedule == "quantile" or not found[-1, 6:].any()
    assert found.sum(axis=1).tolist() == sorted(found.sum(axis=1).tolist(), reverse=True) and not found[-1].all()


def test_units_are_turned_off_and_the_network_without_them_is_the_same(biased):
    """What is cut is the activation: a smaller network without the units has the same logits."""
    config = Pruning(score="selectivity", steps=4)
    masks = prune(config, TASK, biased.variables, biased.parts, biased.evaluation)[-1]
    cut = {**biased.variables, "masks": ravel_pytree(biased.variables["masks"])[1](masks)}
    x = biased.parts.test.x
    expected = TASK.network.apply(cut, x)[0]
    folded = materialize(Mlp(widths=(6, 5)), cut)
    np.testing.assert_allclose(TASK.network.apply(folded, x)[0], expected, rtol=1e-4, atol=1e-5)
    activations = np.concatenate(jax.tree.leaves(TASK.network.activations(cut, x)), axis=1)
    assert not activations[:, ~masks].any() and masks.sum() == UNITS - 4


def test_association_is_pruned_to_less_bias(biased):
    found = biased.debias("pruning", Pruning(score="selectivity"))
    bias = np.abs(np.asarray(found.trace.valid.bias))
    assert bias[0] > 0.2 and bias[: UNITS // 2 + 1].min() < bias[0] / 2


def test_networks_without_activations_and_settings_without_effect_are_refused(biased):
    blind = Task(TASK.network._replace(activations=None), TASK.measure)
    for how in ("static", "dynamic"):
        config = Pruning(score="probe", influence=how)
        with pytest.raises(ValueError, match="the network shows no activations, which concepts need"):
            config.init(blind, jax.random.key(0), biased.variables, biased.parts, biased.evaluation)
    with pytest.raises((ValueError, TypeError), match="score"):  # the tests' type checks come first
        Pruning(score="tcav")
    with pytest.raises(ValueError, match="reduction is for the score 'influence', and the score is 'probe'"):
        Pruning(score="probe", reduction="sum")


def test_the_default_is_influence(biased):
    one, other = (
        prune(config, TASK, biased.variables, biased.parts, biased.evaluation)
        for config in (Pruning(steps=3), Pruning(steps=3, score="influence"))
    )
    np.testing.assert_array_equal(one, other)
    assert Pruning(steps=3) == Pruning(steps=3, score="influence")
