"""PyTorch and scikit-learn as contenders: one seed after another, and all seeds at once by `torch.func.vmap`.

Everything runs on the CPU. A sequential contender is timed on one seed, since all seeds take equally long.
"""

import dataclasses
import itertools
import time
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from experiments.benchmarks import clock, tables, torch_sequential, torch_vmap
from experiments.benchmarks.settings import Bench


def sequential(settings: Bench, shape: str, fused: bool, threads: int) -> dict[str, Any]:
    """Time the steps of the sequential protocol, in seconds per network and step.

    Args:
        settings: the number of repetitions and their length.
        shape: the table, compas or adult.
        fused: whether to use PyTorch's fused Adam instead of its default.
        threads: the number of PyTorch's threads.

    Returns:
        The measures training, pruning, bias_gda and threshold.
    """
    torch.set_num_threads(threads)
    split = next(torch_sequential.splits_of(tables.read(settings, shape), [0]))
    protocol = torch_sequential.ProtocolSettings(
        widths=settings.widths,
        fused=fused,
        epochs=settings.torch_epochs,
        pruning_steps=min(settings.torch_pruning_steps, sum(settings.widths)),
        bias_gda_epochs=settings.torch_bias_gda_epochs,
    )
    with torch_sequential.seeded(0) as generator:
        brief = dataclasses.replace(protocol, epochs=1, pruning_steps=1, bias_gda_epochs=1)
        network, _ = torch_sequential.train(split, brief, generator)  # warm-up
        torch_sequential.prune(network, split, brief)
        torch_sequential.bias_gda(network, split, brief, generator)
        scores = torch_sequential.scores(network, split.valid.x)

        def batches(size: int) -> int:
            return len(torch_sequential.shuffled(len(split.train.x), size, generator))

        training_steps, gda_steps = batches(protocol.batch_size), batches(protocol.bias_gda_batch_size)
        calls = 10
        work = {
            "training": (
                lambda: torch_sequential.train(split, protocol, generator),
                protocol.epochs * training_steps,
            ),
            "pruning": (lambda: torch_sequential.prune(network, split, protocol), protocol.pruning_steps or 1),
            "bias_gda": (
                lambda: torch_sequential.bias_gda(network, split, protocol, generator),
                protocol.bias_gda_epochs * gda_steps,
            ),
            "threshold": (
                lambda: [torch_sequential.threshold_search(scores, split.valid, protocol) for _ in range(calls)],
                calls,
            ),
        }
        measures = {name: clock.repeated(run, settings.repetitions, units) for name, (run, units) in work.items()}
    return {"measures": measures, "facts": {"device": "cpu", "threads": torch.get_num_threads()}}


def sklearn_scan(settings: Bench, shape: str) -> dict[str, Any]:
    """Time the threshold search by 101 calls of scikit-learn's balanced accuracy, in seconds per network."""
    torch.set_num_threads(1)
    part = next(torch_sequential.splits_of(tables.read(settings, shape), [0])).valid
    scores = torch.rand(len(part.y), generator=torch.Generator().manual_seed(0))
    protocol = torch_sequential.ProtocolSettings()
    torch_sequential.threshold_scan(scores, part, protocol)
    scan = clock.repeated(lambda: torch_sequential.threshold_scan(scores, part, protocol), settings.repetitions, 1)
    return {"measures": {"threshold": scan}, "facts": {"device": "cpu"}}


