"""Association of features with the group: which of them could stand in for the protected attribute."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

from fairjax import checks
from fairjax.detect.holm import holm
from fairjax.detect.variables import variable_codes

_CHUNK = 65_536
"""Number of rows that are summed at a time, in double precision."""

FEW = 5
"""Expected number of rows below which categories are pooled, and 2 x 2 tables are tested by Fisher's exact test."""


class Association(NamedTuple):
    """Association of columns and variables with the group. A variable has one column, or several that encode it.

    The association of a constant column and its p-value are NaN.
    """

    variables: tuple[str, ...]
    """Names of the variables."""
    correlation: Float[np.ndarray, " d"]
    """Correlation of each column with the group, 1 = privileged; it is phi for columns with two values. For more than
    two groups, the correlation ratio, which has no sign."""
    strength: Float[np.ndarray, " v"]
    """Strength of each variable's association, in [0, 1]: the absolute correlation of a single column; Cramér's V of
    one-hot columns, corrected for the bias of many categories; the largest absolute correlation of other columns."""
    p: Float[np.ndarray, " v"]
    """p-value of the test of no association with the variable."""
    p_holm: Float[np.ndarray, " v"]
    """The same after Holm's correction for all variables."""
    test: tuple[str, ...]
    """The test of each variable: "chi-square" or "Fisher" for categories, "t" (point-biserial correlation) or "F"
    (analysis of variance) for numbers, "least of columns" for other sets of columns, "none" where nothing varies."""


def association(
    x: Any,
    a: Any,
    names: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    num_groups: int = 2,
) -> Association:
    """Compute how strongly each feature is associated with the group.

    A variable with several columns is tested as a whole. The tests assume independent rows: chi-square tests for
    columns with two values and for one-hot codes, without a continuity correction; the t-test of the point-biserial
    correlation for numbers; and an F-test for numbers if there are more than two groups. Categories that are expected
    to have fewer than 5 rows in a group are pooled, and 2 x 2 tables with fewer are tested by Fisher's exact test. The
    p-value of columns that are not a one-hot code, such as a number and the indicator that it is missing, is the
    smallest p-value of these columns times their number. All rows have equal weight.

    Args:
        x: a matrix of features (n, d), standardised or not.
        a: the groups: booleans or 0 and 1, 1 = privileged; or codes below `num_groups`.
        names: names of the columns; x1, x2, ... if omitted.
        columns: name of the variable of each column, such as `fairjax.detect.variables_of(names)`; if omitted, every
            column is a variable.
        num_groups: number of groups.

    Returns:
        The associations, as NumPy arrays.

    Raises:
        ValueError: if shapes or names do not match, a value is not finite, or a group has no rows.
        TypeError: if `x` or `a` holds anything but numbers and booleans.

    Example:
        >>> x = np.array([[1.0, 20.0], [1.0, 31.0], [0.0, 22.0], [0.0, 29.0]])
        >>> found = association(x, a=[1, 1, 0, 0], names=("sex", "age"))
        >>> found.strength.round(2).tolist(), found.test
        ([1.0, 0.0], ('Fisher', 't'))

    References:
        Bergsma (2013), A bias-correction for Cramér's V and Tschuprow's T.
    """
    x, a = np.asarray(checks.numeric("x", x)), checks.numeric("a", a)
    if x.ndim != 2 or 0 in x.shape or a.ndim != 1 or len(x) != len(a):
        raise ValueError(
            f"x must be a matrix of features and a one group per row of it, found shapes {x.shape} and {a.shape}"
        )
    n, d = x.shape
    names = tuple(f"x{k}" for k in range(1, d + 1)) if names is None else tuple(map(str, names))
    if len(names) != d:
        raise ValueError(f"names must name each of the {d} columns of x, found {len(names)} names")
    labels, codes = variable_codes(names if columns is None else columns, d)
    groups = np.asarray(checks.group_column(a, num_groups)[0]).astype(np.int64)
    sizes = np.bincount(groups, minlength=num_groups)
    if not sizes.all():
        raise ValueError(f"every group must have rows, found none in group {int(np.argmin(sizes))} of {num_groups}")
    sums = _sums(x, groups, num_groups, np.asarray(codes), len(labels), names)
    correlation, ratio = _correlations(sums, sizes)
    tests = [_tested(sums, ratio, sizes, np.flatnonzero(np.asarray(codes) == v), v) for v in range(len(labels))]
    kinds, strengths, p = zip(*tests, strict=True)
    return Association(
        labels, correlation, np.array(strengths, float), np.array(p, float), holm(np.array(p, float)), kinds
    )


class _Sums(NamedTuple):
    """What the associations of all columns are computed from."""

    by_group: Float[np.ndarray, "g d"]
    """Sums over rows of the values, less `shift`, in each group."""
    squares: Float[np.ndarray, " d"]
    """Sum of squares of the values less `shift`."""
    shift: Float[np.ndarray, " d"]
    low: Float[np.ndarray, " d"]
    high: Float[np.ndarray, " d"]
    is_binary: Bool[np.ndarray, " d"]
    """Whether a column has exactly two values."""
    is_code: Bool[np.ndarray, " v"]
    """Whether at most one column of each variable is at its upper value in every row."""


