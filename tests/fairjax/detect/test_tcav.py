"""TCAV, compared with captum and SciPy, and with linear networks, in which everything is known by hand."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_ind
from test_concepts import LINEAR, LINEAR_VARIABLES, WEIGHTS, A, D, N, X

from fairjax.detect.concepts import tcav, tcav_scores, tcav_table, unit_activations, unit_gradients, welch_test
from fairjax.detect.concepts.sampling import concept_sets, is_example
from fairjax.nn import Mlp, from_linen

MLP = from_linen(Mlp(widths=(6, 6), site="preactivation"))
OPTIONS = {"draws": 6, "size": 40}
CONCEPTS = {"a": A, "noise": jnp.sin(1e4 * X[:, 2]) > 0}

welch = jax.jit(welch_test)


@pytest.fixture(scope="module")
def variables():
    """Return variables whose first layer is not saturated."""
    return jax.tree.map(lambda leaf: 3.0 * leaf if leaf.ndim == 2 else leaf, jax.jit(MLP.init)(jax.random.key(5), X))


@settings(max_examples=15)
@given(st.integers(0, 2**31 - 1), st.floats(0.01, 10.0))
def test_welch_test_is_that_of_scipy(seed, scale):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=12).astype(np.float32), (rng.normal(size=12) * scale + 0.5).astype(np.float32)
    expected = ttest_ind(first.astype(np.float64), second.astype(np.float64), equal_var=False)
    t, p = welch(first, second)
    np.testing.assert_allclose([t, p], [expected.statistic, expected.pvalue], rtol=2e-3, atol=1e-6)


def test_welch_test_of_numbers_that_do_not_vary_is_nan():
    constant = jnp.full(12, 0.7)
    assert np.isnan(welch(constant, constant + 0.1)[1]) and np.isnan(welch(constant, constant.at[0].set(jnp.nan))[1])
    assert np.isnan(welch_test(jnp.ones(1), jnp.ones(3))[1])
    varied = jnp.linspace(0.0, 1.0, 12)
    expected = ttest_ind(np.full(12, 0.0), np.linspace(0.0, 1.0, 12), equal_var=False)
    np.testing.assert_allclose(welch(jnp.zeros(12), varied)[1], expected.pvalue, rtol=1e-3)
    for factor in (1e-12, 1e12):  # squares of variances are beyond float32
        np.testing.assert_allclose(welch(jnp.zeros(12), factor * varied)[1], expected.pvalue, rtol=1e-3)


def test_scores_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    gradients, vectors = rng.normal(size=(50, 4)).astype(np.float32), rng.normal(size=(3, 4)).astype(np.float32)
    counted = rng.random(50) < 0.6
    found = tcav_scores(gradients, vectors, counted)
    for i, vector in enumerate(vectors):
        along = [float(row @ vector) for row, count in zip(gradients, counted, strict=True) if count]
        assert float(found.score[i]) == pytest.approx(np.mean([value > 0 for value in along]))
        assert float(found.sensitivity[i]) == pytest.approx(np.mean(along), abs=1e-5)
        positive = sum(value for value in along if value > 0)
        assert float(found.magnitude[i]) == pytest.approx(positive / sum(map(abs, along)), abs=1e-5)


def test_scores_that_are_not_defined_are_nan_or_refused():
    zeros = tcav_scores(jnp.zeros((3, 2)), jnp.ones((1, 2)))
    assert zeros.score.item() == 0 and np.isnan(zeros.magnitude.item())
    assert np.isnan(tcav_scores(jnp.ones((2, 2)).at[0].set(jnp.nan), jnp.ones((1, 2))).score.item())
    with pytest.raises(ValueError, match="counted names no rows"):
        tcav_scores(jnp.ones((3, 2)), jnp.ones((1, 2)), jnp.zeros(3, bool))
    with pytest.raises(ValueError, match="counted must have 3 rows"):
        tcav_scores(jnp.ones((3, 2)), jnp.ones((1, 2)), jnp.ones(2, bool))
    with pytest.raises((ValueError, jaxtyping.TypeCheckError)):
        tcav_scores(jnp.ones((3, 2)), jnp.ones((1, 3)))
    traced = jax.jit(lambda rows: tcav_scores(jnp.ones((3, 2)), jnp.ones((1, 2)), rows))(jnp.zeros(3, bool))
    assert all(np.isnan(part).all() for part in traced)


def test_results_without_rows_or_random_directions_say_so(variables, results):
    options = {"key": jax.random.key(0), "layers": ["hidden_00"], **OPTIONS}
    none = jax.jit(lambda rows: tcav(MLP, variables, X, {"a": A}, X, counted=rows, **options))(jnp.zeros(N, bool))
    assert not none["hidden_00"]["a"].degenerate and none["hidden_00"]["a"].converged
    assert tcav_table(none).note[0].startswith("not estimable: no row counts")
    one = results["hidden_00"]["a"]
    untested = one._replace(random_score=one.random_score * jnp.nan, p=one.p * jnp.nan)
    assert tcav_table({"hidden_00": {"a": untested}}).note[0].startswith("no test: a regression of the random sets")


def test_sets_hold_examples_and_others_that_are_not_held_out():
    concepts = jnp.stack([jnp.arange(90) < 30, jnp.arange(90) % 2 == 0])
    sets = jax.jit(concept_sets, static_argnums=(2, 3))(jax.random.key(0), concepts, 4, 25)
    assert sets.rows.shape == (2, 4, 50)
    for column, held_out, rows in zip(concepts, sets.held_out, np.asarray(sets.rows), strict=True):
        assert int(jnp.sum(held_out & column)) == int(column.sum()) // 3
        assert int(jnp.sum(held_out & ~column)) == int((~column).sum()) // 3
        assert not np.any(np.asarray(held_out)[rows])
        assert np.all(np.asarray(column)[rows] == np.asarray(is_example(25)))
        assert len(np.unique(rows)) > 50 and len({tuple(row) for row in rows}) == 4
    assert np.any(sets.held_out[0] != sets.held_out[1])


@pytest.fixture(scope="module")
def results(variables):
    """Return results of both concepts in both layers."""
    return tcav(MLP, variables, X, CONCEPTS, X, key=jax.random.key(3), counted=X[:, 1] > 0, chunk=50, **OPTIONS)


def test_in_a_linear_network_the_score_is_the_sign_and_tcav_is_degenerate():
    found = tcav(LINEAR, LINEAR_VARIABLES, X, CONCEPTS, X, key=jax.random.key(3), chunk=50, **OPTIONS)["only"]
    one = found["a"]
    toward = np.asarray(X)[np.asarray(A)].mean(axis=0) - np.asarray(X)[~np.asarray(A)].mean(axis=0)
    sensitivity = WEIGHTS @ toward / np.linalg.norm(toward)
    assert float(one.score) == float(sensitivity > 0) == float(one.magnitude)
    assert float(one.sensitivity) == pytest.approx(sensitivity, abs=0.3)
    assert bool(one.degenerate) and np.isnan(one.p) and 0 < float(one.sensitivity_p) <= 1 and not bool(one.refused)
    noise = found["noise"]
    assert bool(noise.refused) and float(noise.accuracy) < 0.55
    assert np.isnan([noise.score, noise.sensitivity, noise.magnitude, noise.p, noise.sensitivity_p]).all()
    notes = tcav_table({"only": found}).note.tolist()
    assert notes[0].startswith("degenerate: the gradient is the same") and notes[1].startswith(
        "refused: not predictable"
    )


def test_results_agree_with_gradients_and_have_a_row_each_in_the_table(variables, results):
    table = tcav_table(results)
    assert table.layer.tolist() == ["hidden_00"] * 2 + ["hidden_01"] * 2
    assert table.concept.tolist() == ["a", "noise"] * 2
    one = results["hidden_00"]["a"]
    assert bool(one.converged) and not bool(one.refused) and not bool(one.degenerate) and table.note[0] == ""
    gradients = np.asarray(unit_gradients(MLP, variables, X)["hidden_00"])[np.asarray(X[:, 1] > 0)]
    h = np.asarray(unit_activations(MLP, variables, X)["hidden_00"])
    toward = np.linalg.lstsq(np.c_[h, np.ones(N)], 2.0 * np.asarray(A) - 1, rcond=None)[0][:-1]
    expected = (gradients @ toward > 0).mean()
    assert float(one.score) == pytest.approx(expected, abs=0.25)
    assert 0 <= float(one.magnitude) <= 1 and 0 <= float(one.p) <= 1 and float(one.accuracy) > 0.8
    assert float(one.random_score) == float(results["hidden_00"]["noise"].random_score)


@pytest.mark.slow
def test_chunks_jit_and_seeds_do_not_change_results(variables, results):
    def run(variables, a, key, counted):
        concepts = {"a": a, "noise": CONCEPTS["noise"]}
        return tcav(MLP, variables, X, concepts, X, key=key, counted=counted, **OPTIONS)

    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf, leaf, leaf]), variables)
    columns = jnp.stack(
        [A.astype(jnp.int32), jnp.arange(N), (jnp.arange(N) < 8).astype(jnp.int32), A.astype(jnp.int32)]
    )
    rows = jnp.stack([X[:, 1] > 0] * 3 + [jnp.zeros(N, bool)])
    keys = jax.vmap(jax.random.key)(jnp.full(4, 3))
    found = jax.jit(jax.vmap(run))(stacked, columns, keys, rows)["hidden_00"]["a"]
    for name, part in results["hidden_00"]["a"]._asdict().items():
        np.testing.assert_allclose(getattr(found, name)[0], part, rtol=2e-3, atol=2e-3, err_msg=name)
    assert np.isnan(found.score[1:]).all() and np.isnan(found.sensitivity_p[1:]).all()
    assert tcav_table({"hidden_00": {"a": found}}).seed.tolist() == [0, 1, 2, 3]


def test_bad_arguments_are_refused(variables):
    key = jax.random.key(1)
    cases = {
        "draws and size must be at least 2, got draws=1": (CONCEPTS, {"draws": 1}),
        "'few' must have at least 10 examples and as many other rows, found 9 and 111": (
            {"few": jnp.arange(N) < 9},
            {},
        ),
        r"'a' has 4 examples or counterexamples and layer 'hidden_00' has 6 units.*a vector sees size=4": (
            {"a": A},
            {"size": 4},
        ),
        "counted must have 120 rows": ({"a": A}, {"counted": A[1:]}),
        "found 'fc': it has hidden_00": ({"a": A}, {"layers": ["fc"]}),
        "chunk must be a positive number": ({"a": A}, {"chunk": 0}),
    }
    for message, (concepts, options) in cases.items():
        with pytest.raises(ValueError, match=message):
            tcav(MLP, variables, X, concepts, X, key=jax.random.clone(key), **options)


@pytest.mark.slow
def test_gradients_and_scores_are_those_of_captum_on_a_network_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch, the extra `torch`, is not installed")
    concept = pytest.importorskip("captum.concept", reason="captum is not installed")
    from captum.concept._utils.classifier import Classifier

    from fairjax.adapters.torch import bring

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(D, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2)).eval()
    vector = np.random.default_rng(2).normal(size=6).astype(np.float32)

    class Given(Classifier):
        """Returns the given vector in place of a trained one, for the first concept, and its negative for the other."""

        def __init__(self):
            pass

        def train_and_eval(self, dataloader, **_):
            self.both = torch.tensor(np.stack([vector, -vector]))
            return {"accs": torch.tensor(1.0)}

        def weights(self):
            return self.both

        def classes(self):
            return [0, 1]

    rows = [torch.tensor(np.asarray(X[:10])), torch.tensor(np.asarray(X[10:20]))]
    first, second = (
        concept.Concept(i, name, torch.utils.data.DataLoader(rows[i], batch_size=5)) for i, name in enumerate("ab")
    )
    explainer = concept.TCAV(module, ["0"], classifier=Given(), save_path=str(tmp_path), show_progress=False)
    scores = explainer.interpret(torch.tensor(np.asarray(X)), [[first, second]], target=1)["0-1"]["0"]
    brought = bring(module, np.asarray(X[:8]), units=["0"])
    logit_difference = unit_gradients(brought.network, brought.variables, X)  # two logits are one: their difference
    (layer,) = logit_difference
    weights = module[2].weight.detach().numpy()
    h = np.tanh(np.asarray(X) @ module[0].weight.detach().numpy().T + module[0].bias.detach().numpy())
    np.testing.assert_allclose(logit_difference[layer], (1 - h**2) * (weights[1] - weights[0]), rtol=1e-4, atol=1e-6)
    of_class_1 = jnp.asarray((1 - h**2) * weights[1])  # captum differentiates one of the two logits
    found = tcav_scores(of_class_1, jnp.stack([vector, -vector]))
    np.testing.assert_allclose(scores["sign_count"].numpy(), found.score, atol=1e-6)
    np.testing.assert_allclose(scores["magnitude"].numpy(), found.sensitivity, atol=1e-5)
