"""The cohort of MIMIC-III, tested on small generated tables with the real schema and on the open demo."""

import datetime
import gzip
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fairjax import datasets
from fairjax.datasets import DataError
from fairjax.datasets.mimic import NORMAL

pytest.importorskip("duckdb", reason="DuckDB is not installed")

DEMO = Path(os.environ.get("FAIRJAX_DATA", "nowhere")) / "mimic-iii-demo"
ADMITTED = pd.Timestamp("2150-03-01 10:00:00")
SCHEMA = {
    "PATIENTS": "row_id subject_id gender dob dod dod_hosp dod_ssn expire_flag",
    "ADMISSIONS": "row_id subject_id hadm_id admittime dischtime deathtime admission_type admission_location "
    "discharge_location insurance language religion marital_status ethnicity edregtime edouttime diagnosis "
    "hospital_expire_flag has_chartevents_data",
    "ICUSTAYS": "row_id subject_id hadm_id icustay_id dbsource first_careunit last_careunit first_wardid last_wardid "
    "intime outtime los",
    "SERVICES": "row_id subject_id hadm_id transfertime prev_service curr_service",
    "DIAGNOSES_ICD": "row_id subject_id hadm_id seq_num icd9_code",
    "CHARTEVENTS": "row_id subject_id hadm_id icustay_id itemid charttime storetime cgid value valuenum valueuom "
    "warning "
    "error resultstatus stopped",
    "LABEVENTS": "row_id subject_id hadm_id itemid charttime value valuenum valueuom flag",
    "OUTPUTEVENTS": "row_id subject_id hadm_id icustay_id charttime itemid value valueuom storetime cgid stopped "
    "newbottle "
    "iserror",
}


class Tables:
    """Rows of the eight tables; a patient's admission is `100 + patient`, and a second admission is `200 + patient`."""

    def __init__(self):
        self.rows = {name: [] for name in SCHEMA}

    def add(self, table, **values):
        self.rows[table].append(values)
        return self

    def patient(self, number, *, years=60.0, second=False, **values):
        born = ADMITTED.to_pydatetime() - datetime.timedelta(days=years * 365.242)
        if not second:
            self.add("PATIENTS", subject_id=number, gender=values.pop("gender", "F"), dob=born)
        admission = {"admission_type": "EMERGENCY", "insurance": "Private", "hospital_expire_flag": 0}
        offset = pd.Timedelta(days=400) if second else pd.Timedelta(0)
        number_of = (200 if second else 100) + number
        self.add(
            "ADMISSIONS", subject_id=number, hadm_id=number_of, admittime=ADMITTED + offset, **(admission | values)
        )
        return self

    def chart(self, patient, item, number, *, hour=0, words=None, **values):
        at = ADMITTED + pd.Timedelta(hours=hour)
        words = number if words is None else words
        row = {"hadm_id": 100 + patient, "itemid": item, "charttime": at, "value": words, "valuenum": number}
        return self.add("CHARTEVENTS", **(row | values))

    def lab(self, patient, item, number, *, hour=0):
        at = ADMITTED + pd.Timedelta(hours=hour)
        return self.add("LABEVENTS", hadm_id=100 + patient, itemid=item, charttime=at, value=number, valuenum=number)

    def urine(self, patient, item, ml, *, hour=0, **values):
        at = ADMITTED + pd.Timedelta(hours=hour)
        return self.add("OUTPUTEVENTS", hadm_id=100 + patient, itemid=item, charttime=at, value=ml, **values)

    def write(self, folder, *, upper=True, compressed=("CHARTEVENTS",), shuffle=None):
        folder.mkdir(parents=True, exist_ok=True)
        for table, columns in SCHEMA.items():
            rows = pd.DataFrame(self.rows[table], columns=columns.split()).astype(object)
            if rows.empty:  # a table contains rows, but none of the cohort
                rows.loc[0, "hadm_id"] = None
            rows["row_id"] = np.arange(len(rows))
            if shuffle is not None:
                rows = rows.sample(frac=1.0, random_state=shuffle)
            rows.columns = [name.upper() if upper else name for name in rows.columns]
            name = f"{table if upper else table.lower()}.csv{'.gz' if table in compressed else ''}"
            rows.to_csv(folder / name, index=False)
        return folder


def base():
    """Return two patients of each insurance and outcome, so that a data set can be made with any additional patient."""
    return (
        Tables()
        .patient(1, insurance="Medicare", hospital_expire_flag=1)
        .patient(2, insurance="Private")
        .patient(3, insurance="Medicaid")
        .patient(4, insurance="Self Pay", hospital_expire_flag=1)
    )


