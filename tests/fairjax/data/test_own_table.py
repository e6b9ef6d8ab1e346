"""A user's own table: labels, groups, features, warnings, bad input, and splits by persons."""

import duckdb
import jax
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairjax.data import split_seeds
from fairjax.data.encoder import TableEncoder, fit_encoder
from fairjax.data.own_table import TableColumns, own_table, read_table


@pytest.fixture(scope="module")
def loans():
    random, n = np.random.default_rng(0), 400
    sex = random.choice(["female", "male"], n)
    return pd.DataFrame(
        {
            "customer": random.integers(0, 150, n), "sex": sex, "age": random.integers(18, 80, n),
            "job": random.choice(["cook", "clerk", "nurse"], n), "income": random.normal(30000, 9000, n).round(2),
            "weight": random.integers(1, 4, n), "repaid": np.where(random.random(n) < 0.5, "yes", "no"),
        }
    )  # fmt: skip


BASE = {"label": "repaid", "positive": "yes", "protected": ("sex",), "privileged": "male"}
COLUMNS = TableColumns(**BASE)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_a_file_becomes_the_data_set_of_its_frame(loans, tmp_path, suffix):
    path = tmp_path / f"loans{suffix}"
    if suffix == ".parquet":
        duckdb.from_df(loans).write_parquet(str(path))
    else:
        loans.to_csv(path, index=False)
    for source in (path, loans):
        dataset = own_table(source, TableColumns(**BASE, drop=("customer",))).dataset
        assert dataset.features == ("age", "job=clerk", "job=cook", "job=nurse", "income", "weight")
        np.testing.assert_array_equal(dataset.y, loans["repaid"] == "yes")
        np.testing.assert_array_equal(dataset.a, loans["sex"] == "male")
        np.testing.assert_allclose(dataset.x[:, 4], loans["income"], rtol=1e-6)
        np.testing.assert_array_equal(dataset.x[:, 2], loans["job"] == "cook")


def test_weights_persons_and_protected_features_are_what_was_named(loans):
    columns = TableColumns(**BASE, weight="weight", split_by="customer", use_protected=True)
    table = own_table(loans, columns)
    np.testing.assert_array_equal(table.dataset.weights, loans["weight"])
    np.testing.assert_array_equal(table.identities, pd.factorize(loans["customer"])[0])
    assert table.dataset.features == ("sex=male", "age", "job=clerk", "job=cook", "job=nurse", "income")


def test_conditions_name_labels_and_groups_and_edges_make_ranges(loans):
    dataset = own_table(loans, TableColumns(label="income>30000", protected=("age>=25",))).dataset
    np.testing.assert_array_equal(dataset.y, loans["income"] > 30000)
    np.testing.assert_array_equal(dataset.a, loans["age"] >= 25)
    assert "income" not in dataset.features and "age" not in dataset.features
    many = own_table(loans, TableColumns(label="repaid", positive="yes", protected=("sex", "age:30,60"))).dataset
    assert many.group_names[:3] == ("female, under 30", "female, 30 to 60", "female, 60 and over")
    np.testing.assert_array_equal(many.a == 2, (loans["sex"] == "female") & (loans["age"] >= 60))


@pytest.mark.parametrize("rows", ["same", "fewer"])
def test_missing_values_are_filled_in_and_indicated_as_in_training(loans, rows):
    frame = loans.astype({"income": object})
    frame.loc[:9, "income"], frame.loc[5:14, "job"] = "NA", None
    with pytest.raises(
        ValueError, match="has no value in 10 of 400 rows, the first of them row [05].*--missing indicate"
    ):
        own_table(frame, COLUMNS)
    table = own_table(frame, COLUMNS, missing="indicate")
    x, names = table.dataset.x, list(table.dataset.features)
    income = pd.to_numeric(frame["income"], errors="coerce")
    np.testing.assert_allclose(x[:, names.index("income")], income.fillna(income.median()), rtol=1e-6)
    np.testing.assert_array_equal(x[:, names.index("income is missing")], income.isna())
    np.testing.assert_array_equal(x[:, names.index("job=(missing)")], frame["job"].isna())
    new = frame if rows == "same" else frame[7:9].reset_index(drop=True)
    expected = x if rows == "same" else x[7:9]
    np.testing.assert_array_equal(TableEncoder.from_plain(table.encoder.to_plain()).encode(new), expected)


