"""A small biased network, and programs that tests of the methods share, since compiling takes most of their time."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from computed import Computed

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
    "bias_gda": BiasGda(epochs=6, learning_rate=1e-3),
    "random_perturbation": RandomPerturbation(draws=30, batch=5),
    "layerwise": LayerwiseOptimisation(generations=2, population=4),
    "adversarial_fine_tuning": AdversarialFineTuning(epochs=6, critic_steps=10, network_steps=10),
    "adversarial_debiasing": AdversarialDebiasing(epochs=6, learning_rate=1e-3),
    "last_layer": LastLayer(epochs=6),
    "fine_tuning": FineTuning(epochs=6, learning_rate=1e-3),
    "lagrangian": Lagrangian(epochs=6, learning_rate=1e-3),
}
RULE = ConstrainedObjective(epsilon=0.15, margin=0.01)

TRACES = []
"""One entry for each time that `run` is traced."""


def _run(method, *args):
    TRACES.append(type(method))
    return loop.run(method, *args)


class Programs:
    """The loop as a whole and in parts, compiled with the given options."""

    def __init__(self, options=None):
        jit = partial(jax.jit, compiler_options=options)
        self.run = jit(_run, static_argnums=1)
        self.advance = jit(loop.advance, static_argnums=(1, 5))
        self.evaluate = jit(loop.evaluate, static_argnums=0)
        self.start = jit(loop.start, static_argnums=1)


PROGRAMS = Programs()
run, evaluate = PROGRAMS.run, PROGRAMS.evaluate


class BiasedNetwork:
    """A small trained network that is biased, its data, and the methods on it; tests share the fixture `biased`."""

    def __init__(self):
        self.split = split()
        self.parts = Parts.of(self.split)
        self.variables = trained(self.split)
        self.evaluation = evaluate(TASK, self.variables, self.parts)[0].valid
        """The evaluation of the network on the valid part."""
        self.results = Computed(self.debias)
        """The result of each method with its settings for tests, by name."""

    def begin(self, name, programs=PROGRAMS):
        """Return the loop's state at candidate 0, and the evaluation of candidate 0."""
        method = CONFIGS[name]
        evaluated = programs.evaluate(TASK, self.variables, self.parts, RULE if method.threshold == "rule" else None)
        key = jax.random.key(2)
        return programs.start(method, TASK, RULE, key, self.variables, self.parts, evaluated), evaluated

    def debias(self, name, config=None, rule=RULE, programs=PROGRAMS):
        """Run a method to the end, with the key that `begin` uses."""
        method = CONFIGS[name] if config is None else config
        return programs.run(method, TASK, rule, jax.random.key(2), self.variables, self.split)


def split():
    """Return rows whose label depends on the group, so that a trained network is biased."""
    rng = np.random.default_rng(0)
    a = rng.random(1000) < 0.5
    x = rng.normal(size=(1000, 4)).astype(np.float32)
    x[:, 1] += 1.5 * a
    y = x[:, 0] + x[:, 1] + rng.normal(size=1000) > 0.7
    return data.split(jax.random.key(0), jnp.asarray(x), jnp.asarray(y), jnp.asarray(a))


def trained(split):
    """Return the variables of a network that is trained on the train part."""
    config = training.Training(epochs=20, batch_size=32, learning_rate=3e-3)
    fit = jax.jit(training.run, static_argnums=0)
    return fit(TASK.network, config, jax.random.key(1), split).best.variables()
