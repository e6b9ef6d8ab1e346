"""MIMIC-III: predict death in hospital. The cohort of the first paper is built from a user's own raw tables."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fairjax.data.dataset import Dataset, from_arrays
from fairjax.datasets.files import DataError, PathLike
from fairjax.datasets.mimic_tables import find_folder, find_tables, view

if TYPE_CHECKING:
    import duckdb

CHART = {
    "heart_rate": ((211, 220045), 10.0, 300.0),
    "systolic_blood_pressure": ((51, 442, 455, 6701, 220050, 220179), 30.0, 300.0),
    "temperature_f": ((678, 223761), 77.0, 113.0),
    "temperature_c": ((676, 223762), 25.0, 45.0),
    "fio2": ((190, 3420, 223835), 20.0, 100.0),
    "gcs_eye": ((184, 220739), 1.0, 4.0),
    "gcs_motor": ((454, 223901), 1.0, 6.0),
    "gcs_verbal": ((723, 223900), 1.0, 5.0),
    "gcs_total": ((198,), 3.0, 15.0),
}
"""Charted variables: item numbers of CareVue and of MetaVision (from 220000 on), and the range of plausible values."""

LABS = {
    "pao2": ((50821,), 20.0, 800.0),
    "fio2": ((50816,), 20.0, 100.0),
    "urea_nitrogen": ((51006,), 1.0, 300.0),
    "white_blood_cells": ((51300, 51301), 0.1, 1000.0),
    "potassium": ((50822, 50971), 1.0, 12.0),
    "sodium": ((50824, 50983), 95.0, 178.0),
    "bicarbonate": ((50882,), 2.0, 66.0),
    "bilirubin": ((50885,), 0.0, 100.0),
}
"""Laboratory variables: item numbers and the range of plausible values."""

URINE = (
    40055, 40056, 40057, 40069, 40085, 40086, 40094, 40096, 40405, 40428, 40473, 40651, 40715, 43175, 226557, 226558,
    226559, 226560, 226561, 226563, 226564, 226565, 226567, 226584, 227488, 227489,
)  # fmt: skip
"""Items of urine output in ml, of both systems; 227488 is the irrigant volume put in, which counts as negative."""

NORMAL = {
    "heart_rate": 80.0,
    "systolic_blood_pressure": 120.0,
    "temperature": 37.0,
    "glasgow_coma_scale": 15.0,
    "pao2_fio2": 400.0,
    "urine_output": 1500.0,
    "urea_nitrogen": 14.0,
    "white_blood_cells": 8.0,
    "potassium": 4.2,
    "sodium": 140.0,
    "bicarbonate": 25.0,
    "bilirubin": 0.7,
}
"""Values used for variables that were never measured: values to which SAPS-II gives no points."""

AIDS = "042|043|044"
METASTATIC_CANCER = "196|197|198|1990|1991|2097[0-5]|20979|78951"
HAEMATOLOGIC_MALIGNANCY = "20[0-8]|2386|2733"

CATEGORIES = {
    "admission_type": ("EMERGENCY", "URGENT", "ELECTIVE"),
    "admission_location": (
        "EMERGENCY ROOM ADMIT", "PHYS REFERRAL/NORMAL DELI", "CLINIC REFERRAL/PREMATURE", "TRANSFER FROM HOSP/EXTRAM",
    ),
    "first_careunit": ("MICU", "SICU", "CSRU", "CCU", "TSICU"),
    "marital_status": ("MARRIED", "SINGLE", "WIDOWED", "DIVORCED"),
    "ethnicity": ("WHITE", "BLACK", "HISPANIC", "ASIAN"),
}  # fmt: skip
"""Categories of the admission data that become one feature each; all others, and missing ones, share one feature."""


INSURANCES = ("medicare", "medicaid", "private", "government", "self pay")
"""The values of the column `insurance`, in lower case."""


def mimic(path: PathLike | None = None, *, verify: bool = True, memory: str = "2GB") -> Dataset:
    """Load MIMIC-III v1.4: predict death in hospital. Protected: insurance, 1 = Medicare or Medicaid.

    Each row is a patient's first admission, provided that the patient was older than 15 at the time. The features are
    the 17 variables of SAPS-II, averaged over the admission, and admission data. Insurance is not a feature.

    * Heart rate, systolic blood pressure, temperature (in Celsius) and the Glasgow coma scale are means of charted
      values. Where eye, motor and verbal response are charted at one time, the scale is their sum; where only the total
      is charted, it is that total. Times at which a tube prevents speech count as 15, as in the MIMIC code repository.
    * PaO2/FiO2 is the ratio of the means; FiO2 is in percent, and values up to 1 are taken as fractions.
    * Urine output is in ml per 24 hours in intensive care.
    * Values out of a plausible range, events marked as errors and repeated events are ignored. A variable that was
      never measured is set to a normal value, which is a constant, so that no information leaks between the parts of a
      split.
    * AIDS, haematologic malignancy and metastatic cancer follow ICD-9 codes; the type of admission is scheduled
      surgical, unscheduled surgical or medical.

    DuckDB streams the tables within a memory limit, whatever their size.

    Args:
        path: Folder of the raw tables as .csv or .csv.gz: PATIENTS, ADMISSIONS, ICUSTAYS, SERVICES, DIAGNOSES_ICD,
            CHARTEVENTS, LABEVENTS, OUTPUTEVENTS. If omitted, `mimic-iii` in the folder that `FAIRJAX_DATA` names or in
            the user's cache. The data are credentialed, so they cannot be downloaded.
        verify: Whether to read compressed tables to their end first, to detect truncated files, and to reject tables
            that do not belong together or do not match the folder's SHA256SUMS.txt.
        memory: Most memory that DuckDB may use; beyond it, DuckDB writes to a temporary folder.

    Returns:
        The data set; y is 1 for patients who died in hospital.

    Raises:
        FileNotFoundError: If the folder or a table does not exist.
        DataError: If a table lacks a column, is cut off, or cannot be read.
        ModuleNotFoundError: If DuckDB is not installed.

    Example:
        >>> mimic("mimic-iii").y.mean()  # doctest: +SKIP

    References:
        Johnson, Pollard, Shen et al. (2016), MIMIC-III, a freely accessible critical care database, Scientific Data 3,
        https://doi.org/10.1038/sdata.2016.35
        Le Gall, Lemeshow, Saulnier (1993), A new Simplified Acute Physiology Score (SAPS II), JAMA 270,
        https://doi.org/10.1001/jama.1993.03510240069035
        Purushotham, Meng, Che, Liu (2018), Benchmarking deep learning models on large healthcare datasets, Journal of
        Biomedical Informatics 83, https://doi.org/10.1016/j.jbi.2018.04.007
    """
    tables = find_tables(find_folder(path), verify=verify)
    try:
        import duckdb
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'mimic streams its tables with DuckDB: install it with `pip install "fairjax[mimic]"`'
        ) from error
    with tempfile.TemporaryDirectory() as scratch, duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{memory}'")
        connection.execute("SET temp_directory = '{}'".format(scratch.replace("'", "''")))
        connection.execute("SET preserve_insertion_order = false")
        frame = _frame(connection, tables, Path(scratch), verify)
    died, insured = frame.pop("died"), frame.pop("insurance").fillna("").str.strip().str.casefold()
    _check_known(tables["ADMISSIONS"], "hospital_expire_flag", died, (0, 1))
    _check_known(tables["ADMISSIONS"], "insurance", insured, INSURANCES)
    died, insured = died == 1, insured.isin(["medicare", "medicaid"])
    return from_arrays(_encoded(frame), died, insured, name="mimic", protected="insurance")


def _check_known(file: Path, column: str, values: pd.Series, known: tuple[object, ...]) -> None:
    """Check that all values are known, since unknown ones would silently be encoded as 0."""
    unknown = values[~values.isin(known)]
    if len(unknown):
        raise DataError(
            f"{file}, column {column}, has the value {unknown.iloc[0]!r} (known: {', '.join(map(str, known))}): "
            "correct it, or download the file again from PhysioNet"
        )


def _frame(
    connection: "duckdb.DuckDBPyConnection", tables: dict[str, Path], scratch: Path, verify: bool
) -> pd.DataFrame:
    """Query one row per admission of the cohort, ordered by patient."""
    import duckdb

    for table, file in tables.items():
        view(connection, table, file, scratch)
    steps = (
        ("PATIENTS and ADMISSIONS", _COHORT),
        ("CHARTEVENTS", _charted()),
        ("LABEVENTS", _measured()),
        ("OUTPUTEVENTS and ICUSTAYS", _urine()),
        ("DIAGNOSES_ICD", _DIAGNOSES),
        ("SERVICES", _SERVICES),
        ("ICUSTAYS", _CARE_UNITS),
    )
    for names, query in steps:
        try:
            connection.execute(query)
        except duckdb.Error as error:
            files = " and ".join(str(tables[name]) for name in names.split(" and "))
            raise DataError(
                f"{files} cannot be read ({' '.join(str(error).split())[:300]}): it is cut off, damaged, or no table "
                "of MIMIC-III v1.4; download it again from PhysioNet"
            ) from error
    for table, key, parent in _REFERENCES if verify else ():
        _check_references(connection, tables, table, key, parent)
    frame = connection.execute(_FEATURES).df()
    if frame.empty:
        raise DataError(f"{tables['ADMISSIONS']} and {tables['PATIENTS']} hold no first admission of an adult")
    return frame


_REFERENCES = (
    ("ADMISSIONS", "subject_id", "PATIENTS"),
    ("ICUSTAYS", "hadm_id", "ADMISSIONS"),
    ("SERVICES", "hadm_id", "ADMISSIONS"),
    ("DIAGNOSES_ICD", "hadm_id", "ADMISSIONS"),
)
"""Tables each of whose rows needs a row with the same key in another table."""


def _check_references(
    connection: "duckdb.DuckDBPyConnection", tables: dict[str, Path], table: str, key: str, parent: str
) -> None:
    """Check that tables belong together, which fails if one is truncated at the end of a line."""
    query = f"SELECT count(*), min({key}) FROM {table} WHERE {key} NOT IN (SELECT {key} FROM {parent})"
    count, example = connection.execute(query).fetchone() or (0, None)
    if count:
        raise DataError(
            f"{tables[parent]} lacks the {key} of {count} rows of {tables[table]}, such as {example}: it is cut off, "
            "or the tables are not of one version; download them again from PhysioNet"
        )


def _encoded(frame: pd.DataFrame) -> pd.DataFrame:
    """Encode the features as numbers: normal values for what was not measured, and one feature per category."""
    numbers = frame.drop(columns=[*CATEGORIES, "sex", "kind"]).astype("float64").fillna(NORMAL)
    num_missing = int(np.count_nonzero(numbers["age"].isna()))
    if num_missing:
        raise DataError(
            f"{num_missing} patients have no age: their dates of birth in PATIENTS or of admission are missing"
        )
    numbers["sex=male"] = (frame["sex"] == "M").astype(float)
    for kind in ("scheduled surgical", "unscheduled surgical", "medical"):
        numbers[f"kind={kind}"] = (frame["kind"] == kind).astype(float)
    for name, categories in CATEGORIES.items():
        words = frame[name].fillna("").astype(str)
        words = words.map(lambda word, categories=categories: _category(word, categories))
        for category in (*categories, "OTHER"):
            numbers[f"{name}={category}"] = (words == category).astype(float)
    return numbers


def _category(word: str, categories: tuple[str, ...]) -> str:
    """Return the category that a value begins with; for example, WHITE - RUSSIAN belongs to WHITE."""
    return next((category for category in categories if word.strip().upper().startswith(category)), "OTHER")


_COHORT = """
CREATE TABLE cohort AS
WITH stays AS (
    SELECT *, row_number() OVER (PARTITION BY subject_id ORDER BY CAST(admittime AS TIMESTAMP), hadm_id) AS nth
    FROM ADMISSIONS
), first AS (
    SELECT stays.*, gender,
        (epoch(CAST(admittime AS TIMESTAMP)) - epoch(CAST(dob AS TIMESTAMP))) / 86400 / 365.242 AS years
    FROM stays JOIN PATIENTS USING (subject_id) WHERE nth = 1
)
SELECT CAST(subject_id AS BIGINT) AS subject, CAST(hadm_id AS BIGINT) AS admission,
    CASE WHEN years > 89 THEN 91.4 ELSE years END AS age,  -- ages over 89 are shifted to about 300
    upper(trim(gender)) AS sex, upper(trim(admission_type)) AS admission_type,
    admission_location, marital_status, ethnicity, insurance,
    CAST(hospital_expire_flag AS INTEGER) AS died
