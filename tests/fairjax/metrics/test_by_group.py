"""The table of groups, compared with Fairlearn, scikit-learn and statsmodels."""

import fairlearn.metrics as fl
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from fairjax import data, metrics
from fairjax.metrics import by_group
from fairjax.metrics.intervals import empirical_bayes, wilson


def draw(n=4000, seed=0):
    r = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {"sex": r.choice(["F", "M"], n), "race": r.choice(["Asian", "Black", "White"], n, p=[0.1, 0.3, 0.6])}
    )
    y = r.integers(0, 2, n)
    scores = np.round(np.clip(0.3 * y + 0.1 * (frame.sex == "M").to_numpy() + 0.6 * r.random(n), 0, 1), 2)
    return (scores > 0.5).astype(int), y, frame, scores, r.uniform(0.1, 3, n)


@pytest.mark.parametrize("weighted", [False, True])
def test_rates_are_fairlearns(weighted):
    f, y, frame, _, w = draw()
    w = w if weighted else None
    report = by_group(f, y, frame, weights=w)
    functions = {
        "selection_rate": fl.selection_rate,
        "true_positive_rate": fl.true_positive_rate,
        "false_positive_rate": fl.false_positive_rate,
        "precision": sk.precision_score,
        "accuracy": sk.accuracy_score,
    }
    params = None if w is None else {name: {"sample_weight": w} for name in functions}
    oracle = fl.MetricFrame(metrics=functions, y_true=y, y_pred=f, sensitive_features=frame, sample_params=params)
    table = report.to_frame()
    assert table.index.equals(oracle.by_group.index)
    gaps = report.gaps(bootstrap=50)
    for name in functions:
        np.testing.assert_allclose(table[name], oracle.by_group[name].to_numpy(float), rtol=1e-12)
        np.testing.assert_allclose(gaps[f"{name}_difference"].value, oracle.difference()[name], rtol=1e-10)
    np.testing.assert_allclose(gaps["selection_rate_ratio"].value, oracle.ratio()["selection_rate"])
    odds = fl.equalized_odds_difference(y, f, sensitive_features=frame, sample_weight=w)
    np.testing.assert_allclose(gaps["equalized_odds_difference"].value, odds)
    assert report.counts.sum() == len(y) and report.attributes == ("sex", "race") and report.names[0] == "F, Asian"


@pytest.mark.parametrize("weighted", [False, True])
def test_scores_are_scikit_learns(weighted):
    f, y, frame, s, w = draw()
    report = by_group(f, y, frame, scores=s, weights=w if weighted else None)
    w = w if weighted else np.ones(len(y))
    for g, (sex, race) in enumerate(report.levels):
        rows = ((frame.sex == sex) & (frame.race == race)).to_numpy()
        np.testing.assert_allclose(report.auc[g], sk.roc_auc_score(y[rows], s[rows], sample_weight=w[rows]))
        np.testing.assert_allclose(report.brier_score[g], sk.brier_score_loss(y[rows], s[rows], sample_weight=w[rows]))
        bins = np.minimum(np.floor(s[rows] * 10), 9)
        parts = [rows.nonzero()[0][bins == b] for b in range(10)]
        error = sum(w[i].sum() * abs(np.average(s[i] - y[i], weights=w[i])) for i in parts if len(i)) / w[rows].sum()
        np.testing.assert_allclose(report.calibration_error[g], error)


def test_intervals_are_statsmodels():
    f, y, frame, _, _ = draw(300)
    report = by_group(f, y, frame.race)
    for g, race in enumerate(report.names):
        rows = (frame.race == race).to_numpy()
        low, high = proportion_confint(f[rows].sum(), rows.sum(), method="wilson")
        np.testing.assert_allclose(report.intervals["selection_rate"][g], [low, high], atol=1e-12)
        low, high = proportion_confint(f[rows & (y == 1)].sum(), (rows & (y == 1)).sum(), method="wilson")
        np.testing.assert_allclose(report.intervals["true_positive_rate"][g], [low, high], atol=1e-12)
    np.testing.assert_allclose(wilson([0.0, 1.0], [5, 5])[0], [0, proportion_confint(5, 5, method="wilson")[0]])


