"""The networks that are explained, trained or loaded, and the data that they are explained on."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from rich.console import Console

from fairjax import seeds
from fairjax.methods import Task
from fairjax.nn import Network, from_linen
from fairjax.runs.context import RunContext, open_run
from fairjax.runs.detecting.columns import Columns, columns_of
from fairjax.runs.detecting.saved import SavedRun, load_run
from fairjax.runs.detecting.settings import DetectSettings, folder_identity
from fairjax.runs.folder import RunFolder
from fairjax.runs.given_network import given_network
from fairjax.runs.loading import keys_of
from fairjax.runs.stages import Originals
from fairjax.runs.structure import Structure
from fairjax.runs.training import Data, describe_data, example_of, load_data, prepare
from fairjax.runs.trials import Prepared
from fairjax.seeds import Axes
from fairjax.types import Part, Rows, Split, Variables

DETECTION = 0x64657465
"""Number folded into the key of a seed for the draws of detection."""

Kind = Literal["table", "images", "other"]


@dataclasses.dataclass(frozen=True)
class Subject:
    """Networks of all seeds, and their splits."""

    run: RunContext
    """The run: its settings, folder, devices and console."""
    network: Network
    """The network's functions."""
    variables: Variables
    """Variables with a leading axis of seeds."""
    splits: Split
    """One split per seed."""
    axes: Split
    """vmap axes of the splits."""
    structure: Structure
    """Groups and classes."""
    facts: dict[str, Any]
    """Facts about the data."""
    columns: Columns | None
    """Columns of the features, if they are a table."""
    epochs: tuple[int, ...] = ()
    """Number of epochs that each network was trained here."""
    selected: tuple[float, ...] | None = None
    """The threshold that `debias` selects for each network; None if it is not known."""

    @property
    def settings(self) -> DetectSettings:
        """The settings."""
        return self.run.settings  # type: ignore[return-value]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds in the order of the variables."""
        return self.settings.seeds

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The threshold of the scores of each network."""
        own = self.settings.threshold
        if own is None and self.selected is not None:
            return self.selected
        return (0.5 if own is None else own,) * len(self.seeds)

    @property
    def kind(self) -> Kind:
        """The kind of data."""
        leaves = jax.tree.leaves(self.splits.x)
        rank = np.ndim(leaves[0]) - (self.axes.x == 0)
        return "table" if self.columns is not None else "images" if len(leaves) == 1 and rank == 4 else "other"

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups in the order of their codes."""
        names = self.structure.groups
        if names == Structure().groups and self.facts.get("protected"):
            return tuple(f"{self.facts['protected']} = {code}" for code in (0, 1))
        return names

    def over_seeds(self, function: Callable[..., Any], *each: Any) -> Any:
        """Compute a function of one seed for all seeds, on all devices.

        Args:
            function: `function(variables, split, key, *each)`, which returns a tree of arrays.
            *each: further arguments, with a leading axis of seeds.

        Returns:
            The results as NumPy arrays with a leading axis of seeds.
        """
        keys = jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(key, DETECTION), self.settings.key))(
            keys_of(self.settings)
        )
        arguments = (self.variables, self.splits, keys, *each)
        axes = (0, self.axes, 0, *(0 for _ in each))
        size = self.settings.group_size or self.run.machine.group_size
        mesh = mesh_of(self.run)

        @jax.jit
        def all_seeds(*arguments: Any) -> Any:
            return seeds.over_seeds(function, arguments, axes, mesh=mesh, group_size=size)

        return jax.tree.map(np.asarray, all_seeds(*arguments))

    def of_seed(self, number: int) -> tuple[Variables, Split]:
        """Return the variables and the split of one seed by its position."""
        split = Split(
            *(
                None if leaf is None else leaf if axis is None else leaf[number]
                for leaf, axis in zip(self.splits, self.axes, strict=True)
            )
        )  # type: ignore[arg-type]
        return jax.tree.map(lambda leaf: leaf[number], self.variables), split

    def part_of(self, number: int, part: Part) -> Rows:
        """Return the rows of a part of one seed by its position, as NumPy arrays."""
        return jax.tree.map(np.asarray, self.of_seed(number)[1].part(part))

    def frame(self, number: int, columns: Any) -> pd.DataFrame:
        """Return a table whose first column is the seed, given by its position."""
        made = pd.DataFrame(columns)
        made.insert(0, "seed", self.seeds[number])
        return made


