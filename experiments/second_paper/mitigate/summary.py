"""Write tables, figures and the page of all rows that were computed."""

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import jax
import pandas as pd

from experiments.second_paper.mitigate import figures, measuring, page, page_tables, tables
from experiments.second_paper.mitigate.entries import ENTRIES
from experiments.second_paper.mitigate.settings import STUDIED, Mitigate
from fairjax.datasets import DATASETS
from fairjax.report.markdown_table import markdown_table
from fairjax.report.page import picture, render
from fairjax.runs.files import write_json, write_text
from fairjax.runs.identity import plain

PACKAGES = ("fairjax", "jax", "flax", "optax", "aif360")


def write(settings: Mitigate) -> list[Path]:
    """Write everything that is computed from the finished rows.

    Returns:
        The paths of the files.

    Raises:
        ValueError: if no row is finished, or a file is damaged.
    """
    found = compute(settings)
    out, written = settings.out, []

    def text(name: str, content: str) -> None:
        write_text(out / name, content)
        written.append(out / name)

    pictures = {}
    for name in ("per_split", "summary", "fixed", "frontier", "against", "stages"):
        text(f"{name}.csv", found[name].to_csv(index=False, float_format="%.6g"))
    titles = {name: title(name, of_data) for name, of_data in measuring.facts(settings).items()}
    drawn = figures.write_frontiers(found["frontier"], settings.epsilon, titles, out)
    for name, figure in drawn.items():
        pictures[name] = picture(figure, f"Frontier of {DATASETS.label(name)}", caption(settings, name))
    sections = page.sections(found, pictures)
    text("mitigate.html", render("Mitigation of bias, stage by stage", lead(settings), sections))
    text("mitigate.md", markdown(found))
    write_json(out / "run.json", about(settings))
    return [*written, *sorted(out.glob("frontier-*.png"))]


def compute(settings: Mitigate) -> dict[str, Any]:
    """Return the tables by name."""
    table = measuring.gathered(settings)
    if table.empty:
        raise ValueError(f"no row is finished in {settings.out}: run the command without an interruption")
    chosen = tables.selected(table, settings)
    best = tables.best_of_stages(chosen)
    return {
        "per_split": chosen,
        "summary": tables.summary(chosen),
        "fixed": tables.fixed(table),
        "frontier": tables.frontier(table, settings),
        "against": tables.against_nothing(chosen),
        "best": best,
        "stages": tables.stage_comparisons(best),
    }


def title(dataset: str, of_data: dict[str, Any]) -> str:
    """Return the title of a frontier."""
    zero, one = STUDIED[dataset].groups
    return f"{DATASETS.label(dataset)}: {zero} and {one}, {of_data['rows']:,} rows"


def caption(settings: Mitigate, dataset: str) -> str:
    """Return the text below a frontier."""
    return (
        f"{DATASETS.label(dataset)}: means over {len(settings.seeds)} test parts at tuned thresholds. Every point is a "
        f"method with one weight or bound; grey: |bias| below {settings.epsilon:g}."
    )


def lead(settings: Mitigate) -> str:
    """Return the paragraph below the title."""
    widths = "-".join(map(str, settings.widths))
    return (
        f"Methods before, in and after training, on the same {len(settings.seeds)} splits (50 % train, 20 % valid, "
        f"30 % test) and, where they start from a trained network, on the same networks of {widths} hidden units. "
        "Thresholds have the best balanced accuracy on valid rows; weights of terms, candidates and group thresholds "
        "maximise the expected objective there. The objective of a split is the balanced accuracy on its test part if "
        f"|bias| < {settings.epsilon:g}, else 0."
    )


def markdown(found: dict[str, Any]) -> str:
    """Return the main tables as Markdown."""
    parts = ["# Mitigation of bias, stage by stage", ""]
    summary = found["summary"]
    for dataset, measure in dict.fromkeys(zip(summary["dataset"], summary["measure"], strict=True)):
        shown = page_tables.main_table(summary, dataset, measure)
        parts += [f"## {shown.title}", "", _markdown(shown), ""]
    parts += ["## Frontiers", ""]
    for dataset in dict.fromkeys(summary["dataset"]):
        for shown in page_tables.frontier_tables(found["fixed"], dataset):
            parts += [f"### {shown.title}", "", _markdown(shown), ""]
    parts += ["## Stages", "", _markdown(page_tables.stage_table(found["stages"])), ""]
    return "\n".join(parts)


def _markdown(table: Any) -> str:
    """Convert a table of the page."""
    cells = [[" ".join(filter(None, (cell.text, cell.small))) for cell in row.cells] for row in table.rows]
    return markdown_table(pd.DataFrame(cells, columns=table.columns))


def about(settings: Mitigate) -> dict[str, Any]:
    """Return settings, versions, device and the facts about the data."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES if _is_installed(name)}
    device = jax.devices()[0]
    return {
        "settings": plain(settings),
        "rows": {name: entry.label for name, entry in ENTRIES.items()},
        "data": measuring.facts(settings),
        "python": platform.python_version(),
        "versions": versions,
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
    }


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
