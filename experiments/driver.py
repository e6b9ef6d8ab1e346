"""Train and debias all seeds at once, stage by stage and chunk by chunk.

Between chunks the driver draws the bar, saves the state, and stops when every seed is done. A chunk is one call of a
compiled program; its numbers do not depend on where the chunks are cut, so a run that was stopped ends as if it had
not been.
"""

import dataclasses
import functools
import hashlib
import itertools
import operator
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import fairjax
from experiments import hosts, postprocessing, programs
from experiments.ahead import Ahead, compiled
from experiments.folder import RunFolder, Stage
from experiments.loading import TRAINING, fold, keys_of, load
from experiments.methods import ABOUT
from experiments.programs import Axes, Machine, Scored
from experiments.settings import Debias, identity
from experiments.structure import Structure
from experiments.timings import Timings
from fairjax import loop, parallel, training
from fairjax.debias import METHODS
from fairjax.loop import Task
from fairjax.nn import Network, from_linen
from fairjax.nn.flat import Flat
from fairjax.types import Split

CHUNK = 40
"""Most candidates of a chunk of debiasing."""

_EDGES = itertools.count()
"""Of chunks, in the order in which all processes pass them."""

NARROW = "the last few networks in training"
"""A program for smaller groups, which is compiled while the first epochs run."""

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


class Ended(KeyboardInterrupt):
    """The process was asked to end (SIGTERM), and ends where all that was done is saved."""

    status = 143
    """The exit status."""

    def __init__(self):
        """With the message that is printed."""
        super().__init__("ended as asked by SIGTERM; the state is saved, and the same command goes on from there")


_asked: list[int] = []
"""Signals by which this process was asked to end."""


