"""A data set as checked arrays: everything that can be wrong with a table is found here, on the host."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float32
from numpy.typing import ArrayLike

from fairjax.checks import check_index


class Dataset(NamedTuple):
    """A table of features with a binary label and a binary protected attribute, not yet split or standardised."""

    name: str
    """What to call it in tables and messages."""
    x: Float32[np.ndarray, "n d"]
    """Features, finite."""
    y: Bool[np.ndarray, " n"]
    """Labels: the raw class, as the data codes it."""
    a: Bool[np.ndarray, " n"]
    """Protected attribute: true in the privileged group."""
    features: tuple[str, ...]
    """Name of each feature."""
    protected: str
    """Name of the protected attribute."""
    weights: Float32[np.ndarray, " n"] | None = None
    """Sample weights, or None where every row weighs 1. Measures take them; training and thresholds do not yet."""


def from_arrays(
    x: ArrayLike | pd.DataFrame,
    y: ArrayLike | pd.Series,
    a: ArrayLike | pd.Series,
    *,
    name: str = "data",
    features: Sequence[str] | None = None,
    protected: str = "a",
    weights: ArrayLike | pd.Series | None = None,
) -> Dataset:
    """Check a table and make a data set of it.

    Args:
        x: Features, one row a sample: an array, a list of rows, or a frame. Numbers and booleans only; categories have
            to be encoded first.
        y: Labels, 0 and 1.
        a: Protected attribute, 1 in the privileged group and 0 in the other.
        name: What to call the data set.
        features: Names of the features; a frame's own column names, or x1, x2, ..., if not given.
        protected: Name of the protected attribute.
        weights: Sample weights, finite and not negative; kept with the data.

    Returns:
        The data set, features as float32 and labels and groups as booleans. A constant feature is allowed.

    Raises:
        ValueError: If a shape, a length, a name or a value is wrong, a value is missing, or a class or group is absent.
        TypeError: If `x`, `y` or `a` holds anything but numbers and booleans.

    Example:
        >>> data = from_arrays([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]], y=[0, 1, 1], a=[1, 0, 1], features=("age", "pay"))
        >>> data.x.shape, data.y.tolist(), data.features
        ((3, 2), [False, True, True], ('age', 'pay'))
    """
    check_index(x=x, y=y, a=a, weights=weights)
    wide = _table(x)
    names = _names(x, features, wide.shape[1])
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf, and is refused as such
        table = wide.astype(np.float32)
    _check_finite(table, names)
    _check_merged(wide, table, names)
    labels = _binary(y, "y", "class", len(table))
    groups = _binary(a, "a", "group", len(table))
    return Dataset(name, table, labels, groups, names, protected, _weights(weights, len(table)))


def _weights(weights: Any, rows: int) -> Float32[np.ndarray, " n"] | None:
    """Sample weights, one per row, finite and not negative."""
    if weights is None:
        return None
    column = _numbers(weights, "weights", "convert them with weights.astype(float)")
    if column.shape != (rows,):
        raise ValueError(f"weights must have shape ({rows},), one per row of x, found {column.shape}")
    wrong = ~((column >= 0) & (column < np.inf))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"weights must be finite and not negative, found {column[row]:g} in row {row}")
    if not column.any():
        raise ValueError("weights are all 0: give some row a positive weight")
    return column.astype(np.float32)


def _check_merged(wide: Float[np.ndarray, "n d"], table: Float32[np.ndarray, "n d"], names: tuple[str, ...]) -> None:
    """Refuse features far from 0 whose differences float32 loses, such as Unix times."""
    for column, name in enumerate(names):
        low, high = wide[:, column].min(), wide[:, column].max()
        spacing = np.spacing(np.float32(max(abs(low), abs(high)))).astype(np.float64)
        if high == low or spacing < 1e-4 * (high - low):
            continue
        before, after = (np.unique(values[:, column]).size for values in (wide, table))
        if after < before:
            raise ValueError(
                f"column {name!r} of x has {before} different values, of which float32 keeps {after}, since they lie "
                f"between {low:g} and {high:g}: subtract an offset first, such as x[{name!r}] - {low:g}"
            )


def _table(x: Any) -> Float[np.ndarray, "n d"]:
    """The features as a float64 matrix."""
    values = _frame_numbers(x) if isinstance(x, pd.DataFrame) else _numbers(x, "x", "convert it with x.astype(float)")
    if values.ndim != 2:
        raise ValueError(
            f"x must have two axes, rows and features, found shape {values.shape}: try x.reshape(len(x), -1)"
        )
    if 0 in values.shape:
        raise ValueError(f"x must have at least one row and one feature, found shape {values.shape}")
    return values


def _frame_numbers(x: pd.DataFrame) -> Float[np.ndarray, "n d"]:
    """A frame as numbers, missing values as NaN."""
    refused = [name for name, dtype in zip(x.columns, x.dtypes, strict=True) if not _is_number(dtype)]
    if refused:
        types = ", ".join(f"{name!r} ({x.dtypes[name]})" for name in refused[:5])
        more = f" and {len(refused) - 5} more" if len(refused) > 5 else ""
        raise TypeError(
            f"x must hold numbers and booleans only, found columns {types}{more}: "
            f"encode them first, for example with pandas.get_dummies(x, columns={refused[:5]!r})"
        )
    return x.to_numpy(dtype=np.float64, na_value=np.nan)


def _numbers(values: Any, label: str, hint: str) -> Float[np.ndarray, "..."]:
    """Any array-like as numbers, missing values as NaN."""
    if hasattr(values, "toarray") and hasattr(values, "nnz"):
        raise TypeError(f"{label} is a sparse matrix: pass {label}.toarray()")
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        raise ValueError(f"{label} is a masked array with masked entries: drop these rows or fill the values in")
    if isinstance(values, pd.api.extensions.ExtensionArray):
        values = pd.Series(values)
    try:
        array = values if isinstance(values, pd.Series) else np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{label} is not a regular array ({error}): its rows must all have the same length") from error
    if not _is_number(array.dtype):
        raise TypeError(f"{label} must hold numbers or booleans, found dtype {array.dtype}: {hint}")
    if isinstance(array, pd.Series):
        return array.to_numpy(dtype=np.float64, na_value=np.nan)
    return array.astype(np.float64)


def _is_number(dtype: Any) -> bool:
    """Whether a NumPy or pandas type is boolean, integer or float."""
    return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype)


def _names(x: Any, features: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """Names of the features: those given, the frame's, or x1, x2, ..."""
    if features is not None:
        names = tuple(str(feature) for feature in features)
    elif isinstance(x, pd.DataFrame):
        names = tuple(str(column) for column in x.columns)
    else:
        names = tuple(f"x{column}" for column in range(1, count + 1))
    if len(names) != count:
        raise ValueError(f"features must name every column of x: found {len(names)} names for {count} columns")
    twice = sorted(feature for feature, times in Counter(names).items() if times > 1)
    if twice:
        raise ValueError(f"features must have different names, found {', '.join(map(repr, twice))} more than once")
    return names


