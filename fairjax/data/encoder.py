"""Turn the columns of a user's own table into features, the same way for training and for new rows."""

# pandas annotates a column of a table as a union of all its classes
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float32

from fairjax.data.expressions import NO_VALUE_NAME, check_columns, is_code, uncoded_number, word
from fairjax.data.relation import place_in_frame
from fairjax.metrics.levels import is_no_value

Kind = Literal["number", "category"]
MissingFeatures = Literal["raise", "indicate"]
Unknown = Literal["raise", "zeros"]

MOST_CATEGORIES = 50
"""Maximum number of categories of a column."""


@dataclasses.dataclass(frozen=True)
class ColumnEncoding:
    """How one column becomes features."""

    column: str
    """Name of the column."""
    kind: Kind
    """A number is one feature; a category is one feature per value, or a single one if there are two."""
    values: tuple[str, ...] = ()
    """The values of a category, in order."""
    median: float | None = None
    """For a column of numbers with missing values, the number in their place; an indicator is a feature beside it."""

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features."""
        if self.kind == "number":
            return (self.column,) if self.median is None else (self.column, f"{self.column} is missing")
        chosen = self.values[1:] if len(self.values) == 2 else self.values
        return tuple(f"{self.column}={value}" for value in chosen)


@dataclasses.dataclass(frozen=True)
class TableEncoder:
    """The encoding of all columns. Made by `fit_encoder`; `to_plain` and `from_plain` are for files."""

    columns: tuple[ColumnEncoding, ...]
    """One entry per column, in the order of the features."""

    @property
    def features(self) -> tuple[str, ...]:
        """Names of all features."""
        return tuple(name for column in self.columns for name in column.features)

    def encode(
        self, frame: pd.DataFrame, unknown: Unknown = "raise", *, place: Callable[[int], str] = place_in_frame
    ) -> Float32[np.ndarray, "n d"]:
        """Encode rows.

        Args:
            frame: the rows, with at least the encoded columns, as text or numbers.
            unknown: what to do with a category that did not occur when the encoder was made: raise an error, or give it
                0 in all features of the column.
            place: says for messages where a row is.

        Returns:
            The features.

        Raises:
            ValueError: if a column is missing, a value is missing that never was before, a number is none, or a
                category is unknown; the message names the column and the first row.

        Example:
            >>> frame = pd.DataFrame({"age": [20, 40], "job": ["cook", "clerk"]})
            >>> encoder = fit_encoder(frame, ["age", "job"])
            >>> encoder.features, encoder.encode(frame).tolist()
            (('age', 'job=cook'), [[20.0, 1.0], [40.0, 0.0]])
        """
        check_columns([column.column for column in self.columns], list(frame.columns))
        if not len(frame):
            raise ValueError("the table has no rows")
        parts = [_encoded(column, frame[column.column], unknown, place) for column in self.columns]
        return np.concatenate(parts, axis=1)

    def to_plain(self) -> list[dict[str, Any]]:
        """Return what JSON can hold."""
        return [dataclasses.asdict(column) for column in self.columns]

    @classmethod
    def from_plain(cls, content: Sequence[Mapping[str, Any]]) -> "TableEncoder":
        """Restore an encoder from what `to_plain` returned.

        Raises:
            TypeError, KeyError: for other content.
        """
        return cls(tuple(ColumnEncoding(**{**column, "values": tuple(column["values"])}) for column in content))


def fit_encoder(
    frame: pd.DataFrame,
    columns: Sequence[str],
    missing: MissingFeatures = "raise",
    place: Callable[[int], str] = place_in_frame,
) -> TableEncoder:
    """Choose the encoding of each column: numbers as they are, everything else as categories.

    Args:
        frame: the rows.
        columns: the columns that become features, in order.
        missing: what to do with missing values: raise an error, or fill them in and indicate it by a feature (numbers:
            the median of the other rows; categories: a category of their own).
        place: says for messages where a row is.

    Returns:
        The encoder.

    Raises:
        ValueError: if there are no columns, a value is missing, or a category has more than 50 values.
    """
    if not columns:
        raise ValueError("there is no column left to be a feature")
    check_columns(columns, list(frame.columns))
    return TableEncoder(tuple(_fitted(name, frame[name], missing, place) for name in columns))


def _fitted(name: str, column: pd.Series, missing: MissingFeatures, place: Callable[[int], str]) -> ColumnEncoding:
    numbers = _numbers(column)
    text, absent = (None, np.isnan(numbers)) if numbers is not None else tidied(column)
    if absent.any() and missing == "raise":
        raise ValueError(
            f"{name} has no value in {int(absent.sum()):,} of {len(column):,} rows, the first of them "
            f"{place(int(np.argmax(absent)))}: choose --missing indicate, or drop the column or the rows"
        )
    if absent.all():
        raise ValueError(f"{name} has no value in any row: leave it out with --drop {name}")
    if numbers is not None:
        return ColumnEncoding(name, "number", median=float(np.nanmedian(numbers)) if absent.any() else None)
    assert text is not None
    values = sorted(set(text[~absent]))
    if len(values) > MOST_CATEGORIES:
        listed = ", ".join(map(repr, values[:3]))
        raise ValueError(
            f"{name} has {len(values):,} different values, such as {listed}, more than the {MOST_CATEGORIES} that can "
            f"be features: leave it out with --drop {name}, or group its values"
        )
    return ColumnEncoding(name, "category", (*values, *([NO_VALUE_NAME] if absent.any() else ())))


def _encoded(
    encoding: ColumnEncoding, column: pd.Series, unknown: Unknown, place: Callable[[int], str]
) -> Float32[np.ndarray, "n k"]:
    name = encoding.column
    if encoding.kind == "number":
        numbers = _numbers(column)
        numbers = _truths(column) if numbers is None else numbers
        if numbers is None:
            raise ValueError(f"{name} must be a number, {_first_other(column, place)}")
        absent = np.isnan(numbers)
        if absent.any() and encoding.median is None:
            row = int(np.argmax(absent))
            raise ValueError(f"{name} has no value in {place(row)}, and never lacked one in training")
        numbers = np.where(absent, encoding.median or 0.0, numbers)
        parts = [numbers] if encoding.median is None else [numbers, absent.astype(float)]
        return np.stack(parts, axis=1).astype(np.float32)
    text, absent = tidied(column)
    text = np.where(absent, NO_VALUE_NAME, text)
    code_of = {word(value): i for i, value in enumerate(encoding.values)}  # as now written, whoever saved them
    codes = np.array([code_of.get(value, -1) for value in text])
    if (codes < 0).any() and unknown == "raise":
        row = int(np.argmax(codes < 0))
        unseen = "has no value" if absent[row] else f"is {text[row]!r}"
        raise ValueError(
            f"{name} {unseen} in {place(row)}, which did not occur when the network was trained "
            f"({', '.join(encoding.values)}): correct it, or choose --unknown zeros"
        )
    chosen = range(1, 2) if len(encoding.values) == 2 else range(len(encoding.values))
    return np.stack([codes == code for code in chosen], axis=1).astype(np.float32)


def tidied(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return a column as text, and which rows have no value.

    Example:
        >>> text, absent = tidied(pd.Series(["a ", None, "NA"]))
        >>> text[0], absent.tolist()
        ('a', [False, True, True])
    """
    codes, values = pd.factorize(column)
    words = [word(value) for value in values]
    absent = np.array([is_no_value(text) for text in words] + [True])
    return np.array([*words, ""], dtype=object)[codes], absent[codes]