@contextmanager
def heeding_sigterm() -> Iterator[None]:
    """While the block runs, SIGTERM ends the run at the next moment at which its state is saved; a second one, at once.

    Several processes that make one run do without: JAX tells all of them when one was asked to end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def ask(number, frame):
        del frame
        if os.getpid() != owner or _asked:  # a forked process is not the run
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        _asked.append(number)

    _asked.clear()
    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _asked.clear()


def end_if_asked() -> None:
    """End here, where everything is saved, if the process was asked to end.

    Raises:
        Ended: if it was.
    """
    if _asked:
        raise Ended


class Trial(NamedTuple):
    """What a method found, by a rule; a leading axis of runs on all arrays."""

    trace: loop.Trace
    """Every candidate; of methods without candidates the one result."""
    selected: Any
    """Which candidate was selected."""
    diverged: Any
    networks: Flat | None
    """The selected networks; None for methods that change decisions only, and for further rules."""


class Prepared(NamedTuple):
    """Data and trained networks."""

    splits: Split
    axes: Split
    facts: dict[str, Any]
    structure: Structure
    network: Network
    trained: training.Trained


class Outcome(NamedTuple):
    """All that a run found."""

    prepared: Prepared
    trials: dict[tuple[str, str], Trial]
    """By method and rule; the rule of methods that do without is `none`."""


def prepare(
    settings: Debias, folder: RunFolder, machine: Machine, console: Console, timings: Timings, ahead: Ahead
) -> Prepared:
    """Load the data and train; goes on where the folder says an earlier call was stopped.

    Args:
        settings: what to run.
        folder: where states are saved.
        machine: devices and lanes.
        console: where progress is drawn.
        timings: where the time of each stage is added.
        ahead: has the programs of `run` compiled while networks train.

    Returns:
        The splits and the trained networks.
    """
    with timings.stage("loading"):
        splits, axes, structure, facts = _load(settings)
        check_methods(settings, structure, splits)
        splits = parallel.everywhere(splits, machine.mesh)
    console.print(
        f"{settings.dataset}: {facts['rows']:,} rows, {facts['features']} features, {len(settings.runs)} networks on "
        f"{machine.mesh.size} {jax.devices()[0].platform} device(s)"
    )
    for line in structure.told(settings.measure):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    network = from_linen(settings.network.build(len(structure.classes)))
    measure = structure.measure(settings.measure)
    with _bars(console) as bars:
        trained = _train(settings, folder, machine, network, measure, splits, axes, bars, timings, ahead)
    _report_diverged(settings, trained.diverged, "training", console)
    return Prepared(splits, axes, facts, structure, network, trained)


def check_methods(settings: Debias, structure: Structure, splits: Split) -> None:
    """Refuse methods that cannot do these groups and classes, before anything is trained.

    Raises:
        ValueError: naming them, and those that can.
    """
    unfit = {}
    for name in (*settings.methods, *(settings.portfolio if "portfolio" in settings.methods else ())):
        about = ABOUT[name]
        if len(structure.classes) > about.classes:
            unfit[name] = f"{len(structure.classes)} classes"
        elif len(structure.groups) > about.groups or (name == "group_thresholds" and splits.a.ndim == 2):
            unfit[name] = "groups that overlap" if splits.a.ndim == 2 else f"{len(structure.groups)} groups"
    if unfit:
        others = [name for name in settings.portfolio if name not in unfit]
        fit = [name for name in settings.methods if name not in unfit and (name != "portfolio" or others)]
        words = ["--methods", *(fit or ["standard", "pruning", "bias_gda"])]
        words += ["--portfolio", *others] if "portfolio" in fit else []
        what = "; ".join(f"{name} cannot do {reason}" for name, reason in unfit.items())
        raise ValueError(f"{what}: leave them out, as in {' '.join(words)}")


def run(
    settings: Debias,
    prepared: Prepared,
    folder: RunFolder,
    machine: Machine,
    console: Console,
    timings: Timings,
    ahead: Ahead,
) -> Outcome:
    """Debias trained networks; goes on where the folder says an earlier call was stopped.

    Args:
        settings: what to run.
        prepared: from `prepare`, for the same data, network and training.
        folder: where states are saved.
        machine: devices and lanes.
        console: where progress is drawn.
        timings: where the time of each stage is added.
        ahead: what was begun to be compiled for it.

    Returns:
        All results.
    """
    measure = prepared.structure.measure(settings.measure)
    task = Task(prepared.network, measure)
    about = _Context(
        settings,
        folder,
        machine.for_parts(),
        task,
        prepared.trained.best,
        prepared.splits,
        prepared.axes,
        timings,
        ahead,
    )
    rules = settings.selection.rules
    own = [name for name, rule in rules.items() if rule.data == "valid"]  # thresholds are chosen on validation data
    about.ready("evaluation")
    with timings.stage("evaluation"):
        logits = about.logits()
        evaluated = jax.block_until_ready(programs.judge(task, None, logits))
        scored = programs.score(logits)
    trials: dict[tuple[str, str], Trial] = {}
    with _bars(console) as bars:
        for name in settings.methods:
            end_if_asked()
            if name == "standard":
                trials[name, "none"] = _single(evaluated, about.networks)
            elif name == "portfolio":
                for rule in rules:
                    trials[name, rule] = _portfolio([trials[one, rule] for one in settings.portfolio], rules[rule])
            elif name in METHODS and _steps(settings, name, about.networks) == 0:
                for rule in own:
                    with timings.stage(name):
                        found = jax.block_until_ready(programs.judge(task, rules[rule], logits))
                    trials[name, rule] = _single(found, about.networks)
            elif name in METHODS:
                # methods whose thresholds follow the rule search by it too, so another one cannot choose for them
                blackbox = METHODS[name][1].threshold == "rule"
                found = _debias(about, name, logits, bars)
                for i, rule in enumerate(rules):
                    if i == 0 or not blackbox:
                        trials[name, rule] = _selected(found, None if i == 0 else rules[rule])
                _report_diverged(settings, found.diverged, name, console)
            elif name == "group_thresholds":
                for rule in own:
                    with timings.stage(name):
                        trials[name, rule] = about.by_group(rules[rule], scored)
            else:
                bar = bars.add_task(name, total=len(settings.runs), unit="networks", note="")

                def tick(bar=bar):
                    bars.update(bar, advance=1)
                    end_if_asked()

                trace = postprocessing.run(
                    settings, measure, folder, name, scored, evaluated[0].valid.threshold, tick, timings
                )
                trials[name, "none"] = _single((trace, np.ones(len(settings.runs), bool)), None)
    return Outcome(prepared, trials)


@dataclasses.dataclass(frozen=True)
class _Context:
    """What every method of a run is given."""

    settings: Debias
    folder: RunFolder
    machine: Machine
    task: Task
    networks: Flat
    splits: Split
    axes: Split
    timings: Timings
    ahead: Ahead

    def ready(self, stage: str) -> None:
        """Wait for the programs of a stage, if they are being compiled."""
        with self.timings.stage(stage), self.timings.waiting():
            self.ahead.wait(stage)

    def logits(self) -> loop.Parts:
        """Of the networks as they came."""
        return programs.evaluate(self.task, self.networks, self.splits, axes=Axes(self.axes), machine=self.machine)

    def by_group(self, rule, scored: Scored) -> Trial:
        """Group thresholds."""
        trace = jax.block_until_ready(programs.by_group(self.task.measure, rule, scored))
        return _single((trace, np.ones(len(self.settings.runs), bool)), None)


def _single(evaluated, networks: Flat | None) -> Trial:
    """A trial of one candidate."""
    trace, finite = jax.tree.map(np.asarray, evaluated)
    trace = jax.tree.map(lambda entry: entry[:, None], trace)
    return Trial(trace, np.zeros(finite.shape, np.int32), ~finite, networks)


def _selected(found: Trial, rule) -> Trial:
    """The trial of a method: as its run selected, or by another rule."""
    if rule is None:
        return found
    return found._replace(selected=np.asarray(programs.select(rule, found.trace)), networks=None)


def _portfolio(members: list[Trial], rule) -> Trial:
    """Of the candidates that methods selected by a rule, the best by that rule."""
    found = programs.best_of(rule, [trial.trace for trial in members], [trial.selected for trial in members])
    joined, which, selected = jax.tree.map(np.asarray, found)
    runs, networks = np.arange(len(which)), [trial.networks for trial in members if trial.networks is not None]

    def chosen(*leaves):
        return np.stack([np.asarray(leaf) for leaf in leaves])[which, runs]

    picked = jax.tree.map(chosen, *networks) if len(networks) == len(members) else None
    return Trial(joined, selected, chosen(*(trial.diverged for trial in members)), picked)


def said(settings: Debias) -> str:
    """What all processes of a run must have been told alike, and the versions that they are of."""
    return f"{identity(settings)}, lanes {settings.lanes}, fairjax {fairjax.__version__}, jax {jax.__version__}"


def _load(settings: Debias) -> tuple[Split, Split, Structure, dict[str, Any]]:
    """The data, which must be the same in all processes."""
    try:
        splits, axes, structure, facts = load(settings)
    except FileNotFoundError:
        hosts.agree("the data", "not there")
        raise
    if jax.process_count() > 1:
        numbers = hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(splits)))
        hosts.agree("the data", numbers.hexdigest())
    return splits, axes, structure, facts


class Lines:
    """Progress as plain lines, for a log: when a stage begins, now and then, and when it ends."""

    def __init__(self, console: Console, every: float = 10.0):
        """Lines on a console, with so many seconds between those of one stage."""
        self._console, self._every = console, every
        self._stages: list[dict[str, Any]] = []

    def __enter__(self):
        """Nothing is drawn."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Nothing is left to draw."""

    def add_task(self, name: str, *, total: int, unit: str, note: str) -> int:
        """Begin a stage, as `rich.progress.Progress` does; returns its number."""
        now = time.perf_counter()
        stage = {"name": name, "total": total, "unit": unit, "note": note, "completed": 0}
        self._stages.append({**stage, "begun": now, "printed": now, "ended": False})
        self._print(f"{name}: begins, {total} {unit}" + (f" at most, {note}" if note else ""))
        return len(self._stages) - 1

    def update(self, number: int, *, advance: int = 0, **changes: Any) -> None:
        """Note what a stage has done; prints if it is time to, or if the stage ends."""
        stage = self._stages[number]
        stage |= changes
        stage["completed"] += advance
        now, ended = time.perf_counter(), stage["completed"] >= stage["total"]
        if stage["ended"] or not (ended or now - stage["printed"] >= self._every):
            return
        stage |= {"printed": now, "ended": ended}
        note = f", {stage['note']}" if stage["note"] else ""
        seconds = f"{'ends ' if ended else ''}after {now - stage['begun']:.1f} s"
        self._print(f"{stage['name']}: {stage['completed']} of {stage['total']} {stage['unit']}{note}, {seconds}")

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)


