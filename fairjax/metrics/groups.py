"""Groups of rows by the values of protected attributes, with their names.

A measure needs a column of codes, or a matrix of memberships, and the sets of groups that are compared with each other.
`Groups` keeps these together with the names of the groups, for tables and messages, and records which groups are left
out of comparisons and why. Groups that are left out remain in the data: they count in everything that is computed from
all rows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32

from fairjax import checks
from fairjax.metrics.levels import Levels, check_minimum, check_names, check_word, columns_of

Membership = Literal["weighted", "solved"]
Column = Bool[np.ndarray, " n"] | Int32[np.ndarray, " n"] | Bool[np.ndarray, "n g"] | Float32[np.ndarray, "n g"]

POOLED = "other groups"
"""Name of the group into which small groups are pooled."""


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
        lines += [f"absent: {name} ({reason})" for name, reason in self.left_out.items() if name not in self.names]
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
    check_word("small", small, ("raise", "pool", "leave out", "keep"))
    check_word("missing", missing, ("raise", "group", "leave out"))
    check_minimum(minimum)
    result = _made(columns, strata, intersect, minimum, small, missing, reference)
    if result.blocks == ():
        reasons = "; ".join(f"{name}: {reason}" for name, reason in result.left_out.items())
        raise ValueError(
            "fewer than two groups can be compared, so parity is undefined: found "
            + (reasons or f"no group but {', '.join(result.names)}")
        )
    return result


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
    result = _made(columns, None, True, 1, "keep", "raise", None)
    return result if result.a.dtype != bool else replace(result, a=result.a.astype(np.int32))


def _made(columns: Any, strata: Any, intersect: bool, minimum: int, small: str, missing: str, reference: Any) -> Groups:
    """Make the groups, which may be too few to be compared."""
    table, control = columns_of(columns, "group"), {} if strata is None else columns_of(strata, "stratum")
    index = _index(columns, strata, table, control)
    clash = [name for name in control if f"stratum {name}" in table]
    if clash:
        raise ValueError(
            f"the attribute 'stratum {clash[0]}' and the control feature {clash[0]!r} would be taken for each other: "
            "rename one of them"
        )
    references = _references(reference, tuple(table))
    order = {name: Levels.of(name, column, missing, references.get(name)) for name, column in table.items()}
    order |= {f"stratum {name}": Levels.of(name, column, missing, None) for name, column in control.items()}
    attribute_sets = [tuple(table)] if intersect else [(name,) for name in table]
    strata_names = tuple(f"stratum {name}" for name in control)
    several = len(attribute_sets) > 1
    parts = [
        _Part.of(attributes, strata_names, order, minimum, small, several, references) for attributes in attribute_sets
    ]
    names = tuple(name for part in parts for name in part.names)
    check_names(names, "give the values different names")
    left_out = {name: why for part in parts for name, why in part.left_out.items()}
    blocks, start = [], 0
    for part in parts:
        blocks += [tuple(start + group for group in block) for block in part.blocks]
        start += len(part.names)
    is_one_block = len(blocks) == 1 and len(blocks[0]) == len(names)

    def encode(columns: Any, strata: Any) -> Column:
        table = columns_of(columns, "group")
        control = {} if strata is None else columns_of(strata, "stratum")
        _index(columns, strata, table, control)
        if len(attribute_sets) == 1 and len(attribute_sets[0]) == 1 and list(table) == ["group"]:
            table = {attribute_sets[0][0]: table["group"]}  # one column without a name
        named_columns = {**table, **{f"stratum {name}": column for name, column in control.items()}}
        lacking = [name.removeprefix("stratum ") for name in order if name not in named_columns]
        if lacking:
            raise ValueError(f"the columns {', '.join(lacking)} are not there, found {', '.join(named_columns)}")
        codes = {name: levels.encode(named_columns[name]) for name, levels in order.items()}
        return _column([part.encode(codes) for part in parts], [len(part.names) for part in parts], is_one_block)

    codes = [part.codes for part in parts]
    return Groups(
        a=_column(codes, [len(part.names) for part in parts], is_one_block),
        names=names,
        attributes=tuple(table) + tuple(control),
        levels=tuple(level for part in parts for level in part.levels),
        counts=np.concatenate([part.counts for part in parts]),
        blocks=None if is_one_block else tuple(blocks),
        left_out=left_out,
        encoder=encode,
        pandas_index=index,
    )


class _Part(NamedTuple):
    """The groups of one attribute, or of the intersections of several; codes start at 0."""

    members: tuple[str, ...]
    """Names of the attributes and strata, the keys of their codes."""
    shape: tuple[int, ...]
    group_of_product: Int32[np.ndarray, " products"]
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
        order: dict[str, Levels],
        minimum: int,
        small: str,
        several: bool,
        references: Mapping[str, Any],
    ) -> "_Part":
        members = (*attributes, *strata)
        shape = tuple(len(order[name].values) for name in members)
        combined = np.ravel_multi_index([order[name].codes for name in members], shape)
        sizes = np.bincount(combined, minlength=int(np.prod(shape)))
        present = np.flatnonzero(sizes)
        group_of_product = np.full(len(sizes), -1, np.int32)
        group_of_product[present] = np.arange(len(present))
        value_codes = [np.unravel_index(product, shape) for product in present]
        levels = [tuple(order[name].values[k] for name, k in zip(members, index, strict=True)) for index in value_codes]
        counts, strata_of_groups = sizes[present], [tuple(index[len(attributes) :]) for index in value_codes]
        prefix = f"{attributes[0]}: " if several else ""
        names = [prefix + _name(level[: len(attributes)], level[len(attributes) :]) for level in levels]
        left_out: dict[str, str] = {}
        for name, index in zip(names, value_codes, strict=True):
            for member, k in zip(members, index, strict=True):
                attribute = order[member]
                if k == attribute.lacking and attribute.missing == "leave out":
                    left_out[name] = f"no value of {attribute.name}"
        small_groups = [k for k in range(len(present)) if counts[k] < minimum and names[k] not in left_out]
        if small_groups and small == "raise":
            listed = ", ".join(f"{names[k]!r} ({counts[k]})" for k in small_groups[:10])
            raise ValueError(
                f"groups must have at least {minimum} rows, found fewer in {listed}: "
                'pool them (small="pool"), leave them out of comparisons ("leave out"), or keep them ("keep")'
            )
        if small_groups and small == "leave out":
            left_out |= {names[k]: f"{counts[k]} rows, fewer than {minimum}" for k in small_groups}
        if small_groups and small == "pool":
            with_reference = [name for name in attributes if references.get(name) is not None]
            if len(attributes) == 1 and with_reference:
                reference_code = len(order[with_reference[0]].values) - 1
                pooled = [k for k in small_groups if value_codes[k][0] == reference_code]
                if pooled:
                    raise ValueError(
                        f"the reference {names[pooled[0]]!r} has {counts[pooled[0]]} rows, fewer than {minimum}, and "
                        "would be pooled with other small groups: choose another reference, or a lower minimum"
                    )
            first = bool(with_reference)
            group_of_product, names, levels, counts, strata_of_groups, left_out = _pooled(
                *(group_of_product, names, levels, counts, strata_of_groups, left_out, small_groups),
                *(minimum, prefix, first),
            )
        blocks = []
        for stratum in dict.fromkeys(strata_of_groups):
            block = [k for k, other in enumerate(strata_of_groups) if other == stratum and names[k] not in left_out]
            if len(block) > 1:
                blocks.append(tuple(block))
            elif block:
                left_out[names[block[0]]] = "nothing to compare it with" + (" in its stratum" if strata else "")
        for product in np.flatnonzero(sizes == 0) if not strata else ():
            values = zip(attributes, np.unravel_index(product, shape), strict=True)
            left_out[prefix + _name([order[name].values[k] for name, k in values])] = "no rows"
        for name in attributes:
            left_out |= {f"{prefix}{value}": "no rows" for value in order[name].empty}
        codes = group_of_product[combined]
        return cls(
            members, shape, group_of_product, codes, tuple(names), tuple(levels), counts, tuple(blocks), left_out
        )

    def encode(self, codes: Mapping[str, Int32[np.ndarray, " n"]]) -> Int32[np.ndarray, " n"]:
        """Encode the groups of other rows."""
        codes_of_groups = self.group_of_product[
            np.ravel_multi_index([codes[name] for name in self.members], self.shape)
        ]
        if (codes_of_groups < 0).any():
            row = int(np.argmax(codes_of_groups < 0))
            raise ValueError(
                f"row {row} has a combination of {', '.join(self.members)} that no row had when the groups were made: "
                "make the groups from all rows"
            )
        return codes_of_groups


def _pooled(
    group_of_product,
    names,
    levels,
    counts,
    strata_of_groups,
    left_out,
    small_groups,
    minimum: int,
    prefix: str,
    first: bool,
):
    """Pool small groups within each stratum; the pools come after the other groups or, with `first`, before them."""
    small_set, large_groups = set(small_groups), [k for k in range(len(names)) if k not in set(small_groups)]
    target = np.zeros(len(names), np.int32)
    target[large_groups] = np.arange(len(large_groups))
    entries = [(names[k], levels[k], counts[k], strata_of_groups[k]) for k in large_groups]
    for stratum in dict.fromkeys(strata_of_groups[k] for k in small_groups):
        pool = [k for k in small_set if strata_of_groups[k] == stratum]
        count = int(sum(counts[k] for k in pool))
        level = levels[pool[0]]
        control = level[len(level) - len(stratum) :]
        name = prefix + _name((POOLED,), control)
        if count < minimum:
            listed = ", ".join(repr(names[k]) for k in pool[:10])
            raise ValueError(
                f"groups must have at least {minimum} rows, and {listed} have {count} together: leave them out of "
                'comparisons (small="leave out"), or keep them ("keep")'
            )
        target[pool] = len(entries)
        entries.append((name, (POOLED,) * (len(level) - len(stratum)) + control, count, stratum))
    if first:
        pools = len(entries) - len(large_groups)
        target, entries = (target + pools) % len(entries), entries[len(large_groups) :] + entries[: len(large_groups)]
    group_of_product = np.where(group_of_product < 0, -1, target[group_of_product]).astype(np.int32)
    names, levels, counts, strata_of_groups = (list(column) for column in zip(*entries, strict=True))
    return group_of_product, names, levels, np.asarray(counts), strata_of_groups, left_out


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


def _index(columns: Any, strata: Any, table: Mapping[str, Any], control: Mapping[str, Any]) -> Any:
    """Return the pandas index of the rows, if there is one; lengths and indices must agree."""
    _check_lengths({**table, **control})
    named_columns = {"columns": None if isinstance(columns, Mapping) else columns, "strata": strata}
    named_columns |= {name: column for group in (table, control) for name, column in group.items()}
    checks.check_index(**named_columns)
    return next((index for item in named_columns.values() if (index := checks.index_of(item)) is not None), None)


def _check_lengths(columns: Mapping[str, Any]) -> None:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            "columns must have one length, found " + ", ".join(f"{name} {length}" for name, length in lengths.items())
        )
    if not next(iter(lengths.values())):
        raise ValueError("expected at least one row, found none")


def _references(reference: Any, names: tuple[str, ...]) -> dict[str, Any]:
    if reference is None:
        return {}
    if not isinstance(reference, Mapping):
        if len(names) > 1:
            raise ValueError(f"with several attributes, reference must be a value by name, one of {', '.join(names)}")
        return dict.fromkeys(names, reference)
    unknown = [name for name in reference if name not in names]
    if unknown:
        raise ValueError(f"reference names {', '.join(map(str, unknown))}, attributes are {', '.join(names)}")
    return dict(reference)
