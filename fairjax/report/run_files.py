"""Read the files of a finished run, and check every row."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fairjax.checkpoint import first_line
from fairjax.metrics import MEASURES
from fairjax.report import counts, statistics
from fairjax.runs.fields import current
from fairjax.runs.settings import Selection
from fairjax.runs.structure import BINARY, Structure

WAY_OUT = "remove it and run the same command again, which writes it again from the saved states"
_NUMBERS = ["balanced_accuracy", "bias", "objective"]
_EDGE = 5e-6
"""Distance from the bound within which rounding in the file determines whether a bias is inside the bound."""


def read_results(folder: Path, structure: Structure) -> pd.DataFrame:
    """Read `results.csv` and check every row."""
    file = folder / "results.csv"
    if not file.exists():
        raise ValueError(f"{folder} has no results.csv: give a folder that debias or reproduce wrote to the end")
    try:
        results = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise ValueError(f"{file} cannot be read ({first_line(error)}); {WAY_OUT}") from error
    needed = {*statistics.KEYS, *structure.cells, *_NUMBERS, "seed", "part", "satisfied", "diverged"}
    missing = needed - set(results.columns)
    if missing:
        raise ValueError(f"{file} lacks the columns {', '.join(sorted(missing))}: it was written by another version")
    if "parameter" in results.columns:
        raise ValueError(f"{file} holds a sweep of simulations; its figure is made by reproduce")
    if not isinstance(results.index, pd.RangeIndex):
        raise ValueError(f"{file} has rows with more values than columns; {WAY_OUT}")
    _refuse(file, results.isna().any(axis=1), "has fewer values than columns")
    for name in statistics.KEYS:
        _refuse(file, results[name] == "", f"has no {name}")
    _refuse(file, ~results["measure"].isin(list(MEASURES)), f"has a measure that is none of {', '.join(MEASURES)}")
    _refuse(file, ~results["part"].isin(["valid", "test"]), "has a part that is neither valid nor test")
    for name in ("satisfied", "diverged"):
        _refuse(file, ~results[name].isin(["True", "False"]), f"has a value of {name} that is neither True nor False")
        results[name] = results[name] == "True"
    for name in ("seed", *structure.cells):
        values = pd.to_numeric(results[name], errors="coerce").astype(float)
        wrong = ~np.isfinite(values) | (values != np.round(values)) | (values < 0) | (values >= 2**53)
        _refuse(file, wrong, f"has a value of {name} that is not a non-negative whole number")
        results[name] = values.astype(np.int64)
    total = results[list(structure.cells)].sum(axis=1)
    _refuse(file, (total <= 0) | (total >= 2**31), "has counts of no rows, or of more than can be counted")
    for name in _NUMBERS:
        values = pd.to_numeric(results[name], errors="coerce").astype(float)
        wrong = ~np.isfinite(values) & ~results["diverged"]  # networks that diverged may lack numbers
        if name == "bias":
            wrong &= _has_finite_bias(results, structure, wrong)
        _refuse(file, wrong, f"has a value of {name} that is not a finite number")
        results[name] = values
    doubled = results.duplicated([*statistics.KEYS, "seed", "part"])
    _refuse(file, doubled, "has the data set, measure, method, rule, seed and part of an earlier row")
    if not (results["part"] == "test").any():
        raise ValueError(f"{file} has no rows of test parts; {WAY_OUT}")
    wrong = counts.inconsistency(results, structure)
    if wrong > 1e-4:
        raise ValueError(f"{file} contradicts itself: a bias or accuracy is {wrong:.2g} off what its counts say")
    return results


def _has_finite_bias(results: pd.DataFrame, structure: Structure, rows: pd.Series) -> np.ndarray:
    """Return for which of some rows the counts define a finite bias; groups may be too small, or a ratio infinite."""
    finite = np.zeros(len(results), bool)
    for measure in results.loc[rows, "measure"].unique():
        chosen = (rows & (results["measure"] == measure)).to_numpy()
        tables = counts.tables_of(results[chosen], structure)
        finite[chosen] = np.isfinite(counts.accuracy_and_bias(tables, measure, structure)[1])
    return finite


def _refuse(file: Path, wrong: Any, what: str) -> None:
    """Reject a table of results if any row is marked as wrong; name the first such row by its line in the file.

    Raises:
        ValueError: if any row is wrong.
    """
    rows = np.flatnonzero(np.asarray(wrong, bool))
    if len(rows):
        more = f" (and {len(rows) - 1} more rows)" if len(rows) > 1 else ""
        raise ValueError(f"{file}: row {rows[0] + 1} (line {rows[0] + 2}){more} {what}; {WAY_OUT}")


def check_objectives(file: Path, results: pd.DataFrame, selection: Selection) -> pd.DataFrame:
    """Recompute `satisfied` and `objective` of each row from its bias, balanced accuracy and bound.

    Raises:
        ValueError: if the values in the file differ.
    """
    bounds = {}
    for rule in results["rule"].unique():
        try:
            bounds[rule] = float(selection.build(None if rule == "none" else rule).bound)
        except KeyError:
            _refuse(file, results["rule"] == rule, f"has the unknown selection rule {rule!r}")
    bound = results["rule"].map(bounds).where(results["part"] == "valid", selection.epsilon)
    accuracy, size = results["balanced_accuracy"], results["bias"].abs()
    met = (size < bound).where((size - bound).abs() > _EDGE, results["satisfied"]).astype(bool)
    objective = accuracy.where(met & accuracy.notna(), 0.0)
    hint = "what bias, balanced accuracy and the bound of the configuration give"
    _refuse(file, met != results["satisfied"], f"has a value of satisfied that is not {hint}")
    wrong = (objective - results["objective"]).abs() > 1e-5
    _refuse(file, wrong, f"has a value of objective that is not {hint}")
    return results.assign(satisfied=met, objective=objective)


def read_json(file: Path) -> dict[str, Any]:
    """Read the mapping in a JSON file; it is empty if there is no file.

    Raises:
        ValueError: if the file cannot be read or contains something else.
    """
    if not file.exists():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{file} cannot be read as JSON ({first_line(error)}); {WAY_OUT}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold a mapping, found a {type(content).__name__}; {WAY_OUT}")
    return content


def _part(file: Path, content: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a mapping inside the mapping of a JSON file.

    Raises:
        ValueError: if it is missing or is not a mapping.
    """
    if not isinstance(content.get(name), dict):
        raise ValueError(f"{file} lacks {name}, or it is not a mapping; {WAY_OUT}")
    return content[name]