def test_suspicious_columns_are_named(loans):
    n = len(loans)
    frame = loans.assign(
        number=np.arange(n), opened="2020-01-01", seen=[f"2021-0{i % 9 + 1}-11" for i in range(n)],
        code=[f"c{i}" for i in range(n)], again=np.where(loans["repaid"] == "yes", 1, 0), gender=loans["sex"].str[0],
    )  # fmt: skip
    table = own_table(frame, COLUMNS)
    text = "\n".join(table.warnings)
    for words in (
        "number identifies the rows", "opened is the same in all rows", "seen holds dates", "code identifies the rows",
        "again tells the label repaid in 100.0%", "gender tells the protected sex in 100.0%",
    ):  # fmt: skip
        assert words in text
    assert not set(table.dataset.features) & {"number", "opened"}
    assert len(table.warnings) == 6  # and nothing is said about the other columns


BAD = {
    "label": ({"label": "repayed"}, "no column 'repayed': did you mean repaid"),
    "no positive": ({"positive": None}, "repaid has the values 'no', 'yes': say which is positive with --positive"),
    "absent positive": ({"positive": "y"}, "positive value 'y' does not occur in repaid"),
    "absent privileged": (
        {"privileged": "men"},
        "privileged value 'men' does not occur in sex: found 'female', 'male'",
    ),
    "privileged of two": ({"protected": ("sex", "job")}, "--privileged is for one protected attribute"),
    "edges": ({"protected": ("job:25",), "privileged": None}, "job must hold numbers, since it has edges, found"),
    "drop": ({"drop": ("jobs",)}, "no column 'jobs': did you mean job"),
    "weight": ({"weight": "job"}, "job must be a number in every row, found"),
    "two conditions": ({"protected": ("age>25", "sex")}, "is the one protected attribute"),
    "spellings": (
        {"label": "spelled", "positive": "yes"},
        "spelled has the values 'No' and 'no', which differ only in capitals",
    ),
    "spellings of groups": (
        {"protected": ("spelled",), "privileged": "yes"},
        "spelled has the values 'No' and 'no', which differ only in capitals",
    ),
    "spellings of a condition": (
        {"label": "spelled=yes", "positive": None},
        "spelled has the values 'No' and 'no', which differ only in capitals",
    ),
    "positive of a condition": ({"label": "income>30000"}, "is a condition, .*: leave --positive yes out"),
    "person without a value": (
        {"split_by": "owner"},
        "owner has no value in 2 of 400 rows, the first of them row 3: leave these rows out",
    ),
    "nothing left": ({"drop": ("customer", "age", "job", "income", "weight")}, "no column left to be a feature"),
}


NEEDS_MORE = ("spellings", "spellings of groups", "spellings of a condition", "person without a value")


@pytest.mark.parametrize("name", BAD)
def test_bad_columns_are_explained_in_one_line(loans, name):
    options, message = BAD[name]
    owner = [None if row in (3, 9) else f"p{row // 2}" for row in range(len(loans))]
    spelled = ["No" if row == 7 else value for row, value in enumerate(loans["repaid"])]
    frame = loans.assign(spelled=spelled, owner=owner) if name in NEEDS_MORE else loans
    with pytest.raises(ValueError, match=message) as error:
        own_table(frame, TableColumns(**{**BASE, **options}))
    assert "\n" not in str(error.value)


def test_new_rows_that_do_not_fit_are_refused_or_mapped(loans):
    encoder = fit_encoder(loans, ["age", "job"])
    new = pd.DataFrame({"age": [30, 40], "job": ["cook", "pilot"]})
    with pytest.raises(ValueError, match="job is 'pilot' in row 1, which did not occur.*--unknown zeros"):
        encoder.encode(new)
    assert encoder.encode(new, unknown="zeros").tolist() == [[30, 0, 1, 0], [40, 0, 0, 0]]
    with pytest.raises(ValueError, match="no column 'job'"):
        encoder.encode(new[["age"]])
    with pytest.raises(ValueError, match="age must be a number, found 'old' in row 1"):
        encoder.encode(new.assign(age=["30", "old"], job="cook"))
    with pytest.raises(ValueError, match="age has no value in row 0"):
        encoder.encode(new.assign(age=[None, 4.0], job="cook"))


def test_codes_with_leading_zeros_are_categories(tmp_path):
    columns = {"zip": ["01", "02", "10"], "spaced": ["10", " 02", "3"], "n": ["0", "0.5", "-1e3"]}
    pd.DataFrame(columns).to_csv(tmp_path / "t.csv", index=False)
    frame = read_table(tmp_path / "t.csv").frame
    assert frame["spaced"].tolist() == ["10", " 02", "3"]
    assert frame["zip"].tolist() == ["01", "02", "10"] and frame["n"].tolist() == [0.0, 0.5, -1000.0]
    assert fit_encoder(frame, ["zip", "n"]).features == ("zip=01", "zip=02", "zip=10", "n")


