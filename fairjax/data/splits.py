"""Random train, valid and test parts of a data set, one split per seed."""

import functools
import numbers
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, UInt32

from fairjax import checks
from fairjax.data.dataset import Dataset, _check_finite, _table
from fairjax.data.scaler import mean_and_scale
from fairjax.data.unscaled import is_standardised, nan_where_invalid, unscaled
from fairjax.metrics import Measure, as_parity
from fairjax.metrics.groups import Groups
from fairjax.types import AnyArray, GroupArray, Inputs, KeyArray, Labels, Split

STREAM = 0x73706C69
"""Number folded into a seed's key for the split; training and debiasing fold other numbers into the same key."""

STRATIFY = "group and label"
"""The only supported stratification."""


def split(
    key: KeyArray,
    x: Any,
    y: Any,
    a: Any,
    *,
    train: float = 0.6,
    valid: float = 0.2,
    weights: Any = None,
    stratify: str | None = None,
    num_groups: int = 2,
    num_classes: int = 2,
    standardise: bool | None = None,
) -> Split:
    """Divide the rows at random, and fit a scaler on the train part if the features are a table.

    Of n rows the train part gets int(train * n), the train and valid parts together int((train + valid) * n), and the
    test part the rest. The scaler is the mean and the population standard deviation (not the unbiased one) of each
    feature over the train part; a feature that is constant there has scale 1.

    A frame or a matrix is a table, which is standardised. Everything else is kept as it is: images, and trees of
    arrays with rows on axis 0, such as a dictionary of columns, whose integers may be tokens or codes.

    The function is pure: it can be jitted with all arguments but the arrays static, and mapped over `key` with
    `out_axes=SHARED`.

    Values of traced arrays cannot be inspected: if one of them is invalid, all features that are standardised or
    floating-point are NaN. Pass traced features in floating point, since JAX truncates 64-bit integers before this
    function receives them.

    Args:
        key: Random key.
        x: Features: numbers that are finite in JAX's default precision, whose differences this precision keeps.
            Subtract an offset from Unix times, for example. An array, a frame, or a tree of arrays.
        y: Labels: 0 and 1, or codes of more classes.
        a: Protected attribute: 0 and 1, or codes or memberships of more groups.
        train: Share of the train part.
        valid: Share of the valid part.
        weights: Sample weights, which the split keeps.
        stratify: With "group and label", every part gets its share of the rows of each group and label, up to one row,
            instead of a share that varies at random.
        num_groups: Number of groups.
        num_classes: Number of classes.
        standardise: Whether the features are standardised; by default, those of a frame or a matrix are, also if the
            matrix is one of integers. Pass False for a matrix of tokens, and for a network with a preprocessing of its
            own.

    Returns:
        The split, with mean and scale None if features are not standardised; use `check_split` to check that its parts
        have all groups.

    Raises:
        ValueError: If the shares leave a part without rows, an argument has an invalid shape or value, pandas indices
            differ, different values of a feature would become equal, or memberships are to be stratified.
        TypeError: If an argument is sparse, masked, or holds anything but numbers and booleans.

    Example:
        >>> x = jnp.arange(20.0).reshape(10, 2)
        >>> parts = split(jax.random.key(0), x, y=x[:, 0] > 9, a=x[:, 0] < 5)
        >>> len(parts.train), len(parts.valid), len(parts.test)
        (6, 2, 2)
    """
    checks.check_index(x=x, y=y, a=a, weights=weights)
    scaled = is_standardised(x, standardise)
    table = _columns(x, y, a, weights, num_groups, num_classes, standardise=scaled)
    strata = _strata(table.y, table.a, num_groups, stratify)
    if not scaled:
        rows = _part_rows(key, table.y.shape[0], strata, train, valid)
        features = table.x if table.valid is None else nan_where_invalid(table.x, table.valid)
        return Split(features, table.y, table.a, *rows, weights=table.weights)
    *rows, mean, scale = _parts(key, table.x, strata, train, valid)
    usable = jnp.isfinite(mean) & jnp.isfinite(scale) & (scale > 0)
    all_valid = table.valid
    if isinstance(usable, Tracer):
        all_valid = checks.all_valid(all_valid, jnp.all(usable))
    else:
        _check_usable(np.asarray(usable), table.names)
    # An invalid value, such as a label that is neither 0 nor 1, makes every standardised feature and every result NaN.
    mean = mean if all_valid is None else jnp.where(all_valid, mean, jnp.nan)
    train_rows, valid_rows, test_rows = rows
    return Split(table.x, table.y, table.a, train_rows, valid_rows, test_rows, mean, scale, table.weights)