FROM first WHERE years IS NULL OR years > 15
"""

_DIAGNOSES = f"""
CREATE TABLE diagnoses AS
SELECT admission, bool_or(regexp_matches(code, '^({AIDS})')) AS aids,
    bool_or(regexp_matches(code, '^({HAEMATOLOGIC_MALIGNANCY})')) AS haematologic_malignancy,
    bool_or(regexp_matches(code, '^({METASTATIC_CANCER})')) AS metastatic_cancer
FROM (SELECT CAST(hadm_id AS BIGINT) AS admission, trim(icd9_code) AS code FROM DIAGNOSES_ICD)
JOIN cohort USING (admission) GROUP BY admission
"""

_SERVICES = """
CREATE TABLE first_services AS
SELECT admission, arg_min(service, (since, service)) AS service
FROM (
    SELECT CAST(hadm_id AS BIGINT) AS admission, CAST(transfertime AS TIMESTAMP) AS since, upper(curr_service) AS
    service
    FROM SERVICES
) JOIN cohort USING (admission) GROUP BY admission
"""

_CARE_UNITS = """
CREATE TABLE care_units AS
SELECT admission, arg_min(unit, (since, unit)) AS first_careunit
FROM (
    SELECT CAST(hadm_id AS BIGINT) AS admission, CAST(intime AS TIMESTAMP) AS since, first_careunit AS unit FROM
    ICUSTAYS
) JOIN cohort USING (admission) GROUP BY admission
"""

_FEATURES = """
SELECT age, heart_rate, systolic_blood_pressure, temperature, glasgow_coma_scale,
    100 * pao2 / coalesce((fio2_sum + coalesce(lab_fio2_sum, 0)) / (fio2_count + coalesce(lab_fio2_count, 0)),
        lab_fio2_sum / lab_fio2_count) AS pao2_fio2,
    urine_output, urea_nitrogen, white_blood_cells, potassium, sodium, bicarbonate, bilirubin,
    CAST(coalesce(aids, false) AS INTEGER) AS aids,
    CAST(coalesce(haematologic_malignancy, false) AS INTEGER) AS haematologic_malignancy,
    CAST(coalesce(metastatic_cancer, false) AS INTEGER) AS metastatic_cancer,
    CASE WHEN service IS NULL OR NOT (service LIKE '%SURG%' OR service LIKE 'ORTHO%') THEN 'medical'
        WHEN admission_type = 'ELECTIVE' THEN 'scheduled surgical' ELSE 'unscheduled surgical' END AS kind,
    sex, admission_type, admission_location, first_careunit, marital_status, ethnicity, insurance, died
