"""Training and debiasing of many seeds at once, over all devices: `fit_many` and `debias_many`.

Both are loops over chunks of epochs or steps, where each chunk is one call of a compiled program. The results do not
depend on the boundaries of the chunks, on the number of seeds, or on the number of devices. A caller can pass a `Drive`
that acts between chunks, to show progress, save and restore states, or stop.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from fairjax import loop
from fairjax.debiasing import check_arguments, check_data, task_of
from fairjax.fitting import Fitted, check_training
from fairjax.methods.base import Method, Parts, Task
from fairjax.metrics import Measure
from fairjax.nn.flat import Flat
from fairjax.nn.network import Network
from fairjax.result import Debiased, Trace
from fairjax.seeds import placement
from fairjax.seeds.programs import (
    Axes,
    Machine,
    advance_debiasing,
    advance_training,
    begin_debiasing,
    begin_training,
    evaluate,
    judge,
)
from fairjax.selection import ConstrainedObjective, Rule
from fairjax.training import Trained, Training
from fairjax.types import SHARED, Split, Variables

CHUNK = 40
"""Largest number of steps per chunk of debiasing."""


@runtime_checkable
class Drive(Protocol):
    """Function that runs all chunks, and can show progress, save states and stop between chunks."""

    def __call__(
        self,
        begin: Callable[[bool], Any],
        advance: Callable[[Any], Any],
        finished: Callable[[Any], bool],
    ) -> Any:
        """Run from the first state to the last one, and return it.

        Args:
            begin: makes the first state; with the argument true, only its shapes and dtypes, as needed to restore a
                saved state.
            advance: runs one chunk. It may donate the buffers of the state passed to it.
            finished: returns whether a state is the last one.
        """
        ...


def straight(begin: Callable[[bool], Any], advance: Callable[[Any], Any], finished: Callable[[Any], bool]) -> Any:
    """Run all chunks without doing anything between them."""
    state = begin(False)
    while not finished(state):
        state = advance(state)
    return state


def fit_many(
    network: Network,
    splits: Split,
    *,
    keys: Key[Array, " seeds"],
    training: Training | None = None,
    axes: Split = SHARED,
    mesh: jax.sharding.Mesh | None = None,
    lanes: int | None = None,
    drive: Drive = straight,
) -> Fitted:
    """Train one network per split, all splits in parallel.

    Args:
        network: the classifier.
        splits: one split per seed, from `fairjax.data.split_seeds`.
        keys: one key per seed, for initialisation, order of rows and dropout.
        training: hyperparameters; `Training()` if omitted.
        axes: vmap axes of the splits; by default, all arrays but the table have a seeds axis.
        mesh: the devices, from `fairjax.seeds.mesh`; all devices if omitted.
        lanes: number of seeds per group, at least 2; by default a number that suits the device.
        drive: runs the chunks of epochs; by default, nothing happens between chunks.

    Returns:
        The trained networks, with a leading axis of seeds.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if the numbers of keys and splits differ.

    Example:
        >>> from fairjax import Mlp, data, from_linen
        >>> x = jax.random.normal(jax.random.key(0), (200, 3))
        >>> dataset = data.from_arrays(np.asarray(x), np.asarray(x[:, 0] > 0), np.arange(200) % 2)
        >>> splits = data.split_seeds(dataset, seeds=(1, 2))
        >>> keys, network = jax.random.split(jax.random.key(1)), from_linen(Mlp(widths=(4,)))
        >>> fit_many(network, splits, keys=keys, training=Training(epochs=2)).loss.shape
        (2,)
    """
    config = Training() if training is None else training
    check_training(network, config, splits)
    _check_seeds(keys, splits)
    machine = Machine(placement.mesh() if mesh is None else mesh, lanes)
    keys, splits = placement.replicate(keys, machine.mesh), placement.replicate(splits, machine.mesh)
    state = train(network, config, keys, splits, axes=Axes(axes), machine=machine, drive=drive)
    return Fitted(state.best.variables(), state.best_loss, state.epoch, state.diverged)


def debias_many(
    method: Method,
    network: Network,
    measure: Measure,
    variables: Variables,
    splits: Split,
    *,
    keys: Key[Array, " seeds"],
    rule: Rule | None = None,
    axes: Split = SHARED,
    mesh: jax.sharding.Mesh | None = None,
    lanes: int | None = None,
    drive: Drive = straight,
) -> Debiased:
    """Debias one network per seed, all seeds in parallel: `debias` for many seeds, over all devices.

    Args:
        method: as for `debias`.
        network: as for `debias`.
        measure: as for `debias`.
        variables: variables of the trained networks, with a leading axis of seeds, such as those from `fit_many`.
        splits: one split per seed.
        keys: one key per seed.
        rule: as for `debias`.
        axes: vmap axes of the splits; by default, all arrays but the table have a seeds axis.
        mesh: the devices, from `fairjax.seeds.mesh`; all devices if omitted.
        lanes: number of seeds per group, at least 2; by default a number that suits the device.
        drive: runs the chunks of steps; by default, nothing happens between chunks.

    Returns:
        The selected networks, with a leading axis of seeds on all arrays. The trace consists of NumPy arrays.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if the numbers of keys, variables and splits differ.
    """
    rule = ConstrainedObjective() if rule is None else rule
    check_arguments(method, network, measure, rule)
    check_data(variables, splits)
    _check_seeds(keys, splits, variables)
    machine = Machine(placement.mesh() if mesh is None else mesh, lanes).for_parts()
    keys, splits = placement.replicate(keys, machine.mesh), placement.replicate(splits, machine.mesh)
    networks = placement.replicate(jax.vmap(Flat.of)(variables), machine.mesh)
    task, where = task_of(network, measure, rule), {"axes": Axes(axes), "machine": machine}
    logits = evaluate(task, networks, splits, **where)
    done = run(method, task, rule, keys, networks, splits, logits, drive=drive, **where)

    def finish(progress, trace, split):
        return loop.finish(method, task, rule, progress, trace, split)

    found = jax.vmap(finish, in_axes=(0, 0, axes))(done.progress, done.trace, splits)
    return dataclasses.replace(found, trace=done.trace)


def _check_seeds(keys: Any, splits: Split, variables: Any = None) -> None:
    """Check that there are one key, one split and one network per seed."""
    if not (isinstance(keys, jax.Array) and jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) and keys.ndim == 1):
        raise TypeError("keys must be one key per seed, an array such as jax.random.split(jax.random.key(0), seeds)")
    count = {"keys": keys.shape[0], "splits": splits.train.shape[0] if splits.train.ndim == 2 else None}
    if variables is not None:
        count["variables"] = jax.tree.leaves(variables["params"])[0].shape[0]
    if len(set(count.values())) > 1:
        listed = ", ".join(f"{name} {'without a seeds axis' if n is None else n}" for name, n in count.items())
        raise ValueError(f"keys, splits and variables must be of one number of seeds, found {listed}")


def train(
    network: Network, config: Training, keys, splits: Split, *, axes: Axes, machine: Machine, drive: Drive = straight
) -> Trained:
    """Run `fit_many` on arrays that are on the mesh, and return the whole state.

    Args:
        network: the classifier.
        config: hyperparameters.
        keys: one key per seed.
        splits: one split per seed.
        axes: vmap axes of the splits.
        machine: devices and lanes.
        drive: runs the chunks.

    Returns:
        The state of all seeds at the end of training.
    """
    begin_ = functools.partial(begin_training, network, config, axes=axes, machine=machine)

    def begin(shapes: bool):
        return jax.eval_shape(begin_, keys, splits) if shapes else begin_(keys, splits)

    def advance(state: Trained) -> Trained:
        width = narrow(machine) if few_left(state, machine) else machine
        return advance_training(network, config, splits, state, axes=axes, machine=width, epochs=config.check_every)

    return drive(begin, advance, lambda state: bool(np.all(np.asarray(state.done))))


def few_left(state: Trained, machine: Machine) -> bool:
    """Return whether so few seeds are still in training that smaller groups are faster."""
    return bool(np.sum(~np.asarray(state.done)) <= 2 * machine.mesh.size)


def narrow(machine: Machine) -> Machine:
    """Return the machine for the last few seeds in training; the results are the same."""
    return machine if machine.lanes is not None else machine.for_parts()


class Done(NamedTuple):
    """State of a method: that of the loop, and the trace in NumPy arrays of full length that are filled in place."""

    progress: loop.Progress
    trace: Trace


def run(
    method: Method,
    task: Task,
    rule: Rule,
    keys,
    networks: Flat,
    splits: Split,
    logits: Parts,
    *,
    axes: Axes,
    machine: Machine,
    drive: Drive = straight,
) -> Done:
    """Run all steps of a method for all seeds.

    Args:
        method: the method.
        task: network and measure, and the data on which candidates are evaluated.
        rule: the rule that scores candidates.
        keys: one key per seed.
        networks: the trained networks.
        splits: one split per seed.
        logits: logits of the original networks, from `evaluate`.
        axes: vmap axes of the splits.
        machine: devices and lanes.
        drive: runs the chunks.

    Returns:
        The final state of the loop, and the trace of all candidates.
    """
    steps, members = steps_of(method, networks), method.members
    chunk, where = chunk_of(steps), {"axes": axes, "machine": machine}

    def start(keys, logits):
        evaluated = judge(task, rule if method.threshold == "rule" else None, logits)
        return begin_debiasing(method, task, rule, keys, networks, splits, evaluated, **where), evaluated[0]

    def begin(shapes: bool) -> Done:
        progress, first = jax.eval_shape(start, keys, logits) if shapes else start(keys, logits)

        def full(entry):
            """Allocate an array for all candidates, and fill in the first."""
            whole = np.zeros((entry.shape[0], steps * members + 1, *entry.shape[1:]), entry.dtype)
            if not shapes:
                whole[:, 0] = entry
            return whole

        return Done(progress, jax.tree.map(full, first))

    def advance(state: Done) -> Done:
        done = steps_done(state)
        count = min(chunk, steps - done)
        progress, part = advance_debiasing(method, task, rule, splits, state.progress, steps=count, **where)

        def write(whole, new):
            whole[:, done * members + 1 : (done + count) * members + 1] = new

        jax.tree.map(write, state.trace, part)
        return Done(progress, state.trace)

    return drive(begin, advance, lambda state: steps_done(state) >= steps)


def steps_done(state: Done) -> int:
    """Return the number of steps that all seeds have taken."""
    return int(np.asarray(state.progress.step)[0])


def steps_of(method: Method, networks: Flat) -> int:
    """Return the number of steps of a method, which may depend on the shapes of a network."""
    found = []

    def ask(flat: Flat) -> None:
        found.append(method.total_steps(jax.tree.map(operator.itemgetter(0), flat.variables())))

    jax.eval_shape(ask, networks)
    return found[0]


def chunk_of(steps: int) -> int:
    """Return the number of steps per chunk; if possible, all chunks have one size, since each size is compiled."""
    divisors = [size for size in range(CHUNK // 4, CHUNK + 1) if steps % size == 0]
    return max(divisors, default=CHUNK)
