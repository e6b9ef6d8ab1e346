"""Write a self-contained page on why networks are biased: findings, and one section per question."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fairjax.report.detect_about import About
from fairjax.report.detect_links import PAGE
from fairjax.report.detect_part import Part
from fairjax.report.detect_sections import PARTS
from fairjax.report.layout import Fold, Section
from fairjax.report.page import render
from fairjax.runs.detecting.computing import Computed
from fairjax.runs.detecting.sections import SECTIONS
from fairjax.runs.files import write_text


class Written(NamedTuple):
    """A page that was written."""

    path: Path
    """The file."""
    findings: list[str]
    """What was found, in sentences, as on the page."""


def write(computed: Computed, about: About, folder: Path) -> Written:
    """Write the page, `detect.html` in a folder.

    Args:
        computed: what the sections found.
        about: facts about the networks and the data.
        folder: the folder of the tables.
    """
    parts = parts_of(computed, about)
    write_text(folder / PAGE, page(parts, computed.left_out, about))
    return Written(folder / PAGE, [line for part in parts for line in part.findings])


def parts_of(computed: Computed, about: About) -> list[Part]:
    """Return what the page shows of each section that was computed, in the order of `SECTIONS`."""
    shown = (PARTS[section.name] for section in SECTIONS)
    return [show(computed.tables, about) for show, needed in shown if needed in computed.tables]


def page(parts: Sequence[Part], left_out: Mapping[str, str], about: About) -> str:
    """Return the HTML of the page.

    Args:
        parts: what it shows of each section.
        left_out: why sections do not apply, by their names.
        about: facts about the networks and the data.
    """
    lead = (
        f"{about.networks[0].upper()}{about.networks[1:]} for {about.dataset} ({about.rows:,} rows), {about.source}, "
        f"explained on the test part of each seed's split ({about.test_rows:,} rows). "
    )
    if len(about.groups) == 2:
        lead += f"Differences are {about.difference}. "
        if about.groups == tuple(f"{about.protected} = {code}" for code in (0, 1)):
            lead += f"The code 1 is the group that the data set calls privileged, for {about.protected} and others. "
    if about.classes == 2 and about.threshold is not None:
        lead += f"A decision is positive if the score is above {about.threshold:g}. "
    elif about.classes == 2:
        low, high = min(about.thresholds), max(about.thresholds)
        between = f"{low:.2f}" if len(about.thresholds) == 1 else f"from {low:.2f} to {high:.2f}"
        lead += f"A decision is positive if the score is above the threshold that debias selects, {between}. "
    if about.is_given and len(about.seeds) > 1:
        lead += (
            f"It is the same network on {len(about.seeds)} test parts: read networks below as test parts. They share "
            "rows, so intervals over them say how far a number depends on the random split, and not how it would vary "
            "for a network that is trained again, or among other people."
        )
    elif about.is_given:
        lead += "One test part says nothing about how numbers vary with the random split."
    elif len(about.seeds) > 1:
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
            _limits(left_out, about),
            Section("settings", "Settings", folds=[Fold("All settings", json.dumps(about.settings, indent=1))]),
        ],
    )


def _limits(left_out: Mapping[str, str], about: About) -> Section:
    points = [f"Not computed: {name}; it {reason}." for name, reason in left_out.items()]
    points += [_WEIGHTS] if about.is_weighted else []
    return Section("limits", "What this page cannot tell", points=[*points, *_ALWAYS])


_WEIGHTS = (
    "What holds for the population that the weights of rows stand for, in all numbers: weights count in the parts and "
    "the importance of variables, in the gaps before and after perturbations, and in the quality by subgroup. Without "
    "weights, every row counts once: associations with the group, effects of perturbations, probes, TCAV and its "
    "steps, single units, attribution profiles, and maps."
)


_ALWAYS = (
    "Whether a difference is justified: the page says how networks produce it, not whether they may.",
    "Whether labels are right: networks that learn biased labels well repeat them, and are accurate by these labels.",
    "What holds for other networks, other data or later: all numbers are of these networks on these test parts.",
    "Anything about groups and attributes that the data do not name.",
)
