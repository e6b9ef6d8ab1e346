"""Counterfactuals: how scores and decisions change when inputs of the network are perturbed."""

from fairjax.detect.counterfactual.categories import swap_categories
from fairjax.detect.counterfactual.columns import Column
from fairjax.detect.counterfactual.composing import compose
from fairjax.detect.counterfactual.consistency import consistency
from fairjax.detect.counterfactual.effects import Effects, counterfactual
from fairjax.detect.counterfactual.effects_by_group import effects_by_group
from fairjax.detect.counterfactual.effects_in_strata import effects_in_strata
from fairjax.detect.counterfactual.flipping import flip
from fairjax.detect.counterfactual.group_effects import GroupEffects, group_effects
from fairjax.detect.counterfactual.neighbours import SimilarInstances, similar_instances
from fairjax.detect.counterfactual.permuting import permute_within
from fairjax.detect.counterfactual.perturbation import Perturbation
from fairjax.detect.counterfactual.replacing import replace
from fairjax.detect.counterfactual.shifting import shift_to_group
from fairjax.detect.counterfactual.sign_flips import sign_flip_test
from fairjax.detect.counterfactual.tokens import swap_tokens

__all__ = [
    "Column",
    "Effects",
    "GroupEffects",
    "Perturbation",
    "SimilarInstances",
    "compose",
    "consistency",
    "counterfactual",
    "effects_by_group",
    "effects_in_strata",
    "flip",
    "group_effects",
    "permute_within",
    "replace",
    "shift_to_group",
    "sign_flip_test",
    "similar_instances",
    "swap_categories",
    "swap_tokens",
]
