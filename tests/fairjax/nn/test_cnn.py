"""Convolutional networks: convolutions against XLA's, influence of channels, pruning, fine-tuning, and removal."""

import functools

import chex
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import fairjax
from fairjax import SHARED, BiasGda, Cnn, Pruning, ResNet, from_linen, spd, training
from fairjax.nn import BatchNorm, Convolution, influence, masks, materialize, shrink
from fairjax.nn.convolution import pooled
from fairjax.nn.materialize import _unit_layers
from fairjax.types import Batch, Split

N = 24
MODULES = {
    "cnn": Cnn(channels=(4, 3), halving="pooling", dropout=0.1),
    "stride": Cnn(channels=(4, 3), site="normalised", cut="outgoing"),
    "activation": Cnn(channels=(4, 3), site="activation"),
    "resnet": ResNet(channels=(3, 4), dropout=0.1),
    "residual outgoing": ResNet(channels=(3,), blocks=2, site="activation", cut="outgoing"),
}


def images_of(key, rows=N, size=7):
    return jax.random.uniform(key, (rows, size, size, 2))


@functools.cache
def random(name):
    """Return a network whose weights, statistics and masks are random, so that nothing has its neutral value."""
    network = from_linen(MODULES[name])
    variables = jax.jit(network.init)(jax.random.key(1), images_of(jax.random.key(0), 2))
    leaves, structure = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    leaves = [
        jax.random.uniform(key, leaf.shape) > 0.3 if leaf.dtype == bool else jax.random.uniform(key, leaf.shape) - 0.4
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    variables = jax.tree.unflatten(structure, leaves)
    variables["batch_stats"] = jax.tree.map(lambda leaf: jnp.abs(leaf) + 0.1, variables["batch_stats"])
    return network, variables


def batch_of(key):
    x = images_of(key)
    brightness = x.mean(axis=(1, 2))
    return Batch(x, brightness[:, 0] > 0.5, brightness[:, 1] > 0.5)


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (2, 1), (1, 1), (5, 3)])
def test_a_convolution_is_xla_s_on_images_whose_borders_are_repeated(size, stride):
    x = jax.random.normal(jax.random.key(0), (2, 6, 7, 3))
    layer = Convolution(4, size=size, stride=stride)
    params = layer.init(jax.random.key(1), x)["params"]
    pad = ((size - 1) // 2, size // 2)
    padded = jnp.pad(x, ((0, 0), pad, pad, (0, 0)), mode="edge")
    layout = ("NHWC", "HWIO", "NHWC")
    expected = jax.lax.conv_general_dilated(
        padded, params["kernel"], (stride, stride), "VALID", dimension_numbers=layout
    )
    np.testing.assert_allclose(layer.apply({"params": params}, x), expected + params["bias"][None, None, None], atol=1e-5)


def test_a_convolution_starts_uniform_within_one_over_root_fan_in():
    params = Convolution(300).init(jax.random.key(0), jnp.ones((1, 3, 3, 4)))["params"]
    for leaf in (params["kernel"], params["bias"]):
        assert 0.16 < jnp.abs(leaf).max() <= 1 / 6
        assert leaf.std() == pytest.approx(1 / 6 / np.sqrt(3), rel=0.1)


def test_pooling_leaves_out_what_fills_no_square():
    h = jax.random.normal(jax.random.key(0), (2, 5, 4, 3))
    expected = np.asarray(h)[:, :4].reshape(2, 2, 2, 2, 2, 3).mean((2, 4))
    np.testing.assert_allclose(pooled(h, 2), expected, atol=1e-6)


def test_batch_normalisation_of_images_is_that_of_all_their_positions_as_rows():
    h = jax.random.normal(jax.random.key(0), (4, 3, 2, 5)) * 2.0 + 1.0
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), h, train=False)
    out, updated = layer.apply(variables, h, train=True, mutable=["batch_stats"])
    rows, updated_by_rows = layer.apply(variables, h.reshape(24, 5), train=True, mutable=["batch_stats"])
    chex.assert_trees_all_equal(out.reshape(24, 5), rows)
    chex.assert_trees_all_equal(updated, updated_by_rows)
    expected = np.asarray(h.reshape(24, 5))
    np.testing.assert_allclose(updated["batch_stats"]["var"], 0.9 + 0.1 * expected.var(0, ddof=1), rtol=1e-5)
    later = layer.apply({**variables, **updated}, h, train=False)
    by_rows = layer.apply({**variables, **updated}, h.reshape(24, 5), train=False)
    chex.assert_trees_all_equal(later.reshape(24, 5), by_rows)


