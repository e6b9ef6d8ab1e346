"""The rows axis: proxies, influence, gradients and evaluations of data that do not fit on a device or in memory.

A parity measure is not an average over rows, and the average of the biases of chunks is not the bias of all rows, since
a chunk may lack a group. But all functions of this module can be computed from sums over rows, which add up over chunks
of rows, devices and hosts: sums of scores by label and group (`parity.cells`), histograms of scores, and sums of
losses. Derivatives take two passes: the first computes the sums and the derivative of the measure with respect to them,
and the second pulls this derivative back chunk by chunk, which adds up as well.

A source is an iterable of chunks that can be iterated more than once: a list of batches, `chunks` of arrays, or an
object whose `__iter__` starts again from the beginning and reads files or draws rows from a key. Chunks of one size
compile one program; a shorter chunk is padded with rows of weight 0. At most two chunks are in memory at a time. Do not
modify the arrays of a chunk after passing it on.

With several processes (`jax.distributed`), every process iterates over chunks of its own rows, with the same number of
chunks of the same size on each, on one mesh of all devices. The sums are over all processes, and every process gets the
result.
"""

import dataclasses
import numbers
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from fairjax import checks, metrics, objective, parity, performance
from fairjax.checks import check_logits, numeric, vector
from fairjax.metrics import Parity
from fairjax.nn.network import ApplyFn
from fairjax.objective import Evaluation, Rule
from fairjax.parity import Cells, Measure, Weights, cells, num_classes, num_groups, of_cells, probabilities
from fairjax.types import AnyArray, Batch, Rows, Variables, WeightedBatch, weights_of

AXIS = "rows"
"""Name of the mesh axis over which a chunk's rows are distributed."""

MOST = 2**24
"""Largest number of rows per chunk, over all processes, that float32 counts exactly."""


Chunk = WeightedBatch
"""Standardised rows with weights; in a `Batch`, all rows have weight 1."""

Source = Iterable[Batch | Chunk]
"""Chunks of rows that can be iterated more than once."""


class _Kind(NamedTuple):
    """Number of groups and classes of a measure; static."""

    num_groups: int = 2
    num_classes: int = 2

    @classmethod
    def of(cls, measure: Measure) -> "_Kind":
        if getattr(measure, "membership", None) == "solved":
            raise ValueError(
                'memberships are counted as "weighted" over chunks, and the measure asks for "solved": sum '
                "fairjax.metrics.confusion and fairjax.metrics.gram over the chunks by rows.total, and solve at the end"
            )
        return cls(num_groups(measure), num_classes(measure))


Loss = Callable[[Float[Array, " n"], Bool[Array, " n"]], Float[Array, " n"]]
"""A function `loss(logits, y)` that returns one number per row."""


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
        narrow = _Narrowed()
        for start in range(0, self._count(), self.size):
            some: Any = slice(start, start + self.size)
            some = some if self.rows is None else np.asarray(self.rows[some])
            x, y, a = (
                np.asarray(numeric(name, column[some]))
                for name, column in zip("xya", self.batch[:3], strict=True)  # slices may be masked arrays
            )
            y, a = y.astype(bool) if self._two_classes else y, a.astype(bool) if self._two_groups else a
            weights = weights_of(self.batch) if self.weights is None else self.weights
            weights = None if weights is None else np.asarray(numeric("weights", weights[some]), _float())
            yield Chunk(self._scaled(x, narrow), y, a, weights)

    def _scaled(self, x: np.ndarray, narrow: "_Narrowed") -> np.ndarray:
        """Convert features to JAX's precision, after standardising them in their own precision."""
        if x.dtype.itemsize <= (2 if x.dtype.kind in "iu" else _float().itemsize):
            if self.scaler is None:
                return np.asarray(x, _float())
            mean, scale = (np.asarray(each, _float()) for each in self.scaler)
            return (np.asarray(x, _float()) - mean[None]) / scale[None]
        if self.scaler is not None:
            _check_mean(*self.scaler)
            mean, scale = (np.asarray(each, np.float64) for each in self.scaler)
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


