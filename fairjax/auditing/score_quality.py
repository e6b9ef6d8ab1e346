"""Quality of the scores of each group: calibration, area under the curve, and rates at all thresholds."""

import dataclasses

import numpy as np
import pandas as pd

from fairjax.auditing.counting import BINS
from fairjax.auditing.counts import Counts, Scores
from fairjax.metrics.group_report import RATES, rate_from_table
from fairjax.metrics.intervals import effective_size, wilson

CALIBRATION_BINS = 10
"""Number of bins of the calibration."""


def quality(scores: Scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return area under the curve, Brier score and calibration error of each group.

    The area under the curve is that of scores rounded down to a thousandth; the others are exact.
    """
    down, up = scores.weights[:, 0], scores.weights[:, 1]
    pairs = up.sum(axis=0) * down.sum(axis=0)
    below = np.cumsum(down, axis=0) - down
    auc = (up * (below + down / 2)).sum(axis=0) / np.where(pairs > 0, pairs, np.nan)
    total = scores.weights.sum(axis=(0, 1))
    total = np.where(total > 0, total, np.nan)
    squares = scores.square_sums.sum(axis=(0, 1)) - 2 * scores.sums[:, 1].sum(axis=0) + up.sum(axis=0)
    coarse = Scores(*(_coarse(getattr(scores, field.name)) for field in dataclasses.fields(scores)))
    off = np.abs(coarse.sums.sum(axis=1) - coarse.weights[:, 1]).sum(axis=0)
    return auc, squares / total, off / total


def _coarse(sums: np.ndarray) -> np.ndarray:
    """Return sums over the bins of the calibration."""
    return sums.reshape(CALIBRATION_BINS, -1, *sums.shape[1:]).sum(axis=1)


def calibration(counts: Counts) -> pd.DataFrame:
    """Return, for each group and each tenth of the scores, the mean score and the share of positive labels."""
    assert counts.scores is not None
    weights, squares, sums, _ = (
        _coarse(getattr(counts.scores, field.name)) for field in dataclasses.fields(counts.scores)
    )
    total = weights.sum(axis=1)
    safe = np.where(total > 0, total, np.nan)
    rates, size = weights[:, 1] / safe, effective_size(total, squares.sum(axis=1))
    low, high = wilson(rates, size)
    frame = []
    for g, name in enumerate(counts.names):
        frame.append(
            pd.DataFrame(
                {
                    "group": name,
                    "bin": np.arange(CALIBRATION_BINS) / CALIBRATION_BINS,
                    "mean_score": sums.sum(axis=1)[:, g] / safe[:, g],
                    "positive_rate": rates[:, g],
                    "low": low[:, g],
                    "high": high[:, g],
                    "size": size[:, g],
                }
            )
        )
    return pd.concat(frame, ignore_index=True)


def calibration_table(counts: Counts) -> pd.DataFrame:
    """Return the calibration by each attribute, and by the intersections, with the attribute in the column `groups`."""
    return pd.concat([_of_view(view, calibration(view)) for view in counts.views()], ignore_index=True)


def thresholds_table(counts: Counts) -> pd.DataFrame:
    """Return the rates at all thresholds, with the columns groups, group and threshold and one column per rate."""
    frames = []
    for view in counts.views():
        cuts, tables = thresholds(view)
        rates = {name: rate_from_table(RATES[name], tables).T for name in OF_THRESHOLDS}  # groups, thresholds
        for g, name in enumerate(view.names):
            of_group = {rate: values[g] for rate, values in rates.items()}
            frames.append(_of_view(view, pd.DataFrame({"group": name, "threshold": cuts, **of_group})))
    return pd.concat(frames, ignore_index=True)


OF_THRESHOLDS = ("selection_rate", "true_positive_rate", "false_positive_rate")
"""The rates that are shown at all thresholds."""


def _of_view(counts: Counts, table: pd.DataFrame) -> pd.DataFrame:
    table.insert(0, "groups", counts.title)
    return table


def thresholds(counts: Counts, count: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts at equally spaced thresholds.

    Args:
        counts: counts with scores.
        count: number of thresholds, which must divide the number of bins.

    Returns:
        The thresholds, and the weights with the axes (decision, label, group, threshold). A score is accepted if it is
        at least the threshold, and rounded down to a thousandth.
    """
    assert counts.scores is not None
    weights = counts.scores.weights
    above = np.cumsum(weights[::-1], axis=0)[::-1]  # at bin b: all scores of bin b or above
    at = np.arange(count) * (BINS // count)
    accepted = np.moveaxis(above[at], 0, -1)
    rejected = weights.sum(axis=0)[..., None] - accepted
    return at / BINS, np.stack([rejected, accepted])
