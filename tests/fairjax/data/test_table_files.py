"""Tables of files and frames: which files they are, where their rows are, what their columns hold."""

import gzip

import duckdb
import pandas as pd
import pytest

from fairjax.data.connection import connected
from fairjax.data.table_files import files_of, table_of


def test_a_file_that_several_patterns_match_is_read_once(tmp_path, monkeypatch):
    for name in ("a1.csv", "a2.csv"):
        (tmp_path / name).write_text("x,y\n1,2\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / "a1.csv")
    monkeypatch.chdir(tmp_path)
    files = files_of([tmp_path / "a*.csv", "a1.csv", tmp_path / "*.csv"])
    assert files == [tmp_path / "a1.csv", tmp_path / "a2.csv"]


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_rows_are_found_in_their_file_and_line(tmp_path, suffix):
    """Empty lines are no rows, and a line that ends within quotes does not end its row."""
    texts = ("x,y\n1,2\n\n3,4\n", 'x,y\n5,6\n7,"8\n""9"\n\n10,11', "x,y\n12,13\n")
    for i, text in enumerate(texts):
        content = text.encode()
        (tmp_path / f"{i}{suffix}").write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    with connected() as connection:
        table = table_of(connection, str(tmp_path / f"*{suffix}"))
        values = connection.execute(f"SELECT {table.column('x')} FROM {table.sql}").fetchall()
    lines = {"1": (2, 0), "3": (4, 0), "5": (2, 1), "7": (3, 1), "10": (6, 1), "12": (2, 2)}
    assert [value for (value,) in values] == list(lines)
    for row, (line, file) in enumerate(lines.values()):
        assert table.place(row) == f"line {line} of {tmp_path / f'{file}{suffix}'}"


def test_rows_of_parquet_files_and_frames_have_numbers(tmp_path):
    for i in range(2):
        duckdb.sql("SELECT unnest([1, 2, 3]) AS x").write_parquet(str(tmp_path / f"{i}.parquet"))
    with connected() as connection:
        assert table_of(connection, str(tmp_path / "*.parquet")).place(4) == f"row 2 of {tmp_path / '1.parquet'}"
        assert table_of(connection, pd.DataFrame({"x": [1, 2]})).place(1) == "row 1"


def test_columns_of_all_types_know_their_missing_values_and_numbers():
    frame = pd.DataFrame(
        {
            "text": ["1.5", "NA", None, "true"],
            "number": [1.5, float("nan"), float("inf"), 0],
            "whole": pd.array([1, None, 2, 3], "Int64"),
            "truth": pd.array([True, None, False, True], "boolean"),
        }
    )
    expected = {
        "text": ([False, True, True, False], [1.5, None, None, None]),
        "number": ([False, True, False, False], [1.5, None, float("inf"), 0]),
        "whole": ([False, True, False, False], [1, None, 2, 3]),
        "truth": ([False, True, False, False], [None] * 4),
    }
    with connected() as connection:
        table = table_of(connection, frame)
        for name, (lacks, numbers) in expected.items():
            rows = connection.execute(f"SELECT {table.lacks(name)}, {table.number(name)} FROM {table.sql}").fetchall()
            assert rows == list(zip(lacks, numbers, strict=True)), name
