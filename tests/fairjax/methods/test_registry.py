"""Registered objects are available everywhere: on the command line, in tables and figures, in the protocol tests."""

import dataclasses
from typing import ClassVar

import jax
import pandas as pd
import pytest
import test_loop
from biased import CONFIGS

from experiments.cli import PROGRAM
from experiments.cli import parse_debias as parse
from fairjax import MEASURES, METHODS, RULES, ConstrainedObjective, Method, datasets, method, metrics, static
from fairjax.cli.help import method_help
from fairjax.registry import Registry
from fairjax.report import html
from fairjax.runs import labels
from fairjax.runs.composed_losses import settings_of_method
from fairjax.runs.identity import plain
from fairjax.runs.settings import debias_type


@method
class Shrink(Method):
    """Shrink all parameters a little, repeatedly."""

    label: ClassVar[str] = "Shrinking"
    reference: ClassVar[str] = "these tests"
    equation: ClassVar[str] = "theta <- factor * theta"

    factor: float = 0.9
    """Factor that the parameters are multiplied by in every step."""
    num_steps: int = static(4)
    """Number of candidates."""

    def init(self, task, key, variables, parts, evaluation):
        return variables

    def step(self, task, parts, state):
        return {**state, "params": jax.tree.map(lambda leaf: self.factor * leaf, state["params"])}


@pytest.fixture
def shrink():
    """Register one method class for the test."""
    METHODS.register("shrink", Shrink)
    yield "shrink"
    del METHODS["shrink"]


SMALL = (
    "--seeds 1 2 --simulation.rows 400 --simulation.alpha 2.5 --network.widths 6 --training.epochs 10 "
    "--methods standard pruning shrink --pruning.units 3 --shrink.factor 0.8"
).split()


@pytest.mark.slow
def test_a_registered_method_is_run_drawn_and_reported(shrink, tmp_path, capsys):
    assert PROGRAM.main(["debias", *SMALL, "--shrink.num-steps", "5", "--out", str(tmp_path / "run")]) == 0
    results = pd.read_csv(tmp_path / "run" / "results.csv", keep_default_na=False)
    assert list(dict.fromkeys(results["method"])) == ["standard", "pruning", "shrink"]
    curves = pd.read_csv(tmp_path / "run" / "trajectories.csv")
    assert curves[curves["method"] == "shrink"]["step"].max() == 5
    assert "Shrinking" in (tmp_path / "run" / "table.md").read_text(encoding="utf-8")
    assert PROGRAM.main(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / html.PAGE).read_text(encoding="utf-8")
    assert "Shrinking" in page and "these tests" in page
    capsys.readouterr()
    assert PROGRAM.main(["methods", "shrink"]) == 0
    text = capsys.readouterr().out
    assert "theta <- factor * theta" in text and "--shrink.factor" in text
    assert "Factor that the parameters are multiplied by in every step. [0.9]" in " ".join(text.split())
    assert labels.names().index("shrink") < labels.names().index("portfolio")


def test_a_registered_method_is_held_to_the_protocol(shrink, biased, monkeypatch):
    monkeypatch.setitem(CONFIGS, "shrink", METHODS["shrink"]())
    monkeypatch.setattr(test_loop, "STEPPING", [*test_loop.STEPPING, "shrink"])
    test_loop.test_every_method_keeps_the_protocol("shrink", biased)
    test_loop.test_the_result_is_the_best_candidate_with_its_own_threshold("shrink", biased)
    test_loop.test_numbers_of_a_config_change_without_compiling_again("shrink", biased)