def test_equal_weights_are_no_weights_and_kish_is_less():
    f, y, frame, _, w = draw()
    plain, even = by_group(f, y, frame), by_group(f, y, frame, weights=np.full(len(y), 0.01))
    np.testing.assert_allclose(plain.intervals["precision"], even.intervals["precision"], rtol=1e-9)
    for weights in (w, w * 1e-3):
        uneven = by_group(f, y, frame.sex, weights=weights)
        rows = (frame.sex == "F").to_numpy()
        np.testing.assert_allclose(uneven.sizes["accuracy"][0], w[rows].sum() ** 2 / (w[rows] ** 2).sum())


@pytest.mark.parametrize("weighted", [False, True])
def test_intervals_of_gaps_are_those_of_rows_drawn_anew(weighted):
    f, y, frame, _, w = draw(1500)
    w = w if weighted else np.ones(len(y))
    gap = by_group(f, y, frame.sex, weights=w if weighted else None).gaps(4000, seed=1)["selection_rate_difference"]
    r, a, found = np.random.default_rng(2), (frame.sex == "M").to_numpy(), []
    for _ in range(2000):
        i = r.integers(0, len(y), len(y))
        found.append(abs(np.average(f[i], weights=w[i] * a[i]) - np.average(f[i], weights=w[i] * ~a[i])))
    np.testing.assert_allclose([gap.low, gap.high], np.quantile(found, [0.025, 0.975]), atol=0.012)
    assert gap.draws == 4000 and gap.low < gap.value < gap.high


def test_gaps_repeat_and_do_not_depend_on_scale():
    f, y, frame, _, _ = draw(500)
    report = by_group(f, y, frame)
    assert str(report.gaps(seed=3)) == str(report.gaps(seed=3)) != str(report.gaps(seed=4))
    assert np.isnan(report.gaps(0)["accuracy_difference"].low)
    with pytest.raises(KeyError, match="accuracy_difference"):
        report.gaps(0)["nothing"]


def test_small_and_absent_groups_are_named():
    groups = pd.Categorical(["a"] * 4 + ["b"] * 4 + ["c"], categories=["a", "b", "c", "d"])
    report = by_group([1, 0, 0, 0, 1, 1, 0, 0, 1], [1, 1, 0, 0, 1, 1, 0, 0, 0], groups, minimum=2)
    left = {(each.group, each.reason): each.rates for each in report.left_out}
    assert len(left["d", "no rows"]) == 6
    assert left["c", "no rows in the denominator"] == ("true_positive_rate",)
    assert "selection_rate" in left["c", "1 rows in the denominator, fewer than 2"]
    gap = report.gaps(100)["selection_rate_difference"]
    assert gap.value == 0.25 and gap.groups == 2
    assert "Not compared" in str(report)
    assert np.isnan(report.true_positive_rate[2])


def test_what_cannot_be_compared_is_nan():
    report = by_group([1, 0, 1], [1, 1, 1], ["a", "a", "a"])
    gaps = report.gaps(10)
    assert all(np.isnan(row.value) and np.isnan(row.low) for row in gaps.rows)
    report = by_group([1, 0, 1], [1, 1, 1], ["a", "a", "b"]).gaps(10)
    assert np.isnan(report["false_positive_rate_difference"].value)
    assert np.isnan(report["equalized_odds_difference"].value)
    assert np.isnan(by_group([0, 0], [1, 1], ["a", "b"]).gaps(10)["selection_rate_ratio"].value)


def test_prints_within_80_columns():
    f, y, frame, s, w = draw()
    frame["race"] = frame["race"] + " of a very long name indeed, longer than a column"
    report = by_group(f, y, frame, scores=s, weights=w, minimum=200)
    for text in (str(report), str(report.gaps(10))):
        assert max(map(len, text.splitlines())) <= 80
    assert report.gaps(10).to_frame().shape[0] == 7


