"""Settings of `detect`: those of data, network and training, as for `debias`, and those of detection."""

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

from fairjax.runs.fields import current
from fairjax.runs.hosts import Hosts
from fairjax.runs.identity import TRAINING_FIELDS, identity, plain
from fairjax.runs.settings import Selection, Settings, Simulation

DETECTION_FIELDS = ("threshold", "nodes", "draws", "proxies", "concept_sets", "concept_rows", "key")
"""Settings of detection that its numbers depend on."""


def _fixed(value: Any) -> Any:
    """Return a field that `debias` lets the user set and `detect` does not."""
    return dataclasses.field(default=value, init=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectSettings(Settings):
    """Find out why networks are biased, those that debias would train or those of a finished run: one page."""

    out: Path | None = None
    """Folder of the results, by default results/detect-DATASET, or detect-NAME beside the saved networks of that name.
    An interrupted run continues from there."""
    saved_network: Path | None = None
    """Folder of the saved networks of a run, such as results/compas-spd/networks/trained, in place of training. The
    short form is --network DIR. The data set, the splits and the seeds are those of the run."""
    sections: tuple[str, ...] = ()
    """Sections to compute. By default all that apply to the data."""
    threshold: float | None = None
    """Scores above it are positive decisions. By default the threshold that `debias` selects for each network, and 0.5
    where none is known."""
    nodes: int = 50
    """Number of points between the baseline and a row at which integrated gradients are computed."""
    proxies: int = 6
    """Number of variables that are perturbed one by one, those most associated with the group."""
    concept_sets: int = 20
    """Number of concept vectors per layer, and of random ones that they are compared with."""
    concept_rows: int = 500
    """Maximum number of rows of each of the two sets that a concept vector separates."""
    draws: int = 1000
    """Number of draws of bootstrap intervals and permutation tests."""
    key: int = 0
    """Random seed of these draws."""

    measure: str = _fixed("spd")
    across: str | None = _fixed(None)
    rate_minimum: int = _fixed(1)
    methods: tuple[str, ...] = _fixed(("standard",))
    portfolio: tuple[str, ...] = _fixed(Settings.portfolio)
    selection: Selection = _fixed(Selection())
    roc_search: str = _fixed("counts")  # type: ignore[assignment]
    hosts: Hosts = _fixed(Hosts())

    def __post_init__(self):
        """Validate the settings before anything is loaded."""
        super().__post_init__()
        from fairjax.runs.detecting.sections import SECTIONS

        known = [section.name for section in SECTIONS]
        unknown = [name for name in self.sections if name not in known]
        if unknown:
            raise ValueError(f"sections must be some of {', '.join(known)}, got {unknown[0]!r}")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ValueError(f"threshold must be between 0 and 1, got {self.threshold}")
        for name, least, most in (
            ("nodes", 1, 10**4), ("draws", 100, 10**6), ("proxies", 0, 100), ("concept_sets", 2, 1000),
            ("concept_rows", 10, 10**6), ("key", 0, 2**32 - 1),
        ):  # fmt: skip
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be from {least} to {most}, got {getattr(self, name)}")
        if self.saved_network is not None and self.network.file is not None:
            raise ValueError("--saved-network and --network FILE.py:FUNCTION are two networks: name one of them")
        if self.simulation.sweep:
            raise ValueError("detect explains the networks of one data set: leave simulation.sweep out")

    @property
    def folder(self) -> Path:
        """The folder of the results: beside the saved networks of a run, or in the working directory."""
        if self.out is not None:
            return self.out
        if self.saved_network is not None:
            return self.saved_network.parent.parent / f"detect-{self.saved_network.name}"
        source = self.network.source
        names = (self.dataset, *self.protected, *(() if source is None else (source.file.stem,)))
        return Path("results") / "-".join(re.sub(r"[^\w.-]+", "_", name) for name in ("detect", *names))


def detect_type() -> type[DetectSettings]:
    """Create the settings of `detect` for the simulated data sets that are registered."""
    return _detect_type(current(Simulation))


@functools.cache
def _detect_type(simulation: type[Simulation]) -> type[DetectSettings]:
    if simulation is Simulation:
        return DetectSettings
    space = {"__doc__": DetectSettings.__doc__, "__module__": __name__}
    made = [("simulation", simulation, simulation())]
    return dataclasses.make_dataclass(
        "DetectSettings", made, bases=(DetectSettings,), namespace=space, frozen=True, kw_only=True
    )


def folder_identity(settings: DetectSettings, networks: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what the networks that are explained depend on, as plain values: the identity of the folder of results.

    Settings of detection are not part of it, so that a section can be computed again with others.

    Args:
        settings: the settings; those of the run if its networks are explained.
        networks: checksums of saved networks or of a given one, if they are not trained here.
    """
    given = None if settings.network.file is None else networks
    trained = {name: value for name, value in identity(settings, given).items() if name in TRAINING_FIELDS}
    saved = {} if networks is None or given is not None else {"networks": networks}
    return {"command": "detect", **trained, **saved}


def detection_values(settings: DetectSettings) -> dict[str, Any]:
    """Return the settings of detection that the tables depend on, as plain values."""
    return {name: plain(getattr(settings, name)) for name in DETECTION_FIELDS}
