"""Call every public function; run by `test_precision.py` under other settings of JAX."""

import sys
import time
import traceback

import jax
import jax.numpy as jnp
import numpy as np
import one_context
import optax

import fairjax
from fairjax import data, loop, losses, metrics, nn, postprocess, seeds, selection, streaming, training, types
from fairjax.methods import METHODS, AdversarialFineTuning, BiasGda, FineTuning, LayerwiseOptimisation
from fairjax.methods.random_perturbation import RandomPerturbation
from fairjax.nn import influence, masks

N = 60
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3))
Y = np.arange(N) % 2 == 0
A = np.arange(N) % 3 == 0
CODES = np.arange(N) % 4
CLASSES = RNG.integers(0, 3, N)
MEMBERS = RNG.dirichlet(np.ones(3), N)
OVERLAP = np.stack([A, ~A, CODES % 2 == 0, CODES % 2 == 1], axis=1)
SCORES = RNG.random(N)
CHANCES = RNG.dirichlet(np.ones(3), N)
WEIGHTS = RNG.integers(1, 4, N)
BLOCKS = ((0, 1), (2, 3))
RULES = {name: rule() for name, rule in selection.RULES.items()}
CONFIGS = {name: kind() for name, kind in METHODS.items()} | {
    "pruning": fairjax.Pruning(units=2),
    "bias_gda": BiasGda(epochs=1, batch_size=16),
    "random_perturbation": RandomPerturbation(draws=3, batch=2),
    "layerwise": LayerwiseOptimisation(generations=1, population=4),
    "adversarial_fine_tuning": AdversarialFineTuning(epochs=1, critic_steps=2, network_steps=2, batch_size=16),
    "adversarial_debiasing": fairjax.AdversarialDebiasing(epochs=1, batch_size=16),
    "last_layer": fairjax.LastLayer(epochs=1, batch_size=16),
    "fine_tuning": FineTuning(epochs=1, batch_size=16, weighting="multiplier"),
    "lagrangian": fairjax.Lagrangian(epochs=1, batch_size=16),
}

CALLS = {}
ON_THE_HOST = ("by_group", "rows", "rows on a mesh", "data", "nn", "over_seeds")


def call(name):
    """Register a call under a name."""

    def keep(function):
        CALLS[name] = function
        return function

    return keep


def split_of(y=Y, a=A, weights=None):
    """Return a split of the rows, with optional weights for the rows of the table."""
    x, keep = jnp.asarray(X), slice(None)
    order = np.arange(N)
    train, valid, test = (jnp.asarray(order[start::3][keep]) for start in range(3))
    weights = None if weights is None else jnp.asarray(weights, x.dtype)
    mean, scale = x[train].mean(axis=0), x[train].std(axis=0)
    return types.Split(x, jnp.asarray(y), jnp.asarray(a), train, valid, test, mean, scale, weights)


def network(outputs=1):
    """Return a small network and its variables."""
    made = nn.from_linen(nn.Mlp(widths=(3, 2), outputs=outputs))
    return made, made.init(jax.random.key(0), jnp.asarray(X[:2]))


for _name, _measure in metrics.MEASURES.items():
    call(f"measure {_name}")(
        lambda m=_measure: [m(SCORES, Y, A), m(Y, Y, A, WEIGHTS), jax.grad(m)(jnp.asarray(SCORES), Y, A)]
    )
call("measure ratio")(lambda: metrics.demographic_parity_ratio(SCORES, Y, A))
call("gap")(lambda: metrics.gap(SCORES, A, ~A, WEIGHTS))


@call("half precision")
def _():
    return [
        metrics.spd(jnp.asarray(SCORES, kind), Y, A, jnp.asarray(WEIGHTS, kind)) for kind in (jnp.float16, jnp.bfloat16)
    ]


for _gap in metrics.GAPS:

    @call(f"gap {_gap}")
    def _(gap=_gap):
        four = metrics.demographic_parity(across=metrics.GAPS[gap], num_groups=4, minimum=2)
        return [
            four(SCORES, Y, CODES),
            jax.jit(four)(SCORES, Y, CODES, WEIGHTS),
            jax.grad(four)(jnp.asarray(SCORES), Y, CODES),
        ]


