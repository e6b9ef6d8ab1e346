"""Training, debiasing, results and streaming of networks whose inputs are dictionaries or images."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fairjax
from fairjax import SHARED, BiasGda, Network, Pruning, Training, data, from_linen, influence, spd, streaming
from fairjax.arguments import check_data
from fairjax.metrics import MEASURES
from fairjax.nn import Units
from fairjax.nn.network import scores
from fairjax.types import Batch

N, SEEDS, EPOCHS, BATCH_SIZE = 96, (1, 2, 3), 4, 16
RNG = np.random.default_rng(0)
A = RNG.random(N) < 0.5
CAT = (RNG.integers(0, 3, N) + 3 * (RNG.random(N) < np.where(A, 0.8, 0.2))).astype(np.int64)  # tells the group
NUM = RNG.normal(size=(N, 2))
Y = NUM[:, 0] + 1.2 * (CAT > 2) + 0.5 * RNG.normal(size=N) > 0.6
TREE = {"num": NUM, "cat": CAT}
IMAGES = (RNG.integers(0, 100, (N, 4, 4, 1)) + (80 * A + 60 * Y)[:, None, None, None]).astype(np.uint8)


class Mixed(nn.Module):
    """A network of numbers and categories."""

    @nn.compact
    def __call__(self, x, *, train=False):
        h = jnp.concatenate([x["num"], nn.Embed(6, 3, name="embed")(x["cat"])], axis=1)
        h = nn.relu(Units(6, name="units")(nn.Dense(6, name="dense")(h)))
        self.sow("intermediates", "features", h)
        return nn.Dense(1, name="output")(h)[:, 0]


class Pixels(nn.Module):
    """A network of images in whole numbers, which it scales itself."""

    @nn.compact
    def __call__(self, x, *, train=False):
        h = nn.Conv(4, (3, 3), name="conv")(x.astype(jnp.float32) / 255.0)
        h = nn.relu(Units(4, name="units")(h))
        return nn.Dense(1, name="output")(h.mean(axis=(1, 2)))[:, 0]


def counting(module):
    """Return the network of a module, with a collection that counts steps of training in whole numbers."""
    network = from_linen(module)

    def init(key, x):
        return {**network.init(key, x), "steps": {"count": jnp.array(2**24, jnp.int32), "moved": jnp.array(False)}}

    def apply(variables, x, *, shifts=None, key=None):
        steps, others = variables["steps"], {name: tree for name, tree in variables.items() if name != "steps"}
        logits, others = network.apply(others, x, shifts=shifts, key=key)
        if key is not None:
            steps = {"count": steps["count"] + 1, "moved": jnp.array(True)}
        return logits, {**others, "steps": steps}

    return Network(init, apply)


NETWORKS = {"tree": (counting(Mixed()), TREE), "images": (counting(Pixels()), IMAGES)}
CONFIG = Training(epochs=EPOCHS, check_every=1, batch_size=BATCH_SIZE, learning_rate=2e-2)
PRUNING, GDA = Pruning(units=1), BiasGda(epochs=3, learning_rate=1e-2, batch_size=BATCH_SIZE)


def keys_of(number):
    return jax.random.split(jax.random.key(number), len(SEEDS))


def of_seed(tree, i):
    """Return the entry of one seed."""
    return jax.tree.map(lambda leaf: leaf[i], tree)


def split_of(splits, i):
    """Return the split of one seed."""
    return jax.tree.map(lambda axis, part: part if axis is None else of_seed(part, i), SHARED, splits, is_leaf=_is_none)


def _is_none(axis):
    return axis is None


@pytest.fixture(scope="module", params=["tree", pytest.param("images", marks=pytest.mark.slow)])
def case(request):
    """Return a network, its splits, and trained networks with the results of debiasing them."""
    network, x = NETWORKS[request.param]
    splits = data.split_seeds(data.from_arrays(x, Y, A), seeds=SEEDS)
    fitted = fairjax.fit_many(network, splits, keys=keys_of(5), training=CONFIG)
    results = {
        method: fairjax.debias_many(method, network, spd, fitted.variables, splits, keys=keys_of(6))
        for method in (PRUNING, GDA)
    }
    return network, x, splits, fitted, results


def test_many_networks_are_trained_and_keep_their_whole_numbers(case):
    _, _, splits, fitted, _ = case
    assert splits.mean is None and np.isfinite(fitted.loss).all() and (np.asarray(fitted.loss) < 0.69).all()
    steps = fitted.variables["steps"]
    assert steps["count"].dtype == jnp.int32 and steps["moved"].dtype == bool and steps["moved"].all()
    per_epoch = -(-splits.train.shape[1] // BATCH_SIZE)
    taken = np.asarray(steps["count"]) - 2**24
    assert (taken % per_epoch == 0).all() and (taken >= per_epoch).all() and (taken <= EPOCHS * per_epoch).all()


def test_one_network_is_trained_like_one_of_many(case):
    network, _, splits, fitted, _ = case
    alone = fairjax.fit(network, split_of(splits, 1), key=keys_of(5)[1], training=CONFIG)
    assert abs(alone.loss - fitted.loss[1]) < 1e-4
    assert alone.variables["steps"]["count"].dtype == jnp.int32


@pytest.mark.parametrize("method", [PRUNING, GDA], ids=["pruning", "gda"])
def test_one_seed_is_debiased_like_one_of_many(case, method):
    network, _, splits, fitted, results = case
    split, variables = split_of(splits, 1), of_seed(fitted.variables, 1)
    result = fairjax.debias(method, network, spd, variables, split, key=keys_of(6)[1])
    np.testing.assert_allclose(result.trace.valid.bias, results[method].trace.valid.bias[1], atol=1e-4)
    assert result.selected == results[method].selected[1]


def test_methods_change_the_network(case):
    _, _, _, fitted, results = case
    bias = results[PRUNING].trace.valid.bias
    assert (np.ptp(bias, axis=1) > 0.01).all()
    assert not np.array_equal(results[GDA].trace.valid.bias[:, 0], results[GDA].trace.valid.bias[:, -1])
    kept = results[PRUNING].variables["masks"]["units"]["keep"]
    assert (np.asarray(kept).sum(axis=1) == kept.shape[1] - np.asarray(results[PRUNING].selected)).all()
    chosen = np.asarray(results[GDA].selected)
    counts = np.asarray(results[GDA].variables["steps"]["count"]) - np.asarray(fitted.variables["steps"]["count"])
    np.testing.assert_array_equal(counts, chosen * -(-int(0.6 * N) // BATCH_SIZE))


def test_influence_predicts_the_effect_of_small_shifts(case):
    network, _, splits, fitted, _ = case
    batch, variables = split_of(splits, 0).part("train"), of_seed(fitted.variables, 0)
    found = influence(spd, network.apply, variables, batch, reduction="sum")["units"]["keep"]

    @jax.jit
    def value(shift):
        logits, _ = network.apply(variables, batch.x, shifts={"units": {"keep": shift}})
        return spd(jax.nn.sigmoid(logits), batch.y, batch.a)

    steps = 1e-2 * jnp.eye(found.shape[0])
    central = np.array([(value(step) - value(-step)) / 2e-2 for step in steps])
    assert np.abs(central).max() > 1e-3
    np.testing.assert_allclose(found, central, atol=0.05 * np.abs(central).max())


def test_results_decide_on_new_rows(case):
    network, x, splits, _, results = case
    result = results[GDA]
    decisions = result.decide(x)
    assert decisions.shape == (len(SEEDS), N)
    first = of_seed(result.variables, 0)
    whole = jax.tree.map(jnp.asarray, splits.x)
    np.testing.assert_array_equal(decisions[0], scores(network.apply, first, whole) > result.threshold[0])
    with pytest.raises(ValueError, match=r"must hold integers, as in the split's table"):
        result.decide(jax.tree.map(lambda leaf: leaf.astype(np.float32), x))
    with pytest.raises(ValueError, match=r"must have rows of shape \((2,|4, 4, 1)\)"):
        result.decide(jax.tree.map(lambda leaf: leaf if leaf.ndim == 1 else leaf[:, :1], x))


@pytest.mark.parametrize(("size", "devices"), [(20, None), (25, 2)])
def test_sums_over_chunks_are_those_of_all_rows(case, size, devices):
    network, x, _, fitted, _ = case
    variables, weights = of_seed(fitted.variables, 0), RNG.integers(0, 3, N).astype(np.float32)
    mesh = None if devices is None else streaming.mesh(jax.devices()[:devices])
    source = streaming.chunks(Batch(x, Y, A), size, weights=weights)
    whole = fairjax.types.WeightedBatch(
        jax.tree.map(jnp.asarray, data.from_arrays(x, Y, A).x), jnp.asarray(Y), jnp.asarray(A), jnp.asarray(weights)
    )
    measure = MEASURES["eod"]
    found = streaming.influence(measure, network.apply, variables, source, reduction="sum", mesh=mesh)
    expected = influence(measure, network.apply, variables, whole, reduction="sum")
    np.testing.assert_allclose(found["units"]["keep"], expected["units"]["keep"], rtol=1e-4, atol=1e-6)
    table = streaming.evaluate(measure, network.apply, variables, source, threshold=0.5, mesh=mesh).table
    assert table.sum() == weights.sum()


def test_chunks_keep_integers_and_check_floats():
    (chunk,) = streaming.chunks(Batch(TREE, Y, A), N)
    assert chunk.x["cat"].dtype == np.int32 and chunk.x["num"].dtype == np.float32
    (tokens,) = streaming.chunks(Batch(CAT.reshape(-1, 2), Y[::2], A[::2]), N)
    assert tokens.x.dtype == np.int32
    rows = RNG.permutation(N)[:30]
    parts = list(streaming.chunks(Batch(TREE, Y, A), 7, rows=rows))
    np.testing.assert_array_equal(np.concatenate([part.x["cat"] for part in parts]), CAT[rows])
    broken = {**TREE, "num": np.where(np.arange(N)[:, None] == 70, np.nan, NUM)}
    with pytest.raises(ValueError, match=r"x\['num'\] has missing or infinite values in float32.*in row 70"):
        list(streaming.chunks(Batch(broken, Y, A), 32))
    with pytest.raises(ValueError, match="scaler is for one array of features, found a dict"):
        streaming.chunks(Batch(TREE, Y, A), 32, scaler=(np.zeros(2), np.ones(2)))
    with pytest.raises(ValueError, match=r"one length, got \{\"x\['cat'\]\": 95, \"x\['num'\]\": 96, 'y': 96"):
        streaming.chunks(Batch({**TREE, "cat": CAT[1:]}, Y, A), 32)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ({"num": NUM.astype(np.float32), "cat": CAT[:-1].astype(np.int32)}, r"x\['num'\] must have 95 rows"),
        ({"num": NUM[:, :1].astype(np.float32), "cat": CAT.astype(np.int32)}, "chunk 1 has features of shape"),
        ({"num": NUM, "cat": CAT + 2**40}, r"chunk 1: x\['cat'\] has values beyond int32"),
    ],
)
def test_chunks_that_do_not_match_are_refused(x, message):
    network = NETWORKS["tree"][0]
    good = Batch({"num": NUM.astype(np.float32), "cat": CAT.astype(np.int32)}, Y, A)
    with pytest.raises(ValueError, match=message):
        streaming.measure(spd, network.apply, network.init(jax.random.key(0), good.x), [good, good._replace(x=x)])


@pytest.mark.slow
def test_methods_that_use_features_take_trees():
    split = data.split(jax.random.key(0), TREE, Y, A)
    network = from_linen(Mixed())
    variables = network.init(jax.random.key(1), split.batch(split.train[:2]).x)
    method = fairjax.METHODS["adversarial_fine_tuning"](epochs=1, batch_size=16, critic_steps=2, network_steps=2)
    result = fairjax.debias(method, network, spd, variables, split, key=jax.random.key(2))
    assert result.trace.valid.bias.shape == (2,) and np.isfinite(result.trace.valid.bias).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": {**TREE, "cat": CAT[1:]}}, r"split.x\['cat'\] must have as many rows as the labels"),
        ({"mean": jnp.zeros(2)}, "a mean and a scale, or neither"),
        ({"mean": jnp.zeros(2), "scale": jnp.ones(2)}, "its x is a tree of several arrays"),
    ],
)
def test_splits_that_do_not_fit_are_refused(changes, message):
    split = data.split(jax.random.key(0), TREE, Y, A)
    with pytest.raises(ValueError, match=message):
        check_data(split._replace(**changes))
