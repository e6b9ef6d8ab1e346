"""Tables that DuckDB streams: csv and Parquet files, one or many, and pandas frames."""

import contextlib
import csv
import glob
import gzip
import os
import re
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from fairjax.data.expressions import check_columns
from fairjax.metrics.levels import NO_VALUE

if TYPE_CHECKING:
    import duckdb

MEMORY = "1GB"
"""What DuckDB may hold in memory; beyond it, intermediate results go to a temporary folder."""

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
            if _kind(file) == "csv":
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
        return (connection.execute(f"SELECT count(*) FROM read_parquet({_paths([file])})").fetchone() or (0,))[0]


@contextlib.contextmanager
def connected(memory: str = MEMORY) -> "Iterator[duckdb.DuckDBPyConnection]":
    """Open DuckDB in memory, with a limit and a temporary folder, and translate its errors.

    Raises:
        ImportError: if DuckDB is not installed.
        ValueError: if a file cannot be read; the message is one line.
    """
    try:
        import duckdb
    except ImportError as error:
        raise ImportError('reading tables needs DuckDB: pip install "fairjax[cli]"') from error
    with tempfile.TemporaryDirectory(prefix="fairjax-") as scratch, duckdb.connect(":memory:") as connection:
        connection.execute(f"SET memory_limit = '{memory}'")
        connection.execute(f"SET temp_directory = {quoted(scratch)}")
        connection.execute("SET enable_progress_bar = false")
        _read_text_as_text(connection)
        try:
            yield connection
        except duckdb.OutOfMemoryException as error:
            raise ValueError(
                f"the table has too many different values for {memory} of memory: leave out columns of which every "
                "row has its own value"
            ) from error
        except duckdb.Error as error:
            raise ValueError(_explained(str(error))) from error


def _read_text_as_text(connection: "duckdb.DuckDBPyConnection") -> None:
    """Turn off an optimisation that reads csv columns as numbers where a query casts them, so that NA is an error."""
    known = {name for (name,) in connection.execute("SELECT name FROM duckdb_optimizers()").fetchall()}
    if "type_pushdown" in known:  # earlier versions of DuckDB lack it
        connection.execute("SET disabled_optimizers = 'type_pushdown'")


