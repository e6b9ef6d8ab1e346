"""Materialising masks: smaller networks without the cut units."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax.nn import Mlp, from_linen, masks, materialize, shrink


def pruned(module, fraction, x):
    """Return a network with random weights, statistics and masks, so that nothing has its neutral value."""
    network = from_linen(module)
    variables = network.init(jax.random.key(1), x)
    leaves, structure = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    random = [
        jax.random.uniform(key, leaf.shape) >= fraction
        if leaf.dtype == bool
        else jax.random.uniform(key, leaf.shape) - 0.3
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    variables = jax.tree.unflatten(structure, random)
    variables["batch_stats"] = jax.tree.map(lambda leaf: jnp.abs(leaf) + 0.1, variables["batch_stats"])
    return network, variables


CASES = [(cut, fraction) for cut in ("incoming", "outgoing") for fraction in (0.0, 0.5, 1.0)]


@pytest.mark.parametrize(("cut", "fraction"), CASES)
def test_the_materialised_network_is_the_masked_one(cut, fraction):
    x = jax.random.normal(jax.random.key(0), (20, 5))
    module = Mlp(widths=(6, 5, 4), cut=cut)
    network, variables = pruned(module, fraction, x)
    made = jax.jit(materialize, static_argnums=0)(module, variables)
    assert masks.count(made["masks"]) == 15
    np.testing.assert_allclose(network.apply(made, x)[0], network.apply(variables, x)[0], rtol=1e-5, atol=1e-5)
    every = {**variables, "masks": made["masks"]}
    if fraction == 0.5:  # the masks matter in this case, so that the test can fail
        assert not np.allclose(network.apply(every, x)[0], network.apply(variables, x)[0], atol=1e-3)


@pytest.mark.parametrize(("cut", "fraction"), CASES)
def test_the_smaller_network_is_the_masked_one(cut, fraction):
    x = jax.random.normal(jax.random.key(0), (20, 5))
    module = Mlp(widths=(6, 5, 4), cut=cut)
    network, variables = pruned(module, fraction, x)
    smaller, made = shrink(module, variables)
    assert smaller.widths == tuple(int(keep.sum()) for keep in jax.tree.leaves(variables["masks"]))
    logits, _ = from_linen(smaller).apply(made, x)
    np.testing.assert_allclose(logits, network.apply(variables, x)[0], rtol=1e-5, atol=1e-5)


def test_one_empty_layer_is_enough_to_make_the_output_constant():
    x = jax.random.normal(jax.random.key(0), (20, 5))
    module = Mlp(widths=(4, 3, 4))
    network, variables = pruned(module, 0.0, x)
    variables["masks"]["hidden_01"]["units"]["keep"] = jnp.zeros(3, bool)
    smaller, made = shrink(module, variables)
    logits, _ = from_linen(smaller).apply(made, x)
    assert smaller.widths == (4, 0, 4)
    np.testing.assert_allclose(logits, network.apply(variables, x)[0], atol=1e-5)
    np.testing.assert_allclose(logits, logits[0], atol=1e-6)


def test_materialising_many_seeds_at_once_is_materialising_each():
    x = jax.random.normal(jax.random.key(0), (4, 5))
    module = Mlp(widths=(4, 3))
    _, one = pruned(module, 0.5, x)
    other = jax.tree.map(lambda leaf: leaf[::-1], one)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), one, other)
    together = jax.vmap(lambda variables: materialize(module, variables))(stacked)
    chex.assert_trees_all_equal(jax.tree.map(lambda leaf: leaf[1], together), materialize(module, other))


def test_seeds_are_shrunk_one_at_a_time():
    module = Mlp(widths=(4, 3))
    _, one = pruned(module, 0.5, jnp.ones((2, 5)))
    with pytest.raises(ValueError, match="shrink one network at a time"):
        shrink(module, jax.tree.map(lambda leaf: leaf[None], one))
