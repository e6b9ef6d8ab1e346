"""Template test: whether scores of sentences differ between groups of names, with names as the units of the test."""

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from fairjax.detect.text.relabelling import group_differences, relabelled
from fairjax.types import AnyArray, KeyArray


class TemplateTest(NamedTuple):
    """What the scores of template sentences say about two groups of names.

    Names are a sample, so a statement about groups of names needs names as its units: intervals and `p` are over names,
    and `p_relabelled` compares the difference with that of names relabelled at random. A test over sentences
    (`p_cells`) treats these names as if there were no others, and finds differences between any two sets of names:
    `false_alarms` is the share of random relabellings in which it does.
    """

    difference: float
    """Mean score of the names with a=0 minus that of the names with a=1."""
    low: float
    """Lower end of the interval over names."""
    high: float
    """Upper end of the interval over names."""
    p: float
    """Two-sided p-value of Welch's t-test with one number per name: its mean score over all sentences."""
    p_relabelled: float
    """Share of relabellings within strata whose difference is at least as large, the given labels included."""
    low_templates: float
    """Lower end of the interval over templates, for these names alone; NaN if all templates give one difference."""
    high_templates: float
    """Upper end of the interval over templates."""
    p_templates: float
    """p-value of the paired t-test over templates, for these names alone."""
    p_cells: float
    """p-value of the paired t-test over cells of template and word, which is unreliable: see `false_alarms`."""
    false_alarms: float
    """Share of random relabellings in which the test over cells gives p < 0.05."""
    names: tuple[int, int]
    """Number of names with a=0 and with a=1."""


def template_test(
    scores: AnyArray,
    a: AnyArray,
    *,
    key: KeyArray,
    strata: AnyArray | None = None,
    draws: int = 1000,
    level: float = 0.95,
) -> TemplateTest:
    """Test whether scores of template sentences differ between two groups of names.

    Args:
        scores: scores of every name in every template with every word, (people, templates, words).
        a: the group of each name, booleans (people,).
        key: random key of the relabellings.
        strata: another attribute of the names, (people,), within which labels are permuted: gender if `a` is race.
        draws: number of relabellings.
        level: confidence level of the intervals.

    Returns:
        The difference, with intervals and p-values over names, over templates, and over cells.

    Raises:
        ValueError: if shapes differ, scores are not finite, a group has fewer than two names, or strata leave nothing
            to permute.

    Example:
        >>> import jax
        >>> scores = np.array([0.1, 0.2, 0.4, 0.5])[:, None, None] + np.zeros((4, 2, 2))
        >>> test = template_test(scores, np.array([True, True, False, False]), key=jax.random.key(0))
        >>> round(test.difference, 3), test.names
        (0.3, (2, 2))

    References:
        Kiritchenko, Mohammad (2018), who test over sentences; Clark (1973), The language-as-fixed-effect fallacy, for
        why units that were sampled must be units of the test.
    """
    from scipy import stats

    values, a = np.asarray(scores, np.float64), np.asarray(a)
    if values.ndim != 3 or a.shape != values.shape[:1]:
        raise ValueError(
            f"scores must be of shape (people, templates, words) and a of shape (people,), got {values.shape} and "
            f"{a.shape}: reshape scores to `sentences.shape`"
        )
    if a.dtype != bool or not np.isfinite(values).all():
        found = f"a of type {a.dtype}" if a.dtype != bool else "scores that are NaN or infinite"
        raise ValueError(f"a must be booleans and scores finite, got {found}")
    counts = (int(np.sum(~a)), int(np.sum(a)))
    if min(counts) < 2:
        raise ValueError(f"each group needs at least two names, got {counts[0]} and {counts[1]}: names are the units")
    if draws < 1 or not 0 < level < 1:
        raise ValueError(f"draws must be positive and level between 0 and 1, got {draws} and {level}")
    by_name = values.mean(axis=(1, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # names of equal scores: the p-value is NaN
        welch = stats.ttest_ind(by_name[~a], by_name[a], equal_var=False)
        interval = welch.confidence_interval(level)
    cells = values.reshape(len(a), -1)
    labels = np.vstack([a, relabelled(key, a, strata, draws)])
    differences = group_differences(labels, cells)  # (1 + draws, cells)
    means = differences.mean(axis=1)
    extreme = np.abs(means[1:]) >= abs(means[0]) - 1e-12 * max(1.0, np.abs(by_name).max())
    _, _, p_cells = _paired(differences, level)
    low, high, p = _paired(differences[:1].reshape(1, *values.shape[1:]).mean(axis=2), level)
    defined = p_cells[1:][~np.isnan(p_cells[1:])]
    return TemplateTest(
        difference=float(means[0]),
        low=float(interval.low),
        high=float(interval.high),
        p=float(welch.pvalue),
        p_relabelled=float((1 + extreme.sum()) / (1 + draws)),
        low_templates=float(low[0]),
        high_templates=float(high[0]),
        p_templates=float(p[0]),
        p_cells=float(p_cells[0]),
        false_alarms=float(np.mean(defined < 0.05)) if len(defined) else float("nan"),
        names=counts,
    )


def _paired(differences: Float[np.ndarray, "draws m"], level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return intervals and two-sided p-values of mean differences by t-tests; NaN where all differences are equal."""
    from scipy import stats

    m = differences.shape[1]
    mean, spread = differences.mean(axis=1), differences.max(axis=1) - differences.min(axis=1)
    varied = spread > 1e-12 * np.maximum(1.0, np.abs(mean))  # else the deviation is rounding
    error = np.where(varied, differences.std(axis=1, ddof=1) / m**0.5, np.nan) if m > 1 else np.full(len(mean), np.nan)
    half = stats.t.ppf(0.5 + 0.5 * level, max(m - 1, 1)) * error
    return mean - half, mean + half, 2 * stats.t.sf(np.abs(mean / error), max(m - 1, 1))
