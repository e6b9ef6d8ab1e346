"""The comparison of stages: its rows, its selection on valid rows, and its tables."""

import dataclasses

import jax
import numpy as np
import pandas as pd
import pytest

from experiments.cli import PROGRAM
from experiments.second_paper.mitigate import page, page_tables, tables
from experiments.second_paper.mitigate.entries import (
    ENTRIES,
    NOTHING,
    REDUCTIONS,
    entries_for,
    preprocessors_of,
    terms_of,
)
from experiments.second_paper.mitigate.figures import CHANGED, COLOURS, frontier_figure
from experiments.second_paper.mitigate.measuring import biases, units
from experiments.second_paper.mitigate.reducing import expected_tables
from experiments.second_paper.mitigate.settings import STAGES, Mitigate
from experiments.second_paper.mitigate.subject import Subject, repeated
from experiments.second_paper.mitigate.units import network_of
from experiments.second_paper.quantities import quantities
from fairjax import data
from fairjax.losses import Loss
from fairjax.methods import METHODS
from fairjax.runs.postprocessors import POSTPROCESSORS
from fairjax.runs.structure import CELLS
from fairjax.selection import ConstrainedObjective
from fairjax.types import SHARED, Split

FEATURES = ("sex", "relationship=Wife", "relationship=Husband", "hours-per-week")
ADULT = Subject(
    data.from_arrays(np.eye(4), np.arange(4) % 2, np.arange(4) > 1, features=FEATURES, protected="sex"),
    None, None, ("relationship", "hours-per-week"),
)  # fmt: skip
SETTINGS = Mitigate(datasets=("adult",), seeds=(1, 2, 3, 4), measures=("spd",))


@pytest.mark.parametrize("name", ENTRIES)
def test_every_row_names_methods_that_exist(name):
    entry = ENTRIES[name]
    assert entry.stage in (NOTHING, *STAGES) and entry.stage in COLOURS and entry.stage in CHANGED
    preprocessors_of(entry, "adult", "sex", ("relationship", "hours-per-week"))
    for measure in ("spd", "eod"):
        terms = terms_of(entry, measure, ADULT)
        Loss(terms=tuple(dataclasses.replace(term, weight=entry.path[0]) for term in terms if entry.path))
    if entry.stage == "in":
        assert bool(entry.terms) == bool(entry.path) == (entry.method not in REDUCTIONS)
    if entry.stage == "intra":
        assert entry.method in METHODS and entry.of_measure
    if entry.stage == "post":
        assert entry.method in POSTPROCESSORS and entry.at_test


def test_a_row_that_depends_on_the_measure_is_a_unit_per_measure():
    settings = Mitigate(stage="in")
    files = [unit.file for unit in units(settings, settings.stages, "adult")]
    assert files[0] == "nothing.json" and {"parity-spd.json", "parity-eod.json", "mmd.json"} <= set(files)
    assert "reweighing.json" not in files and len(files) == len(set(files))


def test_rows_that_need_pairs_are_those_of_data_sets_with_pairs():
    assert set(entries_for("adult")) - set(entries_for("compas")) == {"swap_pairs"}


def test_a_row_may_have_batches_epochs_weights_and_a_network_of_its_own():
    training = Mitigate().training("adult", batch_size=1024, epochs=2.0)
    assert (training.epochs, training.batch_size, Mitigate().training("adult").epochs) == (20, 1024, 10)
    mmd, reconstruction = terms_of(ENTRIES["mmd_reconstruction"], "spd", ADULT)
    assert (mmd.weight, reconstruction.weight) == (1.0, 0.02), "factors of the path"
    assert network_of(Mitigate(), ENTRIES["residual"]).init is not network_of(Mitigate(), ENTRIES["mmd"]).init
    params = network_of(Mitigate(), ENTRIES["residual"]).init(jax.random.key(0), np.ones((1, 5), np.float32))["params"]
    assert params["translated"]["kernel"].shape[1] == 5


def counts(selected: tuple[int, int], right: int) -> dict[str, float]:
    """Return counts of 100 rows per group, half of them with y = 1, of which `right` are accepted in each group."""
    cells = {}
    for g in (0, 1):
        tp = right
        fp = selected[g] - right
        cells |= {f"tp{g}": tp, f"fn{g}": 50 - tp, f"fp{g}": fp, f"tn{g}": 50 - fp}
    return cells


