"""Linen modules are brought in, agree with their own library, and are given back."""

import functools

import agreement
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agreement import Case

from fairjax import from_linen
from fairjax.adapters import linen
from fairjax.nn import Mlp

N = 24


class Net(nn.Module):
    """MLP with batch normalisation and dropout."""

    @nn.compact
    def __call__(self, x, *, train: bool):
        for _ in range(2):
            x = nn.Dense(8)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
            x = nn.Dropout(0.3, deterministic=not train)(x)
        return nn.Dense(1)(x)


class Residual(nn.Module):
    """Residual convolutions with group normalisation, defined in setup; logits of two classes."""

    def setup(self):
        self.stem = nn.Conv(4, (3, 3))
        self.convs = [nn.Conv(4, (3, 3)), nn.Conv(4, (3, 3))]
        self.norm = nn.GroupNorm(num_groups=2)
        self.bn = nn.BatchNorm()
        self.out = nn.Dense(2)

    def __call__(self, x, training=False):
        h = self.stem(x)
        h = h + nn.relu(self.norm(self.convs[0](h)))
        h = h + nn.relu(self.bn(self.convs[1](h), use_running_average=not training))
        return self.out(nn.avg_pool(h, (2, 2), (2, 2)).mean(axis=(1, 2)))


class Tokens(nn.Module):
    """Embedding, attention and layer normalisation; the classes' logits are averaged over positions."""

    @nn.compact
    def __call__(self, tokens, deterministic=True):
        h = nn.Embed(7, 8)(tokens)
        attention = nn.MultiHeadDotProductAttention(num_heads=2, dropout_rate=0.2)
        h = nn.LayerNorm()(h + attention(h, deterministic=deterministic))
        h = h + nn.Dense(8)(nn.gelu(nn.Dense(8)(h)))
        return nn.Dense(1)(h.mean(axis=1))[:, 0]


class Block(nn.Module):
    @nn.compact
    def __call__(self, h, _):
        return h + nn.Dense(6, name="down")(nn.tanh(nn.Dense(5, name="up")(h))), None


