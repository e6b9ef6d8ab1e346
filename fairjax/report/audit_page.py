"""Write a self-contained page on an audit: first what is known and how surely, then tables and figures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fairjax.auditing import Audit
from fairjax.auditing.counts import Counts
from fairjax.auditing.group_gaps import name_of, parity_for
from fairjax.auditing.group_rates import ORDER, report
from fairjax.auditing.sentences import findings, left_out
from fairjax.metrics import GAPS, MEASURES
from fairjax.report import audit_figures as figures
from fairjax.report.layout import Cell, Fold, Row, Section, Table, shown
from fairjax.report.page import picture, render
from fairjax.runs.files import write_text

PAGE = "audit.html"

_RATE_NAMES = {
    "base_rate": "base rate",
    "selection_rate": "selection rate",
    "true_positive_rate": "TPR",
    "false_positive_rate": "FPR",
    "precision": "precision",
    "accuracy": "accuracy",
}


def write(audit: Audit, folder: Path) -> Path:
    """Write the page.

    Args:
        audit: the audit.
        folder: the folder of its tables.

    Returns:
        The path of the page, `audit.html` in the folder.
    """
    path = folder / PAGE
    write_text(path, page(audit))
    return path


def page(audit: Audit) -> str:
    """Return the HTML of the page."""
    counts, of = audit.counts, audit.columns
    total = int(counts.rows.sum())
    decided = f"decisions {of.decision}" if of.decision else f"scores {of.score} above {of.threshold:g}"
    lead = (
        f"{total:,} rows of {Path(audit.source).name}: {decided}, against the label {of.label} "
        f"(positive: {counts.classes[-1]})"
        if len(counts.classes) == 2
        else f"{total:,} rows of {Path(audit.source).name}: {decided}, against the label {of.label} "
        f"(classes: {', '.join(counts.classes)})"
    )
    lead += (
        f", by {', '.join(counts.attributes)}. A rate is compared if it is computed from at least {audit.minimum} rows."
    )
    return render(
        f"Audit of {Path(audit.source).name}",
        " ".join((lead, *audit.notes)),
        [
            Section("findings", "What is known", text=_meanings(audit), points=findings(audit)),
            _differences(audit),
            _gaps(audit),
            *_rates(audit),
            _calibration(audit),
            _thresholds(audit),
            _sizes(audit),
            _limits(audit),
            _settings(audit),
        ],
    )


def _meanings(audit: Audit) -> str:
    """Say what each measure compares."""
    texts = []
    for name in dict.fromkeys(audit.gaps["measure"]):
        parity = parity_for(name, 3, len(audit.counts.classes))
        rates = [name_of(rate, audit.counts.classes).replace("_", " ") for rate in parity.rates]
        texts.append(f"{MEASURES.label(name)}: {_across(parity.across)} of the {' and the '.join(rates)}.")
    return f"{' '.join(texts)} In brackets: 95 % intervals."


def _across(gap: Any) -> str:
    """Describe how a measure compares rates."""
    name = next((name for name, known in GAPS.items() if known == gap), "")
    return {"spread": "the greatest less the least", "shortfall": "the least over the greatest, less 1,"}.get(
        name, GAPS.label(name)
    )


def _gaps(audit: Audit) -> Section:
    rows = []
    for row in audit.gaps.itertuples():
        ends = f"[{shown(row.low, '.3f')}, {shown(row.high, '.3f')}]"
        cells = [
            Cell(f"{MEASURES.label(row.measure)} by {row.groups}"),
            Cell(shown(row.gap, ".3f"), ends),
            Cell(shown(row.shrunk, ".3f")),
            Cell(shown(row.chance, ".3f")),
            Cell(shown(row.p_value, ".2g")),
            Cell(row.lowest, shown(row.lowest_rate, ".3f")),
            Cell(row.highest, shown(row.highest_rate, ".3f")),
        ]
        rows.append(Row(cells))
    note = (
        f"Gap with its 95 % interval ({audit.draws:,} bootstrap draws of the counts). The difference of the greatest "
        "and the least of noisy rates is too large on average; shrunk: the gap of the rates after empirical Bayes has "
        "drawn them towards each other. Chance: what 95 % of samples of these sizes would stay below if all groups had "
        "the same rates; p: the share of such samples that reach the gap."
    )
    columns = ["measure", "gap", "shrunk", "chance", "p", "lowest rate", "highest rate"]
    pictures = []
    if audit.gaps["gap"].notna().any():
        alt = "Every gap with its interval, beside what chance alone would show; the numbers are in the table above."
        caption = "Gaps, their 95 % intervals, and (grey) what chance alone would show."
        pictures = [picture(figures.gaps_figure(audit.gaps), alt, caption)]
    return Section("gaps", "Gaps", tables=[Table(columns, rows, note=note)], pictures=pictures)


def _rates(audit: Audit) -> list[Section]:
    sections = []
    for i, view in enumerate(audit.counts.views()):
        tables, pictures = [], []
        several = len(view.classes) > 2
        for k in range(len(view.classes)) if several else [None]:
            plain = view if k is None else view.of_class(k)
            tables.append(_rate_table(plain, audit.minimum, "" if k is None else f"Class {view.classes[k]}"))
        if not several:
            alt = (
                f"Selection rate, true and false positive rate by {view.title}, with intervals, as in the table above."
            )
            caption = (
                "Rates with 95 % intervals; the dotted line is the rate of all rows, hollow groups are not compared."
            )
            pictures = [picture(figures.rates_figure(view, audit.minimum), alt, caption)]
        sections.append(Section(f"rates-{i}", f"Rates by {view.title}", tables=tables, pictures=pictures))
    return sections


def _rate_table(counts: Counts, minimum: int, title: str) -> Table:
    found = report(counts, minimum)
    rows = []
    for g, name in enumerate(found.names):
        cells = [Cell(name), Cell(f"{found.counts[g]:,}")]
        for rate in ORDER:
            low, high = found.intervals[rate][g]
            value = getattr(found, rate)[g]
            ends = "" if np.isnan(value) else f"[{low:.2f}, {high:.2f}]"
            cells.append(Cell(shown(value, ".2f"), ends))
        if found.auc is not None:
            cells.append(Cell(shown(found.auc[g], ".2f")))
        rows.append(Row(cells, not found.compared("selection_rate")[g]))
    columns = ["group", "rows", *(_RATE_NAMES[rate] for rate in ORDER), *(["AUC"] if found.auc is not None else [])]
    note = "With 95 % Wilson intervals. Grey: too few rows to be compared. TPR, FPR: true and false positive rate."
    return Table(columns, rows, title, note)


def _calibration(audit: Audit) -> Section | None:
    if audit.counts.scores is None:
        return None
    rows, pictures = [], []
    for view in audit.counts.views():
        found = report(view, audit.minimum)
        assert found.brier_score is not None and found.calibration_error is not None
        for g, name in enumerate(found.names):
            numbers = (found.calibration_error[g], found.brier_score[g])
            rows.append(
                Row([Cell(name), Cell(f"{found.counts[g]:,}"), *(Cell(shown(each, ".3f")) for each in numbers)])
            )
        if len(view.attributes) == 1:
            alt = f"Share of positive labels against the mean score, one line per group of {view.title}."
            caption = f"By {view.title}: share of positive labels in each tenth of the scores, with 95 % bands."
            pictures.append(picture(figures.calibration_figure(view), alt, caption))
    text = (
        "A score is calibrated within a group if, of the rows with a score near s, a share s has the positive label. "
        "The same score then means the same in all groups."
    )
    table = Table(["group", "rows", "calibration error", "Brier score"], rows, note="Over ten bins of equal width.")
    return Section("calibration", "Calibration", text=text, tables=[table], pictures=pictures)


def _thresholds(audit: Audit) -> Section | None:
    if audit.counts.scores is None:
        return None
    pictures = []
    for view in audit.counts.views():
        if len(view.attributes) > 1:
            continue
        alt = f"Rates of the groups of {view.title}, and their differences, at thresholds from 0 to 1."
        caption = f"By {view.title}; the dotted line is the threshold in use, {audit.columns.threshold:g}."
        figure = figures.thresholds_figure(view, audit.columns.threshold, audit.minimum)
        pictures.append(picture(figure, alt, caption))
    return Section("thresholds", "Other thresholds", pictures=pictures)


def _sizes(audit: Audit) -> Section:
    rows, total = [], audit.counts.weights.sum()
    for view in audit.counts.views():
        for g, name in enumerate(view.names):
            number, weight = view.rows[..., g].sum(), view.weights[..., g].sum()
            cells = [Cell(view.title), Cell(name), Cell(f"{int(number):,}"), Cell(f"{weight / total:.1%}")]
            rows.append(Row(cells, number < audit.minimum))
    what = "share of weight" if audit.counts.weighted else "share"
    note = "Grey: fewer rows than a rate must have to be compared."
    return Section("sizes", "Group sizes", tables=[Table(["attribute", "group", "rows", what], rows, note=note)])


def _differences(audit: Audit) -> Section | None:
    if audit.differences is None:
        return None
    gaps = [
        Row(
            [
                Cell(f"{MEASURES.label(row.measure)} by {row.groups}"),
                *(Cell(shown(each, ".3f")) for each in (row.old, row.new)),
                Cell(shown(row.difference, "+.3f"), f"[{shown(row.low, '+.3f')}, {shown(row.high, '+.3f')}]"),
            ]
        )
        for row in audit.differences.gaps.itertuples()
    ]
    columns = ["old", "new", "difference"]
    note = "New less old, on the same rows, with the 95 % percentile interval of the paired difference."
    tables = [Table(["measure", *columns], gaps, "Magnitudes of gaps", note)]
    tables += [_changes(frame) for _, frame in audit.differences.by_group.groupby("groups", sort=False)]
    points = [_changed(row) for row in audit.differences.gaps.itertuples() if not np.isnan(row.difference)]
    return Section("differences", f"Compared with {Path(str(audit.against)).name}", points=points, tables=tables)


def _changes(frame: pd.DataFrame) -> Table:
    """Build a table with the groups of an attribute in rows and the differences of their rates in columns."""
    rates = list(dict.fromkeys(frame["rate"]))
    rows = []
    for name, of_group in frame.groupby("group", sort=False):
        cells = [Cell(str(name))]
        for row in of_group.set_index("rate").loc[rates].itertuples():
            cells.append(Cell(shown(row.difference, "+.3f"), f"[{shown(row.low, '+.3f')}, {shown(row.high, '+.3f')}]"))
        rows.append(Row(cells))
    title = f"Changes of rates by {frame['groups'].iloc[0]}"
    return Table(["group", *(_RATE_NAMES[rate] for rate in rates)], rows, title)


def _changed(row) -> str:
    what = f"{MEASURES.label(row.measure)} by {row.groups}"
    change = f"by {abs(row.difference):.3f}, from {abs(row.old):.3f} to {abs(row.new):.3f}"
    if row.low > 0 or row.high < 0:
        return f"{what} {'grew' if row.difference > 0 else 'fell'} {change}; chance does not explain it."
    return f"{what} changed {change}, which may be chance."


def _limits(audit: Audit) -> Section:
    points = []
    known = audit.gaps[audit.gaps["gap"].notna()]
    if len(known) and known["chance"].notna().any():
        worst = known.loc[known["chance"].idxmax()]
        points.append(
            "Differences smaller than what chance shows cannot be seen in a sample of this size: for "
            f"{MEASURES.label(worst['measure'])} by {worst['groups']} that is {worst['chance']:.3f}."
        )
    points += left_out(audit)
    points += _base_rates(audit)
    return Section("limits", "What these data cannot tell", points=[*points, *_ALWAYS])


_ALWAYS = (
    "Whether the labels are right: if they carry a bias themselves, a model that agrees with them in all groups alike "
    "repeats it.",
    "Why groups differ: a gap says that outcomes are unequal, not what causes it, and not whether it is justified.",
    "Anything about people whom the table does not contain, or about groups that it does not name.",
    "Whether the same holds elsewhere or later: intervals describe other samples of the same population.",
)


def _base_rates(audit: Audit) -> list[str]:
    if len(audit.counts.classes) > 2:
        return []
    points = []
    for view in audit.counts.views():
        found = report(view, audit.minimum)
        there = found.compared("base_rate")
        if len(view.attributes) == 1 and there.sum() > 1:
            low, high = found.intervals["base_rate"][there].T
            if low.max() > high.min():
                rates = found.base_rate[there]
                points.append(
                    f"Base rates differ by {view.title} (from {rates.min():.2f} to {rates.max():.2f}), so an "
                    "imperfect classifier cannot have equal selection rates, equal error rates and equal precision at "
                    "once; which of them matters depends on what the decision is for."
                )
    return points


def _settings(audit: Audit) -> Section:
    import fairjax

    settings = {"table": audit.source, "against": audit.against, **vars(audit.columns), "minimum": audit.minimum}
    settings |= {"bootstrap": audit.draws, "fairjax": fairjax.__version__}
    kept = {name: value for name, value in settings.items() if value not in (None, ())}
    return Section("settings", "Settings", folds=[Fold("All settings", json.dumps(kept, indent=1, default=str))])
