"""Find columns of a user's own table that are unfit as features, or that give the label or the group away."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

_COPY = 0.98
"""Share of rows in which a column must determine the label or the group to be reported as a copy."""
_DATE = r"^\d{4}-\d{1,2}-\d{1,2}([ T].*)?$|^\d{1,2}[/.]\d{1,2}[/.]\d{2,4}$"
_FEW = 50
"""Number of rows below which it says nothing about a column that no value occurs twice."""
_UNIQUE = "identifies the rows, since no value occurs twice"
_LONG = 8
"""Number of digits from which whole numbers of equal length are taken for identifiers."""
_IDENTIFIERS = frozenset(
    "account client code customer guid iban id index key no nr num number person record reference row uid uuid".split()
)
"""Last words of names of identifiers."""
_EPOCH = (1e9, 2e9)
"""Seconds from 1970 to September 2001 and to May 2033, between which whole numbers are taken for times."""
_UNITS = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}


def unfit_columns(frame: pd.DataFrame) -> tuple[set[str], list[str]]:
    """Find constants, dates and identifiers among columns, and whole numbers that may be identifiers.

    Args:
        frame: the columns that might be features.

    Returns:
        The names of the columns that are unfit as features, and warnings about these and about doubtful ones.

    Example:
        >>> frame = pd.DataFrame({"age": [20, 40, 20], "day": ["2024-01-02", "2024-03-04", "2024-03-04"]})
        >>> unfit_columns(frame)
        ({'day'}, ['day holds dates, so it is not used as a feature'])
    """
    unfit, warnings = set(), []
    for name, column in frame.items():
        distinct = column.nunique(dropna=False)
        is_unique = distinct == len(frame) and len(frame) >= _FEW
        reason = (
            "is the same in all rows" if distinct <= 1
            else _UNIQUE if is_unique and _is_named_identifier(str(name)) and not _has_decimals(column)
            else _dates(column) or (_UNIQUE if is_unique and _is_identifier(column) else "")
        )  # fmt: skip
        if reason:
            unfit.add(str(name))
            warnings.append(f"{name} {reason}, so it is not used as a feature")
        elif is_unique and not _has_decimals(column):
            warnings.append(
                f"{name} holds a whole number of its own in every row: if it identifies the rows, leave it out with "
                f"--drop {name}"
            )
    return unfit, warnings


def _is_named_identifier(name: str) -> bool:
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    return bool(words) and words[-1] in _IDENTIFIERS


def _is_identifier(column: pd.Series) -> bool:
    """Return whether values that are all different are words, dense whole numbers, or long ones of equal length."""
    if not pd.api.types.is_numeric_dtype(column):
        return True
    numbers = column.dropna().to_numpy(float)
    if _has_decimals(column):
        return False
    lowest, highest = np.abs(numbers).min(), np.abs(numbers).max()
    return bool(np.ptp(numbers) <= 10 * len(numbers) or len(f"{lowest:.0f}") == len(f"{highest:.0f}") >= _LONG)


def _has_decimals(column: pd.Series) -> bool:
    if not pd.api.types.is_numeric_dtype(column):
        return False
    numbers = column.dropna().to_numpy(float)
    return bool((numbers != np.floor(numbers)).any())


def _dates(column: pd.Series) -> str:
    """Say what kind of dates a column holds; return an empty text for another column."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return "holds dates"
    if not pd.api.types.is_numeric_dtype(column):
        first = column.dropna().astype(str).head(1000)
        return "holds dates" if len(first) and first.str.match(_DATE).mean() > 0.95 else ""
    numbers = column.dropna().to_numpy(float)
    if not len(numbers) or _has_decimals(column):
        return ""
    for unit, each in _UNITS.items():
        if numbers.min() >= _EPOCH[0] * each and numbers.max() < _EPOCH[1] * each:
            return f"holds dates, as {unit} since 1970"
    months, days = numbers // 100 % 100, numbers % 100
    written = numbers.min() >= 19000101 and numbers.max() <= 21001231  # as in 20240229
    if written and np.isin(months, range(1, 13)).all() and np.isin(days, range(1, 32)).all():
        return "holds dates, as yyyymmdd"
    return ""


def copies(frame: pd.DataFrame, y: np.ndarray, a: np.ndarray, label: str, groups: Sequence[str]) -> list[str]:
    """Find columns that determine the label or the group nearly always.

    Args:
        frame: the columns that are features.
        y: labels.
        a: groups: codes, or one column per group.
        label: name of the label, for the warnings.
        groups: names of the protected attributes.

    Returns:
        Warnings.
    """
    warnings = []
    group = a if a.ndim == 1 else a.argmax(axis=1)
    for name, column in frame.items():
        if column.nunique() > len(column) // 5:  # values of few rows each determine anything
            continue
        codes, values = pd.factorize(column, use_na_sentinel=False)
        for target, what in (
            (y.astype(int), f"the label {label}"),
            (group.astype(int), f"the protected {' and '.join(groups)}"),
        ):
            shape = (len(values), int(target.max()) + 1)
            table = np.bincount(codes * shape[1] + target, minlength=shape[0] * shape[1]).reshape(shape)
            share, most = table.max(axis=1).sum() / len(codes), table.sum(axis=0).max() / len(codes)
            if share >= _COPY and share > most + 0.5 * (1 - most):
                warnings.append(
                    f"{name} tells {what} in {share:.1%} of the rows: leave a copy of it out with --drop {name}"
                )
    return warnings
