"""The sections of detection."""

from fairjax.runs.detecting import concepts, counterfactuals, features, maps, quality
from fairjax.runs.detecting.applies import needs_table_and_two_groups
from fairjax.runs.detecting.computing import Computed, Place, Section, compute_sections
from fairjax.runs.detecting.settings import detection_values
from fairjax.runs.detecting.subject import Subject

SECTIONS: tuple[Section, ...] = (
    Section("features", features.compute, needs_table_and_two_groups),
    Section("counterfactuals", counterfactuals.compute, needs_table_and_two_groups),
    Section("concepts", concepts.compute, concepts.unfit),
    Section("quality", quality.compute, quality.unfit),
    Section("maps", maps.compute, maps.unfit),
)
"""The sections in the order of the page. There is no other list of them."""


def compute_all(subject: Subject) -> Computed:
    """Compute the sections that apply, or read those that an earlier call finished.

    Raises:
        ValueError: if a chosen section does not apply to the data.
    """
    run, settings = subject.run, subject.settings
    place = Place(run.folder.path, detection_values(settings), run.console, run.timings)
    return compute_sections(SECTIONS, subject, place, settings.sections)
