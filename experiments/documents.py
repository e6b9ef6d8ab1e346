"""Write the generated parts of the documents: tables and sections that follow from the registries.

A generated part of a document is between the lines `<!-- generated: NAME -->` and `<!-- end -->`; everything else is
written by hand. `parts` has the names and the texts.
"""

import functools
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from experiments.first_paper.before_after import before_after_figure
from experiments.markdown import at_most, described, limit, path_of, references_in, settings_table, table
from experiments.mitigation_parts import mitigation_parts
from fairjax.cli.program import Program
from fairjax.datasets import DATASETS
from fairjax.datasets.benchmarks import Benchmark
from fairjax.methods import METHODS
from fairjax.metrics import GAPS, MEASURES, Parity, make_measure
from fairjax.runs import labels
from fairjax.runs.composed_losses import settings_of_method
from fairjax.runs.files import write_text
from fairjax.runs.postprocessors import POSTPROCESSORS
from fairjax.selection import RULES, PooledObjective

ROOT = Path(__file__).parents[1]
"""The checkout."""

RESULTS = Path("docs/benchmark/results.csv")
"""The published results, relative to the checkout."""

PICTURE = Path("docs/benchmark/figures/before_after")
"""The picture of the README, relative to the checkout and without a suffix."""

_PART = re.compile(r"(<!-- generated: ([^\n]+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def documents(root: Path = ROOT) -> list[Path]:
    """Return the documents that may have generated parts."""
    return [root / "README.md", *sorted((root / "docs").glob("**/*.md"))]


def parts() -> dict[str, Callable[[], str]]:
    """Return the generated parts by name, as functions that make the texts from the registries."""
    return {
        "methods": _methods,
        **{f"method {name}": functools.partial(_method, name) for name in METHODS},
        **mitigation_parts(),
        "postprocessors": _postprocessors,
        "rules": _rules,
        "measures": _measures,
        "gaps": lambda: table(("gap", "what it is"), ((f"`{name}`", GAPS.label(name)) for name in GAPS)),
        "data sets": _data_sets,
    }


def updated(text: str) -> str:
    """Return a document with its generated parts as they should be.

    Args:
        text: the document.

    Raises:
        ValueError: if the document asks for a part that does not exist.
    """
    known = parts()

    def replace(match: re.Match[str]) -> str:
        name = match.group(2)
        if name not in known:
            raise ValueError(f"there is no generated part {name!r}; the parts are {', '.join(known)}")
        return f"{match.group(1)}{known[name]().strip()}\n{match.group(3)}"

    return _PART.sub(replace, text)


def stale(root: Path = ROOT) -> list[str]:
    """Return what is wrong with the generated parts of the documents, in one sentence per document or missing part.

    Args:
        root: the checkout.
    """
    texts = {path: path.read_text(encoding="utf-8") for path in documents(root)}
    found = [f"{path.relative_to(root)} is stale" for path, text in texts.items() if updated(text) != text]
    present = {match.group(2) for text in texts.values() for match in _PART.finditer(text)}
    lacking = [f"no document has the generated part {name!r}" for name in parts() if name not in present]
    return found + lacking


def command(program: Program, words: list[str], console: Console) -> int:
    """Run `documents`: write the generated parts and the picture of the README, or check the parts with `--check`."""
    if words not in ([], ["--check"]):
        raise ValueError(f"{program.name} documents takes --check or nothing, got {' '.join(words)}")
    if not words:
        for path in documents(ROOT):
            text = path.read_text(encoding="utf-8")
            if updated(text) != text:
                write_text(path, updated(text))
                console.print(f"written: {path.relative_to(ROOT)}", markup=False)
        draw(ROOT)
    problems = stale(ROOT)
    for problem in problems:
        console.print(f"{problem}: run `{program.name} documents`" if words else problem, markup=False, soft_wrap=True)
    return 1 if problems else 0


def draw(root: Path) -> Path:
    """Draw the picture of the README from the published results."""
    results = pd.read_csv(root / RESULTS, keep_default_na=False)
    rule = next(name for name, kind in RULES.items() if kind is PooledObjective)
    before_after_figure(results, PooledObjective().epsilon, root / PICTURE, rule=rule, suffixes=(".png",))
    return (root / PICTURE).with_suffix(".png")


def _methods() -> str:
    rows = []
    for name, about in labels.methods().items():
        linked = f"[`{name}`](#{name})" if name in METHODS else f"`{name}`"
        needed = "yes" if about.needs_group else "no"
        rows.append((linked, about.label, about.reference, needed, at_most(about.groups), at_most(about.classes)))
    return table(("method", "label", "reference", "attribute at test time", "groups", "classes"), rows)


def _method(name: str) -> str:
    """Describe a method: what it does, its equation, limits, settings and references."""
    kind = METHODS[name]
    words, references = described(kind)
    threshold = {"accuracy": "balanced accuracy", "rule": "the selection rule's score"}[kind.threshold]
    lines = [
        f"{METHODS.label(name)} ({kind.reference}), `{path_of(kind)}`.",
        "",
        words,
        "",
        f"* Equation: `{kind.equation}`",
        f"* Limits: {limit(kind.groups, 'groups')}, {limit(kind.classes, 'classes')}.",
        "* The protected attribute is not needed at test time, unless it is a feature.",
        f"* Threshold of a candidate: the one that maximises {threshold} on validation data.",
        "",
        settings_table(settings_of_method(name, kind)) or "It has no settings.",
    ]
    return "\n".join([*lines, *references])


def _postprocessors() -> str:
    rows = []
    for name, entry in POSTPROCESSORS.items():
        measures = "any" if entry.measures is None else ", ".join(entry.measures)
        overlapping = "yes" if entry.overlapping else "no"
        cells = entry.label, entry.reference, measures, at_most(entry.groups), at_most(entry.classes), overlapping
        rows.append((f"`{name}`", *cells))
    return table(("postprocessor", "label", "reference", "measures", "groups", "classes", "overlapping groups"), rows)


def _rules() -> str:
    lines = []
    for name, kind in RULES.items():
        lines += [f"**`{name}`**, `{path_of(kind)}`. {RULES.summary(name)}", "", settings_table(kind()), ""]
    return "\n".join(lines)


def _measures() -> str:
    gaps = {id(gap): name for name, gap in GAPS.items()}
    rows, references = [], {}
    for name, measure in MEASURES.items():
        several = make_measure(name, 3)
        gap = gaps.get(id(several.across), "") if isinstance(several, Parity) else ""
        rows.append((f"`{name}`", MEASURES.label(name), f"`{path_of(measure)}`", MEASURES.summary(name), f"`{gap}`"))
        for entry in references_in((inspect.getdoc(measure) or "").partition("References:")[2]):
            references.setdefault(entry, []).append(f"`{name}`")
    head = ("name", "label", "function", "definition for two groups", "gap of more groups")
    cited = [f"* {', '.join(names)}: {entry}" for entry, names in references.items()]
    return "\n".join([table(head, rows), "", *cited])


def _data_sets() -> str:
    rows = []
    for name, benchmark in DATASETS.items():
        attributes = ", ".join(benchmark.attributes) or "fixed"
        classes = "several" if benchmark.several_classes else "2"
        rows.append((f"`{name}`", benchmark.label, _about_data(benchmark), attributes, classes))
    return table(("name", "label", "data", "attributes to choose from", "classes"), rows)


def _about_data(benchmark: Benchmark) -> str:
    """Return one or two sentences on a data set: from its loader, or its parameter if it is simulated."""
    load = benchmark.load
    if benchmark.simulator is not None:
        parameter = benchmark.simulator.parameter
        return f"Simulated. `--simulation.{parameter.name}` ({parameter.default:g}): {parameter.description}"
    if isinstance(load, functools.partial):
        base = next(name for name, entry in DATASETS.items() if entry.load is load.func)
        return f"As `{base}`, with {' and '.join(f'`{name}={value!r}`' for name, value in load.keywords.items())}."
    source = inspect.getsource(load)  # data sets share a table of files, and a loader names those that it reads
    files = [f"`{file.path}`" for name, file in benchmark.files.items() if f'"{name}"' in source]
    words = re.sub(r"^Load (the )?", "", _first_paragraph(load))
    return f"{words[0].upper()}{words[1:]}" + (f" Files: {', '.join(files)}." if files else "")


def _first_paragraph(entry: Any) -> str:
    return " ".join((inspect.getdoc(entry) or "").split("\n\n")[0].split())
