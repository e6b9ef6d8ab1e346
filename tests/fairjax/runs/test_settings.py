"""Settings: valid values in YAML files and flags, and the messages for invalid values."""

import math
from pathlib import Path

import pytest
import yaml

from experiments.cli import PROGRAM, parse_reproduce
from experiments.cli import parse_debias as parse
from experiments.first_paper.settings import Reproduce
from fairjax.cli.parsing import updated
from fairjax.hyperparameters import check_at_least, check_positive
from fairjax.runs.identity import plain
from fairjax.runs.settings import Debias, NetworkSettings, Selection, Simulation
from fairjax.training import Training


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "simulation: {tables: nonsense}",
            "invalid choice 'nonsense' for argument '--simulation.tables'. Expected one of ('fixed', 'redrawn')",
        ),
        ("roc_search: nonsense", "invalid choice 'nonsense' for argument '--roc-search'"),
        ("{dataset: german, protected: [nonsense]}", "protected must be one or more of sex, age for german"),
        ("methods: [standard, magic]", "methods: there is no method named 'magic'"),
        ("selection: {also: [magic]}", "selection.rule and selection.also: there is no rule named 'magic'"),
        ("seeds: [true]", "Error parsing --seeds: Could not find valid parse for arguments: ['True']"),
        ("seeds: [a]", "Error parsing --seeds: Could not find valid parse for arguments: ['a']"),
        ("seeds: [1, 2.0]", "Error parsing --seeds: Could not find valid parse for arguments: ['1', '2.0']"),
        ("seeds: [-1]", "seeds must be one or more numbers from 0"),
        ("network: {widths: [8.5]}", "Error parsing --network.widths: "),
        ("network: {widths: [1000000000000]}", "network.widths must be"),
        ("network: {widths: []}", "widths must be 1 to 100"),
        ("network: {dropout: .nan}", "network.dropout must be a finite number, got nan"),
        ("simulation: {alpha: .nan}", "simulation.alpha must be a finite number, got nan"),
        ("simulation: {alpha: .inf}", "simulation.alpha must be a finite number, got inf"),
        ("simulation: {theta: nan}", "simulation.theta must be a finite number, got nan"),
        ("simulation: {tables: redrawn, sweep: [.inf]}", "simulation.sweep must be a finite number, got inf"),
        ("simulation: {key: 100000000000000000000}", "simulation.key must be at most"),
        ("simulation: {key: -1}", "simulation.key must be a number from 0"),
        ("simulation: {rows: 1000000000000}", "simulation.rows must be at"),
        ("selection: {epsilon: .inf}", "selection.epsilon must be a finite number, got inf"),
        ("selection: {margin: .nan}", "selection.margin must be a finite number, got nan"),
        ("selection: {floor: .nan}", "selection.floor must be a finite number, got nan"),
        ("training: {learning_rate: .inf}", "learning_rate must be positive and finite, got inf"),
        ("training: {learning_rate: 1e300}", "training.learning_rate must be at most 1e+30"),
        ("training: {learning_rate: yes}", "Missing value for argument '--training.learning-rate'"),
        ("training: {epochs: 1e20}", "Error parsing --training.epochs: "),
        ("training: {epochs: 100000000000000000000}", "epochs must be at most"),
        ("fine_tuning: {weights: [.inf]}", "weights must be a finite number, got inf"),
        ("pruning: {steps: true}", "Missing value for argument '--pruning.steps'"),
        ("save_every: .inf", "save_every must be a finite number, got inf"),
        ("lanes: two", "Error parsing --group-size: no type matching"),
        ("path: ''", "path is a raw data file, but loh is simulated"),
        ("hosts: {cluster: 1}", "Unrecognized options: "),
        ("hosts: 1", "Unrecognized options: --hosts=1"),
        ("training: {epocs: 3}", "Unrecognized options: --training.epocs=3; perhaps you meant --training.epochs"),
        ("methods: [--help]", "methods must not hold '--help', which is a flag"),
        ("help: 1", "unknown setting help"),
        ("1: 2", "unknown setting 1"),
    ],
)
def test_a_value_of_another_type_or_beyond_all_sense_is_refused_in_one_line(content, message):
    with pytest.raises(ValueError) as refused:
        updated(Debias(), yaml.safe_load(content))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_values_of_the_right_types_are_taken_as_the_fields_have_them():
    content = (
        "{fine_tuning: {weights: [1, 2e-1], layers: null}, simulation: {alpha: 2}, lanes: null, out: x/y, seeds: [3]}"
    )
    settings = updated(Debias(), yaml.safe_load(content))
    assert settings.fine_tuning.weights == (1.0, 0.2)
    assert isinstance(settings.simulation.alpha, float)
    assert (settings.fine_tuning.layers, settings.group_size, settings.seeds) == (None, None, (3,))
    assert settings.folder.parts == ("x", "y")


