"""Exact sums over chunks, spread over the devices of a mesh."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from fairjax import checks, metrics
from fairjax.checks import numeric, vector
from fairjax.metrics import Measure, Parity, num_classes, num_groups
from fairjax.streaming.source import Chunk, Narrowed, Source, float_dtype, padded
from fairjax.types import Batch, Inputs

AXIS = "rows"
"""Name of the mesh axis over which a chunk's rows are distributed."""

MAX_ROWS = 2**24
"""Largest number of rows per chunk, over all processes, that float32 counts exactly."""


class Kind(NamedTuple):
    """Number of groups and classes of a measure; static."""

    num_groups: int = 2
    num_classes: int = 2

    @classmethod
    def of(cls, measure: Measure) -> "Kind":
        """Return the numbers of groups and classes of a measure."""
        if getattr(measure, "membership", None) == "solved":
            raise ValueError(
                'memberships are counted as "weighted" over chunks, and the measure asks for "solved": sum '
                "fairjax.metrics.confusion and fairjax.metrics.gram over the chunks by streaming.sum_over_chunks, and "
                "solve at the end"
            )
        return cls(num_groups(measure), num_classes(measure))


def mesh(devices: Sequence[Any] | None = None) -> jax.sharding.Mesh:
    """Make a mesh with a rows axis over the given devices, or over all devices of all processes if omitted.

    Example:
        >>> mesh().axis_names
        ('rows',)
    """
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,), devices=devices)


def sum_over_chunks(
    function: Callable[..., PyTree[Array]],
    args: tuple[Any, ...],
    source: Source,
    *,
    num_groups: int = 2,
    num_classes: int = 2,
    mesh: jax.sharding.Mesh | None = None,
) -> PyTree[Array]:
    """Sum `function(*args, batch, weights)`, a tree of sums over a chunk's rows, over all chunks.

    On several devices, the function is called with a part of the chunk's rows on each, and the results are added; it
    must therefore be a sum over rows of their contributions times their weights. Take derivatives inside the function,
    not through this sum. The sum over chunks compensates rounding errors (Neumaier's sum), so its precision does not
    depend on the number of chunks. Matrix products use the highest precision.

    Args:
        function: a pure and hashable function, which is compiled once per shape of a chunk; create it only once. It
            takes `args`, a `Batch` and float32 weights, which are 0 for rows of padding (their features are those of
            another row).
        args: trees of arrays, the same for all chunks.
        source: the rows.
        num_groups: number of groups; if there are more than two, groups are codes or memberships.
        num_classes: number of classes; if there are more than two, labels are codes.
        mesh: devices over which each chunk's rows are distributed, from `mesh()`; one device if omitted.

    Returns:
        The sums, as arrays of this process.

    Raises:
        ValueError: if the source has no chunks, chunks do not match, or the mesh has other axes.

    Example:
        >>> from fairjax.streaming import chunks
        >>> def moments(power, batch, weights):
        ...     return (batch.x**power * weights[:, None]).sum(axis=0)
        >>> table = Batch(np.arange(10.0).reshape(5, 2), np.arange(5) > 2, np.arange(5) > 1)
        >>> sum_over_chunks(moments, (jnp.array(1.0),), chunks(table, 2)).tolist()
        [20.0, 25.0]
    """
    return sum_with_kind(function, args, source, mesh, Kind(num_groups, num_classes))


def sum_with_kind(
    function, args, source: Source, mesh: jax.sharding.Mesh | None, kind: Kind, measure: Measure | None = None
):
    """Sum a function of chunks over a source, for given numbers of groups and classes."""
    high, low = running_sums(function, args, source, mesh, kind, measure)
    return jax.tree.map(lambda high, low: jnp.asarray(joined(high, low), high.dtype), high, low)


def running_sums(
    function, args, source: Source, mesh: jax.sharding.Mesh | None, kind: Kind, measure: Measure | None = None
):
    """Compute the sum over all chunks and the accumulated rounding error, as two trees."""
    if mesh is not None and mesh.axis_names != (AXIS,):
        raise ValueError(
            f"the mesh must have one axis named {AXIS!r}, got {mesh.axis_names}; make it by streaming.mesh()"
        )
    if mesh is not None:
        args = jax.device_put(args, jax.sharding.NamedSharding(mesh, jax.P()))
    running = None
    for chunk in _prepared(source, mesh, kind, measure):
        before = running
        running = _add(running, _part(function, mesh, args, chunk))
        jax.block_until_ready(before)  # otherwise chunks would queue up in memory
    if running is None:
        raise ValueError("the source has no chunk; a generator that was iterated before is empty")
    return running


