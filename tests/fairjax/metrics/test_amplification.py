"""Bias amplification by hand and by a loop, and differential fairness compared with AIF360."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from fairjax.metrics import bias_amplification, differential_fairness


def loop_of_amplification(predictions, y, a, classes, groups):
    """Return the mean bias amplification of Zhao et al., counted row by row."""
    increases = []
    for k in range(1 if classes == 2 else 0, classes):
        of_model, of_data = a[predictions == k], a[y == k]
        if len(of_model) and len(of_data):
            shares = [(np.mean(of_model == g), np.mean(of_data == g)) for g in range(groups)]
            increases.append(sum(model - data for model, data in shares if data > 1 / groups))
    return np.mean(increases) if increases else np.nan


@pytest.mark.parametrize(("classes", "groups"), [(2, 2), (4, 3)])
def test_amplification_is_that_of_a_loop(classes, groups):
    r = np.random.default_rng(classes + groups)
    predictions, y, a = (r.integers(0, count, 60) for count in (classes, classes, groups))
    found = bias_amplification(predictions, y, a, num_classes=classes, num_groups=groups)
    assert found == pytest.approx(loop_of_amplification(predictions, y, a, classes, groups), abs=1e-6)
    same = bias_amplification(y, y, a, num_classes=classes, num_groups=groups)
    assert same == pytest.approx(0, abs=1e-7)


def test_amplification_of_ten_rows_by_hand():
    y = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    a = np.array([0, 0, 0, 1, 0, 1, 1, 1, 1, 1])  # of the labels 1, 3 of 4 are group 0
    predictions = np.array([1, 1, 1, 0, 1, 0, 0, 0, 0, 0])  # of the predictions 1, 4 of 4 are
    assert bias_amplification(predictions, y, a) == pytest.approx(0.25)
    other = (np.array([1, 1]), np.array([0, 1]))  # in these rows no group has more than half of the output
    assert bias_amplification(predictions, y, a, reference=other) == 0
    weights = np.array([1, 1, 1, 3, 1, 1, 1, 1, 1, 1.0])
    assert bias_amplification(predictions, y, a, weights) == pytest.approx(
        0.0, abs=1e-7
    )  # 3 of 6 are not more than half


def test_outputs_that_are_never_predicted_are_left_out():
    y, a = np.array([0, 1, 2, 2]), np.array([0, 1, 1, 0])
    assert bias_amplification(np.array([0, 0, 0, 0]), y, a, num_classes=3) == pytest.approx(-0.5)
    assert np.isnan(bias_amplification(np.zeros(4), np.array([0, 1, 1, 0]), a))


def test_differential_fairness_is_aif360s(concentration=0.5):
    aif360 = pytest.importorskip("aif360.metrics", reason="the oracle is AIF360")
    from aif360.datasets import BinaryLabelDataset

    r = np.random.default_rng(0)
    frame = pd.DataFrame({"sex": r.integers(0, 2, 80), "race": r.integers(0, 3, 80), "y": r.integers(0, 2, 80)})
    decisions = r.integers(0, 2, 80)
    tables = [
        BinaryLabelDataset(df=frame.assign(y=labels), label_names=["y"], protected_attribute_names=["sex", "race"])
        for labels in (frame.y, decisions)
    ]
    expected = aif360.BinaryLabelDatasetMetric(tables[1]).smoothed_empirical_differential_fairness(concentration)
    increase = aif360.ClassificationMetric(*tables).differential_fairness_bias_amplification(concentration)
    y, a = frame.y.to_numpy(), (3 * frame.sex + frame.race).to_numpy()
    settings = {"num_groups": 6, "concentration": concentration}
    of_model, of_labels = (differential_fairness(values, y, a, **settings) for values in (decisions, y))
    assert of_model == pytest.approx(expected, rel=1e-5)
    assert of_model - of_labels == pytest.approx(increase, abs=1e-5)
    more = differential_fairness(decisions, y, a, num_groups=8, concentration=concentration)
    assert more == of_model  # groups without rows are left out
    codes = np.repeat(np.arange(3), [5, 10, 5])
    three = differential_fairness(codes, codes, np.tile([0, 1], 10), num_classes=3, concentration=0)
    assert three == pytest.approx(np.log(3 / 2))


def test_absent_outcomes_and_groups_are_not_parity():
    y, a = np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1])
    assert differential_fairness(y, y, a, concentration=0) == np.inf
    assert np.isnan(differential_fairness(y, y, np.zeros(4, int)))
    assert differential_fairness(np.zeros(4), y, a, concentration=0) == 0
    with pytest.raises(ValueError, match="concentration must be a finite number of rows, at least 0, got -1"):
        differential_fairness(y, y, a, concentration=-1)


@pytest.mark.parametrize("measure", [bias_amplification, differential_fairness])
def test_scores_have_a_gradient_and_invalid_traced_values_give_nan(measure):
    r = np.random.default_rng(1)
    y, a = r.random(40) < 0.4, r.random(40) < 0.3
    scores = jnp.asarray(r.uniform(0.2, 0.8, 40), jnp.float32)
    compiled = jax.jit(measure)
    assert compiled(scores, y, a) == pytest.approx(float(measure(scores, y, a)), rel=1e-5)
    slope = jax.grad(lambda scores: compiled(scores, y, a))(scores)
    step = jnp.zeros(40).at[3].set(1e-2)
    difference = (compiled(scores + step, y, a) - compiled(scores - step, y, a)) / 2e-2
    assert slope[3] == pytest.approx(float(difference), rel=0.02, abs=1e-4)
    both = jax.vmap(lambda scores: compiled(scores, y, a))(jnp.stack([scores, 1 - scores]))
    np.testing.assert_allclose(both[0], compiled(scores, y, a), rtol=1e-5)
    assert jnp.isnan(compiled(2 * scores, y, a))
