"""Layers, compared with PyTorch's documented formulas in NumPy; the network's order, sites and cuts."""

import re

import chex
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.test_util import check_grads

from fairjax.nn import BatchNorm, FlatVariables, Linear, Mlp, dropout_masks, from_linen
from fairjax.nn.dropout import drop_probability
from fairjax.nn.layers import normalise


def numpy_norm(h, scale, bias, mean, var):
    return (h - mean) / np.sqrt(var + 1e-5) * scale + bias


def test_batch_normalisation_has_pytorch_s_conventions():
    layer, rng = BatchNorm(), np.random.default_rng(0)
    variables = layer.init(jax.random.key(0), jnp.ones((2, 3)), train=False)
    mean, var = np.zeros(3), np.ones(3)
    for n in (8, 5, 16):
        h = rng.normal(2.0, 3.0, (n, 3)).astype(np.float32)
        out, updated = layer.apply(variables, jnp.asarray(h), train=True, mutable=["batch_stats"])
        np.testing.assert_allclose(out, numpy_norm(h, 1, 0, h.mean(0), h.var(0)), atol=1e-4)
        mean, var = 0.9 * mean + 0.1 * h.mean(0), 0.9 * var + 0.1 * h.var(0, ddof=1)
        variables = {**variables, **updated}
        np.testing.assert_allclose(variables["batch_stats"]["mean"], mean, rtol=1e-5)
        np.testing.assert_allclose(variables["batch_stats"]["var"], var, rtol=1e-5)
    h = rng.normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_allclose(
        layer.apply(variables, jnp.asarray(h), train=False), numpy_norm(h, 1, 0, mean, var), atol=1e-5
    )


def test_the_written_derivative_of_batch_normalisation_is_the_right_one():
    h = jax.random.normal(jax.random.key(0), (6, 3)) * 2 + 1
    scale, bias = jnp.array([1.0, 0.5, -2.0]), jnp.array([0.1, 0.0, 0.3])

    def plain(h, scale, bias):
        mean, var = h.mean(0), h.var(0)
        return (h - mean[None]) * jax.lax.rsqrt(var + 1e-5)[None] * scale[None] + bias[None]

    def weighed(function):
        return lambda *args: jnp.sum(function(*args) * jnp.sin(jnp.arange(18.0)).reshape(6, 3))

    ours = jax.jit(jax.grad(weighed(lambda *args: normalise(*args, 1e-5)[0]), argnums=(0, 1, 2)))(h, scale, bias)
    theirs = jax.jit(jax.grad(weighed(plain), argnums=(0, 1, 2)))(h, scale, bias)
    chex.assert_trees_all_close(ours, theirs, rtol=1e-4, atol=1e-5)
    check_grads(lambda h: normalise(h, scale, bias, 1e-5)[0], (h,), order=1, modes=["rev"], atol=2e-2, rtol=2e-2)


def test_no_gradient_flows_through_the_running_statistics():
    h = jax.random.normal(jax.random.key(0), (6, 3))
    slope = jax.grad(lambda h: jnp.sum(normalise(h, jnp.ones(3), jnp.zeros(3), 1e-5)[1]))(h)
    np.testing.assert_array_equal(slope, 0.0)


def test_a_linear_map_starts_uniform_within_one_over_root_fan_in():
    params = Linear(400).init(jax.random.key(0), jnp.ones((1, 25)))["params"]
    for leaf in (params["kernel"], params["bias"]):
        assert jnp.abs(leaf).max() <= 0.2
        assert jnp.abs(leaf).max() > 0.19
        assert leaf.std() == pytest.approx(0.2 / np.sqrt(3), rel=0.1)


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_dropout_drops_at_its_rate_and_keeps_expectations(rate):
    first, second = dropout_masks(jax.random.key(0), [(4000, 7), (4000, 9)], rate)
    assert first.shape == (4000, 7) and second.shape == (4000, 9)
    for mask in (first, second):
        assert 1 - mask.mean() == pytest.approx(drop_probability(rate), abs=0.01)
        assert drop_probability(rate) == pytest.approx(rate, abs=1 / 512)
    assert not jnp.array_equal(first, second[:, :7])


def by_hand(variables, x, site, cut):
    """Compute linear map, ReLU, (dropout) and batch normalisation with cut units in evaluation mode."""
    tree = jax.tree.map(np.asarray, variables)
    h = x
    for name in sorted(tree["masks"]):
        params, stats = tree["params"][name], tree["batch_stats"][name]["norm"]
        keep = tree["masks"][name]["units"]["keep"]
        h = h @ params["linear"]["kernel"] + params["linear"]["bias"]
        h = np.where(keep, h, 0) if cut == "incoming" else h
        h = numpy_norm(np.maximum(h, 0), **params["norm"], **stats)
        h = np.where(keep, h, 0) if cut == "outgoing" else h
    return (h @ tree["params"]["output"]["kernel"] + tree["params"]["output"]["bias"])[:, 0]


@pytest.mark.parametrize("site", ["preactivation", "activation", "normalised"])
@pytest.mark.parametrize("cut", ["incoming", "outgoing"])
def test_the_network_is_what_its_description_says(site, cut):
    network = from_linen(Mlp(widths=(6, 5), site=site, cut=cut))
    x = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    variables = jax.jit(network.init)(jax.random.key(0), jnp.asarray(x))
    stats = variables["batch_stats"]
    variables["batch_stats"] = jax.tree.map(lambda leaf: leaf + 0.3, stats)
    np.testing.assert_allclose(network.apply(variables, x)[0], by_hand(variables, x, site, cut), atol=1e-5)
    variables["masks"]["hidden_00"]["units"]["keep"] = jnp.arange(6) % 2 == 0
    np.testing.assert_allclose(network.apply(variables, x)[0], by_hand(variables, x, site, cut), atol=1e-5)