def _bars(console: Console) -> Progress | Lines:
    """Progress bars on a terminal, lines elsewhere, where a bar would be drawn once, at its end."""
    if not console.is_interactive:
        return Lines(console)
    return Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def _train(settings, folder, machine, network, measure, splits, axes, bars, timings, ahead) -> training.Trained:
    config = settings.training
    keys = parallel.everywhere(fold(keys_of(settings), TRAINING), machine.mesh)
    with timings.stage("training"):

        def begin(keys, splits):
            return programs.begin_training(network, config, keys, splits, axes=Axes(axes), machine=machine)

        begun = folder.stage("training").begun()
        state = jax.eval_shape(begin, keys, splits) if begun else begin(keys, splits)
    total = config.epochs
    bar = bars.add_task("training", total=total, unit="epochs", note=f"{len(settings.runs)} networks left")

    narrow = machine if settings.lanes is not None else machine.for_parts()  # the numbers are the same
    shapes = jax.eval_shape(lambda state: state, state)
    if narrow != machine and len(settings.runs) > 2 * machine.mesh.size:
        ahead.add(
            NARROW,
            lambda: compiled(
                programs.advance_training,
                network,
                config,
                splits,
                shapes,
                mesh=machine.mesh,
                axes=Axes(axes),
                machine=narrow,
                epochs=config.check_every,
            ),
        )
    _compile_ahead(settings, folder, machine, Task(network, measure), splits, axes, state.best, ahead)

    def advance(state):
        few = np.sum(~np.asarray(state.done)) <= 2 * machine.mesh.size
        if few:
            with timings.waiting():
                ahead.wait(NARROW)
        width = narrow if few else machine
        state = programs.advance_training(
            network, config, splits, state, axes=Axes(axes), machine=width, epochs=config.check_every
        )
        ahead.begin()  # while this chunk runs
        return state

    def watch(state):
        left = int(np.sum(~np.asarray(state.done)))
        done = int(np.max(np.asarray(state.epoch)))
        # early stopping: most of the epochs allowed are never needed
        bars.update(bar, completed=done, total=total if left else done, note=f"{left} networks left")
        return left == 0

    return _by_chunks(settings, machine, folder.stage("training"), "training", state, advance, watch, timings)


