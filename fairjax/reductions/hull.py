"""The classifiers that the reduction of one seed has found, and the saddle point over their mixtures."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from scipy.optimize import linprog

from fairjax.reductions.constraints import Constraint
from fairjax.reductions.moments import error, violations
from fairjax.types import Variables

PRECISION = 1e-8
"""Least improvement of the Lagrangian for which a classifier is kept."""


class Mixture(NamedTuple):
    """A randomised classifier and multipliers, with the duality gap as far as it is known."""

    weights: Float[np.ndarray, " h"]
    """Probability of each classifier."""
    multipliers: Float[np.ndarray, "2 E G"]
    lagrangian: float
    lowest: float
    """The least Lagrangian of any classifier found for the multipliers."""
    highest: float
    """The greatest Lagrangian of any multipliers within the limit."""

    @property
    def gap(self) -> float:
        """How far the pair is from a saddle point."""
        return max(self.lagrangian - self.lowest, self.highest - self.lagrangian)


class Hull:
    """Classifiers with their errors and violations."""

    def __init__(self, constraint: Constraint, limit: float):
        """Start without classifiers.

        Args:
            constraint: the constraint.
            limit: bound on the L1 norm of the multipliers.
        """
        self.constraint, self.limit = constraint, limit
        self.variables: list[Variables] = []
        self.tables: list[Any] = []
        self.errors = np.zeros(0)
        self.violations: Float[np.ndarray, "h 2 E G"] | None = None

    def __len__(self) -> int:
        """Number of classifiers."""
        return len(self.errors)

    def add(self, multipliers: Float[np.ndarray, "2 E G"], variables: Variables, tables: Any) -> int:
        """Add a response if it is better than all classifiers so far, and return the number of the best one.

        Args:
            multipliers: the multipliers that it responds to.
            variables: its variables.
            tables: its sums of rows by decision, label and group.

        Raises:
            ValueError: if there is no classifier, and the outputs of this one are not finite.
        """
        table = np.asarray(tables.train, np.float64)
        mistakes, sides = error(table), violations(self.constraint, table)
        value = mistakes + (sides * multipliers).sum()
        if self.violations is None:
            if not np.isfinite(value):
                raise ValueError("the outputs of the first network are not finite: lower the learning rate of training")
            best, least = -1, np.inf
        else:
            values = self.errors + (self.violations * multipliers[None]).sum(axis=(1, 2, 3))
            best = int(np.argmin(values))
            least = values[best]
        if not value < least - PRECISION:
            return best
        self.errors = np.append(self.errors, mistakes)
        earlier = np.zeros((0, *sides.shape)) if self.violations is None else self.violations
        self.violations = np.concatenate([earlier, sides[None]])
        self.variables.append(jax.tree.map(np.copy, variables))
        self.tables.append(tables)
        return len(self) - 1

    def mixture(self, weights: Float[np.ndarray, " h"], multipliers: Float[np.ndarray, "2 E G"]) -> Mixture:
        """Return a mixture, with the Lagrangian at its multipliers and its greatest one."""
        assert self.violations is not None
        used = len(weights)
        mistakes = float(weights @ self.errors[:used])
        excess = np.tensordot(weights, self.violations[:used], axes=1) - self.constraint.bound
        value = mistakes + float((self.projected(multipliers) * excess).sum())
        return Mixture(weights, multipliers, value, value, mistakes + self.limit * max(float(excess.max()), 0.0))

    def lowered(self, mixture: Mixture, index: int) -> Mixture:
        """Return the mixture with the Lagrangian of a classifier taken into account."""
        alone = np.zeros(len(self))
        alone[index] = 1.0
        value = self.mixture(alone, mixture.multipliers).lagrangian
        return mixture._replace(lowest=min(mixture.lowest, value))

    def projected(self, multipliers: Float[np.ndarray, "2 E G"]) -> Float[np.ndarray, "2 E G"]:
        """Return the multipliers of least norm with the same Lagrangian, up to what is gained by the norm."""
        if self.constraint.ratio != 1.0:
            return multipliers
        table = np.asarray(self.tables[0].train, np.float64).sum(axis=0)
        return projected(multipliers, np.stack([table[list(event)].sum(axis=0) for event in self.constraint.events]))

    def saddle_point(self) -> Mixture:
        """Solve the game over the mixtures of all classifiers, as a linear programme."""
        assert self.violations is not None
        sides = self.violations.reshape(len(self), -1).T - self.constraint.bound
        cost = np.append(self.errors, self.limit)
        found = linprog(
            cost,
            A_ub=np.column_stack([sides, -np.ones(len(sides))]),
            b_ub=np.zeros(len(sides)),
            A_eq=np.append(np.ones(len(self)), 0.0)[None],
            b_eq=[1.0],
            method="highs-ds",
        )
        if not found.success:
            raise RuntimeError(f"the linear programme of the saddle point was not solved: {found.message}")
        multipliers = np.maximum(-found.ineqlin.marginals, 0.0)
        weights = np.maximum(found.x[:-1], 0.0)
        return self.mixture(weights / weights.sum(), multipliers.reshape(self.violations.shape[1:]))


def projected(multipliers: Float[np.ndarray, "2 E G"], counts: Float[np.ndarray, "E G"]) -> Float[np.ndarray, "2 E G"]:
    """Return multipliers of the least L1 norm whose products with the violations are the same for every classifier.

    The violations of an event sum to 0 if groups are weighted by their shares, so the difference of the multipliers of
    both signs may be shifted by a multiple of the shares; a weighted median is the best multiple.

    Args:
        multipliers: the multipliers by sign, event and group.
        counts: weight of the rows by event and group.

    Example:
        >>> projected(np.array([[[1.0, 1.0]], [[0.0, 0.0]]]), np.array([[2.0, 2.0]])).sum().item()
        0.0
    """
    signed = multipliers[0] - multipliers[1]
    shares = counts / counts.sum(axis=1, keepdims=True)
    ratios = signed / shares
    order = np.argsort(ratios, axis=1, kind="stable")
    cumulative = np.take_along_axis(shares, order, axis=1).cumsum(axis=1)
    median = (cumulative < 0.5 * shares.sum(axis=1, keepdims=True)).sum(axis=1)[:, None]
    shifted = signed - shares * np.take_along_axis(ratios, np.take_along_axis(order, median, axis=1), axis=1)
    return np.stack([np.maximum(shifted, 0.0), np.maximum(-shifted, 0.0)])
