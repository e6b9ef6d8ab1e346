"""Settings of `detect --dataset snippets`."""

import dataclasses
from pathlib import Path
from typing import Any

from fairjax.runs.identity import plain
from fairjax.runs.settings import Settings
from fairjax.training import Training

DATASET = "snippets"
"""Name of the rated sentences on the command line."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextSettings:
    """Train classifiers of sentiment on rated sentences, and test them with first names in templates: one page."""

    dataset: str = DATASET
    """The rated sentences."""
    plant: float = 0.0
    """Strength of a planted bias: sentences with a name are added to the training data, and their share of positive
    labels is higher by this number for names that are more common among white people."""
    planted: int = 2000
    """Number of sentences with the planted bias."""
    seeds: tuple[int, ...] = Settings.seeds
    """One network per seed: another split of the documents, and another initialisation."""
    widths: tuple[int, ...] = (64,)
    """Hidden units of the head."""
    epochs: int = 40
    """Maximum number of epochs; training stops early."""
    length: int = 48
    """Tokens per sentence; longer ones are cut."""
    explained: int = 3
    """Number of networks whose logits are attributed to words, which takes a backward pass through the encoder."""
    nodes: int = 20
    """Number of points at which integrated gradients are computed."""
    draws: int = 1000
    """Number of relabellings of the names."""
    key: int = 0
    """Random seed of the draws and of the planted sentences."""
    cache: Path | None = None
    """Folder in which the sentences' embeddings are kept for the next time; by default the user's cache folder."""
    out: Path | None = None
    """Folder of the results, by default results/detect-snippets. An interrupted run continues from there."""

    def __post_init__(self):
        """Validate the settings before anything is loaded."""
        if self.dataset != DATASET:
            raise ValueError(f"dataset must be {DATASET}, got {self.dataset!r}")
        if not -1 <= self.plant <= 1:
            raise ValueError(f"plant must be a difference of shares between -1 and 1, got {self.plant}")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must be different numbers, at least one, got {self.seeds}")
        if not self.widths or not all(1 <= width <= 10**5 for width in self.widths):
            raise ValueError(f"widths must be positive numbers of units, at least one, got {self.widths}")
        for name, least, most in (
            ("planted", 1, 10**5), ("epochs", 1, 10**5), ("length", 3, 512), ("explained", 0, 10**4),
            ("nodes", 1, 10**4), ("draws", 100, 10**6), ("key", 0, 2**32 - 1),
        ):  # fmt: skip
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be from {least} to {most}, got {getattr(self, name)}")

    @property
    def folder(self) -> Path:
        """The folder of the results."""
        planted = f"-planted-{self.plant:g}" if self.plant else ""
        return Path("results") / f"detect-{DATASET}{planted}" if self.out is None else self.out

    def training(self) -> Training:
        """Return the hyperparameters of the heads' training."""
        return Training(epochs=self.epochs, check_every=1, stopping_patience=5)

    def values(self) -> dict[str, Any]:
        """Return what the numbers depend on, as plain values."""
        kept = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: plain(value) for name, value in kept.items() if name not in ("cache", "out")}
