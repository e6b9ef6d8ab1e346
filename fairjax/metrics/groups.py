"""Groups of rows by the values of protected attributes, with their names.

A measure needs a column of codes, or a matrix of memberships, and the sets of groups that are compared with each other.
`Groups` keeps these together with the names of the groups, for tables and messages, and records which groups are left
out of comparisons and why. Groups that are left out remain in the data: they count in everything that is computed from
all rows.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Int32
from pandas.api.extensions import ExtensionArray

from fairjax import checks

Membership = Literal["weighted", "solved"]
Column = Bool[np.ndarray, " n"] | Int32[np.ndarray, " n"] | Bool[np.ndarray, "n g"] | Float32[np.ndarray, "n g"]

POOLED = "other groups"
"""Name of the group into which small groups are pooled."""

MISSING = "missing"
"""Name of the level for rows without a value."""


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of rows, with names. Made by `groups`, `memberships` or `continuous`; prints as a table."""

    a: Column
    """The group of each row: booleans for two groups (true: the second), codes (n,) for any number of groups, or
    memberships (n, groups)."""
    names: tuple[str, ...]
    """Names of the groups, in the order of the codes or columns."""
    attributes: tuple[str, ...]
    """Names of the attributes that define the groups."""
    levels: tuple[tuple[Any, ...], ...]
    """The values of the attributes in each group."""
    counts: np.ndarray
    """Number of rows of each group; for soft memberships, their sum."""
    blocks: tuple[tuple[int, ...], ...] | None = None
    """Sets of groups that are compared with each other, as in `fairjax.metrics.Parity`; None if all are."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Groups that are not compared, with the reason."""
    membership: Membership | None = None
    """How soft memberships are counted."""
    encoder: "Callable[[Any, Any], Column] | None" = None
    """The function that `encode` calls."""
    pandas_index: Any = None
    """Index of the rows, if they were given as a pandas object; other pandas objects of the rows must have it too."""

    def __post_init__(self) -> None:
        """Check that names, levels, counts and the column have the same number of groups."""
        count = len(self.names)
        if not count or len(self.levels) != count or len(self.counts) != count:
            raise ValueError(
                f"groups must have as many levels and counts as names, found {count} names, {len(self.levels)} levels "
                f"and {len(self.counts)} counts: make them with fairjax.data.groups"
            )
        greatest = self.a.shape[1] - 1 if self.a.ndim == 2 else int(np.max(self.a, initial=0))
        least = 0 if self.a.ndim == 2 else int(np.min(self.a, initial=0))
        if self.a.ndim not in (1, 2) or least < 0 or greatest >= count or (self.a.ndim == 2 and greatest != count - 1):
            raise ValueError(
                f"groups must be codes from 0 to {count - 1} or have {count} columns, one per name, found shape "
                f"{self.a.shape} with codes from {least} to {greatest}: make them with fairjax.data.groups"
            )

    def __len__(self) -> int:
        """Number of groups."""
        return len(self.names)

    @property
    def compared(self) -> tuple[str, ...]:
        """Names of the groups that are compared."""
        return tuple(name for name in self.names if name not in self.left_out)

    def encode(self, columns: Any, strata: Any = None) -> Column:
        """Encode the groups of other rows, such as those of a test file.

        Args:
            columns: the attributes from which the groups were made.
            strata: the control features from which the groups were made, if there were any.

        Returns:
            A column like `a`.

        Raises:
            ValueError: if an attribute or control feature is missing, or has a value that did not occur before.

        Example:
            >>> groups(["a", "b", "c"]).encode(["c", "a"]).tolist()
            [2, 0]
        """
        if self.encoder is None:
            raise ValueError("memberships come from probabilities, not from values: make those of other rows again")
        return self.encoder(columns, strata)

    def __str__(self) -> str:
        """Format as a table with one line per group."""
        wide = max(map(len, self.names))
        lines = [f"{'group':<{wide}}  {'rows':>10}"]
        for name, count in zip(self.names, self.counts, strict=True):
            number = f"{count:,.0f}" if float(count).is_integer() else f"{count:,.1f}"
            reason = f"  left out: {self.left_out[name]}" if name in self.left_out else ""
            lines.append(f"{name:<{wide}}  {number:>10}{reason}")
        lines += [f"not there: {name} ({why})" for name, why in self.left_out.items() if name not in self.names]
        return "\n".join(lines)


