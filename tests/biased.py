"""A small biased network, and programs that tests of the methods share, since compiling takes most of their time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import quick

from fairjax import data, loop, training
from fairjax.methods import (
    METHODS,
    AdversarialDebiasing,
    AdversarialFineTuning,
    BiasGda,
    FineTuning,
    Lagrangian,
    LastLayer,
    LayerwiseOptimisation,
    Parts,
    RandomPerturbation,
    Task,
)
from fairjax.metrics import spd
from fairjax.nn import Mlp, from_linen
from fairjax.selection import ConstrainedObjective

TASK = Task(from_linen(Mlp(widths=(6, 5))), spd)
UNITS = 11
CONFIGS = {name: kind() for name, kind in METHODS.items()} | {
    "bias_gda": BiasGda(epochs=5, learning_rate=1e-3),
    "random_perturbation": RandomPerturbation(draws=25, batch=5),
    "layerwise": LayerwiseOptimisation(generations=2, population=4),
    "adversarial_fine_tuning": AdversarialFineTuning(epochs=5, critic_steps=10, network_steps=10),
    "adversarial_debiasing": AdversarialDebiasing(epochs=5, learning_rate=1e-3),
    "last_layer": LastLayer(epochs=5),
    "fine_tuning": FineTuning(epochs=5, learning_rate=1e-3),
    "lagrangian": Lagrangian(epochs=5, learning_rate=1e-3),
}
RULE = ConstrainedObjective(epsilon=0.15, margin=0.01)

TRACES = []
"""One entry for each time that `run` is traced."""


def _run(method, *args):
    TRACES.append(type(method))
    return loop.run(method, *args)


class Programs:
    """The loop as a whole and in parts, compiled with the given `jit`."""

    def __init__(self, jit):
        self.run = jit(_run, static_argnums=1)
        self.advance = jit(loop.advance, static_argnums=(1, 5))
        self.evaluate = jit(loop.evaluate, static_argnums=0)
        self.start = jit(loop.start, static_argnums=1)


QUICK = Programs(quick.jit)
run, evaluate = QUICK.run, QUICK.evaluate


@functools.cache
def split():
    """Return rows whose label depends on the group, so that a trained network is biased."""
    rng = np.random.default_rng(0)
    a = rng.random(1000) < 0.5
    x = rng.normal(size=(1000, 4)).astype(np.float32)
    x[:, 1] += 1.5 * a
    y = x[:, 0] + x[:, 1] + rng.normal(size=1000) > 0.7
    return data.split(jax.random.key(0), jnp.asarray(x), jnp.asarray(y), jnp.asarray(a))


@functools.cache
def parts():
    return Parts.of(split())


@functools.cache
def variables():
    config = training.Training(epochs=20, batch_size=32, learning_rate=3e-3)
    fit = quick.jit(training.run, static_argnums=0)
    return fit(TASK.network, config, jax.random.key(1), split()).best.variables()


def begin(name, config=None, task=TASK, parts_=None, rule=RULE, programs=QUICK):
    """Return the loop's state at candidate 0, and the evaluation of candidate 0."""
    parts_ = parts() if parts_ is None else parts_
    method = CONFIGS[name] if config is None else config
    evaluated = programs.evaluate(task, variables(), parts_, rule if method.threshold == "rule" else None)
    begun = programs.start(method, task, rule, jax.random.key(2), variables(), parts_, evaluated)
    return begun, evaluated


def debias(name, config=None, rule=RULE, programs=QUICK):
    """Run a method to the end, with the key that `begin` uses."""
    method = CONFIGS[name] if config is None else config
    return programs.run(method, TASK, rule, jax.random.key(2), variables(), split())


@functools.cache
def result(name):
    """Run a method to the end with its settings for tests."""
    return debias(name)


def raw(tree):
    """Convert keys to numbers, so that trees can be compared."""
    return jax.tree.map(
        lambda leaf: jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf, tree
    )