@partial(jax.jit, static_argnames=("function", "mesh"))
def _part(function, mesh: jax.sharding.Mesh | None, args, chunk: Chunk):
    """Compute a chunk's sums, with its rows distributed over the mesh."""

    def local(args, chunk: Chunk):
        has_weight = jnp.asarray(chunk.weights) > 0

        def as_with_weight(leaf):  # 0 times NaN is NaN, and zeros may not be a valid row
            valid = leaf[jnp.argmax(has_weight)]
            if jnp.issubdtype(leaf.dtype, jnp.inexact):
                valid = jnp.where(jnp.isfinite(valid), valid, jnp.zeros_like(valid))
            return jnp.where(has_weight.reshape(-1, *(1,) * (leaf.ndim - 1)), leaf, valid[None])

        batch = Batch(jax.tree.map(as_with_weight, chunk.x), chunk.y, chunk.a)
        with jax.default_matmul_precision("highest"):
            sums = function(*args, batch, chunk.weights)
        return sums if mesh is None else jax.lax.psum(sums, AXIS)

    if mesh is None:
        return local(args, chunk)
    # With check_vma, gradients with respect to replicated arguments would already be summed before the psum.
    spread = jax.shard_map(local, mesh=mesh, in_specs=(jax.P(), jax.P(AXIS)), out_specs=jax.P(), check_vma=False)
    return spread(args, chunk)


@jax.jit
def _add(running, part):
    """Add a chunk's sums to the running total and its rounding error (Neumaier's sum without branches)."""
    if running is None:
        return part, jax.tree.map(jnp.zeros_like, part)
    high, low = running
    return jax.tree.map(jnp.add, high, part), jax.tree.map(_lost, high, low, part)


def _lost(high, low, part):
    """Add to `low` the rounding error of adding `part` to `high` (Knuth's two-sum)."""
    if not jnp.issubdtype(high.dtype, jnp.floating):
        return low
    sum_ = high + part
    added = sum_ - high
    lost = (high - (sum_ - added)) + (part - added)
    return jnp.where(jnp.isfinite(sum_), low + lost, 0.0)


def joined(high, low):
    """Add the total and its rounding error on the host, in float64 for floats."""
    kind = np.float64 if jnp.issubdtype(high.dtype, jnp.floating) else high.dtype
    return np.add(high, low, dtype=kind)