def groups(
    columns: Any,
    *,
    intersect: bool = True,
    minimum: int = 1,
    small: str = "raise",
    missing: str = "raise",
    reference: Any = None,
    strata: Any = None,
) -> Groups:
    """Group the rows that have the same values.

    Spaces around strings are ignored. Empty strings and the words nan, none, NA, n/a, <NA>, NaT and null, in any
    case, are missing values. Strings that differ only in case are rejected.

    Args:
        columns: one column (series, array or list) of strings, categories, booleans or numbers; or several columns, as
            a frame, a mapping by name, or an array (n, attributes).
        intersect: whether the groups of several attributes are their intersections. If not, a measure compares the
            groups of each attribute with one another, and its value is that of the attribute furthest from parity.
        minimum: least number of rows of a group.
        small: treatment of groups with fewer rows: "raise" an error, "pool" them into one group, "leave out" of
            comparisons, or "keep".
        missing: treatment of rows without a value: "raise" an error, make them a "group", or make them a group and
            "leave out" this group of comparisons.
        reference: the privileged group, as a value or as a mapping from attributes to values. It is ordered last, since
            a = 1 is the privileged one of two groups. Other values are sorted, or in the order of their categories. The
            pool of small groups is last without a reference, and first with one.
        strata: control features, given like `columns`: groups are compared within each stratum only.

    Returns:
        The groups: booleans for two groups, codes for more, and memberships for attributes that are not intersected.

    Raises:
        ValueError: if lengths or pandas indices differ, a value is missing, two values differ only in case, a group is
            too small, or fewer than two groups can be compared.
        TypeError: if a column is sparse, masked, traced, of complex numbers or times, or mixes types of values.

    Example:
        >>> found = groups({"sex": ["m", "f", "m", "f"], "old": [True, True, False, False]})
        >>> found.names
        ('f, False', 'f, True', 'm, False', 'm, True')
        >>> found.a.tolist()
        [3, 1, 2, 0]
        >>> groups(["a", "b", "b", "c"], minimum=2, small="pool").names
        ('b', 'other groups')
    """
    _check_choice("small", small, ("raise", "pool", "leave out", "keep"))
    _check_choice("missing", missing, ("raise", "group", "leave out"))
    check_minimum(minimum)
    found = _made(columns, strata, intersect, minimum, small, missing, reference)
    if found.blocks == ():
        why = "; ".join(f"{name}: {reason}" for name, reason in found.left_out.items())
        raise ValueError(
            "fewer than two groups can be compared, so parity is undefined: found "
            + (why or f"no group but {', '.join(found.names)}")
        )
    return found


def intersections(columns: Any) -> Groups:
    """Group the rows that have the same values, allowing a single group.

    Args:
        columns: one column or several, as for `groups`.

    Returns:
        The groups, as codes for any number of groups.

    Raises:
        ValueError: if lengths or pandas indices differ, or a value is missing.

    Example:
        >>> intersections(["a", "a"]).names
        ('a',)
    """
    found = _made(columns, None, True, 1, "keep", "raise", None)
    return found if found.a.dtype != bool else replace(found, a=found.a.astype(np.int32))


def _made(columns: Any, strata: Any, intersect: bool, minimum: int, small: str, missing: str, reference: Any) -> Groups:
    """Make the groups, which may be too few to be compared."""
    table, control = _columns(columns, "group"), {} if strata is None else _columns(strata, "stratum")
    index = _index(columns, strata, table, control)
    clash = [name for name in control if f"stratum {name}" in table]
    if clash:
        raise ValueError(
            f"the attribute 'stratum {clash[0]}' and the control feature {clash[0]!r} would be taken for each other: "
            "rename one of them"
        )
    references = _references(reference, tuple(table))
    order = {name: _Levels.of(name, column, missing, references.get(name)) for name, column in table.items()}
    order |= {f"stratum {name}": _Levels.of(name, column, missing, None) for name, column in control.items()}
    chosen = [tuple(table)] if intersect else [(name,) for name in table]
    within = tuple(f"stratum {name}" for name in control)
    many = len(chosen) > 1
    parts = [_Part.of(each, within, order, minimum, small, many, references) for each in chosen]
    names = tuple(name for part in parts for name in part.names)
    _check_names(names, "give the values different names")
    left_out = {name: why for part in parts for name, why in part.left_out.items()}
    blocks, start = [], 0
    for part in parts:
        blocks += [tuple(start + group for group in block) for block in part.blocks]
        start += len(part.names)
    whole = len(blocks) == 1 and len(blocks[0]) == len(names)

    def encode(columns: Any, strata: Any) -> Column:
        table = _columns(columns, "group")
        control = {} if strata is None else _columns(strata, "stratum")
        _index(columns, strata, table, control)
        if len(chosen) == 1 and len(chosen[0]) == 1 and list(table) == ["group"]:  # one column without a name
            table = {chosen[0][0]: table["group"]}
        found = {**table, **{f"stratum {name}": column for name, column in control.items()}}
        lacking = [name.removeprefix("stratum ") for name in order if name not in found]
        if lacking:
            raise ValueError(f"the columns {', '.join(lacking)} are not there, found {', '.join(found)}")
        codes = {name: levels.encode(found[name]) for name, levels in order.items()}
        return _column([part.encode(codes) for part in parts], [len(part.names) for part in parts], whole)

    codes = [part.codes for part in parts]
    return Groups(
        a=_column(codes, [len(part.names) for part in parts], whole),
        names=names,
        attributes=tuple(table) + tuple(control),
        levels=tuple(level for part in parts for level in part.levels),
        counts=np.concatenate([part.counts for part in parts]),
        blocks=None if whole else tuple(blocks),
        left_out=left_out,
        encoder=encode,
        pandas_index=index,
    )