class _Columns(NamedTuple):
    """A checked table."""

    x: Inputs
    y: Labels
    a: GroupArray
    weights: Float[Array, " n"] | None
    names: tuple[str, ...]
    """Names of the features, or of the arrays of a tree."""
    valid: Bool[Array, ""] | None
    """Whether all traced values are valid; None if nothing had to be checked under a trace."""


def _columns(
    x: Any,
    y: Any,
    a: Any,
    weights: Any,
    num_groups: int,
    num_classes: int,
    names: tuple[str, ...] | None = None,
    *,
    standardise: bool = True,
) -> _Columns:
    """Check a table: its shapes, and its values where they are concrete."""
    if isinstance(a, Groups):
        raise TypeError(
            f"a must be an array, found Groups: pass their column, groups.a, and num_groups={len(a)}, or make the data "
            "set with fairjax.data.from_arrays and split it with split_seeds"
        )
    if standardise:
        x, names, valid_x = _features(x, names)
    else:
        frame = isinstance(x, pd.DataFrame)
        names = tuple(map(str, x.columns)) if frame and names is None else names
        x, names, valid_x = unscaled(_table(x) if frame else x, names)
        x = jax.tree.map(jnp.asarray, x)
    y, a = checks.vector("y", y), checks.numeric("a", a)
    if a.ndim != 2 or a.shape[1] != num_groups:
        a = checks.vector("a", a)
    rows = jax.tree.leaves(x)[0].shape[0]
    if not rows == y.shape[0] == a.shape[0]:
        raise ValueError(f"x, y and a must have as many rows, found {rows}, {y.shape[0]} and {a.shape[0]}")
    y, valid_y = checks.indicator("y", y) if num_classes == 2 else checks.codes("y", y, num_classes)
    flags = a.ndim == 2 and a.dtype == bool  # overlapping groups remain booleans
    a, valid_a = (jnp.asarray(a), None) if flags else checks.group_column(a, num_groups)
    weights, valid_weights = checks.sample_weights(weights, jnp.ones(rows))
    return _Columns(x, y, a, weights, names, checks.all_valid(valid_x, valid_y, valid_a, valid_weights))


def _features(
    x: Any, names: tuple[str, ...] | None
) -> tuple[Float[Array, "n *d"], tuple[str, ...], Bool[Array, ""] | None]:
    """Return the features as floats, their names, and whether they are valid if they are traced."""
    frame = isinstance(x, pd.DataFrame)
    values = _table(x) if frame else checks.numeric("x", x)
    if values.ndim < 2 or 0 in values.shape:
        raise ValueError(f"x must have rows and features, at least one of each, found shape {values.shape}")
    if names is None:
        count = int(np.prod(values.shape[1:]))
        names = tuple(map(str, x.columns)) if frame else tuple(f"x{column}" for column in range(1, count + 1))
    if isinstance(values, Tracer):
        is_integer = jnp.issubdtype(values.dtype, jnp.integer)
        valid = jnp.all((values >= -(2**24)) & (values <= 2**24)) if is_integer and values.dtype.itemsize > 2 else None
        table = checks.floating(values)
        return table, names, valid if is_integer or values.dtype == bool else jnp.all(jnp.isfinite(table))
    with np.errstate(over="ignore"):  # values beyond float32 become inf and are rejected below
        table = values if values.dtype == np.float32 else np.asarray(values).astype(jnp.result_type(float))
    flat = np.asarray(table).reshape(len(table), -1)
    _check_finite(flat, names)
    checks.check_merged(np.asarray(values).reshape(flat.shape), flat, names)
    _check_range(flat, names)
    return jnp.asarray(table), names, None


def _check_range(table: Float[np.ndarray, "n d"], names: tuple[str, ...]) -> None:
    """Check that the floating type can hold the squared deviations of the features."""
    low, high = (bound.astype(np.float64) for bound in (table.min(axis=0), table.max(axis=0)))
    limits, half = np.finfo(table.dtype), 0.5 * high - 0.5 * low
    largest, smallest = np.sqrt(float(limits.max) / len(table)), 10 * np.sqrt(float(limits.tiny))
    wrong = (half > 0.5 * largest) | ((half > 0) & (half < 0.5 * smallest))
    if wrong.any():
        column = int(np.argmax(wrong))
        raise ValueError(
            f"column {names[column]!r} of x lies between {low[column]:g} and {high[column]:g}, and the squares of such "
            f"differences are beyond {table.dtype}: choose another unit, such as x[{names[column]!r}] / "
            f"{max(abs(low[column]), abs(high[column])):g}"
        )


