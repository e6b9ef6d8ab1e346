"""The compiled programs of training and debiasing many seeds."""

import dataclasses
import functools
import itertools
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fairjax import loop, training
from fairjax.losses import Loss
from fairjax.methods.base import Method, Parts, Task
from fairjax.nn.flat import FlatVariables
from fairjax.nn.network import Network
from fairjax.result import Trace
from fairjax.seeds import placement
from fairjax.training import Training, TrainingState
from fairjax.types import Split, concatenated


class Machine(NamedTuple):
    """Devices and group size with which seeds run; static in every compiled program."""

    mesh: jax.sharding.Mesh
    group_size: int | None = None
    """Number of seeds per group; by default a number that suits the device. The results do not depend on it."""

    def for_parts(self) -> "Machine":
        """Return the machine for programs that process whole parts of the data; on CPU, its groups fit the caches."""
        on_cpu = self.mesh.devices.flat[0].platform == "cpu"
        return self._replace(group_size=2) if on_cpu and self.group_size is None else self


@dataclasses.dataclass(frozen=True)
class Axes:
    """vmap axes of a split and of a loss, hashable so that they can be static."""

    split: Split
    loss: int | None = None
    """0 if there is one loss per seed, such as for a path of weights; None if all seeds share one."""


@functools.partial(jax.jit, static_argnames=("network", "axes", "machine"))
def begin_training(
    network: Network, config: Training, loss: Loss, keys, splits, start, *, axes: Axes, machine: Machine
) -> TrainingState:
    """Make the initial training states for all seeds."""

    def init_seed(config, loss, key, split, start):
        return training.init(network, config, key, split, loss, start)

    args = (config, loss, keys, splits, start)
    return placement.over_seeds(init_seed, args, (None, axes.loss, 0, axes.split, 0), **machine._asdict())


@functools.partial(jax.jit, static_argnames=("network", "axes", "machine", "epochs"), donate_argnames="state")
def advance_training(
    network: Network, config: Training, loss: Loss, splits, state, *, axes: Axes, machine: Machine, epochs: int
) -> TrainingState:
    """Train all networks that are not done for `epochs` further epochs."""

    def advance_seed(state, config, loss, split):
        return training.advance(network, config, split, state, epochs, loss)

    args = (state, config, loss, splits)
    return placement.over_seeds(
        advance_seed, args, (0, None, axes.loss, axes.split), finished=state.done, **machine._asdict()
    )


@functools.partial(jax.jit, static_argnames=("task", "axes", "machine"))
def evaluate(task: Task, networks: FlatVariables, splits, *, axes: Axes, machine: Machine) -> Parts:
    """Evaluate the original networks on all parts of the data; in the result, logits take the place of features."""

    def evaluate_seed(networks, split):
        parts, variables = Parts.of(split), networks.variables()
        x = concatenated(*(batch.x for batch in parts))
        ends = list(itertools.accumulate(batch.y.shape[0] for batch in parts))
        with jax.default_matmul_precision("highest"):
            part_logits = jnp.split(_columns(task.network.apply(variables, x)[0]), ends[:-1])
        return Parts(*(batch._replace(x=logits) for batch, logits in zip(parts, part_logits, strict=True)))

    return placement.over_seeds(evaluate_seed, (networks, splits), (0, axes.split), **machine._asdict())


@functools.partial(jax.jit, static_argnames="task")
def evaluate_logits(task: Task, rule, logits: Parts) -> tuple[Trace, Bool[Array, " seeds"]]:
    """Tune thresholds of the original networks, by a rule or by balanced accuracy, and check for finite outputs."""

    def evaluate_seed(logits: Parts):
        part_logits = [_logits(getattr(logits, name).x)[None] for name in loop.evaluated_parts(task)]
        return jax.tree.map(operator.itemgetter(0), loop.evaluate_logits(task, part_logits, logits, rule))

    return jax.vmap(evaluate_seed)(logits)


@functools.partial(jax.jit, static_argnames=("task", "axes", "machine"))
def begin_debiasing(
    method: Method, task: Task, rule, keys, networks: FlatVariables, splits, evaluated, *, axes: Axes, machine: Machine
) -> loop.Progress:
    """Make a method's state before its first step."""

    def start_seed(method, rule, key, networks, split, evaluated):
        return loop.start(method, task, rule, key, networks.variables(), Parts.of(split), evaluated)

    args = (method, rule, keys, networks, splits, evaluated)
    return placement.over_seeds(start_seed, args, (None, None, 0, 0, axes.split, 0), **machine._asdict())


@functools.partial(jax.jit, static_argnames=("task", "axes", "machine", "steps"), donate_argnames="progress")
def advance_debiasing(
    method: Method, task: Task, rule, splits, progress, *, axes: Axes, machine: Machine, steps: int
) -> tuple[loop.Progress, Trace]:
    """Run `steps` further steps of a method."""

    def advance_seed(progress, method, rule, split):
        return loop.advance(method, task, rule, Parts.of(split), progress, steps)

    args = (progress, method, rule, splits)
    return placement.over_seeds(advance_seed, args, (0, None, None, axes.split), **machine._asdict())


def _columns(logits: Float[Array, "n *c"]) -> Float[Array, "n c"]:
    """Reshape logits to a matrix, with one column for two classes."""
    return logits[:, None] if logits.ndim == 1 else logits


def _logits(columns: Float[Array, "n c"]) -> Float[Array, "n *c"]:
    """Reshape a matrix to logits as a network returns them."""
    return columns[:, 0] if columns.shape[1] == 1 else columns
