"""Sums over chunks, devices and processes, compared with all rows at once and with plain loops in float64."""

import functools
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pandas as pd
import pytest
from computed import Computed
from hypothesis import given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from fairjax import metrics, selection, streaming
from fairjax.data import groups
from fairjax.metrics import MEASURES, spd
from fairjax.nn import Mlp, Network, from_linen
from fairjax.nn.influence import influence
from fairjax.nn.network import scores
from fairjax.selection import ConstrainedObjective
from fairjax.streaming import Chunk, chunks
from fairjax.types import Batch

N, WIDTHS, GONE = 53, (5, 4), 2
NETWORK = from_linen(Mlp(widths=WIDTHS))
SIZES = (1, 7, 20, N)  # the last chunks of sizes 7 and 20 are short
WAYS = [(size, None) for size in SIZES] + [(7, 1), (20, 2), (N, 2)]


def bce(logits, y):
    return optax.sigmoid_binary_cross_entropy(logits, y)


def penalty(bias):
    return 2.0 * jnp.abs(bias - 0.01)  # away from the kink for a measure that is 0


def rows():
    """Return rows sorted by group, and weights with zeros."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 3)).astype(np.float32)
    y, a = x[:, 0] + rng.normal(size=N) > 0, np.arange(N) >= 22
    x[:, 1] += a
    return Batch(x, y, a), rng.integers(0, 4, N).astype(np.float32) * np.float32(0.7)


BATCH, WEIGHTS = rows()


@pytest.fixture(scope="module")
def data():
    """Return variables with non-trivial masks and statistics, the rows, and their weights."""
    variables = jax.jit(NETWORK.init)(jax.random.key(0), BATCH.x)
    params = jax.tree.map(lambda leaf: 2.0 * leaf, variables["params"])
    params["output"]["kernel"] *= 6.0  # so that biases are not small differences of rates
    stats = jax.tree.map(lambda leaf: leaf + jnp.linspace(0.1, 0.9, leaf.shape[0]), variables["batch_stats"])
    keep = {"hidden_00": {"units": {"keep": jnp.arange(5) != GONE}}, "hidden_01": variables["masks"]["hidden_01"]}
    return {**variables, "params": params, "batch_stats": stats, "masks": keep}, BATCH, WEIGHTS


def mesh_of(devices):
    return None if devices is None else streaming.mesh(jax.devices()[:devices])


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0])


def close(found, expected, tolerance=1e-6):
    """Compare with a tolerance relative to the largest entry, or relative to 1 for a scalar, a difference of rates."""
    found, expected = np.asarray(found), np.asarray(expected)
    scale = np.abs(expected).max() if expected.ndim else max(np.abs(expected), 1.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


@pytest.fixture(scope="module")
def all_rows(data):
    """Return proxy, influence, and objective with its gradient for all rows at once, by the name of a measure."""
    variables, batch, _ = data
    return Computed(lambda name: whole(name, variables, Batch(*map(jnp.asarray, batch))))


@functools.partial(jax.jit, static_argnums=0)
def whole(name, variables, batch):
    measure = MEASURES[name]

    def objective_of(params):
        logits, _ = NETWORK.apply({**variables, "params": params}, batch.x)
        return bce(logits, batch.y).mean() + penalty(measure(jax.nn.sigmoid(logits), batch.y, batch.a))

    value, slopes = jax.value_and_grad(objective_of)(variables["params"])
    of_scores = measure(scores(NETWORK.apply, variables, batch.x), batch.y, batch.a)
    by_unit = influence(measure, NETWORK.apply, variables, batch)
    return of_scores, ravel_pytree(by_unit)[0], value, ravel_pytree(slopes)[0]


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_measure_of_cells_is_the_measure_of_their_rows(name, weighted, data):
    """Compare on scores and decisions, with all cells present and with one cell empty."""
    _, (_, y, a), weights = data
    weights, rng = jnp.asarray(weights) if weighted else None, np.random.default_rng(1)
    absent = [np.zeros(N, bool), ~y & ~a, y & ~a, y & a]
    cases = [(f, a ^ gone) for f in (rng.uniform(0.05, 0.95, N), rng.integers(0, 2, N)) for gone in absent]

    @jax.jit
    @jax.vmap
    def both(values, a):
        by_cells = jax.value_and_grad(
            lambda f: metrics.from_group_sums(MEASURES[name], metrics.group_sums(f, y, a, weights))
        )
        return by_cells(values), jax.value_and_grad(lambda f: MEASURES[name](f, y, a, weights))(values)

    (found, slopes), (plain, plain_slopes) = both(*map(jnp.asarray, map(np.stack, zip(*cases, strict=True))))
    for i in range(len(cases)):
        close(found[i], plain[i])
        close(slopes[i], plain_slopes[i])
    assert np.abs(plain_slopes[0]).max() > 0 and np.abs(plain_slopes[4]).max() > 0, "the comparison says nothing"


@pytest.mark.parametrize("name", MEASURES)
def test_cells_that_are_empty_give_no_nan(name):
    weight = (np.arange(16)[:, None] >> np.arange(4) & 1).astype(np.float32).reshape(16, 2, 2)
    both = jax.vmap(jax.value_and_grad(lambda cells: metrics.from_group_sums(MEASURES[name], cells)))
    value, slopes = both(metrics.GroupSums(jnp.asarray(0.4 * weight), jnp.asarray(weight)))
    assert np.isfinite(value).all() and np.isfinite(flat(slopes)).all()
    assert value[0] == 0.0 and not slopes.total[0].any()
    assert slopes.total[15].any(), "the comparison says nothing"


@given(seed=st.integers(0, 10_000), at=st.sampled_from((0, 1, 26, N)))
def test_cells_of_disjoint_rows_add_up(seed, at, data):
    _, (_, y, a), weights = data
    values = np.random.default_rng(seed).random(N).astype(np.float32)
    parts = [metrics.group_sums(values[s], y[s], a[s], weights[s]) for s in (slice(0, at), slice(at, N))]
    whole = metrics.group_sums(values, y, a, weights)
    jax.tree.map(lambda one, other, sum_: close(one + other, sum_), *parts, whole)
    for label in (0, 1):
        for group in (0, 1):
            among = (y == label) & (a == group)
            assert whole.total[label, group] == pytest.approx((values * weights)[among].sum(dtype=np.float64), rel=1e-6)
            assert whole.weight[label, group] == pytest.approx(weights[among].sum(), rel=1e-6)


@pytest.mark.parametrize(("size", "devices"), WAYS)
def test_chunks_and_devices_change_nothing(size, devices, data, all_rows):
    variables, batch, _ = data
    source, mesh = chunks(batch, size), mesh_of(devices)
    for name in MEASURES if size > 1 else ("ppd",):
        measure, (of_scores, by_unit, value, slopes) = MEASURES[name], all_rows[name]
        close(streaming.measure(measure, NETWORK.apply, variables, source, mesh=mesh), of_scores)
        units = streaming.influence(measure, NETWORK.apply, variables, source, mesh=mesh)
        assert jax.tree.structure(units) == jax.tree.structure(variables["masks"])
        close(flat(units), by_unit, 4e-6)  # sums of products in another order
        assert flat(units)[GONE] == 0.0 and np.count_nonzero(flat(units)) > 4
        found = streaming.value_and_grad(
            measure, NETWORK.apply, variables, source, loss=bce, penalty=penalty, mesh=mesh
        )
        close(found[0], value)
        close(flat(found[1]), slopes, 4e-6)


OPTIONS = ({}, {"threshold": 0.4}, {"rule": ConstrainedObjective()}, {"count": 11})


@functools.partial(jax.jit, static_argnums=0, static_argnames="count")
def of_all_rows(measure, of_rows, y, a, threshold=None, **options):
    if threshold is not None:
        return selection.evaluate_at(measure, of_rows, y, a, jnp.asarray(threshold))
    return selection.best_threshold(measure, of_rows, y, a, **options)


@pytest.mark.parametrize(
    ("size", "devices", "measure", "options"),
    [(*way, spd, {}) for way in WAYS]
    + [(20, 2, spd, options) for options in OPTIONS[1:]]
    + [(20, None, measure, {"threshold": 0.6}) for measure in MEASURES.values()],
)
def test_evaluations_are_those_of_all_rows(size, devices, measure, options, data):
    variables, batch, _ = data
    found = streaming.evaluate(measure, NETWORK.apply, variables, chunks(batch, size), mesh=mesh_of(devices), **options)
    expected = of_all_rows(measure, scores(NETWORK.apply, variables, batch.x), batch.y, batch.a, **options)
    np.testing.assert_array_equal(found.table, expected.table)
    assert found.threshold == expected.threshold
    close(flat(found[1:4]), flat(expected[1:4]))


def test_the_mean_is_the_sum_over_the_weight_of_all_rows(data):
    variables, batch, weights = data
    for each, n in ((None, N), (weights, weights.sum())):
        source = chunks(batch, 20, weights=each)
        mean, sum_ = (
            streaming.influence(spd, NETWORK.apply, variables, source, reduction=by) for by in ("mean", "sum")
        )
        close(n * flat(mean), flat(sum_))
        assert flat(sum_).any()


def test_the_average_of_parts_is_not_the_whole(data, all_rows):
    """Groups are unevenly distributed: the first chunk, and the second device's shard of the second chunk, lack one."""
    variables, batch, _ = data
    source = chunks(batch, 20)
    first, second, third = (chunk.a for chunk in source)
    assert not first.any() and second[10:].all() and not second.all() and third.all()
    of_rows = scores(NETWORK.apply, variables, batch.x)
    for name in ("spd", "eod", "ppd"):
        measure, true = MEASURES[name], float(all_rows[name][0])
        parts = [slice(0, 20), slice(20, 40), slice(40, N)]
        biases = np.array([measure(of_rows[s], batch.y[s], batch.a[s]) for s in parts])
        assert abs(biases.mean() - true) > 0.02 and abs(np.average(biases, weights=[20, 20, 13]) - true) > 0.02
        for devices in (None, 2):
            close(streaming.measure(measure, NETWORK.apply, variables, source, mesh=mesh_of(devices)), true)
            found = streaming.influence(measure, NETWORK.apply, variables, source, mesh=mesh_of(devices))
            close(flat(found), all_rows[name][1])


