"""Many groups, classes and sample weights in all parts of the library, compared with NumPy, SciPy and repeated rows."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from computed import Computed
from scipy.stats import norm

from fairjax import loop, losses, metrics, nn, selection, streaming, training, types
from fairjax.methods import METHODS, BiasGda, FineTuning, Pruning
from fairjax.nn.influence import influence
from fairjax.postprocess import group_thresholds
from fairjax.selection import (
    AccuracyFloor,
    ConstrainedObjective,
    Evaluation,
    ExpectedObjective,
    PooledObjective,
    Rates,
    best_threshold,
    evaluate_at,
)

N, COUNT = 240, 11
RNG = np.random.default_rng(0)
CODES = (np.arange(N) % 4).astype(np.int32)
X = RNG.normal(size=(N, 3)).astype(np.float32)
X[:, 1] += 0.7 * CODES
Y = X[:, 0] + X[:, 1] + 0.5 * RNG.normal(size=N) > 1
CLASSES = np.digitize(X[:, 0] + X[:, 1], [0.3, 1.7]).astype(np.int32)
OVERLAP = np.stack([CODES < 2, CODES >= 2, CODES % 2 == 0, CODES % 2 == 1], axis=1)
BLOCKS = ((0, 1), (2, 3))
WEIGHTS = RNG.integers(0, 4, N)
SCORES = np.round(1 / (1 + np.exp(-X[:, 0] - X[:, 1] + 1)), 4).astype(np.float32)
MEMBERS = RNG.dirichlet(np.ones(3), N).astype(np.float32)

SETTINGS = {
    "codes": (metrics.make_measure("spd", 4), Y, CODES, 1),
    "overlapping": (metrics.make_measure("spd", 4, blocks=BLOCKS), Y, OVERLAP, 1),
    "classes": (metrics.make_measure("spd", 3, 3), CLASSES, np.minimum(CODES, 2), 3),
}
METHODS_THAT_RUN = {
    "pruning": Pruning(units=1),
    "bias_gda": BiasGda(epochs=4, batch_size=144, learning_rate=2e-2),
    "fine_tuning": FineTuning(epochs=6, batch_size=72, learning_rate=2e-2, weights=(8.0,)),
}

best = jax.jit(best_threshold, static_argnames=("measure", "count"))
at = jax.jit(evaluate_at, static_argnames="measure")


def network(outputs=1):
    return nn.from_linen(nn.Mlp(widths=(5,), outputs=outputs, dropout=0.0))


def split(y, a, weights=None, repeated=None, seed=0):
    """Return a split of the table, or of the table with each row repeated a number of times."""
    order = np.random.default_rng(seed).permutation(N)
    parts = [order[:144], order[144:192], order[192:]]
    x = X
    if repeated is not None:
        source = np.repeat(np.arange(N), repeated)
        parts = [np.concatenate([np.flatnonzero(source == row) for row in part]) for part in parts]
        x, y, a = X[source], y[source], a[source]
    table = (jnp.asarray(x), jnp.asarray(y), jnp.asarray(a), *map(jnp.asarray, parts))
    return types.Split(
        *table, jnp.zeros(3), jnp.ones(3), None if weights is None else jnp.asarray(weights, jnp.float32)
    )


@pytest.fixture(scope="module")
def trained():
    """Return a trained network for each setting."""
    fit = jax.jit(training.run, static_argnums=0)
    config = training.Training(epochs=40, batch_size=48, learning_rate=2e-2, check_every=5)

    def train(name):
        _, y, a, outputs = SETTINGS[name]
        return fit(network(outputs), config, jax.random.key(1), split(y, a)).best.variables()

    return Computed(train)


def spread_by_hand(decisions, a, weights=None):
    """Compute the greatest acceptance rate minus the least with a loop."""
    weights = np.ones(len(decisions)) if weights is None else weights
    rates = [np.average(decisions[a == g], weights=weights[a == g]) for g in np.unique(a)]
    return max(rates) - min(rates)


def bias_by_hand(name, logits, threshold):
    """Compute the bias for a setting from the network's logits."""
    if name == "classes":
        a = np.minimum(CODES, 2)
        decisions = np.argmax(logits, axis=1)
        return lambda part: max(spread_by_hand(decisions[part] == k, a[part]) for k in range(3))
    decisions = 1 / (1 + np.exp(-logits)) > threshold
    attributes = [CODES] if name == "codes" else [CODES >= 2, CODES % 2]
    return lambda part: max(spread_by_hand(decisions[part], a[part]) for a in attributes)