def load(tables, tmp_path, **options):
    folder = tables.write(tmp_path / "raw", **options)
    found = datasets.mimic(folder)
    return pd.DataFrame(found.x, columns=list(found.features)), found


def test_the_cohort_is_the_first_admission_of_each_adult(tmp_path):
    tables = base().patient(5, years=14.99).patient(6, years=15.2).patient(7, years=300.0)
    tables.patient(1, second=True, insurance="Private", hospital_expire_flag=0)
    frame, found = load(tables, tmp_path)
    assert len(frame) == 6  # without the child and the second admission
    assert found.y.tolist() == [True, False, False, True, False, False]
    assert found.a.tolist() == [True, False, True, False, False, False]
    np.testing.assert_allclose(frame["age"], [60, 60, 60, 60, 15.2, 91.4], atol=0.01)
    assert found.protected == "insurance" and not any("insurance" in name for name in found.features)


def test_the_features_are_17_variables_and_admission_data(tmp_path):
    frame, _ = load(base(), tmp_path)
    variables = [name for name in frame if "=" not in name]
    assert len(variables) == 16 and {name.split("=")[0] for name in frame if "=" in name} == {
        "sex", "kind", "admission_type", "admission_location", "first_careunit", "marital_status", "ethnicity",
    }  # fmt: skip


MEANS = [
    ("heart_rate", [(211, 80.0), (220045, 100.0), (211, 90.0)], 90.0),
    ("heart_rate", [(211, 80.0), (211, 0.0), (211, 301.0)], 80.0),  # implausible values
    ("systolic_blood_pressure", [(51, 100.0), (442, 110.0), (455, 120.0), (6701, 130.0)], 115.0),
    ("systolic_blood_pressure", [(220179, 100.0), (220050, 140.0)], 120.0),
    ("temperature", [(678, 98.6), (676, 38.0)], 37.5),
    ("temperature", [(223761, 104.0), (223762, 39.0)], 39.5),
    ("temperature", [(223762, 37.0), (223762, 98.6)], 37.0),  # Fahrenheit recorded under a Celsius item
    ("glasgow_coma_scale", [(198, 12.0), (198, 14.0)], 13.0),
]


@pytest.mark.parametrize(("name", "events", "expected"), MEANS)
def test_charted_variables_are_means_of_plausible_values(tmp_path, name, events, expected):
    tables = base()
    for hour, (item, number) in enumerate(events):
        tables.chart(2, item, number, hour=hour)
    frame, _ = load(tables, tmp_path)
    assert frame[name][1] == pytest.approx(expected, rel=1e-5)
    assert frame[name][0] == pytest.approx(NORMAL[name])  # never measured


LABS = [
    ("urea_nitrogen", (51006,), 20.0, 0.0),
    ("white_blood_cells", (51300, 51301), 9.0, 2000.0),
    ("potassium", (50971, 50822), 4.5, 20.0),
    ("sodium", (50983, 50824), 139.0, 10.0),
    ("bicarbonate", (50882,), 24.0, 90.0),
    ("bilirubin", (50885,), 1.5, 500.0),
]


@pytest.mark.parametrize(("name", "items", "number", "impossible"), LABS)
def test_laboratory_variables_are_means_of_plausible_values(tmp_path, name, items, number, impossible):
    tables = base()
    for hour, item in enumerate(items):
        tables.lab(3, item, number + 0.2 * hour, hour=hour).lab(3, item, impossible, hour=10 + hour)
    frame, _ = load(tables, tmp_path)
    assert frame[name][2] == pytest.approx(number + 0.1 * (len(items) - 1), rel=1e-5)
    assert frame[name][1] == pytest.approx(NORMAL[name])


def test_errors_and_repeated_events_do_not_count(tmp_path):
    tables = base().chart(1, 211, 60.0).chart(1, 211, 60.0).chart(1, 211, 90.0, hour=1).chart(1, 211, 200.0, error=1)
    tables.lab(1, 50983, 130.0).lab(1, 50983, 130.0).lab(1, 50983, 140.0, hour=1)
    tables.chart(1, 211, 99.0, hour=2, hadm_id=999)  # an admission of another patient
    frame, _ = load(tables, tmp_path)
    assert frame["heart_rate"][0] == pytest.approx(75.0) and frame["sodium"][0] == pytest.approx(135.0)


