"""The linear programme of optimized pre-processing."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

TINY = 1e-8
"""Probabilities below this are rounding errors of the solver."""


class Programme(NamedTuple):
    """What the map must respect. A cell is a combination of features and a label, `x * num_classes + y`."""

    joint: Float[np.ndarray, "groups cells"]
    """Distribution of group and cell, with the sum 1."""
    distortion: Float[np.ndarray, "cells cells"]
    """Distortion of each cell (row) into each other cell (column)."""
    thresholds: tuple[float, ...]
    """Thresholds c_k of the distortion."""
    probabilities: tuple[float, ...]
    """Greatest probability of a distortion of at least c_k, for each cell."""
    num_classes: int


class Solution(NamedTuple):
    """A randomised map of cells, optimal under its constraints."""

    table: Float[np.ndarray, "groups cells cells"]
    """Probability of each new cell, given the group and the old cell."""
    objective: float
    """Half the sum of |p(x', y') - p(x, y)|: the total variation between the distributions after and before."""
    rates: Float[np.ndarray, "groups classes"]
    """Distribution of the new label in each group."""


def solve(programme: Programme, epsilon: float) -> Solution:
    """Find the map that changes the distribution of features and labels least.

    Minimise 0.5 sum |p(x', y') - p(x, y)| over tables T(x', y' | d, x, y), subject to

    1. |P(y' | d) - P(y' | d')| <= epsilon for all labels y' and groups d, d';
    2. P(distortion >= c_k | x, y) <= delta_k for all cells (x, y) and thresholds k.

    Entries that the second condition fixes at 0 are not variables of the programme, and cells without rows are left
    unchanged.

    Args:
        programme: data and constraints.
        epsilon: greatest difference between the groups' rates.

    Raises:
        ValueError: if the constraints are infeasible, with the smallest feasible epsilon.
    """
    layout = _layout(programme)
    result = _minimise(programme, layout, epsilon)
    if result is None:
        least = _minimise(programme, layout, None)
        smallest = "none is feasible" if least is None else f"the smallest feasible one is {_ceiled(least.fun)}"
        raise ValueError(
            f"optimized pre-processing is infeasible: no map keeps the groups' rates within epsilon={epsilon:g} under "
            f"the bounds on distortion; {smallest}. Choose a greater epsilon, greater probabilities or other thresholds"
        )
    groups, cells = programme.joint.shape
    flat = np.zeros((groups * cells, cells))
    flat[layout.source, layout.target] = result.x[: len(layout.source)]
    flat[flat < TINY] = 0.0
    flat[layout.unused, layout.unused % cells] = 1.0
    flat /= flat.sum(axis=1, keepdims=True)
    table = flat.reshape(groups, cells, cells)
    after = np.einsum("gc,gcn->gn", programme.joint, table)
    labels = after.reshape(groups, -1, programme.num_classes).sum(axis=1)
    objective = 0.5 * np.abs(after.sum(axis=0) - programme.joint.sum(axis=0)).sum()
    return Solution(table, float(objective), labels / labels.sum(axis=1, keepdims=True))


def smallest_epsilon(programme: Programme) -> float:
    """Find the smallest feasible epsilon.

    Raises:
        ValueError: if none is feasible.
    """
    least = _minimise(programme, _layout(programme), None)
    if least is None:
        raise ValueError("optimized pre-processing is infeasible for every epsilon: change the bounds on distortion")
    return float(least.fun)


class _Layout(NamedTuple):
    """The variables T of the programme: entries of the table that are not fixed."""

    source: Any
    """Row of each variable, group * cells + old cell."""
    target: Any
    """Column of each variable, the new cell."""
    unused: Any
    """Rows without data."""


def _layout(programme: Programme) -> _Layout:
    groups, cells = programme.joint.shape
    allowed = _allowed(programme)
    used = programme.joint.reshape(-1) > 0
    source, target = np.nonzero(np.tile(allowed, (groups, 1)) & used[:, None])
    return _Layout(source, target, np.flatnonzero(~used))


def _allowed(programme: Programme) -> Bool[np.ndarray, "cells cells"]:
    """Return which changes have a positive probability."""
    never = [c for c, delta in zip(programme.thresholds, programme.probabilities, strict=True) if delta == 0]
    return programme.distortion < min(never, default=np.inf)


def _minimise(programme: Programme, layout: _Layout, epsilon: float | None) -> Any:
    """Minimise the change of the distribution or, without epsilon, epsilon itself; None if this is infeasible.

    The variables are the entries of T, then one bound on |p(x', y') - p(x, y)| per cell (or epsilon).
    """
    from scipy import sparse
    from scipy.optimize import linprog

    groups, cells = programme.joint.shape
    entries = len(layout.source)
    number = np.arange(entries)
    mass = programme.joint.reshape(-1)[layout.source]
    used, place = np.unique(layout.source, return_inverse=True)
    one_row = sparse.csr_array((np.ones(entries), (place, number)), shape=(len(used), entries))

    def rows(values, index, count):
        return sparse.csr_array((values, (index, number)), shape=(count, entries))

    # Distortion, for each old cell: the sum over groups of P(d | x, y) T, for changes that reach the threshold.
    group, cell = np.divmod(layout.source, cells)
    of_cell = programme.joint.sum(axis=0)
    share = mass / of_cell[cell]
    limits, bounds = [], []
    for threshold, delta in zip(programme.thresholds, programme.probabilities, strict=True):
        if delta > 0:
            reached = programme.distortion[cell, layout.target] >= threshold
            limits.append(rows(share * reached, cell, cells))
            bounds.append(np.full(cells, delta))
    # Rates, for each label and pair of groups.
    label = layout.target % programme.num_classes
    per_group = mass / programme.joint.sum(axis=1)[group]
    rates = rows(per_group, group * programme.num_classes + label, groups * programme.num_classes)
    pairs = [(g, h) for g in range(groups) for h in range(groups) if g != h]
    gaps = sparse.vstack(
        [
            rates[[g * programme.num_classes + k]] - rates[[h * programme.num_classes + k]]
            for g, h in pairs
            for k in range(programme.num_classes)
        ]
    )
    extra = cells if epsilon is not None else 1
    blocks = [[limit, sparse.csr_array((cells, extra))] for limit in limits]
    if epsilon is None:
        blocks.append([gaps, sparse.csr_array(-np.ones((gaps.shape[0], 1)))])
        bounds.append(np.zeros(gaps.shape[0]))
        cost = np.concatenate([np.zeros(entries), [1.0]])
    else:
        blocks.append([gaps, sparse.csr_array((gaps.shape[0], extra))])
        bounds.append(np.full(gaps.shape[0], epsilon))
        after = rows(mass, layout.target, cells)
        blocks += [[after, -sparse.eye_array(cells)], [-after, -sparse.eye_array(cells)]]
        bounds += [of_cell, -of_cell]
        cost = np.concatenate([np.zeros(entries), np.full(cells, 0.5)])
    result = linprog(
        cost,
        A_ub=sparse.block_array(blocks, format="csr"),
        b_ub=np.concatenate(bounds),
        A_eq=sparse.hstack([one_row, sparse.csr_array((len(used), extra))], format="csr"),
        b_eq=np.ones(len(used)),
        bounds=(0, None),
        method="highs",
    )
    if result.status == 2:
        return None
    if result.status != 0:
        raise RuntimeError(f"the linear programme was not solved: {result.message}")
    return result


def _ceiled(epsilon: float) -> str:
    """Format a bound so that the printed number is itself feasible."""
    return f"{np.ceil(epsilon * 1e4) / 1e4:.4f}"
