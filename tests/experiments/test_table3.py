"""Table 3 of the second paper: its columns against AIF360, the printed numbers, statistics, and the few features."""

import numpy as np
import pandas as pd
import pytest
from aif360.metrics import ClassificationMetric
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from experiments.second_paper.quantities import PRINTED, QUANTITIES, counts, quantities
from experiments.second_paper.table3 import page, tables
from experiments.second_paper.table3.explanations import explanations
from experiments.second_paper.table3.optimized import feasible
from experiments.second_paper.table3.printed import printed
from experiments.second_paper.table3.rows import ROWS
from experiments.second_paper.table3.settings import Table3
from experiments.second_paper.table3.subject import favourable, few_features, ratio
from experiments.second_paper.table3.summary import agreements, comparisons, summary
from fairjax.adapters.aif360_postprocessing.library import PRIVILEGED, UNPRIVILEGED
from fairjax.adapters.aif360_postprocessing.library import dataset as aif360_dataset
from fairjax.data import from_arrays
from fairjax.runs.structure import CELLS

FACTS = {("adult", "keep"): {"rows": 100, "parity": 0.4}}


def drawn(seed=0, n=400):
    """Return decisions, labels, groups and weights."""
    rng = np.random.default_rng(seed)
    a = rng.random(n) < 0.6
    y = rng.random(n) < 0.3 + 0.2 * a
    return rng.random(n) < 0.2 + 0.4 * y + 0.1 * a, y, a, rng.uniform(0.5, 2.0, n)


def measured(rows=("dnn", "reweighing", "equalized_odds"), splits=6):
    """Return quantities of rows on splits; every row but the first is another set of decisions."""
    lines = []
    for seed in range(splits):
        _, y, a, _ = drawn(seed)
        for i, row in enumerate(rows):
            decisions = drawn(seed)[0] if i == 0 else np.random.default_rng((seed, i)).random(len(y)) < 0.3 + 0.3 * y
            lines.append(
                {"dataset": "adult", "duplicates": "keep", "row": row, "seed": seed, **counts(decisions, y, a)}
            )
    table = pd.DataFrame(lines)
    return pd.concat([table, quantities(table)], axis=1)


@pytest.mark.parametrize("weighted", [False, True])
def test_columns_are_aif360s(weighted):
    decisions, y, a, weights = drawn()
    weights = weights if weighted else np.ones(len(y))
    true, predicted = aif360_dataset(y, a), aif360_dataset(decisions, a)
    true.instance_weights = predicted.instance_weights = weights
    oracle = ClassificationMetric(true, predicted, UNPRIVILEGED, PRIVILEGED)
    found = quantities(pd.DataFrame([counts(decisions, y, a, weights)])).iloc[0]
    assert found["parity"] == pytest.approx(oracle.disparate_impact())
    assert found["min_parity"] == pytest.approx(min(oracle.disparate_impact(), 1 / oracle.disparate_impact()))
    assert found["opportunity"] == pytest.approx(oracle.equal_opportunity_difference())
    assert found["odds"] == pytest.approx(oracle.average_odds_difference())
    assert found["false_positives"] == pytest.approx(oracle.false_positive_rate_difference())
    assert found["accuracy_gap"] == pytest.approx(oracle.accuracy(False) - oracle.accuracy(True))
    assert found["accuracy"] == pytest.approx(accuracy_score(y, decisions, sample_weight=weights))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y, decisions, sample_weight=weights))


def test_what_is_undefined_is_not_a_number():
    _, y, a, _ = drawn()
    table = pd.DataFrame([counts(np.zeros(len(y)), y, a), counts(~a, y, a), counts(a, y & a, a)])
    found = quantities(table)
    assert np.isnan(found["parity"][0]) and np.isnan(found["min_parity"][0])
    assert found["parity"][1] == np.inf and found["min_parity"][1] == 0
    assert np.isnan(found["opportunity"][2]) and np.isnan(found["odds"][2])


def test_the_printed_numbers_are_well_formed():
    numbers = printed().set_index(["dataset", "row"])
    assert not numbers.index.duplicated().any() and len(numbers) == 2 * 6
    assert set(printed()["row"]) == {row.block for row in ROWS.values()}
    assert numbers.loc[("adult", "dnn"), list(PRINTED)].tolist() == [0.836, 0.347, -0.094, -0.089]
    assert numbers.loc[("compas", "calibrated"), list(PRINTED)].tolist() == [0.639, 0.819, 0.036, 0.150]
    assert numbers.xs("data", level="row")[["accuracy", "opportunity", "odds"]].isna().all(axis=None)


