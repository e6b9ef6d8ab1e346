"""A connection to DuckDB, whose errors are one line, and text in its SQL."""

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

MEMORY = "1GB"
"""What DuckDB may hold in memory; beyond it, intermediate results go to a temporary folder."""


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
            raise ValueError(explained(str(error))) from error


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


def explained(message: str) -> str:
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
