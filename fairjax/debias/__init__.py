"""Debiasing methods, all of one shape: see `fairjax.loop.Method`."""

import functools
from collections.abc import Callable
from typing import Any

from fairjax.debias import (
    adversarial_debiasing,
    adversarial_fine_tuning,
    bias_gda,
    fine_tuning,
    layerwise,
    pruning,
    random_perturbation,
    standard,
    threshold,
)
from fairjax.debias.adversarial_debiasing import AdversarialDebiasing
from fairjax.debias.adversarial_fine_tuning import AdversarialFineTuning
from fairjax.debias.bias_gda import BiasGda
from fairjax.debias.fine_tuning import FineTuning
from fairjax.debias.layerwise import LayerwiseOptimisation
from fairjax.debias.pruning import Pruning
from fairjax.debias.random_perturbation import RandomPerturbation
from fairjax.debias.standard import Standard
from fairjax.debias.threshold import ConstrainedThreshold
from fairjax.loop import Method

last_layer = functools.partial(FineTuning, layers=("output",), learning_rate=1e-3)
"""Fine-tuning of the last layer alone (Mao et al. 2023, https://arxiv.org/abs/2304.03935): of `Mlp`, by default."""

lagrangian = functools.partial(FineTuning, penalty="signed", weights=(0.25, 0.5, 1.0, 2.0))
"""Fine-tuning on Lagrangians of the constraint proxy = 0, for a path of multipliers."""

METHODS: dict[str, tuple[Callable[..., Any], Method]] = {
    "standard": (Standard, standard.METHOD),
    "threshold": (ConstrainedThreshold, threshold.METHOD),
    "random_perturbation": (RandomPerturbation, random_perturbation.METHOD),
    "layerwise": (LayerwiseOptimisation, layerwise.METHOD),
    "adversarial_fine_tuning": (AdversarialFineTuning, adversarial_fine_tuning.METHOD),
    "adversarial_debiasing": (AdversarialDebiasing, adversarial_debiasing.METHOD),
    "last_layer": (last_layer, fine_tuning.METHOD),
    "pruning": (Pruning, pruning.METHOD),
    "bias_gda": (BiasGda, bias_gda.METHOD),
    "fine_tuning": (FineTuning, fine_tuning.METHOD),
    "lagrangian": (lagrangian, fine_tuning.METHOD),
}
"""The methods by name: what makes the hyperparameters, and the functions."""

__all__ = [
    "METHODS",
    "AdversarialDebiasing",
    "AdversarialFineTuning",
    "BiasGda",
    "ConstrainedThreshold",
    "FineTuning",
    "LayerwiseOptimisation",
    "Pruning",
    "RandomPerturbation",
    "Standard",
    "lagrangian",
    "last_layer",
]