def _check_usable(usable: Bool[np.ndarray, "*s d"], names: tuple[str, ...]) -> None:
    """Check that all means and scales are finite and that no scale is 0."""
    wrong = ~usable.reshape(-1, len(names)).all(axis=0)
    if wrong.any():
        raise ValueError(
            f"column {names[int(np.argmax(wrong))]!r} of x cannot be standardised, since its mean or its standard "
            "deviation over the train part is beyond what the floating type holds: choose another unit for it"
        )


def split_seeds(
    dataset: Dataset,
    seeds: Sequence[int],
    *,
    train: float = 0.6,
    valid: float = 0.2,
    stratify: str | None = None,
    measure: Measure | None = None,
    identities: Int[np.ndarray, " n"] | None = None,
    standardise: bool | None = None,
) -> Split:
    """Split a data set once per seed, and check every part of every split.

    A seed's split depends only on the seed and the data.

    Args:
        dataset: The data.
        seeds: One seed per split, all different.
        train: Share of the train part.
        valid: Share of the valid part.
        stratify: See `split`.
        measure: The measure that must be defined on every part; see `check_split`.
        identities: Codes 0, 1, ... of the persons of the rows. All rows of a person are then in the same part; up to as
            many rows as the most frequent person has, less one, are in no part at the ends of train and valid.
        standardise: Whether the features are standardised; by default, as `from_arrays` was asked to.

    Returns:
        The splits, with one table and a leading axis of seeds on everything else. Map over them with `in_axes=SHARED`.

    Raises:
        ValueError: If there are no seeds, a seed occurs twice or is not in [0, 2**32), a part has no rows, or a part of
            some seed lacks a group (see `check_split`).

    Example:
        >>> from fairjax.data import from_arrays, loh
        >>> from fairjax.types import SHARED
        >>> x, y, a = loh(jax.random.key(0), 500)
        >>> splits = split_seeds(from_arrays(x, y, a), seeds=(42, 73))
        >>> splits.x.shape, splits.train.shape, splits.mean.shape
        ((500, 10), (2, 300), (2, 10))
        >>> jax.vmap(lambda split: split.part("train").x.mean(), in_axes=(SHARED,))(splits).shape
        (2,)
    """
    _check_seeds(seeds)
    scaled = is_standardised(dataset.x, dataset.standardise if standardise is None else standardise)
    arrays = dataset.x, dataset.y, dataset.a, dataset.weights
    names = tuple(dataset.features) if not scaled or np.ndim(dataset.x) == 2 else None
    table = _columns(*arrays, dataset.num_groups, dataset.num_classes, names, standardise=scaled)
    strata = _strata(table.y, table.a, dataset.num_groups, stratify)
    most = 1
    if identities is not None:
        if stratify is not None:
            raise ValueError("rows that are split by persons cannot be stratified: choose one of both")
        most = int(np.bincount(identities).max())
        _check_persons(len(dataset.y), most, train, valid)
    persons = None if identities is None else jnp.asarray(identities)
    options: dict[str, Any] = {"train": train, "valid": valid, "most": most}
    numbers_of_seeds = jnp.asarray(seeds, jnp.uint32)
    if scaled:
        parts = _parts_by_seed(numbers_of_seeds, table.x, strata, persons, **options)
        _check_usable(np.isfinite(parts[3]) & np.isfinite(parts[4]) & (np.asarray(parts[4]) > 0), table.names)
    else:
        parts = _part_rows_by_seed(numbers_of_seeds, len(dataset.y), strata, persons, **options)
    splits = Split(table.x, table.y, table.a, *parts)._replace(weights=table.weights)
    known: dict[str, Any] = {"groups": dataset.group_names, "classes": dataset.class_names}
    check_split(splits, seeds, measure=measure, stratify=stratify, **known)
    return splits


