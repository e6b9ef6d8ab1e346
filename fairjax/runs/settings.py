"""Settings of a run: dataclasses that the command line, YAML files and the run's folder share."""

import dataclasses
import functools
import math
import re
from pathlib import Path
from typing import Any, Literal, cast

from fairjax.datasets import DATASETS, Benchmark, Simulator
from fairjax.methods import METHODS, Method
from fairjax.metrics import GAPS, MEASURES
from fairjax.nn import Cnn, Mlp, ResNet
from fairjax.preprocess import Preprocessor
from fairjax.runs.composed_losses import LossSettings, settings_of_method
from fairjax.runs.fields import Field, current, field_docs, with_fields
from fairjax.runs.function_in_file import FunctionInFile
from fairjax.runs.hosts import Hosts
from fairjax.runs.labels import PORTFOLIO, methods
from fairjax.runs.own_data import check_own_data, own_benchmark
from fairjax.runs.postprocessors import POSTPROCESSORS
from fairjax.runs.specification import format_preprocessor, parse_preprocessor
from fairjax.runs.values import check_values, expand_paths, field_types, short_repr
from fairjax.selection import RULES, Rule
from fairjax.training import Training
from fairjax.types import Number

SEEDS = (
    42, 73, 666, 777, 1009, 1279, 1597, 1811, 1949, 2053, 2129, 2287, 2617, 2741, 2903, 3079, 3257, 3413, 3571, 3727,
)  # fmt: skip
"""Default seeds, those of the published results."""


def simulators() -> dict[str, Simulator]:
    """Return the simulated data sets by name."""
    return {name: entry.simulator for name, entry in DATASETS.items() if entry.simulator is not None}


def _parameters() -> tuple[Field, ...]:
    """Return one setting per parameter of a simulated data set."""
    return tuple(
        Field(entry.parameter.name, float, entry.parameter.default, f"{name}: {entry.parameter.description}")
        for name, entry in simulators().items()
    )


