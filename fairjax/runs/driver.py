"""Train and debias all seeds at once, stage by stage and chunk by chunk.

Between chunks the driver updates the progress bar, saves the state, and stops when every seed is done. A chunk is one
call of a compiled program. The numbers do not depend on where the chunks are cut, so an interrupted and resumed run
gives the same results as an uninterrupted one.
"""

import dataclasses
import functools
import hashlib
import itertools
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
from fairjax import loop, seeds, training
from fairjax.debiasing import task_of
from fairjax.methods import METHODS, Method, Parts, Standard, Task
from fairjax.nn import Network, from_linen
from fairjax.nn.flat import Flat
from fairjax.runs import hosts, postprocessing, programs
from fairjax.runs.compiler import BackgroundCompiler, lower_and_compile
from fairjax.runs.folder import RunFolder
from fairjax.runs.identity import identity
from fairjax.runs.labels import PORTFOLIO, about
from fairjax.runs.loading import TRAINING_STREAM, fold_in_all, keys_of, load
from fairjax.runs.postprocessors import POSTPROCESSORS
from fairjax.runs.programs import Scored
from fairjax.runs.settings import Debias
from fairjax.runs.states import SavedStates
from fairjax.runs.structure import Structure
from fairjax.runs.timings import Timings
from fairjax.seeds import Axes, Machine
from fairjax.types import Split

_EDGES = itertools.count()
"""Numbers of the chunk boundaries, which all processes pass in the same order."""

NARROW = "the last few networks in training"
"""Name of the program for smaller groups of networks, which is compiled while the first epochs run."""


class Stopped(KeyboardInterrupt):
    """Signals that SIGTERM was received; the run ends at a point where all results so far are saved."""

    status = 143
    """The exit status."""

    def __init__(self):
        """Initialise the exception with the message that is printed."""
        super().__init__("ended as asked by SIGTERM; the state is saved, and the same command goes on from there")


_asked: list[int] = []
"""SIGTERM signals that this process has received."""


@contextmanager
def stopping_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the run at the next point at which its state is saved; a second SIGTERM ends it at once.

    Runs of several processes do not use this, since JAX informs all of them when one receives SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def ask(number, frame):
        del frame
        if os.getpid() != owner or _asked:  # not handled in forked processes
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


def stop_if_asked() -> None:
    """End the run if SIGTERM was received; call this where everything is saved.

    Raises:
        Ended: if SIGTERM was received.
    """
    if _asked:
        raise Stopped


class Trial(NamedTuple):
    """The result of a method under a selection rule; all arrays have a leading axis of runs."""

    trace: loop.Trace
    """The evaluations of all candidates, or of the single result of a method without candidates."""
    selected: Any
    """The index of the selected candidate."""
    diverged: Any
    networks: Flat | None
    """The selected networks; None for methods that change only decisions, and for additional rules."""


class Prepared(NamedTuple):
    """The data and the trained networks."""

    splits: Split
    axes: Split
    facts: dict[str, Any]
    structure: Structure
    network: Network
    trained: training.Trained


class Outcome(NamedTuple):
    """All results of a run."""

    prepared: Prepared
    trials: dict[tuple[str, str], Trial]
    """Results by method and rule; the rule is `none` for methods that need no selection."""


