"""Settings of `table3`."""

import dataclasses
from pathlib import Path
from typing import Literal

from fairjax.nn import Mlp
from fairjax.runs.settings import SEEDS
from fairjax.runs.values import check_values, expand_paths
from fairjax.training import Training

DATASETS = ("adult", "compas")
"""The data sets of the table."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table3:
    """Measure Table 3 of the second paper: five ways to mitigate bias on Adult and COMPAS, with one coding.

    Du, Yang, Zou, Hu (2020), Fairness in deep learning: a computational perspective, IEEE Intelligent Systems.
    """

    datasets: tuple[Literal["adult", "compas"], ...] = DATASETS
    """Data sets to measure."""
    duplicates: Literal["keep", "drop", "both"] = "both"
    """Whether rows that are equal once they are prepared are kept or dropped: keep, drop, or both."""
    seeds: tuple[int, ...] = SEEDS
    """One split into 50 % train, 20 % valid and 30 % test rows per seed, and one network that all rows share."""
    widths: tuple[int, ...] = (100,)
    """Numbers of units of the network's hidden layers."""
    training: Training = Training(batch_size=200, epochs=100, check_every=1)
    """How all networks are trained. The network of the best epoch on valid rows is kept."""
    out: Path = Path("results/table3")
    """Folder of the results. An interrupted run continues from there."""

    def __post_init__(self):
        """Validate the settings."""
        expand_paths(self)
        check_values(self)
        if not self.datasets:
            raise ValueError(f"datasets must be one or more of {', '.join(DATASETS)}, got none")
        if len(self.seeds) < 2:
            raise ValueError(
                f"seeds must be two or more, so that numbers can be compared over splits, got {self.seeds}"
            )
        for name in ("datasets", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} must not repeat, got {values}")
        if any(not 0 <= seed < 2**32 for seed in self.seeds):
            raise ValueError(f"seeds must be numbers from 0 to 2^32 - 1, got {self.seeds}")
        Mlp(widths=self.widths)  # validates the widths

    @property
    def variants(self) -> list[tuple[str, str]]:
        """The data sets with the treatment of their duplicates."""
        treatments = ("keep", "drop") if self.duplicates == "both" else (self.duplicates,)
        return [(dataset, duplicates) for dataset in self.datasets for duplicates in treatments]

    def identity(self, dataset: str, duplicates: str) -> dict[str, object]:
        """Return everything that the numbers of one data set depend on."""
        return {
            "dataset": dataset,
            "duplicates": duplicates,
            "seeds": list(self.seeds),
            "widths": list(self.widths),
            "training": {field.name: getattr(self.training, field.name) for field in dataclasses.fields(self.training)},
        }