@pytest.mark.parametrize("name", MODULES)
def test_influence_of_a_channel_is_the_slope_in_double_precision(name):
    network, variables = random(name)
    batch = batch_of(jax.random.key(3))
    measured = jax.jit(lambda v, b: influence(spd, network.apply, v, b, reduction="sum"))(variables, batch)
    with jax.enable_x64(True):
        double = jax.tree.map(
            lambda leaf: jnp.asarray(np.asarray(leaf), leaf.dtype if leaf.dtype == bool else np.float64), variables
        )
        x = jnp.asarray(np.asarray(batch.x), np.float64)
        zeros = jax.tree.map(lambda keep: np.zeros(keep.shape), variables["masks"])
        flat, structure = jax.tree.flatten(zeros)

        @jax.jit
        def bias(shifts):
            logits, _ = network.apply(double, x, shifts=jax.tree.unflatten(structure, shifts))
            return spd(jax.nn.sigmoid(logits), batch.y, batch.a)

        largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(measured))
        assert largest > 1e-4
        for i, (leaf, found) in enumerate(zip(flat, jax.tree.leaves(measured), strict=True)):
            for unit in range(leaf.size):
                step = 1e-5 * (np.arange(leaf.size) == unit)
                up, down = ([*flat[:i], leaf + sign * step, *flat[i + 1 :]] for sign in (1, -1))
                assert float(found[unit]) == pytest.approx(float((bias(up) - bias(down)) / 2e-5), abs=2e-3 * largest)


@pytest.mark.parametrize("name", MODULES)
def test_activations_have_a_value_per_row_position_and_channel_and_are_0_where_cut(name):
    network, variables = random(name)
    shown = jax.jit(network.activations)(variables, images_of(jax.random.key(4), 5))
    for keep, h in zip(jax.tree.leaves(variables["masks"]), jax.tree.leaves(shown), strict=True):
        assert h.ndim == 4 and h.shape[0] == 5 and h.shape[-1] == keep.size
        assert not h[..., ~keep].any() and (h[..., keep] != 0).any()


@pytest.mark.parametrize("name", MODULES)
def test_materialised_and_smaller_networks_have_the_same_outputs(name):
    network, variables = random(name)
    x = images_of(jax.random.key(5))
    expected = network.apply(variables, x)[0]
    uncut = {**variables, "masks": jax.tree.map(jnp.ones_like, variables["masks"])}
    assert not np.allclose(network.apply(uncut, x)[0], expected, atol=1e-3)
    made = materialize(MODULES[name], variables)
    assert masks.count(made["masks"]) == masks.size(variables["masks"])
    np.testing.assert_allclose(network.apply(made, x)[0], expected, atol=1e-5)
    if isinstance(MODULES[name], ResNet):
        with pytest.warns(UserWarning, match="cut units add to a residual stream"):
            smaller, made = shrink(MODULES[name], variables)
        firsts = [variables["masks"][block]["first"] for block in sorted(variables["masks"]) if block != "stem"]
        assert smaller.inner == tuple(int(first["units"]["keep"].sum()) for first in firsts)
    else:
        smaller, made = shrink(MODULES[name], variables)
        assert smaller.channels == tuple(int(keep.sum()) for keep in jax.tree.leaves(variables["masks"]))
    np.testing.assert_allclose(from_linen(smaller).apply(made, x)[0], expected, atol=1e-5)


@pytest.mark.parametrize("cut", ["incoming", "outgoing"])
def test_a_layer_may_lose_all_of_its_channels(cut):
    module = MODULES["cnn"].clone(cut=cut)
    _, variables = random("cnn")
    variables = {**variables, "masks": {**variables["masks"], "block_00": {"units": {"keep": jnp.zeros(4, bool)}}}}
    smaller, made = shrink(module, variables)
    x = images_of(jax.random.key(5))
    assert smaller.channels[0] == 0
    np.testing.assert_allclose(
        from_linen(smaller).apply(made, x)[0], from_linen(module).apply(variables, x)[0], atol=1e-5
    )