@with_fields(_parameters)
@dataclasses.dataclass(frozen=True, kw_only=True)
class Simulation:
    """Settings of the simulated data sets."""

    rows: int = 5000
    """Number of rows."""
    tables: Literal["fixed", "redrawn"] = "fixed"
    """Use one fixed table that all seeds split, or a redrawn table for each seed."""
    key: int = 0
    """Random seed of the fixed table."""
    sweep: tuple[float, ...] = ()
    """Values of the data set's parameter to run with every seed, all at once. Requires redrawn tables."""

    def __post_init__(self):
        """Validate the settings."""
        check_values(self, "simulation.")
        if self.sweep and self.tables != "redrawn":
            raise ValueError("simulation.sweep draws a table for each value and seed: set simulation.tables to redrawn")
        if len(set(self.sweep)) < len(self.sweep):
            raise ValueError(f"simulation.sweep must not repeat, got {self.sweep}")
        if not 100 <= self.rows <= 10**8:
            raise ValueError(
                f"simulation.rows must be at least 100, so that every part has every group, and at most {10**8}, got "
                f"{self.rows}"
            )
        for entry in simulators().values():
            name = entry.parameter.name
            entry.parameter.check(getattr(self, name, entry.parameter.default), f"simulation.{name}")
        if not 0 <= self.key < 2**32:
            raise ValueError(f"simulation.key must be a number from 0 to 2^32 - 1, got {self.key}")

    def value(self, dataset: str) -> float:
        """Return the value of a simulated data set's parameter."""
        return getattr(self, simulators()[dataset].parameter.name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The classifier: an MLP for tables, a convolutional network for images, or a trained network of your own."""

    file: str | None = None
    """Function that returns a trained network, FILE.py:FUNCTION. The network is debiased in place of networks that are
    trained here; --network FILE.py:FUNCTION is the same. The function may require one argument, a few rows as an
    example, and returns the result of fairjax.adapters.*.bring, a pair (network, variables), or a trained module of a
    framework."""
    output: Literal["logit", "probability"] = "logit"
    """What the module in a file returns: logits or probabilities."""
    standardise: bool = False
    """Whether the features for the network in a file are standardised, with the mean and scale of each train part. By
    default it gets them as they are."""
    kind: Literal["auto", "mlp", "cnn", "resnet"] = "auto"
    """Kind of network: a multilayer perceptron, a convolutional network, or a residual network. By default a multilayer
    perceptron for tables, and a convolutional network for images."""
    widths: tuple[int, ...] = (32,) * 11
    """Number of units in each hidden layer of a multilayer perceptron."""
    channels: tuple[int, ...] = (8, 16, 32)
    """Number of channels in each layer of a convolutional network, or in each stage of a residual network."""
    blocks: int = 1
    """Number of residual blocks in each stage of a residual network."""
    dropout: float = 0.05
    """Probability of dropping a unit's output during training."""
    site: Literal["preactivation", "activation", "normalised"] = "preactivation"
    """Where the influence of a unit is measured: before the ReLU, after it, or after batch normalisation."""
    cut: Literal["incoming", "outgoing"] = "incoming"
    """Which weights of a pruned unit are removed."""

    @property
    def source(self) -> FunctionInFile | None:
        """The function that returns a trained network, if there is one."""
        return None if self.file is None else FunctionInFile.parse(self.file, "network.file")

    def _check_file(self) -> None:
        """Check that settings of a given network, and of one that is trained here, are not mixed."""
        if self.file is not None and ":" not in self.file and "." not in self.file:
            raise ValueError(
                f"network.file must be FILE.py:FUNCTION, such as mymodule.py:make, got {self.file!r}: --network.kind "
                "chooses a network that is trained here"
            )
        of_file = ("output", "standardise")
        changed = [field.name for field in dataclasses.fields(self) if getattr(self, field.name) != field.default]
        idle = [f"network.{name}" for name in changed if (name in of_file) == (self.source is None) and name != "file"]
        if idle:
            why = "without --network FILE.py:FUNCTION" if self.source is None else f"for the network of {self.file}"
            raise ValueError(f"{' and '.join(idle)} would change nothing {why}: leave them out")

    def kind_for(self, images: bool) -> str:
        """Return the kind of network for images, or for tables.

        Raises:
            ValueError: if the chosen kind is one for the other data, or a setting of another kind is given.
        """
        kind = self.kind if self.kind != "auto" else "cnn" if images else "mlp"
        if (kind != "mlp") != images:
            data, others = ("images", "cnn or resnet") if images else ("a table", "mlp")
            raise ValueError(f"network.kind must be {others} for {data}, got {kind}")
        used = {"mlp": ("widths",), "cnn": ("channels",), "resnet": ("channels", "blocks")}[kind]
        default = {field.name: field.default for field in dataclasses.fields(self)}
        idle = [name for name in ("widths", "channels", "blocks") if getattr(self, name) != default[name]]
        idle = [f"network.{name}" for name in idle if name not in used]
        if idle:
            raise ValueError(f"{' and '.join(idle)} would change nothing for network.kind {kind}: leave them out")
        return kind

    def build(self, classes: int = 2, images: bool = False) -> Mlp | Cnn | ResNet:
        """Build the Linen module for data with a number of classes."""
        outputs = 1 if classes == 2 else classes
        shared: Any = {"site": self.site, "cut": self.cut, "dropout": self.dropout, "outputs": outputs}
        kind = self.kind_for(images)
        if kind == "mlp":
            return Mlp(widths=self.widths, **shared)
        return Cnn(self.channels, **shared) if kind == "cnn" else ResNet(self.channels, self.blocks, **shared)

    def __post_init__(self):
        """Validate the settings by building the networks."""
        check_values(self, "network.")
        self._check_file()
        for name in ("widths", "channels"):
            if any(not 1 <= width <= 2**14 for width in getattr(self, name)):
                value = short_repr(getattr(self, name))
                raise ValueError(f"network.{name} must be positive and at most {2**14}, got {value}")
        Mlp(widths=self.widths, site=self.site, cut=self.cut, dropout=self.dropout)
        ResNet(channels=self.channels, blocks=self.blocks)


def _rule_numbers() -> tuple[Field, ...]:
    """Return one setting per number or choice of a selection rule; rules share those of the same name."""
    fields: dict[str, Field] = {}
    users: dict[str, list[str]] = {}
    for name, kind in RULES.items():
        kind = cast(Any, kind)
        docs, types, rule = field_docs(kind), field_types(kind), kind()
        for field in dataclasses.fields(kind):
            default = getattr(rule, field.name)
            if isinstance(default, bool | int | float | str):
                single = float if types[field.name] == Number else types[field.name]
                users.setdefault(field.name, []).append(name)
                fields.setdefault(field.name, Field(field.name, single, default, docs.get(field.name, "")))
    return tuple(entry._replace(description=_of_rules(entry, users[name])) for name, entry in fields.items())


def _of_rules(entry: Field, rules: list[str]) -> str:
    """Return the description of a rule's number, with the names of the rules that have it."""
    return f"{entry.description} Used by the rule{'s' if len(rules) > 1 else ''} {' and '.join(rules)}.".lstrip()


@with_fields(_rule_numbers)
@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """How one candidate is selected on validation data."""

    rule: str = "objective"
    """The rule that selects a candidate."""
    also: tuple[str, ...] = ()
    """Additional rules that select from the same candidates; each adds rows to the results."""
    epsilon: float = 0.05
    """Bound on |bias|, which test results are compared with."""

    def build(self, rule: str | None = None) -> Rule:
        """Build a selection rule with these numbers: the rule of the run, or the one with the given name.

        Fields of a rule that are not settings, such as arrays, keep the rule's defaults.
        """
        chosen = RULES[rule or self.rule]
        names = {field.name for field in dataclasses.fields(cast(Any, chosen))}
        return chosen(**{name: getattr(self, name) for name in names if hasattr(self, name)})

    @property
    def rules(self) -> dict[str, Rule]:
        """All rules by name, the main rule first."""
        return {name: self.build(name) for name in (self.rule, *self.also)}

    def __post_init__(self):
        """Validate the settings by building the rules."""
        RULES.check("selection.rule and selection.also", self.rule, *self.also)
        check_values(self, "selection.")
        if len(self.rules) < 1 + len(self.also):
            raise ValueError(f"selection.also must not repeat a rule, got {self.also} beside {self.rule}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Train networks on splits of one data set and debias them, all seeds at once."""

    dataset: str = "loh"
    """Data set, simulated, or found or downloaded."""
    measure: str = "spd"
    """Measure of bias. With more than two groups, the greatest rate minus the least; with more than two classes, the
    class that is furthest from parity."""
    seeds: tuple[int, ...] = SEEDS
    """Random seeds; each gives one train/valid/test split and one network."""
    methods: tuple[str, ...] = ("standard", "pruning", "bias_gda")
    """Methods to run; standard is the network as trained."""
    out: Path | None = None
    """Folder of the results, by default results/DATASET-MEASURE. An interrupted run continues from there."""
    path: Path | None = None
    """Path of the raw data file or its folder. By default FAIRJAX_DATA, then the user's cache, then a download."""
    protected: tuple[str, ...] = ()
    """Protected attributes that define the groups; several attributes define their intersections. Choices are race and
    sex for adult and compas, and sex or age for german. By default the two groups of the benchmark. With many groups, a
    difference below 0.05 is seldom measurable: use a larger selection.epsilon, such as 0.2."""
    intersect: bool = True
    """Compare the intersections of several attributes. Otherwise compare the groups of each attribute separately."""
    minimum: int = 50
    """Minimum number of rows of a compared group. Used with protected."""
    small: Literal["leave out", "pool", "raise", "keep"] = "leave out"
    """What to do with smaller groups: leave them out, pool them, stop with an error, or keep them."""
    across: str | None = None
    """Gap that compares a rate across groups. By default the signed difference of two groups, or the spread of more."""
    rate_minimum: int = 1
    """Minimum number of rows behind a rate that is compared."""
    stratify: bool = False
    """Split every group and label in the same shares. Otherwise a part's share of each is random."""
    table: tuple[str, ...] = ()
    """Your own table instead of a data set: csv, csv.gz or Parquet files, or a pattern. The settings from label to
    use_protected are about it, and protected names its columns: of values, of numbers with edges, as in 'age:25,60', or
    one condition that the privileged meet, as in 'age>=25'."""
    images: Path | None = None
    """Your own folder of images instead of a data set. The settings label, positive, privileged and split_by name
    attributes of its images, as for a table, and layout says where the attributes are."""
    layout: str = "csv"
    """Layout of the folder of images: celeba, utkface, fairface, chexpert, mimic_cxr, or csv for one csv file with a
    column named file."""
    image_size: tuple[int, ...] = ()
    """Height and width to which images are resized, or one number for both. Not needed if all have one size."""
    colours: Literal["RGB", "grey"] = "RGB"
    """Channels of images: red, green and blue, or grey."""
    uncertain: Literal["raise", "negative", "positive", "leave out"] = "raise"
    """What to do with uncertain labels of chexpert and mimic_cxr: stop, take them as negative or positive, or leave
    the images out."""
    incomplete: Literal["raise", "leave out"] = "raise"
    """What to do with images without attributes, and attributes without an image: stop, or leave them out."""
    on_unreadable: Literal["raise", "skip"] = "raise"
    """What to do with images that cannot be decoded: stop, or leave them out."""
    label: str | None = None
    """Column of labels, or a condition, as in 'income>50000'."""
    positive: str | None = None
    """The positive value of the label. Not needed for 0 and 1, or false and true."""
    privileged: str | None = None
    """The privileged value of the one protected attribute. By default all its groups are compared."""
    weight: str | None = None
    """Column of weights of the rows."""
    split_by: str | None = None
    """Column that identifies persons, whose rows are all in one part."""
    drop: tuple[str, ...] = ()
    """Columns that are no features."""
    missing: Literal["raise", "indicate"] = "raise"
    """What to do with missing values of features: stop, or fill them in and indicate that they were missing."""
    use_protected: bool = False
    """Whether protected attributes are features too."""
    preprocess: tuple[str, ...] = ()
    """Preprocessors of train parts, NAME[,SETTING=VALUE ...]. They are applied one after another, as in reweighing or
    removal,columns=sex+race; several values of a setting are joined by +. Networks are trained and debiased on the
    preprocessed data."""
    simulation: Simulation = Simulation()
    network: NetworkSettings = NetworkSettings()
    training: Training = Training()
    loss: LossSettings = LossSettings()
    portfolio: tuple[str, ...] = ("bias_gda", "adversarial_debiasing", "lagrangian")
    """Methods whose selected candidates the portfolio compares. It selects one per split, by the selection rule."""
    selection: Selection = Selection()
    roc_search: Literal["counts", "aif360"] = "counts"
    """Search of reject option: exact, or AIF360's own. The results are the same, but AIF360 takes seconds per
    network."""
    group_size: int | None = None
    """Number of seeds that run together in one program. Results do not depend on it. The default suits the device."""
    save_every: float = 10.0
    """Seconds between saved states. An interrupted run loses at most this time and the chunk in progress."""
    compilation_cache: Path | None = None
    """Folder of compiled programs for later runs. It is like JAX_COMPILATION_CACHE_DIR: use only a folder of your own,
    since its contents are executed."""
    hosts: Hosts = Hosts()

    def __post_init__(self):
        """Validate the settings before anything is loaded."""
        expand_paths(self)
        check_values(self)
        check_own_data(self, Settings)
        if not (self.table or self.images):
            DATASETS.check("dataset", self.dataset)
        MEASURES.check("measure", self.measure)
        if self.across is not None:
            GAPS.check("across", self.across)
        known = methods()
        known.check("methods", *self.methods)
        if not self.methods:
            raise ValueError(f"methods must be some of {', '.join(known)}, got none")
        unfit = [name for name in self.portfolio if name not in METHODS or METHODS[name].threshold == "rule"]
        if unfit or not self.portfolio:
            raise ValueError(f"portfolio must be methods with candidates of their own, got {unfit or 'none'}")
        if PORTFOLIO in self.methods:
            before = self.methods[: self.methods.index(PORTFOLIO)]
            absent = [name for name in self.portfolio if name not in before]
            if absent:
                raise ValueError(
                    f"the portfolio chooses from methods that ran before it: put {', '.join(absent)} there"
                )
        if self.simulation.sweep and not self.is_simulated:
            raise ValueError(f"simulation.sweep is for {' and '.join(simulators())}, not for {self.dataset}")
        self._check_groups()
        simulator = self.benchmark.simulator
        if simulator is not None:
            simulator.check_rows(self.simulation.rows, "simulation.rows")
            for value in self.simulation.sweep:
                simulator.parameter.check(value, "simulation.sweep")
        try:
            chain = tuple(map(parse_preprocessor, self.preprocess))
            written = tuple(map(format_preprocessor, chain))
        except ValueError as error:
            raise ValueError(f"preprocess: {error}") from error
        object.__setattr__(self, "preprocess", written)  # the one form in which they are stored
        self._check_rows(chain)
        self._check_network()
        for name in ("methods", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} must not repeat, got {values}")
        if not self.seeds or min(self.seeds) < 0 or max(self.seeds) >= 2**32:
            raise ValueError(f"seeds must be one or more numbers from 0 to 2^32 - 1, got {self.seeds}")
        if self.path is not None and self.is_simulated:
            raise ValueError(f"path is a raw data file, but {self.dataset} is simulated; leave path out")
        if not 0 <= self.save_every < math.inf:
            raise ValueError(f"save_every must be a number of seconds, at least 0, got {self.save_every}")
        if self.group_size is not None and self.group_size < 2:
            raise ValueError(f"group_size must be at least 2, got {self.group_size}")

    def _check_rows(self, chain: tuple[Preprocessor, ...]) -> None:
        """Check that what is computed from train rows, or without weights, is so for the rows that there are."""
        moved = [format_preprocessor(each) for each in chain if each.changes != "features"]
        pooling = [name for name in (self.selection.rule, *self.selection.also) if RULES[name]().data == "pooled"]
        if moved and pooling:
            raise ValueError(
                f"the rule {pooling[0]} estimates the bias from train rows too, and {moved[0]} changes them: select by "
                "another rule, such as expected"
            )
        unweighted = [name for name in self.methods if name in POSTPROCESSORS and POSTPROCESSORS[name].decide]
        if self.weight is not None and unweighted:
            raise ValueError(f"{' and '.join(unweighted)} cannot use the weights of rows: leave out {unweighted[0]}")

    def _check_network(self) -> None:
        """Check that the network suits the data, and that settings of training are not given with a trained network."""
        if self.network.file is None:
            self.network.kind_for(self.benchmark.images)
            return
        if self.network.standardise and self.benchmark.images:
            raise ValueError("network.standardise is for tables: images are given to the network as they are")
        changed = [
            f"training.{field.name}"
            for field in dataclasses.fields(self.training)
            if getattr(self.training, field.name) != field.default
        ]
        changed += ["loss"] if self.loss != LossSettings() else []
        changed += ["preprocess"] if self.preprocess else []
        if changed:
            raise ValueError(
                f"{' and '.join(changed)} would change nothing for the network of {self.network.file}, which is not "
                "trained here: leave them out"
            )

    @property
    def benchmark(self) -> Benchmark:
        """The entry of the data set, or one for data of one's own."""
        return own_benchmark(self) or DATASETS[self.dataset]

    def _check_groups(self):
        """Check that the data set has the attributes, and that settings of groups are given only with groups."""
        benchmark = self.benchmark
        known = benchmark.attributes
        unknown = [name for name in self.protected if name not in known]
        if unknown and not known:
            raise ValueError(
                f"protected must be left out for {self.dataset}, whose one attribute cannot be chosen; it can for "
                f"{', '.join(name for name, entry in DATASETS.items() if entry.attributes)}"
            )
        if unknown or len(set(self.protected)) < len(self.protected):
            raise ValueError(
                f"protected must be one or more of {', '.join(known)} for {self.dataset}, each once, got "
                f"{' '.join(self.protected)}"
            )
        single = bool(known) and not benchmark.intersections
        if single and len(self.protected) > 1:
            raise ValueError(
                f"{self.dataset} takes one protected attribute, {' or '.join(known)}, got {' '.join(self.protected)}"
            )
        for name in ("minimum", "rate_minimum"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        default = {field.name: field.default for field in dataclasses.fields(self)}
        if single or not (self.protected or benchmark.several_classes):
            idle = [name for name in ("minimum", "small") if getattr(self, name) != default[name]]
            if idle:
                raise ValueError(
                    f"{' and '.join(idle)} would change nothing for the two groups of {self.dataset}: leave them out"
                    + (", or choose protected" if known and not single else "")
                )
        if not self.intersect and len(self.protected) < 2:
            raise ValueError(f"no-intersect needs several protected attributes, got {len(self.protected)}")
        if self.stratify and (self.is_simulated or not self.intersect):
            raise ValueError("stratify is for benchmark files whose groups are the intersections of attributes")
        unsupported = [
            name
            for name, entry in POSTPROCESSORS.items()
            if name in self.methods and entry.measures is not None and self.measure not in entry.measures
        ]
        if unsupported:
            raise ValueError(
                f"{', '.join(unsupported)} support only the measures "
                f"{' and '.join(POSTPROCESSORS[unsupported[0]].measures or ())}, got {self.measure}: leave them out"
            )

    @property
    def is_simulated(self) -> bool:
        """Whether the data set is simulated."""
        return self.benchmark.simulator is not None

    @property
    def folder(self) -> Path:
        """The folder of the results."""
        source = self.network.source
        given = () if source is None else (source.file.stem,)
        names = (self.dataset, *self.protected, self.measure, *given)
        return self.out or Path("results") / "-".join(re.sub(r"[^\w.-]+", "_", name) for name in names)

    @property
    def runs(self) -> list[tuple[int, float | None]]:
        """Seed and simulated parameter of each network: all seeds, for each value of a sweep if there is one."""
        return [(seed, value) for value in self.simulation.sweep or (None,) for seed in self.seeds]

    def config(self, method: str) -> Method:
        """Return a method with its hyperparameters."""
        chosen = getattr(self, method, None) or METHODS[method]()
        return chosen if isinstance(chosen, Method) else chosen.build()

    def module(self, classes: int) -> Mlp | Cnn | ResNet:
        """Build the Linen module of the run's networks, for a number of classes."""
        return self.network.build(classes, self.benchmark.images)


def debias_type() -> type[Settings]:
    """Create the settings of `debias` for everything that is registered.

    They are the settings of every run, a group for each method with hyperparameters, and the numbers of the rules and
    of the simulated data sets.

    Raises:
        ValueError: if a method has the same name as another setting.
    """
    groups = ("simulation", current(Simulation)), ("selection", current(Selection))
    return _debias_type(tuple(METHODS.items()), groups)


@functools.cache
def _debias_type(methods: tuple[tuple[str, type[Method]], ...], groups: tuple[tuple[str, type], ...]) -> type[Settings]:
    base = globals().get("Debias", Settings)
    given = {field.name: field.type for field in dataclasses.fields(base)}
    made = [
        (name, type(values), values)
        for name, kind in methods
        if dataclasses.fields(cast(Any, values := settings_of_method(name, kind)))
    ]
    taken = [name for name, kind, _ in made if given.get(name, kind) is not kind]
    if taken:
        raise ValueError(f"a method cannot be named {taken[0]!r}, which is a setting of debias: register another name")
    new = [(name, kind, kind()) for name, kind in groups if given[name] is not kind]
    new += [entry for entry in made if entry[0] not in given]
    if not new:
        return base
    space = {"__doc__": Settings.__doc__, "__module__": __name__}
    return dataclasses.make_dataclass("Debias", new, bases=(base,), namespace=space, frozen=True, kw_only=True)


Debias = debias_type()
"""Settings of `debias`, with what was registered when this module was imported; `debias_type` includes what was
registered later."""
