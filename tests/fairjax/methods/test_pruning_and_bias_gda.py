"""Pruning and bias GD/A, compared with plain loops; presets."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from biased import RULE, TASK, UNITS, evaluate
from jax.flatten_util import ravel_pytree

from experiments.first_paper.presets import AUTHORS, PAPER
from fairjax import loop
from fairjax.methods import BiasGda, Parts, Pruning, Task
from fairjax.metrics import MEASURES, spd
from fairjax.nn import FlatVariables, Mlp, from_linen
from fairjax.nn.influence import influence
from fairjax.nn.network import scores
from fairjax.selection import AccuracyFloor, ConstrainedObjective


@functools.partial(jax.jit, static_argnums=1)
def begin_method(method, *args):
    return method.init(*args)


@functools.partial(jax.jit, static_argnums=1)
def advance(method, *args):
    return method.step(*args)


@jax.jit
def measured(tree, batch):
    """Return each unit's influence on the statistical parity proxy."""
    return ravel_pytree(influence(spd, TASK.network.apply, tree, batch))[0]


@pytest.mark.parametrize("name", ["pruning", "bias_gda"])
def test_methods_debias(name, biased):
    longer = BiasGda(epochs=60, learning_rate=1e-3, batch_size=64)
    found = biased.results[name] if name == "pruning" else biased.debias(name, longer)
    assert found.satisfied and found.selected > 0
    assert abs(found.trace.valid.bias[0]) > 0.2 > 0.14 > abs(found.trace.valid.bias[found.selected])


@pytest.mark.parametrize("schedule", ["units", "quantile"])
@pytest.mark.parametrize("how", ["dynamic", "static"])
@pytest.mark.parametrize(("part", "spared"), [("train", 0), ("valid", 1)])
def test_pruning_is_a_greedy_loop(schedule, how, part, spared, biased):
    steps = 7 if schedule == "units" else 4
    config = Pruning(schedule=schedule, units=2, steps=steps, influence=how, part=part, spared_layers=spared)
    state, found = begin_method(config, TASK, jax.random.key(0), biased.variables, biased.parts, biased.evaluation), []
    for _ in range(steps):
        state = advance(config, TASK, biased.parts, state)
        found.append(np.asarray(state.variables.masks))

    unravel = ravel_pytree(biased.variables["masks"])[1]
    sign, kept, gone_before = float(np.sign(biased.evaluation.bias)), np.ones(UNITS, bool), set()
    allowed = np.arange(UNITS) >= (6 if spared else 0)
    scored = sign * np.asarray(measured(biased.variables, getattr(biased.parts, part)))
    for step in range(steps):
        if how == "dynamic":
            tree = {**biased.variables, "masks": unravel(jnp.asarray(kept))}
            scored = sign * np.asarray(measured(tree, getattr(biased.parts, part)))
        candidates = [unit for unit in range(UNITS) if kept[unit] and allowed[unit]]
        if schedule == "units":
            gone = sorted(candidates, key=lambda unit: (-scored[unit], unit))[:2]
        else:
            cut = np.quantile(np.where(kept, scored, 0)[allowed], 1 - 1 / steps)
            gone = [unit for unit in candidates if scored[unit] > cut]
        assert not gone_before & set(gone)
        gone_before |= set(gone)
        kept = kept & ~np.isin(np.arange(UNITS), gone)
        assert found[step].tolist() == kept.tolist(), f"step {step}"
    assert gone_before and kept[~allowed].all()
    assert schedule == "quantile" or not kept[allowed].any()
    chex.assert_trees_all_equal(state.variables.variables()["params"], biased.variables["params"])


def test_a_first_unit_is_one_that_pushes_the_bias_further_from_0(biased):
    sign = np.sign(biased.evaluation.bias)
    state = begin_method(Pruning(), TASK, jax.random.key(0), biased.variables, biased.parts, biased.evaluation)
    cut = advance(Pruning(), TASK, biased.parts, state).variables.masks
    unit = int(np.flatnonzero(~np.asarray(cut))[0])
    slopes = np.asarray(measured(biased.variables, biased.parts.train))
    assert np.sign(slopes[unit]) == sign and unit == np.argmax(slopes * sign)


