"""The reductions: Fairlearn's moments, grid and algorithms as oracles, and one seed at a time."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pandas as pd
import pytest
from fairlearn import reductions as fairlearn
from sklearn.linear_model import LogisticRegression

import fairjax
from fairjax import ConstrainedObjective, PooledObjective, Training
from fairjax.nn import linear_classifier
from fairjax.reductions import (
    CONSTRAINTS,
    Constraint,
    DemographicParity,
    EqualizedOdds,
    error,
    exponentiated_gradient,
    grid_search,
    multiplier_grid,
    relabelled,
    signed_costs,
    violations,
)
from fairjax.reductions.hull import projected

ROWS, SEEDS = 400, 2
LINEAR = linear_classifier()
TRAINING = Training(epochs=90, check_every=30, learning_rate=0.1, batch_size=ROWS, plateau_patience=100, keep="last")
NAMES = {
    "demographic_parity": fairlearn.DemographicParity,
    "true_positive_rate_parity": fairlearn.TruePositiveRateParity,
    "false_positive_rate_parity": fairlearn.FalsePositiveRateParity,
    "equalized_odds": fairlearn.EqualizedOdds,
    "error_rate_parity": fairlearn.ErrorRateParity,
}
"""The constraints of Fairlearn by the names of ours."""

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def people(groups=2):
    """Draw rows in whose labels and second feature the group shows; the first rows have all labels and groups."""
    rng = np.random.default_rng(groups)
    a = np.concatenate([np.repeat(np.arange(groups), 2), rng.integers(groups, size=ROWS - 2 * groups)])
    x = rng.normal(size=(ROWS, 3)).astype(np.float32)
    y = x[:, 0] + 1.5 * a + rng.normal(scale=0.6, size=ROWS) > 0.75 * (groups - 1)
    y[: 2 * groups] = np.tile([False, True], groups)
    x[:, 1] += 2 * a
    return x, y, a


@pytest.fixture(scope="module")
def splits():
    """Return splits of which each has all rows in its train and its valid part."""
    x, y, a = people()
    rows = jnp.tile(jnp.arange(ROWS), (SEEDS, 1))
    scaler = (jnp.tile(jnp.asarray(values)[None], (SEEDS, 1)) for values in (x.mean(0), x.std(0)))
    table = jnp.asarray(x), jnp.asarray(y), jnp.asarray(a == 1)
    return fairjax.Split(*table, rows, rows, rows[:, :0], *scaler)


KEYS = jax.random.key_data(jax.random.split(jax.random.key(5), SEEDS))


def keys():
    """Return new keys of the same values, since a key must not be used twice."""
    return jax.random.wrap_key_data(KEYS)


@pytest.fixture
def unchecked():
    """Switch the tests' checks of types off, since they would fail first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def searched(splits):
    options = {"constraint": DemographicParity(), "grid_size": 7, "training": TRAINING}
    return grid_search(LINEAR, splits, keys=keys(), **options)


@pytest.fixture(scope="module")
def played(splits):
    return exponentiated_gradient(LINEAR, splits, keys=keys(), constraint=DemographicParity(), training=TRAINING)


def loaded(name, x, y, a, **options):
    """Return Fairlearn's moment of some rows."""
    moment = NAMES[name](**options)
    moment.load_data(x, y.astype(int), sensitive_features=a)
    return moment


def counts_of(y, a, groups):
    return np.array([[np.sum((y == label) & (a == group)) for group in range(groups)] for label in (0, 1)], float)


def table_of(decisions, y, a, groups):
    return np.stack([counts_of(y[decisions == d], a[decisions == d], groups) for d in (0, 1)])


