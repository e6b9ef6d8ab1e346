"""AIF360's postprocessors, compared with AIF360 itself and run in parallel processes."""

import contextlib
import logging
import multiprocessing
import os

import jaxtyping
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairjax.adapters.aif360_postprocessing import POLARITIES, EqualizedOdds, equalized_odds, reject_option
from fairjax.adapters.aif360_postprocessing.library import EqOddsPostprocessing, RejectOptionClassification, quiet
from fairjax.runs.postprocessors import POSTPROCESSORS, Job
from fairjax.runs.workers import decisions

from aif360.datasets import BinaryLabelDataset  # isort: skip  (first imported above, without its warnings)

METRICS = {"spd": "Statistical parity difference", "eod": "Equal opportunity difference"}
PLAIN = [polarity for polarity in POLARITIES if polarity != "either"]


def biased(n=400, seed=0, lift=1.0, decimals=None, dtype=np.float64):
    """Return scores that are informative about y and too high for a = 0 by `lift` on the logit scale."""
    rng = np.random.default_rng(seed)
    a = rng.random(n) < 0.4
    y = rng.random(n) < np.where(a, 0.39, 0.49)
    scores = 1 / (1 + np.exp(-(rng.normal(size=n) + 1.2 * y - 0.6 + lift * (~a - 0.5))))
    return (scores if decimals is None else scores.round(decimals)).astype(dtype), y, a


def theirs(labels, a, scores=None, favorable=1.0):
    """Create an AIF360 data set as its users do, with a feature."""
    frame = pd.DataFrame({"x": np.arange(float(len(a))), "group": a.astype(float), "label": labels.astype(float)})
    made = BinaryLabelDataset(
        df=frame,
        label_names=["label"],
        protected_attribute_names=["group"],
        favorable_label=favorable,
        unfavorable_label=1.0 - favorable,
    )
    if scores is not None:
        made.scores = scores.reshape(-1, 1)
    return made


def their_reject_option(scores, y, a, polarity, measure, bound=0.05, low=0.01, high=0.99, thresholds=12, margins=7):
    """Run AIF360 as the first paper's authors did, and return its decisions and a function for other scores."""
    favorable = 0.0 if polarity == "crossed" else 1.0
    groups = [{"group": 1}], [{"group": 0}]
    made = RejectOptionClassification(
        *(groups if polarity == "zero" else groups[::-1]),
        low_class_thresh=low,
        high_class_thresh=high,
        num_class_thresh=thresholds,
        num_ROC_margin=margins,
        metric_name=METRICS[measure],
        metric_ub=bound,
        metric_lb=-bound,
    )
    with quiet():
        made.fit(theirs(y, a, favorable=favorable), theirs(y, a, scores, favorable))

    def decide(scores, a):
        return made.predict(theirs(np.ones(len(a)), a, scores, favorable)).labels[:, 0] == 1.0

    return made, decide


GRID = {"thresholds": 12, "margins": 7}


@pytest.mark.parametrize("search", ["counts", "aif360"])
@pytest.mark.parametrize("polarity", PLAIN)
@pytest.mark.parametrize("measure", ["spd", "eod"])
def test_reject_option_is_aif360s(measure, polarity, search):
    scores, y, a = biased()
    ours = reject_option(scores, y, a, measure=measure, polarity=polarity, search=search, **GRID)
    made, decide = their_reject_option(scores, y, a, polarity, measure)
    assert (ours.threshold, ours.margin) == (made.classification_threshold, made.ROC_margin)
    new, _, group = biased(seed=1)
    np.testing.assert_array_equal(ours.decide(scores, a), decide(scores, a))
    np.testing.assert_array_equal(ours.decide(new, group), decide(new, group))


