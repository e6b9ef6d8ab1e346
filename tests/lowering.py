"""Lower every program of a run for GPUs and TPUs and print the name of each; run by `test_lowering.py`."""

import functools

import jax
import numpy as np

from fairjax import METHODS, RULES, Mlp, Task, Training, data, from_linen, metrics, seeds, spd
from fairjax.debiasing import task_of
from fairjax.runs import programs
from fairjax.seeds import Axes, Machine
from fairjax.selection import ConstrainedObjective
from fairjax.types import SHARED

NETWORK = from_linen(Mlp(widths=(6,)))
RULE = ConstrainedObjective()


@functools.cache
def ready():
    """Return splits of two seeds, the machine, and the shapes of the data that programs pass to each other."""
    rng = np.random.default_rng(0)
    a, x = rng.random(400) < 0.5, rng.normal(size=(400, 4)).astype(np.float32)
    splits = data.split_seeds(data.from_arrays(x, x[:, 0] + rng.normal(size=400) > 0.2, a), seeds=(1, 2))
    where = {"axes": Axes(SHARED), "machine": Machine(seeds.mesh(), 2)}
    state = jax.eval_shape(functools.partial(seeds.begin_training, NETWORK, Training(), **where), keys(), splits)
    logits = jax.eval_shape(functools.partial(seeds.evaluate, Task(NETWORK, spd), **where), state.best, splits)
    return splits, where, state, logits


def keys():
    return jax.random.split(jax.random.key(0), 2)


def lowers(program, *args, **options):
    for platform in ("cuda", "tpu"):
        text = program.trace(*args, **options).lower(lowering_platforms=(platform,)).as_text()
        assert "stablehlo" in text and "callback" not in text


def training():
    splits, where, state, _ = ready()
    lowers(seeds.begin_training, NETWORK, Training(), keys(), splits, **where)
    lowers(seeds.advance_training, NETWORK, Training(), splits, state, epochs=2, **where)


def method(name):
    splits, where, state, logits = ready()
    chosen, task = METHODS[name](), task_of(NETWORK, spd, RULE)
    by = RULE if chosen.threshold == "rule" else None
    lowers(seeds.evaluate_logits, task, by, logits)
    evaluated = jax.eval_shape(functools.partial(seeds.evaluate_logits, task), by, logits)
    args = keys(), state.best, splits, evaluated
    lowers(seeds.begin_debiasing, chosen, task, RULE, *args, **where)
    begin = functools.partial(seeds.begin_debiasing, chosen, task, RULE, **where)
    lowers(seeds.advance_debiasing, chosen, task, RULE, splits, jax.eval_shape(begin, *args), steps=2, **where)


def rule(name):
    splits, where, state, logits = ready()
    chosen = RULES[name]()
    lowers(seeds.evaluate, task_of(NETWORK, spd, chosen), state.best, splits, **where)
    if chosen.data == "valid":
        scored = jax.eval_shape(programs.score, logits)
        lowers(programs.by_group, metrics.MEASURES["eod"], chosen, scored)
    trace, _ = jax.eval_shape(functools.partial(seeds.evaluate_logits, task_of(NETWORK, spd, chosen), None), logits)
    one = jax.tree.map(lambda entry: jax.ShapeDtypeStruct((2, 1, *entry.shape[1:]), entry.dtype), trace)
    lowers(programs.select, chosen, one)


if __name__ == "__main__":
    training()
    print("training")
    for kind, names in ((method, METHODS), (rule, RULES)):
        for name in names:
            kind(name)
            print(kind.__name__, name)
