"""fairjax as a contender: training, pruning, bias GD/A and the threshold search, as the command line runs them."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmarks import clock, tables
from experiments.benchmarks.settings import Bench
from fairjax import loop, seeds, selection
from fairjax.methods import BiasGda, Method, Pruning, Task
from fairjax.metrics import MEASURES
from fairjax.nn import Mlp, Network, from_linen
from fairjax.nn.flat import FlatVariables
from fairjax.runs.devices import use_cores
from fairjax.runs.timings import Timings
from fairjax.seeds import Axes, Machine
from fairjax.training import CROSS_ENTROPY, Training
from fairjax.types import SHARED, Split

ENDLESS = Training(epochs=10**9, stopping_patience=10**9)
"""Training that does not stop early while it is timed; its epochs are those of ordinary training."""

AXES = Axes(SHARED)


@dataclasses.dataclass(frozen=True)
class Case:
    """Networks of several seeds on one table."""

    network: Network
    splits: Split
    machine: Machine
    count: int

    @property
    def device(self) -> dict[str, Any]:
        """The platform, kind and number of the devices."""
        device = jax.devices()[0]
        return {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()}

    @property
    def keys(self) -> jax.Array:
        """One key per seed."""
        return jax.vmap(jax.random.key)(jnp.arange(self.count, dtype=jnp.uint32))

    def batches(self, size: int) -> int:
        """Return the number of mini-batches per epoch."""
        rows = self.splits.train.shape[-1]
        return math.ceil(rows / min(size, rows))


def make_case(splits: Any, widths: tuple[int, ...]) -> Case:
    """Create networks of the given widths on the splits of several seeds, on all devices."""
    use_cores()
    mesh = seeds.mesh()
    count = splits.train.shape[0]
    placed = jax.device_put(jax.tree.map(jnp.asarray, Split(*splits)), seeds.replicated_sharding(mesh))
    return Case(from_linen(Mlp(widths=widths)), placed, Machine(mesh, None), count)


def steps(settings: Bench, shape: str) -> dict[str, Any]:
    """Time every kind of step on one table, in seconds per network and step.

    Args:
        settings: the number of repetitions and their length.
        shape: the table, compas or adult.

    Returns:
        The measures training, pruning, bias_gda and threshold.
    """
    use_cores()
    case, timings = make_case(tables.read(settings, shape), settings.widths), Timings()
    with timings.listening():
        raw, networks = train(case, timings, epochs=settings.epochs, repetitions=settings.repetitions)
        task = Task(case.network, MEASURES["spd"])
        measures = {"training": raw}
        for name, method, num_steps, work in (
            ("pruning", Pruning(), settings.pruning_steps, settings.pruning_steps),
            (
                "bias_gda",
                BiasGda(),
                settings.bias_gda_epochs,
                settings.bias_gda_epochs * case.batches(BiasGda().batch_size),
            ),
        ):
            measures[name] = debias(case, timings, task, networks, name, method, num_steps, settings.repetitions, work)
        measures["threshold"] = threshold(case, timings, task, networks, settings.repetitions)
    return {
        "measures": measures,
        "compilation_seconds": timings.compilation,
        "facts": {"device": case.device, "seeds": case.count, "training_steps_an_epoch": case.batches(64)},
    }


def train(case: Case, timings: Timings, *, epochs: int, repetitions: int) -> tuple[list[float], FlatVariables]:
    """Time whole epochs, including shuffling, steps and the validation loss.

    Args:
        case: the networks.
        timings: records the time of compilation.
        epochs: the number of epochs per repetition.
        repetitions: the number of repetitions.

    Returns:
        Seconds per network and step, and the networks at the end.

    Raises:
        FloatingPointError: if a network diverged, since diverged networks take no time.
    """

    def run_epochs(state):
        return jax.block_until_ready(
            seeds.advance_training(
                case.network, ENDLESS, CROSS_ENTROPY, case.splits, state, axes=AXES, machine=case.machine, epochs=epochs
            )
        )

    with timings.stage("training"):
        initial = seeds.begin_training(
            case.network, ENDLESS, CROSS_ENTROPY, case.keys, case.splits, None, axes=AXES, machine=case.machine
        )
        states = [run_epochs(initial)]

    def continue_training():
        states.append(run_epochs(states.pop()))  # the state is donated and returned

    raw = clock.repeated(continue_training, repetitions, case.count * epochs * case.batches(ENDLESS.batch_size))
    if bool(states[0].done.any()):
        raise FloatingPointError("training diverged while it was timed")
    return raw, states[0].variables


def debias(
    case: Case,
    timings: Timings,
    task: Task,
    networks: FlatVariables,
    name: str,
    method: Method,
    count: int,
    repetitions: int,
    work: int,
) -> list[float]:
    """Time the steps of a method, including the evaluation and comparison of candidates as in a run.

    Args:
        case: the data and the devices.
        timings: records the time of compilation.
        task: the network and the measure.
        networks: the networks to debias.
        name: the name of the stage.
        method: the method.
        count: the number of its steps per repetition.
        repetitions: the number of repetitions.
        work: units of work per network and repetition.

    Returns:
        Seconds per network and unit of work.
    """
    rule = selection.ConstrainedObjective()
    with timings.stage(name):
        progress = start(case, task, networks, method)
        progress = advance(case, method, task, rule, progress, count)
    states = [progress]

    def continue_debiasing():
        states.append(advance(case, method, task, rule, states.pop(), count))

    return clock.repeated(continue_debiasing, repetitions, case.count * work)


def start(case: Case, task: Task, networks: FlatVariables, method: Method) -> loop.Progress:
    """Return the state of a method before its first step."""
    rule = selection.ConstrainedObjective()
    machine = case.machine.for_parts()
    logits = seeds.evaluate(task, networks, case.splits, axes=AXES, machine=machine)
    return seeds.begin_debiasing(
        method,
        task,
        rule,
        case.keys,
        networks,
        case.splits,
        seeds.evaluate_logits(task, None, logits),
        axes=AXES,
        machine=machine,
    )


def advance(case: Case, method: Method, task: Task, rule, progress: loop.Progress, count: int) -> loop.Progress:
    """Advance a method by a number of steps; the buffers of the given state are donated."""
    machine = case.machine.for_parts()
    progress, _ = jax.block_until_ready(
        seeds.advance_debiasing(method, task, rule, case.splits, progress, axes=AXES, machine=machine, steps=count)
    )
    return progress


def threshold(case: Case, timings: Timings, task: Task, networks: FlatVariables, repetitions: int) -> list[float]:
    """Time the search over 101 thresholds on validation data, given the scores, in seconds per network."""
    valid = seeds.evaluate(task, networks, case.splits, axes=AXES, machine=case.machine.for_parts()).valid

    @jax.jit
    def search(scores, y, a):
        return jax.vmap(lambda scores, y, a: selection.best_threshold(task.measure, scores, y, a))(scores, y, a)

    args = jax.block_until_ready((jax.nn.sigmoid(valid.x[..., 0]), valid.y, valid.a))
    with timings.stage("threshold"):
        jax.block_until_ready(search(*args))
    calls = 10  # one call takes about a millisecond

    def search_repeatedly():
        for _ in range(calls):
            jax.block_until_ready(search(*args))

    return clock.repeated(search_repeatedly, repetitions, case.count * calls)