def memberships(
    probabilities: Any, names: Sequence[str] | None = None, *, estimator: Membership | None = None
) -> Groups:
    """Make groups from memberships, such as probabilities from surnames and places, or flags that overlap.

    Args:
        probabilities: memberships (n, groups) in [0, 1]; a row of probabilities sums to at most 1 or, with the
            estimator "solved", to exactly 1. Booleans may overlap.
        names: names of the groups; the names of a frame's columns if omitted.
        estimator: how probabilities are counted. It must be chosen, since the data cannot show which is right:
            "weighted" understates gaps if the outcome depends on the group itself, and "solved" overstates them if it
            depends on the probabilities alone. Booleans need no estimator, unless a measure or report compares groups
            to which rows belong several at a time: then "weighted" counts such rows in each of their groups.

    Returns:
        The groups. The difference of a row's sum from 1 (for booleans that overlap, from the greatest sum of a row) is
        put in additional columns, which are left out of comparisons, so that all rows have the same sum.

    Raises:
        ValueError: if there are no rows, a value is not in [0, 1], a row sums to more than 1 or, with the estimator
            "solved", not to 1, names do not match, or no estimator is chosen.
        TypeError: if probabilities are sparse, masked, or anything but numbers and booleans.

    Example:
        >>> memberships([[0.75, 0.25], [0.0, 1.0]], names=("a", "b"), estimator="weighted").counts.tolist()
        [0.75, 1.25]
    """
    index = getattr(probabilities, "index", None) if isinstance(probabilities, pd.DataFrame) else None
    if isinstance(probabilities, pd.DataFrame):
        names = tuple(map(str, probabilities.columns)) if names is None else names
        flags = {name: column for name, column in probabilities.items() if str(column.dtype) == "boolean"}
        known = {name: bool for name, column in flags.items() if not column.isna().any()}
        columns = [
            checks.numeric(f"probabilities[{name!r}]", column) for name, column in probabilities.astype(known).items()
        ]
        probabilities = np.stack(columns, axis=1) if columns else probabilities.to_numpy()
    _check_concrete("probabilities", probabilities)
    members = np.asarray(checks.numeric("probabilities", probabilities))
    if members.ndim != 2 or members.shape[1] < 2 or not members.shape[0]:
        raise ValueError(
            "probabilities must have a row for each of one or more samples and a column for each of two or more "
            f"groups, found shape {members.shape}"
        )
    names = tuple(f"group {k}" for k in range(members.shape[1])) if names is None else read_names(names)
    if len(names) != members.shape[1] or len(set(names)) < len(names):
        raise ValueError(f"names must be {members.shape[1]} different ones, one per column, found {', '.join(names)}")
    _check_names(names, "give the columns different names")
    checks.group_column(members, members.shape[1], "probabilities")
    if members.dtype != bool or estimator is not None:
        _check_choice("estimator", estimator, ("weighted", "solved"))
    wide = np.clip(np.asarray(members, np.float64), 0.0, 1.0)  # after the check, only rounding can exceed the bounds
    total = wide.sum(axis=1)
    if members.dtype != bool and (total > 1 + 1e-4).any():
        row = int(np.argmax(total > 1 + 1e-4))
        raise ValueError(
            f"probabilities must sum to at most 1, found {total[row]:g} in row {row}: pass groups that overlap as "
            "booleans"
        )
    top = max(total.max(), 1.0)
    lacks = np.where(top - total > 1e-4, top - total, 0.0)
    if estimator == "solved" and (np.abs(total - 1) > 1e-4).any():
        row = int(np.argmax(np.abs(total - 1) > 1e-4))
        raise ValueError(
            f'with estimator "solved" every row must sum to 1, found {total[row]:g} in row {row}: add a column of the '
            "rest, with a name of its own"
        )
    count = int(np.ceil(lacks.max(initial=0.0) - 1e-6))
    rest = np.stack([np.clip(lacks - k, 0.0, 1.0) for k in range(count)], axis=1) if count else wide[:, :0]
    every = np.concatenate([wide, rest], axis=1)
    more = tuple("no group" if count == 1 else f"no group, {k + 1}" for k in range(count))
    _check_names((*names, *more), "the rest of rows that are not fully in groups has this name, so choose another")
    a = every.astype(bool) if members.dtype == bool else every.astype(np.float32)
    return Groups(
        a=a,
        names=(*names, *more),
        attributes=("group",),
        levels=tuple((name,) for name in (*names, *more)),
        counts=every.sum(axis=0),
        blocks=(tuple(range(len(names))),) if count else None,
        left_out=dict.fromkeys(more, "the rest of rows that are not fully in groups"),
        membership=estimator,
        pandas_index=index,
    )