@pytest.mark.parametrize("ratio", (1.0, 0.8))
@pytest.mark.parametrize("groups", (2, 3))
@pytest.mark.parametrize("name", CONSTRAINTS)
def test_costs_violations_and_projections_are_those_of_fairlearn(name, groups, ratio):
    x, y, a = people(groups)
    ours = CONSTRAINTS[name](ratio=ratio)
    moment = loaded(name, x, y, a, **({"ratio_bound": ratio} if ratio < 1 else {"difference_bound": 0.01}))
    rng = np.random.default_rng(0)
    multipliers = rng.exponential(size=ours.shape(groups))
    vector = pd.Series(multipliers.reshape(-1), moment.index)  # in the order of signs, events and groups
    expected = moment.signed_weights(vector) + fairlearn_error(x, y, a).signed_weights()
    counts = counts_of(y, a, groups)
    found = signed_costs(ours, counts, multipliers)[y.astype(int), a]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_array_equal(found > 0, expected > 0)
    decisions = rng.integers(2, size=ROWS)
    table = table_of(decisions, y, a, groups)
    np.testing.assert_allclose(violations(ours, table).reshape(-1), moment.gamma(lambda _: decisions), atol=1e-12)
    assert error(table) == pytest.approx(np.mean(decisions != y))
    if ratio == 1:
        rows = np.stack([counts[list(event)].sum(axis=0) for event in ours.events])
        expected = moment.project_lambda(vector)
        np.testing.assert_allclose(projected(multipliers, rows).reshape(-1), expected, atol=1e-12)


def fairlearn_error(x, y, a):
    moment = fairlearn.ErrorRate()
    moment.load_data(x, y.astype(int), sensitive_features=a)
    return moment


def test_costs_and_violations_are_functions_of_jax():
    x, y, a = people(3)
    ours, counts = EqualizedOdds(), counts_of(y, a, 3)
    multipliers = np.random.default_rng(0).exponential(size=(4, *ours.shape(3)))
    expected = signed_costs(ours, counts[None], multipliers)
    arrays = jnp.asarray(counts), jnp.asarray(multipliers)
    found = jax.jit(jax.vmap(lambda counts, lam: signed_costs(ours, counts, lam), (None, 0)))(*arrays)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    table = table_of(np.arange(ROWS) % 2, y, a, 3)
    found = jax.jit(lambda table: violations(ours, table))(jnp.asarray(table))
    np.testing.assert_allclose(found, violations(ours, table), atol=1e-6)
    for empty in (
        signed_costs(ours, arrays[0].at[:, 2].set(0.0), arrays[1][0]),
        signed_costs(ours, counts * 0, multipliers[0]),
    ):
        assert np.isnan(empty).any()  # and not 0, which would mean that nothing is to change


@pytest.mark.parametrize("name", ("demographic_parity", "equalized_odds"))
@pytest.mark.parametrize("groups", (2, 3))
@pytest.mark.parametrize("size", (5, 10, 11))
def test_the_grid_is_that_of_fairlearn(name, groups, size):
    from fairlearn.reductions._grid_search._grid_generator import _GridGenerator

    x, y, a = people(groups)
    moment = loaded(name, x, y, a)
    basis = moment.pos_basis, moment.neg_basis, moment.neg_basis_present
    expected = _GridGenerator(size, 2.0, *basis, force_L1_norm=False).grid
    found = multiplier_grid(CONSTRAINTS[name](), groups, size=size)
    expected = expected.reindex(moment.index).to_numpy().T
    np.testing.assert_allclose(found.reshape(size, -1), expected, atol=1e-12)
    assert not multiplier_grid(CONSTRAINTS[name](), groups, size=1).any()  # where Fairlearn divides by 0


def test_labels_and_weights_of_the_problems(splits):
    costs = jnp.array([[[-1.0, 2.0], [0.0, 3.0]], [[1.0, -2.0], [4.0, -5.0]]])
    weighted = splits._replace(weights=jnp.linspace(0.5, 2.0, ROWS))
    for table in (splits, weighted):
        changed = relabelled(table, costs)
        of_row = np.asarray(costs)[:, np.asarray(splits.y).astype(int), np.asarray(splits.a).astype(int)]
        np.testing.assert_array_equal(changed.y, of_row > 0)
        weights = 1.0 if table.weights is None else np.asarray(table.weights)
        np.testing.assert_allclose(changed.weights, np.abs(of_row) * weights, rtol=1e-6)


def test_grid_search_agrees_with_that_of_fairlearn(splits, searched):
    x, y, a = people()
    scaled = (x - x.mean(0)) / x.std(0)
    model = LogisticRegression(C=1e6)
    expected = fairlearn.GridSearch(model, fairlearn.DemographicParity(), grid_size=7)
    expected.fit(scaled, y.astype(int), sensitive_features=a)
    np.testing.assert_allclose(searched.error, np.tile(expected.objectives_, (SEEDS, 1)), atol=0.02)
    np.testing.assert_allclose(searched.violation, np.tile(expected.gammas_.max(), (SEEDS, 1)), atol=0.03)
    criterion = 0.5 * searched.error + 0.5 * searched.violation
    np.testing.assert_array_equal(searched.selected, criterion.argmin(axis=1))
    plain = np.asarray(searched.violation)[:, 3]  # multipliers 0
    chosen = np.take_along_axis(searched.violation, searched.selected[:, None], 1)[:, 0]
    assert (plain > 0.1).all() and (chosen < 0.7 * plain).all(), (plain, chosen)
    decisions = np.asarray(searched.decide(x))
    for seed in range(SEEDS):
        table = table_of(decisions[seed].astype(int), y, a, 2)
        np.testing.assert_allclose(table, searched.tables.train[seed, searched.selected[seed]])
    assert "7 multipliers, 2 seeds" in repr(searched)


