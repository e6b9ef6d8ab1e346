"""Markdown of the generated parts of the documents: tables, and what docstrings and fields of a class say."""

import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from math import isinf
from typing import Any

from fairjax.runs.fields import field_docs

FILLED_IN = ("num_groups", "num_classes")
"""Fields that are no settings, since they follow from the data."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Format a table; bars in cells are escaped.

    Example:
        >>> print(table(("name", "equation"), [("parity", "|proxy|")]))
        | name | equation |
        |---|---|
        | parity | \|proxy\| |
    """
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |")
    return "\n".join(lines)


def settings_table(value: Any) -> str:
    """Return a table of the fields of a dataclass with their defaults; empty if it has none.

    Example:
        >>> from fairjax.preprocess import Smote
        >>> settings_table(Smote()).splitlines()[-1]
        '| `neighbours` | `5` | Number of nearest neighbours among which one is drawn. |'
    """
    docs = field_docs(type(value))
    fields = {name: default for name, default in vars(value).items() if name not in FILLED_IN} if docs else {}
    rows = [(f"`{name}`", f"`{default}`", docs.get(name, "")) for name, default in fields.items()]
    return table(("setting", "default", "meaning"), rows) if rows else ""


def described(kind: type) -> tuple[str, list[str]]:
    """Return the text of a docstring without its examples, and lines with its references, after an empty line each.

    Example:
        >>> class Documented:
        ...     '''Something.
        ...
        ...     References:
        ...         Somebody (2000), A title, https://example.org
        ...     '''
        >>> described(Documented)
        ('Something.', ['', 'Reference: Somebody (2000), A title, https://example.org'])
    """
    parts = re.split(r"^(Example|References):$", inspect.getdoc(kind) or "", flags=re.MULTILINE)
    references = dict(zip(parts[1::2], parts[2::2], strict=True)).get("References", "")
    lines = [line for entry in references_in(references) for line in ("", f"Reference: {entry}")]
    return parts[0].strip(), lines


def references_in(text: str) -> list[str]:
    r"""Split the references of a docstring: an entry ends with an address, or with the last line.

    Example:
        >>> references_in("One, https://example.org/1\nTwo, with a long\ntitle")
        ['One, https://example.org/1', 'Two, with a long title']
    """
    entries, lines = [], []
    for line in textwrap.dedent(text.strip("\n")).splitlines():
        lines.append(line.strip())
        if re.search(r"https?://\S+$", line):
            entries.append(" ".join(lines))
            lines = []
    rest = " ".join(lines).strip()
    return [*entries, *([rest] if rest else [])]


def path_of(entry: Any) -> str:
    """Return the shortest path of a class or function: that of the outermost package that exports it.

    Example:
        >>> from fairjax.methods.pruning import Pruning
        >>> path_of(Pruning)
        'fairjax.Pruning'
    """
    packages = itertools.accumulate(entry.__module__.split("."), "{}.{}".format)
    exporting = (name for name in packages if getattr(sys.modules.get(name), entry.__name__, None) is entry)
    return f"{next(exporting)}.{entry.__name__}"


def at_most(number: float) -> str:
    """Return a maximal number for a cell of a table.

    Example:
        >>> at_most(2), at_most(float("inf"))
        ('2', 'any')
    """
    return "any" if isinf(number) else f"{number:g}"


def limit(number: float, what: str) -> str:
    """Return a maximal number of something in words.

    Example:
        >>> limit(2, "groups"), limit(float("inf"), "classes")
        ('at most 2 groups', 'any number of classes')
    """
    return f"any number of {what}" if isinf(number) else f"at most {number:g} {what}"