def continuous(values: Any, knots: Any = 10, *, name: str | None = None) -> Groups:
    """Convert a continuous attribute such as age to memberships in overlapping ranges around knots.

    Each row belongs to the two knots between which its value lies, and more to the nearer one (hat functions); at and
    beyond the ends, it belongs to the end alone. With the gap `fairjax.metrics.mean_absolute`, a measure of these
    groups estimates E |E[f | a] - E f|, the generalised demographic parity of Jiang et al. (2022), for a rate that
    varies piecewise linearly.

    Args:
        values: one finite number per row.
        knots: number of knots, placed at equally spaced quantiles; or their positions, in increasing order.
        name: name of the attribute; the name of a series if omitted.

    Returns:
        The groups, counted as "weighted" memberships.

    Raises:
        ValueError: if there are no rows, a value is not finite, or there are fewer than two different knots.
        TypeError: if values or knots are anything but numbers.

    Example:
        >>> continuous([20.0, 30.0, 35.0, 40.0], knots=(20, 40)).a[1].tolist()
        [0.5, 0.5]

    References:
        Jiang, Han, Fan, Yang, Mostafavi, Hu (2022), Generalized Demographic Parity for Group Fairness, ICLR.
    """
    name = str(getattr(values, "name", None) or "value") if name is None else name
    _check_concrete("values", values)
    column = np.asarray(checks.vector("values", values)).astype(np.float64)
    if not column.size:
        raise ValueError("expected at least one row, found none")
    if not np.isfinite(column).all():
        row = int(np.argmax(~np.isfinite(column)))
        raise ValueError(f"values must be finite, found {column[row]} in row {row}: drop rows that lack a value")
    if isinstance(knots, int | np.integer):
        if isinstance(knots, bool) or knots < 2:
            raise ValueError(f"knots must be a number of at least two, or where they are, got {knots}")
        places = np.unique(np.quantile(column, np.linspace(0.0, 1.0, knots)))
    else:
        places = np.asarray(checks.numeric("knots", knots)).astype(np.float64)
    if places.ndim != 1 or places.size < 2 or not np.isfinite(places).all() or not (np.diff(places) > 0).all():
        raise ValueError(f"knots must be two or more finite numbers in increasing order, got {places.tolist()}")
    inside = np.clip(column, places[0], places[-1])
    right = np.clip(np.searchsorted(places, inside, side="right"), 1, places.size - 1)
    share = (inside - places[right - 1]) / (places[right] - places[right - 1])
    members = np.zeros((column.size, places.size), np.float32)
    rows = np.arange(column.size)
    members[rows, right - 1], members[rows, right] = 1.0 - share, share
    digits = next(each for each in range(6, 18) if len({f"{place:.{each}g}" for place in places}) == len(places))
    names = tuple(f"{name} about {place:.{digits}g}" for place in places)
    return Groups(
        a=members,
        names=names,
        attributes=(name,),
        levels=tuple((place,) for place in places.tolist()),
        counts=members.sum(axis=0, dtype=np.float64),
        membership="weighted",
        encoder=lambda columns, strata: np.asarray(continuous(columns, places.tolist(), name=name).a),
        pandas_index=checks.index_of(values),
    )


