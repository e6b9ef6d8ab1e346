"""An entry of a registry is an entry everywhere: in settings, in flags, in help, and in Python."""

import dataclasses
import functools
import pickle

import jax
import numpy as np
import pytest

from experiments.cli import PROGRAM
from experiments.cli import parse_debias as parse
from fairjax import MEASURES, METHODS, RULES, ConstrainedObjective, Method, Pruning, method, metrics, spd
from fairjax.cli.help import CHOICES
from fairjax.cli.parsing import updated
from fairjax.data import append_protected, loh, zafar
from fairjax.datasets import DATASETS, Benchmark, Parameter, Simulator
from fairjax.datasets.benchmarks import SIMULATION_SETTINGS
from fairjax.methods import RESERVED, Standard
from fairjax.metrics import GAPS, Difference
from fairjax.runs import loading
from fairjax.runs.identity import plain
from fairjax.runs.postprocessors import POSTPROCESSORS, Postprocessor
from fairjax.runs.settings import Selection, Settings, Simulation, debias_type


@pytest.fixture
def steep():
    """Register a simulated data set for the test."""

    def draw(key, rows, steepness):
        return loh(key, rows, steepness**2)

    simulator = Simulator("steep", draw, Parameter("steepness", 2.0, "Square root of the strength.", least=0.5))
    DATASETS.register("steep", Benchmark(simulator, "Steep"))
    yield "steep"
    del DATASETS["steep"]


def test_a_registered_simulation_has_a_flag_and_is_drawn(steep):
    settings = parse("--dataset steep --simulation.steepness 1.5 --simulation.rows 300 --seeds 1 2".split())
    assert settings.simulation.steepness == 1.5 and settings.simulation.alpha == 1.5
    splits, _, _, facts = loading.load(settings)
    assert len(facts.pop("names")) == 10
    assert facts == {"rows": 300, "features": 10, "protected": "a"}
    np.testing.assert_array_equal(splits.y, loh(jax.random.key(0), 300, 2.25).y)
    swept = "--dataset steep --simulation.rows 300 --simulation.tables redrawn --simulation.sweep 1 2 --seeds 1".split()
    splits, axes, _, _ = loading.load(parse(swept))
    assert splits.x.shape == (2, 300, 10) and axes.x == 0
    np.testing.assert_array_equal(splits.x[0], splits.x[1])
    assert (np.asarray(splits.y[0]) != np.asarray(splits.y[1])).any()


@pytest.mark.parametrize("value", ["0.25", "nan"])
def test_a_parameter_out_of_range_is_refused(steep, value, capsys):
    with pytest.raises(SystemExit):
        parse(["--dataset", "steep", "--simulation.steepness", value])
    assert "simulation.steepness must be a finite number" in " ".join(capsys.readouterr().err.split())


def test_without_the_registration_the_flag_is_gone():
    with pytest.raises(SystemExit):
        parse(["--simulation.steepness", "1.5"])


def test_a_simulated_data_set_is_drawn_in_python_as_on_the_command_line():
    dataset = DATASETS["loh"](rows=200, key=3, alpha=2.0)
    flags = "--simulation.rows 200 --simulation.key 3 --simulation.alpha 2 --seeds 1".split()
    splits = loading.load(parse(["--dataset", "loh", *flags]))[0]
    np.testing.assert_array_equal(dataset.x, splits.x)
    np.testing.assert_array_equal(dataset.y, splits.y)
    drawn = append_protected(loh(jax.random.key(3), 200, 2.0))
    np.testing.assert_allclose(dataset.x, drawn.x, rtol=1e-4, atol=1e-6)
    assert DATASETS["loh"]().x.shape == (5000, 11) and DATASETS.label("loh") == "Loh et al."
    np.testing.assert_array_equal(DATASETS["zafar"](rows=100).y, zafar(jax.random.key(0), 100, 0.8).y)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"path": "x.csv"}, ValueError, "loh is simulated and has no file, got path x.csv: leave path out"),
        ({"alpha": -1.0}, ValueError, "alpha must be a finite number and at least 0, got -1"),
        ({"theta": 1.0}, TypeError, "loh has no parameter 'theta': its parameter is alpha"),
    ],
)
def test_what_a_simulation_cannot_use_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        DATASETS["loh"](**options)


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_is_pickled_by_its_name(name):
    assert pickle.loads(pickle.dumps(MEASURES[name])) is MEASURES[name]
    assert metrics.as_parity(MEASURES[name]).num_groups == 2 and MEASURES.label(name) == MEASURES[name].label


def test_a_function_around_a_measure_does_not_have_its_definition():
    @functools.wraps(metrics.spd)
    def negated(values, y, a, weights=None):
        return -metrics.spd(values, y, a, weights)

    assert metrics.as_parity(metrics.spd) is not None and metrics.as_parity(negated) is None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Powered(ConstrainedObjective):
    """The objective to a power."""

    power: float = 2.0
    """Exponent of the objective."""
    shift: float = 0.03

    def __call__(self, evaluation):
        return super().__call__(evaluation) ** self.power


@pytest.fixture
def powered():
    """Register a selection rule for the test."""
    RULES.register("powered", Powered, label="Powered")
    yield "powered"
    del RULES["powered"]


def test_the_numbers_of_a_registered_rule_are_flags(powered, capsys):
    settings = parse("--selection.rule powered --selection.power 3 --selection.shift 0.5 --seeds 1".split())
    assert settings.selection.build() == Powered(power=3.0, shift=0.5)
    assert plain(settings)["selection"]["power"] == 3.0
    assert updated(debias_type()(), {"selection": {"rule": "powered", "power": 4}}).selection.build().power == 4.0
    with pytest.raises(SystemExit):
        PROGRAM.main(["debias", "--help", "selection"])
    text = " ".join(capsys.readouterr().out.split())
    assert "powered The objective to a power." in text
    assert "Exponent of the objective. Used by the rule powered. [2.0]" in text
    assert "Used by the rules pooled and powered. [0.03]" in text


