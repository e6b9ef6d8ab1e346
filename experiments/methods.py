"""What readers of tables are told of each method."""

from typing import NamedTuple


class About(NamedTuple):
    """A method as tables show it."""

    label: str
    source: str
    """Where it comes from."""
    needs_a: bool = False
    """Whether it needs the protected attribute at test time."""


ABOUT: dict[str, About] = {
    "standard": About("Standard", "the trained network"),
    "threshold": About("Constrained threshold", "the least to beat"),
    "random_perturbation": About("Random", "Savani et al. 2020"),
    "layerwise": About("Layerwise search", "Savani et al. 2020"),
    "adversarial_fine_tuning": About("Adversarial fine-tuning", "Savani et al. 2020"),
    "adversarial_debiasing": About("Adversarial debiasing", "Zhang et al. 2018"),
    "last_layer": About("Last-layer fine-tuning", "Mao et al. 2023"),
    "pruning": About("Pruning", "Marcinkevičs et al. 2022"),
    "bias_gda": About("Bias GD/A", "Marcinkevičs et al. 2022"),
    "fine_tuning": About("Fine-tuning", "fairjax"),
    "lagrangian": About("Lagrangian fine-tuning", "fairjax"),
    "portfolio": About("Portfolio", "fairjax"),
    "group_thresholds": About("Group thresholds", "Hardt et al. 2016", needs_a=True),
    "reject_option": About("ROC", "Kamiran et al. 2012, AIF360", needs_a=True),
    "reject_option_either": About("ROC, either way", "Kamiran et al. 2012, AIF360", needs_a=True),
    "reject_option_paper": About("ROC, paper's polarity", "Kamiran et al. 2012, AIF360", needs_a=True),
    "equalized_odds": About("Eq. odds", "Hardt et al. 2016, AIF360", needs_a=True),
    "equalized_odds_half": About("Eq. odds, cut at 0.5", "Hardt et al. 2016, AIF360", needs_a=True),
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
}
"""Data sets as they are printed."""

RULES = {"objective": "Eq. 3", "expected": "expected", "pooled": "pooled", "accuracy_floor": "accuracy floor"}
"""Selection rules as they are printed."""


def label(method: str, rule: str = "none", main: str = "objective") -> str:
    """A method as it is printed, with its selection rule if that is not the main one."""
    name = ABOUT[method].label if method in ABOUT else method
    return name if rule in ("none", main) else f"{name}, {RULES.get(rule, rule)}"
