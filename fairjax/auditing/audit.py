"""Audit a table of predictions: rates and gaps by group, with intervals, from counts alone."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fairjax.auditing.comparing import Differences, differences, paired_rows
from fairjax.auditing.counting import check_sample, counted, counted_pairs
from fairjax.auditing.counts import Counts
from fairjax.auditing.encoding import MissingRows, encode
from fairjax.auditing.group_gaps import gap_of
from fairjax.auditing.group_rates import by_group, check_names
from fairjax.auditing.query import Columns, Query
from fairjax.auditing.score_quality import calibration_table, thresholds_table
from fairjax.auditing.sentences import changes, findings, left_out
from fairjax.data.connection import connected
from fairjax.data.expressions import Condition
from fairjax.data.table_files import table_of
from fairjax.metrics import MEASURES
from fairjax.metrics.intervals import resampled


@dataclasses.dataclass(frozen=True, eq=False)
class Audit:
    """The result of an audit. Prints as sentences: gaps, differences to another table, and what was left out."""

    counts: Counts
    """Counts by (decision, label, group), from which everything follows."""
    by_group: pd.DataFrame
    """One row per group of the intersections, and per group of each attribute."""
    gaps: pd.DataFrame
    """One row per measure and attribute, and per measure of the intersections."""
    columns: Columns
    """The columns that were read."""
    source: str
    """The name of the table."""
    minimum: int
    """Least denominator of a rate for its group to be compared."""
    draws: int
    """Number of bootstrap draws."""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """All arguments of the audit but the tables."""
    notes: tuple[str, ...] = ()
    """What was left out, and why."""
    against: str | None = None
    """The name of the table that the decisions are compared with."""
    differences: Differences | None = None
    """Differences to the decisions of that table."""

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables by the names of their files, without `.csv`.

        Returns:
            `by_group` and `gaps`; `calibration` and `thresholds` if there are scores; `differences` if
            two tables were compared, and `differences_by_group` if they have two classes.
        """
        tables = {"by_group": self.by_group, "gaps": self.gaps}
        if self.counts.scores is not None:
            tables |= {"calibration": calibration_table(self.counts), "thresholds": thresholds_table(self.counts)}
        if self.differences is not None:
            tables["differences"] = self.differences.gaps
            if len(self.counts.classes) == 2:
                tables["differences_by_group"] = self.differences.by_group
        return tables

    def save(self, folder: str | Path) -> tuple[Path, ...]:
        """Write the tables as csv files, and remove those of an earlier audit that this one does not have.

        Args:
            folder: the folder, which is created if it does not exist.

        Returns:
            The paths of the files.

        Raises:
            OSError: if the folder cannot be written.
        """
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, table in self.tables().items():
            temporary = folder / f".unfinished-{name}.csv"
            table.to_csv(temporary, index=False)
            paths.append(temporary.replace(folder / f"{name}.csv"))
        for name in OPTIONAL:
            if folder / f"{name}.csv" not in paths:
                (folder / f"{name}.csv").unlink(missing_ok=True)
        return tuple(paths)

    def __str__(self) -> str:
        """Describe gaps and differences in sentences."""
        return "\n".join((*findings(self), *changes(self), *left_out(self), *self.notes))


OPTIONAL = ("calibration", "thresholds", "differences", "differences_by_group")
"""Tables that not every audit has."""