def _compile_ahead(settings, folder, machine, task: Task, splits, axes, networks: Flat, ahead: Ahead) -> None:
    """Have the programs of `run` compiled, in the order in which it calls them."""
    rule, rules = settings.selection.build(), settings.selection.rules
    keys = jax.eval_shape(lambda: keys_of(settings))
    on_mesh = functools.partial(compiled, mesh=machine.mesh)
    where = {"axes": Axes(axes), "machine": machine.for_parts()}
    shapes: dict[str, Any] = {}

    def evaluation():
        shapes["logits"] = on_mesh(programs.evaluate, task, networks, splits, **where)
        on_mesh(programs.judge, task, None, shapes["logits"])
        on_mesh(programs.score, shapes["logits"])

    def method(name):
        chosen, config = METHODS[name][1], settings.config(name)
        of_method = _task(task, chosen, rules.values(), rule)
        by = rule if chosen.threshold == "rule" else None
        evaluated = on_mesh(programs.judge, of_method, by, shapes["logits"])
        args = (chosen, of_method, config, rule)
        begin = (*args, keys, networks, splits, evaluated)
        if begun[name]:
            progress = jax.eval_shape(functools.partial(programs.begin_debiasing, *begin[:4], **where), *begin[4:])
        else:
            progress = on_mesh(programs.begin_debiasing, *begin, **where)
        steps = _steps(settings, name, networks)
        on_mesh(programs.advance_debiasing, *args, splits, progress, **where, steps=min(_chunk(steps), steps))

    stepping = [name for name in settings.methods if name in METHODS and _steps(settings, name, networks)]
    begun = {name: folder.stage(name).begun() for name in stepping}
    ahead.add("evaluation", evaluation)
    for name in stepping:
        ahead.add(name, functools.partial(method, name))


def _steps(settings: Debias, name: str, networks: Flat) -> int:
    """Of a method, which may ask for the shapes of a network."""
    found = []

    def ask(flat: Flat) -> None:
        variables = jax.tree.map(operator.itemgetter(0), flat.variables())
        found.append(METHODS[name][1].steps(settings.config(name), variables))

    jax.eval_shape(ask, networks)
    return found[0]


