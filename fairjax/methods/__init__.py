"""Debiasing methods, as dataclasses of hyperparameters with pure functions; see `fairjax.methods.base.Method`."""

from typing import Any

from fairjax.methods.adversarial_debiasing import AdversarialDebiasing
from fairjax.methods.adversarial_fine_tuning import AdversarialFineTuning
from fairjax.methods.base import Method, Parts, Task, method
from fairjax.methods.bias_gda import BiasGda
from fairjax.methods.composed_fine_tuning import ComposedFineTuning
from fairjax.methods.fine_tuning import FineTuning, Lagrangian, LastLayer
from fairjax.methods.layerwise import LayerwiseOptimisation
from fairjax.methods.pruning import Pruning
from fairjax.methods.random_perturbation import RandomPerturbation
from fairjax.methods.standard import ConstrainedThreshold, Standard
from fairjax.registry import Registry, brief, check_defaults

RESERVED = frozenset(
    (
        *(
            "across",
            "compilation_cache",
            "dataset",
            "drop",
            "group_size",
            "hosts",
            "intersect",
            "label",
            "loss",
            "measure",
        ),
        *(
            "methods",
            "minimum",
            "missing",
            "network",
            "out",
            "path",
            "portfolio",
            "positive",
            "preprocess",
            "privileged",
        ),
        *("protected", "rate_minimum", "roc_search", "save_every", "seeds", "selection", "simulation", "small"),
        *("split_by", "stratify", "table", "training", "use_protected", "weight"),
        *(
            "colours",
            "image_size",
            "images",
            "incomplete",
            "layout",
            "loss",
            "on_unreadable",
            "preprocess",
            "uncertain",
        ),
    )
)
"""Names of other settings of a run, which a method cannot have."""


def _check_entry(name: str, kind: Any) -> None:
    """Check an entry of `METHODS`."""
    if not (isinstance(kind, type) and issubclass(kind, Method)):
        raise TypeError(f"the method {name!r} must be a subclass of fairjax.Method, got {brief(kind)}")
    if "__dataclass_params__" not in vars(kind):
        raise TypeError(f"the class {kind.__name__} is not decorated: write @fairjax.method above it")
    missing = [function for function in ("init", "step") if getattr(kind, function) is getattr(Method, function)]
    if missing:
        raise TypeError(f"{kind.__name__} must have functions init and step, and lacks {' and '.join(missing)}")
    check_defaults(kind)


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
        "composed": ComposedFineTuning,
    },
    check=_check_entry,
)
"""The methods by name, in the order in which tables show them. There is no other list of methods."""

METHODS.reserve(RESERVED, "a setting of the command line")

__all__ = [
    "METHODS",
    "RESERVED",
    "AdversarialDebiasing",
    "AdversarialFineTuning",
    "BiasGda",
    "ComposedFineTuning",
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
