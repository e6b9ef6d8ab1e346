"""The registry of data sets: benchmark files and simulations."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from fairjax.data.dataset import Dataset
from fairjax.datasets.adult import ADULT_FILES, adult
from fairjax.datasets.bank import BANK_FILES, bank, bank_full
from fairjax.datasets.compas import COMPAS_FILES, compas
from fairjax.datasets.digits import DIGITS
from fairjax.datasets.files import RawFile
from fairjax.datasets.german import GERMAN_FILES, german
from fairjax.datasets.mimic import mimic
from fairjax.datasets.simulated import LOH, ZAFAR, Simulator
from fairjax.registry import Registry, brief


class Benchmark(NamedTuple):
    """A data set that can be chosen by name."""

    load: Callable[..., Dataset]
    """The loader, `load(path=None, *, verify=True, **choices)`; a `Simulator` draws a table instead of reading one."""
    label: str = ""
    """Name in tables and figures."""
    attributes: tuple[str, ...] = ()
    """Protected attributes whose groups can all be distinguished; empty if the protected attribute is fixed."""
    intersections: bool = True
    """Whether several attributes can be chosen at once."""
    several_classes: bool = False
    """Whether the label has more than two classes."""
    files: Mapping[str, RawFile] = MappingProxyType({})
    """The raw files by name, if they can be downloaded."""
    images: bool = False
    """Whether the features are images."""

    @property
    def simulator(self) -> Simulator | None:
        """The simulator of a simulated data set; None for a benchmark file."""
        return self.load if isinstance(self.load, Simulator) else None

    def __call__(self, *args: Any, **options: Any) -> Dataset:
        """Load the data set, or draw it if it is simulated."""
        return self.load(*args, **options)


def _check_entry(name: str, benchmark: Any) -> None:
    """Check an entry of `DATASETS`; parameters of simulations are settings, so their names must differ."""
    if not isinstance(benchmark, Benchmark) or not callable(benchmark.load):
        what = f"the data set {name!r} must be a fairjax.datasets.Benchmark with a loader"
        raise TypeError(f"{what}, got {brief(benchmark)}")
    if benchmark.simulator is not None:
        parameter = benchmark.simulator.parameter.name
        others = {entry.simulator.parameter.name: other for other, entry in DATASETS.items() if entry.simulator}
        if parameter in others or parameter in SIMULATION_SETTINGS:
            whose = f"the data set {others[parameter]!r} has" if parameter in others else "all simulations have"
            raise ValueError(f"the parameter {parameter!r} of the data set {name!r} is one that {whose}: rename it")


_ATTRIBUTES = ("race", "sex")

SIMULATION_SETTINGS = ("rows", "tables", "key", "sweep")
"""Settings that all simulations share on the command line."""

DATASETS: Registry[Benchmark] = Registry(
    "data set",
    {
        "loh": Benchmark(LOH, "Loh et al."),
        "zafar": Benchmark(ZAFAR, "Zafar et al."),
        "digits": Benchmark(DIGITS, "Coloured digits", images=True),
        "adult": Benchmark(adult, "Adult", _ATTRIBUTES, files=ADULT_FILES),
        "compas": Benchmark(compas, "COMPAS", _ATTRIBUTES, files=COMPAS_FILES),
        "bank": Benchmark(bank, "Bank", files=BANK_FILES),
        "bank_full": Benchmark(bank_full, "Bank-full", files=BANK_FILES),
        "german": Benchmark(german, "German", ("sex", "age"), intersections=False, files=GERMAN_FILES),
        "mimic": Benchmark(mimic, "MIMIC-III"),
        "adult_occupation": Benchmark(
            functools.partial(adult, protected="sex", target="occupation"),
            "Adult occupation",
            _ATTRIBUTES,
            several_classes=True,
            files=ADULT_FILES,
        ),
        "compas_score_text": Benchmark(
            functools.partial(compas, protected="race", target="score_text"),
            "COMPAS score",
            _ATTRIBUTES,
            several_classes=True,
            files=COMPAS_FILES,
        ),
    },
    check=_check_entry,
)
"""The data sets by name. There is no other list of them. Every loader takes `path` and `verify`."""

FILES = {name: file for benchmark in DATASETS.values() for name, file in benchmark.files.items()}
"""The raw files of all benchmarks by name."""
