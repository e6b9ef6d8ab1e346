"""Image files as one memory-mapped array: decoded and resized once, then read from the array.

An array belongs to its files: its name is a hash of their names, sizes and times of change, and of the settings. It
gets this name, and its manifest, only once it is complete. An interrupted conversion goes on where it stopped.
"""

import fcntl
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pooch
from jaxtyping import UInt8

FORMAT = 1
"""Version of the array's layout."""

_CHUNK = 64
"""Number of images that are decoded between two notes of the progress."""

Colours = Literal["RGB", "grey"]
"""Channels of an array: red, green and blue, or grey."""


class UnreadableImage(ValueError):
    """Raised when an image file cannot be decoded."""


class DecodedImages(NamedTuple):
    """Images as an array."""

    pixels: UInt8[np.ndarray, "n h w c"]
    """The images, from 0 to 255, memory-mapped: only rows that are used are read."""
    files: tuple[int, ...]
    """Position of each image among the given files; not all of them if unreadable images were skipped."""


def decode_images(
    folder: str | os.PathLike[str],
    files: Sequence[str],
    *,
    size: int | tuple[int, int] | None = None,
    colours: Colours = "RGB",
    on_unreadable: Literal["raise", "skip"] = "raise",
    cache: str | os.PathLike[str] | None = None,
) -> DecodedImages:
    """Decode image files into one memory-mapped array, or open the array if it was made before.

    Images are turned as their EXIF orientation says, cropped around their centre to the shape of `size`, and resized
    bilinearly. The array needs one byte per pixel and channel on disk; memory is needed for a few images at a time.

    Args:
        folder: folder to which the names of files are relative.
        files: names of the files.
        size: height and width, or one number for both; if omitted, all images must have the same size.
        colours: whether the array has three channels or one.
        on_unreadable: what to do with an image that cannot be decoded: stop, or leave it out.
        cache: folder of arrays; the user's cache folder if omitted.

    Returns:
        The images and which of the files they are.

    Raises:
        ValueError: if there are no files, images have different sizes and no size is given, or an argument is invalid.
        UnreadableImage: if an image cannot be decoded.
        FileNotFoundError: if a file does not exist.
        ModuleNotFoundError: if Pillow is not installed.

    Example:
        >>> decode_images("nowhere", ["a.jpg"])
        Traceback (most recent call last):
        ...
        FileNotFoundError: there is no file nowhere/a.jpg
    """
    shape = _checked_size(size)
    if colours not in ("RGB", "grey"):
        raise ValueError(f"colours must be RGB or grey, got {colours!r}")
    if on_unreadable not in ("raise", "skip"):
        raise ValueError(f"on_unreadable must be raise or skip, got {on_unreadable!r}")
    if not len(files):
        raise ValueError(f"there are no image files to read in {folder}: choose another folder or fewer conditions")
    folder = Path(folder).expanduser()
    digest = _digest(folder, files, shape, colours)
    root = Path(pooch.os_cache("fairjax")) / "images" if cache is None else Path(cache).expanduser()
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / f"{digest}.lock"):
        job = _Job(folder, tuple(files), shape, colours, on_unreadable, root / digest)
        manifest = job.manifest()
        if manifest is None:
            _pillow()
            manifest = job.convert()
    unreadable = manifest["unreadable"]
    if unreadable and on_unreadable == "raise":
        number, reason = min((int(number), reason) for number, reason in unreadable.items())
        raise UnreadableImage(_unreadable(folder / files[number], reason))
    readable = tuple(number for number in range(len(files)) if str(number) not in unreadable)
    pixels = np.load(job.array, mmap_mode="r")
    return DecodedImages(pixels[: len(readable)], readable)


