"""AIF360's data sets in and out."""

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
