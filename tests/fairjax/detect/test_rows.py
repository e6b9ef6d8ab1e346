"""Chunks of rows, the logit to explain, and rows that depend on each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax.detect.rows import check_row_wise, logits_of, map_chunks, num_rows


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 8, None])
def test_chunks_give_what_all_rows_at_once_give(chunk):
    rows = {"x": jnp.arange(14.0).reshape(7, 2), "n": jnp.arange(7)}

    def function(rows):
        return {"sum": jnp.sum(rows["x"], axis=1) + rows["n"].astype(jnp.float32), "x": rows["x"]}

    expected, found = function(rows), jax.jit(lambda rows: map_chunks(function, rows, chunk=chunk))(rows)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_rows_are_counted_and_must_agree():
    with pytest.raises(ValueError, match="the same number of rows.*2, 3"):
        num_rows((np.ones(2), np.ones(3)))
    with pytest.raises(ValueError, match="at least one"):
        num_rows(np.ones((0, 3)))
    with pytest.raises(ValueError, match="chunk must be a positive number"):
        map_chunks(lambda x: x, jnp.ones(3), chunk=0)


def test_the_logit_is_that_of_the_class_named():
    def binary(variables, x, *, shifts=None, key=None):
        return x[:, 0], variables

    def several(variables, x, *, shifts=None, key=None):
        return x, variables

    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(logits_of(binary, {}, x), [0, 3])
    np.testing.assert_array_equal(logits_of(binary, {}, x, 0), [0, -3])
    np.testing.assert_array_equal(logits_of(several, {}, x, 2), [2, 5])
    for apply, target in ((binary, 2), (several, None), (several, 3), (several, -1)):
        with pytest.raises(ValueError, match="target must"):
            logits_of(apply, {}, x, target)


def test_a_network_whose_rows_depend_on_each_other_is_refused():
    def centred(variables, x, *, shifts=None, key=None):
        return x[:, 0] - jnp.mean(x), variables

    with pytest.raises(ValueError, match="depends on the other rows"):
        check_row_wise(centred, {}, jnp.arange(6.0).reshape(3, 2))
    check_row_wise(lambda variables, x, **_: (x[:, 0], variables), {}, jnp.arange(6.0).reshape(3, 2))
