"""MIMIC-III's raw tables: where they are, whether they are whole, and how DuckDB streams them."""

import csv
import gzip
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pooch

from fairjax.data.files import FOLDER, DataError, PathLike

if TYPE_CHECKING:
    import duckdb

COLUMNS = {
    "PATIENTS": ("subject_id", "gender", "dob"),
    "ADMISSIONS": (
        "subject_id", "hadm_id", "admittime", "admission_type", "admission_location", "insurance", "marital_status",
        "ethnicity", "hospital_expire_flag",
    ),
    "ICUSTAYS": ("hadm_id", "first_careunit", "intime", "los"),
    "SERVICES": ("hadm_id", "transfertime", "curr_service"),
    "DIAGNOSES_ICD": ("hadm_id", "icd9_code"),
    "CHARTEVENTS": ("hadm_id", "itemid", "charttime", "value", "valuenum", "error"),
    "LABEVENTS": ("hadm_id", "itemid", "charttime", "valuenum"),
    "OUTPUTEVENTS": ("hadm_id", "itemid", "charttime", "value", "iserror"),
}  # fmt: skip
"""The tables that are read, and their columns that are used."""

_CHUNK = 1 << 20


def folder_of(path: PathLike | None) -> Path:
    """The folder of the user's tables.

    Args:
        path: the folder; if omitted, `mimic-iii` in the folder that `FAIRJAX_DATA` names, then in the user's cache.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: If there is none; MIMIC-III cannot be downloaded without credentials.
    """
    if path is not None:
        places = [Path(path).expanduser()]
    else:
        named = os.environ.get(FOLDER)
        places = [Path(named).expanduser() / "mimic-iii"] if named else []
        places.append(Path(pooch.os_cache("fairjax")) / "mimic-iii")
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(
        f"no folder of MIMIC-III tables at {' or '.join(map(str, places))}. The data are credentialed: get version "
        f"1.4 from "
        f"https://physionet.org/content/mimiciii/1.4/ and pass its folder, or put it into {FOLDER} as mimic-iii"
    )


def find_tables(folder: Path, *, verify: bool) -> dict[str, Path]:
    """The file of each table, `.csv` or `.csv.gz`, in upper or lower case.

    Args:
        folder: of the tables.
        verify: read compressed files to their end, to see that none is cut off: some minutes for the largest.

    Returns:
        Paths by table.

    Raises:
        FileNotFoundError: If a table is not there, naming all that are missing.
        DataError: If a file lacks a column or is cut off.
    """
    entries = {entry.name.lower(): entry for entry in sorted(folder.iterdir())}
    names = {table: (f"{table.lower()}.csv", f"{table.lower()}.csv.gz") for table in COLUMNS}
    missing = [table for table, both in names.items() if not any(name in entries for name in both)]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks the tables {', '.join(missing)} (as .csv or .csv.gz): get them from PhysioNet and put "
            f"them there"
        )
    found = {table: next(entries[name] for name in both if name in entries) for table, both in names.items()}
    for table, file in found.items():
        lacking = [column for column in COLUMNS[table] if column not in header(file)]
        if lacking:
            raise DataError(
                f"{file} lacks the columns {', '.join(lacking)} (found {', '.join(header(file))}): it is no table of "
                "MIMIC-III v1.4, get it anew from PhysioNet"
            )
    for file in found.values():
        _check_end(file, verify)
    return found


def header(file: Path) -> list[str]:
    """Names of a file's columns, in lower case."""
    try:
        with _opened(file) as stream:
            return [name.strip().lower() for name in next(csv.reader([stream.readline().decode("utf-8")]), [])]
    except (EOFError, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise _damaged(file, error) from error


def view(connection: "duckdb.DuckDBPyConnection", table: str, file: Path) -> None:
    """Make a file known to DuckDB, which streams it whenever it is read: text columns, names in lower case."""
    columns = ", ".join(f"'{name}': 'VARCHAR'" for name in header(file))
    quoted = str(file).replace("'", "''")
    connection.execute(
        f"CREATE VIEW {table} AS SELECT * FROM read_csv('{quoted}', header = false, skip = 1, auto_detect = false, "
        f"delim = ',', quote = '\"', escape = '\"', nullstr = '', columns = {{{columns}}})"
    )


def _opened(file: Path):
    return gzip.open(file) if file.suffix == ".gz" else file.open("rb")


def _check_end(file: Path, verify: bool) -> None:
    """Refuse a file whose last line is not complete, or whose compressed data end too early."""
    last = b""
    try:
        if file.suffix == ".gz":
            if not verify:
                return
            with gzip.open(file) as stream:
                while chunk := stream.read(_CHUNK):
                    last = chunk[-1:]
        else:
            with file.open("rb") as stream:
                stream.seek(max(0, file.stat().st_size - 1))
                last = stream.read()
    except (EOFError, gzip.BadGzipFile, OSError) as error:
        raise _damaged(file, error) from error
    if last != b"\n":
        raise _damaged(file, "its last line has no end")


def _damaged(file: Path, reason: object) -> DataError:
    return DataError(f"{file} is cut off or damaged ({reason}): get it anew from PhysioNet and compare its checksum")