def _numbers(column: pd.Series) -> np.ndarray | None:
    """Return a column of numbers, NaN for missing values; None if a value is no finite number."""
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        numbers = column.to_numpy(float, na_value=np.nan)
        return None if np.isinf(numbers).any() else numbers
    text, absent = tidied(column)
    codes, values = pd.factorize(text[~absent])
    known = [uncoded_number(value) for value in values]
    if None in known:
        return None
    numbers = np.full(len(column), np.nan)
    numbers[~absent] = np.array(known, float)[codes]
    return numbers


def _truths(column: pd.Series) -> np.ndarray | None:
    """Return a column of false and true as 0 and 1, NaN for missing values; None for other columns."""
    text, absent = tidied(column)
    is_truth = set(text[~absent]) <= {"false", "true"}
    return np.where(absent, np.nan, (text == "true").astype(float)) if is_truth else None


def _first_other(column: pd.Series, place: Callable[[int], str]) -> str:
    """Say which value of a column is the first that is no number, and where."""
    text, absent = tidied(column)
    row = next(i for i in np.flatnonzero(~absent).tolist() if uncoded_number(text[i]) is None)
    why = ", which is a code, not a number: write it without leading zeros if it is one" if is_code(text[row]) else ""
    return f"found {text[row]!r} in {place(row)}{why}"
