"""Features of a large network: computed once, chunk by chunk, and kept in memory-mapped files bound to the network.

The features of a row are the input of the network's last layer, or what a function of the user's returns. Heads are
trained and debiased on them in seconds, for many seeds, without running the network again: see `fairjax.nn.last_layer`
and `fairjax.nn.with_head`.

Kept features are a folder: `features.json` describes what they were computed from, and `features.npy` holds one row of
features per row of data. A folder with the requested name is always complete.
"""

import dataclasses
import fcntl
import json
import numbers
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.nn.fingerprint import digests
from fairjax.nn.network import FeaturesFn, Network
from fairjax.types import Variables

FORMAT = 1
"""Version of the layout of a folder of features."""

PROBED = 8
"""Number of rows whose features are computed again when kept features are used, and whose memory is measured."""

TOLERANCE = 1e-3
"""Largest difference of features that are computed again, relative to the largest of them."""

FeatureFunction = Callable[[Variables, Any], Any]
"""A pure function (variables, x) -> features: an array with rows on its first axis, or a tree of such arrays."""

_ABOUT, _LOCK = "features.json", "lock"


class FeaturesError(ValueError):
    """Raised when kept features belong to other data or another network, or cannot be written."""


def cached_features(
    body: Network | FeatureFunction,
    variables: Variables,
    x: Any,
    path: str | Path,
    *,
    memory: Any = 2**30,
    rows_per_chunk: Any = None,
    overwrite: bool = False,
) -> Any:
    """Return the features of all rows from a folder; compute them chunk by chunk if the folder does not exist.

    The folder is bound to what the features were computed from: names, shapes, types and bytes of all variables (masks
    and statistics too) and of all rows, by SHA-256, and the name of the function. When kept features are used, those of
    8 rows are also computed again and compared, which finds a function that was changed under the same name. Features
    that belong to anything else are never returned: the error says what differs.

    After each chunk the rows done are noted. A process that is killed loses at most the chunk it was computing: the
    next call with the same arguments continues. One process computes a folder at a time.

    Args:
        body: a network, whose `features` are the input of its last layer; or a pure function (variables, x) -> array or
            tree of arrays with rows on the first axis, in which a row's features do not depend on other rows. Functions
            of a module are better than lambdas, since their name is compared.
        variables: the network's variables; used in evaluation mode.
        x: the rows as the network takes them, standardised if it was trained so: an array or a tree of arrays with rows
            on the first axis, NumPy arrays and `np.memmap` included. Whole numbers must fit in JAX's integers.
        path: the folder; a leading `~` is the home folder.
        memory: bytes that the computation of a chunk may use beside the variables; determines the rows per chunk.
        rows_per_chunk: rows per chunk, in place of `memory`.
        overwrite: whether to compute anew and replace features of other variables, rows or functions.

    Returns:
        A read-only `np.memmap` (n, *features), or a tree of them as the function returns it.

    Raises:
        FeaturesError: if the folder holds other features and `overwrite` is false, is no folder of features, is in use
            by another process, or cannot be written; or if features are not finite.
        ValueError: if an argument is invalid.

    Example:
        >>> from fairjax.nn import Mlp, from_linen
        >>> network, x = from_linen(Mlp(widths=(4, 3))), np.eye(5, dtype=np.float32)
        >>> variables = network.init(jax.random.key(0), x)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cached_features(network, variables, x, Path(folder) / "features").shape
        (5, 3)
    """
    path = Path(path).expanduser()
    path = path.parent.resolve() / path.name
    for name, value in (("memory", memory), ("rows_per_chunk", rows_per_chunk)):
        if value is not None and not (isinstance(value, numbers.Integral) and int(value) > 0):
            raise ValueError(f"{name} must be a positive whole number, got {value!r}")
    task = _Task.of(body, variables, x)
    about = task.about()
    if overwrite or not path.exists():
        if path.exists():
            _read_about(path)  # replaces nothing but features
        _compute(task, about, path, memory, rows_per_chunk, overwrite)
    return _kept(task, about, path)


@dataclasses.dataclass(frozen=True)
class _LastInput:
    """The features of a network as a function of variables and rows."""

    features: FeaturesFn

    def __call__(self, variables: Variables, x: Any) -> Any:
        return self.features(variables, x)[0]