def test_pruning_takes_as_many_steps_as_there_are_units(biased):
    assert Pruning().total_steps(biased.variables) == UNITS
    assert Pruning(units=4).total_steps(biased.variables) == 3
    assert Pruning(spared_layers=1).total_steps(biased.variables) == 5
    assert Pruning(schedule="quantile", units=4).total_steps(biased.variables) == UNITS
    assert Pruning(steps=7).total_steps(biased.variables) == 7


def begin_descent(biased, config, task=TASK, parts=None):
    """Return the state before the first epoch, and the bias on validation data."""
    parts = biased.parts if parts is None else parts
    evaluation = evaluate(task, biased.variables, parts)[0].valid
    return begin_method(config, task, jax.random.key(2), biased.variables, parts, evaluation), evaluation.bias


@pytest.mark.parametrize("part", ["train", "valid"])
@pytest.mark.parametrize("name", ["spd", "eod"])
def test_bias_gda_moves_the_proxy_towards_0_from_both_sides(name, part, biased):
    task, config = Task(TASK.network, MEASURES[name]), BiasGda(learning_rate=1e-3, batch_size=64, part=part)
    # with flipped groups the bias changes its sign, so this is ascent
    flipped = Parts(*(batch._replace(a=~batch.a) for batch in biased.parts))
    signs = []
    for given in (biased.parts, flipped):
        batch = getattr(given, part)

        @jax.jit
        def proxy(state, batch=batch):
            values = scores(task.network.apply, state.variables.variables(), batch.x)
            return task.measure(values, batch.y, batch.a)

        state, bias = begin_descent(biased, config, task, given)
        before = proxy(state)
        for _ in range(3 if part == "train" else 8):
            state = advance(config, task, given, state)
        assert abs(proxy(state)) < abs(before) - 0.02
        signs.append(float(jnp.sign(bias)))
    assert signs == [-1.0, 1.0]


def test_plain_descent_is_written_out(biased):
    """Run three epochs of one mini-batch each; without dropout the order of rows does not matter."""
    network, batch = from_linen(Mlp(widths=(6, 5), dropout=0.0)), biased.parts.train
    task, config = Task(network, spd), BiasGda(optimiser="sgd", learning_rate=0.1, batch_size=1000)
    state, bias = begin_descent(biased, config, task)

    @jax.jit
    def slope(tree):
        def loss(params):
            logits, updated = network.apply({**tree, "params": params}, batch.x, key=jax.random.key(9))
            return jnp.sign(bias) * spd(jax.nn.sigmoid(logits), batch.y, batch.a), updated

        return jax.grad(loss, has_aux=True)(tree["params"])

    tree = biased.variables
    for _ in range(3):
        state = advance(config, task, biased.parts, state)
        gradient, updated = slope(tree)
        tree = {**updated, "params": jax.tree.map(lambda p, g: p - 0.1 * g, tree["params"], gradient)}
    chex.assert_trees_all_close(state.variables.variables(), tree, rtol=1e-3, atol=1e-5)
    assert jnp.abs(state.variables.params - FlatVariables.ravel(biased.variables).params).max() > 1e-3


def test_an_epoch_may_give_several_candidates(biased):
    one, four = BiasGda(batch_size=50, epochs=2), BiasGda(batch_size=50, epochs=2, evaluations=4)
    assert (one.total_steps(biased.variables), four.total_steps(biased.variables)) == (2, 8)
    states, every = {}, []
    for name, config, count in (("one", one, 2), ("four", four, 8)):
        states[name], _ = begin_descent(biased, config)
        for _ in range(count):
            states[name] = advance(config, TASK, biased.parts, states[name])
            every.append(np.asarray(states[name].variables.params).tobytes())
    np.testing.assert_allclose(states["one"].variables.params, states["four"].variables.params, rtol=1e-4, atol=1e-6)
    assert len(set(every[2:])) == 8
    many = dataclasses.replace(four, evaluations=20)
    message = "evaluations = 20 exceeds the 12 mini-batches of an epoch over the train part"
    with pytest.raises(ValueError, match=message):
        many.step(TASK, biased.parts, begin_descent(biased, many)[0])


