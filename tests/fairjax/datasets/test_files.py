"""Raw files with irregularities are either read correctly or rejected with the file's name, the line and a remedy."""

import pytest

from fairjax import datasets
from fairjax.datasets import FILES, DataError, find, user_path
from fairjax.datasets.bank import BANK_FULL_COLUMNS
from fairjax.datasets.german import GERMAN_COLUMNS
from fairjax.datasets.reading import check_known, read_headless

BANK = "30;admin;single;primary;no;5;no;no;cellular;1;may;9;1;-1;0;unknown;"
GERMAN = "A11 6 A34 A43 1169 A65 A75 4 A93 A101 4 A121 67 A143 A152 2 A173 1 A192 A201"


def bank_full(tmp_path, text):
    (tmp_path / "bank-full.csv").write_text(text)
    return datasets.bank_full(tmp_path, verify=False)


def header():
    return ";".join(BANK_FULL_COLUMNS) + "\n"


def rows(*labels):
    return "".join(f"{age}{BANK[2:]}{label}\n" for age in (20, 40) for label in labels)


def test_labels_with_spaces_or_capitals_keep_their_class(tmp_path):
    found = bank_full(tmp_path, (header() + rows("yes ", "NO")).removesuffix("\n"))
    assert found.y.tolist() == [True, False, True, False] and found.a.tolist() == [False, False, True, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (header() + rows("yes", "maybe"), "bank-full.csv, line 3, column y: unknown value 'maybe' .known: no, yes"),
        (rows("yes", "no"), "bank-full.csv, line 1 .its header., lacks the columns"),
        (header() + rows("yes;1"), "bank-full.csv, line 2, column age: expected a number"),
        (header() + rows("yes") + "1;2" * 40 + "\n", "bank-full.csv cannot be read"),
        (header(), "bank-full.csv has no records"),
        ("", "bank-full.csv cannot be read"),
        (header() + rows("yes") + header(), "bank-full.csv, line 4, column age: expected a number, found 'age'"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name_and_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        bank_full(tmp_path, text)


def test_an_unnamed_index_column_is_no_feature(tmp_path):
    plain = bank_full(tmp_path, header() + rows("yes", "no"))
    indexed = bank_full(tmp_path, ";" + header() + "".join(f"7;{row}\n" for row in rows("yes", "no").splitlines()))
    assert indexed.features == plain.features and (indexed.x == plain.x).all()


def test_a_headerless_file_may_have_spaces_at_line_ends_but_no_header(tmp_path):
    file = tmp_path / "german.data"
    file.write_text(f"{GERMAN} 1 \n{GERMAN} 2\t")
    frame = read_headless(file, GERMAN_COLUMNS, ("month", "credit"), sep=" ")
    assert frame["credit"].tolist() == [1, 2] and frame.index.tolist() == [1, 2]
    with pytest.raises(DataError, match="german.data, line 2, column credit: unknown value 2 .known: 1"):
        check_known(frame, "credit", (1,), file)
    file.write_text(" ".join(GERMAN_COLUMNS) + f"\n{GERMAN} 1\n")
    with pytest.raises(DataError, match="german.data, line 1, column month: expected a number.*remove the line"):
        read_headless(file, GERMAN_COLUMNS, ("month", "credit"), sep=" ")


def test_a_home_folder_of_nobody_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("FAIRJAX_DATA", "~nobody-of-this-name")
    with pytest.raises(FileNotFoundError, match="home folder in '~nobody-of-this-name' is unknown.*FAIRJAX_DATA"):
        find(FILES["german.data"])
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/data") == tmp_path / "data"
