"""What the page of `detect` shows of a section."""

from typing import NamedTuple

from fairjax.report.layout import Section


class Part(NamedTuple):
    """What the page shows of one section of detection."""

    sections: list[Section]
    """Sections of the page."""
    findings: list[str]
    """What was found, in sentences."""


def meaning(does: str, does_not: str) -> tuple[str, str]:
    """Say what the numbers of a section mean, and what they do not mean."""
    return f"What it means: {does}", f"What it does not mean: {does_not}"
