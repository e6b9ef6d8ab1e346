"""Comparison of two benchmark results."""

from typing import Any

from rich import box
from rich.table import Table

from experiments.benchmarks import clock
from experiments.benchmarks.report import number


def ratios(first: dict[str, Any], second: dict[str, Any]) -> list[tuple[str, str, float, float, float]]:
    """Compare every measure that both results contain.

    Args:
        first: the content of a `bench.json`.
        second: the content of another `bench.json`.

    Returns:
        One row per measure, in the order of the first result: contender, measure, both medians, and the second median
        divided by the first.
    """
    rows = []
    for key, entry in first["contenders"].items():
        second_measures = second["contenders"].get(key, {}).get("measures", {})
        for measure, raw in entry.get("measures", {}).items():
            if raw and second_measures.get(measure):
                before, after = clock.median(raw), clock.median(second_measures[measure])
                rows.append((key, measure, before, after, after / before))
    return rows


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Describe the other differences between two results, such as settings, machine and versions."""
    return [
        f"{part}.{name}: {first[part].get(name)} and {second[part].get(name)}"
        for part in ("machine", "versions", "settings")
        for name in {**first[part], **second[part]}
        if first[part].get(name) != second[part].get(name)
    ]


def printed(rows: list[tuple[str, str, float, float, float]]) -> Table:
    """Return the table for a terminal; times are in seconds."""
    table = Table(box=box.SIMPLE_HEAD, caption="Medians in seconds, and the second over the first: below 1 is faster.")
    for heading in ("contender", "measure"):
        table.add_column(heading, overflow="fold")
    for heading in ("first", "second", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    for key, measure, before, after, ratio in rows:
        table.add_row(key, measure, f"{before:.3g}", f"{after:.3g}", number(ratio))
    return table
