"""A run's folder: its identity, its saved states, its results. Nothing under its own name is ever half-written.

configuration.json   what the numbers depend on; a folder of another configuration is refused
states/              of every stage the last two states, orbax checkpoints with checksums; of AIF360's methods a JSON
                         file a network
results.csv, trajectories.csv, table.md, trajectories.png, trajectories.svg, networks/, run.json: the results, written
                         when all stages are complete
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments import hosts
from fairjax import parallel, storage
from fairjax.storage import first_line


class FolderError(ValueError):
    """A folder that cannot take a run."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary sibling to write to; it takes `path`'s place when the block ends well, else it vanishes."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f"{_UNFINISHED}{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise FolderError(
            f"cannot write {path} ({error}); make room or mend the folder and run the same command again: it goes on "
            "from what is saved"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


_UNFINISHED = ".unfinished-"
"""How the names of files and folders begin that are being written."""


def clear(path: Path) -> None:
    """Remove what killed processes left unfinished below a folder of results."""
    for entry in [*path.glob(f"{_UNFINISHED}*"), *path.glob(f"*/{_UNFINISHED}*"), *path.glob(f"*/*/{_UNFINISHED}*")]:
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """A JSON file, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


class RunFolder:
    """The folder of one run. The first process alone reads and writes it; what it finds, all processes know."""

    def __init__(self, path: Path, identity: dict[str, Any]):
        """Open the folder for a run of this identity, or make it.

        Raises:
            FolderError: if it cannot be written, holds a run of another configuration, or holds other files.
        """
        self.path = path
        hosts.from_first(lambda: self._open(identity))

    def _open(self, identity: dict[str, Any]) -> str:
        marker = self.path / "configuration.json"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FolderError(f"cannot make the folder {self.path}: {error}; choose another with --out") from error
        if not os.access(self.path, os.W_OK):
            raise FolderError(f"the folder {self.path} is not writable; choose another with --out")
        if marker.exists():
            self._same(marker, identity)
            clear(self.path)
        elif any(entry for entry in self.path.iterdir() if not entry.name.startswith(_UNFINISHED)):
            raise FolderError(
                f"the folder {self.path} is not empty and holds no configuration.json of a run; choose another with "
                "--out"
            )
        else:
            clear(self.path)
            write_json(marker, identity)
        return ""

    def _same(self, marker: Path, identity: dict[str, Any]) -> None:
        try:
            found = json.loads(marker.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FolderError(f"{marker} cannot be read ({error}); remove the folder or choose another") from error
        if found != json.loads(json.dumps(identity)):
            differences = "; ".join(_differences(found, identity))
            raise FolderError(
                f"the folder {self.path} holds a run of another configuration ({differences}); "
                "choose another with --out, or remove it"
            )

    def stage(self, name: str) -> "Stage":
        """The saved states of one stage of the run."""
        return Stage(self.path / "states" / name)


class Stage:
    """Saved states of one stage: the newest one counts, and the one before it is kept.

    A state is a folder under its number with an orbax checkpoint and the checksums of its files. It gets its name when
    it is complete, so a process that is killed leaves at most a folder without a number, which the next save removes.
    """

    KEPT = 2

    def __init__(self, path: Path):
        """The stage whose states are in this folder."""
        self._path = path.resolve()

    def begun(self) -> bool:
        """Whether there is a saved state."""
        return hosts.from_first(lambda: str(len(self._numbers()))) != "0"

    def restore(self, like: Any, mesh: jax.sharding.Mesh) -> tuple[int, Any] | None:
        """The newest state and its number; None if there is none.

        Args:
            like: a state of the same shapes, or its `jax.eval_shape`; where it has NumPy's arrays, so has the result.
            mesh: JAX's arrays go to all its devices.

        Raises:
            FolderError: if it cannot be read, or is not what was saved; earlier states stand.
        """
        plain = jax.tree.map(_room, like)
        found: dict[str, Any] = {}

        def read() -> str:
            numbers = self._numbers()
            if numbers:
                found["state"] = self._read(numbers, plain)
            return str(numbers[-1]) if numbers else ""

        number = hosts.from_first(read)
        if not number:
            return None
        state = hosts.arrays_from_first(found.get("state", plain))
        return int(number), jax.tree.map(lambda like, leaf: _again(like, leaf, mesh), like, state)

    def _read(self, numbers: list[int], plain: Any) -> Any:
        newest = self._path / f"{numbers[-1]:08d}"
        try:
            verify(newest)
            with storage.checkpointer() as checkpointer:
                return checkpointer.restore(newest / _STATE, args=ocp.args.StandardRestore(plain))
        except (ValueError, KeyError, OSError, TypeError, AttributeError) as error:
            earlier = "; an earlier one is there to go on from" if len(numbers) > 1 else ""
            raise FolderError(
                f"the saved state {newest} cannot be read ({first_line(error)}); remove it and run the same command "
                f"again{earlier}, or remove {self._path} to redo this stage"
            ) from error

    def save(self, number: int, state: Any) -> None:
        """Save a state; it counts only when it is complete, and all but the one before it go then.

        Raises:
            FolderError: if the disk does not take it; the earlier states stand.
        """
        plain = jax.tree.map(_plain, state)
        hosts.from_first(lambda: self._write(number, plain))

    def _write(self, number: int, plain: Any) -> str:
        temporary = None
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self._path))
            with storage.checkpointer() as checkpointer:
                checkpointer.save(temporary / _STATE, args=ocp.args.StandardSave(plain))
            write_json(temporary / _SUMS, _sums(temporary / _STATE))
            _sync(temporary)
            final = self._path / f"{number:08d}"
            if final.exists():  # a state that a run with other chunks wrote: this one is as good
                shutil.rmtree(final)
            temporary.rename(final)
            _sync(self._path, files=False)
        except (OSError, ValueError) as error:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
            raise FolderError(
                f"cannot save a state in {self._path} ({first_line(error)}); make room or mend the folder and "
                "run the same command again: it goes on from the last saved state"
            ) from error
        kept = {f"{kept:08d}" for kept in self._numbers()[-self.KEPT :]}
        for entry in self._path.iterdir():  # older states, and what a killed run left unfinished
            if entry.name not in kept:
                shutil.rmtree(entry, ignore_errors=True)
        return ""

    def _numbers(self) -> list[int]:
        """Numbers of the complete states."""
        if not self._path.exists():
            return []
        return sorted(int(entry.name) for entry in self._path.iterdir() if entry.name.isdigit())


_STATE, _SUMS = "state", "sums.json"


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: Any) -> np.ndarray:
    """A leaf as NumPy's array, keys as their numbers."""
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _room(leaf: Any) -> np.ndarray:
    """An array of the shape and type that `_plain` gives a leaf."""
    shape = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    return np.zeros(shape.shape, shape.dtype)