def _task(task: Task, method: loop.Method, rules: Iterable[Any], rule: Any) -> Task:
    """The task of a method: with train data among the evaluations if a rule that chooses its candidates looks there."""
    of_method = [rule] if method.threshold == "rule" else rules
    return task._replace(selection="pooled" if any(one.data == "pooled" for one in of_method) else "valid")


def _chunk(steps: int) -> int:
    """Candidates of a chunk: if possible all chunks have one size, since another size is another program to compile."""
    divisors = [size for size in range(CHUNK // 4, CHUNK + 1) if steps % size == 0]
    return max(divisors, default=CHUNK)


class _Debiasing(NamedTuple):
    """A method's saved state: the loop's, and the trace so far in NumPy's arrays of full length, filled in place."""

    progress: loop.Progress
    trace: loop.Trace


def _debias(about: _Context, name: str, logits: loop.Parts, bars) -> Trial:
    settings, machine, method = about.settings, about.machine, METHODS[name][1]
    config, rule = settings.config(name), settings.selection.build()
    axes, timings = Axes(about.axes), about.timings
    task = _task(about.task, method, settings.selection.rules.values(), rule)
    steps, members = _steps(settings, name, about.networks), method.members(config)
    keys = parallel.everywhere(fold(keys_of(settings), STREAMS[name]), machine.mesh)
    stage = about.folder.stage(name)
    begun = stage.begun()
    about.ready(name)
    with timings.stage(name):

        def begin(keys, logits):
            evaluated = programs.judge(task, rule if method.threshold == "rule" else None, logits)
            progress = programs.begin_debiasing(
                method, task, config, rule, keys, about.networks, about.splits, evaluated, axes=axes, machine=machine
            )
            return progress, evaluated[0]

        # of a stage that was begun before, the state is saved, and its shapes are enough
        progress, first = jax.eval_shape(begin, keys, logits) if begun else begin(keys, logits)

    def full(entry):
        """Room for every candidate, the first of them filled."""
        room = np.zeros((entry.shape[0], steps * members + 1, *entry.shape[1:]), entry.dtype)
        if not begun:
            room[:, 0] = entry
        return room

    trace = jax.tree.map(full, first)
    bar = bars.add_task(name, total=steps * members, unit="candidates", note="")
    chunk = _chunk(steps)

    def advance(state: _Debiasing) -> _Debiasing:
        done = int(np.asarray(state.progress.step)[0])
        count = min(chunk, steps - done)
        progress, part = programs.advance_debiasing(
            method, task, config, rule, about.splits, state.progress, axes=axes, machine=machine, steps=count
        )

        def write(whole, new):
            whole[:, done * members + 1 : (done + count) * members + 1] = new

        jax.tree.map(write, state.trace, part)
        return _Debiasing(progress, state.trace)

    def watch(state: _Debiasing) -> bool:
        done = int(np.asarray(state.progress.step)[0])
        bars.update(bar, completed=done * members)
        return done >= steps

    progress, trace = _by_chunks(settings, machine, stage, name, _Debiasing(progress, trace), advance, watch, timings)
    return Trial(trace, np.asarray(progress.selected), np.asarray(progress.diverged), progress.best)


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
    saved = stage.restore(like, machine.mesh)
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
        stop = hosts.preempted(next(_EDGES)) or bool(_asked)
        if stop or hosts.first_says(time.perf_counter() - saved_at >= settings.save_every):
            save()
            saved_at, unsaved = time.perf_counter(), False
        if stop:
            end_if_asked()
            raise KeyboardInterrupt
    if unsaved:
        save()
    return state


def _report_diverged(settings: Debias, diverged: Any, stage: str, console: Console) -> None:
    """Name the seeds that were frozen because their numbers stopped being finite."""
    labels = [f"{seed}" if value is None else f"{seed} at {value:g}" for seed, value in settings.runs]
    bad = [label for label, flag in zip(labels, np.asarray(diverged), strict=True) if flag]
    if bad:
        console.print(
            f"{stage}: the outputs of seeds {', '.join(bad)} stopped being finite; these seeds were "
            "frozen there and keep their best network so far",
            style="yellow",
            markup=False,
        )
