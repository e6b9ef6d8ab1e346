"""The raw tables of MIMIC-III: find them, check that they are complete, and stream them with DuckDB."""

import csv
import gzip
import hashlib
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pooch

from fairjax.datasets.files import FOLDER, DataError, PathLike, user_path

if TYPE_CHECKING:
    import duckdb

TABLE_COLUMNS = {
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
"""The tables that are read, and the columns used of each."""

_READ_BYTES = 1 << 20
"""Number of bytes that are decompressed at a time."""


def find_folder(path: PathLike | None) -> Path:
    """Find the folder of the user's tables.

    Args:
        path: The folder; if omitted, `mimic-iii` in the folder that `FAIRJAX_DATA` names, then in the user's cache.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: If the folder does not exist; MIMIC-III cannot be downloaded without credentials.
    """
    if path is not None:
        candidates = [user_path(path)]
    else:
        data_folder = os.environ.get(FOLDER)
        candidates = [user_path(data_folder) / "mimic-iii"] if data_folder else []
        candidates.append(Path(pooch.os_cache("fairjax")) / "mimic-iii")
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(
        f"no folder of MIMIC-III tables at {' or '.join(map(str, candidates))}. The data are credentialed: get version "
        "1.4 from "
        f"https://physionet.org/content/mimiciii/1.4/ and pass its folder, or put it into {FOLDER} as mimic-iii"
    )


def find_tables(folder: Path, *, verify: bool) -> dict[str, Path]:
    """Find the file of each table, `.csv` or `.csv.gz`, in upper or lower case.

    Args:
        folder: Folder of the tables.
        verify: Whether to read compressed files to their end, to detect truncated ones, which takes some minutes for
            the largest.

    Returns:
        Paths by table.

    Raises:
        FileNotFoundError: If tables are missing; the message names all of them.
        DataError: If a file lacks a column or is truncated.
    """
    entries = {entry.name.lower(): entry for entry in sorted(folder.iterdir())}
    names = {table: (f"{table.lower()}.csv", f"{table.lower()}.csv.gz") for table in TABLE_COLUMNS}
    missing = [table for table, file_names in names.items() if not any(name in entries for name in file_names)]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks the tables {', '.join(missing)} (as .csv or .csv.gz): get them from PhysioNet and put "
            "them there"
        )
    files = {
        table: next(entries[name] for name in file_names if name in entries) for table, file_names in names.items()
    }
    for table, file in files.items():
        repeated = [column for column in TABLE_COLUMNS[table] if header(file).count(column) > 1]
        if repeated:
            raise DataError(
                f"{file}, line 1, names the columns {', '.join(repeated)} twice: download it again from PhysioNet"
            )
        absent = [column for column in TABLE_COLUMNS[table] if column not in header(file)]
        if absent:
            raise DataError(
                f"{file} lacks the columns {', '.join(absent)} (found {', '.join(header(file))}): it is no table of "
                "MIMIC-III v1.4, download it again from PhysioNet"
            )
    for file in files.values():
        _check_end(file, verify)
        _check_rows(file)
    if verify:
        _check_sums(folder, files)
    return files


def header(file: Path) -> list[str]:
    """Return the names of a file's columns, in lower case."""
    try:
        with _opened(file) as stream:
            return [name.strip().lower() for name in next(csv.reader([stream.readline().decode("utf-8-sig")]), [])]
    except (EOFError, OSError, zlib.error, csv.Error, UnicodeDecodeError) as error:
        raise _damaged(file, error) from error


def view(connection: "duckdb.DuckDBPyConnection", table: str, file: Path, scratch: Path) -> None:
    """Create a DuckDB view of a file, which is streamed whenever it is read: text columns, names in lower case."""
    # A file's header may contain anything, so names that are not used never reach SQL.
    names = [name if name in TABLE_COLUMNS[table] else f"unused_{i}" for i, name in enumerate(header(file))]
    columns = ", ".join(f"'{name}': 'VARCHAR'" for name in names)
    quoted = str(_without_wildcards(table, file, scratch)).replace("'", "''")
    connection.execute(
        f"CREATE VIEW {table} AS SELECT {', '.join(TABLE_COLUMNS[table])} FROM "
        f"read_csv('{quoted}', header = false, skip = 1, auto_detect = false, "
        f"delim = ',', quote = '\"', escape = '\"', nullstr = '', columns = {{{columns}}})"
    )


def _without_wildcards(table: str, file: Path, scratch: Path) -> Path:
    """Return a path that DuckDB does not take as a pattern: the file's own, or a link in the temporary folder."""
    file = file.absolute()
    if not any(sign in str(file) for sign in "*?["):
        return file
    link = scratch.absolute() / f"{table}{'.csv.gz' if file.suffix.lower() == '.gz' else '.csv'}"
    if any(sign in str(link) for sign in "*?["):
        raise DataError(
            f"{file} and the temporary folder {scratch} have *, ? or [ in their names: set TMPDIR to another"
        )
    try:
        link.symlink_to(file)
    except OSError as error:
        raise DataError(f"{file} has *, ? or [ in its path, which DuckDB cannot read: rename the folder") from error
    return link


def _check_rows(file: Path) -> None:
    """Check that a table has rows and not only a header."""
    try:
        with _opened(file) as stream:
            stream.readline()
            empty = not stream.readline().strip()
    except (EOFError, OSError, zlib.error) as error:
        raise _damaged(file, error) from error
    if empty:
        raise _damaged(file, "it has no rows after line 1, its header")


def _check_sums(folder: Path, files: dict[str, Path]) -> None:
    """Check that the checksums of the tables match the folder's SHA256SUMS.txt, if there is one."""
    sums = folder / "SHA256SUMS.txt"
    if not sums.is_file():
        return
    lines = (line.split(maxsplit=1) for line in sums.read_text(encoding="utf-8", errors="replace").splitlines())
    expected = {pair[1].strip().lstrip("*").removeprefix("./").lower(): pair[0] for pair in lines if len(pair) == 2}
    for file in files.values():
        if (checksum := expected.get(file.name.lower())) is None:
            continue
        with file.open("rb") as stream:
            actual = hashlib.file_digest(stream, "sha256").hexdigest()
        if actual != checksum.lower():
            raise _damaged(file, f"its sha256 checksum is {actual}, and {sums} expects {checksum}")


def _opened(file: Path):
    return gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb")


def _check_end(file: Path, verify: bool) -> None:
    """Check that a file's last line is complete and that its compressed data do not end too early."""
    last_byte = b""
    try:
        if file.suffix.lower() == ".gz":
            if not verify:
                return
            with gzip.open(file) as stream:
                while chunk := stream.read(_READ_BYTES):
                    last_byte = chunk[-1:]
        else:
            with file.open("rb") as stream:
                stream.seek(max(0, file.stat().st_size - 1))
                last_byte = stream.read()
    except (EOFError, OSError, zlib.error) as error:
        raise _damaged(file, error) from error
    if last_byte != b"\n":
        raise _damaged(file, "its last line has no end")


def _damaged(file: Path, reason: object) -> DataError:
    return DataError(
        f"{file} is cut off or damaged ({reason}): download it again from PhysioNet and compare its checksum"
    )
