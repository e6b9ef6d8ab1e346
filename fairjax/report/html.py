"""Write a self-contained page on the results in a folder that `debias` or `reproduce` wrote."""

import base64
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fairjax.metrics.intervals import interval_text
from fairjax.report import noise, statistics
from fairjax.report.card import CARD
from fairjax.report.detect_links import why
from fairjax.report.extras import Extras
from fairjax.report.layout import (
    Cell,
    Fold,
    Picture,
    Row,
    Section,
    Table,
    columns_of,
    entries_of,
    grid,
    heading_of,
    shown,
)
from fairjax.report.page import render
from fairjax.report.results_table import dataset_title, main_rule, undefined
from fairjax.report.run_files import (
    WAY_OUT,
    check_objectives,
    read_json,
    read_provenance,
    read_results,
    read_selection,
    read_structure,
)
from fairjax.runs.files import write_text
from fairjax.runs.labels import about, label, needs_group
from fairjax.runs.structure import BINARY, Structure

PAGE = "report.html"

PICTURES = {
    "objectives": (
        "Objectives of all methods",
        "Constrained objective on test data: median (dot; hollow where the protected attribute is needed at test "
        "time), quartiles (bar) and single splits (ticks).",
    ),
    "trajectories": ("Trajectories", "Bias and balanced accuracy on test data while a method runs."),
}
"""Pictures that may be in a folder, with title and caption."""


def write(folder: Path, extras: Extras | None = None) -> Path:
    """Write the page.

    Args:
        folder: a folder of results with `results.csv`, and the pictures and `run.json` that were written with it.
        extras: what the program adds to the page.

    Returns:
        The path of the page, `report.html` in the folder.

    Raises:
        ValueError: if the folder has no results, or the results cannot be read or contradict themselves or the
            configuration; the message names the file.
    """
    extras = Extras() if extras is None else extras
    file = folder / "results.csv"
    circumstances = read_provenance(folder)
    structure = read_structure(folder, circumstances)
    results = read_results(folder, structure)
    selection = read_selection(folder, circumstances)
    epsilon = selection.epsilon
    results = check_objectives(file, results, selection)
    main = main_rule(results)
    try:
        found = statistics.everything(results, epsilon, needs_group, structure)
    except ValueError as error:
        raise ValueError(f"{file}: {error}; {WAY_OUT}") from error
    names = ", ".join(dataset_title(name, structure) for name in dict.fromkeys(results["dataset"]))
    about = " ".join((*structure.explain(results["measure"].iloc[0]), undefined(results)))
    splits = results["seed"].nunique()
    page = render(
        title=f"Debiasing on {names}",
        lead=(
            f"Trained neural classifiers, debiased; {splits} train/valid/test splits, bias bound {epsilon:g}. The "
            "objective of a split is the balanced accuracy of decisions on its test part if "
            f"|bias| < {epsilon:g}, else 0. Every choice was made on train and validation data. {about}"
        ).strip(),
        sections=[
            _findings(results, found, main, epsilon),
            _objectives(results, found, main),
            _pictures(folder, {**PICTURES, **extras.pictures}),
            _shares(found, main, epsilon, structure),
            *(section(results, main) for section in (extras.sections if structure == BINARY else ())),
            _comparisons(found, main),
            _groups(found, main, structure),
            _noise(found, main, epsilon),
            why(folder),
            _costs(circumstances),
            _settings(folder, circumstances, results),
        ],
    )
    write_text(folder / PAGE, page)
    return folder / PAGE