@given(st.sampled_from([1, 5, 30]), st.integers(0, 2**32 - 1))
def test_rows_of_a_person_are_never_in_two_parts(most, seed):
    n, random = 300, np.random.default_rng(seed)
    sizes = [most] * 3 + [1, 2, 3, 4] * 100  # programs are compiled for the size of the largest person
    persons = random.permutation(np.repeat(np.arange(len(sizes)), np.minimum(sizes, most))[:n]).astype(np.int32)
    frame = pd.DataFrame({"x": random.normal(size=n), "y": random.integers(0, 2, n), "a": random.integers(0, 2, n)})
    dataset = own_table(frame, TableColumns(label="y", protected=("a",), privileged="1")).dataset
    splits = split_seeds(dataset, (1, 2), identities=persons)
    alone = split_seeds(dataset, (2,), identities=persons)
    assert np.bincount(persons).max() == most
    for i in range(2):
        parts = [np.asarray(getattr(splits, part)[i]) for part in ("train", "valid", "test")]
        people = [set(persons[rows]) for rows in parts]
        assert not people[0] & people[1] and not people[0] & people[2] and not people[1] & people[2]
        rows = np.concatenate(parts)
        assert len(set(rows)) == len(rows) == n - 2 * (most - 1)
        train = frame["x"].to_numpy()[parts[0]]
        np.testing.assert_allclose(splits.mean[i, 0], train.mean(), atol=1e-6)
    for one, many in zip(jax.tree.leaves(alone.train), jax.tree.leaves(splits.train[1:]), strict=True):
        np.testing.assert_array_equal(one, many)


def test_a_person_with_too_many_rows_and_stratified_persons_are_refused(loans):
    dataset = own_table(loans, COLUMNS).dataset
    with pytest.raises(ValueError, match="a person has 400 of 400 rows, too many"):
        split_seeds(dataset, (1,), identities=np.zeros(400, np.int32))
    with pytest.raises(ValueError, match="cannot be stratified"):
        split_seeds(dataset, (1,), identities=np.arange(400, dtype=np.int32), stratify="group and label")


@pytest.mark.parametrize(
    "age, message",
    [
        (["30", "05"], "age must be a number, found '05' in row 1, which is a code, not a number"),
        (["007", "30"], "age must be a number, found '007' in row 0, which is a code, not a number"),
        ([30.0, np.inf], "age must be a number, found 'inf' in row 1"),
    ],
)
def test_the_first_value_that_is_no_number_is_named(age, message):
    encoder = fit_encoder(pd.DataFrame({"age": [20, 30]}), ["age"])
    with pytest.raises(ValueError, match=message):
        encoder.encode(pd.DataFrame({"age": age}))


