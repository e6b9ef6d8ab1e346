"""The command line and its runs, on a small simulated data set."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from experiments.cli import PROGRAM
from experiments.cli import parse_debias as parse
from experiments.first_paper.settings import preset
from fairjax import checkpoint, data, datasets, loop, metrics, seeds, selection
from fairjax.cli.parsing import updated
from fairjax.metrics import MEASURES
from fairjax.nn import from_linen
from fairjax.report import figures, results_table, statistics
from fairjax.report.counts import inconsistency
from fairjax.runs import context, devices, loading, results, training, trials
from fairjax.runs.files import FolderError, atomic
from fairjax.runs.folder import RunFolder
from fairjax.runs.identity import identity
from fairjax.runs.settings import Debias, Selection
from fairjax.runs.structure import BINARY, CELLS
from fairjax.seeds import stages

SMALL = (
    "--seeds 1 2 3 --simulation.rows 400 --simulation.alpha 2.5 --network.widths 6 6 --training.epochs 20 "
    "--pruning.units 2 --bias-gda.epochs 30 --bias-gda.learning-rate 1e-3 --save-every 0"
).split()
FILES = {"configuration.json", "results.csv", "trajectories.csv", "table.md", "run.json", "networks", "states"}


def run(out: Path, *words: str) -> int:
    return PROGRAM.main(["debias", *SMALL, "--out", str(out), *words])


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert run(out) == 0
    return out


def same_results(one: Path, other: Path) -> None:
    for name in ("results.csv", "trajectories.csv", "table.md", "configuration.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_a_run_writes_everything_and_nothing_else(finished):
    assert {entry.name for entry in finished.iterdir()} == FILES | {"trajectories.png", "trajectories.svg"}


def test_results_have_one_row_a_seed_method_and_part(finished):
    results = pd.read_csv(finished / "results.csv")
    columns = "dataset measure method rule seed part balanced_accuracy bias objective threshold satisfied".split()
    assert list(results.columns[: len(columns)]) == columns
    assert len(results) == 3 * 3 * 2
    assert not results.duplicated(["seed", "method", "part"]).any()
    bound = np.where(results["part"] == "valid", 0.04, 0.05)
    inside = results["bias"].abs() < bound
    np.testing.assert_array_equal(results["satisfied"], inside)
    np.testing.assert_allclose(results["objective"], np.where(inside, results["balanced_accuracy"], 0), rtol=1e-6)


def test_the_saved_networks_give_the_numbers_of_the_table(finished):
    settings = parse([*SMALL, "--out", str(finished)])
    splits, *_ = loading.load(settings)
    results = pd.read_csv(finished / "results.csv").set_index(["method", "seed", "part"])
    for method in settings.methods:
        saved = checkpoint.load(finished / "networks" / method)
        network = from_linen(saved.module)
        for i, seed in enumerate(settings.seeds):
            one = splits._replace(
                **{name: getattr(splits, name)[i] for name in ("train", "valid", "test", "mean", "scale")}
            )
            batch = one.part("test")
            variables = jax.tree.map(lambda leaf, i=i: leaf[i], saved.variables)
            row = results.loc[(method, seed, "test")]
            decisions = jax.nn.sigmoid(network.apply(variables, batch.x)[0]) > row["threshold"]
            assert metrics.balanced_accuracy(decisions, batch.y) == pytest.approx(row["balanced_accuracy"], abs=1e-5)
            assert MEASURES["spd"](decisions, batch.y, batch.a) == pytest.approx(row["bias"], abs=1e-5)


def test_the_selected_candidate_is_the_best_of_its_trajectory(finished):
    curves = pd.read_csv(finished / "trajectories.csv")
    results = pd.read_csv(finished / "results.csv")
    for row in results[results["part"] == "valid"].itertuples():
        mine = curves[(curves["method"] == row.method) & (curves["seed"] == row.seed) & (curves["part"] == "valid")]
        scores = np.where(mine["bias"].abs() < 0.04, mine["balanced_accuracy"], 0.0)
        assert scores[row.selected] >= scores.max() - 2 * selection.TIE
        assert not (scores[: row.selected] > scores[row.selected]).any()


def test_an_interrupted_run_goes_on_and_ends_the_same(finished, tmp_path, monkeypatch, capsys):
    advance, calls = seeds.advance_debiasing, []

    def stopping(*args, **options):
        calls.append(1)
        if len(calls) == 2:  # in bias GD/A, after its first chunk
            raise KeyboardInterrupt
        return advance(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(stages, "CHUNK", 10)
        patched.setattr(stages, "advance_debiasing", stopping)
        assert run(tmp_path / "r") == 130
    assert "resume from the last saved state" in capsys.readouterr().err
    assert not (tmp_path / "r" / "results.csv").exists()
    with monkeypatch.context() as patched:
        patched.setattr(stages, "advance_training", None)  # training is not repeated
        assert run(tmp_path / "r") == 0
    same_results(finished, tmp_path / "r")


def test_a_finished_run_is_not_computed_again(finished, monkeypatch):
    monkeypatch.setattr(stages, "advance_training", None)
    monkeypatch.setattr(stages, "advance_debiasing", None)
    before = (finished / "results.csv").read_bytes()
    assert run(finished) == 0
    assert (finished / "results.csv").read_bytes() == before


def test_the_number_of_groups_and_devices_does_not_matter(finished, tmp_path, monkeypatch):
    one = seeds.mesh(jax.devices()[:1])
    monkeypatch.setattr(context, "mesh", lambda: one)
    assert run(tmp_path / "r", "--lanes", "2") == 0  # three seeds on one device, in two groups
    same_results(finished, tmp_path / "r")


def test_a_folder_of_another_configuration_is_refused(finished, capsys):
    assert run(finished, "--bias-gda.epochs", "31") == 2
    assert "another configuration (bias_gda.epochs was 30, is now 31)" in capsys.readouterr().err


def test_a_folder_with_other_files_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("mine")
    assert run(tmp_path) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_damaged_state_is_named(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "r")
    stage = sorted((tmp_path / "r" / "states" / "training").iterdir())[-1]
    for file in stage.rglob("*"):
        if file.is_file() and file.name not in ("_CHECKPOINT_METADATA",):
            file.write_bytes(b"")
    assert run(tmp_path / "r") == 2
    message = capsys.readouterr().err
    assert str(stage) in message and "cannot be read" in message


def test_an_unreadable_configuration_is_named(tmp_path):
    (tmp_path / "configuration.json").write_text("{")
    with pytest.raises(FolderError, match="cannot be read"):
        RunFolder(tmp_path, identity(Debias()))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(FolderError, match="choose another with --out"):
        RunFolder(tmp_path / "r", identity(Debias()))


def test_a_path_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="choose another with --out"):
        RunFolder(tmp_path / "file", identity(Debias()))


def test_atomic_leaves_nothing_behind(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "1", "1"], "seeds must not repeat"),
        (["--simulation.rows", "10"], "simulation.rows must be at least 100"),
        (["--training.batch-size", "1"], "batch_size must be at least 2"),
        (["--selection.margin", "0.06"], "margin must be at least 0 and less than epsilon"),
        (["--network.widths", "0"], "widths must be positive"),
        (["--path", "x.csv"], "leave path out"),
        (["--lanes", "1"], "group_size must be at least 2"),
        (["--simulation.sweep", "1.0"], "set simulation.tables to redrawn"),
        (["--selection.also", "objective"], "selection.also must not repeat a rule"),
        (["--preset", "nobody"], "preset must be one of paper, authors"),
        (["--config", "nowhere.yaml"], "cannot read the configuration nowhere.yaml"),
        (["--dataset", "compas", "--path", "/nowhere/compas.csv"], "/nowhere/compas.csv"),
    ],
)
def test_bad_settings_are_refused_before_any_work(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training, "_train", None)
    try:
        status = PROGRAM.main(["debias", "--out", str(tmp_path / "r"), *words])
    except SystemExit as stopped:  # raised by the command line's parser
        status = stopped.code
    printed = capsys.readouterr()
    assert status == 2
    assert message in " ".join((printed.err + printed.out).replace("│", " ").split())


def test_unknown_names_on_the_command_line_are_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        PROGRAM.main(["debias", "--dataset", "iris"])
    assert stopped.value.code == 2
    assert PROGRAM.main(["debis"]) == 2
    assert "there is no command named 'debis': did you mean debias?" in capsys.readouterr().err


def test_a_file_changes_settings_and_flags_have_the_last_word(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("dataset: compas\nseeds: [1, 2]\nbias_gda:\n  learning_rate: 1e-4\n  epochs: 7\n")
    settings = parse(["--config", str(file), "--bias-gda.epochs", "9"])
    assert (settings.dataset, settings.seeds) == ("compas", (1, 2))
    assert (settings.bias_gda.learning_rate, settings.bias_gda.epochs) == (1e-4, 9)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("bias_gda: {epoch: 3}", "Unrecognized options: --bias_gda.epoch=3; perhaps you meant --bias-gda.epochs"),
        ("training: 3", "Unrecognized options: --training=3"),
        ("measure: 3", "measure: there is no measure named '3'"),
        ("bias_gda: {epochs: many}", "Error parsing --bias-gda.epochs"),
        ("selection: {epsilon: lots}", "Error parsing --selection.epsilon"),
        ("- 1", "must hold a mapping"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_file_with_mistakes_is_refused(tmp_path, content, message):
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        parse(["--config", str(file)])


@pytest.mark.parametrize("file", sorted((Path(__file__).parents[3] / "experiments" / "configs").glob("*.yaml")))
def test_the_configurations_that_come_along_are_read(file):
    assert isinstance(parse(["--config", str(file)]), Debias)


def test_a_preset_is_where_settings_start():
    paper, authors = preset("paper"), parse(["--preset", "authors", "--selection.epsilon", "0.1"])
    assert (paper.pruning.part, paper.bias_gda.optimiser, paper.network.cut) == ("train", "sgd", "outgoing")
    assert (authors.pruning.part, authors.bias_gda.epochs, authors.network.cut) == ("valid", 200, "incoming")
    assert authors.selection == Selection(rule="accuracy_floor", epsilon=0.1, floor=0.55)


def test_identity_is_plain_and_leaves_circumstances_out():
    one, other = Debias(), updated(Debias(), {"lanes": 4, "save_every": 1})
    assert identity(one) == identity(other) == json.loads(json.dumps(identity(one)))
    assert identity(one) != identity(updated(one, {"selection": {"epsilon": 0.1}}))


def test_the_table_is_computed_from_the_test_rows(finished):
    results = pd.read_csv(finished / "results.csv", keep_default_na=False)
    table = results_table.summary(results).set_index("method")
    mine = results[(results["method"] == "pruning") & (results["part"] == "test")]
    low, middle, high = np.quantile(mine["objective"], [0.25, 0.5, 0.75])
    assert table.loc["Pruning", "objective: median [25 %, 75 %]"] == f"{middle:.2f} [{low:.2f}, {high:.2f}]"
    assert table.loc["Pruning", "bias"] == f"{mine['bias'].mean():.2f} ± {mine['bias'].std():.2f}"
    lines = (finished / "table.md").read_text().splitlines()
    assert sum(line.startswith("|") for line in lines) == 2 + 3


def test_the_figure_has_a_panel_for_every_method_with_steps(finished, tmp_path):
    results, curves = (
        pd.read_csv(finished / "results.csv", keep_default_na=False),
        pd.read_csv(finished / "trajectories.csv"),
    )
    written = figures.trajectories_figure(curves, results, 0.05, tmp_path / "curves")
    assert [path.suffix for path in written] == [".png", ".svg"]
    picture = written[1].read_text()
    assert "Pruning" in picture and "Bias GD/A" in picture and "Standard" not in picture
    only = curves[curves["method"] == "standard"]
    assert figures.trajectories_figure(only, results, 0.05, tmp_path / "none") == []


@pytest.mark.parametrize(("dataset", "table"), [("loh", "redrawn"), ("zafar", "fixed")])
def test_simulated_tables_can_be_shared_or_drawn_for_each_seed(dataset, table):
    settings = updated(Debias(), {"dataset": dataset, "seeds": [1, 2], "simulation": {"rows": 300, "tables": table}})
    splits, axes, _, facts = loading.load(settings)
    assert splits.train.shape == (2, 180)
    assert splits.x.shape[-2:] == (300, facts["features"])
    assert (splits.x.ndim, axes.x) == ((3, 0) if table == "redrawn" else (2, None))


@pytest.mark.parametrize(
    ("flags", "told", "expected"),
    [("", -1, True), ("", 1, False), ("--xla_force_host_platform_device_count=3", -1, False)],
)
def test_cores_become_devices_unless_the_user_says_otherwise(monkeypatch, flags, told, expected):
    updates = []
    config = SimpleNamespace(jax_num_cpu_devices=told, update=lambda name, value: updates.append((name, value)))
    monkeypatch.setenv("XLA_FLAGS", flags)
    monkeypatch.setattr(devices, "jax", SimpleNamespace(config=config))
    devices.use_cores()
    assert bool(updates) == expected
    assert all(name == "jax_num_cpu_devices" and value >= 1 for name, value in updates)


def outcome(weights):
    """Return an outcome of one network whose valid and test parts have the given sums of weights."""
    table = jnp.asarray(weights).reshape(1, 2, 2, 2)
    evaluation = selection.evaluate_tables(MEASURES["spd"], jnp.array([0.5]), table)
    each = jax.tree.map(lambda entry: entry[None], evaluation)
    trial = trials.Trial(loop.Trace(each, each), np.zeros(1, int), np.zeros(1, bool), None)
    splits = SimpleNamespace(weights=None if float(table[0, 0, 0, 0]).is_integer() else jnp.ones(3))
    prepared = SimpleNamespace(structure=BINARY, splits=splits)
    return SimpleNamespace(prepared=prepared, trials={("standard", "none"): trial})


def test_sums_of_weights_are_not_cut_off_and_numbers_of_rows_stay_whole():
    settings = Debias(seeds=(1,), methods=("standard",))
    whole = results.results(settings, outcome(np.arange(1.0, 9.0, dtype=np.float32)))
    assert all(kind.kind == "i" for kind in whole[list(CELLS)].dtypes)
    assert whole[list(CELLS)].to_numpy().tolist() == [list(range(1, 9))] * 2
    weights = np.arange(1.0, 9.0, dtype=np.float32) + np.float32(0.7)
    weighted = results.results(settings, outcome(weights))
    np.testing.assert_array_equal(weighted[list(CELLS)].to_numpy(), np.stack([weights] * 2))
    assert inconsistency(weighted) < 1e-6 < inconsistency(weighted.assign(tp0=7))
    with pytest.raises(ValueError, match=r"rows cannot be resampled from sums of weights, found 41\.6"):
        statistics.row_bootstrap(weighted, 0.05, np.random.default_rng(0), draws=10)


def test_stratifying_is_not_advised_for_attributes_side_by_side(monkeypatch):
    def refuse(*args, **options):
        raise ValueError("a part lacks a group")

    made = data.from_arrays(np.eye(4), [0, 1, 0, 1], data.groups({"race": list("abab"), "sex": list("ccdd")}))
    side_by_side = data.groups({"race": list("abab"), "sex": list("ccdd")}, intersect=False)
    apart = data.from_arrays(np.eye(4), [0, 1, 0, 1], side_by_side)
    monkeypatch.setattr(data, "split_seeds", refuse)
    for options, advised in (({}, True), ({"stratify": True}, False), ({"intersect": False}, False)):
        table = made if options.get("intersect", True) else apart
        monkeypatch.setitem(
            datasets.DATASETS,
            "compas",
            datasets.DATASETS["compas"]._replace(load=lambda *args, table=table, **options: table),
        )
        settings = Debias(dataset="compas", protected=("race", "sex"), **options)
        with pytest.raises(ValueError, match="a larger --minimum") as refused:
            loading.load(settings)
        assert ("--stratify" in str(refused.value)) == advised