FROM cohort LEFT JOIN charted USING (admission) LEFT JOIN measured USING (admission) LEFT JOIN urine USING (admission)
    LEFT JOIN diagnoses USING (admission) LEFT JOIN first_services USING (admission) LEFT JOIN care_units USING
    (admission)
ORDER BY subject
"""


def _charted() -> str:
    """Return the query for the means of charted values per admission; the Glasgow coma scale is computed per time."""
    return f"""
CREATE TABLE charted AS
WITH events AS (
    SELECT DISTINCT CAST(hadm_id AS BIGINT) AS admission, CAST(itemid AS INTEGER) AS item,
        CAST(charttime AS TIMESTAMP) AS moment, TRY_CAST(valuenum AS DOUBLE) AS raw, trim(value) AS words
    FROM CHARTEVENTS
    WHERE CAST(itemid AS INTEGER) IN {_items(CHART)} AND coalesce(TRY_CAST(error AS INTEGER), 0) <> 1
        AND CAST(hadm_id AS BIGINT) IN (SELECT admission FROM cohort)
), named AS (
    SELECT admission, moment, {_names(CHART)} AS name, words IN ('1.0 ET/Trach', 'No Response-ETT') AS tube,
        CASE WHEN item IN {CHART["fio2"][0]} AND raw <= 1 THEN 100 * raw ELSE raw END AS number
    FROM events
), plausible AS (
    SELECT * FROM named WHERE {_ranges(CHART)}
), scale AS (
    SELECT admission, avg(total) AS glasgow_coma_scale FROM (
        SELECT admission, CASE WHEN bool_or(tube) THEN 15 ELSE coalesce(
            max(number) FILTER (WHERE name = 'gcs_eye') + max(number) FILTER (WHERE name = 'gcs_motor')
                + max(number) FILTER (WHERE name = 'gcs_verbal'),
            max(number) FILTER (WHERE name = 'gcs_total')) END AS total
        FROM plausible WHERE name LIKE 'gcs_%' GROUP BY admission, moment
    ) GROUP BY admission
), means AS (
    SELECT admission, avg(number) FILTER (WHERE name = 'heart_rate') AS heart_rate,
        avg(number) FILTER (WHERE name = 'systolic_blood_pressure') AS systolic_blood_pressure,
        avg(CASE WHEN name = 'temperature_f' THEN (number - 32) / 1.8 ELSE number END)
            FILTER (WHERE name IN ('temperature_f', 'temperature_c')) AS temperature,
        sum(number) FILTER (WHERE name = 'fio2') AS fio2_sum, count(number) FILTER (WHERE name = 'fio2') AS fio2_count
    FROM plausible GROUP BY admission
)
SELECT * FROM means LEFT JOIN scale USING (admission)
"""


def _measured() -> str:
    """Return the query for the means of laboratory values per admission."""
    means = ", ".join(f"avg(number) FILTER (WHERE name = '{name}') AS {name}" for name in LABS if name != "fio2")
    return f"""
