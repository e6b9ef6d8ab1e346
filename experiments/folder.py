"""A run's folder: its identity, its saved states and its results. Files get their final names only when complete.

configuration.json   the settings that the numbers depend on; a folder with another configuration is rejected
.run.lock            exists while a process uses the folder; contains its process number and host
states/              the last two states of every stage: orbax checkpoints with checksums and the SHA-256 of the
                         configuration; for AIF360's methods one JSON file per network
results.csv, trajectories.csv, table.md, trajectories.png, trajectories.svg, networks/, run.json: the results, which
                         are written when all stages are complete
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
from fairjax import checkpoint, seeds
from fairjax.checkpoint import first_line


class FolderError(ValueError):
    """A folder that cannot be used for a run."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; it replaces `path` if the block succeeds, and is removed otherwise."""
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
"""Prefix of the names of files and folders that are being written."""


LOCK = ".run.lock"
"""Name of the lock file in a run's folder."""


def clear(path: Path) -> None:
    """Remove the unfinished files of killed processes from a folder of results.

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
            except OSError:  # a folder of the user that cannot be read
                continue


def _remove(entry: Path) -> None:
    """Remove a file or a folder; the target of a symbolic link is not removed."""
    if entry.is_symlink():
        return
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def _refuse_link(path: Path) -> None:
    """Reject a symbolic link where a run keeps its own files.

    Raises:
        FolderError: if the path is a symbolic link.
    """
    if path.is_symlink():
        raise FolderError(
            f"{path} is a symbolic link, and a run's own folders must not be; replace it by the folder that it points "
            "to, or choose another folder with --out"
        )


def write_text(path: Path, text: str) -> None:
    """Write a text file, completely or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, completely or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


class _Lock:
    """An exclusive lock on a run's folder, shared by all `RunFolder` objects of this process for the folder."""

    def __init__(self, file: Path, handle: int, key: tuple[int, int]):
        self.file, self.handle, self.key, self.users, self.process = file, handle, key, 1, os.getpid()

    def stands(self) -> bool:
        """Return whether the lock file is still the file that was locked."""
        return self.process == os.getpid() and _same_file(self.handle, self.file)

    def release(self) -> None:
        """Release one use of the lock; the last release removes the lock file and unlocks it."""
        with _locks_guard:
            self.users -= 1
            if self.users or self.process != os.getpid():
                return
            if _locks.get(self.key) is self:
                del _locks[self.key]
            if self.stands():
                try:
                    self.file.unlink()
                except OSError:  # a remaining lock file is reused by the next run
                    pass
            os.close(self.handle)


_locks: dict[tuple[int, int], _Lock] = {}
"""Locks that this process holds, by device and inode of the folder."""
_locks_guard = threading.RLock()


def _same_file(handle: int, path: Path) -> bool:
    """Return whether a path refers to the open file."""
    try:
        named = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return os.path.samestat(os.fstat(handle), named)


def _lock(folder: Path) -> _Lock | None:
    """Lock a folder for this process; return None if the file system does not support locks.

    Raises:
        FolderError: if another process holds the lock; the message names that process.
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
            os.close(handle)  # the previous holder removed the file just before it was locked here
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        except OSError:  # the disk is full, but the lock is held
            pass
        _locks[key] = _Lock(file, handle, key)
        return _locks[key]


def _holder(handle: int) -> str:
    """Describe the holder of a lock; wait a moment if the holder has not yet written its name."""
    for _ in range(20):
        try:
            found = json.loads(os.pread(handle, 4096, 0))
            return f"process {found['pid']} on host {found['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            time.sleep(0.05)
    return "another process"


class RunFolder:
    """The folder of one run; only the first process reads and writes it, and it shares the results with all processes.

    The first process holds an exclusive lock on the folder until the object is closed or garbage-collected, or the
    process ends. A process may open the same folder several times.
    """

    def __init__(self, path: Path, identity: dict[str, Any]):
        """Open or create the folder for a run with the given identity.

        Raises:
            FolderError: if the folder cannot be written, is in use by another process, contains a run with another
                configuration, or contains other files.
        """
        self.path = path
        self._configuration = digest(identity)
        self._release = None
        hosts.from_first(lambda: self._open(identity))

    def close(self) -> None:
        """Unlock the folder; further calls do nothing."""
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
        """Check that the folder belongs to this run, or assign an empty folder to it."""
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
        """Return the saved states of one stage of the run."""
        return Stage(self.path.resolve() / "states" / name, self._configuration)

    def place(self, name: str) -> Path:
        """Return the folder of a stage that stores files of its own.

        Raises:
            FolderError: if this folder, or the folder of all stages, is a symbolic link.
        """
        path = self.path / "states" / name
        _refuse_link(path.parent)
        _refuse_link(path)
        return path

    @property
    def configuration(self) -> str:
        """The SHA-256 of the run's configuration, which is stored with its states."""
        return self._configuration