def test_the_coma_scale_is_summed_at_each_time(tmp_path):
    tables = base()
    for item, number in ((220739, 3.0), (223901, 5.0), (223900, 4.0)):
        tables.chart(1, item, number)  # 12
    for item, number in ((184, 4.0), (454, 6.0)):
        tables.chart(1, item, number, hour=1)  # the verbal response is missing, so the time is ignored
    tables.chart(1, 198, 8.0, hour=2)
    for item, number, words in ((184, 1.0, None), (454, 1.0, None), (723, 1.0, "1.0 ET/Trach")):
        tables.chart(1, item, number, hour=3, words=words)  # intubated: 15
    tables.chart(2, 223900, 1.0, words="No Response-ETT").chart(2, 220739, 1.0)
    frame, _ = load(tables, tmp_path)
    assert frame["glasgow_coma_scale"][0] == pytest.approx((12 + 8 + 15) / 3)
    assert frame["glasgow_coma_scale"][1] == pytest.approx(15.0)


def test_oxygenation_takes_fractions_and_percents_of_all_sources(tmp_path):
    tables = base()
    tables.lab(1, 50821, 90.0).lab(1, 50821, 110.0, hour=1).lab(1, 50816, 40.0)
    tables.chart(1, 3420, 50.0).chart(1, 190, 0.6).chart(1, 223835, 50.0, hour=1)
    tables.lab(2, 50821, 100.0)  # no FiO2
    tables.lab(3, 50821, 80.0).lab(3, 50816, 0.4)
    frame, _ = load(tables, tmp_path)
    assert frame["pao2_fio2"][0] == pytest.approx(100 * 100 / 50)
    assert frame["pao2_fio2"][1] == NORMAL["pao2_fio2"]
    assert frame["pao2_fio2"][2] == pytest.approx(200.0)


def test_urine_output_is_per_day_in_intensive_care(tmp_path):
    tables = base()
    for number, days in ((1, 0.5), (1, 1.5), (2, 0.001), (3, 1.0)):
        tables.add("ICUSTAYS", hadm_id=100 + number, intime=ADMITTED, los=days, first_careunit="MICU")
    tables.urine(1, 40055, 1000.0).urine(1, 226559, 1500.0, hour=1).urine(1, 227488, 500.0, hour=2)
    tables.urine(1, 40055, 99.0, hour=3, iserror=1).urine(1, 40055, 99999.0, hour=4)
    tables.urine(2, 43175, 50.0)
    frame, _ = load(tables, tmp_path)
    assert frame["urine_output"][0] == pytest.approx(2000 / 2)
    assert frame["urine_output"][1] == pytest.approx(50 * 24)  # at least one hour
    assert frame["urine_output"][2] == frame["urine_output"][3] == NORMAL["urine_output"]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("042", "aids"), ("0449", "aids"), ("20510", "haematologic_malignancy"), ("2733", "haematologic_malignancy"),
        ("20280", "haematologic_malignancy"), ("1970", "metastatic_cancer"), ("1991", "metastatic_cancer"),
        ("1950", None), ("4280", None), ("1992", None), ("209", None),
    ],
)  # fmt: skip
def test_chronic_diseases_follow_icd_9(tmp_path, code, name):
    frame, _ = load(base().add("DIAGNOSES_ICD", hadm_id=102, seq_num=1, icd9_code=code), tmp_path)
    names = ["aids", "haematologic_malignancy", "metastatic_cancer"]
    assert frame[names].sum().sum() == (name is not None)
    assert name is None or frame[name][1] == 1


@pytest.mark.parametrize(
    ("services", "admitted", "kind"),
    [
        (["CSURG"], "ELECTIVE", "scheduled surgical"),
        (["ORTHO"], "URGENT", "unscheduled surgical"),
        (["MED", "SURG"], "ELECTIVE", "medical"),
        ([], "ELECTIVE", "medical"),
        (["TSURG", "MED"], "EMERGENCY", "unscheduled surgical"),
    ],
)
def test_the_kind_of_admission_follows_the_first_service(tmp_path, services, admitted, kind):
    tables = base().patient(5, admission_type=admitted)
    for hour, service in reversed(list(enumerate(services))):
        since = ADMITTED + pd.Timedelta(hours=hour)
        tables.add("SERVICES", hadm_id=105, transfertime=since, curr_service=service)
    frame, _ = load(tables, tmp_path)
    kinds = {name: frame[name][4] for name in frame if name.startswith("kind=")}
    assert {name for name, flag in kinds.items() if flag} == {f"kind={kind}"}