def audit(
    table: Any,
    *,
    label: str,
    groups: str | Sequence[str],
    score: str | None = None,
    decision: str | None = None,
    threshold: float | None = None,
    logits: bool = False,
    positive: Any = None,
    classes: Sequence[Any] = (),
    measures: str | Sequence[str] = ("spd", "eod"),
    weight: str | None = None,
    count: str | None = None,
    minimum: int = 50,
    missing: MissingRows = "raise",
    most_groups: int = 50,
    against: Any = None,
    pair_by: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Audit:
    """Compute rates and gaps by group for a table of predictions. Needs DuckDB, which the extra `cli` installs.

    Only counts are kept, so memory does not depend on the number of rows.

    Args:
        table: path of a csv or Parquet file (also compressed), a pattern such as `parts/*.parquet`, several paths, or a
            pandas frame.
        label: column of labels, or a condition such as `income>50000`.
        groups: columns of protected attributes; a column of numbers with edges, as in `age:25,60`.
        score: column of scores, the probability of the positive label. Scores above the threshold are positive
            decisions.
        decision: column of decisions, or a condition such as `decile_score>4`, instead of scores.
        threshold: threshold of the scores, 0.5 by default.
        logits: whether the scores are logits.
        positive: the positive value of the label, and of decisions that have the label's values; not needed for 0 and
            1, or false and true.
        classes: the values of the label in order, if there are more than two classes; decisions must be such values.
        measures: names of measures of `fairjax.MEASURES`.
        weight: column of weights of the rows.
        count: column with the number of rows for which each line stands, if the table is one of counts. With weights,
            `weight` names the column of their sums, and a column of that name with `_squared` those of their squares.
        minimum: least denominator of a rate, in rows, for its group to be compared.
        missing: "raise" an error if a value is missing; make rows without an attribute a "group"; or "drop" rows.
        most_groups: the maximum number of groups.
        against: another table of decisions about the same rows, with the same columns, to compare with.
        pair_by: column that identifies the rows of both tables; if omitted, they are paired in their order.
        bootstrap: number of draws for the intervals of gaps.
        seed: seed of the draws.

    Returns:
        The audit.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if a column does not exist or holds what it should not; the message says what was found and what to
            do.
        ImportError: if DuckDB is not installed.

    Example:
        >>> frame = pd.DataFrame({"y": [0, 1] * 100, "d": [0, 1, 1, 1] * 50, "sex": ["f", "m"] * 100})
        >>> result = audit(frame, label="y", decision="d", groups="sex", bootstrap=0)
        >>> result.gaps[["measure", "gap", "lowest", "highest"]].values.tolist()
        [['spd', 0.5, 'f', 'm'], ['eod', nan, '', '']]
    """
    options = {name: value for name, value in locals().items() if name not in ("table", "against")}
    measures = (measures,) if isinstance(measures, str) else tuple(measures)
    groups = (groups,) if isinstance(groups, str) else tuple(groups)
    MEASURES.check("measure", *measures)
    for name, number, least in (("minimum", minimum, 1), ("bootstrap", bootstrap, 0), ("most_groups", most_groups, 2)):
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
            raise ValueError(f"{name} must be a whole number, at least {least}, got {number!r}")
    if against is not None and count is not None:
        raise ValueError("tables of counts cannot be paired row by row: compare tables of rows, or audit each alone")
    if pair_by is not None and against is None:
        raise ValueError("pair_by identifies the rows of two tables: name the other table with against")
    if classes and score is not None:
        raise ValueError("with several classes, name the column of predicted classes with decision, not scores")
    columns = Columns(
        label, groups, score, decision, weight, count, None if threshold is None else float(threshold), logits
    )
    coding: dict[str, Any] = {
        "positive": positive,
        "classes": tuple(classes),
        "missing": missing,
        "most_groups": most_groups,
    }
    random = np.random.default_rng(seed)
    other = compared = joint = None
    with connected() as connection:
        queries = [Query.of(table_of(connection, each), columns) for each in (table, against) if each is not None]
        query = queries[0]
        _check(query, positive, bool(classes))
        for each in queries:
            check_sample(connection, each)
        rows = paired_rows(connection, *queries, pair_by) if against is not None else None
        counts, notes = encode(query, counted(connection, query), **coding)
        if rows is not None:
            other = queries[1].table.name
            counted(connection, queries[1])  # checks its numbers
            joint, joint_notes = encode(query, counted_pairs(connection, query, rows), decisions=("d", "e"), **coding)
            notes += [f"In the comparison with {other}: {note}" for note in joint_notes if note not in notes]
    draws = _drawn(counts, bootstrap, random)
    if joint is not None:
        compared = differences(joint, _drawn(joint, bootstrap, random), measures, minimum)
    gaps = []
    for view in counts.views():
        drawn = draws if view is counts or len(counts.attributes) == 1 else draws @ counts.join(view.attributes[0])
        gaps += [gap_of(view, drawn, name, minimum, random) for name in measures]
    frame = pd.DataFrame([vars(gap) for gap in gaps])
    if frame["gap"].isna().all():
        raise ValueError(
            f"fewer than two groups have {minimum} rows behind a rate, so nothing can be compared: "
            f"{frame['left_out'].iloc[0]}; lower --minimum, or give more rows"
        )
    return Audit(
        counts=counts,
        by_group=by_group(counts, minimum),
        gaps=frame,
        columns=columns,
        source=query.table.name,
        minimum=minimum,
        draws=bootstrap,
        options=options | {"threshold": columns.threshold},
        notes=tuple(notes),
        against=other,
        differences=compared,
    )


def _check(query: Query, positive: Any, has_classes: bool) -> None:
    """Check what needs the names of the columns only."""
    columns = query.columns
    if positive is not None and Condition.parse(columns.label, query.table.columns) is not None:
        raise ValueError(
            f"--positive names a value of a column, and {columns.label} is a condition, which is true for positive "
            "labels: leave --positive out"
        )
    names = [attribute.column for attribute in query.attributes]
    check_names(names, is_weighted=columns.weight is not None, has_classes=has_classes)


def _drawn(counts: Counts, count: int, random: np.random.Generator) -> np.ndarray:
    return resampled(counts.weights, count, random, counts.sizes if counts.weighted else None)
