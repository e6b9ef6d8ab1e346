"""Audits against pandas, by_group, ProPublica's published rates, and against bad input."""

import gzip
import importlib
import os
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score

import fairjax
from fairjax.auditing import audit
from fairjax.auditing.group_rates import ORDER
from fairjax.auditing.score_quality import thresholds

COMPAS = Path(os.environ.get("FAIRJAX_DATA", "")) / "compas" / "compas-scores-two-years.csv"


@pytest.fixture(scope="module")
def people():
    """Predictions about 4,000 people, biased against a group; scores at the full precision of their text."""
    random, n = np.random.default_rng(0), 4000
    sex, race = random.choice(["f", "m"], n), random.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1])
    y = (random.random(n) < 0.35 + 0.15 * (sex == "m")).astype(int)
    score = 1 / (1 + np.exp(-(2 * y - 1 + random.normal(size=n) + 0.6 * (sex == "m"))))
    return pd.DataFrame(
        {
            "id": np.arange(n), "sex": sex, "race": race, "age": random.integers(18, 90, n),
            "y": y, "score": score, "weight": random.integers(1, 5, n) / 2,
        }
    )  # fmt: skip


@pytest.fixture
def table(people, tmp_path):
    path = tmp_path / "people.csv"
    people.to_csv(path, index=False)
    return path


def rates(frame, threshold=0.5):
    """The rates of a frame, one line each, from their definitions."""
    d, y = frame["score"] > threshold, frame["y"] == 1
    return {
        "rows": len(frame), "base_rate": y.mean(), "selection_rate": d.mean(), "true_positive_rate": d[y].mean(),
        "false_positive_rate": d[~y].mean(), "precision": y[d].mean(), "accuracy": (d == y).mean(),
    }  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".tsv", "frame"])
def test_rates_of_every_group_are_those_of_pandas_for_every_format(people, tmp_path, suffix):
    path = tmp_path / f"people{suffix}"
    if suffix == "frame":
        path = people
    elif suffix == ".parquet":
        duckdb.sql("SELECT * FROM people").write_parquet(str(path))
    else:
        people.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    found = audit(path, label="y", score="score", groups=["sex", "race"]).by_group
    assert len(found) == 2 * 3 + 2 + 3
    for _, row in found.iterrows():
        chosen = people
        for name in ("sex", "race"):
            chosen = chosen[chosen[name] == row[name]] if row[name] else chosen
        for name, value in rates(chosen).items():
            assert row[name] == pytest.approx(value, abs=1e-12), (row["sex"], row["race"], name)
        assert row["auc"] == pytest.approx(roc_auc_score(chosen["y"], chosen["score"]), abs=2e-3)
        assert row["brier_score"] == pytest.approx(brier_score_loss(chosen["y"], chosen["score"]), abs=1e-9)


def test_the_table_by_group_is_that_of_by_group_with_intervals_and_shrunk_rates(people, table):
    found = audit(table, label="y", score="score", groups="race", minimum=50).by_group
    expected = fairjax.by_group(
        (people["score"] > 0.5).astype(int), people["y"], people["race"], scores=people["score"], minimum=50
    ).to_frame()
    for rate in ORDER:
        for name in (rate, f"{rate}_low", f"{rate}_high", f"{rate}_shrunk"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)
    np.testing.assert_allclose(found["calibration_error"], expected["calibration_error"], atol=1e-9)


def test_weighted_rows_have_the_rates_and_effective_sizes_of_by_group(people, table):
    found = audit(table, label="y", score="score", groups=["race"], weight="weight")
    expected = fairjax.by_group(
        (people["score"] > 0.5).astype(int), people["y"], people["race"], weights=people["weight"], minimum=50
    )
    np.testing.assert_allclose(found.by_group["selection_rate"], expected.selection_rate, rtol=1e-12)
    np.testing.assert_allclose(found.by_group["selection_rate_low"], expected.intervals["selection_rate"][:, 0])
    np.testing.assert_allclose(found.by_group["weight"], people.groupby("race")["weight"].sum())
    gap = expected.gaps()["selection_rate_difference"]
    row = found.gaps.iloc[0]
    assert row["gap"] == pytest.approx(gap.value, abs=1e-6)
    assert row["low"] == pytest.approx(gap.low, abs=0.01)


