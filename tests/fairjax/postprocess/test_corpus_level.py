"""Corpus-level constraints, compared with a search over all numbers of accepted rows and with a plain loop."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax.metrics import spd
from fairjax.postprocess import corpus_level, corpus_level_classes, corpus_shares

solve = jax.jit(corpus_level)
relax = jax.jit(corpus_level_classes, static_argnames="passes")


def rows(seed, n=26, groups=2):
    """Return potentials that are higher in groups of higher codes, and groups that all have rows."""
    rng = np.random.default_rng(seed)
    a = np.arange(n) % groups
    return (rng.normal(size=n) + 0.6 * a - 0.5).astype(np.float32), a


def bounds(target, margin, accepted):
    """Return the bounds on the number of rows of each group: those of the shares, and whole rows beside the target."""
    slack = 1e-6 * (1 + accepted)
    for share in target:
        least = min(np.ceil((share - margin) * accepted - slack), np.floor(share * accepted + slack))
        most = max(np.floor((share + margin) * accepted + slack), np.ceil(share * accepted - slack))
        yield least, most


def best_of_all_counts(potentials, a, target, margin):
    """Search all numbers of accepted rows by group, that is all combinations of thresholds."""
    ranked = [np.sort(potentials[a == g].astype(float))[::-1] for g in range(len(target))]
    best = 0.0
    for counts in itertools.product(*(range(len(values) + 1) for values in ranked)):
        limits = bounds(target, margin, sum(counts))
        if all(least <= k <= most for k, (least, most) in zip(counts, limits, strict=True)):
            best = max(best, sum(values[:k].sum() for k, values in zip(counts, ranked, strict=True)))
    return best


@pytest.mark.parametrize("margin", [0.0, 0.03, 0.2])
@pytest.mark.parametrize("groups", [2, 3])
def test_the_total_is_the_largest_of_all_combinations_of_thresholds(groups, margin):
    for seed in range(8):
        potentials, a = rows(seed, groups=groups)
        target = np.random.default_rng(100 + seed).dirichlet(np.full(groups, 3.0)).astype(np.float32)
        found = solve(potentials, a, target, margin=margin)
        decisions = np.asarray(found.decisions)
        assert potentials[decisions].sum() == pytest.approx(best_of_all_counts(potentials, a, target, margin), abs=1e-4)
        if not decisions.any():
            assert np.isnan(found.shares).all()
            continue
        counts = np.bincount(a[decisions], minlength=groups)
        np.testing.assert_allclose(found.shares, counts / decisions.sum(), rtol=1e-6)
        assert all(
            low <= k <= high for k, (low, high) in zip(counts, bounds(target, margin, counts.sum()), strict=True)
        )
        np.testing.assert_array_equal(decisions, potentials > np.asarray(found.thresholds)[a])


def test_without_a_binding_constraint_positive_potentials_are_accepted():
    potentials, a = rows(0, 200)
    np.testing.assert_array_equal(solve(potentials, a, jnp.array([0.5, 0.5]), margin=1.0).decisions, potentials > 0)


@pytest.mark.parametrize("parity", [True, False])
def test_shares_of_many_rows_are_the_target_and_parity_is_parity(parity):
    rng = np.random.default_rng(1)
    a, n = rng.random(4000) < 0.65, 4000
    y = rng.random(n) < np.where(a, 0.5, 0.3)
    potentials = (2 * y + a - 1.5 + rng.normal(size=n)).astype(np.float32)
    target = corpus_shares(np.ones(n) if parity else y, a).shares
    among = a if parity else a[y]
    np.testing.assert_allclose(target, [1 - among.mean(), among.mean()], rtol=1e-6)
    plain = potentials > 0
    found = solve(potentials, a, target)
    np.testing.assert_allclose(found.shares, target, atol=1 / found.decisions.sum())
    assert abs(plain[~a].sum() / plain.sum() - target[0]) > 0.05  # the constraint binds
    if parity:
        assert abs(spd(plain, y, a)) > 0.2 > 0.002 > abs(spd(found.decisions, y, a))


def test_tied_rows_are_accepted_in_order():
    found = corpus_level(jnp.full(6, 0.5), jnp.array([0, 0, 0, 0, 1, 1]), jnp.array([0.5, 0.5]))
    assert found.decisions.tolist() == [True, True, True, False, True, True]  # 3 of 5 is the row next to one half
    assert found.thresholds.tolist() == [0.5, -np.inf]


def test_seeds_and_outputs_are_mapped():
    columns = [rows(seed, 40, 3) for seed in range(3)]
    potentials, a = (np.stack(column) for column in zip(*columns, strict=True))
    target = jnp.array([0.2, 0.5, 0.3])
    mapped = jax.jit(jax.vmap(lambda f, a: corpus_level(f, a, target)))(potentials, a)
    for seed, (f, group) in enumerate(columns):
        np.testing.assert_array_equal(mapped.decisions[seed], corpus_level(f, group, target).decisions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([np.nan, 1.0], [0, 1], [0.5, 0.5]), "finite, found nan in row 0"),
        (([0.5, 1.0], [0, 2], [0.5, 0.5]), "a must hold"),
        (([0.5, 1.0], [0, 0], [0.5, 0.5]), "group 1 has no rows, and its target share is 0.5: decide more rows"),
        (([0.5, 1.0], [0, 1], [0.5, 0.6]), r"shares of the groups, which are not negative and sum to 1, found \[0.5"),
        (([0.5, 1.0], [[0, 1]], [0.5, 0.5]), r"one group, found shape \(1, 2\)"),
        (([], [], [0.5, 0.5]), "one row at least"),
        (([0.5, 1.0], [0, 1], [0.5, 0.5], -0.1), r"margin must be a difference of shares, in \[0, 1\], found -0.1"),
    ],
)
def test_invalid_rows_and_targets_are_refused_and_under_a_trace_give_nan(arguments, message):
    *columns, margin = arguments if len(arguments) == 4 else (*arguments, 0.0)
    columns = [np.asarray(column, np.float32 if i != 1 else np.int32) for i, column in enumerate(columns)]
    with pytest.raises(ValueError, match=message):
        corpus_level(*columns, margin=margin)
    if columns[0].shape == columns[1].shape and columns[0].size:
        found = solve(*columns, margin=margin)
        assert not found.valid and not found.decisions.any()
        assert np.isnan(found.thresholds).all() and np.isnan(found.shares).all()


def test_shares_are_those_of_a_table():
    rng = np.random.default_rng(2)
    y, a, weights = rng.integers(0, 3, 300), rng.integers(0, 4, 300), rng.random(300).astype(np.float32)
    found = corpus_shares(y, a, num_classes=3, weights=weights)
    for label, group in itertools.product(range(3), range(4)):
        total = weights[y == label].sum()
        assert found.shares[label, group] == pytest.approx(weights[(y == label) & (a == group)].sum() / total, abs=1e-6)
        assert found.counts[label] == pytest.approx(total, rel=1e-5)
    assert np.isnan(corpus_shares(np.zeros(4), [0, 1, 0, 1]).shares).all()
    assert np.isnan(jax.jit(corpus_shares)(jnp.full(4, 2.0), jnp.array([True] * 4)).shares).all()


def plain_loop(potentials, a, target, margin, constrained, eta, passes):
    """Lagrangian relaxation with a loop over rows and constraints; returns predictions and multipliers of each pass."""
    classes, groups = target.shape
    constraints = [(o, g, sign) for o in range(classes) for g in range(groups) for sign in (1, -1) if constrained[o]]
    multipliers, made = dict.fromkeys(constraints, 0.0), []

    def value(constraint, row, output):
        o, g, sign = constraint
        return sign * ((a[row] == g) - (target[o, g] + sign * margin)) if output == o else 0.0

    for _ in range(passes):
        scores = [
            [
                potentials[row, d] - sum(m * value(constraint, row, d) for constraint, m in multipliers.items())
                for d in range(classes)
            ]
            for row in range(len(a))
        ]
        predictions = np.argmax(scores, axis=1)
        made.append(predictions)
        sums = {one: sum(value(one, row, predictions[row]) for row in range(len(a))) for one in constraints}
        if all(total <= 1e-5 for total in sums.values()):
            return made, True
        multipliers = {one: max(0.0, multipliers[one] + eta * sums[one]) for one in constraints}
    return made, False


@pytest.mark.parametrize("seed", range(3))
def test_the_relaxation_is_that_of_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    a = np.arange(45) % 3
    potentials = rng.normal(size=(45, 4)).astype(np.float32)
    potentials[:, 1] += 0.8 * a
    target, constrained = np.full((4, 3), 1 / 3, np.float32), np.array([True, True, False, True])
    found = relax(potentials, a, target, constrained=constrained, margin=0.1, eta=0.05, passes=12)
    made, satisfied = plain_loop(potentials.astype(float), a, target, 0.1, constrained, 0.05, 12)
    assert bool(found.satisfied) == satisfied and int(found.passes) == len(made)

    def excess(predictions):
        return max(
            max(abs((a[predictions == o] == g).mean() - 1 / 3) - 0.1, 0) if (predictions == o).any() else 0
            for o in range(4) if constrained[o] for g in range(3)
        )  # fmt: skip

    least = min(made, key=excess)
    np.testing.assert_array_equal(found.predictions, least)
    assert float(found.excess) == pytest.approx(0 if satisfied else excess(least), abs=1e-5)
    assert excess(made[0]) > excess(least)


def test_two_classes_come_close_to_the_exact_solution():
    rng = np.random.default_rng(3)
    a = rng.random(2000) < 0.6
    f = (a + rng.normal(size=2000)).astype(np.float32)
    target = jnp.array([[0.5, 0.5], [0.4, 0.6]])
    found = relax(
        np.stack([0 * f, f], axis=1), a, target, constrained=np.array([False, True]), margin=0.01, eta=2e-3, passes=300
    )
    exact = solve(f, a, target[1], margin=0.01)
    assert found.satisfied and abs(found.shares[1, 0] - 0.4) < 0.0101
    total, best = (f[np.asarray(decisions)].sum() for decisions in (found.predictions == 1, exact.decisions))
    assert best * 0.995 < total <= best + 1e-2


def test_invalid_classes_are_refused_and_under_a_trace_are_no_classes():
    potentials, a, target = np.zeros((4, 2), np.float32), np.array([0, 1, 0, 1]), np.full((2, 2), 0.5, np.float32)
    for changes, message in (
        ({"potentials": potentials[:, 0]}, r"shape \(n, classes\)"),
        ({"potentials": potentials * np.nan}, "finite, found NaN or infinity in row 0"),
        ({"target": target[0]}, r"one row per class, found shape \(2,\)"),
        ({"constrained": [True]}, "one entry per class, 2"),
        ({"passes": 0}, "passes must be at least 1"),
        ({"eta": 0.0}, "eta must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            corpus_level_classes(**{"potentials": potentials, "a": a, "target": target, **changes})
    found = relax(potentials * np.nan, a, target)
    assert (found.predictions == -1).all() and np.isnan(found.excess) and not found.satisfied
    unused = np.array([[np.nan, np.nan], [0.5, 0.5]], np.float32)  # of a class without training rows
    assert corpus_level_classes(potentials, a, unused, constrained=[False, True]).satisfied