def test_rules_of_fairjax_select_on_validation_data(searched):
    tables = np.asarray(searched.tables.valid, np.float64)
    selection = tables[:, :, 1].sum(axis=2) / tables.sum(axis=(2, 3))
    gaps = selection[..., 0] - selection[..., 1]
    rates = tables[..., [0, 1], [0, 1], :].sum(axis=-1) / tables.sum(axis=(2, 4))
    expected = np.where(np.abs(gaps) < 0.1, rates.mean(axis=-1), 0.0).argmax(axis=1)
    chosen = searched.select(ConstrainedObjective(epsilon=0.1, margin=0.0), fairjax.spd)
    np.testing.assert_array_equal(chosen.selected, expected)
    assert (np.abs(gaps[np.arange(SEEDS), expected]) < 0.1).all()
    pooled = searched.select(PooledObjective(epsilon=0.1), fairjax.spd)
    assert (np.abs(gaps[np.arange(SEEDS), np.asarray(pooled.selected)]) < 0.1).all()


@pytest.mark.slow
def test_many_seeds_are_one_by_one(splits, searched, played):
    one = splits._replace(**{name: getattr(splits, name)[1:] for name in ("train", "valid", "test", "mean", "scale")})
    options = {"constraint": DemographicParity(), "grid_size": 7, "training": TRAINING}
    alone = grid_search(LINEAR, one, keys=keys()[1:], **options)
    np.testing.assert_array_equal(alone.error[0], searched.error[1])
    same = jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[0], y[1]), alone.variables, searched.variables)
    assert jax.tree.leaves(same) == []
    alone = exponentiated_gradient(LINEAR, one, keys=keys()[1:], constraint=DemographicParity(), training=TRAINING)
    for name in ("gap", "error", "violation", "rounds", "trainings"):
        assert getattr(alone, name)[0] == getattr(played, name)[1], name


@pytest.mark.parametrize("name", ("demographic_parity", "equalized_odds", "true_positive_rate_parity"))
def test_exponentiated_gradient_is_as_good_as_that_of_fairlearn(splits, played, name):
    x, y, a = people()
    scaled, y = (x - x.mean(0)) / x.std(0), y.astype(int)
    game = fairlearn.ExponentiatedGradient(LogisticRegression(C=1e6), NAMES[name](), eps=0.01)
    game.fit(scaled, y, sensitive_features=a)
    accepted = game._pmf_predict(scaled)[:, 1]
    expected = loaded(name, x, y, a).gamma(lambda _: accepted).max()
    mistakes = np.mean(np.where(y == 1, 1 - accepted, accepted))
    found = played
    if name != "demographic_parity":
        options = {"constraint": CONSTRAINTS[name](), "training": TRAINING}
        found = exponentiated_gradient(LINEAR, splits, keys=keys(), **options)
    assert (found.violation <= max(expected, 0.01) + 0.01).all()
    assert (found.error <= mistakes + 0.015).all()
    assert found.converged.all() and (found.gap < found.tolerance).all()
    assert (found.rounds <= game.last_iter_ + 30).all() and (found.trainings > found.rounds).all()


