"""Groups of rows by the values of protected attributes, with their names.

What a measure needs to know of groups is a column of codes, or a matrix of memberships, and which groups are compared
with each other. `Groups` keeps that together with the names of the groups, for tables and messages, and says which
groups are left out of comparisons and why. Groups that are left out stay in the data: they count in all that is about
all rows.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Int32

from fairjax import checks

Membership = Literal["weighted", "solved"]
Column = Bool[np.ndarray, " n"] | Int32[np.ndarray, " n"] | Bool[np.ndarray, "n g"] | Float32[np.ndarray, "n g"]

POOLED = "other groups"
"""Name of the group in which small groups are pooled."""

MISSING = "missing"
"""Name of the level of rows without a value."""


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of rows, with names. Prints as a table; made by `groups`, `memberships` or `continuous`."""

    a: Column
    """The group of each row: booleans of two groups (true: the second), codes (n,) of any number, or memberships
    (n, groups)."""
    names: tuple[str, ...]
    """Name of each group, in the order of the codes or columns."""
    attributes: tuple[str, ...]
    """Names of the attributes that the groups are made of."""
    levels: tuple[tuple[Any, ...], ...]
    """The values of the attributes in each group."""
    counts: np.ndarray
    """Rows of each group; of soft memberships, their sum."""
    blocks: tuple[tuple[int, ...], ...] | None = None
    """Groups that are compared with each other, as for `fairjax.metrics.Parity`; None if all are."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Groups that are not compared, and why."""
    membership: Membership | None = None
    """How soft memberships are counted."""
    encoder: "Callable[[Any, Any], Column] | None" = None
    """What `encode` calls."""
    pandas_index: Any = None
    """The index of the rows if they came as a pandas object: other pandas objects beside the groups must have it."""

    def __len__(self) -> int:
        """Number of groups."""
        return len(self.names)

    @property
    def compared(self) -> tuple[str, ...]:
        """Names of the groups that are compared."""
        return tuple(name for name in self.names if name not in self.left_out)

    def encode(self, columns: Any, strata: Any = None) -> Column:
        """The groups of other rows, such as those of a test file.

        Args:
            columns: the same attributes as the groups were made of.
            strata: the same control features, if there were any.

        Returns:
            A column like `a`.

        Raises:
            ValueError: if an attribute or control feature is not there, or has a value that was not there before.
        """
        if self.encoder is None:
            raise ValueError("memberships come from probabilities, not from values: make those of other rows anew")
        return self.encoder(columns, strata)

    def __str__(self) -> str:
        """One line per group."""
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
    """Groups of rows that have the same values.

    Args:
        columns: one column (series, array or list) of strings, categories, booleans or numbers; or several, as a
            frame, a mapping by name, or an array (n, attributes).
        intersect: whether the groups of several attributes are their intersections. If not, the attributes stand side
            by side, and a measure compares the groups of each attribute with one another: its value is that of the
            attribute that is furthest from parity.
        minimum: rows that a group must have.
        small: what is done with groups of fewer rows: an error; one group of all of them; leave them out of
            comparisons; or nothing.
        missing: what is done with rows without a value: an error, a group of its own, or one that is left out of
            comparisons.
        reference: the privileged group: a value, or a value by attribute. It comes last, as a = 1 is the privileged
            one of two groups. Other values are in the order in which they sort, or in that of their categories.
        strata: control features, given like `columns`: groups are compared within each stratum only.

    Returns:
        The groups: booleans of two, codes of more, and of attributes side by side memberships.

    Raises:
        ValueError: if lengths or pandas indices differ, a value is missing, a group is too small, or fewer than two
            groups can be compared.

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
    found = _made(columns, strata, intersect, minimum, small, missing, reference)
    if found.blocks == ():
        why = "; ".join(f"{name}: {reason}" for name, reason in found.left_out.items())
        raise ValueError(
            "fewer than two groups can be compared, so parity is undefined: found "
            + (why or f"no group but {', '.join(found.names)}")
        )
    return found


def intersections(columns: Any) -> Groups:
    """The groups that rows of the same values make, of which there may be one only.

    Args:
        columns: one column or several, as for `groups`.

    Returns:
        The groups, as codes whatever their number.

    Raises:
        ValueError: if lengths or pandas indices differ, or a value is missing.

    Example:
        >>> intersections(["a", "a"]).names
        ('a',)
    """
    found = _made(columns, None, True, 1, "keep", "raise", None)
    return found if found.a.dtype != bool else replace(found, a=found.a.astype(np.int32))


def _made(columns: Any, strata: Any, intersect: bool, minimum: int, small: str, missing: str, reference: Any) -> Groups:
    """The groups, which may be too few to be compared."""
    table, control = _columns(columns, "group"), {} if strata is None else _columns(strata, "stratum")
    index = _index(columns, strata, table, control)
    references = _references(reference, tuple(table))
    order = {name: _Levels.of(name, column, missing, references.get(name)) for name, column in table.items()}
    order |= {f"stratum {name}": _Levels.of(name, column, missing, None) for name, column in control.items()}
    chosen = [tuple(table)] if intersect else [(name,) for name in table]
    within = tuple(f"stratum {name}" for name in control)
    many = len(chosen) > 1
    parts = [_Part.of(each, within, order, minimum, small, many) for each in chosen]
    names = tuple(name for part in parts for name in part.names)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"several groups would be called {twice[0]!r}: give the values different names")
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
    """Groups to which rows belong in part, such as probabilities from surnames and places, or flags that overlap.

    Args:
        probabilities: (n, groups), in [0, 1]; a row of probabilities sums to at most 1. Booleans may overlap.
        names: names of the groups; those of a frame's columns if omitted.
        estimator: how probabilities are counted, which has to be chosen, since the data cannot tell which is right:
            "weighted" understates gaps where the outcome depends on the group itself, "solved" overstates them where it
            depends on the probabilities alone. Booleans need none.

    Returns:
        The groups. What rows lack of the fullest row goes to columns of its own that are left out of comparisons, so
        that the groups together are all rows.

    Raises:
        ValueError: if a value is not in [0, 1], a row sums above 1, names do not fit, or no estimator is chosen.

    Example:
        >>> memberships([[0.75, 0.25], [0.0, 1.0]], names=("a", "b"), estimator="weighted").counts.tolist()
        [0.75, 1.25]
    """
    index = getattr(probabilities, "index", None) if isinstance(probabilities, pd.DataFrame) else None
    if isinstance(probabilities, pd.DataFrame):
        names = tuple(map(str, probabilities.columns)) if names is None else names
        probabilities = probabilities.to_numpy()
    members = np.asarray(checks.numeric("probabilities", probabilities))
    if members.ndim != 2 or members.shape[1] < 2:
        raise ValueError(f"probabilities must have a row per row and a column per group, found shape {members.shape}")
    names = tuple(map(str, names)) if names is not None else tuple(f"group {k}" for k in range(members.shape[1]))
    if len(names) != members.shape[1] or len(set(names)) < len(names):
        raise ValueError(f"names must be {members.shape[1]} different ones, one per column, found {', '.join(names)}")
    checks.group_column(members, members.shape[1], "probabilities")
    if members.dtype != bool:
        _check_choice("estimator", estimator, ("weighted", "solved"))
    wide = np.asarray(members, np.float64)
    total = wide.sum(axis=1)
    if members.dtype != bool and (total > 1 + 1e-4).any():
        row = int(np.argmax(total > 1 + 1e-4))
        raise ValueError(
            f"probabilities must sum to at most 1, found {total[row]:g} in row {row}: pass groups that overlap as "
            "booleans"
        )
    top = total.max(initial=0.0)
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
    a = every.astype(bool) if members.dtype == bool else every.astype(np.float32)
    return Groups(
        a=a,
        names=(*names, *more),
        attributes=("group",),
        levels=tuple((name,) for name in (*names, *more)),
        counts=every.sum(axis=0),
        blocks=(tuple(range(len(names))),) if count else None,
        left_out=dict.fromkeys(more, "the rest of rows that are not fully in groups"),
        membership=None if members.dtype == bool else estimator,
        pandas_index=index,
    )


def continuous(values: Any, knots: Any = 10, *, name: str | None = None) -> Groups:
    """A continuous attribute such as age, as memberships in overlapping ranges around knots.

    Each row belongs to the two knots that its value lies between, to the nearer one more (hat functions); at and beyond
    the ends to the end alone. With the gap `fairjax.metrics.mean_absolute` a measure of these groups estimates
    E |E[f | a] - E f|, the generalised demographic parity of Jiang et al. (2022), for a rate that varies piecewise
    linearly.

    Args:
        values: one finite number per row.
        knots: how many, put at equally spaced quantiles; or where they are, in increasing order.
        name: of the attribute; that of a series if omitted.

    Returns:
        The groups, counted as "weighted" memberships.

    Raises:
        ValueError: if a value is not finite, or there are fewer than two different knots.

    Example:
        >>> continuous([20.0, 30.0, 35.0, 40.0], knots=(20, 40)).a[1].tolist()
        [0.5, 0.5]

    References:
        Jiang, Han, Fan, Yang, Mostafavi, Hu (2022), Generalized Demographic Parity for Group Fairness, ICLR.
    """
    name = str(getattr(values, "name", None) or "value") if name is None else name
    column = np.asarray(checks.vector("values", values)).astype(np.float64)
    if not np.isfinite(column).all():
        row = int(np.argmax(~np.isfinite(column)))
        raise ValueError(f"values must be finite, found {column[row]} in row {row}: drop rows that lack a value")
    if isinstance(knots, int):
        if knots < 2 or not column.size:
            raise ValueError(f"expected at least two knots and a row, got {knots} knots and {column.size} rows")
        places = np.unique(np.quantile(column, np.linspace(0.0, 1.0, knots)))
    else:
        places = np.asarray(knots, np.float64)
    if places.ndim != 1 or places.size < 2 or not np.isfinite(places).all() or not (np.diff(places) > 0).all():
        raise ValueError(f"knots must be two or more finite numbers in increasing order, got {places.tolist()}")
    inside = np.clip(column, places[0], places[-1])
    right = np.clip(np.searchsorted(places, inside, side="right"), 1, places.size - 1)
    share = (inside - places[right - 1]) / (places[right] - places[right - 1])
    members = np.zeros((column.size, places.size), np.float32)
    rows = np.arange(column.size)
    members[rows, right - 1], members[rows, right] = 1.0 - share, share
    names = tuple(f"{name} about {place:g}" for place in places)
    return Groups(
        a=members,
        names=names,
        attributes=(name,),
        levels=tuple((place,) for place in places.tolist()),
        counts=members.sum(axis=0, dtype=np.float64),
        membership="weighted",
        encoder=lambda columns, strata: np.asarray(continuous(columns, places.tolist(), name=name).a),
    )


class _Levels(NamedTuple):
    """The values that an attribute has, in order."""

    name: str
    values: tuple[Any, ...]
    lacking: int | None
    """Code of rows without a value, if there are any."""
    missing: str
    codes: Int32[np.ndarray, " n"]
    empty: tuple[Any, ...]
    """Categories that no row has."""

    @classmethod
    def of(cls, name: str, column: Any, missing: str, reference: Any) -> "_Levels":
        codes, values, empty = _factorize(column)
        lacking, missing_code = codes < 0, None
        if lacking.any():
            if missing == "raise":
                raise ValueError(
                    f"missing value of {name!r} in row {int(np.argmax(lacking))} ({int(lacking.sum())} in all): drop "
                    'these rows, fill them in, or pass missing="group" or "leave out"'
                )
            word = f"{MISSING} value" if MISSING in values else MISSING
            codes, missing_code, values = np.where(lacking, len(values), codes), len(values), [*values, word]
        if reference is not None:
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
        """Codes of other rows."""
        codes, values, _ = _factorize(column)
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
    """The groups of one attribute, or of the intersections of several; codes count from 0."""

    members: tuple[str, ...]
    """Names of the attributes and strata, as codes are found by."""
    shape: tuple[int, ...]
    place: Int32[np.ndarray, " products"]
    """The group of each combination of values; -1 where no row had it."""
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
            place, names, levels, counts, stratum, left_out = _pooled(
                place, names, levels, counts, stratum, left_out, few, minimum, prefix
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
        """Groups of other rows."""
        found = self.place[np.ravel_multi_index([codes[name] for name in self.members], self.shape)]
        if (found < 0).any():
            row = int(np.argmax(found < 0))
            raise ValueError(
                f"row {row} has a combination of {', '.join(self.members)} that no row had when the groups were made: "
                "make the groups from all rows"
            )
        return found


def _pooled(place, names, levels, counts, stratum, left_out, few, minimum: int, prefix: str):
    """Small groups put together, stratum by stratum."""
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
    place = np.where(place < 0, -1, target[place]).astype(np.int32)
    names, levels, counts, stratum = (list(column) for column in zip(*new, strict=True))
    return place, names, levels, np.asarray(counts), stratum, left_out


def _name(level: Sequence[Any], control: Sequence[Any] = ()) -> str:
    """What a group is called."""
    name = ", ".join(map(str, level))
    return f"{name} | {', '.join(map(str, control))}" if control else name


def _column(codes: list[Int32[np.ndarray, " n"]], sizes: list[int], whole: bool) -> Column:
    """Codes of one attribute, booleans of two groups, memberships of attributes side by side."""
    if len(codes) == 1:
        return codes[0] == 1 if sizes[0] == 2 and whole else codes[0]
    return np.concatenate(
        [code[:, None] == np.arange(size)[None] for code, size in zip(codes, sizes, strict=True)], axis=1
    )


def _columns(columns: Any, kind: str) -> dict[str, Any]:
    """One or several columns by name."""
    if isinstance(columns, pd.DataFrame):
        names = [str(name) for name in columns.columns]
        found = {name: columns.iloc[:, k] for k, name in enumerate(names)}
    elif isinstance(columns, Mapping):
        names = [str(name) for name in columns]
        found = dict(zip(names, columns.values(), strict=True))
    elif isinstance(columns, pd.Series | pd.Categorical | pd.Index):
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
    return found


def _array(values: Any) -> np.ndarray:
    if hasattr(values, "toarray") and hasattr(values, "nnz"):
        raise TypeError("groups are a sparse matrix, which fairjax does not take: pass .toarray()")
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        raise TypeError("groups are a masked array with masked entries: drop these rows or fill the values in")
    array = np.asarray(values)
    if array.dtype.kind in "US" and not isinstance(values, np.ndarray):
        # a list of mixed types became strings, in which a missing value would be a word
        array = np.asarray(values, dtype=object)
    return array


def _index(columns: Any, strata: Any, table: Mapping[str, Any], control: Mapping[str, Any]) -> Any:
    """The pandas index that the rows have, if any; lengths and indices must agree."""
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


def _factorize(column: Any) -> tuple[np.ndarray, list[Any], list[Any]]:
    """Codes (-1: no value), the values in order, and categories that no row has."""
    column = column if isinstance(column, pd.Series | pd.Categorical | pd.Index) else _array(column)
    if isinstance(column, pd.Categorical):
        column = pd.Series(column)
    if getattr(column, "ndim", 1) != 1:
        raise ValueError(f"each column must be a vector, found shape {column.shape}: squeeze columns of shape (n, 1)")
    if getattr(column, "dtype", np.dtype(float)).kind in "cmM":
        raise TypeError(
            f"groups must be strings, categories, booleans or numbers, found dtype {column.dtype}: make ranges of "
            "times with pandas.cut"
        )
    try:
        codes, unique = pd.factorize(column, sort=True)
    except TypeError as error:
        kinds = sorted({type(value).__name__ for value in column})
        raise TypeError(
            f"groups must be values of one kind, found {', '.join(kinds)}: turn all of them into strings"
        ) from error
    empty: list[Any] = []
    if isinstance(getattr(column, "dtype", None), pd.CategoricalDtype):
        empty = list(column.dtype.categories.difference(pd.Index(unique), sort=False))
    is_category = isinstance(getattr(column, "dtype", None), pd.CategoricalDtype)
    codes, values = _tidied(codes, list(unique.tolist() if hasattr(unique, "tolist") else unique), is_category)
    return codes, values, [value for value in empty if not isinstance(value, str) or value.strip() not in values]


_NO_VALUE = ("", "nan", "<na>", "nat", "null")
"""Words, in any case, that stand for a missing value."""


def _tidied(codes: np.ndarray, values: list[Any], ordered: bool) -> tuple[np.ndarray, list[Any]]:
    """Codes and values without spaces around words, and without words for a missing value.

    Args:
        codes: of the values.
        values: in the order in which they sort, or in that of their categories.
        ordered: whether they are categories, which keep their order.

    Raises:
        ValueError: if values differ in nothing but capitals.
    """
    words = [value.strip() if isinstance(value, str) else value for value in values]
    if all(word is value for word, value in zip(words, values, strict=True)) and not any(
        isinstance(word, str) and word.lower() in _NO_VALUE for word in words
    ):
        new = words
        place = np.arange(len(words))
    else:
        new = list(dict.fromkeys(w for w in words if not (isinstance(w, str) and w.lower() in _NO_VALUE)))
        new = new if ordered or not all(isinstance(word, str) for word in new) else sorted(new)
        number = {value: k for k, value in enumerate(new)}
        place = np.array([number.get(word, -1) for word in words], codes.dtype)
    lower: dict[str, str] = {}
    for word in new:
        if isinstance(word, str) and lower.setdefault(word.lower(), word) != word:
            raise ValueError(
                f"{lower[word.lower()]!r} and {word!r} differ in capitals only: write them alike, for example with "
                "column.str.lower()"
            )
    return (np.append(place, -1)[codes] if len(place) else codes), new


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
