"""Runs with many groups and classes from the command line, with small tables instead of COMPAS and Adult."""

import json
import os
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from experiments.cli import PROGRAM
from experiments.cli import parse_debias as parse
from fairjax import checkpoint, data, datasets, metrics
from fairjax.nn import from_linen
from fairjax.report import html, results_table, statistics
from fairjax.report.counts import accuracy_and_bias, inconsistency, tables_of
from fairjax.runs import loading, training
from fairjax.runs.identity import GROUPING_FIELDS, identity
from fairjax.runs.settings import Debias
from fairjax.runs.structure import BINARY, CELLS, Structure

ROWS = 700
SMALL = (
    "--seeds 1 2 --network.widths 8 --training.epochs 10 --training.batch-size 140 --pruning.units 2 "
    "--selection.epsilon 0.2"
).split()
MANY = "--protected race sex --methods standard pruning group_thresholds".split()
SIDE_BY_SIDE = "--protected race sex --no-intersect --across pairwise --methods standard".split()
CLASSES = "--measure eod --methods standard pruning".split()


def people(generator) -> pd.DataFrame:
    """Return races of very different sizes, and sexes; one intersection has fewer than 20 rows."""
    race = generator.permutation(np.repeat(["b", "c", "w"], [150, 40, ROWS - 190]))
    return pd.DataFrame({"race": race, "sex": np.where(generator.random(ROWS) < 0.4, "F", "M")})


def two_classes(path=None, protected=("race", "sex"), intersect=True, minimum=50, small="leave out"):
    """Return a table whose label depends on race and sex."""
    generator = np.random.default_rng(0)
    frame, x = people(generator), generator.normal(size=(ROWS, 4))
    x[:, 0] += (frame["race"] == "w") + 0.7 * (frame["sex"] == "M")
    groups = data.groups(frame[list(protected)], intersect=intersect, minimum=minimum, small=small)
    return data.from_arrays(x, x[:, 0] + 0.5 * x[:, 1] + generator.normal(size=ROWS) > 0.6, groups, name="compas")


def three_classes(path=None, protected=("sex",), intersect=True, minimum=50, small="leave out"):
    """Return a table with three classes and two named groups."""
    generator = np.random.default_rng(1)
    frame, x = people(generator), generator.normal(size=(ROWS, 4))
    x[:, 0] += 1.2 * (frame["sex"] == "M")
    score = np.digitize(x[:, 0] + 0.5 * generator.normal(size=ROWS), [0.0, 1.0])
    names = np.array(["low", "middle", "high"])
    groups = data.groups(frame["sex"], minimum=minimum, small=small, reference="M")
    return data.from_arrays(x, names[score], groups, name="scores", classes=tuple(names))


@pytest.fixture(scope="module")
def small_tables():
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(datasets.DATASETS, "compas", datasets.DATASETS["compas"]._replace(load=two_classes))
        patched.setitem(
            datasets.DATASETS, "compas_score_text", datasets.DATASETS["compas_score_text"]._replace(load=three_classes)
        )
        yield


@pytest.fixture(scope="module")
def folders(small_tables, tmp_path_factory):
    """Return a function that returns the folder of a run; each run is done once."""
    made = {}

    def folder(words) -> Path:
        key = tuple(words)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("runs") / "r"
            assert PROGRAM.main(["debias", *command(words), "--out", str(made[key])]) == 0
        return made[key]

    return folder


def command(words) -> list[str]:
    """Return the arguments of a run."""
    return [*SMALL, "--dataset", "compas_score_text" if words is CLASSES else "compas", *words]


def refusal(words, capsys) -> str:
    """Return the error message of a rejected command."""
    try:
        status = PROGRAM.main(["debias", *words])
    except SystemExit as stopped:  # raised by the command line's parser
        status = stopped.code
    assert status == 2
    printed = capsys.readouterr()
    return " ".join((printed.err + printed.out).replace("│", " ").split())