class _Levels(NamedTuple):
    """The values of an attribute, in order."""

    name: str
    values: tuple[Any, ...]
    lacking: int | None
    """Code for rows without a value, if there are any."""
    missing: str
    codes: Int32[np.ndarray, " n"]
    empty: tuple[Any, ...]
    """Categories that do not occur in any row."""

    @classmethod
    def of(cls, name: str, column: Any, missing: str, reference: Any) -> "_Levels":
        codes, values, empty, words = _factorize(column)
        lacking, missing_code = codes < 0, None
        if lacking.any():
            if missing == "raise":
                about = ""
                if words:
                    listed, them = (
                        ", ".join(map(repr, words)),
                        "it is a value" if len(words) == 1 else "they are values",
                    )
                    about = f"; {listed} counts as missing, so write another word if {them}"
                raise ValueError(
                    f"missing value of {name!r} in row {int(np.argmax(lacking))} ({int(lacking.sum())} in all{about}): "
                    'drop these rows, fill them in, or, to fairjax.data.groups, pass missing="group" or "leave out"'
                )
            taken = any(isinstance(value, str) and value.casefold() == MISSING for value in values)
            word = f"{MISSING} value" if taken else MISSING
            codes, missing_code, values = np.where(lacking, len(values), codes), len(values), [*values, word]
        if reference is not None:
            reference = reference.strip() if isinstance(reference, str) else reference
            if reference not in values:
                raise ValueError(
                    f"the reference {reference!r} is not among the values of {name}: {', '.join(map(str, values))}"
                )
            last = values.index(reference)
            order = [k for k in range(len(values)) if k != last] + [last]
            place = np.argsort(order)
            codes, values = place[codes], [values[k] for k in order]
            missing_code = None if missing_code is None else int(place[missing_code])
        return cls(name, tuple(values), missing_code, missing, codes.astype(np.int32), tuple(empty))

    def encode(self, column: Any) -> Int32[np.ndarray, " n"]:
        """Encode the values of other rows."""
        codes, values, _, _ = _factorize(column)
        known = {value: k for k, value in enumerate(self.values) if k != self.lacking}
        unseen = [value for value in values if value not in known]
        if unseen or ((codes < 0).any() and self.lacking is None):
            what = ", ".join(map(repr, unseen[:5])) if unseen else "a missing value"
            raise ValueError(
                f"{self.name} has {what}, which the groups were not made with (known: "
                f"{', '.join(map(str, self.values))}): make the groups from all rows, or map it to a known value"
            )
        place = np.array([*(known[value] for value in values), self.lacking or 0], np.int32)
        return place[codes]