def _prepared(source: Source, mesh: jax.sharding.Mesh | None, kind: Kind, measure: Measure | None) -> Iterator[Chunk]:
    """Iterate over checked chunks, padded to one size that the number of devices divides and placed on the mesh."""
    devices, share = (1, 1) if mesh is None else (len(mesh.local_devices), mesh.size // len(mesh.local_devices))
    size, features, rows_before, narrow = devices, None, 0, Narrowed()
    for number, chunk in enumerate(source):
        x, y, a, weights = (*chunk, None)[:4]
        checks.check_index(x=x, y=y, a=a, weights=weights)
        x = _chunk_inputs(x, narrow, number)
        y, a = vector("y", y), numeric("a", a)
        weights = None if weights is None else vector("weights", weights)
        shapes = _row_shapes(x)
        features = shapes if features is None else features
        if shapes != features:
            raise ValueError(f"chunk {number} has features of shape {shapes}, those before it of shape {features}")
        rows = jax.tree.leaves(x)[0].shape[0]
        checks.check_rows(f"chunk {number}: x", x, rows)
        lengths = [column.shape for column in (y, a, weights) if column is not None]
        members = (rows, kind.num_groups)
        if any(length != (rows,) for length in lengths) and not (a.shape == members and y.shape == (rows,)):
            raise ValueError(f"chunk {number} has {rows} rows of features, and y, a, weights of shapes {lengths}")
        size = max(size, -(-rows // devices) * devices)
        if size * share > MAX_ROWS:
            raise ValueError(
                f"chunk {number} has {size * share} rows, of which float32 counts {MAX_ROWS}; make it smaller"
            )
        y = _codes(y, "y", kind.num_classes, rows_before)
        if a.ndim == 2 and measure is not None:
            _check_memberships(measure, y, _members(a, rows_before))
        a = _members(a, rows_before) if a.ndim == 2 else _codes(a, "a", kind.num_groups, rows_before)
        chunk = padded(Chunk(x, y, a, _weights(weights, number)), size)
        rows_before += rows
        yield chunk if mesh is None else _placed(chunk, mesh)


def _row_shapes(x: Inputs) -> Any:
    """Return the shape of one row: of a single array as it is, and of a tree with the names of its leaves."""
    layout = checks.input_layout(x)
    return layout.shapes[0] if layout.names == ("",) else dict(zip(layout.names, layout.shapes, strict=True))


def _chunk_inputs(x: Any, narrow: Narrowed, number: int) -> Inputs:
    """Convert the inputs of a chunk to dtypes that JAX does not change."""
    if not checks.is_tree(x):
        return _chunk_features(x, narrow, number)

    def convert(path, leaf):
        name = f"chunk {number}: x{jax.tree_util.keystr(path)}"
        array = numeric(name, leaf)
        if array.shape and jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype:
            return array
        return checks.checked_inputs(name, array)[0]

    return jax.tree_util.tree_map_with_path(convert, x, is_leaf=lambda leaf: isinstance(leaf, list))


def _chunk_features(x: Any, narrow: Narrowed, number: int) -> Any:
    """Convert features of a chunk to a dtype that JAX does not change."""
    x = numeric("x", x)
    if not x.shape:
        raise ValueError(f"chunk {number} has features without rows: pass an array of shape (n, d)")
    if isinstance(x, jax.Array) or float_dtype() == np.float64 or x.dtype.itemsize < 4:
        return x
    if x.dtype.kind == "f" and x.dtype.itemsize > 4:
        return narrow(x) if x.ndim == 2 else checks.checked_inputs(f"chunk {number}: x", x)[0]
    if x.dtype.kind in "iu" and x.size and (x.min() < -(2**31) or x.max() >= 2**31):
        raise ValueError(
            f"chunk {number} has features from {x.min()} to {x.max()}, beyond the 32 bits of JAX's integers: subtract "
            "an offset, or pass floats"
        )
    return x


def _check_memberships(measure: Measure, y, members) -> None:
    """Check that the measure accepts the memberships, and that it can be computed from sums by group and label."""
    metrics.taken(measure, checks.CheckedRows(y, y, members, None, None))
    total = members.sum(axis=1)
    if isinstance(measure, Parity) and not measure.is_local and np.ptp(total) > 1e-3:
        raise ValueError(
            "the measure compares with the rate of all rows, which sums by group do not tell where some rows are in "
            "more groups than others: choose another gap, such as spread, or make each group and its complement a "
            "block of its own"
        )


def _placed(chunk: Chunk, mesh: jax.sharding.Mesh) -> Chunk:
    """Join the chunks of all processes, with the rows distributed over all devices."""
    spread = jax.sharding.NamedSharding(mesh, jax.P(AXIS))
    return jax.tree.map(lambda array: jax.make_array_from_process_local_data(spread, array), chunk)


def _weights(weights, number: int):
    """Check that the weights of a chunk are finite and not negative."""
    if weights is None:
        return None
    array = np.asarray(weights)
    wrong = ~((array >= 0) & (array < np.inf))
    if wrong.any():
        value = array[int(np.argmax(wrong))]
        raise ValueError(f"weights must be finite and not negative, found {value:g} in chunk {number}")
    return weights


def _codes(column, name: str, count: int, start: int):
    """Convert a column of 0 and 1 to booleans, or check codes of more than two classes or groups."""
    if column.dtype == bool and count == 2:
        return column
    column = np.asarray(column)
    wrong = ~((column >= 0) & (column < count) & (column == np.floor(column)))
    if wrong.any():
        row = int(np.argmax(wrong))
        expected = "0 or 1" if count == 2 else f"a code from 0 to {count - 1}"
        raise ValueError(f"{name} must be {expected}, got {column[row]} at place {start + row}")
    return column.astype(bool if count == 2 else np.int32)


def _members(column, start: int):
    """Check memberships and convert them to single precision."""
    column = np.asarray(column, float_dtype())
    wrong = ~((column >= -1e-6) & (column <= 1 + 1e-6))
    if wrong.any():
        row, group = np.argwhere(wrong)[0]
        raise ValueError(f"memberships must be in [0, 1], got {column[row, group]} at place {start + row}")
    return column
