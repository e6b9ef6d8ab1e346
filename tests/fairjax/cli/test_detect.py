"""The command `detect`: a tiny run on simulated data, on the networks of a finished run, and its messages."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from experiments.cli import PROGRAM
from fairjax.cli import main
from fairjax.cli.commands import parse_detect

SMALL = (
    "--dataset loh --seeds 1 2 --simulation.rows 240 --simulation.alpha 3 --network.widths 4 4 --training.epochs 4"
).split()
QUICK = "--draws 100 --nodes 4 --concept-sets 2 --concept-rows 20".split()


def run(*words):
    return main(["detect", *map(str, words)])


def test_help_fits_two_screens_and_eighty_columns(capsys):
    with pytest.raises(SystemExit) as stopped:
        run("--help")
    printed = capsys.readouterr().out
    assert stopped.value.code == 0 and printed.startswith("usage: fairjax detect")
    lines = printed.splitlines()
    assert len(lines) <= 60 and max(map(len, lines)) <= 80
    assert "--saved-network" in printed and "--methods" not in printed and "--selection" not in printed
    assert "detect" in PROGRAM.commands


def test_a_setting_is_explained(capsys):
    with pytest.raises(SystemExit):
        run("--help", "nodes")
    assert "integrated gradients are computed. [50]" in " ".join(capsys.readouterr().out.split())
    assert run("--help", "methods") == 2
    assert "there is no setting named 'methods'" in capsys.readouterr().err


def test_network_is_short_for_the_folder_of_saved_networks(tmp_path):
    for words in (["--network", "a/b"], ["--network=a/b"], ["--saved-network", "a/b"]):
        assert str(parse_detect(words).saved_network) == "a/b"
    assert parse_detect(["--network.widths", "3"]).network.widths == (3,)
    (tmp_path / "detect.yaml").write_text("saved_network: a/b\ndraws: 200\n")
    settings = parse_detect(["--config", str(tmp_path / "detect.yaml"), "--draws", "300"])
    assert (str(settings.saved_network), settings.draws) == ("a/b", 300)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--network", "nowhere"], "nowhere is no folder: give one with the saved networks of a run"),
        (["--network"], "Missing value for argument"),
        (["--methods", "pruning"], "--methods"),
        (["--table", "a.csv"], "a table needs --label and --protected"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(words, message, capsys, tmp_path):
    try:
        status = run(*words, "--out", tmp_path / "out")
    except SystemExit as stopped:
        status = stopped.code
    error = capsys.readouterr().err
    assert status == 2 and message in error and "Traceback" not in error


@pytest.fixture(scope="module")
def folders(tmp_path_factory, kept):
    """Run `debias`, `detect` with the same settings, and `detect` on the networks that `debias` saved."""
    root = tmp_path_factory.mktemp("detect")
    assert main(["debias", *SMALL, "--methods", "standard", "--out", str(root / "debias")]) == 0
    assert run(*SMALL, *QUICK, "--out", root / "trained") == 0
    assert run("--network", root / "debias" / "networks" / "trained", *QUICK) == 0
    return {"trained": root / "trained", "saved": root / "debias" / "detect-trained", "debias": root / "debias"}


TABLES = (
    "bias_by_feature", "bias_by_variable", "bias_of_seeds", "logit_gap", "proxies", "counterfactuals",
    "counterfactual_gaps", "probes", "tcav", "concept_addition", "units", "quality", "quality_gaps", "profiles",
    "profiles_by_variable",
)  # fmt: skip


@pytest.mark.slow
def test_a_run_writes_tables_and_one_page(folders):
    for name in ("trained", "saved"):
        found = {path.stem for path in folders[name].glob("*.csv")}
        assert found == set(TABLES)
    text = (folders["trained"] / "detect.html").read_text()
    assert "2 networks for Loh et al. (240 rows), trained for this page" in text
    assert "loaded from" in (folders["saved"] / "detect.html").read_text()
    assert text.count("What it means: ") == 5 and "Not computed: maps; it is for images" in text
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    facts = json.loads((folders["trained"] / "run.json").read_text())
    assert facts["epochs"] == [4, 4] and facts["detection"]["draws"] == 100 and set(facts["sections"]) > {"quality"}
    assert "names" not in facts["data"]


@pytest.mark.slow
def test_networks_trained_here_and_those_that_debias_saved_are_the_same(folders):
    for name in TABLES:
        trained, saved = (pd.read_csv(folders[key] / f"{name}.csv") for key in ("trained", "saved"))
        pd.testing.assert_frame_equal(trained, saved, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_parts_of_features_sum_to_the_gap_of_mean_logits(folders):
    tables = {name: pd.read_csv(folders["trained"] / f"{name}.csv") for name in TABLES}
    gap = tables["logit_gap"].set_index("seed")
    parts = tables["bias_of_seeds"].groupby("seed")["difference"].sum()
    np.testing.assert_allclose(parts, gap["gap"] + gap["completeness_gap"], atol=1e-4)
    means = gap["logit, a = 0"] - gap["logit, a = 1"]
    np.testing.assert_allclose(means, gap["gap"], atol=1e-5)
    summed = tables["bias_by_variable"]["difference"].sum()
    np.testing.assert_allclose(summed, parts.mean(), atol=1e-4)
    attribute = tables["proxies"].query("variable == 'x11'")
    np.testing.assert_allclose(attribute["strength"], 1, atol=1e-6)
    assert attribute["is_attribute"].all() and attribute["fairness_sensitive"].all()
    inputs = tables["probes"].query("layer == 'input'")["balanced_accuracy"]
    assert (inputs > 0.95).all(), "the attribute is a feature, so the probe of the input finds it"


@pytest.mark.slow
def test_flipping_moves_the_groups_in_opposite_directions_and_gaps_are_those_of_debias(folders):
    effects = pd.read_csv(folders["trained"] / "counterfactuals.csv")
    flips = effects[effects["perturbation"] == "flip x11"].pivot(
        index="seed", columns="group", values="mean_logit_effect"
    )
    assert (np.sign(flips["a = 0"]) == -np.sign(flips["a = 1"])).all()
    gaps = pd.read_csv(folders["trained"] / "counterfactual_gaps.csv").groupby("seed")["selection_gap_before"].first()
    quality = pd.read_csv(folders["trained"] / "quality.csv")
    assert (quality.groupby("seed")["count"].sum() == 48).all()
    assert gaps.abs().max() <= 1


@pytest.mark.slow
def test_a_second_call_computes_nothing_and_another_setting_only_sections(folders, capsys, monkeypatch):
    from fairjax.runs.detecting import quality

    before = {path: path.stat().st_mtime_ns for path in folders["saved"].glob("*.csv")}
    assert run("--network", folders["debias"] / "networks" / "trained", *QUICK) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    capsys.readouterr()
    words = ("--network", folders["debias"] / "networks" / "trained", *QUICK, "--sections", "quality", "--seeds", "2")
    assert run(*words) == 2
    assert "holds a run of another configuration (seeds was [1, 2], is now [2])" in capsys.readouterr().err
    monkeypatch.setattr(quality, "PROFILE_ROWS", 30)
    assert run(*words, "--out", folders["debias"] / "one") == 0
    assert "accuracy is worst for" in " ".join(capsys.readouterr().out.split())
    assert set(pd.read_csv(folders["debias"] / "one" / "quality.csv")["seed"]) == {2}


@pytest.mark.slow
def test_a_section_that_does_not_apply_is_refused_when_chosen(folders, capsys):
    assert run("--network", folders["debias"] / "networks" / "trained", *QUICK, "--sections", "maps") == 2
    assert "the section maps is for images, found a table of features: leave it out" in capsys.readouterr().err


@pytest.mark.slow
def test_the_report_of_the_run_links_to_the_page(folders):
    assert main(["report", str(folders["debias"])]) == 0
    text = (folders["debias"] / "report.html").read_text()
    assert '<a href="detect-trained/detect.html">Why the networks are biased: trained</a>' in text


GIVEN = """
import flax.linen as nn
import jax