run = jax.jit(loop.run, static_argnums=1)
summed_influence = jax.jit(functools.partial(influence, reduction="sum"), static_argnums=(0, 1))


@pytest.fixture(scope="module")
def tasks():
    """Return network and measure of each setting."""
    return {name: loop.Task(network(outputs), measure) for name, (measure, _, _, outputs) in SETTINGS.items()}


@pytest.mark.parametrize(
    ("name", "method"),
    [("codes", "bias_gda"), ("overlapping", "pruning"), ("classes", "fine_tuning")],
)
def test_methods_lower_the_bias_of_many_groups_and_seeds_are_each_alone(name, method, trained, tasks):
    task = tasks[name]
    _, y, a, _ = SETTINGS[name]
    seeds = [split(y, a, seed=seed) for seed in range(2)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(s[3:] for s in seeds))
    splits, keys = types.Split(*seeds[0][:3], *stacked), jax.random.split(jax.random.key(2), 2)
    config, rule, variables = METHODS_THAT_RUN[method], AccuracyFloor(floor=0.4), trained[name]

    @jax.jit
    def both(keys, splits):
        def one(key, split):
            return loop.run(config, task, rule, key, variables, split)

        return jax.vmap(one, in_axes=(0, types.SHARED))(keys, splits)

    result = both(keys, splits)
    biases = np.abs(np.asarray(result.trace.valid.bias))
    assert np.isfinite(biases).all()
    assert (biases[:, 1:].min(axis=1) <= biases[:, 0]).all() and biases.min(axis=1).sum() < biases[:, 0].sum() - 1e-3
    for seed in range(2):
        chosen = jax.tree.map(lambda leaf, seed=seed: leaf[seed], result)
        logits = np.asarray(task.network.apply(chosen.variables, jnp.asarray(X))[0])
        found = chosen.trace.valid.bias[chosen.selected]
        assert found == pytest.approx(
            bias_by_hand(name, logits, chosen.threshold)(np.asarray(seeds[seed].valid)), abs=1e-5
        )
    if (name, method) == ("codes", "bias_gda"):
        alone = run(config, task, rule, jax.random.split(jax.random.key(2), 2)[0], variables, seeds[0])
        np.testing.assert_allclose(alone.trace.valid.bias, result.trace.valid.bias[0], atol=0.03)
        np.testing.assert_allclose(alone.trace.valid.bias[0], result.trace.valid.bias[0, 0], atol=1e-6)


@pytest.mark.parametrize("name", SETTINGS)
def test_an_adversary_of_two_groups_refuses_more(name, trained, tasks):
    task = tasks[name]
    _, y, a, _ = SETTINGS[name]
    config = METHODS["adversarial_debiasing"](epochs=1)
    with pytest.raises(ValueError, match="one of two groups from the score of two classes, found"):
        run(config, task, ConstrainedObjective(), jax.random.key(2), trained[name], split(y, a))