def test_kinds_of_groups():
    f, y, frame, _, _ = draw(50)
    codes = (frame.sex == "M").to_numpy()
    expected = by_group(f, y, frame.sex).selection_rate
    for groups in (codes, codes.astype(int), frame.sex.tolist(), frame[["sex"]], frame.sex.astype("category")):
        np.testing.assert_array_equal(by_group(f, y, groups).selection_rate, expected)
    named = by_group(f, y, codes.astype(int), names=["women", "men", "others"])
    assert named.names == ("women", "men") and named.left_out[0].group == "others"
    assert by_group(f, y, frame.to_numpy()).names == by_group(f, y, frame).names
    with pytest.raises(ValueError):
        named.counts[0] = 1


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"decisions": [0.3, 1]}, "0.3"),
        ({"y": [0, 2]}, "found 0, 2"),
        ({"y": [0, np.nan]}, "1 missing values, the first in row 1"),
        ({"y": ["no", "yes"]}, "encode it by a comparison"),
        ({"y": [0, 1, 1]}, r"y \(3,\)"),
        ({"scores": [0, 1.5]}, "found 1.5"),
        ({"weights": [1, -1]}, "found -1"),
        ({"weights": np.ones((2, 1))}, r"\(2, 1\)"),
        ({"groups": ["a", None]}, "missing"),
        ({"groups": pd.DataFrame({"sex": ["a", None]})}, "'sex'"),
        ({"groups": [0, 5], "names": ["a", "b"]}, "5"),
        ({"groups": pd.Series(["a", "b"]), "y": pd.Series([0, 1], index=[1, 0])}, "index of groups"),
    ],
)
def test_refuses(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        by_group(**{"decisions": [0, 1], "y": [0, 1], "groups": ["a", "b"], **changes})


def test_empirical_bayes():
    r, n = np.array([0.2, 0.5, 0.6]), np.array([10.0, 40, 200])
    p = (r * n).sum() / n.sum()
    v = p * (1 - p) / n
    q = ((r - p) ** 2 / v).sum()
    tau = max(0, (q - 2) / ((1 / v).sum() - (1 / v**2).sum() / (1 / v).sum()))
    np.testing.assert_allclose(empirical_bayes(r, n), r + v / (v + tau) * (p - r))
    with_nan = empirical_bayes(np.append(r, np.nan), np.append(n, 0))
    np.testing.assert_allclose(with_nan[:3], empirical_bayes(r, n))
    assert np.isnan(with_nan[3])
    np.testing.assert_array_equal(empirical_bayes(np.zeros(3), n), 0)
    np.testing.assert_array_equal(empirical_bayes(np.array([0.3]), np.array([5.0])), 0.3)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_order_of_rows_does_not_matter(seed):
    f, y, frame, s, w = draw(60, seed)
    order = np.random.default_rng(seed).permutation(60)
    one = by_group(f, y, frame, s, w)
    other = by_group(f[order], y[order], frame.iloc[order], s[order], w[order])
    pd.testing.assert_frame_equal(one.to_frame(), other.to_frame())


def test_it_plots_every_rate_with_its_interval(tmp_path):
    pytest.importorskip("matplotlib")
    groups = ["a"] * 40 + ["b"] * 20 + ["c"] * 2
    decisions = np.arange(62) % 3 == 0
    report = by_group(decisions, np.arange(62) % 2 == 0, groups, minimum=5)
    figure = report.plot(["selection_rate", "precision"])
    figure.savefig(tmp_path / "rates.png")
    first, second = figure.axes
    assert [text.get_text() for text in first.get_yticklabels()] == ["a (40)", "b (20)", "c (2)"]
    solid, hollow, whole = first.lines
    np.testing.assert_allclose(solid.get_xdata(), report.selection_rate[:2])
    np.testing.assert_allclose(hollow.get_xdata(), report.selection_rate[2:])
    assert whole.get_xdata()[0] == pytest.approx(decisions.mean())
    assert second.get_title() == "precision"
    with pytest.raises(ValueError, match="rates must be some of selection_rate, .*, got recall"):
        report.plot(["recall"])


def test_weights_that_are_all_0_are_refused():
    with pytest.raises(ValueError, match="weights are all 0, so there is nothing to measure"):
        by_group([1, 0], [1, 0], [0, 1], weights=[0, 0])


def test_gaps_are_those_of_the_stratum_in_which_they_are_widest():
    rng = np.random.default_rng(3)
    n = 400
    decisions, y = rng.integers(0, 2, n), rng.integers(0, 2, n)
    group, stratum = rng.choice(["a", "b", "c"], n), rng.choice(["x", "y"], n)
    groups = data.groups(pd.Series(group, name="group"), strata=stratum)
    report = by_group(decisions, y, groups)
    gaps = report.gaps(bootstrap=50)
    makers = {"selection_rate": metrics.demographic_parity, "true_positive_rate": metrics.equal_opportunity}
    for name, maker in makers.items():
        measure = maker(num_groups=len(groups), blocks=groups.blocks)
        found = gaps[f"{name}_difference"]
        assert found.value == pytest.approx(float(measure(decisions, y, groups.a)), abs=1e-6)
        assert found.lowest.split(" | ")[1] == found.highest.split(" | ")[1]  # in the same stratum
        rates = dict(zip(report.names, getattr(report, name), strict=True))
        assert rates[found.highest] - rates[found.lowest] == pytest.approx(found.value)
    ratio = metrics.demographic_parity(across=metrics.gaps.ratio, num_groups=len(groups), blocks=groups.blocks)
    assert gaps["selection_rate_ratio"].value == pytest.approx(float(ratio(decisions, y, groups.a)), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"decisions": [0.2, 0.9, 0, 1]}, ValueError, "threshold scores first"),
        ({"decisions": [1j, 0, 0, 1]}, TypeError, "decisions must hold numbers or booleans"),
        ({"y": np.array(["0", "1", "1", "0"], object)}, TypeError, "y must hold numbers or booleans"),
        ({"y": np.ma.array([0, 1, 1, 0], mask=[1, 0, 0, 0])}, TypeError, "y is a masked array"),
        ({"y": scipy.sparse.csr_matrix([[0, 1, 1, 0]])}, TypeError, r"pass y.toarray\(\)"),
        ({"y": [[0], [1], [1], [0]]}, ValueError, "y must have one number per row"),
        ({"groups": [1, "1", 1, "1"]}, ValueError, "several groups would be called '1'"),
        ({"groups": ["Male", "male", "x", "x"]}, ValueError, "'Male' and 'male' differ in capitals only"),
        ({"groups": ["nan", "m", "f", "f"]}, ValueError, "missing value of 'group' in row 0"),
        ({"groups": np.array([1, 2, 1, 2], "timedelta64[D]")}, TypeError, "found dtype timedelta64"),
        ({"groups": [0, 1, 0, 1], "names": ("a", "a")}, ValueError, "names must be different ones"),
        ({"minimum": float("nan")}, ValueError, "minimum must be a number of rows"),
        ({"weights": [-1, 1, 1, 1]}, ValueError, "weights must be finite and not negative"),
    ],
)
def test_what_cannot_be_right_is_refused(change, error, message):
    given = {"decisions": [1, 0, 0, 1], "y": [0, 1, 1, 0], "groups": ["m", "m", "f", "f"]} | change
    with pytest.raises(error, match=message):
        by_group(**given)


