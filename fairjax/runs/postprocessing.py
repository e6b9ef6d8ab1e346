"""AIF360's postprocessors as a stage of a run."""

import json
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from fairjax import selection
from fairjax.metrics import Measure
from fairjax.result import Trace
from fairjax.runs import hosts, postprocessors, workers
from fairjax.runs.context import RunContext
from fairjax.runs.files import FolderError, write_json
from fairjax.runs.programs import Scored
from fairjax.types import Batch


def apply(
    run: RunContext, name: str, measure: Measure, scored: Scored, thresholds: Any, tick: Callable[[], None]
) -> Trace:
    """Apply one of AIF360's postprocessors to all networks, except to those that were done before.

    Args:
        run: the run, in whose folder the result of each network is stored.
        name: a method in `POSTPROCESSORS`.
        measure: the measure of bias.
        scored: scores, labels and groups of the valid and test parts.
        thresholds: the thresholds of the networks, tuned on the valid part.
        tick: a function that is called whenever a network is done.

    Returns:
        One candidate per network: the confusion tables of its decisions and the statistics that follow from them.
    """
    count = len(run.settings.runs)
    tables = {part: np.zeros((count, 2, 2, 2), np.int32) for part in ("valid", "test")}
    results = {**tables, "threshold": np.zeros(count, np.float32)}
    scored, thresholds = jax.tree.map(np.asarray, (scored, thresholds))

    def fill() -> str:
        _fill(results, run, name, scored, thresholds, tick)
        return ""

    hosts.broadcast(fill)
    results = hosts.broadcast_arrays(results)
    evaluations = (
        selection.evaluate_tables(measure, jnp.array(results["threshold"]), jnp.array(results[part], jnp.float32))
        for part in ("valid", "test")
    )
    return Trace(*evaluations)


def _fill(
    found: dict[str, np.ndarray], run: RunContext, name: str, scored: Scored, thresholds: Any, tick: Callable[[], None]
) -> None:
    """Read the confusion tables and thresholds of all networks from files, or compute them."""
    settings, folder = run.settings, run.folder
    stage = folder.stage_folder(name)
    (valid, test), jobs = scored, {}
    margin = cast(Any, settings.selection).margin if postprocessors.POSTPROCESSORS[name].margin else 0.0

    def note(i: int, entry: dict[str, Any]) -> None:
        for key in found:
            value = np.asarray(entry[key])
            if value.shape != found[key].shape[1:] or not np.all(np.isfinite(value)):
                raise ValueError(f"its {key} has another shape or is not finite")
            found[key][i] = value
        run.timings.add(name, [entry["seconds"], 0.0])
        tick()

    for i, (seed, _) in enumerate(settings.runs):
        saved = stage / f"{i:04d}.json"
        if saved.exists():
            try:
                entry = json.loads(saved.read_text(encoding="utf-8"))
                if entry.get("configuration") != folder.configuration:
                    raise ValueError("it belongs to another configuration, or was written by an older version")
                note(i, entry)
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise FolderError(f"{saved} cannot be read ({error}); remove it to compute it again") from error
        else:
            jobs[i] = postprocessors.Job(
                method=name,
                measure=settings.measure,
                seed=seed,
                number=i,
                valid_scores=valid.x[i, :, 0],
                valid_y=valid.y[i],
                valid_a=valid.a[i],
                test_scores=test.x[i, :, 0],
                test_a=test.a[i],
                threshold=float(thresholds[i]),
                bound=settings.selection.epsilon - margin,
                search=settings.roc_search,
            )
    # fairjax's own search takes milliseconds, less than starting a process
    count = None if settings.roc_search == "aif360" else 1
    for answer in workers.decisions(list(jobs.values()), processes=count):
        i = answer.job.number
        entry = {
            "valid": _counts(answer.valid, valid, i),
            "test": _counts(answer.test, test, i),
            "threshold": float(answer.fitted["threshold"]),
            "seconds": answer.seconds,
            "configuration": folder.configuration,
        }
        write_json(stage / f"{i:04d}.json", entry)
        note(i, entry)


def _counts(decisions: np.ndarray, batch: Batch, number: int) -> list:
    """Count the decisions of one network by decision, label and group."""
    table = np.zeros((2, 2, 2), int)
    np.add.at(table, tuple(np.asarray(part, int) for part in (decisions, batch.y[number], batch.a[number])), 1)
    return table.tolist()
