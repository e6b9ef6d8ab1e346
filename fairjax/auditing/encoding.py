"""Turn the values of a counted table into codes of groups and classes, and refuse what cannot be understood."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from fairjax.auditing.counting import BINS
from fairjax.auditing.counts import Counts, Scores
from fairjax.auditing.query import Query
from fairjax.data.expressions import (
    NO_VALUE_NAME,
    TRUE,
    Attribute,
    are_truth_values,
    check_spelling,
    listed,
    positive_values,
    word,
)
from fairjax.metrics.levels import is_no_value

MissingRows = Literal["raise", "group", "drop"]
"""What to do with rows without a value: raise an error, make them a group if an attribute is missing, or drop them."""


def encode(
    query: Query,
    frame: pd.DataFrame,
    *,
    positive: Any,
    classes: Sequence[str],
    missing: MissingRows,
    most_groups: int,
    decisions: Sequence[str] = ("d",),
) -> tuple[Counts, list[str]]:
    """Turn a counted table into counts.

    Args:
        query: the table and its columns.
        frame: the frame that `counted` returns.
        positive: the positive value of the label, and of decisions that have the label's values.
        classes: the values of the label in order, if there are more than two classes.
        missing: what to do with rows without a value: raise an error; make them a group, if an attribute is missing; or
            drop them.
        most_groups: the maximum number of groups of an attribute, and of their intersections.
        decisions: the columns of decisions; with several of them, the counts have an axis for each.

    Returns:
        The counts, and notes on what was left out.

    Raises:
        ValueError: for values that are missing, unknown or too many.
    """
    columns, notes = query.columns, []
    if used := [name for name in query.table.repeated if name in query.read]:
        notes.append(f"The table has several columns named {', '.join(used)}; the first of them is used.")
    fields = [f"g{i}" for i in range(len(query.attributes))]
    titles = dict(zip(fields, (each.column for each in query.attributes), strict=True))
    titles |= {"y": columns.label, **{name: columns.decision or str(columns.score) for name in decisions}}
    table = frame.copy()
    for name in titles:
        table[name] = [_tidied(value) for value in table[name]]
    absent = {name: table[name].isna() for name in titles if table[name].isna().any()}
    if missing == "group":
        for name in [name for name in absent if name in fields]:
            table[name] = table[name].fillna(NO_VALUE_NAME)
            del absent[name]
    if absent and missing != "drop":
        name = next(iter(absent))
        count = int(frame.loc[absent[name], "rows"].sum())
        way = "make them a group with --missing group, or leave these rows out with --missing drop"
        raise ValueError(
            f"{titles[name]} has no value in {count:,} of {int(frame['rows'].sum()):,} rows: "
            + (way if name in fields else "leave these rows out with --missing drop")
        )
    if absent:
        dropped = np.logical_or.reduce([np.asarray(each) for each in absent.values()])
        count = int(frame.loc[dropped, "rows"].sum())
        table = table[~dropped]
        names = " or ".join(dict.fromkeys(titles[name] for name in absent))
        notes.append(f"{count:,} of {int(frame['rows'].sum()):,} rows were left out, since they lack {names}.")
        if not len(table):
            raise ValueError(f"every row lacks {names}, so there is nothing to measure")
    _check_values_occur(query, table, decisions)
    coded = [
        _groups(table[name], attribute, most_groups) for name, attribute in zip(fields, query.attributes, strict=True)
    ]
    values = tuple(each[0] for each in coded)
    combined, group = np.unique(np.stack([codes for _, codes in coded], axis=1), axis=0, return_inverse=True)
    group = group.reshape(-1)
    if len(combined) > most_groups:
        raise ValueError(
            f"{' x '.join(each.column for each in query.attributes)} has {len(combined)} groups, more than "
            f"{most_groups}: name fewer attributes, give edges, or raise --most-groups"
        )
    for (kinds, _), attribute in zip(coded, query.attributes, strict=True):
        if len(kinds) < 2:
            raise ValueError(
                f"{attribute.column} has one value only, {kinds[0]!r}, so there are no groups to compare: leave it out"
            )
    names, label, predicted = _classes(query, table, titles, decisions, positive, tuple(classes))
    shape = (*[len(names)] * (len(decisions) + 1), len(combined))
    place = np.ravel_multi_index((*predicted, label, group), shape)
    sums = [_sum(place, table[name], shape) for name in ("rows", "weight", "squares")]
    scores = None
    if "b" in table:
        bins = np.ravel_multi_index((table["b"].to_numpy(int), label, group), (BINS, 2, len(combined)))
        scores = Scores(*(_sum(bins, table[name], (BINS, 2, len(combined))) for name in _OF_SCORES))
    counts = Counts(
        attributes=tuple(each.column for each in query.attributes),
        values=values,
        codes=combined,
        classes=names,
        rows=sums[0],
        weights=sums[1],
        squares=sums[2],
        weighted="w" in query.fields,
        scores=scores,
    )
    notes += _empty_classes(counts, columns.label)
    return counts, notes


def _check_values_occur(query: Query, table: pd.DataFrame, decisions: Sequence[str]) -> None:
    """Check that what a column is compared with by = or != is one of its values, since a typing error would be 0."""
    for name in ("y", *decisions):
        condition = query.conditions.get("y" if name == "y" else "d")
        if condition is not None and condition.sign in ("=", "!="):
            if set(table[name]) == {word(condition.sign == "!=")}:
                raise ValueError(
                    f"{condition.value!r} does not occur in {condition.column}, so {condition} is the same in all "
                    "rows: name a value that occurs, as it is written in the table"
                )


_OF_SCORES = ("weight", "squares", "score", "score2")


def _sum(place: np.ndarray, values: pd.Series, shape: tuple[int, ...]) -> np.ndarray:
    return np.bincount(place, values.to_numpy(float), int(np.prod(shape))).reshape(shape)


def _tidied(value: Any) -> str | None:
    """Return a value as text; None if it stands for a missing value."""
    if pd.isna(value):
        return None
    text = word(value)
    return None if is_no_value(text) else text


def _groups(column: pd.Series, attribute: Attribute, most_groups: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the values of an attribute in order, and the code of each line."""
    if attribute.edges:
        ranges = {str(i): name for i, name in enumerate(attribute.names)}
        values = [name for code, name in ranges.items() if (column == code).any()]
        column = column.replace(ranges)
    else:
        values = sorted(set(column) - {NO_VALUE_NAME}, key=_order)
    if (column == NO_VALUE_NAME).any():
        values.append(NO_VALUE_NAME)
    if len(values) > most_groups:
        raise ValueError(
            f"{attribute.column} has {len(values):,} values, more than {most_groups} groups, such as "
            f"{', '.join(map(repr, values[:3]))}: cut a column of numbers into ranges with edges, as in "
            f"--groups {attribute.column}:25,60, or raise --most-groups"
        )
    check_spelling(attribute.column, values)
    code = {value: i for i, value in enumerate(values)}
    return tuple(values), np.array([code[value] for value in column])