def prepare(
    settings: Debias, folder: RunFolder, machine: Machine, console: Console, timings: Timings, ahead: BackgroundCompiler
) -> Prepared:
    """Load the data and train the networks, or resume where an earlier call was interrupted.

    Args:
        settings: the settings of the run.
        folder: the folder in which states are saved.
        machine: devices and lanes.
        console: the console that shows progress.
        timings: records the time of each stage.
        ahead: compiles the programs of `run` while networks train.

    Returns:
        The splits and the trained networks.
    """
    with timings.stage("loading"):
        splits, axes, structure, facts = _load(settings)
        check_methods(settings, structure, splits)
        splits = seeds.replicate(splits, machine.mesh)
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
    """Check before training that all methods support the groups and classes of the data.

    Raises:
        ValueError: if some do not; the message names them and the methods that do.
    """
    unfit = {}
    for name in (*settings.methods, *(settings.portfolio if "portfolio" in settings.methods else ())):
        known = about(name)
        if known is None:
            continue
        if len(structure.classes) > known.classes:
            unfit[name] = f"{len(structure.classes)} classes"
        elif len(structure.groups) > known.groups or (name == "group_thresholds" and splits.a.ndim == 2):
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
    ahead: BackgroundCompiler,
) -> Outcome:
    """Debias trained networks, or resume where an earlier call was interrupted.

    Args:
        settings: the settings of the run.
        prepared: the result of `prepare` for the same data, network and training.
        folder: the folder in which states are saved.
        machine: devices and lanes.
        console: the console that shows progress.
        timings: records the time of each stage.
        ahead: compiles the programs of this function ahead of time.

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
        evaluated = jax.block_until_ready(seeds.judge(task, None, logits))
        scored = programs.score(logits)
    trials: dict[tuple[str, str], Trial] = {}
    with _bars(console) as bars:
        for name in settings.methods:
            stop_if_asked()
            if METHODS.get(name) is Standard:
                trials[name, "none"] = _single(evaluated, about.networks)
            elif name == PORTFOLIO:
                for rule in rules:
                    trials[name, rule] = _portfolio([trials[one, rule] for one in settings.portfolio], rules[rule])
            elif name in METHODS and seeds.steps_of(settings.config(name), about.networks) == 0:
                for rule in own:
                    with timings.stage(name):
                        found = jax.block_until_ready(seeds.judge(task, rules[rule], logits))
                    trials[name, rule] = _single(found, about.networks)
            elif name in METHODS:
                # methods whose thresholds follow the rule also search by it, so no other rule can select for them
                blackbox = METHODS[name].threshold == "rule"
                found = _debias(about, name, logits, bars)
                for i, rule in enumerate(rules):
                    if i == 0 or not blackbox:
                        trials[name, rule] = _selected(found, None if i == 0 else rules[rule])
                _report_diverged(settings, found.diverged, name, console)
            elif POSTPROCESSORS[name].decide is None:
                for rule in own:
                    with timings.stage(name):
                        trials[name, rule] = about.by_group(rules[rule], scored)
            else:
                bar = bars.add_task(name, total=len(settings.runs), unit="networks", note="")

                def tick(bar=bar):
                    bars.update(bar, advance=1)
                    stop_if_asked()

                trace = postprocessing.run(
                    settings, measure, folder, name, scored, evaluated[0].valid.threshold, tick, timings
                )
                trials[name, "none"] = _single((trace, np.ones(len(settings.runs), bool)), None)
    return Outcome(prepared, trials)


@dataclasses.dataclass(frozen=True)
class _Context:
    """The inputs that all methods of a run share."""

    settings: Debias
    folder: RunFolder
    machine: Machine
    task: Task
    networks: Flat
    splits: Split
    axes: Split
    timings: Timings
    ahead: BackgroundCompiler

    def ready(self, stage: str) -> None:
        """Wait for the programs of a stage, if they are being compiled."""
        with self.timings.stage(stage), self.timings.waiting():
            self.ahead.wait(stage)

    def logits(self) -> Parts:
        """Compute the logits of the original networks."""
        return seeds.evaluate(self.task, self.networks, self.splits, axes=Axes(self.axes), machine=self.machine)

    def by_group(self, rule, scored: Scored) -> Trial:
        """Choose thresholds by group."""
        trace = jax.block_until_ready(programs.by_group(self.task.measure, rule, scored))
        return _single((trace, np.ones(len(self.settings.runs), bool)), None)


def _single(evaluated, networks: Flat | None) -> Trial:
    """Create a trial of one candidate."""
    trace, finite = jax.tree.map(np.asarray, evaluated)
    trace = jax.tree.map(lambda entry: entry[:, None], trace)
    return Trial(trace, np.zeros(finite.shape, np.int32), ~finite, networks)


def _selected(found: Trial, rule) -> Trial:
    """Return a method's trial with the candidates of its own run, or reselected by another rule."""
    if rule is None:
        return found
    return found._replace(selected=np.asarray(programs.select(rule, found.trace)), networks=None)


def _portfolio(members: list[Trial], rule) -> Trial:
    """Select by a rule the best of the candidates that several methods selected by that rule."""
    found = programs.best_of(rule, [trial.trace for trial in members], [trial.selected for trial in members])
    joined, which, selected = jax.tree.map(np.asarray, found)
    runs, networks = np.arange(len(which)), [trial.networks for trial in members if trial.networks is not None]

    def chosen(*leaves):
        return np.stack([np.asarray(leaf) for leaf in leaves])[which, runs]

    picked = jax.tree.map(chosen, *networks) if len(networks) == len(members) else None
    return Trial(joined, selected, chosen(*(trial.diverged for trial in members)), picked)