# a network implemented twice: for fairjax, and in NumPy's float64


def written_apply(variables, x, *, shifts=None, key=None):
    h = x @ variables["params"]["in"] + (0.0 if shifts is None else shifts["h"][None])
    return jnp.tanh(h) @ variables["params"]["out"], variables


WRITTEN = Network(lambda key, x: {}, written_apply)


def written(into, out, shift, x):
    return 1 / (1 + np.exp(-np.tanh(x @ into + shift) @ out)), np.tanh(x @ into + shift) @ out


@pytest.mark.parametrize("devices", [None, 2])
def test_a_plain_loop_in_float64_agrees(devices):
    rng = np.random.default_rng(2)
    x, y, a = rng.normal(size=(41, 3)), rng.random(41) < 0.5, np.arange(41) % 5 == 0
    weights, into, out = rng.integers(0, 3, 41).astype(float), rng.normal(size=(3, 4)), rng.normal(size=4)

    def bias(into, out, shift):
        sums = np.zeros((2, 2))
        for i in range(41):
            sums[int(a[i])] += weights[i] * np.array([written(into, out, shift, x[i])[0], 1.0])
        return sums[0, 0] / sums[0, 1] / (sums[1, 0] / sums[1, 1]) - 1  # demographic parity shortfall

    def fit(into, out):
        losses = np.log1p(np.exp((1 - 2 * y) * written(into, out, 0, x)[1]))
        return weights @ losses / weights.sum() + 3 * bias(into, out, 0) ** 2

    def differences(function, at):
        steps = np.eye(at.size).reshape(-1, *at.shape) * 1e-5
        return np.array([(function(at + step) - function(at - step)) / 2e-5 for step in steps]).reshape(at.shape)

    single = functools.partial(np.asarray, dtype=np.float32)
    variables = {"params": {"in": jnp.asarray(into), "out": jnp.asarray(out)}, "masks": {"h": jnp.ones(4, bool)}}
    measure, mesh = MEASURES["parity_ratio"], mesh_of(devices)
    source = chunks(Batch(single(x), y, a), 6, weights=single(weights))
    assert streaming.measure(measure, WRITTEN.apply, variables, source, mesh=mesh) == pytest.approx(
        bias(into, out, 0), rel=2e-6
    )
    units = streaming.influence(measure, WRITTEN.apply, variables, source, mesh=mesh)["h"]
    close(units, differences(lambda shift: bias(into, out, shift), np.zeros(4)) / weights.sum(), 2e-6)
    value, slopes = streaming.value_and_grad(
        measure, WRITTEN.apply, variables, source, loss=bce, penalty=lambda bias: 3.0 * bias**2, mesh=mesh
    )
    assert value == pytest.approx(fit(into, out), rel=2e-6)
    close(slopes["in"], differences(lambda into: fit(into, out), into), 2e-6)
    close(slopes["out"], differences(lambda out: fit(into, out), out), 2e-6)


