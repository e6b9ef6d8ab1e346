"""Linen modules are brought in, agree with their own library, and are given back."""

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


def logits_of(outputs):
    outputs = np.asarray(outputs)
    if outputs.ndim == 1:
        return outputs
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs[:, 1] - outputs[:, 0]


FEATURES = jax.random.normal(jax.random.key(5), (N, 6))
MODELS = {
    "mlp": (Net(), FEATURES, {"train": False}),
    "cnn": (Residual(), jax.random.normal(jax.random.key(6), (N, 8, 8, 2)), {}),
    "tokens": (Tokens(), jax.random.randint(jax.random.key(7), (N, 5), 0, 7), {}),
    "scan": (Scanned(), FEATURES, {}),
    "remat": (Scanned(remat=True), FEATURES, {}),
}


def trained(module, x, options, seed=0):
    """Return variables with random parameters and statistics, as if trained."""
    key = jax.random.key(seed)
    variables = jax.jit(lambda key: module.init(key, x, **options))(key)
    leaves, structure = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.fold_in(key, 1), len(leaves))
    moved = [leaf + 0.3 * jax.random.uniform(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, moved)


@pytest.fixture(scope="module", autouse=True)
def usual_promotion():
    """Flax's own layers mix types."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    module, x, options = MODELS[request.param]
    variables = trained(module, x, options)

    def predict(variables, x):
        return logits_of(jax.jit(lambda v, x: module.apply(v, x, **options))(variables, x))

    case = Case(linen.bring(module, variables, x), x, predict(variables, x), predict)
    case.name, case.models = request.param, [trained(module, x, options, seed) for seed in range(3)]
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


def test_give_back(case):
    given = agreement.give_back_agrees(case)
    assert jax.tree.structure(given) == jax.tree.structure(case.models[0])


def test_activations(case):
    agreement.activations_agree(case)


def test_features(case):
    agreement.features_agree(case)
