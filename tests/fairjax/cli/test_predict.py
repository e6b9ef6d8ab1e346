"""`predict` on a saved network that was made by hand: kept columns, values that do not fit, and former folders."""

import duckdb
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from fairjax import checkpoint
from fairjax.cli import main
from fairjax.nn import Mlp, from_linen

ENCODER = [
    {"column": "age", "kind": "number", "values": [], "median": None},
    {"column": "job", "kind": "category", "values": ["clerk", "cook"], "median": None},
]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A network of random weights, saved like those of a run on a table."""
    module = Mlp(widths=(2,))
    variables = jax.vmap(lambda key: from_linen(module).init(key, jnp.ones((1, 2))))(
        jax.random.split(jax.random.key(0), 1)
    )
    table = {"encoder": ENCODER, "mean": [[40.0, 0.5]], "scale": [[10.0, 0.5]], "threshold": [0.5]}
    folder = tmp_path_factory.mktemp("saved") / "network"
    checkpoint.save(folder, module, variables, about={"seeds": [1], "table": table})
    return folder


@pytest.fixture
def predict(network, tmp_path):
    """Return a function that writes a table, scores it, and returns the status and the file of scores."""

    def scored(frame, *words, suffix=".csv"):
        path = tmp_path / f"new{suffix}"
        frame.to_csv(path, index=False) if suffix == ".csv" else duckdb.from_df(frame).write_parquet(str(path))
        command = ["predict", "--network", network, "--table", path, "--out", tmp_path / "scores.csv", *words]
        return main(list(map(str, command))), tmp_path / "scores.csv"

    return scored


ROWS = pd.DataFrame({"age": [30, 50, 41], "job": ["cook", "clerk", "cook"]})


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_kept_columns_are_written_as_the_table_has_them(predict, suffix):
    kept = {
        "person": ["1234567890123", "12345678901234567", "9007199254740993"],
        "share": ["0.1234567890123", "2.5", "1e-05"],
        "day": ["2024-01-05", "2024-02-29", "2023-12-31"], "age": ["30", "50", "41"],
    }  # fmt: skip
    frame = ROWS.assign(**kept)
    if suffix == ".parquet":
        frame = frame.astype({"person": "int64", "share": float, "age": "int64"})
        frame["day"] = pd.to_datetime(frame["day"]).dt.date
    status, path = predict(frame, "--keep", *kept, suffix=suffix)
    assert status == 0
    written = pd.read_csv(path, dtype=str)
    assert written.columns.tolist() == [*kept, "score", "decision"]
    for name in ("person", "day", "age"):
        assert written[name].tolist() == kept[name]
    np.testing.assert_array_equal(written["share"].astype(float), list(map(float, kept["share"])))
    without = pd.read_csv(predict(ROWS)[1])
    np.testing.assert_array_equal(written["score"].astype(float), without["score"])


def test_codes_and_missing_values_of_kept_columns_stay(predict):
    _, path = predict(ROWS.assign(zip=["01", None, "NA"], empty=None), "--keep", "zip", "empty", "zip")
    assert path.read_text().splitlines()[0] == "zip,empty,score,decision"
    assert [line.split(",")[:2] for line in path.read_text().splitlines()[1:]] == [["01", ""], ["", ""], ["NA", ""]]


def test_a_kept_column_named_like_one_of_predict_is_refused(predict, capsys):
    assert predict(ROWS.assign(score=0.5), "--keep", "score")[0] == 2
    assert "the column score cannot be kept, since predict writes a column of this name" in capsys.readouterr().err
    assert predict(ROWS, "--keep", "aeg")[0] == 2
    assert "new.csv has no column 'aeg': did you mean age" in capsys.readouterr().err


def test_a_code_in_a_column_of_numbers_is_named(predict, capsys):
    assert predict(ROWS.assign(age=["30", "05", "41"]))[0] == 2
    error = capsys.readouterr().err
    assert "age must be a number, found '05'" in error and "which is a code, not a number" in error
    assert error.count("\n") == 1