@pytest.mark.parametrize("devices", [None, 2])
def test_weights_are_repetitions_and_rows_of_weight_0_may_hold_anything(devices, data):
    variables, (x, y, a), weights = data
    counts = np.rint(weights / np.float32(0.7)).astype(int)
    assert set(counts) == {0, 1, 2, 3}
    repeated = chunks(Batch(*(np.repeat(column, counts, axis=0) for column in (x, y, a))), 20)
    spoiled = np.where(counts[:, None] > 0, x, np.nan)
    weighted = chunks(Batch(spoiled, y, a), 7, weights=counts.astype(np.float32))
    mesh = mesh_of(devices)
    for measure in (spd, MEASURES["ppd"]):
        for function in (streaming.evaluate, streaming.measure, streaming.influence):
            one, other = (function(measure, NETWORK.apply, variables, s, mesh=mesh) for s in (repeated, weighted))
            if function is streaming.evaluate:  # one row of weight 2 gives less certainty than two rows
                one, other = one._replace(noise=jnp.zeros(())), other._replace(noise=jnp.zeros(()))
            close(flat(one), flat(other))
        one, other = (
            streaming.value_and_grad(measure, NETWORK.apply, variables, s, loss=bce, penalty=penalty, mesh=mesh)
            for s in (repeated, weighted)
        )
        close(flat(one), flat(other))
    evaluation = streaming.evaluate(spd, NETWORK.apply, variables, weighted, mesh=mesh)
    assert float(evaluation.table.sum()) == counts.sum()