def _findings(results: pd.DataFrame, found: dict[str, pd.DataFrame], main: str, epsilon: float) -> Section:
    ranks, shares = found["ranks"], found["shares"].set_index(statistics.KEYS)
    points = []
    for column in columns_of(ranks):
        here = ranks[(ranks["dataset"] == column[0]) & (ranks["measure"] == column[1])]
        blind = here[~here["needs_a"]].sort_values(["median", "low"], ascending=False)
        if blind.empty:
            continue
        best = blind.iloc[0]
        share = shares.loc[(*column, best["method"], best["rule"])]
        text = (
            f"{heading_of(column)}: {label(best['method'], best['rule'], main)} has the highest median of the methods "
            "that do not need the protected attribute at test time, "
            f"{best['median']:.2f} {interval_text(best['low'], best['high'], '.2f')}; it meets the bound on "
            f"{share['share']:.0%} of the test splits, where a classifier without any bias would on "
            f"{share['noise_share']:.0%}."
        )
        others = here[here["needs_a"]].sort_values(["median", "low"], ascending=False)
        if not others.empty:
            other = others.iloc[0]
            name = label(other["method"], other["rule"], main)
            text += f" The best of the methods that need it, {name}, reaches {other['median']:.2f}."
        points.append(f"{text} {_tested(found['comparisons'], column, best)}".strip())
    return Section("findings", "Which method", points=points)


def _tested(comparisons: pd.DataFrame, column: tuple[str, str], best: pd.Series) -> str:
    """Describe how many of the other methods the best method beats in a paired test."""
    others = statistics.against(comparisons, column, (best["method"], best["rule"]))
    blind = others[~others["other_method"].map(needs_group).astype(bool)]
    if blind.empty:
        return ""
    won = int(((blind["mean"] > 0) & (blind["holm_p"] < 0.05)).sum())
    return (
        f"By paired tests it is better than {won} of the {len(blind)} other such methods (Wilcoxon, Holm, 5 %); "
        "other differences could be chance."
    )


def _objectives(results: pd.DataFrame, found: dict[str, pd.DataFrame], main: str) -> Section:
    ranks = found["ranks"]

    def cell(row) -> Cell:
        mark = {1.0: "best", 2.0: "second"}.get(row["blind_rank"], "") if row["median"] > 0 else ""
        return Cell(f"{row['median']:.2f}", interval_text(row["low"], row["high"], ".2f"), mark)

    note = (
        "Median [25 %, 75 %] over test splits. Best of the methods that do not need the protected attribute at test "
        "time: bold; second best: italic. Grey: needs the attribute. After a comma: the rule that selected the "
        "candidate, if not Eq. 3."
    )
    means = []
    test = results[results["part"] == "test"]
    for name, title in (("balanced_accuracy", "Balanced accuracy"), ("bias", "Bias")):
        groups = test.groupby(statistics.KEYS, sort=False)[name]
        frame = pd.DataFrame({"mean": groups.mean(), "sd": groups.std(ddof=1)}).reset_index()
        means.append(
            grid(
                frame,
                main,
                lambda row: Cell(shown(row["mean"], ".2f"), f"± {shown(row['sd'], '.2f')}"),
                title=f"{title}, mean ± standard deviation over test splits",
            )
        )
    return Section("objective", "Constrained objective", tables=[grid(ranks, main, cell, note=note), *means])


def _pictures(folder: Path, known: Mapping[str, tuple[str, str]]) -> Section | None:
    pictures = []
    for name, (alt, caption) in known.items():
        file = next(
            (path for path in (folder / f"{name}.png", folder / "figures" / f"{name}.png") if path.exists()), None
        )
        if file is not None:
            pictures.append(Picture(base64.b64encode(file.read_bytes()).decode(), alt, caption))
    return Section("figures", "Figures", pictures=pictures) if pictures else None


def _shares(found: dict[str, pd.DataFrame], main: str, epsilon: float, structure: Structure) -> Section:
    def cell(row) -> Cell:
        interval = interval_text(row["low"], row["high"], ".0%")
        return Cell(f"{row['share']:.0%}", f"{interval} noise {row['noise_share']:.0%}")

    note = (
        f"Share of test splits with |bias| < {epsilon:g}, its 95 % Wilson interval, and after it the share that a "
        "classifier without any bias, with the same rate of acceptance, would reach on test parts of this size."
    )
    if any(noise.is_permuted(name, structure) for name in set(found["shares"]["measure"])):
        note += " To estimate it, the same decisions and labels are assigned to the groups at random, many times."
    return Section("shares", "How often the bound is met", tables=[grid(found["shares"], main, cell, note=note)])


