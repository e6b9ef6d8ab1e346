"""Write `bench.md`, a readable version of `bench.json`."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from experiments.benchmarks import fit, view
from experiments.benchmarks.settings import SHAPES
from experiments.benchmarks.view import OURS, SEQUENTIAL, WITHOUT_TERMS

STEPS = {
    "training": "training, µs",
    "pruning": "pruning, µs",
    "bias_gda": "bias GD/A, µs",
    "threshold": "threshold search, µs",
}
BROUGHT = {"evaluation": "evaluation", "pruning": "pruning step", "bias_gda": "training step"}
"""Steps that are timed for brought networks."""
CURVES = {
    "seeds": ("seeds", "training", "Training step by number of seeds", "networks", "per seed and step, µs", 1e6),
    "rows": ("rows", "evaluate", "Rows, chunk by chunk", "rows", "evaluation, s", 1.0),
    "width": ("width", "training", "Training step by width", "units per layer", "per seed and step, µs", 1e6),
    "depth": ("depth", "training", "Training step by depth", "hidden layers", "per seed and step, µs", 1e6),
}
"""The curves: part, measure, title, heading of the sizes, heading of the costs, and a factor that converts seconds."""


DETECTION = {"integrated_gradients": "integrated gradients", "bias_by_feature": "bias by feature", "tcav": "TCAV"}
"""Kinds of detection that are timed."""


def markdown(results: dict[str, Any], pictures: Sequence[str] = ()) -> str:
    """Return the whole page.

    Args:
        results: the content of `bench.json`.
        pictures: names of PNG files in the same folder.

    Returns:
        The text in Markdown.
    """
    sections = [*_machine(results), *summary(results)]
    for shape in view.shapes(results):
        sections += [*_steps(results, shape), *_limit(results, shape)]
    sections += [*_whole(results)]
    for part in CURVES:
        sections += _curve(results, part)
    sections += [*_pruned(results), *_brought(results), *_detection(results)]
    sections += [*_reductions(results), *_terms(results), *_failures(results)]
    if pictures:
        sections += ["## Figures", *(f"![{name.removesuffix('.png')}]({name})" for name in pictures)]
    return "\n\n".join(sections) + "\n"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown, with the first column left-aligned and the others right-aligned."""
    ruler = ["---", *["---:"] * (len(headings) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, ruler, *rows))


def number(value: float | None, digits: int = 3) -> str:
    """Format a number to some significant digits without an exponent; a dash if there is no number."""
    if value is None or math.isnan(value):
        return "–"
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def summary(results: dict[str, Any]) -> Iterator[str]:
    """Yield the section that sums up the results."""
    rows = [
        (figure.name, "not measured" if figure.value is None else f"{number(figure.value)} {figure.unit}")
        for figure in view.summary(results)
    ]
    yield "## Summary"
    yield table(("figure", "measured"), rows)


def _machine(results: dict[str, Any]) -> Iterator[str]:
    machine, settings = results["machine"], results["settings"]
    yield "# Benchmark of speed"
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    yield (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:g} GiB; {machine['platform']}; Python "
        f"{machine['python']}; {versions}."
    )
    devices = {
        f"{device['count']} {device['platform']} device(s) ({device['kind']})"
        for entry in results["contenders"].values()
        if isinstance(device := entry.get("facts", {}).get("device"), dict)
    }
    descriptions = []
    for key, entry in results["contenders"].items():
        if key.startswith("data/") and "facts" in entry:
            facts = entry["facts"]
            kind = "real" if facts["real"] else f"simulated ({facts['why']})"
            descriptions.append(f"{key.removeprefix('data/')}: {facts['rows']:,} x {facts['features']}, {kind}")
    yield (
        f"fairjax on {' and '.join(sorted(devices)) or 'no device yet'}; PyTorch and scikit-learn on CPU. Tables, rows "
        f"x features: {'; '.join(descriptions) or 'none'}. {settings['seeds']} seeds; hidden layers "
        f"{settings['widths']}. Every contender ran in its own process, one after another. Medians of "
        f"{settings['repetitions']} repetitions ({settings['scaling_repetitions']} for points of curves); compilation "
        "is not in them unless named. Memory is the peak of the process."
    )


