"""The compiled programs of a run: functions of one seed, mapped over all of them."""

import dataclasses
import functools
import itertools
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fairjax import loop, objective, parallel, training
from fairjax.loop import Parts, Task
from fairjax.nn import Network
from fairjax.nn.flat import Flat
from fairjax.parity import probabilities
from fairjax.postprocessing import group_thresholds
from fairjax.types import Batch, Split


class Machine(NamedTuple):
    """Where seeds run: static in every compiled program."""

    mesh: jax.sharding.Mesh
    lanes: int | None

    def for_parts(self) -> "Machine":
        """For programs that go over whole parts of the data: on CPU with as many seeds at a time as caches hold."""
        on_cpu = self.mesh.devices.flat[0].platform == "cpu"
        return self._replace(lanes=2) if on_cpu and self.lanes is None else self


class Scored(NamedTuple):
    """Scores (in the place of features, one column of two classes), labels and groups of valid and test parts."""

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
def evaluate(task: Task, networks: Flat, splits, *, axes: Axes, machine: Machine) -> Parts:
    """Networks as they came on all parts of the data: logits stand in the place of features."""

    def one(networks, split):
        parts, variables = Parts.of(split), networks.variables()
        x = jnp.concatenate([batch.x for batch in parts])
        ends = list(itertools.accumulate(batch.x.shape[0] for batch in parts))
        with jax.default_matmul_precision("highest"):
            every = jnp.split(_columns(task.network.apply(variables, x)[0]), ends[:-1])
        return Parts(*(batch._replace(x=some) for batch, some in zip(parts, every, strict=True)))

    return parallel.over_seeds(one, (networks, splits), (0, axes.split), **machine._asdict())


@functools.partial(jax.jit, static_argnames="task")
def judge(task: Task, rule, logits: Parts) -> tuple[loop.Trace, Bool[Array, " seeds"]]:
    """Networks as they came, with thresholds by a rule or by balanced accuracy, and whether all outputs are finite."""

    def one(logits: Parts):
        every = [_logits(getattr(logits, name).x)[None] for name in loop.seen(task)]
        return jax.tree.map(operator.itemgetter(0), loop.judge(task, every, logits, rule))

    return jax.vmap(one)(logits)


def _columns(logits: Float[Array, "n *c"]) -> Float[Array, "n c"]:
    """Logits as a matrix: of two classes one column."""
    return logits[:, None] if logits.ndim == 1 else logits


def _logits(columns: Float[Array, "n c"]) -> Float[Array, "n *c"]:
    """Logits as a network gives them."""
    return columns[:, 0] if columns.shape[1] == 1 else columns


def _scores(logits: Float[Array, "runs n c"]) -> Float[Array, "runs n c"]:
    """Scores of two classes as one column, or the probabilities of more."""
    return jax.nn.sigmoid(logits) if logits.shape[-1] == 1 else jax.vmap(probabilities)(logits)


@jax.jit
def score(logits: Parts) -> Scored:
    """Scores of networks on valid and test parts."""
    return Scored(*(part._replace(x=_scores(part.x)) for part in (logits.valid, logits.test)))


@jax.jit
def select(rule, trace: loop.Trace) -> Int[Array, " seeds"]:
    """The candidate of each trace that a rule selects."""
    return jax.vmap(lambda seen: objective.first_max(rule(seen)))(trace.seen(rule))


@jax.jit
def best_of(rule, traces: list[loop.Trace], selected: list[Int[Array, " seeds"]]):
    """Of the candidates that methods selected, the best of each seed: see `loop.best_of`."""
    return jax.vmap(lambda traces, selected: loop.best_of(rule, traces, selected))(traces, selected)


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
def begin_debiasing(
    method, task, config, rule, keys, networks: Flat, splits, evaluated, *, axes: Axes, machine: Machine
):
    """A method's state before its first step."""

    def one(config, rule, key, networks, split, evaluated):
        return loop.start(method, task, config, rule, key, networks.variables(), Parts.of(split), evaluated)

    args = (config, rule, keys, networks, splits, evaluated)
    return parallel.over_seeds(one, args, (None, None, 0, 0, axes.split, 0), **machine._asdict())


@functools.partial(jax.jit, static_argnames=("method", "task", "axes", "machine", "steps"), donate_argnames="progress")
def advance_debiasing(method, task, config, rule, splits, progress, *, axes: Axes, machine: Machine, steps: int):
    """So many further steps of a method."""

    def one(progress, config, rule, split):
        return loop.advance(method, task, config, rule, Parts.of(split), progress, steps)

    args = (progress, config, rule, splits)
    return parallel.over_seeds(one, args, (0, None, None, axes.split), **machine._asdict())