@pytest.mark.parametrize("measure", list(fairjax.MEASURES))
def test_every_gap_is_the_measure_of_the_rows_without_its_sign(people, table, measure):
    found = audit(table, label="y", score="score", groups=["sex", "race"], measures=measure, bootstrap=0).gaps
    decisions, y = (people["score"] > 0.5).astype(int).to_numpy(), people["y"].to_numpy()
    codes = pd.factorize(people["race"], sort=True)[0]
    expected = fairjax.metrics.make_measure(measure, num_groups=3)(decisions, y, codes)
    assert found.set_index("groups").loc["race", "gap"] == pytest.approx(float(expected), abs=1e-6)
    two = float(fairjax.MEASURES[measure](decisions, y, (people["sex"] == "m").to_numpy()))
    if measure == "parity_ratio":
        two = min(two, 1 / (two + 1) - 1)
    if measure != "average_odds":
        assert abs(found.set_index("groups").loc["sex", "gap"]) == pytest.approx(abs(two), abs=1e-6)


def test_extreme_groups_are_those_with_the_least_and_the_greatest_rate(people, table):
    row = audit(table, label="y", score="score", groups=["race"], measures="eod").gaps.iloc[0]
    tpr = people[people["y"] == 1].groupby("race")["score"].apply(lambda score: (score > 0.5).mean())
    assert (row["lowest"], row["highest"], row["rate"]) == (tpr.idxmin(), tpr.idxmax(), "true_positive_rate")
    assert row["highest_rate"] - row["lowest_rate"] == pytest.approx(row["gap"], abs=1e-6)
    assert row["low"] <= row["gap"] <= row["high"]


def test_a_real_gap_is_told_from_chance_and_an_arbitrary_grouping_is_not(people, tmp_path):
    random = np.random.default_rng(1)
    frame = people.assign(coin=random.choice(["heads", "tails"], len(people)))
    gaps = audit(frame, label="y", score="score", groups=["sex", "coin"], measures="spd").gaps.set_index("groups")
    assert gaps.loc["sex", "p_value"] < 0.01 and gaps.loc["sex", "gap"] > gaps.loc["sex", "chance"]
    assert gaps.loc["coin", "p_value"] > 0.05 and gaps.loc["coin", "gap"] < gaps.loc["coin", "chance"]


def test_counts_give_the_audit_of_their_rows(people, table, tmp_path):
    counts = tmp_path / "counts.csv"
    duckdb.sql(
        "SELECT sex, race, y, avg(score) AS score, count(*) AS rows, sum(weight) AS weight, "
        "sum(weight * weight) AS weight_squared FROM people "
        "GROUP BY sex, race, y, floor(score * 1000), score > 0.5"
    ).write_csv(str(counts))
    settings = {"label": "y", "score": "score", "groups": ["sex", "race"]}
    for options in ({}, {"weight": "weight"}):
        rows, sums = audit(table, **settings, **options), audit(counts, count="rows", **settings, **options)
        np.testing.assert_allclose(rows.counts.weights, sums.counts.weights, rtol=1e-9)
        np.testing.assert_allclose(rows.counts.squares, sums.counts.squares, rtol=1e-9)
        pd.testing.assert_frame_equal(rows.gaps, sums.gaps, rtol=1e-4, atol=1e-9)
        same = [name for name in rows.by_group if name not in ("brier_score", "calibration_error")]
        pd.testing.assert_frame_equal(rows.by_group[same], sums.by_group[same], rtol=1e-6)


def test_many_files_are_one_table(people, tmp_path, table):
    for i in range(3):
        people[i::3].to_csv(tmp_path / f"part[{i}]*.csv", index=False)
    settings = {"label": "y", "score": "score", "groups": "sex"}
    whole, parts = audit(table, **settings), audit(str(tmp_path / "part*.csv"), **settings)
    pd.testing.assert_frame_equal(whole.by_group, parts.by_group)


def test_edges_cut_numbers_into_ranges_in_order(people, table):
    found = audit(table, label="y", score="score", groups="age:25,60").by_group
    assert found["age"].tolist() == ["under 25", "25 to 60", "60 and over"]
    ages = people["age"]
    assert found["rows"].tolist() == [(ages < 25).sum(), ((ages >= 25) & (ages < 60)).sum(), (ages >= 60).sum()]