def check_split(
    splits: Split,
    seeds: Sequence[int],
    *,
    measure: Measure | None = None,
    groups: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    stratify: str | None = None,
) -> None:
    """Check that a parity measure is defined on every part of the splits.

    For two groups and classes, every part must have both labels, both groups, and both groups among the rows with
    y = 1. For more, every part must have all labels and, for each group that the measure compares, the labels that its
    rates depend on; rows of weight 0 do not count. The function reads the values, so it cannot be jitted.

    Args:
        splits: Splits with a leading axis of seeds.
        seeds: The seed of each split, named in the message.
        measure: The measure that must be defined; if omitted, all groups are required.
        groups: Names of the groups; two groups if omitted.
        classes: Names of the classes; two classes if omitted.
        stratify: How the splits were stratified, so that the message does not suggest what was already done.

    Raises:
        ValueError: If the numbers of seeds and splits differ, labels or groups are invalid, or a part lacks a group.
        TypeError: If the splits are traced.

    Example:
        >>> from fairjax.types import SHARED
        >>> x = jnp.arange(20.0).reshape(10, 2)
        >>> keys = jax.random.split(jax.random.key(0), 1)
        >>> halves = jax.vmap(lambda key: split(key, x, x[:, 0] > 9, x[:, 0] > 9), out_axes=SHARED)(keys)
        >>> check_split(halves, seeds=(42,))
        Traceback (most recent call last):
        ...
        ValueError: seed 42: ...
    """
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(splits)):
        raise TypeError("splits must be concrete, since their values are checked: call check_split outside of jit")
    if splits.train.ndim != 2 or len(splits.train) != len(seeds):
        raise ValueError(
            f"splits must have one row of row numbers per seed, found train of shape {splits.train.shape} for "
            f"{len(seeds)} seeds: make them with split_seeds"
        )
    y, a = checks.vector("y", splits.y), checks.numeric("a", splits.a)
    weights = np.ones(len(y)) if splits.weights is None else np.asarray(splits.weights)
    is_binary = (groups is None or len(groups) == 2) and (classes is None or len(classes) == 2) and a.ndim == 1
    if is_binary:
        y, a = checks.indicator("y", y)[0], checks.indicator("a", a)[0]
    y, a = np.asarray(y), np.asarray(a)
    required = _required_rows_of_two_groups() if is_binary else required_rows(measure, groups, classes, a)
    advice = "" if is_binary else " leave small groups out or pool them (see fairjax.data.groups),"
    if not is_binary and stratify is None and a.ndim == 1:
        advice += f' stratify="{STRATIFY}",'
    advice += "" if is_binary else " or"
    for part in ("train", "valid", "test"):
        for seed, rows in zip(seeds, np.asarray(getattr(splits, part)), strict=True):
            _check_part(seed, part, y[rows], a[rows], weights[rows], required, advice)


PartRows = tuple[Int[Array, "..."], Int[Array, "..."], Int[Array, "..."]]
"""Row numbers of the train, valid and test parts."""

PartArrays = tuple[Int[Array, "..."], Int[Array, "..."], Int[Array, "..."], Float[Array, "..."], Float[Array, "..."]]
"""Row numbers of the train, valid and test parts, and the mean and scale of the train part."""


@functools.partial(jax.jit, static_argnames=("train", "valid", "most"))
def _parts_by_seed(
    seeds: UInt32[Array, " seeds"],
    x: Float[Array, "n d"],
    strata: Int[Array, " n"] | None,
    persons: Int[Array, " n"] | None,
    *,
    train: float,
    valid: float,
    most: int,
) -> PartArrays:
    """Compute the parts of every seed, one seed at a time, since each train part is a copy of rows of the table."""

    def parts_of_seed(seed: UInt32[Array, ""]) -> PartArrays:
        return _parts(jax.random.fold_in(jax.random.key(seed), STREAM), x, strata, train, valid, persons, most)

    return jax.lax.map(parts_of_seed, seeds)


@functools.partial(jax.jit, static_argnames=("n", "train", "valid", "most"))
def _part_rows_by_seed(
    seeds: UInt32[Array, " seeds"],
    n: int,
    strata: Int[Array, " n"] | None,
    persons: Int[Array, " n"] | None,
    *,
    train: float,
    valid: float,
    most: int,
) -> PartRows:
    """Compute the row numbers of the parts of every seed, the same as with a scaler."""

    def rows_of_seed(seed: UInt32[Array, ""]) -> PartRows:
        return _part_rows(jax.random.fold_in(jax.random.key(seed), STREAM), n, strata, train, valid, persons, most)

    return jax.lax.map(rows_of_seed, seeds)


