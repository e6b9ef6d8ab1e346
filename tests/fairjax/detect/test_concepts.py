"""Concept vectors, gradients of units, probes, concept addition and selectivity, held against plain oracles."""

import sys

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from fairjax.detect.concepts import (
    concept_addition,
    concept_vector,
    concept_vectors,
    layer_names,
    probe,
    probe_table,
    selectivity,
    unit_activations,
    unit_gradients,
)
from fairjax.detect.concepts.probe import input_columns
from fairjax.nn import Cnn, Mlp, Network, from_linen
from fairjax.types import Batch, WeightedBatch

N, D = 120, 3
OF_X, OF_NETWORK, OF_OTHER = jax.random.split(jax.random.key(0), 3)
X = jax.random.normal(OF_X, (N, D))
A = X[:, 0] + 0.3 * X[:, 1] > 0.2
BATCH = Batch(X, X[:, 1] > 0, A)
MLP = from_linen(Mlp(widths=(5, 5), site="activation"))
LAYERS = ["hidden_00", "hidden_01"]


@pytest.fixture(scope="module")
def variables():
    """Return variables with one unit cut, and with weights that are not small."""
    initial = jax.jit(MLP.init)(OF_NETWORK, X)
    keep = initial["masks"]["hidden_00"]["units"]["keep"].at[2].set(False)
    masks = {**initial["masks"], "hidden_00": {"units": {"keep": keep}}}
    return {**initial, "params": jax.tree.map(lambda leaf: 2.0 * leaf, initial["params"]), "masks": masks}


def linear_network(weights):
    """Return the network f = h . w of the units h = x, which is known by hand."""

    def init(key, x):
        return {"params": {}, "masks": {"only": jnp.ones(len(weights), bool)}}

    def apply(variables, x, *, shifts=None, key=None):
        h = x if shifts is None else x + shifts["only"][None]
        return h @ jnp.asarray(weights), variables

    return Network(init, apply, None, lambda variables, x: {"only": x})


WEIGHTS = np.array([1.0, -2.0, 0.5], np.float32)
LINEAR = linear_network(WEIGHTS)
LINEAR_VARIABLES = LINEAR.init(jax.random.key(0), X)


def test_layers_are_named_as_their_masks(variables):
    assert layer_names(variables) == ("hidden_00", "hidden_01")
    masks = {"00 fcs.0": jnp.ones(1, bool), "block": {"units": {"keep": jnp.ones(1, bool)}, "b": jnp.ones(1, bool)}}
    assert layer_names({"masks": masks}) == ("00 fcs.0", "block.b", "block")
    assert layer_names({"masks": {"units": {"keep": jnp.ones(1, bool)}}}) == ("units",)


def test_a_layer_that_is_not_there_is_refused_with_the_names_of_those_that_are(variables):
    calls = (
        lambda layers: unit_activations(MLP, variables, X, layers=layers),
        lambda layers: unit_gradients(MLP, variables, X, layers=layers),
        lambda layers: probe(MLP, variables, BATCH, BATCH, layers=layers),
        lambda layers: selectivity(MLP, variables, BATCH, layers=layers),
        lambda layers: concept_vectors(MLP, variables, X, {"a": A}, layers=layers),
    )
    for call in calls:
        with pytest.raises(ValueError, match="found 'hidden_07': it has hidden_00, hidden_01"):
            call(["hidden_00", "hidden_07"])
    with pytest.raises(ValueError, match="found none: it has hidden_00"):
        calls[0]([])
    with pytest.raises(ValueError, match=r"found the text 'hidden_00': pass \['hidden_00'\]"):
        calls[0]("hidden_00")
    with pytest.raises(ValueError, match="shows no activations.*fairjax.adapters"):
        unit_activations(MLP._replace(activations=None), variables, X)


def test_activations_at_positions_are_averaged_and_gradients_summed():
    def apply(variables, x, *, shifts=None, key=None):
        h = x if shifts is None else x + shifts["only"][None, None]
        return jnp.tanh(h).sum(axis=(1, 2)), variables

    network = LINEAR._replace(apply=apply)
    images = jax.random.normal(OF_OTHER, (5, 4, 3))  # four positions of three channels
    pooled = unit_activations(network, LINEAR_VARIABLES, images, chunk=2)["only"]
    np.testing.assert_allclose(pooled, np.asarray(images).mean(axis=1), rtol=1e-5, atol=1e-6)
    gradients = unit_gradients(network, LINEAR_VARIABLES, images, chunk=2)["only"]
    np.testing.assert_allclose(gradients, (1 - np.tanh(images) ** 2).sum(axis=1), rtol=1e-4)


