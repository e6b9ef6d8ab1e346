"""Train and debias all seeds at once, stage by stage and chunk by chunk.

Between chunks the driver draws the bar, saves the state, and stops when every seed is done. A chunk is one call of a
compiled program; its numbers do not depend on where the chunks are cut, so a run that was stopped ends as if it had
not been.
"""

import dataclasses
import functools
import json
import operator
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from experiments import postprocessing
from experiments.folder import RunFolder, Stage, write_json
from experiments.settings import SIMULATED, Debias
from experiments.timings import Timings
from fairjax import data, loop, objective, parallel, training
from fairjax.data.splits import STREAM
from fairjax.debias import METHODS
from fairjax.loop import Debiased, Parts, Task
from fairjax.nn import Network, from_linen
from fairjax.nn.network import scores
from fairjax.parity import MEASURES
from fairjax.postprocessing import group_thresholds
from fairjax.types import SHARED, Batch, Split, Variables

CHUNK = 40
"""Most candidates of a chunk of debiasing."""

_SIMULATION, _TRAINING, _DEBIASING = 0, 1, 2  # what a seed's key is folded with; its split has a number of its own


class Machine(NamedTuple):
    """Where seeds run: static in every compiled program."""

    mesh: jax.sharding.Mesh
    lanes: int | None


class Trial(NamedTuple):
    """What a method found, by a rule; a leading axis of runs on all arrays."""

    trace: loop.Trace
    """Every candidate; of methods without candidates the one result."""
    selected: Any
    """Which candidate was selected."""
    diverged: Any
    variables: Variables | None
    """The selected networks; None for methods that change decisions only, and for further rules."""


class Prepared(NamedTuple):
    """Data and trained networks."""

    splits: Split
    axes: Split
    facts: dict[str, Any]
    network: Network
    trained: training.Trained

    @property
    def variables(self) -> Variables:
        """Of the trained networks."""
        return jax.vmap(training.Flat.variables)(self.trained.best)


class Outcome(NamedTuple):
    """All that a run found."""

    prepared: Prepared
    trials: dict[tuple[str, str], Trial]
    """By method and rule; the rule of methods that do without is `none`."""


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

    def draw(key, value):
        if settings.dataset == "zafar":
            return data.zafar(key, chosen.rows, value)
        # the features alone know nothing of the groups: a classifier is biased only if it sees the attribute
        return data.append_protected(data.loh(key, chosen.rows, value))

    if chosen.tables == "fixed":
        batch = jax.jit(draw)(jax.random.key(chosen.key), jnp.array(_parameter(settings, None)))
        dataset = data.from_arrays(*map(np.asarray, batch), name=settings.dataset)
        splits, axes = data.split_seeds(dataset, settings.seeds), SHARED
        features = batch.x.shape[1]
    else:
        keys, values = _keys(settings), jnp.array([_parameter(settings, value) for _, value in settings.runs])
        batch = jax.jit(jax.vmap(draw))(_fold(keys, _SIMULATION), values)
        splits = jax.jit(jax.vmap(lambda key, batch: data.split(key, *batch)))(_fold(keys, STREAM), batch)
        for i, (seed, _) in enumerate(settings.runs):
            one = jax.tree.map(operator.itemgetter(i), splits)
            data.check_split(one._replace(train=one.train[None], valid=one.valid[None], test=one.test[None]), [seed])
        axes = jax.tree.map(lambda _: 0, SHARED._replace(x=0, y=0, a=0))
        features = batch.x.shape[2]
    return splits, axes, {"rows": chosen.rows, "features": features, "protected": "a"}


def _parameter(settings: Debias, value: float | None) -> float:
    """The simulated parameter of a run."""
    chosen = settings.simulation
    return value if value is not None else chosen.theta if settings.dataset == "zafar" else chosen.alpha


def prepare(settings: Debias, folder: RunFolder, machine: Machine, console: Console, timings: Timings) -> Prepared:
    """Load the data and train; goes on where the folder says an earlier call was stopped.

    Args:
        settings: what to run.
        folder: where states are saved.
        machine: devices and lanes.
        console: where progress is drawn.
        timings: where the time of each stage is added.

    Returns:
        The splits and the trained networks.
    """
    with timings.stage("loading"):
        splits, axes, facts = load(settings)
        splits = jax.device_put(splits, parallel.everywhere_on(machine.mesh))
    console.print(
        f"{settings.dataset}: {facts['rows']:,} rows, {facts['features']} features, {len(settings.runs)} networks on "
        f"{machine.mesh.size} {jax.devices()[0].platform} device(s)"
    )
    network = from_linen(settings.network.build())
    with _bars(console) as bars:
        trained = _train(settings, folder, machine, network, splits, axes, bars, timings)
    _report_diverged(settings, trained.diverged, "training", console)
    return Prepared(splits, axes, facts, network, trained)


