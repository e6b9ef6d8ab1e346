"""Loading and checking data: `fairjax.data.dataset`, `files` and `benchmarks`."""

import functools
import gc
import hashlib
import http.server
import os
import sys
import threading
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pooch
import pytest
from computed import Computed
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fairjax import datasets, metrics
from fairjax.data import from_arrays
from fairjax.datasets import DATASETS, FILES, DataError, RawFile, find
from fairjax.datasets.adult import ADULT_OCCUPATIONS
from fairjax.datasets.german import GERMAN_COLUMNS
from fairjax.datasets.reading import without_duplicates

X = np.arange(8.0).reshape(4, 2)
Y = np.array([0, 1, 1, 0])
A = np.array([1, 0, 1, 0])


def raw(name):
    """Return the folder of raw files if it contains those of the benchmark."""
    folder = os.environ.get("FAIRJAX_DATA")
    if not folder:
        pytest.skip("FAIRJAX_DATA is not set")
    needed = {"adult": ("adult.data", "adult.test"), "bank": ("bank-additional-full.csv",)}
    needed |= {"bank_full": ("bank-full.csv",), "compas": ("compas-scores-two-years.csv",), "german": ("german.data",)}
    needed |= {"adult_occupation": needed["adult"], "compas_score_text": needed["compas"]}
    for file in needed[name]:
        if not (Path(folder) / FILES[file].path).is_file():
            pytest.skip(f"FAIRJAX_DATA has no {FILES[file].path}")
    return Path(folder)


def load(name, **options):
    """Load a benchmark."""
    pytest.importorskip("aif360")
    return DATASETS[name](raw(name), **options)


@pytest.fixture(scope="module")
def benchmarks():
    """Return each benchmark as it is by default, read once for all tests."""
    return Computed(load)


# from_arrays


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9)))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_from_arrays_keeps_finite_values_and_refuses_others(x):
    y = np.arange(len(x)) % 2
    if np.isfinite(x).all():
        made = from_arrays(x, y, 1 - y)
        np.testing.assert_array_equal(made.x, x)
        assert made.x.dtype == np.float32
        assert made.features == tuple(f"x{i + 1}" for i in range(x.shape[1]))
    else:
        with pytest.raises(ValueError, match="missing or infinite"):
            from_arrays(x, y, 1 - y)