@pytest.mark.slow
def test_a_convolutional_network_shows_its_channels():
    network = from_linen(Cnn(channels=(2, 3), site="activation"))
    x = jax.random.normal(jax.random.clone(OF_OTHER), (3, 6, 6, 1))
    variables = jax.jit(network.init)(jax.random.clone(OF_NETWORK), x)
    pooled, gradients = unit_activations(network, variables, x), unit_gradients(network, variables, x, chunk=2)
    for name, full in zip(pooled, jax.tree.leaves(network.activations(variables, x)), strict=True):
        np.testing.assert_allclose(pooled[name], np.asarray(full).mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)
    step, shifts = 1e-2, jax.tree.map(lambda keep: jnp.zeros(keep.shape), variables["masks"])
    shifts["block_01"]["units"]["keep"] = shifts["block_01"]["units"]["keep"].at[1].set(step)
    change = network.apply(variables, x, shifts=shifts)[0] - network.apply(variables, x)[0]
    np.testing.assert_allclose(gradients["block_01"][:, 1], change / step, rtol=2e-3, atol=1e-4)


@pytest.fixture(scope="module")
def gradients(variables):
    """Return the gradients of all units."""
    return unit_gradients(MLP, variables, X)


def test_gradients_are_those_of_each_row_alone(variables, gradients):
    zeros = jax.tree.map(lambda keep: jnp.zeros(keep.shape), variables["masks"])
    one = jax.jit(jax.grad(lambda shifts, x: MLP.apply(variables, x, shifts=shifts)[0][0]))
    for i in range(0, N, 17):
        for name, leaf in zip(LAYERS, jax.tree.leaves(one(zeros, X[i : i + 1])), strict=True):
            expected = np.where(np.arange(5) == 2, 0, leaf) if name == "hidden_00" else leaf
            np.testing.assert_allclose(gradients[name][i], expected, rtol=1e-4, atol=1e-6)
    assert np.all(np.asarray(gradients["hidden_00"])[:, 2] == 0)


@pytest.mark.slow
def test_chunks_jit_and_seeds_do_not_change_gradients(variables, gradients):
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), variables)
    mapped = jax.jit(jax.vmap(lambda variables: unit_gradients(MLP, variables, X, chunk=50)))(stacked)
    for name in LAYERS:
        np.testing.assert_allclose(mapped[name][1], gradients[name], rtol=1e-5, atol=1e-6)
    negative = unit_gradients(MLP, variables, X, target=0, layers=["hidden_01"])
    np.testing.assert_allclose(negative["hidden_01"], -gradients["hidden_01"], rtol=1e-5)
    assert list(negative) == ["hidden_01"]
    with pytest.raises(ValueError, match="target must be 0 or 1"):
        unit_gradients(MLP, variables, X, target=2)


def test_a_network_whose_rows_depend_on_each_other_is_refused():
    def apply(variables, x, *, shifts=None, key=None):
        return x[:, 0] - jnp.mean(x), variables

    network = LINEAR._replace(apply=apply)
    with pytest.raises(ValueError, match="depends on the other rows"):
        unit_gradients(network, LINEAR_VARIABLES, X)
    with pytest.raises(ValueError, match="depends on the other rows"):
        concept_addition(network, LINEAR_VARIABLES, X, {"only": jnp.ones(3)}, t=1.0)


def test_the_vector_of_a_logistic_regression_is_that_of_scikit_learn():
    found = jax.jit(lambda h: concept_vector(h, ~A, penalty=0.5))(X)
    coef = LogisticRegression(C=2.0, class_weight="balanced", tol=1e-8).fit(X, ~np.asarray(A)).coef_[0]
    np.testing.assert_allclose(found.vector, coef / np.linalg.norm(coef), atol=1e-4)
    assert bool(found.converged)
    correct = (X @ found.vector + found.intercept > 0) == ~A
    assert float(jnp.mean(correct)) > 0.9


@pytest.mark.parametrize("method", ["logistic", "difference"])
def test_vectors_have_norm_one_and_point_to_the_concept_for_known_gaussians(method):
    covariance = np.array([[1.0, 0.6, 0.0], [0.6, 2.0, 0.0], [0.0, 0.0, 0.5]])
    gap = np.array([1.0, 0.0, 0.5])
    rng = np.random.default_rng(1)
    rows = [rng.multivariate_normal(mean, covariance, 4000) for mean in (np.zeros(3), gap)]
    concept = np.arange(8000) >= 4000
    found = concept_vector(np.concatenate(rows).astype(np.float32), concept, method=method)
    expected = np.linalg.solve(covariance, gap) if method == "logistic" else gap
    np.testing.assert_allclose(np.linalg.norm(found.vector), 1.0, atol=1e-5)
    assert found.vector @ expected / np.linalg.norm(expected) > 0.995
    boundary = found.vector @ gap / 2 + found.intercept
    assert abs(float(boundary)) < 0.05  # halfway between the means
    opposite = concept_vector(np.concatenate(rows).astype(np.float32), ~concept, method=method)
    np.testing.assert_allclose(opposite.vector, -found.vector, atol=1e-3)