def test_the_randomised_classifier_decides_as_its_tables_say(splits, played):
    x, y, a = people()
    classifier = played.classifier
    accepted = np.asarray(classifier.probabilities(x), np.float64)
    np.testing.assert_allclose(np.asarray(classifier.weights).sum(axis=1), 1.0, atol=1e-6)
    for seed in range(SEEDS):
        mistakes = np.mean(np.where(y, 1 - accepted[seed], accepted[seed]))
        assert mistakes == pytest.approx(played.error[seed], abs=1e-5)
        largest = loaded("demographic_parity", x, y, a).gamma(lambda _, seed=seed: accepted[seed]).max()
        assert largest == pytest.approx(played.violation[seed], abs=1e-5)
    draws = np.asarray(jax.vmap(lambda key: classifier.decide(x, key))(jax.random.split(jax.random.key(7), 400)))
    np.testing.assert_allclose(draws.mean(axis=0), accepted, atol=0.13)
    assert (draws[:, accepted == 1]).all() and not draws[:, accepted == 0].any()
    jitted = jax.jit(lambda classifier, x: classifier.probabilities(x))(classifier, jnp.asarray(x))
    np.testing.assert_allclose(jitted, accepted, atol=1e-6)
    one = jax.tree.map(lambda leaf: leaf[1], classifier)
    np.testing.assert_allclose(one.probabilities(x), accepted[1], atol=1e-6)
    with pytest.raises(ValueError, match="rows of 3 features"):
        classifier.probabilities(x[:, :2])


def test_training_may_go_on_from_the_previous_round_and_the_programme_be_left_out(splits):
    short = Training(epochs=30, check_every=30, learning_rate=0.1, batch_size=ROWS, plateau_patience=100, keep="last")
    options = {"constraint": DemographicParity(), "training": short, "max_iter": 4}
    warm = exponentiated_gradient(LINEAR, splits, keys=keys(), warm_start=True, run_linprog_step=False, **options)
    cold = exponentiated_gradient(LINEAR, splits, keys=keys(), run_linprog_step=False, **options)
    assert (warm.rounds == 4).all() and not np.array_equal(warm.error, cold.error)
    assert (np.abs(warm.error - cold.error) < 0.1).all() and np.isfinite(warm.gap).all()


def test_what_is_wrong_is_said(splits, searched, played, unchecked):
    x, y, a = people()
    alone = splits._replace(a=jnp.where(splits.a, 2, 0))
    given = {"keys": keys(), "constraint": DemographicParity()}
    for function, change, kind, match in (
        (grid_search, {"grid_size": 0}, ValueError, "size must be at least 1, got 0"),
        (grid_search, {"grid_limit": -1.0}, ValueError, "limit must be positive"),
        (grid_search, {"constraint_weight": 1.5}, ValueError, "constraint_weight must be between 0 and 1"),
        (grid_search, {"constraint": DemographicParity}, TypeError, "pass an instance, such as DemographicParity"),
        (grid_search, {"multipliers": np.zeros((3, 2))}, ValueError, r"shape \(m, 2, 1, 2\): points, signs, events"),
        (grid_search, {"multipliers": -np.ones((3, 2, 1, 2))}, ValueError, "must be finite and not negative"),
        (exponentiated_gradient, {"eps": -0.1}, ValueError, "eps must be positive, got -0.1"),
        (exponentiated_gradient, {"max_iter": 0}, ValueError, "max_iter must be at least 1"),
        (exponentiated_gradient, {"nu": 0.0}, ValueError, "nu must be positive"),
    ):
        with pytest.raises(kind, match=match):
            function(LINEAR, splits, **{**given, **change})
    for function in (grid_search, exponentiated_gradient):
        with pytest.raises(ValueError, match="group 1 has no train rows, so its rates are undefined"):
            function(LINEAR, alone, **given)
        with pytest.raises(ValueError, match="keys must be one key per seed"):
            function(LINEAR, splits, **{**given, "keys": keys()[:1]})
        with pytest.raises(TypeError, match="labels of two classes as booleans"):
            function(LINEAR, splits._replace(y=splits.y.astype(jnp.int32)), **given)
    no_positive = counts_of(y & (a == 0), a, 2)
    with pytest.raises(ValueError, match="group women has no train rows with label 1"):
        EqualizedOdds().check_counts(no_positive, ("men", "women"))
    for options, match in (({"bound": -0.1}, "bound must be a finite number"), ({"ratio": 0.0}, "ratio must be above")):
        with pytest.raises(ValueError, match=match):
            DemographicParity(**options)
    with pytest.raises(TypeError, match="key must be a typed key"):
        played.classifier.decide(people()[0], 3)
    with pytest.raises(TypeError, match="rule must be a selection rule"):
        searched.select("objective", fairjax.spd)
    with pytest.raises(TypeError, match="must be a subclass of Constraint"):
        CONSTRAINTS.register("mine", Training)
    assert all(issubclass(kind, Constraint) and kind.label for kind in CONSTRAINTS.values())
