"""Sources of rows: chunks of arrays, checked as they are read."""

import dataclasses
import numbers
import operator
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from fairjax import checks
from fairjax.checks import numeric, vector
from fairjax.metrics import Weights
from fairjax.types import AnyArray, Batch, Inputs, Rows, WeightedBatch, weights_of

Chunk = WeightedBatch
"""Standardised rows with weights; in a `Batch`, all rows have weight 1."""

Source = Iterable[Batch | Chunk]
"""Chunks of rows that can be iterated more than once."""


@dataclasses.dataclass(frozen=True, eq=False)
class Chunks:
    """A source that slices arrays while it is iterated; made by `chunks`."""

    batch: Rows
    size: int
    weights: Any
    rows: Any
    scaler: Any

    def __len__(self) -> int:
        """Return the number of chunks."""
        return -(-self._count() // self.size)

    def __iter__(self) -> Iterator[Chunk]:
        """Iterate over the chunks, as new NumPy arrays."""
        narrow = Narrowed()
        for start in range(0, self._count(), self.size):
            chunk_rows: Any = slice(start, start + self.size)
            chunk_rows = chunk_rows if self.rows is None else np.asarray(self.rows[chunk_rows])
            y, a = (
                np.asarray(numeric(name, column[chunk_rows]))
                for name, column in zip("ya", self.batch[1:3], strict=True)
            )
            x = jax.tree.map(operator.itemgetter(chunk_rows), self.batch.x)
            y, a = y.astype(bool) if self._two_classes else y, a.astype(bool) if self._two_groups else a
            weights = weights_of(self.batch) if self.weights is None else self.weights
            weights = None if weights is None else np.asarray(numeric("weights", weights[chunk_rows]), float_dtype())
            yield Chunk(self._converted(x, narrow, start), y, a, weights)

    def _converted(self, x: Inputs, narrow: "Narrowed", start: int) -> Inputs:
        """Convert features to dtypes that JAX keeps."""
        if not checks.is_tree(x):
            x = np.asarray(numeric("x", x))  # slices may be masked arrays
            if self.scaler is not None or (x.ndim == 2 and x.dtype.kind not in "iu"):
                return self._scaled(x, narrow)
            if x.ndim == 2 and x.dtype.itemsize > 2:
                narrow(x)  # the network may convert these whole numbers to floats
        return jax.tree.map(np.asarray, checks.checked_inputs("x", x, first=start)[0])

    def _scaled(self, x: np.ndarray, narrow: "Narrowed") -> np.ndarray:
        """Convert features to JAX's precision, after standardising them in their own precision."""
        if x.dtype.itemsize <= (2 if x.dtype.kind in "iu" else float_dtype().itemsize):
            if self.scaler is None:
                return np.asarray(x, float_dtype())
            mean, scale = (np.asarray(array, float_dtype()) for array in self.scaler)
            return (np.asarray(x, float_dtype()) - mean[None]) / scale[None]
        if self.scaler is not None:
            _check_mean(*self.scaler)
            mean, scale = (np.asarray(array, np.float64) for array in self.scaler)
            x = (x.astype(np.float64) - mean[None]) / scale[None]
        return narrow(x)

    @cached_property
    def _two_classes(self) -> bool:
        return _holds_0_and_1(self.batch.y)

    @cached_property
    def _two_groups(self) -> bool:
        return _holds_0_and_1(self.batch.a)

    def _count(self) -> int:
        return (self.batch.y if self.rows is None else self.rows).shape[0]


class Narrowed:
    """Converts features of wide types to JAX's precision, chunk by chunk; rejects values that this would merge."""

    def __init__(self):
        """Initialise without any chunk."""
        self._extremes: np.ndarray | None = None
        """The least and the greatest value of each feature so far, since values may merge across chunks."""
        self._rows = 0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Convert the features of one chunk."""
        wide = x.reshape(len(x), -1)
        names = tuple(f"x{column}" for column in range(1, wide.shape[1] + 1))
        values = wide if self._extremes is None else np.concatenate([self._extremes, wide])
        with np.errstate(over="ignore"):  # values beyond float32 become inf and are rejected below
            narrow = values.astype(float_dtype())
        lost = np.argwhere(np.isfinite(values) & ~np.isfinite(narrow))
        if len(lost):
            row, column = lost[0]
            position = self._rows + row - (len(values) - len(wide))
            raise ValueError(
                f"column {names[column]!r} of x holds {values[row, column]:g} at place {position}, which "
                f"{narrow.dtype} cannot: choose another unit for it"
            )
        checks.check_merged(values, narrow, names)
        if len(wide):
            self._extremes = np.stack([np.fmin.reduce(values), np.fmax.reduce(values)])
        self._rows += len(wide)
        return narrow[len(values) - len(wide) :].reshape(x.shape)


def float_dtype() -> Any:
    """Return single precision, or double precision if JAX has it enabled."""
    return jnp.result_type(float)


def _holds_0_and_1(column: Any) -> bool:
    """Return whether a whole column holds only 0 and 1; a chunk of a column with more codes may do so by chance."""
    if len(column.shape) != 1 or getattr(column, "dtype", None) is np.dtype(bool):
        return False
    for start in range(0, column.shape[0], 2**20):
        values = np.asarray(column[start : start + 2**20])
        if not np.all((values == 0) | (values == 1)):
            return False
    return True


def chunks(
    batch: Rows,
    size: int,
    *,
    weights: Weights | None = None,
    rows: Int[AnyArray, " m"] | None = None,
    scaler: tuple[Float[AnyArray, " d"], Float[AnyArray, " d"]] | None = None,
) -> Chunks:
    """Make a source from a table: chunks of `size` rows, the last one shorter, sliced on demand.

    Args:
        batch: `Batch(x, y, a)` of objects that can be sliced by rows: NumPy arrays, `np.memmap` of files larger than
            memory, or JAX arrays. Labels and groups are booleans, codes, or memberships; they are checked when they are
            counted. A column that holds only 0 and 1 becomes booleans. Features may be a tree of such objects. A matrix
            becomes JAX's floats, unless it holds integers and there is no scaler; if it is in double precision, or
            whole numbers of 32 bits or more, every chunk is checked for values that would merge. Images and the leaves
            of a tree keep their dtypes, with 32 bits instead of 64, and their floats must be finite.
        size: number of rows per chunk, which determines the memory used. Some ten thousand keep a device busy.
        weights: sample weights; if omitted, those of the batch, or 1 if it has none.
        rows: row numbers to iterate over, in this order, such as `split.train`; all rows if omitted.
        scaler: mean and scale with which features are standardised, such as `(split.mean, split.scale)`; not
            standardised if omitted. Features in double precision are standardised in double precision. A tree has no
            scaler.

    Returns:
        A source of NumPy arrays. Its length is the number of chunks, and it can be iterated any number of times.

    Raises:
        ValueError: if `size` is not positive, lengths or pandas indices differ, a row number does not exist, or the
            scaler does not match; and, during iteration, if features lose their differences in JAX's precision.
        TypeError: if a column is sparse, masked, or holds anything but numbers and booleans.

    Example:
        >>> table = Batch(np.eye(5), np.arange(5) > 2, np.arange(5) % 2 == 0)
        >>> [chunk.y.tolist() for chunk in chunks(table, 2)]
        [[False, False], [False, True], [True]]
    """
    if not isinstance(size, numbers.Integral) or size < 1:
        raise ValueError(f"size must be a positive number of rows, got {size}")
    columns = {**batch._asdict(), **({} if weights is None else {"weights": weights})}
    checks.check_index(**columns)
    x = columns["x"]
    if scaler is not None and checks.is_tree(x):
        raise ValueError(
            f"scaler is for one array of features, found a {type(x).__name__} of several: standardise its columns "
            "before, and leave scaler out"
        )
    columns = {name: None if column is None else _sliceable_tree(name, column) for name, column in columns.items()}
    lengths = {
        name + jax.tree_util.keystr(path): leaf.shape[0]
        for name, column in columns.items()
        for path, leaf in jax.tree_util.tree_flatten_with_path(column)[0]
    }
    if len(set(lengths.values())) > 1:
        raise ValueError(f"all columns must have one length, got {lengths}")
    if weights is not None:
        weights = columns["weights"]
    batch = batch._replace(**{name: columns[name] for name in batch._fields if name != "weights" or weights is None})
    rows = None if rows is None else _row_numbers(rows, columns["y"].shape[0])
    return Chunks(batch, int(size), weights, rows, None if scaler is None else _scaler(scaler, batch.x.shape[1:]))


def _sliceable_tree(name: str, column: Any) -> Any:
    """Convert a column, or every leaf of a tree, to an object that can be sliced by row numbers."""
    if name != "x" or not checks.is_tree(column):
        return _sliceable(name, column)

    def convert(path, leaf):
        return _sliceable(name + jax.tree_util.keystr(path), leaf)

    return jax.tree_util.tree_map_with_path(convert, column, is_leaf=lambda leaf: isinstance(leaf, list))


def _sliceable(name: str, column: Any) -> Any:
    """Convert a column to an object with a shape that can be sliced by row numbers, such as an array."""
    if hasattr(column, "iloc") and len(column.shape) == 2 and all(kind.kind in "biuf" for kind in column.dtypes):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    convertible = isinstance(column, np.ma.MaskedArray) or any(hasattr(column, name) for name in ("iloc", "toarray"))
    if convertible or not hasattr(column, "shape"):
        column = numeric(name, column)
    if not len(column.shape):
        raise ValueError(f"{name} must have rows, found a single number")
    return column


def _row_numbers(rows: Any, count: int) -> Int[np.ndarray, " m"]:
    """Check that all row numbers exist."""
    rows = np.asarray(vector("rows", rows))
    if rows.dtype.kind not in "iu":
        raise ValueError(f"rows must be row numbers, found dtype {rows.dtype}: make them of a mask by np.flatnonzero")
    wrong = (rows < 0) | (rows >= count)
    if wrong.any():
        raise ValueError(f"rows must be row numbers from 0 to {count - 1}, found {rows[int(np.argmax(wrong))]}")
    return rows


def _scaler(scaler: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Check that there are a mean and a scale for each feature."""
    if not isinstance(scaler, tuple | list) or len(scaler) != 2:
        raise ValueError("scaler must be a mean and a scale, such as (split.mean, split.scale)")
    mean, scale = (np.asarray(numeric(name, array)) for name, array in zip(("mean", "scale"), scaler, strict=True))
    if mean.shape != shape or scale.shape != shape:
        raise ValueError(
            f"scaler must hold a mean and a scale of shape {shape}, one number per feature, found shapes {mean.shape} "
            f"and {scale.shape}: of splits of several seeds take one seed's, such as (split.mean[0], split.scale[0])"
        )
    if not (np.isfinite(mean).all() and np.isfinite(scale).all() and (scale > 0).all()):
        raise ValueError("scaler must hold finite means and positive finite scales: a constant feature has scale 1")
    return mean, scale


def _check_mean(mean: np.ndarray, scale: np.ndarray) -> None:
    """Check that means are not rounded by more than a thousandth of the scale, which would shift all rows."""
    if mean.dtype.kind != "f":
        return
    rounded = np.spacing(np.abs(mean)).astype(np.float64) > 1e-3 * scale
    if rounded.any():
        feature = int(np.argmax(rounded))
        raise ValueError(
            f"the scaler's mean of feature {feature}, {mean.flat[feature]:g}, is rounded in {mean.dtype} by up to "
            f"{np.spacing(np.abs(mean.flat[feature])):g}, and the scale is {scale.flat[feature]:g}: give both in "
            "float64"
        )


def padded(chunk: Batch | Chunk, size: int) -> Chunk:
    """Pad a chunk to `size` rows with rows of weight 0, whose features are those of the last row.

    Features that are all 0 may not be valid rows: a text in which all tokens are masked has no mean, and NaN times the
    weight 0 is NaN.

    Example:
        >>> padded(Batch(np.ones((1, 2)), np.array([True]), np.array([False])), 3).weights.tolist()
        [1.0, 0.0, 0.0]
    """
    x, y, a, weights = chunk.x, chunk.y, chunk.a, getattr(chunk, "weights", None)
    rows = y.shape[0]
    weights = np.ones(rows, float_dtype()) if weights is None else weights
    missing = size - rows
    if missing == 0:
        return Chunk(x, y, a, weights)
    mode: Literal["edge", "constant"] = "edge" if rows else "constant"
    x = jax.tree.map(lambda part: np.pad(part, [(0, missing)] + [(0, 0)] * (part.ndim - 1), mode=mode), x)
    y, a, weights = (np.pad(part, [(0, missing)] + [(0, 0)] * (part.ndim - 1)) for part in (y, a, weights))
    return Chunk(x, y, a, weights)
