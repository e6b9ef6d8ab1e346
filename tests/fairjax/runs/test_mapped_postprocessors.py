"""Postprocessors that one program applies to all seeds, compared with each seed alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax.metrics import make_measure
from fairjax.postprocess import calibrated_equalized_odds, corpus_level, corpus_shares
from fairjax.runs import programs
from fairjax.runs.postprocessors import POSTPROCESSORS
from fairjax.runs.programs import Scored
from fairjax.selection import ConstrainedObjective
from fairjax.types import Batch, WeightedBatch

MAPPED = [name for name, entry in POSTPROCESSORS.items() if entry.program is not None]
THRESHOLDS = np.array([0.4, 0.55], np.float32)


def keys():
    """Return one key per seed."""
    return jax.random.split(jax.random.key(0), 2)


def part(seed, n, groups):
    """Return the rows of two seeds, with scores in place of features."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, groups, (2, n))
    y = rng.random((2, n)) < 0.35 + 0.2 * a / groups
    scores = 1 / (1 + np.exp(-((1.0 + 0.5 * a) * (y - 0.5) + 0.5 * a + rng.normal(size=(2, n)))))
    return Batch(scores[:, :, None].astype(np.float32), y, a.astype(bool) if groups == 2 else a.astype(np.int32))


def decisions_of(name, seed, train, valid, test, groups):
    """Return the decisions on valid and test data by the library's functions."""
    if name.startswith("corpus_level"):
        among = np.ones_like(train.y[seed]) if name.endswith("parity") else train.y[seed]
        target = corpus_shares(among, train.a[seed], num_groups=groups).shares
        return [corpus_level(p.x[seed, :, 0] - THRESHOLDS[seed], p.a[seed], target).decisions for p in (valid, test)]
    cost = name.removeprefix("calibrated_equalized_odds").removeprefix("_") or "weighted"
    columns = valid.x[seed, :, 0], valid.y[seed], valid.a[seed]
    fitted = calibrated_equalized_odds(*columns, cost=cost, num_groups=groups)
    of_parts = zip((valid, test), jax.random.split(keys()[seed]), strict=True)
    return [fitted.decide(p.x[seed, :, 0], p.a[seed], key=key) for p, key in of_parts]


def applied(name, groups, valid=None):
    """Return the measure, the parts and the trace of all seeds."""
    measure = make_measure("spd", groups)
    train, test = part(0, 200, groups), part(2, 150, groups)
    valid = part(1, 150, groups) if valid is None else valid
    decide = POSTPROCESSORS[name].program
    trace = programs.postprocess(measure, decide, keys(), train, Scored(valid, test), THRESHOLDS)
    return train, valid, test, trace


@pytest.mark.parametrize(
    ("name", "groups"), [*((name, 2) for name in MAPPED), ("corpus_level", 3), ("calibrated_equalized_odds_fnr", 3)]
)
def test_all_seeds_are_each_seed_alone(name, groups):
    train, valid, test, trace = applied(name, groups)
    for seed in range(2):
        decided = decisions_of(name, seed, train, valid, test, groups)
        for rows, evaluation, decisions in zip((valid, test), (trace.valid, trace.test), decided, strict=True):
            accepted = np.asarray(decisions)
            y, a = rows.y[seed], rows.a[seed]
            rates = [accepted[a == g].mean() for g in range(groups)]
            bias = rates[0] - rates[1] if groups == 2 else np.ptp(rates)
            assert evaluation.bias[seed] == pytest.approx(bias, abs=1e-6)
            accuracy = (accepted[y].mean() + (~accepted)[~y].mean()) / 2
            assert evaluation.balanced_accuracy[seed] == pytest.approx(accuracy, abs=1e-6)
            threshold = THRESHOLDS[seed] if name.startswith("corpus_level") else 0.5
            assert evaluation.threshold[seed] == np.float32(threshold)


def weighed_and_repeated(seed, n):
    """Return rows with whole weights, and the same rows with each one as often as its weight says."""
    rows = part(seed, n, 2)
    weights = np.random.default_rng(seed).integers(1, 4, n)
    weighed = WeightedBatch(*rows, np.broadcast_to(weights.astype(np.float32), (2, n)))
    return weighed, Batch(*(np.repeat(column, weights, axis=1) for column in rows))


@pytest.mark.parametrize("name", ["group_thresholds", "corpus_level"])
def test_weights_are_rows_repeated(name):
    (train, trains), (valid, valids), (test, tests) = (weighed_and_repeated(seed, 120) for seed in range(3))
    measure = make_measure("spd", 2)
    if name == "group_thresholds":
        rule = ConstrainedObjective(epsilon=0.1)
        traces = [programs.by_group(measure, rule, Scored(*parts)) for parts in ((valid, test), (valids, tests))]
    else:
        decide = POSTPROCESSORS[name].program
        traces = [
            programs.postprocess(measure, decide, keys(), counted, Scored(test, test), THRESHOLDS)
            for counted in (train, trains)
        ]
    for part_name in ("valid", "test"):
        one, other = (getattr(trace, part_name) for trace in traces)
        np.testing.assert_allclose(one.bias, other.bias, atol=1e-6)
        np.testing.assert_allclose(one.balanced_accuracy, other.balanced_accuracy, atol=1e-6)


def test_mixing_rates_use_the_weights_of_validation_rows():
    valid, _ = weighed_and_repeated(1, 150)
    seen = []

    def decide(seed):
        seen.append(seed.valid_weights is not None and seed.train_weights is None)
        return POSTPROCESSORS["calibrated_equalized_odds"].program(seed)

    measure, train = make_measure("spd", 2), part(0, 200, 2)
    weighed = programs.postprocess(measure, decide, keys(), train, Scored(valid, valid), THRESHOLDS)
    rows = Scored(Batch(*valid[:3]), valid)
    unweighted = programs.postprocess(measure, decide, keys(), train, rows, THRESHOLDS)
    assert seen == [True, False] and not np.array_equal(weighed.test.bias, unweighted.test.bias)


def test_a_seed_without_a_label_of_a_group_has_no_numbers_and_the_others_do():
    valid = part(1, 150, 2)
    y = np.array(valid.y)
    y[0][valid.a[0]] = False
    trace = applied("calibrated_equalized_odds_fnr", 2, valid._replace(y=y))[-1]
    for evaluation in (trace.valid, trace.test):
        assert np.isnan(evaluation.bias).tolist() == np.isnan(evaluation.balanced_accuracy).tolist() == [True, False]


def test_a_seed_whose_valid_part_lacks_a_group_has_no_numbers():
    valid = part(1, 150, 2)
    a = np.array(valid.a)
    a[1] = True
    trace = applied("corpus_level", 2, valid._replace(a=a))[-1]
    assert np.isnan(trace.valid.balanced_accuracy).tolist() == [False, True]
    assert np.isfinite(jnp.concatenate([trace.test.bias, trace.test.balanced_accuracy])).all()
