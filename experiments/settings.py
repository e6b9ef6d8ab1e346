"""What a run is told: dataclasses that the command line, the YAML files and the run's folder share."""

import dataclasses
import math
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from experiments.hosts import Hosts
from experiments.values import at_home, check_values, expand_paths, field_types, short_repr
from fairjax import data, objective
from fairjax.debias import (
    METHODS,
    AdversarialDebiasing,
    AdversarialFineTuning,
    BiasGda,
    FineTuning,
    LayerwiseOptimisation,
    Pruning,
    RandomPerturbation,
    lagrangian,
    last_layer,
)
from fairjax.nn import Mlp
from fairjax.presets import PRESETS
from fairjax.training import Training
from fairjax.types import Number

DatasetName = Literal[
    "loh", "zafar", "compas", "adult", "bank", "bank_full", "german", "mimic", "adult_occupation", "compas_score_text"
]
MeasureName = Literal["spd", "eod", "fprd", "ppd", "accuracy", "average_odds", "equalized_odds", "parity_ratio"]
AcrossName = Literal[
    "spread",
    "smooth",
    "to_overall",
    "mean_absolute",
    "pairwise",
    "variance",
    "deviation",
    "log_ratio",
    "shortfall",
    "kearns",
]
MethodName = Literal[
    "standard",
    "threshold",
    "random_perturbation",
    "layerwise",
    "adversarial_fine_tuning",
    "adversarial_debiasing",
    "last_layer",
    "pruning",
    "bias_gda",
    "fine_tuning",
    "lagrangian",
    "portfolio",
    "group_thresholds",
    "reject_option",
    "reject_option_either",
    "reject_option_paper",
    "equalized_odds",
    "equalized_odds_half",
]
POSTPROCESSORS = get_args(MethodName)[len(METHODS) + 1 :]
"""Methods that change decisions and not the network; all need the protected attribute at test time."""
RuleName = Literal["objective", "expected", "pooled", "accuracy_floor"]
AIF360 = POSTPROCESSORS[1:]
"""AIF360's post-processors."""
SIMULATED = ("loh", "zafar")
ATTRIBUTES = {
    "adult": ("race", "sex"),
    "adult_occupation": ("race", "sex"),
    "compas": ("race", "sex"),
    "compas_score_text": ("race", "sex"),
    "german": ("sex", "age"),
}
"""Data sets whose protected attributes can be chosen; of German, one of them."""
MULTICLASS = ("adult_occupation", "compas_score_text")
"""Data sets of more than two classes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Simulation:
    """Settings of the synthetic data sets, loh and zafar."""

    rows: int = 5000
    """Rows drawn."""
    alpha: float = 1.5
    """Loh: how strongly the label depends on the protected attribute (Eq. 9)."""
    theta: float = 0.8
    """Zafar: angle of rotation in radians; the smaller, the more biased (Eq. 10)."""
    tables: Literal["fixed", "redrawn"] = "fixed"
    """One table that the seeds split, or a table drawn anew for each seed."""
    key: int = 0
    """Seed of the fixed table."""
    sweep: tuple[float, ...] = ()
    """Values of alpha (loh) or theta (zafar) to run with every seed, all at once; needs redrawn tables."""

    def __post_init__(self):
        """Refuse values that mean nothing."""
        check_values(self, "simulation.")
        if self.sweep and self.tables != "redrawn":
            raise ValueError("simulation.sweep draws a table for each value and seed: set simulation.tables to redrawn")
        if len(set(self.sweep)) < len(self.sweep):
            raise ValueError(f"simulation.sweep must not repeat, got {self.sweep}")
        if self.rows < 100:
            raise ValueError(
                f"simulation.rows must be at least 100, so that every part has every group, got {self.rows}"
            )
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"simulation.alpha must not be negative, got {self.alpha}")
        if not 0 <= self.key < 2**32:
            raise ValueError(f"simulation.key must be a number from 0 to 2^32 - 1, got {self.key}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The classifier, a multilayer perceptron."""

    widths: tuple[int, ...] = (32,) * 11
    """Units of each hidden layer."""
    dropout: float = 0.05
    """Probability of dropping a unit's output while training."""
    site: Literal["preactivation", "activation", "normalised"] = "preactivation"
    """Where a unit's influence is measured: before the ReLU, after it, or after batch normalisation."""
    cut: Literal["incoming", "outgoing"] = "incoming"
    """Which of a pruned unit's weights are taken away."""

    def build(self, classes: int = 2) -> Mlp:
        """The Linen module, for data of so many classes."""
        outputs = 1 if classes == 2 else classes
        return Mlp(widths=self.widths, site=self.site, cut=self.cut, dropout=self.dropout, outputs=outputs)

    def __post_init__(self):
        """Refuse what the network refuses."""
        check_values(self, "network.")
        if any(width < 1 for width in self.widths):
            raise ValueError(f"network.widths must be positive, got {self.widths}")
        self.build()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """How one candidate is chosen on validation data."""

    rule: RuleName = "objective"
    """objective: Eq. 3 at epsilon - margin. expected: its expectation on new data. pooled: the same with the bias of
    train
    and validation data together. accuracy_floor: the least |bias| above a floor on balanced accuracy."""
    also: tuple[RuleName, ...] = ()
    """Further rules by which the results are chosen from the same candidates."""
    epsilon: float = 0.05
    """Bound on |bias|; test results are held against it."""
    margin: float = 0.01
    """How far inside the bound a candidate must be on validation data (rules objective and accuracy_floor)."""
    variance: float = 0.2
    """Variance of a decision, p (1 - p) (rules expected and pooled)."""
    shift: float = 0.03
    """Standard deviation of the change of the bias from train data to others (rule pooled)."""
    floor: float = 0.55
    """Least balanced accuracy on validation data (rule accuracy_floor)."""

    def build(self, rule: str | None = None) -> objective.Rule:
        """The rule; of another name, with these numbers, if one is given."""
        chosen = objective.RULES[rule or self.rule]
        names = {field.name for field in dataclasses.fields(chosen)}
        return chosen(**{name: getattr(self, name) for name in names})

    @property
    def rules(self) -> dict[str, objective.Rule]:
        """All rules by name, that of the run first."""
        return {name: self.build(name) for name in (self.rule, *self.also)}

    def __post_init__(self):
        """Refuse what the rules refuse."""
        unknown = [name for name in (self.rule, *self.also) if name not in objective.RULES]
        if unknown:
            raise ValueError(f"a selection rule must be one of {', '.join(objective.RULES)}, got {unknown[0]!r}")
        check_values(self, "selection.")
        if len(self.rules) < 1 + len(self.also):
            raise ValueError(f"selection.also must not repeat a rule, got {self.also} beside {self.rule}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Debias:
    """Train networks on splits of one data set and debias them, all seeds at once."""

    dataset: DatasetName = "loh"
    """loh and zafar are simulated; the others are benchmark files, found or downloaded."""
    measure: MeasureName = "spd"
    """Bias: statistical parity difference (spd), equal opportunity difference (eod), or the difference of false
    positive rates (fprd), of precision (ppd) or of accuracy, the mean (average_odds) or the larger (equalized_odds) of
    the differences of true and false positive rates, or by how much the ratio of selection rates is off 1
    (parity_ratio).
    Of more than two groups: the greatest rate less the least; of more than two classes: the class furthest apart."""
    seeds: tuple[int, ...] = data.SEEDS
    """One train/valid/test split and one network for each."""
    methods: tuple[MethodName, ...] = ("standard", "pruning", "bias_gda")
    """Debiasing methods; standard is the trained network as it is."""
    out: Path | None = None
    """Folder of the results; by default results/DATASET-MEASURE. A run stopped before its end continues there."""
    path: Path | None = None
    """The raw data file, or the folder that holds it; by default FAIRJAX_DATA, the user's cache, a download."""
    protected: tuple[str, ...] = ()
    """Protected attributes, all groups of which are told apart; several by their intersections. race and sex for adult
    and compas; sex or age for german. By default the two groups of the benchmark. With many groups a difference below
    0.05 is seldom measurable: give selection.epsilon a larger bound, such as 0.2."""
    intersect: bool = True
    """Compare the intersections of several attributes; otherwise each attribute on its own."""
    minimum: int = 50
    """Rows that a group must have to be compared (with protected)."""
    small: Literal["leave out", "pool", "raise", "keep"] = "leave out"
    """What is done with smaller groups: leave them out of comparisons, pool them, stop with an error, or keep them."""
    across: AcrossName | None = None
    """How rates are apart across groups; by default the signed difference of two, and the spread of more."""
    rate_minimum: int = 1
    """Rows of a part that a rate of a group must be of to be compared."""
    stratify: bool = False
    """Give every part its share of the rows of each group and label, in place of one that varies at random."""
    simulation: Simulation = Simulation()
    network: NetworkSettings = NetworkSettings()
    training: Training = Training()
    pruning: Pruning = Pruning()
    bias_gda: BiasGda = BiasGda()
    fine_tuning: FineTuning = FineTuning()
    lagrangian: FineTuning = lagrangian()
    last_layer: FineTuning = last_layer()
    random_perturbation: RandomPerturbation = RandomPerturbation()
    layerwise: LayerwiseOptimisation = LayerwiseOptimisation()
    adversarial_fine_tuning: AdversarialFineTuning = AdversarialFineTuning()
    adversarial_debiasing: AdversarialDebiasing = AdversarialDebiasing()
    portfolio: tuple[MethodName, ...] = ("bias_gda", "adversarial_debiasing", "lagrangian")
    """Methods whose selected candidates the portfolio chooses from, split by split, by the selection rule."""
    selection: Selection = Selection()
    roc_search: Literal["counts", "aif360"] = "counts"
    """Reject option classification by an exact search of counts, or by AIF360's own fit, in parallel processes; the
    results are the same, and AIF360 takes seconds per network."""
    lanes: int | None = None
    """Seeds of a group that runs as one program; the numbers do not depend on it. By default what suits the device."""
    save_every: float = 10.0
    """Seconds between saved states; an interrupted run loses at most this much and the chunk it was in."""
    compilation_cache: Path | None = None
    """Folder in which compiled programs are kept for the next run, as JAX_COMPILATION_CACHE_DIR names one; only of your
    own: what is in it is executed."""
    hosts: Hosts = Hosts()

    def __post_init__(self):
        """Refuse values that mean nothing, before anything is loaded."""
        expand_paths(self)
        check_values(self)
        unknown = [name for name in self.methods if name not in get_args(MethodName)]
        if unknown or not self.methods:
            raise ValueError(f"methods must be some of {', '.join(get_args(MethodName))}, got {unknown or 'none'}")
        unfit = [name for name in self.portfolio if name not in METHODS or METHODS[name][1].threshold == "rule"]
        if unfit or not self.portfolio:
            raise ValueError(f"portfolio must be methods with candidates of their own, got {unfit or 'none'}")
        if "portfolio" in self.methods:
            before = self.methods[: self.methods.index("portfolio")]
            absent = [name for name in self.portfolio if name not in before]
            if absent:
                raise ValueError(
                    f"the portfolio chooses from methods that ran before it: put {', '.join(absent)} there"
                )
        if self.simulation.sweep and self.dataset not in SIMULATED:
            raise ValueError(f"simulation.sweep is for {' and '.join(SIMULATED)}, not for {self.dataset}")
        self._check_groups()
        for name in ("methods", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} must not repeat, got {values}")
        if not self.seeds or min(self.seeds) < 0 or max(self.seeds) >= 2**32:
            raise ValueError(f"seeds must be one or more numbers from 0 to 2^32 - 1, got {self.seeds}")
        if self.path is not None and self.dataset in SIMULATED:
            raise ValueError(f"path is a raw data file, but {self.dataset} is simulated; leave path out")
        if not 0 <= self.save_every < math.inf:
            raise ValueError(f"save_every must be a number of seconds, at least 0, got {self.save_every}")
        if self.lanes is not None and self.lanes < 2:
            raise ValueError(f"lanes must be at least 2, got {self.lanes}")

    def _check_groups(self):
        """Refuse attributes that the data set does not have, and what tells groups apart where they are not chosen."""
        known = ATTRIBUTES.get(self.dataset, ())
        unknown = [name for name in self.protected if name not in known]
        if unknown and not known:
            raise ValueError(
                f"protected must be left out for {self.dataset}, whose one attribute cannot be chosen; it can for "
                f"{', '.join(ATTRIBUTES)}"
            )
        if unknown or len(set(self.protected)) < len(self.protected):
            raise ValueError(
                f"protected must be one or more of {', '.join(known)} for {self.dataset}, each once, got "
                f"{' '.join(self.protected)}"
            )
        if self.dataset == "german" and len(self.protected) > 1:
            raise ValueError(f"german takes one protected attribute, sex or age, got {' '.join(self.protected)}")
        for name in ("minimum", "rate_minimum"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        default = {field.name: field.default for field in dataclasses.fields(self)}
        if self.dataset == "german" or not (self.protected or self.dataset in MULTICLASS):
            idle = [name for name in ("minimum", "small") if getattr(self, name) != default[name]]
            if idle:
                raise ValueError(
                    f"{' and '.join(idle)} would change nothing for the two groups of {self.dataset}: leave them out"
                    + (", or choose protected" if known and self.dataset != "german" else "")
                )
        if not self.intersect and len(self.protected) < 2:
            raise ValueError(f"no-intersect is about several protected attributes, got {len(self.protected)}")
        if self.stratify and (self.dataset in SIMULATED or not self.intersect):
            raise ValueError("stratify is for benchmark files whose groups are the intersections of attributes")
        aif360 = [name for name in self.methods if name in AIF360]
        if aif360 and self.measure not in ("spd", "eod"):
            raise ValueError(
                f"{', '.join(aif360)} know the measures spd and eod only, got {self.measure}: leave them out"
            )

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return self.out or Path("results") / "-".join((self.dataset, *self.protected, self.measure))

    @property
    def runs(self) -> list[tuple[int, float | None]]:
        """Seed and simulated parameter of each network: the seeds, or for each value of a sweep the seeds."""
        return [(seed, value) for value in self.simulation.sweep or (None,) for seed in self.seeds]

    def config(self, method: str) -> Any:
        """The hyperparameters of a method."""
        return getattr(self, method, None) or METHODS[method][0]()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reproduce:
    """Reproduce Tables 1, 3, 4 and Figures 1, 2, 3 of the first paper, with more methods than its own beside them."""

    datasets: tuple[DatasetName, ...] = ("adult", "bank", "compas", "mimic")
    """Data sets; those whose files are not there are left out. The paper has these four; bank_full and german may be
    added."""
    measures: tuple[MeasureName, ...] = ("spd", "eod")
    """Measures of bias; each is debiased by itself."""
    simulations: tuple[int, ...] = data.SEEDS[:10]
    """Seeds of the simulations for Figure 3, at each parameter value."""
    alphas: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
    """Values of alpha for Figure 3 (Loh et al.); none leaves this part out."""
    thetas: tuple[float, ...] = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
    """Values of theta for Figure 3 (Zafar et al.); none leaves this part out."""
    out: Path = Path("results/reproduce")
    """Folder of the results. A run stopped before its end continues there."""
    each: Debias = Debias(methods=get_args(MethodName), selection=Selection(also=("expected", "pooled")))
    """Settings of every run; data set, measure and folder are set for each."""

    def __post_init__(self):
        """Refuse values that mean nothing."""
        expand_paths(self)
        check_values(self)
        for name, allowed in (("datasets", DatasetName), ("measures", MeasureName)):
            values = getattr(self, name)
            unknown = [value for value in values if value not in get_args(allowed)]
            if unknown or len(set(values)) < len(values):
                raise ValueError(f"{name} must be some of {', '.join(get_args(allowed))}, each once, got {values}")
        simulated = [name for name in self.datasets if name in SIMULATED]
        if simulated:
            raise ValueError(f"datasets are benchmark files, got {simulated[0]}: alphas and thetas set the simulations")
        for name in ("simulations", "alphas", "thetas"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} must not repeat, got {values}")
        if (self.alphas or self.thetas) and not self.simulations:
            raise ValueError(
                "simulations must be one or more seeds, got none; to leave them out, empty alphas and thetas"
            )
        if any(not 0 <= seed < 2**32 for seed in self.simulations):
            raise ValueError(f"simulations must be numbers from 0 to 2^32 - 1, got {self.simulations}")
        if any(alpha < 0 for alpha in self.alphas):
            raise ValueError(f"alphas must not be negative, got {self.alphas}")
        if not self.measures:
            raise ValueError("measures must hold at least one measure, got none")
        several = [name for name in self.datasets if name in MULTICLASS]
        if several or self.each.protected or self.each.across is not None:
            raise ValueError(
                f"reproduce is about two groups and classes, got {several[0] if several else 'protected or across'}: "
                "use debias"
            )
        if self.each.simulation.sweep or self.each.path:
            raise ValueError(
                "each.simulation.sweep and each.path are set for every run: use alphas, thetas, FAIRJAX_DATA"
            )


# What changes how a run goes but not its numbers: not part of its identity.
CIRCUMSTANCES = ("out", "lanes", "save_every", "path", "roc_search", "compilation_cache", "hosts")
# What tells groups apart and compares them.
GROUPING = ("intersect", "minimum", "small", "across", "rate_minimum", "stratify")
# What trained networks depend on.
TRAINING = (
    "dataset", "seeds", "protected", "intersect", "minimum", "small", "stratify", "simulation", "network", "training",
)  # fmt: skip


def identity(settings: Any) -> dict[str, Any]:
    """Everything that the numbers of a run depend on, as plain values.

    Of a run about the two groups of a benchmark it is what it was before groups could be chosen, so that folders of
    older versions can be gone on with.
    """
    values = {name: value for name, value in plain(settings).items() if name not in CIRCUMSTANCES}
    if not isinstance(settings, Debias):
        return values
    default = {field.name: field.default for field in dataclasses.fields(settings)}
    values = {name: value for name, value in values.items() if name not in GROUPING or value != default[name]}
    if not settings.protected or settings.dataset == "german":  # older versions wrote German's attribute for all data
        values["protected"] = settings.protected[0] if settings.protected else "sex"
    return values


def training_identity(settings: Debias) -> dict[str, Any]:
    """Everything that the trained networks of a run depend on, as plain values."""
    return {name: value for name, value in identity(settings).items() if name in TRAINING}


def plain(value: Any) -> Any:
    """Dataclasses, tuples and paths as dictionaries, lists and strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def updated(settings: Any, changes: dict[str, Any], where: str = "") -> Any:
    """A dataclass with the values of a mapping, as read from YAML; names and types are checked.

    Raises:
        ValueError: for a name that is not a setting, with those that are, and for a value of another type.
    """
    names, hints = {field.name for field in dataclasses.fields(settings)}, field_types(type(settings))
    new = {}
    for name, value in changes.items():
        if name not in names:
            raise ValueError(f"unknown setting {where}{_name(name)}; settings here are {', '.join(sorted(names))}")
        old = getattr(settings, name)
        if dataclasses.is_dataclass(old):
            if not isinstance(value, dict):
                raise ValueError(f"{where}{name} must be a mapping of settings, got {short_repr(value)}")
            new[name] = updated(old, value, f"{where}{name}.")
        else:
            new[name] = _typed(f"{where}{name}", hints[name], value)
    return dataclasses.replace(settings, **new)


def _name(name: Any) -> str:
    """A name of a YAML file, which need not be a string."""
    return name if isinstance(name, str) and len(name) < 80 and name.isprintable() else short_repr(name)


def _typed(name: str, kind: Any, value: Any) -> Any:
    """A YAML value as the type that a field is annotated with.

    Raises:
        ValueError: naming the field, what it must be, and the value.
    """
    text, origin = short_repr(value), get_origin(kind)
    if kind == Number:
        kind = float
    elif origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(kind):
            return None
        kind = next(one for one in get_args(kind) if one is not type(None))
        origin = get_origin(kind)
    if origin is Literal:
        allowed = ", ".join(map(str, get_args(kind)))
        if not isinstance(value, str):
            raise ValueError(f"{name} must be of type str, one of {allowed}, got {text}")
        if value not in get_args(kind):
            raise ValueError(f"{name} must be one of {allowed}, got {text}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{name} must be a list, got {text}")
        return tuple(_typed(f"{name}[{i}]", get_args(kind)[0], entry) for i, entry in enumerate(value))
    if kind is Path:
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError(f"{name} must be a path, got {text}")
        return at_home(name, Path(value))
    if kind is float:
        return _number(name, value)
    if type(value) is not kind:
        raise ValueError(f"{name} must be of type {kind.__name__}, got {text}")
    return value


def _number(name: str, value: Any) -> float:
    """A YAML value as a finite number; YAML 1.1 reads 1e-5 as a string."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        number = None
    if number is None:
        raise ValueError(f"{name} must be a number, got {short_repr(value)}")
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {short_repr(value)}")
    return number


def preset(name: str) -> Debias:
    """The settings of a preset of `fairjax.presets`.

    Raises:
        ValueError: if there is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    chosen = PRESETS[name]
    rule = next(name for name, kind in objective.RULES.items() if type(kind()) is type(chosen.rule))
    values = {
        field.name: getattr(chosen.rule, field.name)
        for field in dataclasses.fields(chosen.rule)
        if field.name != "data"
    }
    return Debias(
        network=NetworkSettings(site=chosen.network.site, cut=chosen.network.cut),
        pruning=chosen.pruning,
        bias_gda=chosen.bias_gda,
        random_perturbation=chosen.random_perturbation,
        selection=Selection(rule=rule, **values),
    )
