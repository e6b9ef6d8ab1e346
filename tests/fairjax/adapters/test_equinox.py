"""Equinox models are brought in, agree with Equinox, and are given back."""

import functools

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
        self.norms = [eqx.nn.BatchNorm(8, "rows", mode="batch", momentum=0.3), eqx.nn.BatchNorm(8, "rows", mode="ema")]
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
        self.norm = eqx.nn.BatchNorm(4, "batch", mode="batch", momentum=0.3)
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
    noise = 0.8 if name == "mlp" else 0.5
    arrays, static = eqx.partition(model, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(arrays)
    keys = jax.random.split(jax.random.key(seed + 10), len(leaves))
    leaves = [leaf + noise * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
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


def test_training_mode_is_equinoxs_own(case):
    _, x, axis = MODELS[case.name]
    model, state = with_state(trained(case.name))
    outputs, expected = mapped(model, state, x, axis, jax.random.split(jax.random.key(3), N))
    logits, updated = jax.jit(case.brought.network.apply)(case.brought.variables, x, key=jax.random.key(3))
    np.testing.assert_allclose(logits, logits_of(outputs, case.name), atol=1e-5)
    if state is None:
        assert "state" not in updated
        return
    for found, leaf, before in zip(
        updated["state"].values(), jax.tree.leaves(expected), jax.tree.leaves(state), strict=True
    ):
        np.testing.assert_allclose(found, leaf, atol=1e-6)
        assert not np.array_equal(found, before) or found.dtype == bool
    features, same, statistics = jax.jit(case.brought.network.features)(
        case.brought.variables, x, key=jax.random.key(3)
    )
    np.testing.assert_allclose(same, logits, atol=1e-5)
    for found, leaf in zip(statistics["state"].values(), updated["state"].values(), strict=True):
        np.testing.assert_allclose(found, leaf, atol=1e-6)


def layer_outputs(name, model, state, x):
    """Compute the outputs of layers with units by hand, units last."""
    model = eqx.nn.inference_mode(model)
    if name == "mlp":
        first = jax.vmap(model.layers[0])(x)
        normed = jax.vmap(lambda h: model.norms[0](h, state)[0], axis_name="rows")(first)
        return [first, jax.vmap(model.layers[1])(jax.nn.relu(normed))]
    if name == "cnn":
        stem = jax.vmap(model.stem)(x)
        return [jnp.moveaxis(h, 1, -1) for h in (stem, jax.vmap(model.conv)(stem))]
    if name == "tokens":
        attention = model.attention
        h = jax.vmap(jax.vmap(model.embedding))(x[:, ::-1])
        projections = [
            jax.vmap(jax.vmap(layer))(h) for layer in (attention.query_proj, attention.key_proj, attention.value_proj)
        ]
        heads = [part.reshape(N, 5, 2, 4) for part in projections]
        weights = jax.nn.softmax(jnp.einsum("nqhd,nkhd->nhqk", *heads[:2]) / 2, axis=-1)
        mixed = jnp.einsum("nhqk,nkhd->nqhd", weights, heads[2]).reshape(N, 5, 8)
        projected = jax.vmap(jax.vmap(attention.output_proj))(mixed)
        normed = jax.vmap(jax.vmap(model.norm))(h + projected)
        return [*projections, projected, jax.vmap(jax.vmap(model.up))(normed)]
    outputs = [jax.vmap(model.layers[0])(x)]
    for number in range(2):
        layer = jax.tree.map(lambda leaf, number=number: leaf[number], model.layers[1])
        outputs.append(jax.vmap(layer)(jax.nn.relu(outputs[-1])))
    return [outputs[0], jnp.concatenate(outputs[1:], axis=1)]


def test_activations_are_the_layers_outputs_at_every_unit(case):
    found = jax.jit(case.brought.network.activations)(case.brought.variables, case.x)
    expected = layer_outputs(case.name, *with_state(trained(case.name)), case.x)
    for (name, values), outputs in zip(found.items(), expected, strict=True):
        np.testing.assert_allclose(values, outputs, atol=1e-5, err_msg=name)


def test_units_are_in_order_of_calls_except_the_last_layer():
    tokens, x = trained("tokens"), MODELS["tokens"][1]
    brought = equinox.bring(tokens, x)
    names = ("attention.query_proj", "attention.key_proj", "attention.value_proj", "attention.output_proj", "up")
    assert brought.units == {f"{number:02d} {name}": 8 for number, name in enumerate(names)}
    assert set(brought.variables["params"]) == {"embedding", "attention", "norm", "up", "out"}
    assert brought.variables["buffers"]["order"].dtype == jnp.int32
    named = equinox.bring(tokens, x, units=["norm", "embedding"])
    assert named.units == {"00 embedding": 8, "01 norm": 8}
    masks = {**named.variables["masks"], "01 norm": jnp.arange(8) > 1}
    masks["00 embedding"] = jnp.arange(8) < 7
    given = named.give_back({**named.variables, "masks": masks})
    assert not given.norm.weight[:2].any() and not given.norm.bias[:2].any() and not given.embedding.weight[:, 7].any()
    chosen = equinox.bring(tokens, x, units=lambda name, layer: isinstance(layer, eqx.nn.Linear) and "up" in name)
    assert chosen.units == {"00 up": 8}


def test_one_network_has_other_calls_and_trees_of_columns():
    model = eqx.nn.Linear(3, 4, key=jax.random.key(0))
    columns = {"num": jnp.ones((6, 2)), "cat": jnp.arange(6) % 2}

    class Pair(eqx.Module):
        first: eqx.nn.Linear
        second: eqx.nn.Linear

        def score(self, columns):
            return self.second(self.first(jnp.append(columns["num"], columns["cat"])))[0]

    pair = Pair(model, eqx.nn.Linear(4, 1, key=jax.random.key(1)))
    with pytest.raises(ValueError, match="the model cannot be called: pass call="):
        equinox.bring(pair, columns)
    brought = equinox.bring(pair, columns, call=lambda model, x, state, key: model.score(x) - 5)
    assert brought.units == {"00 first": 4}
    expected = jnp.stack([pair.score(jax.tree.map(lambda leaf, i=i: leaf[i], columns)) - 5 for i in range(6)])
    np.testing.assert_allclose(brought.network.apply(brought.variables, columns)[0], expected, atol=1e-6)


def test_a_linear_model_has_no_units():
    model = eqx.nn.Linear(6, "scalar", key=jax.random.key(0))
    given, logits = agreement.without_units_agrees(
        functools.partial(equinox.bring, model, FEATURES), FEATURES, jax.vmap(model)(FEATURES)
    )
    np.testing.assert_allclose(jax.vmap(given)(FEATURES), logits, atol=1e-6)


class Tied(eqx.Module):
    """A layer that is called twice, an activation as a layer, and shared and normalised weights."""

    shared: eqx.nn.Shared
    activation: eqx.nn.PReLU
    normed: eqx.nn.WeightNorm
    out: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 4)
        pair = (eqx.nn.Linear(6, 6, key=keys[0]), eqx.nn.Linear(6, 6, key=keys[1]))
        self.shared = eqx.nn.Shared(pair, lambda pair: pair[1].weight, lambda pair: pair[0].weight)
        self.activation = eqx.nn.PReLU(0.1)
        self.normed = eqx.nn.WeightNorm(eqx.nn.Linear(6, 6, key=keys[2]))
        self.out = eqx.nn.Linear(6, 1, key=keys[3])

    def __call__(self, x):
        first, second = self.shared()
        return 9 * self.out(self.normed(self.activation(second(self.activation(first(x))))))


def test_cuts_that_zeros_cannot_express_are_refused():
    brought = equinox.bring(
        Tied(jax.random.key(0)), FEATURES, units=["shared.pytree.0", "activation", "normed.layer", "shared.pytree.1"]
    )
    assert list(brought.units) == ["00 shared.pytree.0", "01 activation", "02 shared.pytree.1", "03 normed.layer"]
    values = brought.network.activations(brought.variables, FEATURES)
    assert values["01 activation"].shape == (N, 2, 6) and values["02 shared.pytree.1"].shape == (N, 6)
    brought.give_back(brought.variables)
    for name, reason in (
        ("00 shared.pytree.0", "its weights are shared or computed by Shared at shared"),
        ("01 activation", "a PReLU has no weights for each unit"),
        ("02 shared.pytree.1", "its weights are shared or computed by Shared at shared"),
        ("03 normed.layer", "its weights are shared or computed by WeightNorm at normed"),
    ):
        masks = {**brought.variables["masks"], name: jnp.arange(6) > 0}
        with pytest.raises(ValueError, match=reason):
            brought.give_back({**brought.variables, "masks": masks})


def test_bad_input_is_named_in_one_line():
    (model, state), (other, other_state) = trained("mlp"), trained("mlp", 1)
    with pytest.raises(TypeError, match=r"model must be an equinox.Module, found str"):
        equinox.bring("model", FEATURES)
    with pytest.raises(ValueError, match="the model has state, such as batch statistics: pass it as state="):
        equinox.bring(model, FEATURES)
    with pytest.raises(ValueError, match="units names no layer: 'fc'; the layers are layers.0, norms.0, dropout"):
        equinox.bring(model, FEATURES, state=state, units=["fc"])
    with pytest.raises(ValueError, match="given a state: pass state= if it has state, and call="):
        equinox.bring(eqx.nn.Linear(6, 1, key=jax.random.key(0)), FEATURES, state=state)
    brought = equinox.bring(model, FEATURES, state=state)
    with pytest.raises(ValueError, match="a model with state is read with it"):
        brought.variables_of(other)
    changed = eqx.tree_at(lambda model: model.dropout.p, other, 0.5)
    with pytest.raises(ValueError, match=r"the model brought has dropout.p = 0.3, this one has 0.5"):
        brought.variables_of(changed, other_state)
    wide = eqx.tree_at(lambda model: model.layers[0], other, eqx.nn.Linear(6, 9, key=jax.random.key(0)))
    with pytest.raises(ValueError, match="params/layers/0/bias has shape"):
        brought.variables_of(wide, other_state)
    with pytest.raises(ValueError, match="already trained"):
        brought.network.init(jax.random.key(0), FEATURES)


def test_states_that_differ_between_rows_and_several_axis_names_are_refused():
    class Last(eqx.Module):
        seen: eqx.nn.StateIndex
        first: eqx.nn.Linear
        second: eqx.nn.Linear

        def __init__(self, key):
            self.seen = eqx.nn.StateIndex(jnp.zeros(6))
            self.first, self.second = eqx.nn.Linear(6, 4, key=key), eqx.nn.Linear(4, 1, key=jax.random.fold_in(key, 1))

        def __call__(self, x, state):
            return 9 * self.second(self.first(x)), state.set(self.seen, x)

    model, state = eqx.nn.make_with_state(Last)(jax.random.key(0))
    with pytest.raises(ValueError, match="the model's state must be the same for all rows"):
        equinox.bring(model, FEATURES, state=state)
    model, state = trained("mlp")
    mixed = eqx.tree_at(lambda model: model.norms[0].axis_name, model, "batch")
    with pytest.raises(ValueError, match="must have one axis name, of the rows, found 'batch', 'rows'"):
        equinox.bring(mixed, FEATURES, state=state)
