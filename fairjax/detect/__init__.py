"""Why a network is biased: attribution, counterfactuals, concepts, and quality by group."""

from typing import TYPE_CHECKING, Any

from fairjax.detect.annotation import annotate
from fairjax.detect.association import Association, association
from fairjax.detect.attribution import (
    BiasByFeature,
    bias_by_feature,
    convergence_delta,
    deep_lift,
    gradient_times_input,
    gradients,
    integrated_gradients,
    smooth_gradients,
)
from fairjax.detect.concepts import (
    ConceptAddition,
    ConceptVector,
    Probes,
    Selectivity,
    Tcav,
    concept_addition,
    concept_vector,
    concept_vectors,
    layer_names,
    logistic_regression,
    probe,
    probe_table,
    selectivity,
    tcav,
    tcav_scores,
    tcav_table,
    unit_activations,
    unit_gradients,
)
from fairjax.detect.counterfactual import (
    Effects,
    GroupEffects,
    Perturbation,
    SimilarInstances,
    compose,
    consistency,
    counterfactual,
    effects_by_group,
    effects_in_strata,
    flip,
    group_effects,
    permute_within,
    replace,
    shift_to_group,
    sign_flip_test,
    similar_instances,
    swap_categories,
    swap_tokens,
)
from fairjax.detect.holm import holm
from fairjax.detect.quality import (
    MapsByGroup,
    ProfileComparison,
    cam,
    compare_profiles,
    grad_cam,
    maps_by_group,
    resized_maps,
)
from fairjax.detect.variables import variables_of

if TYPE_CHECKING:
    from fairjax.detect.quality import QualityByGroup, quality_by_group

__all__ = [
    "Association",
    "BiasByFeature",
    "ConceptAddition",
    "ConceptVector",
    "Effects",
    "GroupEffects",
    "MapsByGroup",
    "Perturbation",
    "Probes",
    "ProfileComparison",
    "QualityByGroup",
    "Selectivity",
    "SimilarInstances",
    "Tcav",
    "annotate",
    "association",
    "bias_by_feature",
    "cam",
    "compare_profiles",
    "compose",
    "concept_addition",
    "concept_vector",
    "concept_vectors",
    "consistency",
    "convergence_delta",
    "counterfactual",
    "deep_lift",
    "effects_by_group",
    "effects_in_strata",
    "flip",
    "grad_cam",
    "gradient_times_input",
    "gradients",
    "group_effects",
    "holm",
    "integrated_gradients",
    "layer_names",
    "logistic_regression",
    "maps_by_group",
    "permute_within",
    "probe",
    "probe_table",
    "quality_by_group",
    "replace",
    "resized_maps",
    "selectivity",
    "shift_to_group",
    "sign_flip_test",
    "similar_instances",
    "smooth_gradients",
    "swap_categories",
    "swap_tokens",
    "tcav",
    "tcav_scores",
    "tcav_table",
    "unit_activations",
    "unit_gradients",
    "variables_of",
]


def __getattr__(name: str) -> Any:
    """Load `quality_by_group` and its result, which need pandas, on first use."""
    if name in ("QualityByGroup", "quality_by_group"):
        from fairjax.detect import quality

        return getattr(quality, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