def read(folder: Path) -> tuple[pd.DataFrame, Structure]:
    """Read the results of a run, and its groups and classes."""
    facts = json.loads((folder / "run.json").read_text())["data"]
    return pd.read_csv(folder / "results.csv", keep_default_na=False), Structure.from_plain(facts["structure"])


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(MANY, id="many"),
        pytest.param(CLASSES, id="classes"),
        pytest.param(SIDE_BY_SIDE, id="side by side", marks=pytest.mark.slow),
    ],
)
def test_bias_and_accuracy_are_those_of_the_counts_in_a_plain_loop(folders, words):
    results, structure = read(folders(words))
    counts = tables_of(results, structure)
    first = structure.partition or len(structure.groups)
    blocks = structure.blocks or (range(len(structure.groups)),)
    for row, table in zip(results.itertuples(), counts, strict=True):
        every = table[:, :, :first].sum(axis=2)
        recalls = [every[k, k] / every[:, k].sum() for k in range(len(structure.classes))]
        assert row.balanced_accuracy == pytest.approx(np.mean(recalls), abs=1e-6)
        gaps = []
        for block in blocks:
            if words is CLASSES:
                rates = np.array([[table[k, k, g] / table[:, k, g].sum() for g in block] for k in range(3)])
                gaps.append(np.ptp(rates, axis=1).max())
            else:
                rates = np.array([table[1, :, g].sum() / table[:, :, g].sum() for g in block])
                apart = [abs(one - two) for i, one in enumerate(rates) for two in rates[:i]]
                gaps.append(np.mean(apart) if words is SIDE_BY_SIDE else np.ptp(rates))
        assert row.bias == pytest.approx(max(gaps), abs=1e-6)
        assert row.satisfied == (abs(row.bias) < (0.19 if row.part == "valid" else 0.2))
        assert row.groups_compared == len(structure.compared)


@pytest.mark.parametrize("words", [MANY, CLASSES], ids=["many", "classes"])
def test_counts_are_those_of_the_saved_networks_on_the_rows(folders, words):
    folder = folders(words)
    results, structure = read(folder)
    chosen = parse([*command(words), "--out", str(folder)])
    splits, _, of_data, facts = loading.load(chosen)
    assert of_data == structure and facts["rows"] == ROWS
    for method in ("standard", "pruning"):
        saved = checkpoint.load(folder / "networks" / method)
        assert Structure.from_plain(saved.about["structure"]) == structure
        for i, seed in enumerate(chosen.seeds):
            one = splits._replace(
                **{name: getattr(splits, name)[i] for name in ("train", "valid", "test", "mean", "scale")}
            )
            batch, variables = one.part("test"), jax.tree.map(lambda leaf, i=i: leaf[i], saved.variables)
            logits = np.asarray(from_linen(saved.module).apply(variables, batch.x)[0])
            here = (results["method"] == method) & (results["seed"] == seed) & (results["part"] == "test")
            row = results[here].iloc[[0]]
            predicted = logits.argmax(axis=1) if words is CLASSES else jax.nn.sigmoid(logits) > row["threshold"].item()
            expected = np.zeros(structure.shape)
            np.add.at(expected, tuple(np.asarray(part, int) for part in (predicted, batch.y, batch.a)), 1)
            assert np.abs(tables_of(row, structure)[0] - expected).sum() <= 2  # scores at the threshold


def test_columns_of_counts_are_named_by_prediction_label_and_group(folders):
    results, structure = read(folders(MANY))
    assert structure.groups == ("b, F", "b, M", "c, F", "c, M", "w, F", "w, M")
    assert structure.cells[:7] == tuple(f"n_p0_y0_g{g}" for g in range(6)) + ("n_p0_y1_g0",)
    assert set(structure.cells) <= set(results.columns)
    assert read(folders(CLASSES))[1].cells[-1] == "n_p2_y2_g1"
    assert BINARY.cells == CELLS


def test_a_small_group_is_left_out_and_every_table_says_so(folders, capsys):
    folder = folders(MANY)
    _, structure = read(folder)
    assert {name for name, _ in structure.left_out} == {"c, F", "c, M"}
    page = html.write(folder).read_text()
    for text in ((folder / "table.md").read_text(), page):
        assert "Groups by race and sex: b, F; b, M; w, F; w, M." in text
        assert "Bias: the greatest rate of a group less the least." in text
        assert "c, F (" in text and "fewer than 50" in text
    assert "c, F <small>not compared</small>" in page
    assert "Share accepted, of y = 1 (true positive rate)" in page
    assert "COMPAS by race and sex" in page and "assigned to the groups at random" in page
    assert "Beside the paper" not in page  # the paper's numbers are for two groups


def test_the_page_of_several_classes_names_them(folders):
    folder = folders(CLASSES)
    page = html.write(folder).read_text()
    assert "Classes: low, middle, high; the most probable one is predicted. Groups by sex: F; M." in page
    assert "of the class that is furthest from parity" in page
    assert "Share predicted to be of a class, of rows of the class (true positive rate)" in page


@pytest.mark.slow
def test_attributes_side_by_side_are_compared_each_on_its_own(folders):
    results, structure = read(folders(SIDE_BY_SIDE))
    assert structure.partition == 3 and len(structure.groups) == 5
    assert "Each attribute is compared on its own" in (folders(SIDE_BY_SIDE) / "table.md").read_text()
    assert inconsistency(results, structure) < 1e-5
    assert "not compared" in html.write(folders(SIDE_BY_SIDE)).read_text()


