"""Words, spellings, conditions and attributes as users write them."""

import numpy as np
import pandas as pd
import pytest

from fairjax.auditing import query
from fairjax.data.connection import connected
from fairjax.data.expressions import Attribute, Condition, check_spelling, positive_values, word
from fairjax.data.own_table import TableColumns, own_table
from fairjax.data.table_files import table_of


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


CASES = [
    ("x=1", ["1", "1.0", "01", "true", "+1", "2"], [True, True, False, False, True, False]),
    ("x=1", [1, 2, 1.5], [True, False, False]),
    ("x=1.5", ["1.50", "1.5", "15", "a"], [True, True, False, False]),
    ("x=05", ["05", "5", " 05 "], [True, False, True]),
    ("x!=05", ["05", "5"], [False, True]),
    ("x=yes", ["yes", " yes ", "no"], [True, True, False]),
    ("x!=yes", ["yes", "no", "1"], [False, True, True]),
    ("x=True", ["true", "TRUE", "1", "yes"], [True, True, False, False]),
    ("x=true", [True, False], [True, False]),
    ("x!=1", [1, 2], [False, True]),
    ("x>4", ["5", " 4.5", "4", "-1", "1e3"], [True, True, False, False, True]),
    ("x<=4", [5.0, 4.0, 3.5], [False, True, True]),
]
"""Conditions, a column, and in which rows they hold."""


@pytest.mark.parametrize(("text", "values", "expected"), CASES)
def test_a_condition_has_one_meaning_in_queries_and_in_frames(text, values, expected):
    frame = pd.DataFrame({"x": values, "g": ["a", "b", "a", "b", "a", "b"][: len(values)], "z": range(len(values))})
    condition = Condition.parse(text, ["x"])
    with connected() as connection:
        table = table_of(connection, frame)
        rows = connection.execute(f"SELECT {query.holds(table, condition)} FROM {table.sql}").fetchall()
    assert [row for (row,) in rows] == expected
    assert own_table(frame, TableColumns(label=text, protected=("g",))).dataset.y.tolist() == expected


@pytest.mark.parametrize("values", [[17, 25, 59.5, 60, 1e9], ["17", " 25", "59.5", "60.0", "1e9"]])
def test_edges_have_one_meaning_in_queries_and_in_frames(values):
    frame, attribute = pd.DataFrame({"age": values, "y": [0, 1, 0, 1, 1]}), Attribute("age", (25.0, 60.0))
    expected = [attribute.names[code] for code in (0, 1, 1, 2, 2)]
    with connected() as connection:
        columns = query.Columns("y", ("age:25,60",), decision="y")
        table = query.Query.of(table_of(connection, frame), columns)
        codes = connection.execute(f"SELECT g0 FROM ({table.rows()})").fetchall()
    assert [attribute.names[code] for (code,) in codes] == expected
    dataset = own_table(frame, TableColumns(label="y", protected=("age:25,60",), use_protected=True)).dataset
    assert [dataset.groups.names[code] for code in dataset.a] == expected
