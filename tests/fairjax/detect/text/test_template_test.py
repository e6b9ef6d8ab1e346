"""The template test: names are its units, and the test over cells finds differences between any two sets of names."""

import jax
import numpy as np
import pytest
from scipy import stats

from fairjax.detect.text import template_test


def result_of(*arguments, **options):
    return template_test(*arguments, key=jax.random.key(3), **options)


def scores_of(names, templates=8, words=5, *, name_sd=0.1, seed=0):
    """Return scores with an effect of their own for each name, template and word."""
    generator = np.random.default_rng(seed)
    cells = generator.normal(size=(1, templates, words))
    own = name_sd * generator.normal(size=(names, 1, 1))
    return 0.5 + cells + own + 0.01 * generator.normal(size=(names, templates, words))


def test_numbers_are_those_of_scipy():
    scores, a = scores_of(12), np.arange(12) % 3 == 0
    found = result_of(scores, a, draws=50)
    means = scores.mean(axis=(1, 2))
    welch = stats.ttest_ind(means[~a], means[a], equal_var=False)
    low, high = welch.confidence_interval(0.95)
    cells = scores[~a].mean(axis=0) - scores[a].mean(axis=0)
    by_template = stats.ttest_1samp(cells.mean(axis=1), 0)
    expected = {"difference": means[~a].mean() - means[a].mean(), "low": low, "high": high, "p": welch.pvalue}
    expected |= {"p_cells": stats.ttest_1samp(cells.ravel(), 0).pvalue, "p_templates": by_template.pvalue}
    expected |= dict(zip(("low_templates", "high_templates"), by_template.confidence_interval(0.95), strict=True))
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-9, err_msg=name)
    assert found.names == (8, 4)


def test_cells_as_units_find_differences_that_names_as_units_do_not():
    found = result_of(scores_of(40), np.arange(40) % 2 == 0)
    assert found.p > 0.05 and found.p_relabelled > 0.05 and found.low < 0 < found.high
    assert found.p_cells < 0.01 and found.false_alarms > 0.8


def test_relabelling_is_the_permutation_test_of_scipy():
    scores, a = scores_of(10, name_sd=0.05) + 0.06 * (np.arange(10) % 2 == 0)[:, None, None], np.arange(10) % 2 == 1
    means = scores.mean(axis=(1, 2))
    exact = stats.permutation_test(
        (means[~a], means[a]), lambda one, two: one.mean() - two.mean(), n_resamples=np.inf
    ).pvalue
    found = result_of(scores, a, draws=4000)
    assert abs(found.p_relabelled - exact) < 4 * np.sqrt(exact * (1 - exact) / 4000) + 1e-3


def test_labels_are_permuted_within_strata_only():
    # the strata differ greatly, the groups not at all: without strata, the labels seem to matter less than they do
    a, gender = np.array([True, True, False, False] * 5), np.array([True, False] * 10)
    scores = scores_of(20, name_sd=0.001) + gender[:, None, None] - 0.003 * a[:, None, None]
    assert result_of(scores, a, strata=gender).p_relabelled < 0.01
    assert result_of(scores, a).p_relabelled > 0.5


def test_what_cannot_be_tested_is_nan_and_never_0():
    found = result_of(np.arange(4.0)[:, None, None], np.array([True, True, False, False]), draws=10)
    assert found.difference == 2 and np.isfinite(found.p)
    undefined = [found.p_cells, found.false_alarms, found.p_templates, found.low_templates, found.high_templates]
    assert np.isnan(undefined).all()


@pytest.mark.parametrize(
    ("scores", "a", "options", "message"),
    [
        (np.ones((4, 2)), [True, True, False, False], {}, r"got \(4, 2\) and \(4,\): reshape"),
        (np.ones((4, 1, 2)), [True, False, False], {}, r"shape \(people,\)"),
        (np.ones((4, 1, 2)), [1, 1, 0, 0], {}, "a of type int64"),
        (np.full((4, 1, 2), np.nan), [True, True, False, False], {}, "scores that are NaN"),
        (np.ones((4, 1, 2)), [True, False, False, False], {}, "at least two names, got 3 and 1"),
        (np.ones((4, 1, 2)), [True, True, False, False], {"strata": [1, 1, 0, 0]}, "nothing to relabel"),
        (np.ones((4, 1, 2)), [True, True, False, False], {"strata": [1, 1]}, "one entry per name, 4"),
        (np.ones((4, 1, 2)), [True, True, False, False], {"level": 95.0}, "between 0 and 1, got 1000 and 95"),
    ],
)
def test_bad_input_is_refused(scores, a, options, message):
    options = {name: np.array(value) if isinstance(value, list) else value for name, value in options.items()}
    with pytest.raises(ValueError, match=message):
        result_of(scores, np.array(a), **options)
