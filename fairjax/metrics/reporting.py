"""`by_group`: rates per group with intervals, from arrays or frames."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from jax.core import Tracer

from fairjax import checks
from fairjax.metrics.group_report import GroupReport, report_from_sums
from fairjax.metrics.groups import Groups, intersections
from fairjax.metrics.levels import check_minimum, read_names

BINS = 10
"""Number of bins of the calibration error."""

_SLACK = 1e-6
"""Tolerance for scores that rounding in single precision has moved out of [0, 1]."""


def by_group(
    decisions: Any,
    y: Any,
    groups: Any,
    scores: Any = None,
    weights: Any = None,
    names: Sequence[str] | None = None,
    minimum: float | int = 1,
) -> GroupReport:
    """Report the rates of each group with intervals, and the quality of the scores if they are given.

    Args:
        decisions: decisions, 0 or 1, or booleans, of shape (n,).
        y: labels, 0 or 1, or booleans, of shape (n,).
        groups: a series, array or list of strings, codes or booleans; or several columns, as a frame or an array
            (n, attributes), whose intersections are the groups; or the result of `fairjax.data.groups`, which may have
            strata or attributes that are not intersected; or the result of `fairjax.data.memberships` for booleans.
        scores: probabilities of label 1, of shape (n,), for the area under the curve, Brier score and calibration
            error.
        weights: non-negative weights of shape (n,); 1 if omitted.
        names: names of the groups, if `groups` is one column of codes 0, 1, ...
        minimum: least denominator of a rate, in rows, for the group to be compared in the rate's gaps. Weighted rows
            count with Kish's effective size.

    Returns:
        A report: print it, use its arrays, or call `gaps()` and `to_frame()`.

    Raises:
        ValueError: if shapes or pandas indices differ, or a value is invalid.
        TypeError: if an argument is sparse, masked, traced, or does not hold numbers where numbers are required.

    Example:
        >>> report = by_group([1, 0, 1, 1], [1, 1, 0, 1], ["a", "a", "b", "b"])
        >>> report.selection_rate.tolist()
        [0.5, 1.0]
        >>> report.gaps(bootstrap=0)["selection_rate_difference"].value
        0.5
    """
    found_groups = _grouped(groups, names)
    checks.check_index(decisions=decisions, y=y, groups=found_groups, scores=scores, weights=weights)
    f, label = _binary(decisions, "decisions"), _binary(y, "y")
    checked = {"decisions": f, "y": label, "groups": found_groups.a}
    check_minimum(minimum)
    w = score = None
    if weights is not None:
        w = checked["weights"] = _numbers(weights, "weights", 0.0, np.inf)
        if w.size and not w.any():
            raise ValueError("weights are all 0, so there is nothing to measure: give some row a positive weight")
    if scores is not None:
        score = checked["scores"] = _numbers(scores, "scores", 0.0, 1.0)
    if len({len(array) for array in checked.values()}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in checked.items())
        raise ValueError(f"expected one number of rows, got shapes {shapes}; pass the same rows to each")

    count = len(found_groups)
    blocks = found_groups.blocks or (tuple(range(count)),)
    belonging = _belonging(found_groups, blocks)
    scale = 1.0
    if w is not None:
        scale = w.max(initial=0.0) or 1.0  # the squares of weights as large as 1e200 would be infinite
        w = w / scale
    cells, cell_squares = (
        _sums(f * 2 + label, belonging.sets, belonging.num_sets, array) for array in (w, None if w is None else w**2)
    )
    row_counts = cells if w is None else _sums(f * 2 + label, belonging.sets, belonging.num_sets)
    with np.errstate(over="ignore"):
        finite = np.isfinite(cells.sum() * scale)
    if not finite:
        raise ValueError("the sum of the weights is not finite: divide the weights by the largest of them")
    quality = (None, None, None)
    if score is not None:
        row, code = belonging.row, belonging.code
        quality = _quality(score[row], label[row], code, None if w is None else w[row], count)
    return report_from_sums(
        names=found_groups.names,
        attributes=found_groups.attributes,
        levels=found_groups.levels,
        blocks=blocks,
        left_out=found_groups.left_out,
        rows=row_counts,
        cells=cells,
        squares=cell_squares,
        members=belonging.members,
        minimum=minimum,
        weighted=w is not None,
        scale=scale,
        quality=quality,
    )


def _binary(value: Any, name: str) -> np.ndarray:
    """Convert values of 0 and 1 to integers."""
    value = _host(value, name)
    soft = (value > 0) & (value < 1)
    if value.dtype.kind == "f" and soft.any():
        row = int(np.argmax(soft))
        raise ValueError(
            f"{name} must be 0 or 1, found {value[row]:g} in row {row}: threshold scores first, and pass them as scores"
        )
    return np.asarray(checks.indicator(name, value)[0]).astype(np.int64)


def _numbers(value: Any, name: str, low: float, high: float) -> np.ndarray:
    """Check that numbers are in a range, and convert them to double precision."""
    value = _host(value, name).astype(float)
    slack = _SLACK if np.isfinite(high) else 0.0
    wrong = ~((value >= low - slack) & (value <= high + slack) & np.isfinite(value))
    if wrong.any():
        row = np.argmax(wrong)
        span, way = "finite and not negative", "drop the row or correct the value"
        if np.isfinite(high):
            span, way = f"in [{low:g}, {high:g}]", "pass logits through jax.nn.sigmoid, and drop rows that lack a value"
        raise ValueError(f"{name} must be {span}, found {value[row]:g} in row {row}: {way}")
    return np.clip(value, low, high)


def _host(value: Any, name: str) -> np.ndarray:
    """Convert one number per row to a NumPy array."""
    value = checks.vector(name, value)
    if isinstance(value, Tracer):
        raise TypeError(f"by_group makes a table on the host, and {name} is traced: call it outside of jax.jit")
    return np.asarray(value)


def _grouped(groups: Any, names: Sequence[str] | None) -> Groups:
    """Make the groups, as codes or memberships."""
    if isinstance(groups, Groups):
        if names is not None:
            raise ValueError("the groups have names already: leave names out")
        return groups
    if names is None:
        result = intersections(groups)
        return replace(result, left_out=_empty(result))
    names = read_names(names)
    if len({name.casefold() for name in names}) < len(names):
        raise ValueError(f"names must be different ones, in more than capitals, found {', '.join(names)}")
    result = intersections(groups)
    if len(result.attributes) != 1:
        raise ValueError("names are for one column of codes; put the values of several columns into the frame")
    codes = [level[0] for level in result.levels]
    if not all(map(_is_whole, codes)) or not 0 <= min(codes) <= max(codes) < len(names):
        raise ValueError(f"with {len(names)} names, groups must be codes from 0 to {len(names) - 1}, found {codes}")
    present = {int(value): names[int(value)] for value in codes}
    left_out = {name: "no rows" for k, name in enumerate(names) if k not in present}
    levels = tuple((name,) for name in present.values())
    return replace(result, names=tuple(present.values()), levels=levels, left_out=left_out)


class _Belonging(NamedTuple):
    """The groups to which each row belongs. Rows that belong to the same groups have the same set of groups."""

    sets: np.ndarray
    """Code of the set of groups of each row; if every row has exactly one group, the code of its group."""
    num_sets: int
    """Number of sets."""
    members: np.ndarray | None
    """Whether each group (columns) is in each set (rows); None if the sets are the groups."""
    row: Any
    """The rows in the order of `code`; a row that belongs to several groups occurs several times."""
    code: np.ndarray
    """The group of each entry of `row`."""

    def of_groups(self, sums: np.ndarray) -> np.ndarray:
        """Compute sums by group (the last axis) from sums by set of groups."""
        return sums if self.members is None else sums @ self.members


def _belonging(groups: Groups, blocks: tuple[tuple[int, ...], ...]) -> _Belonging:
    if groups.a.ndim == 1:
        code = groups.a.astype(np.int64)
        return _Belonging(code, len(groups), None, slice(None), code)
    if not ((groups.a == 0) | (groups.a == 1)).all():
        raise ValueError(
            "by_group counts whole rows, found memberships in part, such as probabilities or those of a continuous "
            "attribute: pass groups that each row is in or not, for example ranges made with pandas.cut, or compare "
            'with a measure, fairjax.data.from_arrays(x, y, groups).measure("spd")'
        )
    members = groups.a.astype(bool)
    in_several = np.stack([members[:, list(block)].sum(axis=1) > 1 for block in blocks], axis=1).any(axis=1)
    if groups.membership is None and in_several.any():
        raise ValueError(
            f"row {int(np.argmax(in_several))} belongs to several groups that are compared with each other: to count "
            'it in each of them, make the groups with fairjax.data.memberships(..., estimator="weighted")'
        )
    _, first_rows, sets = np.unique(np.packbits(members, axis=1), axis=0, return_index=True, return_inverse=True)
    row, code = np.nonzero(members)
    return _Belonging(sets.reshape(-1), len(first_rows), members[first_rows].astype(float), row, code)


def _sums(kind: np.ndarray, sets: np.ndarray, count: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Sum weights, or count rows, by decision, label and set of groups: shape (2, 2, sets)."""
    return np.bincount(kind * count + sets, weights, minlength=4 * count).reshape(2, 2, count).astype(float)


