"""Write everything that follows from the finished units."""

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import pandas as pd

from experiments.second_paper.table3 import measuring, page
from experiments.second_paper.table3.explanations import explanations
from experiments.second_paper.table3.rows import UNITS
from experiments.second_paper.table3.settings import Table3
from experiments.second_paper.table3.summary import agreements, comparisons, summary
from fairjax.runs.files import write_json, write_text
from fairjax.runs.identity import plain
from fairjax.runs.provenance import PACKAGES


def write(settings: Table3) -> list[Path]:
    """Write tables, the Markdown file and the page.

    Args:
        settings: the settings, all of whose units are finished.

    Returns:
        The paths of the files written.
    """
    per_split, facts = measuring.gathered(settings), measuring.facts(settings)
    found = summary(per_split, facts)
    compared, agreeing = comparisons(per_split), agreements(found)
    explained = explanations(agreeing, facts)
    about = provenance(settings, facts)
    parts = page.sections(settings, found, compared, explained, facts, about)
    text = page.lead(settings)
    written = []

    def table(name: str, frame: pd.DataFrame) -> None:
        write_text(settings.out / name, frame.to_csv(index=False, float_format="%.6g"))
        written.append(settings.out / name)

    frames = {"per_split": per_split, "summary": found, "comparisons": compared}
    frames |= {"agreements": agreeing, "explanations": explained}
    for name, frame in frames.items():
        table(f"{name}.csv", frame)
    write_json(settings.out / "run.json", about)
    for name, content in (
        ("table3.md", page.markdown(parts, explained, text)),
        ("table3.html", page.page(parts, text)),
    ):
        write_text(settings.out / name, content)
        written.append(settings.out / name)
    return written


def provenance(settings: Table3, facts: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    """Return settings, versions, the device, facts about the data, and the time and facts of each unit."""
    runs = {}
    for variant in settings.variants:
        folder = measuring.folder_of(settings, *variant)
        units = {unit: measuring.read(folder / f"{unit}.json") for unit in UNITS}
        runs["-".join(variant)] = {
            "data": facts[variant],
            "units": {unit: {"seconds": saved["seconds"], **saved["facts"]} for unit, saved in units.items()},
        }
    device = jax.devices()[0]
    return {
        "settings": plain(settings),
        "versions": {package: _version(package) for package in PACKAGES},
        "python": platform.python_version(),
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "runs": runs,
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
