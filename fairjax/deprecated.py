"""Names of earlier versions, which still work and warn.

A module that has moved is found under its former name, and so are functions and classes that were renamed, until the
next minor version.
"""

import functools
import importlib
import importlib.machinery
import sys
import types
import warnings
from typing import Any

MODULES: dict[str, tuple[str, dict[str, str]]] = {
    "influence": ("fairjax.nn.influence", {}),
    "masks": ("fairjax.nn.masks", {}),
    "objective": (
        "fairjax.selection",
        {
            "at_threshold": "evaluate_at",
            "best_of_counts": "best_threshold_from_counts",
            "by_threshold": "evaluate_thresholds",
            "of_tables": "evaluate_tables",
        },
    ),
    "parallel": (
        "fairjax.seeds",
        {
            "CPU_LANES": "CPU_GROUP_SIZE",
            "everywhere": "replicate",
            "everywhere_on": "replicated_sharding",
            "lanes_of": "default_group_size",
        },
    ),
    "parity": (
        "fairjax.metrics",
        {"Cells": "GroupSums", "cells": "group_sums", "named": "make_measure", "of_cells": "from_group_sums"},
    ),
    "performance": (
        "fairjax.metrics",
        {
            "INVALID": "INVALID_COUNT",
            "accuracy_of_table": "accuracy_from_table",
            "noise_of_table": "noise_from_table",
            "of_table": "measure_from_table",
            "tables": "tables_by_threshold",
            "thresholds": "threshold_grid",
        },
    ),
    "postprocessing": ("fairjax.postprocess", {}),
    "rows": (
        "fairjax.streaming",
        {"gradient": "value_and_grad", "proxy": "measure", "total": "sum_over_chunks"},
    ),
    "storage": ("fairjax.checkpoint", {"StorageError": "CheckpointError"}),
}
"""The former modules of `fairjax`: their new places, and the new names of functions that were renamed."""

NAMES: dict[str, dict[str, str]] = {
    "fairjax.checks": {"Rows": "fairjax.checks.CheckedRows", "both": "fairjax.checks.all_valid"},
    "fairjax.nn.layers": {
        "dropout_masks": "fairjax.nn.dropout.dropout_masks",
        "dropped": "fairjax.nn.dropout.drop_probability",
        "random_words": "fairjax.random.random_words",
    },
    "fairjax.seeds": {"Done": "fairjax.seeds.DebiasingState", "straight": "fairjax.seeds.run_chunks"},
    "fairjax.training": {
        "Trained": "fairjax.training.TrainingState",
    },
    "fairjax.types": {"Groups": "fairjax.types.GroupArray"},
}
"""The former names in modules that have not moved, and what they are now."""

BENCHMARKS = (
    *("DATASETS", "FILES", "DataError", "RawFile"),
    *("adult", "bank", "bank_full", "compas", "find", "german", "mimic"),
)
"""What `fairjax.data` held before `fairjax.datasets`."""


class Moved(types.ModuleType):
    """A module under its old name; every use of it warns, and returns what is now in its place."""

    def __getattr__(self, name: str) -> Any:
        """Return what a name of the old module is now.

        Raises:
            AttributeError: if the old module had no such name.
        """
        if name.startswith("__"):
            raise AttributeError(name)
        new, renamed = MODULES[self.__name__.rpartition(".")[2]]
        value = getattr(importlib.import_module(new), renamed.get(name, name))
        _warn(f"{self.__name__}.{name}", f"{new}.{renamed.get(name, name)}")
        return value


def install() -> None:
    """Make the former modules importable, which are loaded on use, and the former names in other modules."""
    for name in MODULES:
        module = Moved(f"fairjax.{name}")
        module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
        sys.modules.setdefault(module.__name__, module)
    for name in NAMES:
        vars(importlib.import_module(name))["__getattr__"] = functools.partial(_former, name)


def _former(module: str, name: str) -> Any:
    """Return what a former name of a module is now.

    Raises:
        AttributeError: if the module never had that name.
    """
    if name not in NAMES[module]:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    _warn(f"{module}.{name}", NAMES[module][name])
    current, _, attribute = NAMES[module][name].rpartition(".")
    return getattr(importlib.import_module(current), attribute)


def benchmark(name: str) -> Any:
    """Return what a name of `fairjax.data` is now in `fairjax.datasets`.

    Raises:
        AttributeError: if `fairjax.data` never had that name.
    """
    if name not in BENCHMARKS:
        raise AttributeError(f"module 'fairjax.data' has no attribute {name!r}")
    _warn(f"fairjax.data.{name}", f"fairjax.datasets.{name}", stacklevel=4)
    return getattr(importlib.import_module("fairjax.datasets"), name)


def _warn(old: str, new: str, stacklevel: int = 3) -> None:
    warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=stacklevel)