def _comparisons(found: dict[str, pd.DataFrame], main: str) -> Section | None:
    frame = found["comparisons"]
    if frame.empty:
        return None
    ranks, rows = found["ranks"], []
    for column in columns_of(frame):
        best = ranks[(ranks["dataset"] == column[0]) & (ranks["measure"] == column[1]) & ~ranks["needs_a"]]
        if best.empty:
            continue
        top = best.sort_values(["median", "low"], ascending=False).iloc[0]
        wanted = (top["method"], top["rule"])
        for row in statistics.against(frame, column, wanted).itertuples():
            other = (row.other_method, row.other_rule)
            cells = [heading_of(column), label(*wanted, main), label(*other, main), f"{row.mean:+.3f}"]
            cells += [interval_text(row.low, row.high, "+.3f"), f"{row.wilcoxon_p:.2g}", f"{row.holm_p:.2g}"]
            rows.append(Row([Cell(text) for text in cells], needs_group(other[0])))
    columns = ["column", "best", "other", "mean difference", "95 % bootstrap", "Wilcoxon p", "Holm p"]
    note = (
        "The objective of the best attribute-blind method less that of each other, over the same test splits: mean, "
        "percentile bootstrap interval, two-sided signed-rank test, corrected for these comparisons of the column. The "
        "best was selected by the same splits, so read small differences with care. Splits share rows, so tests over "
        "splits are optimistic."
    )
    return Section("comparisons", "Paired comparisons", tables=[Table(columns, rows, note=note)])


def _groups(found: dict[str, pd.DataFrame], main: str, structure: Structure) -> Section:
    rates = found["group_rates"]
    rates = rates[rates["part"] == "test"]
    if structure.is_binary:
        return Section("groups", "Groups before and after", tables=[_two_groups(rates, main, structure)])
    return Section("groups", "Groups before and after", tables=_all_groups(rates, main, structure))


_RATES = ("acceptance_rate", "true_positive_rate", "false_positive_rate")


def _two_groups(rates: pd.DataFrame, main: str, structure: Structure) -> Table:
    """Build a table with methods in rows and the two groups side by side."""
    named = structure.groups != BINARY.groups
    names, told = (structure.groups, "") if named else (("a = 0", "a = 1"), "; a = 1 is the privileged group")
    rows = []
    for column in columns_of(rates):
        here = rates[(rates["dataset"] == column[0]) & (rates["measure"] == column[1])]
        for method, rule in entries_of(here):
            both = here[(here["method"] == method) & (here["rule"] == rule)].set_index("a")
            cells = [Cell(heading_of(column)), Cell(label(method, rule, main))]
            for a in (0, 1):
                cells += [Cell(f"{both.loc[a, name]:.0f}") for name in ("rows", "positives")]
                cells += [Cell(shown(both.loc[a, name], ".2f")) for name in _RATES]
            rows.append(Row(cells, needs_group(method)))
    each = ["rows", "y = 1", "accepted", "TPR", "FPR"]
    columns = ["column", "method", *(f"{name}, {group}" for group in names for name in each)]
    note = f"Means over test parts{told}. The row Standard is the network before debiasing."
    return Table(columns, rows, note=note)


