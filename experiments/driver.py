"""Train and debias all seeds at once, stage by stage and chunk by chunk.

Between chunks the driver draws the bar, saves the state, and stops when every seed is done. A chunk is one call of a
compiled program; its numbers do not depend on where the chunks are cut, so a run that was stopped ends as if it had
not been.
"""

import dataclasses
import functools
import operator
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from experiments.folder import RunFolder, Stage
from experiments.settings import SIMULATED, Debias
from experiments.timings import Timings
from fairjax import data, loop, parallel, training
from fairjax.data.splits import STREAM
from fairjax.debias import METHODS
from fairjax.loop import Debiased, Parts, Task
from fairjax.nn import Network, from_linen
from fairjax.parity import MEASURES
from fairjax.types import SHARED, Split, Variables

CHUNK = 40
"""Most candidates of a chunk of debiasing."""

_SIMULATION, _TRAINING, _DEBIASING = 0, 1, 2  # what a seed's key is folded with; its split has a number of its own


class Machine(NamedTuple):
    """Where seeds run: static in every compiled program."""

    mesh: jax.sharding.Mesh
    lanes: int | None


class Outcome(NamedTuple):
    """All that a run found."""

    trained: training.Trained
    debiased: dict[str, Debiased]
    split: Split
    counts: dict[str, Any]
    timings: Timings
    trained_here: bool
    """Whether this call did all of the training, or went on from a saved state."""


def load(settings: Debias) -> tuple[Split, Split, dict[str, Any]]:
    """The data of a run: the splits of all seeds, their vmap axes, and what the data are.

    Raises:
        ValueError: for data that cannot be used, naming what is wrong.
        FileNotFoundError: if there is no file.
    """
    if settings.dataset in SIMULATED:
        return _simulated(settings)
    options: dict[str, Any] = {"protected": settings.protected} if settings.dataset == "german" else {}
    dataset = data.DATASETS[settings.dataset](settings.path, **options)
    facts = {"rows": len(dataset.y), "features": dataset.x.shape[1], "protected": dataset.protected}
    return data.split_seeds(dataset, settings.seeds), SHARED, facts


def _simulated(settings: Debias) -> tuple[Split, Split, dict[str, Any]]:
    chosen = settings.simulation

    def draw(key):
        if settings.dataset == "zafar":
            return data.zafar(key, chosen.rows, chosen.theta)
        # the features alone know nothing of the groups: a classifier is biased only if it sees the attribute
        return data.append_protected(data.loh(key, chosen.rows, chosen.alpha))

    if chosen.tables == "fixed":
        batch = jax.jit(draw)(jax.random.key(chosen.key))
        dataset = data.from_arrays(*map(np.asarray, batch), name=settings.dataset)
        splits, axes = data.split_seeds(dataset, settings.seeds), SHARED
        features = batch.x.shape[1]
    else:
        keys = _keys(settings)
        batch = jax.jit(jax.vmap(draw))(_fold(keys, _SIMULATION))
        splits = jax.jit(jax.vmap(lambda key, batch: data.split(key, *batch)))(_fold(keys, STREAM), batch)
        for i, seed in enumerate(settings.seeds):
            one = jax.tree.map(operator.itemgetter(i), splits)
            data.check_split(one._replace(train=one.train[None], valid=one.valid[None], test=one.test[None]), [seed])
        axes = jax.tree.map(lambda _: 0, SHARED._replace(x=0, y=0, a=0))
        features = batch.x.shape[2]
    return splits, axes, {"rows": chosen.rows, "features": features, "protected": "a"}


