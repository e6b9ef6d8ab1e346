"""A table that DuckDB can query: the SQL of its columns, and where its rows are."""

import glob
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fairjax.data.connection import connected, quoted
from fairjax.data.expressions import check_columns
from fairjax.metrics.levels import NO_VALUE

_CSV = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz")
_PARQUET = (".parquet", ".pq")


class Relation(NamedTuple):
    """A table that can be queried."""

    name: str
    """How messages call it: the path or pattern, or `the frame`."""
    sql: str
    """The relation, to be put behind FROM."""
    columns: tuple[str, ...]
    """Names of the columns."""
    names: tuple[str, ...]
    """The columns as the relation calls them, already quoted."""
    kinds: tuple[str, ...]
    """DuckDB's types of the columns; text for all columns of a csv file."""
    frame: Any = None
    """The frame, if it is one."""
    repeated: tuple[str, ...] = ()
    """Names that occur several times; the first column of the name is used."""
    files: tuple[Path, ...] = ()
    """The files, if they are files."""

    def column(self, name: str) -> str:
        """Return the SQL of a column.

        Raises:
            ValueError: if there is no such column.
        """
        check_columns([name], self.columns, self.name)
        return self.names[self.columns.index(name)]

    def kind(self, name: str) -> str:
        """Return DuckDB's type of a column."""
        return self.kinds[self.columns.index(name)]

    def lacks(self, name: str) -> str:
        """Return the SQL of whether a row has no value in a column: NULL, NaN, or a word for it such as NA."""
        column, kind = self.column(name), self.kind(name)
        if kind in ("FLOAT", "DOUBLE"):
            return f"({column} IS NULL OR isnan({column}))"
        if not _is_text(kind):
            return f"({column} IS NULL)"
        words = ", ".join(map(quoted, NO_VALUE))
        return f"({column} IS NULL OR lower(trim(CAST({column} AS VARCHAR))) IN ({words}))"

    def is_numeric(self, name: str) -> bool:
        """Return whether the type of a column has numbers only."""
        kind = self.kind(name)
        return kind.startswith("DECIMAL") or kind in _NUMERIC

    def number(self, name: str) -> str:
        """Return the SQL of a column as numbers, NULL for what is none, such as a boolean, or lacks a value."""
        column, kind = self.column(name), self.kind(name)
        number = f"TRY_CAST({column} AS DOUBLE)"
        if kind in ("FLOAT", "DOUBLE") or _is_text(kind):
            return f"CASE WHEN isnan({number}) THEN NULL ELSE {number} END"
        return number if self.is_numeric(name) else "CAST(NULL AS DOUBLE)"

    def place(self, row: int) -> str:
        """Say where a row is, for messages: the line of a csv file, else the row of a file or frame.

        Args:
            row: position of the row in the table, counted from 0.

        Returns:
            The place; lines and rows of files are counted from 1, rows of frames from 0.
        """
        if self.frame is not None:
            return place_in_frame(row)
        for file in self.files:
            if kind_of(file) == "csv":
                line, count = _line_of_row(file, row, len(self.columns))
            else:
                line, count = None, _rows_of_parquet(file)
            if row < count:
                return f"row {row + 1} of {file}" if line is None else f"line {line} of {file}"
            row -= count
        return f"a row of {self.name}"


def place_in_frame(row: int) -> str:
    """Say where a row of a pandas frame is, counted from 0.

    Example:
        >>> place_in_frame(3)
        'row 3'
    """
    return f"row {row}"


def _is_text(kind: str) -> bool:
    return kind == "VARCHAR" or kind.startswith("ENUM")


_WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_NUMERIC = ("FLOAT", "DOUBLE", *_WHOLE, *(f"U{kind}" for kind in _WHOLE))
"""DuckDB's types of numbers, but for DECIMAL, which has a width behind it."""


def _line_of_row(file: Path, row: int, width: int) -> tuple[int | None, int]:
    """Return the line on which a row of a csv file starts, and the number of rows up to it or to the end."""
    count, is_open, start = -1, False, 1  # the header is row -1
    with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not is_open:
                if width > 1 and not line.strip(b"\r\n"):
                    continue
                start = number
            is_open ^= line.count(b'"') % 2 == 1
            if not is_open:
                if count == row:
                    return start, count + 1
                count += 1
    return None, count


def _rows_of_parquet(file: Path) -> int:
    with connected() as connection:
        return (connection.execute(f"SELECT count(*) FROM read_parquet({sql_paths([file])})").fetchone() or (0,))[0]


def kind_of(file: Path) -> str:
    """Return the format of a file, csv or parquet, by the ending of its name.

    Raises:
        ValueError: for other endings.

    Example:
        >>> kind_of(Path("predictions.csv.gz"))
        'csv'
    """
    name = file.name.lower()
    if name.endswith(_PARQUET):
        return "parquet"
    if name.endswith(_CSV):
        return "csv"
    raise ValueError(
        f"{file} must end in {', '.join((*_CSV[:2], _CSV[2], *_PARQUET[:1]))}, so that its format is known"
    )


def sql_paths(files: Sequence[Path]) -> str:
    """Return the SQL list of files, whose names are no patterns."""
    return "[" + ", ".join(quoted(glob.escape(str(file.absolute()))) for file in files) + "]"
