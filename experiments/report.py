"""One self-contained page of the results in a folder that `debias` or `reproduce` wrote."""

import base64
import json
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd

from experiments import published, statistics
from experiments.folder import write_text
from experiments.methods import ABOUT, DATASETS, label
from experiments.tables import main_rule

PAGE = "report.html"

PICTURES = {
    "objectives": (
        "Objectives of all methods",
        "Constrained objective on test data: median (dot; hollow where the protected attribute is needed at test "
        "time), "
        "quartiles (bar) and single splits (ticks).",
    ),
    "pareto": (
        "Accuracy against bias",
        "Mean balanced accuracy against mean |bias| on test data; a curve follows the bound from 0.01 to 0.30 with "
        "selection "
        "by Eq. 3, and methods without candidates are one point.",
    ),
    "trajectories": ("Trajectories", "Bias and balanced accuracy on test data while a method runs."),
    "figure1": ("Figure 1", "Bias and balanced accuracy on test data while a method runs, as in the paper's Figure 1."),
    "figure2": ("Figure 2", "The same for the other data sets, as in the paper's Figure 2."),
    "figure3": (
        "Figure 3",
        "Original and debiased networks on simulated data whose bias is set by one parameter, as in the paper's "
        "Figure 3.",
    ),
}
"""Pictures that may be in a folder: title and caption."""


class Cell(NamedTuple):
    """A cell of a table."""

    text: str
    small: str = ""
    """Said after it in small."""
    mark: str = ""
    """A class: best or second."""


class Row(NamedTuple):
    """A row of a table."""

    cells: list[Cell]
    needs_a: bool = False


class Table(NamedTuple):
    """A table of the page."""

    columns: list[str]
    rows: list[Row]
    title: str = ""
    note: str = ""


class Picture(NamedTuple):
    """A picture within the page."""

    data: str
    alt: str
    caption: str


class Fold(NamedTuple):
    """Text that is shown on demand."""

    title: str
    text: str


class Section(NamedTuple):
    """A section of the page."""

    id: str
    title: str
    text: str = ""
    points: list[str] = []
    tables: list[Table] = []
    pictures: list[Picture] = []
    folds: list[Fold] = []


def write(folder: Path) -> Path:
    """Make the page.

    Args:
        folder: of results: with `results.csv`, and the pictures and `run.json` that were written beside it.

    Returns:
        The page, `report.html` in the folder.

    Raises:
        ValueError: if the folder has no results or they cannot be read.
    """
    results = _results(folder)
    run = folder / "run.json"
    circumstances = json.loads(run.read_text(encoding="utf-8")) if run.exists() else {}
    epsilon = _epsilon(folder, circumstances)
    main = main_rule(results)
    found = statistics.everything(results, epsilon, needs_a)
    names = ", ".join(DATASETS.get(name, name) for name in dict.fromkeys(results["dataset"]))
    splits = results["seed"].nunique()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("report.html.j2").render(
        title=f"Debiasing on {names}",
        lead=(
            f"Trained neural classifiers, debiased; {splits} train/valid/test splits, bias bound {epsilon:g}. The "
            f"objective "
            f"of a split is the balanced accuracy of decisions on its test part if |bias| < {epsilon:g}, else 0. Every "
            "choice was made on train and validation data."
        ),
        sections=[
            section
            for section in (
                _findings(results, found, main, epsilon),
                _objectives(results, found, main),
                _pictures(folder),
                _shares(found, main, epsilon),
                _paper(results, main),
                _comparisons(found, main),
                _groups(results, found, main),
                _noise(found, main, epsilon),
                _costs(circumstances),
                _settings(folder, circumstances, results),
            )
            if section is not None
        ],
    )
    write_text(folder / PAGE, page)
    return folder / PAGE


def needs_a(method: str) -> bool:
    """Whether a method needs the protected attribute at test time."""
    return method in ABOUT and ABOUT[method].needs_a


