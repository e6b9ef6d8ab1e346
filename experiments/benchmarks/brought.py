"""Networks brought from other frameworks, beside the same network written for fairjax, in one process."""

import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmarks import brought_models, clock, fairjax_contender, tables
from experiments.benchmarks.fairjax_contender import AXES, Case
from experiments.benchmarks.settings import Bench
from fairjax import influence, seeds, spd
from fairjax.methods import BiasGda, Method, Pruning, Task
from fairjax.metrics import MEASURES
from fairjax.nn import FlatVariables, Network
from fairjax.runs.devices import use_cores
from fairjax.selection import ConstrainedObjective
from fairjax.types import Batch, Variables


def mlp(settings: Bench, framework: str) -> dict[str, Any]:
    """Time the steps of a brought perceptron and of `fairjax.Mlp` on COMPAS, all seeds at once.

    The repetitions of both networks alternate, so that other work on the machine slows both.

    Args:
        settings: the number of repetitions and their length.
        framework: a function of `brought_models`.

    Returns:
        The measures evaluation, pruning and bias_gda of the brought network in seconds per network and step, those of
        fairjax's network under the same names with "fairjax " before them, and bring in seconds.
    """
    use_cores()
    case = fairjax_contender.make_case(tables.read(settings, "compas"), settings.widths)
    features = case.splits.x.shape[1]
    start = time.perf_counter()
    brought = getattr(brought_models, framework)(features, settings.widths)
    measures: dict[str, list[float]] = {"bring": [time.perf_counter() - start]}
    own = case.network.init(jax.random.key(0), jnp.zeros((2, features)))
    work = {"": _work(settings, case, brought.network, brought.variables)}
    work["fairjax "] = _work(settings, case, case.network, own)
    for _ in range(settings.repetitions):
        for prefix, functions in work.items():
            for name, (function, units) in functions.items():
                measures.setdefault(prefix + name, []).extend(clock.repeated(function, 1, units))
    return {"measures": measures, "facts": {"device": case.device, "seeds": case.count}}


def _work(
    settings: Bench, case: Case, network: Network, variables: Variables
) -> dict[str, tuple[Callable[[], Any], float]]:
    """Compile what is timed; return the functions and the units of work of one call."""
    case = Case(network, case.splits, case.machine, case.count)
    task, machine = Task(network, MEASURES["spd"]), case.machine.for_parts()
    stacked = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (case.count, *jnp.shape(leaf))), variables)
    networks = seeds.replicate(jax.vmap(FlatVariables.ravel)(stacked), case.machine.mesh)

    def evaluate():
        jax.block_until_ready(seeds.evaluate(task, networks, case.splits, axes=AXES, machine=machine))

    evaluate()
    epochs = settings.bias_gda_epochs
    steps = epochs * case.batches(BiasGda().batch_size)
    return {
        "evaluation": (evaluate, case.count),
        "pruning": (
            _continued(case, task, networks, Pruning(), settings.pruning_steps),
            case.count * settings.pruning_steps,
        ),
        "bias_gda": (_continued(case, task, networks, BiasGda(), epochs), case.count * steps),
    }


def _continued(case: Case, task: Task, networks: FlatVariables, method: Method, count: int) -> Callable[[], None]:
    """Start a method, compile its steps, and return a function that continues it by `count` steps."""
    rule = ConstrainedObjective()
    progress = [fairjax_contender.start(case, task, networks, method)]

    def advance() -> None:
        progress.append(fairjax_contender.advance(case, method, task, rule, progress.pop(), count))

    advance()
    return advance


def resnet(settings: Bench) -> dict[str, Any]:
    """Bring a ResNet-18 with two outputs from PyTorch, and time the influence of its channels beside autograd.

    Args:
        settings: the number of repetitions and the images.

    Returns:
        The measures bring, influence and "PyTorch influence" in seconds, and the peak memory after each.
    """
    import torch

    from experiments.benchmarks import torch_resnet
    from fairjax.adapters import torch as adapter

    use_cores()
    rows, size = settings.resnet_rows, settings.resnet_size
    module = torch_resnet.resnet18().eval()
    images = torch.randn(rows, 3, size, size, generator=torch.Generator().manual_seed(0))
    before = _peak_mib()
    start = time.perf_counter()
    brought = adapter.bring(module, images[:2])
    measures: dict[str, list[float]] = {"bring": [time.perf_counter() - start]}
    facts: dict[str, Any] = {"memory_mib": {"before": before, "bring": _peak_mib()}}
    y, a = jnp.arange(rows) % 2 == 0, jnp.arange(rows) % 4 < 2
    batch = Batch(jnp.asarray(images.numpy()), y, a)
    run = jax.jit(lambda variables, batch: influence(spd, brought.network.apply, variables, batch))
    start = time.perf_counter()
    result = jax.block_until_ready(run(brought.variables, batch))
    facts["first_influence_seconds"] = time.perf_counter() - start
    facts["memory_mib"]["influence"] = _peak_mib()
    repetitions = settings.scaling_repetitions
    measures["influence"] = clock.repeated(lambda: jax.block_until_ready(run(brought.variables, batch)), repetitions, 1)
    names = [name.partition(" ")[2] for name in brought.units]
    expected = torch_resnet.influence(module, names, images, torch.from_numpy(jax.device_get(a)))
    measures["PyTorch influence"] = clock.repeated(
        lambda: torch_resnet.influence(module, names, images, torch.from_numpy(jax.device_get(a))), repetitions, 1
    )
    pairs = [(abs(result[name] - jnp.asarray(expected[name.partition(" ")[2]]))).max() for name in brought.units]
    facts["largest_difference"] = float(max(pairs))
    facts["largest_influence"] = float(max(jnp.abs(values).max() for values in result.values()))
    facts |= {"rows": rows, "size": size, "parameters": sum(p.numel() for p in module.parameters())}
    return {"measures": measures, "facts": facts}


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
