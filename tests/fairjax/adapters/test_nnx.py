"""NNX modules are brought in, agree with their own library, and are given back."""

import functools

import agreement
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agreement import Case
from flax import nnx

from fairjax.adapters import nnx as adapter

N = 24


class Net(nnx.Module):
    """MLP with batch normalisation and dropout."""

    def __init__(self, rngs):
        self.fcs = nnx.List([nnx.Linear(6, 8, rngs=rngs), nnx.Linear(8, 8, rngs=rngs)])
        self.bns = nnx.List([nnx.BatchNorm(8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)])
        self.dropout = nnx.Dropout(0.3, rngs=rngs)
        self.out = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        for fc, bn in zip(self.fcs, self.bns, strict=True):
            x = self.dropout(nnx.relu(bn(fc(x))))
        return self.out(x)


class Residual(nnx.Module):
    """Residual convolutions with normalisation; logits of two classes."""

    def __init__(self, rngs):
        self.stem = nnx.Conv(2, 4, (3, 3), rngs=rngs)
        self.convs = nnx.List([nnx.Conv(4, 4, (3, 3), rngs=rngs), nnx.Conv(4, 4, (3, 3), rngs=rngs)])
        self.norm = nnx.GroupNorm(4, num_groups=2, rngs=rngs)
        self.bn = nnx.BatchNorm(4, rngs=rngs)
        self.out = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        h = self.stem(x)
        h = h + nnx.relu(self.norm(self.convs[0](h)))
        h = h + nnx.relu(self.bn(self.convs[1](h)))
        return self.out(nnx.avg_pool(h, (2, 2), (2, 2)).mean(axis=(1, 2)))


class Tokens(nnx.Module):
    """Embedding, attention and layer normalisation."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(7, 8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, dropout_rate=0.2, decode=False, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.up, self.down = nnx.Linear(8, 8, rngs=rngs), nnx.Linear(8, 8, rngs=rngs)
        self.out = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, tokens):
        h = self.embed(tokens)
        h = self.norm(h + self.attention(h))
        return self.out((h + self.down(nnx.gelu(self.up(h)))).mean(axis=1))[:, 0]


class Block(nnx.Module):
    def __init__(self, rngs):
        self.up, self.down = nnx.Linear(6, 5, rngs=rngs), nnx.Linear(5, 6, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)

    def __call__(self, h):
        return h + self.down(self.dropout(nnx.tanh(self.up(h))))


class Scanned(nnx.Module):
    """Three rematerialised blocks in a loop, and a layer that is called twice."""

    def __init__(self, rngs):
        @nnx.split_rngs(splits=3)
        @nnx.vmap(in_axes=0, out_axes=0)
        def blocks(rngs):
            return Block(rngs)

        self.shared = nnx.Linear(6, 6, rngs=rngs)
        self.blocks = blocks(rngs)
        self.out = nnx.Linear(6, 1, rngs=rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def loop(h, block):
            return nnx.remat(lambda block, h: block(h))(block, h)

        h = self.shared(nnx.tanh(self.shared(x)))
        return self.out(loop(h, self.blocks))[:, 0]


FEATURES = jax.random.normal(jax.random.key(5), (N, 6))
MODELS = {
    "mlp": (Net, FEATURES),
    "cnn": (Residual, jax.random.normal(jax.random.key(6), (N, 8, 8, 2))),
    "tokens": (Tokens, jax.random.randint(jax.random.key(7), (N, 5), 0, 7)),
    "scan": (Scanned, FEATURES),
}


@pytest.fixture(scope="module", autouse=True)
def usual_promotion():
    """Flax's own layers mix types, and use keys that its constructors copy."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def trained(kind, seed=0):
    """Return a module with random parameters and statistics, as if trained."""
    model = kind(nnx.Rngs(seed))
    nnx.update(model, agreement.moved(nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat)), seed))
    return model


@functools.partial(jax.jit, static_argnums=0)
def evaluated(graphdef, state, x):
    """Evaluate a module, compiled once for equal modules."""
    return nnx.merge(graphdef, state)(x)


def predict(model, x):
    model = nnx.clone(model)
    model.eval()
    return agreement.logits_of(evaluated(*nnx.split(model), x))


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    kind, x = MODELS[request.param]
    models = [trained(kind, seed) for seed in range(3)]
    brought = adapter.bring(models[0], x)
    return Case(brought, x, predict(models[0], x), predict, name=request.param, models=models)


class TestNnx(agreement.Agreement):
    """Every model agrees with NNX."""


