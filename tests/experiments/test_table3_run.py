"""A whole run of `table3` on a small table: all files, one base network, and units that are not computed again."""

import html
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from experiments.cli import PROGRAM
from experiments.second_paper.table3 import measuring, units
from experiments.second_paper.table3.rows import ROWS, UNITS
from fairjax import datasets
from fairjax.data import from_arrays
from fairjax.runs.structure import CELLS

WORDS = ["table3", "--datasets", "adult", "--duplicates", "keep", "--seeds", "1", "2", "--widths", "4"]
WORDS += ["--training.epochs", "3"]


def small(path=None, *, duplicates="keep", verify=True):
    """Return rows like those of Adult, with few ages and years of education, so that the programme is small."""
    rng = np.random.default_rng(0)
    a, race, n = rng.random(600) < 0.6, rng.random(600) < 0.8, 600
    years = rng.integers(9, 12, n) + a
    frame = pd.DataFrame({"age": rng.choice([25, 35], n), "education-num": years, "race": race, "sex": a})
    y = years + rng.normal(size=n) + a > 11
    return from_arrays(frame, y, a, name="adult", protected="sex")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, kept):
    folder = tmp_path_factory.mktemp("table3") / "out"
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(datasets.DATASETS, "adult", datasets.DATASETS["adult"]._replace(load=small))
        assert PROGRAM.main([*WORDS, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def per_split(finished):
    return pd.read_csv(finished / "per_split.csv").set_index(["row", "seed"])


def test_everything_is_written(finished):
    names = {path.name for path in finished.iterdir()}
    tables = {f"{name}.csv" for name in ("per_split", "summary", "comparisons", "agreements", "explanations")}
    assert names == {*tables, "table3.md", "table3.html", "run.json", "adult-keep"}
    about = json.loads((finished / "run.json").read_text())
    assert set(about["runs"]["adult-keep"]["units"]) == set(UNITS)
    page = (finished / "table3.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "")
    for row in ROWS.values():
        assert row.label in html.unescape(page) and row.label in (finished / "table3.md").read_text()


def test_all_rows_have_all_splits_with_all_rows_of_the_test_part(per_split):
    assert set(per_split.index) == {(row, seed) for row in ROWS if row != "data" for seed in (1, 2)}
    sums = per_split[list(CELLS)].sum(axis=1)
    weighted = sums.index.get_level_values("row") == "dnn_reweighed_test"
    assert (sums[~weighted] == 180).all() and np.allclose(sums[weighted], 180, rtol=0.1)


def test_all_rows_are_on_the_same_test_parts(per_split):
    plain = per_split.drop(index="dnn_reweighed_test", level="row")
    for group in "01":
        positives = plain[f"tp{group}"] + plain[f"fn{group}"]
        assert (positives.groupby("seed").nunique() == 1).all()


def test_weights_within_label_and_group_leave_their_rates_as_they_are(per_split):
    network, reweighed = per_split.loc["dnn"], per_split.loc["dnn_reweighed_test"]
    for name in ("opportunity", "odds", "false_positives"):
        np.testing.assert_allclose(network[name], reweighed[name], atol=1e-5)
    assert (network["parity"] != reweighed["parity"]).any()


def test_finished_units_are_read_and_others_are_completed(finished, monkeypatch, capsys):
    monkeypatch.setitem(datasets.DATASETS, "adult", datasets.DATASETS["adult"]._replace(load=small))
    monkeypatch.setattr(units, "TRAINED", dict.fromkeys(units.TRAINED))  # nothing can be trained again
    before = (finished / "per_split.csv").read_bytes()
    (finished / "adult-keep" / "postprocessing.json").unlink()
    assert PROGRAM.main([*WORDS, "--out", str(finished)]) == 0
    assert (finished / "per_split.csv").read_bytes() == before
    monkeypatch.setattr(measuring, "subject", None)
    assert PROGRAM.main([*WORDS, "--out", str(finished)]) == 0
    assert "finished before" in " ".join(capsys.readouterr().out.split())


def test_other_settings_need_another_folder(finished, capsys):
    words = [*WORDS[:-1], "4"]
    assert PROGRAM.main([*words, "--out", str(finished)]) == 2
    assert "training.epochs was 3, is now 4" in " ".join(capsys.readouterr().err.split())


def test_a_damaged_unit_is_named(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "copy")
    (tmp_path / "copy" / "adult-keep" / "dnn.json").write_text("{")
    assert PROGRAM.main([*WORDS, "--out", str(tmp_path / "copy")]) == 2
    assert "dnn.json cannot be read" in " ".join(capsys.readouterr().err.split())


def test_a_missing_file_of_data_is_an_error_of_one_line(tmp_path, monkeypatch, capsys):
    def absent(path=None, *, duplicates="keep", verify=True):
        raise FileNotFoundError("adult.data was not found")

    monkeypatch.setitem(datasets.DATASETS, "adult", datasets.DATASETS["adult"]._replace(load=absent))
    assert PROGRAM.main([*WORDS, "--out", str(tmp_path / "out")]) == 2
    assert "adult.data was not found" in capsys.readouterr().err
