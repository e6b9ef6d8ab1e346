"""Raw files of the benchmarks: find them, verify their checksums, and download them from their publishers."""

import hashlib
import os
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pooch

FOLDER = "FAIRJAX_DATA"
"""Name of the environment variable for the folder of raw files."""

UCI = "https://archive.ics.uci.edu/ml/machine-learning-databases"

PathLike = str | os.PathLike[str]


class DataError(ValueError):
    """Raised when a raw file is not as expected."""


class RawFile(NamedTuple):
    """A file as its publisher distributes it."""

    path: str
    """Path inside a data folder, such as `adult/adult.data`."""
    sha256: str
    """SHA-256 checksum, in hexadecimal."""
    url: str
    """The publisher's address of the file, or of the archive (.zip, .tar.gz) that contains it."""
    member: str | None = None
    """Name of the file in the archive, if `url` is an archive."""


def user_path(path: PathLike) -> Path:
    """Expand a leading `~` in a path.

    Args:
        path: The path.

    Returns:
        The path, with `~` or `~user` replaced by the home folder.

    Raises:
        FileNotFoundError: If there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(
            f"the home folder in {os.fspath(path)!r} is unknown: pass a whole path, or set {FOLDER} to one"
        ) from error


def find(file: RawFile, path: PathLike | None = None, *, verify: bool = True) -> Path:
    """Find a raw file, or download it, and verify its checksum.

    If `path` is given, only this path is searched. Otherwise, the function searches the folder named by the environment
    variable `FAIRJAX_DATA` and then the user's cache folder. If the file is in neither of them, it is downloaded from
    its publisher into the cache folder.

    Args:
        file: The file to find.
        path: The file itself, or a folder that contains it (directly, or at `RawFile.path`).
        verify: Whether to reject a file whose checksum is not the expected one.

    Returns:
        Path of the file.

    Raises:
        FileNotFoundError: If the file is not found and cannot be downloaded.
        DataError: If the checksum is wrong.

    Example:
        >>> find(RawFile("german/german.data", "", ""), "nowhere/german.data")
        Traceback (most recent call last):
        ...
        FileNotFoundError: german.data is not at nowhere/german.data: pass the file or its folder
    """
    if path is not None:
        return _find_at(file, user_path(path), verify)
    cached = Path(pooch.os_cache("fairjax")) / file.path
    searched = [*_in_folder(file), cached]
    for candidate in searched:
        # A damaged file in the cache is replaced, but one in the user's folder is not.
        if candidate.is_file() and (candidate != cached or not verify or _sha256(candidate) == file.sha256):
            return _verified(candidate, file, verify)
    return _download(file, cached, searched, verify)


def _find_at(file: RawFile, path: Path, verify: bool) -> Path:
    """Return the file at a path given by the user."""
    candidates = [path] if not path.is_dir() else [path / file.path, path / Path(file.path).name]
    for candidate in candidates:
        if candidate.is_file():
            return _verified(candidate, file, verify)
    listed = " or ".join(map(str, candidates))
    raise FileNotFoundError(f"{Path(file.path).name} is not at {listed}: pass the file or its folder")


def _in_folder(file: RawFile) -> list[Path]:
    """Return the possible paths in the folder of the environment variable; empty if the variable is not set."""
    folder = os.environ.get(FOLDER)
    return [user_path(folder) / file.path] if folder else []


def _sha256(path: Path) -> str:
    """Compute the SHA-256 checksum of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _verified(path: Path, file: RawFile, verify: bool) -> Path:
    """Return the path after checking the checksum, unless `verify` is false."""
    if verify and (checksum := _sha256(path)) != file.sha256:
        raise DataError(
            f"{path} has the sha256 checksum {checksum}, expected {file.sha256}: it is damaged or another version. "
            f"Download it again from {file.url}, or pass verify=False to use it as it is"
        )
    return path


def _download(file: RawFile, target: Path, searched: list[Path], verify: bool) -> Path:
    """Download a file to `target`, which is created only when the file is complete and verified."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            return _verified(_retrieve(file, scratch), file, verify).replace(target)
    except OSError as error:
        raise FileNotFoundError(
            f"no sound copy of {target.name} at {' or '.join(map(str, searched))}, and downloading it from {file.url} "
            f"failed ({error}). Put it there by hand, or set {FOLDER} to a folder that holds {file.path}"
        ) from error


def _retrieve(file: RawFile, folder: str) -> Path:
    """Download a file, or the archive that contains it, into a folder."""
    # The checksums of the publishers' archives are not known, so the caller verifies the file itself.
    name = file.url.rpartition("/")[-1]
    unpack = pooch.Untar if file.url.endswith(".tar.gz") else pooch.Unzip
    unzip = None if file.member is None else unpack(members=[file.member])
    try:
        source = pooch.create(folder, base_url="", registry={name: None}, urls={name: file.url})
        paths = source.fetch(name, processor=unzip)
    except (zipfile.BadZipFile, tarfile.TarError) as error:
        raise DataError(f"{file.url} is no archive ({error}): get {file.path} by hand and set {FOLDER}") from error
    if unzip is None:
        return Path(paths)
    if len(paths) != 1:
        raise DataError(f"{file.url} no longer holds {file.member}: get {file.path} by hand and set {FOLDER}")
    return Path(paths[0])