def _results(folder: Path) -> pd.DataFrame:
    file = folder / "results.csv"
    if not file.exists():
        raise ValueError(f"{folder} has no results.csv: give a folder that debias or reproduce wrote to the end")
    results = pd.read_csv(file, keep_default_na=False)
    missing = {*statistics.KEYS, *statistics.CELLS, "seed", "part", "objective", "satisfied"} - set(results.columns)
    if missing:
        raise ValueError(f"{file} lacks the columns {', '.join(sorted(missing))}: it was written by another version")
    if "parameter" in results.columns:
        raise ValueError(f"{file} holds a sweep of simulations; its figure is made by reproduce")
    wrong = statistics.inconsistency(results)
    if wrong > 1e-4:
        raise ValueError(f"{file} contradicts itself: a bias or accuracy is {wrong:.2g} off what its counts say")
    return results


def _epsilon(folder: Path, circumstances: dict[str, Any]) -> float:
    """The bound that the run was told of."""
    configuration = folder / "configuration.json"
    if configuration.exists():
        return json.loads(configuration.read_text(encoding="utf-8"))["selection"]["epsilon"]
    return circumstances.get("settings", {}).get("each", {}).get("selection", {}).get("epsilon", 0.05)


def _columns(frame: pd.DataFrame) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(frame["dataset"], frame["measure"], strict=True)))


def _heading(column: tuple[str, str]) -> str:
    return f"{DATASETS.get(column[0], column[0])} {column[1].upper()}"