def test_logits_are_turned_into_probabilities(people, table):
    frame = people.assign(score=np.log(people["score"] / (1 - people["score"])))
    settings = {"label": "y", "score": "score", "groups": "sex", "threshold": 0.3}
    expected = audit(table, **settings).by_group
    pd.testing.assert_frame_equal(audit(frame, logits=True, **settings).by_group, expected, rtol=1e-6)


def test_several_classes_are_measured_one_against_the_others(people):
    random = np.random.default_rng(2)
    frame = people.assign(
        y=random.choice(["low", "medium", "high"], len(people)), d=random.choice(["low", "medium", "high"], len(people))
    )
    classes = ("low", "medium", "high")
    found = audit(frame, label="y", decision="d", classes=classes, groups="race")
    codes = {name: i for i, name in enumerate(classes)}
    measure = fairjax.metrics.make_measure("spd", num_groups=3, num_classes=3)
    groups = pd.factorize(frame["race"], sort=True)[0]
    expected = measure(frame["d"].map(codes).to_numpy(), frame["y"].map(codes).to_numpy(), groups)
    assert found.gaps.iloc[0]["gap"] == pytest.approx(float(expected), abs=1e-6)
    row = found.by_group.set_index(["race", "class"]).loc[("b", "high")]
    of = frame[frame["race"] == "b"]
    assert row["selection_rate"] == pytest.approx((of["d"] == "high").mean())
    assert row["true_positive_rate"] == pytest.approx((of[of["y"] == "high"]["d"] == "high").mean())


def test_rates_at_all_thresholds_are_those_of_the_rows(people):
    counts = audit(people, label="y", score="score", groups="sex").counts
    cuts, tables = thresholds(counts)
    for place in (0, 30, 77):
        accepted = tables[1, :, :, place].sum(axis=0)
        passed = np.floor(people["score"] * 1000) >= 1000 * cuts[place]
        expected = passed.groupby(people["sex"]).sum()
        np.testing.assert_allclose(accepted, expected)


@pytest.mark.skipif(not COMPAS.is_file(), reason="needs COMPAS in FAIRJAX_DATA")
def test_compas_decile_scores_have_the_published_error_rates():
    """False positive and negative rates that ProPublica published (How We Analyzed the COMPAS Algorithm, 2016)."""
    found = audit(COMPAS, label="two_year_recid", decision="decile_score>4", groups=["race", "sex"]).by_group
    race = found[found["sex"] == ""].set_index("race")
    for name, fpr, fnr in (("African-American", 44.85, 27.99), ("Caucasian", 23.45, 47.72)):
        assert round(100 * race.loc[name, "false_positive_rate"], 2) == fpr
        assert round(100 * (1 - race.loc[name, "true_positive_rate"]), 2) == fnr


@given(st.data())
def test_any_small_table_has_the_rates_of_by_group(data):
    n = data.draw(st.integers(2, 40))
    column = st.lists(st.integers(0, 1), min_size=n, max_size=n)
    frame = pd.DataFrame({name: data.draw(column) for name in ("y", "d")})
    frame["g"] = data.draw(st.lists(st.sampled_from("xyz"), min_size=n, max_size=n))
    if frame["g"].nunique() < 2:
        return
    found = audit(frame, label="y", decision="d", groups="g", measures="spd", minimum=1, bootstrap=0)
    expected = fairjax.by_group(frame["d"], frame["y"], frame["g"]).to_frame()
    for rate in ORDER:
        np.testing.assert_allclose(found.by_group[rate], expected[rate], rtol=1e-12, err_msg=rate)
    spread = expected["selection_rate"].max() - expected["selection_rate"].min()
    assert found.gaps.iloc[0]["gap"] == pytest.approx(spread, abs=1e-6)


