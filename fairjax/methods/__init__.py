"""Debiasing methods, as dataclasses of hyperparameters with pure functions; see `fairjax.methods.base.Method`."""

from fairjax.methods.adversarial_debiasing import AdversarialDebiasing
from fairjax.methods.adversarial_fine_tuning import AdversarialFineTuning
from fairjax.methods.base import Method, Parts, Task, method
from fairjax.methods.bias_gda import BiasGda
from fairjax.methods.fine_tuning import FineTuning, Lagrangian, LastLayer
from fairjax.methods.layerwise import LayerwiseOptimisation
from fairjax.methods.pruning import Pruning
from fairjax.methods.random_perturbation import RandomPerturbation
from fairjax.methods.standard import ConstrainedThreshold, Standard
from fairjax.registry import Registry

METHODS: Registry[type[Method]] = Registry(
    "method",
    {
        "standard": Standard,
        "threshold": ConstrainedThreshold,
        "random_perturbation": RandomPerturbation,
        "layerwise": LayerwiseOptimisation,
        "adversarial_fine_tuning": AdversarialFineTuning,
        "adversarial_debiasing": AdversarialDebiasing,
        "last_layer": LastLayer,
        "pruning": Pruning,
        "bias_gda": BiasGda,
        "fine_tuning": FineTuning,
        "lagrangian": Lagrangian,
    },
)
"""The methods by name, in the order in which tables show them. There is no other list of methods."""

__all__ = [
    "METHODS",
    "AdversarialDebiasing",
    "AdversarialFineTuning",
    "BiasGda",
    "ConstrainedThreshold",
    "FineTuning",
    "Lagrangian",
    "LastLayer",
    "LayerwiseOptimisation",
    "Method",
    "Parts",
    "Pruning",
    "RandomPerturbation",
    "Standard",
    "Task",
    "method",
]
