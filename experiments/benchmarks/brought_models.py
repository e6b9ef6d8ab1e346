"""The multilayer perceptron of the first paper, written as users of each framework write it, and brought.

Weights and running statistics are those of an untrained network: they don't change how long anything takes.
"""

import os

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.adapters._bringing import Brought

DROPOUT = 0.05


def torch(features: int, widths: tuple[int, ...]) -> Brought:
    """Bring the perceptron from PyTorch."""
    from torch import nn

    from fairjax.adapters import torch as adapter

    layers: list[nn.Module] = []
    for width, inputs in zip(widths, (features, *widths), strict=False):
        layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(DROPOUT), nn.BatchNorm1d(width)]
    module = nn.Sequential(*layers, nn.Linear(widths[-1], 1)).eval()
    return adapter.bring(module, _example(features))


def linen(features: int, widths: tuple[int, ...]) -> Brought:
    """Bring the perceptron from Linen."""
    import flax.linen as nn

    from fairjax.adapters import linen as adapter

    class Perceptron(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool = False):
            for width in widths:
                x = nn.relu(nn.Dense(width)(x))
                x = nn.Dropout(DROPOUT, deterministic=not train)(x)
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
            return nn.Dense(1)(x)[:, 0]

    module, x = Perceptron(), _example(features)
    return adapter.bring(module, module.init(jax.random.key(0), x), x)


def nnx(features: int, widths: tuple[int, ...]) -> Brought:
    """Bring the perceptron from NNX."""
    from flax import nnx as flax_nnx

    from fairjax.adapters import nnx as adapter

    class Perceptron(flax_nnx.Module):
        def __init__(self, rngs):
            pairs = list(zip((features, *widths), widths, strict=False))
            self.linear = flax_nnx.List([flax_nnx.Linear(inputs, width, rngs=rngs) for inputs, width in pairs])
            self.norm = flax_nnx.List([flax_nnx.BatchNorm(width, rngs=rngs) for width in widths])
            self.dropout = flax_nnx.Dropout(DROPOUT, rngs=rngs)
            self.out = flax_nnx.Linear(widths[-1], 1, rngs=rngs)

        def __call__(self, x):
            for linear, norm in zip(self.linear, self.norm, strict=True):
                x = norm(self.dropout(flax_nnx.relu(linear(x))))
            return self.out(x)[:, 0]

    model = Perceptron(flax_nnx.Rngs(0))
    model.eval()
    return adapter.bring(model, _example(features))


def equinox(features: int, widths: tuple[int, ...]) -> Brought:
    """Bring the perceptron from Equinox."""
    import equinox as eqx

    from fairjax.adapters import equinox as adapter

    class Perceptron(eqx.Module):
        linear: list
        norm: list
        dropout: eqx.nn.Dropout
        out: eqx.nn.Linear

        def __init__(self, key):
            keys = jax.random.split(key, len(widths) + 1)
            pairs = zip((features, *widths), widths, keys, strict=False)
            self.linear = [eqx.nn.Linear(inputs, width, key=key) for inputs, width, key in pairs]
            self.norm = [eqx.nn.BatchNorm(width, axis_name="batch", mode="batch") for width in widths]
            self.dropout = eqx.nn.Dropout(DROPOUT)
            self.out = eqx.nn.Linear(widths[-1], 1, key=keys[-1])

        def __call__(self, x, state, key=None):
            keys = [None] * len(widths) if key is None else list(jax.random.split(key, len(widths)))
            for linear, norm, dropout_key in zip(self.linear, self.norm, keys, strict=True):
                x, state = norm(self.dropout(jax.nn.relu(linear(x)), key=dropout_key), state)
            return self.out(x)[0], state

    model, state = eqx.nn.make_with_state(Perceptron)(jax.random.key(0))
    return adapter.bring(eqx.nn.inference_mode(model), _example(features), state=state)


def keras(features: int, widths: tuple[int, ...]) -> Brought:
    """Bring the perceptron from Keras."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras as library

    from fairjax.adapters import keras as adapter

    layers = library.layers
    blocks = []
    for width in widths:
        blocks += [layers.Dense(width, activation="relu"), layers.Dropout(DROPOUT), layers.BatchNormalization()]
    model = library.Sequential([layers.Input((features,)), *blocks, layers.Dense(1)])
    return adapter.bring(model, _example(features))


def _example(features: int) -> np.ndarray:
    return np.asarray(jax.random.normal(jax.random.key(0), (8, features)), jnp.float32)
