"""The page of a folder rejects results that were changed, and files that cannot be read."""

import json

import numpy as np
import pandas as pd
import pytest

from fairjax.report import html, statistics
from fairjax.report.counts import inconsistency
from fairjax.runs.structure import CELLS

EPSILON = 0.05


def row(method, seed, part, counts, bound):
    table = np.reshape(np.array(counts, float), (2, 2, 2))  # decision, label, group
    truly, falsely = (table[1, y].sum() / table[:, y].sum() for y in (1, 0))
    bias = np.subtract(*(table[1, :, a].sum() / table[:, :, a].sum() for a in (0, 1)))
    accuracy, met = 0.5 * (truly + 1 - falsely), abs(bias) < bound
    entry = {"dataset": "loh", "measure": "spd", "method": method, "rule": "none", "seed": seed, "part": part}
    entry |= {"balanced_accuracy": accuracy, "bias": bias, "objective": accuracy if met else 0.0, "threshold": 0.5}
    return entry | {"satisfied": met, "selected": 0, "diverged": False} | dict(zip(CELLS, counts, strict=True))


def table():
    rng, rows = np.random.default_rng(0), []
    for method in ("standard", "pruning"):
        for seed in (1, 2, 3):
            for part, bound in (("valid", EPSILON - 0.01), ("test", EPSILON)):
                rows.append(row(method, seed, part, rng.integers(30, 60, 8).tolist(), bound))
    return pd.DataFrame(rows)


@pytest.fixture
def folder(tmp_path):
    save(tmp_path, table())
    (tmp_path / "configuration.json").write_text(json.dumps({"selection": {"epsilon": EPSILON, "margin": 0.01}}))
    return tmp_path


def save(folder, results):
    (folder / "results.csv").write_text(results.to_csv(index=False, float_format="%.7g"))


def refused(folder):
    with pytest.raises(ValueError) as caught:
        html.write(folder)
    message = str(caught.value)
    assert type(caught.value) is ValueError and "\n" not in message
    assert not (folder / "report.html").exists()
    return message


def test_a_sound_folder_gets_its_page(folder):
    page = html.write(folder).read_text()
    assert "Pruning" in page and "bias bound 0.05" in page


@pytest.mark.parametrize("part", ["valid", "test"])
@pytest.mark.parametrize(
    ("column", "change"),
    [("satisfied", lambda value: not value), ("objective", lambda value: 0.9 if value == 0 else 0.0)],
)
def test_an_objective_that_does_not_follow_from_its_row_is_refused(folder, part, column, change):
    results = table()
    i = results.index[results["part"] == part][1]
    results.loc[i, column] = change(results.loc[i, column])
    save(folder, results)
    message = refused(folder)
    assert str(folder / "results.csv") in message and f"row {i + 1} " in message and column in message
    assert "run the same command again" in message


def test_the_bound_of_the_configuration_decides(folder):
    (folder / "configuration.json").write_text(json.dumps({"selection": {"epsilon": 1.0, "margin": 0.01}}))
    assert "satisfied" in refused(folder)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("bias", "nan"),
        ("bias", ""),
        ("bias", "many"),
        ("balanced_accuracy", "inf"),
        ("objective", "-inf"),
        ("tp0", "-3"),
        ("tp0", "nan"),
        ("tp0", "inf"),
        ("tp0", "1.5"),
        ("tp0", "1e300"),
        ("seed", "one"),
        ("satisfied", "perhaps"),
        ("diverged", ""),
        ("measure", "happiness"),
        ("part", "train"),
        ("method", ""),
        ("rule", "wish"),
    ],
)
def test_a_value_that_means_nothing_is_refused_with_its_row(folder, column, value):
    results = table().astype(str)
    results.loc[4, column] = value
    save(folder, results)
    message = refused(folder)
    assert str(folder / "results.csv") in message and "row 5 (line 6)" in message and column.split("_")[0] in message


def test_doubled_rows_are_refused(folder):
    results = table()
    save(folder, pd.concat([results, results.iloc[[3]]]))
    assert "row 13 (line 14)" in refused(folder)


def test_the_row_of_a_network_that_diverged_may_have_no_numbers(folder):
    results = table()
    results.loc[5, ["balanced_accuracy", "bias", "objective"]] = [0.5, np.nan, 0.0]
    results.loc[5, ["diverged", "satisfied"]] = [True, False]
    save(folder, results)
    assert html.write(folder).exists()


def test_results_without_test_rows_are_refused(folder):
    results = table()
    save(folder, results[results["part"] == "valid"])
    assert "has no rows of test parts" in refused(folder)


def test_a_missing_split_is_refused_with_the_name_of_the_file(folder):
    results = table()
    save(folder, results.drop(index=results.index[-1]))
    message = refused(folder)
    assert "results.csv" in message and "paired comparisons need the same splits" in message


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'"', b"a,b\n1,2\n1,2,3\n", b"a,b\n1,2,3\n"])
def test_a_table_that_cannot_be_read_is_refused(folder, content):
    (folder / "results.csv").write_bytes(content)
    assert "results.csv" in refused(folder)


def test_rows_that_are_cut_short_are_refused(folder):
    text = (folder / "results.csv").read_text().splitlines()
    (folder / "results.csv").write_text("\n".join([*text[:-1], text[-1][: len(text[-1]) // 2]]))
    assert "row 12" in refused(folder)


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "3", "{}", "[" * 100_000, '{"selection": 3}', '{"selection": {}}', '{"selection": {"epsilon": "x"}}']
    + ['{"selection": {"epsilon": NaN}}', '{"selection": {"epsilon": -1}}', '{"selection": {"epsilon": null}}'],
)
def test_a_configuration_that_cannot_be_used_is_refused(folder, content):
    (folder / "configuration.json").write_text(content)
    assert str(folder / "configuration.json") in refused(folder)


RUN = {"seconds": {"training": 1.0}, "compilation_seconds": {}, "versions": {"jax": "1"}}


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "[" * 100_000,
        '{"seconds": 3}',
        '{"seconds": {}}',
        '{"seconds": {"training": "long"}, "compilation_seconds": {}}',
        '{"runs": 3}',
        '{"runs": {"loh/spd": 3}}',
        '{"runs": {"loh/spd": {}}}',
        json.dumps({**RUN, "device": {"kind": "cpu"}}),
        json.dumps({**RUN, "versions": ["jax"]}),
    ],
)
def test_circumstances_that_cannot_be_used_are_refused(folder, content):
    (folder / "run.json").write_text(content)
    assert str(folder / "run.json") in refused(folder)


@pytest.mark.parametrize("settings", [3, {}, {"each": {}}, {"each": {"selection": {}}}])
def test_settings_without_a_bound_are_refused(folder, settings):
    (folder / "configuration.json").unlink()
    (folder / "run.json").write_text(json.dumps({"settings": settings, "runs": {"loh/spd": RUN}}))
    assert str(folder / "run.json") in refused(folder)


def test_statistics_refuse_unknown_measures_and_doubled_rows():
    results = table()
    with pytest.raises(ValueError, match="there is no measure named"):
        inconsistency(results.assign(measure="happiness"))
    with pytest.raises(ValueError, match="more than one result"):
        statistics.comparisons(pd.concat([results, results]), np.random.default_rng(0))


def test_a_number_that_is_missing_contradicts_its_counts():
    results = table()
    results.loc[0, "bias"] = np.nan
    assert inconsistency(results) == np.inf
