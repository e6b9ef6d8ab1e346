"""Words, spellings, conditions and attributes as users write them."""

import numpy as np
import pytest

from fairjax.data.expressions import Attribute, Condition, check_spelling, positive_values, word


def test_conditions_and_attributes_are_read_as_written():
    assert Condition.parse("a b>=4.5", ["a b"]) == Condition("a b", ">=", "4.5")
    assert Condition.parse("race != 'White'", ["race"]) == Condition("race", "!=", "White")
    assert Condition.parse("x>1", ["x>1"]) is None
    assert Attribute.parse("a:b", ["a:b"]) == Attribute("a:b")
    assert Attribute.parse("age:-1,2.5", ["age"]).names == ("under -1", "-1 to 2.5", "2.5 and over")


@pytest.mark.parametrize("value", [True, np.True_, "True", "TRUE", " true "])
def test_truth_has_one_word(value):
    assert word(value) == "true"
    assert positive_values("repaid", ["false", "true"], value) == {"false": False, "true": True}


def test_values_that_differ_only_in_capitals_are_refused():
    with pytest.raises(ValueError, match="repaid has the values 'Yes' and 'yes', which differ only in capitals"):
        positive_values("repaid", ["Yes", "no", "yes"], "yes")
    check_spelling("sex", ["m", "f"])


@pytest.mark.parametrize("parse", [Condition.parse, Attribute.parse])
def test_a_column_that_does_not_exist_is_reported_with_the_table(parse):
    with pytest.raises(ValueError, match="old.csv has no column 'agee': did you mean age"):
        parse("agee>4" if parse == Condition.parse else "agee", ["age"], "old.csv")
