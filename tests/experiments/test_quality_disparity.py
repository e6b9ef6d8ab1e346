"""The command `quality`: its data, its statistics, and that a run resumes."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from experiments.cli import PROGRAM
from experiments.second_paper.quality import data_sets as quality_data
from experiments.second_paper.quality import experiment as quality
from experiments.second_paper.quality import rows as quality_rows
from experiments.second_paper.quality import tables as quality_tables
from experiments.second_paper.quality.experiment import Quality

SEEDS = (1, 2)


@pytest.fixture(scope="module")
def made():
    return quality_data.problem("minority", SEEDS, rows=400, minimum=50)


def test_made_data_have_a_rare_minority_in_training_and_a_balanced_test_part(made):
    a = np.asarray(made.splits.a)
    for seed in range(len(SEEDS)):
        share = {name: a[np.asarray(getattr(made.splits, name)[seed])].mean() for name in ("train", "valid", "test")}
        assert share == pytest.approx({"train": 0.97, "valid": 0.97, "test": 0.5})
        assert not a[np.asarray(made.more[seed])].any()
        assert a[np.asarray(made.source[seed])].mean() == 0.5
    assert made.compared == (0, 1)
    assert made.facts["train"] == {"minority": 12.0, "majority": 388.0}


def test_parts_of_made_data_share_no_row_and_the_scaler_is_that_of_the_train_part(made):
    splits = made.splits
    parts = [splits.train, splits.valid, splits.test, made.more, made.source]
    numbers = np.concatenate([np.asarray(part).ravel() for part in parts])
    assert len(np.unique(numbers)) == len(numbers) == len(np.asarray(splits.x))
    train = np.asarray(splits.x)[np.asarray(splits.train)]
    np.testing.assert_allclose(splits.mean, train.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(splits.scale, train.std(axis=1), rtol=1e-5)


def test_too_few_test_rows_of_a_group_are_an_error():
    with pytest.raises(ValueError, match=r"fewer than two groups of minority have 201 test rows.*lower minimum"):
        quality_data.problem("minority", SEEDS, rows=400, minimum=201)


def test_every_other_row_of_small_groups_is_held_back_with_as_many_others():
    generator = np.random.default_rng(0)
    cells, few = generator.integers(0, 4, 300), np.zeros(300, bool)
    few[cells >= 2] = True
    train = generator.permutation(300)[:200]
    left, more, source = quality_data.held_back(train, cells, few, generator.random(200))
    for cell in range(4):
        count, held = (cells[train] == cell).sum(), (cells[more] == cell).sum()
        assert held == (count // 2 if cell >= 2 else 0)
    assert (~few[source]).sum() == len(more) == few[source].sum()
    assert set(left) | set(source) == set(train) and not set(left) & set(source)


def test_all_rows_of_the_table_have_about_the_same_number_of_steps():
    budget = quality_rows.Budget(widths=(4,), steps=640, tuning_steps=160, batch_size=128)
    for rows in (212, 4000, 7800, 19000):
        batches = -(-rows // 128)
        assert abs(budget.training(rows, 640).epochs * batches - 640) <= max(batches / 2, batches - 640)


@pytest.fixture(scope="module")
def by_group():
    generator = np.random.default_rng(3)
    lines = []
    for row in ("nothing", "group_weights", "smote"):
        for seed in range(6):
            for group, rows in (("a", 400), ("b", 100), ("tiny", 5)):
                lines.append(("minority", row, seed, group, generator.integers(0, rows + 1), rows, 2.0))
    table = pd.DataFrame(lines, columns=["dataset", "row", "seed", "group", "right", "rows", "seconds"])
    return table.assign(accuracy=table["right"] / table["rows"])


def test_quantities_are_those_of_a_plain_loop_and_small_groups_are_not_compared(by_group):
    found = quality_tables.quantities(by_group, {"minority": ["a", "b"]}).set_index(["row", "seed"])
    for (row, seed), group in by_group.groupby(["row", "seed"]):
        right, rows = group["right"].tolist(), group["rows"].tolist()
        own, line = [right[i] / rows[i] for i in range(2)], found.loc[(row, seed)]
        assert line["accuracy"] == pytest.approx(sum(right) / sum(rows))
        assert line["gap"] == pytest.approx(abs(own[0] - own[1]))
        assert line["worst_group"] == "ab"[int(np.argmin(own))] and line["worst"] == pytest.approx(min(own))
        p = line["accuracy"]  # the mean of |N(0, sd)| is sd sqrt(2 / pi)
        expected = np.sqrt(p * (1 - p) * (1 / 400 + 1 / 100) * 2 / np.pi)
        assert line["chance_gap"] == pytest.approx(expected, rel=0.1)


def test_comparisons_are_paired_with_the_first_row(by_group):
    per_seed = quality_tables.quantities(by_group, {"minority": ["a", "b"]})
    found = quality_tables.comparisons(per_seed).set_index(["quantity", "row"])
    wide = per_seed.pivot_table(index="seed", columns="row", values="gap")
    for row in ("group_weights", "smote"):
        line = found.loc[("gap", row)]
        assert line["difference"] == pytest.approx((wide[row] - wide["nothing"]).mean())
        assert line["low"] <= line["difference"] <= line["high"]
        assert line["holm_p"] >= line["wilcoxon_p"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"datasets": ()}, "datasets must be different ones of minority, adult"),
        ({"datasets": ("compas",)}, "datasets must be one of"),
        ({"seeds": (1,)}, "seeds must be two or more different numbers"),
        ({"seeds": (1, -1)}, "seeds must be numbers from 0"),
        ({"rows": 10}, "rows must be at least 400"),
        ({"widths": ()}, "widths must be 1 to 100"),
    ],
)
def test_invalid_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Quality(**options)


def test_only_what_a_row_depends_on_is_its_identity():
    assert "rows" in Quality().identity("minority") and "rows" not in Quality().identity("adult")


def test_a_run_resumes_and_writes_tables_and_a_figure(tmp_path, monkeypatch):
    for name in set(quality_rows.ROWS) - {"nothing", "group_weights"}:
        monkeypatch.delitem(quality_rows.ROWS, name)
    same = quality_rows.ROWS["group_weights"]._replace(train=quality_rows.nothing)  # one program for both rows
    monkeypatch.setitem(quality_rows.ROWS, "group_weights", same)
    settings = Quality(datasets=("minority",), seeds=SEEDS, rows=400, widths=(4,), steps=8, out=tmp_path / "run")
    console = Console(file=io.StringIO(), width=400)
    first = quality.run(settings, console)
    folder = settings.out / "minority"
    saved = json.loads((folder / "nothing.json").read_text())
    assert np.shape(saved["right"]) == (2, 2) and saved["rows"] == [[200, 200], [200, 200]]
    (folder / "group_weights.json").unlink()
    kept = (folder / "nothing.json").stat().st_mtime_ns
    again = quality.run(settings, console)
    assert (folder / "nothing.json").stat().st_mtime_ns == kept
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), again.drop(columns="seconds"))
    text = (settings.out / "quality.md").read_text()
    assert text.count("| Nothing | no / no |") == 1 and "| Group weights | yes / no |" in text
    assert (settings.out / "quality.png").stat().st_size > 5000


def test_the_command_is_known():
    assert "quality" in PROGRAM.commands


@pytest.mark.slow
def test_weights_and_more_real_rows_close_the_gap_of_the_made_data(tmp_path):
    settings = Quality(datasets=("minority",), seeds=(1, 2, 3), rows=2000, steps=300, tuning_steps=60, out=tmp_path)
    per_seed = quality.run(settings, Console(file=io.StringIO(), width=400))
    assert set(per_seed["row"]) == set(quality_rows.rows_of("minority"))
    gap = per_seed.groupby("row")["gap"].mean()
    assert gap["nothing"] > 0.1
    assert gap["group_weights"] < gap["nothing"] - 0.05 and gap["more_rows"] < gap["nothing"] - 0.1
