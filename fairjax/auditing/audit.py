"""Audit a table of predictions: rates and gaps by group, with intervals, from counts alone."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fairjax.auditing.comparing import Differences, differences, paired_rows
from fairjax.auditing.counting import Columns, Query, counted
from fairjax.auditing.counts import Counts
from fairjax.auditing.encoding import Missing, encode
from fairjax.auditing.group_gaps import gap_of
from fairjax.auditing.group_rates import by_group
from fairjax.auditing.sentences import findings, left_out
from fairjax.data.table_files import connected, table_of
from fairjax.metrics import MEASURES
from fairjax.metrics.intervals import resampled


@dataclasses.dataclass(frozen=True, eq=False)
class Audit:
    """The result of an audit. Prints as a list of sentences and the table of gaps."""

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
    notes: tuple[str, ...] = ()
    """What was left out, and why."""
    against: str | None = None
    """The name of the table that the decisions are compared with."""
    differences: Differences | None = None
    """Differences to the decisions of that table."""

    def save(self, folder: str | Path) -> Path:
        """Write `by_group.csv`, `gaps.csv`, and `differences*.csv` if two tables were compared.

        Args:
            folder: the folder, which is created if it does not exist.

        Returns:
            The folder.
        """
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        tables = {"by_group": self.by_group, "gaps": self.gaps}
        if self.differences is not None:
            tables |= {"differences": self.differences.gaps, "differences_by_group": self.differences.by_group}
        for name, table in tables.items():
            temporary = folder / f".unfinished-{name}.csv"
            table.to_csv(temporary, index=False)
            temporary.replace(folder / f"{name}.csv")
        return folder

    def __str__(self) -> str:
        """Describe the gaps in sentences."""
        return "\n".join((*findings(self), *left_out(self), *self.notes))


def audit(
    table: Any,
    *,
    label: str,
    groups: str | Sequence[str],
    score: str | None = None,
    decision: str | None = None,
    threshold: float = 0.5,
    logits: bool = False,
    positive: Any = None,
    classes: Sequence[Any] = (),
    measures: str | Sequence[str] = ("spd", "eod"),
    weight: str | None = None,
    count: str | None = None,
    minimum: int = 50,
    missing: Missing = "raise",
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
        threshold: threshold of the scores.
        logits: whether the scores are logits.
        positive: the positive value of the label; not needed for 0 and 1, or false and true.
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
        >>> found = audit(frame, label="y", decision="d", groups="sex", bootstrap=0)
        >>> found.gaps[["measure", "gap", "lowest", "highest"]].values.tolist()
        [['spd', 0.5, 'f', 'm'], ['eod', nan, '', '']]
    """
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
    columns = Columns(label, groups, score, decision, weight, count, float(threshold), logits)
    options: dict[str, Any] = {
        "positive": None if positive is None else str(positive),
        "classes": tuple(map(str, classes)),
        "missing": missing,
        "most_groups": most_groups,
    }
    if classes and score is not None:
        raise ValueError("with several classes, name the column of predicted classes with decision, not scores")
    random = np.random.default_rng(seed)
    other, changes = None, None
    with connected() as connection:
        query = Query.of(table_of(connection, table), columns)
        counts, notes = encode(connection, query, counted(connection, query), **options)
        if against is not None:
            old = Query.of(table_of(connection, against), columns)
            other = old.table.name
            rows = paired_rows(connection, query, old, pair_by)
            frame = counted(connection, query, rows, extra=("e",))
            joint, _ = encode(connection, query, frame, decisions=("d", "e"), **options)
    draws = _drawn(counts, bootstrap, random)
    if against is not None:
        changes = differences(joint, _drawn(joint, bootstrap, random), measures, minimum)
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
        notes=tuple(notes),
        against=other,
        differences=changes,
    )


def _drawn(counts: Counts, count: int, random: np.random.Generator) -> np.ndarray:
    return resampled(counts.weights, count, random, counts.sizes if counts.weighted else None)
