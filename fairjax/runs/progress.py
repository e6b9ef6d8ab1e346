"""Progress of a run: bars in a terminal, plain lines in a log."""

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Lines:
    """Progress as plain lines for a log, at the beginning and the end of a stage and at intervals in between."""

    def __init__(self, console: Console, every: float = 10.0):
        """Print to a console, with at least `every` seconds between the lines of one stage."""
        self._console, self._every = console, every
        self._stages: list[dict[str, Any]] = []

    def __enter__(self):
        """Do nothing, since there is nothing to draw."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Do nothing, since there is nothing to draw."""

    def add_task(self, name: str, *, total: int, unit: str, note: str) -> int:
        """Begin a stage, like `rich.progress.Progress`, and return its number."""
        now = time.perf_counter()
        stage = {"name": name, "total": total, "unit": unit, "note": note, "completed": 0}
        self._stages.append({**stage, "begun": now, "printed": now, "ended": False})
        self._print(f"{name}: started, {total} {unit}" + (f" at most, {note}" if note else ""))
        return len(self._stages) - 1

    def update(self, number: Any, *, advance: int = 0, **changes: Any) -> None:
        """Record progress, and print a line if the stage ends or enough time has passed."""
        stage = self._stages[number]
        stage |= changes
        stage["completed"] += advance
        now, ended = time.perf_counter(), stage["completed"] >= stage["total"]
        if stage["ended"] or not (ended or now - stage["printed"] >= self._every):
            return
        stage |= {"printed": now, "ended": ended}
        note = f", {stage['note']}" if stage["note"] else ""
        seconds = f"{'finished ' if ended else ''}after {now - stage['begun']:.1f} s"
        self._print(f"{stage['name']}: {stage['completed']} of {stage['total']} {stage['unit']}{note}, {seconds}")

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)


def progress_of(console: Console) -> Any:
    """Return progress bars for a terminal, and plain lines elsewhere, where a bar would be drawn only at its end."""
    if not console.is_interactive:
        return Lines(console)
    return Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