CASES = {
    "two": (metrics.spd, SCORES, Y, CODES >= 2, {}),
    "codes": (metrics.make_measure("eod", 4), SCORES, Y, CODES, {}),
    "minimum": (metrics.demographic_parity(across=metrics.gaps.kearns, num_groups=4), SCORES, Y, CODES, {}),
    "overlapping": (metrics.make_measure("spd", 4, blocks=BLOCKS), SCORES, Y, OVERLAP, {}),
    "weighted": (metrics.make_measure("spd", 3, membership="weighted"), SCORES, Y, MEMBERS, {}),
    "solved": (metrics.make_measure("spd", 3, membership="solved"), SCORES, Y, MEMBERS, {}),
    "classes": (metrics.make_measure("equalized_odds", 4, 3), np.eye(3, dtype=np.float32)[CLASSES], CLASSES, CODES, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_whole_weights_are_rows_repeated_and_rows_of_weight_0_are_not_there(name):
    measure, values, y, a, _ = CASES[name]
    weights = WEIGHTS.astype(np.float32)
    repeated = [np.repeat(column, WEIGHTS, axis=0) for column in (values, y, a)]
    compiled = jax.jit(measure)
    assert compiled(values, y, a, weights) == pytest.approx(float(compiled(*repeated)), abs=1e-5)
    one, other = best(measure, values, y, a, count=COUNT, weights=weights), best(measure, *repeated, count=COUNT)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5), counted(one), counted(other))


def counted(evaluation):
    """Return what does not depend on the number of rows, since one row of weight 2 is not two rows."""
    return evaluation.threshold, evaluation.balanced_accuracy, evaluation.bias, evaluation.table


@pytest.mark.parametrize("name", CASES)
def test_the_unit_of_weights_does_not_matter(name):
    measure, values, y, a, _ = CASES[name]
    if isinstance(measure, metrics.Parity):
        measure = dataclasses.replace(measure, minimum=25)
    weights = WEIGHTS.astype(np.float32)
    one, other = (best(measure, values, y, a, count=COUNT, weights=w) for w in (weights, 64 * weights))
    same = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5)
    jax.tree.map(same, one._replace(table=64 * one.table), other)


def test_groups_that_overlap_compare_with_all_rows_at_a_threshold_too(trained):
    measure = metrics.demographic_parity(across=metrics.gaps.to_overall, num_groups=2, membership="weighted")
    for across in (metrics.gaps.to_overall, metrics.gaps.kearns, metrics.gaps.mean_absolute):
        measure = dataclasses.replace(measure, across=across)
        a = OVERLAP[:, [0, 2]]
        decisions = (SCORES > 0.4).astype(np.float32)
        found = selection.evaluate_at(measure, SCORES, Y, a, 0.4)
        assert found.bias == pytest.approx(float(measure(decisions, Y, a)), abs=1e-6)
        with pytest.raises(ValueError, match="compares with the rate of all rows"):
            source = streaming.chunks(types.Batch(X, Y, a), 100)
            streaming.measure(measure, network(1).apply, trained["codes"], source)
    overall, share = decisions.mean(), a.mean(axis=0)
    expected = max(share[g] * abs(decisions[a[:, g]].mean() - overall) for g in (0, 1))
    kearns = dataclasses.replace(measure, across=metrics.gaps.kearns)
    assert kearns(decisions, Y, a) == pytest.approx(expected, abs=1e-6)


def test_training_and_a_run_with_whole_weights_see_the_table_of_repeated_rows(trained):
    weights = WEIGHTS.astype(np.float32)
    weighed, repeated = split(Y, CODES, weights), split(Y, CODES, repeated=WEIGHTS)
    variables, net = trained["codes"], network()
    loss = jax.jit(functools.partial(training.loss, net.apply))
    losses = [loss(variables, s.part("train")) for s in (weighed, repeated)]
    assert losses[0] == pytest.approx(float(losses[1]), rel=1e-5)
    task = loop.Task(net, SETTINGS["codes"][0])
    judged = [
        jax.jit(loop.evaluate, static_argnums=0)(task, variables, loop.Parts.of(s))[0] for s in (weighed, repeated)
    ]
    for one, other in zip(judged[0][:2], judged[1][:2], strict=True):
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), counted(one), counted(other))
    sums = [summed_influence(task.measure, net.apply, variables, s.part("train")) for s in (weighed, repeated)]
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), *sums)