def fingerprint(settings: Debias) -> str:
    """Return the settings and versions that must be the same in all processes."""
    return f"{identity(settings)}, lanes {settings.lanes}, fairjax {fairjax.__version__}, jax {jax.__version__}"


def _load(settings: Debias) -> tuple[Split, Split, Structure, dict[str, Any]]:
    """Load the data and check that they are the same in all processes."""
    try:
        splits, axes, structure, facts = load(settings)
    except FileNotFoundError:
        hosts.check_same_everywhere("the data", "not there")
        raise
    if jax.process_count() > 1:
        numbers = hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(splits)))
        hosts.check_same_everywhere("the data", numbers.hexdigest())
    return splits, axes, structure, facts


class Lines:
    """Progress as plain lines for a log, at the beginning and the end of a stage and at intervals in between."""

    def __init__(self, console: Console, every: float = 10.0):
        """Print to a console, with at least `every` seconds between the lines of one stage."""
        self._console, self._every = console, every
        self._stages: list[dict[str, Any]] = []

    def __enter__(self):
        """Do nothing, since there is nothing to draw."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Do nothing, since there is nothing to draw."""

    def add_task(self, name: str, *, total: int, unit: str, note: str) -> int:
        """Begin a stage, like `rich.progress.Progress`, and return its number."""
        now = time.perf_counter()
        stage = {"name": name, "total": total, "unit": unit, "note": note, "completed": 0}
        self._stages.append({**stage, "begun": now, "printed": now, "ended": False})
        self._print(f"{name}: begins, {total} {unit}" + (f" at most, {note}" if note else ""))
        return len(self._stages) - 1

    def update(self, number: int, *, advance: int = 0, **changes: Any) -> None:
        """Record progress, and print a line if the stage ends or enough time has passed."""
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
    """Return progress bars for a terminal, and plain lines elsewhere, where a bar would be drawn only at its end."""
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
    config, count = settings.training, len(settings.runs)
    keys = seeds.replicate(fold_in_all(keys_of(settings), TRAINING_STREAM), machine.mesh)
    bar = bars.add_task("training", total=config.epochs, unit="epochs", note=f"{count} networks left")

    def ready(state: training.Trained) -> None:
        narrow = seeds.narrow(machine)
        if narrow != machine and count > 2 * machine.mesh.size:
            shapes = jax.eval_shape(lambda state: state, state)
            options = {"axes": Axes(axes), "machine": narrow, "epochs": config.check_every}
            program = functools.partial(lower_and_compile, seeds.advance_training, network, config, splits, shapes)
            ahead.add(NARROW, lambda: program(mesh=machine.mesh, **options))
        _compile_ahead(settings, folder, machine, Task(network, measure), splits, axes, state.best, ahead)

    def before(state: training.Trained) -> None:
        if seeds.few_left(state, machine):
            with timings.waiting():
                ahead.wait(NARROW)

    def show(state: training.Trained) -> None:
        left = int(np.sum(~np.asarray(state.done)))
        done = int(np.max(np.asarray(state.epoch)))
        # training usually stops early, so the maximum number of epochs is not needed
        bars.update(bar, completed=done, total=config.epochs if left else done, note=f"{left} networks left")

    drive = _drive(settings, machine, folder.stage("training"), "training", timings, show)
    drive = functools.partial(drive, ready=ready, before=before, after=ahead.begin)
    return seeds.train(network, config, keys, splits, axes=Axes(axes), machine=machine, drive=drive)


