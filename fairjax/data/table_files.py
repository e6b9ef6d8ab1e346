"""Tables that DuckDB streams: csv and Parquet files, one or many, and pandas frames."""

import csv
import glob
import gzip
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fairjax.data.connection import explained, identifier, quoted
from fairjax.data.relation import Relation, kind_of, sql_paths

if TYPE_CHECKING:
    import duckdb


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
    kinds = {kind_of(file) for file in files}
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


def _of_parquet(connection: "duckdb.DuckDBPyConnection", name: str, files: Sequence[Path]) -> Relation:
    import duckdb

    columns: dict[Path, tuple[str, ...]] = {}
    kinds: dict[Path, tuple[str, ...]] = {}
    for file in files:
        if file.stat().st_size == 0:
            raise ValueError(f"{file} is empty")
        try:
            described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({sql_paths([file])})").fetchall()
        except duckdb.Error as error:
            raise ValueError(f"{file} is cut off, or is not a Parquet file ({explained(str(error))})") from error
        columns[file] = tuple(row[0] for row in described)
        kinds[file] = tuple(row[1] for row in described)
    _check_same(columns)
    first = columns[files[0]]
    sql = f"read_parquet({sql_paths(files)})"
    return Relation(name, sql, first, tuple(map(identifier, first)), kinds[files[0]], files=tuple(files))


def _of_csv(connection: "duckdb.DuckDBPyConnection", name: str, files: Sequence[Path]) -> Relation:
    heads = {file: _header(file) for file in files}
    _check_same({file: columns for file, (columns, _) in heads.items()})
    columns, delimiter = heads[files[0]]
    plain = tuple(f"c{i}" for i in range(len(columns)))  # so that names in a header never reach SQL
    types = ", ".join(f"'{each}': 'VARCHAR'" for each in plain)
    relation = (
        f"read_csv({sql_paths(files)}, header = false, skip = 1, auto_detect = false, delim = {quoted(delimiter)}, "
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