def test_training_mode_is_linear_relu_dropout_then_normalisation(key):
    """The running statistics after one batch determine the input of batch normalisation."""
    module, rate = Mlp(widths=(32, 16), dropout=0.3), drop_probability(0.3)
    x = jax.random.normal(key, (200, 4))
    variables = jax.jit(from_linen(module).init)(jax.random.key(1), x)
    _, seen = module.apply(
        variables,
        x,
        train=True,
        rngs={"dropout": jax.random.key(2)},
        mutable=["batch_stats", "intermediates"],
        capture_intermediates=lambda layer, _: isinstance(layer, Linear | BatchNorm),
    )
    for name in ("hidden_00", "hidden_01"):
        outputs, stats = seen["intermediates"][name], seen["batch_stats"][name]["norm"]
        linear, normed = (np.asarray(outputs[layer]["__call__"][0], np.float64) for layer in ("linear", "norm"))
        mean, var = np.float64(stats["mean"]) / 0.1, (np.float64(stats["var"]) - 0.9) / 0.1 * 199 / 200
        given = normed * np.sqrt(var + 1e-5) + mean
        kept = np.abs(given) > 1e-3  # units that are 0 may count either way, since they stay 0
        expected = np.maximum(linear, 0) / (1 - rate)
        np.testing.assert_allclose(given, np.where(kept, expected, 0), atol=2e-3)
        alive = expected > 2e-3
        assert alive.mean() > 0.3
        assert 1 - kept[alive].mean() == pytest.approx(rate, abs=4 * np.sqrt(rate * (1 - rate) / alive.sum()))


def test_training_mode_drops_updates_and_depends_on_its_key_alone(key):
    network = from_linen(Mlp(widths=(32, 32), dropout=0.3))
    x = jax.random.normal(key, (50, 4))
    variables = jax.jit(network.init)(jax.random.key(1), x)
    one, updated = network.apply(variables, x, key=jax.random.key(2))
    same, _ = network.apply(variables, x, key=jax.random.key(2))
    other, _ = network.apply(variables, x, key=jax.random.key(3))
    np.testing.assert_array_equal(one, same)
    assert not jnp.allclose(one, other)
    chex.assert_trees_all_equal(updated["params"], variables["params"])
    chex.assert_trees_all_equal_structs(updated, variables)
    before, after = (tree["batch_stats"]["hidden_00"]["norm"]["mean"] for tree in (variables, updated))
    assert not jnp.allclose(before, after)
    _, unchanged = network.apply(variables, x)
    chex.assert_trees_all_equal(unchanged, variables)


def test_fresh_variables_hold_no_perturbations_and_all_units():
    variables = jax.jit(from_linen(Mlp()).init)(jax.random.key(0), jnp.ones((1, 7)))
    assert set(variables) == {"params", "batch_stats", "masks"}
    keep = jax.tree.leaves(variables["masks"])
    assert sum(leaf.size for leaf in keep) == 352 and all(leaf.all() for leaf in keep)


def test_equal_modules_are_one_network_and_compile_once():
    def logits(network, variables, x):
        return network.apply(variables, x)[0]

    chex.clear_trace_counter()
    logits = jax.jit(chex.assert_max_traces(logits, n=1), static_argnums=0)
    x = jnp.ones((2, 3))
    one, other = from_linen(Mlp(widths=(4,))), from_linen(Mlp(widths=(4,)))
    variables = one.init(jax.random.key(0), x)
    assert one == other and hash(one) == hash(other)
    np.testing.assert_array_equal(logits(one, variables, x), logits(other, variables, x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": ()}, "widths must be 1 to 100 non-negative numbers of units, got ()"),
        ({"widths": (4, -1)}, "widths must be 1 to 100 non-negative numbers of units, got (4, -1)"),
        ({"widths": (1,) * 101}, "widths must be 1 to 100"),
        ({"site": "output"}, "site must be preactivation, activation or normalised, got 'output'"),
        ({"cut": "both"}, "cut must be incoming or outgoing, got 'both'"),
        ({"dropout": 1.0}, "dropout must be in [0, 1), got 1.0"),
        ({"dropout": -0.1}, "dropout must be in [0, 1), got -0.1"),
    ],
)
def test_networks_that_mean_nothing_are_refused(options, message):
    jaxtyping.config.update("jaxtyping_disable", True)  # otherwise the tests' type checks would fail first
    try:
        with pytest.raises(ValueError, match=re.escape(message)):
            Mlp(**options)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_vectors_hold_a_network_and_give_it_back():
    network = from_linen(Mlp(widths=(4, 3)))
    variables = jax.jit(network.init)(jax.random.key(0), jnp.ones((1, 3)))
    variables["masks"]["hidden_01"]["units"]["keep"] = jnp.array([True, False, True])
    flat = FlatVariables.ravel(variables)
    assert (flat.params.ndim, flat.rest.shape, flat.masks.tolist()) == (1, (14,), [True] * 5 + [False, True])
    chex.assert_trees_all_equal(flat.variables(), variables)
    np.testing.assert_array_equal(flat.params, jax.flatten_util.ravel_pytree(variables["params"])[0])


def test_vectors_of_many_networks_have_a_seeds_axis():
    network = from_linen(Mlp(widths=(4, 3)))
    keys = jax.random.split(jax.random.key(0), 2)
    many = jax.jit(jax.vmap(lambda key: network.init(key, jnp.ones((1, 3)))))(keys)
    flat = jax.vmap(FlatVariables.ravel)(many)
    assert flat.params.shape[0] == 2 and flat.masks.shape == (2, 7)
    chex.assert_trees_all_equal(jax.vmap(FlatVariables.variables)(flat), many)
