"""A run's folder: its identity, its saved states and its results. Files get their final names only when complete.

configuration.json   the settings that the numbers depend on; a folder with another configuration is rejected
.run.lock            exists while a process uses the folder; contains its process number and host
states/              the last two states of every stage: orbax checkpoints with checksums and the SHA-256 of the
                         configuration; for AIF360's methods one JSON file per network
results.csv, trajectories.csv, table.md, trajectories.png, trajectories.svg, networks/, run.json: the results, which
                         are written when all stages are complete
"""

import hashlib
import json
import os
import tempfile
import weakref
from pathlib import Path
from typing import Any

from fairjax.runs import hosts
from fairjax.runs.files import UNFINISHED, FolderError, check_writable, clear, refuse_link
from fairjax.runs.lock import LOCK, lock_folder
from fairjax.runs.states import SavedStates


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
        hosts.broadcast(lambda: self._open(identity))

    def close(self) -> None:
        """Unlock the folder; further calls do nothing."""
        if self._release is not None:
            self._release()

    def _open(self, identity: dict[str, Any]) -> str:
        check_writable(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FolderError(f"cannot make the folder {self.path}: {error}; choose another with --out") from error
        lock = lock_folder(self.path)
        if lock is not None:
            self._release = weakref.finalize(self, lock.release)
        try:
            if lock is not None and lock.users == 1:
                self._abandon()
            self._claim(identity)
        except BaseException:
            self.close()
            raise
        return ""

    def _abandon(self) -> None:
        """Remove the configuration of a run that saved nothing, such as one whose data were refused."""
        marker = self.path / "configuration.json"
        if marker.exists() and {entry.name for entry in self.path.iterdir()} <= {marker.name, LOCK}:
            refuse_link(marker)
            _read_json(marker)  # a file that is no configuration belongs to somebody else
            marker.unlink()

    def _claim(self, identity: dict[str, Any]) -> None:
        """Check that the folder belongs to this run, or assign an empty folder to it."""
        marker = self.path / "configuration.json"
        if not marker.exists():
            others = [entry for entry in self.path.iterdir() if entry.name != LOCK]
            if any(not entry.name.startswith(UNFINISHED) and entry != marker for entry in others):
                raise FolderError(
                    f"the folder {self.path} is not empty and holds no configuration.json of a run; choose another "
                    "with --out"
                )
            _create_json(marker, identity)
        self._same(marker, identity)
        for name in ("states", "networks"):
            refuse_link(self.path / name)
            if (self.path / name).is_dir():
                for entry in (self.path / name).iterdir():
                    refuse_link(entry)
        clear(self.path)

    def _same(self, marker: Path, identity: dict[str, Any]) -> None:
        found = _read_json(marker)
        if found != json.loads(json.dumps(identity)):
            differences = "; ".join(_differences(found, identity))
            raise FolderError(
                f"the folder {self.path} holds a run of another configuration ({differences}); "
                "choose another with --out, or remove it"
            )

    def stage(self, name: str) -> SavedStates:
        """Return the saved states of one stage of the run."""
        return SavedStates(self.path.resolve() / "states" / name, self._configuration)

    def stage_folder(self, name: str) -> Path:
        """Return the folder of a stage that stores files of its own.

        Raises:
            FolderError: if this folder, or the folder of all stages, is a symbolic link.
        """
        path = self.path / "states" / name
        refuse_link(path.parent)
        refuse_link(path)
        return path

    @property
    def configuration(self) -> str:
        """The SHA-256 of the run's configuration, which is stored with its states."""
        return self._configuration


def digest(identity: dict[str, Any]) -> str:
    """Compute the SHA-256 of a configuration."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _read_json(path: Path) -> Any:
    """Read a run's configuration, or raise a FolderError that names the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FolderError(f"{path} cannot be read ({error}); remove the folder or choose another") from error


def _create_json(path: Path, content: Any) -> None:
    """Write a complete JSON file unless the path exists; of several concurrent processes, exactly one succeeds."""
    text = json.dumps(content, indent=2) + "\n"
    temporary = None
    try:
        handle, name = tempfile.mkstemp(prefix=f"{UNFINISHED}{path.stem}-", suffix=path.suffix, dir=path.parent)
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
        raise FolderError(
            f"cannot write {path} ({error}); free disk space or choose another folder with --out"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


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
