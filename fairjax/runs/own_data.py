"""A user's own data on the command line: which settings describe a table, and which a folder of images."""

from pathlib import Path
from typing import Any

from fairjax.data.own_table import own_table
from fairjax.datasets import DATASETS, LAYOUTS, Benchmark, image_folder

SHARED_FIELDS = ("label", "positive", "privileged", "split_by")
"""Settings that describe the attributes of a user's own table or images."""

TABLE_ONLY_FIELDS = ("weight", "drop", "missing", "use_protected")
"""Settings that describe only tables."""

TABLE_FIELDS = ("label", "positive", "privileged", "weight", "split_by", "drop", "missing", "use_protected")
"""Settings that describe the columns of a user's own table."""

IMAGE_FIELDS = ("layout", "image_size", "colours", "uncertain", "incomplete", "on_unreadable")
"""Settings that describe a user's own images."""


def check_own_data(settings: Any, defaults: type) -> None:
    """Check that settings of a table or of images are given only with it; name the data set after its file or folder.

    Args:
        settings: the settings of a run.
        defaults: the class that has the default of each setting as an attribute.

    Raises:
        ValueError: if a setting is missing, or would change nothing.
    """
    given = [name for name in (*TABLE_FIELDS, *IMAGE_FIELDS) if getattr(settings, name) != getattr(defaults, name)]
    if settings.table and settings.images:
        raise ValueError("table and images are two kinds of data: name one of them")
    if not (settings.table or settings.images):
        columns = [name for name in given if name in TABLE_FIELDS]
        if columns:
            raise ValueError(
                f"{', '.join(columns)} describe the columns of your own table: name its file with --table, or a folder "
                "of images with --images"
            )
        if given:
            raise ValueError(f"{', '.join(given)} describe your own images: name their folder with --images")
        return
    kind, others = ("a table", IMAGE_FIELDS) if settings.table else ("a folder of images", TABLE_ONLY_FIELDS)
    idle = [name for name in given if name in others]
    if idle:
        raise ValueError(f"{', '.join(idle)} would change nothing for {kind}: leave them out")
    lacking = [f"--{name}" for name in ("label", "protected") if not getattr(settings, name)]
    if lacking:
        raise ValueError(f"{kind} needs {' and '.join(lacking)}: name its columns")
    if settings.split_by is not None and settings.stratify:
        raise ValueError("rows that are split by persons cannot be stratified: choose --split-by or --stratify")
    if settings.path is not None:
        raise ValueError(
            f"path is for benchmark files: name your own data with --{'table' if settings.table else 'images'} alone"
        )
    if settings.images:
        if settings.layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {settings.layout!r}")
        if len(settings.image_size) > 2 or any(not 1 <= side <= 2**14 for side in settings.image_size):
            raise ValueError(f"image_size must be a height and a width up to {2**14}, got {settings.image_size}")
    source = settings.images.resolve().name if settings.images else Path(settings.table[0]).name.split(".")[0]
    stem = "".join(sign if sign.isalnum() else "_" for sign in source).strip("_")
    kind = "images" if settings.images else "table"
    name = stem or kind
    object.__setattr__(settings, "dataset", f"{name}_{kind}" if name in DATASETS else name)


def own_benchmark(settings: Any) -> Benchmark | None:
    """Return an entry for a user's own data, as `DATASETS` has them; None if there are none."""
    attributes = tuple(settings.protected)
    if settings.table:
        return Benchmark(own_table, settings.dataset, attributes)  # type: ignore[arg-type]  # loads an OwnTable
    if settings.images:
        return Benchmark(image_folder, settings.dataset, attributes, images=True)  # type: ignore[arg-type]
    return None