@pytest.mark.parametrize("name", ["classes"])
def test_rows_by_chunks_are_all_rows(name, trained):
    outputs = SETTINGS[name][3]
    groups = (np.arange(N) % 5).astype(np.int32)
    y = SETTINGS[name][1]
    measure = metrics.make_measure("eod" if outputs == 1 else "spd", 5, max(outputs, 2))
    net, variables, weights = network(outputs), trained[name], WEIGHTS.astype(np.float32)
    whole = types.WeightedBatch(jnp.asarray(X), jnp.asarray(y), jnp.asarray(groups), jnp.asarray(weights))
    source = streaming.chunks(types.WeightedBatch(X, y, groups, weights), 100)
    repeated = streaming.chunks(types.Batch(*(np.repeat(column, WEIGHTS, axis=0) for column in (X, y, groups))), 150)
    scores = metrics.probabilities(net.apply(variables, whole.x)[0])
    proxies = [streaming.measure(measure, net.apply, variables, each) for each in (source, repeated)]
    assert np.ptp([*map(float, proxies), float(jax.jit(measure)(scores, *whole[1:]))]) < 1e-5
    found = streaming.influence(measure, net.apply, variables, source, reduction="sum")
    expected = summed_influence(measure, net.apply, variables, whole)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), found, expected)
    evaluated = streaming.evaluate(measure, net.apply, variables, source)
    same = best(measure, scores, y, groups, weights=weights)
    np.testing.assert_allclose(evaluated.table, same.table, rtol=1e-5)
    assert evaluated.bias == pytest.approx(float(same.bias), abs=1e-5)

    def objective_(params):
        logits = net.apply({**variables, "params": params}, whole.x)[0]
        return losses.cross_entropy(logits, whole) + 2.0 * measure(metrics.probabilities(logits), *whole[1:])

    value, slopes = jax.jit(jax.value_and_grad(objective_))(variables["params"])
    by_chunks = streaming.value_and_grad(
        measure, net.apply, variables, source, loss=losses.cross_entropies, penalty=lambda bias: 2.0 * bias
    )
    assert by_chunks[0] == pytest.approx(float(value), abs=1e-5)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-5), by_chunks[1], slopes)


@pytest.mark.parametrize("name", ["codes", "overlapping", "classes"])
def test_influence_of_many_groups_is_that_of_finite_differences(name, trained):
    measure, y, a, outputs = SETTINGS[name]
    measure = metrics.make_measure(
        "spd", measure.num_groups, measure.num_classes, across="variance", blocks=measure.blocks
    )
    net, variables = network(outputs), trained[name]
    batch = types.Batch(jnp.asarray(X), jnp.asarray(y), jnp.asarray(a))

    @jax.jit
    def shifted(shift):
        logits = net.apply(variables, batch.x, shifts={"hidden_00": {"units": {"keep": shift}}})[0]
        return measure(metrics.probabilities(logits), batch.y, batch.a)

    found = summed_influence(measure, net.apply, variables, batch)["hidden_00"]["units"]["keep"]
    step = 2e-2
    expected = [(shifted(step * e) - shifted(-step * e)) / (2 * step) for e in jnp.eye(5)]
    np.testing.assert_allclose(found, expected, atol=2e-3)


def evaluation(values, sizes, there=None):
    """Return an evaluation with the given rates (rates, groups)."""
    values, sizes = np.asarray(values, np.float32), np.asarray(sizes, np.float32)
    there = np.full(values.shape, True) if there is None else there
    bias = max(np.ptp(row[some]) for row, some in zip(values, there, strict=True))
    rates = Rates(*map(jnp.asarray, (values, sizes, there)))
    return Evaluation(jnp.array(0.5), jnp.array(0.8), jnp.asarray(bias), jnp.array(0.01), rates=rates)


def test_the_expected_objective_of_many_groups_is_what_chance_gives():
    values, sizes = np.array([[0.5, 0.52, 0.44, 0.6], [0.3, 0.31, 0.3, 0.36]]), np.array([[90, 400, 60, 30]] * 2)
    variance, epsilon, draws = 0.2, 0.15, np.random.default_rng(0)
    inside = 1.0
    for rate, size in zip(values, sizes, strict=True):  # DerSimonian and Laird, by hand
        noise = variance / size
        mean = np.average(rate, weights=size)
        excess = np.sum((rate - mean) ** 2 / noise) - (len(rate) - 1)
        between = max(0.0, excess / (np.sum(1 / noise) - np.sum(noise**-2.0) / np.sum(1 / noise)))
        kept = between / (between + noise)
        new = draws.normal(mean + kept * (rate - mean), np.sqrt((1 + kept) * noise), (400_000, 4))
        inside *= np.mean(np.ptp(new, axis=1) < epsilon)
    found = ExpectedObjective(epsilon=epsilon, variance=variance)(evaluation(values, sizes))
    assert found == pytest.approx(0.8 * inside, abs=4e-3)