def test_a_page_is_not_made_of_counts_that_were_changed(folders, tmp_path):
    folder = folders(MANY)
    results, structure = read(folder)
    results.loc[0, structure.cells[0]] += 50
    results.to_csv(tmp_path / "results.csv", index=False)
    for name in ("run.json", "configuration.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(ValueError, match="contradicts itself"):
        html.write(tmp_path)
    facts = json.loads((tmp_path / "run.json").read_text())
    facts["data"]["structure"]["groups"] = ["only"]
    (tmp_path / "run.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="run.json"):
        html.write(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            [*MANY, "adversarial_debiasing", "reject_option"],
            "adversarial_debiasing does not support 6 groups; reject_option does not support 6 groups: leave them out, "
            "as in --methods standard pruning group_thresholds",
        ),
        (
            ["--protected", "race", "--methods", "standard", "pruning", "adversarial_debiasing", "portfolio"]
            + ["--portfolio", "adversarial_debiasing"],
            "adversarial_debiasing does not support 3 groups: leave them out, as in --methods standard pruning",
        ),
        (
            ["--protected", "race", "--methods", "bias_gda", "adversarial_debiasing", "lagrangian", "portfolio"],
            "as in --methods bias_gda lagrangian portfolio --portfolio bias_gda lagrangian",
        ),
        ([*SIDE_BY_SIDE, "group_thresholds"], "group_thresholds does not support groups that overlap"),
        ([*CLASSES, "threshold"], "threshold does not support 3 classes"),
        ([*CLASSES, "group_thresholds"], "group_thresholds does not support 3 classes"),
    ],
)
def test_methods_that_cannot_do_the_groups_are_refused_before_training(
    small_tables, words, message, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(training, "_train", None)
    dataset = "compas_score_text" if words[: len(CLASSES)] == CLASSES else "compas"
    assert message in refusal([*SMALL, "--dataset", dataset, *words, "--out", str(tmp_path / "r")], capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--protected race",
            "protected must be left out for loh, whose one attribute cannot be chosen; it can for adult",
        ),
        ("--dataset mimic --protected sex", "protected must be left out for mimic"),
        ("--dataset adult --protected age", "protected must be one or more of race, sex for adult, each once, got age"),
        ("--dataset adult --protected sex sex", "each once, got sex sex"),
        ("--dataset german --protected sex age", "german takes one protected attribute"),
        ("--dataset adult --minimum 9", "minimum would change nothing for the two groups of adult: leave them out, or"),
        ("--dataset bank --small pool", "small would change nothing for the two groups of bank"),
        (
            "--dataset adult --protected race --no-intersect",
            "no-intersect needs several protected attributes, got 1",
        ),
        ("--dataset adult --protected race --minimum 0", "minimum must be at least 1"),
        ("--dataset adult --protected race --small drop", "small"),
        ("--dataset adult --protected race --across nonsense", "across"),
        ("--rate-minimum 0", "rate_minimum must be at least 1"),
        ("--stratify", "stratify is for benchmark files"),
        (
            "--measure ppd --methods standard reject_option",
            "reject_option support only the measures spd and eod, got ppd",
        ),
    ],
)
def test_settings_of_groups_that_mean_nothing_are_refused(words, message, capsys):
    assert message in refusal(words.split(), capsys)


def test_a_run_about_two_groups_has_the_identity_that_it_had_before_groups_could_be_chosen():
    for chosen in (Debias(), Debias(dataset="compas", measure="eod")):
        assert not set(GROUPING_FIELDS) & set(identity(chosen)) and identity(chosen)["protected"] == "sex"
    assert identity(Debias(dataset="german", protected=("age",)))["protected"] == "age"
    chosen = Debias(dataset="adult", protected=("race", "sex"), minimum=100, stratify=True)
    assert identity(chosen)["protected"] == ["race", "sex"]
    assert {name for name in GROUPING_FIELDS if name in identity(chosen)} == {"minimum", "stratify"}
    assert identity(Debias(dataset="adult", protected=("sex",))) != identity(Debias(dataset="adult"))


@pytest.mark.parametrize("name", datasets.DATASETS)
def test_every_data_set_can_be_picked_and_has_a_name_to_be_printed_by(name):
    assert Debias(dataset=name).dataset == name
    assert datasets.DATASETS.label(name) != name