class _Part(NamedTuple):
    """The groups of one attribute, or of the intersections of several; codes start at 0."""

    members: tuple[str, ...]
    """Names of the attributes and strata, the keys of their codes."""
    shape: tuple[int, ...]
    place: Int32[np.ndarray, " products"]
    """The group of each combination of values; -1 for combinations that no row has."""
    codes: Int32[np.ndarray, " n"]
    names: tuple[str, ...]
    levels: tuple[tuple[Any, ...], ...]
    counts: np.ndarray
    blocks: tuple[tuple[int, ...], ...]
    left_out: dict[str, str]

    @classmethod
    def of(
        cls,
        attributes: tuple[str, ...],
        strata: tuple[str, ...],
        order: dict[str, _Levels],
        minimum: int,
        small: str,
        many: bool,
        references: Mapping[str, Any],
    ) -> "_Part":
        members = (*attributes, *strata)
        shape = tuple(len(order[name].values) for name in members)
        combined = np.ravel_multi_index([order[name].codes for name in members], shape)
        sizes = np.bincount(combined, minlength=int(np.prod(shape)))
        present = np.flatnonzero(sizes)
        place = np.full(len(sizes), -1, np.int32)
        place[present] = np.arange(len(present))
        where = [np.unravel_index(product, shape) for product in present]
        levels = [tuple(order[name].values[k] for name, k in zip(members, index, strict=True)) for index in where]
        counts, stratum = sizes[present], [tuple(index[len(attributes) :]) for index in where]
        prefix = f"{attributes[0]}: " if many else ""
        names = [prefix + _name(level[: len(attributes)], level[len(attributes) :]) for level in levels]
        left_out: dict[str, str] = {}
        for name, index in zip(names, where, strict=True):
            for member, k in zip(members, index, strict=True):
                each = order[member]
                if k == each.lacking and each.missing == "leave out":
                    left_out[name] = f"no value of {each.name}"
        few = [k for k in range(len(present)) if counts[k] < minimum and names[k] not in left_out]
        if few and small == "raise":
            listed = ", ".join(f"{names[k]!r} ({counts[k]})" for k in few[:10])
            raise ValueError(
                f"groups must have at least {minimum} rows, found fewer in {listed}: "
                'pool them (small="pool"), leave them out of comparisons ("leave out"), or keep them ("keep")'
            )
        if few and small == "leave out":
            left_out |= {names[k]: f"{counts[k]} rows, fewer than {minimum}" for k in few}
        if few and small == "pool":
            chosen = [name for name in attributes if references.get(name) is not None]
            if len(attributes) == 1 and chosen:
                last = len(order[chosen[0]].values) - 1  # the code of the reference
                pooled = [k for k in few if where[k][0] == last]
                if pooled:
                    raise ValueError(
                        f"the reference {names[pooled[0]]!r} has {counts[pooled[0]]} rows, fewer than {minimum}, and "
                        "would be pooled with other small groups: choose another reference, or a lower minimum"
                    )
            place, names, levels, counts, stratum, left_out = _pooled(
                place, names, levels, counts, stratum, left_out, few, minimum, prefix, bool(chosen)
            )
        blocks = []
        for each in dict.fromkeys(stratum):
            here = [k for k, other in enumerate(stratum) if other == each and names[k] not in left_out]
            if len(here) > 1:
                blocks.append(tuple(here))
            elif here:
                left_out[names[here[0]]] = "nothing to compare it with" + (" in its stratum" if strata else "")
        for product in np.flatnonzero(sizes == 0) if not strata else ():
            values = zip(attributes, np.unravel_index(product, shape), strict=True)
            left_out[prefix + _name([order[name].values[k] for name, k in values])] = "no rows"
        for name in attributes:
            left_out |= {f"{prefix}{value}": "no rows" for value in order[name].empty}
        return cls(members, shape, place, place[combined], tuple(names), tuple(levels), counts, tuple(blocks), left_out)

    def encode(self, codes: Mapping[str, Int32[np.ndarray, " n"]]) -> Int32[np.ndarray, " n"]:
        """Encode the groups of other rows."""
        found = self.place[np.ravel_multi_index([codes[name] for name in self.members], self.shape)]
        if (found < 0).any():
            row = int(np.argmax(found < 0))
            raise ValueError(
                f"row {row} has a combination of {', '.join(self.members)} that no row had when the groups were made: "
                "make the groups from all rows"
            )
        return found


def _pooled(place, names, levels, counts, stratum, left_out, few, minimum: int, prefix: str, first: bool):
    """Pool small groups within each stratum; the pools come after the other groups or, with `first`, before them."""
    few_set, kept = set(few), [k for k in range(len(names)) if k not in set(few)]
    target = np.zeros(len(names), np.int32)
    target[kept] = np.arange(len(kept))
    new = [(names[k], levels[k], counts[k], stratum[k]) for k in kept]
    for each in dict.fromkeys(stratum[k] for k in few):
        here = [k for k in few_set if stratum[k] == each]
        count = int(sum(counts[k] for k in here))
        inside = levels[here[0]]
        control = inside[len(inside) - len(each) :]
        name = prefix + _name((POOLED,), control)
        if count < minimum:
            listed = ", ".join(repr(names[k]) for k in here[:10])
            raise ValueError(
                f"groups must have at least {minimum} rows, and {listed} have {count} together: leave them out of "
                'comparisons (small="leave out"), or keep them ("keep")'
            )
        target[here] = len(new)
        new.append((name, (POOLED,) * (len(inside) - len(each)) + control, count, each))
    if first:
        pools = len(new) - len(kept)
        target, new = (target + pools) % len(new), new[len(kept) :] + new[: len(kept)]
    place = np.where(place < 0, -1, target[place]).astype(np.int32)
    names, levels, counts, stratum = (list(column) for column in zip(*new, strict=True))
    return place, names, levels, np.asarray(counts), stratum, left_out


def _name(level: Sequence[Any], control: Sequence[Any] = ()) -> str:
    """Return the name of a group."""
    name = ", ".join(map(str, level))
    return f"{name} | {', '.join(map(str, control))}" if control else name


