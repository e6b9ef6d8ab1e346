"""Saving and loading the variables of networks that are no `Mlp`."""

import json
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax import Mlp, Network, checkpoint, from_linen
from fairjax.nn import Linear, Units


def init(key, x):
    raise NotImplementedError


def apply(variables, x, *, shifts=None, key=None):
    raise NotImplementedError


NETWORK = Network(init, apply)
VARIABLES = {
    "params": {"fc/0": {"w.x": jnp.linspace(0, 1, 6).reshape(3, 2), "half": jnp.ones(2, jnp.bfloat16)}},
    "masks": {"00 fcs.0": jnp.array([True, False]), "01 out": jnp.ones((0,), bool)},
    "buffers": {"count": jnp.array(2**24 + 1, jnp.int32), "empty": jnp.ones((0, 3)), "nothing": {}},
    "none": {},
}


class Layer(NamedTuple):
    """A container that is no dictionary."""

    w: jax.Array
    b: jax.Array


class Own(nn.Module):
    """A module of a user."""

    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(1)(nn.relu(Units(3, name="units")(nn.Dense(3)(x))))[:, 0]


def test_a_network_comes_back_with_structure_dtypes_and_units(tmp_path):
    checkpoint.save(tmp_path / "n", NETWORK, VARIABLES, about={"data": "mine"})
    saved = checkpoint.load(tmp_path / "n")
    assert saved.module is None and saved.about == {"data": "mine"}
    assert saved.units == {"00 fcs.0": 2, "01 out": 0}
    chex.assert_trees_all_equal_structs(saved.variables, VARIABLES)
    chex.assert_trees_all_equal_dtypes(saved.variables, VARIABLES)
    chex.assert_trees_all_equal(saved.variables, VARIABLES)
    chex.assert_trees_all_equal(checkpoint.load(tmp_path / "n", like=VARIABLES).variables, VARIABLES)
    content = json.loads((tmp_path / "n" / "network.json").read_text())
    assert content["format"] == 2 and ["['buffers']['count']", [], "int32"] in content["leaves"]


def test_seeds_and_other_containers_come_back_with_like(tmp_path):
    variables = {**VARIABLES, "params": [Layer(jnp.ones((2, 3)), jnp.zeros(3)), (jnp.ones(1),)]}
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), variables)
    checkpoint.save(tmp_path / "n", NETWORK, many)
    with pytest.raises(checkpoint.CheckpointError, match=r"pass load\(path, like=variables\)"):
        checkpoint.load(tmp_path / "n")
    shapes = jax.eval_shape(lambda: many)
    saved = checkpoint.load(tmp_path / "n", like=shapes)
    chex.assert_trees_all_equal_structs(saved.variables, many)
    chex.assert_trees_all_equal(saved.variables, many)
    assert saved.units["00 fcs.0"] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tree: tree["params"]["fc/0"].update(half=jnp.ones(2)),
            r"\['half'\] is bfloat16 \[2\] there, and float32",
        ),
        (
            lambda tree: tree["buffers"].update(count=jnp.ones(3, int)),
            r"\['count'\] is int32 \[\] there, and int32 \[3\]",
        ),
        (lambda tree: tree["buffers"].pop("count"), r"\['buffers'\]\['count'\] is there, and not in like"),
        (lambda tree: tree["masks"].update(more=jnp.ones(2, bool)), r"\['more'\] is in like, and not there"),
    ],
)
def test_the_first_leaf_that_differs_is_named(tmp_path, change, message):
    checkpoint.save(tmp_path / "n", NETWORK, VARIABLES)
    like = jax.tree.map(lambda leaf: leaf, VARIABLES)
    change(like)
    with pytest.raises(checkpoint.CheckpointError, match="is another one: .*" + message):
        checkpoint.load(tmp_path / "n", like=like)


def test_modules_of_users_are_saved_without_their_code(tmp_path):
    network = from_linen(Own())
    variables = network.init(jax.random.key(0), jnp.ones((1, 2)))
    for number, saved_as in enumerate((network, Own())):
        checkpoint.save(tmp_path / str(number), saved_as, variables)
        saved = checkpoint.load(tmp_path / str(number))
        assert saved.module is None and saved.units == {"units.keep": 3}
        np.testing.assert_array_equal(network.apply(saved.variables, jnp.ones((4, 2)))[0].shape, (4,))
        chex.assert_trees_all_equal(saved.variables, variables)


def test_modules_of_the_package_come_back(tmp_path):
    module = Linear(features=3)
    checkpoint.save(tmp_path / "n", module, VARIABLES)
    assert checkpoint.load(tmp_path / "n").module == module


def test_an_mlp_is_saved_as_before_and_checked_against_like(tmp_path):
    network = from_linen(Mlp(widths=(4,)))
    variables = network.init(jax.random.key(0), jnp.ones((1, 2)))
    checkpoint.save(tmp_path / "n", network, variables)
    content = json.loads((tmp_path / "n" / "network.json").read_text())
    assert (content["format"], content["module"]["widths"]) == (1, [4])
    saved = checkpoint.load(tmp_path / "n", like=variables)
    assert saved.module == Mlp(widths=(4,)) and saved.units == {"hidden_00.units.keep": 4}
    other = from_linen(Mlp(widths=(5,))).init(jax.random.key(0), jnp.ones((1, 2)))
    with pytest.raises(
        checkpoint.CheckpointError, match=r"is another one: \['batch_stats'\]\['hidden_00'\]\['norm'\]\['mean'\] is"
    ):
        checkpoint.load(tmp_path / "n", like=other)


@pytest.mark.parametrize(
    ("network", "variables", "message"),
    [
        (3, VARIABLES, "network must be a Linen module, a fairjax.Network or the result of bring, found int"),
        (NETWORK, {"params": {}}, "variables must have params and masks, and lack masks"),
        (NETWORK, {**VARIABLES, "rng": jax.random.key(0)}, r"\['rng'\] is a random key"),
        (NETWORK, {**VARIABLES, "text": np.array(["a"])}, r"\['text'\] must be an array of numbers"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_anything_is_written(tmp_path, network, variables, message):
    with pytest.raises(checkpoint.CheckpointError, match=message):
        checkpoint.save(tmp_path / "n", network, variables)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("leaves"),
        lambda content: content.update(leaves=3),
        lambda content: content["leaves"].pop(),
        lambda content: content["leaves"][0].__setitem__(1, [5]),
        lambda content: content["leaves"][0].__setitem__(2, "nothing"),
        lambda content: content["structure"]["params"].update(more=99),
        lambda content: content.update(module={"class": "masks", "fields": {}}),
        lambda content: content.update(module={"class": "Mlp", "fields": {"size": 3}}),
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path, change):
    checkpoint.save(tmp_path / "n", NETWORK, VARIABLES)
    about = tmp_path / "n" / "network.json"
    content = json.loads(about.read_text())
    change(content)
    about.write_text(json.dumps(content))
    with pytest.raises(checkpoint.CheckpointError, match="is damaged"):
        checkpoint.load(tmp_path / "n")