def _entries(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Methods with their rules, in the order of tables."""
    found = list(dict.fromkeys(zip(frame["method"], frame["rule"], strict=True)))
    return sorted(found, key=lambda entry: list(ABOUT).index(entry[0]) if entry[0] in ABOUT else len(ABOUT))


def _grid(frame: pd.DataFrame, main: str, cell, *, title: str = "", note: str = "") -> Table:
    """Methods down, data sets and measures across."""
    columns = _columns(frame)
    index = frame.set_index(["method", "rule", "dataset", "measure"])
    rows = []
    for method, rule in _entries(frame):
        cells = [Cell(label(method, rule, main), "needs a" if needs_a(method) else "")]
        for column in columns:
            key = (method, rule, *column)
            cells.append(cell(index.loc[key]) if key in index.index else Cell(""))
        rows.append(Row(cells, needs_a(method)))
    return Table(["method", *map(_heading, columns)], rows, title, note)


def _findings(results: pd.DataFrame, found: dict[str, pd.DataFrame], main: str, epsilon: float) -> Section:
    ranks, shares = found["ranks"], found["shares"].set_index(statistics.KEYS)
    points = []
    for column in _columns(ranks):
        here = ranks[(ranks["dataset"] == column[0]) & (ranks["measure"] == column[1])]
        blind = here[~here["needs_a"]].sort_values(["median", "low"], ascending=False)
        if blind.empty:
            continue
        best = blind.iloc[0]
        share = shares.loc[(*column, best["method"], best["rule"])]
        text = (
            f"{_heading(column)}: {label(best['method'], best['rule'], main)} has the highest median of the methods "
            f"that do "
            f"not need the protected attribute at test time, {best['median']:.2f} [{best['low']:.2f}, "
            f"{best['high']:.2f}]; "
            f"it meets the bound on {share['share']:.0%} of the test splits, where a classifier without any bias "
            f"would on "
            f"{share['noise_share']:.0%}."
        )
        reference = here[here["method"] == "group_thresholds"]
        if not reference.empty:
            text += f" Thresholds by group, which need it, reach {reference['median'].max():.2f}."
        points.append(f"{text} {_tested(found['comparisons'], column, best)}".strip())
    return Section("findings", "Which method", points=points)


def _tested(comparisons: pd.DataFrame, column: tuple[str, str], best: pd.Series) -> str:
    """How many of the others the best one beats by a paired test."""
    others = statistics.against(comparisons, column, (best["method"], best["rule"]))
    blind = others[~others["other_method"].map(needs_a).astype(bool)]
    if blind.empty:
        return ""
    won = int(((blind["mean"] > 0) & (blind["holm_p"] < 0.05)).sum())
    return (
        f"By paired tests it is better than {won} of the {len(blind)} other such entries (Wilcoxon, Holm, 5 %); the "
        f"rest "
        "could be chance."
    )


def _objectives(results: pd.DataFrame, found: dict[str, pd.DataFrame], main: str) -> Section:
    ranks = found["ranks"]

    def cell(row) -> Cell:
        mark = {1.0: "best", 2.0: "second"}.get(row["blind_rank"], "") if row["median"] > 0 else ""
        return Cell(f"{row['median']:.2f}", f"[{row['low']:.2f}, {row['high']:.2f}]", mark)

    note = (
        "Median [25 %, 75 %] over test splits. Best of the methods that do not need the protected attribute at test "
        "time: "
        "bold; second best: italic. Grey: needs the attribute. After a comma: the rule that selected the candidate, "
        "if not "
        "Eq. 3."
    )
    means = []
    test = results[results["part"] == "test"]
    for name, title in (("balanced_accuracy", "Balanced accuracy"), ("bias", "Bias")):
        groups = test.groupby(statistics.KEYS, sort=False)[name]
        frame = pd.DataFrame({"mean": groups.mean(), "sd": groups.std(ddof=1)}).reset_index()
        means.append(
            _grid(
                frame,
                main,
                lambda row: Cell(f"{row['mean']:.2f}", f"± {row['sd']:.2f}"),
                title=f"{title}, mean ± standard deviation over test splits",
            )
        )
    return Section("objective", "Constrained objective", tables=[_grid(ranks, main, cell, note=note), *means])


def _pictures(folder: Path) -> Section | None:
    pictures = []
    for name, (alt, caption) in PICTURES.items():
        file = next(
            (path for path in (folder / f"{name}.png", folder / "figures" / f"{name}.png") if path.exists()), None
        )
        if file is not None:
            pictures.append(Picture(base64.b64encode(file.read_bytes()).decode(), alt, caption))
    return Section("figures", "Figures", pictures=pictures) if pictures else None


def _shares(found: dict[str, pd.DataFrame], main: str, epsilon: float) -> Section:
    def cell(row) -> Cell:
        return Cell(f"{row['share']:.0%}", f"[{row['low']:.0%}, {row['high']:.0%}] noise {row['noise_share']:.0%}")

    note = (
        f"Share of test splits with |bias| < {epsilon:g}, its 95 % Wilson interval, and after it the share that a "
        f"classifier "
        "without any bias, with the same rate of acceptance, would reach on test parts of this size."
    )
    return Section("shares", "How often the bound is met", tables=[_grid(found["shares"], main, cell, note=note)])


def _paper(results: pd.DataFrame, main: str) -> Section | None:
    comparison = published.compared(results)
    comparison = comparison[comparison["printed"].notna()]
    if comparison.empty:
        return None
    tables = []
    for table, title in published.TITLES.items():

        def cell(row, table=table) -> Cell:
            spread = f"[{row['low']:.2f}, {row['high']:.2f}]" if table == 1 else f"± {row['deviation']:.2f}"
            inside = "inside" if row["inside"] else "outside"
            small = f"{spread}; paper {row['printed']:.2f}, {row['difference']:+.2f}, {inside}"
            return Cell(f"{row['ours']:.2f}", small)

        here = comparison[comparison["table"] == table]
        tables.append(_grid(here, main, cell, title=f"Table {table}: {title}"))
    text = (
        "Ours, then the number that Marcinkevičs, Ozkan and Vogt (2022) print, the difference, and whether their "
        "number lies "
        "inside our quartiles."
    )
    return Section("paper", "Beside the paper", text=text, tables=tables)


def _comparisons(found: dict[str, pd.DataFrame], main: str) -> Section | None:
    frame = found["comparisons"]
    if frame.empty:
        return None
    ranks, rows = found["ranks"], []
    for column in _columns(frame):
        best = ranks[(ranks["dataset"] == column[0]) & (ranks["measure"] == column[1]) & ~ranks["needs_a"]]
        if best.empty:
            continue
        top = best.sort_values(["median", "low"], ascending=False).iloc[0]
        wanted = (top["method"], top["rule"])
        for row in statistics.against(frame, column, wanted).itertuples():
            other = (row.other_method, row.other_rule)
            cells = [_heading(column), label(*wanted, main), label(*other, main), f"{row.mean:+.3f}"]
            cells += [f"[{row.low:+.3f}, {row.high:+.3f}]", f"{row.wilcoxon_p:.2g}", f"{row.holm_p:.2g}"]
            rows.append(Row([Cell(text) for text in cells], needs_a(other[0])))
    columns = ["column", "best", "other", "mean difference", "95 % bootstrap", "Wilcoxon p", "Holm p"]
    note = (
        "The objective of the best attribute-blind method less that of each other, over the same test splits: mean, "
        "percentile "
        "bootstrap interval, two-sided signed-rank test, corrected for these comparisons of the column. The best was "
        "picked "
        "by the "
        "same splits, so read small differences with care. Splits share rows, so tests over splits are optimistic."
    )
    return Section("comparisons", "Paired comparisons", tables=[Table(columns, rows, note=note)])


def _groups(results: pd.DataFrame, found: dict[str, pd.DataFrame], main: str) -> Section:
    rates = found["group_rates"]
    rates = rates[rates["part"] == "test"]
    rows = []
    for column in _columns(rates):
        here = rates[(rates["dataset"] == column[0]) & (rates["measure"] == column[1])]
        for method, rule in _entries(here):
            both = here[(here["method"] == method) & (here["rule"] == rule)].set_index("a")
            cells = [Cell(_heading(column)), Cell(label(method, rule, main))]
            for a in (0, 1):
                cells += [Cell(f"{both.loc[a, name]:.0f}") for name in ("rows", "positives")]
                names = ("acceptance_rate", "true_positive_rate", "false_positive_rate")
                cells += [Cell(f"{both.loc[a, name]:.2f}") for name in names]
            rows.append(Row(cells, needs_a(method)))
    each = ["rows", "y = 1", "accepted", "TPR", "FPR"]
    columns = ["column", "method", *(f"{name}, a = {a}" for a in (0, 1) for name in each)]
    note = "Means over test parts; a = 1 is the privileged group. The row Standard is the network before debiasing."
    return Section("groups", "Groups before and after", tables=[Table(columns, rows, note=note)])


def _noise(found: dict[str, pd.DataFrame], main: str, epsilon: float) -> Section:
    def cell(row) -> Cell:
        return Cell(
            f"{row['bias_row_error']:.3f}", f"splits {row['bias_split_deviation']:.3f}; met {row['met_over_rows']:.0%}"
        )

    note = (
        "Standard error of the bias when the rows of a test part are resampled, mean over splits; beside it the "
        "standard "
        f"deviation over splits, and the share of resampled test parts with |bias| < {epsilon:g}."
    )
    return Section("noise", "Noise of the bias", tables=[_grid(found["row_bootstrap"], main, cell, note=note)])


def _costs(circumstances: dict[str, Any]) -> Section | None:
    runs = circumstances.get("runs") or ({"this run": circumstances} if "seconds" in circumstances else {})
    if not runs:
        return None
    stages = list(dict.fromkeys(name for run in runs.values() for name in run["seconds"] if name != "whole"))
    rows = []
    for stage in stages:
        name = ABOUT[stage].label if stage in ABOUT else stage
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
        settings = json.loads(configuration.read_text(encoding="utf-8"))
    runs = circumstances.get("runs") or {"": circumstances}
    first = next(iter(runs.values()), {})
    rows = [Row([Cell(name), Cell(str(version))]) for name, version in first.get("versions", {}).items()]
    for name in ("python", "machine"):
        if name in first:
            rows.append(Row([Cell(name), Cell(str(first[name]))]))
    if "device" in first:
        rows.append(Row([Cell("device"), Cell("{count} {kind} ({platform})".format(**first["device"]))]))
    methods = [
        Row([Cell(ABOUT[name].label), Cell(ABOUT[name].source), Cell("yes" if needs_a(name) else "no")])
        for name, _ in dict(_entries(results)).items()
        if name in ABOUT
    ]
    tables = [Table(["method", "source", "needs a"], methods, "Methods")]
    if rows:
        tables.append(Table(["package", "version"], rows, "Versions"))
    folds = [Fold("All settings", json.dumps(settings, indent=1, ensure_ascii=False))] if settings else []
    return Section("settings", "Settings and versions", tables=tables, folds=folds)
