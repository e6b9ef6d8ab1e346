"""Docstrings and documents are not broken by a careless re-wrap, and speak plain English."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for folder in ("fairjax", "experiments") for path in (ROOT / folder).rglob("*.py"))
COUNTED = "one|two|a|the|seconds|rows|candidates|bytes|nats|number|threshold|key|entry|array|candidate"
UNITS = "seed|row|unit|method|chunk|step|epoch|group|network|mini-batch|part"
RELATED = "of|that|for|needs|which|by|in|from|with|behind"
DIALECT = re.compile(
    rf"\b(?:{COUNTED}) (?:(?!{RELATED})\w+ )?an? (?:{UNITS})\b"
    r"|\bat the door\b|\bon (?:its|their) way\b|\bas (?:it|they) came\b",
    re.IGNORECASE,
)
"""Such as "one number a row", which is "one number per row"."""


def prose(source):
    """Docstrings, strings below fields and blocks of comments, with the line that each begins at."""
    text = source.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        for entry in getattr(node, "body", None) if isinstance(getattr(node, "body", None), list) else ():
            if (
                isinstance(entry, ast.Expr)
                and isinstance(entry.value, ast.Constant)
                and isinstance(entry.value.value, str)
            ):
                yield entry.lineno, entry.value.value


def orphans(text):
    """Lines of one or two short words in the middle of a paragraph, which a re-wrap by hand would not leave."""
    lines = text.split("\n")
    for before, line, after in zip(lines, lines[1:], lines[2:], strict=False):
        words = line.split()
        inside = before.strip() and words and after.strip() and len(before) > 60
        plain = not any(mark in line for mark in ("...", ":", "0.", ">>>", "|", "*", "`", "http", "("))
        same = len(line) - len(line.lstrip()) == len(after) - len(after.lstrip()) == len(before) - len(before.lstrip())
        if (
            inside
            and plain
            and same
            and len(words) <= 2
            and len(line.strip()) < 20
            and after.split()[0] not in ("-", "*")
        ):
            yield line.strip()


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_docstrings_have_no_orphaned_words(source):
    found = [(line, orphan) for line, text in prose(source) for orphan in orphans(text)]
    assert not found


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_docstrings_speak_plain_english(source):
    found = [(line, match.group(0)) for line, text in prose(source) for match in DIALECT.finditer(text)]
    assert not found


def test_an_orphan_is_found():
    wrapped = (
        "Some sentence that is long enough to be wrapped at the end of its\nline\nand goes on here, after one word."
    )
    assert list(orphans(wrapped)) == ["line"]
    assert DIALECT.search("One number a row.") and not DIALECT.search("One number per row.")