def run(settings: Debias, folder: RunFolder, machine: Machine, console: Console, timings: Timings) -> Outcome:
    """Train and debias; goes on where the folder says an earlier call was stopped.

    Args:
        settings: what to run.
        folder: where states are saved.
        machine: devices and lanes.
        console: where progress is drawn.
        timings: where the time of each stage is added.

    Returns:
        All results.
    """
    with timings.stage("loading"):
        splits, axes, facts = load(settings)
        splits = jax.device_put(splits, parallel.everywhere_on(machine.mesh))
    console.print(
        f"{settings.dataset}: {facts['rows']:,} rows, {facts['features']} features, {len(settings.seeds)} seeds on "
        f"{machine.mesh.size} {jax.devices()[0].platform} device(s)"
    )
    network = from_linen(settings.network.build())
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    trained_here = not folder.stage("training").begun()
    with Progress(*columns, console=console) as bars:
        trained = _train(settings, folder, machine, network, splits, axes, bars, timings)
        _report_diverged(settings, trained.diverged, "training", console)
        variables = jax.vmap(training.Flat.variables)(trained.best)
        task = Task(network, MEASURES[settings.measure])
        with timings.stage("evaluation"):
            evaluated = _evaluate(task, variables, splits, axes=_Axes(axes), machine=machine)
            jax.block_until_ready(evaluated)
        debiased = {}
        for name in settings.methods:
            debiased[name] = _debias(
                settings, folder, machine, name, task, variables, splits, axes, evaluated, bars, timings
            )
            _report_diverged(settings, debiased[name].diverged, name, console)
    return Outcome(trained, debiased, splits, facts, timings, trained_here)


def _train(settings, folder, machine, network, splits, axes, bars, timings) -> training.Trained:
    config = settings.training
    keys = _fold(_keys(settings), _TRAINING)
    with timings.stage("training"):
        state = _begin_training(network, config, keys, splits, axes=_Axes(axes), machine=machine)
    total = config.epochs
    bar = bars.add_task("training", total=total, note=f"{len(settings.seeds)} seeds left")

    def advance(state):
        few = int(jnp.sum(~state.done)) <= 2 * machine.mesh.size
        width = machine._replace(lanes=2) if few and settings.lanes is None else machine  # the numbers are the same
        return _advance_training(
            network, config, splits, state, axes=_Axes(axes), machine=width, epochs=config.check_every
        )

    def watch(state):
        left = int(jnp.sum(~state.done))
        done = int(jnp.max(state.epoch))
        bars.update(bar, completed=done, note=f"{left} seeds left")
        if left == 0:  # early stopping: most of the epochs allowed are never needed
            bars.update(bar, total=done)
        return left == 0

    return _by_chunks(settings, machine, folder.stage("training"), "training", state, advance, watch, timings)


