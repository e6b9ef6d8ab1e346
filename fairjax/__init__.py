"""Debias trained neural classifiers in JAX, for many splits at once, and combine parity losses with any objective.

A module imports only those above it in this list:

    types         Batch, Split and array aliases
    random        random words and permutations as jax.random draws them, in less time
    checks        checks of arguments
    metrics       rates, gaps and measures for any number of groups and classes; by_group, a table for people
    losses        Loss(base, terms): cross-entropies and fairness terms, each also a plain function
    data          check, simulate and split tables
    preprocess    reweigh, resample, repair and remove before training; PREPROCESSORS
    datasets      the benchmarks and their downloads
    nn            Network, a classifier as two pure functions; Mlp, Cnn, ResNet, Units, from_linen; masks, influence
    selection     evaluations, the threshold search, and the rules that choose a candidate
    training      training steps of composed losses, early stopping and hyperparameters
    streaming     measures, influence and evaluations of data larger than memory: exact sums over chunks of rows
    detect        why a network is biased: attribution, counterfactuals, concepts, quality by group, text
    postprocess   decisions from scores and groups: thresholds, corpus-level constraints, calibrated equalized odds
    methods       the protocol of a method, and the methods: pruning, bias descent, fine-tuning, adversaries, searches
    result        the result of debiasing: the selected network and the evaluations of all candidates
    loop          propose a candidate, evaluate it, keep the best: one loop for all methods
    debiasing     debias, the main call
    fitting       fit: train a classifier on one split, with any composed loss
    seeds         fit_many, debias_many: fit and debias for many seeds at once, on all devices
    reductions    parity constraints as trainings with other labels and weights, for many multipliers and seeds at once
    checkpoint    save and load networks
    features      features of a large network, computed once and kept in memory-mapped files
    adapters      networks of other libraries in and out; scikit-learn classifiers; AIF360's data and postprocessors
    auditing      audit, rates and gaps by group for a file of predictions of any size

Behind the extra `cli`, and not imported here: `runs` (settings, stages, saved states), `report` (tables, figures, the
page) and `cli` (the command `fairjax`).

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
    deprecated,
    loop,
    losses,
    methods,
    metrics,
    nn,
    postprocess,
    seeds,
    selection,
    streaming,
    training,
    types,
)
from fairjax.debiasing import debias
from fairjax.fitting import Fitted, fit
from fairjax.hyperparameters import static
from fairjax.losses import TERMS, Loss
from fairjax.methods import (
    METHODS,
    AdversarialDebiasing,
    AdversarialFineTuning,
    BiasGda,
    ComposedFineTuning,
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
from fairjax.metrics import (
    MEASURES,
    Parity,
    accuracy_difference,
    average_odds_difference,
    balanced_accuracy,
    demographic_parity_ratio,
    demographic_parity_shortfall,
    eod,
    equalized_odds_difference,
    false_positive_rate_difference,
    gap,
    predictive_parity_difference,
    spd,
)
from fairjax.nn import Cnn, Mlp, Network, ResNet, Units, from_linen, influence
from fairjax.postprocess import GroupThresholds, group_thresholds
from fairjax.registry import Registry
from fairjax.result import Debiased, Trace
from fairjax.seeds import debias_many, fit_many
from fairjax.selection import RULES, AccuracyFloor, ConstrainedObjective, ExpectedObjective, PooledObjective
from fairjax.training import Training
from fairjax.types import SHARED, Batch, Split

if TYPE_CHECKING:
    from fairjax import auditing, checkpoint, data, datasets, detect, features, preprocess, reductions
    from fairjax.auditing import Audit, audit
    from fairjax.metrics import GroupReport, by_group

deprecated.install()

try:
    __version__ = version("fairjax")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"

__all__ = [
    "METHODS",
    "MEASURES",
    "TERMS",
    "RULES",
    "SHARED",
    "AccuracyFloor",
    "AdversarialDebiasing",
    "AdversarialFineTuning",
    "Audit",
    "Batch",
    "BiasGda",
    "Cnn",
    "ComposedFineTuning",
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
    "Loss",
    "Method",
    "Mlp",
    "Network",
    "Parity",
    "PooledObjective",
    "Pruning",
    "RandomPerturbation",
    "Registry",
    "ResNet",
    "Split",
    "Standard",
    "Task",
    "Trace",
    "Training",
    "Units",
    "__version__",
    "accuracy_difference",
    "audit",
    "auditing",
    "average_odds_difference",
    "balanced_accuracy",
    "by_group",
    "checkpoint",
    "checks",
    "data",
    "datasets",
    "debias",
    "debias_many",
    "demographic_parity_ratio",
    "demographic_parity_shortfall",
    "detect",
    "eod",
    "equalized_odds_difference",
    "false_positive_rate_difference",
    "features",
    "fit",
    "fit_many",
    "from_linen",
    "gap",
    "group_thresholds",
    "influence",
    "loop",
    "losses",
    "method",
    "methods",
    "metrics",
    "nn",
    "postprocess",
    "predictive_parity_difference",
    "preprocess",
    "reductions",
    "seeds",
    "selection",
    "spd",
    "static",
    "streaming",
    "training",
    "types",
]


def __getattr__(name: str) -> Any:
    """Load on first use what needs pandas or orbax, so that `import fairjax` is fast."""
    lazy = ("adapters", "auditing", "checkpoint", "data", "datasets", "detect", "features", "preprocess", "reductions")
    if name in lazy:
        return importlib.import_module(f"fairjax.{name}")
    if name in ("GroupReport", "by_group"):
        return getattr(importlib.import_module("fairjax.metrics"), name)
    if name in ("Audit", "audit"):
        return getattr(importlib.import_module("fairjax.auditing"), name)
    if name in deprecated.MODULES:
        return importlib.import_module(f"fairjax.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, with those that are loaded on first use."""
    return sorted(__all__)
