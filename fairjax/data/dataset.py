"""Data sets as checked arrays: invalid tables are detected here, on the host."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float32, Int32
from numpy.typing import ArrayLike

from fairjax import checks
from fairjax.data.unscaled import is_standardised, unscaled
from fairjax.metrics import Measure, make_measure
from fairjax.metrics.gaps import Gap
from fairjax.metrics.groups import Column, Groups
from fairjax.types import Inputs


class Dataset(NamedTuple):
    """Features with labels and groups, not yet split or standardised."""

    name: str
    """Name in tables and messages."""
    x: Inputs
    """Features, finite: a float32 matrix if they are a table, else an array or a tree of arrays with rows on axis 0."""
    y: Bool[np.ndarray, " n"] | Int32[np.ndarray, " n"]
    """Labels: for two classes the raw class, as coded in the data; for more, codes in the order of `classes`."""
    a: Column
    """Protected attribute: for two groups true in the privileged one; for more, codes or memberships."""
    features: tuple[str, ...]
    """Names of the features, or of the arrays of a tree."""
    protected: str
    """Name of the protected attribute."""
    weights: Float32[np.ndarray, " n"] | None = None
    """Sample weights, or None where every row weighs 1."""
    groups: Groups | None = None
    """Names of the groups, and which of them are compared; None for two groups without names."""
    classes: tuple[str, ...] | None = None
    """Names of the classes; None for two classes without names."""
    standardise: bool = True
    """Whether the features are standardised when the data are split."""

    @property
    def group_names(self) -> tuple[str, ...]:
        """Names of the groups, in the order of their codes."""
        return ("unprivileged", "privileged") if self.groups is None else self.groups.names

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their codes."""
        return ("0", "1") if self.classes is None else self.classes

    @property
    def num_groups(self) -> int:
        """Number of groups."""
        return len(self.group_names)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def measure(self, name: str, *, across: str | Gap | None = None, minimum: float | int = 1) -> Measure:
        """Make a measure of `fairjax.metrics.MEASURES` for the groups and classes of this table.

        Args:
            name: name of the measure, such as "spd".
            across: the gap that compares rates across groups; see `fairjax.metrics.make_measure`.
            minimum: least denominator of a rate, in rows, for its group to be compared.

        Returns:
            For two groups and classes, the signed function of that name; otherwise a `fairjax.metrics.Parity`.

        Raises:
            ValueError: if there is no such measure or gap.
        """
        blocks, membership = (None, None) if self.groups is None else (self.groups.blocks, self.groups.membership)
        return make_measure(
            name,
            self.num_groups,
            self.num_classes,
            across=across,
            minimum=minimum,
            blocks=blocks,
            membership=membership,
        )


