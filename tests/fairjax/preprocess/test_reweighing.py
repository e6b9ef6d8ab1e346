"""Weights with which label and group are independent."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from aif360.algorithms.preprocessing import Reweighing as Aif360Reweighing
from aif360.datasets import BinaryLabelDataset
from tables import columns

from fairjax.preprocess import Reweighing
from fairjax.types import Batch, WeightedBatch

KEY = jax.random.key(0)
apply = jax.jit(lambda preprocessor, rows: Reweighing.apply(preprocessor, KEY, rows).train.weights)


def batch(y, a, weights=None):
    rows = Batch(jnp.zeros((len(y), 1)), jnp.asarray(y), jnp.asarray(a))
    return rows if weights is None else WeightedBatch(*rows, jnp.asarray(weights, jnp.result_type(float)))


def weighted_rates(weights, y, a, label=1):
    """The weighted share of a label in each group, by a loop."""
    return [weights[(a == g) & (y == label)].sum() / weights[a == g].sum() for g in np.unique(a)]


def test_the_weights_are_those_of_aif360():
    _, y, a = columns()
    given = np.random.default_rng(1).random(len(y)) + 0.5
    for weights in (None, given):
        frame = pd.DataFrame({"x": 0.0, "y": y.astype(float), "a": a.astype(float)})
        table = BinaryLabelDataset(
            df=frame, label_names=["y"], protected_attribute_names=["a"], favorable_label=1.0, unfavorable_label=0.0
        )
        if weights is not None:
            table.instance_weights = weights
        groups = {"unprivileged_groups": [{"a": 0.0}], "privileged_groups": [{"a": 1.0}]}
        expected = Aif360Reweighing(**groups).fit_transform(table).instance_weights
        found = Reweighing().apply(KEY, batch(y, a, weights)).train.weights
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        np.testing.assert_allclose(found.sum(), len(y) if weights is None else weights.sum(), rtol=1e-6)
        np.testing.assert_allclose(apply(Reweighing(), batch(y, a, weights)), found, rtol=1e-6)


def test_labels_are_independent_of_many_groups():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 4, 2000)
    y = (rng.random(2000)[:, None] > np.cumsum([[0.1, 0.2], [0.3, 0.3], [0.6, 0.1], [0.2, 0.2]], axis=1)[a]).sum(axis=1)
    rows = batch(y.astype(np.int32), a.astype(np.int32))
    weights = np.asarray(Reweighing().apply(KEY, rows).train.weights, np.float64)
    for label in range(3):
        rates = weighted_rates(weights, y, a, label)
        np.testing.assert_allclose(rates, np.mean(y == label), rtol=1e-6)
    for group in range(4):
        np.testing.assert_allclose(weights[a == group].sum(), np.sum(a == group), rtol=1e-6)
    traced = apply(Reweighing(num_classes=3, num_groups=4), rows)
    np.testing.assert_allclose(traced, weights, rtol=1e-6)


def test_all_cells_or_all_groups_are_equally_heavy():
    _, y, a = columns()
    cells = np.asarray(Reweighing(target="cells").apply(KEY, batch(y, a)).train.weights)
    sums = [cells[(y == label) & (a == group)].sum() for label in (0, 1) for group in (0, 1)]
    np.testing.assert_allclose(sums, len(y) / 4, rtol=1e-5)
    groups = np.asarray(Reweighing(target="groups").apply(KEY, batch(y, a)).train.weights)
    np.testing.assert_allclose([groups[a == group].sum() for group in (0, 1)], len(y) / 2, rtol=1e-5)
    np.testing.assert_allclose(weighted_rates(groups, y, a), weighted_rates(np.ones(len(y)), y, a), rtol=1e-5)


def test_an_empty_cell_is_an_error_or_nan():
    y, a = np.array([True, False, True]), np.array([True, True, False])
    with pytest.raises(ValueError, match="the train part has no row with y=0 and a=0, so nothing can be reweighed"):
        Reweighing().apply(KEY, batch(y, a))
    assert np.isnan(apply(Reweighing(), batch(y, a))).all()
    weightless = batch(np.array([*y, False]), np.array([*a, False]), [1.0, 1.0, 1.0, 0.0])
    with pytest.raises(ValueError, match="no row with y=0 and a=0"):
        Reweighing().apply(KEY, weightless)
    assert np.isnan(apply(Reweighing(), weightless)).all()


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_invalid_weights_are_an_error_or_nan(value):
    _, y, a = columns()
    weights = np.ones(len(y))
    weights[3] = value
    with pytest.raises(ValueError, match="weights must be finite and not negative, found .* in row 3"):
        Reweighing().apply(KEY, batch(y, a, weights))
    assert np.isnan(apply(Reweighing(), batch(y, a, weights))).all()


def test_what_cannot_be_reweighed_is_refused():
    _, y, a = columns()
    with pytest.raises(ValueError, match="target must be one of independence, cells, groups, got 'parity'"):
        Reweighing(target="parity")
    with pytest.raises(ValueError, match="num_groups must be at least 2, got 1"):
        Reweighing(num_groups=1)
    memberships = jnp.stack([a, ~a], axis=1).astype(jnp.float32)
    with pytest.raises(ValueError, match="a must have the one group of each row"):
        Reweighing(num_groups=2).apply(KEY, batch(y, a)._replace(a=memberships))
    with pytest.raises(ValueError, match="a holds traced codes, whose number is unknown: give num_groups"):
        apply(Reweighing(), batch(y, a.astype(np.int32)))
    with pytest.raises(ValueError, match="codes from 0 to 1, found 2"):
        Reweighing(num_groups=2).apply(KEY, batch(y, a.astype(np.int32) + 1))
    assert np.isnan(apply(Reweighing(num_groups=2), batch(y, a.astype(np.int32) + 1))).all()