def test_a_module_that_does_not_describe_its_units_is_refused():
    with pytest.raises(TypeError, match="use Mlp, Cnn or ResNet"):
        _unit_layers(Convolution(3))


def splits_of(seeds):
    """Return splits of images whose label depends on one channel, and whose group on the other."""
    rng = np.random.default_rng(0)
    n = 150
    a = rng.random(n) < 0.5
    y = (rng.random(n) < 0.5 + 0.35 * np.where(a, 1, -1)) ^ (rng.random(n) < 0.1)
    x = rng.random((n, 6, 6, 2)).astype(np.float32) * 0.3
    x[..., 0] += (0.4 * y + 0.3 * rng.random(n))[:, None, None]
    x[..., 1] += (0.4 * a + 0.3 * rng.random(n))[:, None, None]
    dataset = fairjax.data.from_arrays(x, y, a)
    return fairjax.data.split_seeds(dataset, seeds)


@pytest.fixture(scope="module")
def trained():
    """Return splits, and three trained networks on them."""
    network, splits = from_linen(MODULES["cnn"]), splits_of((0, 1, 2))
    config = training.Training(epochs=8, check_every=4, batch_size=30, learning_rate=1e-2)
    keys = jax.random.split(jax.random.key(0), 3)
    fit = jax.jit(jax.vmap(lambda key, split: training.run(network, config, key, split), in_axes=(0, SHARED)))
    return network, splits, fit(keys, splits).best.variables()


@pytest.mark.parametrize("method", [Pruning(), BiasGda(epochs=6, learning_rate=1e-2, batch_size=45)])
def test_three_seeds_are_debiased_at_once(trained, method):
    network, splits, variables = trained
    keys = jax.random.split(jax.random.key(1), 3)
    results = jax.jit(
        jax.vmap(
            lambda key, variables, split: fairjax.debias(method, network, spd, variables, split, key=key).trace.valid,
            in_axes=(0, 0, SHARED),
        )
    )(keys, variables, splits)
    bias, accuracy = np.abs(results.bias), results.balanced_accuracy
    assert bias.shape == (3, 8 if isinstance(method, Pruning) else 7)
    assert bias[:, 0].mean() > 0.3 and accuracy[:, 0].mean() > 0.75, "the original networks are biased"
    assert (bias.min(axis=1) < 0.6 * bias[:, 0]).all()


def test_bytes_are_images_in_units_of_255():
    network, variables = random("cnn")
    x = jax.random.randint(jax.random.key(0), (3, 7, 7, 2), 0, 256).astype(jnp.uint8)
    divided = x.astype(jnp.float32) / 255.0
    np.testing.assert_allclose(network.apply(variables, x)[0], network.apply(variables, divided)[0], atol=1e-6)


def test_the_last_hidden_layer_is_the_mean_over_positions():
    network, variables = random("cnn")
    h, logits, _ = network.features(variables, images_of(jax.random.key(6), 5))
    output = variables["params"]["output"]
    np.testing.assert_allclose((h @ output["kernel"] + output["bias"][None])[:, 0], logits, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cnn(channels=()), "channels must be"),
        (lambda: Cnn(halving="max"), "halving"),
        (lambda: ResNet(site="output"), "site"),
        (lambda: ResNet(channels=(4, 4), inner=(3,)), "inner must be 2"),
        (lambda: ResNet(blocks=0), "blocks must be at least 1"),
        (lambda: Cnn(outputs=2), "outputs must be 1"),
    ],
)
def test_fields_are_validated_when_a_module_is_made(make, message):
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match=message):
        make()


def test_a_split_of_images_is_not_standardised():
    split = splits_of((0,))
    assert isinstance(split, Split) and split.mean is None
    row = jax.tree.map(lambda leaf: leaf, split)._replace(train=split.train[0]).batch(split.train[0][:2])
    np.testing.assert_array_equal(row.x, split.x[split.train[0][:2]])
