"""Write a self-contained page on an audit: first what is known and how surely, then tables and figures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairjax.auditing import Audit
from fairjax.auditing.group_gaps import name_of, parity_for
from fairjax.auditing.group_rates import report
from fairjax.auditing.sentences import changes, findings, left_out
from fairjax.metrics import GAPS, MEASURES
from fairjax.report import audit_figures as figures
from fairjax.report import audit_tables as tables
from fairjax.report.detect_links import links_of
from fairjax.report.layout import Fold, Section
from fairjax.report.page import picture, render
from fairjax.runs.files import write_text

PAGE = "audit.html"


def write(audit: Audit, folder: Path) -> Path:
    """Write the page.

    Args:
        audit: the audit.
        folder: the folder of its tables.

    Returns:
        The path of the page, `audit.html` in the folder.
    """
    path = folder / PAGE
    write_text(path, page(audit, links_of(folder)))
    return path


def page(audit: Audit, links: Sequence[tuple[str, str]] = ()) -> str:
    """Return the HTML of the page.

    Args:
        audit: the audit.
        links: links to pages of `detect`, as addresses and texts.
    """
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
            _limits(audit, links),
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
    return " ".join([*texts, *(["In brackets: 95 % intervals."] if audit.draws else [])])


def _across(gap: Any) -> str:
    """Describe how a measure compares rates."""
    name = next((name for name, known in GAPS.items() if known == gap), "")
    return {"spread": "the greatest less the least", "shortfall": "the least over the greatest, less 1,"}.get(
        name, GAPS.label(name)
    )


def _gaps(audit: Audit) -> Section:
    pictures = []
    if audit.gaps["gap"].notna().any():
        caption = "Gaps, their 95 % intervals, and (grey) what chance alone would show."
        if not audit.draws:
            caption = "Gaps; intervals need bootstrap draws."
        pictures = [picture(figures.gaps_figure(audit.gaps), figures.gaps_text(audit.gaps), caption)]
    return Section("gaps", "Gaps", tables=[tables.gaps(audit)], pictures=pictures)


def _rates(audit: Audit) -> list[Section]:
    sections = []
    for i, view in enumerate(audit.counts.views()):
        several, pictures = len(view.classes) > 2, []
        shown = [
            tables.rates(view if k is None else view.of_class(k), audit.minimum, k)
            for k in (range(len(view.classes)) if several else [None])
        ]
        if not several:
            alt = figures.rates_text(view, audit.minimum)
            caption = (
                "Rates with 95 % intervals; the dotted line is the rate of all rows, hollow groups are not compared."
            )
            pictures = [picture(figures.rates_figure(view, audit.minimum), alt, caption)]
        sections.append(Section(f"rates-{i}", f"Rates by {view.title}", tables=shown, pictures=pictures))
    return sections


def _calibration(audit: Audit) -> Section | None:
    if audit.counts.scores is None:
        return None
    pictures, folds = [], []
    for view in audit.counts.views():
        if len(view.attributes) == 1:
            caption = f"By {view.title}: share of positive labels in each tenth of the scores, with 95 % bands."
            alt = figures.calibration_text(view, audit.minimum)
            pictures.append(picture(figures.calibration_figure(view), alt, caption))
            folds.append(Fold(f"Calibration by {view.title} as a table", tables=[tables.calibration_bins(view)]))
    text = (
        "A score is calibrated within a group if, of the rows with a score near s, a share s has the positive label. "
        "The same score then means the same in all groups."
    )
    shown = [tables.calibration(audit)]
    return Section("calibration", "Calibration", text=text, tables=shown, pictures=pictures, folds=folds)


def _thresholds(audit: Audit) -> Section | None:
    threshold = audit.columns.threshold
    if audit.counts.scores is None or threshold is None:
        return None
    pictures, folds = [], []
    for view in audit.counts.views():
        if len(view.attributes) > 1:
            continue
        caption = f"By {view.title}; the dotted line is the threshold in use, {threshold:g}."
        alt = figures.thresholds_text(view, threshold, audit.minimum)
        pictures.append(picture(figures.thresholds_figure(view, threshold, audit.minimum), alt, caption))
        folds.append(Fold(f"Rates by {view.title} at other thresholds as a table", tables=[tables.thresholds(view)]))
    return Section("thresholds", "Other thresholds", pictures=pictures, folds=folds)


def _sizes(audit: Audit) -> Section:
    return Section("sizes", "Group sizes", tables=[tables.sizes(audit)])


def _differences(audit: Audit) -> Section | None:
    if audit.differences is None:
        return None
    title = f"Compared with {Path(str(audit.against)).name}"
    return Section("differences", title, points=changes(audit), tables=tables.differences(audit))


def _limits(audit: Audit, links: Sequence[tuple[str, str]]) -> Section:
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
    return Section("limits", "What these data cannot tell", points=[*points, *_ALWAYS], links=links)


_ALWAYS = (
    "Whether the labels are right: if they carry a bias themselves, a model that agrees with them in all groups alike "
    "repeats it.",
    "Why groups differ: a gap says that outcomes are unequal, not what causes it, and not whether it is justified. "
    "If the predictions are those of networks that debias trained, the command detect shows which features carry the "
    "gap.",
    "Anything about people whom the table does not contain, or about groups that it does not name.",
    "Whether the same holds elsewhere or later: intervals describe other samples of the same population.",
)


def _base_rates(audit: Audit) -> list[str]:
    if len(audit.counts.classes) > 2:
        return []
    points = []
    for view in audit.counts.views():
        rates = report(view, audit.minimum)
        compared = rates.compared("base_rate")
        if len(view.attributes) == 1 and compared.sum() > 1:
            low, high = rates.intervals["base_rate"][compared].T
            if low.max() > high.min():
                base = rates.base_rate[compared]
                points.append(
                    f"Base rates differ by {view.title} (from {base.min():.2f} to {base.max():.2f}), so an "
                    "imperfect classifier cannot have equal selection rates, equal error rates and equal precision at "
                    "once; which of them matters depends on what the decision is for."
                )
    return points


def _settings(audit: Audit) -> Section:
    import fairjax

    settings = {"table": audit.source, "against": audit.against, **audit.options, "fairjax": fairjax.__version__}
    kept = {name: value for name, value in settings.items() if value not in (None, ())}
    return Section("settings", "Settings", folds=[Fold("All settings", json.dumps(kept, indent=1, default=str))])
