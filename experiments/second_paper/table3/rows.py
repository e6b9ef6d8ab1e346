"""The rows of the table: what each is, which printed row it belongs to, and where the group is needed."""

from typing import Literal, NamedTuple

Need = Literal["no", "feature", "yes"]
"""Whether the group is needed: as one of the network's features, or by the method itself."""


class Row(NamedTuple):
    """A row of the table."""

    label: str
    block: str
    """The printed row that it belongs to, a row of `printed.csv`."""
    at_training: Need
    at_test: Need
    baseline: str = "dnn"
    """The row with the same features and kind of network, but without the method."""


ETAS = (1, 5, 25)
"""Weights of the prejudice remover's term in the loss of the network."""

EXACT_ETAS = (1, 5, 25, 100)
"""Weights of the prejudice remover that is a logistic regression per group."""

AIF360_ETA = 25
"""The weight of AIF360's example, for which its prejudice remover is fitted to the features of the other rows too."""

COSTS = ("weighted", "fnr", "fpr")
"""Costs of calibrated equalized odds."""

ROWS = {
    "data": Row("The data set itself", "data", "no", "no"),
    "dnn": Row("DNN", "dnn", "feature", "feature"),
    "reweighing": Row("Reweighing, weights in the loss", "reweighing", "yes", "feature"),
    "dnn_reweighed_test": Row("DNN, test set reweighed", "reweighing", "feature", "feature"),
    "few": Row("DNN of the few features", "optimized", "no", "no"),
    "optimized": Row("Optimized pre-processing, test as it is", "optimized", "yes", "no", "few"),
    "optimized_mapped": Row("Optimized pre-processing, test transformed", "optimized", "yes", "yes", "few"),
    "prejudice_lr_0": Row("Logistic regression per group", "prejudice", "yes", "yes"),
    **{
        f"prejudice_lr_{eta}": Row(f"Prejudice remover, eta {eta}", "prejudice", "yes", "yes", "prejudice_lr_0")
        for eta in EXACT_ETAS
    },
    **{
        f"prejudice_aif360_{eta}": Row(
            f"AIF360's prejudice remover, eta {eta}", "prejudice", "yes", "yes", "prejudice_lr_0"
        )
        for eta in EXACT_ETAS
    },
    f"prejudice_aif360_flags_{AIF360_ETA}": Row(
        f"AIF360's prejudice remover, 0 and 1 as they are, eta {AIF360_ETA}",
        "prejudice",
        "yes",
        "yes",
        "prejudice_lr_0",
    ),
    **{f"prejudice_dnn_{eta}": Row(f"DNN with its term, eta {eta}", "prejudice", "yes", "feature") for eta in ETAS},
    **{f"calibrated_{cost}": Row(f"Calibrated eq. odds, {cost}", "calibrated", "yes", "yes") for cost in COSTS},
    "equalized_odds": Row("Equalized odds (Hardt)", "calibrated", "yes", "yes"),
}
"""The rows by name, in the order of the table."""

UNITS = (
    "dnn",
    "reweighing",
    "optimized",
    "prejudice_minimum",
    "prejudice_aif360",
    "prejudice_aif360_flags",
    "prejudice_dnn",
    "postprocessing",
)
"""The units of work: each computes some rows, and is saved when it is complete."""
