"""Calibrated equalized odds, compared with AIF360."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from fairjax.adapters.aif360_postprocessing.library import quiet
from fairjax.postprocess import CalibratedEqualizedOdds, calibrated_equalized_odds

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from aif360.algorithms.postprocessing import CalibratedEqOddsPostprocessing
    from aif360.datasets import BinaryLabelDataset

fit = jax.jit(calibrated_equalized_odds, static_argnames=("cost", "num_groups"))
COSTS = ["weighted", "fnr", "fpr"]


def rows(seed, n=400, lift=0.7):
    """Return scores that are higher and more informative in the group a = 1."""
    rng = np.random.default_rng(seed)
    a = rng.random(n) < 0.55
    y = rng.random(n) < np.where(a, 0.55, 0.35)
    scores = 1 / (1 + np.exp(-(np.where(a, 2.0, 1.0) * (y - 0.5) + lift * (a - 0.5) + rng.normal(size=n))))
    return scores, y, a


def theirs(scores, y, a, cost):
    """Return AIF360's fitted postprocessor and its function of scores."""
    frame = pd.DataFrame({"group": a.astype(float), "label": y.astype(float)})
    made = BinaryLabelDataset(df=frame, label_names=["label"], protected_attribute_names=["group"])
    scored = made.copy(deepcopy=True)
    scored.scores = scores.reshape(-1, 1).astype(float)
    post = CalibratedEqOddsPostprocessing([{"group": 0}], [{"group": 1}], cost_constraint=cost, seed=0)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        post.fit(made, scored)
    return post, lambda: post.predict(scored).scores[:, 0]


@pytest.mark.parametrize("cost", COSTS)
def test_mix_rates_are_aif360s(cost):
    within = []
    for seed, lift in enumerate((0.7, -0.7, 3.0, 0.0)):
        scores, y, a = rows(seed, lift=lift)
        post, _ = theirs(scores, y, a, cost)
        found = fit(scores.astype(np.float32), y, a, cost=cost)
        np.testing.assert_allclose(found.mix_rates, [post.unpriv_mix_rate, post.priv_mix_rate], rtol=2e-3, atol=1e-4)
        np.testing.assert_allclose(found.base_rates, [post.base_rate_unpriv, post.base_rate_priv], rtol=1e-6)
        within.append(bool(found.equalises))
    assert any(within)
    if cost != "weighted":
        assert not all(within)  # AIF360 does not cut the rates to [0, 1] either


def test_in_double_precision_mix_rates_are_aif360s_to_rounding():
    with jax.enable_x64(True):
        for cost in COSTS:
            scores, y, a = rows(7)
            post, _ = theirs(scores, y, a, cost)
            found = calibrated_equalized_odds(scores, y, a, cost=cost)
            np.testing.assert_allclose(found.mix_rates, [post.unpriv_mix_rate, post.priv_mix_rate], rtol=1e-12)


@pytest.mark.parametrize("cost", COSTS)
def test_expected_costs_become_equal_and_scores_stay_calibrated(cost):
    scores, y, a = rows(1, 60_000, 0.3)
    found = fit(scores.astype(np.float32), y, a, cost=cost)
    assert found.equalises
    expected = found.costs + found.mix_rates * (found.trivial_costs - found.costs)
    np.testing.assert_allclose(expected, max(found.costs), rtol=1e-5)
    mixed = np.asarray(found.mix(scores.astype(np.float32), a, key=jax.random.key(0)))
    again = fit(mixed, y, a, cost=cost)
    assert abs(again.costs[0] - again.costs[1]) < 0.15 * abs(found.costs[0] - found.costs[1])
    worse = int(np.argmax(found.costs))
    changed = mixed != scores.astype(np.float32)
    assert not changed[a == worse].any()
    other = a == 1 - worse
    assert changed[other].mean() == pytest.approx(float(found.mix_rates[1 - worse]), abs=0.02)
    assert y[other & changed].mean() == pytest.approx(float(mixed[other & changed][0]), abs=0.03)


def test_rates_beyond_one_and_below_zero_replace_all_scores_and_none():
    numbers = jnp.array([3.0, -2.0]), jnp.array([0.25, 0.75]), jnp.zeros(2), jnp.zeros(2)
    found = CalibratedEqualizedOdds(*numbers)
    scores, a = np.full(50, 0.9, np.float32), np.arange(50) % 2
    mixed = found.mix(scores, a, key=jax.random.key(0))
    assert set(np.asarray(mixed)[a == 0]) == {0.25} and set(np.asarray(mixed)[a == 1]) == {np.float32(0.9)}
    assert found.decide(scores, a, key=jax.random.key(0), threshold=0.5).tolist() == (a == 1).tolist()
    assert not found.equalises
    infinite = found._replace(mix_rates=jnp.array([jnp.inf, 0.0]))
    np.testing.assert_array_equal(infinite.mix(scores, a, key=jax.random.key(0)), scores)


