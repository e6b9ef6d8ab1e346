"""Perturbations of inputs, compared with loops in NumPy, and their messages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairjax.detect import compose, flip, permute_within, replace, shift_to_group, swap_categories, swap_tokens

KEY = jax.random.key(3)
STRATA = np.array([0, 1, 0, 1, 0, 1])
"""Strata of the rows of `table`."""


def table():
    """Return six rows: a standardised 0/1 column, a number, and three one-hot columns, of which one is standardised."""
    a = np.array([1, 0, 1, 1, 0, 0.0])
    category = np.array([0, 1, 2, 1, 0, 2])
    one_hot = np.eye(3)[category] * [1, 2, 1] - [0, 0.5, 0]
    columns = [(a - 0.5) / 0.3, np.arange(6.0), *one_hot.T]
    return jnp.asarray(np.stack(columns, axis=1), jnp.float32)


PERTURBATIONS = {
    "flip": flip(0),
    "flip with values": flip(0, values=(0.5 / 0.3, -0.5 / 0.3)),
    "replace": replace([0, 1], [0.25, 4]),
    "permute": permute_within([1, 2], STRATA, KEY),
    "swap categories": swap_categories([2, 3, 4], 0, 1),
    "shift": shift_to_group([0, 1], table(), STRATA),
    "compose": compose(flip(0), swap_categories({"a": 2, "b": 3, "c": 4}, "a", "c")),
}
SWAP_TOKENS = jax.jit(swap_tokens([(2, 7), (9, 0)]))


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_eager_jit_and_vmap_agree_and_only_named_columns_change(name):
    x, perturb = table(), PERTURBATIONS[name]
    eager = perturb(x)
    for jitted in jax.jit(lambda argument, x: (argument(x), perturb(table())))(perturb, x):
        np.testing.assert_array_equal(jitted, eager)
    np.testing.assert_array_equal(jax.vmap(perturb)(x[None])[0], eager)
    np.testing.assert_array_equal(perturb(x), eager)  # a function, although it may hold a random key
    changed = set(np.flatnonzero(np.any(np.asarray(eager != x), axis=0)).tolist())
    expected = {"flip": {0}, "flip with values": {0}, "swap categories": {2, 3}, "compose": {0, 2, 4}}
    expected |= {"permute": {1, 2}}
    assert changed and changed <= expected.get(name, {0, 1})
    assert eager.dtype == x.dtype


def test_flipping_twice_returns_the_rows():
    x = table()
    once = flip(0)(x)
    np.testing.assert_array_equal(once[:, 0], -x[:, 0])
    np.testing.assert_array_equal(flip(0)(once), x)
    np.testing.assert_allclose(PERTURBATIONS["flip with values"](x), once, rtol=1e-6)


@pytest.mark.parametrize("dtype", [bool, np.int32, np.uint8, np.float32])
def test_named_columns_of_any_dtype_are_flipped(dtype):
    x = {"a": np.array([0, 1, 1], dtype), "table": np.array([[1.0, 2.0], [3.0, 2.0], [1.0, 2.0]], np.float32)}
    once = flip("a")(x)
    assert once["a"].tolist() == np.array([1, 0, 0], dtype).tolist() and once["a"].dtype == dtype
    np.testing.assert_array_equal(once["table"], x["table"])
    assert flip(("table", 0))(x)["table"].tolist() == [[3, 2], [1, 2], [3, 2]]
    assert flip("a", values=(0, 1))(x)["a"].tolist() == once["a"].tolist()


def test_rows_are_permuted_within_their_stratum_and_columns_together():
    x = jnp.stack([jnp.arange(40.0), -jnp.arange(40.0), jnp.ones(40)], axis=1)
    strata = np.arange(40) % 3 == 0
    permuted = np.asarray(permute_within([0, 1], strata, KEY)(x))
    np.testing.assert_array_equal(permuted[:, 0], -permuted[:, 1])
    for each in (True, False):
        rows = np.flatnonzero(strata == each)
        assert sorted(permuted[rows, 0].tolist()) == rows.tolist()
        assert permuted[rows, 0].tolist() != rows.tolist()
    other = permute_within([0, 1], strata, jax.random.key(4))(x)
    assert not np.array_equal(other, permuted)


def test_one_number_replaces_several_columns_and_all_rows_are_one_stratum():
    x = table()
    np.testing.assert_array_equal(replace([0, 1], 0.5)(x)[:, :2], 0.5)
    permuted = permute_within(1, None, KEY)(x)
    assert sorted(permuted[:, 1].tolist()) == list(range(6)) and permuted[:, 1].tolist() != list(range(6))


def test_every_order_of_a_stratum_is_equally_likely():
    x = jnp.arange(3.0)[:, None]
    keys = jax.random.split(KEY, 3000)
    orders = jax.jit(jax.vmap(lambda key: permute_within(0, np.zeros(3), key)(x)[:, 0]))(keys)
    counts = np.unique(np.asarray(orders), axis=0, return_counts=True)[1]
    assert len(counts) == 6 and np.all(np.abs(counts - 500) < 100)


def test_categories_keep_the_numbers_of_their_columns():
    x = np.asarray(table())
    swapped = np.asarray(PERTURBATIONS["swap categories"](x))
    for before, after in zip(x, swapped, strict=True):
        was_first, was_second = before[2] == 1, before[3] == 1.5
        assert after[2] == (1 if was_second else 0) and after[3] == (1.5 if was_first else -0.5)
        np.testing.assert_array_equal(after[[0, 1, 4]], before[[0, 1, 4]])
    levels = [[0, -0.5, 0], [1, 1.5, 1]]
    np.testing.assert_array_equal(swap_categories([2, 3, 4], 0, 1, levels=levels)(x), swapped)
    first = x[x[:, 2] == 1]  # rows of one category, for which levels must be given
    changed = np.asarray(swap_categories([2, 3, 4], 0, 1, levels=levels)(first))
    np.testing.assert_array_equal(changed[:, 2:], np.tile([0, 1.5, 0], (len(first), 1)))


@given(st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=2, max_size=2))
def test_swapped_tokens_are_those_of_a_loop(rows):
    pairs = {2: 7, 7: 2, 9: 0, 0: 9}
    x = np.array(rows, np.int32)
    expected = [[pairs.get(token, token) for token in row] for row in rows]
    once = SWAP_TOKENS(x)
    assert once.tolist() == expected
    assert SWAP_TOKENS(once).tolist() == rows


def test_named_tokens_are_swapped():
    x = {"text": np.array([[2, 1]]), "age": np.ones(1)}
    assert swap_tokens([(2, 7), (9, 0)], column="text")(x)["text"].tolist() == [[7, 1]]


def test_a_shift_exchanges_the_group_means():
    x, a = table(), np.array([1, 0, 0, 1, 1, 0], bool)
    shifted = np.asarray(shift_to_group([0, 1], x, a)(x))
    x = np.asarray(x)
    for column in (0, 1):
        assert shifted[a, column].mean() == pytest.approx(x[~a, column].mean(), abs=1e-6)
        assert shifted[~a, column].mean() == pytest.approx(x[a, column].mean(), abs=1e-6)
    rest = shift_to_group(1, x, a, rows_a=~a[:2])(x[:2])
    np.testing.assert_allclose(rest[:, 1], x[:2, 1] + (x[a, 1].mean() - x[~a, 1].mean()) * np.array([1, -1]), rtol=1e-6)
    maps = {"maps": np.arange(24.0).reshape(6, 2, 2)}
    assert shift_to_group("maps", maps, a)(maps)["maps"].shape == (6, 2, 2)


def test_traced_rows_that_cannot_be_perturbed_become_nan():
    x = jnp.array([[0.0, 5.0], [1.0, 6.0], [0.5, 7.0]])
    for perturb, invalid in (
        (flip(0), [False, False, True]),
        (flip(0, values=(0, 1)), [False, False, True]),
        (flip(1, values=(5, 6)), [False, False, True]),
        (permute_within(1, None, KEY), [False, False, False]),
        (swap_categories([0, 1], 0, 1), [True, False, False]),
        (compose(replace(1, 1.0), flip(0)), [False, False, True]),
    ):
        found = jax.jit(perturb)(x)
        assert np.isnan(np.asarray(found)).all(axis=1).tolist() == invalid
    constant = jax.jit(flip(0))(jnp.ones((3, 2)))
    assert np.isnan(np.asarray(constant)).all()
    alone = jax.jit(lambda strata: permute_within(0, strata, KEY)(x))(jnp.array([1, 2, 1]))
    assert np.isnan(np.asarray(alone)).all(axis=1).tolist() == [False, True, False]
    codes = jax.jit(lambda a: shift_to_group(0, x, a)(x))(jnp.array([1, 0, 2]))
    assert np.isnan(np.asarray(codes)).all()
    empty = jax.jit(lambda a: shift_to_group(0, x, a)(x))(jnp.ones(3, bool))
    assert np.isnan(np.asarray(empty[:, 0])).all()
    integers = jax.jit(lambda x, value: replace(0, value)(x))
    with pytest.raises(TypeError, match="inputs that are all integers cannot be made NaN"):
        integers(jnp.ones((2, 2), jnp.int32), 0.5)
    mixed = jax.jit(lambda x, value: replace("n", value)(x))({"n": jnp.ones(2, jnp.int32), "f": jnp.ones(2)}, 0.5)
    assert np.isnan(np.asarray(mixed["f"])).all()


X = np.array([[1.0, 2.0, 0.0], [2.0, 2.0, 1.0], [3.0, 2.0, 0.0]], np.float32)
NAMED = {"age": X[:, 0], "table": X, "image": np.ones((3, 2, 2))}


@pytest.mark.parametrize(
    ("make", "x", "message"),
    [
        (lambda: flip(1), X, r"column 1 is 2 in all rows.*flip\(1, values=\(2, ...\)\)"),
        (lambda: flip(0), X, "column 0 has 3 different values and can be flipped only between two.*permute_within"),
        (lambda: flip(0, (1, 2)), X, "column 0 must hold 1 or 2 to be flipped, found 3 in row 2.*standardised if x is"),
        (lambda: flip(0, (7, 8)), X, "found 1 in 3 rows, the first of them row 0"),
        (lambda: flip(0, (7, 7)), X, "values must be two different finite numbers, got"),
        (lambda: flip(0, (7, np.nan)), X, "values must be two different finite numbers, got"),
        (lambda: flip(9), X, "x has no column 9: its 3 columns have the numbers 0 to 2"),
        (lambda: flip(-4), X, "x has no column -4"),
        (lambda: flip("sex"), X, "its columns have no names, found 'sex': give the number of the column"),
        (lambda: flip("sex"), NAMED, "x has no column 'sex': name one of 'age', 'table', 'image'"),
        (lambda: flip(0), NAMED, "x has no column 0: name one of"),
        (lambda: flip(("table", 3)), NAMED, r"x has no column \('table', 3\): its 3 columns"),
        (lambda: flip(("image", 0)), NAMED, r"needs a matrix.*found shape \(3, 2, 2\).*as a function of x"),
        (lambda: flip(0), (X, X), "needs a matrix.*found tuple"),
        (lambda: replace([0, 0], 1.0), X, "columns must be different ones, found 0 more than once"),
        (lambda: replace([], 1.0), X, "at least one column"),
        (lambda: replace([0, 1], [1.0]), X, "values must be one number per column, 2, or one for all, got 1"),
        (lambda: replace(0, np.inf), X, "values must be finite numbers, got inf for column 0"),
        (lambda: replace(0, [[1, 2]]), X, "values must be finite numbers"),
        (lambda: replace(0, 1.5), X.astype(np.int32), "column 0 holds int32 and cannot be replaced by 1.5"),
        (lambda: replace(0, 1e30), X.astype(np.float16), "column 0 holds float16 and cannot be replaced"),
        (lambda: permute_within(0, [1, 2, 2], KEY), X, "two rows or more each.*found row 0 alone: merge small strata"),
        (lambda: permute_within(0, [1, 2, 3], KEY), X, "found 3 rows, the first of them row 0 alone"),
        (lambda: permute_within(0, [1, 1], KEY), X, r"one number per row of x, 3, found shape \(2,\)"),
        (lambda: permute_within(0, [[1, 1, 1]], KEY), X, "strata must have one number per row"),
        (lambda: permute_within(0, [1, np.nan, 1], KEY), X, "strata must be numbers, found NaN in row 1"),
        (lambda: swap_categories([0, 2], 0, 5), X, "there is no category 5: the categories are 0, 1"),
        (lambda: swap_categories({"a": 0, "b": 2}, "a", "c"), X, "there is no category 'c'.*'a', 'b'"),
        (lambda: swap_categories([0, 2], 1, 1), X, "must be two different ones, got 1 twice"),
        (lambda: swap_categories([0, 0], 0, 1), X, "columns must be different ones"),
        (lambda: swap_categories([0, 2], 0, 1, levels=[0, 1]), X, r"shape \(2, 2\), found shape \(2,\)"),
        (lambda: swap_categories([1, 2], 0, 1), X, "column 1 of the category 0 is constant.*give them as levels"),
        (lambda: swap_categories([0, 2], 0, 1), X, "must be one-hot, found 0 categories in row 0"),
        (lambda: swap_tokens([]), X, "at least one pair"),
        (lambda: swap_tokens([(1, 2), (2, 3)]), X, "pairs must not overlap, found the token 2 more than once"),
        (lambda: swap_tokens([(1, 1)]), X, "pairs must not overlap, found the token 1"),
        (lambda: swap_tokens([(1, 2)]), X, "tokens must be integers, found float32: name the column of tokens"),
        (lambda: swap_tokens([(1, 2)]), NAMED, "x is a dictionary: name the column of tokens, one of 'age'"),
        (lambda: swap_tokens([(1, 300)]), X.astype(np.uint8), "the token 300 does not fit into.*uint8"),
        (lambda: shift_to_group(0, X, [1, 1, 1]), X, "both groups must have rows, found only a = 1"),
        (lambda: shift_to_group(0, X, [1, 0]), X, "one group per row of x, 3"),
        (lambda: shift_to_group(0, X, [1, 0, 2]), X, "a must hold 0 and 1 only"),
        (lambda: shift_to_group(0, X.astype(np.int32), [1, 0, 1]), X, "holds int32 and cannot be shifted"),
        (lambda: shift_to_group(0, X, [1, 0, 1]), X[:2], "those of 3 rows, found 2 rows in x: give.*as rows_a"),
        (lambda: compose(), X, "at least one perturbation"),
    ],
)
def test_what_cannot_be_perturbed_is_refused_in_one_line(make, x, message):
    with pytest.raises(ValueError, match=message) as error:
        make()(x)
    assert "\n" not in str(error.value)


def test_only_perturbations_are_composed():
    with pytest.raises(TypeError, match="compose takes perturbations such as flip.*got function"):
        compose(lambda x: x)
