"""One run of `audit`: count a table of predictions by group, and write tables and a page."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from fairjax.runs.files import check_writable
from fairjax.runs.values import expand_paths


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """Audit a table of predictions: rates by group with intervals, gaps, calibration, thresholds, and one page."""

    table: tuple[str, ...] = ()
    """Files of rows: csv, csv.gz or Parquet; several, or a pattern such as 'parts/*.parquet'."""
    counts: tuple[str, ...] = ()
    """Files of counts instead of rows: one line for each combination of groups, label and decision or score."""
    count_column: str = "rows"
    """The column of a table of counts with the number of rows behind each line."""
    label: str | None = None
    """Column of labels, or a condition, as in 'income>50000'."""
    positive: str | None = None
    """The positive value of the label. Not needed for 0 and 1, or false and true."""
    classes: tuple[str, ...] = ()
    """The values of the label in order, if there are more than two classes."""
    score: str | None = None
    """Column of scores: probabilities of the positive label."""
    threshold: float | None = None
    """Scores above it are positive decisions, by default 0.5."""
    logits: bool = False
    """Whether the scores are logits, which the sigmoid function turns into probabilities."""
    decision: str | None = None
    """Column of decisions, or a condition, as in 'decile_score>4', instead of scores."""
    groups: tuple[str, ...] = ()
    """Columns of protected attributes; numbers with edges, as in 'age:25,60'."""
    measure: tuple[str, ...] = ("spd", "eod")
    """Measures of bias"""
    weight: str | None = None
    """Column of weights of the rows; for counts, of their sums, beside a column WEIGHT_squared of sums of squares."""
    minimum: int = 50
    """Minimum number of rows from which a rate is computed for its group to be compared."""
    missing: Literal["raise", "group", "drop"] = "raise"
    """What to do with missing values: stop, make rows without an attribute a group, or drop the rows."""
    most_groups: int = 50
    """Maximum number of groups of an attribute, and of intersections."""
    against: str | None = None
    """File of other decisions about the same rows, with the same columns, to compare with."""
    pair_by: str | None = None
    """Column that identifies the rows of both files. By default they are paired in their order."""
    bootstrap: int = 1000
    """Number of draws for the intervals of gaps."""
    seed: int = 0
    """Random seed of the draws."""
    out: Path | None = None
    """Folder of the tables and the page, by default results/audit-NAME."""

    def __post_init__(self) -> None:
        """Validate what does not need the table."""
        expand_paths(self)

    def check(self) -> None:
        """Check that the settings without a default were given.

        Raises:
            ValueError: if one is missing.
        """
        if bool(self.table) == bool(self.counts):
            both = "both" if self.table else "neither"
            raise ValueError(f"audit needs files of rows, --table, or of counts, --counts; got {both}")
        lacking = [f"--{name}" for name in ("label", "groups") if not getattr(self, name)]
        if lacking:
            raise ValueError(f"audit needs {' and '.join(lacking)}: name the columns of the table")

    @property
    def folder(self) -> Path:
        """The folder of the results."""
        name = Path((self.table or self.counts)[0]).name.split(".")[0]
        plain = "".join(sign if sign.isalnum() or sign in "-_" else "-" for sign in name).strip("-")
        return self.out or Path("results") / f"audit-{plain or 'table'}"


def run(settings: AuditSettings, console: Console) -> None:
    """Audit a table, print what was found, and write the folder of results.

    Args:
        settings: the settings.
        console: the console that shows the findings.

    Raises:
        ValueError, OSError: if the table or the folder cannot be used; the message says what to do.
    """
    settings.check()
    check_writable(settings.folder)
    from fairjax.auditing import audit
    from fairjax.report import audit_page

    same = ("label", "positive", "classes", "score", "threshold", "logits", "decision", "groups", "weight", "minimum")
    same += ("missing", "most_groups", "against", "pair_by", "bootstrap", "seed")
    options: dict[str, Any] = {name: getattr(settings, name) for name in same}
    result = audit(
        settings.table or settings.counts,
        measures=settings.measure,
        count=settings.count_column if settings.counts else None,
        **options,
    )
    tables = result.save(settings.folder)
    page = audit_page.write(result, settings.folder)
    for line in str(result).splitlines():
        console.print(line, markup=False, highlight=False)
    names = ", ".join(sorted(table.name for table in tables))
    console.print(f"\ntables: {settings.folder} ({names})\npage: {page}", markup=False, highlight=False, soft_wrap=True)
