"""Features are computed once, never used for another network or other rows, and resumed after a kill."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax import features as features_module
from fairjax.features import FeaturesError, cached_features
from fairjax.nn import Mlp, Network, from_linen

ROOT = Path(__file__).parents[2]
NETWORK = from_linen(Mlp(widths=(6, 5)))
X = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def variables():
    return NETWORK.init(jax.random.key(0), jnp.asarray(X))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "features"


class Read:
    """Rows whose reads are recorded, and which may stop the process at a read."""

    def __init__(self, rows, stop=None):
        self.rows, self.shape, self.dtype, self.read, self.stop = rows, rows.shape, rows.dtype, [], stop

    def __getitem__(self, rows):
        self.read.append(rows)
        if self.stop is not None and isinstance(rows, slice) and rows.start == self.stop and rows.stop < len(self.rows):
            raise KeyboardInterrupt
        return self.rows[rows]

    def starts(self):
        return [rows.start for rows in self.read if isinstance(rows, slice) and rows.stop <= len(self.rows)]


def last_hidden(variables, x):
    return NETWORK.features(variables, x)[0]


def two_parts(variables, x):
    h = NETWORK.features(variables, x["numbers"])[0]
    return {"h": h.astype(jnp.bfloat16), "tokens": (x["tokens"] + 1, h[:, None] * jnp.ones((1, 2, 1)))}


def other(variables, x):
    return last_hidden(variables, x)


@pytest.mark.parametrize("rows", [1, 7, 23, 100])
def test_features_are_those_of_the_network_whatever_the_size_of_chunks(rows, folder, variables):
    kept = cached_features(NETWORK, variables, X, folder, rows_per_chunk=rows)
    assert isinstance(kept, np.memmap) and kept.dtype == np.float32 and not kept.flags.writeable
    np.testing.assert_allclose(kept, last_hidden(variables, X), atol=1e-6)
    assert sorted(entry.name for entry in folder.parent.iterdir()) == ["features"]
    assert sorted(entry.name for entry in folder.iterdir()) == ["features.json", "features.npy"]


def test_kept_features_are_not_computed_again(folder, variables):
    first = np.array(cached_features(NETWORK, variables, X, folder, rows_per_chunk=5))
    rows = Read(X)
    again = cached_features(NETWORK, variables, rows, folder)
    np.testing.assert_array_equal(first, again)
    assert len(rows.read) == 2 and len(rows.read[1]) == 8  # for the checksum, and the rows that are computed again


def test_a_function_may_return_a_tree_and_take_a_tree(folder, variables):
    x = {"numbers": X, "tokens": np.arange(46, dtype=np.int64).reshape(23, 2)}
    kept = cached_features(two_parts, variables, x, folder, rows_per_chunk=10)
    expected = two_parts(variables, jax.tree.map(jnp.asarray, {**x, "tokens": x["tokens"].astype(np.int32)}))
    assert jax.tree.structure(kept) == jax.tree.structure(expected)
    assert kept["h"].dtype == np.float32  # files have no bfloat16
    assert kept["tokens"][0].dtype == np.int32 and kept["tokens"][1].shape == (23, 2, 5)
    for found, values in zip(jax.tree.leaves(kept), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(found, np.asarray(values, np.float32), atol=1e-6)
    np.testing.assert_array_equal(cached_features(two_parts, variables, x, folder)["tokens"][0], kept["tokens"][0])


def changed(tree, name):
    params = jax.tree.map(lambda leaf: leaf, tree["params"])
    params[name]["linear"]["bias"] = params[name]["linear"]["bias"].at[0].add(1e-6)
    return {**tree, "params": params}


def test_other_variables_rows_or_functions_are_refused_and_named(folder, variables):
    kept = np.array(cached_features(NETWORK, variables, X, folder))
    masks = {**variables["masks"], "hidden_00": {"units": {"keep": jnp.arange(6) > 0}}}
    x = X.copy()
    x[11, 1] = np.nextafter(x[11, 1], np.float32(9))
    cases = [
        (
            NETWORK,
            changed(variables, "hidden_01"),
            X,
            "the variables have other values in params/hidden_01/linear/bias",
        ),
        (NETWORK, {**variables, "masks": masks}, X, "the variables have other values in masks/hidden_00/units/keep"),
        (NETWORK, variables, x, "the rows x have other values"),
        (NETWORK, variables, X[:9], r"the rows x have float32 \(9, 3\) and had float32 \(23, 3\)"),
        (last_hidden, variables, X, "are of the function .*LinenFeatures, and this is .*last_hidden"),
        (NETWORK, {**variables, "more": {"one": jnp.ones(1)}}, X, "the variables now have more/one"),
    ]
    for network, these, rows, message in cases:
        with pytest.raises(FeaturesError, match=f"{message}.*; pass overwrite=True"):
            cached_features(network, these, rows, folder)
    np.testing.assert_array_equal(cached_features(NETWORK, variables, X, folder), kept)
    replaced = cached_features(NETWORK, changed(variables, "hidden_01"), X[:9], folder, overwrite=True)
    assert replaced.shape == (9, 5)
    assert sorted(entry.name for entry in folder.parent.iterdir()) == ["features"]


def test_a_function_that_was_changed_under_its_name_is_found(folder, variables, monkeypatch):
    cached_features(other, variables, X, folder)

    def renamed(variables, x):
        return jnp.tanh(last_hidden(variables, x))

    monkeypatch.setattr(renamed, "__qualname__", other.__qualname__)
    with pytest.raises(FeaturesError, match="not what .*other computes now: they differ by .* in 8 rows"):
        cached_features(renamed, variables, X, folder)
    assert float(np.abs(cached_features(renamed, variables, X, folder, overwrite=True)).max()) < 1


def test_a_damaged_file_is_refused(folder, variables):
    cached_features(NETWORK, variables, X, folder)
    file = folder / "features.npy"
    content = file.read_bytes()
    file.write_bytes(content[:-40])
    with pytest.raises(FeaturesError, match="damaged"):
        cached_features(NETWORK, variables, X, folder)
    np.save(file, np.zeros((23, 4), np.float32))
    with pytest.raises(FeaturesError, match=r"holds float32 \(23, 4\), expected float32 \(23, 5\)"):
        cached_features(NETWORK, variables, X, folder)
    assert cached_features(NETWORK, variables, X, folder, overwrite=True).tobytes() == content[-23 * 5 * 4 :]


def test_nothing_but_features_is_replaced(folder, variables):
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(FeaturesError, match="is no folder of features .*, and is not replaced"):
            cached_features(NETWORK, variables, X, folder, overwrite=overwrite)
    assert (folder / "mine.txt").read_text() == "mine"


def test_an_interrupted_computation_goes_on_where_it_was(folder, variables):
    with pytest.raises(KeyboardInterrupt):
        cached_features(NETWORK, variables, Read(X, stop=15), folder, rows_per_chunk=5)
    assert not folder.exists()
    rows = Read(X)
    kept = cached_features(NETWORK, variables, rows, folder, rows_per_chunk=6)
    assert rows.starts() == [15, 21]
    np.testing.assert_allclose(kept, last_hidden(variables, X), atol=1e-6)


def test_an_unfinished_computation_of_something_else_is_begun_anew(folder, variables):
    with pytest.raises(KeyboardInterrupt):
        cached_features(NETWORK, variables, Read(X, stop=15), folder, rows_per_chunk=5)
    rows, tuned = Read(X), changed(variables, "hidden_00")
    kept = cached_features(NETWORK, tuned, rows, folder, rows_per_chunk=5)
    assert rows.starts() == [0, 5, 10, 15, 20]
    np.testing.assert_allclose(kept, last_hidden(tuned, X), atol=1e-6)


SCRIPT = """
    import os, signal, sys
    import jax, numpy as np
    from fairjax.features import cached_features
    from fairjax.nn import Mlp, from_linen

    class Rows:
        def __init__(self, rows):
            self.rows, self.shape, self.dtype = rows, rows.shape, rows.dtype
        def __getitem__(self, rows):
            if isinstance(rows, slice) and rows.start == 15 and rows.stop < 23:
                os.kill(os.getpid(), signal.SIGKILL)
            return self.rows[rows]

    x = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)
    network = from_linen(Mlp(widths=(6, 5)))
    cached_features(network, network.init(jax.random.key(0), x), Rows(x), sys.argv[1], rows_per_chunk=5)