def test_at_the_grid_of_the_paper():
    scores, y, a = biased(60)
    ours = reject_option(scores, y, a, measure="spd", polarity="zero")
    made, _ = their_reject_option(scores, y, a, "zero", "spd", thresholds=100, margins=50)
    assert (ours.threshold, ours.margin) == (made.classification_threshold, made.ROC_margin)


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(12, 80),
    decimals=st.sampled_from([None, 1, 2]),
    lift=st.sampled_from([-2.0, 0.0, 2.0]),
    bound=st.sampled_from([0.0, 0.01, 0.05, 0.3]),
    measure=st.sampled_from(["spd", "eod"]),
    polarity=st.sampled_from(PLAIN),
    low=st.sampled_from([0.0, 0.01, 0.4]),
    high=st.sampled_from([0.6, 0.99, 1.0]),
    thresholds=st.integers(1, 11),
    margins=st.integers(1, 6),
)
def test_the_counts_find_what_aif360_finds(
    seed, n, decimals, lift, bound, measure, polarity, low, high, thresholds, margins
):
    scores, y, a = biased(n, seed, lift, decimals, np.float32 if seed % 2 else np.float64)
    y[:4], a[:4] = [0, 0, 1, 1], [0, 1, 0, 1]
    grid = {"bound": bound, "low": low, "high": high, "thresholds": thresholds, "margins": margins}
    counts = reject_option(scores, y, a, measure=measure, polarity=polarity, **grid)
    made, decide = their_reject_option(scores, y, a, polarity, measure, **grid)
    assert (counts.threshold, counts.margin) == (made.classification_threshold, made.ROC_margin)
    np.testing.assert_array_equal(counts.decide(scores, a), decide(scores, a))
    assert counts == reject_option(scores, y, a, measure=measure, polarity=polarity, search="aif360", **grid)


@given(
    threshold=st.floats(0, 1),
    margin=st.floats(0, 0.5),
    polarity=st.sampled_from(PLAIN),
    towards=st.lists(st.sampled_from([0.0, 0.5, 1.0, None]), min_size=6, max_size=6),
)
def test_decisions_at_the_edges_of_the_band_are_aif360s(threshold, margin, polarity, towards):
    edges = np.array([threshold - margin, threshold, threshold + margin] * 2)
    edges = [edge if goal is None else np.nextafter(edge, goal) for edge, goal in zip(edges, towards, strict=True)]
    scores, a = np.clip(edges, 0, 1), np.arange(6) < 3
    fit = reject_option(*biased(), measure="spd", polarity=polarity, **GRID)
    made, decide = their_reject_option(*biased(50), polarity, "spd", thresholds=2, margins=2)
    made.classification_threshold, made.ROC_margin = threshold, margin
    np.testing.assert_array_equal(fit._replace(threshold=threshold, margin=margin).decide(scores, a), decide(scores, a))


def test_polarity():
    scores, y, a = biased(3000)  # a = 0 is decided 1 too often, as on COMPAS
    fits = {p: reject_option(scores, y, a, measure="spd", polarity=p) for p in POLARITIES}
    assert abs(fits["crossed"].balanced_accuracy - 0.5) < 0.02, "the first paper's way on COMPAS"
    assert fits["zero"].balanced_accuracy > 0.65
    assert fits["zero"].balanced_accuracy > fits["one"].balanced_accuracy + 0.05, "the band of `one` adds to the bias"
    assert fits["either"] == fits["zero"]
    assert all(fit.satisfied and abs(fit.bias) <= 0.05 for fit in fits.values())
    mirrored = reject_option(scores, y, ~a, measure="spd", polarity="either")
    assert mirrored.polarity == "one" and mirrored.balanced_accuracy == fits["zero"].balanced_accuracy


def test_zero_is_aif360_with_scores_of_0_and_0_favorable():
    scores, y, a = biased(3000)
    ours = reject_option(scores, y, a, measure="spd", polarity="zero", **GRID)
    _, decide = their_reject_option(1 - scores, y, a, "crossed", "spd")  # not crossed: these are the scores of y = 0
    assert (ours.decide(scores, a) == decide(1 - scores, a)).mean() > 0.999


def test_a_bound_that_nothing_meets_is_told():
    scores, y, a = np.array([0.2, 0.8, 0.3, 0.7]), np.array([0, 1, 0, 1]), np.array([1, 1, 0, 0])
    for search in ("counts", "aif360"):
        fit = reject_option(
            scores, y, a, measure="spd", bound=0.0, low=0.72, high=0.75, thresholds=2, margins=1, search=search
        )
        assert not fit.satisfied and fit.bias == -0.5 and fit.threshold == 0.72


