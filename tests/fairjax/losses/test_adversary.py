"""Adversaries: losses by NumPy, ways of training by written-out loops, representations, and seeds that diverge."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.utils.class_weight import compute_sample_weight

import fairjax
from fairjax import data
from fairjax.losses import (
    Adversary,
    CrossEntropy,
    Data,
    Laftr,
    Loss,
    Outputs,
    group_cross_entropy,
    group_normalised_error,
)
from fairjax.nn import FlatVariables, Mlp, Network, from_linen
from fairjax.training import composed_gradients, init_terms
from fairjax.types import Batch, WeightedBatch

N, D = 80, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, D)).astype(np.float32)
Y, A = X[:, 0] + RNG.normal(size=N) > 0, X[:, 1] + RNG.normal(size=N) > 0.5
BATCH = Batch(jnp.asarray(X), jnp.asarray(Y), jnp.asarray(A))
LOGITS = RNG.normal(size=N).astype(np.float32)
WEIGHTS = RNG.integers(0, 3, N).astype(np.float32)


def init_linear(key, x):
    del key
    return {"params": {"w": jnp.array([0.5, -1.0, 2.0])[: x.shape[1]]}, "masks": {"none": jnp.ones(0, bool)}}


def apply_linear(variables, x, *, shifts=None, key=None):
    del shifts, key
    return x @ variables["params"]["w"], variables


LINEAR = Network(init_linear, apply_linear)
PARAMS = jnp.array([0.5, -1.0, 2.0])


def probabilities():
    return 1 / (1 + np.exp(-LOGITS.astype(np.float64)))


# losses


@pytest.mark.parametrize("weighted", [False, True])
def test_the_balanced_loss_is_scikit_learn_s_with_balanced_weights(weighted):
    weights = WEIGHTS if weighted else None
    batch = WeightedBatch(*BATCH, jnp.asarray(weights)) if weighted else BATCH
    p = probabilities()

    def balanced(rows):
        means = []
        for cell in (rows & ~A, rows & A):
            chosen = None if weights is None else weights[cell]
            means.append(log_loss(A[cell], p[cell], labels=[0, 1], sample_weight=chosen))
        return np.mean(means)

    found = group_cross_entropy(jnp.asarray(LOGITS), batch)
    assert found == pytest.approx(balanced(np.ones(N, bool)), rel=1e-5)
    if not weighted:
        expected = log_loss(A, p, sample_weight=compute_sample_weight("balanced", A))
        assert found == pytest.approx(expected, rel=1e-5)
    odds = group_cross_entropy(jnp.asarray(LOGITS), batch, notion="odds")
    assert odds == pytest.approx(np.mean([balanced(Y), balanced(~Y)]), rel=1e-5)
    opportunity = group_cross_entropy(jnp.asarray(LOGITS), batch, notion="opportunity")
    assert opportunity == pytest.approx(balanced(Y), rel=1e-5)
    rows = group_cross_entropy(jnp.asarray(LOGITS), batch, balanced=False)
    assert rows == pytest.approx(log_loss(A, p, sample_weight=weights), rel=1e-5)


def test_the_loss_of_three_groups_is_the_mean_of_the_groups_that_are_there():
    logits, codes = RNG.normal(size=(N, 3)).astype(np.float32), RNG.integers(0, 3, N)
    losses = -np.asarray(jax.nn.log_softmax(logits))[np.arange(N), codes]
    batch = BATCH._replace(a=jnp.asarray(codes))
    found = group_cross_entropy(jnp.asarray(logits), batch, num_groups=3)
    assert found == pytest.approx(np.mean([losses[codes == g].mean() for g in range(3)]), rel=1e-5)
    few = jax.tree.map(lambda column: column[codes < 2], batch)
    found = group_cross_entropy(jnp.asarray(logits[codes < 2]), few, num_groups=3)
    assert found == pytest.approx(np.mean([losses[codes == g].mean() for g in range(2)]), rel=1e-5)
    memberships = batch._replace(a=jax.nn.one_hot(codes, 3))
    of_codes = group_cross_entropy(jnp.asarray(logits), batch)
    np.testing.assert_allclose(group_cross_entropy(jnp.asarray(logits), memberships), of_codes, rtol=1e-5)
    with pytest.raises(ValueError, match=r"logits of 3 groups must have shape \(80, 3\), found shape \(80,\)"):
        group_cross_entropy(jnp.asarray(LOGITS), batch)


def test_the_l1_loss_is_a_loop_over_cells():
    p = probabilities()
    for notion, strata in {"parity": [np.ones(N, bool)], "odds": [Y, ~Y], "opportunity": [Y]}.items():
        expected = 0.0
        for rows in strata:
            for group in (False, True):
                cell = rows & (group == A)
                expected += sum(abs(p[i] - group) for i in np.flatnonzero(cell)) / cell.sum()
        found = group_normalised_error(jnp.asarray(LOGITS), BATCH, notion=notion)
        assert found == pytest.approx(expected, rel=1e-5)
        best = group_normalised_error(jnp.where(BATCH.a, 50.0, -50.0), BATCH, notion=notion)
        term = Laftr(notion=notion)
        assert best == pytest.approx(0, abs=1e-6) and term._gain(best) == pytest.approx(len(strata), abs=1e-6)
    one_label = BATCH._replace(y=jnp.ones(N, bool))
    found = group_normalised_error(jnp.asarray(LOGITS), one_label, notion="odds")
    assert found == pytest.approx(1 + float(group_normalised_error(jnp.asarray(LOGITS), BATCH)), rel=1e-5)


# ways of training, on a linear network


def of_adversary(adversary, logits, notion, balanced):
    """Compute the loss of an adversary of the scores, written out."""
    s = jax.nn.sigmoid((1 + jnp.abs(adversary["scale"])) * logits)
    y, slope = BATCH.y.astype(jnp.float32), adversary["slope"]
    guess = s * slope[0] + adversary["intercept"]
    if notion == "odds":
        guess = guess + s * y * slope[1] + s * (1 - y) * slope[2]
    losses = optax.sigmoid_binary_cross_entropy(guess, BATCH.a.astype(jnp.float32))
    rows = np.flatnonzero(Y) if notion == "opportunity" else np.arange(N)
    if not balanced:
        return jnp.mean(losses[rows])
    return sum(jnp.mean(losses[rows][A[rows] == group]) for group in (False, True)) / 2


START = {"intercept": jnp.array(-0.3), "scale": jnp.array(0.5), "slope": jnp.array([1.5, 0.4, -0.7])}


@functools.partial(jax.jit, static_argnums=2)
def step(loss, state, batch_size):
    del batch_size
    flat = FlatVariables.ravel(LINEAR.init(jax.random.key(0), BATCH.x))
    gradient, _, state, _ = composed_gradients(LINEAR, loss, flat, state, BATCH, None)
    return gradient, state


def start(**options):
    loss = Loss(terms=(Adversary(layer="output", form="logistic", own_rate=0.1, **options),)).bind(Data(BATCH))
    state = init_terms(LINEAR, loss, jax.random.key(1), LINEAR.init(jax.random.key(0), BATCH.x), BATCH)
    assert jax.tree.map(jnp.shape, state.params[0]["predictor"]) == jax.tree.map(jnp.shape, START)
    own = {**state.params[0], "predictor": START}
    return loss, state._replace(params=(own,), optimisers=(loss.terms[0].own_optimiser().init(own),))


def label_gradient():
    def objective(w):
        return jnp.mean(optax.sigmoid_binary_cross_entropy(BATCH.x @ w, BATCH.y.astype(jnp.float32)))

    return jax.grad(objective)(PARAMS)


@pytest.mark.parametrize(("how", "notion", "balanced"), [
    ("reversal", "parity", True), ("reversal", "odds", False), ("alternating", "parity", True),
    ("alternating", "opportunity", False), ("projected", "odds", False), ("projected", "parity", True),
])  # fmt: skip
def test_the_step_is_a_written_out_one(how, notion, balanced):
    loss, state = start(how=how, notion=notion, balanced=balanced, weight=2.0, steps=3)
    gradient, after = step(loss, state, N)
    adversary, adam = START, optax.adam(0.1)
    moments = adam.init(adversary)

    def own(adversary, w):
        return of_adversary(adversary, BATCH.x @ w, notion, balanced)

    def descend(adversary, moments):
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            updates, moments = adam.update(jax.grad(own)(adversary, PARAMS), moments)
        return optax.apply_updates(adversary, updates), moments

    if how == "alternating":
        for _ in range(3):
            adversary, moments = descend(adversary, moments)
    g, h = label_gradient(), jax.grad(own, argnums=1)(adversary, PARAMS)
    expected = g - 2.0 * h
    if how == "projected":
        expected = g - jnp.dot(g, h) / jnp.dot(h, h) * h - 2.0 * h
    if how != "alternating":
        adversary, moments = descend(adversary, moments)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
    jax.tree.map(
        lambda found, wanted: np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6),
        after.params[0]["predictor"],
        adversary,
    )


def test_the_weight_rises_with_the_steps_of_the_network():
    loss, state = start(how="reversal", weight=2.0, ramp=4)
    for k in range(6):
        before = state.params[0]["predictor"]
        gradient, state = step(loss, state, N)
        h = jax.grad(lambda w, before=before: of_adversary(before, BATCH.x @ w, "parity", True))(PARAMS)
        ramp = 2 / (1 + np.exp(-10 * min(k / 4, 1))) - 1
        np.testing.assert_allclose(gradient, label_gradient() - 2.0 * ramp * h, rtol=1e-4, atol=1e-6)
        assert state.params[0]["step"] == k + 1
    with pytest.raises(ValueError, match="ramp cannot be combined"):
        Adversary(how="projected", ramp=4)


def test_hidden_adversaries_see_the_label_for_odds_only():
    h = jnp.asarray(X)
    outputs = Outputs(jnp.asarray(LOGITS), {"last": h})
    for term, inputs in ((Adversary(), 3), (Adversary(notion="odds"), 5), (Adversary(notion="opportunity"), 3)):
        params = term.init(jax.random.key(0), outputs, BATCH)
        assert params["predictor"]["hidden"]["kernel"].shape == (inputs, 32)
        first = term.predictions(params, outputs, BATCH)
        second = term.predictions(params, outputs, BATCH._replace(y=~BATCH.y))
        assert bool(jnp.all(first == second)) == (term.notion != "odds")
        value = term.value(params, outputs, BATCH)
        assert value == pytest.approx(-float(term.own_loss(params, outputs, BATCH))) and value < 0
    slopes = Adversary(form="logistic", notion="odds").init(jax.random.key(0), outputs, BATCH)["predictor"]
    assert slopes["output"]["kernel"].shape == (9, 1), "one slope for all rows, and one more for each label"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"ramp": 0}, "ramp must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"own_rate": 0.0}, "own_rate must be positive, got 0.0"),
    ],
)
def test_hyperparameters_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        Adversary(**options)


def test_opportunity_needs_a_favourable_class():
    with pytest.raises(ValueError, match="is for two classes, of which one is favourable, found 3"):
        Loss(terms=(Adversary(notion="opportunity"),)).bind(Data(BATCH, num_classes=3))
    with pytest.raises(ValueError, match="supports 2 groups, found 3"):
        Loss(terms=(Laftr(),)).bind(Data(BATCH, num_groups=3))


# training


MLP = from_linen(Mlp(widths=(8,), dropout=0.0))
CONFIG = fairjax.Training(epochs=30, batch_size=64, learning_rate=3e-3, check_every=5, keep="last")
WEIGHT = np.repeat([0.0, 2.0], 2)
"""Two seeds without the adversary, and the same two with it."""


@pytest.fixture(scope="module")
def splits():
    rng = np.random.default_rng(1)
    n = 1500
    a = rng.random(n) < 0.4
    x = rng.normal(size=(n, 5)).astype(np.float32)
    x[:, 1] += 1.5 * a
    x[:, 2] += 1.0 * a
    y = x[:, 0] + 0.5 * x[:, 1] + rng.normal(size=n) > 0.5
    return data.split_seeds(data.from_arrays(x, y.astype(int), a.astype(int)), seeds=(1, 2))


def train(splits, rates):
    """Train the same two seeds with each weight, each with an adversary of its own learning rate."""
    keys = jax.random.split(jax.random.key(3))[jnp.array([0, 1, 0, 1])]
    columns = ("train", "valid", "test", "mean", "scale")
    splits = splits._replace(**{name: getattr(splits, name)[jnp.array([0, 1, 0, 1])] for name in columns})
    loss = Loss(terms=(Adversary(weight=jnp.asarray(WEIGHT, jnp.float32), own_rate=jnp.asarray(rates)),))
    return splits, fairjax.fit_many(MLP, splits, keys=keys, training=CONFIG, loss=loss, loss_axis=0)


@pytest.fixture(scope="module")
def trained(splits):
    return train(splits, jnp.full(4, 1e-2))


def test_a_new_probe_no_longer_finds_the_group_and_accuracy_hardly_suffers(trained):
    splits, fitted = trained

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, fairjax.SHARED))
    def represented(variables, split):
        parts = (split.part("train"), split.part("test"))
        return [(MLP.features(variables, part.x)[:2], part.y, part.a) for part in parts]

    found = []
    train_part, test_part = represented(fitted.variables, splits)
    for i in range(4):
        ((h, _), _, a), ((h_test, logits), y, a_test) = jax.tree.map(
            lambda leaf, i=i: np.asarray(leaf[i]), (train_part, test_part)
        )
        probe = LogisticRegression(class_weight="balanced").fit(h, a)
        found.append((balanced_accuracy_score(a_test, probe.predict(h_test)), np.mean((logits > 0) == y)))
    (plain, accuracy), (probed, remaining) = np.mean(found[:2], axis=0), np.mean(found[2:], axis=0)
    assert plain > 0.75 and probed < plain - 0.12
    assert remaining > accuracy - 0.08


def test_a_seed_whose_adversary_diverges_is_frozen_alone(splits, trained):
    """Give one seed a rate at which the adversary's parameters overflow."""
    _, fitted = train(splits, jnp.array([1e-2, 1e-2, 1e38, 1e-2]))
    assert fitted.diverged.tolist() == [False, False, True, False] and not trained[1].diverged.any()
    assert fitted.epochs.tolist() == [30, 30, 1, 30]
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(fitted.variables["params"]))
    for i in (0, 1, 3):
        jax.tree.map(
            lambda one, other, i=i: np.testing.assert_array_equal(one[i], other[i]),
            fitted.variables,
            trained[1].variables,
        )


def test_adversarial_debiasing_is_a_preset_of_the_composed_loss():
    method = fairjax.AdversarialDebiasing(weight=0.5, adversary="odds", adversary_rate=0.2)
    task = fairjax.methods.Task(LINEAR, fairjax.spd)
    loss = method.loss(task, BATCH)
    term = Adversary(
        weight=0.5, layer="output", how="projected", form="logistic", balanced=False, notion="odds", own_rate=0.2
    )
    assert loss == Loss(base=CrossEntropy(), terms=(term,)).bind(Data(BATCH))
    for measure, notion in ((fairjax.spd, "parity"), (fairjax.eod, "opportunity")):
        task = fairjax.methods.Task(LINEAR, measure)
        assert dataclasses.replace(method, adversary=None).loss(task, BATCH).terms[0].notion == notion
