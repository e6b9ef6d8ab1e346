"""One run of `detect --dataset snippets`: train classifiers of sentiment, test them with names, and write a page."""

import time

from rich.console import Console

import fairjax
from fairjax.report import detect_text_page
from fairjax.runs.detecting_text.sections import compute_all
from fairjax.runs.detecting_text.settings import TextSettings
from fairjax.runs.detecting_text.subject import open_text_subject
from fairjax.runs.files import write_json


def run(settings: TextSettings, console: Console) -> None:
    """Train and explain classifiers of text, or resume an interrupted run, and write the folder of results.

    Args:
        settings: the settings.
        console: the console that shows progress and the findings.

    Raises:
        ImportError, ValueError, OSError: if something is not installed, or files cannot be used.
    """
    start = time.perf_counter()
    with open_text_subject(settings, console) as subject:
        computed = compute_all(subject)
        folder, values = subject.folder.path, settings.values()
        page = detect_text_page.write(computed, values, len(subject.corpus.rated.texts), folder)
        facts = {"fairjax": fairjax.__version__, "settings": values, "sections": computed.seconds}
        write_json(folder / "run.json", {**facts, "seconds": round(time.perf_counter() - start, 1)})
    for line in page.findings:
        console.print(f"* {line}", markup=False, highlight=False)
    names = ", ".join(sorted(f"{name}.csv" for name in computed.tables))
    lines = f"\ntables: {folder} ({names})\npage: {page.path}"
    console.print(lines, markup=False, highlight=False, soft_wrap=True)