@pytest.mark.parametrize("devices", [None, 2])
def test_a_function_is_compiled_once(devices, data):
    variables, batch, _ = data
    traced = []

    def function(scale, batch, weights):
        traced.append(batch.x.shape)
        return {"x": scale * (batch.x * weights[:, None]).sum(axis=0), "n": weights.sum()}

    for scale in (1.0, 2.0):
        found = streaming.sum_over_chunks(function, (jnp.float32(scale),), chunks(batch, 10), mesh=mesh_of(devices))
        close(found["x"], scale * batch.x.sum(axis=0, dtype=np.float64))
        assert found["n"] == N
    assert traced == [(10 if devices is None else 5, 3)]

    calls = []

    def apply(variables, x, *, shifts=None, key=None):
        calls.append(x.shape)
        return written_apply(variables, x, shifts=shifts)

    for seed in range(3):
        into = jnp.asarray(np.random.default_rng(seed).normal(size=(3, 5)))
        variables = {"params": {"in": into, "out": jnp.ones(5)}, "masks": {"h": jnp.ones(5, bool)}}
        for measure in (spd, MEASURES["eod"]):
            streaming.influence(measure, apply, variables, chunks(batch, 10), mesh=mesh_of(devices))
    assert len(calls) == 2  # once per pass


def test_many_small_chunks_cost_no_digits():
    def function(batch, weights):
        return weights.sum(), jnp.sum(batch.x[:, 0] * weights)

    x, yes = np.ones((1, 1), np.float32), np.array([True])
    heavy = Chunk(np.float32(2**24) * x, yes, yes, np.array([2**24], np.float32))
    source = [heavy] + [Chunk(x, yes, yes)] * 4
    assert np.float32(2**24) + np.float32(1) == np.float32(2**24)
    assert streaming.sum_over_chunks(function, (), source)[0] == 2**24 + 4
    assert (
        streaming.sum_over_chunks(function, (), [*source, Chunk(np.array([[-np.inf]], np.float32), yes, yes)])[1]
        == -np.inf
    )


