"""Saving and loading networks."""

import json
import shutil

import chex
import jax
import jax.numpy as jnp
import pytest

from fairjax import checkpoint
from fairjax.nn import Mlp, from_linen


@pytest.fixture(scope="module")
def network():
    module = Mlp(widths=(4, 3), site="activation", cut="outgoing", dropout=0.1)
    keys = jax.random.split(jax.random.key(0), 3)
    variables = jax.vmap(lambda key: from_linen(module).init(key, jnp.ones((1, 5))))(keys)
    return module, variables


def test_round_trip_is_exact_with_a_seeds_axis(network, tmp_path):
    module, variables = network
    checkpoint.save(tmp_path / "n", module, variables, about={"seeds": [1, 2, 3]})
    saved = checkpoint.load(tmp_path / "n")
    assert saved.module == module
    assert saved.about == {"seeds": [1, 2, 3]}
    chex.assert_trees_all_equal(saved.variables, variables)
    assert saved.variables["masks"]["hidden_00"]["units"]["keep"].dtype == bool


def test_an_existing_path_is_refused_and_then_overwritten(network, tmp_path):
    module, variables = network
    checkpoint.save(tmp_path / "n", module, variables)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        checkpoint.save(tmp_path / "n", module, variables)
    other = jax.tree.map(jnp.zeros_like, variables)
    checkpoint.save(tmp_path / "n", module, other, overwrite=True)
    chex.assert_trees_all_equal(checkpoint.load(tmp_path / "n").variables, other)
    assert [entry.name for entry in tmp_path.iterdir()] == ["n"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_save_that_fails_leaves_what_was_there_and_nothing_else(network, tmp_path, monkeypatch, overwrite):
    module, variables = network
    if overwrite:
        checkpoint.save(tmp_path / "n", module, variables)

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.ocp.Checkpointer, "save", full)
    with pytest.raises(checkpoint.CheckpointError, match="No space left"):
        checkpoint.save(tmp_path / "n", module, jax.tree.map(jnp.zeros_like, variables), overwrite=overwrite)
    assert [entry.name for entry in tmp_path.iterdir()] == (["n"] if overwrite else [])
    if overwrite:
        chex.assert_trees_all_equal(checkpoint.load(tmp_path / "n").variables, variables)


def test_what_is_no_network_is_refused(network, tmp_path):
    module, variables = network
    with pytest.raises(FileNotFoundError, match="no saved network"):
        checkpoint.load(tmp_path / "nothing")
    (tmp_path / "folder").mkdir()
    with pytest.raises(checkpoint.CheckpointError, match="is no saved network"):
        checkpoint.load(tmp_path / "folder")
    checkpoint.save(tmp_path / "n", module, variables)
    about = tmp_path / "n" / "network.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "format": 99}))
    with pytest.raises(checkpoint.CheckpointError, match="format 99"):
        checkpoint.load(tmp_path / "n")


def test_a_damaged_checkpoint_is_refused(network, tmp_path):
    module, variables = network
    checkpoint.save(tmp_path / "n", module, variables)
    shutil.rmtree(tmp_path / "n" / "variables")
    with pytest.raises(checkpoint.CheckpointError, match="is damaged"):
        checkpoint.load(tmp_path / "n")


def test_a_tilde_in_a_path_is_the_home_folder(network, tmp_path, monkeypatch):
    module, variables = network
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    checkpoint.save("~/models/mine", module, variables)
    assert (tmp_path / "home" / "models" / "mine").is_dir()
    assert not list((tmp_path / "work").iterdir())
    chex.assert_trees_all_equal(checkpoint.load("~/models/mine").variables, variables)


def test_a_symbolic_link_is_not_overwritten(network, tmp_path):
    module, variables = network
    checkpoint.save(tmp_path / "real", module, variables)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    for name in ("link", "dangling"):
        with pytest.raises(checkpoint.CheckpointError, match="is a symbolic link"):
            checkpoint.save(tmp_path / name, module, variables, overwrite=True)
    assert (tmp_path / "link").is_symlink() and not (tmp_path / "nothing").exists()
    chex.assert_trees_all_equal(checkpoint.load(tmp_path / "link").variables, variables)


def test_only_a_saved_network_is_overwritten(network, tmp_path):
    module, variables = network
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("mine")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(checkpoint.CheckpointError, match="is a folder without network.json"):
        checkpoint.save(tmp_path / "folder", module, variables, overwrite=True)
    with pytest.raises(checkpoint.CheckpointError, match="is a file"):
        checkpoint.save(tmp_path / "file", module, variables, overwrite=True)
    assert (tmp_path / "folder" / "thesis.tex").read_text() == (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("about"),
        lambda content: content.pop("module"),
        lambda content: content.pop("shapes"),
        lambda content: content.update(shapes=3),
        lambda content: content.update(module=[]),
        lambda content: content["shapes"].pop("params"),
        lambda content: content["shapes"].update(params=[[10**15], "float32"]),
        lambda content: _first(content["shapes"]).__setitem__(0, [10**12, 10**6]),
        lambda content: _first(content["shapes"]).__setitem__(0, [10**400]),
        lambda content: _first(content["shapes"]).__setitem__(0, [-1]),
        lambda content: _first(content["shapes"]).__setitem__(0, [2, 2]),
        lambda content: _first(content["shapes"]).__setitem__(1, "nothing"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(network, tmp_path, change):
    module, variables = network
    checkpoint.save(tmp_path / "n", module, variables)
    about = tmp_path / "n" / "network.json"
    content = json.loads(about.read_text())
    change(content)
    about.write_text(json.dumps(content))
    with pytest.raises(checkpoint.CheckpointError, match="is damaged"):
        checkpoint.load(tmp_path / "n")


def _first(shapes):
    """Return the first description of an array in a tree of them."""
    while isinstance(shapes, dict):
        shapes = next(iter(shapes.values()))
    return shapes


def test_deeply_nested_json_is_refused(network, tmp_path):
    module, variables = network
    checkpoint.save(tmp_path / "n", module, variables)
    (tmp_path / "n" / "network.json").write_text("[" * 100_000)
    with pytest.raises(checkpoint.CheckpointError, match="cannot be read"):
        checkpoint.load(tmp_path / "n")
