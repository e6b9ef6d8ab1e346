"""Training and debiasing as stages of many seeds: the programs that each stage calls, in order, with their arguments.

A stage calls its programs through a function `call(program, *args, **static)`. By default it executes the program; with
`shapes_only`, the stage returns shapes and dtypes instead; and a function that lowers and compiles the program lets a
caller compile a stage ahead of its use, without a second list of its programs.
"""

import dataclasses
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from fairjax import training
from fairjax.loop import Progress
from fairjax.losses import Loss
from fairjax.methods.base import Method, Parts, Task
from fairjax.nn.flat import FlatVariables
from fairjax.nn.network import Network
from fairjax.result import Trace
from fairjax.seeds.programs import (
    Axes,
    Machine,
    advance_debiasing,
    advance_training,
    begin_debiasing,
    begin_training,
    evaluate_logits,
)
from fairjax.selection import Rule
from fairjax.training import TrainingState
from fairjax.types import Split

CHUNK = 40
"""Largest number of steps per chunk of debiasing."""

Call = Callable[..., Any]
"""A function `call(program, *args, **static)`, where `program` was made by `jax.jit`."""


def execute(program: Any, *args: Any, **static: Any) -> Any:
    """Call a program."""
    return program(*args, **static)


def shapes_only(program: Any, *args: Any, **static: Any) -> Any:
    """Return the shapes and dtypes of a program's results, without compiling or executing it."""
    return program.eval_shape(*args, **static)


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


def run_chunks(begin: Callable[[bool], Any], advance: Callable[[Any], Any], finished: Callable[[Any], bool]) -> Any:
    """Run all chunks without doing anything between them."""
    state = begin(False)
    while not finished(state):
        state = advance(state)
    return state


@dataclasses.dataclass(frozen=True)
class Fitting:
    """Training of one network per seed, in chunks of `config.check_every` epochs."""

    network: Network
    """The classifier."""
    config: training.Training
    """Hyperparameters."""
    axes: Axes
    """vmap axes of the splits."""
    machine: Machine
    """Devices and group size."""
    loss: Loss = training.CROSS_ENTROPY
    """The loss; with a leading axis of seeds on its numbers if `axes.loss` is 0."""
    start: Any = None
    """Variables to start from, with a leading axis of seeds; new ones if omitted."""

    def begin(self, keys: Any, splits: Split, call: Call = execute) -> TrainingState:
        """Make the initial states, from one key per seed and arrays that are on the mesh."""
        args = self.network, self.config, self.loss, keys, splits, self.start
        return call(begin_training, *args, axes=self.axes, machine=self.machine)

    def advance(
        self, splits: Split, state: TrainingState, *, small_groups: bool = False, call: Call = execute
    ) -> TrainingState:
        """Run one chunk of epochs.

        Args:
            splits: one split per seed.
            state: the states of all seeds.
            small_groups: whether to run in smaller groups, which is faster for the last few seeds. The results are the
                same.
            call: calls the program.
        """
        machine = self.small if small_groups else self.machine
        options = {"axes": self.axes, "machine": machine, "epochs": self.config.check_every}
        return call(advance_training, self.network, self.config, self.loss, splits, state, **options)

    def finished(self, state: TrainingState) -> bool:
        """Return whether training of all seeds has ended."""
        return bool(np.all(np.asarray(state.done)))

    @property
    def small(self) -> Machine:
        """The machine with smaller groups, for the last few seeds."""
        return self.machine if self.machine.group_size is not None else self.machine.for_parts()

    def few_unfinished(self, state: TrainingState) -> bool:
        """Return whether so few seeds are still in training that smaller groups are faster."""
        return bool(np.sum(~np.asarray(state.done)) <= 2 * self.machine.mesh.size)

    def run(self, keys: Any, splits: Split, drive: Drive = run_chunks) -> TrainingState:
        """Train all seeds, and return their final states."""
        return drive(
            lambda shapes: self.begin(keys, splits, shapes_only if shapes else execute),
            lambda state: self.advance(splits, state, small_groups=self.few_unfinished(state)),
            self.finished,
        )


