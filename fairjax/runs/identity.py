"""What the numbers of a run depend on: the identity of its folder."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairjax.data.table_files import files_of
from fairjax.runs.own_data import IMAGE_FIELDS, TABLE_FIELDS
from fairjax.runs.settings import Settings

# Settings that change how a run proceeds but not its numbers; they are not part of its identity.
NOT_IN_IDENTITY = ("out", "group_size", "save_every", "path", "roc_search", "compilation_cache", "hosts")
# Settings that define groups and compare them.
GROUPING_FIELDS = ("intersect", "minimum", "small", "across", "rate_minimum", "stratify")
# Settings that trained networks depend on.
TRAINING_FIELDS = (
    "dataset", "seeds", "protected", "intersect", "minimum", "small", "stratify", "simulation", "network", "training",
    "loss", "preprocess", "table", *TABLE_FIELDS, "images", *IMAGE_FIELDS,
)  # fmt: skip


# Settings that older versions do not have; at their defaults, they are not part of the identity.
LATER_SETTINGS = ("loss", "preprocess", "composed")
LATER_FIELDS = {
    "network": ("file", "output", "standardise", "kind", "channels", "blocks"),
    "simulation": ("bias",),
}  # fmt: skip


def identity(settings: Any, network: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return everything that the numbers of a run depend on, as plain values.

    For a run with the two groups of a benchmark, the identity is the same as in versions without a choice of groups, so
    that folders written by those versions keep their identity.

    Args:
        settings: the settings of the run.
        network: checksums of a given network, in place of the settings of one that is trained.
    """
    values = {name: value for name, value in plain(settings).items() if name not in NOT_IN_IDENTITY}
    if not isinstance(settings, Settings):
        return values
    default = {field.name: field.default for field in dataclasses.fields(settings)}
    optional = (*GROUPING_FIELDS, *LATER_SETTINGS, *TABLE_FIELDS, "table", *IMAGE_FIELDS, "images")
    values = {name: value for name, value in values.items() if name not in optional or value != plain(default[name])}
    for name, fields in LATER_FIELDS.items():
        usual = plain(default[name])
        given = values[name].items()
        values[name] = {field: value for field, value in given if field not in fields or value != usual.get(field)}
    if network is not None:  # the content counts, not the name
        chosen = settings.network
        values["network"] = {"given": network, "output": chosen.output, "standardise": chosen.standardise}
        del values["training"]
    if settings.table:
        values["table"] = _digests(settings.table)  # the content counts, not the name
        return values
    if settings.images:
        values["images"] = _state_of_folder(settings.images)
        return values
    single = not settings.benchmark.intersections
    if not settings.protected or single:  # older versions wrote German's attribute for all data sets
        values["protected"] = settings.protected[0] if settings.protected else "sex"
    return values


def _digests(paths: Sequence[str]) -> list[str]:
    """Return the checksums of files."""
    digests = []
    for file in files_of(paths):
        with file.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return digests


def _state_of_folder(folder: Path) -> str:
    """Return a checksum of the names, sizes and times of change of all files in a folder and below it."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            about = path.stat()
            digest.update(f"{path.relative_to(folder)}\0{about.st_size}\0{about.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def training_identity(settings: Settings) -> dict[str, Any]:
    """Return everything that the trained networks of a run depend on, as plain values."""
    return {name: value for name, value in identity(settings).items() if name in TRAINING_FIELDS}


def plain(value: Any) -> Any:
    """Convert dataclasses, tuples and paths to dictionaries, lists and strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
