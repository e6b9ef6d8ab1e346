"""How costs grow: each point of a curve runs in a process of its own, so that its memory use is measured separately."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import clock, fairjax_contender, tables
from experiments.benchmarks.settings import SHAPES, Bench
from fairjax import data, streaming
from fairjax.methods import Pruning, Task
from fairjax.metrics import MEASURES, spd
from fairjax.nn import Mlp, from_linen
from fairjax.runs.devices import use_cores
from fairjax.runs.timings import Timings
from fairjax.seeds import default_group_size
from fairjax.streaming import Chunk

FEATURES = SHAPES["adult"][1]


def seeds(settings: Bench, size: int) -> dict[str, Any]:
    """Time training a number of networks on COMPAS, in seconds per network and step."""
    use_cores()
    table = tables.read(settings, "compas")
    dataset = data.from_arrays(table.x, table.y, table.a)
    return _training(settings, dataset, size, settings.widths)


def width(settings: Bench, size: int) -> dict[str, Any]:
    """Time training with a number of units in every layer, in seconds per network and step."""
    return _training(settings, _table(settings), settings.width_seeds, (size,) * len(settings.widths))


def depth(settings: Bench, size: int) -> dict[str, Any]:
    """Time training with a number of hidden layers, in seconds per network and step."""
    return _training(settings, _table(settings), settings.seeds, (settings.widths[0],) * size)


def _table(settings: Bench):
    use_cores()
    return tables.simulated(settings.scaling_table, FEATURES)


def _training(settings: Bench, dataset, seeds: int, widths: tuple[int, ...]) -> dict[str, Any]:
    case, timings = fairjax_contender.make_case(data.split_seeds(dataset, range(seeds)), widths), Timings()
    with timings.listening():
        raw, _ = fairjax_contender.train(case, timings, epochs=1, repetitions=settings.scaling_repetitions)
    group_size = default_group_size(case.machine.mesh, seeds)
    return {
        "measures": {"training": raw},
        "compilation_seconds": timings.compilation,
        "facts": {"device": case.device, "seeds": seeds, "group_size": group_size, "rows": len(dataset.y)},
    }


class Drawn:
    """A source of random rows that are generated chunk by chunk, so that memory holds only one chunk at a time."""

    def __init__(self, count: int, size: int, features: int):
        """Define the total number of rows, the rows per chunk and the number of features."""
        self._count, self._size = count, min(size, count)
        rng = np.random.default_rng(0)
        self._x = rng.standard_normal((self._size, features), np.float32)
        self._y, self._a = rng.random((2, self._size)) < 0.5

    def __iter__(self) -> Iterator[Chunk]:
        """Yield the chunks: the features of the first chunk, shifted by a random number that depends on the chunk."""
        for number, begin in enumerate(range(0, self._count, self._size)):
            rows = slice(min(self._size, self._count - begin))
            shift = np.random.default_rng((1, number)).standard_normal(dtype=np.float32)
            yield Chunk(self._x[rows] + shift, self._y[rows].copy(), self._a[rows].copy())


def many_rows(settings: Bench, size: int) -> dict[str, Any]:
    """Time the evaluation of a network with its threshold search, and the influence of its units, on many rows.

    Args:
        settings: the number of repetitions and the rows per chunk.
        size: the number of rows.

    Returns:
        The measures evaluate, influence and drawing, in seconds. Drawing the rows is part of both others: once of
        evaluate, twice of influence.
    """
    use_cores()
    network, timings = from_linen(Mlp(widths=settings.widths)), Timings()
    variables = network.init(jax.random.key(0), jnp.ones((1, FEATURES)))
    mesh = streaming.mesh()
    work = {
        "evaluate": lambda source: streaming.evaluate(spd, network.apply, variables, source, mesh=mesh),
        "influence": lambda source: streaming.influence(spd, network.apply, variables, source, mesh=mesh),
        "drawing": lambda source: sum(len(chunk.y) for chunk in source),
    }
    source, one_chunk = (Drawn(count, settings.chunk, FEATURES) for count in (size, min(size, settings.chunk)))
    measures = {}
    with timings.listening():
        for name, function in work.items():
            with timings.stage(name):
                jax.block_until_ready(function(one_chunk))  # chunks of one size share one compiled program
            if size > settings.chunk and size % settings.chunk:
                jax.block_until_ready(function(Drawn(size % settings.chunk, settings.chunk, FEATURES)))

            def run(function=function):
                jax.block_until_ready(function(source))

            measures[name] = clock.repeated(run, settings.scaling_repetitions, 1)
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
    """Time pruning from the first unit to the last on COMPAS, in seconds per network and step as the masks fill up.

    Returns:
        One measure per chunk of steps, named by the number of units pruned at its end, with one repetition per run.
    """
    use_cores()
    case, timings = fairjax_contender.make_case(tables.read(settings, "compas"), settings.widths), Timings()
    task, method, units = Task(case.network, MEASURES["spd"]), Pruning(), sum(settings.widths)
    count = next(size for size in (16, 12, 11, 10, 8, 7, 6, 5, 4, 3, 2, 1) if units % size == 0)
    rule = fairjax_contender.selection.ConstrainedObjective()
    measures: dict[str, list[float]] = {f"{end:04d}": [] for end in range(count, units + 1, count)}
    with timings.listening():
        _, networks = fairjax_contender.train(case, timings, epochs=1, repetitions=1)
        for run in range(1 + settings.scaling_repetitions):
            states = [fairjax_contender.start(case, task, networks, method)]

            def continue_pruning(states=states):
                states.append(fairjax_contender.advance(case, method, task, rule, states.pop(), count))

            if run == 0:
                with timings.stage("pruning"):
                    continue_pruning()
                continue
            for raw in measures.values():
                raw += clock.repeated(continue_pruning, 1, case.count * count)
    return {
        "measures": measures,
        "compilation_seconds": timings.compilation,
        "facts": {"device": case.device, "seeds": case.count, "units": units},
    }