def _column(codes: list[Int32[np.ndarray, " n"]], sizes: list[int], whole: bool) -> Column:
    """Return booleans for two groups, codes for more, or memberships for several attributes not intersected."""
    if len(codes) == 1:
        return codes[0] == 1 if sizes[0] == 2 and whole else codes[0]
    return np.concatenate(
        [code[:, None] == np.arange(size)[None] for code, size in zip(codes, sizes, strict=True)], axis=1
    )


def _columns(columns: Any, kind: str) -> dict[str, Any]:
    """Return one or several columns by name."""
    columns = columns.to_frame(index=False) if isinstance(columns, pd.MultiIndex) else columns
    if isinstance(columns, pd.DataFrame):
        names = [str(name) for name in columns.columns]
        found = {name: columns.iloc[:, k] for k, name in enumerate(names)}
    elif isinstance(columns, Mapping):
        names = [str(name) for name in columns]
        found = dict(zip(names, columns.values(), strict=True))
    elif isinstance(columns, pd.Series | ExtensionArray | pd.Index):
        name = getattr(columns, "name", None)
        names, found = [kind], {kind if name is None else str(name): columns}
    else:
        array = _array(columns)
        if array.ndim not in (1, 2):
            raise ValueError(f"expected one column or several, found shape {array.shape}")
        each = [array] if array.ndim == 1 else list(array.T)
        names = [kind] if array.ndim == 1 else [f"{kind} {k}" for k in range(len(each))]
        found = dict(zip(names, each, strict=True))
    if not found or len(found) < len(names):
        raise ValueError(f"expected one or more columns of different names, found {', '.join(names) or 'none'}")
    for name, column in found.items():
        found[name] = column = column if isinstance(column, pd.Series | ExtensionArray | pd.Index) else _array(column)
        if column.ndim != 1:
            squeeze = ": squeeze columns of shape (n, 1)" if column.ndim == 2 else ""
            raise ValueError(f"the column {name!r} must have one value per row, found shape {column.shape}{squeeze}")
    return found


def _array(values: Any) -> np.ndarray:
    """Convert values to an array in which missing values are not words."""
    _check_concrete("groups", values)
    if hasattr(values, "toarray") and hasattr(values, "nnz"):
        raise TypeError("groups are a sparse matrix, which fairjax does not take: pass .toarray()")
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        raise TypeError("groups are a masked array with masked entries: drop these rows or fill the values in")
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"groups are not a regular array ({error}): their rows must all have one length") from error
    if array.dtype.kind in "US" and not isinstance(values, np.ndarray):
        # NumPy converts lists of mixed types to strings, in which a missing value would become a word.
        array = np.asarray(values, dtype=object)
    return array


def _index(columns: Any, strata: Any, table: Mapping[str, Any], control: Mapping[str, Any]) -> Any:
    """Return the pandas index of the rows, if there is one; lengths and indices must agree."""
    _check_lengths({**table, **control})
    given = {"columns": columns, "strata": strata}
    given |= {name: column for group in (table, control) for name, column in group.items()}
    checks.check_index(**given)
    return next((index for each in given.values() if (index := checks.index_of(each)) is not None), None)


def _check_lengths(columns: Mapping[str, Any]) -> None:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            "columns must have one length, found " + ", ".join(f"{name} {length}" for name, length in lengths.items())
        )
    if not next(iter(lengths.values())):
        raise ValueError("expected at least one row, found none")


def _factorize(column: Any) -> tuple[np.ndarray, list[Any], list[Any], list[str]]:
    """Return codes (-1 for no value), sorted values, categories that do not occur, and words that count as missing."""
    column = column if isinstance(column, pd.Series | ExtensionArray | pd.Index) else _array(column)
    if isinstance(column, ExtensionArray):
        column = pd.Series(column)
    kind = getattr(column.dtype, "kind", "O")
    if kind in "cmM":
        way = "pass its real part" if kind == "c" else "make ranges of times with pandas.cut"
        raise TypeError(f"groups must be strings, categories, booleans or numbers, found dtype {column.dtype}: {way}")
    if kind == "O":
        kinds = set(map(type, column))
        numbers = (int, float, np.integer, np.floating)
        if kinds & {bool, np.bool_} and any(
            isinstance(value, numbers) and not isinstance(value, bool) and value == value for value in column
        ):
            raise TypeError(
                f"groups must be values of one kind, found {', '.join(sorted(each.__name__ for each in kinds))}, of "
                "which True and 1 are the same: turn all of them into strings"
            )
    try:
        codes, unique = pd.factorize(column, sort=True)
    except TypeError as error:
        kinds = sorted({type(value).__name__ for value in column})
        raise TypeError(
            f"groups must be values of one kind, found {', '.join(kinds)}: turn all of them into strings"
        ) from error
    categories = column.dtype.categories if isinstance(column.dtype, pd.CategoricalDtype) else None
    codes, values, words = _tidied(codes, unique.tolist(), categories is not None)
    unused = [] if categories is None else [_word(value) for value in categories.tolist()]
    empty = [value for value in dict.fromkeys(unused) if value not in values and not _is_no_value(value)]
    return codes, values, empty, words