def lines(row: str, candidates: list[tuple[float | None, float | None, dict, dict]], measure: str = "") -> pd.DataFrame:
    """Return the lines of a row for the four seeds: weight, bound, counts of valid and of test rows."""
    made = []
    for number, (weight, bound, valid, test) in enumerate(candidates):
        for part, cells in (("valid", valid), ("test", test)):
            about = {"dataset": "adult", "row": row, "measure": measure, "candidate": number, "weight": weight}
            about |= {"bound": bound, "threshold": "tuned", "part": part, "probe": 0.6, "seconds": 1.0}
            about["diverged"] = 2 if row == "mmd" else 0
            made += [{**cells, **about, "seed": seed} for seed in SETTINGS.seeds]
    frame = pd.DataFrame(made).astype({"weight": float, "bound": float})
    return pd.concat([frame, quantities(frame), biases(frame)], axis=1)


BIASED, FAIR, FAIR_WORSE = counts((30, 60), 28), counts((45, 45), 40), counts((45, 45), 35)


@pytest.fixture
def table():
    parts = [
        lines(NOTHING, [(None, None, BIASED, BIASED)]),
        lines("mmd", [(1.0, None, BIASED, BIASED), (5.0, None, FAIR, FAIR_WORSE), (20.0, None, FAIR_WORSE, FAIR)]),
        lines("pruning", [(None, 0.05, FAIR_WORSE, FAIR), (None, 0.2, FAIR, FAIR)], "spd"),
        lines("reweighing", [(None, None, FAIR_WORSE, FAIR)]),
        lines("group_thresholds", [(None, 0.05, FAIR, FAIR)], "spd"),
    ]
    return pd.concat(parts, ignore_index=True)


def test_a_candidate_is_selected_by_its_valid_rows_and_counted_by_its_test_rows(table):
    chosen = tables.selected(table, SETTINGS)
    of_row = chosen.set_index(["row", "seed"])
    assert (of_row.loc["mmd", "weight"] == 5.0).all(), "the best on valid rows, not on test rows"
    assert (
        of_row.loc["mmd", "balanced_accuracy"]
        == tables.selected(table, SETTINGS).query("row == 'mmd'")["objective"].values
    ).all()
    assert (of_row.loc["pruning", "bound"] == 0.05).all(), "another bound is for the frontier alone"
    assert (of_row.loc[NOTHING, "objective"] == 0).all() and of_row.loc[NOTHING, "bias"].iloc[0] == pytest.approx(0.3)
    assert len(chosen) == 5 * 4 and not chosen.duplicated(["row", "seed"]).any()


