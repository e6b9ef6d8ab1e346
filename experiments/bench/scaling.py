"""How cost grows: a point of a curve a process, so that memory is each point's own."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import clock, ours, tables
from experiments.bench.settings import SHAPES, Bench
from experiments.cli import use_cores
from experiments.timings import Timings
from fairjax import data, parallel, rows
from fairjax.debias import Pruning
from fairjax.loop import Task
from fairjax.nn import Mlp, from_linen
from fairjax.parity import MEASURES, spd
from fairjax.rows import Chunk

FEATURES = SHAPES["adult"][1]


def seeds(settings: Bench, size: int) -> dict[str, Any]:
    """Training of so many networks on COMPAS; seconds a network and step."""
    use_cores(jax)
    table = tables.read(settings, "compas")
    dataset = data.from_arrays(table.x, table.y, table.a)
    return _training(settings, dataset, size, settings.widths)


def width(settings: Bench, size: int) -> dict[str, Any]:
    """Training with so many units in every layer; seconds a network and step."""
    return _training(settings, _table(settings), settings.width_seeds, (size,) * len(settings.widths))


def depth(settings: Bench, size: int) -> dict[str, Any]:
    """Training with so many layers; seconds a network and step."""
    return _training(settings, _table(settings), settings.seeds, (settings.widths[0],) * size)


def _table(settings: Bench):
    use_cores(jax)
    return tables.simulated(settings.scaling_table, FEATURES)


def _training(settings: Bench, dataset, seeds: int, widths: tuple[int, ...]) -> dict[str, Any]:
    here, timings = ours.case(data.split_seeds(dataset, range(seeds)), widths), Timings()
    with timings.listening():
        raw, _ = ours.train(here, timings, epochs=1, repetitions=settings.scaling_repetitions)
    lanes = parallel.lanes_of(here.machine.mesh, seeds)
    return {
        "measures": {"training": raw},
        "compilation_seconds": timings.compilation,
        "facts": {"device": here.device, "seeds": seeds, "lanes": lanes, "rows": len(dataset.y)},
    }


class Drawn:
    """A source of rows drawn by a key, chunk by chunk: as many as one likes in the memory of one chunk."""

    def __init__(self, count: int, size: int, features: int):
        """So many rows in chunks of this size."""
        self._count, self._size = count, min(size, count)
        rng = np.random.default_rng(0)
        self._x = rng.standard_normal((self._size, features), np.float32)
        self._y, self._a = rng.random((2, self._size)) < 0.5

    def __iter__(self) -> Iterator[Chunk]:
        """The chunks: the first one's features, moved by a number that the chunk's own key draws."""
        for number, begin in enumerate(range(0, self._count, self._size)):
            some = slice(min(self._size, self._count - begin))
            shift = np.random.default_rng((1, number)).standard_normal(dtype=np.float32)
            yield Chunk(self._x[some] + shift, self._y[some].copy(), self._a[some].copy())


def many_rows(settings: Bench, size: int) -> dict[str, Any]:
    """A network's evaluation with its threshold search, and the influence of its units, on so many rows.

    Args:
        settings: repetitions and the rows of a chunk.
        size: rows.

    Returns:
        The measures evaluate and influence, and drawing, which is a part of both: once of the first, twice of the
        second. Seconds.
    """
    use_cores(jax)
    network, timings = from_linen(Mlp(widths=settings.widths)), Timings()
    variables = network.init(jax.random.key(0), jnp.ones((1, FEATURES)))
    mesh = rows.mesh()
    work = {
        "evaluate": lambda source: rows.evaluate(spd, network.apply, variables, source, mesh=mesh),
        "influence": lambda source: rows.influence(spd, network.apply, variables, source, mesh=mesh),
        "drawing": lambda source: sum(len(chunk.y) for chunk in source),
    }
    source, first = (Drawn(count, settings.chunk, FEATURES) for count in (size, min(size, settings.chunk)))
    measures = {}
    with timings.listening():
        for name, function in work.items():
            with timings.stage(name):
                jax.block_until_ready(function(first))  # chunks of one size compile one program
            if size > settings.chunk and size % settings.chunk:
                jax.block_until_ready(function(Drawn(size % settings.chunk, settings.chunk, FEATURES)))

            def again(function=function):
                jax.block_until_ready(function(source))

            measures[name] = clock.repeated(again, settings.scaling_repetitions, 1)
    device = jax.devices()[0]
    return {
        "measures": measures,
        "compilation_seconds": timings.compilation,
        "facts": {
            "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
            "features": FEATURES,
            "chunk": min(settings.chunk, size),
        },
    }


def pruned(settings: Bench) -> dict[str, Any]:
    """Pruning from the first unit to the last on COMPAS; seconds a network and step as masks fill up.

    Returns:
        A measure for each chunk of steps, named by the units that are cut at its end; one repetition a run of pruning.
    """
    use_cores(jax)
    here, timings = ours.case(tables.read(settings, "compas"), settings.widths), Timings()
    task, config, units = Task(here.network, MEASURES["spd"]), Pruning(), sum(settings.widths)
    count = next(size for size in (16, 12, 11, 10, 8, 7, 6, 5, 4, 3, 2, 1) if units % size == 0)
    method, rule = ours.METHODS["pruning"][1], ours.objective.ConstrainedObjective()
    found: dict[str, list[float]] = {f"{end:04d}": [] for end in range(count, units + 1, count)}
    with timings.listening():
        _, networks = ours.train(here, timings, epochs=1, repetitions=1)
        for run in range(1 + settings.scaling_repetitions):
            held = [ours.start(here, task, networks, "pruning", config)]

            def again(held=held):
                held.append(ours.advance(here, method, task, config, rule, held.pop(), count))

            if run == 0:
                with timings.stage("pruning"):
                    again()
                continue
            for raw in found.values():
                raw += clock.repeated(again, 1, here.seeds * count)
    return {
        "measures": found,
        "compilation_seconds": timings.compilation,
        "facts": {"device": here.device, "seeds": here.seeds, "units": units},
    }