_NO_VALUE = ("", "nan", "none", "na", "n/a", "<na>", "nat", "null")
"""Words, in lower case, that stand for a missing value."""


def _word(value: Any) -> Any:
    """Convert bytes to strings and strip the spaces around strings; other values are returned unchanged."""
    value = value.decode(errors="replace") if isinstance(value, bytes) else value
    return value.strip() if isinstance(value, str) else value


def _is_no_value(word: Any) -> bool:
    return isinstance(word, str) and word.casefold() in _NO_VALUE


def _tidied(codes: np.ndarray, values: list[Any], ordered: bool) -> tuple[np.ndarray, list[Any], list[str]]:
    """Strip spaces around words, and treat words for a missing value as missing.

    Args:
        codes: the code of each row; -1 for no value.
        values: the values, sorted or in the order of their categories.
        ordered: whether the values are categories, which keep their order.

    Returns:
        The new codes, the new values, and the words that count as missing.

    Raises:
        ValueError: if values differ only in case.
    """
    words = [_word(value) for value in values]
    new = list(dict.fromkeys(word for word in words if not _is_no_value(word)))
    if not ordered and all(isinstance(word, str) for word in new):
        new.sort()
    alike: dict[str, str] = {}
    for word in new:
        if isinstance(word, str) and alike.setdefault(word.casefold(), word) != word:
            raise ValueError(
                f"{alike[word.casefold()]!r} and {word!r} differ in capitals only: write them alike, for example with "
                "column.str.lower()"
            )
    number = {value: k for k, value in enumerate(new)}
    place = np.array([*(-1 if _is_no_value(word) else number[word] for word in words), -1], codes.dtype)
    return place[codes], new, [value for value in words if _is_no_value(value)]


def _references(reference: Any, names: tuple[str, ...]) -> dict[str, Any]:
    if reference is None:
        return {}
    if not isinstance(reference, Mapping):
        if len(names) > 1:
            raise ValueError(f"with several attributes, reference must be a value by name, one of {', '.join(names)}")
        return {names[0]: reference}
    unknown = [name for name in reference if name not in names]
    if unknown:
        raise ValueError(f"reference names {', '.join(map(str, unknown))}, attributes are {', '.join(names)}")
    return dict(reference)


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def _check_concrete(name: str, values: Any) -> None:
    if isinstance(values, jax.core.Tracer):
        raise TypeError(f"groups are made on the host, and {name} are traced: make them outside of jax.jit")


def _check_names(names: Sequence[str], way: str) -> None:
    """Check that no names of groups differ only in case."""
    twice = [name for name, count in Counter(name.casefold() for name in names).items() if count > 1]
    if twice:
        name = next(name for name in names if name.casefold() == twice[0])
        raise ValueError(f"several groups would be called {name!r}: {way}")


def read_names(names: Any) -> tuple[str, ...]:
    """Convert names of groups to strings without spaces around them.

    Args:
        names: one name per group; a single string is rejected, since it would be read letter by letter.

    Returns:
        The names.

    Raises:
        ValueError: if `names` is a single string, or a name is empty or a word for a missing value.

    Example:
        >>> read_names(["women ", 2])
        ('women', '2')
    """
    if isinstance(names, str | bytes):
        raise ValueError(f"names must be a sequence with one name per group, found the string {names!r}")
    found = tuple(str(_word(name)) for name in names)
    if any(map(_is_no_value, found)):
        raise ValueError(
            f"names must be words, found {next(filter(_is_no_value, found))!r}, which stands for a missing value: "
            "choose another name"
        )
    return found


def check_minimum(minimum: Any) -> None:
    """Check a minimal number of rows.

    Raises:
        ValueError: if it is not a number, is negative, or is not finite.

    Example:
        >>> check_minimum(50)
    """
    number = isinstance(minimum, int | float | np.integer | np.floating) and not isinstance(minimum, bool)
    if not number or not 0 <= minimum < np.inf:
        raise ValueError(f"minimum must be a number of rows, at least 0 and finite, got {minimum!r}")