def test_without_the_rule_its_flag_is_gone():
    with pytest.raises(SystemExit):
        parse(["--selection.power", "3"])
    assert [field.name for field in dataclasses.fields(Selection)] == [
        "rule", "also", "epsilon", "margin", "variance", "shift", "floor",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["dataset", "measure", "methods", "across", "selection"])
def test_help_lists_every_choice(name, capsys):
    with pytest.raises(SystemExit):
        PROGRAM.main(["debias", "--help", name])
    text = capsys.readouterr().out
    registry = CHOICES["selection.rule" if name == "selection" else name]()
    assert all(f"    {choice}" in text for choice in registry) and max(map(len, text.splitlines())) <= 80


class Undecorated(Standard):
    pass


@method
class Idle(Method):
    """A method without functions."""


@method
class Demanding(Standard):
    """A method with a setting that has no default."""

    strength: float


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Wide(ConstrainedObjective):
    margin: float = 0.02


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Doubled(ConstrainedObjective):
    also: float = 0.02


@dataclasses.dataclass(frozen=True)
class Plain(ConstrainedObjective):
    pass


@dataclasses.dataclass
class Unhashable:
    def __call__(self, values, y, a, weights=None):
        return spd(values, y, a, weights)


def coin(parameter):
    return Benchmark(Simulator("coin", loh, Parameter(parameter, 1.0, "Strength.")))


@pytest.mark.parametrize(
    ("registry", "name", "entry", "error", "message"),
    [
        (METHODS, "mine", Pruning(), TypeError, "'mine' must be a subclass of fairjax.Method, got Pruning"),
        (METHODS, "mine", ConstrainedObjective, TypeError, "must be a subclass of fairjax.Method"),
        (METHODS, "mine", Undecorated, TypeError, "Undecorated is not decorated: write @fairjax.method above it"),
        (METHODS, "mine", Idle, TypeError, "Idle must have functions init and step, and lacks init and step"),
        (METHODS, "mine", Demanding, TypeError, "Demanding must have a default for each .* lacks one for strength"),
        (METHODS, "portfolio", Pruning, ValueError, "cannot be named 'portfolio', which is a setting"),
        (METHODS, "reject_option", Pruning, ValueError, "cannot be named 'reject_option', which is a postprocessor"),
        (METHODS, "class", Pruning, ValueError, "must be an identifier"),
        (MEASURES, "mine", "spd", TypeError, "'mine' must be a function .* or a fairjax.Parity, got 'spd'"),
        (MEASURES, "mine", metrics.Parity, TypeError, "must be a function"),
        (MEASURES, "mine", Unhashable(), TypeError, "'mine' must be hashable"),
        (GAPS, "mine", "spread", TypeError, "'mine' must be a function .* got 'spread'"),
        (GAPS, "mine", Difference, TypeError, "'mine' must be a function"),
        (GAPS, "mine", lambda rates: rates, TypeError, "on three groups it fails: TypeError"),
        (
            GAPS,
            "mine",
            lambda rates, sizes, there, overall: rates,
            TypeError,
            "returns a scalar; on three groups it re",
        ),
        (RULES, "mine", ConstrainedObjective(), TypeError, "'mine' must be a class that is a dataclass"),
        (RULES, "mine", Pruning, TypeError, "Pruning must follow the protocol Rule"),
        (RULES, "mine", Plain, TypeError, "Plain must be a pytree"),
        (RULES, "mine", Wide, ValueError, "Wide.margin is 0.02 and that of the rule 'objective' is 0.01"),
        (RULES, "mine", Doubled, ValueError, "Doubled.also has the name of a setting of selection"),
        (RULES, "none", ConstrainedObjective, ValueError, "cannot be named 'none'"),
        (DATASETS, "mine", loh, TypeError, "'mine' must be a fairjax.datasets.Benchmark with a loader"),
        (DATASETS, "mine", coin("alpha"), ValueError, "'alpha' of the data set 'mine' is one that .* 'loh' has"),
        (DATASETS, "mine", coin("rows"), ValueError, "'rows' of the data set 'mine' is one that all simulations have"),
        (POSTPROCESSORS, "mine", len, TypeError, "'mine' must be a fairjax.runs.postprocessors.Postprocessor"),
        (POSTPROCESSORS, "pruning", Postprocessor("", "", len), ValueError, "named 'pruning', which is a method"),
        (POSTPROCESSORS, "seeds", Postprocessor("", "", len), ValueError, "named 'seeds', which is a setting"),
    ],
)
def test_a_registry_refuses_what_it_cannot_hold(registry, name, entry, error, message):
    before = dict(registry)
    with pytest.raises(error, match=message) as refused:
        registry.register(name, entry)
    assert "\n" not in str(refused.value) and registry == before


@pytest.mark.parametrize("registry", [METHODS, MEASURES, GAPS, RULES, POSTPROCESSORS])
def test_the_entries_of_the_library_pass_the_checks_of_registration(registry):
    for name in registry:
        registry.register(f"{name}_again", registry[name])
        del registry[f"{name}_again"]


def test_the_reserved_names_are_those_of_the_other_settings():
    assert {field.name for field in dataclasses.fields(Settings)} == RESERVED
    shared = {field.name for field in dataclasses.fields(Simulation)} - {"alpha", "bias", "theta"}
    assert shared == set(SIMULATION_SETTINGS)