class _Job(NamedTuple):
    """The conversion of files into an array."""

    folder: Path
    files: tuple[str, ...]
    size: tuple[int, int] | None
    colours: Colours
    on_unreadable: str
    root: Path

    @property
    def array(self) -> Path:
        return self.root.with_suffix(".npy")

    @property
    def unfinished(self) -> Path:
        return self.root.with_suffix(".unfinished.npy")

    def manifest(self) -> dict[str, Any] | None:
        """Return what is known about the complete array; None if there is none."""
        manifest = _read_json(self.root.with_suffix(".json"))
        complete = manifest is not None and "unreadable" in manifest and self.array.is_file()
        return manifest if complete else None

    def convert(self) -> dict[str, Any]:
        """Decode all images, beginning where an earlier call stopped."""
        progress = self.root.with_suffix(".progress.json")
        state = _read_json(progress)
        if state is None or not self.unfinished.is_file():
            state = {"next": 0, "unreadable": {}, "shape": None}
        array = None if state["shape"] is None else np.load(self.unfinished, mmap_mode="r+")
        workers = min(32, os.cpu_count() or 1)
        with ThreadPoolExecutor(workers) as pool:
            while state["next"] < len(self.files):
                numbers = range(state["next"], min(state["next"] + _CHUNK, len(self.files)))
                images = pool.map(self._decoded, numbers)
                for number, image in zip(numbers, images, strict=True):
                    if isinstance(image, str):
                        if self.on_unreadable == "raise":
                            raise UnreadableImage(_unreadable(self.folder / self.files[number], image))
                        state["unreadable"][str(number)] = image
                        continue
                    if array is None:
                        state["shape"], state["first"] = list(image.shape), number
                        whole = (len(self.files), *image.shape)
                        array = np.lib.format.open_memmap(self.unfinished, "w+", np.uint8, whole)
                    if list(image.shape) != state["shape"]:
                        raise ValueError(self._different_sizes(state["first"], array.shape[1:], number, image.shape))
                    array[number - len(state["unreadable"])] = image
                state["next"] = numbers.stop
                if array is not None:
                    array.flush()
                _write_json(progress, state)
        if array is None:
            number, reason = next(iter(state["unreadable"].items()))
            raise UnreadableImage(_unreadable(self.folder / self.files[int(number)], reason, "none can be decoded"))
        manifest = {
            "format": FORMAT,
            "folder": str(self.folder),
            "files": len(self.files),
            "shape": state["shape"],
            "unreadable": state["unreadable"],
        }
        self.unfinished.replace(self.array)
        _write_json(self.root.with_suffix(".json"), manifest)
        progress.unlink(missing_ok=True)
        return manifest

    def _decoded(self, number: int) -> UInt8[np.ndarray, "h w c"] | str:
        """Decode an image; return the reason if this is not possible."""
        from PIL import Image, ImageOps

        try:
            with Image.open(self.folder / self.files[number]) as opened:
                if opened.mode.startswith(("I", "F")):
                    return f"its pixels have mode {opened.mode}, convert them to 8 bits"
                image = ImageOps.exif_transpose(opened).convert("L" if self.colours == "grey" else "RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow raises all of these
            return (str(error).splitlines() or [type(error).__name__])[0]
        if self.size is not None:
            height, width = self.size
            image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
        return pixels[..., None] if pixels.ndim == 2 else pixels

    def _different_sizes(self, first: int, shape: Sequence[int], number: int, other: Sequence[int]) -> str:
        return (
            f"images have different sizes: {self.files[first]} has {shape[0]} x {shape[1]} pixels, "
            f"{self.files[number]} {other[0]} x {other[1]}; give the size to which all are resized, such as "
            f"size=({shape[0]}, {shape[1]}), on the command line --image-size {shape[0]} {shape[1]}"
        )


def _unreadable(file: Path, reason: str, beside: str = "") -> str:
    more = f" ({beside})" if beside else ""
    return (
        f"{file} cannot be decoded: {reason}{more}; repair or remove the file, or leave such images out with "
        'on_unreadable="skip", on the command line --on-unreadable skip'
    )


def _checked_size(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(side, int | np.integer) and 1 <= side <= 2**14 for side in pair):
        raise ValueError(f"size must be a height and a width from 1 to {2**14} pixels, or one number for both: {size}")
    return int(pair[0]), int(pair[1])


def _digest(folder: Path, files: Sequence[str], size: tuple[int, int] | None, colours: str) -> str:
    """Return a hash of what an array depends on."""
    digest = hashlib.sha256(json.dumps([FORMAT, size, colours, str(folder.resolve())]).encode())
    for name in files:
        try:
            about = (folder / name).stat()
        except OSError as error:
            raise FileNotFoundError(f"there is no file {folder / name}") from error
        digest.update(json.dumps([name, about.st_size, about.st_mtime_ns]).encode())
    return digest.hexdigest()[:32]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait until no other process converts the same files."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _read_json(path: Path) -> dict[str, Any] | None:
    """Read a dictionary; None if there is no file, or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


_numbers = itertools.count()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file that is either the old or the new one, also if the process is killed."""
    temporary = path.with_suffix(f".{os.getpid()}-{next(_numbers)}")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.replace(path)


def _pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'reading image files needs Pillow, which is not installed: pip install "fairjax[images]"'
        ) from error