def _empty(groups: Groups) -> dict[str, str]:
    """Return the groups without rows, with the reason for leaving them out."""
    return {name: why for name, why in groups.left_out.items() if name not in groups.names}


def _is_whole(value: Any) -> bool:
    return isinstance(value, bool | int | float) and float(value).is_integer()


def _quality(score, label, code, w, count: int):
    """Compute area under the curve, Brier score and expected calibration error of each group."""
    w = np.ones(len(score)) if w is None else w
    total = np.bincount(code, w, count)
    safe = np.where(total > 0, total, np.nan)
    brier = np.bincount(code, w * (score - label) ** 2, count) / safe

    cell = code * BINS + np.minimum((score * BINS).astype(np.int64), BINS - 1)
    off = np.abs(np.bincount(cell, w * (score - label), count * BINS)).reshape(count, BINS)
    calibration = off.sum(axis=1) / safe

    order = np.argsort(score)
    order = order[np.argsort(code[order].astype(np.int32), kind="stable")]
    s, g, positive, weight = score[order], code[order], label[order] == 1, w[order]
    auc = np.full(count, np.nan)
    if len(s):
        starts = np.flatnonzero(np.r_[True, (s[1:] != s[:-1]) | (g[1:] != g[:-1])])
        up = np.add.reduceat(weight * positive, starts)
        down = np.add.reduceat(weight * ~positive, starts)
        group = g[starts]
        ups, downs = np.bincount(group, up, count), np.bincount(group, down, count)
        negatives_below = np.cumsum(down) - down - (np.cumsum(downs) - downs)[group]
        pairs = ups * downs
        auc = np.bincount(group, up * (negatives_below + down / 2), count) / np.where(pairs > 0, pairs, np.nan)
    return auc, brier, calibration
