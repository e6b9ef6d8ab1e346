"""Convert the outcome of a run to tidy tables: results per seed, method and part, and all candidates' trajectories."""

from typing import Any

import jax
import numpy as np
import pandas as pd

from fairjax import selection
from fairjax.metrics import as_parity
from fairjax.runs.labels import PORTFOLIO
from fairjax.runs.settings import Settings
from fairjax.runs.trials import Outcome, Trial
from fairjax.selection import Evaluation


def results(settings: Settings, outcome: Outcome) -> pd.DataFrame:
    """Return one row per seed, method, rule and part (valid or test).

    `rule` is `none` for methods that need no selection. On the valid part, the constrained objective and `satisfied`
    use the rule's bound, as selection does; on the test part they use epsilon. The counts are those of decisions by
    label and group (see `Structure.cells`): whole numbers or, if rows have weights, sums of weights. All other numbers
    follow from them. With more than two groups or classes, `groups_compared` is the number of groups that could be
    compared in all rates.
    """
    structure = outcome.prepared.structure
    cells, measure = structure.cells, as_parity(structure.measure(settings.measure))
    weighted = outcome.prepared.splits.weights is not None
    frames = []
    for (method, rule), trial in outcome.trials.items():
        bounds = {
            "valid": settings.selection.build(None if rule == "none" else rule).bound,
            "test": settings.selection.epsilon,
        }
        for part, bound in bounds.items():
            chosen = chosen_of(trial, part)
            accuracy, bias = np.asarray(chosen.balanced_accuracy), np.asarray(chosen.bias)
            counts = np.asarray(chosen.table).reshape(len(bias), len(cells))
            counts = counts if weighted else counts.astype(int)
            compared = {} if structure.is_binary else {"groups_compared": _compared(measure, chosen.table)}
            frames.append(
                pd.DataFrame(
                    {
                        **_labels(settings, method),
                        "rule": rule,
                        **_runs(settings, 1),
                        "part": part,
                        "balanced_accuracy": accuracy,
                        "bias": bias,
                        "objective": np.asarray(selection.constrained(accuracy, bias, bound)),
                        "threshold": np.asarray(chosen_of(trial, "valid").threshold),
                        "satisfied": np.abs(bias) < bound,
                        "selected": np.asarray(trial.selected),
                        "diverged": np.asarray(trial.diverged),
                        **compared,
                        **{name: counts[:, i] for i, name in enumerate(cells)},
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def _compared(measure: Any, tables: Any) -> np.ndarray:
    """Return, for each table, the number of groups that can be compared in all rates."""
    there = np.asarray(jax.vmap(lambda table: measure.compared(table)[2])(tables))
    of_rates = there.reshape(len(there), len(measure.rates), -1, there.shape[-1]).any(axis=2)
    return np.sum(np.all(of_rates, axis=1), axis=1)


def chosen_of(trial: Trial, part: str) -> Evaluation:
    """Return the evaluation of the selected candidate of each run."""
    selected = np.asarray(trial.selected)
    return jax.tree.map(lambda entry: np.asarray(entry)[np.arange(len(selected)), selected], getattr(trial.trace, part))


def trajectories(settings: Settings, outcome: Outcome) -> pd.DataFrame:
    """Return one row per seed, method, candidate and part with its evaluation; `step` 0 is the original network."""
    frames, seen = [], set()
    for (method, rule), trial in outcome.trials.items():
        seeds, steps = trial.trace.valid.bias.shape
        if (method in seen and steps > 1) or method == PORTFOLIO:  # these candidates are in other rows already
            continue
        seen.add(method)
        for part in ("valid", "test"):
            trace = getattr(trial.trace, part)
            columns = {name: getattr(trace, name) for name in ("balanced_accuracy", "bias", "noise", "threshold")}
            frames.append(
                pd.DataFrame(
                    {
                        **_labels(settings, method),
                        "rule": rule,
                        **_runs(settings, steps),
                        "part": part,
                        "step": np.tile(np.arange(steps), seeds),
                        **{name: np.asarray(values).reshape(-1) for name, values in columns.items()},
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def _labels(settings: Settings, method: str) -> dict[str, str]:
    return {"dataset": settings.dataset, "measure": settings.measure, "method": method}


def _runs(settings: Settings, each: int) -> dict[str, Any]:
    """Return columns that identify the run, with each run repeated `each` times."""
    seeds, values = zip(*settings.runs, strict=True)
    columns = {"seed": np.repeat(np.array(seeds), each)}
    if settings.simulation.sweep:
        columns["parameter"] = np.repeat(np.array(values), each)
    return columns
