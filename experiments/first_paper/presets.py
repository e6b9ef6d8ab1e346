"""Presets for two versions of the first paper: its text, and its authors' code.

The two differ in ways that affect results. A preset sets everything that differs; use `_replace` and
`dataclasses.replace` to override individual settings.

| | `PAPER` | `AUTHORS` |
|---|---|---|
| influence measured at | the unit's output h = ReLU(...) | the pre-activation |
| influence | mean over rows (Eq. 4) | sum over rows |
| weights removed | outgoing | incoming, with the bias |
| first hidden layer | spared (Algorithm 1 prunes layers 1 to L of 0 to L) | pruned too, 352 units |
| data for influence and fine-tuning | train | valid |
| pruning schedule | quantile, B = 352 steps | one unit per step |
| fine-tuning | plain gradient descent, 100 epochs | Adam, 200 epochs |
| random perturbations | 500 | 101 |
| candidates evaluated during fine-tuning | dropout off, running statistics | as in training |
| selection | constrained objective (Eq. 3) with a margin | least |bias| above a floor on balanced accuracy |
"""

from typing import NamedTuple

from fairjax.methods import BiasGda, Pruning, RandomPerturbation
from fairjax.nn import Mlp
from fairjax.selection import AccuracyFloor, ConstrainedObjective, Rule


class Preset(NamedTuple):
    """A network, the methods' hyperparameters, and the selection rule."""

    network: Mlp
    pruning: Pruning
    bias_gda: BiasGda
    random_perturbation: RandomPerturbation
    rule: Rule


PAPER = Preset(
    network=Mlp(site="activation", cut="outgoing"),
    pruning=Pruning(
        schedule="quantile", steps=352, part="train", influence="dynamic", reduction="mean", spared_layers=1
    ),
    bias_gda=BiasGda(
        learning_rate=1e-5,
        batch_size=256,
        epochs=100,
        part="train",
        optimiser="sgd",
        evaluations=1,
        candidates="evaluation",
    ),
    random_perturbation=RandomPerturbation(draws=500, deviation=0.1),
    rule=ConstrainedObjective(),
)
"""The text of the paper, followed literally."""

AUTHORS = Preset(
    network=Mlp(site="preactivation", cut="incoming"),
    pruning=Pruning(schedule="units", units=1, part="valid", influence="dynamic", reduction="sum", spared_layers=0),
    bias_gda=BiasGda(
        learning_rate=1e-5,
        batch_size=256,
        epochs=200,
        part="valid",
        optimiser="adam",
        evaluations=1,
        candidates="training",
    ),
    random_perturbation=RandomPerturbation(draws=101, deviation=0.1),
    rule=AccuracyFloor(floor=0.55),
)
"""The authors' published code, with the floor on balanced accuracy that it uses for pruning."""

PRESETS = {"paper": PAPER, "authors": AUTHORS}
"""The presets by name."""
