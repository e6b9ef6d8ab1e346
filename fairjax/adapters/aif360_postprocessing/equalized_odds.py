"""Equalised odds: change decisions at random, with probabilities found by a linear programme."""

import contextlib
import numbers
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Bool

from fairjax import checks
from fairjax.adapters.aif360_postprocessing.library import (
    PRIVILEGED,
    UNPRIVILEGED,
    EqOddsPostprocessing,
    binary,
    check_cells,
    dataset,
    quiet,
)


class EqualizedOdds(NamedTuple):
    """Fitted equalised odds postprocessor: AIF360's probabilities that a new decision is 1."""

    privileged_positive: float
    """Probability that the new decision is 1 for rows with a = 1 whose old decision is 1."""
    privileged_negative: float
    """Probability that the new decision is 1 for rows with a = 1 whose old decision is 0."""
    unprivileged_positive: float
    """Probability that the new decision is 1 for rows with a = 0 whose old decision is 1."""
    unprivileged_negative: float
    """Probability that the new decision is 1 for rows with a = 0 whose old decision is 0."""
    seed: int
    """Seed of the random choice of rows whose decision is changed."""

    def decide(self, decisions: ArrayLike, a: ArrayLike, *, seed: int | None = None) -> Bool[np.ndarray, " n"]:
        """Change decisions with AIF360's `predict`, leaving NumPy's global generator unchanged.

        Args:
            decisions: decisions to change, 1 or true for y = 1.
            a: protected attribute of each row, 1 = privileged.
            seed: seed to use in place of the fit's.

        Returns:
            True where the new decision is y = 1.

        Raises:
            ValueError: if an array is not of zeros and ones, one per row, or the seed is not in [0, 2**32).

        Example:
            >>> fit = EqualizedOdds(1.0, 0.0, 1.0, 0.5, 7)
            >>> fit.decide(np.array([1, 0, 1, 0, 0]), np.array([1, 1, 0, 0, 0]))
            array([ True, False,  True,  True, False])
        """
        checks.check_index(decisions=decisions, a=a)
        decided = binary("decisions", decisions)
        a = binary("a", a, len(decided))
        method: Any = EqOddsPostprocessing(UNPRIVILEGED, PRIVILEGED, seed=_seed(self.seed if seed is None else seed))
        method.model_params = types.SimpleNamespace(x=np.array(self[:4]))
        with quiet(), _numpy_state():
            return method.predict(dataset(decided, a)).labels[:, 0] == 1.0


def equalized_odds(decisions: ArrayLike, y: ArrayLike, a: ArrayLike, *, seed: int) -> EqualizedOdds:
    """Fit equalised odds postprocessing: minimise the error subject to equal true and equal false positive rates.

    Args:
        decisions: decisions on the validation data: scores cut at the tuned threshold, or at 0.5 (authors' code of the
            first paper).
        y: class of each row.
        a: protected attribute of each row, 1 = privileged.
        seed: seed of the random choice of rows whose decision is changed; the fit itself is not random.

    Returns:
        The fitted postprocessor, from AIF360's `EqOddsPostprocessing`.

    Raises:
        ValueError: if an array is not of zeros and ones, one per row, a class is absent from a group, or the seed is
            not in [0, 2**32).
        RuntimeError: if the linear programme is not solved.

    Example:
        >>> a, y = np.repeat([0, 1], 50), np.tile([0, 1], 50)
        >>> decided = np.where(a == 1, y, 1 - (np.arange(100) % 4 == 0))
        >>> equalized_odds(decided, y, a, seed=0).decide(decided, a).shape
        (100,)

    References:
        Hardt, Price, Srebro (2016), Equality of opportunity in supervised learning, arXiv:1610.02413.
        Pleiss, Raghavan, Wu, Kleinberg, Weinberger (2017), On fairness and calibration, arXiv:1709.02012.
    """
    checks.check_index(decisions=decisions, y=y, a=a)
    decided = binary("decisions", decisions)
    y, a = binary("y", y, len(decided)), binary("a", a, len(decided))
    check_cells(y, a, [(label, group) for group in (0, 1) for label in (0, 1)])
    method: Any = EqOddsPostprocessing(UNPRIVILEGED, PRIVILEGED)
    with quiet():
        solved = method.fit(dataset(y, a), dataset(decided, a)).model_params
    if solved.x is None:
        raise RuntimeError(f"the linear programme of equalised odds was not solved: {solved.message}")
    first, second, third, fourth = map(float, solved.x)
    return EqualizedOdds(first, second, third, fourth, _seed(seed))


@contextlib.contextmanager
def _numpy_state() -> Iterator[None]:
    """Restore the state of NumPy's global generator on exit, since AIF360 seeds it and draws from it."""
    state = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(state)


def _seed(seed: int) -> int:
    if not isinstance(seed, numbers.Integral) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in [0, 2**32), as NumPy asks, got {seed}")
    return int(seed)