def test_whole_weights_are_counted_exactly_past_float32():
    """Half of the rows exceed each of two thresholds, in tables that are differences of two large counts."""
    variables = {"params": {"in": jnp.eye(1), "out": jnp.ones(1)}, "masks": {}}
    x = np.array([[3.0], [0.0], [-3.0]], np.float32)
    yes, no, weights = np.ones(3, bool), np.zeros(3, bool), np.array([1, 2**24, 4], np.float32)
    source = [Chunk(x, yes, no, weights)] * 5 + [Chunk(x, no, yes, weights)]
    assert np.cumsum(weights[::-1])[1] == 2**24 + 4 and np.float32(5 * 2**24) + np.float32(5) == 5 * 2**24 + 8
    table = streaming.evaluate(spd, written_apply, variables, source, threshold=0.6).table
    assert table[1, 1, 0] == 5 and table[0, 1, 0] == np.float32(5 * 2**24 + 20)
    floats = metrics.tables_by_threshold(jnp.array([[[0, 0], [20.0 + 5 * 2**24, 0]], [[0, 0], [5.0, 0]]]))
    assert floats[0, 1, 1, 0] != 5, "sums of float32 would do"


def test_chunks_are_slices_of_files_made_when_asked_for(tmp_path, data):
    _, batch, weights = data
    file = np.memmap(tmp_path / "x", np.float32, "w+", shape=(N, 3))
    file[:] = batch.x
    asked = []

    class Watched:
        shape = file.shape

        def __getitem__(self, index):
            asked.append(len(file[index]))
            return file[index]

    scaler = (batch.x.mean(axis=0), batch.x.std(axis=0))
    order = np.random.default_rng(0).permutation(N)[:31]
    source = chunks(Batch(Watched(), batch.y.astype(np.int8), batch.a), 8, weights=weights, rows=order, scaler=scaler)
    assert len(source) == 4 and not asked
    for _ in range(2):
        parts = list(source)
        assert [part.x.shape[0] for part in parts] == [8, 8, 8, 7]
        joined = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
        for found, column in zip(joined, ((batch.x - scaler[0]) / scaler[1], *batch[1:], weights), strict=True):
            np.testing.assert_array_equal(found, column[order])
    assert asked == [8, 8, 8, 7] * 2
    assert all(type(column) is np.ndarray for column in parts[0][1:]) and parts[0].y.dtype == bool
    many = chunks(Batch(file, np.r_[[2], np.ones(N - 1)], np.eye(N, 2)), 20)  # a chunk without a 2 also contains codes
    assert [part.y.dtype for part in many] == [np.float64] * 3 and [part.a.shape[1] for part in many] == [2] * 3
    lazy = chunks(Batch(file, batch.y, batch.a), 20)
    assert [part.weights for part in lazy] == [None] * 3 and len(lazy) == 3


