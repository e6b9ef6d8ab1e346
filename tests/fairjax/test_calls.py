"""The user-facing calls `fit` and `debias`, and both for many seeds."""

import dataclasses
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from biased import RULE, TASK

import fairjax
from fairjax import SHARED, AccuracyFloor, BiasGda, Mlp, Pruning, Training, data, from_linen, spd
from fairjax.arguments import check_data, check_debiasing, check_training, check_variables
from fairjax.seeds import run_chunks
from fairjax.selection import ConstrainedObjective, PooledObjective

KEY = 7


def debias(biased, method=None, rule=RULE):
    method, key = method or Pruning(units=2), jax.random.key(KEY)
    return fairjax.debias(method, TASK.network, spd, biased.variables, biased.split, key=key, rule=rule)


@pytest.fixture(scope="module")
def pruned(biased):
    return debias(biased)


def keys_of(number):
    """Return one key for each of three seeds."""
    return jax.random.split(jax.random.key(number), 3)


@pytest.fixture(scope="module")
def many():
    """Return three seeds' splits, keys and trained networks, and the results of debiasing them in both ways."""
    rng = np.random.default_rng(0)
    a = rng.random(600) < 0.5
    x = rng.normal(size=(600, 4)).astype(np.float32)
    x[:, 1] += 1.5 * a
    y = x[:, 0] + x[:, 1] + rng.normal(size=600) > 0.7
    splits = data.split_seeds(data.from_arrays(x, y, a), seeds=(1, 2, 3))
    config = Training(epochs=8, batch_size=32, learning_rate=3e-3)
    fitted = fairjax.fit_many(TASK.network, splits, keys=keys_of(5), training=config)
    method = BiasGda(epochs=3, learning_rate=1e-3)
    result = fairjax.debias_many(method, TASK.network, spd, fitted.variables, splits, keys=keys_of(6))
    return splits, config, fitted, method, result


def test_a_result_says_what_was_selected_and_whether_the_bound_was_met(pruned):
    text = str(pruned)
    chosen = int(pruned.selected)
    assert text.startswith(f"Pruning of spd: candidate {chosen} selected, of 7 candidates")
    numbers = [float(number) for number in re.findall(r"-?\d\.\d{3}", text.split("bias")[1])][:4]
    valid, test = pruned.trace.valid.bias, pruned.trace.test.bias
    np.testing.assert_allclose(numbers, [valid[0], valid[chosen], test[0], test[chosen]], atol=6e-4)
    assert "|bias| < 0.14 on validation data: met" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (ConstrainedObjective(epsilon=1e-6, margin=0.0), "since the smallest |bias| of all candidates is"),
        (AccuracyFloor(floor=0.8), "since"),
    ],
)
def test_a_result_says_why_the_bound_is_not_met(rule, why, biased):
    result = debias(biased, Pruning(steps=2), rule)
    assert not result.satisfied
    assert f"not met, {why}" in str(result)


def test_decisions_are_those_of_the_selected_network_at_its_threshold(pruned, biased):
    x = np.asarray(biased.split.x[:50])
    rows = (x - np.asarray(biased.split.mean)) / np.asarray(biased.split.scale)
    logits = np.asarray(TASK.network.apply(pruned.variables, jnp.asarray(rows))[0])
    np.testing.assert_allclose(pruned.scores(x), 1 / (1 + np.exp(-logits)), atol=1e-5)
    np.testing.assert_array_equal(pruned.decide(x), np.asarray(pruned.scores(x)) > float(pruned.threshold))
    with pytest.raises(ValueError, match="x must have rows of 4 features"):
        pruned.decide(x[:, :3])


def test_the_rule_says_which_data_it_needs(biased):
    result = debias(biased, Pruning(steps=2), PooledObjective(epsilon=0.1))
    assert result.trace.train is not None
    assert debias(biased, Pruning(steps=2), ConstrainedObjective()).trace.train is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": Pruning}, r"got the class Pruning: pass an instance, Pruning\(\)"),
        ({"method": "pruning"}, r"pass METHODS\['pruning'\]\(\)"),
        ({"method": "prunning"}, "did you mean pruning"),
        ({"method": 3}, "method must be a fairjax.Method, got 3"),
        ({"measure": "spd"}, r"pass fairjax.MEASURES\['spd'\]"),
        ({"measure": "sdp"}, "there is no measure named 'sdp': did you mean spd"),
        ({"rule": ConstrainedObjective}, r"pass an instance, ConstrainedObjective\(\)"),
        ({"rule": 0.05}, r"the rules are ConstrainedObjective\(\)"),
        ({"network": Mlp()}, r"pass fairjax.from_linen\(module\)"),
        ({"network": abs}, "give its functions"),
        ({"variables": {}}, "variables must have params and masks, got nothing"),
        ({"split": np.ones((3, 2))}, "make it with fairjax.data.split"),
    ],
)
def test_arguments_that_are_not_what_they_should_be_are_refused_when_the_call_is_made(changes, message, biased):
    given = {"method": Pruning(), "network": TASK.network, "measure": spd, "rule": RULE}
    with pytest.raises(TypeError, match=message):
        check_debiasing(**(given | {name: value for name, value in changes.items() if name in given}))
        check_data(changes.get("split", biased.split))
        check_variables(changes.get("variables", biased.variables))


