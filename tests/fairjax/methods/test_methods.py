"""The other debiasing methods, compared with plain loops and closed forms."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from biased import CONFIGS, RULE, TASK, evaluate, run
from jax.flatten_util import ravel_pytree

from fairjax import loop, metrics, selection
from fairjax.methods import (
    AdversarialDebiasing,
    AdversarialFineTuning,
    FineTuning,
    Lagrangian,
    LayerwiseOptimisation,
    RandomPerturbation,
    Task,
)
from fairjax.methods.gradient_steps import gradient_steps, tuned
from fairjax.metrics import MEASURES, eod, spd
from fairjax.nn import FlatVariables, Mlp, Network, from_linen
from fairjax.nn.network import scores
from fairjax.selection import ConstrainedObjective, PooledObjective
from fairjax.types import Batch


def key():
    """Return a new key, always the same one."""
    return jax.random.key(7)


PLAIN = from_linen(Mlp(widths=(6, 5), dropout=0.0))


@functools.partial(jax.jit, static_argnums=1)
def _init(method, task, key, variables, parts, evaluation):
    return method.init(task, key, variables, parts, evaluation)


def begin(biased, method, task=TASK):
    return _init(method, task, key(), biased.variables, biased.parts, biased.evaluation)


@functools.partial(jax.jit, static_argnums=1)
def _step(method, task, parts, state):
    return method.step(task, parts, state)


def step(biased, method, state, task=TASK):
    return _step(method, task, biased.parts, state)


# random perturbation


def test_a_draw_multiplies_every_parameter_by_its_own_noise(biased):
    config = RandomPerturbation(draws=40, batch=4, deviation=0.1)
    state = begin(biased, config)
    factors = []
    for _ in range(config.total_steps(biased.variables)):
        state = step(biased, config, state)
        factors.append(np.asarray(state.params / FlatVariables.ravel(biased.variables).params[None]))
    factors = np.concatenate(factors)
    assert factors.shape[0] == 40 and len({row.tobytes() for row in factors}) == 40
    moving = np.isfinite(factors).all(axis=0)  # a parameter of 0 stays 0
    assert factors[:, moving].mean() == pytest.approx(1.0, abs=0.01)
    assert factors[:, moving].std() == pytest.approx(0.1, rel=0.05)


def test_draws_do_not_depend_on_how_many_are_drawn_at_once(biased):
    one, four = (biased.debias("random_perturbation", RandomPerturbation(draws=10, batch=batch)) for batch in (1, 4))
    np.testing.assert_allclose(one.trace.valid.bias, four.trace.valid.bias[:11], atol=0.02)
    assert four.trace.valid.bias.shape == (13,)  # the last step is padded
    np.testing.assert_array_equal(four.trace.valid.bias[11:], four.trace.valid.bias[0])
    assert one.selected == four.selected


def test_thresholds_of_draws_follow_the_rule(biased):
    found = biased.results["random_perturbation"]

    @jax.jit
    def cut_anywhere(values, batch):
        cuts = metrics.threshold_grid()
        return jax.vmap(lambda cut: selection.evaluate_at(spd, values, batch.y, batch.a, cut))(cuts)

    for i in (0, 3):
        flat = FlatVariables.ravel(biased.variables)
        if i:
            noise = jax.random.normal(jax.random.fold_in(jax.random.key(2), i - 1), flat.params.shape)
            flat = dataclasses.replace(flat, params=flat.params * (1 + 0.1 * noise))
        batch = biased.parts.valid
        values = scores(TASK.network.apply, flat.variables(), batch.x)
        best = float(RULE(cut_anywhere(values, batch)).max())
        chosen = jax.tree.map(lambda entry, i=i: entry[i], found.trace.valid)
        assert RULE(chosen) == pytest.approx(best, abs=2e-3)


def test_a_constrained_threshold_is_the_best_by_the_rule(biased):
    found, plain = biased.results["threshold"], biased.results["standard"]
    assert (
        RULE(jax.tree.map(lambda entry: entry[0], found.trace.valid))
        > 0
        == RULE(jax.tree.map(lambda entry: entry[0], plain.trace.valid))
    )
    chex.assert_trees_all_equal(found.variables, biased.variables)


# fine-tuning


@pytest.mark.parametrize("penalty", ["absolute", "signed"])
@pytest.mark.parametrize("measure", ["spd", "eod"])
def test_fine_tuning_is_written_out(penalty, measure, biased):
    """Compare two epochs of one mini-batch each, for two weights, with a plain loop.

    Without dropout the order of rows does not matter.
    """
    task = Task(PLAIN, MEASURES[measure])
    config = FineTuning(weights=(0.5, 3.0), penalty=penalty, batch_size=1000, epochs=2, learning_rate=1e-2)
    state = begin(biased, config, task)
    for _ in range(2):
        state = step(biased, config, state, task)
    batch, adam = biased.parts.train, optax.adam(1e-2)
    positives = jnp.mean(batch.y.astype(jnp.float32))

    def loss(params, tree, weight):
        logits, updated = PLAIN.apply({**tree, "params": params}, batch.x, key=key())
        bias = task.measure(jax.nn.sigmoid(logits), batch.y, batch.a)
        pull = jnp.abs(bias) if penalty == "absolute" else jnp.sign(biased.evaluation.bias) * bias
        balance = jnp.where(batch.y, 0.5 / positives, 0.5 / (1 - positives))
        entropy = balance * optax.sigmoid_binary_cross_entropy(logits, batch.y.astype(jnp.float32))
        return entropy.mean() + weight * pull, updated

    gradient = jax.jit(jax.grad(loss, has_aux=True))
    for member, weight in enumerate(config.weights):
        tree = biased.variables
        optimiser = adam.init(tree["params"])
        for _ in range(2):
            grads, updated = gradient(tree["params"], tree, weight)
            with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
                updates, optimiser = adam.update(grads, optimiser)
            tree = {**updated, "params": optax.apply_updates(tree["params"], updates)}
        chex.assert_trees_all_close(config.candidate(state, jnp.array(member)).variables(), tree, rtol=2e-3, atol=2e-4)


def test_the_members_of_a_path_are_what_each_weight_gives_alone(biased):
    path = biased.debias("fine_tuning", FineTuning(weights=(0.5, 4.0), epochs=3, learning_rate=1e-3))
    for member, weight in enumerate((0.5, 4.0)):
        alone = biased.debias("fine_tuning", FineTuning(weights=(weight, weight), epochs=3, learning_rate=1e-3))
        np.testing.assert_allclose(path.trace.valid.bias[1 + member :: 2], alone.trace.valid.bias[1::2], atol=0.03)


def test_a_heavier_weight_leaves_less_bias(biased):
    found = biased.debias("fine_tuning", FineTuning(weights=(0.0, 4.0), epochs=15, learning_rate=3e-3, batch_size=64))
    last = np.abs(np.asarray(found.trace.valid.bias[-2:]))
    assert last[1] < 0.5 * last[0]


@pytest.mark.parametrize("penalty", ["absolute", "signed"])
def test_multipliers_grow_while_the_constraint_is_violated(penalty, biased):
    config = FineTuning(weights=(0.0, 0.5), weighting="multiplier", penalty=penalty, learning_rate=1e-4)
    state = begin(biased, config)
    after = step(biased, config, state)
    assert (after.weights > state.weights).all()
    fixed = step(biased, dataclasses.replace(config, weighting="fixed"), state)
    np.testing.assert_array_equal(fixed.weights, state.weights)
    np.testing.assert_array_equal(
        after.tuned.variables.params, fixed.tuned.variables.params
    )  # the change takes effect in the next epoch


def test_only_the_layers_named_are_tuned(biased):
    config = FineTuning(weights=(1.0,), layers=("output",), learning_rate=1e-2, epochs=1)
    state = step(biased, config, begin(biased, config))
    after = config.candidate(state, jnp.array(0)).variables()
    chex.assert_trees_all_equal(after["batch_stats"], biased.variables["batch_stats"])
    for name, tree in after["params"].items():
        same = jax.tree.map(lambda a, b: bool((a == b).all()), tree, biased.variables["params"][name])
        assert all(jax.tree.leaves(same)) == (name != "output")
    with pytest.raises(ValueError, match="layers must be some of hidden_00, hidden_01, output, got head"):
        tuned(biased.variables, ("head",))
    with pytest.raises(ValueError, match="got none"):
        tuned(biased.variables, ())


def test_descent_is_plain_gradient_descent(biased):
    flat, batch = FlatVariables.ravel(biased.variables), biased.parts.train
    rows = jnp.arange(60).reshape(2, 30)
    keys = jax.random.split(key(), 2)

    def loss(logits, some: Batch):
        return jnp.mean(logits**2), jnp.mean(logits)

    found, _, facts = jax.jit(
        lambda flat, keys: gradient_steps(
            PLAIN.apply, loss, optax.sgd(0.1), flat, optax.sgd(0.1).init(flat.params), batch, rows, keys
        )
    )(flat, jax.random.clone(keys))

    def value(params, tree, x, key):
        logits, updated = PLAIN.apply({**tree, "params": params}, x, key=key)
        return jnp.mean(logits**2), (updated, jnp.mean(logits))

    gradient, tree, means = jax.jit(jax.grad(value, has_aux=True)), biased.variables, []
    for i in range(2):
        grads, (updated, mean) = gradient(tree["params"], tree, batch.x[rows[i]], keys[i])
        tree = {**updated, "params": jax.tree.map(lambda p, g: p - 0.1 * g, tree["params"], grads)}
        means.append(mean)
    chex.assert_trees_all_close(found.variables(), tree, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(facts, jnp.stack(means), rtol=1e-4, atol=1e-6)


# adversaries


def test_the_projected_direction_is_zhang_s(biased):
    """Compute one step without momentum by hand: g - proj_h g - weight h, with a given adversary."""
    batch = biased.parts.train
    config = AdversarialDebiasing(batch_size=1000, weight=2.0, learning_rate=1e-3)
    task = Task(PLAIN, spd)
    state = begin(biased, config, task)
    adversary = {"scale": jnp.array(0.5), "slope": jnp.array([1.5, 0.0, 0.0]), "intercept": jnp.array(-0.3)}
    terms = state.terms._replace(params=({"predictor": adversary},))
    after = step(biased, config, state._replace(terms=terms), task)
    flat = FlatVariables.ravel(biased.variables)

    def logits(params):
        return PLAIN.apply(dataclasses.replace(flat, params=params).variables(), batch.x, key=key())[0]

    def ours(params):
        return jnp.mean(optax.sigmoid_binary_cross_entropy(logits(params), batch.y.astype(jnp.float32)))

    def theirs(params):
        guess = 1.5 * jax.nn.sigmoid(1.5 * logits(params)) - 0.3
        return jnp.mean(optax.sigmoid_binary_cross_entropy(guess, batch.a.astype(jnp.float32)))

    g, h = (jax.jit(jax.grad(loss))(flat.params) for loss in (ours, theirs))
    direction = g - jnp.dot(g, h) / jnp.dot(h, h) * h - 2.0 * h
    moments = after.optimiser[0].mu / 0.1  # Adam's first moment after one step is a tenth of the gradient
    np.testing.assert_allclose(moments, direction, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("measure", "notion"), [("spd", "parity"), ("eod", "opportunity")])
def test_the_adversary_sees_what_the_measure_looks_at(measure, notion, biased):
    def seen(method):
        loss = jax.jit(lambda batch: method.loss(Task(PLAIN, MEASURES[measure]), batch))(biased.parts.train)
        return loss.terms[0].notion

    assert seen(AdversarialDebiasing()) == notion
    for kind in ("opportunity", "parity", "odds"):
        assert seen(AdversarialDebiasing(adversary=kind)) == kind


@pytest.mark.parametrize("name", ["adversarial_debiasing", "lagrangian"])
def test_methods_reduce_the_bias(name, biased):
    config = {
        "adversarial_debiasing": AdversarialDebiasing(
            epochs=20, learning_rate=3e-3, weight=2.0, adversary_rate=0.1, batch_size=64
        ),
        "lagrangian": Lagrangian(epochs=20, learning_rate=3e-3, batch_size=64),
    }[name]
    found = biased.debias(name, config)
    assert found.satisfied and found.selected > 0
    assert abs(found.trace.valid.bias[0]) > 0.2 > 0.14 > abs(found.trace.valid.bias[found.selected])
    assert found.trace.valid.balanced_accuracy[found.selected] > 0.65


def test_the_critic_learns_the_bias_of_mini_batches(biased):
    config = AdversarialFineTuning(epochs=1, critic_steps=400, network_steps=1, batch_size=200)
    state = begin(biased, config)
    after = step(biased, config, state)
    batch, critic = biased.parts.train, config._critic()

    def errors(weights):
        found = []
        for i in range(2):
            rows = jax.random.permutation(jax.random.key(i), batch.y.shape[0])[:200]
            h, logits, _ = TASK.network.features(biased.variables, batch.x[rows])
            decisions = (jax.nn.sigmoid(logits) > biased.evaluation.threshold).astype(jnp.float32)
            bias = spd(decisions, batch.y[rows], batch.a[rows])
            found.append(abs(float(critic.apply(weights, h) - bias)))
        return np.mean(found)

    assert errors(after.critic) < 0.15 < errors(state.critic)


def test_adversarial_fine_tuning_needs_the_last_hidden_layer(biased):
    task = Task(Network(TASK.network.init, TASK.network.apply), spd)
    with pytest.raises(ValueError, match="has no `features`"):
        AdversarialFineTuning().init(task, key(), biased.variables, biased.parts, biased.evaluation)


def test_features_are_what_the_last_layer_sees(biased):
    x = biased.parts.valid.x
    h, logits, after = TASK.network.features(biased.variables, x)
    output = biased.variables["params"]["output"]
    np.testing.assert_allclose(h @ output["kernel"][:, 0] + output["bias"], logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, TASK.network.apply(biased.variables, x)[0], rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_equal(after, biased.variables)
    trained = TASK.network.features(biased.variables, x, key=key())
    np.testing.assert_allclose(trained[1], TASK.network.apply(biased.variables, x, key=key())[0], rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(trained[2], TASK.network.apply(biased.variables, x, key=key())[1], rtol=1e-5)
    assert "intermediates" not in trained[2]


# layerwise search


def test_each_layer_is_searched_from_the_network_as_it_came(biased):
    config = LayerwiseOptimisation(generations=2, population=4)
    state = begin(biased, config)
    assert config.total_steps(biased.variables) == 2 * 3
    original = FlatVariables.ravel(biased.variables)
    owner = np.asarray(
        ravel_pytree({name: jax.tree.map(lambda leaf, i=i: jnp.full(leaf.shape, i), tree)
                      for i, (name, tree) in enumerate(sorted(biased.variables["params"].items()))})[0]
    )  # fmt: skip
    for i in range(6):
        state = step(biased, config, state)
        moved = np.asarray(state.params != original.params[None])
        assert not moved[:, owner != i // 2].any() and moved[:, owner == i // 2].any(axis=1).all()
        state = config.tell(state, biased.evaluation, jnp.arange(4.0), 0.1)


def test_the_search_moves_to_what_is_within_the_bound_first(biased):
    config = LayerwiseOptimisation(generations=3, population=4)
    state = step(biased, config, begin(biased, config))
    population = np.asarray(state.population)
    ones = jnp.ones(4)
    evaluation = selection.Evaluation(ones, ones, jnp.array([0.3, 0.2, 0.01, 0.4]), ones)
    after = config.tell(state, evaluation, jnp.array([0.9, 0.9, 0.5, 0.9]), 0.05)
    towards = [float(np.dot(np.asarray(after.search.mean), row) / np.linalg.norm(row)) for row in population]
    assert int(np.argmax(towards)) == 2


# rules that use train data


def test_pooled_rules_need_train_data(biased):
    with pytest.raises(ValueError, match="looks at train data too"):
        biased.debias("standard", rule=PooledObjective())


def test_pooled_bias_is_the_weighted_mean_of_both_parts(biased):
    task = Task(TASK.network, eod, "pooled")
    trace, _ = evaluate(task, biased.variables, biased.parts)
    rows = biased.parts.train
    decisions = scores(task.network.apply, biased.variables, rows.x) > trace.valid.threshold
    assert trace.train.bias == pytest.approx(float(eod(decisions, rows.y, rows.a)), abs=1e-6)
    both = np.asarray(trace.train.table + trace.valid.table)
    rule = PooledObjective(shift=0.0)
    n = [[float(part.table[:, 1, a].sum()) for a in (0, 1)] for part in (trace.valid, trace.train)]
    noise = [sum(1 / rows for rows in part) for part in n]
    expected = (trace.valid.bias / noise[0] + trace.train.bias / noise[1]) / (1 / noise[0] + 1 / noise[1])
    evaluations = trace.for_rule(rule)
    assert evaluations.bias == pytest.approx(float(expected), abs=1e-6)
    assert both[:, 1].sum() == sum(map(sum, n))
    assert 2 * 0.2 * evaluations.noise == pytest.approx(0.2 * (1 / (1 / noise[0] + 1 / noise[1]) + noise[0]), rel=1e-5)
    certain = trace.for_rule(PooledObjective(shift=100.0))  # with a very large shift, train data carry no information
    assert certain.bias == pytest.approx(float(trace.valid.bias), abs=1e-6)
    assert certain.noise == pytest.approx(float(trace.valid.noise), rel=1e-4)


def test_a_pooled_rule_selects_by_both_parts(biased):
    task = Task(TASK.network, spd, "pooled")
    rule, config = PooledObjective(epsilon=0.1), CONFIGS["bias_gda"]
    found = run(config, task, rule, key(), biased.variables, biased.split)
    evaluations = found.trace.for_rule(rule)
    assert found.selected == selection.first_max(rule(evaluations))
    assert bool(found.satisfied) == (abs(float(evaluations.bias[found.selected])) < 0.1)


def test_a_portfolio_is_the_best_of_what_methods_selected(biased):
    names = ["standard", "pruning", "bias_gda"]
    found = [biased.results[name] for name in names]
    joined, which, selected = jax.jit(loop.best_of)(RULE, [one.trace for one in found], [one.selected for one in found])
    scores = [float(RULE(one.trace.valid)[one.selected]) for one in found]
    assert which == int(np.argmax(scores)) and scores[which] > 0
    assert joined.valid.bias.shape == (1 + 12 + 7,) and joined.test.table.shape == (20, 2, 2, 2)
    best = found[which]
    assert joined.test.bias[selected] == best.trace.test.bias[best.selected]
    assert joined.valid.threshold[selected] == best.threshold
    twice = loop.best_of(RULE, [best.trace, best.trace], [best.selected, best.selected])
    assert twice[1] == 0 and twice[2] == best.selected  # ties go to the earliest


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomPerturbation(draws=0), "draws must be at least 1, got 0"),
        (lambda: RandomPerturbation(deviation=-1.0), "deviation must be positive, got -1.0"),
        (lambda: FineTuning(weights=()), "at least one weight"),
        (lambda: FineTuning(weights=(-1.0,)), "weights must not be negative, got -1.0"),
        (lambda: AdversarialDebiasing(weight=0.0), "weight must be positive, got 0.0"),
        (lambda: AdversarialFineTuning(critic_steps=0), "critic_steps must be at least 1, got 0"),
        (lambda: LayerwiseOptimisation(population=1), "population must be at least 4, got 1"),
        (lambda: PooledObjective(shift=-0.1), "shift is a standard deviation and must not be negative, got -0.1"),
        (lambda: ConstrainedObjective(epsilon=0.0), "epsilon"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