CREATE TABLE measured AS
WITH events AS (
    SELECT DISTINCT CAST(hadm_id AS BIGINT) AS admission, CAST(itemid AS INTEGER) AS item,
        CAST(charttime AS TIMESTAMP) AS moment, TRY_CAST(valuenum AS DOUBLE) AS raw
    FROM LABEVENTS
    WHERE CAST(itemid AS INTEGER) IN {_items(LABS)} AND CAST(hadm_id AS BIGINT) IN (SELECT admission FROM cohort)
), named AS (
    SELECT admission, {_names(LABS)} AS name,
        CASE WHEN item IN (50816) AND raw <= 1 THEN 100 * raw ELSE raw END AS number
    FROM events
)
SELECT admission, {means}, sum(number) FILTER (WHERE name = 'fio2') AS lab_fio2_sum,
    count(number) FILTER (WHERE name = 'fio2') AS lab_fio2_count
FROM named WHERE {_ranges(LABS)} GROUP BY admission
"""


def _urine() -> str:
    """Return the query for the urine output per admission, in ml per 24 hours in intensive care."""
    return f"""
CREATE TABLE urine AS
WITH events AS (
    SELECT DISTINCT CAST(hadm_id AS BIGINT) AS admission, CAST(itemid AS INTEGER) AS item,
        CAST(charttime AS TIMESTAMP) AS moment, TRY_CAST(value AS DOUBLE) AS ml
    FROM OUTPUTEVENTS
    WHERE CAST(itemid AS INTEGER) IN {URINE} AND coalesce(TRY_CAST(iserror AS INTEGER), 0) <> 1
        AND CAST(hadm_id AS BIGINT) IN (SELECT admission FROM cohort)
), sums AS (
    SELECT admission, sum(CASE WHEN item = 227488 THEN -ml ELSE ml END) AS ml
    FROM events WHERE ml BETWEEN 0 AND 5000 GROUP BY admission
), days AS (
    SELECT CAST(hadm_id AS BIGINT) AS admission, sum(TRY_CAST(los AS DOUBLE)) AS days FROM ICUSTAYS GROUP BY admission
)
SELECT admission, greatest(ml, 0) / greatest(days, 1 / 24.0) AS urine_output FROM sums JOIN days USING (admission)
"""


def _items(variables: dict[str, tuple[tuple[int, ...], float, float]]) -> str:
    return f"({', '.join(str(item) for items, _, _ in variables.values() for item in items)})"


def _names(variables: dict[str, tuple[tuple[int, ...], float, float]]) -> str:
    """Return an SQL expression for the variable that an item belongs to."""
    cases = (f"WHEN item IN ({', '.join(map(str, items))}) THEN '{name}'" for name, (items, _, _) in variables.items())
    return f"CASE {' '.join(cases)} END"


def _ranges(variables: dict[str, tuple[tuple[int, ...], float, float]]) -> str:
    """Return an SQL expression for the condition that a value is plausible."""
    cases = (f"WHEN name = '{name}' THEN number BETWEEN {low} AND {high}" for name, (_, low, high) in variables.items())
    return f"CASE {' '.join(cases)} END"
