"""The last layer of a network is trained and pruned on features, and put back with the same logits."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fairjax
from fairjax import BiasGda, LastLayer, Pruning, Training, data, influence, spd
from fairjax.nn import Mlp, Network, from_linen, last_layer
from fairjax.types import Batch

NETWORK = from_linen(Mlp(widths=(8, 6)))
ROWS = 200


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    a = rng.random(ROWS) < 0.5
    x = rng.normal(size=(ROWS, 4)).astype(np.float32)
    x[:, 1] += 1.5 * a
    return x, x[:, 0] + x[:, 1] > 0.5, a


@pytest.fixture(scope="module")
def trained(table):
    x, y, a = table
    split = data.split(jax.random.key(0), *table)
    fitted = fairjax.fit(
        NETWORK, split, key=jax.random.key(1), training=Training(epochs=30, batch_size=32, learning_rate=1e-2)
    )
    return fitted.variables, np.asarray((x - split.mean[None]) / split.scale[None])


@pytest.fixture(scope="module")
def last(trained):
    return last_layer(NETWORK, trained[0], trained[1][:5])


@pytest.fixture(scope="module")
def splits(trained, table):
    features = NETWORK.features(*trained)[0]
    dataset = data.from_arrays(np.asarray(features), *table[1:], standardise=False)
    return data.split_seeds(dataset, seeds=(3, 4))


def stacked(variables, seeds=2):
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (seeds, *leaf.shape)), variables)


def test_it_gives_the_networks_logits_on_the_features(last, trained):
    features, logits, _ = NETWORK.features(*trained)
    np.testing.assert_allclose(last.network.apply(last.variables, features)[0], logits, atol=1e-6)
    assert last.path == ("output",) and set(last.variables["params"]) == {"output"}
    again = last_layer(NETWORK, trained[0], trained[1][:3])
    assert again.network == last.network and hash(again.network) == hash(last.network)  # one compiled program


def test_influence_of_features_is_the_gradient_times_the_weight(last, trained, table):
    features = NETWORK.features(*trained)[0]
    batch = Batch(features, jnp.asarray(table[1]), jnp.asarray(table[2]))
    found = influence(spd, last.network.apply, last.variables, batch)["features"]
    scores = jax.nn.sigmoid(last.network.apply(last.variables, features)[0])
    slope = np.where(table[2], -1 / table[2].sum(), 1 / (~table[2]).sum()) * np.asarray(scores * (1 - scores))
    weight = trained[0]["params"]["output"]["kernel"][:, 0]
    np.testing.assert_allclose(found, slope.sum() * weight / ROWS, atol=1e-7)


def test_it_is_trained_and_debiased_for_all_seeds_and_put_back_with_the_same_logits(last, trained, splits):
    variables, x = trained
    fit_keys, keys = jax.random.split(jax.random.key(2), (2, 2))
    fitted = fairjax.fit_many(last.network, splits, keys=fit_keys, training=Training(epochs=5, learning_rate=1e-2))
    assert not fitted.diverged.any() and fitted.loss.max() < 0.69
    method = BiasGda(epochs=2, learning_rate=1e-2)
    results = fairjax.debias_many(method, last.network, spd, fitted.variables, splits, keys=keys)
    assert results.trace.valid.bias.shape == (2, 3)
    complete = jax.vmap(last.put_back, in_axes=(None, 0))(variables, results.variables)
    features = NETWORK.features(variables, x)[0]
    for seed in range(2):
        tuned, whole = (
            jax.tree.map(lambda leaf, seed=seed: leaf[seed], tree) for tree in (results.variables, complete)
        )
        logits = last.network.apply(tuned, features)[0]
        np.testing.assert_allclose(NETWORK.apply(whole, x)[0], logits, atol=1e-6)
        assert np.abs(logits - NETWORK.apply(variables, x)[0]).max() > 1e-3
        for name in ("hidden_00", "hidden_01"):
            jax.tree.map(np.testing.assert_array_equal, whole["params"][name], variables["params"][name])


def test_cut_features_are_zeros_in_the_weight_that_is_put_back(last, trained, splits):
    variables, x = trained
    split = jax.tree.map(lambda leaf: leaf[0], splits._replace(x=None, y=None, a=None))
    split = split._replace(x=splits.x, y=splits.y, a=splits.a)
    result = fairjax.debias(Pruning(units=2), last.network, spd, last.variables, split, key=jax.random.key(4))
    cut = {**last.variables, "masks": {"features": jnp.array([True, False, True, True, False, True])}}
    assert result.trace.valid.bias.shape == (4,)  # the original network and 6 features, two at a time
    whole = last.put_back(variables, cut)
    assert not np.any(whole["params"]["output"]["kernel"][jnp.array([1, 4])])
    expected = last.network.apply(cut, NETWORK.features(variables, x)[0])[0]
    np.testing.assert_allclose(NETWORK.apply(whole, x)[0], expected, atol=1e-6)


def test_several_seeds_at_once_are_refused(last, trained):
    with pytest.raises(ValueError, match="one seed back at a time"):
        last.put_back(trained[0], stacked(last.variables))


class Outputs(linen.Module):
    """A network with a last layer of any number of outputs, in a module of its own."""

    outputs: int

    @linen.compact
    def __call__(self, x, *, train=False):
        h = linen.tanh(linen.Dense(3, name="first")(x))
        self.sow("intermediates", "features", h)
        outputs = linen.Dense(self.outputs, name="out")(h)
        return outputs[:, 1] - outputs[:, 0] if self.outputs == 2 else outputs


def network_of(outputs):
    network = from_linen(Outputs(outputs))
    return network, {**network.init(jax.random.key(6), jnp.ones((1, 4))), "masks": {}}


@pytest.mark.parametrize("outputs", [2, 3])
def test_several_outputs_are_logits_or_their_difference(outputs, table):
    network, variables = network_of(outputs)
    last = last_layer(network, variables, table[0][:4])
    features, logits, _ = network.features(variables, table[0])
    np.testing.assert_allclose(last.network.apply(last.variables, features)[0], logits, atol=1e-6)
    assert logits.ndim == (1 if outputs == 2 else 2) and last.path == ("out",)


def transposed(variables):
    """The variables as PyTorch has them: weights are (outputs, inputs), and layers are nested."""
    layers = {name: {"weight": layer["kernel"].T, "bias": layer["bias"]} for name, layer in variables.items()}
    return {"first": layers["first"], "classifier": {"out": layers["out"]}}


def test_weights_may_be_transposed_and_nested(table):
    inner, variables = network_of(2)

    def untransposed(variables):
        layers = {"first": variables["params"]["first"], **variables["params"]["classifier"]}
        return {"params": {name: {"kernel": one["weight"].T, "bias": one["bias"]} for name, one in layers.items()}}

    network = Network(
        inner.init,
        lambda variables, x, *, shifts=None, key=None: (inner.apply(untransposed(variables), x)[0], variables),
        lambda variables, x, *, key=None: (*inner.features(untransposed(variables), x)[:2], variables),
    )
    variables = {"params": transposed(variables["params"]), "masks": {}}
    last = last_layer(network, variables, table[0][:4])
    assert last.path == ("classifier", "out")
    cut = {**last.variables, "masks": {"features": jnp.array([True, False, True])}}
    whole = last.put_back(variables, cut)
    assert not np.any(whole["params"]["classifier"]["out"]["weight"][:, 1])
    expected = last.network.apply(cut, network.features(variables, table[0])[0])[0]
    np.testing.assert_allclose(network.apply(whole, table[0])[0], expected, atol=1e-6)
    initial = last.network.init(jax.random.key(0), jnp.ones((2, 3)))
    assert jax.tree.map(jnp.shape, initial) == jax.tree.map(jnp.shape, last.variables)


def test_what_is_no_affine_layer_of_the_features_is_refused(trained):
    variables, x = trained
    doubled = Network(
        NETWORK.init,
        NETWORK.apply,
        lambda variables, x, *, key=None: (NETWORK.features(variables, x)[0] ** 2, *NETWORK.apply(variables, x)),
    )
    with pytest.raises(ValueError, match="no layer of params gives the logits .*hidden_00.linear, .*output"):
        last_layer(doubled, variables, x[:5])
    zero = jax.tree.map(jnp.zeros_like, variables["params"]["output"])
    twins = {**variables, "params": {**variables["params"], "output": zero, "twin": zero}}
    with pytest.raises(ValueError, match="more than one layer .*: output, twin; name one with layer="):
        last_layer(NETWORK, twins, x[:5])
    assert last_layer(NETWORK, twins, x[:5], layer="output").path == ("output",)
    with pytest.raises(ValueError, match="has no `features`"):
        last_layer(Network(NETWORK.init, NETWORK.apply), variables, x[:5])


def test_layers_are_tuned_by_names_within_names(trained, table):
    split = data.split(jax.random.key(0), *table)
    variables = trained[0]
    tuned = LastLayer(epochs=1, weights=(1.0,), learning_rate=1e-2, layers=("hidden_01.norm", "output"))
    result = fairjax.debias(tuned, NETWORK, spd, variables, split, key=jax.random.key(8))
    before, after = variables["params"], result.variables["params"]
    jax.tree.map(np.testing.assert_array_equal, before["hidden_00"], after["hidden_00"])
    jax.tree.map(np.testing.assert_array_equal, before["hidden_01"]["linear"], after["hidden_01"]["linear"])
    if result.selected:
        assert np.any(before["hidden_01"]["norm"]["scale"] != after["hidden_01"]["norm"]["scale"])
    with pytest.raises(ValueError, match="layers must be some of .*, got hidden_01.nor; names within them have dots"):
        layers = LastLayer(epochs=1, layers=("hidden_01.nor",))
        fairjax.debias(layers, NETWORK, spd, variables, split, key=jax.random.key(8))
