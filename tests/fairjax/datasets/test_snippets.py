"""Rated sentences are read line by line as they are, and known by their documents."""

import os
from pathlib import Path

import numpy as np
import pytest

from fairjax import data
from fairjax.datasets import SNIPPET_FILES, DataError, snippets

FOLDER = Path(os.environ.get("FAIRJAX_DATA", "data"))
LINES = {
    "film": ["1\t2.5\tA joy.\r", "2\t-3.1\tA bore\x85 and long.\r", "3\t0.49\tIt exists.\r", "4\t1\tcool."],
    "product": ["1_1\t-0.5\tIt broke.\r", "1_2\t0.5\tIt works.\r", "2_1\t-2\tcool.\r", ""],
    "editorial": ["1_1\t1.5\tNaïve\u2028hope.\r", "1_2\t-1\tNo.\r", ""],
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vader").mkdir()
    for kind, lines in LINES.items():
        (tmp_path / SNIPPET_FILES[kind].path).write_bytes("\n".join(lines).encode())
    return tmp_path


def test_lines_end_at_line_feeds_only_and_weak_ratings_are_left_out(folder):
    read = snippets(folder, verify=False)
    texts = ("A joy.", "A bore\x85 and long.", "cool.", "It broke.", "It works.", "Naïve\u2028hope.", "No.")
    assert read.texts == texts
    assert read.y.tolist() == [True, False, True, False, True, True, False]
    np.testing.assert_allclose(read.valence, [2.5, -3.1, 1, -0.5, 0.5, 1.5, -1])
    products, editorials = read.identities[3:5], read.identities[5:]
    assert len(set(products)) == len(set(editorials)) == 1 and len(set(read.identities)) == 5
    assert set(read.identities) == set(range(5))
    assert len(snippets(folder, least=0, verify=False).texts) == 8


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("5\t2.5", "line 5 of .*movieReviewSnippets.* must be an id, a rating and a text, separated by tabs, found"),
        ("5\tgood\tText.", "line 5 of .* must be an id"),
        ("5\t7\tText.", "the rating in line 5 of .* must be between -4 and 4, found 7"),
        ("5\tnan\tText.", "the rating in line 5"),
    ],
)
def test_wrong_lines_are_named(folder, line, message):
    with (folder / SNIPPET_FILES["film"].path).open("a") as stream:
        stream.write(f"\n{line}\n")
    with pytest.raises(DataError, match=message):
        snippets(folder, verify=False)


def test_other_files_and_settings_are_refused(folder):
    with pytest.raises(DataError, match="movieReviewSnippets.* has the sha256 checksum"):
        snippets(folder)
    with pytest.raises(ValueError, match="least must be a rating between 0 and 4, got 5"):
        snippets(folder, least=5)
    (folder / SNIPPET_FILES["film"].path).write_bytes("1\t1\tNaïve".encode("latin-1"))
    with pytest.raises(DataError, match="is no UTF-8 text"):
        snippets(folder, verify=False)


@pytest.mark.skipif(not (FOLDER / "vader").is_dir(), reason="needs vader/ in the folder that FAIRJAX_DATA names")
def test_the_published_files_have_their_rows():
    read = snippets(FOLDER)
    assert len(read.texts) == len(set(read.texts)) == 15_977
    assert read.y.mean() == pytest.approx(0.495, abs=5e-4)
    assert np.abs(read.valence).min() == 0.5 and np.array_equal(read.y, read.valence > 0)
    assert len(set(read.identities)) == read.identities.max() + 1 == 10_865
    dataset = data.from_arrays(np.zeros((len(read.y), 1)), read.y, np.arange(len(read.y)) % 2)
    splits = data.split_seeds(dataset, seeds=(1,), identities=read.identities)
    parts = [set(read.identities[np.asarray(rows[0])]) for rows in (splits.train, splits.valid, splits.test)]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