def once():
    yield BATCH


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: streaming.measure(spd, NETWORK.apply, v, []), "the source has no chunk"),
        (
            lambda v: streaming.influence(spd, NETWORK.apply, v, once()),
            "twice, but a generator can be iterated only once; give a list",
        ),
        (
            lambda v: streaming.measure(spd, NETWORK.apply, v, [BATCH, BATCH._replace(x=BATCH.x[:, :2])]),
            r"chunk 1 has features of shape \(2,\), those before it of shape \(3,\)",
        ),
        (
            lambda v: streaming.measure(spd, NETWORK.apply, v, [BATCH._replace(y=BATCH.y[:9])]),
            r"chunk 0 has 53 rows of features, and y, a, weights of shapes \[\(9,\), \(53,\)\]",
        ),
        (
            lambda v: streaming.evaluate(spd, NETWORK.apply, v, [BATCH._replace(a=~np.zeros(N, bool))]),
            r"no row of the unprivileged group \(a = 0\) among all chunks",
        ),
        (
            lambda v: streaming.evaluate(spd, NETWORK.apply, v, [Chunk(*BATCH, (~BATCH.a).astype(np.float32))]),
            r"no row of the privileged group \(a = 1\)",
        ),
        (
            lambda v: streaming.evaluate(spd, NETWORK.apply, v, [BATCH, BATCH._replace(x=BATCH.x * np.nan)]),
            "output is not finite for 53 rows",
        ),
        (
            lambda v: streaming.evaluate(spd, NETWORK.apply, v, [BATCH], threshold=0.5, rule=ConstrainedObjective()),
            "not both",
        ),
        (
            lambda v: streaming.measure(spd, NETWORK.apply, v, [BATCH], mesh=jax.make_mesh((1,), ("seeds",))),
            r"one axis named 'rows', got \('seeds',\)",
        ),
        (
            lambda v: streaming.measure(
                spd,
                NETWORK.apply,
                v,
                [Chunk(*(np.broadcast_to(column[:1], (2**24 + 1, *column.shape[1:])) for column in BATCH))],
            ),
            "chunk 0 has 16777217 rows, of which float32 counts 16777216",
        ),
        (lambda v: streaming.influence(spd, NETWORK.apply, v, [BATCH], reduction="max"), "mean or sum, got 'max'"),
        (lambda v: chunks(BATCH, 0), "size must be a positive number of rows, got 0"),
        (lambda v: chunks(BATCH, 2, weights=np.ones(3)), "one length, got {'x': 53, 'y': 53, 'a': 53, 'weights': 3}"),
        (
            lambda v: streaming.measure(
                spd, NETWORK.apply, v, chunks(BATCH._replace(y=np.where(np.arange(N) == 11, 2, 1)), 10)
            ),
            "y must be 0 or 1, got 2 at place 11",
        ),
    ],
)
def test_what_cannot_be_summed_is_refused(call, message, data):
    jaxtyping.config.update("jaxtyping_disable", True)  # otherwise the tests' type checks would fail first
    try:
        with pytest.raises(ValueError, match=message):
            call(data[0])
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


TIMES = 1_700_000_000.0 + np.arange(N)[:, None]


def test_features_in_double_precision_are_standardised_before_they_are_cast(data):
    _, batch, _ = data
    scaler = (TIMES.mean(axis=0), TIMES.std(axis=0))
    expected = (TIMES - scaler[0]) / scaler[1]
    for x in (TIMES, TIMES.astype(np.int64)):
        found = np.concatenate([part.x for part in chunks(batch._replace(x=x), 7, scaler=scaler)])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-6)
    single = tuple(each.astype(np.float32) for each in scaler)
    with pytest.raises(ValueError, match="mean of feature 0, 1.7e.09, is rounded in float32 by up to 128"):
        list(chunks(batch._replace(x=TIMES), 7, scaler=single))