def test_a_registered_method_has_settings_in_files_and_a_stream_of_its_own(shrink, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("methods: [standard, shrink]\nshrink: {factor: 0.5}\n", encoding="utf-8")
    settings = parse(["--config", str(file)])
    assert settings.config("shrink") == Shrink(factor=0.5)
    assert plain(settings)["shrink"] == {"factor": 0.5, "num_steps": 4}
    streams = [kind.random_stream() for name, kind in METHODS.items() if name not in ("standard", "threshold")]
    assert len(set(streams)) == len(streams)


def test_without_the_registration_nothing_is_left():
    assert not hasattr(debias_type()(), "shrink")
    with pytest.raises(SystemExit):
        PROGRAM.main(["debias", "--methods", "shrink"])


def test_a_method_cannot_have_the_name_of_a_setting():
    with pytest.raises(ValueError, match="a method cannot be named 'seeds'"):
        METHODS.register("seeds", Shrink)


@pytest.mark.parametrize("registry", [METHODS, MEASURES, RULES, datasets.DATASETS, metrics.GAPS])
def test_names_are_unknown_with_what_is_near_or_taken(registry):
    name = next(iter(registry))
    with pytest.raises(ValueError, match=f"there is a {registry.kind} named '{name}' already"):
        registry.register(name, registry[name])
    with pytest.raises(KeyError, match=f"there is no {registry.kind} named '{name}x': did you mean {name}"):
        registry[f"{name}x"]
    with pytest.raises(ValueError, match="must be an identifier"):
        registry.register("a-b", registry[name])
    assert all(registry.label(each) for each in registry)


def test_a_measure_is_registered_as_a_function_or_for_any_number_of_groups():
    MEASURES.register("npvd", metrics.Parity((metrics.rates.precision(0),)), label="NPVD")
    MEASURES.register("mine", lambda values, y, a, weights=None: metrics.spd(values, y, a, weights))
    try:
        assert MEASURES.label("npvd") == "NPVD" and MEASURES.label("mine") == "mine"
        measure = metrics.make_measure("npvd", 3, minimum=2)
        assert measure.num_groups == 3 and measure.minimum == 2
        assert measure([0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 1, 2], num_groups=3) is not None
        assert metrics.make_measure("mine") is MEASURES["mine"]
        with pytest.raises(ValueError, match="is a function of two groups and two classes"):
            metrics.make_measure("mine", 3)
        assert parse(["--measure", "npvd"]).measure == "npvd"
    finally:
        del MEASURES["npvd"], MEASURES["mine"]


def test_a_registered_rule_is_chosen_by_name_and_keeps_the_defaults_that_are_no_settings():
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Steep(ConstrainedObjective):
        power: float = 2.0

        def __call__(self, evaluation):
            return super().__call__(evaluation) ** self.power

    RULES.register("steep", Steep, label="Steep")
    try:
        rule = parse(["--selection.rule", "steep", "--selection.epsilon", "0.1"]).selection.build()
        assert isinstance(rule, Steep) and rule.epsilon == 0.1 and rule.power == 2.0
    finally:
        del RULES["steep"]


@pytest.mark.parametrize("name", labels.names())
def test_every_method_is_explained(name):
    text = method_help(name)
    assert text.startswith(f"{name}: {labels.about(name).label}")
    if name in METHODS:
        assert METHODS[name].equation.split()[0] in text
        assert all(
            f"--{name}.{field.replace('_', '-')}" in text for field in plain(settings_of_method(name, METHODS[name]))
        )


def test_help_fits_two_screens_and_names_every_setting(capsys):
    with pytest.raises(SystemExit):
        PROGRAM.main(["debias", "--help"])
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert len(lines) <= 60 and max(map(len, lines)) <= 80
    for name in plain(debias_type()()):
        assert name in text or name.replace("_", "-") in text
    with pytest.raises(SystemExit):
        PROGRAM.main(["debias", "--help", "network"])
    assert "--network.widths" in capsys.readouterr().out
    assert PROGRAM.main(["debias", "--help", "netwrok"]) == 2
    assert PROGRAM.main(["methods", "prunning"]) == 2
    assert "did you mean pruning" in capsys.readouterr().err


def test_a_registry_is_a_dictionary_in_order():
    registry = Registry("thing", {"b": 1})
    registry.register("a", 2, label="A")
    assert list(registry.items()) == [("b", 1), ("a", 2)] and registry.label("a") == "A" and registry.label("b") == "b"
    with pytest.raises(ValueError, match="choice: there is no thing named 'c'"):
        registry.check("choice", "a", "c")