def _check_finite(table: Float32[np.ndarray, "n d"], names: tuple[str, ...]) -> None:
    """Refuse NaN and infinity."""
    bad = ~np.isfinite(table)
    columns = np.flatnonzero(bad.any(axis=0))
    if columns.size:
        column = columns[0]
        rows = np.flatnonzero(bad[:, column])
        others = f" ({columns.size - 1} more columns too)" if columns.size > 1 else ""
        raise ValueError(
            f"column {names[column]!r} of x has {rows.size} missing or infinite values in float32, the first "
            f"({table[rows[0], column]}) in row {rows[0]}{others}: drop these rows or fill the values in"
        )


def _binary(values: Any, label: str, kind: str, rows: int) -> Bool[np.ndarray, " n"]:
    """A column of 0 and 1, both present, as booleans."""
    column = _numbers(values, label, f"pass a comparison, such as {label} == 'yes'")
    if column.ndim != 1:
        raise ValueError(f"{label} must have one axis, found shape {column.shape}: pass a single column")
    if len(column) != rows:
        raise ValueError(f"x and {label} must have the same length, found {rows} and {len(column)} rows")
    missing = np.flatnonzero(np.isnan(column))
    if missing.size:
        raise ValueError(f"{label} has {missing.size} missing values, the first in row {missing[0]}: drop these rows")
    found = np.unique(column)
    if not np.isin(found, (0, 1)).all():
        shown = ", ".join(f"{value:g}" for value in found[:5]) + (", ..." if found.size > 5 else "")
        raise ValueError(
            f"{label} must hold 0 and 1 only, found {shown}: "
            f"say which value is 1 by a comparison, such as {label} == {found[-1]:g}"
        )
    if found.size == 1:
        raise ValueError(
            f"{label} must hold both 0 and 1, found only {found[0]:g} in all {rows} rows: "
            f"parity is undefined when a {kind} is absent"
        )
    return column == 1