@pytest.mark.parametrize("constant", [False, True])
def test_equalized_odds_is_aif360s(constant):
    scores, y, a = biased(900)
    decided = np.zeros(900, bool) if constant else scores > 0.45
    ours = equalized_odds(decided, y, a, seed=3)
    made = EqOddsPostprocessing([{"group": 0}], [{"group": 1}], seed=3).fit(theirs(y, a), theirs(decided, a))
    assert list(ours[:4]) == list(made.model_params.x)
    new, _, group = biased(500, seed=1)
    for d, g in ((decided, a), (new > 0.45, group)):
        np.testing.assert_array_equal(ours.decide(d, g), made.predict(theirs(d, g)).labels[:, 0] == 1)


def test_equalized_odds_is_equal_for_equal_seeds_and_leaves_numpys_state():
    scores, y, a = biased(900)
    np.random.seed(5)
    expected = np.random.random(3)
    np.random.seed(5)
    fit = equalized_odds(scores > 0.5, y, a, seed=3)
    first = fit.decide(scores > 0.5, a)
    again = fit.decide(scores > 0.5, a)
    np.testing.assert_array_equal(np.random.random(3), expected)
    np.testing.assert_array_equal(first, again)
    other = fit.decide(scores > 0.5, a, seed=4)
    assert (first != other).any() and first.sum() == other.sum(), "as many are changed, but others"


def test_equalized_odds_reduces_the_gaps():
    scores, y, a = biased(20_000)
    decided = scores > 0.5
    changed = equalized_odds(decided, y, a, seed=0).decide(decided, a)
    for label in (0, 1):
        gaps = [abs(d[(y == label) & a].mean() - d[(y == label) & ~a].mean()) for d in (decided, changed)]
        assert gaps[0] > 0.2 and gaps[1] < 0.02


def test_one_group_can_be_decided_alone(caplog):
    scores, y, a = biased()
    alone = np.zeros(5)
    assert reject_option(scores, y, a, measure="spd").decide(scores[:5], alone).shape == (5,)
    assert EqualizedOdds(1.0, 0.0, 1.0, 0.0, 0).decide(scores[:5] > 0.5, alone).shape == (5,)
    assert not caplog.records and len(logging.getLogger().filters) == 0


