import json
import shutil

import chex
import jax
import jax.numpy as jnp
import pytest

from fairjax import storage
from fairjax.nn import Mlp, from_linen


@pytest.fixture(scope="module")
def network():
    module = Mlp(widths=(4, 3), site="activation", cut="outgoing", dropout=0.1)
    keys = jax.random.split(jax.random.key(0), 3)
    variables = jax.vmap(lambda key: from_linen(module).init(key, jnp.ones((1, 5))))(keys)
    return module, variables


def test_round_trip_is_exact_with_a_seeds_axis(network, tmp_path):
    module, variables = network
    storage.save(tmp_path / "n", module, variables, about={"seeds": [1, 2, 3]})
    saved = storage.load(tmp_path / "n")
    assert saved.module == module
    assert saved.about == {"seeds": [1, 2, 3]}
    chex.assert_trees_all_equal(saved.variables, variables)
    assert saved.variables["masks"]["hidden_00"]["units"]["keep"].dtype == bool


def test_an_existing_path_is_refused_and_then_overwritten(network, tmp_path):
    module, variables = network
    storage.save(tmp_path / "n", module, variables)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        storage.save(tmp_path / "n", module, variables)
    other = jax.tree.map(jnp.zeros_like, variables)
    storage.save(tmp_path / "n", module, other, overwrite=True)
    chex.assert_trees_all_equal(storage.load(tmp_path / "n").variables, other)
    assert [entry.name for entry in tmp_path.iterdir()] == ["n"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_save_that_fails_leaves_what_was_there_and_nothing_else(network, tmp_path, monkeypatch, overwrite):
    module, variables = network
    if overwrite:
        storage.save(tmp_path / "n", module, variables)

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.ocp.Checkpointer, "save", full)
    with pytest.raises(storage.StorageError, match="No space left"):
        storage.save(tmp_path / "n", module, jax.tree.map(jnp.zeros_like, variables), overwrite=overwrite)
    assert [entry.name for entry in tmp_path.iterdir()] == (["n"] if overwrite else [])
    if overwrite:
        chex.assert_trees_all_equal(storage.load(tmp_path / "n").variables, variables)


def test_what_is_no_network_is_refused(network, tmp_path):
    module, variables = network
    with pytest.raises(FileNotFoundError, match="no saved network"):
        storage.load(tmp_path / "nothing")
    (tmp_path / "folder").mkdir()
    with pytest.raises(storage.StorageError, match="is no saved network"):
        storage.load(tmp_path / "folder")
    storage.save(tmp_path / "n", module, variables)
    about = tmp_path / "n" / "network.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "format": 99}))
    with pytest.raises(storage.StorageError, match="format 99"):
        storage.load(tmp_path / "n")


def test_a_damaged_checkpoint_is_refused(network, tmp_path):
    module, variables = network
    storage.save(tmp_path / "n", module, variables)
    shutil.rmtree(tmp_path / "n" / "variables")
    with pytest.raises(storage.StorageError, match="is damaged"):
        storage.load(tmp_path / "n")
