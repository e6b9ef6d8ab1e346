"""Class activation maps: captum on a network brought from PyTorch, loops over positions, and a network by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax.detect.quality import cam, grad_cam, resized_maps
from fairjax.nn import Cnn, Mlp, Network, from_linen


@pytest.fixture(scope="module")
def x():
    return jax.random.normal(jax.random.key(0), (5, 8, 8, 3))


@functools.cache
def cnn(site="activation", outputs=1):
    """Return a network and variables with statistics that matter, and activations of either sign."""
    network = from_linen(Cnn(channels=(4, 6), site=site, outputs=outputs))
    variables = jax.jit(network.init)(jax.random.key(1), jnp.ones((1, 8, 8, 3)))
    noise = jax.random.uniform(jax.random.key(2), (6,), minval=-0.3, maxval=0.3)
    stats = jax.tree.map(lambda leaf: leaf + jnp.resize(noise, leaf.shape), variables["batch_stats"])
    params = jax.tree.map(lambda leaf: 2.0 * leaf, variables["params"])
    return network, {**variables, "batch_stats": stats, "params": params}


compiled_grad_cam = jax.jit(grad_cam, static_argnames=("network", "layer", "target", "relu", "chunk"))
compiled_cam = jax.jit(cam, static_argnames=("network", "layer", "target", "chunk"))


@pytest.mark.slow
def test_grad_cam_and_cam_are_captums_on_a_network_from_pytorch():
    torch = pytest.importorskip("torch", reason="the oracle is captum, which needs PyTorch")
    attr = pytest.importorskip("captum.attr", reason="the oracle is captum")
    from fairjax.adapters.torch import bring

    torch.manual_seed(0)
    module = torch.nn.Sequential(
        *(torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2)),
        *(torch.nn.Conv2d(4, 5, 3, padding=1), torch.nn.ReLU()),
        *(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(5, 3)),
    ).eval()
    images = torch.randn(6, 2, 8, 8)
    brought = bring(module, images, units=("0", "3", "4"))
    x = images.numpy()
    for layer, number in (("00 0", 0), ("01 3", 3), ("02 4", 4)):
        found = grad_cam(brought.network, brought.variables, x, layer, 2, relu=False)
        expected = attr.LayerGradCam(module, module[number]).attribute(images, target=2).detach().numpy()[:, 0]
        np.testing.assert_allclose(found, expected, atol=1e-7)
        assert np.abs(expected).max() > 1e-3
    shown = grad_cam(brought.network, brought.variables, x, "02 4", 2)
    np.testing.assert_array_equal(shown, np.maximum(found, 0))
    maps = cam(brought.network, brought.variables, x, "02 4", 2)
    weights = module[7].weight.detach().numpy()[2]
    activations = module[:5](images).detach().numpy()
    np.testing.assert_allclose(maps, np.einsum("k,nkhw->nhw", weights, activations), atol=1e-6)
    np.testing.assert_allclose(maps / 16, found, atol=1e-7)


def test_weights_are_the_mean_derivative_over_positions(x):
    network, variables = cnn("preactivation")
    found = compiled_grad_cam(network, variables, x, "block_01", relu=False)
    activations = network.activations(variables, x)["block_01"]["units"]["keep"]
    shifts = jax.tree.map(lambda keep: jnp.zeros(keep.shape), variables["masks"])
    step, apply = 1e-2, jax.jit(network.apply)
    for row in range(2):
        expected = np.zeros(activations.shape[1:3])
        for k in range(6):
            values = []
            for sign in (1, -1):
                moved = {**shifts, "block_01": {"units": {"keep": jnp.zeros(6).at[k].set(sign * step)}}}
                values.append(float(apply(variables, x[row][None], shifts=moved)[0][0]))
            slope = (values[0] - values[1]) / (2 * step)
            expected += slope / 4 * np.asarray(activations[row, :, :, k])
        np.testing.assert_allclose(found[row], expected, atol=2e-3 * np.abs(expected).max() + 1e-4)
        assert np.abs(expected).max() > 0.02


@pytest.mark.parametrize("target", [None, 0])
def test_cam_adds_up_to_the_logit_and_is_grad_cam_times_positions(x, target):
    network, variables = cnn()
    maps = cam(network, variables, x, "block_01", target)
    sign = -1 if target == 0 else 1
    logits = np.mean(maps, axis=(1, 2)) + sign * variables["params"]["output"]["bias"]
    np.testing.assert_allclose(logits, sign * network.apply(variables, x)[0], atol=1e-5)
    maps_of_gradients = compiled_grad_cam(network, variables, x, "block_01", target, relu=False)
    np.testing.assert_allclose(maps / 4, maps_of_gradients, atol=1e-6)
    assert (jnp.max(jnp.abs(maps), axis=(1, 2)) > 0.02).all()


@pytest.mark.slow
def test_classes_have_maps_of_their_own(x):
    network, variables = cnn(outputs=3)
    kernel = variables["params"]["output"]["kernel"]
    activations = network.activations(variables, x)["block_01"]["units"]["keep"]
    maps = compiled_cam(network, variables, x, "block_01", 2)
    np.testing.assert_allclose(maps, activations @ kernel[:, 2], atol=1e-5)
    with pytest.raises(ValueError, match="target must name one of the 3 classes"):
        grad_cam(network, variables, x, "block_01")


def test_chunks_jit_and_seeds_give_one_result(x):
    network, variables = cnn()
    expected = grad_cam(network, variables, x, "block_01")
    np.testing.assert_allclose(compiled_grad_cam(network, variables, x, "block_01", chunk=2), expected, atol=1e-6)
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), variables)
    of_seeds = jax.vmap(lambda variables: grad_cam(network, variables, x, "block_01"))(both)
    np.testing.assert_allclose(of_seeds, jnp.stack([expected, expected]), atol=1e-6)
    assert compiled_cam(network, variables, x, "block_01", chunk=2).shape == (5, 2, 2)


def test_channels_that_are_cut_do_not_show(x):
    network, variables = cnn()
    masks = {**variables["masks"], "block_01": {"units": {"keep": jnp.arange(6) == 1}}}
    found = compiled_grad_cam(network, {**variables, "masks": masks}, x, "block_01", relu=False)
    activations = network.activations(variables, x)["block_01"]["units"]["keep"][..., 1]
    weight = variables["params"]["output"]["kernel"][1, 0]
    np.testing.assert_allclose(found, weight * activations / 4, atol=1e-6)


def test_evidence_of_a_network_by_hand_is_where_it_was_put():
    def activations(variables, x):
        return {"only": jnp.where(variables["masks"]["only"], x, 0.0)}

    def apply(variables, x, *, shifts=None, key=None):
        h = activations(variables, x)["only"]
        h = h if shifts is None else h + shifts["only"][None, None, None]
        return jnp.sum(jnp.mean(h, axis=(1, 2)) * variables["params"]["w"][None], axis=1), variables

    network = Network(lambda key, x: {}, apply, None, activations)
    variables = {"params": {"w": jnp.array([2.0, -1.0])}, "masks": {"only": jnp.array([True, True])}}
    x = np.zeros((2, 3, 3, 2), np.float32)
    x[0, 0, 0, 0], x[1, 2, 1, 1] = 1, 1
    maps = cam(network, variables, x, "only")
    expected = np.zeros((2, 3, 3))
    expected[0, 0, 0], expected[1, 2, 1] = 2, -1
    np.testing.assert_allclose(maps, expected)
    shown = grad_cam(network, variables, x, "only")
    np.testing.assert_allclose(shown, np.maximum(expected, 0) / 9, rtol=1e-6)


def test_a_network_with_more_layers_after_the_maps_has_no_cam(x):
    network, variables = cnn("preactivation")
    with pytest.raises(ValueError, match="not linear in the means of the channels of 'block_01'.*use grad_cam"):
        cam(network, variables, x, "block_01")
    assert jnp.isnan(compiled_cam(network, variables, x, "block_01")).all()


def test_layers_without_positions_and_unknown_ones_are_named(x):
    network, variables = cnn()
    with pytest.raises(ValueError, match="layer 'last' is not there.*block_00, block_01"):
        grad_cam(network, variables, x, "last")
    table = from_linen(Mlp(widths=(3,)))
    rows = jnp.ones((4, 2))
    with pytest.raises(ValueError, match="'hidden_00' has no positions in its activations.*none"):
        cam(table, table.init(jax.random.key(0), rows), rows, "hidden_00")
    with pytest.raises(ValueError, match="shows no activations"):
        grad_cam(network._replace(activations=None), variables, x, "block_01")
    with pytest.raises(ValueError, match="chunk must be a positive number"):
        grad_cam(network, variables, x, "block_01", chunk=0)


def test_maps_are_interpolated_to_the_size_of_images():
    maps = np.array([[[0.0, 1.0], [0.0, 1.0]]], np.float32)
    found = resized_maps(maps, (4, 4))
    np.testing.assert_allclose(found[0], np.tile([0, 0.25, 0.75, 1], (4, 1)), atol=1e-6)
    with pytest.raises(ValueError, match="height and width"):
        resized_maps(maps, (0, 4))
