"""Quality by group, compared with Fairlearn, scikit-learn, statsmodels and SciPy."""

import fairlearn.metrics as fl
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sklearn.metrics as sk
from sklearn.calibration import calibration_curve
from statsmodels.stats.proportion import proportion_confint

from fairjax import data
from fairjax.detect.quality import quality_by_group
from fairjax.detect.quality.equality import equality_of_estimates, equality_of_rates

RATES = ("accuracy", "error", "true_positive_rate", "false_positive_rate", "precision")


def draw(n=3000, seed=0):
    r = np.random.default_rng(seed)
    people = pd.DataFrame({"sex": r.choice(["f", "m"], n), "race": r.choice(["a", "b", "c"], n, p=[0.6, 0.398, 0.002])})
    scores = np.round(r.beta(1.2, 1.8, n), 3)
    y = (r.random(n) < scores ** np.where(people.sex == "f", 1.6, 1.0)).astype(int)
    return (scores > 0.5).astype(int), y, people, scores, r.uniform(0.5, 2, n)


@pytest.fixture(scope="module")
def quality():
    decisions, y, people, scores, _ = draw()
    return quality_by_group(decisions, y, people, scores)


@pytest.fixture(scope="module")
def oracle():
    decisions, y, people, _, _ = draw()
    metrics = {
        "accuracy": sk.accuracy_score,
        "error": sk.zero_one_loss,
        "balanced_accuracy": lambda y, d: (fl.true_positive_rate(y, d) + fl.true_negative_rate(y, d)) / 2,
        "true_positive_rate": fl.true_positive_rate,
        "false_positive_rate": fl.false_positive_rate,
        "precision": sk.precision_score,
    }
    return fl.MetricFrame(metrics=metrics, y_true=y, y_pred=decisions, sensitive_features=people)


def test_measures_of_decisions_and_their_gaps_are_fairlearns(quality, oracle):
    table, expected = quality.to_frame(), oracle.by_group
    assert table.index.equals(expected.index)
    large = table["count"].to_numpy() > 100
    gaps = quality.gaps()
    for name in (*RATES, "balanced_accuracy"):
        values = expected[name].to_numpy(float)
        np.testing.assert_allclose(table[name].to_numpy()[large], values[large], rtol=1e-12)
        assert table[name][~large].isna().all()
        assert gaps.loc[name, "difference"] == pytest.approx(np.ptp(values[large]))
        assert gaps.loc[name, "ratio"] == pytest.approx(values[large].min() / values[large].max())
        worst = values[large].argmax() if name in ("error", "false_positive_rate") else values[large].argmin()
        assert quality.worst(name) == gaps.loc[name, "worst"] == ", ".join(expected.index[large][worst])
        assert gaps.loc[name, "groups"] == 4


def test_measures_of_scores_are_scikit_learns(quality):
    decisions, y, people, scores, _ = draw()
    for g, (sex, race) in enumerate([("f", "a"), ("f", "b"), ("m", "a"), ("m", "b")]):
        rows = ((people.sex == sex) & (people.race == race)).to_numpy()
        g = quality.names.index(f"{sex}, {race}")
        assert quality.values["auc"][g] == pytest.approx(sk.roc_auc_score(y[rows], scores[rows]))
        assert quality.values["brier_score"][g] == pytest.approx(sk.brier_score_loss(y[rows], scores[rows]))
        bins = np.linspace(0, 1, 11)
        share, mean = calibration_curve(y[rows], scores[rows], n_bins=10)
        sizes = np.histogram(scores[rows], bins)[0]
        expected = np.sum(np.abs(share - mean) * sizes[sizes > 0]) / rows.sum()
        assert quality.values["calibration_error"][g] == pytest.approx(expected, abs=2e-3)  # other sides of edges


def test_intervals_of_rates_are_wilsons(quality):
    decisions, y, people, _, _ = draw()
    of_group = ((people.sex == "m") & (people.race == "b")).to_numpy()
    g = quality.names.index("m, b")
    right = decisions == y
    for name, events, rows in (
        ("accuracy", right, of_group),
        ("error", ~right, of_group),
        ("true_positive_rate", decisions == 1, of_group & (y == 1)),
        ("false_positive_rate", decisions == 1, of_group & (y == 0)),
        ("precision", y == 1, of_group & (decisions == 1)),
    ):
        expected = proportion_confint(events[rows].sum(), rows.sum(), method="wilson")
        np.testing.assert_allclose(quality.intervals[name][g], expected, rtol=1e-8)


