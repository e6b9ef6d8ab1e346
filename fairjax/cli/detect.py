"""One run of `detect`: train or load networks, find out why they are biased, and write tables and a page."""

import time

from rich.console import Console

from fairjax.report import detect_page
from fairjax.report.detect_about import About
from fairjax.runs.detecting.computing import Computed
from fairjax.runs.detecting.sections import compute_all
from fairjax.runs.detecting.settings import DetectSettings, detection_values
from fairjax.runs.detecting.subject import Subject, open_subject
from fairjax.runs.files import write_json
from fairjax.runs.identity import plain
from fairjax.runs.provenance import environment


def run(settings: DetectSettings, console: Console) -> None:
    """Explain the networks of all seeds, or resume an interrupted run, and write the folder of results.

    Args:
        settings: the settings.
        console: the console that shows progress and the findings.

    Raises:
        ValueError, OSError: if data, networks, folders or disks cannot be used; the message says what to do.
    """
    start = time.perf_counter()
    with open_subject(settings, console) as subject:
        computed = compute_all(subject)
        about = About.of(subject)
        page = detect_page.write(computed, about, subject.run.folder.path)
        seconds = time.perf_counter() - start
        write_json(subject.run.folder.path / "run.json", _facts(subject, computed, seconds))
    for line in page.findings:
        console.print(f"* {line}", markup=False, highlight=False)
    names = ", ".join(sorted(f"{name}.csv" for name in computed.tables))
    lines = f"\ntables: {page.path.parent} ({names})\npage: {page.path}"
    console.print(lines, markup=False, highlight=False, soft_wrap=True)


def _facts(subject: Subject, computed: Computed, seconds: float) -> dict:
    """Return versions, device, settings and timings."""
    about = environment(subject.run, subject.facts, subject.structure, seconds)
    saved = subject.settings.saved_network
    source = {"epochs": list(subject.epochs)} if saved is None else {"network": str(saved)}
    source = source if subject.settings.network.file is None else {"network": subject.settings.network.file}
    sections = {"sections": computed.seconds, "left_out": computed.left_out}
    detection = {"seeds": plain(subject.seeds), "detection": detection_values(subject.settings)}
    return {**about, **source, **detection, **sections}