@pytest.mark.parametrize("size", [1, 7, N])
@pytest.mark.parametrize("kind", [np.float64, np.int64])
def test_features_that_would_merge_are_refused_however_they_are_chunked(size, kind, data):
    variables, batch, _ = data
    x = np.repeat(TIMES, 3, axis=1).astype(kind)
    with pytest.raises(ValueError, match="column 'x1' of x has .* different values .* of which float32 keeps"):
        list(chunks(batch._replace(x=x), size))
    if kind == np.float64:  # chunks that are created outside of `chunks`
        parts = [Chunk(x[i : i + size], batch.y[i : i + size], batch.a[i : i + size]) for i in range(0, N, size)]
        with pytest.raises(ValueError, match="column 'x1' of x has .* different values"):
            streaming.measure(spd, NETWORK.apply, variables, parts)


def test_features_beyond_the_types_of_jax_are_refused(data):
    variables, batch, _ = data
    huge = np.where(np.arange(N) == 9, 1e300, 0.0)[:, None]
    with pytest.raises(ValueError, match=r"column 'x1' of x holds 1e\+300 at place 9, which float32 cannot"):
        list(chunks(batch._replace(x=huge), 7))
    milliseconds = np.repeat(1000 * TIMES, 3, axis=1).astype(np.int64)
    with pytest.raises(ValueError, match="chunk 0 has features from 1700000000000 to .* beyond the 32 bits"):
        streaming.measure(spd, NETWORK.apply, variables, [batch._replace(x=milliseconds)])


@pytest.mark.parametrize("name", ["x", "y", "a", "weights"])
def test_masks_are_not_dropped(name, data):
    variables, batch, _ = data
    chunk = Chunk(*batch, np.ones(N, np.float32))
    column = getattr(chunk, name)
    masked = np.ma.masked_array(column, np.zeros(column.shape, bool))
    assert len(list(chunks(chunk._replace(**{name: masked}), 20))) == 3
    masked[3] = np.ma.masked
    with pytest.raises(TypeError, match=f"{name} is a masked array with masked entries"):
        chunks(chunk._replace(**{name: masked}), 20)
    with pytest.raises(TypeError, match=f"{name} is a masked array with masked entries"):
        streaming.measure(spd, NETWORK.apply, variables, [chunk._replace(**{name: masked})])

    class Lazy:
        shape = column.shape

        def __getitem__(self, index):
            return masked[index]

    if name != "weights":  # the tests' type checks require an array here
        with pytest.raises(TypeError, match=f"{name} is a masked array with masked entries"):
            list(chunks(chunk._replace(**{name: Lazy()}), 20))


def test_frames_and_lists_are_taken_by_position(data):
    _, (x, y, a), _ = data
    index, order = np.arange(N)[::-1], np.array([5, 3, 50])
    frame = Batch(pd.DataFrame(x, index=index), pd.Series(y, index=index), pd.Series(a, index=index))
    for table in (frame, Batch(x.tolist(), y.tolist(), a.tolist())):
        (found,) = chunks(table, 20, rows=order)
        for column, expected in zip(found[:3], (x, y, a), strict=True):
            np.testing.assert_array_equal(column, expected[order])
    with pytest.raises(ValueError, match="the index of y differs from that of x"):
        chunks(frame._replace(y=pd.Series(y)), 20)
    with pytest.raises(ValueError, match="the index of y differs from that of x"):
        streaming.measure(spd, NETWORK.apply, data[0], [frame._replace(y=pd.Series(y))])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": np.array([0, -1])}, "rows must be row numbers from 0 to 52, found -1"),
        ({"rows": np.array([0, 53])}, "rows must be row numbers from 0 to 52, found 53"),
        (
            {"rows": np.ones(N, bool)},
            "rows must be row numbers, found dtype bool: make them of a mask by np.flatnonzero",
        ),
        ({"rows": np.ones((2, 3), int)}, "rows must have one number per row"),
        (
            {"scaler": (np.zeros((2, 3)), np.ones((2, 3)))},
            r"of shape \(3,\), one number per feature, .*take one seed's",
        ),
        ({"scaler": (np.zeros(3), np.zeros(3))}, "positive finite scales"),
        ({"scaler": (np.full(3, np.nan), np.ones(3))}, "must hold finite means"),
        ({"scaler": np.zeros(3)}, "scaler must be a mean and a scale"),
        ({"size": 2.5}, "size must be a positive number of rows, got 2.5"),
    ],
)
def test_options_of_chunks_that_do_not_fit_are_refused(options, message):
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ValueError, match=message):
            chunks(BATCH, **{"size": 20, **options})
        with pytest.raises(TypeError, match="a must be an array, found Groups: pass their column, groups.a"):
            chunks(BATCH._replace(a=groups(BATCH.a)), 20)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


