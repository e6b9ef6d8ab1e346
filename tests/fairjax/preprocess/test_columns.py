"""Removal, replacement and swaps of chosen columns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from tables import NAMES, apply, columns, dataset, keys, made, one_split, raw_part

from fairjax.preprocess import (
    CrossGroupReplacement,
    Removal,
    Replacement,
    SwapAugmentation,
    column_indices,
    prepare,
)
from fairjax.types import Batch

JOB = (3, 4, 5)


def new_key(seed=0):
    return jax.random.key(seed)


@pytest.fixture(scope="module")
def rows():
    return Batch(*map(jnp.asarray, columns(2000)))


def test_variables_stand_for_all_their_columns():
    assert column_indices(dataset(), ["job", "age"]) == (0, 3, 4, 5)
    assert column_indices(dataset(), "job=clerk") == (4,)
    assert made("removal").columns == (2,) and made("swap_augmentation").columns == (2,)
    with pytest.raises(ValueError, match="no column or variable 'jobs': the variables are age, hours, sex, job"):
        column_indices(dataset(), ("jobs",))


def test_an_annotation_chooses_columns():
    sensitive = np.array([False, False, True, True, True, True])
    assert column_indices(dataset(), sensitive) == (2, 3, 4, 5)
    with pytest.raises(ValueError, match="there must be one boolean per column, 6, found"):
        column_indices(dataset(), sensitive[:5])


def test_replacement_by_the_mean_is_removal():
    removed = prepare(Removal(columns=(0, *JOB)), keys()[0], one_split())
    replaced = prepare(Replacement(columns=(0, *JOB)), keys()[1], one_split())
    for part in ("train", "valid", "test"):
        np.testing.assert_allclose(removed.part(part).x, replaced.part(part).x, atol=1e-6)
        assert (removed.part(part).x[:, [0, *JOB]] == 0).all()
        np.testing.assert_array_equal(raw_part(removed, part).x[:, 1:3], raw_part(one_split(), part).x[:, 1:3])
    mean = raw_part(one_split(), "train").x[:, 0].mean()
    np.testing.assert_allclose(raw_part(replaced, "test").x[:, 0], mean, rtol=1e-6)
    number = prepare(Replacement(columns=(0,), how=25.0), keys()[2], one_split())
    assert (raw_part(number, "test").x[:, 0] == 25).all() and (number.part("test").x[:, 0] == 0).all()


def test_a_marginal_draw_needs_memory_in_proportion_to_the_rows(rows):
    replacement = Replacement(columns=JOB, how="marginal")

    def largest(jaxpr):
        inner = [sub for equation in jaxpr.eqns for sub in jaxprs_in_params(equation.params)]
        sizes = [variable.aval.size for equation in jaxpr.eqns for variable in equation.outvars]
        return max([*sizes, *map(largest, inner)])

    traced = jax.make_jaxpr(replacement.apply)(new_key(), rows)
    assert largest(traced.jaxpr) <= 10 * rows.x.size


def test_a_marginal_draw_keeps_the_distribution_and_not_the_association(rows):
    new = apply(Replacement(columns=JOB, how="marginal"), new_key(), rows).train
    codes = np.asarray(new.x[:, 3:])
    assert (codes.sum(axis=1) == 1).all()
    np.testing.assert_allclose(codes.mean(axis=0), rows.x[:, 3:].mean(axis=0), atol=0.04)
    assert abs(np.corrcoef(np.asarray(rows.x[:, 5]), rows.a)[0, 1]) > 0.2
    assert abs(np.corrcoef(codes[:, 2], rows.a)[0, 1]) < 0.06


def test_values_of_the_other_group_have_its_distribution(rows):
    preprocessor = CrossGroupReplacement(columns=JOB)
    prepared = apply(preprocessor, new_key(), rows)
    a, before, after = (np.asarray(values) for values in (rows.a, rows.x[:, 3:], prepared.train.x[:, 3:]))
    assert (after.sum(axis=1) == 1).all()
    for group in (False, True):
        np.testing.assert_allclose(after[a == group].mean(axis=0), before[a != group].mean(axis=0), atol=0.06)
    three = rows._replace(a=jnp.arange(2000, dtype=jnp.int32) % 3, x=rows.x.at[:, 0].set(jnp.arange(2000.0) % 3))
    drawn = apply(CrossGroupReplacement(columns=(0,)), new_key(1), three).train
    assert (drawn.x[:, 0].astype(jnp.int32) != three.a).all()
    np.testing.assert_allclose(jnp.bincount(drawn.x[:, 0].astype(jnp.int32), length=3) / 2000, 1 / 3, atol=0.04)


def test_swapped_rows_follow_the_original_rows(rows):
    new = apply(SwapAugmentation(columns=(2,), pairs=((3, 4),)), new_key(), rows).train
    n = len(rows.y)
    np.testing.assert_array_equal(new.x[:n], rows.x)
    x = np.array(rows.x)
    expected = x.copy()
    for row in range(n):
        expected[row, 2] = 1 - x[row, 2]
        expected[row, 3], expected[row, 4] = x[row, 4], x[row, 3]
    np.testing.assert_array_equal(new.x[n:], expected)
    np.testing.assert_array_equal(new.y, np.tile(rows.y, 2))
    np.testing.assert_array_equal(new.a, np.concatenate([rows.a, ~np.asarray(rows.a)]))
    assert abs(np.corrcoef(np.asarray(new.x[:, 2]), new.y)[0, 1]) < 1e-6


def test_standardised_rows_are_swapped_between_their_own_values(rows):
    mean, scale = jnp.mean(rows.x, axis=0)[None], jnp.std(rows.x, axis=0)[None]
    swap = SwapAugmentation(columns=(2,), pairs=((3, 4),))
    of_raw = apply(swap, new_key(), rows).train.x
    of_standardised = apply(swap, new_key(), rows._replace(x=(rows.x - mean) / scale)).train.x
    np.testing.assert_allclose(of_standardised, (of_raw - mean) / scale, atol=1e-5)


def test_names_of_pairs_are_resolved():
    swap = SwapAugmentation(pairs=(("job=cook", "job=smith"),)).named(dataset())
    assert swap.pairs == ((3, 5),) and swap.columns == (2,)
    with pytest.raises(ValueError, match="pairs must name single columns, and 'job' has 3"):
        SwapAugmentation(pairs=(("job", "sex"),)).named(dataset())


def test_what_cannot_be_swapped_is_an_error_or_nan(rows):
    with pytest.raises(ValueError, match="column 0 has 4 different values in the train part and can be swapped only"):
        apply(SwapAugmentation(columns=(0,)), new_key(), rows)
    swapped = jax.jit(SwapAugmentation(columns=(0,)).apply)(new_key(), rows).train.x
    assert jnp.isnan(swapped[len(rows.y) :]).all()
    with pytest.raises(ValueError, match="a must hold 0 and 1 only"):
        apply(SwapAugmentation(columns=(2,)), new_key(), rows._replace(a=jnp.arange(2000, dtype=jnp.int32) % 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Removal(columns=(0, 0)), "columns must be different ones, found 0 more than once"),
        (lambda: Removal(columns=(True,)), "columns must be numbers or names of columns, found True"),
        (lambda: Replacement(how="median"), "how must be one of mean, marginal, got 'median'"),
        (lambda: Replacement(how=np.inf), "how must be mean, marginal or a finite number, got inf"),
        (lambda: SwapAugmentation(columns=(0,), pairs=((0, 1),)), "found 0 more than once"),
        (lambda: Removal(columns=("jobs",)).named(dataset()), "no column or variable 'jobs'"),
        (
            lambda: Removal().named(dataset()._replace(protected="race")),
            "the protected attribute 'race' is not among the features: give columns",
        ),
    ],
)
def test_invalid_columns_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_columns_that_a_table_lacks_are_refused(rows):
    with pytest.raises(ValueError, match="x has no column 6: its 6 columns have the numbers 0 to 5"):
        apply(Removal(columns=(6,)), new_key(), rows)
    with pytest.raises(ValueError, match="column 'sex' is a name, and a matrix has none: pass dataset=... to prepare"):
        apply(Removal(columns=("sex",)), new_key(), rows)
    with pytest.raises(ValueError, match=r"x must be a matrix \(n, d\), found a dict of arrays"):
        apply(Removal(columns=(0,)), new_key(), rows._replace(x={"table": rows.x}))
    assert len(NAMES) == rows.x.shape[1]
