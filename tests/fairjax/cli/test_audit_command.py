"""The command `audit`: its page, its tables, its messages."""

import base64
import io
import re
from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

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


class Reader(HTMLParser):
    """Collects the pictures, and checks that every element that is opened is closed."""

    def __init__(self):
        super().__init__()
        self.pictures, self.open = [], []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.pictures.append(dict(attrs))
        elif tag not in ("meta", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def run(*words):
    return main(["audit", *map(str, words)])


SETTINGS = ("--label", "y", "--positive", "yes", "--score", "s", "--groups", "sex", "race")


def test_a_file_becomes_two_tables_and_one_self_contained_page(table, tmp_path, capsys):
    assert run("--table", table, *SETTINGS, "--out", tmp_path / "out", "--bootstrap", "100") == 0
    text = (tmp_path / "out" / "audit.html").read_text()
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["audit.html", "by_group.csv", "gaps.csv"]
    printed = capsys.readouterr().out
    assert "SPD by sex" in printed and "Chance does not explain it" in printed and "audit.html" in printed
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    assert "b <i>" not in text and "b &lt;i&gt;" in text
    reader = Reader()
    reader.feed(text)
    assert not reader.open and len(reader.pictures) == 1 + 3 + 2 + 2
    for picture in reader.pictures:
        assert len(picture["alt"]) > 30
        image = matplotlib.image.imread(io.BytesIO(base64.b64decode(picture["src"].partition(",")[2])))
        assert image.std() > 0.01
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