def _chunk(steps: int) -> int:
    """Candidates of a chunk: if possible all chunks have one size, since another size is another program to compile."""
    divisors = [size for size in range(CHUNK // 4, CHUNK + 1) if steps % size == 0]
    return max(divisors, default=CHUNK)


class _Debiasing(NamedTuple):
    """A method's saved state: the loop's, and the trace so far in arrays of full length."""

    progress: loop.Progress
    trace: loop.Trace


def _debias(settings, folder, machine, name, task, variables, splits, axes, evaluated, bars, timings) -> Debiased:
    method = METHODS[name][1]
    config, rule = settings.config(name), settings.selection.build()
    seeds = len(settings.seeds)
    steps = method.steps(config, jax.tree.map(lambda leaf: leaf[0], variables))
    keys = _fold(_keys(settings), _DEBIASING + list(METHODS).index(name))
    with timings.stage(name):
        progress = _begin_debiasing(
            method, task, config, rule, keys, variables, splits, evaluated, axes=_Axes(axes), machine=machine
        )
    first = evaluated[0]
    trace = jax.tree.map(lambda entry: jnp.zeros((seeds, steps + 1)).at[:, 0].set(entry), first)
    bar = bars.add_task(name, total=steps, note="candidates")
    chunk = _chunk(steps)

    def advance(state: _Debiasing) -> _Debiasing:
        done = int(state.progress.step[0])
        count = min(chunk, steps - done)
        progress, part = _advance_debiasing(
            method, task, config, rule, splits, state.progress, axes=_Axes(axes), machine=machine, steps=count
        )
        trace = jax.tree.map(lambda whole, new: whole.at[:, done + 1 : done + 1 + count].set(new), state.trace, part)
        return _Debiasing(progress, trace)

    def watch(state: _Debiasing) -> bool:
        done = int(state.progress.step[0])
        bars.update(bar, completed=done)
        return done >= steps

    state = _by_chunks(
        settings, machine, folder.stage(name), name, _Debiasing(progress, trace), advance, watch, timings
    )
    return jax.vmap(functools.partial(loop.finish, rule))(state.progress, state.trace)


def _by_chunks(
    settings: Debias,
    machine: Machine,
    stage: Stage,
    name: str,
    state: Any,
    advance: Callable[[Any], Any],
    watch: Callable[[Any], bool],
    timings: Timings,
) -> Any:
    """Advance a state until `watch` says that it is finished, saving it now and then and at the end."""
    saved = stage.restore(state, parallel.everywhere_on(machine.mesh))
    number, state = saved if saved is not None else (0, state)
    saved_at, unsaved = time.perf_counter(), False
    while not watch(state):
        with timings.stage(name):
            state = jax.block_until_ready(advance(state))
        number, unsaved = number + 1, True
        if time.perf_counter() - saved_at >= settings.save_every:
            with timings.stage("saving"):
                stage.save(number, state)
            saved_at, unsaved = time.perf_counter(), False
    if unsaved:
        with timings.stage("saving"):
            stage.save(number, state)
    return state


def _report_diverged(settings: Debias, diverged: Any, stage: str, console: Console) -> None:
    """Name the seeds that were frozen because their numbers stopped being finite."""
    bad = [seed for seed, flag in zip(settings.seeds, np.asarray(diverged), strict=True) if flag]
    if bad:
        console.print(
            f"[yellow]{stage}: the outputs of seeds {', '.join(map(str, bad))} stopped being finite; these seeds were "
            "frozen there and keep their best network so far[/yellow]"
        )


def _keys(settings: Debias) -> jax.Array:
    return jax.vmap(jax.random.key)(jnp.array(settings.seeds, jnp.uint32))


def _fold(keys: jax.Array, number: int) -> jax.Array:
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


@dataclasses.dataclass(frozen=True)
class _Axes:
    """vmap axes of a split, hashable so that they can be static."""

    split: Split


@functools.partial(jax.jit, static_argnames=("network", "axes", "machine"))
def _begin_training(network: Network, config, keys, splits, *, axes: _Axes, machine: Machine):
    def one(config, key, split):
        return training.init(network, config, key, split)

    return parallel.over_seeds(one, (config, keys, splits), (None, 0, axes.split), **machine._asdict())


@functools.partial(jax.jit, static_argnames=("network", "axes", "machine", "epochs"), donate_argnames="state")
def _advance_training(network: Network, config, splits, state, *, axes: _Axes, machine: Machine, epochs: int):
    def one(state, config, split):
        return training.advance(network, config, split, state, epochs)

    return parallel.over_seeds(
        one, (state, config, splits), (0, None, axes.split), finished=state.done, **machine._asdict()
    )


@functools.partial(jax.jit, static_argnames=("task", "axes", "machine"))
def _evaluate(task: Task, variables: Variables, splits, *, axes: _Axes, machine: Machine):
    def one(variables, split):
        return loop.evaluate(task, variables, Parts.of(split))

    return parallel.over_seeds(one, (variables, splits), (0, axes.split), **machine._asdict())


@functools.partial(jax.jit, static_argnames=("method", "task", "axes", "machine"))
def _begin_debiasing(method, task, config, rule, keys, variables, splits, evaluated, *, axes: _Axes, machine: Machine):
    def one(config, rule, key, variables, split, evaluated):
        return loop.start(method, task, config, rule, key, variables, Parts.of(split), evaluated)

    args = (config, rule, keys, variables, splits, evaluated)
    return parallel.over_seeds(one, args, (None, None, 0, 0, axes.split, 0), **machine._asdict())


@functools.partial(jax.jit, static_argnames=("method", "task", "axes", "machine", "steps"), donate_argnames="progress")
def _advance_debiasing(method, task, config, rule, splits, progress, *, axes: _Axes, machine: Machine, steps: int):
    def one(progress, config, rule, split):
        return loop.advance(method, task, config, rule, Parts.of(split), progress, steps)

    args = (progress, config, rule, splits)
    return parallel.over_seeds(one, args, (0, None, None, axes.split), **machine._asdict())
