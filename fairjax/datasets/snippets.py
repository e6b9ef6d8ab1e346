"""Rated sentences of film reviews, product reviews and newspaper editorials, of which VADER was made."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32

from fairjax.datasets.files import DataError, PathLike, RawFile, find

_URL = "https://raw.githubusercontent.com/cjhutto/vaderSentiment/master/additional_resources/hutto_ICWSM_2014.tar.gz"

SNIPPET_FILES = {
    kind: RawFile(f"vader/{name}_GroundTruth.txt", checksum, _URL, f"hutto_ICWSM_2014/{name}_GroundTruth.txt")
    for kind, name, checksum in (
        ("film", "movieReviewSnippets", "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350"),
        ("product", "amazonReviewSnippets", "11a9807a0974a2506a2d3b4851eaf69b3d6d20688ce4923adda2312a4f6dd6c2"),
        ("editorial", "nytEditorialSnippets", "7d8fbcce7dde5d716da53e78f4ef4be6b706e9ef1e1d51887e6d0ad4b69cc27e"),
    )
}
"""The raw files, by kind of text."""


class Snippets(NamedTuple):
    """Sentences with the mean rating of twenty readers each."""

    texts: tuple[str, ...]
    """The sentences."""
    y: Bool[np.ndarray, " n"]
    """Whether the rating is positive."""
    identities: Int32[np.ndarray, " n"]
    """Codes 0, 1, ... of the reviews and articles, for `fairjax.data.split_seeds(identities=)`."""
    valence: Float32[np.ndarray, " n"]
    """Mean ratings, from -4 (most negative) to 4 (most positive)."""


def snippets(path: PathLike | None = None, *, least: float | int = 0.5, verify: bool = True) -> Snippets:
    """Load sentences of 10,605 film reviews, 309 product reviews and 500 newspaper editorials with their ratings.

    There is no protected attribute: the sentences train a classifier of sentiment, whose bias is measured with names
    and templates. Sentences of one document have one identity, so that splits can keep them in one part. Of sentences
    that occur more than once, such as "cool.", the first is kept.

    Args:
        path: A folder that holds the three files, directly or in `vader/`; if omitted, `fairjax.datasets.find` looks
            for them.
        least: Least absolute rating of a sentence that is kept; the others are neither positive nor negative.
        verify: Whether to reject a file whose checksum is not the expected one.

    Returns:
        The sentences: 15,977 with the default `least`, of which 49.5 % are positive, and 19,419 with `least=0`.

    Raises:
        FileNotFoundError: If a file is not found and cannot be downloaded.
        DataError: If a file does not have the expected checksum, or a line has no id, rating and text.
        ValueError: If `least` is not between 0 and 4.

    Example:
        >>> len(snippets().texts)  # doctest: +SKIP
        15977

    References:
        Hutto, Gilbert (2014), VADER: a parsimonious rule-based model for sentiment analysis of social media text,
        ICWSM, https://doi.org/10.1609/icwsm.v8i1.14550
    """
    if not 0 <= least <= 4:
        raise ValueError(f"least must be a rating between 0 and 4, got {least}")
    sentences: dict[str, tuple[float, str]] = {}
    for kind, raw in SNIPPET_FILES.items():
        for document, rating, text in _lines(find(raw, path, verify=verify)):
            sentences.setdefault(text, (rating, f"{kind} {document}"))
    kept = {text: entry for text, entry in sentences.items() if abs(entry[0]) >= least}
    valence = np.array([rating for rating, _ in kept.values()], np.float32)
    _, identities = np.unique([document for _, document in kept.values()], return_inverse=True)
    return Snippets(tuple(kept), valence > 0, identities.astype(np.int32), valence)


def _lines(file: Path) -> list[tuple[str, float, str]]:
    """Read document, rating and text of each line; lines end with a line feed, other separators are part of texts."""
    try:
        lines = file.read_bytes().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no UTF-8 text ({error}): get it again") from error
    read = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() and number == len(lines):
            continue
        try:
            name, rating, text = line.removesuffix("\r").split("\t")
            read.append((name.partition("_")[0], float(rating), text))
        except ValueError as error:
            raise DataError(
                f"line {number} of {file} must be an id, a rating and a text, separated by tabs, found {line[:60]!r}"
            ) from error
        if not abs(read[-1][1]) <= 4:
            raise DataError(f"the rating in line {number} of {file} must be between -4 and 4, found {rating}")
    return read