class _Narrowed:
    """Converts features of wide types to JAX's precision, chunk by chunk; rejects values that this would merge."""

    def __init__(self):
        self._seen: np.ndarray | None = None
        """The least and the greatest value of each feature so far, since values may merge across chunks."""
        self._rows = 0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        wide = x.reshape(len(x), -1)
        names = tuple(f"x{column}" for column in range(1, wide.shape[1] + 1))
        known = wide if self._seen is None else np.concatenate([self._seen, wide])
        with np.errstate(over="ignore"):  # values beyond float32 become inf and are rejected below
            narrow = known.astype(_float())
        lost = np.argwhere(np.isfinite(known) & ~np.isfinite(narrow))
        if len(lost):
            row, column = lost[0]
            place = self._rows + row - (len(known) - len(wide))
            raise ValueError(
                f"column {names[column]!r} of x holds {known[row, column]:g} at place {place}, which {narrow.dtype} "
                "cannot: choose another unit for it"
            )
        checks.check_merged(known, narrow, names)
        if len(wide):
            self._seen = np.stack([np.fmin.reduce(known), np.fmax.reduce(known)])
        self._rows += len(wide)
        return narrow[len(known) - len(wide) :].reshape(x.shape)


def _float() -> Any:
    """Return single precision, or double precision if JAX has it enabled."""
    return jnp.result_type(float)


def _holds_0_and_1(column: Any) -> bool:
    """Return whether a whole column holds only 0 and 1; a chunk of a column with more codes may do so by chance."""
    if len(column.shape) != 1 or getattr(column, "dtype", None) is np.dtype(bool):
        return False
    for start in range(0, column.shape[0], 2**20):
        some = np.asarray(column[start : start + 2**20])
        if not np.all((some == 0) | (some == 1)):
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
            counted. A column that holds only 0 and 1 becomes booleans. Features become JAX's floats; if they are in
            double precision, or whole numbers of 32 bits or more, every chunk is checked for values that would merge.
        size: number of rows per chunk, which determines the memory used. Some ten thousand keep a device busy.
        weights: sample weights; if omitted, those of the batch, or 1 if it has none.
        rows: row numbers to iterate over, in this order, such as `split.train`; all rows if omitted.
        scaler: mean and scale with which features are standardised, such as `(split.mean, split.scale)`; not
            standardised if omitted. Features in double precision are standardised in double precision.

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
    columns = {name: None if column is None else _sliceable(name, column) for name, column in columns.items()}
    lengths = {name: column.shape[0] for name, column in columns.items() if column is not None}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"all columns must have one length, got {lengths}")
    if weights is not None:
        weights = columns["weights"]
    batch = batch._replace(**{name: columns[name] for name in batch._fields if name != "weights" or weights is None})
    rows = None if rows is None else _row_numbers(rows, lengths["x"])
    return Chunks(batch, int(size), weights, rows, None if scaler is None else _scaler(scaler, columns["x"].shape[1:]))


def _sliceable(name: str, column: Any) -> Any:
    """Convert a column to an object with a shape that can be sliced by row numbers, such as an array."""
    if hasattr(column, "iloc") and len(column.shape) == 2 and all(kind.kind in "biuf" for kind in column.dtypes):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    known = isinstance(column, np.ma.MaskedArray) or any(hasattr(column, name) for name in ("iloc", "toarray"))
    if known or not hasattr(column, "shape"):
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
    mean, scale = (np.asarray(numeric(name, each)) for name, each in zip(("mean", "scale"), scaler, strict=True))
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
        place = int(np.argmax(rounded))
        raise ValueError(
            f"the scaler's mean of feature {place}, {mean.flat[place]:g}, is rounded in {mean.dtype} by up to "
            f"{np.spacing(np.abs(mean.flat[place])):g}, and the scale is {scale.flat[place]:g}: give both in float64"
        )