def test_the_score_is_that_of_the_rule(table):
    valid = table[table["part"] == "valid"]

    class Constrained(Mitigate):
        def rule(self, epsilon=None):
            return ConstrainedObjective(epsilon=0.05)

    found = tables.scores(valid, "spd", Constrained(seeds=SETTINGS.seeds))
    expected = np.where(valid["spd"] < 0.04, valid["balanced_accuracy"], 0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_stages_are_represented_by_the_row_that_is_best_on_valid_rows(table):
    best = tables.best_of_stages(tables.selected(table, SETTINGS)).set_index("stage")
    assert set(best.index) == {NOTHING, "pre", "in", "intra", "post"}
    assert set(best.loc["in", "row"]) == {"mmd"} and set(best.loc["post", "row"]) == {"group_thresholds"}
    compared = tables.stage_comparisons(best.reset_index())
    assert len(compared) == 10 and (compared["splits"] == 4).all()
    pair = compared[(compared["method"] == NOTHING) & (compared["other_method"] == "post")].iloc[0]
    assert pair["mean"] == pytest.approx(-0.85)


def test_means_and_comparisons_with_nothing(table):
    chosen = tables.selected(table, SETTINGS)
    means = tables.summary(chosen).set_index("row")
    assert list(means.index) == [NOTHING, "reweighing", "mmd", "pruning", "group_thresholds"], (
        "in the order of the rows"
    )
    assert means.loc["mmd", "median_weight"] == 5.0 and means.loc["mmd", "met"] == 1.0
    shown = page_tables.main_table(tables.summary(chosen), "adult", "spd")
    assert [row.cells[0].small for row in shown.rows if "diverged" in row.cells[0].small] == ["weight 5, 2 diverged"]
    assert means.loc["reweighing", "parity"] == 1.0 and means.loc[NOTHING, "parity"] == pytest.approx(0.5)
    against = tables.against_nothing(chosen).set_index("row")
    assert against.loc["pruning", "mean"] == pytest.approx(0.85) and NOTHING not in against.index


def test_the_frontier_has_every_weight_and_bound(table):
    points = tables.frontier(table, SETTINGS)
    assert len(points) == 1 + 3 + 2 + 1 + 1
    assert set(points.loc[points["row"] == "pruning", "bound"]) == {0.05, 0.2}
    figure = frontier_figure(points, 0.05, "Adult")
    assert len(figure.axes) == 1


def test_the_page_has_the_tables(table):
    chosen = tables.selected(table, SETTINGS)
    best = tables.best_of_stages(chosen)
    found = {
        "summary": tables.summary(chosen), "fixed": tables.fixed(table, "tuned"), "best": best,
        "against": tables.against_nothing(chosen), "stages": tables.stage_comparisons(best),
    }  # fmt: skip
    sections = {section.id: section for section in page.sections(found, {"adult": None}) if section}
    (main,) = sections["methods"].tables
    assert {len(row.cells) for row in main.rows} == {len(main.columns)}
    assert [row.needs_a for row in main.rows] == [False, False, False, False, True]
    assert sum(cell.mark == "best" for row in main.rows for cell in row.cells) == 1
    assert "|bias| is 0.300" in sections["findings"].points[0]
    needs = page_tables.needs_table(list(ENTRIES))
    listed = ", ".join(row.cells[-1].text for row in needs.rows)
    assert all(entry.label in listed for entry in ENTRIES.values())


def test_splits_are_repeated_for_each_weight():
    rows = np.arange(6).reshape(2, 3)
    splits = Split(np.ones((3, 1)), np.ones(3), np.ones(3), rows, rows, rows, np.zeros((2, 1)), np.ones((2, 1)))
    twice = repeated(splits, SHARED, 2)
    assert twice.x is splits.x and twice.train.tolist() == [*rows.tolist(), *rows.tolist()] and twice.weights is None


def test_randomised_decisions_are_counted_in_expectation():
    rows = np.array([[0, 1], [2, 3]])
    splits = Split(np.ones((4, 1)), np.array([0, 1, 1, 1]), np.array([0, 1, 0, 0]), rows, rows, rows, None, None)
    found = expected_tables(np.array([[0.25, 1.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.75]]), splits, "test")
    assert found[0].tolist() == [[[0.75, 0.0], [0.0, 0.0]], [[0.25, 0.0], [0.0, 1.0]]]
    assert found[1, :, 1, 0].tolist() == [0.75, 1.25]


def test_settings_are_checked_before_anything_is_loaded(capsys):
    for words, message in (
        (["--seeds", "1"], "seeds must be two or more"),
        (["--seeds", "1", "1"], "seeds must not repeat"),
        (["--epsilon", "0"], "epsilon, the bound on |bias|, must be positive"),
        (["--epochs", "0"], "epochs must be"),
        (["--stage", "before"], "invalid choice"),
    ):
        with pytest.raises(SystemExit):
            PROGRAM.main(["mitigate", *words])
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        PROGRAM.main(["mitigate", "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 60 and max(map(len, lines)) <= 80
    assert set(CELLS) == set(BIASED)


def test_the_frontier_has_the_lines_that_no_other_beats():
    lines = pd.DataFrame(
        {
            "row": ["accurate", "beaten", "fair", "twin", "unknown", "fairest"],
            "accuracy": [0.9, 0.8, 0.85, 0.85, 0.95, 0.6],
            "parity": [0.5, 0.6, 1.2, 0.7, np.nan, 1.1],
            "odds": [-0.2, 0.1, 0.05, -0.05, np.nan, 0.3],
        }
    )
    assert tables.undominated(lines, "parity")["row"].tolist() == ["accurate", "fair", "fairest"]
    assert tables.undominated(lines, "odds")["row"].tolist() == ["accurate", "fair"]
    for quantity, value in (("parity", 1.0), ("odds", 0.0)):
        distance = (lines[quantity] - value).abs()
        kept = set(tables.undominated(lines, quantity)["row"])
        for i in lines.index[distance.notna()]:
            better = (lines["accuracy"] >= lines["accuracy"][i]) & (distance <= distance[i])
            strictly = better & ((lines["accuracy"] > lines["accuracy"][i]) | (distance < distance[i]))
            assert not (strictly.any() and lines["row"][i] in kept)