def _check_persons(rows: int, most: int, train: float, valid: float) -> None:
    """Check that no person has so many rows that a part would be empty."""
    train_end, valid_end = _part_ends(rows, train, valid)
    if most > min(train_end, valid_end - train_end, rows - valid_end) // 2:
        raise ValueError(
            f"a person has {most:,} of {rows:,} rows, too many for the valid or test part: split by another column, or "
            "leave some of these rows out"
        )


def _parts(
    key: KeyArray,
    x: Float[Array, "n *d"],
    strata: Int[Array, " n"] | None,
    train: float,
    valid: float,
    persons: Int[Array, " n"] | None = None,
    most: int = 1,
) -> PartArrays:
    """Compute the parts for one key; no person has more than `most` rows."""
    rows = _part_rows(key, x.shape[0], strata, train, valid, persons, most)
    return (*rows, *mean_and_scale(jnp.take(x, rows[0], axis=0)))


def _part_rows(
    key: KeyArray,
    n: int,
    strata: Int[Array, " n"] | None,
    train: float,
    valid: float,
    persons: Int[Array, " n"] | None = None,
    most: int = 1,
) -> PartRows:
    """Compute the row numbers of the parts for one key; no person has more than `most` of the n rows."""
    train_end, valid_end = _part_ends(n, train, valid)
    rows = jax.random.permutation(key, n)
    if persons is not None:
        # In this order the rows of a person follow each other: persons are ordered by the first of their rows.
        place = jnp.zeros_like(rows).at[rows].set(jnp.arange(n, dtype=rows.dtype))
        first = jax.ops.segment_min(place, persons, num_segments=n)
        rows = jnp.argsort(first[persons], stable=True)
        # The person at the end of a part has its rows there or right before it, so they are left out before it.
        cut = most - 1
        return rows[: train_end - cut], rows[train_end : valid_end - cut], rows[valid_end:]
    if strata is not None:
        rows = _stratified(rows, strata)
    return rows[:train_end], rows[train_end:valid_end], rows[valid_end:]


def _strata(y: Labels, a: GroupArray, num_groups: int, stratify: str | None) -> Int[Array, " n"] | None:
    """Number the combinations of group and label, one number per row; None without stratification."""
    if stratify is None:
        return None
    if stratify != STRATIFY:
        raise ValueError(f"stratify must be {STRATIFY!r} or None, got {stratify!r}")
    if a.ndim == 2:
        raise ValueError(
            "memberships cannot be stratified, since rows are in several groups: stratify by codes, or not at all"
        )
    return y.astype(jnp.int32) * num_groups + a.astype(jnp.int32)


def _stratified(rows: Int[Array, " n"], strata: Int[Array, " n"]) -> Int[Array, " n"]:
    """Reorder rows so that any run of them has its share of each stratum, up to one row.

    The rows of one stratum keep their order.
    """
    n = rows.shape[0]
    sorted_rows = rows[jnp.argsort(strata[rows], stable=True)]
    sorted_strata = strata[sorted_rows]
    low, high = (
        jnp.searchsorted(sorted_strata, sorted_strata),
        jnp.searchsorted(sorted_strata, sorted_strata, side="right"),
    )
    dtype = jnp.result_type(float)
    position = ((jnp.arange(n, dtype=low.dtype) - low).astype(dtype) + 0.5) / (high - low).astype(dtype)
    return sorted_rows[jnp.argsort(position, stable=True)]


def _part_ends(n: int, train: float, valid: float) -> tuple[int, int]:
    """Return the positions at which the train and the valid part end."""
    for name, share in (("train", train), ("valid", valid)):
        if not isinstance(share, numbers.Real) or not np.isfinite(share):
            raise ValueError(f"{name} must be a share of the rows, a number between 0 and 1, got {share!r}")
    train_end, valid_end = int(train * n), int((train + valid) * n)
    if not 0 < train_end < valid_end < n:
        raise ValueError(
            f"every part must have a row, found {train_end}, {valid_end - train_end} and {n - valid_end} rows in "
            f"train, valid and test for shares {train}, {valid} and the rest of {n} rows: use more rows or other shares"
        )
    return train_end, valid_end


