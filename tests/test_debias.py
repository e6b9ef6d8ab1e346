"""Every method against the protocol, pruning and bias GD/A against plain loops."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from fairjax import data, loop, masks, objective, training
from fairjax.debias import METHODS, BiasGda, Pruning, bias_gda, pruning
from fairjax.influence import influence
from fairjax.loop import Method, Parts, Task
from fairjax.nn import Mlp, from_linen
from fairjax.nn.network import scores
from fairjax.objective import AccuracyFloor, ConstrainedObjective, ExpectedObjective
from fairjax.parity import MEASURES, spd
from fairjax.presets import AUTHORS, PAPER

TASK = Task(from_linen(Mlp(widths=(6, 5))), spd)
CONFIGS = {
    "standard": METHODS["standard"][0](),
    "pruning": Pruning(),
    "bias_gda": BiasGda(epochs=5, learning_rate=1e-3),
}
RULE = ConstrainedObjective(epsilon=0.15, margin=0.01)

run = jax.jit(loop.run, static_argnums=(0, 1))
steps_of = jax.jit(loop.advance, static_argnums=(0, 1, 6))


@pytest.fixture(scope="module")
def split():
    """Rows whose label depends on the group, so that a trained network is biased."""
    rng = np.random.default_rng(0)
    a = rng.random(1000) < 0.5
    x = rng.normal(size=(1000, 4)).astype(np.float32)
    x[:, 1] += 1.5 * a
    y = x[:, 0] + x[:, 1] + rng.normal(size=1000) > 0.7
    return data.split(jax.random.key(0), jnp.asarray(x), jnp.asarray(y), jnp.asarray(a))


@pytest.fixture(scope="module")
def parts(split):
    return Parts.of(split)


@pytest.fixture(scope="module")
def variables(split):
    config = training.Training(epochs=20, batch_size=32, learning_rate=3e-3)
    fit = jax.jit(training.run, static_argnums=0)
    return fit(TASK.network, config, jax.random.key(1), split).best.variables()


def begin(name, parts, variables, rule=RULE, config=None, task=TASK):
    evaluated = loop.evaluate(task, variables, parts)
    config = CONFIGS[name] if config is None else config
    return loop.start(METHODS[name][1], task, config, rule, jax.random.key(2), variables, parts, evaluated), evaluated


def raw(tree):
    """Keys as numbers, so that trees can be compared."""
    return jax.tree.map(
        lambda leaf: jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf, tree
    )


def test_the_network_to_debias_is_biased(variables, parts):
    assert abs(loop.evaluate(TASK, variables, parts)[0].valid.bias) > 0.2


@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_the_protocol(name, variables, parts, split):
    kind, method = METHODS[name]
    assert isinstance(method, Method) and isinstance(kind(), kind)
    progress, _ = begin(name, parts, variables)
    state = method.step(TASK, CONFIGS[name], parts, progress.state)
    chex.assert_trees_all_equal_shapes_and_dtypes(raw(state), raw(progress.state))
    result = run(method, TASK, CONFIGS[name], RULE, jax.random.key(2), variables, split)
    steps = method.steps(CONFIGS[name], variables)
    assert result.trace.valid.bias.shape == result.trace.test.bias.shape == (steps + 1,)
    assert 0 <= result.selected <= steps
    chex.assert_trees_all_equal_shapes_and_dtypes(result.variables, variables)
    assert not result.diverged


@pytest.mark.parametrize("name", METHODS)
def test_the_result_is_the_best_candidate_with_its_own_threshold(name, variables, parts, split):
    result = run(METHODS[name][1], TASK, CONFIGS[name], RULE, jax.random.key(2), variables, split)
    scored = RULE(result.trace.valid)
    assert result.selected == objective.first_max(scored)
    assert result.threshold == result.trace.valid.threshold[result.selected]
    assert bool(result.satisfied) == bool(jnp.abs(result.trace.valid.bias[result.selected]) < 0.14)
    for part in ("valid", "test"):
        batch = getattr(parts, part)
        values = scores(TASK.network.apply, result.variables, batch.x)
        again = objective.at_threshold(spd, values, batch.y, batch.a, result.threshold)
        assert again.bias == pytest.approx(float(getattr(result.trace, part).bias[result.selected]), abs=0.03)


@pytest.mark.parametrize("name", ["pruning", "bias_gda"])
def test_methods_debias(name, variables, split):
    result = run(METHODS[name][1], TASK, CONFIGS[name], RULE, jax.random.key(2), variables, split)
    if name == "bias_gda":
        config = BiasGda(epochs=60, learning_rate=1e-3, batch_size=64)
        result = run(METHODS[name][1], TASK, config, RULE, jax.random.key(2), variables, split)
    assert result.satisfied and result.selected > 0
    assert abs(result.trace.valid.bias[0]) > 0.2 > 0.14 > abs(result.trace.valid.bias[result.selected])


@pytest.mark.parametrize("name", ["pruning", "bias_gda"])
def test_chunks_are_one_scan_bitwise(name, variables, parts):
    method, config = METHODS[name][1], CONFIGS[name]
    progress, _ = begin(name, parts, variables)
    whole, trace = steps_of(method, TASK, config, RULE, parts, progress, 4)
    first, left = steps_of(method, TASK, config, RULE, parts, begin(name, parts, variables)[0], 2)
    second, right = steps_of(method, TASK, config, RULE, parts, first, 2)
    chex.assert_trees_all_equal(raw(second), raw(whole))
    chex.assert_trees_all_equal(jax.tree.map(lambda a, b: jnp.concatenate([a, b]), left, right), trace)


@pytest.mark.parametrize("name", ["pruning", "bias_gda"])
def test_many_seeds_are_each_seed_alone(name, variables, split):
    method, config = METHODS[name][1], dataclasses.replace(CONFIGS[name], **({"steps": 4} if name == "pruning" else {}))
    other = jax.tree.map(lambda leaf: leaf[::-1] if leaf.ndim == 1 else leaf, variables)
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), variables, other)

    def one(number, variables):
        return loop.run(method, TASK, config, RULE, jax.random.key(number), variables, split)

    together = jax.jit(jax.vmap(one))(jnp.arange(2), both)
    for i, alone in enumerate((variables, other)):
        single = jax.jit(one)(i, alone)
        np.testing.assert_allclose(together.trace.valid.bias[i], single.trace.valid.bias, atol=0.03)
        np.testing.assert_allclose(together.trace.valid.threshold[i][0], single.trace.valid.threshold[0], atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_numbers_of_a_config_change_without_compiling_again(name, variables, split):
    method = METHODS[name][1]
    chex.clear_trace_counter()

    def debias(config, rule):
        return loop.run(method, TASK, config, rule, jax.random.key(0), variables, split).selected

    debias.__name__ = f"debias_{name}"
    debias = jax.jit(chex.assert_max_traces(debias, n=1))
    config = CONFIGS[name] if name != "pruning" else Pruning(steps=2)
    debias(config, RULE)
    debias(config, ConstrainedObjective(epsilon=0.2, margin=0.02))
    if name == "bias_gda":
        debias(dataclasses.replace(config, learning_rate=5e-4), RULE)


def cut_order(variables, trace_of_masks):
    """Units in the order in which they go."""
    kept, gone = ravel_pytree(variables["masks"])[0], []
    for masks_ in trace_of_masks:
        new = ravel_pytree(masks_)[0]
        gone.append(np.flatnonzero(kept & ~new).tolist())
        kept = new
    return gone


@pytest.mark.parametrize("schedule", ["units", "quantile"])
@pytest.mark.parametrize("how", ["dynamic", "static"])
@pytest.mark.parametrize(("part", "spared"), [("train", 0), ("valid", 1)])
def test_pruning_is_a_greedy_loop(schedule, how, part, spared, variables, parts):
    config = Pruning(schedule=schedule, units=2, steps=5, influence=how, part=part, spared_layers=spared)
    progress, evaluated = begin("pruning", parts, variables, config=config)
    step = jax.jit(functools.partial(pruning.step, TASK, config))
    state, found = progress.state, []
    for _ in range(5):
        state = step(parts, state)
        found.append(state.variables["masks"])

    measured = jax.jit(lambda tree: ravel_pytree(influence(spd, TASK.network.apply, tree, getattr(parts, part)))[0])
    unravel = ravel_pytree(variables["masks"])[1]
    sign, kept, expected = float(np.sign(evaluated[0].valid.bias)), np.ones(11, bool), []
    allowed = np.arange(11) >= (6 if spared else 0)
    scored = sign * np.asarray(measured(variables))
    for _ in range(5):
        if how == "dynamic":
            scored = sign * np.asarray(measured({**variables, "masks": unravel(jnp.asarray(kept))}))
        if schedule == "units":
            candidates = [unit for unit in range(11) if kept[unit] and allowed[unit]]
            gone = sorted(candidates, key=lambda unit: (-scored[unit], unit))[:2]
        else:
            cut = np.quantile(np.where(kept, scored, 0)[allowed], 1 - 1 / 5)
            gone = [unit for unit in range(11) if kept[unit] and allowed[unit] and scored[unit] > cut]
        kept = kept & ~np.isin(np.arange(11), gone)
        expected.append(sorted(gone))
    assert cut_order(variables, found) == expected
    chex.assert_trees_all_equal(state.variables["params"], variables["params"])
    if schedule == "units":
        assert masks.count(state.variables["masks"]) == (6 if spared else 1)


def test_pruning_takes_as_many_steps_as_there_are_units(variables):
    assert pruning.steps(Pruning(), variables) == 11
    assert pruning.steps(Pruning(units=4), variables) == 3
    assert pruning.steps(Pruning(spared_layers=1), variables) == 5
    assert pruning.steps(Pruning(steps=7), variables) == 7


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("name", ["spd", "eod"])
def test_bias_gda_moves_the_proxy_towards_0_from_both_sides(flip, name, variables, parts):
    if flip:  # the other group is privileged: the bias has the other sign, and descent becomes ascent
        parts = Parts(*(batch._replace(a=~batch.a) for batch in parts))
    task = Task(TASK.network, MEASURES[name])
    config = BiasGda(learning_rate=1e-3, batch_size=64)
    progress, evaluated = begin("bias_gda", parts, variables, config=config, task=task)
    assert evaluated[0].valid.bias * (1 if flip else -1) > 0

    def proxy(state):
        values = scores(task.network.apply, state.variables.variables(), parts.train.x)
        return float(task.measure(values, parts.train.y, parts.train.a))

    step = jax.jit(functools.partial(bias_gda.step, task, config))
    before, state = proxy(progress.state), progress.state
    for _ in range(3):
        state = step(parts, state)
    assert abs(proxy(state)) < abs(before) - 0.02


def test_plain_descent_is_written_out(variables, parts):
    network = from_linen(Mlp(widths=(6, 5), dropout=0.0))
    task, config = Task(network, spd), BiasGda(optimiser="sgd", learning_rate=0.1, batch_size=1000, epochs=1)
    progress, evaluated = begin("bias_gda", parts, variables, config=config, task=task)
    state = bias_gda.step(task, config, parts, progress.state)

    def proxy(params):
        logits, _ = network.apply({**variables, "params": params}, parts.train.x, key=jax.random.key(9))
        return jnp.sign(evaluated[0].valid.bias) * spd(jax.nn.sigmoid(logits), parts.train.y, parts.train.a)

    expected = jax.tree.map(lambda p, g: p - 0.1 * g, variables["params"], jax.grad(proxy)(variables["params"]))
    chex.assert_trees_all_close(state.variables.variables()["params"], expected, rtol=1e-3, atol=1e-5)


def test_an_epoch_may_give_several_candidates(variables, parts):
    one, four = BiasGda(batch_size=50, epochs=2), BiasGda(batch_size=50, epochs=2, evaluations=4)
    assert (bias_gda.steps(one, variables), bias_gda.steps(four, variables)) == (2, 8)
    with pytest.raises(
        ValueError, match="evaluations = 20 exceeds the 12 mini-batches of an epoch over the train part"
    ):
        config = dataclasses.replace(four, evaluations=20)
        bias_gda.step(TASK, config, parts, begin("bias_gda", parts, variables, config=config)[0].state)
    states = {}
    for name, config, count in (("one", one, 1), ("four", four, 4)):
        state = begin("bias_gda", parts, variables, config=config)[0].state
        for _ in range(count):
            state = bias_gda.step(TASK, config, parts, state)
        states[name] = state.variables.params
    np.testing.assert_allclose(states["one"], states["four"], rtol=1e-4, atol=1e-6)


def test_candidates_can_be_evaluated_as_they_train(variables, split):
    results = [
        run(bias_gda.METHOD, TASK, BiasGda(epochs=3, candidates=mode), RULE, jax.random.key(5), variables, split)
        for mode in ("evaluation", "training", "training")
    ]
    biases = [result.trace.valid.bias for result in results]
    np.testing.assert_array_equal(biases[1], biases[2])
    assert biases[0][0] == biases[1][0] and not jnp.allclose(biases[0], biases[1])


def test_mini_batches_without_a_group_do_no_harm(variables, parts):
    rare = jnp.zeros(parts.train.y.shape, bool).at[:2].set(True)
    parts = parts._replace(train=parts.train._replace(a=~rare))
    config = BiasGda(batch_size=8, learning_rate=1e-3)
    state = bias_gda.step(TASK, config, parts, begin("bias_gda", parts, variables, config=config)[0].state)
    assert jnp.isfinite(state.variables.params).all()


@pytest.mark.parametrize(
    "rule", [RULE, ExpectedObjective(), AccuracyFloor(), ConstrainedObjective(epsilon=1e-6, margin=0.0)]
)
def test_rules_are_interchangeable_and_a_bound_that_nobody_meets_is_told(rule, variables, split):
    result = run(pruning.METHOD, TASK, Pruning(steps=1), rule, jax.random.key(0), variables, split)
    assert result.selected == objective.first_max(rule(result.trace.valid))
    if isinstance(rule, ConstrainedObjective) and rule.epsilon < 1e-3:
        assert result.selected == 0 and not result.satisfied
        chex.assert_trees_all_equal(result.variables, variables)


def test_a_candidate_that_is_not_finite_is_never_selected(variables, split):
    """A method whose second step breaks the network: the run is frozen there, and says so."""

    def step(task, config, parts, state):
        count, tree = state
        factor = jnp.where(count == 1, jnp.nan, 1.0)
        return count + 1, {**tree, "params": jax.tree.map(lambda leaf: leaf * factor, tree["params"])}

    method = Method(
        init=lambda task, config, key, variables, parts, evaluation: (jnp.zeros((), jnp.int32), variables),
        step=step,
        candidate=lambda state: state[1],
        steps=lambda config, variables: 4,
        logits=functools.partial(loop.evaluation_mode, candidate=lambda state: state[1]),
    )
    result = run(method, TASK, None, RULE, jax.random.key(0), variables, split)
    assert result.diverged and result.selected == 0
    chex.assert_trees_all_equal(result.variables, variables)


def test_presets_set_every_difference():
    assert (PAPER.network.site, PAPER.network.cut) == ("activation", "outgoing")
    assert (AUTHORS.network.site, AUTHORS.network.cut) == ("preactivation", "incoming")
    for field in ("schedule", "part", "reduction", "spared_layers"):
        assert getattr(PAPER.pruning, field) != getattr(AUTHORS.pruning, field), field
    for field in ("part", "optimiser", "epochs", "candidates"):
        assert getattr(PAPER.bias_gda, field) != getattr(AUTHORS.bias_gda, field), field
    assert type(PAPER.rule) is not type(AUTHORS.rule)
    assert dataclasses.replace(PAPER.pruning, part="valid").schedule == "quantile"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pruning(units=0), "units must be at least 1, got 0"),
        (lambda: Pruning(steps=0), "steps must be at least 1, got 0"),
        (lambda: Pruning(spared_layers=-1), "spared_layers must be at least 0, got -1"),
        (lambda: BiasGda(learning_rate=-1.0), "learning_rate must be positive, got -1.0"),
        (lambda: BiasGda(batch_size=1), "batch_size must be at least 2, got 1"),
        (lambda: BiasGda(epochs=0), "epochs must be at least 1, got 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_learning_rates_can_be_mapped_over(variables, split):
    rates = jnp.array([1e-5, 1e-2])

    def biases(rate):
        config = BiasGda(learning_rate=rate, epochs=2)
        return loop.run(bias_gda.METHOD, TASK, config, RULE, jax.random.key(0), variables, split).trace.valid.bias

    found = jax.jit(jax.vmap(biases))(rates)
    assert found.shape == (2, 3) and found[0, 0] == found[1, 0] and found[0, 2] != found[1, 2]
