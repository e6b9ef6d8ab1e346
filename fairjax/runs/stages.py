"""Each method of a run as a stage: what it compiles ahead, and what it computes."""

import dataclasses
import functools
import zlib
from collections.abc import Iterator
from typing import Any, ClassVar

import jax
import numpy as np

from fairjax import seeds
from fairjax.checkpoint import first_line
from fairjax.debiasing import task_of
from fairjax.methods import METHODS, Parts, Standard, Task
from fairjax.nn.flat import FlatVariables
from fairjax.runs import postprocessing, programs
from fairjax.runs.context import RunContext
from fairjax.runs.drive import SavingDrive
from fairjax.runs.labels import PORTFOLIO
from fairjax.runs.loading import fold_in_all, keys_of
from fairjax.runs.postprocessors import POSTPROCESSORS
from fairjax.runs.programs import Scored
from fairjax.runs.signals import stop_if_asked
from fairjax.runs.trials import Prepared, Trial, best_of_trials
from fairjax.seeds import Axes, Call, execute, shapes_only
from fairjax.types import Split

EVALUATION = "evaluation"
"""Name of the stage that evaluates the original networks."""


@dataclasses.dataclass(frozen=True)
class Originals:
    """The original networks and their evaluations, which all stages share."""

    run: RunContext
    """The run."""
    task: Task
    """Network and measure."""
    networks: FlatVariables
    """The trained networks."""
    splits: Split
    """One split per seed."""
    axes: Axes
    """vmap axes of the splits."""
    logits: Parts
    """Logits on all parts."""
    evaluated: Any
    """Evaluations at the thresholds with the best balanced accuracy, and whether the outputs are finite."""
    scored: Scored
    """Scores on the valid and test parts."""

    @classmethod
    def evaluate(
        cls, run: RunContext, task: Task, networks: FlatVariables, splits: Split, axes: Axes, call: Call = execute
    ) -> "Originals":
        """Evaluate the original networks, or with another `call` compile the programs for that."""
        logits = call(seeds.evaluate, task, networks, splits, axes=axes, machine=run.machine.for_parts())
        evaluated, scored = call(seeds.evaluate_logits, task, None, logits), call(programs.score, logits)
        return cls(run, task, networks, splits, axes, logits, evaluated, scored)

    @property
    def rules(self) -> dict[str, Any]:
        """All rules of the run by name, the main rule first."""
        return self.run.settings.selection.rules

    @property
    def rules_of_thresholds(self) -> dict[str, Any]:
        """The rules that can choose a threshold, which is chosen on validation data."""
        return {name: rule for name, rule in self.rules.items() if rule.data == "valid"}


