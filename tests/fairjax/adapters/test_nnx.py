"""NNX modules are brought in, agree with their own library, and are given back."""

import agreement
import jax
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


def logits_of(outputs):
    outputs = np.asarray(outputs)
    if outputs.ndim == 1:
        return outputs
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs[:, 1] - outputs[:, 0]


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
    state = nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat))
    leaves, structure = jax.tree.flatten(state)
    keys = jax.random.split(jax.random.key(seed + 10), len(leaves))
    moved = [leaf + 0.3 * jax.random.uniform(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    nnx.update(model, jax.tree.unflatten(structure, moved))
    return model


def predict(model, x):
    model = nnx.clone(model)
    model.eval()
    graphdef, state = nnx.split(model)
    return logits_of(jax.jit(lambda state, x: nnx.merge(graphdef, state)(x))(state, x))


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    kind, x = MODELS[request.param]
    model = trained(kind)
    case = Case(adapter.bring(model, x), x, predict(model, x), predict)
    case.name, case.models = request.param, [trained(kind, seed) for seed in range(3)]
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
    agreement.give_back_agrees(case)


def test_activations(case):
    agreement.activations_agree(case)


def test_features(case):
    agreement.features_agree(case)