@pytest.mark.parametrize("case", ["mlp", "cnn", "tokens"], indirect=True)
def test_training_mode_is_nnxs_own(case, key):
    """Logits with dropout, and running statistics, are those of the module with the same keys."""
    model = nnx.clone(case.models[0])
    model.train()
    leaves, structure = jax.tree.flatten(nnx.state(model, nnx.RngState))
    is_key = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    folded = [jax.random.fold_in(key, number) if found else 0 * leaves[number] for number, found in enumerate(is_key)]
    nnx.update(model, jax.tree.unflatten(structure, folded))
    expected = agreement.logits_of(nnx.jit(lambda model: model(case.x))(model))
    logits, updated = jax.jit(case.brought.network.apply)(case.brought.variables, case.x, key=key)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert np.abs(logits - case.logits).max() > 0.01
    expected = case.brought.variables_of(model)
    assert ("batch_stats" in expected) == (case.name != "tokens")
    statistics = (tree.get("batch_stats", {}) for tree in (updated, expected, case.brought.variables))
    for found, leaf, before in zip(*map(jax.tree.leaves, statistics), strict=True):
        np.testing.assert_allclose(found, leaf, atol=1e-6)
        assert not np.array_equal(found, before)


@pytest.mark.parametrize("case", ["mlp", "cnn", "tokens"], indirect=True)
def test_activations_are_what_layers_return(case, monkeypatch):
    model, captured = nnx.clone(case.models[0]), {}
    model.eval()
    names = {id(part): ".".join(map(str, path)) for path, part in nnx.iter_graph(model)}

    def watched(original):
        def call(self, *args, **options):
            captured[names[id(self)]] = original(self, *args, **options)
            return captured[names[id(self)]]

        return call

    with monkeypatch.context() as patch:
        for kind in (nnx.Linear, nnx.LinearGeneral, nnx.Conv):
            patch.setattr(kind, "__call__", watched(kind.__call__))
        model(case.x)
    found = jax.jit(case.brought.network.activations)(case.brought.variables, case.x)
    for name, values in found.items():
        expected = captured[name.partition(" ")[2]]
        np.testing.assert_allclose(values, expected.reshape(values.shape), atol=1e-5, err_msg=name)


def test_units_are_chosen():
    model = trained(Net)
    assert adapter.bring(model, FEATURES, units=["fcs.1"]).units == {"00 fcs.1": 8}
    chosen = adapter.bring(model, FEATURES, units=lambda name, layer: isinstance(layer, nnx.BatchNorm))
    assert chosen.units == {"00 bns.0": 8, "01 bns.1": 8}
    with pytest.raises(ValueError, match="units names no layer: 'fc'; the layers are fcs.0, bns.0, dropout, fcs.1"):
        adapter.bring(model, FEATURES, units=["fc"])
    with pytest.raises(ValueError, match="units matches no layer"):
        adapter.bring(model, FEATURES, units=lambda name, layer: False)
    with pytest.raises(ValueError, match="units must be a list of names, a predicate or None, got 'fcs.0'"):
        adapter.bring(model, FEATURES, units="fcs.0")


class Wrong(nnx.Module):
    """Modules that are refused, by name."""

    def __init__(self, kind):
        self.kind, self.fc, self.out = kind, nnx.Linear(6, 4, rngs=nnx.Rngs(0)), nnx.Linear(4, 1, rngs=nnx.Rngs(1))

    def __call__(self, x):
        return agreement.wrong_outputs(self.kind, self.out(nnx.relu(self.fc(x))))


@pytest.mark.parametrize(("kind", "message"), agreement.REFUSED)
def test_modules_that_are_refused(kind, message):
    with pytest.raises(ValueError, match=message):
        adapter.bring(Wrong(kind), FEATURES)


class Pair(Wrong):
    """A module of two arguments."""

    def __call__(self, x, factor):
        return super().__call__(x) * factor


def test_bad_input_is_named_in_one_line(key):
    brought = adapter.bring(Pair("none"), FEATURES, call=lambda model, x, train: model(x, 9.0))
    with pytest.raises(ValueError, match=r"cannot be called with the example .*: say how with call=lambda model, x"):
        adapter.bring(Pair("none"), FEATURES)
    with pytest.raises(ValueError, match="model must be a flax.nnx module, got str; fairjax.adapters has linen"):
        adapter.bring("model", FEATURES)
    with pytest.raises(ValueError, match="the example must be arrays with one row or more"):
        adapter.bring(Wrong("none"), {"a": FEATURES, "b": FEATURES[:3]})
    with pytest.raises(ValueError, match="model must be a flax.nnx module, got dict"):
        brought.variables_of({})
    with pytest.raises(ValueError, match="must have the same structure as the one brought, but params/"):
        brought.variables_of(trained(Net))
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), brought.variables)
    with pytest.raises(ValueError, match="these hold 2 seeds: choose one with jax.tree.map"):
        brought.give_back(stacked)
    with pytest.raises(ValueError, match="already trained and has no initialisation"):
        brought.network.init(key, FEATURES)


def test_a_linear_model_has_no_units():
    model = nnx.Linear(6, 1, rngs=nnx.Rngs(0))
    given, logits = agreement.without_units_agrees(
        functools.partial(adapter.bring, model, FEATURES), FEATURES, model(FEATURES)[:, 0]
    )
    np.testing.assert_allclose(given(FEATURES)[:, 0], logits, atol=1e-6)
