"""Tables of the page on an audit."""

import numpy as np
import pandas as pd

from fairjax.auditing import Audit
from fairjax.auditing import score_quality as quality
from fairjax.auditing.counts import Counts
from fairjax.auditing.group_rates import ORDER, report
from fairjax.auditing.sentences import p_value_text
from fairjax.metrics import MEASURES
from fairjax.metrics.intervals import interval_text
from fairjax.report.layout import Cell, Row, Table, shown

_RATE_NAMES = {
    "base_rate": "base rate",
    "selection_rate": "selection rate",
    "true_positive_rate": "TPR",
    "false_positive_rate": "FPR",
    "precision": "precision",
    "accuracy": "accuracy",
}
_CUTS = tuple(np.arange(1, 10) / 10)
"""The thresholds of the table on the page; all are in thresholds.csv."""


def gaps(audit: Audit) -> Table:
    """Return the table of gaps."""
    rows = []
    for row in audit.gaps.itertuples():
        p_value = shown(row.p_value, ".2g") if np.isnan(row.p_value) else p_value_text(row.p_value, audit.draws)
        cells = [
            Cell(f"{MEASURES.label(row.measure)} by {row.groups}"),
            Cell(shown(row.gap, ".3f"), interval_text(row.low, row.high, ".3f")),
            Cell(shown(row.shrunk, ".3f")),
            Cell(shown(row.chance, ".3f")),
            Cell(p_value),
            Cell(row.lowest, shown(row.lowest_rate, ".3f")),
            Cell(row.highest, shown(row.highest_rate, ".3f")),
        ]
        rows.append(Row(cells))
    if audit.draws:
        first = f"Gap with its 95 % interval ({audit.draws:,} bootstrap draws of the counts)."
        last = (
            " Chance: what 95 % of samples of these sizes would stay below if all groups had the same rates; p: the "
            "share of such samples that reach the gap."
        )
    else:
        first, last = "Intervals, chance and p need bootstrap draws.", ""
    note = (
        f"{first} The difference of the greatest and the least of noisy rates is too large on average; shrunk: the gap "
        f"of the rates after empirical Bayes has drawn them towards each other.{last}"
    )
    return Table(["measure", "gap", "shrunk", "chance", "p", "lowest rate", "highest rate"], rows, note=note)


def rates(counts: Counts, minimum: int, of_class: int | None = None) -> Table:
    """Return the rates of each group, those of too few rows marked.

    Args:
        counts: counts of two classes.
        minimum: least denominator of a rate, in rows, for its group to be compared.
        of_class: the class, if it is one against several others.
    """
    by_group = report(counts, minimum)
    compared = {rate: by_group.compared(rate) for rate in ORDER}
    rows = []
    for g, name in enumerate(by_group.names):
        cells = [Cell(name), Cell(f"{by_group.counts[g]:,}")]
        for rate in ORDER:
            value, (low, high) = getattr(by_group, rate)[g], by_group.intervals[rate][g]
            mark = "" if compared[rate][g] else "*"
            interval = "" if np.isnan(value) else interval_text(low, high, ".2f")
            cells.append(Cell(shown(value, ".2f") + mark, interval, "uncertain" if mark else ""))
        if by_group.auc is not None:
            cells.append(Cell(shown(by_group.auc[g], ".2f")))
        rows.append(Row(cells))
    columns = ["group", "rows", *_RATE_NAMES.values(), *(["AUC"] if by_group.auc is not None else [])]
    note = "With 95 % Wilson intervals. TPR, FPR: true and false positive rate."
    if not all(each.all() for each in compared.values()):
        note += f" *: fewer than {minimum} rows behind the rate, too few to be compared."
    return Table(columns, rows, "" if of_class is None else f"Class {counts.classes[1]}", note)


def calibration(audit: Audit) -> Table:
    """Return calibration error and Brier score of each group."""
    rows = []
    for view in audit.counts.views():
        by_group = report(view, audit.minimum)
        assert by_group.brier_score is not None and by_group.calibration_error is not None
        for g, name in enumerate(by_group.names):
            numbers = (by_group.calibration_error[g], by_group.brier_score[g])
            rows.append(
                Row([Cell(name), Cell(f"{by_group.counts[g]:,}"), *(Cell(shown(each, ".3f")) for each in numbers)])
            )
    return Table(["group", "rows", "calibration error", "Brier score"], rows, note="Over ten bins of equal width.")