for _name in metrics.MEASURES:

    @call(f"named {_name}")
    def _(name=_name):
        two = metrics.make_measure(name, 4, blocks=BLOCKS)
        three = metrics.make_measure(name, 4, 3, minimum=2)
        return [
            two(SCORES, Y, OVERLAP),
            jax.jit(two)(SCORES, Y, OVERLAP, WEIGHTS),
            jax.jit(jax.grad(three))(jnp.asarray(CHANCES), CLASSES, CODES, WEIGHTS),
            jax.jit(three)(CLASSES, CLASSES, CODES),
        ]


@call("memberships")
def _():
    found = []
    for how in ("weighted", "solved"):
        measure = metrics.make_measure("spd", 3, membership=how)
        found += [measure(SCORES, Y, MEMBERS), jax.jit(measure)(SCORES, Y, MEMBERS, WEIGHTS)]
        found += [selection.best_threshold(measure, SCORES, Y, MEMBERS, weights=WEIGHTS)]
        found += [jax.jit(lambda s, m=measure: selection.best_threshold(m, s, Y, MEMBERS))(SCORES)]
    return found


@call("confusion")
def _():
    tensor = metrics.confusion(SCORES, Y, CODES, num_groups=4, weights=WEIGHTS)
    many = metrics.confusion(CHANCES, CLASSES, np.arange(N) % 9, num_groups=9, num_classes=3)
    soft = metrics.confusion(CLASSES, CLASSES, MEMBERS, num_groups=3, num_classes=3)
    empty = metrics.confusion(SCORES[:0], Y[:0], CODES[:0], num_groups=4)
    return [tensor, many, soft, empty, metrics.gram(MEMBERS, WEIGHTS), metrics.solved(soft, metrics.gram(MEMBERS))]


@call("rates")
def _():
    tensor = metrics.confusion(SCORES, Y, CODES, num_groups=4)
    made = (metrics.rates.selection(), metrics.rates.f_beta(2), metrics.rates.precision(), metrics.rates.accuracy())
    return [rate.of(tensor) for rate in made]


@call("shrinkage")
def _():
    rates, sizes, there = np.array([0.2, 0.4, 0.3]), np.array([30, 50, 20]), np.array([True, True, True])
    return [
        metrics.shrinkage.empirical_bayes(rates, sizes, there),
        metrics.shrinkage.range_within(rates, rates * 0.01, there, 0.1),
        metrics.shrinkage.expected_range_within(rates, sizes, there, 0.1),
        metrics.shrinkage.expected_range_within(rates, sizes, there, jnp.asarray(0.1), 0.2),
    ]


@call("by_group")
def _():
    report = fairjax.by_group(Y, Y, CODES, scores=SCORES, weights=WEIGHTS)
    return [report.selection_rate, report.gaps(10).rows[0].value, report.shrunk["accuracy"]]


@call("cells")
def _():
    two, four = metrics.make_measure("spd"), metrics.make_measure("spd", 4)
    three = metrics.make_measure("spd", 4, 3)
    cells = metrics.group_sums(SCORES, Y, A, WEIGHTS)
    many = metrics.group_sums(SCORES, Y, CODES, WEIGHTS, num_groups=4)
    most = metrics.group_sums(CHANCES, CLASSES, CODES, num_groups=4, num_classes=3)
    return [cells, *(metrics.from_group_sums(m, c) for m, c in ((two, cells), (four, many), (three, most)))]


@call("performance")
def _():
    cuts = metrics.threshold_grid(11)
    found = [metrics.balanced_accuracy(SCORES, Y, WEIGHTS)]
    found += [metrics.balanced_accuracy(CHANCES, CLASSES, WEIGHTS, num_classes=3)]
    for groups, count, measure in ((A, 2, metrics.spd), (CODES, 4, metrics.make_measure("eod", 4))):
        for weights in (None, WEIGHTS):
            tables = metrics.tables_by_threshold(metrics.histogram(SCORES, Y, groups, cuts, weights, num_groups=count))
            found += [metrics.measure_from_table(measure, tables[3]), metrics.noise_from_table(measure, tables[3])]
            found += [metrics.is_defined(measure, tables[3]), metrics.accuracy_from_table(tables[3])]
    return found


for _rule in RULES:

    @call(f"rule {_rule}")
    def _(rule=RULES[_rule]):
        found = []
        for measure, groups in (
            (metrics.spd, A),
            (metrics.make_measure("spd", 4), CODES),
            (metrics.make_measure("spd", 4, blocks=BLOCKS), OVERLAP),
        ):
            every = selection.best_threshold(measure, SCORES, Y, groups, rule=rule, count=11, weights=WEIGHTS)
            other = selection.evaluate_at(measure, SCORES, Y, groups, every.threshold)
            every = rule.pool(every, other) if rule.data == "pooled" else every
            found += [every, rule(every)]
        return found


