"""Debias trained neural classifiers in JAX, for many splits at once, and compose parity losses with any objective.

A module imports only those above it in this list:

    types         Batch, Split, and the aliases of arrays
    data          find, check, load, simulate and split tables
    parity        differences between groups: metrics on decisions, differentiable proxies on scores
    metrics       rates, gaps and measures for any number of groups and classes; by_group, a table to read
    performance   balanced accuracy, and the tables of counts behind every hard number
    nn            Network, a classifier as two pure functions; Mlp, Units, from_linen
    masks         which hidden units are kept: count and drop
    influence     how much each unit moves a measure
    objective     the threshold search, and the rules that choose a candidate
    training      fit a classifier on one split
    loop          propose a candidate, evaluate it, keep the best: one loop for all methods
    debias        the methods: pruning, bias descent, fine-tuning, adversaries, searches
    postprocessing  group thresholds: decisions from scores and the protected attribute
    rows          proxies, influence and evaluations of more rows than fit: exact sums over chunks, devices, hosts
    parallel      any function of one seed for many seeds, on all devices
    presets       the paper's text and its authors' code, as settings
    storage       save and load networks

`data` makes a `Split`; `training.run` fits a `Network` on it; `loop.run` takes the trained variables, a method of
`METHODS` and a `Task` (network and measure), and returns the debiased variables with a threshold. All of them are pure
functions of one split and one key, to be jitted, and mapped over seeds by `parallel.over_seeds`. The measures stand
alone: add `weight * jnp.abs(spd(scores, y, a))` to any loss.
"""

from importlib.metadata import PackageNotFoundError, version

from fairjax import (
    data,
    debias,
    influence,
    loop,
    masks,
    metrics,
    nn,
    objective,
    parallel,
    parity,
    performance,
    postprocessing,
    presets,
    rows,
    storage,
    training,
    types,
)
from fairjax.debias import (
    METHODS,
    AdversarialDebiasing,
    AdversarialFineTuning,
    BiasGda,
    ConstrainedThreshold,
    FineTuning,
    LayerwiseOptimisation,
    Pruning,
    RandomPerturbation,
    Standard,
)
from fairjax.loop import Debiased, Method, Task
from fairjax.metrics import GroupReport, Parity, by_group
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
from fairjax.training import Training
from fairjax.types import SHARED, Batch, Split

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
    "GroupReport",
    "GroupThresholds",
    "LayerwiseOptimisation",
    "Method",
    "Mlp",
    "Network",
    "Parity",
    "PooledObjective",
    "Pruning",
    "RandomPerturbation",
    "Split",
    "Standard",
    "Task",
    "Training",
    "Units",
    "__version__",
    "accuracy_difference",
    "average_odds_difference",
    "balanced_accuracy",
    "by_group",
    "data",
    "debias",
    "demographic_parity_ratio",
    "demographic_parity_shortfall",
    "eod",
    "equalized_odds_difference",
    "false_positive_rate_difference",
    "from_linen",
    "gap",
    "group_thresholds",
    "influence",
    "loop",
    "masks",
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
    "spd",
    "storage",
    "training",
    "types",
]
