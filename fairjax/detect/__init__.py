"""Why a network is biased: attribution, counterfactuals, concepts, and quality by group."""

from fairjax.detect.annotation import annotate
from fairjax.detect.association import Association, association, holm
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
from fairjax.detect.variables import variables_of

__all__ = [
    "Association",
    "BiasByFeature",
    "annotate",
    "association",
    "bias_by_feature",
    "convergence_delta",
    "deep_lift",
    "gradient_times_input",
    "gradients",
    "holm",
    "integrated_gradients",
    "smooth_gradients",
    "variables_of",
]