def quoted(value: object) -> str:
    """Quote a text for SQL.

    Example:
        >>> quoted("it's")
        "'it''s'"
    """
    return "'" + str(value).replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Quote a name for SQL.

    Example:
        >>> print(identifier('sex'))
        "sex"
    """
    return '"' + name.replace('"', '""') + '"'


def table_of(connection: "duckdb.DuckDBPyConnection", given: Any) -> Relation:
    """Make a table of files or of a frame, and check that all files have the same columns.

    Args:
        connection: an open connection.
        given: a path, a pattern such as `parts/*.parquet`, several of them, or a pandas frame.

    Returns:
        The table.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a file is empty or damaged, or files have different columns.
        TypeError: if `given` is something else.
    """
    if isinstance(given, pd.DataFrame):
        return _of_frame(connection, given)
    paths = [given] if isinstance(given, str | os.PathLike) else list(given) if isinstance(given, Sequence) else []
    if not paths or not all(isinstance(path, str | os.PathLike) for path in paths):
        raise TypeError(f"a table must be a path, a pattern, several paths or a pandas frame, got {given!r}")
    files = files_of(paths)
    kinds = {_kind(file) for file in files}
    name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    if len(kinds) > 1:
        raise ValueError(f"{name}: the files must be all csv or all Parquet")
    return (_of_parquet if kinds == {"parquet"} else _of_csv)(connection, name, files)


def files_of(paths: Sequence[str | os.PathLike]) -> list[Path]:
    """Return the files of paths and patterns, each once, however many patterns match it.

    Raises:
        FileNotFoundError: if there is no such file, or none matches a pattern.
    """
    files: dict[Path, Path] = {}
    for path in paths:
        for file in _matching(Path(path).expanduser()):
            files.setdefault(file.resolve(), file)
    return list(files.values())


def _matching(path: Path) -> list[Path]:
    """Return the files of a path or pattern."""
    if path.is_file():
        return [path]
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name its files, for example {path}/*.parquet")
    matching = sorted(Path(file) for file in glob.glob(str(path), recursive=True) if Path(file).is_file())
    if not matching:
        what = "no file matches the pattern" if glob.has_magic(str(path)) else "there is no file"
        raise FileNotFoundError(f"{what} {path}")
    return matching


def _kind(file: Path) -> str:
    name = file.name.lower()
    if name.endswith(_PARQUET):
        return "parquet"
    if name.endswith(_CSV):
        return "csv"
    raise ValueError(
        f"{file} must end in {', '.join((*_CSV[:2], _CSV[2], *_PARQUET[:1]))}, so that its format is known"
    )


def _paths(files: Sequence[Path]) -> str:
    return "[" + ", ".join(quoted(glob.escape(str(file.absolute()))) for file in files) + "]"


def _of_parquet(connection: "duckdb.DuckDBPyConnection", name: str, files: Sequence[Path]) -> Relation:
    import duckdb

    columns: dict[Path, tuple[str, ...]] = {}
    kinds: dict[Path, tuple[str, ...]] = {}
    for file in files:
        if file.stat().st_size == 0:
            raise ValueError(f"{file} is empty")
        try:
            described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({_paths([file])})").fetchall()
        except duckdb.Error as error:
            raise ValueError(f"{file} is cut off, or is not a Parquet file ({_explained(str(error))})") from error
        columns[file] = tuple(row[0] for row in described)
        kinds[file] = tuple(row[1] for row in described)
    _check_same(columns)
    first = columns[files[0]]
    sql = f"read_parquet({_paths(files)})"
    return Relation(name, sql, first, tuple(map(identifier, first)), kinds[files[0]], files=tuple(files))


def _of_csv(connection: "duckdb.DuckDBPyConnection", name: str, files: Sequence[Path]) -> Relation:
    heads = {file: _header(file) for file in files}
    _check_same({file: columns for file, (columns, _) in heads.items()})
    columns, delimiter = heads[files[0]]
    plain = tuple(f"c{i}" for i in range(len(columns)))  # so that names in a header never reach SQL
    types = ", ".join(f"'{each}': 'VARCHAR'" for each in plain)
    relation = (
        f"read_csv({_paths(files)}, header = false, skip = 1, auto_detect = false, delim = {quoted(delimiter)}, "
        f"quote = '\"', escape = '\"', nullstr = '', columns = {{{types}}})"
    )
    repeated = tuple(dict.fromkeys(column for column in columns if columns.count(column) > 1))
    return Relation(name, relation, columns, plain, ("VARCHAR",) * len(columns), repeated=repeated, files=tuple(files))


def _of_frame(connection: "duckdb.DuckDBPyConnection", frame: pd.DataFrame) -> Relation:
    if not len(frame):
        raise ValueError("the frame has no rows")
    columns = tuple(map(str, frame.columns))
    kept = frame.set_axis([f"c{i}" for i in range(len(columns))], axis=1).copy()
    for name, dtype in kept.dtypes.items():  # as plain text, since DuckDB does not know all of pandas' types of text
        if not (pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_datetime64_any_dtype(dtype)):
            values = [None if pd.isna(value) else str(value) for value in kept[name]]
            kept[name] = pd.Series(values, index=kept.index, dtype=object)
    view = f"frame_{id(kept)}"
    connection.register(view, kept)
    repeated = tuple(dict.fromkeys(column for column in columns if columns.count(column) > 1))
    kinds = tuple(row[1] for row in connection.execute(f"DESCRIBE SELECT * FROM {view}").fetchall())
    return Relation("the frame", view, columns, tuple(kept.columns), kinds, frame=kept, repeated=repeated)


def _header(file: Path) -> tuple[tuple[str, ...], str]:
    """Return the columns of a csv file and their delimiter: the sign that splits the header into most names."""
    try:
        with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as stream:
            line, second = stream.readline(1 << 24).decode("utf-8-sig"), stream.readline(1 << 24)
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not in UTF-8: save it with this encoding") from error
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{file} cannot be read ({error})") from error
    if not line.strip():
        raise ValueError(f"{file} is empty" if not second else f"{file}, line 1, must hold the names of the columns")
    if not second.strip():
        raise ValueError(f"{file} has no rows after line 1, its header")
    rows = {sign: next(csv.reader([line], delimiter=sign)) for sign in (",", "\t", ";", "|")}
    delimiter = max(rows, key=lambda sign: len(rows[sign]))
    columns = tuple(column.strip() for column in rows[delimiter])
    unnamed = [i + 1 for i, column in enumerate(columns) if not column]
    columns = tuple(column or f"column {i + 1}" for i, column in enumerate(columns))
    if len(unnamed) == len(columns):
        raise ValueError(f"{file}, line 1, must hold the names of the columns")
    return columns, delimiter


def _check_same(columns: dict[Path, tuple[str, ...]]) -> None:
    (first, expected), *others = columns.items()
    for file, names in others:
        if names != expected:
            lacks = [name for name in expected if name not in names]
            more = [name for name in names if name not in expected]
            parts = [f"lacks {', '.join(lacks)}"] if lacks else []
            parts += [f"has {', '.join(more)} in addition"] if more else []
            raise ValueError(
                f"all files must have the same columns in the same order: beside {first}, {file} "
                + (" and ".join(parts) or f"has them in another order, {', '.join(names)}")
            )


def _explained(message: str) -> str:
    """Return DuckDB's message in one line, without its advice about its own settings."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    place = re.search(r"CSV Error on Line: (\d+)", message)
    if place:
        file = re.search(r"^\s*file\s*=\s*(.+)$", message, re.MULTILINE)
        return f"{file[1].strip() if file else 'the csv file'}, line {place[1]}: {_broken(message, lines)}"
    kept = []
    for line in lines:
        if line.startswith(("Possible", "LINE 1:", "*", "^")):
            break
        kept.append(line)
    return re.sub(r"^[A-Z][A-Za-z ]+ Error: ", "", " ".join(kept))


def _broken(message: str, lines: Sequence[str]) -> str:
    """Say what is wrong with a line of a csv file."""
    counts = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", message)
    if counts:
        return f"the header has {counts[1]} columns, and this line has {counts[2]}"
    if "unterminated quote" in message:
        return "a quote is opened and never closed"
    if "not utf-8" in message or "Invalid unicode" in message:
        return "it is not in UTF-8: save the file with this encoding"
    after = [line for line in lines if not line.startswith(("CSV Error", "Invalid Input", "Original Line"))]
    return after[0] if after else "it cannot be read"
