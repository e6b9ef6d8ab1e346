"""The compiled programs of a run: functions of one seed, mapped over all of them."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fairjax import loop, objective, parallel, training
from fairjax.loop import Parts, Task
from fairjax.nn import Network
from fairjax.nn.network import scores
from fairjax.postprocessing import group_thresholds
from fairjax.types import Batch, Split, Variables


class Machine(NamedTuple):
    """Where seeds run: static in every compiled program."""

    mesh: jax.sharding.Mesh
    lanes: int | None


class Scored(NamedTuple):
    """Scores, labels and groups of the valid and test parts of all runs."""

    valid: Batch
    test: Batch


@dataclasses.dataclass(frozen=True)
class Axes:
    """vmap axes of a split, hashable so that they can be static."""

    split: Split


@functools.partial(jax.jit, static_argnames=("network", "axes", "machine"))
def begin_training(network: Network, config, keys, splits, *, axes: Axes, machine: Machine):
    """Fresh networks on their way."""

    def one(config, key, split):
        return training.init(network, config, key, split)

    return parallel.over_seeds(one, (config, keys, splits), (None, 0, axes.split), **machine._asdict())


@functools.partial(jax.jit, static_argnames=("network", "axes", "machine", "epochs"), donate_argnames="state")
def advance_training(network: Network, config, splits, state, *, axes: Axes, machine: Machine, epochs: int):
    """So many further epochs of all networks that are not done."""

    def one(state, config, split):
        return training.advance(network, config, split, state, epochs)

    return parallel.over_seeds(
        one, (state, config, splits), (0, None, axes.split), finished=state.done, **machine._asdict()
    )


@functools.partial(jax.jit, static_argnames=("task", "axes", "machine"))
def evaluate(task: Task, variables: Variables, splits, rule, *, axes: Axes, machine: Machine):
    """Networks as they came, with thresholds by a rule or by balanced accuracy."""

    def one(rule, variables, split):
        return loop.evaluate(task, variables, Parts.of(split), rule)

    return parallel.over_seeds(one, (rule, variables, splits), (None, 0, axes.split), **machine._asdict())


@functools.partial(jax.jit, static_argnames=("task", "axes", "machine"))
def score(task: Task, variables: Variables, splits, *, axes: Axes, machine: Machine) -> Scored:
    """Scores of networks on valid and test parts."""

    def one(variables, split):
        with jax.default_matmul_precision("highest"):
            return Scored(*(_scored(task, variables, split.part(name)) for name in ("valid", "test")))

    return parallel.over_seeds(one, (variables, splits), (0, axes.split), **machine._asdict())


def _scored(task: Task, variables: Variables, batch: Batch) -> Batch:
    return batch._replace(x=scores(task.network.apply, variables, batch.x)[:, None])


@functools.partial(jax.jit, static_argnames="measure")
def by_group(measure, rule, scored: Scored) -> loop.Trace:
    """Thresholds by group, chosen on valid."""

    def one(scored: Scored) -> loop.Trace:
        valid, test = scored
        found = group_thresholds(measure, valid.x[:, 0], valid.y, valid.a, rule=rule)
        decisions = found.decide(test.x[:, 0], test.a).astype(jnp.float32)
        there = objective.at_threshold(measure, decisions, test.y, test.a, jnp.array(0.5))
        return loop.Trace(found.evaluation, there._replace(threshold=found.evaluation.threshold))

    return jax.vmap(one)(scored)


@functools.partial(jax.jit, static_argnames=("method", "task", "axes", "machine"))
def begin_debiasing(method, task, config, rule, keys, variables, splits, evaluated, *, axes: Axes, machine: Machine):
    """A method's state before its first step."""

    def one(config, rule, key, variables, split, evaluated):
        return loop.start(method, task, config, rule, key, variables, Parts.of(split), evaluated)

    args = (config, rule, keys, variables, splits, evaluated)
    return parallel.over_seeds(one, args, (None, None, 0, 0, axes.split, 0), **machine._asdict())


@functools.partial(jax.jit, static_argnames=("method", "task", "axes", "machine", "steps"), donate_argnames="progress")
def advance_debiasing(method, task, config, rule, splits, progress, *, axes: Axes, machine: Machine, steps: int):
    """So many further steps of a method."""

    def one(progress, config, rule, split):
        return loop.advance(method, task, config, rule, Parts.of(split), progress, steps)

    args = (progress, config, rule, splits)
    return parallel.over_seeds(one, args, (0, None, None, axes.split), **machine._asdict())