@call("objective")
def _():
    cuts = metrics.threshold_grid(11)
    counts = metrics.histogram(SCORES, Y, A, cuts)
    return [
        selection.best_threshold_from_counts(metrics.spd, counts, cuts),
        selection.evaluate_thresholds(metrics.spd, counts, cuts).bias,
        selection.evaluate_at(metrics.make_measure("spd", 4, 3), CHANCES, CLASSES, CODES, 0.5),
        selection.best_threshold(metrics.make_measure("spd", 4, 3), CHANCES, CLASSES, CODES, weights=WEIGHTS),
        selection.evaluate_at(metrics.spd, SCORES, Y, A, 0.5),
        jax.jit(lambda s: selection.evaluate_at(metrics.spd, s, Y, A, jnp.asarray(0.5)))(SCORES),
    ]


@call("group_thresholds")
def _():
    found = []
    for measure, groups in ((metrics.spd, A), (metrics.make_measure("spd", 4), CODES)):
        chosen = postprocess.group_thresholds(
            measure, SCORES, Y, groups, rule=RULES["expected"], count=5, weights=WEIGHTS
        )
        found += [chosen, chosen.decide(SCORES, groups), jax.jit(chosen.decide)(SCORES, groups)]
    return found


@call("corpus_level")
def _():
    target = postprocess.corpus_shares(Y, CODES, num_groups=4, weights=WEIGHTS).shares
    classes = postprocess.corpus_shares(CLASSES, CODES, num_groups=4, num_classes=3)
    potentials = np.log(CHANCES)
    found = [postprocess.corpus_level(SCORES - 0.5, CODES, target), target, classes]
    solve = jax.jit(lambda scores: postprocess.corpus_level(scores - 0.5, CODES, target, margin=0.1))
    return [*found, solve(SCORES), postprocess.corpus_level_classes(potentials, CODES, classes.shares, passes=3)]


@call("calibrated_equalized_odds")
def _():
    found = []
    for groups in (A, CODES):
        fitted = postprocess.calibrated_equalized_odds(SCORES, Y, groups, cost="fnr", weights=WEIGHTS)
        found += [fitted, fitted.mix(SCORES, groups, key=jax.random.key(0))]
    return found


@call("influence")
def _():
    found = []
    for outputs, measure, y, groups in ((1, metrics.spd, Y, A), (3, metrics.make_measure("spd", 4, 3), CLASSES, CODES)):
        net, variables = network(outputs)
        for weights in (None, WEIGHTS):
            batch = types.WeightedBatch(jnp.asarray(X), jnp.asarray(y), jnp.asarray(groups))
            batch = batch._replace(weights=None if weights is None else jnp.asarray(weights, batch.x.dtype))
            batch = types.Batch(*batch[:3]) if weights is None else batch
            found.append(influence(measure, net.apply, variables, batch))
    return found


@call("rows")
def _():
    found = []
    weighed = types.WeightedBatch(X, Y, CODES, WEIGHTS)
    for batch, measure, outputs in (
        (types.Batch(X, Y.astype(np.int8), A), metrics.spd, 1),
        (weighed, metrics.make_measure("eod", 4), 1),
        (weighed._replace(y=CLASSES), metrics.make_measure("spd", 4, 3), 3),
    ):
        net, variables = network(outputs)
        loss = losses.cross_entropies
        source = streaming.chunks(batch, 25, scaler=(X.mean(axis=0), X.std(axis=0)))
        found += [
            streaming.evaluate(measure, net.apply, variables, source),
            streaming.measure(measure, net.apply, variables, source),
        ]
        found += [streaming.influence(measure, net.apply, variables, source)]
        found += [streaming.value_and_grad(measure, net.apply, variables, source, loss=loss, penalty=jnp.abs)]
    return found


@call("rows on a mesh")
def _():
    net, variables = network()
    source = streaming.chunks(types.Batch(X, Y, A), 25)
    return [streaming.measure(metrics.spd, net.apply, variables, source, mesh=streaming.mesh())]


