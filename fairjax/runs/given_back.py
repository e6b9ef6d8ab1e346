"""Give the networks of a run back as the user's own kind of model, in files of their library."""

import importlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization

from fairjax.checkpoint import first_line
from fairjax.nn.flat import FlatVariables
from fairjax.runs.files import UNFINISHED
from fairjax.runs.given_network import Given

FOLDER = "given_back"
"""Name of the folder of models within that of a run."""


def _save_torch(path: Path, state: Any) -> None:
    importlib.import_module("torch").save(state, path)


def _save_nnx(path: Path, module: Any) -> None:
    nnx = importlib.import_module("flax.nnx")
    state = nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.RngState)))
    path.write_bytes(serialization.msgpack_serialize(jax.tree.map(np.asarray, _with_text_keys(state))))


def _save_linen(path: Path, variables: Any) -> None:
    path.write_bytes(serialization.to_bytes(variables))


def _save_equinox(path: Path, model: Any) -> None:
    importlib.import_module("equinox").tree_serialise_leaves(path, model)


def _save_keras(path: Path, model: Any) -> None:
    model.save(path)


WRITERS: dict[str, tuple[str, Callable[[Path, Any], None]]] = {
    "PyTorch": (".pt", _save_torch),
    "NNX": (".msgpack", _save_nnx),
    "Linen": (".msgpack", _save_linen),
    "Equinox": (".eqx", _save_equinox),
    "Keras": (".keras", _save_keras),
}
"""Suffix and function that write a model, by the framework that it was brought from."""


def _with_text_keys(tree: Any) -> Any:
    """Convert the keys of nested dictionaries, such as positions in lists, to text."""
    return {str(key): _with_text_keys(branch) for key, branch in tree.items()} if isinstance(tree, dict) else tree


def give_back(given: Given, networks: dict[str, FlatVariables], seeds: list[str], folder: Path) -> list[str]:
    """Write one file per method and seed, `given_back/METHOD/SEED.pt` for PyTorch.

    Args:
        given: the user's network.
        networks: the selected networks by method, with a leading axis of seeds.
        seeds: names of the seeds.
        folder: the folder of the run.

    Returns:
        What could not be given back, in sentences; empty if everything was.
    """
    framework = getattr(given.network.init, "framework", None)
    if given.brought is None or framework not in WRITERS:
        return []
    suffix, write = WRITERS[framework]
    folder.mkdir(parents=True, exist_ok=True)
    temporary, refused = Path(tempfile.mkdtemp(prefix=f"{UNFINISHED}{FOLDER}-", dir=folder)), []
    try:
        for method, flat in networks.items():
            variables = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), flat).variables()  # on one device
            try:
                for i, seed in enumerate(seeds):
                    model = given.brought.give_back(jax.tree.map(lambda leaf, i=i: leaf[i], variables))
                    (temporary / method).mkdir(exist_ok=True)
                    write(temporary / method / f"{seed}{suffix}", model)
            except ValueError as error:
                refused.append(f"the networks of {method} are not given back: {first_line(error)}")
                shutil.rmtree(temporary / method, ignore_errors=True)
        temporary.chmod(0o755)
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        temporary.rename(folder / FOLDER)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return refused
