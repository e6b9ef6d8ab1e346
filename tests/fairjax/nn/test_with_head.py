"""A head on the features of a network is a complete network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fairjax
from fairjax import BiasGda, FineTuning, data, influence, spd
from fairjax.nn import Mlp, Network, from_linen, join_head, part_of, with_head
from fairjax.types import Batch

BODY = from_linen(Mlp(widths=(7, 5), dropout=0.2))
HEAD = from_linen(Mlp(widths=(4,)))
NETWORK = with_head(BODY, HEAD)
X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
MEAN, SCALE = jnp.linspace(-1, 1, 5), jnp.linspace(0.5, 2, 5)


@pytest.fixture(scope="module")
def parts():
    body = BODY.init(jax.random.key(0), X)
    masks = {**body["masks"], "hidden_00": {"units": {"keep": jnp.arange(7) != 2}}}
    body = {**body, "masks": masks}
    return body, HEAD.init(jax.random.key(1), BODY.features(body, X)[0])


@pytest.fixture(scope="module")
def variables(parts):
    return join_head(*parts, scaler=(MEAN, SCALE))


def test_logits_and_features_are_those_of_the_head_on_standardised_features(parts, variables):
    body, head = parts
    rows = (BODY.features(body, X)[0] - MEAN[None]) / SCALE[None]
    features, logits, _ = HEAD.features(head, rows)
    np.testing.assert_allclose(NETWORK.apply(variables, X)[0], logits, atol=1e-6)
    np.testing.assert_allclose(NETWORK.features(variables, X)[0], features, atol=1e-6)
    unscaled = NETWORK.apply(join_head(*parts), X)[0]
    np.testing.assert_allclose(unscaled, HEAD.apply(head, BODY.features(body, X)[0])[0], atol=1e-6)
    assert with_head(BODY, HEAD) == NETWORK  # one compiled program
    for name, part in (("body", body), ("head", head)):
        jax.tree.map(np.testing.assert_array_equal, part_of(variables, name), part)


def test_influence_reaches_the_units_of_both(variables):
    y, a = X[:, 0] > 0, X[:, 1] > 0
    found = influence(spd, NETWORK.apply, variables, Batch(jnp.asarray(X), jnp.asarray(y), jnp.asarray(a)))
    shifts = jax.tree.map(lambda keep: jnp.zeros(keep.shape), variables["masks"])

    def bias(shifts):
        rows = BODY.features(part_of(variables, "body"), X, shifts=shifts["body"])[0]
        rows = (rows - MEAN[None]) / SCALE[None]
        logits = HEAD.apply(part_of(variables, "head"), rows, shifts=shifts["head"])[0]
        return spd(jax.nn.sigmoid(logits), y, a)

    for part, slope in zip(jax.tree.leaves(found), jax.tree.leaves(jax.grad(bias)(shifts)), strict=True):
        np.testing.assert_allclose(part * len(X), slope, atol=1e-6)
    assert found["body"]["hidden_00"]["units"]["keep"][2] == 0
    assert np.abs(found["body"]["hidden_01"]["units"]["keep"]).max() > 1e-6


def test_statistics_of_both_are_updated_in_training_mode_and_the_scaler_is_kept(variables):
    logits, updated = NETWORK.apply(variables, X, key=jax.random.key(2))
    for part in ("body", "head"):
        mean = updated["batch_stats"][part]["hidden_00"]["norm"]["mean"]
        assert np.any(mean != variables["batch_stats"][part]["hidden_00"]["norm"]["mean"])
    np.testing.assert_array_equal(updated["scaler"]["mean"], MEAN)
    assert jax.tree.structure(updated) == jax.tree.structure(variables)
    assert np.any(logits != NETWORK.apply(variables, X, key=jax.random.key(3))[0])


@pytest.mark.parametrize("method", [BiasGda(epochs=1), FineTuning(epochs=1, weights=(1.0,), layers=("head",))])
def test_methods_run_on_it(method, variables):
    split = data.split(jax.random.key(4), X, X[:, 0] > 0, X[:, 1] > 0, standardise=False)
    result = fairjax.debias(method, NETWORK, spd, variables, split, key=jax.random.key(5))
    assert result.trace.valid.bias.shape == (2,)
    np.testing.assert_array_equal(result.variables["scaler"]["scale"], SCALE)
    if isinstance(method, FineTuning):
        unchanged = (part_of(tree, "body") for tree in (variables, result.variables))
        jax.tree.map(np.testing.assert_array_equal, *unchanged)


def test_the_body_may_be_an_encoder_whose_outputs_are_the_features(parts):
    def encode(variables, x, *, shifts=None, key=None):
        features, _, updated = BODY.features(variables, x, shifts=shifts, key=key)
        return features, updated

    network = with_head(encode, HEAD)
    np.testing.assert_array_equal(
        network.apply(join_head(*parts), X)[0], with_head(BODY, HEAD).apply(join_head(*parts), X)[0]
    )
    assert network.activations is None


def test_bad_arguments_are_one_line(parts, variables):
    with pytest.raises(ValueError, match="the body has no `features`"):
        with_head(Network(BODY.init, BODY.apply), HEAD)
    with pytest.raises(ValueError, match="of splits of several seeds take one seed's"):
        join_head(*parts, scaler=(jnp.ones((2, 5)), jnp.ones((2, 5))))
    with pytest.raises(ValueError, match="name must be body or head, got 'tail'"):
        part_of(variables, "tail")
    with pytest.raises(ValueError, match="no initialisation"):
        NETWORK.init(jax.random.key(0), X)
    blind = Network(BODY.init, BODY.apply, lambda variables, x, *, key=None: BODY.features(variables, x, key=key))
    shifts = jax.tree.map(lambda keep: jnp.zeros(keep.shape), variables["masks"])
    with pytest.raises(ValueError, match="takes no shifts"):
        with_head(blind, HEAD).apply(variables, X, shifts=shifts)