def run(
    settings: Debias, prepared: Prepared, folder: RunFolder, machine: Machine, console: Console, timings: Timings
) -> Outcome:
    """Debias trained networks; goes on where the folder says an earlier call was stopped.

    Args:
        settings: what to run.
        prepared: from `prepare`, for the same data, network and training.
        folder: where states are saved.
        machine: devices and lanes.
        console: where progress is drawn.
        timings: where the time of each stage is added.

    Returns:
        All results.
    """
    task = Task(prepared.network, MEASURES[settings.measure])
    about = _Context(settings, folder, machine, task, prepared.variables, prepared.splits, prepared.axes, timings)
    rules = settings.selection.rules
    own = [name for name, rule in rules.items() if rule.data == "valid"]  # thresholds are chosen on validation data
    with timings.stage("evaluation"):
        evaluated = about.evaluate(None)
        scored = jax.block_until_ready(about.scores())
    trials: dict[tuple[str, str], Trial] = {}
    with _bars(console) as bars:
        for name in settings.methods:
            if name == "standard":
                trials[name, "none"] = _single(evaluated, about.variables)
            elif name in METHODS and METHODS[name][1].steps(settings.config(name), about.first) == 0:
                for rule in own:
                    with timings.stage(name):
                        found = jax.block_until_ready(about.evaluate(rules[rule]))
                    trials[name, rule] = _single(found, about.variables)
            elif name in METHODS:
                # methods whose thresholds follow the rule search by it too, so another one cannot choose for them
                blackbox = METHODS[name][1].threshold == "rule"
                found = _debias(about, name, evaluated, bars)
                for i, rule in enumerate(rules):
                    if i == 0 or not blackbox:
                        trials[name, rule] = _selected(found, None if i == 0 else rules[rule])
                _report_diverged(settings, found.diverged, name, console)
            elif name == "group_thresholds":
                for rule in own:
                    with timings.stage(name):
                        trials[name, rule] = jax.block_until_ready(about.by_group(rules[rule], scored))
            else:
                trace = _postprocess(about, name, scored, evaluated[0].valid.threshold, bars)
                trials[name, "none"] = _single((trace, jnp.ones(len(settings.runs), bool)), None)
    return Outcome(prepared, trials)


class Scored(NamedTuple):
    """Scores, labels and groups of the valid and test parts of all runs."""

    valid: Batch
    test: Batch


@dataclasses.dataclass(frozen=True)
class _Context:
    """What every method of a run is given."""

    settings: Debias
    folder: RunFolder
    machine: Machine
    task: Task
    variables: Variables
    splits: Split
    axes: Split
    timings: Timings

    @property
    def first(self) -> Variables:
        """The first run's network."""
        return jax.tree.map(operator.itemgetter(0), self.variables)

    def evaluate(self, rule):
        """The networks as they came, with thresholds by a rule or by balanced accuracy."""
        return _evaluate(self.task, self.variables, self.splits, rule, axes=_Axes(self.axes), machine=self.machine)

    def scores(self) -> Scored:
        """Of the networks as they came; scores stand in the place of features."""
        return _scores(self.task, self.variables, self.splits, axes=_Axes(self.axes), machine=self.machine)

    def by_group(self, rule, scored: Scored) -> Trial:
        """Group thresholds."""
        trace = _by_group(self.task.measure, rule, scored)
        return _single((trace, jnp.ones(len(self.settings.runs), bool)), None)


def _single(evaluated, variables: Variables | None) -> Trial:
    """A trial of one candidate."""
    trace, finite = evaluated
    trace = jax.tree.map(lambda entry: entry[:, None], trace)
    return Trial(trace, jnp.zeros(finite.shape, jnp.int32), ~finite, variables)


def _selected(found: Debiased, rule) -> Trial:
    """The trial of a method: as its run selected, or by another rule."""
    if rule is None:
        return Trial(found.trace, found.selected, found.diverged, found.variables)
    selected = jax.vmap(lambda evaluation: objective.first_max(rule(evaluation)))(found.trace.seen(rule))
    return Trial(found.trace, selected, found.diverged, None)


