"""A run's folder: its identity, its saved states, its results. Nothing under its own name is ever half-written.

configuration.json   what the numbers depend on; a folder of another configuration is refused
.run.lock            there while a process works on the folder: its number and host
states/              of every stage the last two states, orbax checkpoints with checksums and the SHA-256 of the
                         configuration; of AIF360's methods one JSON file per network
results.csv, trajectories.csv, table.md, trajectories.png, trajectories.svg, networks/, run.json: the results, written
                         when all stages are complete
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import threading
import time
import warnings
import weakref
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


LOCK = ".run.lock"
"""Name of the lock file in a run's folder."""


def clear(path: Path) -> None:
    """Remove what killed processes left unfinished below a folder of results.

    Symbolic links are neither followed nor removed.
    """
    _clear(path, levels=3)


def _clear(path: Path, levels: int) -> None:
    for entry in list(path.iterdir()):
        if entry.is_symlink():
            continue
        if entry.name.startswith(_UNFINISHED):
            _remove(entry)
        elif levels > 1 and entry.is_dir():
            try:
                _clear(entry, levels - 1)
            except OSError:  # a folder of the user's that cannot be read
                continue


def _remove(entry: Path) -> None:
    """Remove a file or a folder, but nothing that a symbolic link points to."""
    if entry.is_symlink():
        return
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def _refuse_link(path: Path) -> None:
    """Refuse a symbolic link where a run keeps its own files.

    Raises:
        FolderError: if the path is one.
    """
    if path.is_symlink():
        raise FolderError(
            f"{path} is a symbolic link, and a run's own folders must not be; replace it by the folder that it points "
            "to, or choose another folder with --out"
        )


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """A JSON file, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


class _Lock:
    """An exclusive lock on a run's folder, shared by all `RunFolder` objects of this process for the folder."""

    def __init__(self, file: Path, handle: int, key: tuple[int, int]):
        self.file, self.handle, self.key, self.users, self.process = file, handle, key, 1, os.getpid()

    def stands(self) -> bool:
        """Whether the lock file is still the one that is locked."""
        return self.process == os.getpid() and _same_file(self.handle, self.file)

    def release(self) -> None:
        """Give up one use; the last one removes the lock file and unlocks it."""
        with _locks_guard:
            self.users -= 1
            if self.users or self.process != os.getpid():
                return
            if _locks.get(self.key) is self:
                del _locks[self.key]
            if self.stands():
                try:
                    self.file.unlink()
                except OSError:  # a lock file that stays is taken over by the next run
                    pass
            os.close(self.handle)


_locks: dict[tuple[int, int], _Lock] = {}
"""Locks that this process holds, by device and inode of the folder."""
_locks_guard = threading.RLock()


def _same_file(handle: int, path: Path) -> bool:
    """Whether a path names the file that is open."""
    try:
        named = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return os.path.samestat(os.fstat(handle), named)


def _lock(folder: Path) -> _Lock | None:
    """Lock a folder for this process; None where the file system has no locks.

    Raises:
        FolderError: if another process holds the lock, naming it.
    """
    with _locks_guard:
        about = os.stat(folder)
        key, file = (about.st_dev, about.st_ino), folder / LOCK
        held = _locks.get(key)
        if held is not None and held.stands():
            held.users += 1
            return held
        while True:
            try:
                handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise FolderError(
                    f"cannot open the lock file {file} ({error}); make room, remove it or choose another folder with "
                    "--out"
                ) from error
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = _holder(handle)
                os.close(handle)
                raise FolderError(
                    f"the folder {folder} is in use by {holder}; wait until it ends, stop it, or choose another folder "
                    "with --out"
                ) from error
            except OSError as error:
                os.close(handle)
                file.unlink(missing_ok=True)
                warnings.warn(
                    f"the file system of {folder} has no locks ({error}); make sure that no other run uses it",
                    stacklevel=2,
                )
                return None
            if _same_file(handle, file):
                break
            os.close(handle)  # its holder removed it just before it was locked here
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        except OSError:  # a full disk; the lock holds all the same
            pass
        _locks[key] = _Lock(file, handle, key)
        return _locks[key]


def _holder(handle: int) -> str:
    """Who holds a lock, in words. The holder may be about to write its name, so this waits a moment for it."""
    for _ in range(20):
        try:
            found = json.loads(os.pread(handle, 4096, 0))
            return f"process {found['pid']} on host {found['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            time.sleep(0.05)
    return "another process"


