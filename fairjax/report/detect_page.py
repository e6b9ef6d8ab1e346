"""Write a self-contained page on why networks are biased: findings, and one section per question."""

import json
from pathlib import Path

from fairjax.report.detect_about import About
from fairjax.report.detect_sections import PARTS, Part
from fairjax.report.layout import Fold, Section
from fairjax.report.page import render
from fairjax.runs.detecting.sections import SECTIONS, Computed
from fairjax.runs.files import write_text

PAGE = "detect.html"


def write(computed: Computed, about: About, folder: Path) -> Path:
    """Write the page.

    Args:
        computed: what the sections found.
        about: facts about the networks and the data.
        folder: the folder of the tables.

    Returns:
        The path of the page, `detect.html` in the folder.
    """
    path = folder / PAGE
    write_text(path, page(computed, about))
    return path


def page(computed: Computed, about: About) -> str:
    """Return the HTML of the page."""
    parts = _parts(computed, about)
    lead = (
        f"{about.networks[0].upper()}{about.networks[1:]} for {about.dataset} ({about.rows:,} rows), {about.source}, "
        f"explained on the test part of each network's split ({about.test_rows:,} rows). "
    )
    if len(about.groups) == 2:
        lead += f"Differences are {about.difference}. "
    lead += f"A decision is positive if the score is above {about.threshold:g}. "
    if len(about.seeds) > 1:
        lead += (
            "Test parts of different networks share rows, so intervals over networks say how far a number depends on "
            "the random split and initialisation, and not how it would vary among other people."
        )
    else:
        lead += "One network says nothing about how numbers vary with the random split and initialisation."
    return render(
        f"Why networks for {about.dataset} are biased",
        lead,
        [
            Section("findings", "What was found", points=[line for part in parts for line in part.findings]),
            *(section for part in parts for section in part.sections),
            _limits(computed),
            Section("settings", "Settings", folds=[Fold("All settings", json.dumps(about.settings, indent=1))]),
        ],
    )


def findings(computed: Computed, about: About) -> list[str]:
    """Return what was found, in sentences."""
    return [line for part in _parts(computed, about) for line in part.findings]


def _parts(computed: Computed, about: About) -> list[Part]:
    """Return what the page shows of each section that was computed, in the order of `SECTIONS`."""
    shown = (PARTS[section.name] for section in SECTIONS)
    return [show(computed.tables, about) for show, needed in shown if needed in computed.tables]


def _limits(computed: Computed) -> Section:
    points = [f"Not computed: {name}; it {reason}." for name, reason in computed.left_out.items()]
    return Section("limits", "What this page cannot tell", points=[*points, *_ALWAYS])


_ALWAYS = (
    "Whether a difference is justified: the page says how networks produce it, not whether they may.",
    "Whether labels are right: networks that learn biased labels well repeat them, and are accurate by these labels.",
    "What holds for other networks, other data or later: all numbers are of these networks on these test parts.",
    "Anything about groups and attributes that the data do not name.",
)
