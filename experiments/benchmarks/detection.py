"""Detection as fairjax does it: attributions and concepts of all networks in one program."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmarks import clock, fairjax_contender, tables
from experiments.benchmarks.fairjax_contender import AXES
from experiments.benchmarks.settings import Bench
from fairjax import seeds
from fairjax.detect import bias_by_feature, integrated_gradients
from fairjax.detect.concepts import tcav
from fairjax.runs.devices import use_cores


def all_networks(settings: Bench, shape: str) -> dict[str, Any]:
    """Time integrated gradients, the bias by feature, and TCAV in every layer, in seconds per network.

    The networks are untrained, since weights don't change how long anything takes.

    Args:
        settings: the number of repetitions, nodes and sets.
        shape: the table, compas or adult.

    Returns:
        The measures integrated_gradients, bias_by_feature and tcav, of the test part.
    """
    use_cores()
    case = fairjax_contender.make_case(tables.read(settings, shape), settings.widths)
    example = jnp.zeros((2, case.splits.x.shape[1]))
    variables = seeds.replicate(jax.vmap(lambda key: case.network.init(key, example))(case.keys), case.machine.mesh)
    keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(case.keys)

    def attribution(variables, split, key):
        return integrated_gradients(case.network.apply, variables, split.part("test").x, nodes=settings.nodes)

    def by_feature(variables, split, key):
        return bias_by_feature(case.network.apply, variables, split.part("test"), nodes=settings.nodes).differences

    def concepts(variables, split, key):
        train, test = split.part("train"), split.part("test")
        options: dict[str, Any] = {"draws": settings.concept_sets, "size": settings.concept_rows, "key": key}
        found = tcav(case.network, variables, train.x, {"group": ~train.a}, test.x, counted=test.y, **options)
        return {layer: scores["group"].score for layer, scores in found.items()}

    measures, compilation = {}, {}
    several, single = case.machine.mesh, seeds.mesh(jax.devices()[:1])
    for name, function, mesh in (
        ("integrated_gradients", attribution, several),
        ("bias_by_feature", by_feature, several),
        ("tcav", concepts, single),  # as the command does
    ):
        run = _over_seeds(function, mesh)
        start = time.perf_counter()
        placed = seeds.replicate((variables, case.splits, keys), mesh)
        jax.block_until_ready(run(*placed))
        compilation[name] = time.perf_counter() - start
        call: Callable[[], Any] = functools.partial(_finished, run, *placed)
        measures[name] = clock.repeated(call, settings.scaling_repetitions, case.count)
    return {"measures": measures, "facts": {"device": case.device, "seeds": case.count, "first_call": compilation}}


def _over_seeds(function, mesh):
    @jax.jit
    def run(variables, splits, keys):
        axes = (0, AXES.split, 0)
        return seeds.over_seeds(function, (variables, splits, keys), axes, mesh=mesh, group_size=None)

    return run


def _finished(run, *arguments):
    return jax.block_until_ready(run(*arguments))