PROGRAM = """
import sys
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.config.update("jax_num_cpu_devices", 2)
port, process = sys.argv[1], int(sys.argv[2])
jax.distributed.initialize(f"127.0.0.1:{port}", 2, process)
import jax.numpy as jnp
import numpy as np
import optax
from fairjax import MEASURES, Batch, from_linen, Mlp, streaming
network = from_linen(Mlp(widths=(5,)))
rng = np.random.default_rng(0)
x = rng.normal(size=(40, 3)).astype(np.float32)
y, a = x[:, 0] > 0, np.arange(40) >= 20  # either process lacks a group
variables = network.init(jax.random.key(0), x)
mine = slice(20 * process, 20 * process + 20)
everything = streaming.chunks(Batch(x, y, a), 9)
shared = streaming.chunks(Batch(x[mine], y[mine], a[mine]), 7)
assert jax.device_count() == 4 and jax.local_device_count() == 2
mesh = streaming.mesh()
def gradient(*args, **mesh):
    return streaming.value_and_grad(*args, loss=optax.sigmoid_binary_cross_entropy, penalty=jnp.abs, **mesh)

for name in ("spd", "ppd"):
    for function in (streaming.measure, streaming.evaluate, streaming.influence, gradient):
        both = [
            jax.tree.leaves(function(MEASURES[name], network.apply, variables, source, mesh=mesh))
            for source, mesh in ((everything, None), (shared, mesh))
        ]
        for one, other in zip(*both, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 * max(np.abs(one).max(), 0.1))
print("agreed", float(streaming.measure(MEASURES["spd"], network.apply, variables, shared, mesh=mesh)))
"""


@pytest.mark.slow
def test_two_processes_agree_with_one():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, port, str(process)],
            cwd=Path(__file__).parents[3],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(2)
    ]
    try:
        said = [process.communicate(timeout=120) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], said
    last = [out.splitlines()[-1] for out, _ in said]
    assert last[0].startswith("agreed") and last[0] == last[1]


def test_rows_of_padding_are_valid_rows():
    """A network may have no output for a row of zeros, such as a mean over no tokens."""

    def apply(variables, x, *, shifts=None, key=None):
        shift = 0.0 if shifts is None else shifts["unit"][0]
        return (x["numbers"] * x["mask"]).sum(axis=1) / x["mask"].sum(axis=1) * variables["params"] + shift, variables

    variables = {"params": jnp.ones(()), "masks": {"unit": jnp.ones(1, bool)}}
    weights = np.where(np.arange(N) % 5 == 0, 0, WEIGHTS + 1).astype(np.float32)
    x = {"numbers": BATCH.x, "mask": np.ones((1, 3), np.float32) * (weights[:, None] > 0)}
    source = chunks(streaming.Chunk(x, BATCH.y, BATCH.a, weights), 7)
    scored = jax.nn.sigmoid(BATCH.x.mean(axis=1))
    for devices in (None, 2):
        found = streaming.measure(spd, apply, variables, source, mesh=mesh_of(devices))
        close(found, spd(scored, BATCH.y, BATCH.a, weights))
        slope = streaming.influence(spd, apply, variables, source, mesh=mesh_of(devices))["unit"]
        assert np.isfinite(slope) and slope != 0