@pytest.mark.parametrize("name", metrics.MEASURES)
def test_every_measure_can_be_picked_and_has_a_name_to_be_printed_by(name):
    assert Debias(measure=name).measure == name
    assert metrics.MEASURES.label(name) != name


@pytest.mark.parametrize("name", metrics.GAPS)
def test_every_gap_can_be_picked_and_has_words(name):
    assert Debias(dataset="adult", protected=("sex",), across=name).across == name
    assert len(metrics.GAPS.label(name).split()) > 3


@pytest.mark.parametrize("measure", metrics.MEASURES)
def test_the_statistics_know_every_measure_for_several_groups_and_classes(measure):
    structure = Structure(groups=("one", "two", "three"), classes=("low", "middle", "high"))
    generator, rows = np.random.default_rng(0), []
    for method in ("standard", "pruning"):
        for seed in range(3):
            table = generator.integers(0, 30, size=structure.shape)
            table[1 if seed == 0 else 0] = 0  # a class that is never predicted
            rows.append(row(structure, measure, method, seed, table))
    results = pd.DataFrame(rows)
    assert inconsistency(results, structure) < 1e-5
    if measure == "equalized_odds":
        assert statistics.shares(results, 0.2, structure)["noise_share"].between(0, 1).all()
    assert len(statistics.group_rates(results, structure)) == 2 * 3 * 3


def row(structure, measure, method, seed, table, epsilon=0.2) -> dict:
    """Return a row of results."""
    accuracy, bias = accuracy_and_bias(np.array(table, float), measure, structure)
    met = bool(abs(bias) < epsilon)
    return {
        **{"dataset": "compas", "measure": measure, "method": method, "rule": "none", "seed": seed, "part": "test"},
        **{"balanced_accuracy": float(accuracy), "bias": float(bias), "objective": float(accuracy) if met else 0.0},
        **{"threshold": 0.5, "satisfied": met, "selected": 0, "diverged": False},
        **dict(zip(structure.cells, np.ravel(table), strict=True)),
    }


def test_a_bias_that_nothing_can_be_said_of_is_outside_the_bound_and_the_reason_is_told(tmp_path):
    nobody = np.array([[[40, 30], [20, 10]], [[0, 0], [0, 0]]])  # precision is undefined if nobody is accepted
    somebody = np.array([[[40, 30], [20, 10]], [[10, 8], [30, 24]]])
    results = pd.DataFrame(
        [row(BINARY, "ppd", "standard", seed, table) for seed, table in enumerate((nobody, somebody))]
    )
    assert results["bias"].isna().tolist() == [True, False] and results["satisfied"].tolist() == [False, True]
    assert "In 1 of 2 results the bias is undefined" in results_table.markdown(results, 0.2)
    results.to_csv(tmp_path / "results.csv", index=False)
    (tmp_path / "configuration.json").write_text(json.dumps({"selection": {"epsilon": 0.2}}))
    assert "In 1 of 2 results the bias is undefined" in html.write(tmp_path).read_text()
    with_counts = results.assign(groups_compared=[1, 2])
    assert "In the test parts, 1 to 2 groups have enough rows to be compared." in results_table.undefined(with_counts)
    results.loc[0, "bias"] = 0.0  # this value would claim equal treatment of the groups
    results.to_csv(tmp_path / "results.csv", index=False)
    with pytest.raises(ValueError, match="results.csv"):
        html.write(tmp_path)


@pytest.mark.skipif("FAIRJAX_DATA" not in os.environ, reason="set FAIRJAX_DATA to the folder of raw files")
@pytest.mark.parametrize("dataset", [name for name, entry in datasets.DATASETS.items() if entry.attributes])
def test_benchmark_files_give_groups_and_classes_with_names(dataset):
    benchmark = datasets.DATASETS[dataset]
    attributes = benchmark.attributes if benchmark.intersections else benchmark.attributes[:1]
    # rates of few rows may be undefined in some split, so intersections of six classes are not split here
    chosen = Debias(dataset=dataset, protected=attributes, seeds=(42,), minimum=50, stratify=dataset != "german")
    if not Path(os.environ.get("FAIRJAX_DATA", "nowhere"), dataset.partition("_")[0]).is_dir():
        pytest.skip(f"the data of {dataset} are not there: set FAIRJAX_DATA")
    splits, _, structure, facts = loading.load(chosen)
    assert len(structure.classes) == (2 if not benchmark.several_classes else 6 if dataset == "adult_occupation" else 3)
    assert splits.x.shape[0] == facts["rows"]
    if dataset != "german":
        assert set(facts["group_rows"]) == set(structure.groups)
        small = {name for name, count in facts["group_rows"].items() if count < 50}
        assert {name for name, _ in structure.left_out} == small
