"""What a program can add to the page of results."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Extras(NamedTuple):
    """Additions to the page."""

    sections: tuple[Callable[..., Any], ...] = ()
    """Functions `section(results, main)` that return a `fairjax.report.layout.Section`, or None to add nothing, for
    results of two groups and classes; `main` is the name of the main selection rule."""
    pictures: Mapping[str, tuple[str, str]] = MappingProxyType({})
    """Title and caption of further pictures that may be in the folder, by file name without suffix."""