def test_candidates_can_be_evaluated_as_they_train(biased):
    config = BiasGda(epochs=6, learning_rate=1e-3, candidates="training")
    one, again = biased.debias("bias_gda", config), biased.debias("bias_gda", config)
    chex.assert_trees_all_equal(one, again)
    biases = one.trace.valid.bias, biased.results["bias_gda"].trace.valid.bias
    assert biases[0][0] == biases[1][0], "candidate 0 is evaluated as the network that it is"
    assert not jnp.allclose(*biases)


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_mini_batches_without_a_group_do_no_harm(optimiser, biased):
    rare = jnp.zeros(biased.parts.train.y.shape, bool).at[:2].set(True)
    lacking = biased.parts._replace(train=biased.parts.train._replace(a=~rare))
    config = BiasGda(batch_size=8, learning_rate=1e-3, optimiser=optimiser)
    state, _ = begin_descent(biased, config)
    after = advance(config, TASK, lacking, state)
    assert jnp.isfinite(after.variables.params).all() and not (after.variables.params == state.variables.params).all()
    without = lacking._replace(train=lacking.train._replace(a=jnp.ones_like(rare)))
    unmoved = advance(config, TASK, without, state)
    np.testing.assert_array_equal(unmoved.variables.params, state.variables.params)
    assert not (unmoved.variables.rest == state.variables.rest).all()


def test_learning_rates_can_be_mapped_over(biased):
    def biases(rate):
        config = BiasGda(learning_rate=rate, epochs=2)
        return loop.run(config, TASK, RULE, jax.random.key(0), biased.variables, biased.split).trace.valid.bias

    found = jax.jit(jax.vmap(biases))(jnp.array([1e-5, 1e-2]))
    assert found.shape == (2, 3) and found[0, 0] == found[1, 0] and found[0, 2] != found[1, 2]


PRESET_DIFFERENCES = {  # as in the table of experiments.first_paper.presets
    ("network", "site"): ("activation", "preactivation"),
    ("network", "cut"): ("outgoing", "incoming"),
    ("pruning", "schedule"): ("quantile", "units"),
    ("pruning", "part"): ("train", "valid"),
    ("pruning", "reduction"): ("mean", "sum"),
    ("pruning", "spared_layers"): (1, 0),
    ("bias_gda", "part"): ("train", "valid"),
    ("bias_gda", "optimiser"): ("sgd", "adam"),
    ("bias_gda", "epochs"): (100, 200),
    ("bias_gda", "candidates"): ("evaluation", "training"),
    ("random_perturbation", "draws"): (500, 101),
}


@pytest.mark.parametrize(("of", "field"), PRESET_DIFFERENCES)
def test_presets_set_every_difference_and_a_single_one_can_be_overridden(of, field):
    paper, authors = PRESET_DIFFERENCES[of, field]
    assert (getattr(getattr(PAPER, of), field), getattr(getattr(AUTHORS, of), field)) == (paper, authors)
    if of == "network":
        assert getattr(PAPER.network.clone(**{field: authors}), field) == authors
        return
    changed = PAPER._replace(**{of: dataclasses.replace(getattr(PAPER, of), **{field: authors})})
    differing = [
        (name, switch.name)
        for name in ("pruning", "bias_gda", "random_perturbation")
        for switch in dataclasses.fields(getattr(PAPER, name))
        if getattr(getattr(changed, name), switch.name) != getattr(getattr(PAPER, name), switch.name)
    ]
    assert differing == [(of, field)]


def test_presets_agree_in_all_else():
    assert isinstance(PAPER.rule, ConstrainedObjective) and isinstance(AUTHORS.rule, AccuracyFloor)
    assert PAPER.pruning.steps == sum(PAPER.network.widths) == 352
    assert PAPER.pruning.influence == AUTHORS.pruning.influence == "dynamic" and AUTHORS.pruning.units == 1
    for field in ("learning_rate", "batch_size", "evaluations"):
        assert getattr(PAPER.bias_gda, field) == getattr(AUTHORS.bias_gda, field)
    assert PAPER.network.widths == AUTHORS.network.widths == (32,) * 11
    assert PAPER.network.dropout == AUTHORS.network.dropout == 0.05


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pruning(units=0), "units must be at least 1, got 0"),
        (lambda: Pruning(steps=0), "steps must be at least 1, got 0"),
        (lambda: Pruning(spared_layers=-1), "spared_layers must be at least 0, got -1"),
        (lambda: BiasGda(learning_rate=-1.0), "learning_rate must be positive, got -1.0"),
        (lambda: BiasGda(batch_size=1), "batch_size must be at least 2, got 1"),
        (lambda: BiasGda(epochs=0), "epochs must be at least 1, got 0"),
        (lambda: BiasGda(evaluations=0), "evaluations must be at least 1, got 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