def _compile_ahead(
    settings, folder, machine, task: Task, splits, axes, networks: Flat, ahead: BackgroundCompiler
) -> None:
    """Queue the compilation of the programs of `run`, in the order in which it calls them."""
    rule, rules = settings.selection.build(), settings.selection.rules
    keys = jax.eval_shape(lambda: keys_of(settings))
    on_mesh = functools.partial(lower_and_compile, mesh=machine.mesh)
    where = {"axes": Axes(axes), "machine": machine.for_parts()}
    shapes: dict[str, Any] = {}

    def evaluation():
        shapes["logits"] = on_mesh(seeds.evaluate, task, networks, splits, **where)
        on_mesh(seeds.judge, task, None, shapes["logits"])
        on_mesh(programs.score, shapes["logits"])

    def method(name):
        chosen = settings.config(name)
        of_method = _task(task, chosen, rules.values(), rule)
        by = rule if chosen.threshold == "rule" else None
        evaluated = on_mesh(seeds.judge, of_method, by, shapes["logits"])
        args = (chosen, of_method, rule)
        begin = (*args, keys, networks, splits, evaluated)
        if begun[name]:
            progress = jax.eval_shape(functools.partial(seeds.begin_debiasing, *begin[:3], **where), *begin[3:])
        else:
            progress = on_mesh(seeds.begin_debiasing, *begin, **where)
        steps = seeds.steps_of(settings.config(name), networks)
        on_mesh(seeds.advance_debiasing, *args, splits, progress, **where, steps=min(seeds.chunk_of(steps), steps))

    stepping = [
        name for name in settings.methods if name in METHODS and seeds.steps_of(settings.config(name), networks)
    ]
    begun = {name: folder.stage(name).begun() for name in stepping}
    ahead.add("evaluation", evaluation)
    for name in stepping:
        ahead.add(name, functools.partial(method, name))


def _task(task: Task, method: Method, rules: Iterable[Any], rule: Any) -> Task:
    """Return the task of a method, which evaluates train data too if a rule that selects its candidates needs them."""
    return task_of(task.network, task.measure, *([rule] if method.threshold == "rule" else rules))


def _debias(about: _Context, name: str, logits: Parts, bars) -> Trial:
    settings, machine, timings = about.settings, about.machine, about.timings
    method, rule = settings.config(name), settings.selection.build()
    task = _task(about.task, method, settings.selection.rules.values(), rule)
    keys = seeds.replicate(fold_in_all(keys_of(settings), method.random_stream()), machine.mesh)
    total = seeds.steps_of(method, about.networks) * method.members
    bar = bars.add_task(name, total=total, unit="candidates", note="")
    about.ready(name)

    def show(state: seeds.Done) -> None:
        bars.update(bar, completed=seeds.steps_done(state) * method.members)

    drive = _drive(settings, machine, about.folder.stage(name), name, timings, show)
    where = {"axes": Axes(about.axes), "machine": machine, "drive": drive}
    progress, trace = seeds.run(method, task, rule, keys, about.networks, about.splits, logits, **where)
    return Trial(trace, np.asarray(progress.selected), np.asarray(progress.diverged), progress.best)


def _drive(
    settings: Debias, machine: Machine, stage: SavedStates, name: str, timings: Timings, show: Callable[[Any], None]
):
    """Return a function that drives a stage: it shows progress, saves states at intervals and at the end, and may stop.

    The result is a `fairjax.seeds.Drive` with three additional hooks: `ready(state)` is called at the beginning,
    `before(state)` before every chunk, and `after()` once a chunk was started, while it is still running.
    """

    def nothing(state: Any = None) -> None:
        del state

    def drive(begin, advance, finished, *, ready=nothing, before=nothing, after=nothing):
        with timings.stage(name):
            state = begin(stage.begun())  # if there is a saved state, `begin` returns shapes only
        ready(state)
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
        show(state)
        while not finished(state):
            with timings.stage(name):
                before(state)
                state = advance(state)
                after()
                state = jax.block_until_ready(state)
            show(state)
            number, unsaved = number + 1, True
            stop = hosts.preempted(next(_EDGES)) or bool(_asked)
            if stop or hosts.broadcast_flag(time.perf_counter() - saved_at >= settings.save_every):
                save()
                saved_at, unsaved = time.perf_counter(), False
            if stop:
                stop_if_asked()
                raise KeyboardInterrupt
        if unsaved:
            save()
        return state

    return drive


def _report_diverged(settings: Debias, diverged: Any, stage: str, console: Console) -> None:
    """Print the seeds that were frozen because their numbers were no longer finite."""
    labels = [f"{seed}" if value is None else f"{seed} at {value:g}" for seed, value in settings.runs]
    bad = [label for label, flag in zip(labels, np.asarray(diverged), strict=True) if flag]
    if bad:
        console.print(
            f"{stage}: the outputs of seeds {', '.join(bad)} stopped being finite; these seeds were "
            "frozen there and keep their best network so far",
            style="yellow",
            markup=False,
        )
