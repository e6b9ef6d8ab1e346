"""What the page of `detect` says about the networks and the data."""

from typing import Any, NamedTuple

from fairjax.datasets import DATASETS
from fairjax.runs.detecting.settings import detection_values
from fairjax.runs.detecting.subject import Subject
from fairjax.runs.identity import plain, training_identity


class About(NamedTuple):
    """Facts that the page needs beside the tables."""

    dataset: str
    """Name of the data set, as shown."""
    groups: tuple[str, ...]
    """Names of the groups, in the order of their codes."""
    protected: str
    """Name of the protected attribute."""
    seeds: tuple[int, ...]
    """The seeds."""
    rows: int
    """Number of rows of the data set."""
    test_rows: int
    """Number of rows of a test part."""
    source: str
    """Where the networks are from."""
    attribute: str = ""
    """Name of the variable that is the protected attribute, if it is a feature."""
    threshold: float | None = 0.5
    """Scores above it are positive decisions; None if the networks have thresholds of their own."""
    site: str = ""
    """Where in a layer the activations of units are recorded."""
    is_given: bool = False
    """Whether all seeds have the same network, which the user gave."""
    classes: int = 2
    """Number of classes."""
    thresholds: tuple[float, ...] = ()
    """The threshold of each network."""
    is_weighted: bool = False
    """Whether rows have weights."""
    settings: dict[str, Any] = {}
    """All settings that the numbers depend on."""

    @classmethod
    def of(cls, subject: Subject) -> "About":
        """Return the facts of a run."""
        settings = subject.settings
        saved = settings.saved_network
        columns = subject.columns
        source = "trained for this page" if saved is None else f"loaded from {saved}"
        if settings.network.file is not None:
            source = f"returned by {settings.network.file}"
        label = DATASETS.label(settings.dataset) if settings.dataset in DATASETS else settings.dataset
        return cls(
            dataset=label,
            groups=subject.groups,
            protected=str(subject.facts.get("protected") or "the group"),
            seeds=subject.seeds,
            rows=int(subject.facts["rows"]),
            test_rows=int(subject.splits.test.shape[-1]),
            source=source,
            attribute="" if columns is None else next(iter(columns.attribute_variables), ""),
            threshold=subject.thresholds[0] if subject.selected is None or settings.threshold else None,
            site="" if settings.network.file is not None else settings.network.site,
            is_given=settings.network.file is not None,
            classes=len(subject.structure.classes),
            thresholds=subject.thresholds,
            is_weighted=subject.splits.weights is not None,
            settings={**training_identity(settings), **detection_values(settings)} | {"seeds": plain(subject.seeds)},
        )

    @property
    def networks(self) -> str:
        """The number of networks in words."""
        return "one network" if self.is_given or len(self.seeds) == 1 else f"{len(self.seeds)} networks"

    @property
    def difference(self) -> str:
        """Which group is subtracted from which."""
        return f"{self.groups[0]} less {self.groups[1]}" if len(self.groups) == 2 else "between groups"