def _steps(results: dict[str, Any], shape: str) -> Iterator[str]:
    prefix, rows = f"steps/{shape}/", []
    for name in view.names(results, prefix):
        key = prefix + name
        if name == "limit" or "measures" not in results["contenders"][key]:
            continue
        cells = []
        for measure in STEPS:
            fairjax_seconds = view.value(results, prefix + OURS, measure)
            seconds = view.value(results, key, measure)
            ratio = view.ratio(seconds, fairjax_seconds)
            cell = number(None if seconds is None else seconds * 1e6)
            cells.append(cell if ratio is None or name == OURS else f"{cell} ({number(ratio)}×)")
        raw = view.raw(results, key, "training") or view.raw(results, key, "threshold") or [1.0]
        spread = f"{100 * (max(raw) / min(raw) - 1):.0f} %"
        rows.append((name, *cells, spread, number(view.peak(results, key))))
    yield f"## Steps on {shape}"
    yield table(("contender", *STEPS.values(), "spread", "memory, GiB"), rows)
    better = view.best(results, f"{prefix}{SEQUENTIAL}", "training")
    if better is not None:
        ratio = view.ratio(better[1], view.value(results, prefix + OURS, "training"))
        line = better[0].removeprefix(prefix)
        yield f"The faster contender with the protocol's default in training: {line}, {number(ratio)} times fairjax."
    compiled = results["contenders"].get(prefix + OURS, {}).get("compilation_seconds")
    if compiled:
        seconds_by_stage = ", ".join(f"{name} {number(seconds)}" for name, seconds in compiled.items())
        yield f"Compilation of fairjax, s: {seconds_by_stage}."
    firsts = {
        name: seconds
        for name in view.names(results, prefix)
        if "compiled" in name
        and (seconds := results["contenders"][prefix + name].get("facts", {}).get("first_step_seconds"))
    }
    if firsts:
        yield f"torch.compile, s: {'; '.join(f'{name} {number(seconds)}' for name, seconds in firsts.items())}."
    if shape == view.shapes(results)[0]:
        yield (
            "Wall-clock time per seed and step, and its ratio to that of fairjax. Training: a mini-batch of 64, whole "
            "epochs with shuffling and validation loss. Pruning: influence on the train part, cut, evaluation. Bias "
            "GD/A: a mini-batch of 256, one evaluation per epoch. fairjax evaluates on validation and test data, the "
            "other contenders on validation data; the time of a sequential contender includes its evaluation before "
            "the first step and its result on test data. Threshold search: 101 thresholds from scores. Spread: "
            "largest over least repetition, less 1. The line of a contender in the figure goes from its least to its "
            "largest repetition."
        )


def _limit(results: dict[str, Any], shape: str) -> Iterator[str]:
    key = f"steps/{shape}/limit"
    products, square, copy = (view.value(results, key, name) for name in ("products", "square", "copy"))
    if products is None or square is None or copy is None:
        return
    fairjax_seconds = view.value(results, f"steps/{shape}/{OURS}", "training")
    operations = results["contenders"][key]["facts"]["operations_a_step"]
    rows = [
        (
            "training step",
            number(None if fairjax_seconds is None else fairjax_seconds * 1e6),
            number(view.ratio(fairjax_seconds, products)),
        ),
        ("its matrix products alone", number(products * 1e6), "1.00"),
        (
            "its operations at the rate of a 2048-wide product",
            number(operations * square * 1e6),
            number(operations * square / products),
        ),
    ]
    yield f"### What the machine allows: {shape}"
    yield table(("", "µs per seed and step", "over the products"), rows)
    yield (
        f"A step has {operations / 1e6:.3g} million floating-point operations per seed. Its products run at "
        f"{number(operations / products / 1e9)} GFLOP/s, a 2048-wide product at {number(1 / square / 1e9)} GFLOP/s, a "
        f"copy at {number(1 / copy / 1e9)} GB/s read and written, all devices together."
    )


def _whole(results: dict[str, Any]) -> Iterator[str]:
    keys = [key for key in results["contenders"] if key.startswith("whole/compas/")]
    if not keys:
        return
    seeds, stages, rows = results["settings"]["seeds"], ("training", "pruning", "bias_gda", "random_perturbation"), []
    fairjax_seconds = view.value(results, "whole/compas/fairjax", "whole")
    for key in keys:
        entry, name = results["contenders"][key], key.removeprefix("whole/compas/")
        if "measures" not in entry:
            continue
        memory = number(view.peak(results, key))
        if name == OURS:
            for run, description in (("cold", "empty cache"), ("cached", "programs from the cache")):
                facts = entry["facts"][run]
                cells = [number(facts["seconds"].get(stage)) for stage in stages]
                compiled = number(facts["compilation_seconds"]["whole"])
                rows.append((f"fairjax, {description}", *cells, compiled, number(facts["wall"]), "", memory))
            continue
        means = {stage: sum(raw) / len(raw) * seeds for stage, raw in entry["measures"].items()}
        cells = [number(means.get(stage)) for stage in stages]
        ratio = number(view.ratio(means["whole"], fairjax_seconds))
        count = len(entry["measures"]["whole"])
        rows.append((f"{name} ({count} of {seeds} seeds)", *cells, "", number(means["whole"]), f"{ratio}×", memory))
    yield "## The whole COMPAS run"
    headings = ("seconds", "training", "pruning", "bias GD/A", "random perturbation", "compilation")
    yield table((*headings, "whole", "over fairjax", "memory, GiB"), rows)
    yield (
        f"{seeds} seeds: training, pruning, bias GD/A, random perturbation, selection. fairjax is `python -m "
        "experiments debias` from the start of the process to its end: imports, data, compilation, tables, figures and "
        "saved networks are in the whole, compilation is not in the stages. PyTorch ran a few seeds; its seconds are "
        "their mean times the number of seeds, without imports and data."
    )
    from_cache = [view.value(results, "whole/compas/fairjax", name) for name in ("compilation", "compilation_cached")]
    compiled_ahead = [
        view.value(results, "whole/compas/fairjax", name) for name in ("compilation_ahead", "compilation_ahead_cached")
    ]
    yield (
        f"Compilation that stages wait for: {number(from_cache[0])} s with an empty cache, {number(from_cache[1])} s "
        f"with a filled one. A thread compiles further programs while networks train: it takes "
        f"{number(compiled_ahead[0])} s and {number(compiled_ahead[1])} s of its own time, within that of training."
    )


