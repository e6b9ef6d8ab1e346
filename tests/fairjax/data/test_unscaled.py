"""Splits of features that are not standardised: images, tokens, dictionaries of columns, and tables on request."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from fairjax.data import from_arrays, split, split_seeds
from fairjax.data.splits import check_split
from fairjax.types import SHARED

N = 160
RNG = np.random.default_rng(0)
Y, A = np.arange(N) % 2, np.arange(N) // 2 % 2
TABLE = RNG.normal(5.0, 3.0, (N, 3)).astype(np.float32)
TOKENS = RNG.integers(0, 30_000, (N, 6))
IMAGES = RNG.integers(0, 256, (N, 4, 4, 3), np.uint8)
TREE = {"num": TABLE.astype(np.float64), "cat": TOKENS[:, 0], "image": IMAGES}


def many(x, **options):
    return split_seeds(from_arrays(x, Y, A), seeds=(1, 2), **options)


def one(x, **options):
    return split(jax.random.key(0), x, Y, A, **options)


@pytest.mark.parametrize("make", [one, many])
def test_trees_and_images_are_kept_as_they_are(make):
    for x in (TREE, IMAGES):
        splits = make(x)
        assert splits.mean is None and splits.scale is None
        splits = splits if make is one else splits._replace(valid=splits.valid[0])
        rows, part = np.asarray(splits.valid), splits.part("valid")
        for found, whole in zip(jax.tree.leaves(part.x), jax.tree.leaves(x), strict=True):
            np.testing.assert_array_equal(found, whole[rows])
        np.testing.assert_array_equal(part.y, Y[rows].astype(bool))
    tree = make(TREE).x
    assert {name: str(leaf.dtype) for name, leaf in tree.items()} == {
        "cat": "int32",
        "image": "uint8",
        "num": "float32",
    }
    np.testing.assert_array_equal(tree["cat"], TOKENS[:, 0])
    assert tree["image"].shape == (N, 4, 4, 3)


@pytest.mark.parametrize("make", [one, many])
def test_the_rows_are_those_of_the_standardised_table(make):
    scaled, unscaled = make(TABLE), make({"table": TABLE})
    for name in ("train", "valid", "test"):
        np.testing.assert_array_equal(getattr(scaled, name), getattr(unscaled, name))
    grouped = make(TABLE, stratify="group and label"), make(TABLE, stratify="group and label", standardise=False)
    np.testing.assert_array_equal(grouped[0].train, grouped[1].train)
    assert grouped[0].mean is not None and grouped[1].mean is None


def test_persons_are_in_one_part_with_or_without_a_scaler():
    persons = (np.arange(N) // 2).astype(np.int32)
    scaled, unscaled = many(TABLE, identities=persons), many(IMAGES, identities=persons)
    for name in ("train", "valid", "test"):
        np.testing.assert_array_equal(getattr(scaled, name), getattr(unscaled, name))


def test_a_matrix_of_integers_is_a_table_unless_it_is_said_otherwise():
    assert from_arrays(TOKENS, Y, A).x.dtype == np.float32 and one(TOKENS).mean.shape == (6,)
    dataset = from_arrays(TOKENS, Y, A, standardise=False)
    assert dataset.x.dtype == np.int32 and dataset.standardise is False
    splits = split_seeds(dataset, seeds=(1,))
    assert splits.mean is None and splits.x.dtype == jnp.int32
    assert one(TOKENS, standardise=False).x.dtype == jnp.int32
    assert split_seeds(dataset, seeds=(1,), standardise=True).mean.shape == (1, 6)
    assert split_seeds(from_arrays(TOKENS, Y, A), seeds=(1,), standardise=False).mean is None


def test_a_table_that_is_not_standardised_is_checked_as_one():
    frame = pd.DataFrame(TABLE.astype(np.float64), columns=["age", "pay", "hours"])
    dataset = from_arrays(frame, Y, A, standardise=False)
    assert dataset.features == ("age", "pay", "hours") and dataset.x.dtype == np.float32
    np.testing.assert_array_equal(one(frame, standardise=False).x, TABLE)
    frame["age"] = 1e9 + np.arange(N)
    for make in (lambda: from_arrays(frame, Y, A, standardise=False), lambda: one(frame, standardise=False)):
        with pytest.raises(ValueError, match="'age' of x has 160 different values"):
            make()


def test_images_are_standardised_by_position_on_request():
    splits = one(IMAGES, standardise=True)
    assert splits.mean.shape == (4, 4, 3)
    np.testing.assert_allclose(splits.part("train").x.mean(axis=0), 0.0, atol=1e-5)


def test_names_of_features_are_those_of_leaves():
    assert from_arrays(TREE, Y, A).features == ("cat", "image", "num")
    assert from_arrays(IMAGES, Y, A).features == ("x",)
    assert from_arrays(TOKENS, Y, A, standardise=False, features=list("abcdef")).features == tuple("abcdef")


def test_splits_map_over_keys_and_seeds():
    splits = jax.jit(jax.vmap(lambda key: one_of(key, TREE), out_axes=SHARED))(jax.random.split(jax.random.key(0), 3))
    assert splits.train.shape == (3, 96) and splits.mean is None and splits.x["image"].shape == IMAGES.shape
    check_split(splits, seeds=(1, 2, 3))
    sizes = jax.vmap(lambda split: split.part("train").x["num"].sum(), in_axes=(SHARED,))(splits)
    assert sizes.shape == (3,) and np.isfinite(sizes).all()


def one_of(key, x):
    return split(
        key, jax.tree.map(lambda leaf: jnp.asarray(leaf.astype(np.float32)), x), jnp.asarray(Y), jnp.asarray(A)
    )


def test_invalid_traced_values_make_floats_nan():
    make = jax.jit(
        lambda y: split(jax.random.key(0), {"num": jnp.asarray(TABLE), "cat": jnp.asarray(IMAGES)}, y, jnp.asarray(A)).x
    )
    assert np.isfinite(make(jnp.asarray(Y))["num"]).all()
    assert np.isnan(make(jnp.asarray(Y).at[3].set(2))["num"]).all()
    with pytest.raises(TypeError, match="call this function outside of jit"):
        jax.jit(lambda y: split(jax.random.key(0), {"cat": jnp.asarray(IMAGES)}, y, jnp.asarray(A)).x)(jnp.asarray(Y))


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (TREE, {"standardise": True}, "standardise=True is for one array or frame, found a dict of several"),
        ({**TREE, "cat": TOKENS[1:, 0]}, {}, r"x\['image'\] must have 159 rows"),
        ({"num": np.where(TABLE == TABLE[4], np.nan, TABLE)}, {}, r"x\['num'\] has missing.*in row 4"),
        ({"num": TABLE[:150]}, {}, "have|length"),
        (IMAGES[:, 0, 0, 0], {}, "x must have"),
    ],
)
def test_what_cannot_be_split_is_refused(x, options, message):
    for make in (lambda: one(x, **options), lambda: from_arrays(x, Y, A, **options)):
        with pytest.raises(ValueError, match=message):
            make()


def test_names_of_columns_are_for_tables():
    with pytest.raises(ValueError, match="features names the columns of a table"):
        from_arrays(IMAGES, Y, A, features=("a",))
