"""Bootstrap of the quality of a classifier by group, by multinomial draws of counts, without the rows."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from fairjax.metrics import rates as _rates
from fairjax.metrics.group_report import RATES, contract, rate_from_table
from fairjax.metrics.intervals import effective_size, resampled

CALIBRATION_BINS = 10
"""Number of bins of the calibration error, of equal width, as in `fairjax.by_group`."""

FINE_BINS = 100
"""Number of bins of scores in the draws; a multiple of `CALIBRATION_BINS`."""

_CELLS_PER_CHUNK = 2**21
"""Largest number of cells of tables that are drawn at once."""


class Table(NamedTuple):
    """Sums of weights by (predicted class, label, bin of the score, group); one bin if there are no scores."""

    weights: Float[np.ndarray, "K K bins G"]
    """Sums of weights; numbers of rows without weights."""
    squares: Float[np.ndarray, "K K bins G"]
    """Sums of squared weights."""
    off: Float[np.ndarray, "K K bins G"] | None
    """Mean of score minus outcome in each cell."""
    off_squared: Float[np.ndarray, "K K bins G"] | None
    """Mean of the square of score minus outcome in each cell."""


def table_of(
    predictions: Int[np.ndarray, " n"],
    y: Int[np.ndarray, " n"],
    codes: Int[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"] | None,
    outcome: Int[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"] | None,
    num_classes: int,
    num_groups: int,
) -> Table:
    """Sum rows by cell.

    Args:
        predictions: predicted classes.
        y: labels.
        codes: groups.
        scores: probabilities of `outcome`, if they are known.
        outcome: what the scores predict: the label, or whether the prediction is correct.
        weights: weights of rows; 1 if None.
        num_classes: number of classes.
        num_groups: number of groups.
    """
    bins = 1 if scores is None else FINE_BINS
    fine = 0 if scores is None else np.minimum((scores * bins).astype(np.int64), bins - 1)
    shape = (num_classes, num_classes, bins, num_groups)
    cell = ((predictions * num_classes + y) * bins + fine) * num_groups + codes

    def sums(values: np.ndarray | None) -> np.ndarray:
        return np.bincount(cell, values, int(np.prod(shape))).astype(float).reshape(shape)

    total = sums(weights)
    squares = total if weights is None else sums(weights**2)
    if scores is None:
        return Table(total, squares, None, None)
    safe, w = np.where(total > 0, total, 1.0), 1.0 if weights is None else weights
    off = scores - outcome
    return Table(total, squares, sums(w * off) / safe, sums(w * off**2) / safe)


def drawn_quality(
    table: Table, count: int, seed: int, weighted: bool, measures: Sequence[str]
) -> dict[str, Float[np.ndarray, "draws G"]]:
    """Compute measures of quality for draws of a table, which are equivalent to draws of rows with replacement.

    A score is replaced by the mean of its cell, which is narrow.

    Args:
        table: the table.
        count: number of draws.
        seed: seed of the draws.
        weighted: whether rows have weights.
        measures: names of measures.

    Returns:
        The measures; NaN for a group that has no denominator in a draw.
    """
    groups = table.weights.shape[-1]
    results = {name: [np.zeros((0, groups))] for name in measures}
    for draws in _draws(table, count, np.random.default_rng(seed), weighted):
        for name, values in quality_of(draws, table, measures).items():
            results[name].append(values)
    return {name: np.concatenate(values) for name, values in results.items()}


def _draws(table: Table, count: int, random: np.random.Generator, weighted: bool) -> Iterator[np.ndarray]:
    """Draw tables in chunks; cells without rows are not drawn."""
    occupied = np.flatnonzero(table.weights)
    cells = table.weights.ravel()[occupied]
    sizes = effective_size(cells, table.squares.ravel()[occupied]) if weighted else None
    step = max(1, _CELLS_PER_CHUNK // table.weights.size)
    for start in range(0, count, step):
        draws = np.zeros((min(step, count - start), table.weights.size))
        draws[:, occupied] = resampled(cells, len(draws), random, sizes)
        yield draws.reshape(-1, *table.weights.shape)


def quality_of(
    draws: Float[np.ndarray, "draws K K bins G"], table: Table, measures: Sequence[str]
) -> dict[str, Float[np.ndarray, "draws G"]]:
    """Compute measures of quality from tables of counts."""
    confusion = np.moveaxis(draws.sum(axis=3), 0, -1)
    classes = confusion.shape[0]
    computed = {
        "accuracy": lambda: rate_from_table(_rates.accuracy(classes), confusion),
        "error": lambda: 1 - rate_from_table(_rates.accuracy(classes), confusion),
        "balanced_accuracy": lambda: balanced_accuracies(confusion),
        "auc": lambda: _auc(draws),
        "brier_score": lambda: _mean(draws, table.off_squared),
        "calibration_error": lambda: _calibration_error(draws, table.off),
    }
    of_rates = (
        {name: rate_from_table(rate, confusion) for name, rate in RATES.items() if name not in computed}
        if (classes == 2)
        else {}
    )
    return {name: of_rates[name] if name in of_rates else computed[name]() for name in measures}


def balanced_accuracies(confusion: Float[np.ndarray, "K K G *draws"]) -> Float[np.ndarray, "*draws G"]:
    """Compute the mean recall over classes of each group; NaN if a class of the data has no rows in the group."""
    classes = confusion.shape[0]
    recalls = [_rates.recall(k, classes) for k in range(classes)]
    present = [rate for rate in recalls if contract(rate.den, confusion).sum() > 0]
    return np.mean([rate_from_table(rate, confusion) for rate in present], axis=0)


def _auc(draws: np.ndarray) -> np.ndarray:
    down, up = np.moveaxis(draws.sum(axis=1), 1, 0)  # by label: (draws, bins, groups)
    pairs = up.sum(axis=1) * down.sum(axis=1)
    below = np.cumsum(down, axis=1) - down
    return (up * (below + down / 2)).sum(axis=1) / np.where(pairs > 0, pairs, np.nan)


def _mean(draws: np.ndarray, values: np.ndarray | None) -> np.ndarray:
    total = draws.sum(axis=(1, 2, 3))
    return np.einsum("dpybg,pybg->dg", draws, values) / np.where(total > 0, total, np.nan)


def _calibration_error(draws: np.ndarray, off: np.ndarray | None) -> np.ndarray:
    total = draws.sum(axis=(1, 2, 3))
    by_bin = np.einsum("dpybg,pybg->dbg", draws, off)
    coarse = by_bin.reshape(len(draws), CALIBRATION_BINS, -1, total.shape[-1]).sum(axis=2)
    return np.abs(coarse).sum(axis=1) / np.where(total > 0, total, np.nan)


def calibrated_draws(
    table: Table, count: int, seed: int, outcome: Int[np.ndarray, "K K"]
) -> Float[np.ndarray, "draws G"]:
    """Draw the calibration error that a classifier with the same scores would have if it were calibrated.

    Args:
        table: the table, with scores.
        count: number of draws.
        seed: seed of the draws.
        outcome: what the scores predict, 0 or 1, by (predicted class, label).

    Returns:
        The calibration errors; NaN for groups without rows.
    """
    assert table.off is not None
    random = np.random.default_rng([seed, 1])
    weights, squares = (array.sum(axis=(0, 1)) for array in (table.weights, table.squares))
    score_sums = (table.weights * (table.off + outcome[:, :, None, None])).sum(axis=(0, 1))
    scores = np.clip(score_sums / np.where(weights > 0, weights, 1.0), 0.0, 1.0)
    sizes = np.rint(effective_size(weights, squares)).astype(np.int64)
    total = weights.sum(axis=0)
    errors = [np.zeros((0, len(total)))]
    step = max(1, _CELLS_PER_CHUNK // weights.size)
    for start in range(0, count, step):
        drawn = random.binomial(sizes, scores, (min(step, count - start), *sizes.shape)) / np.maximum(sizes, 1)
        off = (weights * (scores - drawn)).reshape(len(drawn), CALIBRATION_BINS, -1, len(total)).sum(axis=2)
        errors.append(np.abs(off).sum(axis=1) / np.where(total > 0, total, np.nan))
    return np.concatenate(errors)
