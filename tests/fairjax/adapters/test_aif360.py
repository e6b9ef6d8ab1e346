"""Conversion from and to AIF360's data sets."""

import jaxtyping
import numpy as np
import pandas as pd
import pytest
from aif360.datasets import BinaryLabelDataset

from fairjax import data
from fairjax.adapters.aif360 import from_aif360, to_aif360
from fairjax.data import from_arrays


def theirs(codes=(0.0, 1.0), favorable=1.0, privileged=(1.0,), names=("sex",)):
    rng = np.random.default_rng(0)
    n = 40
    frame = pd.DataFrame(rng.normal(size=(n, 2)), columns=["income", "age"])
    for name in names:
        frame[name] = rng.integers(0, 2, n).astype(float)
    frame["label"] = rng.choice(codes, n)
    made = BinaryLabelDataset(
        df=frame,
        label_names=["label"],
        protected_attribute_names=list(names),
        favorable_label=favorable,
        unfavorable_label=next(code for code in codes if code != favorable),
    )
    made.privileged_protected_attributes = [np.array(privileged) for _ in names]
    made.unprivileged_protected_attributes = [np.setdiff1d([0.0, 1.0], privileged) for _ in names]
    return made, frame


def test_a_round_trip_keeps_rows_labels_and_groups():
    made, frame = theirs()
    ours = from_aif360(made)
    assert ours.features == ("income", "age", "sex") and ours.protected == "sex"
    np.testing.assert_array_equal(ours.y, frame["label"] == 1)
    np.testing.assert_array_equal(ours.a, frame["sex"] == 1)
    again = from_aif360(to_aif360(ours))
    np.testing.assert_array_equal(again.x[:, :3], ours.x)
    np.testing.assert_array_equal(again.y, ours.y)
    np.testing.assert_array_equal(again.a, ours.a)


def test_labels_coded_0_and_1_stay_as_coded_though_0_is_favorable():
    made, frame = theirs(favorable=0.0)
    np.testing.assert_array_equal(from_aif360(made).y, frame["label"] == 1)


def test_of_other_codes_the_favorable_one_becomes_1():
    made, frame = theirs(codes=(1.0, 2.0), favorable=1.0)
    np.testing.assert_array_equal(from_aif360(made).y, frame["label"] == 1)


def test_the_privileged_value_is_theirs():
    made, frame = theirs(privileged=(0.0,))
    np.testing.assert_array_equal(from_aif360(made).a, frame["sex"] == 0)


def test_one_of_several_attributes_must_be_named():
    made, frame = theirs(names=("sex", "race"))
    with pytest.raises(ValueError, match="has the protected attributes sex, race; name one"):
        from_aif360(made)
    with pytest.raises(ValueError, match="must be one of sex, race, got 'age'"):
        from_aif360(made, protected="age")
    np.testing.assert_array_equal(from_aif360(made, protected="race").a, frame["race"] == 1)


def test_decisions_and_scores_take_the_place_of_labels():
    table = from_arrays(np.arange(6.0)[:, None], [0, 1, 0, 1, 0, 1], [0, 0, 0, 1, 1, 1])
    scores = np.linspace(0.1, 0.9, 6)
    made = to_aif360(table, labels=scores > 0.5, scores=scores)
    np.testing.assert_array_equal(made.labels[:, 0], scores > 0.5)
    np.testing.assert_array_equal(made.scores[:, 0], scores)
    with pytest.raises(ValueError, match=r"scores must be 6 numbers, one per row, got shape \(3,\)"):
        to_aif360(table, scores=scores[:3])


def test_many_groups_are_refused():
    table = from_arrays(np.eye(3), [0, 1, 1], data.groups(["a", "b", "c"]))
    with pytest.raises(ValueError, match="AIF360 knows two groups and two labels, and the data set has 3 groups"):
        to_aif360(table)
    two = to_aif360(table._replace(a=table.a == 0, groups=None))
    assert two.protected_attributes.ravel().tolist() == [1.0, 0.0, 0.0]


def small(**changes):
    """Return a data set of six rows."""
    made = from_arrays(
        np.arange(12.0).reshape(6, 2), [0, 1, 0, 1, 0, 1], [0, 0, 0, 1, 1, 1], features=("age", "pay"), protected="sex"
    )
    return made._replace(**changes)


