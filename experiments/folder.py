"""A run's folder: its identity, its saved states, its results. Nothing in it is ever half-written.

configuration.json   what the numbers depend on; a folder of another configuration is refused
states/              orbax checkpoints of the stage that is running and the results of those that are finished
results.csv, trajectories.csv, table.md, trajectories.png, trajectories.svg, networks/, run.json: the results, written
                         when all stages are complete
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp


class FolderError(ValueError):
    """A folder that cannot take a run."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary sibling to write to; it takes `path`'s place when the block ends well, else it vanishes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """A JSON file, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: Path, identity: dict[str, Any]):
        """Open the folder for a run of this identity, or make it.

        Raises:
            FolderError: if it cannot be written, holds a run of another configuration, or holds other files.
        """
        self.path = path
        marker = path / "configuration.json"
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FolderError(f"cannot make the folder {path}: {error}; choose another with --out") from error
        if not os.access(path, os.W_OK):
            raise FolderError(f"the folder {path} is not writable; choose another with --out")
        if marker.exists():
            self._same(marker, identity)
        elif any(entry for entry in path.iterdir() if not entry.name.startswith(".configuration-")):
            raise FolderError(
                f"the folder {path} is not empty and holds no configuration.json of a run; choose another with --out"
            )
        else:
            write_json(marker, identity)

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
    """Saved states of one stage: the newest one counts."""

    def __init__(self, path: Path):
        """The stage whose states are in this folder."""
        self._path = path.resolve()

    def begun(self) -> bool:
        """Whether there is a saved state."""
        return bool(self._numbers())

    def restore(self, like: Any, sharding: jax.sharding.Sharding) -> tuple[int, Any] | None:
        """The newest state and its number; None if there is none.

        Args:
            like: a state of the same shapes, or its `jax.eval_shape`.
            sharding: where the arrays go.

        Raises:
            FolderError: if it cannot be read.
        """
        found = self._numbers()
        if not found:
            return None
        abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), like)
        try:
            with ocp.StandardCheckpointer() as checkpointer:
                return found[-1], checkpointer.restore(self._path / f"{found[-1]:08d}", abstract)
        except (ValueError, KeyError, OSError, TypeError) as error:
            raise FolderError(
                f"the saved state {self._path / f'{found[-1]:08d}'} cannot be read ({str(error).splitlines()[0]}); "
                f"remove it to go on from an earlier one, or {self._path} to redo this stage"
            ) from error

    def save(self, number: int, state: Any) -> None:
        """Save a state; it counts only when it is complete, and older ones go then.

        Raises:
            FolderError: if the disk does not take it; the earlier state stands.
        """
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            with ocp.StandardCheckpointer() as checkpointer:
                checkpointer.save(self._path / f"{number:08d}", state, force=True)
        except (OSError, ValueError) as error:
            raise FolderError(
                f"cannot save a state in {self._path} ({str(error).splitlines()[0]}); make room or mend the folder and "
                "run the same command again: it goes on from the last saved state"
            ) from error
        for entry in self._path.iterdir():  # older states, and what a killed run left unfinished
            if entry.name != f"{number:08d}":
                shutil.rmtree(entry, ignore_errors=True)

    def _numbers(self) -> list[int]:
        """Numbers of the complete states; orbax gives a state its name only when it is complete."""
        if not self._path.exists():
            return []
        return sorted(int(entry.name) for entry in self._path.iterdir() if entry.name.isdigit())


def _differences(found: Any, wanted: Any, where: str = "") -> list[str]:
    """The settings in which two configurations differ, in words."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return [
            line
            for name in dict.fromkeys([*found, *wanted])
            for line in _differences(found.get(name), wanted.get(name), f"{where}.{name}".lstrip("."))
        ]
    return [] if found == json.loads(json.dumps(wanted)) else [f"{where} was {found}, is now {wanted}"]
