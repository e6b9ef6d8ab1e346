"""Compute sections one after another, so that a killed run loses at most the section that it was computing."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from rich.console import Console

import fairjax
from fairjax.checkpoint import first_line
from fairjax.runs.files import write_json, write_text
from fairjax.runs.progress import progress_of
from fairjax.runs.signals import stop_if_asked
from fairjax.runs.timings import Timings

Tables = dict[str, pd.DataFrame]
"""Tables by the names of their files, without suffix."""


class Section(NamedTuple):
    """A section of detection."""

    name: str
    """Name on the command line, on the page and of its marker."""
    compute: Callable[[Any], Tables]
    """Computes the tables; the names of all sections' tables differ."""
    unfit: Callable[[Any], str | None]
    """Returns why the section does not apply to the data; None if it does."""


class Computed(NamedTuple):
    """What the sections found."""

    tables: Tables
    """The tables of all sections, as their files have them."""
    left_out: dict[str, str]
    """Why sections do not apply, by their names."""
    seconds: dict[str, float]
    """How long each section took."""


class Place(NamedTuple):
    """Where sections are saved, and what their tables depend on."""

    folder: Path
    """The folder of the results."""
    conditions: dict[str, Any]
    """What the tables depend on besides the networks, as plain values: tables of other conditions are not reused."""
    console: Console
    """The console that shows progress."""
    timings: Timings
    """Records the time of each section."""


def compute_sections(sections: Sequence[Section], subject: Any, place: Place, chosen: Sequence[str] = ()) -> Computed:
    """Compute the sections that apply, or read those that an earlier call finished.

    Args:
        sections: the sections.
        subject: what they explain.
        place: where they are saved.
        chosen: names of the sections to compute; all if empty.

    Raises:
        ValueError: if a chosen section does not apply to the data.
    """
    wanted = [section for section in sections if not chosen or section.name in chosen]
    left_out = {section.name: reason for section in wanted if (reason := section.unfit(subject)) is not None}
    if chosen and left_out:
        name, reason = next(iter(left_out.items()))
        raise ValueError(f"the section {name} {reason}: leave it out of --sections")
    tables, seconds = {}, {}
    applicable = [section for section in wanted if section.name not in left_out]
    with progress_of(place.console) as progress:
        for section in applicable:
            stop_if_asked()
            bar = progress.add_task(section.name, total=1, unit="section", note="")
            found = _finished(place, section.name)
            if found is None:
                start = time.perf_counter()
                with place.timings.stage(section.name):
                    made = section.compute(subject)
                _save(place, section.name, made, time.perf_counter() - start)
                found = _finished(place, section.name)
                assert found is not None
            tables |= found[0]
            seconds[section.name] = found[1]
            progress.update(bar, advance=1)
    return Computed(tables, left_out, seconds)


def _marker(folder: Path, name: str) -> Path:
    return folder / "states" / "detection" / f"{name}.json"


def _conditions(place: Place) -> dict[str, Any]:
    return {"fairjax": fairjax.__version__, **place.conditions}


def _save(place: Place, name: str, tables: Tables, seconds: float) -> None:
    """Write the tables of a section, and then the marker that says that they are complete."""
    digests, text_columns = {}, {}
    for table, frame in tables.items():
        text = frame.to_csv(index=False, float_format="%.9g")
        write_text(place.folder / f"{table}.csv", text)
        digests[table] = hashlib.sha256(text.encode()).hexdigest()
        text_columns[table] = _text_columns(frame)
    content = {"conditions": _conditions(place), "tables": digests, "text": text_columns, "seconds": round(seconds, 3)}
    write_json(_marker(place.folder, name), content)


def _text_columns(frame: pd.DataFrame) -> list[str]:
    """Return the names of the columns that hold text, which may look like numbers: groups may be called 0 and 1."""
    other = [name for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name])]
    return [name for name in other if any(isinstance(value, str) for value in frame[name])]


def _finished(place: Place, name: str) -> tuple[Tables, float] | None:
    """Read the tables of a section; None if they are not complete, were changed, or are of other settings."""
    try:
        content = json.loads(_marker(place.folder, name).read_text(encoding="utf-8"))
        if content["conditions"] != json.loads(json.dumps(_conditions(place))):
            return None
        tables = {}
        for table, digest in content["tables"].items():
            file = place.folder / f"{table}.csv"
            if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
                return None
            tables[table] = read_table(file, content["text"][table])
        return tables, float(content["seconds"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def read_table(file: Path, text: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table of a section; names such as NA stay text.

    Args:
        file: the file.
        text: names of the columns that hold text, even if all of it looks like numbers.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        return pd.read_csv(file, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(text, str))
    except pd.errors.ParserError as error:
        raise ValueError(f"{file} cannot be read ({first_line(error)})") from error
