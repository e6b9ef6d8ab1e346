"""Soft and overlapping groups: columns of memberships, and continuous attributes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fairjax import checks
from fairjax.metrics.groups import Groups, Membership
from fairjax.metrics.levels import check_concrete, check_names, check_word, read_names


def memberships(
    probabilities: Any, names: Sequence[str] | None = None, *, estimator: Membership | None = None
) -> Groups:
    """Make groups from memberships, such as probabilities from surnames and places, or flags that overlap.

    Args:
        probabilities: memberships (n, groups) in [0, 1]; a row of probabilities sums to at most 1 or, with the
            estimator "solved", to exactly 1. Booleans may overlap.
        names: names of the groups; the names of a frame's columns if omitted.
        estimator: how probabilities are counted. It must be chosen, since the data cannot show which is right:
            "weighted" understates gaps if the outcome depends on the group itself, and "solved" overstates them if it
            depends on the probabilities alone. Booleans need no estimator, unless a measure or report compares groups
            to which rows belong several at a time: then "weighted" counts such rows in each of their groups.

    Returns:
        The groups. The difference of a row's sum from 1 (for booleans that overlap, from the greatest sum of a row) is
        put in additional columns, which are left out of comparisons, so that all rows have the same sum.

    Raises:
        ValueError: if there are no rows, a value is not in [0, 1], a row sums to more than 1 or, with the estimator
            "solved", not to 1, names do not match, or no estimator is chosen.
        TypeError: if probabilities are sparse, masked, or anything but numbers and booleans.

    Example:
        >>> memberships([[0.75, 0.25], [0.0, 1.0]], names=("a", "b"), estimator="weighted").counts.tolist()
        [0.75, 1.25]
    """
    index = getattr(probabilities, "index", None) if isinstance(probabilities, pd.DataFrame) else None
    if isinstance(probabilities, pd.DataFrame):
        names = tuple(map(str, probabilities.columns)) if names is None else names
        flags = {name: column for name, column in probabilities.items() if str(column.dtype) == "boolean"}
        complete = {name: bool for name, column in flags.items() if not column.isna().any()}
        columns = [
            checks.numeric(f"probabilities[{name!r}]", column)
            for name, column in probabilities.astype(complete).items()
        ]
        probabilities = np.stack(columns, axis=1) if columns else probabilities.to_numpy()
    check_concrete("probabilities", probabilities)
    members = np.asarray(checks.numeric("probabilities", probabilities))
    if members.ndim != 2 or members.shape[1] < 2 or not members.shape[0]:
        raise ValueError(
            "probabilities must have a row for each of one or more samples and a column for each of two or more "
            f"groups, found shape {members.shape}"
        )
    names = tuple(f"group {k}" for k in range(members.shape[1])) if names is None else read_names(names)
    if len(names) != members.shape[1] or len(set(names)) < len(names):
        raise ValueError(f"names must be {members.shape[1]} different ones, one per column, found {', '.join(names)}")
    check_names(names, "give the columns different names")
    checks.group_column(members, members.shape[1], "probabilities")
    if members.dtype != bool or estimator is not None:
        check_word("estimator", estimator, ("weighted", "solved"))
    wide = np.clip(np.asarray(members, np.float64), 0.0, 1.0)  # after the check, only rounding can exceed the bounds
    total = wide.sum(axis=1)
    if members.dtype != bool and (total > 1 + 1e-4).any():
        row = int(np.argmax(total > 1 + 1e-4))
        raise ValueError(
            f"probabilities must sum to at most 1, found {total[row]:g} in row {row}: pass groups that overlap as "
            "booleans"
        )
    top = max(total.max(), 1.0)
    missing_share = np.where(top - total > 1e-4, top - total, 0.0)
    if estimator == "solved" and (np.abs(total - 1) > 1e-4).any():
        row = int(np.argmax(np.abs(total - 1) > 1e-4))
        raise ValueError(
            f'with estimator "solved" every row must sum to 1, found {total[row]:g} in row {row}: add a column of the '
            "rest, with a name of its own"
        )
    count = int(np.ceil(missing_share.max(initial=0.0) - 1e-6))
    remainder = np.stack([np.clip(missing_share - k, 0.0, 1.0) for k in range(count)], axis=1) if count else wide[:, :0]
    all_members = np.concatenate([wide, remainder], axis=1)
    remainder_names = tuple("no group" if count == 1 else f"no group, {k + 1}" for k in range(count))
    advice = "the rest of rows that are not fully in groups has this name, so choose another"
    check_names((*names, *remainder_names), advice)
    a = all_members.astype(bool) if members.dtype == bool else all_members.astype(np.float32)
    return Groups(
        a=a,
        names=(*names, *remainder_names),
        attributes=("group",),
        levels=tuple((name,) for name in (*names, *remainder_names)),
        counts=all_members.sum(axis=0),
        blocks=(tuple(range(len(names))),) if count else None,
        left_out=dict.fromkeys(remainder_names, "the rest of rows that are not fully in groups"),
        membership=estimator,
        pandas_index=index,
    )


def continuous(values: Any, knots: Any = 10, *, name: str | None = None) -> Groups:
    """Convert a continuous attribute such as age to memberships in overlapping ranges around knots.

    Each row belongs to the two knots between which its value lies, and more to the nearer one (hat functions); at and
    beyond the ends, it belongs to the end alone. With the gap `fairjax.metrics.gaps.mean_absolute`, a measure of these
    groups estimates E |E[f | a] - E f|, the generalised demographic parity of Jiang et al. (2022), for a rate that
    varies piecewise linearly.

    Args:
        values: one finite number per row.
        knots: number of knots, placed at equally spaced quantiles; or their positions, in increasing order.
        name: name of the attribute; the name of a series if omitted.

    Returns:
        The groups, counted as "weighted" memberships.

    Raises:
        ValueError: if there are no rows, a value is not finite, or there are fewer than two different knots.
        TypeError: if values or knots are anything but numbers.

    Example:
        >>> continuous([20.0, 30.0, 35.0, 40.0], knots=(20, 40)).a[1].tolist()
        [0.5, 0.5]

    References:
        Jiang, Han, Fan, Yang, Mostafavi, Hu (2022), Generalized Demographic Parity for Group Fairness, ICLR.
    """
    name = str(getattr(values, "name", None) or "value") if name is None else name
    check_concrete("values", values)
    column = np.asarray(checks.vector("values", values)).astype(np.float64)
    if not column.size:
        raise ValueError("expected at least one row, found none")
    if not np.isfinite(column).all():
        row = int(np.argmax(~np.isfinite(column)))
        raise ValueError(f"values must be finite, found {column[row]} in row {row}: drop rows that lack a value")
    if isinstance(knots, int | np.integer):
        if isinstance(knots, bool) or knots < 2:
            raise ValueError(f"knots must be a number of at least two, or where they are, got {knots}")
        positions = np.unique(np.quantile(column, np.linspace(0.0, 1.0, knots)))
    else:
        positions = np.asarray(checks.numeric("knots", knots)).astype(np.float64)
    if (
        positions.ndim != 1
        or positions.size < 2
        or not np.isfinite(positions).all()
        or not (np.diff(positions) > 0).all()
    ):
        raise ValueError(f"knots must be two or more finite numbers in increasing order, got {positions.tolist()}")
    inside = np.clip(column, positions[0], positions[-1])
    right = np.clip(np.searchsorted(positions, inside, side="right"), 1, positions.size - 1)
    share = (inside - positions[right - 1]) / (positions[right] - positions[right - 1])
    members = np.zeros((column.size, positions.size), np.float32)
    rows = np.arange(column.size)
    members[rows, right - 1], members[rows, right] = 1.0 - share, share
    digits = next(
        precision
        for precision in range(6, 18)
        if len({f"{position:.{precision}g}" for position in positions}) == len(positions)
    )
    names = tuple(f"{name} about {position:.{digits}g}" for position in positions)
    return Groups(
        a=members,
        names=names,
        attributes=(name,),
        levels=tuple((position,) for position in positions.tolist()),
        counts=members.sum(axis=0, dtype=np.float64),
        membership="weighted",
        encoder=lambda columns, strata: np.asarray(continuous(columns, positions.tolist(), name=name).a),
        pandas_index=checks.index_of(values),
    )
