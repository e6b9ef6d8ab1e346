"""Write a self-contained page on the results in a folder that `debias` or `reproduce` wrote."""

import base64
import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
import pandas as pd

from experiments import published, statistics
from experiments.folder import write_text
from experiments.methods import about, dataset_label, label, needs_group, place
from experiments.settings import Selection
from experiments.structure import BINARY, Structure
from experiments.tables import main_rule, named, undefined
from fairjax.checkpoint import first_line
from fairjax.metrics import MEASURES

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
"""Pictures that may be in a folder, with title and caption."""


class Cell(NamedTuple):
    """A cell of a table."""

    text: str
    small: str = ""
    """Secondary text, shown small after the main text."""
    mark: str = ""
    """The CSS class: best, second or none."""


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
    """A picture that is embedded in the page."""

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
    """Write the page.

    Args:
        folder: a folder of results with `results.csv`, and the pictures and `run.json` that were written with it.

    Returns:
        The path of the page, `report.html` in the folder.

    Raises:
        ValueError: if the folder has no results, or the results cannot be read or contradict themselves or the
            configuration; the message names the file.
    """
    file = folder / "results.csv"
    circumstances = _circumstances(folder)
    structure = _structure(folder, circumstances)
    results = _results(folder, structure)
    selection = _selection(folder, circumstances)
    epsilon = selection.epsilon
    results = _judged(file, results, selection)
    main = main_rule(results)
    try:
        found = statistics.everything(results, epsilon, needs_group, structure)
    except ValueError as error:
        raise ValueError(f"{file}: {error}; {_WAY_OUT}") from error
    names = ", ".join(named(name, structure) for name in dict.fromkeys(results["dataset"]))
    about = " ".join((*structure.told(results["measure"].iloc[0]), undefined(results)))
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
            f"choice was made on train and validation data. {about}"
        ).strip(),
        sections=[
            section
            for section in (
                _findings(results, found, main, epsilon),
                _objectives(results, found, main),
                _pictures(folder),
                _shares(found, main, epsilon, structure),
                _paper(results, main) if structure == BINARY else None,
                _comparisons(found, main),
                _groups(found, main, structure),
                _noise(found, main, epsilon),
                _costs(circumstances),
                _settings(folder, circumstances, results),
            )
            if section is not None
        ],
    )
    write_text(folder / PAGE, page)
    return folder / PAGE


_WAY_OUT = "remove it and run the same command again, which writes it again from the saved states"
_NUMBERS = ["balanced_accuracy", "bias", "objective"]
_EDGE = 5e-6
"""Distance from the bound within which rounding in the file determines whether a bias is inside the bound."""


def _results(folder: Path, structure: Structure) -> pd.DataFrame:
    """Read `results.csv` and check every row."""
    file = folder / "results.csv"
    if not file.exists():
        raise ValueError(f"{folder} has no results.csv: give a folder that debias or reproduce wrote to the end")
    try:
        results = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise ValueError(f"{file} cannot be read ({first_line(error)}); {_WAY_OUT}") from error
    needed = {*statistics.KEYS, *structure.cells, *_NUMBERS, "seed", "part", "satisfied", "diverged"}
    missing = needed - set(results.columns)
    if missing:
        raise ValueError(f"{file} lacks the columns {', '.join(sorted(missing))}: it was written by another version")
    if "parameter" in results.columns:
        raise ValueError(f"{file} holds a sweep of simulations; its figure is made by reproduce")
    if not isinstance(results.index, pd.RangeIndex):
        raise ValueError(f"{file} has rows with more values than columns; {_WAY_OUT}")
    _refuse(file, results.isna().any(axis=1), "has fewer values than columns")
    for name in statistics.KEYS:
        _refuse(file, results[name] == "", f"has no {name}")
    _refuse(file, ~results["measure"].isin(list(MEASURES)), f"has a measure that is none of {', '.join(MEASURES)}")
    _refuse(file, ~results["part"].isin(["valid", "test"]), "has a part that is neither valid nor test")
    for name in ("satisfied", "diverged"):
        _refuse(file, ~results[name].isin(["True", "False"]), f"has a value of {name} that is neither True nor False")
        results[name] = results[name] == "True"
    for name in ("seed", *structure.cells):
        values = pd.to_numeric(results[name], errors="coerce").astype(float)
        wrong = ~np.isfinite(values) | (values != np.round(values)) | (values < 0) | (values >= 2**53)
        _refuse(file, wrong, f"has a value of {name} that is no non-negative whole number")
        results[name] = values.astype(np.int64)
    total = results[list(structure.cells)].sum(axis=1)
    _refuse(file, (total <= 0) | (total >= 2**31), "has counts of no rows, or of more than can be counted")
    for name in _NUMBERS:
        values = pd.to_numeric(results[name], errors="coerce").astype(float)
        # networks that diverged may lack numbers, and a bias may be undefined where groups are too small or ratios are
        # infinite; whether it is defined is checked with the counts
        without = (structure != BINARY) | ~results["measure"].isin(["spd", "eod"])
        wrong = ~np.isfinite(values) & ~results["diverged"] & ~((name == "bias") & without)
        _refuse(file, wrong, f"has a value of {name} that is no finite number")
        results[name] = values
    doubled = results.duplicated([*statistics.KEYS, "seed", "part"])
    _refuse(file, doubled, "has the data set, measure, method, rule, seed and part of an earlier row")
    if not (results["part"] == "test").any():
        raise ValueError(f"{file} has no rows of test parts; {_WAY_OUT}")
    wrong = statistics.inconsistency(results, structure)
    if wrong > 1e-4:
        raise ValueError(f"{file} contradicts itself: a bias or accuracy is {wrong:.2g} off what its counts say")
    return results


