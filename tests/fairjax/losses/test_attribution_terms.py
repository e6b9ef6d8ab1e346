"""Attribution regularisation, auxiliary heads, decoders, and residual decomposition."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fairjax
from fairjax import data, detect
from fairjax.losses import (
    Attribution,
    Auxiliary,
    Data,
    Loss,
    Outputs,
    Reconstruction,
    Residual,
    attribution_penalty,
    attributions,
    hsic,
    marked_columns,
)
from fairjax.nn import Network, ResidualDecomposition, from_linen
from fairjax.nn.flat import FlatVariables
from fairjax.training import composed_gradients, init_terms, outputs_of
from fairjax.types import Batch

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(40, 3)), jnp.float32)
BATCH = Batch(X, X[:, 0] + X[:, 1] > 0, X[:, 2] > 0)


def init_linear(key, x):
    del key
    return {"params": {"w": jnp.array([0.5, -1.0, 2.0])[: x.shape[1]]}, "masks": {"none": jnp.ones(0, bool)}}


def apply_linear(variables, x, *, shifts=None, key=None):
    del shifts, key
    return x @ variables["params"]["w"], variables


LINEAR = Network(init_linear, apply_linear)


def value_of(term, network=LINEAR, params=None, batch=BATCH):
    variables = network.init(jax.random.key(0), batch.x)
    variables = variables if params is None else {**variables, "params": params}
    loss = Loss(terms=(term,)).bind(Data(batch))
    outputs = outputs_of(network, loss, variables, batch)[0]
    return loss.terms[0].value((), outputs.seen_by(0), batch)


def test_the_penalty_of_a_linear_network_is_that_of_its_slopes():
    w = np.array([0.5, -1.0, 2.0])
    assert value_of(Attribution()) == pytest.approx(np.sum(w**2), rel=1e-5)
    assert value_of(Attribution(columns=(0, 2), norm="absolute")) == pytest.approx(2.5, rel=1e-5)
    for kind in ("gradient_times_input", "integrated_gradients"):  # equal for linear functions
        expected = np.mean(np.abs(np.asarray(X)[:, 1] * w[1]))
        assert value_of(Attribution(columns=(1,), norm="absolute", kind=kind)) == pytest.approx(expected, rel=1e-4)
    shares = np.abs(np.asarray(X) * w)
    expected = np.mean(shares[:, 1] / shares.sum(axis=1))
    found = value_of(Attribution(columns=(1,), norm="share", kind="gradient_times_input"))
    assert found == pytest.approx(expected, rel=1e-4)


def test_log_probabilities_have_no_slope_at_a_score_of_one_half():
    s = jax.nn.sigmoid(X @ jnp.array([0.5, -1.0, 2.0]))
    expected = np.mean((1 - 2 * np.asarray(s)) ** 2) * 5.25
    assert value_of(Attribution(of="log_probabilities")) == pytest.approx(expected, rel=1e-4)
    zero = {"w": jnp.zeros(3)}
    assert value_of(Attribution(of="log_probabilities", columns=(0,)), params=zero) == 0


def test_the_gradient_is_that_of_finite_differences():
    network = from_linen(ResidualDecomposition(width=5, code=4))
    variables = network.init(jax.random.key(1), X)
    loss = Loss(terms=(Attribution(columns=(2,), weight=3.0),)).bind(Data(BATCH))
    flat = FlatVariables.ravel(variables)
    terms = init_terms(network, loss, jax.random.key(2), variables, BATCH)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf, variables)
        flat = FlatVariables.ravel(wide)
        batch = BATCH._replace(x=X.astype(jnp.float64))

        @jax.jit
        def both(params):

            moved = dataclasses.replace(flat, params=params)
            outputs = outputs_of(network, loss, moved.variables(), batch)[0]
            return loss.value(terms, outputs, batch), composed_gradients(network, loss, moved, terms, batch, None)[0]

        gradient = both(flat.params)[1]
        for number in (0, 7, 23, flat.params.size - 1):
            step = jnp.zeros(flat.params.size).at[number].set(1e-6)
            slope = (both(flat.params + step)[0] - both(flat.params - step)[0]) / 2e-6
            np.testing.assert_allclose(slope, gradient[number], rtol=1e-4, atol=1e-7)


def test_a_large_weight_removes_the_feature():
    x = np.asarray(RNG.normal(size=(300, 3)), np.float32)
    dataset = data.from_arrays(x, (x[:, 0] + x[:, 2] > 0).astype(int), np.arange(300) % 2, standardise=False)
    split = data.split_seeds(dataset, seeds=(1,))
    split = split._replace(train=split.train[0], valid=split.valid[0], test=split.test[0])
    config = fairjax.Training(epochs=60, batch_size=90, learning_rate=3e-2, keep="last")

    def slopes(weight):
        loss = Loss(terms=(Attribution(columns=(2,), weight=weight),))
        fitted = fairjax.fit(LINEAR, split, key=jax.random.key(0), training=config, loss=loss)
        return np.abs(fitted.variables["params"]["w"])

    assert slopes(0.0)[2] > 1.0
    removed = slopes(1e3)
    assert removed[2] < 0.05 and removed[0] > 0.5


def test_a_mask_counts_each_feature_by_its_number_and_may_be_mapped_over():
    w = np.array([0.5, -1.0, 2.0])
    mask = jnp.array([1.0, 0.0, 0.25])
    assert value_of(Attribution(mask=mask)) == pytest.approx(np.sum(np.asarray(mask) * w**2), rel=1e-5)
    terms = Attribution(mask=jnp.stack([mask, jnp.eye(3)[1]]), weight=jnp.ones(2))
    np.testing.assert_allclose(jax.jit(jax.vmap(value_of))(terms), [1.25, 1.0], rtol=1e-5)
    with pytest.raises(ValueError, match="columns and mask both say"):
        Attribution(columns=(0,), mask=mask)
    with pytest.raises(ValueError, match=r"mask must have one number per feature, shape \(3,\)"):
        value_of(Attribution(mask=jnp.ones(2)))


@pytest.mark.parametrize("of", ["logit", "log_probabilities"])
def test_attributions_of_three_classes_ignore_what_is_added_to_all_logits(of):
    kernel = jnp.asarray(RNG.normal(size=(3, 3)), jnp.float32)
    batch = BATCH._replace(y=jnp.arange(40) % 3)
    term, shift = Attribution(of=of), jnp.array([[1.0], [2.0], [-1.0]])
    found = [term.observe(lambda x, kernel=kernel: x @ kernel, batch) for kernel in (kernel, kernel + shift)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    k = np.asarray(kernel)
    p = np.asarray(jax.nn.softmax(X @ kernel, axis=1))
    for i in range(40):
        expected = k[:, i % 3] - k.mean(axis=1) if of == "logit" else k.sum(axis=1) - 3 * k @ p[i]
        np.testing.assert_allclose(found[0][i], expected, atol=1e-5)


def test_columns_come_from_an_annotation_of_variables():
    network = from_linen(fairjax.Mlp(widths=(4,), dropout=0.0))
    columns = ["pay", "sex", "sex"]
    rows = jnp.arange(40)
    a, pay = rows % 2 == 1, (rows // 2 % 2).astype(jnp.float32)  # independent of each other
    x = jnp.stack([pay, a.astype(jnp.float32), 1.0 - a.astype(jnp.float32)], axis=1)
    bias = detect.bias_by_feature(network.apply, network.init(jax.random.key(0), x), (x, a), columns=columns)
    annotation = detect.annotate(bias, detect.association(x, a, columns=columns), "sex", columns=columns)
    assert marked_columns(annotation, columns) == (1, 2)
    with pytest.raises(ValueError, match="annotation must have a column 'odd', found variable, importance"):
        marked_columns(annotation, columns, "odd")
    with pytest.raises(ValueError, match="annotation lacks the variable 'age'"):
        marked_columns(annotation, ["age"])
    with pytest.raises(ValueError, match="no variable is fairness_sensitive"):
        marked_columns(annotation, ["pay"])


def test_the_residual_is_a_layer_whose_units_can_be_cut():
    network = from_linen(ResidualDecomposition(width=5, code=4))
    variables = network.init(jax.random.key(1), X)
    features = network.features(variables, X)[0]
    np.testing.assert_allclose(network.activations(variables, X)["residual"]["keep"], X - features, atol=1e-6)
    cut = jax.tree.map(jnp.copy, variables)
    cut["masks"]["residual"]["keep"] = jnp.array([True, False, True])
    np.testing.assert_array_equal(network.features(cut, X)[0][:, 1], X[:, 1])
    np.testing.assert_array_equal(network.features(cut, X)[0][:, [0, 2]], features[:, [0, 2]])


def test_columns_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="columns must be numbers from 0 to 2, found 3"):
        attribution_penalty(jnp.ones((2, 3)), (3,))
    with pytest.raises(ValueError, match="at least one feature"):
        Attribution(columns=())
    with pytest.raises(ValueError, match="needs a matrix of floating-point features"):
        Attribution().observe(lambda x: x, BATCH._replace(x=jnp.ones((4, 3), jnp.int32)))


def test_integrated_gradients_sum_to_the_difference_from_the_mean_row():
    network = from_linen(fairjax.Mlp(widths=(6,), dropout=0.0))
    variables = network.init(jax.random.key(3), X)

    def logits_of(x):
        return jnp.tanh(network.apply(variables, x)[0])

    found = attributions(logits_of, X, "integrated_gradients", nodes=64)
    expected = logits_of(X) - logits_of(jnp.zeros_like(X))
    np.testing.assert_allclose(found.sum(axis=1), expected, atol=2e-2)


@pytest.mark.parametrize("term", [Auxiliary(own_rate=0.05), Reconstruction(own_rate=0.05)])
def test_heads_learn_beside_the_network(term):
    network = from_linen(fairjax.Mlp(widths=(8,), dropout=0.0))
    variables = network.init(jax.random.key(4), X)
    loss = Loss(terms=(term,)).bind(Data(BATCH))
    flat, state = FlatVariables.ravel(variables), init_terms(network, loss, jax.random.key(5), variables, BATCH)

    def of(state):
        outputs = outputs_of(network, loss, variables, BATCH)[0]
        return loss.terms[0].value(state.params[0], outputs.seen_by(0), BATCH)

    step = jax.jit(lambda state: composed_gradients(network, loss, flat, state, BATCH, None)[2])
    before = of(state)
    for _ in range(60):
        state = step(state)
    assert of(state) < 0.8 * before


def test_the_decoder_is_compared_with_the_features():
    outputs = Outputs(jnp.zeros(2), {"last": jnp.zeros((2, 1))})
    params = {
        "hidden": {"kernel": jnp.zeros((3, 4)), "bias": jnp.zeros(4)},
        "output": {"kernel": jnp.zeros((4, 3)), "bias": jnp.ones(3)},
    }
    batch = Batch(jnp.array([[1.0, 1.0, 4.0], [1.0, 1.0, 1.0]]), jnp.ones(2, bool), jnp.ones(2, bool))
    assert Reconstruction().value(params, outputs, batch).item() == pytest.approx(1.5)
    assert Reconstruction().init(jax.random.key(0), outputs, batch)["hidden"]["kernel"].shape == (3, 32)
    told = {**params, "hidden": {**params["hidden"], "kernel": jnp.zeros((3, 4)).at[2].set(1.0)}}
    told["output"] = {"kernel": jnp.ones((4, 3)), "bias": jnp.zeros(3)}
    other = batch._replace(a=jnp.array([True, False]))  # decoded to 4 in the privileged group, to 0 in the other
    expected = np.mean([(9 + 9 + 0) / 3, 1.0])
    assert Reconstruction().value(told, outputs, other).item() == pytest.approx(expected)


def test_the_residual_term_is_written_out():
    translated = jnp.asarray(RNG.normal(size=X.shape), jnp.float32)
    outputs = Outputs(jnp.zeros(40), {"last": translated})
    term = Residual(reconstruction=0.1, notion="odds", linear=0.5)
    found = term.value((), outputs, BATCH)
    parts = [hsic(h, BATCH.a, y=BATCH.y, linear=0.5) for h in (translated, X - translated)]
    error = np.mean(np.sum((np.asarray(X) - np.asarray(translated)) ** 2, axis=1))
    assert found == pytest.approx(float(parts[0] - parts[1]) + 0.1 * error, rel=1e-4)
    with pytest.raises(ValueError, match="use fairjax.nn.ResidualDecomposition"):
        term.value((), Outputs(jnp.zeros(40), {"last": translated[:, :2]}), BATCH)


def test_the_residual_takes_the_group_out_of_the_translated_features():
    n = 400
    a = RNG.random(n) < 0.5
    x = np.asarray(RNG.normal(size=(n, 3)), np.float32)
    x[:, 1] += 2.0 * a
    dataset = data.from_arrays(x, (x[:, 0] + x[:, 1] > 1).astype(int), a)
    splits = data.split_seeds(dataset, seeds=(1, 2))
    network = from_linen(ResidualDecomposition(width=16, code=8))
    config = fairjax.Training(epochs=40, batch_size=128, learning_rate=5e-3, keep="last")
    keys = jax.random.split(jax.random.key(0))

    def gap(*terms):
        fitted = fairjax.fit_many(network, splits, keys=keys, training=config, loss=Loss(terms=terms))

        def one(variables, split):
            test = split.part("test")
            return fairjax.spd(jax.nn.sigmoid(network.apply(variables, test.x)[0]), test.y, test.a)

        return np.abs(jax.vmap(one, in_axes=(0, fairjax.SHARED))(fitted.variables, splits))

    assert (gap() > 0.25).all()
    assert (gap(Residual(weight=50.0, reconstruction=1e-2, linear=1.0)) < 0.15).all()