def test_paired_differences_are_exact_and_narrower_than_unpaired_ones(people, table, tmp_path):
    old = tmp_path / "old.csv"
    people.assign(score=people["score"] + 0.08 * (people["sex"] == "m") * (1 - people["score"])).to_csv(
        old, index=False
    )
    settings = {"label": "y", "score": "score", "groups": "sex", "measures": "spd"}
    found = audit(table, against=old, **settings).differences
    row = found.gaps.iloc[0]
    before, after = (audit(path, **settings).gaps.iloc[0] for path in (old, table))
    assert row["new"] == pytest.approx(after["gap"], abs=1e-6) and row["old"] == pytest.approx(before["gap"], abs=1e-6)
    assert row["difference"] == pytest.approx(after["gap"] - before["gap"], abs=1e-6)
    assert row["low"] <= row["difference"] <= row["high"] < 0
    assert row["high"] - row["low"] < 0.5 * (after["high"] - after["low"])
    rate = found.by_group.set_index(["group", "rate"]).loc[("f", "selection_rate")]
    assert rate["difference"] == rate["low"] == rate["high"] == 0


def test_rows_in_another_order_are_paired_by_a_column(people, table, tmp_path):
    old = tmp_path / "old.csv"
    people.assign(score=people["score"] ** 2).sample(frac=1, random_state=0).to_csv(old, index=False)
    settings = {"label": "y", "score": "score", "groups": "sex"}
    with pytest.raises(ValueError, match="differ in their groups or labels.*--pair-by"):
        audit(table, against=old, **settings)
    found = audit(table, against=old, pair_by="id", **settings)
    expected = audit(old, **settings)
    np.testing.assert_allclose(found.differences.gaps["old"], expected.gaps["gap"], rtol=1e-6)
    people[:-1].to_csv(old, index=False)
    with pytest.raises(ValueError, match="has no row with id '3999'"):
        audit(table, against=old, pair_by="id", **settings)
    with pytest.raises(ValueError, match="4,000 rows and .* 3,999"):
        audit(table, against=old, **settings)
    pd.concat([people, people[:1]]).to_csv(old, index=False)
    with pytest.raises(ValueError, match="id must identify the rows.*'0' several times"):
        audit(table, against=old, pair_by="id", **settings)