def test_categories_are_the_same_for_every_copy(tmp_path):
    tables = base().patient(
        5, ethnicity="WHITE - RUSSIAN", marital_status="MARRIED", admission_type="NEWBORN", gender="M"
    )
    for hour, unit in ((5, "CCU"), (1, "TSICU")):
        since = ADMITTED + pd.Timedelta(hours=hour)
        tables.add("ICUSTAYS", hadm_id=105, intime=since, los=1.0, first_careunit=unit)
    frame, _ = load(tables, tmp_path)
    flags = {name for name in frame if "=" in name and frame[name][4]}
    assert flags == {
        "sex=male", "kind=medical", "admission_type=OTHER", "admission_location=OTHER", "first_careunit=TSICU",
        "marital_status=MARRIED", "ethnicity=WHITE",
    }  # fmt: skip
    assert list(frame.columns) == list(load(base(), tmp_path / "other")[0].columns)


def rich():
    tables = base()
    rng = np.random.default_rng(0)
    for patient in range(1, 5):
        for hour in range(30):
            tables.chart(patient, 211, float(rng.integers(50, 120)), hour=hour)
            tables.lab(patient, 50971, float(rng.uniform(3, 6)), hour=hour)
    return tables


def test_neither_order_nor_letter_case_nor_compression_matters(tmp_path):
    one, _ = load(rich(), tmp_path / "a")
    for name, options in {
        "b": {"shuffle": 1},
        "c": {"upper": False, "compressed": ()},
        "d": {"compressed": tuple(SCHEMA)},
    }.items():
        other, _ = load(rich(), tmp_path / name, **options)
        pd.testing.assert_frame_equal(one, other, rtol=1e-6)


@pytest.mark.parametrize("table", ["CHARTEVENTS", "LABEVENTS"])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_table_that_is_cut_off_is_refused(tmp_path, table, compressed):
    folder = rich().write(tmp_path / "raw", compressed=(table,) if compressed else ())
    file = folder / f"{table}.csv{'.gz' if compressed else ''}"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(DataError, match=f"{file.name} is cut off or damaged.*download it again from PhysioNet"):
        datasets.mimic(folder)


