"""For whom a classifier works worse, and whether it relies on the same features and positions in every group."""

from typing import TYPE_CHECKING, Any

from fairjax.detect.quality.cam import cam, grad_cam, resized_maps
from fairjax.detect.quality.maps import MapsByGroup, maps_by_group
from fairjax.detect.quality.profiles import ProfileComparison, compare_profiles

if TYPE_CHECKING:
    from fairjax.detect.quality.quality_report import QualityByGroup
    from fairjax.detect.quality.subgroup import quality_by_group

__all__ = [
    "MapsByGroup",
    "ProfileComparison",
    "QualityByGroup",
    "cam",
    "compare_profiles",
    "grad_cam",
    "maps_by_group",
    "quality_by_group",
    "resized_maps",
]


def __getattr__(name: str) -> Any:
    """Load `quality_by_group` and its result, which need pandas, on first use."""
    if name == "quality_by_group":
        from fairjax.detect.quality.subgroup import quality_by_group

        return quality_by_group
    if name == "QualityByGroup":
        from fairjax.detect.quality.quality_report import QualityByGroup

        return QualityByGroup
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
