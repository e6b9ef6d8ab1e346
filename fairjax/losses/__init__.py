"""Losses: cross-entropies and fairness terms, as plain functions and composed in `Loss(base, terms)`.

Most terms are also plain functions, to add to any loss, as is any measure of the scores:
`cross_entropy(logits, batch) + 4.0 * abs(fairjax.spd(jax.nn.sigmoid(logits), batch.y, batch.a))`.
"""

from typing import Any

from fairjax.losses.adversary import Adversary
from fairjax.losses.attribution import Attribution, attribution_penalty, attributions, marked_columns
from fairjax.losses.auxiliary import Auxiliary
from fairjax.losses.balanced_cross_entropy import balanced_cross_entropy, class_shares
from fairjax.losses.base import Data, Outputs, Term, term
from fairjax.losses.bases import BalancedCrossEntropy, Base, CrossEntropy
from fairjax.losses.cross_entropy import check_targets, cross_entropies, cross_entropy, weighted_mean
from fairjax.losses.group_prediction import group_cross_entropy, group_normalised_error
from fairjax.losses.group_robust import GroupRobust, group_robust
from fairjax.losses.hsic import Hsic, hsic
from fairjax.losses.laftr import Laftr
from fairjax.losses.loss import Loss, TermState
from fairjax.losses.mmd import Mmd, mmd
from fairjax.losses.parity_penalty import ParityPenalty
from fairjax.losses.prejudice import Prejudice, prejudice
from fairjax.losses.reconstruction import Reconstruction, reconstruction_error
from fairjax.losses.residual import Residual
from fairjax.losses.template_gap import TemplateGap, template_gap
from fairjax.losses.transport import wasserstein
from fairjax.losses.wasserstein_distance import Wasserstein
from fairjax.losses.weight_decay import WeightDecay, weight_decay
from fairjax.registry import Registry, brief, check_defaults


def _check_entry(name: str, kind: Any) -> None:
    """Check an entry of `TERMS`."""
    if not (isinstance(kind, type) and issubclass(kind, Term)):
        raise TypeError(f"the term {name!r} must be a subclass of fairjax.losses.Term, got {brief(kind)}")
    if "__dataclass_params__" not in vars(kind):
        raise TypeError(f"the class {kind.__name__} is not decorated: write @fairjax.losses.term above it")
    if kind.value is Term.value:
        raise TypeError(f"{kind.__name__} must have a function value")
    check_defaults(kind)


TERMS: Registry[type[Term]] = Registry(
    "term",
    {
        "parity": ParityPenalty,
        "prejudice": Prejudice,
        "mmd": Mmd,
        "hsic": Hsic,
        "wasserstein": Wasserstein,
        "group_robust": GroupRobust,
        "attribution": Attribution,
        "auxiliary": Auxiliary,
        "reconstruction": Reconstruction,
        "weight_decay": WeightDecay,
        "adversary": Adversary,
        "laftr": Laftr,
    },
    check=_check_entry,
)
"""The terms by name, in the order in which tables show them. There is no other list of terms."""

BASES: Registry[type[Base]] = Registry(
    "base loss", {"cross_entropy": CrossEntropy, "balanced_cross_entropy": BalancedCrossEntropy}
)
"""The losses of labels by name."""

__all__ = [
    "BASES",
    "TERMS",
    "Adversary",
    "Attribution",
    "Auxiliary",
    "BalancedCrossEntropy",
    "Base",
    "CrossEntropy",
    "Data",
    "GroupRobust",
    "Hsic",
    "Laftr",
    "Loss",
    "Mmd",
    "Outputs",
    "ParityPenalty",
    "Prejudice",
    "Reconstruction",
    "Residual",
    "TemplateGap",
    "Term",
    "TermState",
    "Wasserstein",
    "WeightDecay",
    "attribution_penalty",
    "attributions",
    "balanced_cross_entropy",
    "check_targets",
    "class_shares",
    "cross_entropies",
    "cross_entropy",
    "group_cross_entropy",
    "group_normalised_error",
    "group_robust",
    "hsic",
    "marked_columns",
    "mmd",
    "prejudice",
    "reconstruction_error",
    "template_gap",
    "term",
    "wasserstein",
    "weight_decay",
    "weighted_mean",
]