def _curve(results: dict[str, Any], part: str) -> list[str]:
    part_name, main_measure, title, heading, cost, factor = CURVES[part]
    curve = view.curve(results, part_name, main_measure)
    if not curve.sizes:
        return []
    extra = ("influence", "drawing") if part == "rows" else ()
    further_curves = {measure: view.curve(results, part_name, measure) for measure in extra}
    rows = []
    for size, median in zip(curve.sizes, curve.medians, strict=True):
        key = f"{part_name}/{size}"
        row = [f"{size:,}", number(median * factor), *(number(view.value(results, key, name)) for name in extra)]
        stage = "evaluate" if part == "rows" else "training"
        rows.append((*row, number(view.compilation(results, key, stage)), number(view.peak(results, key))))
    fitted = {main_measure: curve, **further_curves}
    if part == "seeds":
        fitted = {"time of all seeds": curve.times(curve.sizes)}
    elif part != "rows":
        compiled = [view.compilation(results, f"{part_name}/{size}") or math.nan for size in curve.sizes]
        fitted = {"time of a step": curve, "compilation": view.Curve(curve.sizes, [[seconds] for seconds in compiled])}
    sentences = []
    for name, costs in fitted.items():
        exponent, upper = fit.exponents(costs.sizes, costs.medians)
        sentences.append(f"{name}: {number(exponent)} (upper half of the range: {number(upper)})")
    text = f"Exponents of power laws, cost = c · size^b, by least squares on logarithms: {'; '.join(sentences)}."
    if part == "rows":
        text += " Drawing the rows is in both: once in an evaluation, twice in an influence."
    if part in ("width", "depth"):
        rows_, features = results["settings"]["scaling_table"], SHAPES["adult"][1]
        networks = results["settings"]["width_seeds" if part == "width" else "seeds"]
        text += f" {networks} networks; a simulated table of {rows_:,} x {features}."
    return [
        f"## {title}",
        table((heading, cost, *(f"{o}, s" for o in extra), "compilation, s", "memory, GiB"), rows),
        text,
    ]


def _pruned(results: dict[str, Any]) -> Iterator[str]:
    curve = view.pruned(results)
    if not curve.sizes:
        return
    pairs = itertools.pairwise((0, *curve.sizes))
    rows = [
        (f"{previous} to {end}", number(median * 1e6))
        for (previous, end), median in zip(pairs, curve.medians, strict=True)
    ]
    exponent, upper = fit.exponents(curve.sizes, curve.medians)
    yield "## Pruning step by units cut"
    yield table(("units cut", "per seed and step, µs"), rows)
    yield f"Exponent: {number(exponent)} (upper half of the range: {number(upper)}); 0 is a cost that does not grow."


def _brought(results: dict[str, Any]) -> Iterator[str]:
    rows = []
    for name in view.names(results, "brought/"):
        key = f"brought/{name}"
        if view.value(results, key, "bias_gda") is None:
            continue
        cells = [
            number(view.ratio(view.value(results, key, step), view.value(results, key, f"fairjax {step}")))
            for step in BROUGHT
        ]
        rows.append((name, *cells, number(view.value(results, key, "bring"))))
    resnet = results["contenders"].get("brought/resnet18", {})
    if not rows and "measures" not in resnet:
        return
    yield "## Networks brought from other frameworks"
    if rows:
        yield table(("framework", *BROUGHT.values(), "bring, s"), rows)
        yield (
            "The perceptron of the first paper on COMPAS, all seeds at once: wall-clock time of the brought network "
            "over that of `fairjax.Mlp`. The repetitions of both alternate in one process."
        )
    if "measures" in resnet:
        facts, key = resnet["facts"], "brought/resnet18"
        ours, torch = (view.value(results, key, name) for name in ("influence", "PyTorch influence"))
        memory = facts["memory_mib"]
        yield (
            f"A ResNet-18 in PyTorch ({facts['parameters']:,} parameters): "
            f"{number(view.value(results, key, 'bring'))} s to bring. Influence of all channels on {facts['rows']} "
            f"images of {facts['size']} x {facts['size']}: {number(ours)} s, PyTorch's autograd {number(torch)} s; the "
            f"largest difference is {facts['largest_difference']:.2g} of {facts['largest_influence']:.2g}. Peak memory "
            f"of the process, MiB: {memory['before']:.0f} before, {memory['bring']:.0f} after bring, "
            f"{memory['influence']:.0f} after influence."
        )


