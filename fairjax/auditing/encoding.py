"""Turn the values of a counted table into codes of groups and classes, and refuse what cannot be understood."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from fairjax.auditing.counting import BINS, Query, describe_first
from fairjax.auditing.counts import Counts, Scores
from fairjax.data.expressions import TRUE, Attribute, are_truth_values, check_spelling, positive_values, word
from fairjax.metrics.levels import is_no_value

if TYPE_CHECKING:
    import duckdb

Missing = Literal["raise", "group", "drop"]

MISSING = "(missing)"
"""Name of the group of rows without a value."""


def encode(
    connection: "duckdb.DuckDBPyConnection",
    query: Query,
    frame: pd.DataFrame,
    *,
    positive: str | None,
    classes: Sequence[str],
    missing: Missing,
    most_groups: int,
    decisions: Sequence[str] = ("d",),
) -> tuple[Counts, list[str]]:
    """Turn a counted table into counts.

    Args:
        connection: an open connection, for messages that name a row.
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
    if query.table.repeated and (used := [name for name in query.table.repeated if name in query.used()]):
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
            table[name] = table[name].fillna(MISSING)
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
        lost = np.logical_or.reduce([np.asarray(each) for each in absent.values()])
        count = int(frame.loc[lost, "rows"].sum())
        table = table[~lost]
        names = ", ".join(titles[name] for name in absent)
        notes.append(f"{count:,} of {int(frame['rows'].sum()):,} rows were left out, since they lack {names}.")
        if not len(table):
            raise ValueError(f"every row lacks {names}, so there is nothing to measure")
    coded = [
        _groups(connection, query, name, table, attribute, most_groups)
        for name, attribute in zip(fields, query.attributes, strict=True)
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
    names, label, predicted = _classes(table, titles, decisions, positive, tuple(classes))
    shape = (*[len(names)] * (len(decisions) + 1), len(combined))
    place = np.ravel_multi_index((*predicted, label, group), shape)
    sums = [_sum(place, table[name], shape) for name in ("rows", "weight", "squares")]
    scores = None
    if "b" in table:
        bins = np.ravel_multi_index((table["b"].to_numpy(), label, group), (BINS, 2, len(combined)))
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


_OF_SCORES = ("weight", "squares", "score", "score2")


def _sum(place: np.ndarray, values: pd.Series, shape: tuple[int, ...]) -> np.ndarray:
    return np.bincount(place, values.to_numpy(float), int(np.prod(shape))).reshape(shape)


def _tidied(value: Any) -> str | None:
    """Return a value as text; None if it stands for a missing value."""
    if pd.isna(value):
        return None
    text = word(value)
    return None if is_no_value(text) else text


def _groups(
    connection: "duckdb.DuckDBPyConnection",
    query: Query,
    name: str,
    table: pd.DataFrame,
    attribute: Attribute,
    most_groups: int,
) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the values of an attribute in order, and the code of each line."""
    column = table[name]
    if attribute.edges and (column == "-1").any():
        first = describe_first(connection, query, attribute.column, f"{name} = -1")
        raise ValueError(f"{attribute.column} must hold numbers, since it has edges, found {first}")
    values = sorted(set(column), key=_order)
    if attribute.edges:
        ranges = {value: attribute.names[int(value)] for value in values if value != MISSING}
        column, values = column.replace(ranges), [ranges.get(value, value) for value in values]
    if MISSING in set(column):
        values = [*(value for value in values if value != MISSING), MISSING]
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
    table: pd.DataFrame,
    titles: dict[str, str],
    decisions: Sequence[str],
    positive: str | None,
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
    chosen = None if positive is None else word(positive)
    several = ", or that there are several classes with --classes" if len(values) > 2 else ""
    truth = positive_values(titles["y"], values, positive, several)
    predicted = []
    for name in decisions:
        found = sorted(set(table[name]), key=_order)
        if are_truth_values(found):
            code = {value: value in TRUE for value in found}
        elif set(found) <= set(values) | ({chosen} if chosen else set()):
            code = {value: truth.get(value, True) for value in found}
        else:
            strange = next(value for value in found if value not in values)
            scores = " Scores are named by --score." if "." in strange else ""
            raise ValueError(
                f"{titles[name]} must be 0 or 1, true or false, or the values of {titles['y']} ({', '.join(values[:5])}"
                f'), found {strange!r}: give a condition, as in --decision "{titles[name]}>4".{scores}'
            )
        predicted.append(_codes(table[name], code))
    kept = [value for value in values if not truth[value]]
    names = (kept[0] if len(kept) == 1 else "other", chosen or next((value for value in values if truth[value]), "1"))
    return names, _codes(label, truth), predicted


def _codes(column: pd.Series, code: dict[str, int]) -> np.ndarray:
    return np.array([code[value] for value in column], int)


def _empty_classes(counts: Counts, title: str) -> list[str]:
    """Return a note on classes without rows, whose error rates cannot be computed."""
    cells = counts.weights.sum(axis=-1).reshape(-1, len(counts.classes)).sum(axis=0)
    empty = [name for name, total in zip(counts.classes, cells, strict=True) if not total > 0]
    return [f"{title} is never {name}, so rates among these rows cannot be computed." for name in empty]
