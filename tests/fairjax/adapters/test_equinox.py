"""Equinox models are brought in, agree with Equinox, and are given back."""

import agreement
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agreement import Case

eqx = pytest.importorskip("equinox", reason="needs the extra equinox")

from fairjax.adapters import equinox  # noqa: E402

N = 24


class Mlp(eqx.Module):
    """MLP with batch normalisation, whose axis has its own name, and dropout."""

    layers: list
    norms: list
    dropout: eqx.nn.Dropout
    out: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 3)
        self.layers = [eqx.nn.Linear(6, 8, key=keys[0]), eqx.nn.Linear(8, 8, key=keys[1])]
        self.norms = [eqx.nn.BatchNorm(8, "rows", mode="batch"), eqx.nn.BatchNorm(8, "rows", mode="ema")]
        self.dropout = eqx.nn.Dropout(0.3)
        self.out = eqx.nn.Linear(8, "scalar", key=keys[2])

    def __call__(self, x, state, *, key=None):
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            x, state = norm(layer(x), state)
            x = self.dropout(jax.nn.relu(x), key=None if key is None else jax.random.fold_in(key, number))
        return self.out(x), state


class Residual(eqx.Module):
    """Residual convolutions, channels first; logits of two classes."""

    stem: eqx.nn.Conv2d
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    head: eqx.nn.Sequential

    def __init__(self, key):
        keys = jax.random.split(key, 3)
        self.stem = eqx.nn.Conv2d(2, 4, 3, padding=1, key=keys[0])
        self.conv = eqx.nn.Conv2d(4, 4, 3, padding=1, use_bias=False, key=keys[1])
        self.norm = eqx.nn.BatchNorm(4, "batch", mode="batch")
        self.head = eqx.nn.Sequential(
            [eqx.nn.AdaptiveAvgPool2d(2), eqx.nn.Lambda(jnp.ravel), eqx.nn.Linear(16, 2, key=keys[2])]
        )

    def __call__(self, image, state):
        h = self.stem(image)
        normed, state = self.norm(self.conv(h), state)
        return self.head(h + jax.nn.relu(normed)), state


class Tokens(eqx.Module):
    """Embedding, attention and layer normalisation of a sequence, with layers mapped over positions."""

    embedding: eqx.nn.Embedding
    order: jax.Array
    attention: eqx.nn.MultiheadAttention
    norm: eqx.nn.LayerNorm
    up: eqx.nn.Linear
    out: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 4)
        self.embedding = eqx.nn.Embedding(7, 8, key=keys[0])
        self.order = jnp.arange(5)[::-1]
        self.attention = eqx.nn.MultiheadAttention(2, 8, use_query_bias=True, dropout_p=0.2, key=keys[1])
        self.norm = eqx.nn.LayerNorm(8)
        self.up = eqx.nn.Linear(8, 8, key=keys[2])
        self.out = eqx.nn.Linear(8, 1, key=keys[3])

    def __call__(self, tokens, key=None):
        h = jax.vmap(self.embedding)(tokens[self.order])
        h = jax.vmap(self.norm)(h + self.attention(h, h, h, key=key))
        return self.out((h + jax.nn.gelu(jax.vmap(self.up)(h))).mean(axis=0))


def scanned(key):
    """Equinox's own MLP, with layers in a loop and a sigmoid at its end."""
    return eqx.nn.MLP(6, 1, 8, 3, scan=True, final_activation=jax.nn.sigmoid, key=key)


FEATURES = jax.random.normal(jax.random.key(5), (N, 6))
MODELS = {
    "mlp": (eqx.nn.make_with_state(Mlp), FEATURES, "rows"),
    "cnn": (eqx.nn.make_with_state(Residual), jax.random.normal(jax.random.key(6), (N, 2, 8, 8)), "batch"),
    "tokens": (Tokens, jax.random.randint(jax.random.key(7), (N, 5), 0, 7), "batch"),
    "scan": (scanned, FEATURES, "batch"),
}


def mapped(model, state, x, axis, keys=None):
    """Apply a model as Equinox's users do: mode, state and keys by hand."""
    model = eqx.nn.inference_mode(model, keys is None)
    options = {} if keys is None or isinstance(model, Residual) else {"key": keys}
    if state is None:
        return jax.vmap(lambda x, options: model(x, **options), axis_name=axis)(x, options), None
    call = jax.vmap(lambda x, state, o: model(x, state, **o), (0, None, 0), (0, None), axis_name=axis)
    return call(x, state, options)


def trained(name, seed=0):
    """Return a model and its state, or a model, with random parameters and statistics of two batches."""
    make, x, axis = MODELS[name]
    made = make(key=jax.random.key(seed)) if name != "scan" else make(jax.random.key(seed))
    model, state = made if isinstance(made, tuple) else (made, None)
    arrays, static = eqx.partition(model, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(arrays)
    keys = jax.random.split(jax.random.key(seed + 10), len(leaves))
    leaves = [leaf + 0.4 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    model = eqx.combine(jax.tree.unflatten(structure, leaves), static)
    if state is None:
        return model
    for scale in (1.0, 2.0):
        _, state = mapped(model, state, scale * x, axis, jax.random.split(jax.random.key(seed), N))
    return model, state


def logits_of(outputs, name):
    outputs = np.asarray(outputs)
    if name == "scan":
        return np.log(outputs[:, 0]) - np.log1p(-outputs[:, 0])
    return outputs if outputs.ndim == 1 else (outputs[:, 0] if outputs.shape[1] == 1 else outputs[:, 1] - outputs[:, 0])


@pytest.fixture(scope="module", autouse=True)
def usual_promotion():
    """Apply Equinox's own layers with the usual rules."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def with_state(model):
    return model if isinstance(model, tuple) else (model, None)


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    name, (_, x, axis) = request.param, MODELS[request.param]

    def predict(model, x):
        arrays, static = eqx.partition(with_state(model), eqx.is_array)
        outputs = jax.jit(lambda arrays, x: mapped(*eqx.combine(arrays, static), x, axis)[0])(arrays, x)
        return logits_of(outputs, name)

    model, state = with_state(trained(name))
    output = "probability" if name == "scan" else "logit"
    brought = equinox.bring(model, x, state=state, output=output)
    case = Case(brought, x, predict((model, state), x), predict, name=name)
    case.models = [trained(name, seed) for seed in range(3)]
    return case


def test_logits(case):
    agreement.logits_agree(case)


def test_influence(case):
    agreement.influence_agrees(case)


def test_pruning_order(case):
    agreement.pruning_order_agrees(case)


def test_fine_tuning(case):
    agreement.fine_tuning_runs(case, unchanged=("buffers",))


def test_seeds(case):
    agreement.seeds_agree(case, case.models)


def test_give_back(case):
    given = agreement.give_back_agrees(case)
    assert jax.tree.structure(given) == jax.tree.structure(case.models[0])
    model, state = with_state(given)
    read = case.brought.variables_of(model) if state is None else case.brought.variables_of(model, state)
    assert jax.tree.structure(read) == jax.tree.structure(case.brought.variables)


def test_activations(case):
    agreement.activations_agree(case)


def test_features(case):
    agreement.features_agree(case)