def _detection(results: dict[str, Any]) -> Iterator[str]:
    rows = []
    for shape in ("compas", "adult"):
        ours = f"detection/{shape}/fairjax"
        for measure, title in DETECTION.items():
            value = view.value(results, ours, measure)
            if value is None:
                continue
            best = view.best(results, f"detection/{shape}/captum", measure)
            fastest = None if best is None else best[1]
            rows.append((f"{shape}, {title}", number(value), number(fastest), number(view.ratio(fastest, value))))
    if rows:
        facts = next(
            content["facts"] for key, content in results["contenders"].items()
            if key.startswith("detection/") and key.endswith("/fairjax") and "facts" in content
        )  # fmt: skip
        yield "## Detection"
        yield table(("table, what", "fairjax, s per network", "captum, s per network", "ratio"), rows)
        yield (
            f"On the test part. fairjax explains {facts['seeds']} networks in one program; captum explains one after "
            "another, with the faster number of threads. TCAV: all layers, the concept's vectors and random ones; "
            "captum uses scikit-learn's logistic regression, which is faster than its own classifier."
        )


def _reductions(results: dict[str, Any]) -> Iterator[str]:
    rows, facts = [], {}
    for shape in ("compas", "adult"):
        value = view.value(results, f"reductions/{shape}/fairjax", "grid_search")
        if value is None:
            continue
        facts = results["contenders"][f"reductions/{shape}/fairjax"]["facts"]
        for name in ("scikit-learn", "PyTorch"):
            best = view.best(results, f"reductions/{shape}/Fairlearn, {name}", "grid_search")
            fastest = None if best is None else best[1]
            rows.append((f"{shape}, {name}", number(value), number(fastest), number(view.ratio(fastest, value))))
    if rows:
        yield "## Reductions"
        yield table(("table, classifier", "fairjax, s per network", "Fairlearn, s per network", "ratio"), rows)
        yield (
            "Grid search over Lagrange multipliers for demographic parity. fairjax trains all multipliers of "
            f"{facts['seeds']} seeds in one program; Fairlearn trains one network after another, for one seed, with "
            "the faster number of threads. Networks, epochs and mini-batches have the same sizes; those of fairjax "
            "also have batch normalisation and are evaluated on validation rows after each epoch."
        )


def _terms(results: dict[str, Any]) -> Iterator[str]:
    keys = {shape: f"terms/{shape}/fairjax" for shape in ("compas", "adult")}
    keys = {shape: key for shape, key in keys.items() if results["contenders"].get(key, {}).get("measures")}
    if not keys:
        return
    rows = []
    for name in dict.fromkeys(name for key in keys.values() for name in results["contenders"][key]["measures"]):
        cells: list[str] = []
        for key in keys.values():
            seconds = view.value(results, key, name)
            ratio = view.ratio(seconds, view.value(results, key, WITHOUT_TERMS))
            cells += [number(None if seconds is None else seconds * 1e6), number(ratio)]
        rows.append((name, *cells))
    yield "## Terms of the loss"
    yield table(("term", *itertools.chain.from_iterable((f"{shape}, µs", "ratio") for shape in keys)), rows)
    settings = results["settings"]
    yield (
        f"Whole trainings of {settings['seeds']} networks of {'-'.join(map(str, settings['term_widths']))} hidden "
        f"units with mini-batches of {settings['term_batch_size']} rows: wall-clock time per network and step, "
        "and its ratio to training without terms. The repetitions of all terms alternate in one process."
    )


def _failures(results: dict[str, Any]) -> Iterator[str]:
    lines = []
    for key, entry in results["contenders"].items():
        if "skipped" in entry:
            lines.append(f"* {key}: not run, {entry['skipped']}")
        elif "error" in entry:
            reason, *_, message = *entry["error"].splitlines()[:1], entry["error"].splitlines()[-1]
            lines.append(f"* {key}: failed, {reason}" + (f": `{message}`" if message != reason else ""))
    if lines:
        yield "## Without a result"
        yield "\n".join(lines)
