"""Splits and their scalers: `fairjax.data.splits`."""

import os

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from fairjax.checks import check_merged
from fairjax.data import check_split, from_arrays, groups, memberships, split, split_seeds
from fairjax.data import splits as module
from fairjax.datasets import DATASETS, FILES
from fairjax.runs.settings import SEEDS
from fairjax.types import SHARED, Split

PARTS = ("train", "valid", "test")
JITTED = jax.jit(split, static_argnames=("train", "valid"))


@pytest.fixture(scope="module")
def table():
    return from_arrays(*arrays(600, features=10))


def arrays(n, features=3, seed=0):
    """Return a table with all groups, as device arrays."""
    x = np.random.default_rng(seed).normal(size=(n, features)).astype(np.float32)
    return jnp.asarray(x), jnp.arange(n) % 2 == 0, jnp.arange(n) % 3 == 0


def equal(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_seeds_are_the_published_ones():
    assert len(set(SEEDS)) == 20 and SEEDS[:3] == (42, 73, 666) and SEEDS[-1] == 3727 and sum(SEEDS) == 40980


@given(st.integers(0, 2**32 - 1), st.sampled_from([(5, 0.6, 0.2), (64, 0.6, 0.2), (37, 0.5, 0.25)]))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_the_parts_are_a_partition_and_the_train_part_is_standardised(seed, case):
    n, train, valid = case
    x, y, a = arrays(n)
    made = JITTED(jax.random.key(seed), x, y, a, train=train, valid=valid)
    assert len(made.train) == int(train * n)
    assert len(made.valid) == int((train + valid) * n) - int(train * n)
    rows = np.concatenate([made.train, made.valid, made.test])
    np.testing.assert_array_equal(np.sort(rows), np.arange(n))
    batch = made.part("train")
    np.testing.assert_allclose(batch.x.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(batch.x.std(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(batch.y, y[made.train])
    np.testing.assert_array_equal(made.part("test").a, a[made.test])


@pytest.mark.parametrize(("n", "sizes"), [(6167, (3700, 1233, 1234)), (45222, (27133, 9044, 9045)), (5, (3, 1, 1))])
def test_sizes(n, sizes):
    made = jax.eval_shape(split, jax.random.key(0), *arrays(n))
    assert tuple(getattr(made, part).size for part in PARTS) == sizes


def test_every_row_lands_in_every_part():
    x, y, a = arrays(10)
    keys = jax.random.split(jax.random.key(1), 2000)
    tests = jax.jit(jax.vmap(lambda key: split(key, x, y, a).test))(keys)
    counts = np.bincount(np.ravel(tests), minlength=10)
    np.testing.assert_allclose(counts / 2000, 0.2, atol=5 * np.sqrt(0.2 * 0.8 / 2000))


def test_the_scaler_is_scikit_learns(table):
    made = split_seeds(table, (42, 73))
    for i in range(2):
        reference = StandardScaler().fit(table.x[made.train[i]].astype(np.float64))
        np.testing.assert_allclose(made.mean[i], reference.mean_, atol=1e-6)
        np.testing.assert_allclose(made.scale[i], reference.scale_, rtol=1e-6)


def test_the_scaler_is_exact_for_large_tables_far_from_zero():
    values = np.random.default_rng(0).normal(5000, 10, size=(45_000, 2)).astype(np.float32)
    made = JITTED(jax.random.key(2), jnp.asarray(values), *arrays(45_000)[1:])
    train = values[np.asarray(made.train)].astype(np.float64)
    np.testing.assert_allclose(made.mean, train.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(made.scale, train.std(axis=0), rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.7, 1e6, 16777216.0])
def test_a_constant_feature_becomes_zero(value):
    x, y, a = arrays(1000)
    made = JITTED(jax.random.key(3), x.at[:, 1].set(value), y, a)
    assert float(made.scale[1]) == 1.0
    for part in PARTS:
        assert (made.part(part).x[:, 1] == 0).all()


def test_a_feature_constant_on_train_only():
    x, y, a = arrays(100)
    plain = JITTED(jax.random.key(4), x, y, a)
    made = JITTED(jax.random.key(4), x.at[:, 0].set(0.3).at[plain.test[0], 0].set(2.0), y, a)
    assert float(made.scale[0]) == 1.0
    np.testing.assert_allclose(made.part("test").x[0, 0], 1.7, rtol=1e-6)


def test_the_same_key_gives_the_same_split_in_every_way():
    x, y, a = arrays(80)
    keys = jax.random.split(jax.random.key(5), 3)
    eager = [split(key, x, y, a) for key in keys]
    mapped = jax.jit(jax.vmap(lambda key: split(key, x, y, a), out_axes=SHARED))(jax.random.clone(keys))
    for i, one in enumerate(eager):
        for other in (JITTED(jax.random.clone(keys[i]), x, y, a), Split(x, y, a, *(leaf[i] for leaf in mapped[3:8]))):
            equal(one[:6], other[:6])
            np.testing.assert_allclose(one.mean, other.mean, atol=1e-6)
            np.testing.assert_allclose(one.scale, other.scale, rtol=1e-6)


def test_a_seeds_split_does_not_depend_on_the_other_seeds(table):
    together = split_seeds(table, SEEDS)
    assert together.train.shape == (20, 360) and together.mean.shape == (20, 10)
    assert together.x.shape == table.x.shape
    for i in (0, 19):
        equal(split_seeds(table, SEEDS[i : i + 1])[3:8], tuple(leaf[i : i + 1] for leaf in together[3:8]))
    assert len({tuple(rows) for rows in np.asarray(together.test).tolist()}) == 20


def test_splits_map_over_seeds_with_the_table_shared(table):
    splits = split_seeds(table, SEEDS[:4])
    batch = jax.jit(jax.vmap(lambda one: one.part("train"), in_axes=(SHARED,)))(splits)
    assert batch.x.shape == (4, 360, 10)
    np.testing.assert_allclose(batch.x.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_array_equal(batch.y[2], table.y[splits.train[2]])


def test_a_seeds_key_is_folded_with_the_stream(table):
    seeds = (0, 42, 2**31, 2**32 - 1)
    made = split_seeds(table, seeds)
    assert len({tuple(rows) for rows in np.asarray(made.train).tolist()}) == 4
    for i, seed in enumerate(seeds):
        key = jax.random.fold_in(jax.random.key(seed), module.STREAM)
        equal(JITTED(key, *map(jnp.asarray, table[1:4])).train, made.train[i])


SEED_ERRORS = {
    (): "seeds must hold at least one seed, found none",
    (42, 73, 42): "seeds must be different, found 42 more than once: drop the copies",
    (42, -1): r"seeds must be at least 0 and less than 2\*\*32, found -1",
    (2**32,): r"less than 2\*\*32, found 4294967296",
}


@pytest.mark.parametrize("seeds", SEED_ERRORS)
def test_seeds_are_checked(table, seeds):
    with pytest.raises(ValueError, match=SEED_ERRORS[seeds]):
        split_seeds(table, seeds)


@pytest.mark.parametrize("shares", [(0.0, 0.2), (0.6, 0.0), (0.6, 0.4), (0.9, 0.2), (-0.1, 0.5)])
def test_shares_are_checked(shares):
    with pytest.raises(ValueError, match="every part must have a row, found .* of 20 rows: use more rows or other sha"):
        split(jax.random.key(0), *arrays(20), train=shares[0], valid=shares[1])


def test_too_few_rows_for_three_parts():
    with pytest.raises(ValueError, match="found 1, 0 and 1 rows in train, valid and test for shares 0.6, 0.2 and the"):
        split(jax.random.key(0), *arrays(2))


# which rows of a part of ten are kept, and what the message then names
LACKS = {
    "y=0": (lambda y, a: y, "balanced accuracy"),
    "y=1": (lambda y, a: ~y, "balanced accuracy"),
    "a=0": (lambda y, a: a, "SPD"),
    "a=1": (lambda y, a: ~a, "SPD"),
    "a=0 and y=1": (lambda y, a: a | ~y, "EOD"),
    "a=1 and y=1": (lambda y, a: ~a | ~y, "EOD"),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("group", LACKS)
def test_a_part_that_lacks_a_group_is_named(part, group):
    keep, measure = LACKS[group]
    y, a = np.array([0, 0, 1, 1] * 10, bool), np.array([0, 1] * 20, bool)
    x = jnp.zeros((40, 1))
    rows = {name: np.tile(np.arange(40), (2, 1)) for name in PARTS}
    whole = Split(x, y, a, **rows, mean=jnp.zeros((2, 1)), scale=jnp.ones((2, 1)))
    check_split(whole, (42, 73))
    kept = np.flatnonzero(keep(y, a))
    # the first seed's part is complete, the second seed's is not
    lacking = np.stack([np.arange(len(kept)), kept])
    message = (
        f"seed 73: the {part} part \\({len(kept)} rows\\) has no row with {group}; {measure} is undefined there; "
        "use more rows, another seed, or larger parts"
    )
    with pytest.raises(ValueError, match=message):
        check_split(whole._replace(**{part: lacking}), (42, 73))


def test_split_seeds_checks_its_splits():
    x, y, _ = arrays(200)
    rare = np.zeros(200, bool)
    rare[:2] = True
    data = from_arrays(np.asarray(x), np.asarray(y), ~rare)
    with pytest.raises(ValueError, match=r"seed \d+: the (train|valid|test) part \(\d+ rows\) has no row with a=0"):
        split_seeds(data, SEEDS)


def test_check_split_wants_an_axis_of_seeds(table):
    splits = split_seeds(table, (42, 73))
    with pytest.raises(ValueError, match=r"found train of shape \(2, 360\) for 1 seeds: make them with split_seeds"):
        check_split(splits, (42,))
    one = Split(*splits[:3], *(leaf[0] for leaf in splits[3:8]))
    with pytest.raises(ValueError, match=r"found train of shape \(360,\) for 1 seeds"):
        check_split(one, (42,))


ROWS = 60
TIMES = 1_700_000_000 + np.arange(ROWS)
NORMAL = np.random.default_rng(0).normal(size=ROWS)
CHANGED = {
    "milliseconds": (
        1000 * TIMES,
        "column 'x2' of x has 60 different values .* of which float32 keeps 1: subtract an off",
    ),
    "times of 32 bits": (
        TIMES.astype(np.int32),
        "60 different values between 1700000000 and 1700000059, of which float",
    ),
    "times as floats": (TIMES.astype(float), "of which float32 keeps 1"),
    "nanoseconds as integers": (10**18 + np.arange(ROWS), "of which float32 keeps 1"),
    "times, and 0 for none": (
        np.where(np.arange(ROWS) == 7, 0, TIMES),
        "make two columns of it, whether a value is ne",
    ),
    "two times among zeros": (
        np.where(np.arange(ROWS) < 58, 0, TIMES),
        "has 2 different values between 1700000058 and",
    ),
    "1e30": (1e30 * NORMAL, "column 'x2' of x lies between .* beyond float32: choose another unit, such as x"),
    "1e-30": (1e-30 * NORMAL, "the squares of such differences are beyond float32"),
    "1e300": (1e300 * NORMAL, "column 'x2' of x has 60 missing or infinite values in float32"),
    "NaN": (np.where(np.arange(ROWS) == 7, np.nan, NORMAL), r"has 1 missing or infinite .* the first \(nan\) in row 7"),
    "infinity": (np.where(np.arange(ROWS) == 7, np.inf, NORMAL), r"the first \(inf\) in row 7"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_features_that_float32_would_change_are_refused_by_name(case):
    column, message = CHANGED[case]
    _, y, a = arrays(ROWS)
    x = np.stack([np.arange(ROWS, dtype=column.dtype), column], axis=1)
    with pytest.raises(ValueError, match=message):
        split(jax.random.key(0), x, y, a)


def test_features_less_their_offset_are_standardised():
    _, y, a = arrays(ROWS)
    made = split(jax.random.key(0), (TIMES - TIMES[0])[:, None], y, a)
    train = np.asarray(made.train).astype(float)
    assert made.x.dtype == jnp.float32
    np.testing.assert_allclose(made.part("train").x[:, 0], (train - train.mean()) / train.std(), atol=1e-5)


@pytest.mark.parametrize("kind", [bool, np.int8, np.int64, np.float16, np.float64, jnp.bfloat16])
def test_features_of_any_type_become_floats(kind):
    _, y, a = arrays(ROWS)
    x = jnp.arange(ROWS)[:, None] % 2
    made = split(jax.random.key(0), np.asarray(x).astype(kind), y, a)
    assert made.x.dtype == jnp.float32 and jnp.array_equal(made.x, x.astype(jnp.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_traced_feature_that_cannot_be_standardised_makes_all_nan(value):
    x, y, a = arrays(ROWS)
    made = JITTED(jax.random.key(0), x.at[:, 1].multiply(value), y, a)
    assert np.isnan(made.part("test").x).all()
    assert np.isfinite(JITTED(jax.random.key(0), x, y, a).part("test").x).all()


def test_traced_integers_that_float32_cannot_hold_make_all_nan():
    _, y, a = arrays(ROWS)
    assert np.isnan(JITTED(jax.random.key(0), jnp.asarray(TIMES, jnp.int32)[:, None], y, a).mean).all()
    assert np.isfinite(JITTED(jax.random.key(0), jnp.arange(ROWS)[:, None], y, a).mean).all()


def test_rounding_and_rare_merges_are_not_refused():
    rng = np.random.default_rng(0)
    columns = [
        rng.choice([0.0, 0.3, 0.1 + 0.2, 1.0], 30_000),  # one number, rounded in two ways
        rng.random(30_000),  # float32 merges some of them by chance
        np.exp(3 * rng.normal(size=30_000)),
        np.where(rng.random(30_000) < 0.5, 0.0, rng.normal(50_000, 1_000, 30_000)),
    ]
    wide = np.stack(columns, axis=1)
    assert np.unique(wide[:, 1]).size > np.unique(wide[:, 1].astype(np.float32)).size, "the comparison says nothing"
    check_merged(wide, wide.astype(np.float32), ("a", "b", "c", "d"))


def test_a_gap_does_not_hide_values_that_merge():
    _, y, a = arrays(ROWS)
    for hole in (0.0, -1e12):
        with pytest.raises(ValueError, match="column 'when' of x has 59 different values"):
            from_arrays(pd.DataFrame({"when": np.r_[hole, TIMES[1:]]}), np.asarray(y), np.asarray(a))


def test_pandas_objects_are_taken_if_their_indices_agree():
    x, y, a = map(np.asarray, arrays(ROWS))
    index = np.arange(ROWS) + 5
    frame = pd.DataFrame(x, index=index, columns=["age", "pay", "rate"]).assign(old=x[:, 0] > 0)
    made = split(jax.random.key(0), frame, pd.Series(y, index=index), pd.Series(a, index=index))
    assert made.x.shape == (ROWS, 4) and made.x.dtype == jnp.float32
    with pytest.raises(ValueError, match="the index of y differs from that of x"):
        split(jax.random.key(0), frame, pd.Series(y), a)
    with pytest.raises(ValueError, match="the index of weights differs from that of x"):
        split(jax.random.key(0), frame, y, a, weights=pd.Series(np.ones(ROWS)))
    with pytest.raises(ValueError, match="column 'pay' of x has 1 missing"):
        split(jax.random.key(0), frame.assign(pay=[None, *x[1:, 1]]), y, a)


def test_tables_that_are_no_plain_arrays_are_refused():
    x, y, a = map(np.asarray, arrays(ROWS))
    key = jax.random.key(0)
    with pytest.raises(TypeError, match="x is a masked array with masked entries"):
        split(key, np.ma.masked_array(x, x > 1), y, a)
    with pytest.raises(TypeError, match="y is a masked array with masked entries"):
        split(key, x, np.ma.masked_array(y, x[:, 0] > 1), a)
    with pytest.raises(TypeError, match=r"x is a sparse matrix, .*: pass x.toarray\(\)"):
        split(key, scipy.sparse.csr_matrix(x), y, a)
    with pytest.raises(
        TypeError, match="a must be an array, found Groups: pass their column, groups.a, and num_groups=3"
    ):
        split(key, x, y, groups(np.arange(ROWS) % 3))
    with pytest.raises(ValueError, match=r"at least one of each, found shape \(60, 0\)"):
        split(key, x[:, :0], y, a)


@pytest.fixture
def untyped():
    """Disable the tests' type checks, which would fail first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("share", [np.nan, np.inf, "0.6", None])
def test_a_share_is_a_number(share):
    with pytest.raises(ValueError, match="train must be a share of the rows, a number between 0 and 1, got"):
        module._part_ends(20, share, 0.2)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("seeds", [42, (1.5, 2), ("a",)])
def test_seeds_are_whole_numbers(table, seeds):
    with pytest.raises(TypeError, match="seeds must be a sequence of whole numbers"):
        split_seeds(table, seeds)


def test_data_sets_changed_by_hand_are_checked_when_they_are_split(table):
    with pytest.raises(ValueError, match="column 'x2' of x has 1 missing or infinite values"):
        split_seeds(table._replace(x=np.where(np.arange(6000).reshape(600, 10) == 1, np.nan, table.x)), (1,))
    with pytest.raises(ValueError, match="a must hold 0 and 1 only, found 1, 2"):
        split_seeds(table._replace(a=table.a + 1), (1,))
    with pytest.raises(ValueError, match="column 'x1' of x lies between"):
        split_seeds(table._replace(x=table.x * np.float32(1e30)), (1,))


def test_stratifying_is_advised_where_it_is_not_done_and_can_be():
    rng = np.random.default_rng(0)
    x, y, _ = arrays(200)
    names = np.r_[["rare"] * 2, rng.choice(["b", "c"], 198)]
    data = from_arrays(np.asarray(x), np.asarray(y), groups(names))
    pooled = "leave small groups out or pool them (see fairjax.data.groups),"
    with pytest.raises(ValueError) as refused:
        split_seeds(data, SEEDS)
    assert f'{pooled} stratify="group and label", or use more rows' in str(refused.value)
    with pytest.raises(ValueError) as refused:
        split_seeds(data, SEEDS, stratify="group and label")
    assert f"{pooled} or use more rows" in str(refused.value)
    soft = memberships(np.eye(3)[np.unique(names, return_inverse=True)[1]], ("b", "c", "rare"), estimator="weighted")
    with pytest.raises(ValueError) as refused:
        split_seeds(from_arrays(np.asarray(x), np.asarray(y), soft), SEEDS)
    assert f"{pooled} or use more rows" in str(refused.value)


def test_check_split_wants_values_that_are_0_and_1_and_known(table):
    splits = split_seeds(table, (42, 73))
    with pytest.raises(ValueError, match="y must hold 0 and 1 only, found 1, 2"):
        check_split(splits._replace(y=splits.y.astype(jnp.int32) + 1), (42, 73))
    check_split(splits._replace(y=splits.y.astype(jnp.int32)), (42, 73))
    with pytest.raises(TypeError, match="call check_split outside of jit"):
        jax.jit(lambda splits: check_split(splits, (42, 73)))(splits)


@pytest.mark.parametrize("name", ["compas", "bank", "bank_full", "german"])
def test_the_published_seeds_split_the_benchmarks(name):
    files = {"compas": "compas-scores-two-years.csv", "bank": "bank-additional-full.csv", "bank_full": "bank-full.csv"}
    folder, file = os.environ.get("FAIRJAX_DATA"), FILES[files.get(name, "german.data")].path
    if not folder or not os.path.isfile(os.path.join(folder, file)):
        pytest.skip(f"FAIRJAX_DATA is not set, or has no {file}")
    pytest.importorskip("aif360")
    data = DATASETS[name](folder)
    splits = split_seeds(data, SEEDS)
    train = data.x[np.asarray(splits.train[7])].astype(np.float64)
    deviation = train.std(axis=0)
    np.testing.assert_allclose(splits.mean[7], train.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(splits.scale[7], np.where(np.ptp(train, axis=0) == 0, 1, deviation), rtol=1e-5)