def test_traced_arrays_and_draws_of_no_number_are_refused():
    y, groups = [0, 1, 1, 0], ["m", "m", "f", "f"]
    with pytest.raises(TypeError, match="decisions is traced"):
        jax.jit(lambda decisions: by_group(decisions, y, groups).counts)(jnp.array([1, 0, 0, 1]))
    for bootstrap in (-1, True):
        with pytest.raises(ValueError, match="bootstrap must be a number of draws"):
            by_group([1, 0, 0, 1], y, groups).gaps(bootstrap)
    for rate, confidence in ((2.0, 0.95), (0.5, 1.5)):
        with pytest.raises(ValueError, match="must be"):
            wilson(rate, 10.0, confidence)


def test_groups_of_a_frame_keep_its_index():
    groups = data.groups(pd.Series(["m", "m", "f", "f"]))
    moved = pd.Series([1, 0, 0, 1], index=[1, 2, 3, 4])
    with pytest.raises(ValueError, match="the index of groups differs from that of decisions"):
        by_group(moved, [0, 1, 1, 0], groups)
    assert by_group(moved.to_numpy(), [0, 1, 1, 0], groups).counts.tolist() == [2, 2]


def test_the_frame_and_the_table_show_shrunk_rates_and_who_is_not_compared():
    groups = data.groups(["a", "a", "b", "b", "c", "c", "d"], minimum=2, small="leave out")
    report = by_group([1, 0, 1, 1, 0, 0, 1], [1, 0, 1, 0, 1, 0, 1], groups)
    frame = report.to_frame()
    np.testing.assert_array_equal(frame["selection_rate_shrunk"], report.shrunk["selection_rate"])
    no_precision = "no rows in the denominator (precision)"
    assert frame["not_compared"].tolist() == ["", "", no_precision, "1 rows, fewer than 2"]
    text = str(report)
    assert "empirical Bayes" in text and "d: 1 rows, fewer than 2" in text
    assert max(map(len, text.splitlines())) <= 80
    # a group that is left out of all rates, for different reasons, lists all reasons
    small = by_group([1, 0, 0, 0, 1, 1], [1, 1, 0, 0, 1, 0], ["a", "a", "a", "b", "b", "c"], minimum=2).to_frame()
    reason = small.loc["c", "not_compared"]
    assert "1 rows in the denominator, fewer than 2 (" in reason and "no rows in the denominator (true_pos" in reason