def _all_groups(rates: pd.DataFrame, main: str, structure: Structure) -> list[Table]:
    """Build one table per rate with groups (and classes if there are more than two) in rows and methods in columns."""
    several = len(structure.classes) > 2
    rates = rates[rates["rule"].isin(["none", main])].assign(negatives=rates["rows"] - rates["positives"])
    rates = rates if several else rates.assign(**{"class": 1})
    entries = entries_of(rates)
    index = rates.set_index(["method", "rule", "a", "class"])
    what = "Share predicted to be of a class" if several else "Share accepted"
    whom = ("all rows", "rows of the class", "other rows") if several else ("all rows", "y = 1", "y = 0")
    names, tables = ("", " (true positive rate)", " (false positive rate)"), []
    for rate, of, rows_of, name_of in zip(_RATES, ("rows", "positives", "negatives"), whom, names, strict=True):
        rows = []
        for k, a in itertools.product(sorted(set(rates["class"])), range(len(structure.groups))):
            name, size = structure.groups[a], index.loc[(*entries[0], a, k), of]
            cells = [Cell(structure.classes[k])] if several else []
            cells += [Cell(name, "" if name in structure.compared else "not compared")]
            cells += [Cell(format(size, ".0f" if size >= 10 else ".1f"))]
            cells += [Cell(shown(index.loc[(*entry, a, k), rate], ".2f")) for entry in entries]
            rows.append(Row(cells))
        columns = [*(["class"] if several else []), "group", "rows", *(label(*entry, main) for entry in entries)]
        tables.append(Table(columns, rows, f"{what}, of {rows_of}{name_of}"))
    note = "Means over test parts; a dash where no part has rows. Standard is the network before debiasing."
    return [*tables[:-1], tables[-1]._replace(note=note)]


def _noise(found: dict[str, pd.DataFrame], main: str, epsilon: float) -> Section:
    def cell(row) -> Cell:
        return Cell(
            shown(row["bias_row_error"], ".3f"),
            f"splits {shown(row['bias_split_deviation'], '.3f')}; met {row['met_over_rows']:.0%}",
        )

    note = (
        "Standard error of the bias when the rows of a test part are resampled, mean over splits; beside it the "
        "standard deviation over splits, and the share of resampled test parts with "
        f"|bias| < {epsilon:g}."
    )
    return Section("noise", "Noise of the bias", tables=[grid(found["row_bootstrap"], main, cell, note=note)])


def _costs(circumstances: dict[str, Any]) -> Section | None:
    runs = circumstances.get("runs") or ({"this run": circumstances} if "seconds" in circumstances else {})
    if not runs:
        return None
    stages = list(dict.fromkeys(name for run in runs.values() for name in run["seconds"] if name != "whole"))
    rows = []
    for stage in stages:
        name = label(stage)
        cells = [Cell(name)]
        for run in runs.values():
            spent, compiling = run["seconds"].get(stage), run["compilation_seconds"].get(stage, 0.0)
            cells.append(Cell("") if spent is None else Cell(f"{spent:.1f}", f"+ {compiling:.1f}"))
        rows.append(Row(cells))
    note = "Seconds of work for all splits, and after + of compilation. The measures of a data set share its training."
    return Section("costs", "Cost", tables=[Table(["stage", *runs], rows, note=note)])


def _settings(folder: Path, circumstances: dict[str, Any], results: pd.DataFrame) -> Section:
    configuration = folder / "configuration.json"
    settings = circumstances.get("settings")
    if settings is None and configuration.exists():
        settings = read_json(configuration)
    runs = circumstances.get("runs") or {"": circumstances}
    first = next(iter(runs.values()), {})
    rows = [Row([Cell(name), Cell(str(version))]) for name, version in first.get("versions", {}).items()]
    for name in ("python", "machine"):
        if name in first:
            rows.append(Row([Cell(name), Cell(str(first[name]))]))
    if "device" in first:
        rows.append(Row([Cell("device"), Cell("{count} {kind} ({platform})".format(**first["device"]))]))
    methods = [
        Row([Cell(known.label), Cell(known.reference), Cell("yes" if known.needs_group else "no")])
        for name, _ in dict(entries_of(results)).items()
        if (known := about(name)) is not None
    ]
    tables = [Table(["method", "source", "needs a"], methods, "Methods")]
    if rows:
        tables.append(Table(["package", "version"], rows, "Versions"))
    folds = [Fold("All settings", json.dumps(settings, indent=1, ensure_ascii=False))] if settings else []
    if (folder / CARD).exists():
        folds.append(Fold("Model card", (folder / CARD).read_text(encoding="utf-8")))
    return Section("settings", "Settings and versions", tables=tables, folds=folds)
