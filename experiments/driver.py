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

from experiments import postprocessing, programs
from experiments.folder import RunFolder, Stage
from experiments.loading import TRAINING, fold, keys_of, load
from experiments.programs import Axes, Machine, Scored
from experiments.settings import Debias
from experiments.timings import Timings
from fairjax import loop, objective, parallel, training
from fairjax.debias import METHODS
from fairjax.loop import Debiased, Task
from fairjax.nn import Network, from_linen
from fairjax.parity import MEASURES
from fairjax.types import Split, Variables

CHUNK = 40
"""Most candidates of a chunk of debiasing."""

STREAMS = {
    "random_perturbation": 4,
    "layerwise": 5,
    "adversarial_fine_tuning": 6,
    "adversarial_debiasing": 7,
    "last_layer": 8,
    "pruning": 9,
    "bias_gda": 10,
    "fine_tuning": 11,
    "lagrangian": 12,
}
"""What a seed's key is folded with for a method. A new method gets a number that none has had: the others keep
theirs."""


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
            elif name == "portfolio":
                for rule in rules:
                    trials[name, rule] = _portfolio([trials[one, rule] for one in settings.portfolio], rules[rule])
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
                bar = bars.add_task(name, total=len(settings.runs), note="networks")
                tick = functools.partial(bars.update, bar, advance=1)
                trace = postprocessing.run(settings, folder, name, scored, evaluated[0].valid.threshold, tick, timings)
                trials[name, "none"] = _single((trace, jnp.ones(len(settings.runs), bool)), None)
    return Outcome(prepared, trials)


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
        return programs.evaluate(
            self.task, self.variables, self.splits, rule, axes=Axes(self.axes), machine=self.machine
        )

    def scores(self) -> Scored:
        """Of the networks as they came; scores stand in the place of features."""
        return programs.score(self.task, self.variables, self.splits, axes=Axes(self.axes), machine=self.machine)

    def by_group(self, rule, scored: Scored) -> Trial:
        """Group thresholds."""
        trace = programs.by_group(self.task.measure, rule, scored)
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


def _portfolio(members: list[Trial], rule) -> Trial:
    """Of the candidates that methods selected by a rule, the best by that rule."""

    def one(traces, selected):
        return loop.best_of(rule, traces, selected)

    joined, which, selected = jax.vmap(one)([trial.trace for trial in members], [trial.selected for trial in members])
    runs = jnp.arange(which.shape[0])
    variables = None
    if all(trial.variables is not None for trial in members):
        trees = [trial.variables for trial in members]
        variables = jax.tree.map(lambda *leaves: jnp.stack(leaves)[which, runs], *trees)
    diverged = jnp.stack([trial.diverged for trial in members])[which, runs]
    return Trial(joined, selected, diverged, variables)


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
    keys = fold(keys_of(settings), TRAINING)
    with timings.stage("training"):

        def begin(keys, splits):
            return programs.begin_training(network, config, keys, splits, axes=Axes(axes), machine=machine)

        begun = folder.stage("training").begun()
        state = jax.eval_shape(begin, keys, splits) if begun else begin(keys, splits)
    total = config.epochs
    bar = bars.add_task("training", total=total, note=f"{len(settings.runs)} networks left")

    def advance(state):
        few = int(jnp.sum(~state.done)) <= 2 * machine.mesh.size
        width = machine._replace(lanes=2) if few and settings.lanes is None else machine  # the numbers are the same
        return programs.advance_training(
            network, config, splits, state, axes=Axes(axes), machine=width, epochs=config.check_every
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
    axes, timings = Axes(about.axes), about.timings
    rules = [rule] if method.threshold == "rule" else settings.selection.rules.values()
    if any(one.data == "pooled" for one in rules):
        about = dataclasses.replace(about, task=about.task._replace(selection="pooled"))
        evaluated = about.evaluate(None)
    steps, members = method.steps(config, about.first), method.members(config)
    keys = fold(keys_of(settings), STREAMS[name])
    with timings.stage(name):
        if method.threshold == "rule":
            evaluated = about.evaluate(rule)

        def begin(keys, evaluated):
            return programs.begin_debiasing(
                method,
                about.task,
                config,
                rule,
                keys,
                about.variables,
                about.splits,
                evaluated,
                axes=axes,
                machine=machine,
            )

        # of a stage that was begun before, the state is saved, and its shapes are enough
        begun = about.folder.stage(name).begun()
        progress = jax.eval_shape(begin, keys, evaluated) if begun else begin(keys, evaluated)

    def full(entry):
        """Room for every candidate, the first of them filled."""
        shape = (entry.shape[0], steps * members + 1, *entry.shape[1:])
        return jnp.zeros(shape, entry.dtype).at[:, 0].set(entry)

    trace = jax.eval_shape(lambda: jax.tree.map(full, evaluated[0])) if begun else jax.tree.map(full, evaluated[0])
    bar = bars.add_task(name, total=steps * members, note="candidates")
    chunk = _chunk(steps)

    def advance(state: _Debiasing) -> _Debiasing:
        done = int(state.progress.step[0])
        count = min(chunk, steps - done)
        progress, part = programs.advance_debiasing(
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