def test_rules_of_rates_are_those_of_a_difference_for_two_groups():
    there = np.array([[True, True, False]])
    valid, train = (
        evaluation([[0.5, 0.45, 0]], [[50, 80, 1]], there),
        evaluation([[0.52, 0.44, 0]], [[150, 240, 1]], there),
    )
    one, other = valid._replace(noise=1 / 50 + 1 / 80), train._replace(noise=1 / 150 + 1 / 240)
    plain, plain_train = (
        one._replace(rates=None, bias=jnp.array(0.05)),
        other._replace(rates=None, bias=jnp.array(0.08)),
    )
    rule = ExpectedObjective(epsilon=0.1)
    assert rule(one) == pytest.approx(float(rule(plain)), abs=1e-6)
    scale = np.sqrt(2 * 0.2 * (1 / 50 + 1 / 80))
    closed = norm.cdf((0.1 - 0.05) / scale) - norm.cdf((-0.1 - 0.05) / scale)
    assert rule(one) == pytest.approx(0.8 * closed, abs=1e-5)
    pooled = PooledObjective(epsilon=0.1, shift=1e-6)  # without a shift, both weights are inverse to the sizes
    by_rates, by_difference = pooled.pool(one, other), pooled.pool(plain, plain_train)
    assert by_rates.bias == pytest.approx(float(by_difference.bias), abs=2e-3)
    assert pooled(by_rates) == pytest.approx(float(pooled(by_difference)), abs=5e-3)


@pytest.mark.parametrize("seed", range(3))
def test_pooled_rates_are_weighted_by_inverse_variance(seed):
    rng = np.random.default_rng(seed)
    values, sizes, shift = rng.random((2, 1, 4)), rng.integers(20, 300, (2, 1, 4)), 0.05
    rule = PooledObjective(shift=shift)
    pool = rule.pool(evaluation(values[0], sizes[0]), evaluation(values[1], sizes[1]))
    noise = np.stack([0.2 / sizes[0], 0.2 / sizes[1] + shift**2 / 2])
    expected = np.sum(values / noise, axis=0) / np.sum(1 / noise, axis=0)
    np.testing.assert_allclose(pool.rates.values, expected, atol=1e-6)
    assert pool.bias == pytest.approx(np.ptp(expected), abs=1e-6)
    np.testing.assert_allclose(0.4 / np.asarray(pool.rates.sizes), 1 / np.sum(1 / noise, axis=0) + noise[0], rtol=1e-5)


@pytest.mark.parametrize(
    "rule", [ConstrainedObjective(), AccuracyFloor(floor=0.1), ExpectedObjective(), PooledObjective()]
)
def test_a_bias_that_cannot_be_computed_never_satisfies(rule, trained):
    measure = metrics.make_measure("spd", 4, minimum=1000)
    task = loop.Task(network(), measure, rule.data)
    result = run(
        METHODS["standard"](),
        task,
        rule,
        jax.random.key(0),
        trained["codes"],
        split(Y, CODES),
    )
    assert np.isnan(result.trace.valid.bias).all() and result.undefined and not result.satisfied
    scores = jnp.array([np.nan, 0.3]) if isinstance(rule, AccuracyFloor) else jnp.array([np.nan, 0.001])
    every = Evaluation(jnp.full(2, 0.5), jnp.full(2, 0.8), scores, jnp.full(2, 0.001))
    assert selection.first_max(rule(every)) == 1  # a candidate with a known bias is preferred