class Scanned(nn.Module):
    """Three blocks in a loop, rematerialised on request, and a layer that is called twice."""

    remat: bool = False

    @nn.compact
    def __call__(self, x, train: bool = False):
        shared = nn.Dense(6, name="shared")
        h = shared(nn.tanh(shared(x)))
        block = nn.remat(Block) if self.remat else Block
        loop = nn.scan(block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        h, _ = loop(name="blocks")(h, None)
        return nn.Dense(1, name="out")(h)[:, 0]


FEATURES = jax.random.normal(jax.random.key(5), (N, 6))
MODELS = {
    "mlp": (Net(), FEATURES, {"train": False}),
    "cnn": (Residual(), jax.random.normal(jax.random.key(6), (N, 8, 8, 2)), {}),
    "tokens": (Tokens(), jax.random.randint(jax.random.key(7), (N, 5), 0, 7), {}),
    "scan": (Scanned(remat=True), FEATURES, {}),
}


@functools.cache
def initialised(module, shape, dtype, **options):
    """Return the function of a seed that makes variables, compiled once for equal modules."""

    def initialise(seed):
        return agreement.moved(module.init(jax.random.key(seed), jnp.zeros(shape, dtype), **options), seed)

    return jax.jit(initialise)


def trained(module, x, options, seed=0):
    """Return variables with random parameters and statistics, as if trained."""
    return initialised(module, x.shape, x.dtype, **options)(seed)


@pytest.fixture(scope="module", autouse=True)
def usual_promotion():
    """Flax's own layers mix types."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    module, x, options = MODELS[request.param]
    variables = trained(module, x, options)
    apply = jax.jit(lambda variables, x: module.apply(variables, x, **options))

    def predict(variables, x):
        return agreement.logits_of(apply(variables, x))

    case = Case(linen.bring(module, variables, x), x, predict(variables, x), predict)
    case.name, case.models = request.param, [trained(module, x, options, seed) for seed in range(3)]
    return case


class TestLinen(agreement.Agreement):
    """Every model agrees with Linen."""


@pytest.fixture(scope="module")
def mlp():
    module, x, options = MODELS["mlp"]
    return module, trained(module, x, options), x


@pytest.mark.parametrize("case", ["mlp"], indirect=True)
def test_training_mode_is_the_module_s_own(case, mlp, key):
    """Logits with dropout, and running statistics, are those of the module with the same key."""
    module, variables, x = mlp
    brought = case.brought
    logits, updated = brought.network.apply(brought.variables, x, key=key)
    expected, statistics = module.apply(variables, x, train=True, rngs={"dropout": key}, mutable=["batch_stats"])
    np.testing.assert_allclose(logits, expected[:, 0], atol=1e-6)
    for found, expected in zip(
        jax.tree.leaves(updated["batch_stats"]), jax.tree.leaves(statistics["batch_stats"]), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("case", ["mlp", "cnn", "tokens"], indirect=True)
def test_activations_are_those_that_linen_captures(case):
    module, x, options = MODELS[case.name]
    options = {**options, "capture_intermediates": True, "mutable": ["intermediates"]}
    _, captured = jax.jit(lambda variables: module.apply(variables, x, **options))(case.models[0])
    for site, found in jax.jit(case.brought.network.activations)(case.brought.variables, x).items():
        expected = captured["intermediates"]
        for part in site.partition(" ")[2].split("."):
            expected = expected[part]
        np.testing.assert_allclose(found, expected["__call__"][0].reshape(found.shape), atol=1e-5)


@pytest.mark.parametrize("case", ["scan"], indirect=True)
def test_activations_in_a_loop_and_of_a_layer_called_twice(case):
    x, params = case.x, case.models[0]["params"]
    found = jax.jit(case.brought.network.activations)(case.brought.variables, x)
    first = x @ params["shared"]["kernel"] + params["shared"]["bias"]
    h = jnp.tanh(first) @ params["shared"]["kernel"] + params["shared"]["bias"]
    np.testing.assert_allclose(found["00 shared"], jnp.stack([first, h], axis=1), atol=1e-5)
    assert list(found) == ["00 shared", *(f"{2 * i + j + 1:02d} blocks.{n}[{i}]" for i in range(3) for j, n in ORDER)]
    for i in range(3):
        up, down = (jax.tree.map(lambda leaf, i=i: leaf[i], params["blocks"][name]) for name in ("up", "down"))
        expected = h @ up["kernel"] + up["bias"]
        np.testing.assert_allclose(found[f"{2 * i + 1:02d} blocks.up[{i}]"], expected, atol=1e-4)
        h = h + jnp.tanh(expected) @ down["kernel"] + down["bias"]


ORDER = tuple(enumerate(("up", "down")))


def test_equal_modules_make_equal_networks(mlp):
    module, variables, x = mlp
    one, other = linen.bring(module, variables, x), linen.bring(Net(), variables, x)
    assert one.network == other.network and hash(one.network) == hash(other.network)


def test_units_are_chosen(mlp):
    module, variables, x = mlp
    assert linen.bring(module, variables, x, units=["Dense_1"]).units == {"00 Dense_1": 8}
    chosen = linen.bring(module, variables, x, units=lambda name, layer: isinstance(layer, nn.BatchNorm))
    assert chosen.units == {"00 BatchNorm_0": 8, "01 BatchNorm_1": 8}
    with pytest.raises(ValueError, match="units names no layer: 'fc'; the layers are Dense_0, BatchNorm_0, Dropout_0"):
        linen.bring(module, variables, x, units=["fc"])
    with pytest.raises(ValueError, match="units matches no layer"):
        linen.bring(module, variables, x, units=lambda name, layer: False)
    scanned, x, options = Scanned(), FEATURES, {}
    variables = trained(scanned, x, options)
    assert linen.bring(scanned, variables, x, units=["blocks.up"]).units == {
        f"0{i} blocks.up[{i}]": 5 for i in range(3)
    }
    one = linen.bring(scanned, variables, x, units=["blocks.up[1]"])
    assert one.units == {"00 blocks.up[1]": 5}
    masks = {"00 blocks.up[1]": jnp.arange(5) > 2}
    given = one.give_back({**one.variables, "masks": masks})
    zeros = (given["params"]["blocks"]["up"]["kernel"] == 0).all(axis=1)
    np.testing.assert_array_equal(zeros, [[False] * 5, [True] * 3 + [False] * 2, [False] * 5])


class Probabilities(nn.Module):
    """Logits of 200 and more, with a sigmoid or a softmax."""

    classes: int = 1

    @nn.compact
    def __call__(self, x):
        logits = nn.Dense(self.classes)(nn.relu(nn.Dense(6)(100 * x)))
        return nn.sigmoid(logits) if self.classes == 1 else nn.softmax(logits)


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_a_final_sigmoid_or_softmax_is_skipped(classes):
    module = Probabilities(classes)
    variables = trained(module, FEATURES, {})
    brought = linen.bring(module, variables, FEATURES, output="probability")
    logits = jax.jit(brought.network.apply)(brought.variables, FEATURES)[0]
    assert logits.shape == ((N,) if classes < 3 else (N, 3)) and jnp.abs(logits).max() > 50
    with pytest.warns(UserWarning, match="all outputs on the example lie in"):
        linen.bring(module, variables, FEATURES)


class Wrong(nn.Module):
    """Modules that are refused, by name."""

    kind: str

    @nn.compact
    def __call__(self, x):
        h = nn.Dense(4)(x)
        if self.kind == "dropout":
            h = nn.Dropout(0.5, deterministic=False)(h)
        return agreement.wrong_outputs(self.kind, nn.Dense(1)(nn.relu(h)))


@pytest.mark.parametrize(
    ("kind", "message"), [("dropout", "cannot be applied to the example in evaluation mode"), *agreement.REFUSED]
)
def test_modules_that_are_refused(kind, message, key):
    module = Wrong(kind)
    variables = Wrong("").init(key, FEATURES)
    with pytest.raises(ValueError, match=message):
        linen.bring(module, variables, FEATURES)


def test_a_linear_model_has_no_units(key):
    module = nn.Dense(1)
    variables = module.init(key, FEATURES)
    given, logits = agreement.without_units_agrees(
        functools.partial(linen.bring, module, variables, FEATURES), FEATURES, module.apply(variables, FEATURES)[:, 0]
    )
    np.testing.assert_allclose(module.apply(given, FEATURES)[:, 0], logits, atol=1e-6)


class Tied(nn.Module):
    """A weight of an embedding that is also that of the output, and an activation as a layer."""

    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(7, 6)
        h = nn.Dense(6)(embed(tokens).mean(axis=1))
        return embed.attend(Squash(name="squash")(h))[:, 0]


class Squash(nn.Module):
    @nn.compact
    def __call__(self, h):
        return nn.sigmoid(h)


def test_cuts_that_zeros_cannot_express_are_refused_at_give_back(key):
    tokens = MODELS["tokens"][1]
    variables = Tied().init(key, tokens)
    for name, message in (("Embed_0", "weight of another layer"), ("squash", "Squash is no layer that returns 0")):
        brought = linen.bring(Tied(), variables, tokens, units=[name])
        brought.give_back(brought.variables)
        masks = {f"00 {name}": jnp.arange(6) > 0}
        with pytest.raises(ValueError, match=f"units of '00 {name}' are cut.*{message}"):
            brought.give_back({**brought.variables, "masks": masks})


def test_variables_of_others_are_refused(mlp):
    module, variables, x = mlp
    brought = linen.bring(module, variables, x)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), brought.variables)
    with pytest.raises(ValueError, match="these hold 2 seeds: choose one with jax.tree.map"):
        brought.give_back(stacked)
    with pytest.raises(ValueError, match="batch_stats/BatchNorm_0/mean is missing"):
        brought.variables_of({"params": variables["params"]})
    with pytest.raises(ValueError, match="already trained and has no initialisation"):
        brought.network.init(jax.random.key(0), x)
    with pytest.raises(ValueError, match='variables must be a dictionary with "params"'):
        linen.bring(module, variables["params"], x)
    with pytest.raises(ValueError, match="must be a flax.linen module, got Network"):
        linen.bring(from_linen(Mlp(widths=(2,))), variables, x)


def test_a_dictionary_of_columns_and_another_call(key):
    class Columns(nn.Module):
        @nn.compact
        def __call__(self, number, token, *, mode):
            h = jnp.concatenate([nn.Dense(4)(number), nn.Embed(3, 2)(token)], axis=1)
            return nn.Dense(1)(h) * (mode == "test")

    x = {"number": FEATURES, "token": jnp.arange(N) % 3}

    def call(module, x, train):
        return module(x["number"], x["token"], mode="train" if train else "test")

    variables = Columns().init(key, x["number"], x["token"], mode="test")
    with pytest.raises(ValueError, match="or by call=lambda module, x, train"):
        linen.bring(Columns(), variables, x)
    brought = linen.bring(Columns(), variables, x, call=call)
    assert brought.units == {"00 Dense_0": 4}
    assert (brought.network.apply(brought.variables, x, key=key)[0] == 0).all()


def test_a_layer_that_sees_positions_as_rows_has_influence_and_no_activations(key):
    class Flattened(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = nn.relu(nn.Dense(4)(x.reshape(-1, 2)))
            return nn.Dense(1)(h.reshape(x.shape[0], -1))

    brought = linen.bring(Flattened(), Flattened().init(key, FEATURES), FEATURES)
    with pytest.raises(
        ValueError, match="the activations of Dense_0 cannot be shown, because rows are not on the first"
    ):
        brought.network.activations(brought.variables, FEATURES)
