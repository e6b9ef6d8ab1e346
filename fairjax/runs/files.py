"""Write files completely or not at all, and remove what killed processes left."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class FolderError(ValueError):
    """A folder that cannot be used for a run."""


def check_writable(folder: Path) -> None:
    """Check that a folder can be written, or made where there is none, without making it.

    Raises:
        FolderError: if it or a folder above it is a file, or may not be written.
    """
    present = next(path for path in (folder, *folder.absolute().parents) if path.exists() or path.is_symlink())
    if not present.is_dir():
        raise FolderError(f"{present} is not a folder; choose another with --out")
    if not os.access(present, os.W_OK):
        raise FolderError(f"the folder {present} is not writable; choose another with --out")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; it replaces `path` if the block succeeds, and is removed otherwise."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f"{UNFINISHED}{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise FolderError(
            f"cannot write {path} ({error}); free disk space or check the folder, and run the same command again: it "
            "resumes from the saved state"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


UNFINISHED = ".unfinished-"
"""Prefix of the names of files and folders that are being written."""


def clear(path: Path) -> None:
    """Remove the unfinished files of killed processes from a folder of results.

    Symbolic links are neither followed nor removed.
    """
    _clear(path, levels=3)


def _clear(path: Path, levels: int) -> None:
    for entry in list(path.iterdir()):
        if entry.is_symlink():
            continue
        if entry.name.startswith(UNFINISHED):
            remove(entry)
        elif levels > 1 and entry.is_dir():
            try:
                _clear(entry, levels - 1)
            except OSError:  # a folder of the user that cannot be read
                continue


def remove(entry: Path) -> None:
    """Remove a file or a folder; the target of a symbolic link is not removed."""
    if entry.is_symlink():
        return
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def refuse_link(path: Path) -> None:
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
