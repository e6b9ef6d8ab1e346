"""Units that are called with activations, and the activations that Linen networks show."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax.metrics import spd
from fairjax.nn import Mlp, Units, from_linen, influence
from fairjax.types import Batch

X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
IMAGES = np.random.default_rng(1).normal(size=(6, 4, 4, 2)).astype(np.float32)
BATCH = Batch(jnp.asarray(IMAGES), jnp.arange(6) % 2 == 0, jnp.arange(6) < 3)


class ByHand(nn.Module):
    """A network that shifts and cuts its units by hand, without showing them."""

    @nn.compact
    def __call__(self, x, *, train=False):
        shift, keep = Units(5, name="units")()
        h = nn.relu(jnp.where(keep[None], nn.Dense(5, name="dense")(x) + shift[None], 0.0))
        return nn.Dense(1, name="output")(h)[:, 0]


class Short(nn.Module):
    """The same network with the short form."""

    @nn.compact
    def __call__(self, x, *, train=False):
        h = nn.relu(Units(5, name="units")(nn.Dense(5, name="dense")(x)))
        return nn.Dense(1, name="output")(h)[:, 0]


class Convolutional(nn.Module):
    """A network of images, whose units are channels."""

    @nn.compact
    def __call__(self, x, *, train=False):
        h = nn.Conv(3, (3, 3), name="conv")(x)
        h = nn.tanh(Units(3, name="units")(h))
        return nn.Dense(1, name="output")(h.mean(axis=(1, 2)))[:, 0]


class Twice(nn.Module):
    """A network that calls one layer twice."""

    @nn.compact
    def __call__(self, x, *, train=False):
        dense, units = nn.Dense(4, name="dense"), Units(4, name="units")
        return units(dense(nn.tanh(units(dense(x)))))[:, 0]


def cut(variables, keep):
    return {**variables, "masks": {"units": {"keep": jnp.asarray(keep)}}}


def test_both_forms_compute_the_same_bits():
    long, short = from_linen(ByHand()), from_linen(Short())
    variables = long.init(jax.random.key(0), X)
    assert jax.tree.structure(variables) == jax.tree.structure(short.init(jax.random.key(0), X))
    variables = cut(variables, [True, False, True, True, False])
    shifts = {"units": {"keep": jnp.linspace(-1.0, 1.0, 5)}}
    for options in ({}, {"shifts": shifts}):
        logits = [network.apply(variables, X, **options)[0] for network in (long, short)]
        np.testing.assert_array_equal(*logits)


def test_activations_are_the_values_at_the_units_and_0_where_cut():
    network = from_linen(Short())
    variables = cut(network.init(jax.random.key(0), X), [True, False, True, True, False])
    dense = variables["params"]["dense"]
    expected = (X @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])[None]) * np.array([1, 0, 1, 1, 0])[None]
    shown = network.activations(variables, X)["units"]["keep"]
    np.testing.assert_allclose(shown, expected, atol=1e-6)
    assert not np.asarray(shown)[:, [1, 4]].any()


@pytest.mark.parametrize("site", ["preactivation", "activation", "normalised"])
@pytest.mark.parametrize("incoming", [True, False])
def test_an_mlp_shows_its_units_at_their_site(site, incoming):
    """The derivative of the logits with respect to a shift is that with respect to the activations shown there."""
    network = from_linen(Mlp(widths=(3,), site=site, cut="incoming" if incoming else "outgoing"))
    variables = network.init(jax.random.key(0), X)
    keep = {"hidden_00": {"units": {"keep": jnp.array([True, False, True])}}}
    shown = network.activations({**variables, "masks": keep}, X)
    assert jax.tree.structure(shown) == jax.tree.structure(keep)
    h = np.asarray(shown["hidden_00"]["units"]["keep"])
    assert h.shape == (6, 3) and not h[:, 1].any()
    linear = variables["params"]["hidden_00"]["linear"]
    expected = X @ np.asarray(linear["kernel"]) + np.asarray(linear["bias"])[None]
    if site != "preactivation":
        expected = np.maximum(expected, 0.0)
    if site == "normalised":
        expected = expected / np.sqrt(np.float32(1 + 1e-5))
    np.testing.assert_allclose(h[:, [0, 2]], expected[:, [0, 2]], atol=1e-6)


def test_units_are_on_the_last_axis_of_images():
    network = from_linen(Convolutional())
    variables = cut(network.init(jax.random.key(0), IMAGES), [True, False, True])
    shown = network.activations(variables, IMAGES)["units"]["keep"]
    assert shown.shape == (6, 4, 4, 3)
    assert not np.asarray(shown)[..., 1].any() and np.asarray(shown)[..., 0].all()
    found = influence(spd, network.apply, variables, BATCH, reduction="sum")["units"]["keep"]

    def value(shift):
        logits = network.apply(variables, BATCH.x, shifts={"units": {"keep": shift}})[0]
        return float(spd(jax.nn.sigmoid(logits), BATCH.y, BATCH.a))

    steps = 0.05 * jnp.eye(3)
    central = [(value(step) - value(-step)) / 0.1 for step in steps]
    assert abs(central[0]) > 1e-4 and central[1] == 0
    np.testing.assert_allclose(found, central, rtol=2e-3, atol=1e-7)


def test_activations_of_a_layer_that_is_called_twice_have_an_axis_of_calls():
    network = from_linen(Twice())
    variables = network.init(jax.random.key(0), X)
    shown = np.asarray(network.activations(variables, X)["units"]["keep"])
    assert shown.shape == (6, 2, 4)
    np.testing.assert_array_equal(shown[:, 1, 0], network.apply(variables, X)[0])
    assert not np.array_equal(shown[:, 0], shown[:, 1])


def test_units_that_do_not_show_their_activations_are_named():
    network = from_linen(ByHand())
    with pytest.raises(ValueError, match=r"ByHand does not show the activations of units: call Units\(width\)\(h\)"):
        network.activations(network.init(jax.random.key(0), X), X)


def test_activations_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"Units\(3\) must be called with activations of shape \(n, ..., 3\)"):
        Units(3).init(jax.random.key(0), jnp.ones((2, 4)))


def test_activations_add_nothing_to_the_variables():
    assert sorted(from_linen(Short()).init(jax.random.key(0), X)) == ["masks", "params"]
    assert sorted(Short().init(jax.random.key(0), X)) == ["masks", "params", "perturbations"]