def test_the_bootstrap_of_counts_agrees_with_one_of_rows(quality):
    decisions, y, people, scores, _ = draw()
    r, g = np.random.default_rng(1), quality.names.index("f, a")
    of_group = ((people.sex == "f") & (people.race == "a")).to_numpy()
    drawn = {name: [] for name in ("auc", "brier_score", "balanced_accuracy")}
    for _ in range(150):
        rows = r.integers(0, len(y), len(y))
        rows = rows[of_group[rows]]
        drawn["auc"].append(sk.roc_auc_score(y[rows], scores[rows]))
        drawn["brier_score"].append(np.mean((scores[rows] - y[rows]) ** 2))
        drawn["balanced_accuracy"].append(sk.balanced_accuracy_score(y[rows], decisions[rows]))
    for name, values in drawn.items():
        assert np.mean(quality.draws[name][:, g]) == pytest.approx(np.mean(values), abs=0.004)
        assert np.std(quality.draws[name][:, g]) == pytest.approx(np.std(values), rel=0.25)
        low, high = quality.intervals[name][g]
        assert low < quality.values[name][g] < high


def test_a_calibrated_group_is_told_from_one_that_is_not(quality):
    table = quality.to_frame()
    assert (table.loc["f", "calibration_p_value"].dropna() < 0.01).all()
    assert (table.loc["f", "calibration_error_low"].dropna() > 0.02).all()
    assert (table.loc["m", "calibration_p_value"].dropna() > 0.05).all()
    assert (table.loc["m", "calibration_error_low"].dropna() == 0).all()
    errors, chance = table["calibration_error"].dropna(), table["calibration_error_chance"].dropna()
    assert (chance > 0.005).all() and (errors.loc["f"] > 2 * chance.loc["f"]).all()


def test_a_draw_without_rows_of_a_group_does_not_remove_its_intervals():
    r = np.random.default_rng(0)
    scores, y = r.random(40), r.integers(0, 2, 40)
    quality = quality_by_group(y, y, np.repeat(["a", "b"], [37, 3]), scores, minimum=1, bootstrap=400)
    drawn = quality.draws["calibration_error"]
    assert np.isnan(drawn[:, 1]).any() and not np.isnan(drawn[:, 0]).any()
    for name in quality.values:
        assert np.isfinite(quality.intervals[name]).all(), name
    _, high = (
        np.nanquantile(drawn[:, 1], [0.025, 0.975]) - np.nanmean(drawn[:, 1]) + quality.values["calibration_error"][1]
    )
    assert quality.intervals["calibration_error"][1, 1] == pytest.approx(np.clip(high, 0, 1))


def test_small_groups_are_not_estimable_and_not_compared():
    y, decisions = np.tile([0, 1], 30), np.tile([0, 1, 1], 20)
    group = np.repeat(["a", "b", "c"], [40, 15, 5])
    quality = quality_by_group(decisions, y, group, minimum=10, bootstrap=50)
    frame = quality.to_frame()
    assert frame.loc["c", "not_estimable"].startswith("accuracy, error")
    assert frame.loc["b", "not_estimable"] == "balanced_accuracy, true_positive_rate, false_positive_rate"
    assert frame.loc["a", "not_estimable"] == ""
    numbers = frame.loc["c"].drop(["count", "not_estimable"]).to_numpy(float)
    assert np.isnan(numbers).all() and frame.loc["c", "count"] == 5
    gaps = quality.gaps()
    assert gaps.loc["accuracy", "groups"] == 2 and gaps.loc["true_positive_rate", "groups"] == 1
    assert gaps.loc["true_positive_rate", ["difference", "p_value"]].isna().all()
    assert quality.worst("true_positive_rate") == ""
    text = str(quality)
    assert "not comparable" in text and "fewer than 10 rows" in text and max(map(len, text.splitlines())) <= 80


def test_several_classes_need_only_whether_the_prediction_is_the_label():
    r = np.random.default_rng(0)
    scores = r.dirichlet([1, 1, 1], 900)
    y, group = (scores.cumsum(axis=1) > r.random((900, 1))).argmax(axis=1), r.choice(["a", "b"], 900)
    predictions = scores.argmax(axis=1)
    quality = quality_by_group(predictions, y, group, scores, num_classes=3, bootstrap=200)
    assert tuple(quality.values) == ("accuracy", "error", "balanced_accuracy", "calibration_error")
    for g, name in enumerate(("a", "b")):
        rows = group == name
        right, confidence = predictions[rows] == y[rows], scores.max(axis=1)[rows]
        assert quality.values["accuracy"][g] == pytest.approx(sk.accuracy_score(y[rows], predictions[rows]))
        balanced = sk.balanced_accuracy_score(y[rows], predictions[rows])
        assert quality.values["balanced_accuracy"][g] == pytest.approx(balanced)
        expected = proportion_confint(right.sum(), rows.sum(), method="wilson")
        np.testing.assert_allclose(quality.intervals["accuracy"][g], expected)
        cell = np.minimum((10 * confidence).astype(int), 9)
        off = np.bincount(cell, confidence - right, 10)
        assert quality.values["calibration_error"][g] == pytest.approx(np.abs(off).sum() / rows.sum())
        assert quality.calibration_p_value[g] > 0.01
        low, high = quality.intervals["balanced_accuracy"][g]
        assert low < balanced < high
    assert max(map(len, str(quality).splitlines())) <= 80