def _postprocess(about: _Context, name: str, scored: Scored, thresholds, bars) -> loop.Trace:
    """AIF360's post-processors, in parallel processes; a network that was done is not done again."""
    settings, stage = about.settings, about.folder.path / "states" / name
    valid, test = (jax.tree.map(np.asarray, part) for part in scored)
    bar = bars.add_task(name, total=len(settings.runs), note="networks")
    jobs, tables = {}, {}
    for i, (seed, _) in enumerate(settings.runs):
        saved = stage / f"{i:04d}.json"
        if saved.exists():
            tables[i] = json.loads(saved.read_text(encoding="utf-8"))
            about.timings.add(name, [tables[i]["seconds"], 0.0])
            bars.update(bar, advance=1)
        else:
            jobs[i] = postprocessing.Job(
                method=name,
                measure=settings.measure,
                seed=seed,
                number=i,
                valid_scores=valid.x[i, :, 0],
                valid_y=valid.y[i],
                valid_a=valid.a[i],
                test_scores=test.x[i, :, 0],
                test_a=test.a[i],
                threshold=float(thresholds[i]),
                bound=settings.selection.epsilon - (0.0 if name.endswith("_paper") else settings.selection.margin),
                search=settings.roc_search,
            )
    # its own search takes milliseconds, less than it takes to start a process
    processes = None if settings.roc_search == "aif360" else 1
    for answer in postprocessing.decisions(list(jobs.values()), processes=processes):
        i = answer.job.number
        tables[i] = {
            "valid": _counts(answer.valid, valid, i),
            "test": _counts(answer.test, test, i),
            "threshold": float(answer.fitted["threshold"]),
            "seconds": answer.seconds,
        }
        write_json(stage / f"{i:04d}.json", tables[i])
        about.timings.add(name, [answer.seconds, 0.0])
        bars.update(bar, advance=1)
    ordered = [tables[i] for i in range(len(settings.runs))]
    threshold = jnp.array([entry["threshold"] for entry in ordered])
    evaluations = (
        objective.of_tables(about.task.measure, threshold, jnp.array([entry[part] for entry in ordered], jnp.float32))
        for part in ("valid", "test")
    )
    return loop.Trace(*evaluations)


def _counts(decisions: np.ndarray, batch: Batch, run: int) -> list:
    """The confusion table of one run's decisions: by decision, label and group."""
    table = np.zeros((2, 2, 2), int)
    np.add.at(table, tuple(np.asarray(part, int) for part in (decisions, batch.y[run], batch.a[run])), 1)
    return table.tolist()


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def _train(settings, folder, machine, network, splits, axes, bars, timings) -> training.Trained:
    config = settings.training
    keys = _fold(_keys(settings), _TRAINING)
    with timings.stage("training"):
        state = _begin_training(network, config, keys, splits, axes=_Axes(axes), machine=machine)
    total = config.epochs
    bar = bars.add_task("training", total=total, note=f"{len(settings.runs)} networks left")

    def advance(state):
        few = int(jnp.sum(~state.done)) <= 2 * machine.mesh.size
        width = machine._replace(lanes=2) if few and settings.lanes is None else machine  # the numbers are the same
        return _advance_training(
            network, config, splits, state, axes=_Axes(axes), machine=width, epochs=config.check_every
        )

    def watch(state):
        left = int(jnp.sum(~state.done))
        done = int(jnp.max(state.epoch))
        bars.update(bar, completed=done, note=f"{left} networks left")
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


