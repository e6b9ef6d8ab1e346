"""The grid search of the reductions as fairjax does it: all multipliers of all networks in one program."""

import time
from typing import Any

import jax

from experiments.benchmarks import clock, fairjax_contender, tables
from experiments.benchmarks.settings import Bench
from fairjax.nn import Mlp, from_linen
from fairjax.reductions import DemographicParity, grid_search
from fairjax.training import Training


def all_networks(settings: Bench, shape: str) -> dict[str, Any]:
    """Time a grid search over multipliers for demographic parity, in seconds per trained network.

    Args:
        settings: the number of repetitions, multipliers and epochs.
        shape: the table, compas or adult.

    Returns:
        The measure grid_search, with the error and violation of the selected networks as facts.
    """
    case = fairjax_contender.make_case(tables.read(settings, shape), settings.reduction_widths)
    epochs = settings.reduction_epochs
    training = Training(epochs=epochs, check_every=epochs, plateau_patience=epochs, keep="last")
    network = from_linen(Mlp(widths=settings.reduction_widths, dropout=0.0))  # the other contenders have no dropout
    results = []

    def search() -> None:
        options: dict[str, Any] = {"grid_size": settings.multipliers, "training": training, "mesh": case.machine.mesh}
        found = grid_search(network, case.splits, keys=case.keys, constraint=DemographicParity(), **options)
        results.append(jax.block_until_ready(found))

    start = time.perf_counter()
    search()
    first = time.perf_counter() - start
    measure = clock.repeated(search, settings.scaling_repetitions, case.count * settings.multipliers)
    chosen = results[-1].selected[:, None]
    facts = {
        "device": case.device,
        "seeds": case.count,
        "first_call": first,
        "error": float(jax.numpy.take_along_axis(results[-1].error, chosen, 1).mean()),
        "violation": float(jax.numpy.take_along_axis(results[-1].violation, chosen, 1).mean()),
    }
    return {"measures": {"grid_search": measure}, "facts": facts}
