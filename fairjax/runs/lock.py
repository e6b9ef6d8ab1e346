"""An exclusive lock on a folder."""

import fcntl
import json
import os
import socket
import threading
import time
import warnings
from pathlib import Path

from fairjax.runs.files import FolderError

LOCK = ".run.lock"
"""Name of the lock file in a run's folder."""


class Lock:
    """An exclusive lock on a run's folder, shared by all `RunFolder` objects of this process for the folder."""

    def __init__(self, file: Path, handle: int, key: tuple[int, int]):
        """Hold an open and locked file; the key is the folder's device and inode."""
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


_locks: dict[tuple[int, int], Lock] = {}
"""Locks that this process holds, by device and inode of the folder."""
_locks_guard = threading.RLock()


def _same_file(handle: int, path: Path) -> bool:
    """Return whether a path refers to the open file."""
    try:
        named = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return os.path.samestat(os.fstat(handle), named)


def lock_folder(folder: Path) -> Lock | None:
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
                    f"cannot open the lock file {file} ({error}); free disk space, remove it or choose another "
                    "folder with --out"
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
        _locks[key] = Lock(file, handle, key)
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
