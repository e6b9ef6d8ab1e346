"""Unit masks: which units are cut, compared with plain loops and NumPy's quantile."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from fairjax.nn import masks

UNITS = 9
drop = jax.jit(masks.drop, static_argnums=2)
drop_above = jax.jit(masks.drop_above)


def tree(keep, scores):
    """Return masks and scores of two layers with 4 and 5 units."""
    keep, scores = np.asarray(keep), np.asarray(scores, np.float32)
    return {"a": jnp.asarray(keep[:4]), "b": jnp.asarray(keep[4:])}, {
        "a": jnp.asarray(scores[:4]),
        "b": jnp.asarray(scores[4:]),
    }


def flat(masks_):
    return ravel_pytree(masks_)[0].tolist()


@given(
    keep=st.lists(st.booleans(), min_size=UNITS, max_size=UNITS),
    scores=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, -np.inf]), min_size=UNITS, max_size=UNITS),
    k=st.integers(0, UNITS),
)
def test_drop_takes_the_highest_of_those_kept_and_ties_by_position(keep, scores, k):
    masks_, scores_ = tree(keep, scores)
    candidates = [i for i in range(UNITS) if keep[i] and scores[i] > -np.inf]
    gone = sorted(candidates, key=lambda i: (-scores[i], i))[:k]
    assert flat(drop(masks_, scores_, k)) == [keep[i] and i not in gone for i in range(UNITS)]
    assert flat(masks_) == keep  # the given masks are unchanged


def test_ties_across_layers_go_by_position():
    masks_, scores_ = tree([True] * UNITS, [1, 2, 2, 0, 2, 2, 1, 0, 0])
    assert flat(drop(masks_, scores_, 3)) == [True, False, False, True, False, True, True, True, True]


def test_a_unit_is_never_cut_twice_until_all_are_gone():
    masks_, scores_ = tree([True] * UNITS, [0.3, 0.1, -0.2, 0.9, 0.5, 0.4, -0.7, 0.2, 0.8])
    order, kept = [], [True] * UNITS
    for _ in range(5):
        masks_ = drop(masks_, scores_, 2)
        new = flat(masks_)
        order.append({i for i in range(UNITS) if kept[i] and not new[i]})
        assert not any(new[i] and not kept[i] for i in range(UNITS))
        kept = new
    assert order == [{3, 8}, {4, 5}, {0, 7}, {1, 2}, {6}]
    assert masks.count(drop(masks_, scores_, 2)) == 0


@given(
    keep=st.lists(st.booleans(), min_size=UNITS, max_size=UNITS),
    scores=st.lists(st.floats(-2, 2, width=32), min_size=UNITS, max_size=UNITS),
    q=st.sampled_from([0.0, 0.5, 0.75, 8 / 9, 1.0]),
)
def test_drop_above_is_numpy_s_quantile_with_cut_units_at_0(keep, scores, q):
    masks_, scores_ = tree(keep, scores)
    new = flat(drop_above(masks_, scores_, q))
    cut = np.quantile(np.where(keep, np.float32(scores), np.float32(0)), q)
    for i in range(UNITS):
        if abs(scores[i] - cut) > 1e-5:  # a score at the quantile may be rounded either way
            assert new[i] == (keep[i] and not scores[i] > cut)


def test_spared_units_are_left_out_of_the_quantile():
    masks_, scores_ = tree([True] * UNITS, [-np.inf] * 4 + [1.0, 2.0, 3.0, 4.0, 5.0])
    assert flat(drop_above(masks_, scores_, 0.5)) == [True] * 7 + [False] * 2


def test_where_all_units_are_spared_none_goes():
    masks_, scores_ = tree([True] * UNITS, [-np.inf] * UNITS)
    assert flat(drop_above(masks_, scores_, 0.5)) == flat(drop(masks_, scores_, 4)) == [True] * UNITS


def test_a_score_that_is_not_a_number_spares_its_unit():
    masks_, scores_ = tree([True] * UNITS, [np.nan] + [1.0] * 3 + [2.0] * 4 + [np.nan])
    assert flat(drop(masks_, scores_, UNITS)) == [True] + [False] * 7 + [True]
    assert flat(drop_above(masks_, scores_, 0.25)) == [True] * 4 + [False] * 4 + [True]


def test_eager_jit_and_vmap_agree():
    masks_, scores_ = tree([True, False] * 4 + [True], np.sin(np.arange(UNITS)))
    other = jax.tree.map(lambda score: -score, scores_)
    both = jax.tree.map(lambda one, two: jnp.stack([one, two]), scores_, other)
    for function in (
        lambda scores: masks.drop(masks_, scores, 2),
        lambda scores: masks.drop_above(masks_, scores, 0.5),
    ):
        mapped = jax.vmap(function)(both)
        for i, one in enumerate((scores_, other)):
            alone = flat(function(one))
            assert alone == flat(jax.jit(function)(one)) == flat(jax.tree.map(lambda leaf, i=i: leaf[i], mapped))
            assert sum(alone) < 5


def test_counting():
    masks_, _ = tree([True, False] * 4 + [True], range(UNITS))
    assert (masks.count(masks_), masks.size(masks_)) == (5, UNITS)


@pytest.mark.parametrize("k", [-1, 10])
def test_more_units_than_there_are_are_refused(k):
    with pytest.raises(ValueError, match=f"k must be between 0 and the number of units, 9, got {k}"):
        masks.drop(*tree([True] * UNITS, range(UNITS)), k)
