"""A model card of the networks of a run, as Markdown: their training data, measures by group, limits and versions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from fairjax.data.expressions import NO_VALUE_NAME
from fairjax.methods import METHODS
from fairjax.metrics import MEASURES
from fairjax.metrics.group_report import GroupReport, report_from_sums
from fairjax.metrics.intervals import interval_text
from fairjax.runs.identity import NOT_IN_IDENTITY, plain
from fairjax.runs.labels import PORTFOLIO, label
from fairjax.runs.own_data import IMAGE_FIELDS, TABLE_ONLY_FIELDS
from fairjax.runs.settings import Settings
from fairjax.runs.structure import Structure

CARD = "card.md"

_RATES = ("selection_rate", "true_positive_rate", "false_positive_rate", "precision", "accuracy")


def card(
    settings: Settings,
    structure: Structure,
    results: pd.DataFrame,
    facts: Mapping[str, Any],
    given: str | None = None,
) -> str:
    """Return the card of a run on a user's own table or images.

    Args:
        settings: the settings of the run.
        structure: its groups and classes.
        results: a table with the columns of `results.csv`.
        facts: what `run.json` says about the run.
        given: what the network is, if a trained one was given.
    """
    data, main = facts["data"], settings.selection.rule
    test = results[(results["part"] == "test") & results["rule"].isin(["none", main])]
    weights = data.get("weights")
    parts = [
        f"# Model card: classifiers of {settings.label}",
        _training(settings, structure, data, given),
        f"## {MEASURES.label(settings.measure)} and accuracy on test parts\n\n{_bias(test)}",
        f"## Rates by group on test parts\n\n{_WEIGHTED if weights else _UNWEIGHTED}",
    ]
    for method, rows in test.groupby("method", sort=False):
        parts.append(f"### {label(str(method))}\n\n{_by_group(_report(rows, structure, weights))}")
    parts += [_LIMITS.format(data="images" if settings.images else "table"), _settings(settings), _versions(facts)]
    return "\n\n".join(parts) + "\n"


_UNWEIGHTED = """Means over the test parts of all seeds. In brackets the 95 % Wilson interval of a single test part; the
test parts of several seeds share rows, so they do not make it narrower."""

_WEIGHTED = """Weighted means over the test parts of all seeds. In brackets the 95 % Wilson interval of a single test
part, from its effective number of rows (Kish: the square of the sum of weights, divided by the sum of their squares),
for which the weights of a group are assumed not to depend on its labels and decisions. The test parts of several seeds
share rows, so they do not make it narrower."""


def _training(settings: Settings, structure: Structure, data: Mapping[str, Any], given: str | None) -> str:
    """Describe the data and the networks."""
    lines = [
        f"* **Data**: {_data(settings, data)}.",
        f"* **Label**: {settings.label}" + (f", positive: {settings.positive}." if settings.positive else "."),
        f"* **Groups**: {data['protected']}"
        + (f", privileged: {settings.privileged}." if settings.privileged else f": {'; '.join(structure.groups)}."),
        f"* **Splits**: {len(settings.seeds)} random ones into train (60 %), validation (20 %) and test parts (20 %)"
        + (f", the rows of a {settings.split_by} in one part." if settings.split_by else "."),
        f"* **Networks**: {given or f'one per split, {_network(settings)}'}.",
        f"* **Selection**: the rule {settings.selection.rule} on validation parts, with the bound "
        f"|bias| < {settings.selection.epsilon:g}.",
    ]
    if settings.loss != type(settings.loss)():
        lines.append(f"* **Loss**: {' + '.join([settings.loss.base, *settings.loss.terms])}.")
    if settings.preprocess:
        lines.append(
            f"* **Preprocessing** by maps and weights of the train part: {', then '.join(settings.preprocess)}."
        )
    lines += _columns(settings, data) if settings.table else []
    lines += [_GIVEN] if given else []
    lines += [f"* **Warning**: {warning}." for warning in data["warnings"]]
    lines += [f"* **Not compared**: {name} ({reason})." for name, reason in structure.left_out]
    title = "What the network was debiased on" if given else "What the networks were trained on"
    return f"## {title}\n\n" + "\n".join(lines)


_GIVEN = """* **Overlap**: whether the network was trained on rows of these data is not known. If it was, the numbers on
test parts are too good."""


def _data(settings: Settings, data: Mapping[str, Any]) -> str:
    """Describe the files."""
    if settings.images:
        sides = " x ".join(map(str, settings.image_size))
        return (
            f"the images in {settings.images.name}, {data['rows']:,} of {data['features']:,} numbers each, layout "
            f"{settings.layout}, {settings.colours}" + (f", resized to {sides}" if sides else "")
        )
    columns, files = [entry["column"] for entry in data["encoder"]], [Path(path).name for path in settings.table]
    return f"{', '.join(files)}, {data['rows']:,} rows; {data['features']} features of the columns {', '.join(columns)}"


def _network(settings: Settings) -> str:
    """Describe the networks that were trained."""
    network = settings.network
    kind = network.kind_for(bool(settings.images))
    if kind == "mlp":
        widths = ", ".join(map(str, dict.fromkeys(network.widths)))
        what = f"a multilayer perceptron of {len(network.widths)} hidden layers of {widths} units"
    elif kind == "cnn":
        what = f"a convolutional network of layers of {', '.join(map(str, network.channels))} channels"
    else:
        blocks = "1 block" if network.blocks == 1 else f"{network.blocks} blocks"
        what = f"a residual network of stages of {', '.join(map(str, network.channels))} channels, {blocks} each"
    return f"{what}, dropout {network.dropout:g}"


def _columns(settings: Settings, data: Mapping[str, Any]) -> list[str]:
    """Describe how columns became features, and which did not."""
    filled = [
        entry["column"] for entry in data["encoder"] if entry["median"] is not None or NO_VALUE_NAME in entry["values"]
    ]
    missing = (
        f"filled in for {', '.join(filled)}: numbers by the median, with a feature that says where, and categories by "
        "one of their own"
        if filled
        else "there are none in the columns of features"
    )
    lines = [
        f"* **Missing values**: {missing}.",
        "* **Encoding**: categories" + (" and medians" if filled else "") + " are those of all rows of the table, test "
        "parts included; means and scales are those of train parts.",
        f"* **Protected columns** are {'' if settings.use_protected else 'not '}features.",
    ]
    lines += [f"* **Dropped columns**: {', '.join(settings.drop)}."] if settings.drop else []
    lines += [f"* **Weights**: the rows count by the column {settings.weight}."] if settings.weight else []
    return lines


def _bias(test: pd.DataFrame) -> str:
    lines = ["| method | balanced accuracy | bias | within the bound |", "|---|---|---|---|"]
    for method, rows in test.groupby("method", sort=False):
        numbers = " | ".join(_mean(rows[name].to_numpy(float)) for name in ("balanced_accuracy", "bias"))
        lines.append(f"| {label(str(method))} | {numbers} | {int(rows['satisfied'].sum())} of {len(rows)} |")
    count = test["seed"].nunique()
    note = (
        f"Mean [95 % t interval of the mean] ± standard deviation over {count} test parts. The test parts share rows, "
        "so the interval says how far the mean depends on the random splits; other people may differ by more."
        if count > 1
        else "There is one test part, so nothing is known about how these numbers vary between splits."
    )
    return "\n".join(lines) + f"\n\n{note}"


def _mean(values: np.ndarray) -> str:
    """Return the mean over seeds, with its t interval and the standard deviation if there are several."""
    values = values[~np.isnan(values)]
    if not len(values):
        return "–"
    mean = values.mean()
    if len(values) == 1:
        return f"{mean:.3f}"
    deviation = values.std(ddof=1)
    half = stdtrit(len(values) - 1, 0.975) * deviation / np.sqrt(len(values))
    return f"{mean:.3f} {interval_text(mean - half, mean + half, '.3f')} ± {deviation:.3f}"


def _report(rows: pd.DataFrame, structure: Structure, weights: Mapping[str, Any] | None) -> GroupReport:
    """Return the rates of the mean counts of a method's test parts.

    Args:
        rows: the results on the test parts.
        structure: groups and classes.
        weights: for each group the sum of weights and of squared weights in the whole table, if rows have weights.
    """
    counts = rows[list(structure.cells)].mean().to_numpy().reshape(structure.shape)
    squares = counts
    if weights is not None:
        sums = np.asarray(weights["sums"], float)
        squares = counts * np.where(sums > 0, np.asarray(weights["squares"], float) / np.where(sums > 0, sums, 1), 1)
    return report_from_sums(
        names=structure.groups,
        attributes=structure.attributes or ("group",),
        levels=tuple((name,) for name in structure.groups),
        rows=counts,
        cells=counts,
        squares=squares,
        blocks=structure.blocks,
        left_out=dict(structure.left_out),
        weighted=weights is not None,
    )


def _by_group(report: GroupReport) -> str:
    names = [name.replace("_", " ") for name in _RATES]
    sizes = ["weight", "effective rows"] if report.weighted else ["rows"]
    lines = [f"| group | {' | '.join((*sizes, *names))} |", "|---" * (1 + len(sizes) + len(names)) + "|"]
    for g, name in enumerate(report.names):
        cells = [f"{report.confusion[..., g].sum():,.1f}"] if report.weighted else []
        cells.append(f"{report.sizes['selection_rate'][g]:,.0f}")
        for rate in _RATES:
            value, (low, high) = getattr(report, rate)[g], report.intervals[rate][g]
            cells.append("–" if np.isnan(value) else f"{value:.2f} {interval_text(low, high, '.2f')}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _settings(settings: Settings) -> str:
    """Return all settings that the numbers depend on, with the hyperparameters of the methods that ran."""
    ran = {*settings.methods, *(settings.portfolio if PORTFOLIO in settings.methods else ())}
    absent = {*NOT_IN_IDENTITY, "table", "simulation", *(name for name in METHODS if name not in ran)}
    absent |= set() if PORTFOLIO in settings.methods else {"portfolio"}
    absent |= {"images", *(TABLE_ONLY_FIELDS if settings.images else IMAGE_FIELDS)}
    is_given = settings.network.file is not None
    absent |= {"training"} if is_given else set()
    lines = ["| setting | value |", "|---|---|"]
    for name, value in plain(settings).items():
        if name in absent:
            continue
        entries = {f"{name}.{key}": entry for key, entry in value.items()} if isinstance(value, dict) else {name: value}
        if name == "network":
            entries = {key: entry for key, entry in entries.items() if (key in _OF_GIVEN) == is_given}
        lines += [f"| {key} | {_shown(entry)} |" for key, entry in entries.items()]
    return "## Settings\n\n" + "\n".join(lines)


_OF_GIVEN = ("network.file", "network.output", "network.standardise")
"""Settings of a network that is given."""


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "–"
    return "–" if value is None else str(value).replace("|", "\\|")


_LIMITS = """## Limits

* The numbers are about the rows of this {data}. On other people, or later, they may differ.
* Parity of one rate does not imply parity of another, and says nothing about groups that the {data} does not name.
* If the labels carry a bias, a network that agrees with them repeats it.
* A bound that is met on validation data is met elsewhere with some probability only; the table above says how often it
  was met on test parts.
* The networks were chosen by the stated rule alone. Whether a decision about people may be made with them is another
  question."""


def _versions(facts: Mapping[str, Any]) -> str:
    lines = [f"* {name} {version}" for name, version in facts["versions"].items()]
    lines += [f"* Python {facts['python']}, {facts['device']['count']} {facts['device']['kind']}"]
    return "## Versions\n\n" + "\n".join(lines) + f"\n\nCommand: `{' '.join(map(str, facts['command']))}`"