def digest(identity: dict[str, Any]) -> str:
    """Compute the SHA-256 of a configuration."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _create_json(path: Path, content: Any) -> None:
    """Write a complete JSON file unless the path exists; of several concurrent processes, exactly one succeeds."""
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
        except OSError:  # the file system has no hard links
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

    def begun(self) -> bool:
        """Return whether there is a saved state."""
        return hosts.from_first(lambda: str(len(self._numbers()))) != "0"

    def restore(self, like: Any, mesh: jax.sharding.Mesh) -> tuple[int, Any] | None:
        """Restore the newest state and its number; None if there is no saved state.

        Args:
            like: a state of the same shapes, or its `jax.eval_shape`; NumPy arrays in it are restored as NumPy arrays.
            mesh: the devices over which JAX arrays are replicated.

        Raises:
            FolderError: if the state cannot be read or was changed; earlier states are kept.
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
            with checkpoint.checkpointer() as checkpointer:
                return checkpointer.restore(newest / _STATE, args=ocp.args.StandardRestore(plain))
        except (ValueError, KeyError, OSError, TypeError, AttributeError, RecursionError, MemoryError) as error:
            earlier = "; an earlier one is there to go on from" if len(numbers) > 1 else ""
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
        hosts.from_first(lambda: self._write(number, plain))

    def _write(self, number: int, plain: Any) -> str:
        self._refuse_links()
        temporary, final = None, self._path / f"{number:08d}"
        _refuse_link(final)
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self._path))
            with checkpoint.checkpointer() as checkpointer:
                checkpointer.save(temporary / _STATE, args=ocp.args.StandardSave(plain))
            sums = {"files": _sums(temporary / _STATE)}
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
                f"cannot save a state in {self._path} ({first_line(error)}); make room or mend the folder and "
                "run the same command again: it goes on from the last saved state"
            ) from error
        kept = {f"{kept:08d}" for kept in self._numbers()[-self.KEPT :]}
        for entry in list(self._path.iterdir()):  # removes old states and unfinished ones, but not a user's files
            if entry.name not in kept and (_is_number(entry) or entry.name.startswith(_UNFINISHED)):
                _remove(entry)
        return ""

    def _numbers(self) -> list[int]:
        """Return the numbers of the complete states."""
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
    """Return whether a folder is named like a saved state: a number of at least eight digits."""
    return re.fullmatch("[0-9]{8}|[1-9][0-9]{8,}", entry.name) is not None and entry.is_dir()


_STATE, _SUMS = "state", "sums.json"


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: Any) -> np.ndarray:
    """Convert a leaf to a NumPy array; keys become their data."""
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _room(leaf: Any) -> np.ndarray:
    """Create an array with the shape and type that `_plain` returns for a leaf."""
    shape = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    return np.zeros(shape.shape, shape.dtype)


def _again(like: Any, leaf: np.ndarray, mesh: jax.sharding.Mesh) -> Any:
    """Invert `_plain`: restore the type, key implementation and devices of a leaf."""
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
        raise ValueError(f"its {_SUMS} does not say of which configuration it is: an older version wrote it")
    wanted, found = content["files"], _sums(path / _STATE)
    for name in sorted({*wanted, *found}):
        if wanted.get(name) != found.get(name):
            what = "missing" if name not in found else "not part of it" if name not in wanted else "damaged"
            raise ValueError(f"its file {name} is {what}")
    if configuration is not None and content.get("configuration") != configuration:
        raise ValueError("it is of another configuration")


def _sync(path: Path, *, files: bool = True) -> None:
    """Flush a folder, and optionally the files below it, to the disk."""
    for entry in [path, *(path.rglob("*") if files else ())]:
        handle = os.open(entry, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _differences(found: Any, wanted: Any, where: str = "") -> list[str]:
    """Describe the settings in which two configurations differ."""
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
