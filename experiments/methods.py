"""What readers of tables are told of each method."""

from math import inf
from typing import NamedTuple


class About(NamedTuple):
    """A method as tables show it."""

    label: str
    source: str
    """Where it comes from."""
    needs_a: bool = False
    """Whether it needs the protected attribute at test time."""
    groups: float = inf
    """Most groups that it can do."""
    classes: float = inf
    """Most classes that it can do."""


ABOUT: dict[str, About] = {
    "standard": About("Standard", "the trained network"),
    "threshold": About("Constrained threshold", "the least to beat", classes=2),
    "random_perturbation": About("Random", "Savani et al. 2020"),
    "layerwise": About("Layerwise search", "Savani et al. 2020"),
    "adversarial_fine_tuning": About("Adversarial fine-tuning", "Savani et al. 2020"),
    "adversarial_debiasing": About("Adversarial debiasing", "Zhang et al. 2018", groups=2, classes=2),
    "last_layer": About("Last-layer fine-tuning", "Mao et al. 2023"),
    "pruning": About("Pruning", "Marcinkevičs et al. 2022"),
    "bias_gda": About("Bias GD/A", "Marcinkevičs et al. 2022"),
    "fine_tuning": About("Fine-tuning", "fairjax"),
    "lagrangian": About("Lagrangian fine-tuning", "fairjax"),
    "portfolio": About("Portfolio", "fairjax"),
    "group_thresholds": About("Group thresholds", "Hardt et al. 2016", needs_a=True, classes=2),
    "reject_option": About("ROC", "Kamiran et al. 2012, AIF360", needs_a=True, groups=2, classes=2),
    "reject_option_either": About("ROC, either way", "Kamiran et al. 2012, AIF360", needs_a=True, groups=2, classes=2),
    "reject_option_paper": About(
        "ROC, paper's polarity", "Kamiran et al. 2012, AIF360", needs_a=True, groups=2, classes=2
    ),
    "equalized_odds": About("Eq. odds", "Hardt et al. 2016, AIF360", needs_a=True, groups=2, classes=2),
    "equalized_odds_half": About(
        "Eq. odds, cut at 0.5", "Hardt et al. 2016, AIF360", needs_a=True, groups=2, classes=2
    ),
}
"""Every method that a run may have, in the order of tables."""

DATASETS = {
    "adult": "Adult",
    "bank": "Bank",
    "bank_full": "Bank-full",
    "compas": "COMPAS",
    "german": "German",
    "mimic": "MIMIC-III",
    "loh": "Loh et al.",
    "zafar": "Zafar et al.",
    "adult_occupation": "Adult occupation",
    "compas_score_text": "COMPAS score",
}
"""Data sets as they are printed."""

MEASURES = {
    "spd": "SPD",
    "eod": "EOD",
    "fprd": "FPRD",
    "ppd": "PPD",
    "accuracy": "accuracy difference",
    "average_odds": "average odds",
    "equalized_odds": "equalised odds",
    "parity_ratio": "parity ratio",
}
"""Measures as they are printed."""

ACROSS = {
    "spread": "the greatest rate of a group less the least",
    "smooth": "a smooth form of the greatest rate of a group less the least",
    "to_overall": "the greatest distance of a group's rate from the rate of all rows",
    "mean_absolute": "the mean distance of the groups' rates from the rate of all rows, by their sizes",
    "pairwise": "the mean distance between the rates of two groups",
    "variance": "the variance of the groups' rates",
    "deviation": "the standard deviation of the groups' rates",
    "log_ratio": "the logarithm of the greatest rate of a group over the least",
    "shortfall": "the least rate of a group over the greatest, less 1",
    "kearns": "the greatest distance of a group's rate from the rate of all rows, times the group's share",
}
"""How rates are apart across groups, as it is printed: the gaps of `fairjax.metrics.GAPS`."""

RULES = {"objective": "Eq. 3", "expected": "expected", "pooled": "pooled", "accuracy_floor": "accuracy floor"}
"""Selection rules as they are printed."""


def label(method: str, rule: str = "none", main: str = "objective") -> str:
    """A method as it is printed, with its selection rule if that is not the main one."""
    name = ABOUT[method].label if method in ABOUT else method
    return name if rule in ("none", main) else f"{name}, {RULES.get(rule, rule)}"