def test_long_names_are_printed_whole_within_80_columns():
    names = ["a group with a very long name, one", "a group with a very long name, two", "x" * 50]
    report = by_group([1, 0, 1], [1, 1, 0], names, scores=[0.1, 0.2, 0.3])
    text = str(report)
    assert max(map(len, text.splitlines())) <= 80
    for end in ("long name, one ", "long name, two ", "xxxxxx "):
        assert sum(line.startswith(end) for line in text.splitlines()) == 3  # rates, scores, shrunk rates
    assert "..." not in text


def sexes_beside_races(n=600, seed=5):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"sex": rng.choice(["f", "m"], n), "race": rng.choice(["a", "b", "c"], n, p=[0.2, 0.3, 0.5])})
    decisions = rng.random(n) < 0.3 + 0.3 * (frame.race == "a") + 0.1 * (frame.sex == "m")
    return decisions.to_numpy(), rng.integers(0, 2, n), frame, rng.uniform(0.1, 3, n)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("site", [False, True])
def test_attributes_side_by_side_are_compared_each_on_its_own_as_the_measure_does(weighted, site):
    decisions, y, frame, w = sexes_beside_races()
    w = w if weighted else None
    strata = np.arange(len(y)) % 2 if site else None
    found = data.groups(frame, intersect=False, strata=strata)
    report = by_group(decisions, y, found, scores=decisions * 0.5, weights=w)
    gaps = report.gaps(bootstrap=200)
    makers = {
        "selection_rate": metrics.demographic_parity,
        "true_positive_rate": metrics.equal_opportunity,
        "precision": metrics.predictive_parity,
    }
    for name, maker in makers.items():
        measure = maker(num_groups=len(found), blocks=found.blocks)
        gap = gaps[f"{name}_difference"]
        assert gap.value == pytest.approx(float(measure(decisions, y, found.a, w)), abs=1e-6)
        assert gap.low < gap.value < gap.high
        block = [each for each in found.blocks if found.names.index(gap.lowest) in each]
        assert len(block) == 1 and found.names.index(gap.highest) in block[0]
    # each attribute on its own has the same rates
    if not site:
        alone = by_group(decisions, y, frame["race"], scores=decisions * 0.5, weights=w)
        races = [k for k, name in enumerate(report.names) if name.startswith("race")]
        np.testing.assert_allclose(report.selection_rate[races], alone.selection_rate)
        np.testing.assert_allclose(report.intervals["precision"][races], alone.intervals["precision"])
        np.testing.assert_allclose(report.shrunk["accuracy"][races], alone.shrunk["accuracy"])
        np.testing.assert_allclose(report.auc[races], alone.auc)
        np.testing.assert_array_equal(report.counts[races], alone.counts)
        np.testing.assert_allclose(report.group_sizes[races], alone.group_sizes)
        assert report.to_frame().index.tolist() == list(found.names)