def _refuse(file: Path, wrong: Any, what: str) -> None:
    """Reject a table of results if any row is marked as wrong; name the first such row by its line in the file.

    Raises:
        ValueError: if any row is wrong.
    """
    rows = np.flatnonzero(np.asarray(wrong, bool))
    if len(rows):
        more = f" (and {len(rows) - 1} more rows)" if len(rows) > 1 else ""
        raise ValueError(f"{file}: row {rows[0] + 1} (line {rows[0] + 2}){more} {what}; {_WAY_OUT}")


def _judged(file: Path, results: pd.DataFrame, selection: Selection) -> pd.DataFrame:
    """Recompute `satisfied` and `objective` of each row from its bias, balanced accuracy and bound.

    Raises:
        ValueError: if the values in the file differ.
    """
    bounds = {}
    for rule in results["rule"].unique():
        try:
            bounds[rule] = float(selection.build(None if rule == "none" else rule).bound)
        except KeyError:
            _refuse(file, results["rule"] == rule, f"has the unknown selection rule {rule!r}")
    bound = results["rule"].map(bounds).where(results["part"] == "valid", selection.epsilon)
    accuracy, size = results["balanced_accuracy"], results["bias"].abs()
    met = (size < bound).where((size - bound).abs() > _EDGE, results["satisfied"]).astype(bool)
    objective = accuracy.where(met & accuracy.notna(), 0.0)
    hint = "what bias, balanced accuracy and the bound of the configuration give"
    _refuse(file, met != results["satisfied"], f"has a value of satisfied that is not {hint}")
    wrong = (objective - results["objective"]).abs() > 1e-5
    _refuse(file, wrong, f"has a value of objective that is not {hint}")
    return results.assign(satisfied=met, objective=objective)


def _json(file: Path) -> dict[str, Any]:
    """Read the mapping in a JSON file; it is empty if there is no file.

    Raises:
        ValueError: if the file cannot be read or contains something else.
    """
    if not file.exists():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{file} cannot be read as JSON ({first_line(error)}); {_WAY_OUT}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold a mapping, found a {type(content).__name__}; {_WAY_OUT}")
    return content