def _again(like: Any, leaf: np.ndarray, mesh: jax.sharding.Mesh) -> Any:
    """The leaf that `_plain` was given."""
    if isinstance(like, np.ndarray):
        return np.array(leaf)
    placed = parallel.everywhere(leaf, mesh)
    return jax.random.wrap_key_data(placed, impl=_implementation(like)) if _is_key(like) else placed


def _implementation(key: Any) -> str:
    """The generator that a key, or the shape of one, is of."""
    found = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), key)
    return str(found[0])


def _sums(path: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder."""
    files = sorted(entry for entry in path.rglob("*") if entry.is_file())
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def verify(path: Path) -> None:
    """Refuse a state whose files are not those that were written.

    Raises:
        ValueError: naming the first file that is missing, new or changed.
    """
    wanted, found = json.loads((path / _SUMS).read_text(encoding="utf-8")), _sums(path / _STATE)
    for name in sorted({*wanted, *found}):
        if wanted.get(name) != found.get(name):
            what = "missing" if name not in found else "not part of it" if name not in wanted else "damaged"
            raise ValueError(f"its file {name} is {what}")


def _sync(path: Path, *, files: bool = True) -> None:
    """Make sure that a folder, and the files below it, are on the disk."""
    for entry in [path, *(path.rglob("*") if files else ())]:
        handle = os.open(entry, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _differences(found: Any, wanted: Any, where: str = "") -> list[str]:
    """The settings in which two configurations differ, in words."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return [
            line
            for name in dict.fromkeys([*found, *wanted])
            for line in _differences(found.get(name), wanted.get(name), f"{where}.{name}".lstrip("."))
        ]
    return [] if found == json.loads(json.dumps(wanted)) else [f"{where} was {found}, is now {wanted}"]