def test_every_row_has_a_baseline_and_is_beside_a_printed_row():
    for row in ROWS.values():
        assert row.baseline in ROWS and ROWS[row.baseline].baseline == "dnn"
    assert len({row.label for row in ROWS.values()}) == len(ROWS)


def test_means_leave_out_what_is_infinite_and_count_it():
    per_split = measured()
    per_split.loc[(per_split["row"] == "reweighing") & (per_split["seed"] == 2), "parity"] = np.inf
    found = summary(per_split, FACTS).set_index("row")
    values = per_split[(per_split["row"] == "reweighing") & (per_split["seed"] != 2)]["parity"]
    assert found.loc["reweighing", "parity"] == pytest.approx(values.mean())
    assert found.loc["reweighing", "parity_deviation"] == pytest.approx(values.std(ddof=1))
    assert found.loc["reweighing", "parity_undefined"] == 1 and found.loc["dnn", "parity_undefined"] == 0
    assert found.loc["data", "parity"] == 0.4 and np.isnan(found.loc["data", "accuracy"])


def test_comparisons_are_differences_from_the_reference():
    per_split = measured()
    found = comparisons(per_split).set_index(["quantity", "row"])
    wide = per_split.assign(abs_odds=per_split["odds"].abs()).pivot(index="seed", columns="row", values="abs_odds")
    line = found.loc[("abs_odds", "equalized_odds")]
    assert line["difference"] == pytest.approx((wide["equalized_odds"] - wide["dnn"]).mean())
    assert line["low"] <= line["difference"] <= line["high"] and line["reference"] == "dnn"
    assert (found["holm_p"] >= found["wilcoxon_p"] - 1e-12).all()
    assert set(found.index.get_level_values("row")) == {"reweighing", "equalized_odds"}


def test_a_row_of_an_undefined_quantity_is_not_tested():
    per_split = measured()
    per_split.loc[(per_split["row"] == "reweighing") & (per_split["seed"] == 0), "min_parity"] = np.nan
    found = comparisons(per_split)
    assert set(found.loc[found["quantity"] == "min_parity", "row"]) == {"equalized_odds"}
    assert set(found.loc[found["quantity"] == "accuracy", "row"]) == {"reweighing", "equalized_odds"}


def test_agreement_counts_printed_numbers_within_two_deviations():
    found = summary(measured(), FACTS)
    of_row = found["row"] == "dnn"
    for name, number in zip(PRINTED, (0.836, 0.347, -0.094, -0.089), strict=True):
        found.loc[of_row, name] = number + (0.03 if name == "parity" else 0.001)
        found.loc[of_row, f"{name}_deviation"] = 0.01
    line = agreements(found).set_index("row").loc["dnn"]
    assert (line["agrees"], line["of"]) == (3, 4) and not line["parity_agrees"]
    unstable = found.assign(odds_deviation=0.5)
    assert agreements(unstable).set_index("row").loc["dnn", "agrees"] == 2  # what varies so much agrees with nothing
    words = explanations(agreements(found), FACTS).set_index("printed_row")["words"]
    assert words["dnn"].startswith("3 of 4 numbers within 2 deviations: DNN, all rows")
    assert words["dnn"].endswith("(but Parity r 0.377, printed 0.347).")
    both = pd.concat([agreements(found), agreements(found).assign(duplicates="drop")])
    words = explanations(both, FACTS).set_index("printed_row")["words"]
    assert "DNN, all rows; DNN, without duplicates (but in the first Parity r 0.377" in words["dnn"]
    both.loc[both["duplicates"] == "drop", ["parity_agrees", "odds_agrees"]] = True, False
    words = explanations(both, FACTS).set_index("printed_row")["words"]
    assert "0.377, printed 0.347); DNN, without duplicates (but Odds -0.088" in words["dnn"]
    assert words["data"].startswith("Nearest to the printed 0.386") and "0.4000" in words["data"]


def test_the_table_has_printed_rows_above_ours():
    found = summary(measured(), FACTS)
    table = tables.of_page(found, "adult", "keep", 100)
    first = [row.cells[0].text for row in table.rows]
    assert first[:4] == ["paper: Dataset bias", "The data set itself", "paper: DNN original", "DNN"]
    assert all(len(row.cells) == len(table.columns) == 2 + len(QUANTITIES) for row in table.rows)
    text = tables.of_markdown(table)
    assert "*0.836*" in text and len({line.count(" | ") for line in text.splitlines() if line.startswith("|")}) <= 2