def test_named_measures_have_options():
    assert metrics.make_measure("spd") is metrics.spd and metrics.make_measure("spd", 2, minimum=1) is metrics.spd
    with pytest.raises(ValueError, match="there is no measure named"):
        metrics.make_measure("sdp")
    with pytest.raises(ValueError, match="there is no gap named"):
        metrics.make_measure("spd", across="range")
    with pytest.raises(ValueError, match="blocks must hold codes of groups below 3"):
        metrics.make_measure("spd", 3, blocks=((0, 3),))
    shares = [SCORES[g == CODES].mean() for g in range(4)]
    assert metrics.make_measure("spd", 4)(SCORES, Y, CODES) == pytest.approx(np.ptp(shares), abs=1e-6)
    assert metrics.make_measure("spd", 4, across="variance")(SCORES, Y, CODES) == pytest.approx(
        np.var(shares), abs=1e-6
    )
    assert metrics.make_measure("parity_ratio", 4)(SCORES, Y, CODES) == pytest.approx(
        min(shares) / max(shares) - 1, abs=1e-6
    )
    left = metrics.make_measure("spd", 4, blocks=((0, 2),))
    assert left(SCORES, Y, CODES) == pytest.approx(abs(shares[0] - shares[2]), abs=1e-6)
    few = np.where(np.arange(N) < 3, 3, CODES % 3)  # group 3 has three rows
    assert metrics.make_measure("spd", 4, minimum=4)(SCORES, Y, few) == pytest.approx(
        spread_by_hand(SCORES[3:], CODES[3:] % 3), abs=1e-6
    )
    true, false = ([SCORES[(CODES == g) & there].mean() for g in range(4)] for there in (Y, ~Y))
    odds = [np.ptp(true), np.ptp(false)]
    assert metrics.make_measure("equalized_odds", 4)(SCORES, Y, CODES) == pytest.approx(max(odds), abs=1e-6)
    assert metrics.make_measure("average_odds", 4)(SCORES, Y, CODES) == pytest.approx(np.mean(odds), abs=1e-6)


def test_solved_memberships_are_a_regression_at_every_threshold(trained):
    measure = metrics.make_measure("spd", 3, membership="solved")
    for threshold in (0.3, 0.6):
        found = at(measure, SCORES, Y, MEMBERS, threshold, weights=WEIGHTS)
        root = np.sqrt(WEIGHTS)[:, None]
        shares = np.linalg.lstsq(MEMBERS * root, (SCORES > threshold) * root[:, 0], rcond=None)[0]
        assert found.bias == pytest.approx(np.ptp(shares), abs=2e-4)
    by_hand = best(measure, SCORES, Y, MEMBERS, rule=AccuracyFloor(floor=0.6), count=COUNT, weights=WEIGHTS)
    assert by_hand.bias == pytest.approx(
        float(at(measure, SCORES, Y, MEMBERS, by_hand.threshold, weights=WEIGHTS).bias), abs=1e-6
    )
    with pytest.raises(ValueError, match="over chunks"):
        streaming.measure(measure, network().apply, trained["codes"], [types.Batch(X, Y, MEMBERS)])


@pytest.mark.parametrize("count", [3, 5])
def test_group_thresholds_of_many_groups_are_bounded_by_all_combinations(count):
    a, cuts, rule = np.arange(N) % count, np.asarray(metrics.threshold_grid(4)), AccuracyFloor(floor=0.65)
    measure = metrics.make_measure("spd", count)

    def score(thresholds):
        decisions = SCORES > np.asarray(thresholds)[a]
        accuracy = (decisions[Y].mean() + (~decisions)[~Y].mean()) / 2
        return 1 - spread_by_hand(decisions, a) if accuracy >= rule.floor else 0.0

    every = max(map(score, itertools.product(cuts, repeat=count)))
    one = max(score([cut] * count) for cut in cuts)
    search = jax.jit(lambda: group_thresholds(measure, SCORES, Y, a, rule=rule, count=4))
    found = search()
    assert float(rule(found.evaluation)) == pytest.approx(score(found.thresholds), abs=1e-5)
    assert one - 1e-6 <= score(found.thresholds) <= every + 1e-6
    assert score(found.thresholds) >= every - 0.05
