"""The sections of the detection of bias in text classifiers."""

from fairjax.runs.detecting.computing import Computed, Place, Section, compute_sections
from fairjax.runs.detecting_text import concepts, names, replacing, words
from fairjax.runs.detecting_text.subject import TextSubject


def _always(subject: TextSubject) -> str | None:
    return None


def _needs_networks(subject: TextSubject) -> str | None:
    return None if subject.settings.explained else "explains no network, since explained is 0"


TEXT_SECTIONS: tuple[Section, ...] = (
    Section("names", names.compute, _always),
    Section("words", words.compute, _needs_networks),
    Section("replacements", replacing.compute, _always),
    Section("concepts", concepts.compute, _always),
)
"""The sections in the order of the page."""


def compute_all(subject: TextSubject) -> Computed:
    """Compute the sections, or read those that an earlier call finished."""
    place = Place(subject.folder.path, subject.settings.values(), subject.console, subject.timings)
    return compute_sections(TEXT_SECTIONS, subject, place)