def test_the_page_says_whether_the_prejudice_remover_converged():
    exact = {"largest_slope": {"prejudice_lr_0": 2e-5, "prejudice_lr_1": 4e-9}, "unmoved": {}}
    imitated = {"largest_slope": {"row": 100.0}, "not_converged": {"row": 3}, "unmoved": {"row": 2}}

    def about(failed):
        units = {"prejudice_minimum": {**exact, "not_converged": {"prejudice_lr_0": failed, "prejudice_lr_1": 0}}}
        units |= dict.fromkeys(("prejudice_aif360", "prejudice_aif360_flags"), imitated)
        return {"settings": {"seeds": [1, 2, 3]}, "runs": {"adult-keep": {"units": units}}}

    ours, aif360 = page.of_prejudice(about(0))
    assert "all fits converged: the largest derivative is 2e-05 at most" in ours
    assert "6 of 6 fits are no minima, and 4 never leave the start" in aif360
    assert "2 fits did not converge, and are no minima" in page.of_prejudice(about(2))[0]


def test_the_favourable_label_of_compas_is_no_recidivism():
    _, y, a, _ = drawn()
    made = from_arrays(np.arange(len(y), dtype=float)[:, None], y, a, name="compas")
    np.testing.assert_array_equal(favourable(made).y, ~y)
    np.testing.assert_array_equal(favourable(made._replace(name="adult")).y, y)
    assert ratio(y, a) == pytest.approx(y[~a].mean() / y[a].mean())


def test_few_features_are_one_category_each():
    frame = pd.DataFrame({"age": [17, 29, 90, 45], "education-num": [3, 13, 9, 16], "race": [0, 1, 1, 0]})
    made = from_arrays(frame, [0, 1, 1, 0], [1, 0, 1, 0], name="adult", protected="sex")
    few = few_features(made)
    chosen = [{few.features[k] for k in np.flatnonzero(row)} for row in few.x]
    assert chosen == [
        {"age=10", "education=<6"},
        {"age=20", "education=>12", "race"},
        {"age=>=70", "education=9", "race"},
        {"age=40", "education=>12"},
    ]
    names = ["age_cat=Less than 25", "c_charge_degree=F", "priors_count", "sex"]
    made = from_arrays([[1, 0, 0, 1], [0, 1, 3, 0], [0, 0, 4, 1]], [0, 1, 1], [1, 0, 1], name="compas", features=names)
    few = few_features(made)
    assert [few.features[k] for k in np.flatnonzero(few.x[1])] == ["c_charge_degree=F", "priors_count=1 to 3"]
    assert few.x[:, few.features.index("priors_count=0")].tolist() == [1, 0, 0]
    assert few.x[:, few.features.index("priors_count=More than 3")].tolist() == [0, 0, 1]


def test_the_bound_is_raised_only_if_it_is_infeasible():
    assert feasible(0.05) == 0.05 and feasible(0.0) == 0.05
    assert feasible(0.0612) == 0.062 >= 0.0612


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datasets": ()}, "datasets must be one or more of adult, compas, got none"),
        ({"datasets": ("adult", "adult")}, "datasets must not repeat"),
        ({"seeds": (3,)}, "seeds must be two or more"),
        ({"seeds": (3, -1)}, "from 0 to 2\\^32 - 1"),
        ({"duplicates": "some"}, "duplicates must be one of keep, drop, both"),
        ({"widths": ()}, "widths must be 1 to 100"),
    ],
)
def test_settings_refuse_what_means_nothing(changes, message):
    with pytest.raises(ValueError, match=message):
        Table3(**changes)


def test_the_variants_follow_the_settings():
    assert Table3(datasets=("compas",)).variants == [("compas", "keep"), ("compas", "drop")]
    assert Table3(duplicates="drop").variants == [("adult", "drop"), ("compas", "drop")]


def test_counts_have_all_cells():
    decisions, y, a, _ = drawn()
    found = counts(decisions, y, a)
    assert tuple(found) == CELLS and sum(found.values()) == len(y)
    assert found["fp0"] == (decisions & ~y & ~a).sum() and found["fn1"] == (~decisions & y & a).sum()