class DebiasingState(NamedTuple):
    """State of a method: that of the loop, and the trace in NumPy arrays of full length that are filled in place."""

    progress: Progress
    """The state of the loop."""
    trace: Trace
    """The evaluations so far."""

    @property
    def steps(self) -> int:
        """The number of steps that all seeds have taken."""
        return int(np.asarray(self.progress.step)[0])


@dataclasses.dataclass(frozen=True)
class Debiasing:
    """A method on one network per seed, in chunks of at most `CHUNK` steps."""

    method: Method
    """The method."""
    task: Task
    """Network and measure, and the data on which candidates are evaluated."""
    rule: Rule
    """The rule that scores candidates."""
    axes: Axes
    """vmap axes of the splits."""
    machine: Machine
    """Devices and group size."""

    def steps(self, networks: FlatVariables) -> int:
        """Return the number of steps."""
        return steps_of(self.method, networks)

    def begin(
        self, keys: Any, networks: FlatVariables, splits: Split, logits: Parts, call: Call = execute
    ) -> tuple[Progress, Trace]:
        """Return the initial states and the evaluations of the original networks.

        Args:
            keys: one key per seed.
            networks: the trained networks.
            splits: one split per seed.
            logits: logits of the original networks, from `fairjax.seeds.evaluate`.
            call: calls the programs.
        """
        evaluated = call(evaluate_logits, self.task, self.rule if self.method.threshold == "rule" else None, logits)
        args = (self.method, self.task, self.rule, keys, networks, splits, evaluated)
        return call(begin_debiasing, *args, axes=self.axes, machine=self.machine), evaluated[0]

    def advance(self, splits: Split, progress: Progress, *, steps: int, call: Call = execute) -> tuple[Progress, Trace]:
        """Run a number of steps, and return the states and the evaluations of the new candidates."""
        args = (self.method, self.task, self.rule, splits, progress)
        return call(advance_debiasing, *args, axes=self.axes, machine=self.machine, steps=steps)

    def run(
        self, keys: Any, networks: FlatVariables, splits: Split, logits: Parts, drive: Drive = run_chunks
    ) -> DebiasingState:
        """Run all steps of all seeds; the arguments are those of `begin`."""
        steps, members = self.steps(networks), self.method.members

        def begin(shapes: bool) -> DebiasingState:
            progress, initial = self.begin(keys, networks, splits, logits, shapes_only if shapes else execute)

            def allocate(entry):
                """Allocate an array for all candidates, and fill in the first."""
                array = np.zeros((entry.shape[0], steps * members + 1, *entry.shape[1:]), entry.dtype)
                if not shapes:
                    array[:, 0] = entry
                return array

            return DebiasingState(progress, jax.tree.map(allocate, initial))

        def advance(state: DebiasingState) -> DebiasingState:
            steps_done = state.steps
            count = min(chunk_of(steps), steps - steps_done)
            progress, part = self.advance(splits, state.progress, steps=count)

            def write(array, values):
                array[:, steps_done * members + 1 : (steps_done + count) * members + 1] = values

            jax.tree.map(write, state.trace, part)
            return DebiasingState(progress, state.trace)

        return drive(begin, advance, lambda state: state.steps >= steps)


def steps_of(method: Method, networks: FlatVariables) -> int:
    """Return the number of steps of a method, which may depend on the shapes of a network."""
    counts = []

    def count(flat: FlatVariables) -> None:
        counts.append(method.total_steps(jax.tree.map(operator.itemgetter(0), flat.variables())))

    jax.eval_shape(count, networks)
    return counts[0]


def chunk_of(steps: int) -> int:
    """Return the number of steps per chunk; if possible, all chunks have one size, since each size is compiled."""
    divisors = [size for size in range(CHUNK // 4, CHUNK + 1) if steps % size == 0]
    return max(divisors, default=CHUNK)
