"""The sections of detection: what each computes, and running them so that a killed run loses at most one."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

import fairjax
from fairjax.checkpoint import first_line
from fairjax.runs.detecting import concepts, counterfactuals, features, maps, quality
from fairjax.runs.detecting.applies import needs_images_and_two_groups, needs_table_and_two_groups
from fairjax.runs.detecting.settings import detection_values
from fairjax.runs.detecting.subject import Subject
from fairjax.runs.files import write_json, write_text
from fairjax.runs.progress import progress_of
from fairjax.runs.signals import stop_if_asked

Tables = dict[str, pd.DataFrame]
"""Tables by the names of their files, without suffix."""


class Section(NamedTuple):
    """A section of detection."""

    name: str
    """Name on the command line, on the page and of its marker."""
    compute: Callable[[Subject], Tables]
    """Computes the tables; the names of all sections' tables differ."""
    unfit: Callable[[Subject], str | None]
    """Returns why the section does not apply to the data; None if it does."""


SECTIONS: tuple[Section, ...] = (
    Section("features", features.compute, needs_table_and_two_groups),
    Section("counterfactuals", counterfactuals.compute, needs_table_and_two_groups),
    Section("concepts", concepts.compute, concepts.unfit),
    Section("quality", quality.compute, quality.unfit),
    Section("maps", maps.compute, needs_images_and_two_groups),
)
"""The sections in the order of the page. There is no other list of them."""


class Computed(NamedTuple):
    """What the sections found."""

    tables: Tables
    """The tables of all sections, as their files have them."""
    left_out: dict[str, str]
    """Why sections do not apply, by their names."""
    seconds: dict[str, float]
    """How long each section took."""


def compute_all(subject: Subject) -> Computed:
    """Compute the sections that apply, or read those that an earlier call finished.

    Raises:
        ValueError: if a chosen section does not apply to the data.
    """
    folder, chosen = subject.run.folder.path, subject.settings.sections
    wanted = [section for section in SECTIONS if not chosen or section.name in chosen]
    left_out = {section.name: reason for section in wanted if (reason := section.unfit(subject)) is not None}
    if chosen and left_out:
        name, reason = next(iter(left_out.items()))
        raise ValueError(f"the section {name} {reason}: leave it out of --sections")
    tables, seconds = {}, {}
    applicable = [section for section in wanted if section.name not in left_out]
    with progress_of(subject.run.console) as progress:
        for section in applicable:
            stop_if_asked()
            bar = progress.add_task(section.name, total=1, unit="section", note="")
            found = _finished(folder, section.name, subject)
            if found is None:
                start = time.perf_counter()
                with subject.run.timings.stage(section.name):
                    made = section.compute(subject)
                _save(folder, section.name, subject, made, time.perf_counter() - start)
                found = _finished(folder, section.name, subject)
                assert found is not None
            tables |= found[0]
            seconds[section.name] = found[1]
            progress.update(bar, advance=1)
    return Computed(tables, left_out, seconds)


def _marker(folder: Path, name: str) -> Path:
    return folder / "states" / "detection" / f"{name}.json"


def _conditions(subject: Subject) -> dict[str, Any]:
    """Return what the tables of a section depend on, beside the networks."""
    return {"fairjax": fairjax.__version__, **detection_values(subject.settings)}


def _save(folder: Path, name: str, subject: Subject, tables: Tables, seconds: float) -> None:
    """Write the tables of a section, and last the marker that says that they are complete."""
    digests = {}
    for table, frame in tables.items():
        text = frame.to_csv(index=False, float_format="%.9g")
        write_text(folder / f"{table}.csv", text)
        digests[table] = hashlib.sha256(text.encode()).hexdigest()
    content = {"conditions": _conditions(subject), "tables": digests, "seconds": round(seconds, 3)}
    write_json(_marker(folder, name), content)


def _finished(folder: Path, name: str, subject: Subject) -> tuple[Tables, float] | None:
    """Read the tables of a section; None if they are not complete, were changed, or are of other settings."""
    try:
        content = json.loads(_marker(folder, name).read_text(encoding="utf-8"))
        if content["conditions"] != json.loads(json.dumps(_conditions(subject))):
            return None
        tables = {}
        for table, digest in content["tables"].items():
            file = folder / f"{table}.csv"
            if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
                return None
            tables[table] = read_table(file)
        return tables, float(content["seconds"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def read_table(file: Path) -> pd.DataFrame:
    """Read a table of a section; names such as NA stay text.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        return pd.read_csv(file, keep_default_na=False, na_values=[""])
    except pd.errors.ParserError as error:
        raise ValueError(f"{file} cannot be read ({first_line(error)})") from error