def _order(value: str) -> tuple[bool, float, str]:
    """Sort numbers by size, and before words."""
    try:
        return (False, float(value), value)
    except ValueError:
        return (True, 0.0, value)


def _classes(
    query: Query,
    table: pd.DataFrame,
    titles: dict[str, str],
    decisions: Sequence[str],
    positive: Any,
    classes: tuple[str, ...],
) -> tuple[tuple[str, ...], np.ndarray, list[np.ndarray]]:
    """Return the names of the classes, the code of each label, and those of each column of decisions."""
    label = table["y"]
    values = sorted(set(label), key=_order)
    if classes:
        names = tuple(map(word, classes))
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"classes must be two or more different values of {titles['y']}, got {', '.join(names)}")
        code = {name: i for i, name in enumerate(names)}
        for name in ("y", *decisions):
            unknown = sorted(set(table[name]) - set(code))
            if unknown:
                raise ValueError(
                    f"{titles[name]} has the value {unknown[0]!r}, which is none of the classes {', '.join(names)}"
                )
        return names, _codes(label, code), [_codes(table[name], code) for name in decisions]
    several = ", or that there are several classes with --classes" if len(values) > 2 else ""
    truth = positive_values(titles["y"], values, positive, several)
    predicted = [
        _codes(table[name], _decisions(query, titles[name], sorted(set(table[name]), key=_order), titles["y"], truth))
        for name in decisions
    ]
    negative = [value for value in values if not truth[value]]
    names = (
        negative[0] if len(negative) == 1 else "other",
        word(positive) if positive is not None else next((value for value in values if truth[value]), "1"),
    )
    return names, _codes(label, truth), predicted


def _decisions(query: Query, title: str, values: list[str], label: str, truth: dict[str, bool]) -> dict[str, bool]:
    """Return which decisions are positive.

    Args:
        query: the table and its columns.
        title: the column of decisions, for messages.
        values: its values.
        label: the column of labels, for messages.
        truth: which values of the label are positive.

    Raises:
        ValueError: for values that are neither those of the label nor true and false, or could be either.
    """
    as_truth = {value: value in TRUE for value in values} if are_truth_values(values) else None
    if query.has_truths and as_truth is not None:
        return as_truth
    check_spelling(title, values)
    as_label = {value: truth[value] for value in values} if set(values) <= set(truth) else None
    if as_label is not None and as_truth is not None and as_label != as_truth:
        value = next(value for value in values if as_label[value] != as_truth[value])
        both = ("positive", "negative") if as_label[value] else ("negative", "positive")
        raise ValueError(
            f"{title} has the value {value!r}, which is {both[0]} as a value of {label}, and {both[1]} as 0 or 1: "
            f'say which decisions are positive by a condition, as in --decision "{title}={value}"'
        )
    if as_label is not None:
        return as_label
    is_reversed = are_truth_values(list(truth)) and any(truth[value] != (value in TRUE) for value in truth)
    if as_truth is not None and not is_reversed:
        return as_truth
    strange = next(value for value in values if value not in truth)
    if as_truth is not None:
        raise ValueError(
            f"{title} has the value {strange!r} and {label} the values {listed(list(truth))}, with "
            f"{next(value for value in truth if truth[value])!r} as the positive one, so it is unclear which decision "
            f'is positive: give a condition, as in --decision "{title}={strange}"'
        )
    scores = " Scores are named by --score." if "." in strange else ""
    raise ValueError(
        f"{title} must be 0 or 1, true or false, or the values of {label} ({', '.join(list(truth)[:5])}), found "
        f'{strange!r}: give a condition, as in --decision "{title}>4".{scores}'
    )


def _codes(column: pd.Series, code: dict[str, int]) -> np.ndarray:
    return np.array([code[value] for value in column], int)


def _empty_classes(counts: Counts, title: str) -> list[str]:
    """Return a note on classes without rows, whose error rates cannot be computed."""
    cells = counts.weights.sum(axis=-1).reshape(-1, len(counts.classes)).sum(axis=0)
    empty = [name for name, total in zip(counts.classes, cells, strict=True) if not total > 0]
    return [f"{title} is never {name}, so rates among these rows cannot be computed." for name in empty]