def mesh_of(run: RunContext) -> jax.sharding.Mesh:
    """Return the devices on which detection is computed: those of the run, but a single one on CPU.

    Detection has been observed to deadlock on several CPU devices of one process, most likely because of batches of
    LAPACK calls, which `fairjax.linalg` avoids now. A single device uses all cores, too.
    """
    mesh = run.machine.mesh
    is_cpu = mesh.devices.flat[0].platform == "cpu"
    return seeds.mesh([mesh.devices.flat[0]]) if is_cpu else mesh


@contextmanager
def open_subject(settings: DetectSettings, console: Console) -> Iterator[Subject]:
    """Train networks, or load those of a run, and open the folder of results for the time of the block.

    Args:
        settings: the settings.
        console: the console that shows progress.

    Raises:
        ValueError, OSError: if data, networks or folders cannot be used; the message says what to do.
    """
    if settings.network.file is not None:
        make, settings, networks = _given(settings)
    elif settings.saved_network is not None:
        saved = load_run(settings)
        make, settings, networks = functools.partial(_loaded, saved=saved), saved.settings, {"files": saved.checksum}
    else:
        make, networks = _trained, None
    identity = folder_identity(settings, networks)
    with closing(RunFolder(settings.folder, identity)) as folder, open_run(settings, folder, console) as run:
        yield make(run)


def _trained(run: RunContext) -> Subject:
    """Train the networks, the same ones as `debias` with the same settings."""
    prepared = prepare(run, ahead=_nothing_ahead)
    epochs = tuple(np.asarray(prepared.trained.epoch).tolist())
    variables = jax.tree.map(np.asarray, prepared.trained.best).variables()
    return _subject(
        run,
        network=prepared.network,
        variables=jax.tree.map(jnp.asarray, variables),
        splits=prepared.splits,
        axes=prepared.axes,
        structure=prepared.structure,
        facts=prepared.facts,
        epochs=epochs,
        selected=_selected(run, prepared),
    )


def _selected(run: RunContext, prepared: Prepared) -> tuple[float, ...] | None:
    """Return the threshold that `debias` selects for each network; None if there are more classes, or one is set."""
    if len(prepared.structure.classes) != 2 or run.settings.threshold is not None:  # type: ignore[attr-defined]
        return None
    task = Task(prepared.network, prepared.structure.measure(run.settings.measure))
    originals = Originals.evaluate(run, task, prepared.trained.best, prepared.splits, Axes(prepared.axes))
    return tuple(np.asarray(originals.evaluated[0].valid.threshold, float).tolist())


def _nothing_ahead(*arguments: Any) -> None:
    """Compile nothing while networks train."""


def _loaded(run: RunContext, saved: SavedRun) -> Subject:
    """Recompute the splits of a run for its saved networks."""
    settings = saved.settings
    with run.timings.stage("loading"):
        data = load_data(settings)
    describe_data(run, *data[2:])
    places = np.array([saved.seeds.index(seed) for seed in settings.seeds])
    variables = jax.tree.map(lambda leaf: leaf[places], saved.variables)
    known = None if saved.thresholds is None else tuple(saved.thresholds[place] for place in places)
    return _of_data(run, data, from_linen(saved.module), variables, known)


def _given(settings: DetectSettings) -> tuple[Callable[[RunContext], Subject], DetectSettings, dict[str, Any]]:
    """Bring the user's network, which is explained on the test parts of all seeds."""
    source = settings.network.source
    assert source is not None
    data = load_data(settings)
    options: Any = {"columns": data[3].get("columns", ()), "output": settings.network.output}
    given = given_network(source, example_of(data), data[2].classes, **options)

    def make(run: RunContext) -> Subject:
        describe_data(run, *data[2:], given.warnings)
        count = len(settings.seeds)
        variables = jax.tree.map(
            lambda leaf: jnp.broadcast_to(jnp.asarray(leaf), (count, *np.shape(leaf))), given.variables
        )
        return _of_data(run, data, given.network, variables)

    return make, settings, given.identity


def _of_data(
    run: RunContext, data: Data, network: Network, variables: Variables, selected: tuple[float, ...] | None = None
) -> Subject:
    splits, axes, structure, facts = data
    made: Any = {"network": network, "variables": variables, "structure": structure, "selected": selected}
    return _subject(run, splits=splits, axes=axes, facts=facts, **made)


def _subject(run: RunContext, *, splits: Split, axes: Split, facts: dict[str, Any], **others: Any) -> Subject:
    first = (splits.x if axes.x is None else splits.x[0]), (splits.a if axes.a is None else splits.a[0])
    structure = others["structure"]
    names = structure.attributes or (facts["protected"],)
    columns = columns_of(facts, *first, names)
    variables, splits = seeds.replicate((others.pop("variables"), splits), mesh_of(run))
    return Subject(run=run, splits=splits, axes=axes, facts=facts, columns=columns, variables=variables, **others)
