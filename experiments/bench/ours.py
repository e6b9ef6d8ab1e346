"""fairjax as a contender: training, pruning, bias GD/A and the threshold search, as the command line runs them."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from experiments import programs
from experiments.bench import clock, tables
from experiments.bench.settings import Bench
from experiments.cli import use_cores
from experiments.programs import Axes, Machine
from experiments.timings import Timings
from fairjax import loop, objective, parallel
from fairjax.debias import METHODS, BiasGda, Pruning
from fairjax.loop import Task
from fairjax.nn import Mlp, Network, from_linen
from fairjax.nn.flat import Flat
from fairjax.parity import MEASURES
from fairjax.training import Training
from fairjax.types import SHARED, Split

ENDLESS = Training(epochs=10**9, stopping_patience=10**9)
"""Training that is not stopped while it is timed; its epochs are those of any training."""

AXES = Axes(SHARED)


@dataclasses.dataclass(frozen=True)
class Case:
    """Networks of several seeds on one table."""

    network: Network
    splits: Split
    machine: Machine
    seeds: int

    @property
    def device(self) -> dict[str, Any]:
        """On what it runs."""
        first = jax.devices()[0]
        return {"platform": first.platform, "kind": first.device_kind, "count": jax.device_count()}

    @property
    def keys(self) -> jax.Array:
        """A key a seed."""
        return jax.vmap(jax.random.key)(jnp.arange(self.seeds, dtype=jnp.uint32))

    def batches(self, size: int) -> int:
        """Mini-batches of an epoch."""
        rows = self.splits.train.shape[-1]
        return math.ceil(rows / min(size, rows))


def case(splits: Any, widths: tuple[int, ...]) -> Case:
    """Networks of these widths on the splits of some seeds, on all devices."""
    use_cores(jax)
    mesh = parallel.mesh()
    seeds = splits.train.shape[0]
    placed = jax.device_put(jax.tree.map(jnp.asarray, Split(*splits)), parallel.everywhere_on(mesh))
    return Case(from_linen(Mlp(widths=widths)), placed, Machine(mesh, None), seeds)


def steps(settings: Bench, shape: str) -> dict[str, Any]:
    """Every kind of step on the table of a shape; seconds a network and step.

    Args:
        settings: repetitions and their length.
        shape: compas or adult.

    Returns:
        The measures training, pruning, bias_gda and threshold.
    """
    use_cores(jax)
    here, timings = case(tables.read(settings, shape), settings.widths), Timings()
    with timings.listening():
        raw, networks = train(here, timings, epochs=settings.epochs, repetitions=settings.repetitions)
        task = Task(here.network, MEASURES["spd"])
        measures = {"training": raw}
        for name, config, count, work in (
            ("pruning", Pruning(), settings.pruning_steps, settings.pruning_steps),
            (
                "bias_gda",
                BiasGda(),
                settings.bias_gda_epochs,
                settings.bias_gda_epochs * here.batches(BiasGda().batch_size),
            ),
        ):
            measures[name] = debias(here, timings, task, networks, name, config, count, settings.repetitions, work)
        measures["threshold"] = threshold(here, timings, task, networks, settings.repetitions)
    return {
        "measures": measures,
        "compilation_seconds": timings.compilation,
        "facts": {"device": here.device, "seeds": here.seeds, "training_steps_an_epoch": here.batches(64)},
    }


def train(here: Case, timings: Timings, *, epochs: int, repetitions: int) -> tuple[list[float], Flat]:
    """Time whole epochs: shuffling, steps, validation loss.

    Args:
        here: the networks.
        timings: where compilation is counted.
        epochs: of one repetition.
        repetitions: how many.

    Returns:
        Seconds a network and step, and the networks at the end.

    Raises:
        FloatingPointError: if a network diverged, since diverged networks cost no time.
    """

    def some(state):
        return jax.block_until_ready(
            programs.advance_training(
                here.network, ENDLESS, here.splits, state, axes=AXES, machine=here.machine, epochs=epochs
            )
        )

    with timings.stage("training"):
        begun = programs.begin_training(here.network, ENDLESS, here.keys, here.splits, axes=AXES, machine=here.machine)
        held = [some(begun)]

    def again():
        held.append(some(held.pop()))  # the state is given away and comes back

    raw = clock.repeated(again, repetitions, here.seeds * epochs * here.batches(ENDLESS.batch_size))
    if bool(held[0].done.any()):
        raise FloatingPointError("training diverged while it was timed")
    return raw, held[0].variables


def debias(
    here: Case,
    timings: Timings,
    task: Task,
    networks: Flat,
    name: str,
    config: Any,
    count: int,
    repetitions: int,
    work: int,
) -> list[float]:
    """Time a method's steps, candidates evaluated and compared as in a run.

    Args:
        here: where.
        timings: where compilation is counted.
        task: network and measure.
        networks: those to debias.
        name: of the method.
        config: its hyperparameters.
        count: its steps in one repetition.
        repetitions: how many.
        work: units of work of a network in one repetition.

    Returns:
        Seconds a network and unit of work.
    """
    method, rule = METHODS[name][1], objective.ConstrainedObjective()
    with timings.stage(name):
        progress = start(here, task, networks, name, config)
        progress = advance(here, method, task, config, rule, progress, count)
    held = [progress]

    def again():
        held.append(advance(here, method, task, config, rule, held.pop(), count))

    return clock.repeated(again, repetitions, here.seeds * work)


def start(here: Case, task: Task, networks: Flat, name: str, config: Any) -> loop.Progress:
    """A method before its first step."""
    rule = objective.ConstrainedObjective()
    machine = here.machine.for_parts()
    logits = programs.evaluate(task, networks, here.splits, axes=AXES, machine=machine)
    return programs.begin_debiasing(
        METHODS[name][1],
        task,
        config,
        rule,
        here.keys,
        networks,
        here.splits,
        programs.judge(task, None, logits),
        axes=AXES,
        machine=machine,
    )


def advance(here: Case, method, task: Task, config: Any, rule, progress: loop.Progress, count: int) -> loop.Progress:
    """So many further steps of a method; its state is given away."""
    machine = here.machine.for_parts()
    progress, _ = jax.block_until_ready(
        programs.advance_debiasing(
            method, task, config, rule, here.splits, progress, axes=AXES, machine=machine, steps=count
        )
    )
    return progress


def threshold(here: Case, timings: Timings, task: Task, networks: Flat, repetitions: int) -> list[float]:
    """Time the search of 101 thresholds on validation data, from scores; seconds a network."""
    valid = programs.evaluate(task, networks, here.splits, axes=AXES, machine=here.machine.for_parts()).valid

    @jax.jit
    def search(scores, y, a):
        return jax.vmap(lambda scores, y, a: objective.best_threshold(task.measure, scores, y, a))(scores, y, a)

    args = jax.block_until_ready((jax.nn.sigmoid(valid.x[..., 0]), valid.y, valid.a))
    with timings.stage("threshold"):
        jax.block_until_ready(search(*args))
    calls = 10  # a call takes a millisecond

    def again():
        for _ in range(calls):
            jax.block_until_ready(search(*args))

    return clock.repeated(again, repetitions, here.seeds * calls)
