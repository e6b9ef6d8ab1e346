"""The state of the game of one seed: multipliers, classifiers, and the mixtures of each round."""

import dataclasses

import numpy as np
from jaxtyping import Float

from fairjax.reductions.hull import PRECISION, Hull, Mixture
from fairjax.reductions.responses import Tables
from fairjax.types import Variables

LEAST_ROUNDS = 5
"""Number of the first round, from 0, after which the game may end."""
SHRINKING = 0.8
"""The step size is multiplied by this if the gap did not fall below this part of the gap at the previous check."""


@dataclasses.dataclass
class Player:
    """State of the game of one seed, on the host."""

    hull: Hull
    theta: Float[np.ndarray, "2 E G"]
    """Logarithm of the multipliers, up to their normalisation."""
    total: Float[np.ndarray, "2 E G"]
    """Sum of the multipliers over rounds."""
    step: float
    tolerance: float = 0.0
    done: bool = False
    rounds: int = 0
    trainings: int = 0
    played: list[int] = dataclasses.field(default_factory=list)
    """Number of the classifier of each round."""
    average: Mixture | None = None
    """The mixture of all rounds."""
    solved: Mixture | None = None
    """The mixture from the linear programme."""
    solved_with: int = 0
    """Number of classifiers when it was solved."""
    open: list[bool] = dataclasses.field(default_factory=lambda: [False, False])
    """Whether the gap of either mixture is to be bounded further."""
    average_gaps: list[float] = dataclasses.field(default_factory=list)
    kept: list[Mixture] = dataclasses.field(default_factory=list)
    """The better mixture of each round."""
    last_check: tuple[int, float] = (5, np.inf)
    """Round and gap of the last check of the step size."""

    def current(self, limit: float) -> Float[np.ndarray, "2 E G"]:
        """Return the multipliers of this round."""
        highest = max(float(self.theta.max()), 0.0)
        powers = np.exp(self.theta - highest)
        return limit * powers / (np.exp(-highest) + powers.sum())

    def answer(self, index: int, multipliers: Float[np.ndarray, "2 E G"]) -> None:
        """Note the classifier of this round."""
        self.played.append(index)
        self.total = self.total + multipliers
        self.rounds += 1

    def begin_round(self, solve: bool) -> None:
        """Make the mixtures of this round."""
        shares = np.bincount(self.played, minlength=len(self.hull)) / self.rounds
        self.average = self.hull.mixture(shares, self.total / self.rounds)
        self.open = [True, solve and self.solved_with != len(self.hull)]
        if self.open[1]:
            self.solved, self.solved_with = self.hull.saddle_point(), len(self.hull)

    def mixtures(self) -> list[Mixture | None]:
        """Return both mixtures."""
        return [self.average, self.solved]

    def bound(self, place: int, response: tuple[Variables, Tables], multiple: float) -> None:
        """Bound the gap of a mixture by the response to a multiple of its multipliers."""
        mixture = self.mixtures()[place]
        assert mixture is not None
        mixture = self.hull.lowered(mixture, self.hull.add(multiple * mixture.multipliers, *response))
        self.open[place] = mixture.gap <= self.tolerance + PRECISION
        if place == 0:
            self.average = mixture
        else:
            self.solved = mixture

    def end_round(self, iteration: int) -> None:
        """Keep the better mixture, and move the multipliers unless the game ends."""
        assert self.average is not None and self.hull.violations is not None
        self.average_gaps.append(self.average.gap)
        better = self.solved if self.solved is not None and not self.average.gap < self.solved.gap else self.average
        self.kept.append(better)
        if better.gap < self.tolerance and iteration >= LEAST_ROUNDS:
            self.done = True
            return
        last, last_gap = self.last_check
        if iteration >= last * 1.6:
            best = min(self.average_gaps)
            self.step *= SHRINKING if best > last_gap * SHRINKING else 1.0
            self.last_check = (iteration, best)
        excess = self.hull.violations[self.played[-1]] - self.hull.constraint.bound
        self.theta = self.theta + self.step * excess

    def best(self) -> Mixture:
        """Return the last mixture of the least gap."""
        gaps = np.array([mixture.gap for mixture in self.kept])
        return self.kept[int(np.flatnonzero(gaps <= gaps.min() + PRECISION)[-1])]
