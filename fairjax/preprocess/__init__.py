"""Preprocessing: change what a network is trained on, so that it becomes less biased.

A preprocessor is a frozen dataclass of hyperparameters with pure functions; see `fairjax.preprocess.base.Preprocessor`.
`prepare` applies one or several preprocessors to a split and returns an ordinary split, and `prepare_many` does so for
many seeds. `PREPROCESSORS` is the only list of preprocessors.
"""

from typing import Any

from fairjax.preprocess.balanced import balanced_rows
from fairjax.preprocess.base import Prepared, Preprocessor, preprocessor
from fairjax.preprocess.columns import column_indices
from fairjax.preprocess.correlation import CorrelationRemoval
from fairjax.preprocess.gaussian import GaussianCells
from fairjax.preprocess.optimized import OptimizedPreprocessing, distortion_adult, distortion_compas
from fairjax.preprocess.preparing import PreparedSplits, prepare, prepare_many, prepare_rows
from fairjax.preprocess.projection import group_direction, principal_directions, project_out
from fairjax.preprocess.removal import Removal
from fairjax.preprocess.repair import QuantileRepair
from fairjax.preprocess.replacement import CrossGroupReplacement, Replacement
from fairjax.preprocess.resampling import Balancing, Resampling
from fairjax.preprocess.reweighing import Reweighing
from fairjax.preprocess.smote import Smote
from fairjax.preprocess.swapping import SwapAugmentation
from fairjax.registry import Registry, brief, check_defaults


def _check_entry(name: str, kind: Any) -> None:
    """Check an entry of `PREPROCESSORS`."""
    if not (isinstance(kind, type) and issubclass(kind, Preprocessor)):
        raise TypeError(f"the preprocessor {name!r} must be a subclass of Preprocessor, got {brief(kind)}")
    if "__dataclass_params__" not in vars(kind):
        raise TypeError(f"the class {kind.__name__} is not decorated: write @preprocessor above it")
    if kind.apply is Preprocessor.apply:
        raise TypeError(f"{kind.__name__} must have a function apply")
    check_defaults(kind)


PREPROCESSORS: Registry[type[Preprocessor]] = Registry(
    "preprocessor",
    {
        "removal": Removal,
        "replacement": Replacement,
        "cross_group_replacement": CrossGroupReplacement,
        "correlation_removal": CorrelationRemoval,
        "quantile_repair": QuantileRepair,
        "reweighing": Reweighing,
        "resampling": Resampling,
        "balancing": Balancing,
        "swap_augmentation": SwapAugmentation,
        "smote": Smote,
        "gaussian_cells": GaussianCells,
        "optimized": OptimizedPreprocessing,
    },
    check=_check_entry,
)
"""The preprocessors by name, in the order in which tables show them. There is no other list of preprocessors."""

__all__ = [
    "PREPROCESSORS",
    "Balancing",
    "CorrelationRemoval",
    "CrossGroupReplacement",
    "GaussianCells",
    "OptimizedPreprocessing",
    "Prepared",
    "PreparedSplits",
    "Preprocessor",
    "QuantileRepair",
    "Removal",
    "Replacement",
    "Resampling",
    "Reweighing",
    "Smote",
    "SwapAugmentation",
    "balanced_rows",
    "column_indices",
    "distortion_adult",
    "distortion_compas",
    "group_direction",
    "prepare",
    "prepare_many",
    "prepare_rows",
    "preprocessor",
    "principal_directions",
    "project_out",
]