def test_all_settings_written_to_a_file_are_read_as_they_were():
    for settings in (Debias(), Reproduce()):
        assert updated(settings, yaml.safe_load(yaml.safe_dump(plain(settings)))) == settings


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Simulation, {"alpha": math.nan}),
        (Simulation, {"theta": math.inf}),
        (Simulation, {"tables": "nonsense"}),
        (NetworkSettings, {"widths": (10**12,)}),
        (Selection, {"epsilon": math.inf}),
        (Debias, {"protected": "nonsense"}),
        (Debias, {"save_every": math.nan}),
        (Reproduce, {"alphas": (math.nan,)}),
        (Reproduce, {"thetas": (math.inf,)}),
        (Reproduce, {"simulations": ()}),
        (Training, {"learning_rate": math.nan}),
        (Training, {"epochs": 10**20}),
    ],
)
def test_the_dataclasses_refuse_the_same_from_python(kind, values):
    with pytest.raises(ValueError, match=f"{next(iter(values))} must be|must be one or more seeds"):
        kind(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"preprocess": ("removal,columns=sex", "reweighing"), "selection": Selection(rule="pooled")},
            "the rule pooled estimates the bias from train rows too, and reweighing changes them",
        ),
        (
            {"preprocess": ("resampling",), "selection": Selection(also=("expected", "pooled"))},
            "the rule pooled estimates the bias from train rows too, and resampling changes them",
        ),
        (
            {"table": ("t.csv",), "label": "y", "protected": ("a",), "weight": "w", "methods": ("reject_option",)},
            "reject_option cannot use the weights of rows: leave out reject_option",
        ),
    ],
)
def test_settings_that_would_count_other_rows_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Debias(**values)
    assert Debias(preprocess=("removal,columns=sex",), selection=Selection(rule="pooled")).selection.rule == "pooled"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--simulation.alpha nan", "simulation.alpha must be a finite number"),
        ("--simulation.theta inf", "simulation.theta must be a finite number"),
        ("--selection.epsilon inf", "selection.epsilon must be a finite number"),
        ("--training.learning-rate inf", "learning_rate must be positive and finite"),
        ("--simulation.key 100000000000000000000", "simulation.key must be at most"),
        ("--training.epochs 100000000000000000000", "epochs must be at most"),
        ("--network.widths 1000000000000", "network.widths must be"),
        ("--save-every nan", "save_every must be a finite number"),
    ],
)
def test_flags_are_held_to_the_same_bounds(words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        PROGRAM.main(["debias", *words.split()])
    printed = capsys.readouterr()
    assert stopped.value.code == 2
    assert message in " ".join((printed.err + printed.out).replace("│", " ").split())


@pytest.mark.parametrize(
    "content",
    [
        "[" * 5000,
        "training: !!bool maybe",
        "training: !!int ''",
        "seeds: [" + "9" * 5000 + "]",
        "training: 2020-13-45",
        "? [a]\n: 1",
        "training: &a [*a]",
        "a: \0",
    ],
)
def test_no_content_of_a_file_ends_in_a_traceback(content, tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    assert PROGRAM.main(["debias", "--config", str(file)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    assert "this is a bug" not in message


def test_a_file_that_is_no_text_is_refused(tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    file.write_bytes(b"\xff\xfe\x00\x80")
    assert PROGRAM.main(["debias", "--config", str(file)]) == 2
    assert "is not YAML" in capsys.readouterr().err


def test_a_tilde_is_the_home_folder_in_files_flags_and_python(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text(
        "{dataset: adult, out: ~/results, compilation_cache: ~/cache, path: ~/data/adult.data}"
    )
    flags = ["--out=~/results", "--compilation-cache", "~/cache", "--path", "~/data/adult.data"]
    paths = {"out": Path("~/results"), "compilation_cache": Path("~/cache"), "path": Path("~/data/adult.data")}
    for settings in (
        parse(["--config=~/mine.yaml"]),
        parse([*flags, "--dataset", "adult"]),
        Debias(dataset="adult", **paths),
    ):
        assert settings.folder == tmp_path / "results"
        assert (settings.compilation_cache, settings.path) == (tmp_path / "cache", tmp_path / "data" / "adult.data")
    assert parse_reproduce(["--out", "~/all"]).out == Reproduce(out=Path("~/all")).out == tmp_path / "all"


def test_a_home_folder_that_is_not_known_is_refused(capsys):
    with pytest.raises(ValueError, match="out begins with ~nobody-at-all, a home folder that is not known"):
        updated(Debias(), {"out": "~nobody-at-all/results"})
    assert PROGRAM.main(["debias", "--config", "~nobody-at-all/mine.yaml"]) == 2
    assert PROGRAM.main(["report", "~nobody-at-all/results"]) == 2
    printed = capsys.readouterr().err
    assert "config begins with ~nobody-at-all" in printed and "DIR begins with ~nobody-at-all" in printed


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf])
def test_a_positive_number_is_finite(value):
    with pytest.raises(ValueError, match="rate must be positive"):
        check_positive("rate", value)


@pytest.mark.parametrize(
    ("value", "message"), [(0, "at least 1"), (2**31, "at most 2147483647"), (1.0, "whole"), (True, "whole")]
)
def test_a_whole_number_has_bounds(value, message):
    with pytest.raises(ValueError, match=f"epochs must be .*{message}"):
        check_at_least("epochs", value, 1)