def test_several_groups_reach_the_greatest_cost():
    rng = np.random.default_rng(5)
    a = rng.integers(0, 3, 3000)
    y = rng.random(3000) < 0.4
    scores = (1 / (1 + np.exp(-((1.0 + a) * (y - 0.5) + rng.normal(size=3000))))).astype(np.float32)
    found = fit(scores, y, a, cost="fnr", num_groups=3)
    reached = found.costs + found.mix_rates * (found.trivial_costs - found.costs)
    np.testing.assert_allclose(reached, max(found.costs), rtol=1e-5)
    costs = [np.mean(1 - scores[y & (a == g)]) for g in range(3)]
    np.testing.assert_allclose(found.costs, costs, rtol=1e-5)
    for g in range(3):  # the pair of a group and the worst one is AIF360's
        if g != np.argmax(costs):
            among = np.isin(a, (g, np.argmax(costs)))
            post, _ = theirs(scores[among], y[among], a[among] == g, "fnr")
            assert found.mix_rates[g] == pytest.approx(post.priv_mix_rate, rel=1e-3)


def test_weights_are_rows_repeated_and_seeds_are_mapped():
    scores, y, a = rows(2)
    weights = np.random.default_rng(0).integers(0, 4, len(y))
    weighed = fit(scores.astype(np.float32), y, a, weights=weights.astype(np.float32))
    repeated = fit(*(np.repeat(column, weights) for column in (scores.astype(np.float32), y, a)))
    np.testing.assert_allclose(weighed.mix_rates, repeated.mix_rates, rtol=1e-4, atol=1e-6)
    columns = [np.stack(column) for column in zip(*(rows(seed) for seed in range(3)), strict=True)]
    columns[0] = columns[0].astype(np.float32)

    def both(key, scores, y, a):
        found = calibrated_equalized_odds(scores, y, a, cost="fnr")
        return found.mix_rates, found.decide(scores, a, key=key)

    rates, decisions = jax.jit(jax.vmap(both))(jax.random.split(jax.random.key(0), 3), *columns)
    for seed in range(3):
        alone = both(jax.random.split(jax.random.key(0), 3)[seed], *(column[seed] for column in columns))
        np.testing.assert_allclose(rates[seed], alone[0], rtol=1e-5)
        np.testing.assert_array_equal(decisions[seed], alone[1])


@pytest.mark.parametrize("cost", COSTS)
def test_a_group_without_a_label_is_refused_and_under_a_trace_is_nan(cost):
    scores, y, a = rows(3)
    scores, wrong = scores.astype(np.float32), {"fpr": 0}.get(cost, 1)
    y = np.where(a, y, not wrong)
    with pytest.raises(ValueError, match=f"group 0 has no rows with y = {wrong}, over which the cost '{cost}'"):
        calibrated_equalized_odds(scores, y, a, cost=cost)
    found = fit(scores, y, a, cost=cost)
    assert np.isnan(found.mix_rates).all() and not found.equalises
    with pytest.raises(ValueError, match="mix_rates are NaN"):
        found.mix(scores, a, key=jax.random.key(0))
    traced = jax.jit(lambda rates: found._replace(mix_rates=rates).mix(scores, a, key=jax.random.key(0)))
    assert np.isnan(traced(found.mix_rates)).all()


def test_what_cannot_be_fitted_is_refused():
    scores, y, a = rows(4)
    scores = scores.astype(np.float32)
    with pytest.raises((ValueError, TypeError), match="cost"):
        calibrated_equalized_odds(scores, y, a, cost="both")
    with pytest.raises(ValueError, match="one group, found shape"):
        calibrated_equalized_odds(scores, y, np.eye(2)[a.astype(int)])
    with pytest.raises(ValueError, match="pass logits through"):
        calibrated_equalized_odds(10 * scores, y, a)
    assert np.isnan(fit(10 * scores, y, a).mix_rates).all()
    with pytest.raises(ValueError, match=r"one per group, found shape \(3, 2\)"):
        fit(scores, y, a)._replace(mix_rates=jnp.ones((3, 2))).mix(scores, a, key=jax.random.key(0))
