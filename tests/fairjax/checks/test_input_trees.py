"""Checks of inputs that are arrays or trees of arrays."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from fairjax.checks import check_index, check_layout, check_rows, checked_inputs, input_layout, is_tree


class Pair(NamedTuple):
    left: np.ndarray
    right: np.ndarray


ONES = np.ones((3, 2))


@pytest.mark.parametrize("x", [{"a": ONES}, (ONES, ONES), Pair(ONES, ONES), {"a": {"b": [1, 2, 3]}}])
def test_containers_of_arrays_are_trees(x):
    assert is_tree(x)


@pytest.mark.parametrize(
    "x", [ONES, [[1, 2], [3, 4]], [ONES[0], ONES[0]], ((1, 2), (3, 4)), pd.DataFrame(ONES), 3, None]
)
def test_arrays_frames_and_lists_are_no_trees(x):
    assert not is_tree(x)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("float64", "float32"),
        ("float16", "float16"),
        ("int64", "int32"),
        ("uint8", "uint8"),
        ("bool", "bool"),
        (jnp.bfloat16, "bfloat16"),
    ],
)
def test_dtypes_are_kept_in_32_bits(given, kept):
    values = np.arange(6).reshape(3, 2).astype(given)
    tree, valid = checked_inputs("x", {"a": values, "b": (values,)})
    assert valid is None and str(tree["a"].dtype) == str(tree["b"][0].dtype) == kept
    np.testing.assert_array_equal(np.asarray(tree["a"]).astype(float), values.astype(float))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ({"a": ONES, "b": np.ones(2)}, ValueError, r"x\['b'\] must have 3 rows on axis 0.*found shape \(2,\)"),
        ({"a": np.float32(3.0)}, ValueError, r"x\['a'\] must have rows on axis 0"),
        ({"a": np.ones((0, 2))}, ValueError, r"x\['a'\] must have rows on axis 0, at least one"),
        ({"a": np.array([0, np.nan, 1])}, ValueError, r"x\['a'\] has missing.*\(nan\) in row 1"),
        ({"a": np.array([0, 1, 1e300])}, ValueError, r"infinite values in float32, the first \(1e\+300\) in row 2"),
        ({"a": np.array([1, 2**31, 3])}, ValueError, r"values beyond int32, the first \(2147483648\) in row 1"),
        ({"a": np.array(["u", "v"])}, TypeError, r"x\['a'\] must hold numbers"),
        ({"a": np.array([1j])}, TypeError, r"x\['a'\] must hold numbers"),
        ({"a": np.ma.masked_array([1, 2], [True, False])}, TypeError, r"x\['a'\] is a masked array"),
        ({"a": scipy.sparse.eye(3).tocsr()}, TypeError, r"x\['a'\] is a sparse matrix"),
        ({}, TypeError, "x must hold arrays, found a dict without any"),
    ],
)
def test_what_is_no_input_is_refused(x, error, message):
    with pytest.raises(error, match=message):
        checked_inputs("x", x)


def test_a_row_of_a_large_array_is_named(monkeypatch):
    monkeypatch.setattr("fairjax.checks.inputs._SIZE", 8)
    values = np.ones((100, 3), np.float32)
    values[57, 1] = np.inf
    with pytest.raises(ValueError, match=r"the first \(inf\) in row 57"):
        checked_inputs("x", values)
    with pytest.raises(ValueError, match=r"the first \(inf\) in row 1057"):
        checked_inputs("x", values, first=1000)


def test_traced_values_are_valid_or_not():
    finite = jax.jit(lambda x: checked_inputs("x", x)[1])
    assert finite({"a": jnp.ones(3), "b": jnp.arange(3)}) and not finite({"a": jnp.array([1.0, jnp.nan, 1.0])})


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ({"a": np.ones((2, 4), np.float32), "b": np.ones(2, int)}, r"x\['a'\] must have rows of shape \(3,\)"),
        ({"a": np.ones((2, 3), np.float32), "b": np.ones(2)}, r"x\['b'\] must hold integers"),
        ({"a": np.ones((2, 3), np.uint8), "b": np.ones(2, int)}, r"x\['a'\] must hold floats.*found uint8"),
        ({"a": np.ones((2, 3))}, r"x must have the structure of the split's table, arrays \['a'\], \['b'\]"),
    ],
)
def test_rows_unlike_those_before_are_refused(x, message):
    layout = input_layout({"a": np.ones((5, 3), np.float32), "b": np.ones(5, np.int32)})
    with pytest.raises(ValueError, match=message):
        check_layout("x", x, layout)


def test_numbers_of_rows_are_compared_with_those_of_the_labels():
    with pytest.raises(ValueError, match=r"batch.x\['b'\] must have 1,000 rows.*found shape \(3, 2\)"):
        check_rows("batch.x", {"a": np.ones(1000), "b": ONES}, 1000)


def test_indices_of_columns_in_a_dictionary_are_compared():
    with pytest.raises(ValueError, match=r"the index of y differs from that of x\['age'\]"):
        check_index(x={"age": pd.Series([1, 2], index=[4, 5])}, y=pd.Series([0, 1], index=[5, 4]))