def test_a_method_is_the_argument_that_jit_keys_on():
    traces = []

    @jax.jit
    def run(method):
        traces.append(type(method))
        return jax.tree.map(jnp.asarray, method)

    run(BiasGda(learning_rate=1e-3))
    run(BiasGda(learning_rate=1e-4))  # a number: no new compilation
    assert traces == [BiasGda]
    run(BiasGda(epochs=3))  # static
    run(fairjax.FineTuning())
    assert traces == [BiasGda, BiasGda, fairjax.FineTuning]


def test_a_path_of_numbers_is_one_more_axis(biased):
    rates = jnp.array([1e-4, 1e-2])
    many = jax.vmap(lambda rate: debias(biased, BiasGda(epochs=2, learning_rate=rate)))(rates)
    one = debias(biased, BiasGda(epochs=2, learning_rate=1e-2))
    assert many.trace.valid.bias.shape == (2, 3)
    np.testing.assert_allclose(many.trace.valid.bias[1], one.trace.valid.bias, atol=0.03)
    assert many.trace.valid.bias[0, 2] != many.trace.valid.bias[1, 2]


def test_many_seeds_are_each_seed(many):
    splits, config, fitted, method, result = many

    def one(fit_key, debias_key, split):
        found = fairjax.fit(TASK.network, split, key=fit_key, training=config)
        return found, fairjax.debias(method, TASK.network, spd, found.variables, split, key=debias_key)

    found, mapped = jax.vmap(one, in_axes=(0, 0, SHARED))(keys_of(5), keys_of(6), splits)
    np.testing.assert_allclose(found.loss, fitted.loss, atol=1e-4)
    np.testing.assert_allclose(mapped.trace.valid.bias, result.trace.valid.bias, atol=0.05)
    assert result.trace.valid.bias.shape == (3, 4)
    assert result.decide(np.asarray(splits.x)).shape == (3, 600)
    assert "3 seeds, 4 candidates each" in str(result)


def test_what_drives_the_chunks_can_stop_and_go_on_to_the_same_end(many):
    splits, config, fitted, method, result = many
    kept, seen = [], []

    def stopping(begin, advance, finished):
        shapes, state = begin(True), begin(False)
        chex.assert_trees_all_equal_shapes_and_dtypes(shapes, jax.eval_shape(lambda state: state, state))
        state = advance(state)
        kept.append(jax.tree.map(np.copy, jax.device_get(raw(state))))
        seen.append(finished(state))
        return run_chunks(lambda shapes: state, advance, finished)

    def raw(tree):
        is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)  # noqa: E731
        return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, tree)

    again = fairjax.fit_many(TASK.network, splits, keys=keys_of(5), training=config, drive=stopping)
    chex.assert_trees_all_equal(again, fitted)
    same = fairjax.debias_many(method, TASK.network, spd, fitted.variables, splits, keys=keys_of(6), drive=stopping)
    chex.assert_trees_all_equal(same.variables, result.variables)
    assert len(kept) == 2 and seen == [True, True]  # both are done within one chunk


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"keys": 2}, ValueError, "found keys 2, splits 3, variables 3"),
        ({"split": True}, ValueError, "splits without a seeds axis"),
    ],
)
def test_seeds_that_do_not_agree_are_refused(many, change, error, message, biased):
    splits, _, fitted, method, _ = many
    keys = keys_of(6)
    if "keys" in change:
        keys = keys[: change["keys"]]
    with pytest.raises(error, match=message):
        fairjax.debias_many(
            method, TASK.network, spd, fitted.variables, biased.split if "split" in change else splits, keys=keys
        )


def test_training_that_is_none_is_refused(biased):
    with pytest.raises(TypeError, match=r"pass an instance, Training\(epochs=100\)"):
        check_training(TASK.network, Training, biased.split)
    with pytest.raises(TypeError, match="make it with fairjax.data.split"):
        check_training(TASK.network, Training(), np.ones((2, 2)))
    with pytest.raises(TypeError, match=r"pass fairjax.from_linen\(module\)"):
        check_training(Mlp(), Training(), biased.split)


def test_the_results_measure_may_be_of_many_classes():
    network = from_linen(Mlp(widths=(4,), outputs=3))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 3)).astype(np.float32), rng.integers(0, 3, 300)
    a = rng.integers(0, 2, 300).astype(bool)
    parts = data.split(jax.random.key(0), x, y, a, num_classes=3)
    tree = network.init(jax.random.key(1), x)
    result = fairjax.debias(
        Pruning(units=2), network, fairjax.metrics.make_measure("spd", 2, 3), tree, parts, key=jax.random.key(2)
    )
    decisions = result.decide(x)
    np.testing.assert_array_equal(decisions, np.argmax(np.asarray(result.scores(x)), axis=1))
    assert dataclasses.asdict(result.method)["units"] == 2
