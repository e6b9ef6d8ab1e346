"""Settings of `mitigate`."""

import dataclasses
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fairjax.nn import Mlp
from fairjax.runs.identity import plain
from fairjax.runs.settings import SEEDS
from fairjax.runs.values import check_values, expand_paths
from fairjax.selection import ExpectedObjective
from fairjax.training import Training


class Studied(NamedTuple):
    """How a data set is used."""

    epochs: int
    """Epochs of training."""
    groups: tuple[str, str]
    """What the groups 0 and 1 are. The label 1 is more frequent in group 1."""
    swapped: bool = False
    """Whether the groups are those of the data set with 0 and 1 exchanged."""
    pairs: str = ""
    """Pairs of columns beside the protected attribute's that are exchanged when the group is, as
    `fairjax.runs.specification` writes them."""


STUDIED = {
    "adult": Studied(10, ("women", "men"), pairs="relationship=Husband~relationship=Wife"),
    "compas": Studied(15, ("Caucasian", "not Caucasian"), swapped=True),
    "bank": Studied(10, ("25 and older", "younger than 25"), swapped=True),
    "german": Studied(60, ("women", "men")),
}
"""The data sets."""

MARGIN = 0.2
"""Share of the bound that postprocessors without a rule keep as a margin on valid rows."""

STAGES = ("pre", "in", "intra", "post")
"""Stages of mitigation, in the order of tables."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mitigate:
    """Compare ways to mitigate bias before, in and after training, on the same splits, and draw their frontiers.

    Methods that start from a trained network share it. Everything is chosen on validation rows by one rule.
    """

    stage: Literal["all", "pre", "in", "intra", "post"] = "all"
    """Methods to compute: before training, in training, on a trained network, or on its decisions. The page shows all
    that were computed."""
    datasets: tuple[Literal["adult", "compas", "bank", "german"], ...] = ("adult", "compas", "bank", "german")
    """Data sets to compute."""
    measures: tuple[Literal["spd", "eod"], ...] = ("spd", "eod")
    """Measures of bias that methods reduce, and by which they are selected and compared."""
    seeds: tuple[int, ...] = SEEDS
    """One split into 50 % train, 20 % valid and 30 % test rows per seed, and one network that methods share."""
    epsilon: float = 0.05
    """Bound on |bias|. What is selected maximises the expectation of balanced accuracy where it is met."""
    widths: tuple[int, ...] = (64, 32)
    """Numbers of units of the network's hidden layers."""
    epochs: int | None = None
    """Epochs of training, by default 10 for adult and bank, 15 for compas, 60 for german. The network of the last
    epoch is kept."""
    batch_size: int = 256
    """Rows per mini-batch of training."""
    learning_rate: float = 1e-3
    """Adam's step size in training."""
    out: Path = Path("results/mitigate")
    """Folder of the results. An interrupted run continues from there."""

    def __post_init__(self):
        """Validate the settings."""
        expand_paths(self)
        check_values(self)
        for name in ("datasets", "measures", "seeds", "widths"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"{name} must be one or more, got none")
            if name != "widths" and len(set(values)) < len(values):
                raise ValueError(f"{name} must not repeat, got {values}")
        if len(self.seeds) < 2:
            raise ValueError(
                f"seeds must be two or more, so that methods can be compared over splits, got {self.seeds}"
            )
        if any(not 0 <= seed < 2**32 for seed in self.seeds):
            raise ValueError(f"seeds must be numbers from 0 to 2^32 - 1, got {self.seeds}")
        Mlp(widths=self.widths)  # validates the widths
        self.rule()
        for dataset in STUDIED:
            self.training(dataset)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages whose methods are computed."""
        return STAGES if self.stage == "all" else tuple(name for name in STAGES if name == self.stage)

    def rule(self, epsilon: float | None = None) -> ExpectedObjective:
        """Return the rule of selection for a bound; for `epsilon` if omitted."""
        return ExpectedObjective(epsilon=self.epsilon if epsilon is None else epsilon)

    def training(self, dataset: str, *, batch_size: int | None = None, epochs: float = 1.0) -> Training:
        """Return the hyperparameters of training.

        Args:
            dataset: a data set of `STUDIED`.
            batch_size: rows per mini-batch, if a row of the table needs others than the settings have.
            epochs: epochs as a multiple of those of the data set.
        """
        count = round(epochs * (STUDIED[dataset].epochs if self.epochs is None else self.epochs))
        return Training(
            epochs=count,
            check_every=count,
            batch_size=self.batch_size if batch_size is None else batch_size,
            learning_rate=self.learning_rate,
            keep="last",
        )

    def identity(self, dataset: str) -> dict[str, Any]:
        """Return what the numbers of a data set depend on, as plain values."""
        values = {name: plain(getattr(self, name)) for name in ("seeds", "epsilon", "widths")}
        return {"command": "mitigate", "dataset": dataset, **values, "training": plain(self.training(dataset))}