BAD = {
    "column": ({"score": "scoer"}, "no column 'scoer': did you mean score"),
    "group": ({"groups": ["sx"]}, "no column 'sx': did you mean sex"),
    "many groups": ({"groups": ["age"]}, "age has 72 values, more than 50 groups.*age:25,60"),
    "small groups": ({"groups": ["race"], "minimum": 3000}, "fewer than two groups have 3000 rows.*b .*than 3000"),
    "no positive": ({"label": "race"}, "race has the values 'a', 'b', 'c': say which is positive with --positive"),
    "absent positive": ({"label": "race", "positive": "z"}, "positive value 'z' does not occur in race: found 'a'"),
    "edges": ({"groups": ["sex:25"]}, "sex must hold numbers, since it has edges, found '[fm]' in row 0"),
    "decreasing edges": ({"groups": ["age:60,25"]}, "edges after the colon must be increasing"),
    "measure": ({"measures": ["sdp"]}, "no measure named 'sdp': did you mean spd"),
    "both": ({"decision": "y"}, "needs scores .* or decisions .*got both"),
    "threshold": ({"threshold": 5.0}, r"threshold must be in \[0, 1\]"),
    "threshold of decisions": ({"score": None, "decision": "y", "threshold": 0.5}, "--threshold is for scores, and y"),
    "logits of decisions": ({"score": None, "decision": "y", "logits": True}, "--logits is for scores, and y are"),
    "count column": ({"count": "rows"}, "no column 'rows'.*with --count-column"),
    "condition": ({"score": None, "decision": "sex>4"}, "sex must be a number in every row, found '[fm]' in row 0"),
    "condition's value": ({"score": None, "decision": "score>high"}, "by size with 'high', which is not a number"),
    "decision": ({"score": None, "decision": "race"}, "race must be 0 or 1, true or false, or the values of y"),
    "one group": ({"groups": ["constant"]}, "constant has one value only"),
    "same column": ({"groups": ["y"]}, "'y' is named as an attribute and as the label"),
    "weights": ({"weight": "race"}, "race must be finite and not negative, found 'a' in row"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_explained_in_one_line(people, name):
    options, message = BAD[name]
    settings = {"label": "y", "score": "score", "groups": ["sex"], **options}
    with pytest.raises(ValueError, match=message) as error:
        audit(people.assign(constant="x").sort_values("race", kind="stable").reset_index(drop=True), **settings)
    assert "\n" not in str(error.value)


def test_scores_that_are_no_probabilities_are_refused_with_a_way_out(people):
    for scores, way in ((people["score"] * 10, "condition"), (people["score"] * 10 - 5, "--logits")):
        with pytest.raises(ValueError, match=rf"must be probabilities in \[0, 1\].*{way}"):
            audit(people.assign(score=scores), label="y", score="score", groups="sex")
    with pytest.raises(ValueError, match="score must be a number in every row, found 'x' in row 3"):
        text = people["score"].astype(str).where(people.index != 3, "x")
        audit(people.assign(score=text), label="y", score="score", groups="sex")


@pytest.mark.parametrize("column", ["sex", "y", "score"])
def test_missing_values_are_refused_grouped_or_dropped(people, column):
    frame = people.astype({column: object})
    frame.loc[:99, column] = None
    settings = {"label": "y", "score": "score", "groups": "sex"}
    with pytest.raises(ValueError, match=f"{column} has no value in 100 of 4,000 rows"):
        audit(frame, **settings)
    found = audit(frame, missing="drop", **settings)
    assert found.counts.rows.sum() == 3900 and "100 of 4,000 rows were left out" in found.notes[0]
    if column == "sex":
        assert audit(frame, missing="group", **settings).counts.names == ("f", "m", "(missing)")


def test_damaged_files_are_named_with_the_line(tmp_path, people):
    settings = {"label": "y", "score": "score", "groups": "sex"}
    whole = people.to_csv(index=False).splitlines(keepends=True)
    cases = {
        "empty.csv": (b"", "empty.csv is empty"),
        "header.csv": (whole[0].encode(), "has no rows after line 1"),
        "broken.csv": ("".join([*whole[:6], "1,f\n", *whole[6:]]).encode(), "broken.csv, line 7: the header has 7"),
        "quote.csv": ("".join([*whole[:6], '1,"f,a\n', *whole[6:]]).encode(), "quote.csv, line 7"),
        "latin.csv": ("".join(whole).replace(",f,", ",é,", 1).encode("latin-1"), "not in UTF-8"),
        "cut.parquet": (b"PAR1abc", "cut.parquet is cut off, or is not a Parquet file"),
        "table.xlsx": (b"PK", "must end in .csv"),
        "cut.csv.gz": (gzip.compress("".join(whole).encode())[:5000], "cut.csv.gz"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message) as error:
            audit(tmp_path / name, **settings)
        assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        audit(tmp_path / "absent.csv", **settings)
    people.to_csv(tmp_path / "a1.csv", index=False)
    people.drop(columns="age").to_csv(tmp_path / "a2.csv", index=False)
    with pytest.raises(ValueError, match="same columns.*a2.csv lacks age"):
        audit(tmp_path / "a*.csv", **settings)


def test_names_in_a_header_never_reach_sql(tmp_path, people):
    name = "x'); CREATE TABLE stolen AS SELECT 1; --\"`"
    people.rename(columns={"sex": name}).to_csv(tmp_path / "odd.csv", index=False)
    assert audit(tmp_path / "odd.csv", label="y", score="score", groups=[name]).counts.names == ("f", "m")
    frame = people.rename(columns={"sex": name})
    duckdb.from_df(frame).write_parquet(str(tmp_path / "odd.parquet"))
    assert audit(tmp_path / "odd.parquet", label="y", score="score", groups=[name]).counts.names == ("f", "m")
    with pytest.raises(ValueError, match='"f\' OR 1=1" does not occur in sex'):  # it is a text, not a condition
        audit(people, label="sex='f' OR 1=1", score="score", groups="race", minimum=1)


@pytest.mark.parametrize("sign", ["=", "!="])
def test_a_value_that_does_not_occur_is_no_parity(decided, sign):
    with pytest.raises(ValueError, match=f"'A' does not occur in word, so word{sign}A is the same in all rows"):
        audit(decided, label="y", decision=f"word{sign}A", groups="sex")


def test_saved_tables_have_the_documented_columns(table, tmp_path):
    folder = tmp_path / "out"
    settings = {"label": "y", "groups": ["sex", "race"]}
    paths = audit(table, score="score", **settings).save(folder)
    assert sorted(paths) == sorted(folder.iterdir())
    assert sorted(path.name for path in paths) == ["by_group.csv", "calibration.csv", "gaps.csv", "thresholds.csv"]
    rows, gaps = pd.read_csv(folder / "by_group.csv"), pd.read_csv(folder / "gaps.csv")
    wanted = ["sex", "race", "rows", "base_rate", "base_rate_low", "base_rate_high", "selection_rate", "precision"]
    assert set(wanted) <= set(rows.columns) and rows["race"].isna().sum() == 2 and rows["sex"].isna().sum() == 3
    assert gaps["groups"].tolist() == ["sex", "sex", "race", "race", "sex x race", "sex x race"]
    assert {"measure", "gap", "low", "high", "lowest", "highest", "left_out"} <= set(gaps.columns)
    (folder / "notes.csv").write_text("kept")
    audit(table, decision="score>0.5", **settings).save(folder)
    assert sorted(file.name for file in folder.iterdir()) == ["by_group.csv", "gaps.csv", "notes.csv"]


def test_tables_of_scores_have_the_rates_of_the_rows(people, table):
    tables = audit(table, label="y", score="score", groups=["sex", "race"]).tables()
    scored = people.assign(bin=np.floor(people["score"] * 10) / 10)
    for keys, group in (({"groups": "race"}, "b"), ({"groups": "sex x race"}, "m, b")):
        of = scored[(scored["race"] == "b") & ((scored["sex"] == "m") | (keys["groups"] == "race"))]
        bins = tables["calibration"].query(f"groups == '{keys['groups']}' and group == '{group}'").set_index("bin")
        np.testing.assert_allclose(bins["positive_rate"], of.groupby("bin")["y"].mean(), rtol=1e-9)
        np.testing.assert_allclose(bins["mean_score"], of.groupby("bin")["score"].mean(), rtol=1e-9)
        cuts = tables["thresholds"].query(f"groups == '{keys['groups']}' and group == '{group}'").set_index("threshold")
        for cut in (0.0, 0.25, 0.9):
            at, accepted = cuts.loc[cut], np.floor(of["score"] * 1000) >= 1000 * cut
            assert at["selection_rate"] == pytest.approx(accepted.mean())
            assert at["true_positive_rate"] == pytest.approx(accepted[of["y"] == 1].mean())
            assert at["false_positive_rate"] == pytest.approx(accepted[of["y"] == 0].mean())


def rate_of(found, group, rate="selection_rate"):
    return found.by_group.set_index(found.counts.title).loc[group, rate]


@pytest.fixture(scope="module")
def decided(people):
    """Labels and decisions in several codings."""
    d = (people["score"] > 0.5).astype(int)
    return people.assign(
        d=d, one_two=people["y"] + 1, two_one=2 - d, truth=d == 1, always=1, word=np.where(d, "a", "b")
    )


def test_decisions_with_the_values_of_the_label_are_coded_like_it(decided):
    share = decided[decided["sex"] == "f"]["d"].mean()
    settings = {"groups": "sex", "bootstrap": 0}
    for positive, expected in ((1, share), (2, 1 - share)):
        found = audit(decided, label="one_two", positive=positive, decision="two_one", **settings)
        assert rate_of(found, "f") == pytest.approx(expected)
    frame = decided.assign(label=np.where(decided["y"], "b", "a"))
    found = audit(frame, label="label", positive="b", decision="word", **settings)
    assert rate_of(found, "f") == pytest.approx(1 - share)


def test_computed_decisions_are_not_coded_like_a_label_of_truths(decided):
    """A label of truths whose positive value is false does not turn scores above the threshold into negatives."""
    frame = decided.assign(y=decided["y"] == 1)
    for options in ({"score": "score"}, {"decision": "score>0.5"}, {"decision": "d=1"}, {"decision": "truth=True"}):
        found = audit(frame, label="y", positive=False, groups="sex", bootstrap=0, **options)
        assert rate_of(found, "f") == pytest.approx(decided[decided["sex"] == "f"]["d"].mean())


def test_decisions_that_can_be_read_in_two_ways_are_refused(decided):
    settings = {"groups": "sex", "bootstrap": 0}
    with pytest.raises(ValueError, match="always has the value '1', which is negative as a value of one_two.*always=1"):
        audit(decided, label="one_two", positive=2, decision="always", **settings)
    with pytest.raises(
        ValueError, match="d has the value '0', which is positive as a value of y, and negative as 0 or"
    ):
        audit(decided, label="y", positive=0, decision="d", **settings)
    with pytest.raises(ValueError, match="truth has the value 'false' and y the values '0', '1', with '0' as the pos"):
        audit(decided, label="y", positive=0, decision="truth", **settings)
    with pytest.raises(ValueError, match="word has the values 'A' and 'a', which differ only in capitals"):
        frame = decided.assign(word=decided["word"].where(decided.index > 9, "A"), label=decided["word"])
        audit(frame, label="label", positive="a", decision="word", **settings)
    with pytest.raises(ValueError, match="--positive names a value of a column, and y>0 is a condition"):
        audit(decided, label="y>0", positive="1", decision="d", **settings)


@pytest.mark.parametrize("positive", [True, "True", "true", np.True_])
@pytest.mark.parametrize("suffix", ["frame", ".parquet", ".csv"])
def test_booleans_are_one_kind_of_value_in_every_format(decided, tmp_path, suffix, positive):
    frame, path = decided.assign(y=decided["y"] == 1), tmp_path / f"people{suffix}"
    if suffix == "frame":
        path = frame
    elif suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        duckdb.from_df(frame).write_parquet(str(path))
    found = audit(path, label="y", positive=positive, decision="truth=TRUE", groups="sex", bootstrap=0)
    expected = audit(decided, label="y", decision="d", groups="sex", bootstrap=0)
    np.testing.assert_array_equal(found.counts.rows, expected.counts.rows)


@pytest.mark.parametrize("absent", [None, "NA", " n/a "])
@pytest.mark.parametrize("sign", ["=", "!=", ">="])
def test_a_condition_on_a_missing_value_is_missing(decided, tmp_path, sign, absent):
    frame = decided.astype({"d": object})
    frame.loc[:99, "d"] = absent
    path = tmp_path / "people.csv"
    frame.to_csv(path, index=False)
    settings = {"label": "y", "decision": f"d{sign}1", "groups": "sex", "bootstrap": 0}
    with pytest.raises(ValueError, match=f"d{sign}1 has no value in 100 of 4,000 rows.*--missing drop"):
        audit(path, **settings)
    found = audit(path, missing="drop", **settings)
    kept = decided[100:]
    share = kept[kept["sex"] == "f"]["d"].mean()
    assert rate_of(found, "f") == pytest.approx(1 - share if sign == "!=" else share)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_missing_scores_and_numbers_with_edges_are_dropped(people, tmp_path, suffix):
    frame = people.astype({"score": object, "age": object}) if suffix == ".csv" else people.astype({"age": float})
    frame.loc[:99, "score"] = "NA" if suffix == ".csv" else np.nan
    frame.loc[50:149, "age"] = "n/a" if suffix == ".csv" else np.nan
    path = tmp_path / f"people{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        duckdb.from_df(frame).write_parquet(str(path))
    settings = {"label": "y", "score": "score", "groups": "age:40", "bootstrap": 0}
    with pytest.raises(ValueError, match="age has no value in 100 of 4,000 rows: make them a group"):
        audit(path, **settings)
    found, expected = audit(path, missing="drop", **settings), audit(people[150:].reset_index(drop=True), **settings)
    np.testing.assert_array_equal(found.counts.rows, expected.counts.rows)
    np.testing.assert_allclose(found.counts.scores.sums, expected.counts.scores.sums)
    assert found.notes == ("150 of 4,000 rows were left out, since they lack age or score.",)
    with pytest.raises(ValueError, match="score has no value in 100 of 4,000 rows: leave these rows out"):
        audit(path, missing="group", **settings)


def test_the_other_table_is_checked_like_the_first(people, table, tmp_path):
    settings = {"label": "y", "score": "score", "groups": "sex", "bootstrap": 0}
    old = tmp_path / "old.parquet"
    duckdb.from_df(people.assign(score=10 * people["score"] - 5)).write_parquet(str(old))
    with pytest.raises(ValueError, match=r"score must be probabilities in \[0, 1\].*--logits"):
        audit(people, against=old, **settings)
    absent = people.assign(score=people["score"].where(people.index >= 100))
    duckdb.from_df(absent).write_parquet(str(old))
    with pytest.raises(ValueError, match="score has no value in 100 of 4,000 rows"):
        audit(people, against=old, **settings)
    found = audit(people, against=old, missing="drop", **settings)
    expected = audit(people[100:].reset_index(drop=True), against=people[100:].reset_index(drop=True), **settings)
    np.testing.assert_allclose(found.differences.gaps["old"], expected.differences.gaps["old"], rtol=1e-6)
    assert found.counts.rows.sum() == 4000
    assert found.notes == (f"In the comparison with {old}: 100 of 4,000 rows were left out, since they lack score.",)
    with pytest.raises(ValueError, match="old.parquet has no column 'scores'|has no column 'scores'"):
        audit(people.rename(columns={"score": "scores"}), against=old, **{**settings, "score": "scores"})


def test_rows_without_a_key_are_not_dropped_from_a_comparison(people, table):
    keyless = people.assign(id=people["id"].where(people.index >= 3))
    with pytest.raises(ValueError, match="id must identify the rows, and has no value in 3 rows of the frame"):
        audit(keyless, label="y", score="score", groups="sex", against=table, pair_by="id")


def test_every_error_about_the_tables_comes_before_all_rows_are_counted(people, table, monkeypatch):
    def counted(*_):
        raise AssertionError("the rows were counted")

    monkeypatch.setattr(importlib.import_module("fairjax.auditing.audit"), "counted", counted)
    settings = {"label": "y", "score": "score", "groups": "sex"}
    with pytest.raises(FileNotFoundError, match="there is no file absent.csv"):
        audit(table, against="absent.csv", **settings)
    with pytest.raises(ValueError, match="the frame has no column 'score'"):
        audit(table, against=people.drop(columns="score"), **settings)


def test_attributes_called_like_columns_of_the_results_keep_their_values_or_are_refused(people):
    settings = {"label": "y", "score": "score", "bootstrap": 0}
    for name in ("count", "class", "groups", "measure", "weight"):
        frame = people.drop(columns="weight").rename(columns={"sex": name})
        assert audit(frame, groups=[name, "race"], **settings).by_group[name].tolist()[:2] == ["f", "f"]
    for name in ("rows", "selection_rate", "accuracy_low"):
        with pytest.raises(ValueError, match=f"by_group.csv has a column {name} of its own"):
            audit(people.rename(columns={"sex": name}), groups=name, **settings)
    with pytest.raises(ValueError, match="age is named as an attribute twice"):
        audit(people, groups=["age:25", "age:60"], **settings)


def test_edges_are_named_in_full(people):
    found = audit(people, label="y", score="score", groups="id:1234.25,3000")
    assert found.counts.names == ("under 1234.25", "1234.25 to 3000", "3000 and over")
    frame = people.assign(pay=people["id"] * 1000.0)
    names = audit(frame, label="y", score="score", groups="pay:1234567,1234568.5").counts.names
    assert names == ("under 1234567", "1234568.5 and over")


def test_no_difference_is_called_chance_without_draws(people, table):
    old = people.assign(score=people["score"] ** 2)
    text = str(audit(people, label="y", score="score", groups="sex", against=old, bootstrap=0))
    assert "SPD by sex changed by" in text and "chance" not in text
    text = str(audit(people, label="y", score="score", groups="sex", against=old, bootstrap=49))
    assert "p <= 0.02" in text and "p = 0.02" not in text


def test_an_audit_knows_all_its_settings(people):
    settings = {"label": "y", "score": "score", "groups": "sex", "positive": 1, "missing": "drop", "seed": 3}
    found = audit(people, measures="spd", bootstrap=0, **settings)
    assert {**settings, "measures": "spd", "threshold": 0.5, "most_groups": 50}.items() <= dict(found.options).items()