def test_the_difference_of_means_works_with_fewer_rows_than_units():
    h = jnp.eye(4)[:2] * 3.0
    found = concept_vector(h, jnp.array([False, True]), method="difference")
    np.testing.assert_allclose(found.vector, np.array([-1, 1, 0, 0]) / np.sqrt(2), atol=1e-6)
    weighted = concept_vector(
        jnp.array([[0.0], [5.0], [9.0]]), jnp.array([0, 0, 1]), method="difference", weights=jnp.array([1.0, 0.0, 1.0])
    )
    np.testing.assert_allclose([weighted.vector[0], weighted.intercept], [1.0, -4.5])
    equal = concept_vector(jnp.ones((4, 2)), jnp.array([0, 1, 0, 1]), method="difference")
    assert not bool(equal.converged) and bool(jnp.all(jnp.isnan(equal.vector)))


@pytest.fixture(scope="module")
def vectors(variables):
    """Return vectors of two concepts in all layers."""
    return concept_vectors(MLP, variables, X, {"privileged": A, "bright": X[:, 2] > 0.1}, chunk=50)


def test_vectors_of_all_layers_and_concepts_are_those_of_each_alone(variables, vectors):
    activations = unit_activations(MLP, variables, X)
    assert list(vectors) == LAYERS and list(vectors["hidden_00"]) == ["bright", "privileged"]
    for name in LAYERS:
        alone = concept_vector(activations[name], A)
        np.testing.assert_allclose(vectors[name]["privileged"].vector, alone.vector, rtol=1e-3, atol=1e-4)
    assert vectors["hidden_00"]["bright"].vector[2] == 0  # the unit that is cut


def test_bad_concepts_are_refused(variables):
    few = jnp.arange(N) < 4
    cases = {
        r"concepts\['none'\] has no rows": {"none": jnp.zeros(N, bool)},
        r"concepts\['all'\] has all rows": {"all": jnp.ones(N, bool)},
        r"concepts\['a'\] must have 120 rows": {"a": A[1:]},
        r"concepts\['a'\] must hold 0 and 1": {"a": jnp.arange(N)},
        "dictionary of columns.*with one entry at least": {},
        "'few' has 4 examples or counterexamples and layer 'hidden_00' has 5 units": {"few": few},
        "'many' has 4 examples or counterexamples": {"many": ~few},
    }
    for message, concepts in cases.items():
        with pytest.raises(ValueError, match=message):
            concept_vectors(MLP, variables, X, concepts)
    found = concept_vectors(MLP, variables, X, {"few": few}, method="difference", layers=["hidden_01"])
    assert bool(found["hidden_01"]["few"].converged)
    with pytest.raises((ValueError, jaxtyping.TypeCheckError)):
        concept_vectors(MLP, variables, X, {"a": A}, method="svm")
    with pytest.raises(ValueError, match="h must have shape"):
        concept_vector(X, A[1:], method="difference")
    traced = jax.jit(lambda a: concept_vectors(MLP, variables, X, {"a": a}, layers=["hidden_01"])["hidden_01"]["a"])
    for column in (few.astype(jnp.int32), jnp.zeros(N, jnp.int32), jnp.arange(N)):
        assert bool(jnp.all(jnp.isnan(traced(column).vector)))
    np.testing.assert_allclose(np.linalg.norm(traced(A.astype(jnp.int32)).vector), 1.0, atol=1e-5)


@pytest.fixture(scope="module")
def probes(variables):
    """Return probes fitted on the first rows."""
    train, test = (jax.tree.map(lambda column, rows=rows: column[rows], BATCH) for rows in (slice(80), slice(80, N)))
    untrained = jax.jit(MLP.init)(jax.random.clone(OF_OTHER), X)
    return probe(MLP, variables, train, test, untrained=untrained), untrained