class RunFolder:
    """The folder of one run. The first process alone reads and writes it; what it finds, all processes know.

    The first process holds an exclusive lock on the folder until the object is closed or no longer used, or the process
    ends in any way. The same process may open a folder many times.
    """

    def __init__(self, path: Path, identity: dict[str, Any]):
        """Open the folder for a run of this identity, or make it.

        Raises:
            FolderError: if it cannot be written, is in use by another process, holds a run of another configuration, or
                holds other files.
        """
        self.path = path
        self._configuration = digest(identity)
        self._release = None
        hosts.from_first(lambda: self._open(identity))

    def close(self) -> None:
        """Unlock the folder. Closing it again does nothing."""
        if self._release is not None:
            self._release()

    def _open(self, identity: dict[str, Any]) -> str:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FolderError(f"cannot make the folder {self.path}: {error}; choose another with --out") from error
        if not os.access(self.path, os.W_OK):
            raise FolderError(f"the folder {self.path} is not writable; choose another with --out")
        lock = _lock(self.path)
        if lock is not None:
            self._release = weakref.finalize(self, lock.release)
        try:
            self._claim(identity)
        except BaseException:
            self.close()
            raise
        return ""

    def _claim(self, identity: dict[str, Any]) -> None:
        """Check that the folder is of this run, or make it so."""
        marker = self.path / "configuration.json"
        if not marker.exists():
            others = [entry for entry in self.path.iterdir() if entry.name != LOCK]
            if any(not entry.name.startswith(_UNFINISHED) and entry != marker for entry in others):
                raise FolderError(
                    f"the folder {self.path} is not empty and holds no configuration.json of a run; choose another "
                    "with --out"
                )
            _create_json(marker, identity)
        self._same(marker, identity)
        for name in ("states", "networks"):
            _refuse_link(self.path / name)
            if (self.path / name).is_dir():
                for entry in (self.path / name).iterdir():
                    _refuse_link(entry)
        clear(self.path)

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
        return Stage(self.path.resolve() / "states" / name, self._configuration)

    def place(self, name: str) -> Path:
        """The folder of a stage that keeps files of its own.

        Raises:
            FolderError: if it, or the folder of all stages, is a symbolic link.
        """
        path = self.path / "states" / name
        _refuse_link(path.parent)
        _refuse_link(path)
        return path

    @property
    def configuration(self) -> str:
        """The SHA-256 of the run's configuration, which its saved states carry."""
        return self._configuration


def digest(identity: dict[str, Any]) -> str:
    """The SHA-256 of a configuration."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _create_json(path: Path, content: Any) -> None:
    """Write a JSON file, whole, unless the path exists: of several processes that try, exactly one succeeds."""
    text = json.dumps(content, indent=2) + "\n"
    temporary = None
    try:
        handle, name = tempfile.mkstemp(prefix=f"{_UNFINISHED}{path.stem}-", suffix=path.suffix, dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except FileExistsError:
        return
    except OSError as error:
        raise FolderError(f"cannot write {path} ({error}); make room or choose another folder with --out") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


class Stage:
    """Saved states of one stage: the newest one counts, and the one before it is kept.

    A state is a folder under its number with an orbax checkpoint and the checksums of its files. It gets its name when
    it is complete, so a process that is killed leaves at most a folder without a number, which the next save removes.
    """

    KEPT = 2

    def __init__(self, path: Path, configuration: str | None = None):
        """The stage whose states are in this folder.

        Args:
            path: the folder. It, and the folder it is in, must not be symbolic links.
            configuration: the digest of the run's configuration. It is saved with every state, and a state of another
                one is refused, and so is a state without any. If omitted, states are not bound to a configuration.
        """
        self._path = path.absolute()
        self._configuration = configuration

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
            verify(newest, self._configuration)
            with storage.checkpointer() as checkpointer:
                return checkpointer.restore(newest / _STATE, args=ocp.args.StandardRestore(plain))
        except (ValueError, KeyError, OSError, TypeError, AttributeError, RecursionError, MemoryError) as error:
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
        self._refuse_links()
        temporary, final = None, self._path / f"{number:08d}"
        _refuse_link(final)
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self._path))
            with storage.checkpointer() as checkpointer:
                checkpointer.save(temporary / _STATE, args=ocp.args.StandardSave(plain))
            sums = {"files": _sums(temporary / _STATE)}
            if self._configuration is not None:
                sums["configuration"] = self._configuration
            write_json(temporary / _SUMS, sums)
            _sync(temporary)
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
        for entry in list(self._path.iterdir()):  # older states, and what a killed run left; nothing of a user's
            if entry.name not in kept and (_is_number(entry) or entry.name.startswith(_UNFINISHED)):
                _remove(entry)
        return ""

    def _numbers(self) -> list[int]:
        """Numbers of the complete states."""
        self._refuse_links()
        if not self._path.exists():
            return []
        found = [entry for entry in self._path.iterdir() if _is_number(entry)]
        for entry in found:
            _refuse_link(entry)
        return sorted(int(entry.name) for entry in found)

    def _refuse_links(self) -> None:
        _refuse_link(self._path.parent)
        _refuse_link(self._path)


def _is_number(entry: Path) -> bool:
    """Whether a folder has the name of a saved state: a number of eight digits or more."""
    return re.fullmatch("[0-9]{8}|[1-9][0-9]{8,}", entry.name) is not None and entry.is_dir()


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


def verify(path: Path, configuration: str | None = None) -> None:
    """Refuse a state whose files are not those that were written, or that is of another configuration.

    Args:
        path: the state.
        configuration: the digest that it must carry; not compared if omitted.

    Raises:
        ValueError: naming the first file that is missing, new or changed, or saying what else is wrong.
    """
    content = json.loads((path / _SUMS).read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
        raise ValueError(f"its {_SUMS} does not say of which configuration it is: an older version wrote it")
    wanted, found = content["files"], _sums(path / _STATE)
    for name in sorted({*wanted, *found}):
        if wanted.get(name) != found.get(name):
            what = "missing" if name not in found else "not part of it" if name not in wanted else "damaged"
            raise ValueError(f"its file {name} is {what}")
    if configuration is not None and content.get("configuration") != configuration:
        raise ValueError("it is of another configuration")


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
    if found == json.loads(json.dumps(wanted)):
        return []
    before, now = ("not set" if value is None else value for value in (found, wanted))
    return [f"{where} was {before}, is now {now}"]