@call("training")
def _():
    found = []
    config = training.Training(epochs=2, batch_size=8, check_every=1)
    for outputs, y, weights in ((1, Y, None), (3, CLASSES, WEIGHTS)):
        fit = jax.jit(training.run, static_argnums=0)
        trained = fit(network(outputs)[0], config, jax.random.key(1), split_of(y, CODES, weights))
        found += [trained.best.variables(), trained.best_loss, trained.epoch]
    return found


for _method in METHODS:

    @call(f"method {_method}")
    def _(name=_method):
        found = []
        kinds = [(1, metrics.spd, Y, A, None), (3, metrics.make_measure("spd", 4, 3), CLASSES, CODES, WEIGHTS)]
        for outputs, measure, y, groups, weights in kinds[: 1 if name == "adversarial_debiasing" else 2]:
            net, variables = network(outputs)
            run = jax.jit(loop.run, static_argnums=1)
            pooled = outputs == 3 and name in ("fine_tuning", "threshold")
            task = loop.Task(net, measure, "pooled" if pooled else "valid")
            rule = RULES["pooled" if pooled else "objective"]
            split = split_of(y, groups, weights)
            found += [run(CONFIGS[name], task, rule, jax.random.key(1), variables, split)]
        return found


@call("best_of")
def _():
    net, variables = network()
    task, split = loop.Task(net, metrics.spd), split_of()
    done = loop.run(CONFIGS["standard"], task, RULES["objective"], jax.random.key(1), variables, split)
    return loop.best_of(RULES["objective"], [done.trace, done.trace], [done.selected, done.selected])


@call("data")
def _():
    splits = data.split_seeds(data.from_arrays(X, Y, A), seeds=(42, 73))
    part = jax.vmap(lambda split: split.part("train").x.mean(), in_axes=(types.SHARED,))(splits)
    groups = data.groups(CODES)
    return [
        part,
        data.split(jax.random.key(0), X, Y, A),
        jax.jit(data.split)(jax.random.key(0), X, Y, A),
        groups.a,
    ]


@call("nn")
def _():
    module = nn.Mlp(widths=(3, 2), outputs=3)
    net, variables = network(3)
    cut = {
        **variables,
        "masks": masks.drop(
            variables["masks"],
            jax.tree.map(lambda keep: jnp.asarray(np.arange(keep.size, dtype=float)), variables["masks"]),
            2,
        ),
    }
    above = masks.drop_above(
        cut["masks"], jax.tree.map(lambda keep: jnp.asarray(np.arange(keep.size, dtype=float)), cut["masks"]), 0.5
    )
    smaller, less = nn.shrink(module, cut)
    out = nn.from_linen(smaller).apply(less, jnp.asarray(X))[0]
    np.testing.assert_allclose(out, net.apply(nn.materialize(module, cut), jnp.asarray(X))[0], atol=1e-5)
    return [out, above, masks.count(above), net.apply(variables, X, key=jax.random.key(3))]


@call("over_seeds")
def _():
    devices = seeds.mesh()
    done = jax.jit(lambda x: seeds.over_seeds(lambda x: x * 2, (x,), (0,), mesh=devices))(jnp.arange(5.0))
    return [done, seeds.replicate({"a": jnp.ones(3)}, devices)]


@call("the caller's own loss")
def _():
    def loss(logits):
        return optax.sigmoid_binary_cross_entropy(logits, Y.astype(logits.dtype)).mean() + 4.0 * jnp.abs(
            fairjax.spd(jax.nn.sigmoid(logits), Y, A)
        )

    return jax.grad(loss)(jnp.asarray(X[:, 0]))


if __name__ == "__main__":
    one_context.install()
    jax.config.update("jax_num_cpu_devices", 2)
    wrong = []
    only = sys.argv[1:]
    for name, function in CALLS.items():
        if only and not any(word in name for word in only):
            continue
        start = time.perf_counter()
        try:
            if name in ON_THE_HOST:
                jax.block_until_ready(function())
            else:  # types are known after tracing, and compilation would take most of the time
                jax.eval_shape(function)
            print(f"{time.perf_counter() - start:6.1f} s  {name}", flush=True)
        except Exception as error:
            wrong.append(name)
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/fairjax/" in frame.filename]
            print(f"wrong: {name}: {error}", *traceback.format_list(frames[-4:]), sep="\n", flush=True)
    print(f"{len(CALLS)} calls, {len(wrong)} wrong: {', '.join(wrong)}")
    sys.exit(bool(wrong))