@dataclasses.dataclass(frozen=True)
class _Task:
    """What is computed from what."""

    function: FeatureFunction
    name: str
    """Name of the function, as the folder notes it."""
    variables: Any
    x: Any
    rows: int
    structure: Any
    """Abstract features of `PROBED` rows, or of all rows if there are fewer."""

    @classmethod
    def of(cls, body: Any, variables: Variables, x: Any) -> "_Task":
        """Check the arguments."""
        named = body
        if isinstance(body, Network):
            if body.features is None:
                raise ValueError(
                    "the network has no `features`: give Network(init, apply, features), or pass a function "
                    "(variables, x) -> features in the place of the network"
                )
            named, body = body.features, _LastInput(body.features)
        rows = _num_rows(x)
        x = jax.tree.map(lambda leaf: np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf, x)
        probe = jax.tree.map(lambda leaf: _abstract(leaf, min(rows, PROBED)), x)
        structure = jax.eval_shape(body, variables, probe)
        leaves = jax.tree.leaves(structure)
        if not leaves or any(leaf.shape[:1] != (min(rows, PROBED),) for leaf in leaves):
            shapes = ", ".join(str(leaf.shape) for leaf in leaves) or "none"
            raise ValueError(
                f"features must be arrays with one row per row of x on their first axis, found shapes {shapes} for "
                f"{min(rows, PROBED)} rows"
            )
        return cls(body, _name(named), jax.tree.map(jnp.asarray, variables), x, rows, structure)

    def about(self) -> dict[str, Any]:
        """Describe what the features are computed from, and the features."""
        return {
            "format": FORMAT,
            "function": self.name,
            "rows": self.rows,
            "variables": digests(self.variables),
            "x": digests(self.x),
            "features": {file: [list(shape), str(dtype)] for file, (shape, dtype) in self.files().items()},
        }

    def files(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Return shape and type of each file of features."""
        leaves, _ = jax.tree_util.tree_flatten_with_path(self.structure)
        names = [jax.tree_util.keystr(keys, simple=True, separator=".").replace("/", "_") for keys, _ in leaves]
        files = [f"features.{name}.npy" if name else "features.npy" for name in names]
        return {
            file: ((self.rows, *leaf.shape[1:]), _stored_dtype(leaf.dtype))
            for file, (_, leaf) in zip(files, leaves, strict=True)
        }

    def compute(self, rows: slice | np.ndarray, size: int) -> list[np.ndarray]:
        """Compute the features of some rows, filled up to `size` rows so that one program serves all chunks."""
        count = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        x = jax.tree.map(lambda leaf: _filled(_values(leaf, rows), size), self.x)
        leaves = jax.tree.leaves(_apply(self.function, self.variables, x))
        return [np.asarray(leaf).astype(_stored_dtype(leaf.dtype))[:count] for leaf in leaves]

    def rows_within(self, memory: int) -> int:
        """Return the number of rows per chunk that some bytes of memory suffice for."""
        size = min(self.rows, PROBED)
        x = jax.tree.map(lambda leaf: _abstract(leaf, size), self.x)
        analysis = _apply.lower(self.function, self.variables, x).compile().memory_analysis()
        used = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((x, self.structure)))
        used += getattr(analysis, "temp_size_in_bytes", 32 * used)  # a backend that does not tell
        return max(1, min(self.rows, memory * size // used))


@partial(jax.jit, static_argnames="function")
def _apply(function: FeatureFunction, variables: Any, x: Any) -> Any:
    return function(variables, x)


def _name(function: Any) -> str:
    """Return the name of a function, or of the class of a callable object, with its module."""
    function = function.func if isinstance(function, partial) else function
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def _num_rows(x: Any) -> int:
    """Return the number of rows of a tree of arrays."""
    shapes = [getattr(leaf, "shape", ()) for leaf in jax.tree.leaves(x)]
    if not shapes or len({shape[:1] for shape in shapes}) > 1 or not shapes[0] or not shapes[0][0]:
        listed = ", ".join(map(str, shapes)) or "none"
        raise ValueError(f"x must be arrays with one number of rows, at least one, found shapes {listed}")
    return int(shapes[0][0])


def _abstract(leaf: Any, rows: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((rows, *leaf.shape[1:]), jax.dtypes.canonicalize_dtype(leaf.dtype))


def _values(leaf: Any, rows: slice | np.ndarray) -> np.ndarray:
    """Read rows in JAX's precision."""
    values = np.asarray(leaf[rows])
    dtype = jax.dtypes.canonicalize_dtype(values.dtype)
    if dtype.kind in "iu" and dtype != values.dtype and values.size:
        limits = np.iinfo(dtype)
        if values.min() < limits.min or values.max() > limits.max:
            raise ValueError(f"x holds whole numbers from {values.min()} to {values.max()}, beyond {dtype}")
    return values.astype(dtype, copy=False)


def _filled(values: np.ndarray, size: int) -> np.ndarray:
    """Repeat the last row until there are `size` rows."""
    missing = size - len(values)
    return np.concatenate([values, np.repeat(values[-1:], missing, axis=0)]) if missing else values


def _stored_dtype(dtype: Any) -> np.dtype:
    """Return the type of a file: NumPy's files have no types such as bfloat16, of which float32 holds all values."""
    return np.dtype(dtype) if np.dtype(dtype).kind in "biufc" else np.dtype(np.float32)


def _kept(task: _Task, about: dict[str, Any], path: Path) -> Any:
    """Open a complete folder after checking that it holds the features of this task."""
    difference = _difference(_read_about(path), about)
    if difference:
        raise FeaturesError(
            f"the features at {path} are of something else: {difference}; pass overwrite=True to compute them anew, or "
            "choose another path"
        )
    arrays = _open(task, path)
    differs = _differs(task, arrays, task.rows)
    if differs:
        raise FeaturesError(
            f"the features at {path} are not what {task.name} computes now: {differs}; pass overwrite=True to compute "
            "them anew, or choose another path"
        )
    return jax.tree.unflatten(jax.tree.structure(task.structure), arrays)


def _open(task: _Task, path: Path) -> list[Any]:
    arrays = []
    for file, (shape, dtype) in task.files().items():
        try:
            array = np.load(path / file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise FeaturesError(
                f"{path / file} is damaged ({error}); pass overwrite=True to compute the features anew"
            ) from error
        if array.shape != shape or array.dtype != dtype:
            raise FeaturesError(
                f"{path / file} holds {array.dtype} {array.shape}, expected {dtype} {shape}; pass overwrite=True to "
                "compute the features anew"
            )
        arrays.append(array)
    return arrays


def _read_about(path: Path) -> dict[str, Any]:
    """Read the description of a folder of features."""
    try:
        about = json.loads((path / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FeaturesError(
            f"{path} is no folder of features ({_ABOUT}: {error}), and is not replaced; choose another path or remove "
            "it"
        ) from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        version = about.get("format") if isinstance(about, dict) else type(about).__name__
        raise FeaturesError(f"{path} has format {version}, this version of fairjax reads format {FORMAT}")
    return about


def _difference(kept: dict[str, Any], about: dict[str, Any]) -> str:
    """Say in what two descriptions differ; empty if in nothing."""
    if kept.get("function") != about["function"]:
        return f"they are of the function {kept.get('function')}, and this is {about['function']}"
    for name, kind in (("x", "the rows x"), ("variables", "the variables"), ("features", "the features")):
        before, now = kept.get(name), about[name]
        if not isinstance(before, dict):
            return f"its {_ABOUT} lacks {name}"
        for leaf in [*before, *now]:
            if leaf not in before or leaf not in now:
                return f"{kind} {'have no' if leaf in before else 'now have'} {leaf}"
            if before[leaf] != now[leaf]:
                same_shape = before[leaf][:2] == now[leaf][:2]
                changed = "other values" if same_shape else f"{_shown(now[leaf])} and had {_shown(before[leaf])}"
                return f"{kind} have {changed}{' in ' + leaf if leaf else ''}"
    return ""


def _shown(entry: list[Any]) -> str:
    return f"{entry[1]} {tuple(entry[0])}"


def _differs(task: _Task, arrays: list[Any], done: int) -> str:
    """Compute the features of some of the first `done` rows again; say what differs, or nothing."""
    count = min(done, PROBED)
    rows = np.unique(np.linspace(0, done - 1, count).astype(np.int64))
    for array, values in zip(arrays, task.compute(rows, min(task.rows, PROBED)), strict=True):
        stored = np.asarray(array[rows])
        if stored.dtype.kind in "biu":
            if not np.array_equal(stored, values):
                return f"they differ in whole numbers in {count} rows that were computed again"
            continue
        scale, difference = np.abs(values).max(initial=0.0), np.abs(stored - values).max(initial=0.0)
        if not difference <= TOLERANCE * scale:
            return f"they differ by {difference:.2g} of {scale:.2g} in {count} rows that were computed again"
    return ""


def _compute(
    task: _Task, about: dict[str, Any], path: Path, memory: int, rows_per_chunk: int | None, overwrite: bool
) -> None:
    """Compute the features into an unfinished folder beside the path, which then gets its name."""
    unfinished = path.with_name(f".unfinished-{path.name}")
    try:
        with _locked(unfinished):
            if path.exists() and not overwrite:  # another process has finished them meanwhile
                return
            done = _resumed(task, about, unfinished)
            size = rows_per_chunk or task.rows_within(memory)
            for start in range(done, task.rows, size):
                chunk = task.compute(slice(start, min(start + size, task.rows)), min(size, task.rows))
                _check_finite(task, chunk, start)
                _write(task, unfinished, chunk, start)
                _write_json(unfinished / _ABOUT, {**about, "done": start + len(chunk[0])})
            _write_json(unfinished / _ABOUT, about)
            _replace(unfinished, path)
            (path / _LOCK).unlink(missing_ok=True)
    except OSError as error:
        raise FeaturesError(
            f"cannot write features at {path} ({error}); free disk space or choose another path, and call again: what "
            "was computed is kept"
        ) from error


def _check_finite(task: _Task, chunk: list[np.ndarray], start: int) -> None:
    for file, values in zip(task.files(), chunk, strict=True):
        broken = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if broken.any():
            raise FeaturesError(
                f"the features of row {start + int(np.argmax(broken))} are not finite ({file}); look for missing or "
                "extreme values in this row of x"
            )


def _resumed(task: _Task, about: dict[str, Any], unfinished: Path) -> int:
    """Return the number of rows that an unfinished folder holds; begin anew if they are of something else."""
    try:
        kept = _read_about(unfinished)
        done = kept.get("done", 0)
        if isinstance(done, int) and 0 < done <= task.rows and not _difference(kept, about):
            if not _differs(task, _open(task, unfinished), done):
                return done
    except FeaturesError:
        pass
    for entry in unfinished.iterdir():
        if entry.name != _LOCK:
            entry.unlink()
    for file, (shape, dtype) in task.files().items():
        np.lib.format.open_memmap(unfinished / file, mode="w+", dtype=dtype, shape=shape)
    return 0


def _write(task: _Task, folder: Path, chunk: list[np.ndarray], start: int) -> None:
    """Write rows by ordinary writes, since a full disk under a memory map would end the process."""
    for (file, (shape, dtype)), values in zip(task.files().items(), chunk, strict=True):
        row = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        with (folder / file).open("r+b") as stream:
            header = os.fstat(stream.fileno()).st_size - shape[0] * row
            stream.seek(header + start * row)
            stream.write(np.ascontiguousarray(values).data)
            stream.flush()
            os.fsync(stream.fileno())


def _write_json(path: Path, content: Any) -> None:
    """Write a JSON file, completely or not at all."""
    temporary = path.with_suffix(".temporary")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(json.dumps(content, indent=1) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _replace(unfinished: Path, path: Path) -> None:
    """Give a folder its name; features that had this name are removed afterwards."""
    if not path.exists():
        unfinished.rename(path)
        return
    backup = Path(tempfile.mkdtemp(prefix=f".unfinished-{path.name}-old-", dir=path.parent))
    path.rename(backup / path.name)
    unfinished.rename(path)
    shutil.rmtree(backup, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, which is made if necessary; without one on file systems that have no locks."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _LOCK).open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise FeaturesError(
                    f"another process is computing {folder.name.removeprefix('.unfinished-')} in {folder.parent}; wait "
                    "until it ends, or choose another path"
                ) from error
            except OSError:
                yield
                return
            if _is_open_file(stream.fileno(), folder / _LOCK):
                yield
                return


def _is_open_file(handle: int, path: Path) -> bool:
    """Return whether a path still names an open file, which it does not once the folder got its name."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