@pytest.mark.parametrize("weighted", [False, True])
def test_intervals_of_attributes_side_by_side_are_those_of_rows_drawn_anew(weighted):
    decisions, y, frame, w = sexes_beside_races()
    w = w if weighted else np.ones(len(y))
    found = data.groups(frame, intersect=False)
    gap = by_group(decisions, y, found, weights=w if weighted else None).gaps(4000)["selection_rate_difference"]
    rng, drawn = np.random.default_rng(2), []
    for _ in range(2000):
        i = rng.integers(0, len(y), len(y))
        rates = (w[i] * decisions[i]) @ found.a[i] / (w[i] @ found.a[i])
        drawn.append(max(np.ptp(rates[list(block)]) for block in found.blocks))
    np.testing.assert_allclose([gap.low, gap.high], np.quantile(drawn, [0.025, 0.975]), atol=0.015)


def test_memberships_that_overlap_are_counted_where_they_say_how():
    decisions, y = np.array([1, 0, 1, 0, 1]), np.array([1, 1, 0, 0, 1])
    flags = np.array([[1, 1], [1, 0], [0, 1], [0, 1], [1, 0]], bool)
    found = data.memberships(flags, ("x", "y"), estimator="weighted")
    report = by_group(decisions, y, found)
    np.testing.assert_allclose(report.selection_rate[:2], [2 / 3, 2 / 3])
    measure = data.from_arrays(np.eye(5), y, found).measure("eod")
    gap = report.gaps(0)["true_positive_rate_difference"]
    assert gap.value == pytest.approx(float(measure(decisions, y, found.a))) == pytest.approx(1 / 3)
    one_hot = data.memberships(np.eye(2)[[0, 0, 1, 1, 1]], estimator="solved")
    np.testing.assert_array_equal(by_group(decisions, y, one_hot).counts, [2, 3])
    with pytest.raises(ValueError, match="row 0 belongs to several groups .*estimator=.weighted"):
        by_group(decisions, y, data.memberships(flags))
    with pytest.raises(ValueError, match="found memberships in part, .*pandas.cut, or compare with a measure"):
        by_group(decisions, y, data.continuous([1.0, 2.0, 3.0, 4.0, 5.0], 2))


def test_a_group_that_has_nothing_to_be_compared_with_is_named():
    report = by_group([1, 0, 1], [1, 1, 0], ["a", "a", "b"])
    assert report.gaps(0)["true_positive_rate_difference"].groups == 0
    left = {(each.group, each.reason): each.rates for each in report.left_out}
    assert left["a", "nothing to compare it with"] == ("true_positive_rate",)
    alone = by_group([1, 0], [1, 1], ["a", "a"])
    assert "nothing to compare it with" in alone.to_frame().loc["a", "not_compared"]
    strata = data.groups(list("ababab"), strata=list("xxyyyy"))
    report = by_group([1, 0, 1, 0, 1, 1], [1, 0, 1, 1, 1, 1], strata)
    assert any(each.reason == "nothing to compare it with in its stratum or attribute" for each in report.left_out)