@given(st.lists(st.booleans(), min_size=2, max_size=20), st.sampled_from([bool, np.int64, np.uint8, float, "Int8"]))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_labels_survive_their_type(labels, dtype):
    x = np.ones((len(labels), 1))
    y = pd.Series(labels).astype(dtype)
    group = [True, False] * (len(labels) // 2) + [True] * (len(labels) % 2)
    if len(set(labels)) == 2:
        assert from_arrays(x, y, group).y.tolist() == labels
    else:
        with pytest.raises(ValueError, match="y must hold both 0 and 1, found only"):
            from_arrays(x, y, group)


def test_all_kinds_of_input_give_the_same_data():
    frame = pd.DataFrame({"x1": pd.array([0, 2, 4, 6], dtype="Int64"), "x2": [1.0, 3.0, 5.0, 7.0]})
    reference = from_arrays(X, Y, A)
    inputs = [
        (X.tolist(), Y.tolist(), A.tolist()),
        (X.astype(int), Y.astype(float), A.astype(bool)),
        (jnp.asarray(X), jnp.asarray(Y), jnp.asarray(A)),
        (frame, pd.Series(Y, dtype="boolean"), pd.Series(A, dtype="Int8")),
        (frame.astype("Float32"), pd.array(Y, dtype="Int64"), pd.Index(A)),
    ]
    for x, y, a in inputs:
        made = from_arrays(x, y, a)
        np.testing.assert_array_equal(made.x, reference.x)
        np.testing.assert_array_equal(made.y, Y == 1)
        np.testing.assert_array_equal(made.a, A == 1)
        assert (made.x.dtype, made.y.dtype, made.a.dtype) == (np.float32, bool, bool)
        assert made.features == ("x1", "x2")


def test_names():
    frame = pd.DataFrame(X, columns=["age", 7])
    assert from_arrays(frame, Y, A).features == ("age", "7")
    made = from_arrays(frame, Y, A, name="mine", features=["b", "c"], protected="sex")
    assert (made.name, made.features, made.protected) == ("mine", ("b", "c"), "sex")


def test_boolean_and_constant_features_are_allowed():
    frame = pd.DataFrame({"flag": [True, False, True, True], "one": 1, "maybe": pd.array([True] * 4, dtype="boolean")})
    np.testing.assert_array_equal(from_arrays(frame, Y, A).x, frame.astype(float))


BAD = {
    "one axis": (dict(x=np.arange(4.0)), r"x must have two axes, rows and features, found shape \(4,\): try x.reshape"),
    "no rows": (dict(x=np.ones((0, 2))), r"at least one row and one feature, found shape \(0, 2\)"),
    "no features": (dict(x=np.ones((4, 0))), r"at least one row and one feature, found shape \(4, 0\)"),
    "ragged": (dict(x=[[1.0], [1.0, 2.0]]), "x is not a regular array .*: its rows must all have the same length"),
    "short y": (dict(y=Y[:3]), "x and y must have the same length, found 4 and 3 rows"),
    "long a": (dict(a=np.tile(A, 2)), "x and a must have the same length, found 4 and 8 rows"),
    "two-axis y": (dict(y=Y[:, None]), r"y must have one number per row, .* found shape \(4, 1\): pass y\[:, 0\]"),
    "nan": (
        dict(x=np.where(X > 4, np.nan, X), features=["age", "pay"]),
        r"column 'age' of x has 1 missing or infinite values in float32, the first \(nan\) in row 3 "
        r"\(1 more columns too\): drop these rows or fill",
    ),
    "inf": (dict(x=[[0, 1], [0, -np.inf], [0, np.inf], [0, 1]]), r"'x2' of x has 2 .* the first \(-inf\) in row 1: "),
    "overflow": (dict(x=np.where(X == 2, 1e39, X)), r"column 'x1' of x has 1 .* the first \(inf\) in row 1: "),
    "NA": (dict(x=pd.DataFrame({"n": pd.array([1, None, 3, 4], dtype="Int64")})), r"'n' of x has 1 .*\(nan\) in row 1"),
    "missing y": (dict(y=[0, np.nan, 1, np.nan]), "found 2 missing values, the first in row 1: drop these rows"),
    "NA in a": (dict(a=pd.Series([True, None, False, True], dtype="boolean")), "found 1 missing values, .* row 1"),
    "labels 1/2": (
        dict(y=Y + 1),
        "y must hold 0 and 1 only, found 1, 2 .the first in row 1.: .* by a comparison, such as y == 2",
    ),
    "labels -1/1": (dict(y=2 * Y - 1), "y must hold 0 and 1 only, found -1, 1 .*: .* such as y == 1"),
    "many groups": (
        dict(x=np.ones((7, 1)), y=[0, 1, 0, 1, 0, 1, 0], a=range(7)),
        "a must hold 0 and 1 only, found 0, 1, 2, 3, 4, ... .the first in row 2.: .* fairjax.data.groups",
    ),
    "halves": (dict(a=A / 2), "a must hold 0 and 1 only, found 0, 0.5"),
    "one class": (dict(y=np.zeros(4)), "y must hold both 0 and 1, found only 0 in all 4 rows: .* a class is absent"),
    "one group": (dict(a=np.ones(4)), "a must hold both 0 and 1, found only 1 in all 4 rows: .* a group is absent"),
    "few names": (dict(features=["age"]), "features must name every column of x: found 1 names for 2 columns"),
    "twice": (dict(features=["age", "age"]), "features must have different names, found 'age' more than once"),
    "twice in frame": (dict(x=pd.DataFrame(X, columns=["b", "b"])), "different names, found 'b' more than once"),
    "other rows": (
        dict(x=pd.DataFrame(X, index=[3, 1, 2, 0]), y=pd.Series(Y)),
        r"the index of y differs from that of x \(row 0: 0, x has 3\): align them, or pass y.to_numpy\(\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_from_arrays_refuses(case):
    change, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        from_arrays(**{"x": X, "y": Y, "a": A, **change})


WORDS = {
    "text column": (
        dict(x=pd.DataFrame({"pay": [1.0] * 4, "job": list("abcd")})),
        r"found columns 'job' \((object|str)\): encode them first, .* pandas.get_dummies\(x, columns=\['job'\]\)",
    ),
    "category": (dict(x=pd.DataFrame({"job": pd.Categorical(list("abcd"))})), r"'job' \(category\)"),
    "date": (dict(x=pd.DataFrame({"day": pd.to_datetime(["2020-01-01"] * 4)})), r"'day' \(datetime64"),
    "many": (dict(x=pd.DataFrame({f"c{i}": list("abcd") for i in range(8)})), r"'c4' \((object|str)\) and 3 more: "),
    "text array": (dict(x=np.full((4, 2), "a")), r"x must hold numbers or booleans, found dtype <U1: encode it"),
    "complex": (dict(x=X * 1j), "found dtype complex128"),
    "text y": (dict(y=["no", "yes", "yes", "no"]), r"y must hold numbers .*, found dtype <U3: .* such as y == 'yes'"),
    "text series a": (dict(a=pd.Series(list("mfmf"))), r"a must hold numbers .*, found dtype (object|str): .* a == "),
    "object y": (dict(y=pd.Series([0, 1, 1, 0], dtype=object)), "y must hold numbers .*, found dtype object"),
    "None": (dict(y=[0, None, 1, 1]), "y must hold numbers .*, found dtype object"),
}


@pytest.mark.parametrize("case", WORDS)
def test_from_arrays_refuses_what_is_no_number(case):
    change, message = WORDS[case]
    with pytest.raises(TypeError, match=message):
        from_arrays(**{"x": X, "y": Y, "a": A, **change})


# find


CONTENT = b"1 2 3\n" * 100
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def publisher(tmp_path, monkeypatch):
    """Serve files on this machine, with an empty cache and without a folder of raw files."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "tiny.data").write_bytes(CONTENT)
    with zipfile.ZipFile(served / "tiny.zip", "w") as archive:
        archive.writestr("inner/tiny.csv", CONTENT)
        archive.writestr("inner/other.csv", b"other")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.delenv("FAIRJAX_DATA", raising=False)
    handler = functools.partial(QuietHandler, directory=served)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def tiny(publisher, name="tiny.data", member=None, digest=DIGEST):
    return RawFile("tiny/tiny.data", digest, f"{publisher}/{name}", member)


def put(folder, content=CONTENT):
    """Put a file into a data folder."""
    (folder / "tiny").mkdir(parents=True)
    (folder / "tiny" / "tiny.data").write_bytes(content)
    return folder / "tiny" / "tiny.data"


@pytest.mark.parametrize(("name", "member"), [("tiny.data", None), ("tiny.zip", "inner/tiny.csv")])
def test_find_downloads_once(publisher, tmp_path, name, member):
    file = tiny(publisher, name, member)
    found = find(file)
    assert found == tmp_path / "cache" / "fairjax" / "tiny" / "tiny.data"
    assert found.read_bytes() == CONTENT
    assert [path.name for path in found.parent.iterdir()] == ["tiny.data"]
    (tmp_path / "served" / name).unlink()
    assert find(file) == found


def test_find_replaces_a_damaged_copy_in_the_cache(publisher, tmp_path):
    damaged = put(tmp_path / "cache" / "fairjax", CONTENT[:-50])
    assert find(tiny(publisher)) == damaged
    assert damaged.read_bytes() == CONTENT


@pytest.mark.parametrize(("name", "member"), [("tiny.data", None), ("tiny.zip", "inner/tiny.csv")])
def test_a_download_with_a_wrong_checksum_leaves_nothing_behind(publisher, tmp_path, name, member):
    with pytest.raises(
        DataError, match=f"checksum {DIGEST}, expected 123: .* Download it again from {publisher}/{name}"
    ):
        find(tiny(publisher, name, member, digest="123"))
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_an_archive_without_the_file(publisher):
    with pytest.raises(DataError, match=r"tiny.zip no longer holds inner/gone.csv: get tiny/tiny.data by hand"):
        find(tiny(publisher, "tiny.zip", "inner/gone.csv"))


def test_an_archive_that_is_none(publisher):
    with pytest.raises(DataError, match="tiny.data is no archive"):
        find(tiny(publisher, "tiny.data", "inner/tiny.csv"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_failed_download_names_every_place(publisher, tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRJAX_DATA", str(tmp_path / "raw"))
    with pytest.raises(FileNotFoundError) as error:
        find(tiny(publisher, "gone.data"))
    places = (tmp_path / "raw", tmp_path / "cache" / "fairjax")
    for text in (*(f"{place}/tiny/tiny.data" for place in places), f"{publisher}/gone.data", "404", "set FAIRJAX_DATA"):
        assert text in str(error.value)
    del error
    gc.collect()  # pooch leaves the connection of a refused download open, so it is closed here


def test_a_folder_without_the_file_falls_through(publisher, tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRJAX_DATA", str(tmp_path / "raw"))
    assert find(tiny(publisher)) == tmp_path / "cache" / "fairjax" / "tiny" / "tiny.data"


def test_the_order_of_places(publisher, tmp_path, monkeypatch):
    cached, in_folder, given_path = (put(tmp_path / name) for name in ("cache/fairjax", "raw", "given"))
    file = tiny(publisher, "gone.data")
    assert find(file) == cached
    monkeypatch.setenv("FAIRJAX_DATA", str(tmp_path / "raw"))
    assert find(file) == in_folder
    assert find(file, given_path) == given_path


def test_a_path_is_the_file_or_a_folder_of_either_layout(tmp_path):
    file, place = tiny("http://nowhere"), put(tmp_path)
    for path in (tmp_path, tmp_path / "tiny", place, str(place)):
        assert find(file, path) == place


def test_a_path_without_the_file_is_an_error(tmp_path):
    file = tiny("http://nowhere")
    with pytest.raises(
        FileNotFoundError, match=r"tiny.data is not at .*/tiny/tiny.data or .*/tiny.data: pass the file"
    ):
        find(file, tmp_path)
    with pytest.raises(FileNotFoundError, match="tiny.data is not at /no/where.csv: pass the file or its folder"):
        find(file, "/no/where.csv")


@pytest.mark.parametrize("through", ["path", "variable"])
def test_a_damaged_file_of_the_user_is_refused_unless_told_otherwise(publisher, tmp_path, monkeypatch, through):
    damaged = put(tmp_path / "raw", CONTENT[:-50])
    path = damaged if through == "path" else None
    monkeypatch.setenv("FAIRJAX_DATA", str(tmp_path / "raw"))
    found = hashlib.sha256(CONTENT[:-50]).hexdigest()
    with pytest.raises(DataError, match=f"{damaged} has the sha256 checksum {found}, expected {DIGEST}: .* verify=Fal"):
        find(tiny(publisher), path)
    assert find(tiny(publisher), path, verify=False) == damaged


# benchmarks


TABLE = {
    # rows, features, P(y=1), P(a=1), P(y=1 | a=0), P(y=1 | a=1), counted in AIF360 0.6.1's own data sets
    ("adult", "sex"): (45222, 98, 0.248, 0.675, 0.114, 0.312),
    ("compas", "race"): (6167, 401, 0.455, 0.341, 0.489, 0.391),
    ("bank", "age"): (30488, 57, 0.127, 0.972, 0.230, 0.124),
    ("bank_full", "age"): (45211, 51, 0.117, 0.982, 0.256, 0.114),
    ("german", "sex"): (1000, 58, 0.700, 0.690, 0.648, 0.723),
    ("german", "age"): (1000, 58, 0.700, 0.810, 0.579, 0.728),
}


@pytest.mark.parametrize(("name", "protected"), TABLE)
def test_benchmarks_have_the_known_shape_and_rates(name, protected, benchmarks):
    made = load(name, protected=protected) if name == "german" else benchmarks[name]
    rows, features, *rates = TABLE[name, protected]
    assert made.x.shape == (rows, features) and len(made.features) == features
    found = (made.y.mean(), made.a.mean(), made.y[~made.a].mean(), made.y[made.a].mean())
    np.testing.assert_allclose(found, rates, atol=5.01e-4)
    assert (made.name, made.protected) == (name, protected)
    assert protected in made.features
    if name != "bank_full":  # it contains the age in years
        np.testing.assert_array_equal(made.x[:, made.features.index(protected)], made.a)


@pytest.mark.parametrize("name", ["adult", "compas", "bank", "german"])
def test_benchmarks_equal_aif360s_own(name, monkeypatch, benchmarks):
    made = benchmarks[name]
    from aif360 import datasets

    folder, read_csv = raw(name), pd.read_csv

    def read(path, **arguments):
        frame = read_csv(folder / name / Path(path).name, **arguments)
        return frame.astype({column: object for column in frame.select_dtypes(exclude="number")})

    monkeypatch.setattr(pd, "read_csv", read)
    options = {"bank": {"privileged_classes": [lambda age: age >= 25]}}
    own = getattr(datasets, f"{name.capitalize()}Dataset")(**options.get(name, {}))
    np.testing.assert_array_equal(made.x, own.features.astype(np.float32))
    assert made.features == tuple(own.feature_names)
    np.testing.assert_array_equal(made.y, own.labels.ravel() == 1)
    group = own.protected_attributes[:, own.protected_attribute_names.index(made.protected)]
    np.testing.assert_array_equal(made.a, group == 1)


@pytest.mark.parametrize(("name", "rows", "parity"), [("adult", 39182, 0.3862), ("compas", 5404, 1.2318)])
def test_duplicates_are_rows_that_are_equal_once_prepared(name, rows, parity, benchmarks):
    every, made = benchmarks[name], load(name, duplicates="drop")
    distinct = {row.tobytes() for row in np.column_stack([every.x, every.y])}
    kept = [row.tobytes() for row in np.column_stack([made.x, made.y])]
    assert len(kept) == len(set(kept)) == rows and set(kept) == distinct
    assert made.y[~made.a].mean() / made.y[made.a].mean() == pytest.approx(parity, abs=1e-4)
    with pytest.raises(ValueError, match="duplicates must be 'keep' or 'drop', found 'all'"):
        DATASETS[name](duplicates="all")


def test_duplicates_differ_in_attributes_that_are_named():
    frame = pd.DataFrame({"age": [30, 30, 30, 30], "race": ["Black", "Other", "White", "Black"]}, index=[4, 5, 7, 9])
    labels = pd.Series([0, 0, 0, 1], index=frame.index)
    assert without_duplicates(frame, labels, {"race": ["White"]}, "drop").index.tolist() == [4, 7, 9]
    assert without_duplicates(frame, labels, {}, "drop").index.tolist() == [4, 5, 7, 9]
    assert without_duplicates(frame, labels, {"race": ["White"]}, "keep") is frame


def test_compas_counts_recidivism_as_positive(benchmarks):
    made = benchmarks["compas"]
    file = raw("compas") / FILES["compas-scores-two-years.csv"].path
    frame = pd.read_csv(file, usecols=["two_year_recid", "priors_count"])
    # recidivism increases with the number of priors, both in the file and in the data set
    assert frame["two_year_recid"].corr(frame["priors_count"]) > 0.2
    assert np.corrcoef(made.y, made.x[:, made.features.index("priors_count")])[0, 1] > 0.2


def test_bank_full_drops_nothing(benchmarks):
    made = benchmarks["bank_full"]
    assert made.y.sum() == 5289
    assert "job=unknown" in made.features and "poutcome=unknown" in made.features
    age = made.x[:, made.features.index("age")]
    np.testing.assert_array_equal(made.a, age >= 25)
    words = [column for column, feature in enumerate(made.features) if "=" in feature]
    np.testing.assert_array_equal(made.x[:, words].sum(axis=1), 9)


def test_the_variable_leads_to_the_files(monkeypatch):
    monkeypatch.setenv("FAIRJAX_DATA", str(raw("bank_full")))
    assert datasets.bank_full().x.shape == (45211, 51)


def test_german_refuses_another_attribute():
    with pytest.raises(ValueError, match="protected must be 'sex' or 'age', found 'race'"):
        datasets.german("nowhere", "race")


def test_adult_wants_a_folder(tmp_path):
    (tmp_path / "adult.data").write_text("")
    with pytest.raises(DataError, match="adult has two files, adult.data and adult.test: pass their folder, found"):
        datasets.adult(tmp_path / "adult.data")


def test_a_truncated_file_is_caught(tmp_path):
    whole = (raw("german") / FILES["german.data"].path).read_bytes()
    (tmp_path / "german.data").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=f"expected {FILES['german.data'].sha256}: it is damaged or another version"):
        datasets.german(tmp_path / "german.data")


def test_a_changed_copy_is_taken_on_demand(tmp_path):
    pytest.importorskip("aif360")
    lines = (raw("german") / FILES["german.data"].path).read_text().splitlines()
    (tmp_path / "german.data").write_text("\n".join(lines[:500]))
    assert datasets.german(tmp_path, verify=False).x.shape[0] == 500


def test_changed_columns_are_named(tmp_path):
    (tmp_path / "bank-full.csv").write_text("age;job;years\n30;services;3\n")
    with pytest.raises(DataError, match=r"lacks the columns marital, education, .*, y \(found age, job, years\): "):
        datasets.bank_full(tmp_path, verify=False)
    (tmp_path / "compas-scores-two-years.csv").write_text("id,sex,age\n1,Male,30\n")
    with pytest.raises(DataError, match="lacks the columns age_cat, race, .*, is_recid, score_text"):
        datasets.compas(tmp_path, verify=False)
    (tmp_path / "german.data").write_text("A11 6 A34 1\n")
    with pytest.raises(DataError, match=r"german.data has 4 columns, expected 21 \(status, month, "):
        datasets.german(tmp_path, verify=False)


def test_aif360_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "aif360.datasets", None)
    row = " ".join(["1"] * len(GERMAN_COLUMNS))
    (tmp_path / "german.data").write_text(row)
    with pytest.raises(ModuleNotFoundError, match="german is prepared by AIF360: install it with `pip install aif360`"):
        datasets.german(tmp_path, verify=False)


def test_all_groups_of_adult(benchmarks):
    plain, sex = benchmarks["adult"], load("adult", protected="sex")
    np.testing.assert_array_equal(plain.a, sex.a)
    np.testing.assert_array_equal(plain.x, sex.x)
    assert sex.group_names == ("Female", "Male") and sex.measure("spd") is metrics.spd
    both = load("adult", protected=("race", "sex"))
    assert both.num_groups == 10 and both.group_names[-1] == "White, Male" and both.protected == "race and sex"
    frame = pd.crosstab(both.a, plain.a)
    names = [name.endswith(", Male") for name in both.group_names]
    assert ((frame[True] > 0) == names).all()
    assert dict(zip(both.group_names, both.groups.counts, strict=True))["Other, Female"] == 126
    jobs = benchmarks["adult_occupation"]
    assert jobs.class_names == tuple(ADULT_OCCUPATIONS) and jobs.x.shape == (45222, 84)
    assert not any("occupation" in feature or "income" in feature for feature in jobs.features)
    assert np.bincount(jobs.y).sum() == 45222 and jobs.group_names == ("Female", "Male")


def test_all_groups_of_compas(benchmarks):
    plain, race = benchmarks["compas"], load("compas", protected="race")
    np.testing.assert_array_equal(plain.x, race.x)
    np.testing.assert_array_equal(race.a == race.num_groups - 1, plain.a)
    assert set(race.groups.left_out) == {"Asian", "Native American"} and race.groups.counts.sum() == 6167
    six = load("compas", protected="race", minimum=1)
    assert six.num_groups == 6 and six.groups.blocks is None
    side = load("compas", protected=("race", "sex"), intersect=False)
    assert side.a.shape == (6167, 8) and (side.a.sum(axis=1) == 2).all()
    scores = benchmarks["compas_score_text"]
    assert scores.class_names == ("Low", "Medium", "High")
    assert not any("score" in feature or "recid" in feature for feature in scores.features)
    # people whom COMPAS rates as high risk reoffend more often
    rates = [plain.y[scores.y == k].mean() for k in range(3)]
    assert rates[0] < rates[1] < rates[2]
