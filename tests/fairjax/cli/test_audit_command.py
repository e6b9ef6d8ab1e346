"""The command `audit`: its page, its tables, its messages."""

import base64
import html
import io
import json
import re

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from page_reader import Reader

from fairjax.cli import main


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    random, n = np.random.default_rng(0), 3000
    sex, race = random.choice(["f", "m"], n), random.choice(["a", "b <i>", "tiny"], n, p=[0.69, 0.3, 0.01])
    y = (random.random(n) < 0.4).astype(int)
    score = 1 / (1 + np.exp(-(y - 0.5 + random.normal(size=n) + 0.8 * (sex == "m"))))
    frame = pd.DataFrame({"sex": sex, "race": race, "y": np.where(y == 1, "yes", "no"), "s": score})
    path = tmp_path_factory.mktemp("audit") / "predictions.csv"
    frame.to_csv(path, index=False)
    return path


def run(*words):
    return main(["audit", *map(str, words)])


SETTINGS = ("--label", "y", "--positive", "yes", "--score", "s", "--groups", "sex", "race")


def test_a_file_becomes_two_tables_and_one_self_contained_page(table, tmp_path, capsys):
    assert run("--table", table, *SETTINGS, "--out", tmp_path / "out", "--bootstrap", "100") == 0
    text = (tmp_path / "out" / "audit.html").read_text()
    tables = ["by_group.csv", "calibration.csv", "gaps.csv", "thresholds.csv"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["audit.html", *tables]
    printed = capsys.readouterr().out
    assert f"({', '.join(tables)})" in " ".join(printed.split())
    assert "SPD by sex" in printed and "Chance does not explain it" in printed and "audit.html" in printed
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    assert "b <i>" not in text and "b &lt;i&gt;" in text
    reader = Reader()
    reader.feed(text)
    assert not reader.open and len(reader.pictures) == 1 + 3 + 2 + 2
    for picture in reader.pictures:
        assert re.search(r"\d\.\d", picture["alt"])  # what it shows, not only what is drawn
        image = matplotlib.image.imread(io.BytesIO(base64.b64decode(picture["src"].partition(",")[2])))
        assert image.std() > 0.01
    assert text.count("<th ") == text.count('<th scope="col">') > 0
    assert text.count('tabindex="0"') == len(re.findall(r'tabindex="0" role="region" aria-label="Table: [^"]+"', text))
    assert "Calibration by race as a table" in text and "Rates by sex at other thresholds as a table" in text
    assert "What these data cannot tell" in text and "tiny" in text and "fewer than 50" in text


def test_two_files_are_compared(table, tmp_path, capsys):
    old = tmp_path / "old.csv"
    frame = pd.read_csv(table)
    frame.assign(s=frame["s"] * (1 - 0.3 * (frame["sex"] == "f"))).to_csv(old, index=False)
    words = ("--table", table, "--against", old, *SETTINGS, "--out", tmp_path / "out", "--bootstrap", "100")
    assert run(*words) == 0
    changes = pd.read_csv(tmp_path / "out" / "differences.csv").set_index(["measure", "groups"])
    assert changes.loc[("spd", "sex"), "high"] < 0
    assert "SPD by sex fell by" in (tmp_path / "out" / "audit.html").read_text()
    assert "SPD by sex fell by" in " ".join(capsys.readouterr().out.split())
    assert run("--table", table, *SETTINGS, "--out", tmp_path / "out", "--bootstrap", "0") == 0  # the older comparison
    printed, page = capsys.readouterr().out, (tmp_path / "out" / "audit.html").read_text()
    assert "differences" not in printed and not (tmp_path / "out" / "differences.csv").exists()
    assert "95 % interval (" not in page and "[–, –]" not in page


def test_two_files_of_several_classes_are_compared_without_draws(table, tmp_path):
    random, classes = np.random.default_rng(1), ["low", "medium", "high"]
    frame = pd.read_csv(table).assign(y=random.choice(classes, 3000), d=random.choice(classes, 3000))
    frame.to_csv(tmp_path / "new.csv", index=False)
    frame.assign(d=frame["d"].where(frame.index > 100, "low")).to_csv(tmp_path / "old.csv", index=False)
    words = ("--label", "y", "--decision", "d", "--classes", *classes, "--groups", "sex", "--bootstrap", "0")
    files = ("--table", tmp_path / "new.csv", "--against", tmp_path / "old.csv", "--out", tmp_path / "out")
    assert run(*files, *words) == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "audit.html", "by_group.csv", "differences.csv", "gaps.csv"
    ]  # fmt: skip
    page = (tmp_path / "out" / "audit.html").read_text()
    assert re.search(r"SPD by sex changed by [^,]+, from [\d.]+ to [\d.]+\.<", page)


def test_rates_are_marked_by_the_rows_behind_each_of_them(table, tmp_path):
    """Group "tiny" has 32 rows: enough for its selection rate, too few for its true positive rate."""
    assert run("--table", table, *SETTINGS, "--out", tmp_path, "--minimum", "20", "--bootstrap", "0") == 0
    text = (tmp_path / "audit.html").read_text()
    section = text[text.index("Rates by race</h2>") :]
    row = section[section.index("<tr><td>tiny") :].partition("</tr>")[0]
    cells = [cell.partition("</td>")[0] for cell in row.split("<td")[3:]]
    assert ["*" in cell for cell in cells[:6]] == ["uncertain" in cell for cell in cells[:6]]
    assert "*" not in cells[1] and "*" in cells[2]  # selection rate, true positive rate
    assert "*: fewer than 20 rows behind the rate" in section


def test_the_page_has_all_settings(table, tmp_path):
    assert run("--table", table, *SETTINGS, "--out", tmp_path, "--bootstrap", "0", "--missing", "drop") == 0
    text = html.unescape((tmp_path / "audit.html").read_text())
    settings = json.loads(text[text.index("<pre>{") + 5 : text.index("</pre>")])
    assert settings["measures"] == ["spd", "eod"] and settings["positive"] == "yes" and settings["missing"] == "drop"
    assert {"most_groups", "minimum", "seed", "bootstrap", "label", "score", "threshold", "table"} <= set(settings)


@pytest.mark.parametrize("below", [False, True])
def test_a_folder_that_is_a_file_is_refused_before_the_table_is_read(table, tmp_path, capsys, below):
    (tmp_path / "taken").write_text("")
    out = tmp_path / "taken" / "out" if below else tmp_path / "taken"
    assert run("--table", "absent.csv", *SETTINGS, "--out", out) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'taken'} is not a folder; choose another with --out" in error and error.count("\n") == 1


def test_settings_come_from_a_file_too(table, tmp_path):
    config = tmp_path / "audit.yaml"
    config.write_text(
        f"table: [{table}]\nlabel: y\npositive: 'yes'\nscore: s\ngroups: [sex]\nmeasure: [eod]\nbootstrap: 0\n"
        f"out: {tmp_path / 'out'}\n"
    )
    assert run("--config", config) == 0
    assert pd.read_csv(tmp_path / "out" / "gaps.csv")["measure"].tolist() == ["eod"]


@pytest.mark.parametrize(
    "words, message",
    [
        (("--label", "y", "--groups", "sex"), "needs files of rows, --table, or of counts, --counts; got neither"),
        (("--table", "absent.csv", "--label", "y", "--score", "s", "--groups", "sex"), "there is no file absent.csv"),
        (("--table", "absent.csv"), "audit needs --label and --groups"),
    ],
)
def test_what_is_missing_is_said_in_one_line_before_anything_is_written(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_fits_two_screens(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    assert len(capsys.readouterr().out.splitlines()) <= 70