def test_probes_are_those_of_scikit_learn(variables, probes):
    found, untrained = probes
    with_masks = {**untrained, "masks": variables["masks"]}
    cases = [(X, found.input)]
    for values, qualities in ((variables, found.layers), (with_masks, found.untrained)):
        activations = unit_activations(MLP, values, X)
        cases += [(activations[name], qualities[name]) for name in LAYERS]
    a = np.asarray(A)
    for h, quality in cases:
        h = np.asarray(h, np.float64)
        model = LogisticRegression(class_weight="balanced", tol=1e-8, max_iter=1000).fit(h[:80], a[:80])
        expected = balanced_accuracy_score(a[80:], model.predict(h[80:]))
        np.testing.assert_allclose(quality.balanced_accuracy, expected, atol=1e-6)
        np.testing.assert_allclose(quality.auc, roc_auc_score(a[80:], model.decision_function(h[80:])), atol=4e-3)
    assert float(found.input.balanced_accuracy) > 0.9


def test_the_table_of_probes_has_a_row_per_layer(probes):
    table = probe_table(probes[0])
    assert table.layer.tolist() == ["input", *LAYERS]
    assert table.untrained_auc.isna().tolist() == [True, False, False]
    assert table.auc[1] == float(probes[0].layers["hidden_00"].auc)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), probes[0])
    assert probe_table(stacked).seed.tolist() == [0, 1] * 3


@pytest.mark.slow
def test_probes_run_under_jit_and_over_seeds_and_invalid_groups_give_nan():
    def run(a):
        batch = Batch(X, BATCH.y, a)
        return probe(LINEAR, LINEAR_VARIABLES, batch, batch)

    groups = jnp.stack([A.astype(jnp.int32), (~A).astype(jnp.int32), jnp.zeros(N, jnp.int32), jnp.arange(N)])
    found = jax.jit(jax.vmap(run))(groups)
    eager = probe(LINEAR, LINEAR_VARIABLES, BATCH, BATCH).layers["only"]
    np.testing.assert_allclose(found.layers["only"].auc[:2], eager.auc, atol=1e-5)
    for quality in (found.layers["only"], found.input):
        assert (
            np.isnan(quality.balanced_accuracy).tolist() == np.isnan(quality.auc).tolist() == [False, False, True, True]
        )


def test_groups_that_are_missing_are_refused_by_probes_and_selectivity():
    for a, message in (
        (jnp.ones(N, bool), "must have rows of both groups, found 120 of group 1 among 120"),
        (jnp.arange(N) % 3, "must hold 0 and 1 only"),
        (A[1:], r"must hold one of two groups per row of x, 120, found shape \(119,\)"),
    ):
        batch = Batch(X, BATCH.y, a)
        with pytest.raises(ValueError, match=f"test.a {message}"):
            probe(LINEAR, LINEAR_VARIABLES, BATCH, batch)
        with pytest.raises(ValueError, match=f"batch.a {message}"):
            selectivity(LINEAR, LINEAR_VARIABLES, batch)


def test_the_input_is_probed_only_if_it_holds_quantities():
    tree = {"age": jnp.ones(2), "image": jnp.ones((2, 3, 3), jnp.uint8), "known": jnp.ones((2, 1), bool)}
    assert input_columns(tree).shape == (2, 11)
    assert input_columns({"age": jnp.ones(2), "word": jnp.ones((2, 3), jnp.int32)}) is None
    network = LINEAR._replace(activations=lambda variables, x: {"only": x.astype(jnp.float32)})
    codes = Batch(jax.random.randint(jax.random.key(1), (N, D), 0, 9), BATCH.y, A)
    found = probe(network, LINEAR_VARIABLES, codes, codes)
    assert np.isnan(found.input.auc) and not np.isnan(found.layers["only"].auc) and found.untrained is None


def test_inputs_with_too_many_columns_are_not_probed(monkeypatch):
    assert not np.isnan(probe(LINEAR, LINEAR_VARIABLES, BATCH, BATCH).input.auc)
    monkeypatch.setattr(sys.modules["fairjax.detect.concepts.probe"], "INPUT_COLUMNS", D - 1)
    found = probe(LINEAR, LINEAR_VARIABLES, BATCH, BATCH)
    assert np.isnan(found.input.auc) and not found.input.converged and not np.isnan(found.layers["only"].auc)


def sigmoid(values):
    return 1 / (1 + np.exp(-np.asarray(values, np.float64)))


def test_adding_a_concept_to_a_linear_network_is_known_by_hand():
    vector = jnp.array([0.6, 0.8, 0.0])
    found = concept_addition(LINEAR, LINEAR_VARIABLES, X, {"only": vector}, concept=~A, chunk=50)["only"]
    along = np.asarray(X) @ np.asarray(vector)
    gap = along[~np.asarray(A)].mean() - along[np.asarray(A)].mean()
    np.testing.assert_allclose(found.t, gap, rtol=1e-5)
    logits = np.asarray(X) @ WEIGHTS
    np.testing.assert_allclose(found.effect, sigmoid(logits + gap * (vector @ WEIGHTS)) - sigmoid(logits), atol=1e-6)