def _sums(x: Shaped[np.ndarray, "n d"], groups: Any, num_groups: int, codes: Any, count: int, names: Any) -> _Sums:
    chunks = range(0, len(x), _CHUNK)
    low, high = x.min(axis=0).astype(np.float64), x.max(axis=0).astype(np.float64)
    wrong = ~(np.isfinite(low) & np.isfinite(high))
    if wrong.any():
        column = int(np.argmax(wrong))
        raise ValueError(
            f"column {names[column]!r} of x has missing or infinite values: drop these rows or fill the values in"
        )
    d, shift = x.shape[1], x[:_CHUNK].mean(axis=0, dtype=np.float64)
    by_group, squares = np.zeros((num_groups, d)), np.zeros(d)
    is_binary, is_code = low < high, np.ones(count, bool)
    variable = ((codes[:, None] == np.arange(count)) & (low < high)[:, None]).astype(np.float64)
    for start in chunks:
        values = x[start : start + _CHUNK].astype(np.float64)
        is_high = values == high
        is_binary &= (is_high | (values == low)).all(axis=0)
        is_code &= ((is_high.astype(np.float64) @ variable) <= 1).all(axis=0)
        values -= shift
        member = groups[start : start + _CHUNK] == np.arange(num_groups)[:, None]
        by_group += member.astype(np.float64) @ values
        squares += (values**2).sum(axis=0)
    return _Sums(by_group, squares, shift, low, high, is_binary, is_code)


def _correlations(sums: _Sums, sizes: Any) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Return correlations, and the share of each column's variance that is between groups; NaN if it is constant."""
    n, total = sizes.sum(), sums.by_group.sum(axis=0)
    varies = sums.low < sums.high
    within_all = np.where(varies, sums.squares - total**2 / n, np.nan)
    between = (sums.by_group**2 / sizes[:, None]).sum(axis=0) - total**2 / n
    ratio = np.clip(between / within_all, 0.0, 1.0)
    if len(sizes) != 2:
        return np.sqrt(ratio), ratio
    means = sums.by_group / sizes[:, None]
    return np.sign(means[1] - means[0]) * np.sqrt(ratio), ratio


def _tested(sums: _Sums, ratio: Any, sizes: Any, columns: Any, variable: int) -> tuple[str, float, float]:
    """Return the test, the strength and the p-value of one variable."""
    columns = columns[sums.low[columns] < sums.high[columns]]
    if not len(columns):
        return "none", np.nan, np.nan
    if sums.is_binary[columns].all() and sums.is_code[variable]:
        span = (sums.high - sums.low)[columns]
        counts = (sums.by_group[:, columns] + sizes[:, None] * (sums.shift - sums.low)[columns]) / span
        counts = np.rint(counts)  # of rows at the upper value, by group
        rest = sizes - counts.sum(axis=1)
        table = np.column_stack([counts, rest]) if rest.any() else counts
        kind, strength, p = _test_of_table(table)
        return kind, float(np.sqrt(ratio[columns[0]])) if len(columns) == 1 else strength, p
    single = [_test_of_column(float(ratio[column]), sizes) for column in columns]
    least = min(p for _, p in single)
    kind = single[0][0] if len(columns) == 1 else "least of columns"
    return kind, float(np.sqrt(ratio[columns].max())), min(1.0, len(columns) * least)


def _test_of_column(ratio: float, sizes: Any) -> tuple[str, float]:
    """Return the test and the p-value of a column, from the share of its variance that is between groups."""
    from scipy import stats

    n, groups = int(sizes.sum()), len(sizes)
    if n <= groups:
        return "none", np.nan
    with np.errstate(divide="ignore"):
        f = np.float64(ratio) / (groups - 1) / ((1.0 - np.float64(ratio)) / (n - groups))
    return "t" if groups == 2 else "F", float(stats.f.sf(f, groups - 1, n - groups))


def _test_of_table(table: Float[np.ndarray, "g k"]) -> tuple[str, float, float]:
    """Return the test of a table of counts, Cramér's V without its bias, and the p-value."""
    from scipy import stats

    table = _pooled(table)
    rows, columns = table.shape
    n, degrees = table.sum(), (rows - 1) * (columns - 1)
    if not degrees:
        return "none", np.nan, np.nan
    expected = _expected(table)
    statistic = float(((table - expected) ** 2 / expected).sum())
    excess = max(0.0, statistic / n - degrees / (n - 1))
    fewest = min(side - (side - 1) ** 2 / (n - 1) for side in (rows, columns)) - 1
    strength = min(1.0, np.sqrt(excess / fewest)) if fewest > 0 else np.nan
    if table.shape == (2, 2) and expected.min() < FEW:
        return "Fisher", strength, float(stats.fisher_exact(table.astype(np.int64))[1])
    return "chi-square", strength, float(stats.chi2.sf(statistic, degrees))


def _pooled(table: Float[np.ndarray, "g k"]) -> Float[np.ndarray, "g m"]:
    """Pool the categories that are expected to have few rows in a group."""
    table = table[:, table.any(axis=0)]
    is_rare = (_expected(table) < FEW).any(axis=0)
    if table.shape[1] <= 2 or is_rare.sum() < 2:
        return table
    return np.column_stack([table[:, ~is_rare], table[:, is_rare].sum(axis=1)])


def _expected(table: Float[np.ndarray, "g k"]) -> Float[np.ndarray, "g k"]:
    """Return the counts that are expected if category and group are independent."""
    return table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