def from_arrays(
    x: Any,
    y: ArrayLike | pd.Series,
    a: ArrayLike | pd.Series | Groups,
    *,
    name: str = "data",
    features: Sequence[str] | None = None,
    protected: str | None = None,
    weights: ArrayLike | pd.Series | None = None,
    classes: Sequence[Any] | None = None,
    standardise: bool | None = None,
) -> Dataset:
    """Check features, labels and groups, and make a data set from them.

    Args:
        x: Features, one row per sample. Numbers and booleans only; categories must be encoded first. A frame, a matrix
            or a list of rows is a table, which becomes float32 and is standardised when it is split. An array with more
            axes, such as images, or a tree of arrays, such as a dictionary of columns, keeps its integers and is not
            standardised.
        y: Labels, 0 and 1; or, with `classes`, any of these.
        a: Protected attribute, 1 in the privileged group and 0 in the other; or the result of `fairjax.data.groups`,
            `memberships` or `continuous`.
        name: Name of the data set.
        features: Names of the features of a table; if omitted, a frame's own column names, or x1, x2, ...
        protected: Name of the protected attribute; if omitted, that of the groups, or "a".
        weights: Sample weights, finite and not negative.
        classes: All values that a label can have, in the order of their codes; if there are two, the second is y = 1.
        standardise: Whether the features are standardised; by default, those of a table are. A matrix of integers is a
            table, too: pass False if they are tokens, which must stay integers.

    Returns:
        The data set, with the features of a table as float32, and labels and groups as booleans or, if there are more
        than two, as int32 codes. A constant feature is allowed.

    Raises:
        ValueError: If a shape, length, name or value is invalid, a value is missing, a class or group is absent, or
            pandas indices differ, including the index of the rows from which groups were made.
        TypeError: If `x`, `y` or `a` holds anything but numbers and booleans.

    Example:
        >>> data = from_arrays([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]], y=[0, 1, 1], a=[1, 0, 1], features=("age", "pay"))
        >>> data.x.shape, data.y.tolist(), data.features
        ((3, 2), [False, True, True], ('age', 'pay'))
        >>> from fairjax.data import groups
        >>> risk = from_arrays(
        ...     [[1.0], [2.0], [3.0]], ["low", "high", "mid"], groups(["a", "b", "c"]), classes=("low", "mid", "high")
        ... )
        >>> risk.y.tolist(), risk.a.tolist(), risk.group_names
        ([0, 2, 1], [0, 1, 2], ('a', 'b', 'c'))
        >>> tokens = from_arrays(np.array([[5, 2], [7, 0], [3, 3]]), y=[0, 1, 1], a=[1, 0, 1], standardise=False)
        >>> tokens.x.dtype
        dtype('int32')
    """
    checks.check_index(x=x, y=y, a=a, weights=weights)
    scaled = is_standardised(x, standardise)
    table, names = _scaled_table(x, features) if scaled else _unscaled(x, features)
    rows = len(jax.tree.leaves(table)[0])
    labels = _binary(y, "y", "class", rows) if classes is None else _classes(y, tuple(classes), rows)
    groups = a if isinstance(a, Groups) else None
    if groups is None:
        column = _binary(a, "a", "group", rows)
    elif len(groups.a) != rows:
        raise ValueError(f"x and a must have the same length, found {rows} and {len(groups.a)} rows")
    else:
        column = groups.a
    return Dataset(
        name=name,
        x=table,
        y=labels,
        a=column,
        features=names,
        protected=protected or ("a" if groups is None else " and ".join(groups.attributes)),
        weights=_weights(weights, rows),
        groups=groups,
        classes=None if classes is None else tuple(map(str, classes)),
        standardise=scaled,
    )


def _scaled_table(x: Any, features: Sequence[str] | None) -> tuple[Float32[np.ndarray, "n d"], tuple[str, ...]]:
    """Return the features of a table as float32, and their names."""
    wide = _table(x)
    names = _names(x, features, wide.shape[1])
    with np.errstate(over="ignore"):  # values beyond float32 become inf and are rejected below
        table = wide.astype(np.float32)
    _check_finite(table, names)
    checks.check_merged(wide, table, names)
    return table, names


def _unscaled(x: Any, features: Sequence[str] | None) -> tuple[Inputs, tuple[str, ...]]:
    """Return features that are not standardised, and their names."""
    if isinstance(x, pd.DataFrame):
        return _scaled_table(x, features)  # the values of a table are checked alike
    is_matrix = not checks.is_tree(x) and np.ndim(x) == 2
    if features is not None and not is_matrix:
        raise ValueError("features names the columns of a table, found other inputs: leave it out")
    names = _names(x, features, np.shape(x)[1]) if is_matrix else None
    inputs, names, _ = unscaled(x, names)
    return jax.tree.map(np.asarray, inputs), names


def _weights(weights: Any, rows: int) -> Float32[np.ndarray, " n"] | None:
    """Check sample weights: one per row, finite and not negative."""
    if weights is None:
        return None
    column = checks.vector("weights", weights)
    if column.shape != (rows,):
        raise ValueError(f"weights must have shape ({rows},), one per row of x, found {column.shape}")
    return np.asarray(checks.sample_weights(column, np.ones(rows, np.float32))[0])