def vmapped(settings: Bench, shape: str, compiled: bool, threads: int) -> dict[str, Any]:
    """Time training and the influence of all seeds at once, in seconds per network and step.

    A training epoch does the same work as in fairjax: an order of rows per seed, steps, validation losses. A pruning
    step computes the influence of all units, and then searches thresholds on validation data, one seed after another.

    Args:
        settings: the number of repetitions and their length.
        shape: the table, compas or adult.
        compiled: whether to use torch.compile.
        threads: the number of PyTorch's threads.

    Returns:
        The measures training and, without torch.compile, pruning.
    """
    torch.set_num_threads(threads)
    splits = list(torch_sequential.splits_of(tables.read(settings, shape), range(settings.seeds)))
    train, valid = (
        torch_sequential.Part(*(torch.stack(columns) for columns in zip(*parts, strict=True)))
        for parts in ([split.train for split in splits], [split.valid for split in splits])
    )
    parts = [split.valid for split in splits]
    seeds, rows = train.y.shape
    y, valid_y = train.y.float(), valid.y.float()
    size = min(torch_sequential.ProtocolSettings().batch_size, rows)
    count = -(-rows // size)
    fill = torch.arange(count * size) % rows  # equal mini-batch sizes, so that torch.compile compiles one step
    seed_index = torch.arange(seeds)[:, None]
    generator = torch.Generator().manual_seed(0)
    states = [torch_vmap.make(range(seeds), train.x.shape[2], settings.widths)]

    def step(batch):
        stepped = torch_vmap.training_step(
            states.pop(), train.x[seed_index, batch], y[seed_index, batch], generator=generator, compiled=compiled
        )
        states.append(stepped[0])

    def epoch():
        orders = torch.stack([torch.randperm(rows, generator=generator) for _ in range(seeds)])[:, fill]
        for batch in orders.split(size, 1):
            step(batch)
        with torch.no_grad():
            logits = torch_vmap.logits(states[0], valid.x)
            functional.binary_cross_entropy_with_logits(logits, valid_y, reduction="none").mean(1)

    start = time.perf_counter()
    step(fill[:size].expand(seeds, size))
    first_step_seconds = time.perf_counter() - start
    for _ in range(2):
        step(fill[:size].expand(seeds, size))

    def epochs():
        for _ in range(settings.torch_epochs):
            epoch()

    measures = {"training": clock.repeated(epochs, settings.repetitions, seeds * settings.torch_epochs * count)}
    if not compiled:
        protocol = torch_sequential.ProtocolSettings()

        def prune():
            torch_vmap.influence(states[0], *train, "spd").argmax(1)
            with torch.no_grad():
                scores = torch.sigmoid(torch_vmap.logits(states[0], valid.x))
            for score, part in zip(scores, parts, strict=True):
                torch_sequential.threshold_search(score, part, protocol)

        prune()
        measures["pruning"] = clock.repeated(prune, settings.repetitions, seeds)
    facts = {"device": "cpu", "threads": torch.get_num_threads(), "first_step_seconds": first_step_seconds}
    return {"measures": measures, "facts": facts}


def whole(settings: Bench, fused: bool, threads: int) -> dict[str, Any]:
    """Time the whole COMPAS run for a few seeds, one after another, in seconds per seed and stage.

    Args:
        settings: the seeds and limits.
        fused: whether to use PyTorch's fused Adam instead of its default.
        threads: the number of PyTorch's threads.

    Returns:
        One measure per stage and the measure `whole`, each with one number per seed.
    """
    torch.set_num_threads(threads)
    seeds = range(min(settings.torch_seeds, settings.seeds))
    protocol = torch_sequential.ProtocolSettings(
        widths=settings.widths,
        fused=fused,
        epochs=settings.whole_epochs,
        bias_gda_epochs=settings.whole_bias_gda_epochs,
        draws=settings.whole_draws,
    )
    splits = itertools.islice(
        torch_sequential.splits_of(tables.read(settings, "compas"), range(settings.seeds)), len(seeds)
    )
    results = torch_sequential.run(splits, protocol)["seeds"]
    measures: dict[str, list[float]] = {
        name: [result["seconds"][name] for result in results] for name in results[0]["seconds"]
    }
    measures["whole"] = [float(np.sum(list(result["seconds"].values()))) for result in results]
    facts = {
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "epochs": [result["training"]["epochs"] for result in results],
    }
    return {"measures": measures, "facts": facts}