class Classifier(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.relu(nn.Dense(4)(x)))


def make(example_x):
    module = Classifier()
    return module, module.init(jax.random.key(3), example_x)
"""


@pytest.fixture
def loans(tmp_path):
    """Write a table of loans with a sex and three races, and a file that returns a Linen network for it."""
    random, n = np.random.default_rng(0), 240
    sex, income = random.choice(["f", "m"], n), random.normal(size=n).round(3)
    repaid = np.where(income + (sex == "m") + random.normal(size=n) > 0.5, "yes", "no")
    frame = pd.DataFrame({"sex": sex, "race": random.choice(["a", "b", "w"], n), "income": income, "repaid": repaid})
    frame.to_csv(tmp_path / "loans.csv", index=False)
    (tmp_path / "model.py").write_text(GIVEN)
    return tmp_path


def own(folder, *words):
    """Return the words for the table of loans."""
    table = ("--table", folder / "loans.csv", "--label", "repaid", "--positive", "yes")
    return (*table, "--out", folder / "out", "--seeds", "1", "2", *QUICK, *words)


@pytest.mark.slow
def test_a_given_network_is_explained_without_layers_of_random_weights(loans, capsys):
    given = ("--network", loans / "model.py:make")
    assert run(*own(loans, "--protected", "sex", "--privileged", "m", *given)) == 0
    probes = pd.read_csv(loans / "out" / "probes.csv")
    assert probes["balanced_accuracy"].notna().all() and probes["untrained_auc"].isna().all()
    printed = " ".join(capsys.readouterr().out.split())
    assert "from the input, 0.50 by chance)" in printed and "random weights" not in printed