def _part(file: Path, content: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a mapping inside the mapping of a JSON file.

    Raises:
        ValueError: if it is missing or is not a mapping.
    """
    if not isinstance(content.get(name), dict):
        raise ValueError(f"{file} lacks {name}, or it is no mapping; {_WAY_OUT}")
    return content[name]


def _circumstances(folder: Path) -> dict[str, Any]:
    """Read `run.json` and check the entries that the page uses."""
    file = folder / "run.json"
    content = _json(file)
    runs = _part(file, content, "runs") if content.get("runs") else {"": content} if "seconds" in content else {}
    for key in runs:
        run = _part(file, runs, key)
        for name in ("seconds", "compilation_seconds"):
            numbers = _part(file, run, name).values()
            if not all(isinstance(number, int | float) for number in numbers):
                raise ValueError(f"{file} has a value within {name} that is no number; {_WAY_OUT}")
        if "device" in run and {"count", "kind", "platform"} - set(_part(file, run, "device")):
            raise ValueError(f"{file} lacks count, kind or platform of device; {_WAY_OUT}")
        if "versions" in run:
            _part(file, run, "versions")
    return content


def _structure(folder: Path, circumstances: dict[str, Any]) -> Structure:
    """Read the groups and classes of the run from `run.json`."""
    facts = circumstances.get("data")
    if not isinstance(facts, dict) or "structure" not in facts:
        return BINARY
    file = folder / "run.json"
    try:
        return Structure.from_plain(_part(file, facts, "structure"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file} has groups that cannot be used ({first_line(error)}); {_WAY_OUT}") from error


def _selection(folder: Path, circumstances: dict[str, Any]) -> Selection:
    """Read the selection settings of the run, including the bound."""
    file = folder / "configuration.json"
    if file.exists():
        content = _part(file, _json(file), "selection")
    elif "settings" in circumstances:
        file = folder / "run.json"
        content = _part(file, _part(file, _part(file, circumstances, "settings"), "each"), "selection")
    else:
        return Selection()
    if "epsilon" not in content:
        raise ValueError(f"{file} lacks selection.epsilon; {_WAY_OUT}")
    names = {field.name for field in dataclasses.fields(Selection)}
    values = {name: value for name, value in content.items() if name in names}
    try:
        return Selection(**{**values, "also": tuple(values.get("also", ()))})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file} has settings of selection that cannot be used ({first_line(error)})") from error


def _columns(frame: pd.DataFrame) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(frame["dataset"], frame["measure"], strict=True)))


def _heading(column: tuple[str, str]) -> str:
    return f"{dataset_label(column[0])} {MEASURES.label(column[1])}"


def _entries(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Return methods with their rules in the order of tables."""
    found = list(dict.fromkeys(zip(frame["method"], frame["rule"], strict=True)))
    return sorted(found, key=lambda entry: place(entry[0]))


def _grid(frame: pd.DataFrame, main: str, cell, *, title: str = "", note: str = "") -> Table:
    """Build a table with methods in rows and with data sets and measures in columns."""
    columns = _columns(frame)
    index = frame.set_index(["method", "rule", "dataset", "measure"])
    rows = []
    for method, rule in _entries(frame):
        cells = [Cell(label(method, rule, main), "needs a" if needs_group(method) else "")]
        for column in columns:
            key = (method, rule, *column)
            cells.append(cell(index.loc[key]) if key in index.index else Cell(""))
        rows.append(Row(cells, needs_group(method)))
    return Table(["method", *map(_heading, columns)], rows, title, note)


def _shown(number: float, form: str) -> str:
    """Format a number of a cell; a dash if it is missing."""
    return "–" if np.isnan(number) else format(number, form)


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
    """Describe how many of the other methods the best method beats in a paired test."""
    others = statistics.against(comparisons, column, (best["method"], best["rule"]))
    blind = others[~others["other_method"].map(needs_group).astype(bool)]
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
                lambda row: Cell(_shown(row["mean"], ".2f"), f"± {_shown(row['sd'], '.2f')}"),
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


def _shares(found: dict[str, pd.DataFrame], main: str, epsilon: float, structure: Structure) -> Section:
    def cell(row) -> Cell:
        return Cell(f"{row['share']:.0%}", f"[{row['low']:.0%}, {row['high']:.0%}] noise {row['noise_share']:.0%}")

    note = (
        f"Share of test splits with |bias| < {epsilon:g}, its 95 % Wilson interval, and after it the share that a "
        f"classifier "
        "without any bias, with the same rate of acceptance, would reach on test parts of this size."
    )
    if any(statistics.is_dealt(name, structure) for name in set(found["shares"]["measure"])):
        note += " For that, the same decisions and labels are dealt to the groups by chance, many times."
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
            rows.append(Row([Cell(text) for text in cells], needs_group(other[0])))
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
    for column in _columns(rates):
        here = rates[(rates["dataset"] == column[0]) & (rates["measure"] == column[1])]
        for method, rule in _entries(here):
            both = here[(here["method"] == method) & (here["rule"] == rule)].set_index("a")
            cells = [Cell(_heading(column)), Cell(label(method, rule, main))]
            for a in (0, 1):
                cells += [Cell(f"{both.loc[a, name]:.0f}") for name in ("rows", "positives")]
                cells += [Cell(_shown(both.loc[a, name], ".2f")) for name in _RATES]
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
    entries = _entries(rates)
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
            cells += [Cell(_shown(index.loc[(*entry, a, k), rate], ".2f")) for entry in entries]
            rows.append(Row(cells))
        columns = [*(["class"] if several else []), "group", "rows", *(label(*entry, main) for entry in entries)]
        tables.append(Table(columns, rows, f"{what}, of {rows_of}{name_of}"))
    note = "Means over test parts; a dash where no part has rows. Standard is the network before debiasing."
    return [*tables[:-1], tables[-1]._replace(note=note)]


def _noise(found: dict[str, pd.DataFrame], main: str, epsilon: float) -> Section:
    def cell(row) -> Cell:
        return Cell(
            _shown(row["bias_row_error"], ".3f"),
            f"splits {_shown(row['bias_split_deviation'], '.3f')}; met {row['met_over_rows']:.0%}",
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
        settings = _json(configuration)
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
        for name, _ in dict(_entries(results)).items()
        if (known := about(name)) is not None
    ]
    tables = [Table(["method", "source", "needs a"], methods, "Methods")]
    if rows:
        tables.append(Table(["package", "version"], rows, "Versions"))
    folds = [Fold("All settings", json.dumps(settings, indent=1, ensure_ascii=False))] if settings else []
    return Section("settings", "Settings and versions", tables=tables, folds=folds)
