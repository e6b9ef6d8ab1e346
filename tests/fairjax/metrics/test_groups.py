"""Named groups: `fairjax.data.groups`, `memberships`, `continuous`, and data sets and splits that carry them."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from fairjax import by_group, data, datasets, metrics
from fairjax.data import continuous, from_arrays, groups, memberships, split, split_seeds
from fairjax.types import SHARED, WeightedBatch

FRAME = pd.DataFrame(
    {"race": ["w", "b", "w", "o", "b", "w", "b"], "sex": ["m", "f", "f", "m", "m", "m", "f"]},
    index=[5, 6, 7, 8, 9, 10, 11],
)
VALUES = st.lists(st.sampled_from(["a", "b", "c"]), min_size=2, max_size=30)


@given(VALUES, VALUES)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_intersections_are_those_of_pandas(first, second):
    rows = min(len(first), len(second))
    frame = pd.DataFrame({"x": first[:rows], "y": second[:rows]})
    expected = frame.groupby(["x", "y"]).size()
    if len(expected) < 2:
        with pytest.raises(ValueError, match="fewer than two groups can be compared"):
            groups(frame)
        return
    found = groups(frame)
    assert found.levels == tuple(expected.index)
    assert found.names == tuple(f"{x}, {y}" for x, y in expected.index)
    np.testing.assert_array_equal(found.counts, expected)
    codes = found.a.astype(int)
    assert [found.levels[code] for code in codes] == list(frame.itertuples(index=False, name=None))
    np.testing.assert_array_equal(found.encode(frame), found.a)
    assert found.blocks is None and found.compared == found.names


def test_all_kinds_of_columns_give_the_same_groups():
    words = ["m", "f", "m", "x"]
    expected = groups(words)
    assert (expected.names, expected.a.tolist(), expected.a.dtype) == (("f", "m", "x"), [1, 0, 1, 2], np.int32)
    kinds = [
        np.array(words),
        pd.Series(words),
        pd.Series(words, dtype="string"),
        pd.Categorical(words),
        pd.Index(words),
        pd.DataFrame({"sex": words}),
        {"sex": words},
        np.array(words)[:, None],
    ]
    for kind in kinds:
        np.testing.assert_array_equal(groups(kind).a, expected.a)
        assert groups(kind).names == expected.names
    assert groups(jnp.array([3, 1])).names == ("1", "3")
    assert groups([True, False, True]).a.tolist() == [True, False, True]
    # categories keep their order, and categories without rows are reported
    ordered = groups(pd.Categorical(["mid", "low"], categories=["low", "mid", "high"], ordered=True))
    assert ordered.names == ("low", "mid") and ordered.left_out == {"high": "no rows"}


def test_the_reference_comes_last():
    found = groups(FRAME, reference={"race": "b", "sex": "f"})
    assert found.names[-1] == "b, f" and found.names[0] == "o, m"
    two = groups(FRAME["sex"], reference="f")
    assert two.names == ("m", "f") and two.a.tolist() == (FRAME["sex"] == "f").tolist()
    with pytest.raises(ValueError, match="the reference 'x' is not among the values of sex: f, m"):
        groups(FRAME["sex"], reference="x")
    with pytest.raises(ValueError, match="reference must be a value by name, one of race, sex"):
        groups(FRAME, reference="b")
    with pytest.raises(ValueError, match="reference names age, attributes are race, sex"):
        groups(FRAME, reference={"age": 1})


def test_small_groups():
    with pytest.raises(ValueError, match=r"at least 2 rows, found fewer in 'o' \(1\): pool them"):
        groups(FRAME["race"], minimum=2)
    left = groups(FRAME["race"], minimum=2, small="leave out")
    assert left.names == ("b", "o", "w") and left.blocks == ((0, 2),) and left.compared == ("b", "w")
    assert left.left_out == {"o": "1 rows, fewer than 2"} and left.a.dtype == np.int32
    assert "left out: 1 rows" in str(left)
    assert groups(FRAME["race"], minimum=2, small="keep").blocks is None
    pooled = groups(["a", "b", "b", "c", "b"], minimum=2, small="pool")
    assert pooled.names == ("b", "other groups") and pooled.a.tolist() == [True, False, False, True, False]
    assert pooled.encode(["c", "b"]).tolist() == [True, False]
    with pytest.raises(ValueError, match="'o' have 1 together: leave them out"):
        groups(FRAME["race"], minimum=2, small="pool")
    with pytest.raises(ValueError, match=r"fewer than two groups .*w: nothing to compare it with"):
        groups(["w"] * 5 + ["b"], minimum=2, small="leave out")
    with pytest.raises(ValueError, match="small must be one of 'raise', 'pool', 'leave out', 'keep', got 'drop'"):
        groups(FRAME, small="drop")


def test_missing_values():
    column = pd.Series(["a", None, "b", np.nan], name="sex")
    with pytest.raises(ValueError, match=r"missing value of 'sex' in row 1 \(2 in all\)"):
        groups(column)
    with pytest.raises(ValueError, match="missing value of 'group' in row 1"):
        groups(["a", None, "b"])
    with pytest.raises(ValueError, match="missing value of 'group' in row 0"):
        groups(np.array([np.nan, 1.0, 2.0]))
    own = groups(column, missing="group", reference="a")
    assert own.names == ("b", "missing", "a") and own.a.tolist() == [2, 1, 0, 1] and own.blocks is None
    out = groups(column, missing="leave out")
    assert out.left_out == {"missing": "no value of sex"} and out.compared == ("a", "b")
    assert out.encode(["b", None]).tolist() == [1, 2]
    with pytest.raises(ValueError, match="sex has a missing value, which the groups were not made with"):
        groups(column.dropna(), reference="a").encode(column)


def test_new_rows_are_encoded_or_refused():
    found = groups(FRAME)
    assert found.encode(FRAME.iloc[::-1]).tolist() == found.a[::-1].tolist()
    with pytest.raises(ValueError, match="race has 'z', which the groups were not made with"):
        found.encode(pd.DataFrame({"race": ["z"], "sex": ["m"]}))
    with pytest.raises(ValueError, match="row 0 has a combination of race, sex that no row had"):
        found.encode({"race": ["o"], "sex": ["f"]})
    with pytest.raises(ValueError, match="the columns race are not there, found sex"):
        found.encode(FRAME[["sex"]])


def test_attributes_side_by_side_are_measured_within_each():
    side = groups(FRAME, intersect=False)
    assert side.names == ("race: b", "race: o", "race: w", "sex: f", "sex: m")
    assert side.blocks == ((0, 1, 2), (3, 4)) and side.a.dtype == bool
    decisions, y = np.array([1, 0, 0, 1, 1, 1, 0]), np.array([1, 0, 1, 0, 1, 0, 1])
    measure = from_arrays(np.eye(7), y, side).measure("spd")
    each = [
        metrics.make_measure("spd", 3)(decisions, y, groups(FRAME["race"]).a).item(),
        abs(metrics.spd(decisions, y, groups(FRAME["sex"]).a).item()),
    ]
    assert measure(decisions, y, side.a).item() == pytest.approx(max(each))


def test_strata_are_compared_within_each():
    strata = pd.Series([1, 1, 1, 2, 2, 2, 2], index=FRAME.index, name="site")
    found = groups(FRAME["sex"], strata=strata)
    assert found.names == ("f | 1", "f | 2", "m | 1", "m | 2") and found.blocks == ((0, 2), (1, 3))
    decisions, y = np.array([1, 0, 1, 0, 0, 1, 0]), np.ones(7, int) * [0, 1, 0, 1, 0, 1, 0]
    measure = from_arrays(np.eye(7), y, found).measure("spd")
    each = [
        abs(metrics.spd(decisions[rows], y[rows], (FRAME["sex"] == "m").to_numpy()[rows]).item())
        for rows in (strata.to_numpy() == 1, strata.to_numpy() == 2)
    ]
    assert measure(decisions, y, found.a).item() == pytest.approx(max(each))
    alone = groups(["f", "m", "m"], strata=[1, 1, 2])
    assert alone.left_out == {"m | 2": "nothing to compare it with in its stratum"}


BAD = {
    "lengths": (dict(columns={"a": [1, 2], "b": [1]}), "one length, found a 2, b 1"),
    "no rows": (dict(columns=[]), "at least one row"),
    "no columns": (dict(columns={}), "one or more columns of different names, found none"),
    "twice": (dict(columns=pd.DataFrame([[1, 2], [2, 1]], columns=["a", "a"])), "different names, found a, a"),
    "three axes": (dict(columns=np.ones((2, 2, 2))), "one column or several, found shape"),
    "same words": (dict(columns=pd.Series([1, "1", 2], dtype=object)), "several groups would be called '1'"),
    "index": (dict(columns=FRAME, strata=pd.Series(range(7))), "the index of strata differs from that of columns"),
}


@pytest.mark.parametrize("case", BAD)
def test_groups_refuses(case):
    options, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        groups(**options)


def test_memberships():
    shares = np.array([[0.7, 0.2], [0.1, 0.9], [0.5, 0.5]])
    found = memberships(shares, ("a", "b"), estimator="weighted")
    assert found.names == ("a", "b", "no group") and found.blocks == ((0, 1),)
    np.testing.assert_allclose(found.a.sum(axis=1), 1.0, atol=1e-6)
    measure = from_arrays(np.eye(3), [0, 1, 1], found).measure("spd")
    decisions = np.array([1, 0, 1])
    rates = decisions @ shares / shares.sum(axis=0)
    assert measure(decisions, [0, 1, 1], found.a).item() == pytest.approx(np.ptp(rates), abs=1e-6)
    flags = memberships(pd.DataFrame({"x": [True, False, False], "y": [True, True, False]}))
    assert flags.a.dtype == bool and flags.names == ("x", "y", "no group, 1", "no group, 2")
    assert (flags.a.sum(axis=1) == 2).all() and flags.membership is None
    with pytest.raises(ValueError, match="estimator must be one of 'weighted', 'solved', got None"):
        memberships(shares)
    with pytest.raises(ValueError, match='estimator "solved" every row must sum to 1, found 0.9 in row 0'):
        memberships(shares, estimator="solved")
    with pytest.raises(ValueError, match="sum to at most 1, found 1.2 in row 1"):
        memberships([[0.5, 0.5], [0.6, 0.6]], estimator="weighted")
    with pytest.raises(ValueError, match="in \\[0, 1\\], found -0.1"):
        memberships([[-0.1, 0.5], [0.6, 0.4]], estimator="weighted")
    with pytest.raises(ValueError, match="names must be 2 different ones"):
        memberships(shares, ("a", "a"), estimator="weighted")
    with pytest.raises(ValueError, match="memberships come from probabilities"):
        found.encode(shares)


def test_continuous_attributes():
    ages = np.array([20.0, 25.0, 30.0, 45.0, 60.0, 18.0, 70.0])
    found = continuous(pd.Series(ages, name="age"), knots=(20, 30, 60))
    assert found.names == ("age about 20", "age about 30", "age about 60") and found.membership == "weighted"
    expected = np.stack([np.interp(ages, (20, 30, 60), row) for row in np.eye(3)], axis=1)
    np.testing.assert_allclose(found.a, expected, atol=1e-6)
    np.testing.assert_allclose(found.encode(ages[::-1]), expected[::-1], atol=1e-6)
    # the gap weighted by size is the mean of |E[f | a] - E f|
    decisions, y = np.array([1, 1, 0, 0, 1, 0, 1]), np.array([1, 0, 1, 0, 1, 0, 1])
    measure = from_arrays(np.eye(7), y, found).measure("spd", across="mean_absolute")
    sizes = expected.sum(axis=0)
    rates = decisions @ expected / sizes
    by_hand = (sizes * np.abs(rates - decisions.mean())).sum() / sizes.sum()
    assert measure(decisions, y, found.a).item() == pytest.approx(by_hand, abs=1e-6)
    assert len(continuous(np.arange(100.0), 5)) == 5
    with pytest.raises(ValueError, match="values must be finite, found nan in row 1"):
        continuous([1.0, np.nan])
    with pytest.raises(ValueError, match="knots must be two or more finite numbers in increasing order"):
        continuous([1.0, 2.0], knots=(2, 1))
    with pytest.raises(ValueError, match="knots must be two or more finite numbers"):
        continuous([1.0, 1.0], knots=3)


def test_reports_take_named_groups():
    found = groups(FRAME["race"], minimum=2, small="leave out")
    decisions, y = [1, 0, 1, 1, 0, 1, 1], [1, 0, 1, 0, 1, 0, 1]
    report = by_group(decisions, y, found)
    assert report.names == found.names
    assert report.left_out[0].group == "o" and report.left_out[0].reason == "1 rows, fewer than 2"
    assert report.gaps(bootstrap=0)["selection_rate_difference"].groups == 2
    expected = abs(report.selection_rate[0] - report.selection_rate[2])
    assert report.gaps(bootstrap=0)["selection_rate_difference"].value == pytest.approx(expected)
    with pytest.raises(ValueError, match="have names already"):
        by_group(decisions, y, found, names=("a", "b"))
    side = by_group(decisions, y, groups(FRAME, intersect=False))
    assert side.names == ("race: b", "race: o", "race: w", "sex: f", "sex: m") and side.blocks == ((0, 1, 2), (3, 4))


def table(n=400, weights=None):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(n, 3))
    race = groups(generator.choice(["a", "b", "c"], n, p=[0.7, 0.2, 0.1]), reference="a")
    y = generator.choice(["low", "mid", "high"], n)
    return from_arrays(x, y, race, classes=("low", "mid", "high"), weights=weights)


def test_a_data_set_keeps_groups_classes_and_weights():
    made = table(weights=np.arange(400) % 3)
    assert made.group_names == ("b", "c", "a") and made.class_names == ("low", "mid", "high")
    assert (made.num_groups, made.num_classes, made.protected) == (3, 3, "group")
    assert made.y.dtype == np.int32 and made.a.dtype == np.int32
    assert made.measure("eod") == metrics.equal_opportunity(3, num_groups=3)
    assert made.measure("spd", across="variance", minimum=5).minimum == 5
    plain = from_arrays(np.eye(4), [0, 1, 0, 1], [0, 0, 1, 1])
    assert plain.measure("eod") is metrics.eod and plain.group_names == ("unprivileged", "privileged")
    two = from_arrays(np.eye(4), ["n", "y", "n", "y"], groups(list("mfmf")), classes=("n", "y"))
    assert two.y.tolist() == [False, True, False, True] and two.measure("spd") is metrics.spd
    with pytest.raises(ValueError, match="one of the classes n, y, found 'x' in row 2"):
        from_arrays(np.eye(3), ["n", "y", "x"], [0, 1, 1], classes=("n", "y"))
    with pytest.raises(ValueError, match="no row of y is of the class z"):
        from_arrays(np.eye(3), ["n", "y", "n"], [0, 1, 1], classes=("n", "y", "z"))
    with pytest.raises(ValueError, match="y must hold one of the classes n, y, found nan in row 2"):
        from_arrays(np.eye(3), ["n", "y", None], [0, 1, 1], classes=("n", "y"))
    with pytest.raises(ValueError, match="same length, found 3 and 4 rows"):
        from_arrays(np.eye(3), [0, 1, 1], groups([0, 1, 0, 1]))


def test_splits_carry_groups_classes_and_weights():
    weights = np.arange(400) % 3
    made = table(weights=weights)
    splits = split_seeds(made, (42, 73), measure=made.measure("spd"))
    assert splits.weights is not None and splits.a.dtype == jnp.int32
    parts = jax.vmap(lambda one: one.part("valid"), in_axes=(SHARED,))(splits)
    assert isinstance(parts, WeightedBatch)
    np.testing.assert_array_equal(parts.weights, weights[np.asarray(splits.valid)])
    np.testing.assert_array_equal(parts.y, made.y[np.asarray(splits.valid)])
    # the rows are those of the same table without weights and names
    plain = from_arrays(made.x, made.y == 1, made.a == 0)
    np.testing.assert_array_equal(splits.train, split_seeds(plain, (42, 73)).train)
    one = split(jax.random.key(1), made.x, made.y, made.a, weights=weights, num_groups=3, num_classes=3)
    jitted = jax.jit(split, static_argnames=("num_groups", "num_classes"))
    again = jitted(jax.random.key(1), made.x, made.y, made.a, weights=weights, num_groups=3, num_classes=3)
    np.testing.assert_array_equal(one.test, again.test)
    with pytest.raises(ValueError, match="a must hold codes from 0 to 1|a must hold 0 and 1 only"):
        split(jax.random.key(1), made.x, made.y, made.a, num_classes=3)
    with pytest.raises(ValueError, match="weights must be finite and not negative, found -1 in row 0"):
        split(jax.random.key(1), made.x, made.y == 1, made.a == 1, weights=weights - 1.0)
    side = groups({"x": made.a, "y": made.y}, intersect=False)
    members = split(jax.random.key(1), made.x, made.y == 1, side.a, num_groups=6)
    assert members.a.dtype == bool and members.part("test").a.shape == (80, 6)


def test_stratified_parts_have_their_share_of_every_cell():
    made = table()
    splits = split_seeds(made, range(20), stratify="group and label", measure=made.measure("eod"))
    cells = made.y * 3 + made.a
    whole = np.bincount(cells, minlength=9)
    for part, share in (("train", 0.6), ("valid", 0.2), ("test", 0.2)):
        for rows in np.asarray(getattr(splits, part)):
            assert np.abs(np.bincount(cells[rows], minlength=9) - share * whole).max() <= 1.5
    every = np.concatenate([splits.train, splits.valid, splits.test], axis=1)
    assert (np.sort(every, axis=1) == np.arange(400)).all()
    assert len({tuple(row) for row in np.asarray(splits.train)}) == 20
    with pytest.raises(ValueError, match="memberships cannot be stratified"):
        split(jax.random.key(0), made.x, made.y == 1, jnp.ones((400, 2)) / 2, num_groups=2, stratify="group and label")


def test_a_part_that_lacks_what_the_measure_compares_is_refused():
    n = 50
    a = np.array(["big"] * 24 + ["other"] * 24 + ["tiny"] * 2)
    y = np.arange(n) % 2
    made = from_arrays(np.random.default_rng(1).normal(size=(n, 2)), y, groups(a))
    message = r"seed \d+: the (valid|test) part \(10 rows\) has no row with group tiny; .* leave small groups out"
    with pytest.raises(ValueError, match=message):
        split_seeds(made, range(5))
    with pytest.raises(ValueError, match=r"no row with group tiny"):
        split_seeds(made, range(5), measure=made.measure("spd"))
    with pytest.raises(
        ValueError, match=r"no row with group (tiny|big|other) and label [01]; the measure is undefined"
    ):
        split_seeds(made, range(5), measure=made.measure("eod"), stratify="group and label")
    left = from_arrays(made.x, y, groups(a, minimum=10, small="leave out"))
    assert split_seeds(left, range(5), measure=left.measure("eod")).train.shape == (5, 30)
    # rows of weight 0 do not count
    weighted = from_arrays(made.x, y, groups(a, minimum=10, small="leave out"), weights=(a != "big") | (y == 0))
    with pytest.raises(ValueError, match="no row with group big and label 1"):
        split_seeds(weighted, range(5), measure=weighted.measure("eod"))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adult", {"protected": "age"}, "protected must be one or more of 'race', 'sex', found 'age'"),
        ("adult", {"protected": ()}, r"protected must be one or more of 'race', 'sex', found \(\)"),
        ("compas", {"protected": ("race", "race")}, "protected must be one or more of 'race', 'sex', found"),
        ("compas", {"target": "income"}, "target must be one of 'two_year_recid', 'score_text', found 'income'"),
    ],
)
def test_benchmarks_refuse_attributes_and_targets_they_lack(name, options, message):
    with pytest.raises(ValueError, match=message):
        datasets.DATASETS[name](**options)


def test_spaces_around_words_and_words_for_no_value_do_not_make_groups():
    assert data.groups([" Male", "Male ", "Female"]).names == ("Female", "Male")
    assert data.groups(pd.Categorical(["a ", "b"], categories=["a ", "b", "b "])).names == ("a", "b")
    found = data.groups(["x", "NaN", "", "y"], missing="leave out")
    assert found.compared == ("x", "y") and found.counts.tolist() == [1, 1, 2]
    with pytest.raises(ValueError, match="'X' and 'x' differ in capitals only"):
        data.groups(["x", "X", "y"])


def test_columns_of_different_indices_are_refused():
    one, other = pd.Series(["a", "b"]), pd.Series(["c", "d"], index=[1, 2])
    with pytest.raises(ValueError, match="the index of other differs from that of one"):
        data.groups({"one": one, "other": other})
    found = data.groups(pd.DataFrame({"one": one}))
    assert found.pandas_index.equals(one.index)
    with pytest.raises(ValueError, match="the index of a differs from that of x"):
        data.from_arrays(pd.DataFrame({"x": [0.0, 1.0]}, index=[1, 2]), np.array([0, 1]), found)


def test_solved_memberships_sum_to_1_in_every_row():
    with pytest.raises(ValueError, match="every row must sum to 1, found 0.8 in row 0"):
        data.memberships(np.full((4, 2), 0.4), estimator="solved")


@pytest.mark.parametrize("word", ["", "  ", "nan", "NaN", "none", "None", "NA", "<NA>", "null", "NULL", "n/a", "NaT"])
def test_words_for_no_value_are_missing_values(word):
    with pytest.raises(
        ValueError, match="missing value of 'group' in row 1 .*counts as missing, so write another word"
    ):
        groups(["a", word, "b"])
    assert groups(["a", word, "b"], missing="leave out").compared == ("a", "b")
    with pytest.raises(ValueError, match="group has a missing value, which the groups were not made with"):
        groups(["a", "b"]).encode(["a", word])


def test_a_value_that_is_called_missing_is_not_taken_for_a_missing_one():
    assert groups(["Missing", None, "b"], missing="group").names == ("Missing", "b", "missing value")


def test_arrays_of_pandas_keep_their_kind():
    found = groups(pd.array([1, None, 2], dtype="Int64"), missing="group")
    assert found.names == ("1", "2", "missing") and found.pandas_index is None
    assert groups(pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])).names == ("a, 1", "b, 2")


def test_bytes_and_spaces_of_a_reference_do_not_matter():
    assert groups(np.array([b"a", b"b "])).names == ("a", "b")
    assert groups([" a", "b"], reference=" a").names == ("b", "a")


def test_the_reference_comes_last_where_small_groups_are_pooled():
    found = groups(["a", "b", "c", "c", "d", "d"], minimum=2, small="pool", reference="c")
    assert found.names == ("other groups", "d", "c") and found.a.tolist() == [0, 0, 2, 2, 1, 1]
    assert found.encode(["d", "a"]).tolist() == [1, 0]
    two = groups(["a", "b", "c", "c"], minimum=2, small="pool", reference="c")
    assert two.names == ("other groups", "c") and two.a.tolist() == [False, False, True, True]
    with pytest.raises(ValueError, match="the reference 'a' has 1 rows, fewer than 2, and would be pooled"):
        groups(["a", "b", "c", "c"], minimum=2, small="pool", reference="a")


def test_continuous_attributes_keep_the_index_of_their_series():
    found = continuous(pd.Series([1.0, 2.0, 3.0], index=[3, 4, 5]), 2)
    assert found.pandas_index.tolist() == [3, 4, 5]
    with pytest.raises(ValueError, match="the index of a differs from that of x"):
        from_arrays(pd.DataFrame({"x": [1.0, 2.0, 3.0]}), [0, 1, 1], found)
    frame = pd.DataFrame({"a": [0.5, 1.0], "b": [0.5, 0.0]}, index=[7, 8])
    assert memberships(frame, estimator="weighted").pandas_index.tolist() == [7, 8]


def test_knots_have_different_names():
    found = continuous([1.0, 2.0, 3.0], (100000.1, 100000.2))
    assert found.names == ("value about 100000.1", "value about 100000.2")
    assert len(continuous([1.0, 2.0, 3.0], np.int64(2))) == 2


def test_memberships_and_their_rest_are_all_rows():
    found = memberships(np.full((4, 2), 0.4), estimator="weighted")
    assert found.names == ("group 0", "group 1", "no group") and found.blocks == ((0, 1),)
    np.testing.assert_allclose(found.counts, [1.6, 1.6, 0.8])
    nobody = memberships(np.zeros((3, 2), bool))
    assert nobody.counts.tolist() == [0, 0, 3]
    flags = pd.DataFrame({"x": [True, False], "y": [True, True]}).astype("boolean")
    assert memberships(flags, estimator="weighted").membership == "weighted" and memberships(flags).a.dtype == bool
    # gaps to the rate of all rows are the same from rows as from sums
    measure = metrics.demographic_parity(
        across=metrics.GAPS["kearns"], num_groups=3, blocks=found.blocks, membership="weighted"
    )
    shares = np.array([[0.8, 0.0], [0.0, 0.8], [0.4, 0.4], [0.0, 0.8]])
    members, decisions, y = memberships(shares, estimator="weighted").a, [1, 0, 1, 1], [0, 1, 1, 0]
    tensor = metrics.confusion(decisions, y, members, num_groups=3)
    assert measure.of_tensor(tensor).item() == pytest.approx(measure(decisions, y, members).item())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: groups(["a", "b"], minimum=-1), ValueError, "minimum must be a number of rows, .*got -1"),
        (lambda: groups({"sex": 3}), ValueError, r"the column 'sex' must have one value per row, found shape \(\)"),
        (lambda: groups({"sex": np.ones((2, 1))}), ValueError, r"found shape \(2, 1\): squeeze columns"),
        (lambda: groups([["a", "b"], ["a"]]), ValueError, "groups are not a regular array"),
        (lambda: groups(np.array([1j, 2])), TypeError, "found dtype complex128: pass its real part"),
        (lambda: groups(np.array([1, 2], "datetime64[D]")), TypeError, "make ranges of times with pandas.cut"),
        (lambda: groups(scipy.sparse.eye(2)), TypeError, r"sparse matrix, which fairjax does not take: pass .toarray"),
        (lambda: groups({"a": scipy.sparse.eye(2)}), TypeError, "sparse matrix"),
        (lambda: groups(np.ma.array([1, 2], mask=[0, 1])), TypeError, "masked array with masked entries"),
        (lambda: groups(pd.Series([True, 1, "a"], dtype=object)), TypeError, "of which True and 1 are the same"),
        (lambda: jax.jit(lambda a: groups(a).a)(jnp.array([0, 1])), TypeError, "groups are made on the host"),
        (lambda: groups({"stratum s": list("abab")}, strata={"s": list("xxyy")}), ValueError, "rename one of them"),
        (lambda: continuous([], (1, 2)), ValueError, "expected at least one row"),
        (lambda: continuous([1.0, 2.0], ("a", "b")), TypeError, "knots must hold numbers"),
        (lambda: continuous([1.0, 2.0], True), ValueError, "knots must be a number of at least two"),
        (lambda: memberships(np.ones((0, 2)), estimator="weighted"), ValueError, "one or more samples"),
        (lambda: memberships(np.eye(2), "ab", estimator="weighted"), ValueError, "found the string 'ab'"),
        (lambda: memberships(np.eye(2), ("A", "a"), estimator="weighted"), ValueError, "would be called 'A'"),
        (
            lambda: memberships([[0.5, 0.4], [1, 0]], ("a", "no group"), estimator="weighted"),
            ValueError,
            "several groups would be called 'no group'",
        ),
        (
            lambda: data.Groups(np.array([0, 2], np.int32), ("a", "b"), ("x",), (("a",), ("b",)), np.array([1, 1])),
            ValueError,
            "codes from 0 to 1 or have 2 columns, one per name, found shape",
        ),
        (lambda: from_arrays(np.eye(2), ["1", "1"], [0, 1], classes=(1, "1")), ValueError, "values of different names"),
        (lambda: from_arrays(np.eye(2), [[1], [2]], [0, 1], classes=(1, 2)), ValueError, "one label per row"),
        (lambda: from_arrays(np.eye(2), [0, 1], [0, 1], features="ab"), ValueError, "found the string 'ab'"),
    ],
)
def test_odd_inputs_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_boolean_column_that_lacks_values_is_taken():
    found = groups(pd.Series([True, False, np.nan, None], dtype=object), missing="group")
    assert found.names == ("False", "True", "missing") and found.counts.tolist() == [1, 1, 2]
