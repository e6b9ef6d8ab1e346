"""Thresholds of the cells of groups that overlap, compared with a plain search over all combinations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from fairjax import metrics
from fairjax.postprocess import group_thresholds
from fairjax.selection import ConstrainedObjective

BLOCKS, RULE = ((0, 1), (2, 3)), ConstrainedObjective(epsilon=0.12)
SIDE_BY_SIDE = metrics.make_measure("spd", 4, blocks=BLOCKS)
search = jax.jit(group_thresholds, static_argnames=("measure", "count", "search", "num_cells"))


@pytest.fixture(scope="module")
def rows():
    """Return scores, labels, memberships of two attributes side by side, and their intersections."""
    rng = np.random.default_rng(0)
    race, sex = rng.integers(0, 2, 500), rng.integers(0, 2, 500)
    y = rng.random(500) < 0.3 + 0.15 * race + 0.1 * sex
    scores = 1 / (1 + np.exp(-(1.5 * y + race + 0.7 * sex - 1.5 + rng.normal(size=500))))
    members = np.stack([race == 0, race == 1, sex == 0, sex == 1], axis=1).astype(np.float32)
    return scores.astype(np.float32), y, members, (2 * race + sex).astype(np.int32)


def score(thresholds, scores, y, members, cells):
    """Return the balanced accuracy if the rates of each attribute are close, with a loop over attributes."""
    decisions = scores > np.asarray(thresholds)[cells]
    rates = [decisions[members[:, g] > 0].mean() for g in range(4)]
    bias = max(abs(rates[0] - rates[1]), abs(rates[2] - rates[3]))
    return (balanced_accuracy_score(y, decisions) if bias < RULE.bound else 0.0), bias


@pytest.mark.parametrize("how", ["auto", "coordinate", "common rate"])
def test_cells_are_searched_for_the_groups_that_overlap(how, rows):
    scores, y, members, cells = rows
    cuts = np.asarray(metrics.threshold_grid(6))
    best = max(score(combination, *rows)[0] for combination in itertools.product(cuts, repeat=4))
    common = max(score([cut] * 4, *rows)[0] for cut in cuts)
    found = search(SIDE_BY_SIDE, scores, y, members, rule=RULE, count=6, search=how, cells=cells, num_cells=4)
    reached, bias = score(found.thresholds, *rows)
    assert float(RULE(found.evaluation)) == pytest.approx(reached, abs=1e-5)
    assert float(found.evaluation.bias) == pytest.approx(bias, abs=1e-5)
    assert common - 1e-6 <= reached <= best + 1e-6
    assert how != "auto" or reached == pytest.approx(best, abs=1e-6)
    assert best > common + 0.05
    decisions = np.asarray(found.decide(scores, cells))
    np.testing.assert_array_equal(decisions, scores > np.asarray(found.thresholds)[cells])


@pytest.mark.parametrize("weighted", [False, True])
def test_cells_that_are_the_groups_change_nothing(weighted, rows):
    scores, y, _, codes = rows
    weights = np.random.default_rng(1).integers(1, 4, 500).astype(np.float32) if weighted else None
    measure, rule = metrics.demographic_parity(num_groups=4), ConstrainedObjective(epsilon=0.2)
    one, other = (
        group_thresholds(measure, scores, y, codes, rule=rule, count=6, weights=weights, cells=cells)
        for cells in (None, codes)
    )
    np.testing.assert_array_equal(one.thresholds, other.thresholds)
    for found, expected in zip(jax.tree.leaves(one.evaluation), jax.tree.leaves(other.evaluation), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_gap_to_the_rate_of_all_rows_counts_each_row_once(rows):
    scores, y, members, cells = rows
    measure = metrics.make_measure("spd", 4, blocks=BLOCKS, across="to_overall")
    found = search(measure, scores, y, members, rule=RULE, count=6, cells=cells, num_cells=4)
    decisions = scores > np.asarray(found.thresholds)[cells]
    gaps = [abs(decisions[members[:, g] > 0].mean() - decisions.mean()) for g in range(4)]
    assert float(found.evaluation.bias) == pytest.approx(max(gaps), abs=1e-5)


def test_cells_that_cannot_be_searched_are_refused_and_under_a_trace_give_nan(rows):
    scores, y, members, cells = rows
    options = {"rule": RULE, "count": 3, "cells": cells}
    with pytest.raises(ValueError, match="solved memberships"):
        group_thresholds(metrics.make_measure("spd", 4, membership="solved"), scores, y, members, **options)
    with pytest.raises(ValueError, match=r"cells must give each of 500 rows one group, found shape \(499,\)"):
        group_thresholds(SIDE_BY_SIDE, scores, y, members, **{**options, "cells": cells[1:]})
    with pytest.raises(ValueError, match="for two groups, found 4"):
        group_thresholds(SIDE_BY_SIDE, scores, y, members, search="pairs", **options)
    with pytest.raises(ValueError, match="pass num_groups"):
        search(SIDE_BY_SIDE, scores, y, members, **options)
    wrong = search(SIDE_BY_SIDE, scores, y, members, rule=RULE, count=6, cells=jnp.asarray(cells + 1), num_cells=4)
    assert np.isnan(wrong.thresholds).all() and np.isnan(wrong.evaluation.bias)