LABELS = np.array([0, 1, 1, 1, 0, 1])
BACKWARDS = pd.RangeIndex(6)[::-1]
REFUSED = {
    "labels in another order": ({}, {"labels": pd.Series(LABELS, index=BACKWARDS)}, "the index of labels is not 0, 1"),
    "scores of other rows": ({}, {"scores": pd.Series(0.1 * LABELS, index=BACKWARDS)}, r"pass scores.to_numpy\(\)"),
    "labels that lack": ({}, {"labels": np.where(LABELS, np.nan, 0)}, "labels must hold 0 and 1 only, found 4 missing"),
    "labels 1 and 2": ({}, {"labels": LABELS + 1}, "labels must hold 0 and 1 only, found 1, 2"),
    "a column of labels": ({}, {"labels": LABELS[:, None]}, r"pass labels\[:, 0\]"),
    "scores as labels": ({}, {"labels": 0.3 * LABELS}, "labels must hold 0 and 1 only, found 0, 0.3"),
    "logits": ({}, {"scores": 4.0 * LABELS}, r"scores must be in \[0, 1\], found 4 in row 1"),
    "scores that are NaN": ({}, {"scores": np.full(6, np.nan)}, "found nan in row 0"),
    "memberships": ({"a": np.eye(2)[LABELS]}, {}, "a must have one number per row"),
    "groups 1 and 2": ({"a": LABELS + 1}, {}, "a must hold 0 and 1 only, found 1, 2"),
    "too few groups": ({"a": LABELS[:3]}, {}, r"a must be 6 numbers, one per row, got shape \(3,\)"),
    "features that lack": ({"x": np.full((6, 2), np.nan)}, {}, "x must be finite, found nan in row 0 of 'age'"),
    "features of one name": ({"features": ("age", "age")}, {}, "found 2 names, 1 of them different"),
    "too few names": ({"features": ("age",)}, {}, r"found 1 names, .* for x of shape \(6, 2\)"),
    "negative weights": ({"weights": -np.ones(6)}, {}, "weights must be finite and not negative"),
    "too few weights": ({"weights": np.ones(3)}, {}, "weights must be 6 numbers"),
}


@pytest.fixture
def untyped():
    """Disable the tests' type checks, which would fail first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("case", REFUSED)
def test_what_aif360_would_take_wrongly_or_refuse_without_a_way_out_is_refused(case):
    changes, options, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        to_aif360(small(**changes), **options)


@pytest.mark.usefixtures("untyped")
def test_other_kinds_of_objects_are_refused():
    with pytest.raises(TypeError, match="labels must hold numbers or booleans, found dtype"):
        to_aif360(small(), labels=np.where(LABELS, "yes", "no"))
    with pytest.raises(TypeError, match="labels is a masked array with masked entries"):
        to_aif360(small(), labels=np.ma.masked_array(LABELS, LABELS == 0))
    for changes, options in (({}, {"labels": data.groups(LABELS)}), ({"a": data.groups(LABELS)}, {})):
        with pytest.raises(TypeError, match="must be an array, found Groups: pass their column, groups.a"):
            to_aif360(small(**changes), **options)
    with pytest.raises(TypeError, match="dataset must be a fairjax.data.Dataset, found ndarray"):
        to_aif360(np.eye(3))
    with pytest.raises(TypeError, match="dataset must be AIF360's BinaryLabelDataset, found DataFrame"):
        from_aif360(pd.DataFrame(np.eye(3)))


@pytest.mark.usefixtures("untyped")
def test_labels_with_the_index_of_the_rows_are_taken():
    made = to_aif360(small(), labels=pd.Series(LABELS), scores=pd.Series(0.5 * LABELS))
    assert made.labels[:, 0].tolist() == LABELS.tolist() and made.scores[:, 0].tolist() == (0.5 * LABELS).tolist()


@pytest.mark.parametrize(
    ("features", "protected"), [(("label", "pay"), "sex"), (("age", "pay"), "label"), (("age", "age (group)"), "age")]
)
def test_no_feature_is_overwritten_by_the_label_or_the_group(features, protected):
    made = to_aif360(small(features=features, protected=protected))
    assert tuple(made.feature_names[:2]) == features and made.features.shape == (6, 3)
    np.testing.assert_array_equal(made.features[:, :2], small().x)
    np.testing.assert_array_equal(made.labels[:, 0], small().y)
    np.testing.assert_array_equal(from_aif360(made).a, small().a)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (
            "labels",
            np.resize([0.0, 1.0, 2.0], (40, 1)),
            "must be the unfavorable or the favorable one, 0 or 1, found 2",
        ),
        ("labels", np.resize([0.0, np.nan, 1.0], (40, 1)), "found nan in row 1"),
        ("labels", np.zeros((40, 2)), r"one label per row, found labels of shape \(40, 2\)"),
        (
            "protected_attributes",
            np.resize([0.0, 1.0, 2.0], (40, 1)),
            "either privileged or unprivileged, found 2 in row 2",
        ),
        ("protected_attributes", np.resize([0.0, np.nan, 1.0], (40, 1)), "found nan in row 1"),
        ("privileged_protected_attributes", [], "lists of privileged and unprivileged values of 0 and 1"),
        ("feature_names", ["income"], r"names 1 features, found features of shape \(40, 3\)"),
        ("protected_attribute_names", [], "the data set has no protected attribute"),
    ],
)
def test_values_that_aif360_does_not_explain_are_refused(name, values, message):
    made, _ = theirs()
    setattr(made, name, values)
    with pytest.raises(ValueError, match=message):
        from_aif360(made)


def test_labels_of_one_of_two_codes_are_not_taken_for_0_and_1():
    made, _ = theirs(codes=(1.0, 2.0), favorable=2.0)
    np.testing.assert_array_equal(from_aif360(made).y, made.labels[:, 0] == 2)
    made.labels[:] = 1.0
    with pytest.raises(ValueError, match="found only 0 in all 40 rows"):
        from_aif360(made)