def _classes(y: Any, classes: tuple[Any, ...], rows: int) -> Bool[np.ndarray, " n"] | Int32[np.ndarray, " n"]:
    """Convert labels to codes of the classes, all of which must occur."""
    if len(classes) < 2 or len(set(map(str, classes))) < len(classes):
        raise ValueError(f"classes must be two or more values of different names, got {classes}")
    if not hasattr(y, "toarray") and np.ndim(y) != 1:
        raise ValueError(f"y must have one label per row, found shape {np.shape(y)}: squeeze columns of shape (n, 1)")
    column = pd.Series(y) if not hasattr(y, "toarray") else checks.numeric("y", y)
    if len(column) != rows:
        raise ValueError(f"x and y must have the same length, found {rows} and {len(column)} rows")
    codes = pd.Index(classes).get_indexer(pd.Index(column))
    if (codes < 0).any():
        row = int(np.argmax(codes < 0))
        raise ValueError(
            f"y must hold one of the classes {', '.join(map(str, classes))}, found {column.iloc[row]!r} in row {row}"
        )
    absent = [str(value) for k, value in enumerate(classes) if not (codes == k).any()]
    if absent:
        raise ValueError(f"no row of y is of the class {absent[0]}: parity is undefined when a class is absent")
    return codes == 1 if len(classes) == 2 else codes.astype(np.int32)


def _table(x: Any) -> Float[np.ndarray, "n d"]:
    """Convert the features to a float64 matrix."""
    values = _frame_numbers(x) if isinstance(x, pd.DataFrame) else np.asarray(checks.numeric("x", x), np.float64)
    if values.ndim != 2:
        raise ValueError(
            f"x must have two axes, rows and features, found shape {values.shape}: try x.reshape(len(x), -1)"
        )
    if 0 in values.shape:
        raise ValueError(f"x must have at least one row and one feature, found shape {values.shape}")
    return values


def _frame_numbers(x: pd.DataFrame) -> Float[np.ndarray, "n d"]:
    """Convert a frame to numbers, with missing values as NaN."""
    refused = [name for name, dtype in zip(x.columns, x.dtypes, strict=True) if not _is_number(dtype)]
    if refused:
        types = ", ".join(f"{name!r} ({x.dtypes[name]})" for name in refused[:5])
        more = f" and {len(refused) - 5} more" if len(refused) > 5 else ""
        raise TypeError(
            f"x must hold numbers and booleans only, found columns {types}{more}: "
            f"encode them first, for example with pandas.get_dummies(x, columns={refused[:5]!r})"
        )
    return x.to_numpy(dtype=np.float64, na_value=np.nan)


def _is_number(dtype: Any) -> bool:
    """Return whether a NumPy or pandas dtype is boolean, integer or float."""
    return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype)


def _names(x: Any, features: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """Return the names of the features: those given, the frame's, or x1, x2, ..."""
    if isinstance(features, str):
        raise ValueError(f"features must be a sequence with one name per column, found the string {features!r}")
    if features is not None:
        names = tuple(str(feature) for feature in features)
    elif isinstance(x, pd.DataFrame):
        names = tuple(str(column) for column in x.columns)
    else:
        names = tuple(f"x{column}" for column in range(1, count + 1))
    if len(names) != count:
        raise ValueError(f"features must name every column of x: found {len(names)} names for {count} columns")
    repeated = sorted(feature for feature, times in Counter(names).items() if times > 1)
    if repeated:
        raise ValueError(f"features must have different names, found {', '.join(map(repr, repeated))} more than once")
    return names


def _check_finite(table: Float32[np.ndarray, "n d"], names: tuple[str, ...]) -> None:
    """Check that the table has neither NaN nor infinity."""
    bad = ~np.isfinite(table)
    columns = np.flatnonzero(bad.any(axis=0))
    if columns.size:
        column = columns[0]
        rows = np.flatnonzero(bad[:, column])
        more = f" ({columns.size - 1} more columns too)" if columns.size > 1 else ""
        raise ValueError(
            f"column {names[column]!r} of x has {rows.size} missing or infinite values in float32, the first "
            f"({table[rows[0], column]}) in row {rows[0]}{more}: drop these rows or fill the values in"
        )


def _binary(values: Any, label: str, kind: str, rows: int) -> Bool[np.ndarray, " n"]:
    """Convert a column of 0 and 1, in which both occur, to booleans."""
    column = checks.vector(label, values)
    if len(column) != rows:
        raise ValueError(f"x and {label} must have the same length, found {rows} and {len(column)} rows")
    flags = np.asarray(checks.indicator(label, column)[0])
    if flags.all() or not flags.any():
        raise ValueError(
            f"{label} must hold both 0 and 1, found only {int(flags[0])} in all {rows} rows: "
            f"parity is undefined when a {kind} is absent"
        )
    return flags