def _check_seeds(seeds: Sequence[int]) -> None:
    """Check that there are seeds, that they differ, and that they are 32-bit numbers."""
    if np.ndim(seeds) != 1 or not all(isinstance(seed, numbers.Integral) for seed in np.asarray(seeds).tolist()):
        raise TypeError(f"seeds must be a sequence of whole numbers, such as (42, 73), got {seeds!r}")
    if len(seeds) == 0:
        raise ValueError("seeds must hold at least one seed, found none: give one number per split, such as range(20)")
    values = [operator.index(seed) for seed in seeds]
    wrong = [seed for seed in values if not 0 <= seed < 2**32]
    if wrong:
        raise ValueError(f"seeds must be at least 0 and less than 2**32, found {wrong[0]}")
    repeated = sorted({seed for seed in values if values.count(seed) > 1})
    if repeated:
        raise ValueError(
            f"seeds must be different, found {', '.join(map(str, repeated))} more than once: drop the copies"
        )


RequiredRows = list[tuple[str, str, Callable[[AnyArray, AnyArray], Any]]]
"""The kinds of rows that a part must have. Each entry is a description of the rows, the quantity that is undefined
without them, and a function of labels and groups that selects them."""


def _required_rows_of_two_groups() -> RequiredRows:
    """Return the rows that measures of two groups and classes require."""
    return [
        ("y=0", "balanced accuracy", lambda y, a: ~y),
        ("y=1", "balanced accuracy", lambda y, a: y),
        ("a=0", "SPD", lambda y, a: ~a),
        ("a=1", "SPD", lambda y, a: a),
        ("a=0 and y=1", "EOD", lambda y, a: ~a & y),
        ("a=1 and y=1", "EOD", lambda y, a: a & y),
    ]


def required_rows(
    measure: Measure | None, groups: Sequence[str] | None, classes: Sequence[str] | None, a: AnyArray
) -> RequiredRows:
    """Return the rows that a part must have for a measure, and balanced accuracy, to be defined on it.

    Args:
        measure: the measure; if omitted, all groups are required.
        groups: names of the groups; two groups if omitted.
        classes: names of the classes; two classes if omitted.
        a: the protected attribute, codes (n,) or memberships (n, groups).

    Returns:
        Each kind of rows: its description, the quantity that is undefined without them, and a function of labels and
        groups that selects them.

    Example:
        >>> entries = required_rows(None, ("f", "m"), None, np.array([0, 1]))
        >>> [description for description, _, _ in entries]
        ['label 0', 'label 1', 'group f', 'group m']
    """
    names = ("unprivileged", "privileged") if groups is None else tuple(groups)
    labels = ("0", "1") if classes is None else tuple(classes)
    parity = None if measure is None else as_parity(measure)
    required: RequiredRows = [
        (f"label {label}", "balanced accuracy", _row_selector((k,), None)) for k, label in enumerate(labels)
    ]
    if parity is None:
        return required + [(f"group {name}", "parity", _row_selector(None, g)) for g, name in enumerate(names)]
    blocks = parity.blocks or (tuple(range(len(names))),)
    compared = sorted({group for block in blocks for group in block})
    # A denominator depends on the labels alone only if it is the same for all predictions.
    label_sets = {
        tuple(k for k, depends in enumerate(rate.den[0]) if depends) for rate in parity.rates if len(set(rate.den)) == 1
    }
    for labels_needed in sorted(label_sets):
        condition = (
            "" if len(labels_needed) == len(labels) else " and label " + " or ".join(labels[k] for k in labels_needed)
        )
        required += [(f"group {names[g]}{condition}", "the measure", _row_selector(labels_needed, g)) for g in compared]
    return required


def _row_selector(labels: tuple[int, ...] | None, group: int | None) -> Callable[[AnyArray, AnyArray], Any]:
    """Make a function of labels and groups that selects the rows of the given labels and group."""

    def select(y: AnyArray, a: AnyArray) -> Any:
        selected = np.ones(len(y), bool) if labels is None else np.isin(y.astype(int), labels)
        if group is None:
            return selected
        return selected & (a[:, group] > 0 if a.ndim == 2 else a.astype(int) == group)

    return select


def _check_part(
    seed: int, part: str, y: AnyArray, a: AnyArray, weights: AnyArray, required: RequiredRows, advice: str
) -> None:
    """Check that a part does not lack a label, a group, or a group among the rows of a label."""
    for description, measure, select in required:
        if not (select(y, a) & (weights > 0)).any():
            raise ValueError(
                f"seed {seed}: the {part} part ({len(y)} rows) has no row with {description}; {measure} is undefined "
                f"there;{advice} use more rows, another seed, or larger parts"
            )