def test_the_ratio_of_a_stratum_in_which_nobody_is_selected_is_not_measured():
    found = data.groups(list("abab"), strata=list("xxyy"))
    ratio = by_group([1, 1, 0, 0], [1, 0, 1, 0], found).gaps(0)["selection_rate_ratio"]
    assert np.isnan(ratio.value) and (ratio.lowest, ratio.highest) == ("", "")


def test_the_index_of_groups_in_a_mapping_is_checked():
    decisions = pd.Series([1, 0, 0, 1], index=[4, 5, 6, 7])
    with pytest.raises(ValueError, match="the index of groups differs from that of decisions"):
        by_group(decisions, [0, 1, 1, 0], {"sex": pd.Series(list("mmff"))})
    same = {"sex": pd.Series(list("mmff"), index=decisions.index)}
    assert by_group(decisions, [0, 1, 1, 0], same).counts.tolist() == [2, 2]


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_the_unit_of_weights_does_not_matter(size):
    f, y, frame, scores, w = draw(200)
    plain, scaled = by_group(f, y, frame.sex, scores, w), by_group(f, y, frame.sex, scores, w * size)
    for name in ("selection_rate", "accuracy", "auc", "brier_score", "calibration_error", "group_sizes"):
        np.testing.assert_allclose(getattr(plain, name), getattr(scaled, name), rtol=1e-9)
    np.testing.assert_allclose(plain.intervals["precision"], scaled.intervals["precision"], rtol=1e-9)
    assert plain.gaps(20)["accuracy_difference"].high == pytest.approx(scaled.gaps(20)["accuracy_difference"].high)
    with pytest.raises(ValueError, match="the sum of the weights is not finite"):
        by_group(f, y, frame.sex, weights=np.full(200, 1e308))


def test_a_group_whose_rows_weigh_nothing_has_no_rates():
    report = by_group([1, 0, 0, 1], [1, 1, 1, 1], list("mmff"), scores=[0.1, 0.2, 0.3, 0.4], weights=[1, 1, 0, 0])
    rates = ("selection_rate", "true_positive_rate", "precision", "accuracy", "base_rate")
    for name in (*rates, "auc", "brier_score", "calibration_error"):
        assert np.isnan(getattr(report, name)[0])
    assert all(np.isnan(gap.value) for gap in report.gaps(20).rows)


def test_scores_that_rounding_carries_out_of_their_range_are_taken():
    scores = np.array([1.0 + 1e-7, -1e-8, 0.0, 1.0], np.float32)
    report = by_group([1, 0, 0, 1], [1, 0, 0, 1], list("mmff"), scores=scores)
    np.testing.assert_array_equal(report.brier_score, 0.0)
    with pytest.raises(ValueError, match="found 3 in row 0: pass logits through jax.nn.sigmoid"):
        by_group([1, 0], [1, 0], list("mf"), scores=[3.0, 0.0])


def test_names_and_rates_that_are_not_right_are_refused():
    for names, message in (
        ("ab", "found the string 'ab'"),
        (["none", "b"], "found 'none', which stands for a missing value"),
        (["B", "b"], "names must be different ones, in more than capitals"),
    ):
        with pytest.raises(ValueError, match=message):
            by_group([1, 0], [1, 0], [0, 1], names=names)
    report = by_group([1, 0], [1, 0], [0, 1])
    with pytest.raises(ValueError, match="rate must be one of selection_rate, .*, got 'recall'"):
        report.compared("recall")
    with pytest.raises(ValueError, match="seed must be a whole number"):
        report.gaps(5, seed=-1)
    for rate, size, confidence in ((2, 10, 0.95), (0.5, -1, 0.95), (0.5, 10, 0.0), (0.5, 10, float("nan"))):
        with pytest.raises(ValueError, match="must be"):
            wilson(rate, size, confidence)