def test_columns_that_are_kept_are_not_converted(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,x\n12345678901234567,1\n12345678901234568,2\n")
    rows = read_table(path, ("id",))
    assert rows.kept["id"].tolist() == ["12345678901234567", "12345678901234568"]
    assert list(rows.frame.columns) == ["id", "x"] and rows.frame["x"].tolist() == [1, 2]


UNFIT = {
    "account number": (lambda i: 4_000_000_000 + (i * 7919**2) % 5_000_000_000, "column identifies the rows"),
    "time": (lambda i: 1_500_000_000 + 86_400 * (i // 2), "column holds dates, as seconds since 1970"),
    "time in ms": (lambda i: 1_500_000_000_000 + 86_400_000 * i, "column holds dates, as milliseconds since 1970"),
    "written date": (lambda i: 20_200_101 + 100 * (i % 12) + i % 28, "column holds dates, as yyyymmdd"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_identifiers_and_dates_that_are_whole_numbers_are_no_features(loans, kind):
    value_of, message = UNFIT[kind]
    table = own_table(loans.assign(column=[value_of(i) for i in range(len(loans))]), COLUMNS)
    assert "column" not in table.dataset.features
    assert table.warnings == (f"{message}{', since no value occurs twice' if 'rows' in message else ''}, so it is not "
                              "used as a feature",)  # fmt: skip


def test_different_whole_numbers_are_identifiers_if_their_name_says_so(loans):
    amounts = [137 * i**2 + 5 for i in range(len(loans))]
    table = own_table(loans.assign(amount=amounts, loan_id=amounts, accountId=amounts, paid=amounts), COLUMNS)
    assert {"amount", "paid"} < set(table.dataset.features)
    assert not {"loan_id", "accountId"} & set(table.dataset.features)
    doubt = "holds a whole number of its own in every row: if it identifies the rows, leave it out with --drop"
    unique = "identifies the rows, since no value occurs twice, so it is not used as a feature"
    assert sorted(table.warnings) == [
        f"accountId {unique}", f"amount {doubt} amount", f"loan_id {unique}", f"paid {doubt} paid"
    ]  # fmt: skip


def test_years_and_amounts_that_occur_twice_are_features_without_a_warning(loans):
    frame = loans.assign(year=1990 + np.arange(400) % 30, amount=10_000_000 + 1000 * (np.arange(400) % 300))
    table = own_table(frame, COLUMNS)
    assert {"year", "amount"} < set(table.dataset.features) and table.warnings == ()


def test_persons_of_many_digits_are_not_merged(loans, tmp_path):
    persons = 2**60 + np.arange(400) // 2
    loans.assign(person=persons).to_csv(tmp_path / "t.csv", index=False)
    for source in (loans.assign(person=persons), tmp_path / "t.csv"):
        table = own_table(source, TableColumns(**BASE, split_by="person"))
        np.testing.assert_array_equal(table.identities, np.arange(400) // 2)


def test_rows_of_files_are_named_by_file_and_line(loans, tmp_path):
    loans.to_csv(tmp_path / "1.csv", index=False)
    loans.assign(sex=[None, *loans["sex"][1:]], income=["low", *loans["income"][1:]]).to_csv(
        tmp_path / "2.csv", index=False
    )
    with pytest.raises(
        ValueError, match=r"sex has no value in 1 of 800 rows, the first of them line 2 of .*2\.csv: leave"
    ):
        own_table([tmp_path / "1.csv", tmp_path / "2.csv"], COLUMNS)
    rows = read_table(tmp_path / "2.csv")
    encoder = fit_encoder(loans, ["income"])
    with pytest.raises(ValueError, match=r"income must be a number, found 'low' in line 2 of .*2\.csv"):
        encoder.encode(rows.frame, place=rows.place)
    with pytest.raises(ValueError, match=r"2\.csv has no column 'incme': did you mean income"):
        own_table(tmp_path / "2.csv", TableColumns(label="incme", protected=("sex",)))


def test_a_boolean_column_is_read_alike_from_all_kinds_of_tables(loans, tmp_path):
    flags = loans["income"] > 30000
    frame = loans.assign(flag=flags, member=np.arange(400) % 3 == 0)
    frame.to_csv(tmp_path / "t.csv", index=False)
    duckdb.from_df(frame).write_parquet(str(tmp_path / "t.parquet"))
    for source in (frame, tmp_path / "t.csv", tmp_path / "t.parquet"):
        for options in ({"label": "flag", "positive": "True"}, {"label": "flag", "positive": None}):
            table = own_table(source, TableColumns(**{**BASE, **options}))
            np.testing.assert_array_equal(table.dataset.y, flags)
            x = table.dataset.x[:, [name.startswith("member") for name in table.dataset.features]]
            np.testing.assert_array_equal(x, frame[["member"]])
        table = own_table(source, TableColumns(**{**BASE, "protected": ("flag",), "privileged": "TRUE"}))
        np.testing.assert_array_equal(table.dataset.a, flags)


@pytest.mark.parametrize("saved", ["number", "category"])
def test_boolean_columns_fit_encodings_of_other_kinds_of_tables(saved):
    values = {"number": [], "category": ["False", "True"]}[saved]  # folders were saved with these spellings
    encoder = TableEncoder.from_plain([{"column": "flag", "kind": saved, "values": values, "median": None}])
    for flags in ([True, False], ["True", "False"], ["true", "false"], np.array([True, False], object)):
        assert encoder.encode(pd.DataFrame({"flag": flags})).tolist() == [[1.0], [0.0]]
    if saved == "number":
        with pytest.raises(ValueError, match="flag must be a number, found 'true' in row 0"):
            encoder.encode(pd.DataFrame({"flag": ["true", "3"]}))


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_words_for_missing_numbers_in_a_file_are_missing(loans, tmp_path, suffix):
    frame = loans.astype({"income": object})
    for row, word in enumerate(("NA", "n/a", "nan", None, " null ")):
        frame.loc[row, "income"] = word
    frame.to_csv(tmp_path / f"t{suffix}", index=False)
    rows = read_table(tmp_path / f"t{suffix}")
    assert rows.frame["income"].isna().tolist() == [row < 5 for row in range(400)]
    table = own_table(tmp_path / f"t{suffix}", COLUMNS, missing="indicate")
    column = table.dataset.features.index("income is missing")
    np.testing.assert_array_equal(table.dataset.x[:, column], np.arange(400) < 5)