"""


@pytest.mark.slow
def test_a_killed_process_loses_one_chunk(folder, variables):
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(folder)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    about = json.loads((folder.with_name(".unfinished-features") / "features.json").read_text())
    assert about["done"] == 15
    rows = Read(X)
    kept = cached_features(NETWORK, variables, rows, folder, rows_per_chunk=5)
    assert rows.starts() == [15, 20]
    np.testing.assert_allclose(kept, last_hidden(variables, X), atol=1e-6)


def test_one_process_computes_a_folder(folder, variables):
    unfinished = folder.with_name(".unfinished-features")
    unfinished.mkdir()
    with (unfinished / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(FeaturesError, match="another process is computing features in"):
            cached_features(NETWORK, variables, X, folder)
    assert cached_features(NETWORK, variables, X, folder).shape == (23, 5)


def test_a_full_disk_is_one_line_and_loses_nothing(folder, variables, monkeypatch):
    def full(task, where, chunk, start):
        if start >= 10:
            raise OSError(28, "No space left on device")
        write(task, where, chunk, start)

    write = features_module._write
    monkeypatch.setattr(features_module, "_write", full)
    with pytest.raises(FeaturesError, match="No space left on device.*; free disk space or choose another path"):
        cached_features(NETWORK, variables, X, folder, rows_per_chunk=5)
    monkeypatch.undo()
    rows = Read(X)
    cached_features(NETWORK, variables, rows, folder, rows_per_chunk=5)
    assert rows.starts()[0] == 10


def test_memory_sets_the_rows_per_chunk(folder, variables, monkeypatch):
    sizes = {}
    for memory in (2**7, 2**9, 2**30):
        rows = Read(X)
        cached_features(NETWORK, variables, rows, folder.with_name(f"features-{memory}"), memory=memory)
        sizes[memory] = len(rows.starts())
    assert sizes[2**7] > sizes[2**9] > sizes[2**30] == 1


def test_features_that_are_not_finite_are_refused_with_their_row(folder, variables):
    x = X.copy()
    x[17, 0] = np.nan
    with pytest.raises(FeaturesError, match="the features of row 17 are not finite"):
        cached_features(NETWORK, variables, x, folder, rows_per_chunk=5)
    assert not folder.exists()


def test_bad_arguments_are_one_line(folder, variables):
    cases = [
        ((Network(NETWORK.init, NETWORK.apply), variables, X), {}, "has no `features`: give Network"),
        ((NETWORK, variables, {"a": X, "b": X[:2]}), {}, "one number of rows"),
        ((NETWORK, variables, X[:0]), {}, "at least one"),
        ((lambda variables, x: x.sum(), variables, X), {}, r"one row per row of x .*, found shapes \(\) for 8 rows"),
        ((NETWORK, variables, X), {"memory": 0}, "memory must be a positive whole number, got 0"),
        ((NETWORK, variables, X), {"rows_per_chunk": 2.5}, "rows_per_chunk must be a positive whole number, got 2.5"),
        ((lambda variables, x: x, variables, np.full((3, 1), 2**40)), {}, "beyond int32"),
    ]
    for arguments, options, message in cases:
        with pytest.raises(ValueError, match=message):
            cached_features(*arguments, folder, **options)
    assert os.listdir(folder.parent) in ([], [".unfinished-features"])