Trials = dict[tuple[str, str], Trial]
"""Results by method and rule."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """A method of a run."""

    name: str
    """The name of the method."""
    compiles: ClassVar[bool] = False
    """Whether the stage has programs of its own to compile ahead."""

    def compile(self, originals: Originals, call: Call, saved: bool) -> None:
        """Compile the programs of the stage.

        Args:
            originals: the shapes of the original networks and their evaluations.
            call: compiles a program and returns the shapes of its results.
            saved: whether the stage will begin from a saved state.
        """

    def compute(self, originals: Originals, progress: Any, earlier: Trials) -> Trials:
        """Compute the results of the method.

        Args:
            originals: the original networks and their evaluations.
            progress: progress bars or lines.
            earlier: the results of the stages before this one.

        Returns:
            The results by method and rule; the rule is `none` if nothing is selected.
        """
        raise NotImplementedError


class Unchanged(Stage):
    """The original networks at their thresholds."""

    def compute(self, originals: Originals, progress: Any, earlier: Trials) -> Trials:
        """Return the evaluations of the original networks."""
        trace, finite = originals.evaluated
        return {(self.name, "none"): Trial.of_one(trace, finite, originals.networks)}


class Thresholds(Stage):
    """A method without steps: the original networks at thresholds chosen by each rule."""

    def compute(self, originals: Originals, progress: Any, earlier: Trials) -> Trials:
        """Choose the thresholds."""
        trials = {}
        for name, rule in originals.rules_of_thresholds.items():
            with originals.run.timings.stage(self.name):
                evaluated = seeds.evaluate_logits(originals.task, rule, originals.logits)
                trace, finite = jax.block_until_ready(evaluated)
            trials[self.name, name] = Trial.of_one(trace, finite, originals.networks)
        return trials


class Steps(Stage):
    """A method that proposes candidates step by step."""

    compiles = True

    def _debiasing(self, run: RunContext, task: Task, axes: Axes) -> seeds.Debiasing:
        """Return the stage of all seeds; train data are evaluated too if a rule that selects candidates needs them."""
        method, selection = run.settings.config(self.name), run.settings.selection
        rule = selection.build()
        task = task_of(
            task.network, task.measure, *([rule] if method.threshold == "rule" else selection.rules.values())
        )
        return seeds.Debiasing(method, task, rule, axes, run.machine.for_parts())

    def compile(self, originals: Originals, call: Call, saved: bool) -> None:
        """Compile the first state, unless a saved one will be restored, and the first chunk of steps."""
        run, networks, splits = originals.run, originals.networks, originals.splits
        stage = self._debiasing(run, originals.task, originals.axes)
        keys = jax.eval_shape(lambda: keys_of(run.settings))
        progress, _ = stage.begin(keys, networks, splits, originals.logits, shapes_only if saved else call)
        steps = stage.steps(networks)
        stage.advance(splits, progress, steps=min(seeds.chunk_of(steps), steps), call=call)

    def compute(self, originals: Originals, progress: Any, earlier: Trials) -> Trials:
        """Run the method on all seeds."""
        run = originals.run
        stage = self._debiasing(run, originals.task, originals.axes)
        method, rules = stage.method, originals.rules
        stream = fold_in_all(keys_of(run.settings), method.random_stream())
        keys = seeds.replicate(stream, run.machine.mesh)
        total = stage.steps(originals.networks) * method.members
        bar = progress.add_task(self.name, total=total, unit="candidates", note="")
        with run.timings.stage(self.name), run.timings.waiting():
            run.compiler.wait(self.name)

        def show(state: seeds.DebiasingState) -> None:
            progress.update(bar, completed=state.steps * method.members)

        drive = SavingDrive(run, self.name, show)
        done = stage.run(keys, originals.networks, originals.splits, originals.logits, drive)
        last = done.progress
        trial = Trial(done.trace, np.asarray(last.selected), np.asarray(last.diverged), last.best)
        run.report_diverged(trial.diverged, self.name)
        first, *others = rules
        # methods whose thresholds follow the rule also search by it, so no other rule can select for them
        others = [] if method.threshold == "rule" else others
        reselected = {(self.name, name): trial.reselected(rules[name]) for name in others}
        return {(self.name, first): trial, **reselected}


class Portfolio(Stage):
    """The best of the candidates that several methods selected."""

    def compute(self, originals: Originals, progress: Any, earlier: Trials) -> Trials:
        """Select by each rule."""
        members = originals.run.settings.portfolio
        return {
            (self.name, name): best_of_trials([earlier[member, name] for member in members], rule)
            for name, rule in originals.rules.items()
        }


class GroupThresholds(Stage):
    """A threshold per group, for the scores of the original networks."""

    def compute(self, originals: Originals, progress: Any, earlier: Trials) -> Trials:
        """Choose the thresholds by each rule."""
        trials, finite = {}, np.ones(len(originals.run.settings.runs), bool)
        for name, rule in originals.rules_of_thresholds.items():
            with originals.run.timings.stage(self.name):
                trace = jax.block_until_ready(programs.by_group(originals.task.measure, rule, originals.scored))
            trials[self.name, name] = Trial.of_one(trace, finite)
        return trials


class MappedPostprocessing(Stage):
    """A postprocessor that one program applies to the scores of all original networks."""

    def compute(self, originals: Originals, progress: Any, earlier: Trials) -> Trials:
        """Apply the postprocessor."""
        run = originals.run
        keys = fold_in_all(keys_of(run.settings), zlib.crc32(self.name.encode()))
        # preprocessed train rows have other shares of groups and labels than the population
        counted = originals.logits.valid if run.settings.preprocess else originals.logits.train
        with run.timings.stage(self.name):
            trace = programs.postprocess(
                originals.task.measure,
                POSTPROCESSORS[self.name].program,
                seeds.replicate(keys, run.machine.mesh),
                counted,
                originals.scored,
                originals.evaluated[0].valid.threshold,
            )
            trace = jax.block_until_ready(trace)
        return {(self.name, "none"): Trial.of_one(trace, np.ones(len(run.settings.runs), bool))}


class Postprocessing(Stage):
    """A postprocessor of AIF360, for the decisions or scores of the original networks."""

    def compute(self, originals: Originals, progress: Any, earlier: Trials) -> Trials:
        """Apply the postprocessor to all networks, in parallel processes."""
        run = originals.run
        count = len(run.settings.runs)
        bar = progress.add_task(self.name, total=count, unit="networks", note="")

        def tick():
            progress.update(bar, advance=1)
            stop_if_asked()

        thresholds = originals.evaluated[0].valid.threshold
        trace = postprocessing.apply(run, self.name, originals.task.measure, originals.scored, thresholds, tick)
        return {(self.name, "none"): Trial.of_one(trace, np.ones(count, bool))}


def stages_of(run: RunContext, networks: FlatVariables) -> Iterator[Stage]:
    """Return the stages of a run in the order of its methods.

    Args:
        run: the run.
        networks: the trained networks, or their shapes, on which the number of steps of a method may depend.
    """
    for name in run.settings.methods:
        if name == PORTFOLIO:
            yield Portfolio(name)
        elif name in METHODS:
            steps = seeds.steps_of(run.settings.config(name), networks)
            yield Steps(name) if steps else Unchanged(name) if METHODS[name] is Standard else Thresholds(name)
        elif POSTPROCESSORS[name].program is not None:
            yield MappedPostprocessing(name)
        else:
            yield GroupThresholds(name) if POSTPROCESSORS[name].decide is None else Postprocessing(name)


def compile_ahead(run: RunContext, task: Task, splits: Split, axes: Axes, networks: FlatVariables, call: Call) -> None:
    """Queue the compilation of all stages in the order in which `debias_all` computes them.

    Args:
        run: the run.
        task: network and measure.
        splits: one split per seed.
        axes: vmap axes of the splits.
        networks: networks, or their shapes.
        call: compiles a program and returns the shapes of its results.
    """
    shapes: dict[str, Originals] = {}

    def evaluate():
        shapes[EVALUATION] = Originals.evaluate(run, task, networks, splits, axes, call)

    run.compiler.add(EVALUATION, evaluate)
    for stage in stages_of(run, networks):
        if stage.compiles:
            saved = run.folder.stage(stage.name).has_checkpoint()  # not in the other thread: all processes ask in turn
            work = functools.partial(_compile, stage, shapes, call, saved)
            run.compiler.add(stage.name, work)


def check_stages(run: RunContext, task: Task, splits: Split, axes: Axes, networks: FlatVariables) -> None:
    """Check that all methods can be applied to networks, by tracing their programs.

    Raises:
        ValueError: naming the method that cannot, and why.
    """
    shapes = Originals.evaluate(run, task, networks, splits, axes, shapes_only)
    for stage in stages_of(run, networks):
        try:
            stage.compile(shapes, shapes_only, saved=False)
        except (TypeError, ValueError) as error:
            reason, flag = first_line(error), f"--{stage.name.replace('_', '-')}.layers"
            way_out = f"choose with {flag} or leave" if reason.startswith("layers must be") else "leave"
            raise ValueError(f"{stage.name} cannot be applied: {reason}; {way_out} the method out") from error


def _compile(stage: Stage, shapes: dict[str, Originals], call: Call, saved: bool) -> None:
    stage.compile(shapes[EVALUATION], call, saved)


def evaluate_originals(run: RunContext, prepared: Prepared) -> Originals:
    """Evaluate the original networks."""
    task = Task(prepared.network, prepared.structure.measure(run.settings.measure))
    with run.timings.stage(EVALUATION), run.timings.waiting():
        run.compiler.wait(EVALUATION)
    with run.timings.stage(EVALUATION):
        args = (task, prepared.trained.best, prepared.splits, Axes(prepared.axes))
        originals = Originals.evaluate(run, *args)
        jax.block_until_ready((originals.logits, originals.evaluated))
        return originals
