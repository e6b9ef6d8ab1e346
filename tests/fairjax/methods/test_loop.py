"""The loop that all methods share, for every method: protocol, selection, chunks, many seeds, non-finite values."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import usual
from biased import CONFIGS, PROGRAMS, RULE, TASK, TRACES, Programs, evaluate, run
from jaxtyping import Array, Float

from fairjax import loop, selection
from fairjax.methods import METHODS, Method, Pruning, method
from fairjax.nn.flat import FlatVariables
from fairjax.nn.network import scores
from fairjax.result import Debiased
from fairjax.selection import AccuracyFloor, ConstrainedObjective, ExpectedObjective

STEPPING = [name for name in METHODS if name not in ("standard", "threshold")]
BY_ACCURACY = [name for name in METHODS if METHODS[name].threshold == "accuracy"]


def test_the_network_to_debias_is_biased(biased):
    assert abs(biased.evaluation.bias) > 0.2


@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_the_protocol(name, biased):
    method = CONFIGS[name]
    assert isinstance(method, Method) and isinstance(biased.results[name], Debiased) and type(method) is METHODS[name]
    assert METHODS[name].label and METHODS[name].reference and METHODS[name].equation
    state, steps = biased.begin(name)[0].state, method.total_steps(biased.variables)
    new = jax.eval_shape(lambda state: method.step(TASK, biased.parts, state), state)
    chex.assert_trees_all_equal_shapes_and_dtypes(new, jax.eval_shape(lambda state: state, state))
    chex.assert_trees_all_equal(
        FlatVariables.ravel(method.candidate(state, jnp.zeros((), jnp.int32))), FlatVariables.ravel(biased.variables)
    )  # no step is taken yet
    candidates = steps * method.members + 1
    assert (steps > 0) == (name in STEPPING)
    assert biased.results[name].trace.valid.bias.shape == biased.results[name].trace.test.bias.shape == (candidates,)
    chex.assert_trees_all_equal_shapes_and_dtypes(biased.results[name].variables, biased.variables)
    assert not biased.results[name].diverged


@pytest.mark.parametrize("name", BY_ACCURACY)
def test_candidate_0_is_the_network_as_it_came(name, biased):
    trace, _ = evaluate(TASK, biased.variables, biased.parts)
    first = jax.tree.map(lambda entry: entry[0], biased.results[name].trace)
    chex.assert_trees_all_close(first, trace, atol=1e-6)
    never = ConstrainedObjective(epsilon=1e-6, margin=0.0)  # numbers in a rule need no new compilation
    short = Pruning(steps=3) if name == "pruning" else None  # a network without units has no bias
    unmet = biased.debias(name, short, never)
    assert unmet.selected == 0 and not unmet.satisfied
    chex.assert_trees_all_equal(unmet.variables, biased.variables)
    assert unmet.threshold == unmet.trace.valid.threshold[0]


@jax.jit
def evaluate_at(variables, batch, threshold):
    values = scores(TASK.network.apply, variables, batch.x)
    return selection.evaluate_at(TASK.measure, values, batch.y, batch.a, threshold)


@pytest.mark.parametrize("name", METHODS)
def test_the_result_is_the_best_candidate_with_its_own_threshold(name, biased):
    found = biased.results[name]
    assert found.selected == selection.first_max(RULE(found.trace.valid))
    assert found.threshold == found.trace.valid.threshold[found.selected]
    assert bool(found.satisfied) == (abs(float(found.trace.valid.bias[found.selected])) < 0.14)
    if getattr(CONFIGS[name], "candidates", "evaluation") == "evaluation":
        for part in ("valid", "test"):
            again = evaluate_at(found.variables, getattr(biased.parts, part), found.threshold)
            assert again.bias == pytest.approx(float(getattr(found.trace, part).bias[found.selected]), abs=0.03)


@pytest.mark.parametrize("name", STEPPING)
def test_a_run_is_a_start_and_chunks_of_steps(name, biased):
    # the sums of the search are rounded differently in programs with little optimisation
    programs = Programs(usual.OPTIONS) if name == "layerwise" and usual.OPTIONS else PROGRAMS
    whole = biased.debias(name, programs=programs) if name == "layerwise" else biased.results[name]
    method, (begun, evaluated) = CONFIGS[name], biased.begin(name, programs=programs)
    steps = method.total_steps(biased.variables)
    progress, traces = begun, []
    for chunk in (steps // 2, steps // 2, *((1,) if steps % 2 else ())):  # few lengths, since each is a program
        progress, trace = programs.advance(method, TASK, RULE, biased.parts, progress, chunk)
        traces.append(trace)
    trace = jax.tree.map(lambda one, *chunks: jnp.concatenate([one[None], *chunks]), evaluated[0], *traces)
    chex.assert_trees_all_equal(loop.finish(method, TASK, RULE, progress, trace, biased.split), whole)


@pytest.mark.parametrize("name", STEPPING)
def test_many_seeds_are_each_seed_alone(name, biased):
    method = CONFIGS[name]
    other = jax.tree.map(lambda leaf: leaf[::-1] if leaf.ndim == 1 else leaf, biased.variables)
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), biased.variables, other)

    def one(number, tree):
        return loop.run(method, TASK, RULE, jax.random.key(number), tree, biased.split)

    together = jax.jit(jax.vmap(one))(jnp.arange(2), both)
    for i, tree in enumerate((biased.variables, other)):
        single = run(method, TASK, RULE, jax.random.key(i), tree, biased.split)
        for part in ("valid", "test"):
            ours, theirs = getattr(together.trace, part), getattr(single.trace, part)
            np.testing.assert_allclose(ours.bias[i], theirs.bias, atol=0.03)  # one row more or less
            np.testing.assert_allclose(ours.balanced_accuracy[i], theirs.balanced_accuracy, atol=0.03)
    assert not jnp.array_equal(together.trace.valid.bias[0], together.trace.valid.bias[1])


@pytest.mark.parametrize("name", METHODS)
def test_numbers_of_a_config_change_without_compiling_again(name, biased):
    config, _ = CONFIGS[name], biased.results[name]
    traced = len(TRACES)
    assert TRACES.count(METHODS[name]) >= 1
    biased.debias(name, rule=ConstrainedObjective(epsilon=0.2, margin=0.02))
    numbers = [field.name for field in dataclasses.fields(config) if not field.metadata.get("static")]
    for number in numbers:
        halved = jax.tree.map(lambda value: 0.5 * value, getattr(config, number))
        biased.debias(name, dataclasses.replace(config, **{number: halved}))
    assert len(TRACES) == traced
    assert numbers or name in ("standard", "threshold", "pruning")


@pytest.mark.parametrize("rule", [RULE, ExpectedObjective(), AccuracyFloor(), AccuracyFloor(floor=0.99)])
def test_rules_are_interchangeable(rule, biased):
    found = biased.debias("pruning", Pruning(steps=3), rule)
    assert found.selected == selection.first_max(rule(found.trace.valid))
    assert bool(found.satisfied) == (abs(float(found.trace.valid.bias[found.selected])) < float(rule.bound))


@method
class Scripted(Method):
    """Multiply the parameters by a number at every step, so that the candidates are known."""

    factors: Float[Array, " steps"]

    def init(self, task, key, variables, parts, evaluation):
        return jnp.zeros((), jnp.int32), variables

    def step(self, task, parts, state):
        count, tree = state
        return count + 1, {**tree, "params": jax.tree.map(lambda leaf: leaf * self.factors[count], tree["params"])}

    def candidate(self, state, member):
        return state[1]

    def total_steps(self, variables):
        return self.factors.shape[0]


def test_ties_go_to_the_earliest_candidate(biased):
    always = AccuracyFloor(floor=0.0)
    found = run(Scripted(factors=jnp.ones(4)), TASK, always, jax.random.key(0), biased.variables, biased.split)
    assert found.selected == 0 and not found.diverged


@pytest.mark.parametrize("at", [0, 1, 3])
@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
def test_a_candidate_that_is_not_finite_is_never_selected_and_freezes_the_run(at, value, biased):
    """Without scores above a threshold there is no bias, so such a candidate would otherwise be by far the best."""
    better = jnp.array([1.0, -1.0, 1.0, 1.0])  # the signs of the weights change, and with them the bias
    always = AccuracyFloor(floor=0.0)
    sound = run(Scripted(factors=better), TASK, always, jax.random.key(0), biased.variables, biased.split)
    found = run(
        Scripted(factors=better.at[at].set(value)), TASK, always, jax.random.key(0), biased.variables, biased.split
    )
    assert found.diverged and not sound.diverged
    scores = always(sound.trace.valid)[: at + 1]  # the candidates before it
    assert found.selected == selection.first_max(scores)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(found.variables["params"]))


def test_a_network_that_is_not_finite_to_begin_with_is_told(biased):
    broken = {**biased.variables, "params": jax.tree.map(lambda leaf: leaf * jnp.nan, biased.variables["params"])}
    both = jax.tree.map(lambda one, other: jnp.stack([one, other]), broken, biased.variables)

    @jax.vmap
    def many(tree):
        halved = Scripted(factors=jnp.full(2, 0.5))
        return loop.run(halved, TASK, AccuracyFloor(floor=0.0), jax.random.key(0), tree, biased.split)

    many = jax.jit(many)
    found, sound = many(both), many(jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), biased.variables))
    assert found.diverged.tolist() == [True, False] and found.selected[0] == 0
    assert not found.satisfied[0]  # although NaN scores accept nobody
    chex.assert_trees_all_equal(*(jax.tree.map(lambda leaf: leaf[1], tree) for tree in (found, sound)))
