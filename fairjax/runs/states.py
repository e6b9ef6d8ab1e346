"""Saved states of the stages of a run: orbax checkpoints with checksums."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from fairjax import checkpoint, seeds
from fairjax.checkpoint import first_line
from fairjax.runs import hosts
from fairjax.runs.files import UNFINISHED, FolderError, refuse_link, remove, write_json


class SavedStates:
    """Saved states of one stage: the newest is used, and the one before it is kept as a backup.

    A state is a numbered folder with an orbax checkpoint and the checksums of its files. It gets its number when it is
    complete, so a killed process leaves at most a folder without a number, which the next save removes.
    """

    KEPT = 2

    def __init__(self, path: Path, configuration: str | None = None):
        """Use the states in a folder.

        Args:
            path: the folder. Neither it nor its parent may be a symbolic link.
            configuration: the digest of the run's configuration. It is saved with every state, and a state with another
                digest, or without one, is rejected. If omitted, states are not bound to a configuration.
        """
        self._path = path.absolute()
        self._configuration = configuration

    def has_checkpoint(self) -> bool:
        """Return whether there is a saved state."""
        return hosts.broadcast(lambda: str(len(self._numbers()))) != "0"

    def restore(self, like: Any, mesh: jax.sharding.Mesh) -> tuple[int, Any] | None:
        """Restore the newest state and its number; None if there is no saved state.

        Args:
            like: a state of the same shapes, or its `jax.eval_shape`; NumPy arrays in it are restored as NumPy arrays.
            mesh: the devices over which JAX arrays are replicated.

        Raises:
            FolderError: if the state cannot be read or was changed; earlier states are kept.
        """
        plain = jax.tree.map(_empty_like, like)
        found: dict[str, Any] = {}

        def read() -> str:
            numbers = self._numbers()
            if numbers:
                found["state"] = self._read(numbers, plain)
            return str(numbers[-1]) if numbers else ""

        number = hosts.broadcast(read)
        if not number:
            return None
        state = hosts.broadcast_arrays(found.get("state", plain))
        return int(number), jax.tree.map(lambda like, leaf: _restored(like, leaf, mesh), like, state)

    def _read(self, numbers: list[int], plain: Any) -> Any:
        newest = self._path / f"{numbers[-1]:08d}"
        try:
            verify(newest, self._configuration)
            with checkpoint.checkpointer() as checkpointer:
                return checkpointer.restore(newest / _STATE, args=ocp.args.StandardRestore(plain))
        except (ValueError, KeyError, OSError, TypeError, AttributeError, RecursionError, MemoryError) as error:
            earlier = ", which resumes from an earlier state" if len(numbers) > 1 else ""
            raise FolderError(
                f"the saved state {newest} cannot be read ({first_line(error)}); remove it and run the same command "
                f"again{earlier}, or remove {self._path} to redo this stage"
            ) from error

    def save(self, number: int, state: Any) -> None:
        """Save a state. It counts once it is complete; then all older states except the previous one are removed.

        Raises:
            FolderError: if the state cannot be written; the earlier states are kept.
        """
        plain = jax.tree.map(_plain, state)
        hosts.broadcast(lambda: self._write(number, plain))

    def _write(self, number: int, plain: Any) -> str:
        self._refuse_links()
        temporary, final = None, self._path / f"{number:08d}"
        refuse_link(final)
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self._path))
            with checkpoint.checkpointer() as checkpointer:
                checkpointer.save(temporary / _STATE, args=ocp.args.StandardSave(plain))
            sums: dict[str, Any] = {"files": _sums(temporary / _STATE)}
            if self._configuration is not None:
                sums["configuration"] = self._configuration
            write_json(temporary / _SUMS, sums)
            _sync(temporary)
            if final.exists():  # an equally good state, written by a run with other chunk sizes
                shutil.rmtree(final)
            temporary.rename(final)
            _sync(self._path, files=False)
        except (OSError, ValueError) as error:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
            raise FolderError(
                f"cannot save a state in {self._path} ({first_line(error)}); free disk space or check the folder, and "
                "run the same command again: it resumes from the last saved state"
            ) from error
        kept = {f"{kept:08d}" for kept in self._numbers()[-self.KEPT :]}
        for entry in list(self._path.iterdir()):  # removes old states and unfinished ones, but not a user's files
            if entry.name not in kept and (_is_number(entry) or entry.name.startswith(UNFINISHED)):
                remove(entry)
        return ""

    def _numbers(self) -> list[int]:
        """Return the numbers of the complete states."""
        self._refuse_links()
        if not self._path.exists():
            return []
        found = [entry for entry in self._path.iterdir() if _is_number(entry)]
        for entry in found:
            refuse_link(entry)
        return sorted(int(entry.name) for entry in found)

    def _refuse_links(self) -> None:
        refuse_link(self._path.parent)
        refuse_link(self._path)


def _is_number(entry: Path) -> bool:
    """Return whether a folder is named like a saved state: a number of at least eight digits."""
    return re.fullmatch("[0-9]{8}|[1-9][0-9]{8,}", entry.name) is not None and entry.is_dir()


_STATE, _SUMS = "state", "sums.json"


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: Any) -> np.ndarray:
    """Convert a leaf to a NumPy array; keys become their data, and arrays without entries one 0."""
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    return array if array.size else np.zeros(1, array.dtype)  # orbax saves no arrays without entries


def _empty_like(leaf: Any) -> np.ndarray:
    """Create an array with the shape and type that `_plain` returns for a leaf."""
    shape = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    return np.zeros(shape.shape if 0 not in shape.shape else 1, shape.dtype)


def _restored(like: Any, leaf: np.ndarray, mesh: jax.sharding.Mesh) -> Any:
    """Invert `_plain`: restore the type, key implementation and devices of a leaf."""
    leaf = np.zeros(like.shape, leaf.dtype) if 0 in like.shape else leaf
    if isinstance(like, np.ndarray):
        return np.array(leaf)
    placed = seeds.replicate(leaf, mesh)
    return jax.random.wrap_key_data(placed, impl=_implementation(like)) if _is_key(like) else placed


def _implementation(key: Any) -> str:
    """Return the implementation of a key, or of the shape of a key."""
    found = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), key)
    return str(found[0])


def _sums(path: Path) -> dict[str, str]:
    """Compute the SHA-256 of every file below a folder."""
    files = sorted(entry for entry in path.rglob("*") if entry.is_file())
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def verify(path: Path, configuration: str | None = None) -> None:
    """Check that the files of a state are unchanged and that it belongs to a configuration.

    Args:
        path: the folder of the state.
        configuration: the digest that the state must contain; not checked if omitted.

    Raises:
        ValueError: if a file is missing, new or changed, or the state is invalid for another reason.
    """
    content = json.loads((path / _SUMS).read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
        raise ValueError(f"its {_SUMS} has no configuration: it was written by an older version")
    wanted, found = content["files"], _sums(path / _STATE)
    for name in sorted({*wanted, *found}):
        if wanted.get(name) != found.get(name):
            what = "missing" if name not in found else "not part of it" if name not in wanted else "damaged"
            raise ValueError(f"its file {name} is {what}")
    if configuration is not None and content.get("configuration") != configuration:
        raise ValueError("it belongs to another configuration")


def _sync(path: Path, *, files: bool = True) -> None:
    """Flush a folder, and optionally the files below it, to the disk."""
    for entry in [path, *(path.rglob("*") if files else ())]:
        handle = os.open(entry, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
