"""Attribution: how much each input contributes to a row's logit, and to the gap between groups."""

from fairjax.detect.attribution.bias import BiasByFeature
from fairjax.detect.attribution.by_feature import bias_by_feature
from fairjax.detect.attribution.deep_lift import deep_lift
from fairjax.detect.attribution.gradients import gradient_times_input, gradients
from fairjax.detect.attribution.integrated import convergence_delta, integrated_gradients
from fairjax.detect.attribution.smooth import smooth_gradients

__all__ = [
    "BiasByFeature",
    "bias_by_feature",
    "convergence_delta",
    "deep_lift",
    "gradient_times_input",
    "gradients",
    "integrated_gradients",
    "smooth_gradients",
]