def mesh(devices: Sequence[Any] | None = None) -> jax.sharding.Mesh:
    """Make a mesh with a rows axis over the given devices, or over all devices of all processes if omitted.

    Example:
        >>> mesh().axis_names
        ('rows',)
    """
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,), devices=devices)


def padded(chunk: Batch | Chunk, size: int) -> Chunk:
    """Pad a chunk to `size` rows with rows of weight 0.

    Example:
        >>> padded(Batch(np.ones((1, 2)), np.array([True]), np.array([False])), 3).weights.tolist()
        [1.0, 0.0, 0.0]
    """
    x, y, a, weights = Chunk(*chunk)
    weights = np.ones(x.shape[0], _float()) if weights is None else weights
    missing = size - x.shape[0]
    if missing == 0:
        return Chunk(x, y, a, weights)
    return Chunk(*(np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)) for array in (x, y, a, weights)))


def total(
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
            takes `args`, a `Batch` and float32 weights, which are 0 for rows of padding (their features are set to 0).
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
        >>> def moments(power, batch, weights):
        ...     return (batch.x**power * weights[:, None]).sum(axis=0)
        >>> table = Batch(np.arange(10.0).reshape(5, 2), np.arange(5) > 2, np.arange(5) > 1)
        >>> total(moments, (jnp.array(1.0),), chunks(table, 2)).tolist()
        [20.0, 25.0]
    """
    return _total(function, args, source, mesh, _Kind(num_groups, num_classes))


def _total(function, args, source: Source, mesh: jax.sharding.Mesh | None, kind: _Kind, measure: Measure | None = None):
    high, low = _summed(function, args, source, mesh, kind, measure)
    return jax.tree.map(lambda high, low: jnp.asarray(_joined(high, low), high.dtype), high, low)


def evaluate(
    measure: Measure,
    apply: ApplyFn,
    variables: Variables,
    source: Source,
    *,
    threshold: float | Float[AnyArray, ""] | None = None,
    rule: Rule | None = None,
    count: int = 101,
    mesh: jax.sharding.Mesh | None = None,
) -> Evaluation:
    """Evaluate a network on all rows, at a given threshold or at the best one, in one pass.

    The search is that of `objective.best_threshold`, in the sum of the chunks' histograms. Rows without weights, or
    with whole weights, are counted exactly, up to 2^31; the table of the result is in float32.

    Args:
        measure: the measure of bias.
        apply: the network; used in evaluation mode.
        variables: the network's variables.
        source: the rows.
        threshold: the threshold; if omitted, the best one is searched for.
        rule: search for the threshold that maximises this rule's score instead of balanced accuracy.
        count: number of equally spaced thresholds in [0, 1] for the search.
        mesh: devices over which each chunk's rows are distributed; one device if omitted.

    Returns:
        The evaluation, with its threshold.

    Raises:
        ValueError: if a group has no rows, an output is not finite, or both a threshold and a rule are given.

    Example:
        >>> from fairjax.nn import Mlp, from_linen
        >>> from fairjax.parity import spd
        >>> network, x = from_linen(Mlp(widths=(4,))), np.eye(4, dtype=np.float32)
        >>> table = Batch(x, np.array([True, False, True, False]), np.array([True, True, False, False]))
        >>> variables = network.init(jax.random.key(0), x)
        >>> evaluate(spd, network.apply, variables, chunks(table, 2), threshold=0.0).table.sum().item()
        4.0
    """
    if threshold is not None and rule is not None:
        raise ValueError("give a threshold or a rule to search one by, not both")
    kind = _Kind.of(measure)
    cuts = performance.thresholds(count) if threshold is None else jnp.asarray(threshold, _float())[None]
    sums = _summed(_Counts(apply, kind), (variables, cuts), source, mesh, kind, measure)
    counts, squared, broken = jax.tree.map(_joined, *sums)
    if broken:
        raise ValueError(f"the network's output is not finite for {int(broken)} rows; look for missing features")
    sizes = counts.sum(axis=tuple(range(counts.ndim - 1)))
    if kind.num_groups == 2:
        for size, name in zip(sizes, ("unprivileged group (a = 0)", "privileged group (a = 1)"), strict=True):
            if size == 0:
                raise ValueError(f"no row of the {name} among all chunks, so there is no bias to measure")
    elif (sizes > 0).sum() < 2:
        raise ValueError(
            f"{(sizes > 0).sum()} of {kind.num_groups} groups have rows among all chunks: no bias can be measured"
        )
    if kind.num_classes > 2:
        tables = jnp.asarray(counts, _float())[None]
        squares = jnp.asarray(squared, _float())[None]
        every = objective.of_tables(measure, jnp.full(1, jnp.nan, tables.dtype), tables, squares)
        return jax.tree.map(lambda entry: entry[0], every)
    # float32 holds whole numbers up to 2^24 only, but the cumulative sum of tables is exact in int32.
    whole = np.array_equal(counts, np.rint(counts)) and counts.sum() < 2**31
    of_squares = None if np.array_equal(counts, squared) else jnp.asarray(squared, _float())
    counts = jnp.asarray(counts, jnp.int32 if whole else _float())
    return objective.best_of_counts(measure, counts, cuts, rule, squared=of_squares)


def proxy(
    measure: Measure,
    apply: ApplyFn,
    variables: Variables,
    source: Source,
    *,
    mesh: jax.sharding.Mesh | None = None,
) -> Float[Array, ""]:
    """Compute a measure on the scores of all rows (Eq. 1 and 2), in one pass.

    Args:
        measure: the measure of bias; a function of the sums by label and group, see `parity.of_cells`.
        apply: the network; used in evaluation mode.
        variables: the network's variables.
        source: the rows.
        mesh: devices over which each chunk's rows are distributed; one device if omitted.

    Returns:
        The proxy; like the measure, it is 0 where it is undefined because a group is empty.

    Example:
        >>> from fairjax.nn import Mlp, from_linen
        >>> from fairjax.parity import spd
        >>> network, x = from_linen(Mlp(widths=(4,))), np.ones((4, 4), np.float32)
        >>> table = Batch(x, np.array([True, False, True, False]), np.array([True, True, True, False]))
        >>> proxy(spd, network.apply, network.init(jax.random.key(0), x), chunks(table, 2)).item()
        0.0
    """
    kind = _Kind.of(measure)
    sums = _total(_Scores(apply, kind, _counts_rows(measure)), (None, variables), source, mesh, kind, measure)
    return of_cells(measure, sums)


def influence(
    measure: Measure,
    apply: ApplyFn,
    variables: Variables,
    source: Source,
    *,
    reduction: Literal["mean", "sum"] = "mean",
    mesh: jax.sharding.Mesh | None = None,
) -> PyTree[Float[Array, "_"]]:
    """Compute the influence of every unit (Eq. 4), as `fairjax.influence.influence` does, in two passes over the rows.

    Args:
        measure: the measure of bias; a function of the sums by label and group, see `parity.of_cells`.
        apply: the network; used in evaluation mode, in which a row's logit does not depend on other rows.
        variables: the network's variables; `masks` defines the units.
        source: the rows.
        reduction: the mean over rows, as in Eq. 4 (weighted if rows have weights), or the sum.
        mesh: devices over which each chunk's rows are distributed; one device if omitted.

    Returns:
        A tree like `variables["masks"]`, in units of the measure per unit of activation; 0 at units that are cut.

    Raises:
        ValueError: if `reduction` is unknown or the source can be iterated only once.

    Example:
        >>> from fairjax.nn import Mlp, from_linen
        >>> from fairjax.parity import spd
        >>> network, x = from_linen(Mlp(widths=(4,))), np.eye(4, dtype=np.float32)
        >>> table = Batch(x, np.array([True, False, True, False]), np.array([True, True, False, False]))
        >>> variables = network.init(jax.random.key(0), x)
        >>> influence(spd, network.apply, variables, chunks(table, 2))["hidden_00"]["units"]["keep"].shape
        (4,)

    References:
        Marcinkevičs et al. (2022), Eq. 4.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be mean or sum, got {reduction!r}")
    shifts = jax.tree.map(lambda keep: jnp.zeros(keep.shape), variables["masks"])
    kind = _Kind.of(measure)
    scores = _Scores(apply, kind, _counts_rows(measure))
    _, slopes, sums = _two_passes(scores, partial(of_cells, measure), shifts, variables, source, mesh, kind, measure)
    n = sums.weight.sum() if reduction == "mean" else 1.0
    return jax.tree.map(lambda keep, slope: jnp.where(keep, slope / n, 0.0), variables["masks"], slopes)


def gradient(
    measure: Measure,
    apply: ApplyFn,
    variables: Variables,
    source: Source,
    *,
    loss: Loss,
    penalty: Callable[[Float[Array, ""]], Float[Array, ""]],
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[Float[Array, ""], PyTree[Array]]:
    """Compute value and gradient of mean loss + penalty(proxy) over all rows, in two passes (full-batch training).

    Args:
        measure: the measure of bias; a function of the sums by label and group, see `parity.of_cells`.
        apply: the network; used in evaluation mode (no dropout, running statistics), in which a row's logit does not
            depend on other rows.
        variables: the network's variables; the gradient is with respect to `params`.
        source: the rows.
        loss: a function of (logits, y) that returns one number per row, such as `optax.sigmoid_binary_cross_entropy`.
            It is compiled: create it only once. The mean is weighted if rows have weights.
        penalty: a differentiable function of the proxy, such as `lambda bias: 2.0 * jnp.abs(bias)`; it need not be the
            same object in every call.
        mesh: devices over which each chunk's rows are distributed; one device if omitted.

    Returns:
        The objective, and its gradient as a tree like `variables["params"]`.

    Raises:
        ValueError: if the source can be iterated only once.

    Example:
        >>> import optax
        >>> from fairjax.nn import Mlp, from_linen
        >>> from fairjax.parity import spd
        >>> network, x = from_linen(Mlp(widths=(4,))), np.eye(4, dtype=np.float32)
        >>> table = Batch(x, np.array([True, False, True, False]), np.array([True, True, False, False]))
        >>> variables, bce = network.init(jax.random.key(0), x), optax.sigmoid_binary_cross_entropy
        >>> value, slopes = gradient(spd, network.apply, variables, chunks(table, 2), loss=bce, penalty=jnp.abs)
        >>> slopes["output"]["kernel"].shape
        (4, 1)
    """

    def objective_of(sums: _Fit) -> Float[Array, ""]:
        return sums.loss / sums.cells.weight.sum() + penalty(of_cells(measure, sums.cells))

    kind = _Kind.of(measure)
    fit = _Losses(_Scores(apply, kind, _counts_rows(measure)), loss)
    value, slopes, _ = _two_passes(fit, objective_of, variables["params"], variables, source, mesh, kind, measure)
    return value, slopes


def _counts_rows(measure: Measure) -> bool:
    """Return whether a measure leaves out small groups, so that it needs effective numbers of rows."""
    return getattr(measure, "minimum", 1) > 1


class _Fit(NamedTuple):
    """Sums of rows from which an objective is computed."""

    cells: Cells
    loss: Float[Array, ""]


# Functions for `total` are dataclasses, so that two that are made from one network are equal and compile once.


@dataclasses.dataclass(frozen=True)
class _Counts:
    """Histogram of the scores, or confusion tensor for more classes, for weights and squared weights.

    The last result is the number of broken rows, for which the network's output is not finite.
    """

    apply: ApplyFn
    kind: _Kind

    def __call__(self, variables, cuts, batch: Batch, weights):
        logits, _ = self.apply(variables, batch.x)
        check_logits(logits, batch.x, self.kind.num_classes)
        finite = jnp.isfinite(logits) if logits.ndim == 1 else jnp.all(jnp.isfinite(logits), axis=1)
        broken = jnp.sum(~finite & (weights > 0), dtype=jnp.float32)
        if logits.ndim == 1:
            rows = checks.Rows(probabilities(logits), batch.y, batch.a, weights, None)
            count = partial(performance.histogram_of_rows, rows, cuts, self.kind.num_groups)
            return count(), count(squared=True), broken
        decisions = jax.nn.one_hot(jnp.argmax(logits, axis=1), logits.shape[1])
        count = partial(metrics.confusion, decisions, batch.y, batch.a, **self.kind._asdict())
        return count(weights=weights), count(weights=weights**2), broken


@dataclasses.dataclass(frozen=True)
class _Scores:
    """Sums of scores by cell, with a shift of every unit."""

    apply: ApplyFn
    kind: _Kind
    squares: bool

    def __call__(self, shifts, variables, batch: Batch, weights) -> Cells:
        logits, _ = self.apply(variables, batch.x, shifts=shifts)
        return self.of_logits(logits, batch, weights)

    def of_logits(self, logits, batch: Batch, weights) -> Cells:
        check_logits(logits, batch.x, self.kind.num_classes)
        count = partial(cells, probabilities(logits), batch.y, batch.a, **self.kind._asdict())
        return count(weights)._replace(squares=count(weights**2) if self.squares else None)


@dataclasses.dataclass(frozen=True)
class _Losses:
    """Sums of scores by cell, and the sum of the losses."""

    scores: _Scores
    loss: Loss

    def __call__(self, params, variables, batch: Batch, weights) -> _Fit:
        logits, _ = self.scores.apply({**variables, "params": params}, batch.x)
        by_cell = self.scores.of_logits(logits, batch, weights)
        return _Fit(by_cell, jnp.sum(self.loss(logits, batch.y) * weights))


@dataclasses.dataclass(frozen=True)
class _Pulled:
    """Pulls derivatives with respect to the sums that a function returns back to its first argument."""

    function: Callable[..., PyTree[Array]]

    def __call__(self, slopes, moved, fixed, batch: Batch, weights):
        def along(moved):
            sums = self.function(moved, fixed, batch, weights)
            return jax.tree.reduce(jnp.add, jax.tree.map(lambda slope, sum_: jnp.sum(slope * sum_), slopes, sums))

        return jax.grad(along)(moved)


def _two_passes(function, of_sums, moved, fixed, source: Source, mesh, kind: _Kind, measure: Measure):
    """Compute `of_sums` of the total of `function(moved, fixed, ...)`, its gradient by `moved`, and the total."""
    if isinstance(source, Iterator):
        raise ValueError(
            f"the source is gone through twice, but a {type(source).__name__} can be only once; give a list, chunks(), "
            "or an object whose __iter__ starts over"
        )
    sums = _total(function, (moved, fixed), source, mesh, kind, measure)
    value, slopes = jax.value_and_grad(of_sums)(sums)
    return value, _total(_Pulled(function), (slopes, moved, fixed), source, mesh, kind), sums


def _summed(
    function, args, source: Source, mesh: jax.sharding.Mesh | None, kind: _Kind, measure: Measure | None = None
):
    """Compute the sum over all chunks and the accumulated rounding error, as two trees."""
    if mesh is not None and mesh.axis_names != (AXIS,):
        raise ValueError(f"the mesh must have one axis named {AXIS!r}, got {mesh.axis_names}; make it by rows.mesh()")
    if mesh is not None:
        args = jax.device_put(args, jax.sharding.NamedSharding(mesh, jax.P()))
    running = None
    for chunk in _prepared(source, mesh, kind, measure):
        before = running
        running = _add(running, _part(function, mesh, args, chunk))
        jax.block_until_ready(before)  # otherwise chunks would queue up in memory
    if running is None:
        raise ValueError("the source has no chunk; a generator that was gone through before is empty")
    return running


@partial(jax.jit, static_argnames=("function", "mesh"))
def _part(function, mesh: jax.sharding.Mesh | None, args, chunk: Chunk):
    """Compute a chunk's sums, with its rows distributed over the mesh."""

    def local(args, chunk: Chunk):
        there = (chunk.weights > 0).reshape(-1, *(1,) * (chunk.x.ndim - 1))
        batch = Batch(jnp.where(there, chunk.x, jnp.zeros_like(chunk.x)), chunk.y, chunk.a)  # 0 times NaN is NaN
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


def _joined(high, low):
    """Add the total and its rounding error on the host, in float64 for floats."""
    kind = np.float64 if jnp.issubdtype(high.dtype, jnp.floating) else high.dtype
    return np.add(high, low, dtype=kind)


def _prepared(source: Source, mesh: jax.sharding.Mesh | None, kind: _Kind, measure: Measure | None) -> Iterator[Chunk]:
    """Iterate over checked chunks, padded to one size that the number of devices divides and placed on the mesh."""
    devices, share = (1, 1) if mesh is None else (len(mesh.local_devices), mesh.size // len(mesh.local_devices))
    size, features, rows_before, narrow = devices, None, 0, _Narrowed()
    for number, chunk in enumerate(source):
        x, y, a, weights = chunk = Chunk(*chunk)
        checks.check_index(x=x, y=y, a=a, weights=weights)
        x = _chunk_features(x, narrow, number)
        y, a = vector("y", y), numeric("a", a)
        weights = None if weights is None else vector("weights", weights)
        features = x.shape[1:] if features is None else features
        if x.shape[1:] != features:
            raise ValueError(f"chunk {number} has features of shape {x.shape[1:]}, those before it of shape {features}")
        lengths = [column.shape for column in (y, a, weights) if column is not None]
        members = (x.shape[0], kind.num_groups)
        if any(length != x.shape[:1] for length in lengths) and not (a.shape == members and y.shape == x.shape[:1]):
            raise ValueError(f"chunk {number} has {x.shape[0]} rows of features, and y, a, weights of shapes {lengths}")
        size = max(size, -(-x.shape[0] // devices) * devices)
        if size * share > MOST:
            raise ValueError(f"chunk {number} has {size * share} rows, of which float32 counts {MOST}; make it smaller")
        y = _codes(y, "y", kind.num_classes, rows_before)
        if a.ndim == 2 and measure is not None:
            _check_memberships(measure, y, _members(a, rows_before))
        a = _members(a, rows_before) if a.ndim == 2 else _codes(a, "a", kind.num_groups, rows_before)
        chunk = padded(Chunk(x, y, a, _weights(weights, number)), size)
        rows_before += x.shape[0]
        yield chunk if mesh is None else _placed(chunk, mesh)


def _chunk_features(x: Any, narrow: _Narrowed, number: int) -> Any:
    """Convert features of a chunk to a dtype that JAX does not change."""
    x = numeric("x", x)
    if not x.shape:
        raise ValueError(f"chunk {number} has features without rows: pass an array of shape (n, d)")
    if isinstance(x, jax.Array) or _float() == np.float64 or x.dtype.itemsize < 4:
        return x
    if x.dtype.kind == "f" and x.dtype.itemsize > 4:
        return narrow(x)
    if x.dtype.kind in "iu" and x.size and (x.min() < -(2**31) or x.max() >= 2**31):
        raise ValueError(
            f"chunk {number} has features from {x.min()} to {x.max()}, beyond the 32 bits of JAX's integers: subtract "
            "an offset, or pass floats"
        )
    return x


def _check_memberships(measure: Measure, y, members) -> None:
    """Check that the measure accepts the memberships, and that it can be computed from sums by group and label."""
    parity.taken(measure, checks.Rows(y, y, members, None, None))
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
    known = np.asarray(weights)
    wrong = ~((known >= 0) & (known < np.inf))
    if wrong.any():
        found = known[int(np.argmax(wrong))]
        raise ValueError(f"weights must be finite and not negative, found {found:g} in chunk {number}")
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
    column = np.asarray(column, _float())
    wrong = ~((column >= -1e-6) & (column <= 1 + 1e-6))
    if wrong.any():
        row, group = np.argwhere(wrong)[0]
        raise ValueError(f"memberships must be in [0, 1], got {column[row, group]} at place {start + row}")
    return column
