"""Keras models are brought in, agree with Keras, and are given back."""

import contextlib
import functools
import os

import agreement
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agreement import Case

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="needs the extra keras")
if keras.backend.backend() != "jax":
    pytest.skip("Keras was imported with another backend", allow_module_level=True)

from fairjax.adapters import keras as adapter  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # as Keras saves

N = 24
layers = keras.layers


def mlp():
    """Sequential MLP with batch normalisation and dropout, and a sigmoid at its end."""
    return keras.Sequential(
        [
            layers.Input((6,)),
            layers.Dense(8),
            layers.BatchNormalization(momentum=0.5),
            layers.Activation("relu"),
            layers.Dropout(0.3),
            layers.Dense(8, activation="tanh"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def cnn():
    """Functional residual convolutions with activations of their own; logits of two classes."""
    image = layers.Input((8, 8, 2))
    h = layers.Conv2D(4, 3, padding="same", name="stem", activation="relu")(image)
    normed = layers.BatchNormalization(momentum=0.5)(layers.Conv2D(4, 3, padding="same", use_bias=False)(h))
    h = layers.Add()([h, layers.ReLU()(normed)])
    h = layers.DepthwiseConv2D(3, depth_multiplier=2, activation="sigmoid")(h)
    return keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(h)))


@keras.saving.register_keras_serializable("fairjax_tests")
class Tokens(keras.Model):
    """Subclassed model: embedding, attention with dropout, layer normalisation, and a layer at every position."""

    def __init__(self, width=8, **options):
        super().__init__(**options)
        self.embedding = layers.Embedding(7, width)
        self.attention = layers.MultiHeadAttention(2, 4, dropout=0.2)
        self.norm = layers.LayerNormalization()
        self.blocks = [layers.TimeDistributed(layers.Dense(width, activation="gelu"))]
        self.out = layers.Dense(1)

    def call(self, tokens):
        h = self.embedding(tokens)
        h = self.norm(h + self.attention(h, h))
        for block in self.blocks:
            h = h + block(h)
        return self.out(keras.ops.mean(h, axis=1))[:, 0]


MODELS = {
    "mlp": (mlp, jax.random.normal(jax.random.key(5), (N, 6))),
    "cnn": (cnn, jax.random.normal(jax.random.key(6), (N, 8, 8, 2))),
    "tokens": (Tokens, jax.random.randint(jax.random.key(7), (N, 5), 0, 7)),
}


def trained(name, seed=0):
    """Return a model with random weights and statistics."""
    make, x = MODELS[name]
    keras.utils.set_random_seed(seed)
    model = make()
    model(x)
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        noise = rng.normal(size=weight.shape) * 0.6
        weight.assign(weight.numpy() + (np.abs(noise) if "moving" in weight.path else noise))
    return model


@pytest.fixture(scope="module", autouse=True)
def usual_promotion():
    """Apply Keras's own layers with the usual rules."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def logits_of(outputs, name):
    outputs = np.asarray(outputs)
    if name == "mlp":
        return np.log(outputs[:, 0]) - np.log1p(-outputs[:, 0])
    return outputs if outputs.ndim == 1 else outputs[:, 1] - outputs[:, 0]


def predict_of(name):
    return lambda model, x: logits_of(model(x, training=False), name)


class KerasCase(Case):
    """A case whose differences are computed by a model that is made in float64, since Keras casts to a layer's type."""

    @functools.cached_property
    def biases(self):
        with in_float64():
            x, output = agreement._double(self.x, True), "probability" if self.name == "mlp" else "logit"
            twin = Case(adapter.bring(trained(self.name), x, output=output), self.x, self.logits, self.predict)
        compiled = Case.biases.func(twin)

        def biases(*args):
            with in_float64():
                return compiled(*args)

        return biases


@contextlib.contextmanager
def in_float64():
    """Let Keras make layers, and trace them, in float64, to which it does not promote on JAX otherwise."""
    from keras.src.backend.common import dtypes

    lower = dtypes.BIT64_TO_BIT32_DTYPE["float64"]
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        dtypes.BIT64_TO_BIT32_DTYPE["float64"] = lower
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    name, x = request.param, MODELS[request.param][1]
    model, predict = trained(name), predict_of(name)
    brought = adapter.bring(model, x, output="probability" if name == "mlp" else "logit")
    case = KerasCase(brought, x, predict(model, x), predict, name=name)
    case.models = [model, *(trained(name, seed) for seed in (1, 2))]
    return case


def test_logits(case):
    agreement.logits_agree(case)


def test_influence(case):
    agreement.influence_agrees(case)


def test_pruning_order(case):
    agreement.pruning_order_agrees(case)


def test_fine_tuning(case):
    agreement.fine_tuning_runs(case)


def test_seeds(case):
    agreement.seeds_agree(case, case.models)


def test_give_back(case, tmp_path):
    given = agreement.give_back_agrees(case)
    assert type(given) is type(case.models[0]) and given is not case.models[0]
    given.save(tmp_path / "given.keras")
    loaded = keras.models.load_model(tmp_path / "given.keras")
    np.testing.assert_allclose(loaded(case.x), given(case.x), atol=1e-6)
    np.testing.assert_allclose(case.predict(case.models[0], case.x), case.logits, atol=1e-6)  # the user's is unchanged


def test_activations(case):
    agreement.activations_agree(case)


def test_features(case):
    agreement.features_agree(case)


def test_training_mode_is_kerass_own(case):
    model, key = case.brought.give_back(case.brought.variables), jax.random.key(3)
    for number, generator in enumerate(adapter._generators(model)):
        generator.state.assign(jax.random.bits(jax.random.fold_in(jax.random.key(3), number), (2,)))
    outputs = model(case.x, training=True)
    logits, updated = jax.jit(case.brought.network.apply)(case.brought.variables, case.x, key=key)
    np.testing.assert_allclose(logits, logits_of(outputs, case.name), atol=2e-5)
    assert np.abs(logits - case.logits).max() > 0.01
    expected = case.brought.variables_of(model)
    assert ("frozen" in expected) == (case.name != "tokens")
    for found, leaf, before in zip(
        *(jax.tree.leaves(tree.get("frozen", {})) for tree in (updated, expected, case.brought.variables)), strict=True
    ):
        np.testing.assert_allclose(found, leaf, atol=1e-6)
        assert not np.array_equal(found, before)
    again = jax.jit(case.brought.network.apply)(case.brought.variables, case.x, key=jax.random.key(4))[0]
    assert case.name == "cnn" or np.abs(logits - again).max() > 0.01


def convolved(layer, h, groups=1):
    kernel = layer.kernel.value.reshape(3, 3, -1, layer.kernel.shape[-1] * (groups if groups > 1 else 1))
    names, padding = ("NHWC", "HWIO", "NHWC"), layer.padding.upper()
    h = jax.lax.conv_general_dilated(
        h, kernel, (1, 1), padding, dimension_numbers=names, feature_group_count=groups, precision="highest"
    )
    return h if layer.bias is None else h + layer.bias.value


def layer_outputs(name, model, x):
    """Compute the outputs of layers with units by hand, before their activations, units last."""
    if name == "mlp":
        first, norm, _, _, second, _ = model.layers
        h = x @ first.kernel.value + first.bias.value
        return [h, jax.nn.relu(norm(h)) @ second.kernel.value + second.bias.value]
    if name == "cnn":
        stem, conv, norm, depthwise = (
            next(layer for layer in model.layers if type(layer).__name__ == kind or layer.name == kind)
            for kind in ("stem", "Conv2D", "BatchNormalization", "DepthwiseConv2D")
        )
        conv = next(layer for layer in model.layers if isinstance(layer, layers.Conv2D) and layer.name != "stem")
        first = convolved(stem, x)
        second = convolved(conv, jax.nn.relu(first))
        return [first, second, convolved(depthwise, jax.nn.relu(first) + jax.nn.relu(norm(second)), groups=4)]
    attention = model.attention
    h = model.embedding(x)
    parts = [layer(h) for layer in (attention._query_dense, attention._key_dense, attention._value_dense)]
    dense = model.blocks[0].layer
    h = model.norm(h + attention(h, h))
    mixed = attention(model.embedding(x), model.embedding(x))
    flat = [part.reshape(N, 5, 8) for part in parts]
    return [*flat, mixed, h @ dense.kernel.value + dense.bias.value]


def test_activations_are_the_layers_outputs_at_every_unit(case):
    found = jax.jit(case.brought.network.activations)(case.brought.variables, case.x)
    expected = layer_outputs(case.name, case.models[0], case.x)
    for (name, values), outputs in zip(found.items(), expected, strict=True):
        np.testing.assert_allclose(values, outputs, atol=2e-5, err_msg=name)


def test_names_do_not_depend_on_how_many_models_were_made():
    x = MODELS["tokens"][1]
    first, second = trained("tokens"), trained("tokens", 1)
    assert first.embedding.name != second.embedding.name
    brought, other = adapter.bring(first, x), adapter.bring(second, x)
    assert brought.units == other.units and list(brought.units)[0] == "00 multi_head_attention.query"
    assert jax.tree.structure(brought.variables) == jax.tree.structure(other.variables)
    named = adapter.bring(first, x, units=[first.embedding.name, "layer_normalization"])
    assert named.units == {"00 embedding": 8, "01 layer_normalization": 8}
    masks = {name: jnp.arange(8) > 1 for name in named.units}
    given = named.give_back({**named.variables, "masks": masks})
    assert not given.embedding.embeddings.numpy()[:, :2].any() and not given.norm.gamma.numpy()[:2].any()


def test_frozen_layers_are_no_parameters():
    model, x = trained("mlp"), MODELS["mlp"][1]
    model.layers[0].trainable = False
    brought = adapter.bring(model, x, output="probability")
    assert "dense" not in brought.variables["params"] and set(brought.variables["frozen"]["dense"]) == {
        "0 kernel",
        "1 bias",
    }
    masks = {**brought.variables["masks"], "00 dense": jnp.arange(8) != 3}
    given = brought.give_back({**brought.variables, "masks": masks})
    assert not given.layers[0].kernel.numpy()[:, 3].any()


def test_cuts_that_zeros_cannot_express_are_refused():
    model, x = trained("mlp"), MODELS["mlp"][1]
    brought = adapter.bring(model, x, units=["activation", "dense"], output="probability")
    assert list(brought.units) == ["00 dense", "01 activation"]
    masks = {**brought.variables["masks"], "01 activation": jnp.arange(8) > 0}
    with pytest.raises(ValueError, match="'01 activation' are cut, .* a Activation has no weights for each unit"):
        brought.give_back({**brought.variables, "masks": masks})


def test_a_linear_model_has_no_units():
    x, model = MODELS["mlp"][1], keras.Sequential([layers.Input((6,)), layers.Dense(1)])
    given, logits = agreement.without_units_agrees(functools.partial(adapter.bring, model, x), x, model(x)[:, 0])
    np.testing.assert_allclose(given(x)[:, 0], logits, atol=1e-6)


class Lambda(keras.Model):
    """A model with an argument that Keras cannot save."""

    def __init__(self, function):
        super().__init__()
        self.function, self.first, self.out = function, layers.Dense(4), layers.Dense(1)

    def call(self, x):
        return 9 * self.out(self.function(self.first(x)))


def test_bad_input_is_named_in_one_line(monkeypatch):
    x = MODELS["mlp"][1]
    model = trained("mlp")
    with pytest.raises(TypeError, match=r"model must be a keras.Model, found Dense"):
        adapter.bring(layers.Dense(3), x)
    with pytest.raises(ValueError, match="the model has no weights: build it first"):
        adapter.bring(keras.Sequential([layers.Dense(3)]), x)
    with pytest.raises(ValueError, match="units names no layer: 'fc'; the layers are dense, batch_normalization"):
        adapter.bring(model, x, units=["fc"], output="probability")
    with pytest.warns(UserWarning, match="all outputs on the example lie in"):
        adapter.bring(model, x)
    custom = Lambda(lambda h: keras.ops.tanh(h))
    custom(x)
    brought = adapter.bring(custom, x)
    with pytest.raises(ValueError, match="Lambda cannot be cloned by Keras"):
        brought.give_back(brought.variables)
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ImportError, match="found torch: set the environment variable KERAS_BACKEND=jax before"):
        adapter.bring(model, x)
