"""The saved networks of a run: their variables, and the settings of the run, from which its splits are recomputed."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import flax.linen as nn
import pandas as pd

from fairjax import checkpoint
from fairjax.datasets import DATASETS
from fairjax.runs.detecting.settings import DetectSettings
from fairjax.runs.identity import TRAINING_FIELDS, training_identity
from fairjax.runs.settings import Settings
from fairjax.types import Variables

OF_RUN = tuple(name for name in TRAINING_FIELDS if name not in ("table", "images"))
"""Names of the settings whose values are those of the run."""


class SavedRun(NamedTuple):
    """The saved networks of a run."""

    settings: DetectSettings
    """Settings of detection, with the data, splits and seeds of the run."""
    module: nn.Module
    """The Linen module."""
    variables: Variables
    """Variables with a leading axis of all seeds of the run."""
    seeds: tuple[int, ...]
    """The seeds of the run, in the order of the variables."""
    thresholds: tuple[float, ...] | None
    """The threshold that the run selected for each network, in the order of `seeds`; None if it is not known."""
    checksum: str
    """Checksum of the files of the networks."""


def load_run(settings: DetectSettings) -> SavedRun:
    """Load saved networks and the settings of their run.

    Args:
        settings: the settings, with the folder of the networks.

    Raises:
        ValueError, FileNotFoundError: if the folder is not one of saved networks of a run, the run's settings cannot be
            read, the data are not those of the run, or settings are given that the run determines.
    """
    folder = settings.saved_network
    assert folder is not None
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is no folder: give one with the saved networks of a run, such as "
            "results/compas-spd/networks/trained"
        )
    saved = checkpoint.load(folder)
    if saved.module is None:
        raise ValueError(
            f"{folder} holds the variables of a network that is no module of fairjax.nn, so it cannot be applied here: "
            "use the functions of fairjax.detect in Python, with the code that makes the network"
        )
    if "seeds" not in saved.about:
        raise ValueError(
            f"{folder} does not say which seeds its networks are of, so it was not written by debias: use the "
            "functions of fairjax.detect in Python"
        )
    seeds = tuple(saved.about["seeds"])
    rebuilt = _rebuilt(settings, folder.parent.parent / "configuration.json")
    if rebuilt.seeds != settings.seeds and settings.seeds != Settings.seeds:
        unknown = [seed for seed in settings.seeds if seed not in seeds]
        if unknown:
            raise ValueError(f"seeds must be some of {', '.join(map(str, seeds))}, got {unknown[0]}")
        rebuilt = dataclasses.replace(rebuilt, seeds=settings.seeds)
    thresholds = _thresholds(saved.about, folder, seeds)
    return SavedRun(rebuilt, cast(nn.Module, saved.module), saved.variables, seeds, thresholds, _checksum(folder))


def _thresholds(about: dict[str, Any], folder: Path, seeds: Sequence[int]) -> tuple[float, ...] | None:
    """Return the threshold that a run selected for each network; None if neither the networks nor its results say."""
    if "threshold" in about.get("table", {}):
        return tuple(about["table"]["threshold"])
    try:
        results = pd.read_csv(folder.parent.parent / "results.csv", keep_default_na=False)
        method = "standard" if folder.name == "trained" else folder.name
        rows = results[(results["method"] == method) & (results["part"] == "test")]
        rows = rows[rows["rule"] == rows["rule"].iloc[0]]  # the main rule is first, and saved networks are of that
        found = {int(seed): float(value) for seed, value in zip(rows["seed"], rows["threshold"], strict=True)}
        return tuple(found[seed] for seed in seeds)
    except (OSError, ValueError, LookupError):  # not finished, or without this method
        return None


def _rebuilt(settings: DetectSettings, file: Path) -> DetectSettings:
    """Return the settings with the data and training of the run whose configuration is in a file."""
    content = _read(file)
    of_table, of_images = "table" in content, "images" in content
    if of_table and not settings.table:
        raise ValueError(
            f"the run in {file.parent} was on a table of your own, whose path it does not keep: name its files with "
            "--table"
        )
    if of_images and settings.images is None:
        raise ValueError(
            f"the run in {file.parent} was on a folder of images of your own, whose path it does not keep: name it "
            "with --images"
        )
    given = [name for name in ("table", "images") if getattr(settings, name) and name not in content]
    given += [name for name in OF_RUN if name not in ("seeds", "dataset") and _is_given(settings, name)]
    known = _settings_of(content, settings)
    differing = [name for name in given if getattr(known, name) != getattr(settings, name)]
    if not (of_table or of_images) and settings.dataset not in (Settings.dataset, known.dataset):
        differing.insert(0, "dataset")
    if differing:
        raise ValueError(
            f"{differing[0]} is that of the run in {file.parent}, {_brief(getattr(known, differing[0]))}: leave it out "
            "with --network"
        )
    expected = {name: content[name] for name in TRAINING_FIELDS if name in content}
    found = json.loads(json.dumps(training_identity(known)))
    if found != expected:
        names = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
        what = {"table": "the table", "images": "the folder of images"}.get(names[0], f"the setting {names[0]}")
        raise ValueError(
            f"{what} is not that of the run in {file.parent}, so its splits cannot be made again: give the data that "
            "it was made with"
        )
    return known


def _read(file: Path) -> dict[str, Any]:
    """Read the configuration of a run."""
    if not file.exists():
        raise FileNotFoundError(
            f"there is no {file}, which says what the networks were trained on: give a folder of networks inside the "
            "folder of a finished run, such as results/compas-spd/networks/trained"
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} cannot be read ({checkpoint.first_line(error)})") from error
    lacking = [name for name in ("dataset", "seeds", "network", "training") if name not in (content or {})]
    if lacking:
        raise ValueError(f"{file} lacks {', '.join(lacking)}, so it is not that of a run of debias")
    return content


def _settings_of(content: dict[str, Any], settings: DetectSettings) -> DetectSettings:
    """Return settings with the values of a configuration."""
    changes: dict[str, Any] = {name: content[name] for name in OF_RUN if name in content}
    for name in ("simulation", "network", "training", *(("loss",) if "loss" in changes else ())):
        group = getattr(settings, name)
        fields = {field.name: field.default for field in dataclasses.fields(group)}
        unknown = [key for key in changes[name] if key not in fields]
        if unknown:
            raise ValueError(f"this version of fairjax has no setting {name}.{unknown[0]}, which the run used")
        changes[name] = type(group)(**{key: _tuple(value) for key, value in changes[name].items()})
    if isinstance(changes.get("protected"), str):  # the two groups of the benchmark, or the one attribute of German
        DATASETS.check("dataset", content["dataset"])
        benchmark = DATASETS[content["dataset"]]
        single = bool(benchmark.attributes) and not benchmark.intersections
        changes["protected"] = (changes["protected"],) if single else ()
    changes = {name: _tuple(value) for name, value in changes.items()}
    if settings.table or settings.images:
        changes.pop("dataset")  # named after its file or folder
    defaults = {field.name: field.default for field in dataclasses.fields(Settings)}
    reset = {name: defaults[name] for name in OF_RUN if name not in ("dataset", *changes)}
    return dataclasses.replace(settings, **{**reset, **changes})


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _is_given(settings: DetectSettings, name: str) -> bool:
    """Return whether a setting differs from its default."""
    default = next(field.default for field in dataclasses.fields(Settings) if field.name == name)
    value = getattr(settings, name)
    return value != default and not (dataclasses.is_dataclass(value) and value == type(value)())


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else f"{text[:60]}..."


def _checksum(folder: Path) -> str:
    """Return the SHA-256 of the names and contents of all files of saved networks."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
