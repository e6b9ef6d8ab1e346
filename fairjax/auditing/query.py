"""The columns that an audit reads, and the SQL that turns each of them into a field."""

import dataclasses

from fairjax.data.connection import quoted
from fairjax.data.expressions import CODE, Attribute, Condition, check_columns, uncoded_number, word
from fairjax.data.relation import Relation


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of an audit, as a user names them."""

    label: str
    """The column of labels, or a condition on a column that is true for positive labels."""
    groups: tuple[str, ...]
    """The protected attributes: columns, or columns of numbers with edges, as in `age:25,60`."""
    score: str | None = None
    """The column of scores: probabilities of the positive label."""
    decision: str | None = None
    """The column of decisions, or a condition on a column that is true for positive decisions."""
    weight: str | None = None
    """The column of weights of the rows."""
    count: str | None = None
    """For a table of counts, the column with the number of rows that each line stands for."""
    threshold: float | None = None
    """Scores above it are positive decisions; 0.5 for scores if omitted."""
    logits: bool = False
    """Whether the scores are logits."""

    def __post_init__(self) -> None:
        """Check that there are scores or decisions, and groups.

        Raises:
            ValueError: if there are none, a column is named twice, or decisions have a threshold.
        """
        if (self.score is None) == (self.decision is None):
            both = "both" if self.score is not None else "neither"
            raise ValueError(f"an audit needs scores (--score, with --threshold) or decisions (--decision), got {both}")
        for name, is_given in (("--threshold", self.threshold is not None), ("--logits", self.logits)):
            if is_given and self.score is None:
                raise ValueError(
                    f"{name} is for scores, and {self.decision} are decisions: name scores with --score, or leave "
                    f"{name} out"
                )
        if self.score is not None and self.threshold is None:
            object.__setattr__(self, "threshold", 0.5)
        if not self.groups:
            raise ValueError("an audit needs one or more protected attributes: name their columns with --groups")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}: it is compared with probabilities")


@dataclasses.dataclass(frozen=True)
class Query:
    """A table with the SQL of each of its columns that an audit reads."""

    table: Relation
    columns: Columns
    attributes: tuple[Attribute, ...]
    fields: dict[str, str]
    """SQL by the name in the aggregated frame: g0, g1, ..., y, d, s, w, w2 and n; NULL for missing values."""
    numeric: dict[str, str]
    """For fields that are computed from numbers, the column."""
    conditions: dict[str, Condition]
    """The conditions by the field, y or d, that is true where they hold."""
    read: tuple[str, ...]
    """Names of the columns that are read."""

    @classmethod
    def of(cls, table: Relation, columns: Columns) -> "Query":
        """Find the columns of an audit in a table.

        Raises:
            ValueError: if a column does not exist, is an attribute twice, or is both a label and an attribute.
        """
        attributes = tuple(Attribute.parse(group, table.columns, table.name) for group in columns.groups)
        names = [attribute.column for attribute in attributes]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} is named as an attribute twice: give all of its edges at once, as in age:25,60")
        fields = {f"g{i}": _attribute(table, attribute) for i, attribute in enumerate(attributes)}
        numeric = {f"g{i}": attribute.column for i, attribute in enumerate(attributes) if attribute.edges}
        read, conditions = {}, {}
        for field, given in (("y", columns.label), ("d", columns.decision)):
            if given is None:
                continue
            condition = Condition.parse(given, table.columns, table.name)
            read[field] = given if condition is None else condition.column
            fields[field] = table.column(given) if condition is None else holds(table, condition)
            if condition is not None:
                conditions[field] = condition
                if condition.sign not in ("=", "!="):
                    numeric[field] = condition.column
        twice = next((name for name in names if name in (columns.label, columns.decision)), None)
        if twice is not None:
            raise ValueError(f"{twice!r} is named as an attribute and as the label or decision: name other columns")
        if columns.score is not None:
            number = table.number(columns.score)
            fields["s"] = f"1 / (1 + exp(-({number})))" if columns.logits else number
            numeric["s"] = columns.score
        if columns.weight is not None:
            fields["w"] = table.number(columns.weight)
            if columns.count is not None:
                squared = f"{columns.weight}_squared"
                check_columns(
                    [squared], table.columns, f"a table of counts with weights needs sums of squares, and {table.name}"
                )
                fields["w2"] = table.number(squared)
        if columns.count is not None:
            way = "; name the column with the number of rows of each line with --count-column"
            check_columns([columns.count], table.columns, table.name, way)
            fields["n"] = table.number(columns.count)
        others = [each for each in (columns.score, columns.weight, columns.count) if each is not None]
        return cls(table, columns, attributes, fields, numeric, conditions, (*names, *read.values(), *others))

    @property
    def has_truths(self) -> bool:
        """Whether decisions are computed from scores or by a condition, so that they are true or false."""
        return self.columns.decision is None or "d" in self.conditions

    @property
    def texts(self) -> dict[str, str]:
        """SQL, by the field, of whether a row has a value that should be a number and is none."""
        return {
            name: f"NOT {self.table.lacks(column)} AND {self.table.number(column)} IS NULL"
            for name, column in self.numeric.items()
            if not self.table.is_numeric(column)
        }

    def rows(self, limit: int | None = None, also: str | None = None) -> str:
        """Return the SQL of one line per row, with the fields, and further columns, as columns."""
        fields = self.fields | {f"{name}_text": sql for name, sql in self.texts.items()}
        chosen = ", ".join([f"{sql} AS {name}" for name, sql in fields.items()] + ([also] if also else []))
        source = self.table.sql if limit is None else f"(SELECT * FROM {self.table.sql} LIMIT {limit})"
        return f"SELECT {chosen} FROM {source}"


def holds(table: Relation, condition: Condition) -> str:
    """Return the SQL of whether a condition holds; NULL for rows without a value."""
    compared = (
        _is_equal(table, condition)
        if condition.sign in ("=", "!=")
        else f"{table.number(condition.column)} {condition.sign} {float(condition.value)!r}"
    )
    return f"CASE WHEN {table.lacks(condition.column)} THEN NULL ELSE {compared} END"


def _is_equal(table: Relation, condition: Condition) -> str:
    """Return the SQL of = and !=, which compare values as `fairjax.data.expressions.is_equal` does."""
    name, value = condition.column, word(condition.value)
    raw = f"trim(CAST({table.column(name)} AS VARCHAR))"
    same = f"{f'lower({raw})' if value in ('false', 'true') else raw} = {quoted(value)}"
    number = uncoded_number(value)
    if number is not None:
        equal = f"coalesce({table.number(name)} = {number!r}, false)"
        same = equal if table.is_numeric(name) else f"({equal} AND NOT regexp_matches({raw}, {quoted(CODE)}) OR {same})"
    return same if condition.sign == "=" else f"NOT ({same})"


def _attribute(table: Relation, attribute: Attribute) -> str:
    """Return the SQL of an attribute: a column of values, or the number of the range."""
    if not attribute.edges:
        return table.column(attribute.column)
    number = table.number(attribute.column)
    cases = " ".join(f"WHEN {number} < {edge!r} THEN {i}" for i, edge in enumerate(attribute.edges))
    return f"CASE WHEN {number} IS NULL THEN NULL {cases} ELSE {len(attribute.edges)} END"
