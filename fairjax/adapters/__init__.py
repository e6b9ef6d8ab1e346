"""Adapters: trained networks and data of other libraries, their postprocessors, and a classifier for scikit-learn."""

import importlib
from typing import Any

_ADAPTERS = ("aif360", "aif360_postprocessing", "equinox", "keras", "linen", "nnx", "sklearn", "text", "torch")


def __getattr__(name: str) -> Any:
    """Load an adapter on first use, since it needs the library that it adapts."""
    if name in _ADAPTERS:
        return importlib.import_module(f"fairjax.adapters.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
