"""Debiasing methods, all of one shape: see `fairjax.loop.Method`."""

from typing import Any

from fairjax.debias import bias_gda, pruning, standard
from fairjax.debias.bias_gda import BiasGda
from fairjax.debias.pruning import Pruning
from fairjax.debias.standard import Standard
from fairjax.loop import Method

METHODS: dict[str, tuple[type[Any], Method]] = {
    "standard": (Standard, standard.METHOD),
    "pruning": (Pruning, pruning.METHOD),
    "bias_gda": (BiasGda, bias_gda.METHOD),
}
"""The methods by name: the dataclass of hyperparameters, and the functions."""

__all__ = ["METHODS", "BiasGda", "Pruning", "Standard"]