def test_whole_weights_count_rows_several_times():
    decisions, y, people, scores, _ = draw(600)
    times = np.random.default_rng(1).integers(1, 4, 600)
    weighted = quality_by_group(decisions, y, people, scores, times, bootstrap=100)
    repeated = [
        np.repeat(np.asarray(column), times) for column in (decisions, y, people["sex"], people["race"], scores)
    ]
    copies = quality_by_group(
        *repeated[:2], pd.DataFrame({"sex": repeated[2], "race": repeated[3]}), repeated[4], bootstrap=0
    )
    for name in weighted.values:
        both = ~np.isnan(weighted.values[name])
        np.testing.assert_allclose(weighted.values[name][both], copies.values[name][both], rtol=1e-9)
    np.testing.assert_allclose(np.nanmean(weighted.draws["accuracy"][:, 0]), weighted.values["accuracy"][0], atol=0.02)
    assert np.isnan(copies.intervals["auc"]).all() and not np.isnan(copies.intervals["accuracy"][0]).any()


def test_equal_rates_are_tested_as_scipy_does(quality):
    decisions, y, people, _, _ = draw()
    name = (people.sex + people.race).to_numpy()
    counts = [[(decisions == y)[name == g].sum(), (decisions != y)[name == g].sum()] for g in ("fa", "fb", "ma", "mb")]
    expected = scipy.stats.chi2_contingency(counts, correction=False).pvalue
    assert quality.gaps().loc["accuracy", "p_value"] == pytest.approx(expected)
    assert quality.gaps().loc["error", "p_value"] == pytest.approx(expected)
    assert equality_of_rates(np.array([1.0, 1.0]), np.array([5.0, 9.0])) == 1.0
    assert np.isnan(equality_of_rates(np.array([0.5, np.nan]), np.array([5.0, 0.0])))
    for values, spread in (([0.3, np.nan], 1.0), ([0.3, 0.4], 0.0)):
        draws = np.array(values) + spread * np.random.default_rng(0).normal(size=(50, 2))
        assert np.isnan(equality_of_estimates(np.array(values), draws))


@pytest.mark.slow
def test_p_values_of_equal_groups_are_uniform():
    r, found = np.random.default_rng(0), {"accuracy": [], "balanced_accuracy": [], "auc": [], "brier_score": []}
    for _ in range(150):
        scores = r.random(400)
        y = (r.random(400) < scores).astype(int)
        quality = quality_by_group(scores > 0.5, y, r.integers(0, 4, 400), scores, bootstrap=150)
        gaps = quality.gaps()
        for name, p_values in found.items():
            p_values.append(gaps.loc[name, "p_value"])
    for p_values in found.values():
        assert 0.005 < np.mean(np.array(p_values) < 0.05) < 0.12
        assert 0.4 < np.mean(p_values) < 0.6


def test_names_codes_and_groups_with_names_are_one_thing():
    decisions, y, people, scores, _ = draw(400)
    expected = quality_by_group(decisions, y, people.sex, scores, bootstrap=0)
    codes = (people.sex == "m").to_numpy()
    named = quality_by_group(jnp.array(decisions), y, codes, scores, names=["f", "m"], bootstrap=0)
    made = quality_by_group(decisions, y, data.groups(people.sex), scores, bootstrap=0)
    assert expected.names == named.names == made.names
    np.testing.assert_array_equal(expected.values["auc"], named.values["auc"])
    np.testing.assert_array_equal(expected.values["auc"], made.values["auc"])


def test_invalid_arguments_are_refused():
    y = np.tile([0, 1], 10)
    group = np.repeat(["a", "b"], 10)

    def refused(message, *arguments, error=ValueError, **settings):
        with pytest.raises(error, match=message):
            quality_by_group(*arguments, **settings)

    refused("predictions must be 0 or 1, found scores: threshold them", y + 0.5, y, group)
    refused("y must be codes from 0 to 1, found 2 in row 1", y, 2 * y, group)
    refused("predictions must be codes from 0 to 2, found nan", np.where(y, np.nan, 0), y, group, num_classes=3)
    refused(r"scores must be probabilities of shape \(20,\), found shape \(20, 2\)", y, y, group, np.ones((20, 2)))
    refused("must sum to 1", y, y, group, np.ones((20, 3)), num_classes=3)
    refused("one length, found 20 and 19", y, y[1:], group, num_classes=3)
    refused("minimum must be a whole number, at least 1, got 0", y, y, group, minimum=0)
    refused("bootstrap must be a whole number, at least 0, got -1", y, y, group, bootstrap=-1)
    refused("num_classes must be at least 2, got 1", y, y, group, num_classes=1)
    both = data.groups({"sex": group, "old": y}, intersect=False)
    refused("each row in exactly one group", y, y, both)
    with pytest.raises(TypeError, match="y is traced"):
        jax.jit(lambda y: quality_by_group(np.zeros(20), y, group))(jnp.array(y))
    quality = quality_by_group(y, y, group, bootstrap=0)
    with pytest.raises(ValueError, match="measure must be one of accuracy.*got 'speed'"):
        quality.worst("speed")