def _debias(about: _Context, name: str, evaluated, bars) -> Debiased:
    settings, machine, method = about.settings, about.machine, METHODS[name][1]
    config, rule = settings.config(name), settings.selection.build()
    axes, timings = _Axes(about.axes), about.timings
    rules = [rule] if method.threshold == "rule" else settings.selection.rules.values()
    if any(one.data == "pooled" for one in rules):
        about = dataclasses.replace(about, task=about.task._replace(selection="pooled"))
        evaluated = about.evaluate(None)
    steps, members = method.steps(config, about.first), method.members(config)
    keys = _fold(_keys(settings), _DEBIASING + list(METHODS).index(name))
    with timings.stage(name):
        if method.threshold == "rule":
            evaluated = about.evaluate(rule)
        progress = _begin_debiasing(
            method, about.task, config, rule, keys, about.variables, about.splits, evaluated, axes=axes, machine=machine
        )

    def full(entry):
        """Room for every candidate, the first of them filled."""
        shape = (entry.shape[0], steps * members + 1, *entry.shape[1:])
        return jnp.zeros(shape, entry.dtype).at[:, 0].set(entry)

    trace = jax.tree.map(full, evaluated[0])
    bar = bars.add_task(name, total=steps * members, note="candidates")
    chunk = _chunk(steps)

    def advance(state: _Debiasing) -> _Debiasing:
        done = int(state.progress.step[0])
        count = min(chunk, steps - done)
        progress, part = _advance_debiasing(
            method, about.task, config, rule, about.splits, state.progress, axes=axes, machine=machine, steps=count
        )
        here = slice(done * members + 1, (done + count) * members + 1)
        trace = jax.tree.map(lambda whole, new: whole.at[:, here].set(new), state.trace, part)
        return _Debiasing(progress, trace)

    def watch(state: _Debiasing) -> bool:
        done = int(state.progress.step[0])
        bars.update(bar, completed=done * members)
        return done >= steps

    state = _by_chunks(
        settings, machine, about.folder.stage(name), name, _Debiasing(progress, trace), advance, watch, timings
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
    like = {"state": state, "seconds": timings.of(name)}
    saved = stage.restore(like, parallel.everywhere_on(machine.mesh))
    number = 0
    if saved is not None:
        number, state = saved[0], saved[1]["state"]
        timings.add(name, saved[1]["seconds"])

    def save():
        seconds = timings.of(name)
        with timings.stage("saving"):
            stage.save(number, {"state": state, "seconds": seconds})

    saved_at, unsaved = time.perf_counter(), False
    while not watch(state):
        with timings.stage(name):
            state = jax.block_until_ready(advance(state))
        number, unsaved = number + 1, True
        if time.perf_counter() - saved_at >= settings.save_every:
            save()
            saved_at, unsaved = time.perf_counter(), False
    if unsaved:
        save()
    return state


def _report_diverged(settings: Debias, diverged: Any, stage: str, console: Console) -> None:
    """Name the seeds that were frozen because their numbers stopped being finite."""
    labels = [f"{seed}" if value is None else f"{seed} at {value:g}" for seed, value in settings.runs]
    bad = [label for label, flag in zip(labels, np.asarray(diverged), strict=True) if flag]
    if bad:
        console.print(
            f"[yellow]{stage}: the outputs of seeds {', '.join(bad)} stopped being finite; these seeds were "
            "frozen there and keep their best network so far[/yellow]"
        )


def _keys(settings: Debias) -> jax.Array:
    return jax.vmap(jax.random.key)(jnp.array([seed for seed, _ in settings.runs], jnp.uint32))


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
def _evaluate(task: Task, variables: Variables, splits, rule, *, axes: _Axes, machine: Machine):
    def one(rule, variables, split):
        return loop.evaluate(task, variables, Parts.of(split), rule)

    return parallel.over_seeds(one, (rule, variables, splits), (None, 0, axes.split), **machine._asdict())


@functools.partial(jax.jit, static_argnames=("task", "axes", "machine"))
def _scores(task: Task, variables: Variables, splits, *, axes: _Axes, machine: Machine) -> Scored:
    def one(variables, split):
        with jax.default_matmul_precision("highest"):
            return Scored(*(_scored(task, variables, split.part(name)) for name in ("valid", "test")))

    return parallel.over_seeds(one, (variables, splits), (0, axes.split), **machine._asdict())


def _scored(task: Task, variables: Variables, batch: Batch) -> Batch:
    return batch._replace(x=scores(task.network.apply, variables, batch.x)[:, None])


@functools.partial(jax.jit, static_argnames="measure")
def _by_group(measure, rule, scored: Scored) -> loop.Trace:
    def one(scored: Scored) -> loop.Trace:
        valid, test = scored
        found = group_thresholds(measure, valid.x[:, 0], valid.y, valid.a, rule=rule)
        decisions = found.decide(test.x[:, 0], test.a).astype(jnp.float32)
        there = objective.at_threshold(measure, decisions, test.y, test.a, jnp.array(0.5))
        return loop.Trace(found.evaluation, there._replace(threshold=found.evaluation.threshold))

    return jax.vmap(one)(scored)


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
