"""Limits of the machine: the matrix products of a training step alone, a product of square matrices, and a copy."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmarks import clock, fairjax_contender, tables
from experiments.benchmarks.settings import Bench
from fairjax.runs.devices import use_cores
from fairjax.seeds import placement

BATCH = fairjax_contender.ENDLESS.batch_size


def limits(settings: Bench, shape: str) -> dict[str, Any]:
    """Measure the matrix products of a training step, spread over the same devices in the same groups of networks.

    Args:
        settings: the number of repetitions.
        shape: the table, compas or adult.

    Returns:
        The measures products (seconds per network and step), square (seconds per floating-point operation of a product
        of two 2048 x 2048 matrices on every device) and copy (seconds per byte read or written).
    """
    use_cores()
    features = tables.read(settings, shape).x.shape[1]
    mesh = placement.mesh()
    steps = 100
    operations = (
        2 * BATCH * (3 * sum(a * b for a, b in _shapes(features, settings.widths)) - features * settings.widths[0])
    )
    return {
        "measures": {
            "products": products(
                features,
                settings.widths,
                settings.seeds,
                steps=steps,
                repetitions=settings.repetitions,
                mesh=mesh,
                group_size=None,
            ),
            "square": square(mesh, settings.repetitions),
            "copy": copy(mesh, settings.copy_mib, settings.repetitions),
        },
        "facts": {"operations_a_step": operations, "batch": BATCH},
    }


def products(
    features: int, widths: tuple[int, ...], seeds: int, *, steps: int, repetitions: int, mesh, group_size: int | None
) -> list[float]:
    """Time forward products, weight gradients and input gradients (none for the first layer) of many networks.

    The weight gradients of one step are the weights of the next step, and the output of one layer is the input of the
    next layer, so the compiler can neither drop nor merge products nor move them out of the scan. All numbers are 0,
    which takes as long as any other value and never overflows; the compiler does not know the values.

    Args:
        features: the number of features of the mini-batch.
        widths: the widths of the hidden layers.
        seeds: the number of networks.
        steps: the number of steps of one scan.
        repetitions: the number of scans that are timed.
        mesh: the devices.
        group_size: the number of networks per group.

    Returns:
        Seconds per network and step, one number per repetition.
    """

    def run_steps(x, weights):
        def step(weights, _):
            inputs = [x]
            for weight in weights:
                inputs.append(inputs[-1] @ weight)
            slope, slopes = inputs.pop(), []
            for layer in reversed(range(len(weights))):
                slopes.append(inputs[layer].T @ slope)
                if layer:
                    slope = slope @ weights[layer].T
            return jax.lax.optimization_barrier(slopes[::-1]), None

        return jax.lax.scan(step, weights, length=steps)[0]

    options = {"mesh": mesh, "group_size": group_size}
    run = jax.jit(lambda x, weights: placement.over_seeds(run_steps, (x, weights), (0, 0), **options))
    replicated = placement.replicated_sharding(mesh)
    shapes = _shapes(features, widths)
    args = jax.device_put(
        (jnp.zeros((seeds, BATCH, features)), [jnp.zeros((seeds, *shape)) for shape in shapes]), replicated
    )
    jax.block_until_ready(run(*args))
    return clock.repeated(lambda: jax.block_until_ready(run(*args)), repetitions, seeds * steps)


def square(mesh, repetitions: int, size: int = 2048) -> list[float]:
    """Time a product of square matrices on every device at once, in seconds per floating-point operation overall."""
    sharding = jax.sharding.NamedSharding(mesh, jax.P(placement.SEEDS_AXIS))
    matrices = jax.device_put(jnp.ones((mesh.size, size, size)), sharding)
    rows = jax.P(placement.SEEDS_AXIS)
    multiply = jax.shard_map(lambda x: x @ x, mesh=mesh, in_specs=rows, out_specs=rows)
    run = jax.jit(multiply)
    jax.block_until_ready(run(matrices))
    return clock.repeated(lambda: jax.block_until_ready(run(matrices)), repetitions, mesh.size * 2 * size**3)


def copy(mesh, mib: int, repetitions: int) -> list[float]:
    """Time adding one to an array that is spread over all devices, in seconds per byte read or written."""
    sharding = jax.sharding.NamedSharding(mesh, jax.P(placement.SEEDS_AXIS))
    count = mib * 2**18 // mesh.size * mesh.size
    array = jax.device_put(jnp.zeros(count), sharding)
    run = jax.jit(lambda x: x + 1.0)
    jax.block_until_ready(run(array))
    return clock.repeated(lambda: jax.block_until_ready(run(array)), repetitions, 2 * 4 * count)


def _shapes(features: int, widths: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the shapes of all weight matrices."""
    return list(itertools.pairwise((features, *widths, 1)))
