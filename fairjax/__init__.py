"""Debias trained neural classifiers in JAX, for many splits at once, and combine parity losses with any objective.

A module imports only those above it in this list:

    types         Batch, Split and array aliases
    data          find, check, load, simulate and split tables
    parity        differences between groups: metrics on decisions, differentiable proxies on scores
    metrics       rates, gaps and measures for any number of groups and classes; by_group, a table for people
    performance   balanced accuracy, and the confusion counts behind every metric on decisions
    nn            Network, a classifier as two pure functions; Mlp, Units, from_linen
    masks         which hidden units are kept: count and drop
    influence     how much each unit changes a measure
    objective     the threshold search, and the rules that choose a candidate
    training      training steps, early stopping and hyperparameters
    methods       the protocol of a method, and the methods: pruning, bias descent, fine-tuning, adversaries, searches
    loop          propose a candidate, evaluate it, keep the best: one loop for all methods
    debiasing     debias, the main call
    fitting       fit: train a classifier on one split
    postprocessing  group thresholds: decisions from scores and the protected attribute
    rows          proxies, influence and evaluations of data larger than memory: exact sums over chunks, devices, hosts
    parallel      map any function of one seed over many seeds, on all devices
    seeds         fit_many, debias_many: fit and debias for many seeds at once
    presets       settings of the paper's text and of its authors' code
    storage       save and load networks

`data` makes a `Split`; `fit` trains a `Network` on it; `debias` takes a method of `METHODS`, the network, a measure and
the trained variables, and returns the debiased variables with a threshold. Both are pure functions of one split and one
key and can be mapped over seeds with `jax.vmap`; `fit_many` and `debias_many` do that over all devices. The measures
can be used on their own: add `weight * jnp.abs(spd(scores, y, a))` to any loss.
"""

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from fairjax import (
    checks,
    influence,
    loop,
    masks,
    methods,
    metrics,
    nn,
    objective,
    parallel,
    parity,
    performance,
    postprocessing,
    presets,
    rows,
    seeds,
    training,
    types,
)
from fairjax.debiasing import debias
from fairjax.fitting import Fitted, fit
from fairjax.hyperparameters import static
from fairjax.methods import (
    METHODS,
    AdversarialDebiasing,
    AdversarialFineTuning,
    BiasGda,
    ConstrainedThreshold,
    FineTuning,
    Lagrangian,
    LastLayer,
    LayerwiseOptimisation,
    Method,
    Pruning,
    RandomPerturbation,
    Standard,
    Task,
    method,
)
from fairjax.metrics import Parity
from fairjax.nn import Mlp, Network, Units, from_linen
from fairjax.objective import RULES, AccuracyFloor, ConstrainedObjective, ExpectedObjective, PooledObjective
from fairjax.parity import (
    MEASURES,
    accuracy_difference,
    average_odds_difference,
    demographic_parity_ratio,
    demographic_parity_shortfall,
    eod,
    equalized_odds_difference,
    false_positive_rate_difference,
    gap,
    predictive_parity_difference,
    spd,
)
from fairjax.performance import balanced_accuracy
from fairjax.postprocessing import GroupThresholds, group_thresholds
from fairjax.presets import PRESETS
from fairjax.registry import Registry
from fairjax.result import Debiased, Trace
from fairjax.seeds import debias_many, fit_many
from fairjax.training import Training
from fairjax.types import SHARED, Batch, Split

if TYPE_CHECKING:
    from fairjax import data, storage
    from fairjax.metrics import GroupReport, by_group

try:
    __version__ = version("fairjax")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"

__all__ = [
    "METHODS",
    "MEASURES",
    "PRESETS",
    "RULES",
    "SHARED",
    "AccuracyFloor",
    "AdversarialDebiasing",
    "AdversarialFineTuning",
    "Batch",
    "BiasGda",
    "ConstrainedObjective",
    "ConstrainedThreshold",
    "Debiased",
    "ExpectedObjective",
    "FineTuning",
    "Fitted",
    "GroupReport",
    "GroupThresholds",
    "Lagrangian",
    "LastLayer",
    "LayerwiseOptimisation",
    "Method",
    "Mlp",
    "Network",
    "Parity",
    "PooledObjective",
    "Pruning",
    "RandomPerturbation",
    "Registry",
    "Split",
    "Standard",
    "Task",
    "Trace",
    "Training",
    "Units",
    "__version__",
    "accuracy_difference",
    "average_odds_difference",
    "balanced_accuracy",
    "by_group",
    "checks",
    "data",
    "debias",
    "debias_many",
    "demographic_parity_ratio",
    "demographic_parity_shortfall",
    "eod",
    "equalized_odds_difference",
    "false_positive_rate_difference",
    "fit",
    "fit_many",
    "from_linen",
    "gap",
    "group_thresholds",
    "influence",
    "loop",
    "masks",
    "method",
    "methods",
    "metrics",
    "nn",
    "objective",
    "parallel",
    "parity",
    "performance",
    "postprocessing",
    "predictive_parity_difference",
    "presets",
    "rows",
    "seeds",
    "spd",
    "static",
    "storage",
    "training",
    "types",
]


def __getattr__(name: str) -> Any:
    """Load on first use what needs pandas or orbax, so that `import fairjax` is fast."""
    if name in ("data", "storage", "adapters"):
        return importlib.import_module(f"fairjax.{name}")
    if name in ("GroupReport", "by_group"):
        return getattr(importlib.import_module("fairjax.metrics"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
