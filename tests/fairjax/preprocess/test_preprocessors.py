"""Every registered preprocessor follows the protocol."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import OPTIONS, dataset, keys, made, of_seed, one_split, raw_part, splits

from fairjax import Mlp, Training, fit_many, from_linen
from fairjax.preprocess import (
    PREPROCESSORS,
    Preprocessor,
    Reweighing,
    prepare,
    prepare_many,
    prepare_rows,
    preprocessor,
)
from fairjax.types import SHARED, weights_of

TRACEABLE = [name for name, kind in PREPROCESSORS.items() if kind.traceable]


def trains():
    """The train parts of all seeds."""
    return jax.tree.map(np.asarray, jax.vmap(lambda split: raw_part(split, "train"), in_axes=(SHARED,))(splits()))


@functools.cache
def adapted(name):
    return made(name).adapted(trains())


@functools.cache
def many(name):
    return prepare_many(adapted(name), keys(), splits())


@functools.cache
def alone(name, seed=0):
    return prepare(adapted(name), keys()[seed], one_split(seed))


def same(first, second, tolerance=0.0):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for left, right in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(np.asarray(left), np.asarray(right), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", PREPROCESSORS)
def test_an_entry_is_described(name):
    kind = PREPROCESSORS[name]
    assert kind.label and kind.reference and kind.equation and kind.changes in ("weights", "features", "rows")
    assert isinstance(kind().needs_group_at_test, bool) and isinstance(kind().needs_group, bool)
    assert kind.label == PREPROCESSORS.label(name) and len(PREPROCESSORS.summary(name)) > 30
    source = dataclasses.fields(kind)
    assert all(field.kw_only for field in source)
    leaves, structure = jax.tree.flatten(made(name))
    assert jax.tree.unflatten(structure, leaves) == made(name)


@pytest.mark.parametrize("name", [name for name in TRACEABLE if PREPROCESSORS[name].changes == "features"])
def test_new_rows_are_mapped_as_the_test_part_is(name):
    before, test = one_split(), raw_part(one_split(), "test")
    mapped = prepare_rows(adapted(name), keys()[0], before, test.x, test.a)
    same(mapped, raw_part(alone(name), "test").x)
    assert not np.array_equal(mapped, test.x)
    if PREPROCESSORS[name].needs_group_at_test:
        with pytest.raises(ValueError, match="map features by group: pass the groups of the new rows as a"):
            prepare_rows(adapted(name), keys()[0], before, test.x)


def test_a_removed_column_of_new_rows_changes_no_decision():
    chain = [made("removal"), Reweighing()]
    split = prepare(chain, keys()[0], one_split())
    network = from_linen(Mlp(widths=(4,)))
    variables = network.init(jax.random.key(0), split.x[:2])
    x = np.asarray(raw_part(one_split(), "test").x)
    other = np.where(np.arange(x.shape[1]) == 2, 1 - x, x)  # the attribute is another one

    def logits(rows):
        mapped = prepare_rows(chain, keys()[0], one_split(), rows)
        return network.apply(variables, (mapped - split.mean[None]) / split.scale[None])[0]

    same(logits(x), logits(other))


def test_labels_are_unique():
    assert len({kind.label for kind in PREPROCESSORS.values()}) == len(PREPROCESSORS)
    assert set(OPTIONS) <= set(PREPROCESSORS)


@pytest.mark.parametrize("name", PREPROCESSORS)
def test_only_what_is_announced_changes(name):
    kind, before, after = PREPROCESSORS[name], one_split(), alone(name)
    for part in ("valid", "test"):
        old, new = raw_part(before, part), raw_part(after, part)
        same((old.y, old.a), (new.y, new.a))
        assert weights_of(new) is None or (weights_of(new) == 1).all()
        unchanged = np.array_equal(old.x, new.x)
        assert unchanged == (kind.changes != "features")
        assert jnp.isfinite(new.x).all() and new.x.dtype == old.x.dtype
    old, new = raw_part(before, "train"), raw_part(after, "train")
    assert new.y.dtype == old.y.dtype and new.a.dtype == old.a.dtype and jnp.isfinite(new.x).all()
    if kind.changes == "weights":
        assert after.x is before.x and np.isclose(weights_of(new).sum(), len(new.y), rtol=1e-6)
        assert not np.allclose(weights_of(new), 1)
        same((old.x, old.y, old.a, before.mean), (new.x, new.y, new.a, after.mean))
    elif kind.changes == "features":
        same((old.y, old.a), (new.y, new.a))
        assert not np.array_equal(old.x, new.x) and weights_of(new) is None
    else:
        assert weights_of(new) is None
        assert new.x.shape != old.x.shape or not np.array_equal(old.x, new.x)


@pytest.mark.parametrize("name", PREPROCESSORS)
def test_features_are_standardised_by_the_new_train_part(name):
    train = alone(name).part("train").x
    raw = raw_part(alone(name), "train").x
    varies = np.asarray(raw.min(axis=0) < raw.max(axis=0))
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=2e-6)
    np.testing.assert_allclose(train.std(axis=0)[varies], 1, atol=1e-5)
    assert (train[:, ~varies] == 0).all()


@pytest.mark.parametrize("name", PREPROCESSORS)
def test_seeds_together_are_seeds_alone(name):
    for seed in (0, 2):
        same(of_seed(many(name), seed), alone(name, seed), 1e-5)
    assert many(name).axes.weights == (0 if PREPROCESSORS[name].changes == "weights" else None)
    assert many(name).axes.x == (None if PREPROCESSORS[name].changes == "weights" else 0)


@pytest.mark.parametrize("name", TRACEABLE)
def test_it_can_be_jitted(name):
    jitted = jax.jit(functools.partial(prepare, adapted(name)))
    same(jitted(keys()[0], one_split()), alone(name), 1e-5)


@pytest.mark.parametrize("name", PREPROCESSORS)
def test_it_does_not_depend_on_the_unit_of_a_feature(name):
    split = one_split()
    scale = np.array([8.0, 0.5, 4.0, 1.0, 1.0, 1.0], np.float32)
    if PREPROCESSORS[name].changes == "weights":
        pytest.skip("does not look at features")
    scaled = split._replace(x=split.x * scale[None], mean=split.mean * scale, scale=split.scale * scale)
    new = prepare(adapted(name), keys()[0], scaled)
    same(new.part("train").x, alone(name).part("train").x, 1e-4)


def test_preprocessors_are_applied_one_after_another():
    split, key = one_split(), keys()[0]
    both = prepare([made("balancing"), made("removal")], key, split)
    assert (both.part("test").x[:, 2] == 0).all() and (both.part("train").x[:, 2] == 0).all()
    balanced = prepare(made("balancing"), key, split)
    same(both.part("train").x[:, :2], balanced.part("train").x[:, :2], 1e-6)
    same(prepare([], key, split), prepare((), key, split))
    together = prepare_many([made("balancing"), made("reweighing")], keys(), splits())
    assert together.axes.weights == 0 and together.axes.x == 0
    np.testing.assert_allclose(of_seed(together, 1).weights, 1, rtol=1e-6)  # balanced rows are independent already


def test_networks_are_trained_on_preprocessed_splits():
    prepared, network = many("balancing"), from_linen(Mlp(widths=(4,)))
    training = Training(epochs=1, batch_size=64)
    fitted = fit_many(network, prepared.splits, keys=keys(), training=training, axes=prepared.axes)
    assert fitted.loss.shape == (3,) and jnp.isfinite(fitted.loss).all()


def test_a_preprocessor_can_be_registered():
    @preprocessor
    class Identity(Preprocessor):
        """Change nothing."""

    with pytest.raises(TypeError, match="Identity must have a function apply"):
        PREPROCESSORS.register("identity", Identity)
    with pytest.raises(TypeError, match="must be a subclass of Preprocessor"):
        PREPROCESSORS.register("mine", Reweighing())
    with pytest.raises(TypeError, match="is not decorated: write @preprocessor"):
        PREPROCESSORS.register("mine", type("Undecorated", (Reweighing,), {}))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: prepare("reweighing", keys()[0], one_split()), TypeError, "must be objects such as .*Reweighing"),
        (lambda: prepare(Reweighing, keys()[0], one_split()), TypeError, "must be objects such as .*Reweighing"),
        (lambda: prepare(Reweighing(), keys()[0], splits()), ValueError, "pass the splits of many seeds to prepare_m"),
        (lambda: prepare_many(Reweighing(), keys(), one_split()), ValueError, "pass the split of one seed to prepare"),
        (lambda: prepare_many(Reweighing(), keys()[:2], splits()), ValueError, "keys must be one key per split, 3"),
    ],
)
def test_wrong_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_data_set_names_the_columns():
    with pytest.raises(ValueError, match="Removal has no columns: give columns"):
        prepare(PREPROCESSORS["removal"](), keys()[0], one_split())
    prepared = prepare(PREPROCESSORS["removal"](columns=("job",)), keys()[0], one_split(), dataset=dataset())
    assert (prepared.part("test").x[:, 3:] == 0).all() and (prepared.part("test").x[:, 2] != 0).all()