def test_a_cut_within_a_compressed_line_is_seen_by_the_number_of_fields(tmp_path):
    folder = rich().write(tmp_path / "raw")
    text = gzip.decompress((folder / "CHARTEVENTS.csv.gz").read_bytes())
    (folder / "CHARTEVENTS.csv.gz").write_bytes(gzip.compress(text[: len(text) - 30] + b"\n"))
    with pytest.raises(DataError, match="CHARTEVENTS.csv.gz cannot be read"):
        datasets.mimic(folder)


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    folder = base().write(tmp_path / "raw")
    (folder / "LABEVENTS.csv").rename(tmp_path / "LABEVENTS.csv")
    (folder / "SERVICES.csv").unlink()
    with pytest.raises(FileNotFoundError, match="lacks the tables SERVICES, LABEVENTS"):
        datasets.mimic(folder)
    folder = base().write(tmp_path / "raw")
    (folder / "LABEVENTS.csv").write_text("ROW_ID,HADM_ID,ITEMID,CHARTTIME\n")
    with pytest.raises(DataError, match="LABEVENTS.csv lacks the columns valuenum"):
        datasets.mimic(folder)
    monkeypatch.setenv("FAIRJAX_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(FileNotFoundError, match="credentialed"):
        datasets.mimic()
    shutil.copytree(base().write(tmp_path / "good"), tmp_path / "mimic-iii")
    assert len(datasets.mimic().y) == 4


def test_a_patient_without_a_date_of_birth_is_an_error(tmp_path):
    tables = base()
    tables.rows["PATIENTS"][1]["dob"] = None
    with pytest.raises(DataError, match="1 patients have no age"):
        load(tables, tmp_path)


def test_no_adult_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no first admission of an adult"):
        load(Tables().patient(1, years=10.0), tmp_path)


@pytest.mark.skipif(not DEMO.is_dir(), reason="FAIRJAX_DATA has no mimic-iii-demo")
def test_the_open_demo():
    found = datasets.mimic(DEMO)
    frame = pd.DataFrame(found.x, columns=list(found.features))
    admissions = pd.read_csv(DEMO / "ADMISSIONS.csv", parse_dates=["admittime"])
    patients = pd.read_csv(DEMO / "PATIENTS.csv", parse_dates=["dob"])
    first = (
        admissions.sort_values(["subject_id", "admittime"])
        .groupby("subject_id")
        .head(1)
        .merge(patients, on="subject_id")
    )
    assert len(patients) == 100 and len(admissions) == 129 and len(frame) == 100
    assert found.y.sum() == first["hospital_expire_flag"].sum() == 33
    assert found.a.tolist() == first["insurance"].isin(["Medicare", "Medicaid"]).tolist()
    events = pd.read_csv(
        DEMO / "CHARTEVENTS.csv.gz",
        low_memory=False,
        usecols=["hadm_id", "itemid", "charttime", "value", "valuenum", "error"],
    )
    rates = events[events["itemid"].isin([211, 220045]) & (events["error"] != 1) & events["valuenum"].between(10, 300)]
    means = rates.drop_duplicates().groupby("hadm_id")["valuenum"].mean()
    expected = first["hadm_id"].map(means).fillna(NORMAL["heart_rate"])
    np.testing.assert_allclose(frame["heart_rate"], expected, rtol=1e-5)
    labs = pd.read_csv(DEMO / "LABEVENTS.csv", usecols=["hadm_id", "itemid", "charttime", "valuenum"])
    sodium = labs[labs["itemid"].isin([50983, 50824]) & labs["valuenum"].between(95, 178)].drop_duplicates()
    expected = first["hadm_id"].map(sodium.groupby("hadm_id")["valuenum"].mean()).fillna(NORMAL["sodium"])
    np.testing.assert_allclose(frame["sodium"], expected, rtol=1e-5)


def test_a_header_cannot_inject_sql_and_an_index_column_does_not_count(tmp_path):
    folder = base().write(tmp_path / "raw")
    text = (folder / "PATIENTS.csv").read_text()
    (folder / "PATIENTS.csv").write_text(text.replace("ROW_ID", "x': 'VARCHAR'}); DROP TABLE a; --"))
    assert len(datasets.mimic(folder).y) == 4
    (folder / "PATIENTS.csv").write_text(text.replace("ROW_ID", ""))
    assert len(datasets.mimic(folder).y) == 4


@pytest.mark.parametrize("name", ["a*", "a?", "[ab]", "it's"])
def test_a_folder_whose_name_is_a_pattern_is_read_alone(tmp_path, name):
    base().patient(5).write(tmp_path / "ab")
    assert len(datasets.mimic(base().write(tmp_path / name)).y) == 4


def test_a_table_without_rows_or_with_another_checksum_is_refused(tmp_path):
    folder = base().write(tmp_path / "raw")
    (folder / "SHA256SUMS.txt").write_text(f"{'0' * 64}  LABEVENTS.csv\n")
    with pytest.raises(DataError, match="LABEVENTS.csv is cut off or damaged .its sha256 checksum"):
        datasets.mimic(folder)
    assert len(datasets.mimic(folder, verify=False).y) == 4
    (folder / "LABEVENTS.csv").write_text("ROW_ID,HADM_ID,ITEMID,CHARTTIME,VALUENUM\n")
    with pytest.raises(DataError, match="LABEVENTS.csv .*has no rows after line 1"):
        datasets.mimic(folder, verify=False)


def test_the_case_of_insurance_does_not_matter_and_unknown_ones_are_refused(tmp_path):
    _, found = load(base().patient(5, insurance="MEDICARE "), tmp_path)
    assert found.a.tolist() == [True, False, True, False, True]
    with pytest.raises(DataError, match="ADMISSIONS.csv, column insurance, has the value 'medicair'"):
        load(base().patient(5, insurance="Medicair"), tmp_path)


@pytest.mark.parametrize(("table", "key"), [("PATIENTS", "subject_id"), ("ADMISSIONS", "hadm_id")])
def test_a_table_cut_at_the_end_of_a_line_is_refused(table, key, tmp_path):
    if not DEMO.is_dir():
        pytest.skip("FAIRJAX_DATA has no mimic-iii-demo")
    for file in DEMO.iterdir():
        if file.name.startswith(table):
            lines = file.read_text().splitlines(keepends=True)
            (tmp_path / file.name).write_text("".join(lines[: len(lines) // 2]))
        elif file.name != "SHA256SUMS.txt":
            (tmp_path / file.name).symlink_to(file)
    with pytest.raises(DataError, match=rf"{table}.csv lacks the {key} of \d+ rows of .*: it is cut off"):
        datasets.mimic(tmp_path)
