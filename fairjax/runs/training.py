"""Load the data and train the networks of a run."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import numpy as np

from fairjax import seeds
from fairjax.checkpoint import first_line
from fairjax.losses import TERMS, Loss, Term
from fairjax.methods import METHODS, Method, Task
from fairjax.nn import from_linen
from fairjax.nn.flat import FlatVariables
from fairjax.runs import hosts
from fairjax.runs.compiler import lower_and_compile
from fairjax.runs.composed_losses import with_measures
from fairjax.runs.context import RunContext
from fairjax.runs.drive import SavingDrive
from fairjax.runs.given_network import EXAMPLE_ROWS, Given
from fairjax.runs.labels import PORTFOLIO, about
from fairjax.runs.loading import TRAINING_STREAM, fold_in_all, keys_of, load
from fairjax.runs.progress import progress_of
from fairjax.runs.settings import Settings
from fairjax.runs.specification import registered_name
from fairjax.runs.stages import check_stages, compile_ahead
from fairjax.runs.structure import Structure
from fairjax.runs.trials import GivenNetworks, Prepared
from fairjax.seeds import Axes, shapes_only
from fairjax.training import TrainingState
from fairjax.types import Inputs, Split

SMALL_GROUPS = "the last few networks in training"
"""Name of the program for smaller groups of networks, which is compiled while the first epochs run."""


Data = tuple[Split, Split, Structure, dict[str, Any]]
"""The splits of all seeds, their vmap axes, groups and classes, and facts about the data."""


def prepare(
    run: RunContext,
    data: Data | None = None,
    given: Given | None = None,
    ahead: Callable[..., None] = compile_ahead,
) -> Prepared:
    """Load the data and train the networks, or resume where an earlier call was interrupted.

    Args:
        run: the run.
        data: the data, if they were loaded before.
        given: a trained network, which takes the place of all trained networks.
        ahead: queues the programs that the run's background compiler compiles while networks train; by default those
            of `debias_all`.

    Returns:
        The splits and the trained networks.

    Raises:
        ValueError: if the data cannot be used, or a method does not support its groups and classes.
        FileNotFoundError: if there is no data file.
    """
    settings, mesh = run.settings, run.machine.mesh
    if settings.network.file is not None and given is None:
        raise ValueError(f"the network of {settings.network.file} is debiased by `debias` alone: leave it out here")
    with run.timings.stage("loading"):
        splits, axes, structure, facts = load_data(settings) if data is None else data
        check_methods(settings, structure, overlapping=splits.a.ndim - (axes.a is not None) == 2)
        check_terms(settings, structure)
        splits = seeds.replicate(splits, mesh)
    describe_data(run, structure, facts, given.warnings if given else ())
    network = given.network if given else from_linen(settings.module(len(structure.classes)))
    task = Task(network, structure.measure(settings.measure))
    if given:
        return Prepared(splits, axes, facts, structure, network, _copies(run, task, splits, Axes(axes), given), given)
    trained = _train(run, task, splits, Axes(axes), _loss(settings, structure), ahead)
    run.report_diverged(trained.diverged, "training")
    return Prepared(splits, axes, facts, structure, network, trained)


def describe_data(run: RunContext, structure: Structure, facts: dict[str, Any], warnings: Sequence[str] = ()) -> None:
    """Print the size of the data, the number of networks, how groups are compared, and warnings."""
    settings = run.settings
    run.console.print(
        f"{settings.dataset}: {facts['rows']:,} rows, {facts['features']} features, {len(settings.runs)} networks on "
        f"{run.machine.mesh.size} {jax.devices()[0].platform} device(s)"
    )
    for line in structure.explain(settings.measure):
        run.console.print(line, soft_wrap=True, markup=False, highlight=False)
    for line in (*facts.get("warnings", ()), *warnings):
        run.console.print(f"warning: {line}", soft_wrap=True, markup=False, highlight=False, style="yellow")


def check_methods(settings: Settings, structure: Structure, *, overlapping: bool) -> None:
    """Check before training that all methods support the groups and classes of the data.

    Args:
        settings: the settings of the run.
        structure: groups and classes.
        overlapping: whether a row may belong to several groups.

    Raises:
        ValueError: if some do not; the message names them and the methods that do.
    """
    unfit = {}
    for name in (*settings.methods, *(settings.portfolio if PORTFOLIO in settings.methods else ())):
        known = about(name)
        if known is None:
            continue
        if len(structure.classes) > known.classes:
            unfit[name] = f"{len(structure.classes)} classes"
        elif len(structure.groups) > known.groups or (overlapping and not known.overlapping):
            unfit[name] = "groups that overlap" if overlapping else f"{len(structure.groups)} groups"
    if unfit:
        others = [name for name in settings.portfolio if name not in unfit]
        fit = [name for name in settings.methods if name not in unfit and (name != PORTFOLIO or others)]
        words = ["--methods", *(fit or Settings.methods)]
        words += ["--portfolio", *others] if PORTFOLIO in fit else []
        what = "; ".join(f"{name} does not support {reason}" for name, reason in unfit.items())
        raise ValueError(f"{what}: leave them out, as in {' '.join(words)}")


def check_terms(settings: Settings, structure: Structure) -> None:
    """Check before training that all terms of losses support the groups and classes of the data.

    Raises:
        ValueError: naming the terms that do not.
    """
    counts = {"groups": len(structure.groups), "classes": len(structure.classes)}
    terms = {"loss.terms": settings.loss.build().terms}
    terms |= {f"{name}.terms": _terms_of(settings.config(name)) for name in settings.methods if name in METHODS}
    unfit = [
        f"{registered_name(TERMS, term)} does not support {count} {kind}: leave it out of --{setting}"
        for setting, entries in terms.items()
        for term in entries
        for kind, count in counts.items()
        if count > getattr(term, kind)
    ]
    if unfit:
        raise ValueError("; ".join(unfit))


def _terms_of(method: Method) -> tuple[Term, ...]:
    """Return the terms of the losses that are hyperparameters of a method."""
    values = [getattr(method, field.name) for field in dataclasses.fields(cast(Any, method))]
    return tuple(term for value in values if isinstance(value, Loss) for term in value.terms)


def _loss(settings: Settings, structure: Structure) -> Loss:
    """Return the loss of training, with measures for the groups and classes of the data."""
    loss = settings.loss.build()
    return with_measures(loss, structure, settings.measure) if loss.terms else loss


def _check_network(run: RunContext, task: Task, stage: seeds.Fitting, keys: Any, splits: Split) -> None:
    """Check that the network shows what the terms of losses look at, by tracing the programs that use them.

    Raises:
        ValueError: if it does not; the message names the setting, and what to do.
    """
    settings = run.settings
    composed = [name for name in settings.methods if name in METHODS and _terms_of(settings.config(name))]
    if not (stage.loss.terms or composed):
        return
    try:
        state = stage.begin(keys, splits, shapes_only)
        if stage.loss.terms:
            stage.advance(splits, state, call=shapes_only)
    except (TypeError, ValueError) as error:
        raise ValueError(f"loss.terms cannot be used: {first_line(error)}") from error
    if composed:
        chosen = dataclasses.replace(settings, methods=tuple(composed))
        check_stages(dataclasses.replace(run, settings=chosen), task, splits, stage.axes, state.best)


def example_of(data: Data) -> Inputs:
    """Return a few rows, standardised if the networks get them so."""
    splits, axes, _, _ = data

    def rows(leaf: Any) -> np.ndarray:
        return np.array((leaf if axes.x is None else leaf[0])[:EXAMPLE_ROWS])

    if splits.mean is None or splits.scale is None:
        return jax.tree.map(rows, splits.x)
    return (rows(splits.x) - np.asarray(splits.mean[0])) / np.asarray(splits.scale[0])


def _copies(run: RunContext, task: Task, splits: Split, axes: Axes, given: Given) -> GivenNetworks:
    """Copy a given network for every run, and check that all methods can be applied to it before any begins."""
    count, mesh = len(run.settings.runs), run.machine.mesh

    def copies(leaf: Any) -> np.ndarray:
        return np.broadcast_to(np.asarray(leaf), (count, *np.shape(leaf)))

    networks = seeds.replicate(jax.tree.map(copies, FlatVariables.ravel(given.variables)), mesh)
    check_stages(run, task, splits, axes, networks)
    compile_ahead(run, task, splits, axes, networks, functools.partial(lower_and_compile, mesh=mesh))
    run.compiler.start()
    return GivenNetworks(networks, np.zeros(count, np.int32))


def load_data(settings: Settings) -> Data:
    """Load the data and check that they are the same in all processes."""
    try:
        splits, axes, structure, facts = load(settings)
    except FileNotFoundError:
        hosts.check_same_on_all_processes("the data", "not found")
        raise
    if jax.process_count() > 1:
        numbers = hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(splits)))
        hosts.check_same_on_all_processes("the data", numbers.hexdigest())
    return splits, axes, structure, facts


def _train(
    run: RunContext, task: Task, splits: Split, axes: Axes, loss: Loss, ahead: Callable[..., None]
) -> TrainingState:
    config, count, mesh = run.settings.training, len(run.settings.runs), run.machine.mesh
    stage = seeds.Fitting(task.network, config, axes, run.machine, seeds.replicate(loss, mesh))
    keys = seeds.replicate(fold_in_all(keys_of(run.settings), TRAINING_STREAM), mesh)
    _check_network(run, task, stage, keys, splits)

    def ready(state: TrainingState) -> None:
        call = functools.partial(lower_and_compile, mesh=mesh)
        if stage.small != stage.machine and count > 2 * mesh.size:
            shapes = jax.eval_shape(lambda state: state, state)
            run.compiler.add(SMALL_GROUPS, lambda: stage.advance(splits, shapes, small_groups=True, call=call))
        ahead(run, task, splits, axes, state.best, call)

    def before(state: TrainingState) -> None:
        if stage.few_unfinished(state):
            with run.timings.waiting():
                run.compiler.wait(SMALL_GROUPS)

    with progress_of(run.console) as progress:
        bar = progress.add_task("training", total=config.epochs, unit="epochs", note=f"{count} networks left")

        def show(state: TrainingState) -> None:
            left = int(np.sum(~np.asarray(state.done)))
            done = int(np.max(np.asarray(state.epoch)))
            # training usually stops early, so the maximum number of epochs is not needed
            progress.update(bar, completed=done, total=config.epochs if left else done, note=f"{left} networks left")

        drive = SavingDrive(run, "training", show, ready, before, run.compiler.start)
        return stage.run(keys, splits, drive)