def read_provenance(folder: Path) -> dict[str, Any]:
    """Read `run.json` and check the entries that the page uses."""
    file = folder / "run.json"
    content = read_json(file)
    runs = _part(file, content, "runs") if content.get("runs") else {"": content} if "seconds" in content else {}
    for key in runs:
        run = _part(file, runs, key)
        for name in ("seconds", "compilation_seconds"):
            numbers = _part(file, run, name).values()
            if not all(isinstance(number, int | float) for number in numbers):
                raise ValueError(f"{file} has a value within {name} that is not a number; {WAY_OUT}")
        if "device" in run and {"count", "kind", "platform"} - set(_part(file, run, "device")):
            raise ValueError(f"{file} lacks count, kind or platform of device; {WAY_OUT}")
        if "versions" in run:
            _part(file, run, "versions")
    return content


def read_structure(folder: Path, circumstances: dict[str, Any]) -> Structure:
    """Read the groups and classes of the run from `run.json`."""
    facts = circumstances.get("data")
    if not isinstance(facts, dict) or "structure" not in facts:
        return BINARY
    file = folder / "run.json"
    try:
        return Structure.from_plain(_part(file, facts, "structure"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file} has groups that cannot be used ({first_line(error)}); {WAY_OUT}") from error


def read_selection(folder: Path, circumstances: dict[str, Any]) -> Selection:
    """Read the selection settings of the run, including the bound."""
    file = folder / "configuration.json"
    if file.exists():
        content = _part(file, read_json(file), "selection")
    elif "settings" in circumstances:
        file = folder / "run.json"
        content = _part(file, _part(file, _part(file, circumstances, "settings"), "each"), "selection")
    else:
        return current(Selection)()
    if "epsilon" not in content:
        raise ValueError(f"{file} lacks selection.epsilon; {WAY_OUT}")
    kind = current(Selection)
    names = {field.name for field in dataclasses.fields(kind)}
    values = {name: value for name, value in content.items() if name in names}
    try:
        return kind(**{**values, "also": tuple(values.get("also", ()))})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file} has settings of selection that cannot be used ({first_line(error)})") from error