def test_the_slope_of_concept_addition_at_zero_is_the_sensitivity(variables, gradients, vectors):
    directions = {name: vectors[name]["privileged"].vector for name in LAYERS}
    found = jax.jit(lambda t: concept_addition(MLP, variables, X, directions, {"hidden_00": t, "hidden_01": 2 * t}))(
        1e-3
    )
    score = sigmoid(MLP.apply(variables, X)[0])
    for name, t in (("hidden_00", 1e-3), ("hidden_01", 2e-3)):
        expected = score * (1 - score) * np.asarray(gradients[name] @ directions[name])
        slope = np.asarray(found[name].effect) / t
        assert np.median(np.abs(slope - expected)) < 1e-3 and np.corrcoef(slope, expected)[0, 1] > 0.99
        np.testing.assert_allclose(found[name].t, t, rtol=1e-6)


def test_the_score_of_a_class_is_that_of_the_softmax():
    def apply(variables, x, *, shifts=None, key=None):
        return x if shifts is None else x + shifts["only"][None], variables

    network = LINEAR._replace(apply=apply)
    found = concept_addition(network, LINEAR_VARIABLES, X, {"only": jnp.array([0.0, 0.0, 1.0])}, t=1.5, target=2)
    moved = X + jnp.array([[0.0, 0.0, 1.5]])
    np.testing.assert_allclose(found["only"].effect, (jax.nn.softmax(moved) - jax.nn.softmax(X))[:, 2], atol=1e-6)
    opposite = concept_addition(LINEAR, LINEAR_VARIABLES, X, {"only": jnp.ones(3)}, t=1.0, target=0)["only"].effect
    same = concept_addition(LINEAR, LINEAR_VARIABLES, X, {"only": jnp.ones(3)}, t=1.0)["only"].effect
    np.testing.assert_allclose(opposite, -same, atol=1e-6)
    with pytest.raises(ValueError, match="target must name one of the 3 classes"):
        concept_addition(network, LINEAR_VARIABLES, X, {"only": jnp.ones(3)}, t=1.0)


def test_bad_additions_are_refused():
    vector = {"only": jnp.ones(3)}
    cases = {
        "found 'other': it has only": ({"other": jnp.ones(3)}, {"t": 1.0}),
        r"shape \(3,\), one number per unit, found \(2,\)": ({"only": jnp.ones(2)}, {"t": 1.0}),
        "needs the step t, or concept=": (vector, {}),
        "found only one kind": (vector, {"concept": jnp.ones(N, bool)}),
        "concept must have 120 rows": (vector, {"concept": A[1:]}),
        "there is none for 'only'": (vector, {"t": {}}),
        "one layer at least": ({}, {"t": 1.0}),
    }
    for message, (vectors, options) in cases.items():
        with pytest.raises(ValueError, match=message):
            concept_addition(LINEAR, LINEAR_VARIABLES, X, vectors, **options)
    traced = jax.jit(lambda a: concept_addition(LINEAR, LINEAR_VARIABLES, X, vector, concept=a)["only"])
    assert np.all(np.isnan(traced(jnp.zeros(N, bool)).effect))


def test_selectivity_is_that_of_loops_and_dead_units_have_none(variables):
    found = selectivity(MLP, variables, WeightedBatch(*BATCH), chunk=50)
    a = np.asarray(A)
    for name, h in unit_activations(MLP, variables, X).items():
        for unit, column in enumerate(np.asarray(h, np.float64).T):
            is_cut = name == "hidden_00" and unit == 2
            spread = np.sqrt((column[~a].var(ddof=1) + column[a].var(ddof=1)) / 2)
            expected = np.nan if is_cut else (column[~a].mean() - column[a].mean()) / spread
            np.testing.assert_allclose(found[name].d_prime[unit], expected, rtol=1e-4, atol=1e-5)
            area = np.nan if is_cut else roc_auc_score(~a, column)
            np.testing.assert_allclose(found[name].auc[unit], area, atol=1e-5)
    traced = jax.jit(lambda a: selectivity(LINEAR, LINEAR_VARIABLES, Batch(X, BATCH.y, a))["only"])
    for column in (jnp.zeros(N, jnp.int32), jnp.arange(N)):
        assert np.all(np.isnan(traced(column).d_prime)) and np.all(np.isnan(traced(column).auc))