def calibration_bins(counts: Counts) -> Table:
    """Return the mean score and the share of positive labels of each group, in each tenth of the scores."""
    rows = []
    for row in quality.calibration(counts).itertuples():
        if row.size > 0:
            cells = [
                Cell(row.group),
                Cell(f"{row.bin:.1f} to {row.bin + 0.1:.1f}"),
                Cell(f"{row.size:,.0f}"),
                Cell(shown(row.mean_score, ".3f")),
                Cell(shown(row.positive_rate, ".3f"), interval_text(row.low, row.high, ".3f")),
            ]
            rows.append(Row(cells))
    size = "effective rows" if counts.weighted else "rows"
    return Table(["group", "scores", size, "mean score", "positive labels"], rows, note="With 95 % Wilson intervals.")


def thresholds(counts: Counts) -> Table:
    """Return the rates of each group at some thresholds."""
    table = quality.thresholds_table(counts)
    rows = []
    for row in table[table["threshold"].isin(_CUTS)].itertuples():
        cells = [Cell(shown(getattr(row, rate), ".2f")) for rate in quality.OF_THRESHOLDS]
        rows.append(Row([Cell(row.group), Cell(f"{row.threshold:g}"), *cells]))
    columns = ["group", "threshold", *(_RATE_NAMES[rate] for rate in quality.OF_THRESHOLDS)]
    return Table(columns, rows, note="thresholds.csv has more thresholds.")


def sizes(audit: Audit) -> Table:
    """Return the sizes of the groups."""
    rows, total = [], audit.counts.weights.sum()
    for view in audit.counts.views():
        for g, name in enumerate(view.names):
            number, weight = view.rows[..., g].sum(), view.weights[..., g].sum()
            is_small = number < audit.minimum
            cells = [Cell(view.title), Cell(name), Cell(f"{int(number):,}{'*' if is_small else ''}")]
            rows.append(Row([*cells, Cell(f"{weight / total:.1%}")], is_small))
    what = "share of weight" if audit.counts.weighted else "share"
    note = "*: fewer rows than a rate must have to be compared."
    return Table(["attribute", "group", "rows", what], rows, note=note)


def differences(audit: Audit) -> list[Table]:
    """Return how gaps and rates differ from those of the other table."""
    assert audit.differences is not None
    rows = [
        Row(
            [
                Cell(f"{MEASURES.label(row.measure)} by {row.groups}"),
                *(Cell(shown(abs(each), ".3f")) for each in (row.old, row.new)),
                Cell(shown(row.difference, "+.3f"), interval_text(row.low, row.high, "+.3f")),
            ]
        )
        for row in audit.differences.gaps.itertuples()
    ]
    note = "New less old, on the same rows" + (
        ", with the 95 % percentile interval of the paired difference." if audit.draws else "."
    )
    magnitudes = Table(["measure", "old", "new", "difference"], rows, "Magnitudes of gaps", note)
    by_group = audit.differences.by_group
    if by_group.empty:
        return [magnitudes]
    return [magnitudes, *(_changed_rates(frame) for _, frame in by_group.groupby("groups", sort=False))]


def _changed_rates(frame: pd.DataFrame) -> Table:
    """Return the differences of rates, with the groups of an attribute in rows and the rates in columns."""
    names = list(dict.fromkeys(frame["rate"]))
    rows = []
    for name, of_group in frame.groupby("group", sort=False):
        cells = [Cell(str(name))]
        for row in of_group.set_index("rate").loc[names].itertuples():
            cells.append(Cell(shown(row.difference, "+.3f"), interval_text(row.low, row.high, "+.3f")))
        rows.append(Row(cells))
    title = f"Changes of rates by {frame['groups'].iloc[0]}"
    return Table(["group", *(_RATE_NAMES[rate] for rate in names)], rows, title)