def test_what_cannot_be_fitted_is_refused():
    scores, y, a = biased(60)
    with pytest.raises(ValueError, match="none of the 60 rows has a = 1"):
        reject_option(scores, y, np.zeros(60), measure="spd")
    with pytest.raises(ValueError, match="none of the 60 rows has y = 0"):
        reject_option(scores, np.ones(60), a, measure="spd")
    with pytest.raises(ValueError, match="none of the 60 rows has y = 1 and a = 0"):
        reject_option(scores, y & a, a, measure="eod")
    assert reject_option(scores, y & a, a, measure="spd").satisfied, "which spd can do without"
    with pytest.raises(ValueError, match="none of the 60 rows has y = 0 and a = 1, but both classes"):
        equalized_odds(scores > 0.5, y | a, a, seed=0)
    with pytest.raises(ValueError, match=r"scores must be in \[0, 1\], got 2 others such as -2.0; apply the sigmoid"):
        reject_option(np.array([-2.0, 0.3, np.nan]), y[:3], a[:3], measure="spd")
    with pytest.raises(ValueError, match=r"y must be 60 numbers, one per row, got shape \(59,\)"):
        reject_option(scores, y[1:], a, measure="spd")
    with pytest.raises(ValueError, match="y must be of zeros and ones, got 2"):
        reject_option(scores, y + 1, a, measure="spd")
    with pytest.raises(ValueError, match=r"scores must be one number per row, got shape \(60, 1\)"):
        reject_option(scores[:, None], y, a, measure="spd")
    with pytest.raises(ValueError, match=r"decisions must be numbers, one per row, got shape \(60, 1\)"):
        equalized_odds(scores[:, None] > 0.5, y, a, seed=0)
    with pytest.raises(ValueError, match=r"seed must be in \[0, 2\*\*32\), as NumPy asks, got -1"):
        equalized_odds(scores > 0.5, y, a, seed=-1)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"measure": "aod"}, "measure must be one of spd, eod, got 'aod'"),
        ({"polarity": "two"}, "polarity must be one of one, zero, either, crossed, got 'two'"),
        ({"search": "fast"}, "search must be one of counts, aif360, got 'fast'"),
        ({"bound": -0.1}, "bound must be at least 0, got -0.1"),
        ({"low": 0.9, "high": 0.1}, "0 <= low < high <= 1, got 0.9 and 0.1"),
        ({"thresholds": 0}, "thresholds must be at least 1, got 0"),
        ({"margins": 0}, "margins must be at least 1, got 0"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        reject_option(*biased(), **{"measure": "spd", **options})


def job(method, seed, **changes):
    scores, y, a = biased(300, seed)
    test, _, group = biased(200, seed + 100)
    arrays = {"valid_scores": scores, "valid_y": y, "valid_a": a, "test_scores": test, "test_a": group}
    return Job(**{"method": method, "measure": "spd", "seed": seed, "threshold": 0.45, **arrays, **changes})


@pytest.mark.slow
def test_side_by_side_is_one_after_another():
    names = [name for name, entry in POSTPROCESSORS.items() if entry.decide is not None]
    jobs = [job(method, seed) for method in names for seed in (1, 2)]
    before = dict(os.environ)
    alone = {(a.job.method, a.job.seed): a for a in decisions(jobs, processes=1)}
    together = {(a.job.method, a.job.seed): a for a in decisions(jobs, processes=2)}
    assert dict(os.environ) == before and not multiprocessing.active_children()
    assert alone.keys() == together.keys() and len(alone) == len(jobs)
    for name, answer in alone.items():
        np.testing.assert_array_equal(answer.valid, together[name].valid)
        np.testing.assert_array_equal(answer.test, together[name].test)
        assert answer.fitted == together[name].fitted and answer.valid.shape == (300,) and answer.test.dtype == bool
    assert together["equalized_odds", 1].fitted["threshold"] == 0.45
    assert together["equalized_odds_half", 1].fitted["threshold"] == 0.5
    assert together["reject_option_paper", 1].fitted["polarity"] == "crossed"


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_job_that_fails_is_named_and_ends_the_others(processes):
    bad = job("reject_option", 7, measure="eod", valid_a=np.ones(300))
    with pytest.raises(RuntimeError, match=r"reject_option \(eod\) failed for seed 7: none of the 300 rows has a = 0"):
        list(decisions([bad, *(job("equalized_odds", seed) for seed in range(20))], processes=processes))
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_caller_who_stops_ends_the_processes():
    jobs = [job("reject_option", seed, search="aif360") for seed in range(20)]
    with contextlib.closing(decisions(jobs, processes=2)) as answers:
        assert next(answers).job.method == "reject_option"
        assert len(multiprocessing.active_children()) == 2
    assert not multiprocessing.active_children()


def test_wrong_jobs_are_refused():
    with pytest.raises(ValueError, match="method must be one of reject_option, .*, got 'roc'"):
        job("roc", 1)
    with pytest.raises(ValueError, match="processes must be at least 1, got 0"):
        decisions([], processes=0)
    assert list(decisions([])) == []


def test_masks_and_other_indices_are_refused():
    scores, y, a = biased(60)
    index = np.arange(60)[::-1]
    fit = reject_option(scores, y, a, measure="spd", **GRID)
    odds = equalized_odds(y, y, a, seed=1)
    jaxtyping.config.update("jaxtyping_disable", True)  # otherwise the tests' type checks would fail first
    try:
        with pytest.raises(ValueError, match="the index of a differs from that of scores"):
            fit.decide(pd.Series(scores), pd.Series(a, index=index))
        with pytest.raises(ValueError, match="the index of y differs from that of scores"):
            reject_option(pd.Series(scores), pd.Series(y, index=index), a, measure="spd", **GRID)
        with pytest.raises(ValueError, match="the index of a differs from that of decisions"):
            odds.decide(pd.Series(y), pd.Series(a, index=index))
        with pytest.raises(ValueError, match="the index of y differs from that of decisions"):
            equalized_odds(pd.Series(y), pd.Series(y, index=index), a, seed=1)
        with pytest.raises(TypeError, match="scores is a masked array"):
            fit.decide(np.ma.masked_array(scores, a), a)
        with pytest.raises(TypeError, match="a is a masked array"):
            odds.decide(y, np.ma.masked_array(a, y))
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
